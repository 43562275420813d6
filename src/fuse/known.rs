//! Regular files the kernel knows, with how often we told it of each: those may hold data it has not sent yet.
//!
//! With no OPEN requests nobody tells which files are open for writing, so a snapshot must ask the kernel about
//! all of these. Inode numbers are dense: a byte each, in pages. A count that reaches 255 stays there, so such a file
//! counts as known until the connection ends, which costs a question and harms nothing.

use crate::base::Ino;
use parking_lot::Mutex;
use std::collections::HashMap;

const PAGE: u64 = 1024;
const SHARDS: usize = 16;
const STICKY: u8 = u8::MAX;

struct Page {
    /// Files of this page with a count above zero.
    live: u16,
    counts: [u8; PAGE as usize],
}

#[derive(Default)]
pub(super) struct Known {
    shards: [Mutex<HashMap<u64, Box<Page>>>; SHARDS],
}

impl Known {
    fn shard(&self, page: u64) -> &Mutex<HashMap<u64, Box<Page>>> {
        &self.shards[page as usize % SHARDS]
    }

    /// The kernel was told of this file once more.
    pub fn told(&self, ino: Ino) {
        let (page, slot) = (ino / PAGE, (ino % PAGE) as usize);
        let mut shard = self.shard(page).lock();
        let page = shard.entry(page).or_insert_with(|| {
            Box::new(Page {
                live: 0,
                counts: [0; PAGE as usize],
            })
        });
        if page.counts[slot] == 0 {
            page.live += 1;
        }
        page.counts[slot] = page.counts[slot].saturating_add(1);
    }

    /// The kernel forgot `times` of them.
    pub fn forgotten(&self, ino: Ino, times: u64) {
        let (number, slot) = (ino / PAGE, (ino % PAGE) as usize);
        let mut shard = self.shard(number).lock();
        let Some(page) = shard.get_mut(&number) else {
            return;
        };
        let count = page.counts[slot];
        if count == 0 || count == STICKY {
            return;
        }
        let left = u64::from(count).saturating_sub(times);
        page.counts[slot] = u8::try_from(left).unwrap_or(STICKY);
        if left == 0 {
            page.live -= 1;
            if page.live == 0 {
                shard.remove(&number);
            }
        }
    }

    pub fn has(&self, ino: Ino) -> bool {
        let shard = self.shard(ino / PAGE).lock();
        shard
            .get(&(ino / PAGE))
            .is_some_and(|page| page.counts[(ino % PAGE) as usize] > 0)
    }

    /// All of them now; those told of meanwhile may be missing.
    pub fn list(&self) -> Vec<Ino> {
        let mut all = Vec::new();
        for shard in &self.shards {
            for (number, page) in shard.lock().iter() {
                let known = page
                    .counts
                    .iter()
                    .enumerate()
                    .filter(|(_, count)| **count > 0);
                all.extend(
                    known.map(|(slot, _)| number.wrapping_mul(PAGE).wrapping_add(slot as u64)),
                );
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_and_go() {
        let known = Known::default();
        for ino in [1, 1, 5, 5000, u64::MAX] {
            known.told(ino);
        }
        let sorted = || {
            let mut all = known.list();
            all.sort();
            all
        };
        assert_eq!(sorted(), [1, 5, 5000, u64::MAX]);
        known.forgotten(1, 1);
        known.forgotten(5, 1);
        known.forgotten(77, 3);
        assert_eq!(sorted(), [1, 5000, u64::MAX]);
        known.forgotten(1, 9);
        known.forgotten(5000, 1);
        known.forgotten(u64::MAX, 1);
        assert!(known.list().is_empty());
        assert!(
            known.shards.iter().all(|s| s.lock().is_empty()),
            "pages go with their last file"
        );
    }

    #[test]
    fn a_full_count_stays() {
        let known = Known::default();
        for _ in 0..300 {
            known.told(9);
        }
        known.forgotten(9, 300);
        assert_eq!(known.list(), [9]);
    }
}
