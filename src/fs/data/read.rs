//! Reading: from a mapped window where the range is one piece, else by copying.

use super::plan::{Part, parts};
use super::{blocks_of, read_file};
use crate::base::{BLOCK, Ino, Result};
use crate::fs::Fs;
use crate::fs::inode::damaged;
use crate::fs::item::flag;
use crate::pool::{Entered, Need};
use crate::tree::{Key, kind};
use crate::volume;
use std::ops::Range;

/// Zeros to answer reads of holes from.
const ZEROS: usize = 1 << 20;
static ZERO: [u8; ZEROS] = [0; ZEROS];

/// Parts looked up at a time.
const PARTS: usize = 64;

/// What a read found in the tree.
enum Found {
    Inline { bytes: Vec<u8>, end: u64 },
    Parts { parts: Vec<Part>, end: u64 },
}

impl Fs {
    fn find(&self, gate: &Entered<'_>, ino: Ino, range: &Range<u64>, max: usize) -> Result<Found> {
        let g = self.thin().geometry();
        let chunks = self.volume.chunks();
        gate.view(|r| {
            let item = read_file(r, ino)?;
            let end = item.size.min(range.end);
            if range.start >= end {
                return Ok(Found::Parts {
                    parts: Vec::new(),
                    end: range.start,
                });
            }
            if item.flags & flag::INLINE != 0 {
                let bytes = r.get(&Key::new(ino, kind::INLINE, 0))?;
                let bytes = bytes.ok_or_else(|| damaged(ino, "its inline data is missing"))?;
                return Ok(Found::Inline { bytes, end });
            }
            let blocks = blocks_of(&(range.start..end));
            let parts = parts(r, &|c| chunks.sharers(c), g, ino, blocks, max)?;
            Ok(Found::Parts { parts, end })
        })
    }

    /// Calls `f` once with the bytes at `offset`, at most `len`, short only at the end of the file.
    /// The slice may be a mapped window of the data device: hand it to the kernel, do not look at it.
    pub fn read_with<R>(
        &self,
        ino: Ino,
        offset: u64,
        len: usize,
        f: impl FnOnce(&[u8]) -> R,
    ) -> Result<R> {
        let range = offset..offset.saturating_add(len as u64).min(super::SIZE_MAX);
        if range.start >= range.end {
            return Ok(f(&[]));
        }
        // Inside the gate until `f` is done: what was found here is not reused meanwhile.
        let gate = self.volume.enter(Need::READ)?;
        let lock = self.lock_of(ino).read();
        let found = self.find(&gate, ino, &range, PARTS)?;
        drop(lock);
        let (parts, end) = match found {
            Found::Inline { bytes, end } => return Ok(f(&inline(bytes, &(offset..end)))),
            Found::Parts { parts, end } => (parts, end),
        };
        let wanted = (end - offset) as usize;
        if wanted == 0 {
            return Ok(f(&[]));
        }
        let last = offset.saturating_add(wanted as u64);
        if let [part] = parts.as_slice()
            && part.bytes().end >= last
        {
            match part.written(offset) {
                None => {
                    if let Some(zeros) = ZERO.get(..wanted) {
                        return Ok(f(zeros));
                    }
                }
                Some(byte) => {
                    if let Some(window) = self.volume.data().window(byte..byte + wanted as u64)
                        && window.len >= wanted
                    {
                        // SAFETY: the device promises that `ptr` is valid for `len` bytes as long
                        // as it is borrowed, which it is until `f` has returned. The bytes are not
                        // changed under us by this program: the gate is held, so these blocks are
                        // neither freed and reused nor punched; a write in place by another thread
                        // may race with the kernel's copying, which is what a concurrent write(2)
                        // and read(2) do; nobody in this program looks at the bytes.
                        let slice = unsafe { std::slice::from_raw_parts(window.ptr, wanted) };
                        return Ok(f(slice));
                    }
                }
            }
        }
        let mut buf = vec![0; wanted];
        self.fill(&gate, ino, offset, &mut buf, parts)?;
        Ok(f(&buf))
    }

    /// Reads by copying; for those who look at the bytes. Short only at the end of the file.
    pub fn read(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let gate = self.volume.enter(Need::READ)?;
        let _lock = self.lock_of(ino).read();
        self.read_inside(&gate, ino, offset, buf)
    }

    /// Fills a buffer from the parts, looking up further ones as needed.
    fn fill(
        &self,
        gate: &Entered<'_>,
        ino: Ino,
        offset: u64,
        buf: &mut [u8],
        mut found: Vec<Part>,
    ) -> Result<()> {
        let end = offset + buf.len() as u64;
        loop {
            for part in &found {
                let bytes = part.bytes();
                let (from, to) = (bytes.start.max(offset), bytes.end.min(end));
                if from >= to {
                    continue;
                }
                let Some(slot) = buf.get_mut((from - offset) as usize..(to - offset) as usize)
                else {
                    continue;
                };
                match part.written(from) {
                    Some(byte) => volume::read(&self.volume, byte, slot)?,
                    None => slot.fill(0),
                }
            }
            let next = found.last().map_or(offset, |p| p.bytes().end);
            if next >= end {
                return Ok(());
            }
            match self.find(gate, ino, &(next..end), PARTS)? {
                Found::Parts { parts, .. } if !parts.is_empty() => found = parts,
                // Cut off meanwhile.
                _ => {
                    if let Some(rest) = buf.get_mut((next - offset) as usize..) {
                        rest.fill(0);
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Reads inside a passage: how many bytes, short at the end of the file.
    pub(super) fn read_inside(
        &self,
        gate: &Entered<'_>,
        ino: Ino,
        offset: u64,
        buf: &mut [u8],
    ) -> Result<usize> {
        let range = offset..offset.saturating_add(buf.len() as u64).min(super::SIZE_MAX);
        if range.start >= range.end {
            return Ok(0);
        }
        match self.find(gate, ino, &range, PARTS)? {
            Found::Inline { bytes, end } => {
                let bytes = inline(bytes, &(offset..end));
                let n = bytes.len().min(buf.len());
                if let (Some(to), Some(from)) = (buf.get_mut(..n), bytes.get(..n)) {
                    to.copy_from_slice(from);
                }
                Ok(n)
            }
            Found::Parts { parts, end } => {
                let n = (end - offset) as usize;
                if let Some(buf) = buf.get_mut(..n) {
                    self.fill(gate, ino, offset, buf, parts)?;
                }
                Ok(n)
            }
        }
    }
}

/// Bytes `range` of a file kept in the tree; behind its bytes are zeros.
fn inline(mut bytes: Vec<u8>, range: &Range<u64>) -> Vec<u8> {
    let have = bytes.len() as u64;
    let want = (range.end - range.start) as usize;
    if range.start >= have {
        return vec![0; want];
    }
    bytes.drain(..range.start as usize);
    bytes.resize(want, 0);
    bytes
}

const _: () = assert!(ZEROS as u64 >= BLOCK);
