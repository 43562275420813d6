//! Blocks that extents name against blocks that mappings hold: the same, each once.

use super::Found;
use crate::base::{BLOCK, Result, VBlock};
use crate::fs::Fs;
use crate::tree::{Key, Mapping};

/// Ranges of virtual blocks, neighbours joined as they come.
#[derive(Default)]
pub(super) struct Blocks {
    mapped: Vec<(VBlock, u64)>,
    named: Vec<(VBlock, u64)>,
    wrong: Vec<u64>,
}

fn push(list: &mut Vec<(VBlock, u64)>, at: VBlock, n: u64) {
    match list.last_mut() {
        Some((from, len)) if *from + *len == at => *len += n,
        _ => list.push((at, n)),
    }
}

impl Blocks {
    pub(super) fn mapping(&mut self, key: &Key, value: &[u8], chunk_size: u64) {
        let per = chunk_size / BLOCK;
        let mapping = Mapping::decode(value);
        let (Some(m), Some(at)) = (mapping, key.offset.checked_mul(per)) else {
            return self.wrong.push(key.offset);
        };
        let Some(used) = m.used else {
            return push(&mut self.mapped, at, u64::from(m.count) * per);
        };
        for i in (0..per as u32).filter(|i| used.get(*i)) {
            push(&mut self.mapped, at + u64::from(i), 1);
        }
    }

    pub(super) fn extent(&mut self, at: VBlock, n: u64) {
        push(&mut self.named, at, n);
    }
}

impl Fs {
    pub(super) fn check_space(&self, f: &mut Found) -> Result<()> {
        let Blocks {
            mut mapped,
            mut named,
            wrong,
        } = std::mem::take(&mut f.blocks);
        for vchunk in wrong {
            f.say(format!(
                "the mapping of virtual chunk {vchunk} makes no sense"
            ));
        }
        mapped.sort_unstable();
        named.sort_unstable();
        for pair in named.windows(2) {
            if let [(a, n), (b, _)] = pair
                && a + n > *b
            {
                f.say(format!("virtual block {b} is in two files"));
            }
        }
        let (mut only_mapped, mut only_named) = (Vec::new(), Vec::new());
        less(&mapped, &named, &mut only_mapped);
        less(&named, &mapped, &mut only_named);
        for (at, n) in only_mapped {
            f.say(format!("{n} virtual blocks from {at} are held for no file"));
        }
        for (at, n) in only_named {
            f.say(format!(
                "{n} virtual blocks from {at} of a file are not held"
            ));
        }
        let counted = self.volume.usage().0 / BLOCK;
        let is: u64 = mapped.iter().map(|(_, n)| n).sum();
        if counted != is {
            f.say(format!("{is} blocks are held, but {counted} are counted"));
        }
        Ok(())
    }
}

/// Parts of the ranges of `a` that are in none of `b`; both sorted.
fn less(a: &[(u64, u64)], b: &[(u64, u64)], out: &mut Vec<(u64, u64)>) {
    let mut b = b.iter().peekable();
    for (from, n) in a {
        let (mut at, end) = (*from, from + n);
        while at < end {
            while b.next_if(|(f, n)| f + n <= at).is_some() {}
            match b.peek() {
                Some((f, n)) if *f <= at => at = f + n,
                Some((f, _)) if *f < end => {
                    out.push((at, f - at));
                    at = *f;
                }
                _ => {
                    out.push((at, end - at));
                    at = end;
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "space_tests.rs"]
mod tests;
