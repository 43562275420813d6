//! Extents: which virtual blocks a file's blocks are.
//!
//! Key (ino, EXTENT, first file block), numbers little-endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | first virtual block |
//! | 8 | 4 | length in blocks, at least 1 |
//! | 12 | 4 | flags: 1 unwritten (allocated, reads as zeros); unknown ones make the item unreadable |
//!
//! Extents of a file do not overlap, and no virtual block is in two extents of a volume.

use crate::base::{Ino, Result, VBlock};
use crate::fs::inode::damaged;
use crate::tree::{Key, Read, kind};
use crate::volume::Edit;
use std::ops::{ControlFlow, Range};

/// Blocks of a file: 2^63 bytes.
pub(crate) const FILE_BLOCKS: u64 = 1 << 51;

const UNWRITTEN: u32 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    /// File block.
    pub block: u64,
    pub at: VBlock,
    pub len: u32,
    pub unwritten: bool,
}

impl Extent {
    pub const LEN: usize = 16;

    pub fn encode(&self) -> Vec<u8> {
        let mut v = Vec::with_capacity(Extent::LEN);
        v.extend_from_slice(&self.at.to_le_bytes());
        v.extend_from_slice(&self.len.to_le_bytes());
        v.extend_from_slice(&(if self.unwritten { UNWRITTEN } else { 0 }).to_le_bytes());
        v
    }

    /// `None`: not an extent, or one that no file can have.
    pub fn decode(block: u64, b: &[u8]) -> Option<Extent> {
        let (at, rest) = b.split_first_chunk::<8>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let flags = u32::from_le_bytes(*rest.first_chunk()?);
        let (at, len) = (u64::from_le_bytes(*at), u32::from_le_bytes(*len));
        let sane = len > 0
            && flags & !UNWRITTEN == 0
            && at.checked_add(u64::from(len)).is_some()
            && block
                .checked_add(u64::from(len))
                .is_some_and(|end| end <= FILE_BLOCKS);
        sane.then_some(Extent {
            block,
            at,
            len,
            unwritten: flags & UNWRITTEN != 0,
        })
    }

    pub fn end(&self) -> u64 {
        self.block + u64::from(self.len)
    }

    /// The part of it in `range`, if any.
    pub fn clip(&self, range: &Range<u64>) -> Option<Extent> {
        let from = self.block.max(range.start);
        let to = self.end().min(range.end);
        (from < to).then(|| Extent {
            block: from,
            at: self.at + (from - self.block),
            len: (to - from) as u32,
            unwritten: self.unwritten,
        })
    }

    fn joins(&self, next: &Extent) -> bool {
        self.unwritten == next.unwritten
            && self.end() == next.block
            && self.at + u64::from(self.len) == next.at
            && self.len.checked_add(next.len).is_some()
    }
}

pub(crate) const fn extent_key(ino: Ino, block: u64) -> Key {
    Key::new(ino, kind::EXTENT, block)
}

fn decode(ino: Ino, key: &Key, value: &[u8]) -> Result<Extent> {
    Extent::decode(key.offset, value).ok_or_else(|| damaged(ino, "an extent"))
}

/// The extent with the greatest file block at or below `block`.
pub(crate) fn extent_below(r: &dyn Read, ino: Ino, block: u64) -> Result<Option<Extent>> {
    match r.floor(&extent_key(ino, block))? {
        Some((key, value)) if key.object == ino && key.kind == kind::EXTENT => {
            decode(ino, &key, &value).map(Some)
        }
        _ => Ok(None),
    }
}

/// Extents that touch `range`, whole, in order, at most `max` of them.
pub(crate) fn extents(
    r: &dyn Read,
    ino: Ino,
    range: &Range<u64>,
    max: usize,
) -> Result<Vec<Extent>> {
    let mut found = Vec::new();
    if range.is_empty() || max == 0 {
        return Ok(found);
    }
    found.extend(extent_below(r, ino, range.start)?.filter(|e| e.end() > range.start));
    let from = found.first().map_or(range.start, Extent::end);
    if from < range.end && found.len() < max {
        r.scan(
            &extent_key(ino, from),
            &extent_key(ino, range.end),
            &mut |key, value| {
                let e = decode(ino, key, value)?;
                if found
                    .last()
                    .is_some_and(|last: &Extent| last.end() > e.block)
                {
                    return Err(damaged(ino, "extents that overlap"));
                }
                found.push(e);
                Ok(if found.len() < max {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            },
        )?;
    }
    Ok(found)
}

/// What replacing a part of a file changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Splice {
    /// First file blocks of the items that go.
    pub delete: Vec<u64>,
    pub put: Vec<Extent>,
    /// Blocks more (or less) than before.
    pub blocks: i64,
}

/// Replaces `range` of a file that has `old` (all extents that touch the range or border on it) by
/// `new` (in order, inside the range); extents that continue each other are joined.
pub(crate) fn splice(old: &[Extent], range: &Range<u64>, new: &[Extent]) -> Splice {
    let outside = [0..range.start, range.end..FILE_BLOCKS];
    let left = old.iter().filter_map(|e| e.clip(&outside[0]));
    let right = old.iter().filter_map(|e| e.clip(&outside[1]));
    let mut now: Vec<Extent> = Vec::with_capacity(old.len() + new.len() + 1);
    for e in left.chain(new.iter().copied()).chain(right) {
        match now.last_mut() {
            Some(last) if last.joins(&e) => last.len += e.len,
            _ => now.push(e),
        }
    }
    let sum = |list: &[Extent]| list.iter().map(|e| i64::from(e.len)).sum::<i64>();
    let blocks = sum(&now) - sum(old);
    let delete = old
        .iter()
        .filter(|e| !now.iter().any(|n| n.block == e.block));
    let delete = delete.map(|e| e.block).collect();
    now.retain(|e| !old.contains(e));
    Splice {
        delete,
        put: now,
        blocks,
    }
}

/// The same on a tree: how many blocks more (or less) the file has. Few extents must be in `range`.
pub(crate) fn replace(
    op: &mut dyn Edit,
    ino: Ino,
    range: &Range<u64>,
    new: &[Extent],
) -> Result<i64> {
    let wide = range.start.saturating_sub(1)..range.end.saturating_add(1);
    let old = extents(&*op, ino, &wide, usize::MAX)?;
    let splice = splice(&old, range, new);
    for block in splice.delete {
        op.delete(extent_key(ino, block));
    }
    for e in splice.put {
        op.put(extent_key(ino, e.block), e.encode());
    }
    Ok(splice.blocks)
}

#[cfg(test)]
#[path = "extent_tests.rs"]
mod tests;
