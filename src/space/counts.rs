//! Reference counts in pages made when first needed, and which of them have changed.

use super::{Space, SpaceError};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

const PER: u64 = Space::PER_PAGE;

struct Page {
    counts: [u32; PER as usize],
    /// Counts that are not 0; a page without any is dropped.
    used: u32,
}

/// See the module.
#[derive(Default)]
pub(super) struct Counts {
    pages: BTreeMap<u64, Box<Page>>,
    pub dirty: BTreeSet<u64>,
    used: u64,
}

impl Counts {
    /// Things with references.
    pub fn used(&self) -> u64 {
        self.used
    }

    pub fn get(&self, i: u64) -> u32 {
        let count = |p: &Page| p.counts.get((i % PER) as usize).copied();
        self.pages
            .get(&(i / PER))
            .and_then(|p| count(p))
            .unwrap_or(0)
    }

    /// The first thing of the range whose count is `count`.
    pub fn find(&self, range: Range<u64>, count: u32) -> Option<u64> {
        pieces(range).find_map(|(page, from, n)| {
            let first = page * PER + from as u64;
            match self
                .pages
                .get(&page)
                .and_then(|p| p.counts.get(from..from + n))
            {
                Some(counts) => counts
                    .iter()
                    .position(|&c| c == count)
                    .map(|at| first + at as u64),
                None => (count == 0).then_some(first),
            }
        })
    }

    /// Adds one to each; no count is at its maximum. `each` hears of those that were 0.
    pub fn increment(&mut self, range: Range<u64>, mut each: impl FnMut(u64)) {
        for (number, from, n) in pieces(range) {
            self.dirty.insert(number);
            let page = self.pages.entry(number).or_insert_with(|| {
                Box::new(Page {
                    counts: [0; PER as usize],
                    used: 0,
                })
            });
            for (i, count) in page.counts.iter_mut().enumerate().skip(from).take(n) {
                if *count == 0 {
                    page.used += 1;
                    self.used += 1;
                    each(number * PER + i as u64);
                }
                *count = count.saturating_add(1);
            }
        }
    }

    /// Takes one from each; no count is 0. `each` hears what is left of each.
    pub fn decrement(&mut self, range: Range<u64>, mut each: impl FnMut(u64, u32)) {
        for (number, from, n) in pieces(range) {
            self.dirty.insert(number);
            let Some(page) = self.pages.get_mut(&number) else {
                continue;
            };
            for (i, count) in page.counts.iter_mut().enumerate().skip(from).take(n) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    page.used = page.used.saturating_sub(1);
                    self.used = self.used.saturating_sub(1);
                }
                each(number * PER + i as u64, *count);
            }
            if page.used == 0 {
                self.pages.remove(&number);
            }
        }
    }

    /// Takes `n` from one that has more.
    pub fn subtract(&mut self, i: u64, n: u32) {
        let page = self.pages.get_mut(&(i / PER));
        if let Some(count) = page.and_then(|p| p.counts.get_mut((i % PER) as usize)) {
            *count = count.saturating_sub(n).max(1);
            self.dirty.insert(i / PER);
        }
    }

    pub fn page(&self, number: u64) -> Option<Vec<u8>> {
        let page = self.pages.get(&number)?;
        Some(page.counts.iter().flat_map(|c| c.to_le_bytes()).collect())
    }

    /// Replaces a page, which is clean afterwards. The old and the new one's things in use.
    pub fn load(
        &mut self,
        number: u64,
        bytes: &[u8],
        limit: u64,
    ) -> Result<(Vec<u64>, Vec<u64>), SpaceError> {
        let first = number.checked_mul(PER).ok_or(SpaceError(number))?;
        let mut page = Box::new(Page {
            counts: [0; PER as usize],
            used: 0,
        });
        let mut new = Vec::new();
        for ((i, count), le) in page
            .counts
            .iter_mut()
            .enumerate()
            .zip(bytes.as_chunks::<4>().0)
        {
            *count = u32::from_le_bytes(*le);
            if *count != 0 {
                let thing = first.checked_add(i as u64).filter(|t| *t < limit);
                new.push(thing.ok_or(SpaceError(first.saturating_add(i as u64)))?);
                page.used += 1;
            }
        }
        if bytes.len() > PER as usize * 4 {
            return Err(SpaceError(first));
        }
        let mut old = Vec::new();
        if let Some(was) = self.pages.remove(&number) {
            self.used -= u64::from(was.used);
            old.extend(
                (first..)
                    .zip(was.counts)
                    .filter(|(_, c)| *c != 0)
                    .map(|(i, _)| i),
            );
        }
        if page.used > 0 {
            self.used += u64::from(page.used);
            self.pages.insert(number, page);
        }
        self.dirty.remove(&number);
        Ok((old, new))
    }
}

/// The range by pages: (page, first in it, how many).
fn pieces(range: Range<u64>) -> impl Iterator<Item = (u64, usize, usize)> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        if at >= range.end {
            return None;
        }
        let n = (PER - at % PER).min(range.end - at);
        let piece = (at / PER, (at % PER) as usize, n as usize);
        at += n;
        Some(piece)
    })
}
