//! A device in memory, for tests.

use super::{Device, Usage};
use crate::base::BLOCK;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

type Page = [u8; BLOCK as usize];

/// Sparse pages; what was never written takes no memory. `sync` has nothing to do.
#[derive(Default)]
pub struct MemDevice {
    pages: RwLock<BTreeMap<u64, Box<Page>>>,
}

impl MemDevice {
    pub fn new() -> MemDevice {
        MemDevice::default()
    }

    /// A second device with the same bytes.
    pub fn copy(&self) -> MemDevice {
        MemDevice {
            pages: RwLock::new(self.pages.read().clone()),
        }
    }

    /// Pieces of `range` inside single pages: (page, first byte in it, bytes).
    fn pieces(range: Range<u64>) -> impl Iterator<Item = (u64, usize, usize)> {
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let n = (BLOCK - at % BLOCK).min(range.end - at);
            let piece = (at / BLOCK, (at % BLOCK) as usize, n as usize);
            at += n;
            Some(piece)
        })
    }
}

fn range(offset: u64, len: usize) -> io::Result<Range<u64>> {
    let end = offset
        .checked_add(len as u64)
        .ok_or(io::ErrorKind::InvalidInput)?;
    Ok(offset..end)
}

impl Device for MemDevice {
    fn name(&self) -> String {
        "memory".into()
    }

    fn read_at(&self, offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        let pages = self.pages.read();
        for (page, from, n) in MemDevice::pieces(range(offset, buf.len())?) {
            let (piece, rest) = buf.split_at_mut(n);
            match pages.get(&page).and_then(|p| p.get(from..from + n)) {
                Some(bytes) => piece.copy_from_slice(bytes),
                None => piece.fill(0),
            }
            buf = rest;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, mut buf: &[u8]) -> io::Result<()> {
        let mut pages = self.pages.write();
        for (page, from, n) in MemDevice::pieces(range(offset, buf.len())?) {
            let (piece, rest) = buf.split_at(n);
            let bytes = pages
                .entry(page)
                .or_insert_with(|| Box::new([0; BLOCK as usize]));
            if let Some(to) = bytes.get_mut(from..from + n) {
                to.copy_from_slice(piece);
            }
            buf = rest;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_ranges(&self, _ranges: &[Range<u64>]) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        let mut pages = self.pages.write();
        let first = range.start.div_ceil(BLOCK);
        let end = range.end / BLOCK;
        if first < end {
            let mut tail = pages.split_off(&first);
            pages.append(&mut tail.split_off(&end));
        }
        for edge in [
            range.start..range.end.min(first * BLOCK),
            range.start.max(end * BLOCK)..range.end,
        ] {
            for (page, from, n) in MemDevice::pieces(edge) {
                if let Some(bytes) = pages.get_mut(&page).and_then(|p| p.get_mut(from..from + n)) {
                    bytes.fill(0);
                }
            }
        }
        Ok(())
    }

    fn reserve(&self, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn capacity(&self) -> u64 {
        u64::MAX
    }

    fn usage(&self) -> io::Result<Usage> {
        Ok(Usage {
            real: self.pages.read().len() as u64 * BLOCK,
            host_free: 1 << 50,
        })
    }
}
