//! Mapping items: virtual chunk -> physical chunk. The tree knows them because copying or dropping
//! a leaf changes the reference counts of the chunks it points to.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | first physical chunk, little-endian |
//! | 8 | 4 | number of chunks, at least 1 |
//! | 12 | 0 or blocks/8 | one chunk only: bitmap of blocks in use; absent: all in use |

use crate::base::{BLOCK, Chunk};

/// Blocks in use of one chunk: at most 256 (1 MiB chunks).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bitmap(pub [u64; 4]);

impl Bitmap {
    /// The first `n` blocks in use.
    pub fn full(n: u32) -> Bitmap {
        let mut b = Bitmap::default();
        b.set(0, n);
        b
    }
    pub fn get(&self, i: u32) -> bool {
        self.0
            .get(i as usize / 64)
            .is_some_and(|w| w >> (i % 64) & 1 == 1)
    }
    pub fn set(&mut self, from: u32, n: u32) {
        for i in from..from + n {
            if let Some(w) = self.0.get_mut(i as usize / 64) {
                *w |= 1 << (i % 64);
            }
        }
    }
    pub fn clear(&mut self, from: u32, n: u32) {
        for i in from..from + n {
            if let Some(w) = self.0.get_mut(i as usize / 64) {
                *w &= !(1 << (i % 64));
            }
        }
    }
    pub fn count(&self) -> u32 {
        self.0.iter().map(|w| w.count_ones()).sum()
    }
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }
}

/// One mapping item's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    pub chunk: Chunk,
    /// A run of `count` neighbouring chunks, virtual and physical.
    pub count: u32,
    /// Only with `count == 1`; `None`: all blocks are in use.
    pub used: Option<Bitmap>,
}

/// A run is at most this long, so that copying a leaf stays cheap.
pub const RUN_MAX: u32 = 4096;

impl Mapping {
    /// `chunk_size` decides how long the bitmap is.
    pub fn encode(&self, chunk_size: u64) -> Vec<u8> {
        let mut v = Vec::with_capacity(44);
        v.extend_from_slice(&self.chunk.to_le_bytes());
        v.extend_from_slice(&self.count.to_le_bytes());
        if let (1, Some(used)) = (self.count, self.used) {
            let bytes = (chunk_size / BLOCK / 8) as usize;
            v.extend(used.0.iter().flat_map(|w| w.to_le_bytes()).take(bytes));
        }
        v
    }

    /// `None` when the bytes are no mapping.
    pub fn decode(b: &[u8]) -> Option<Mapping> {
        let (chunk, rest) = b.split_first_chunk::<8>()?;
        let (count, bits) = rest.split_first_chunk::<4>()?;
        let (chunk, count) = (u64::from_le_bytes(*chunk), u32::from_le_bytes(*count));
        if count == 0 || count > RUN_MAX || bits.len() > 32 || (count > 1 && !bits.is_empty()) {
            return None;
        }
        chunk.checked_add(u64::from(count))?;
        let used = (!bits.is_empty()).then(|| {
            let mut words = [0u64; 4];
            for (word, bytes) in words.iter_mut().zip(bits.chunks(8)) {
                *word = bytes.iter().rev().fold(0, |w, b| w << 8 | u64::from(*b));
            }
            Bitmap(words)
        });
        Some(Mapping { chunk, count, used })
    }

    /// Blocks in use in the whole run.
    pub fn blocks(&self, chunk_size: u64) -> u64 {
        match self.used {
            Some(b) => u64::from(b.count()),
            None => u64::from(self.count) * (chunk_size / BLOCK),
        }
    }
}
