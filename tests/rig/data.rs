//! A file's bytes, sparse, and the patterns that mark who wrote them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

pub const BLOCK: u64 = 4096;
pub type Block = [u8; BLOCK as usize];

/// Content by block; absent blocks are zeros, and zero blocks are absent, so equal means equal bytes.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Data(pub BTreeMap<u64, Arc<Block>>);

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} blocks", self.0.len())
    }
}

impl Data {
    pub fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        for (block, within, part) in pieces(offset, len) {
            if let Some(b) = self.0.get(&block) {
                out[part.clone()].copy_from_slice(&b[within..within + part.len()]);
            }
        }
        out
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        for (block, within, part) in pieces(offset, bytes.len()) {
            let bytes = &bytes[part];
            let zeros = bytes.iter().all(|b| *b == 0);
            if zeros && (!self.0.contains_key(&block) || bytes.len() as u64 == BLOCK) {
                self.0.remove(&block);
                continue;
            }
            let b = Arc::make_mut(
                self.0
                    .entry(block)
                    .or_insert_with(|| Arc::new([0; BLOCK as usize])),
            );
            b[within..within + bytes.len()].copy_from_slice(bytes);
            if zeros && b.iter().all(|b| *b == 0) {
                self.0.remove(&block);
            }
        }
    }

    pub fn zero(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let whole = range.start.div_ceil(BLOCK)..range.end / BLOCK;
        if whole.start > whole.end {
            // Inside one block.
            self.write(range.start, &vec![0; (range.end - range.start) as usize]);
            return;
        }
        let head = range.start..(whole.start * BLOCK).min(range.end);
        self.write(head.start, &vec![0; (head.end - head.start) as usize]);
        let gone: Vec<u64> = self.0.range(whole.clone()).map(|(b, _)| *b).collect();
        gone.iter().for_each(|b| {
            self.0.remove(b);
        });
        let tail = (whole.end * BLOCK).max(range.start);
        self.write(tail, &vec![0; (range.end - tail) as usize]);
    }

    pub fn truncate(&mut self, size: u64) {
        self.zero(size..(size.div_ceil(BLOCK)) * BLOCK);
        self.0.split_off(&size.div_ceil(BLOCK));
    }

    /// The first byte at or after `from` and before `to` that is not zero.
    pub fn first_byte(&self, from: u64, to: u64) -> Option<u64> {
        self.0
            .range(from / BLOCK..to.div_ceil(BLOCK))
            .find_map(|(n, b)| {
                let start = n * BLOCK;
                let at = b
                    .iter()
                    .enumerate()
                    .find(|(i, x)| **x != 0 && start + *i as u64 >= from)?
                    .0;
                Some(start + at as u64).filter(|p| *p < to)
            })
    }
}

/// The blocks a range touches: block, offset in it, which part of the range.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % BLOCK) as usize;
        let n = (BLOCK as usize - within).min(len - done);
        let part = done..done + n;
        done += n;
        Some((at / BLOCK, within, part))
    })
}

/// Bytes that say which write they belong to: a word of 8 bytes every 8 bytes of the file, a hash of
/// (write, offset), never zero. Any other write, file or place gives other bytes.
pub fn pattern(write: u64, offset: u64, len: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(len + 16);
    let mut word = offset / 8;
    while out.len() < len + 8 {
        out.extend(
            cowfs::device::faulty::Dice(write << 40 ^ word)
                .roll()
                .to_le_bytes()
                .map(|b| b | 1),
        );
        word += 1;
    }
    let skip = (offset % 8) as usize;
    out[skip..skip + len].to_vec()
}

#[test]
fn sparse_bytes() {
    let mut d = Data::default();
    let mut plain = vec![0u8; 40000];
    let mut dice = cowfs::device::faulty::Dice(5);
    for write in 0..2000 {
        let from = dice.below(40000);
        let to = from + dice.below(40001 - from);
        match dice.below(3) {
            0 => {
                d.zero(from..to);
                plain[from as usize..to as usize].fill(0);
            }
            1 if dice.below(10) == 0 => {
                d.truncate(from);
                plain[from as usize..].fill(0);
            }
            _ => {
                let to = to.min(from + 5000);
                let bytes = pattern(write, from, (to - from) as usize);
                d.write(from, &bytes);
                plain[from as usize..to as usize].copy_from_slice(&bytes);
            }
        }
        assert!(d.read(0, 40000) == plain);
        assert!(d.0.values().all(|b| b.iter().any(|x| *x != 0)));
        assert_eq!(
            d.first_byte(from, 40000),
            (from..40000).find(|i| plain[*i as usize] != 0)
        );
    }
}
