//! A sparse set of numbers: pages of bits made when first needed.

use std::collections::BTreeMap;
use std::ops::Range;

const WORDS: usize = 512;
/// Numbers per page.
const PAGE: u64 = WORDS as u64 * 64;

struct Page {
    words: [u64; WORDS],
    /// Bits set; a page without any is dropped, a full one is skipped at once.
    count: u32,
}

/// See the module.
#[derive(Default)]
pub(super) struct Bits {
    pages: BTreeMap<u64, Box<Page>>,
    count: u64,
}

impl Bits {
    pub fn len(&self) -> u64 {
        self.count
    }

    pub fn get(&self, i: u64) -> bool {
        self.pages.get(&(i / PAGE)).is_some_and(|p| {
            p.words
                .get((i % PAGE / 64) as usize)
                .is_some_and(|w| w >> (i % 64) & 1 == 1)
        })
    }

    pub fn set(&mut self, i: u64) {
        let page = self.pages.entry(i / PAGE).or_insert_with(|| {
            Box::new(Page {
                words: [0; WORDS],
                count: 0,
            })
        });
        if let Some(w) = page.words.get_mut((i % PAGE / 64) as usize)
            && *w >> (i % 64) & 1 == 0
        {
            *w |= 1 << (i % 64);
            page.count += 1;
            self.count += 1;
        }
    }

    pub fn clear(&mut self, i: u64) {
        let Some(page) = self.pages.get_mut(&(i / PAGE)) else {
            return;
        };
        if let Some(w) = page.words.get_mut((i % PAGE / 64) as usize)
            && *w >> (i % 64) & 1 == 1
        {
            *w &= !(1 << (i % 64));
            page.count -= 1;
            self.count -= 1;
            if page.count == 0 {
                self.pages.remove(&(i / PAGE));
            }
        }
    }

    /// The least member in the range.
    pub fn next_set(&self, range: Range<u64>) -> Option<u64> {
        if range.start >= range.end {
            return None;
        }
        for (&number, page) in self
            .pages
            .range(range.start / PAGE..=(range.end - 1) / PAGE)
        {
            let base = number * PAGE;
            let from = range.start.saturating_sub(base);
            if let Some(i) = scan(&page.words, from, false) {
                let found = base + i;
                return (found < range.end).then_some(found);
            }
        }
        None
    }

    /// The least number in the range that is no member.
    pub fn next_clear(&self, range: Range<u64>) -> Option<u64> {
        let mut at = range.start;
        while at < range.end {
            let number = at / PAGE;
            let Some(page) = self.pages.get(&number) else {
                return Some(at);
            };
            if u64::from(page.count) < PAGE
                && let Some(i) = scan(&page.words, at % PAGE, true)
            {
                let found = number * PAGE + i;
                return (found < range.end).then_some(found);
            }
            at = (number + 1) * PAGE;
        }
        None
    }

    /// Empties the set: its members as ranges, in order.
    pub fn take(&mut self) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (number, page) in std::mem::take(&mut self.pages) {
            for (i, &word) in page.words.iter().enumerate() {
                let mut rest = word;
                while rest != 0 {
                    let from = rest.trailing_zeros();
                    let n = (rest >> from).trailing_ones();
                    let start = number * PAGE + i as u64 * 64 + u64::from(from);
                    let end = start + u64::from(n);
                    match ranges.last_mut() {
                        Some(last) if last.end == start => last.end = end,
                        _ => ranges.push(start..end),
                    }
                    rest = if from + n == 64 {
                        0
                    } else {
                        rest >> (from + n) << (from + n)
                    };
                }
            }
        }
        self.count = 0;
        ranges
    }
}

/// The first bit at or after `from` that is set (or, inverted, clear).
fn scan(words: &[u64; WORDS], from: u64, invert: bool) -> Option<u64> {
    let first = (from / 64) as usize;
    let mut mask = u64::MAX << (from % 64);
    for (i, &word) in words.iter().enumerate().skip(first) {
        let word = if invert { !word } else { word } & mask;
        if word != 0 {
            return Some(i as u64 * 64 + u64::from(word.trailing_zeros()));
        }
        mask = u64::MAX;
    }
    None
}
