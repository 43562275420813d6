//! Where a range of a file is now: the first half of every operation's plan.

use super::extent::extents;
use crate::base::{BLOCK, Ino, Result, VBlock};
use crate::tree::Read;
use crate::volume::{Geometry, locate};
use std::ops::Range;

/// File blocks that are alike and together in the data device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    /// File block.
    pub block: u64,
    pub len: u64,
    pub place: Place,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Hole,
    At {
        at: VBlock,
        /// Byte offset in the data device.
        byte: u64,
        private: bool,
        unwritten: bool,
    },
}

impl Part {
    pub fn end(&self) -> u64 {
        self.block + self.len
    }

    /// Its bytes in the file.
    pub fn bytes(&self) -> Range<u64> {
        self.block * BLOCK..self.end() * BLOCK
    }

    /// Byte offset in the data device of the file's byte `offset`, where it has data.
    pub fn written(&self, offset: u64) -> Option<u64> {
        match self.place {
            Place::At {
                byte,
                unwritten: false,
                ..
            } => Some(byte + (offset - self.block * BLOCK)),
            _ => None,
        }
    }
}

/// The parts of file blocks `range`, without gaps from its start, at most about `max`: the end of
/// the last one says how far this went.
pub(crate) fn parts(
    r: &dyn Read,
    refs: &dyn Fn(u64) -> u32,
    g: Geometry,
    ino: Ino,
    range: Range<u64>,
    max: usize,
) -> Result<Vec<Part>> {
    let mut found = Vec::new();
    let mut next = range.start;
    let list = extents(r, ino, &range, max)?;
    let complete = list.len() < max;
    for extent in list.iter().filter_map(|e| e.clip(&range)) {
        if extent.block > next {
            found.push(Part {
                block: next,
                len: extent.block - next,
                place: Place::Hole,
            });
            next = extent.block;
        }
        if found.len() >= max {
            return Ok(found);
        }
        let blocks = extent.at..extent.at + u64::from(extent.len);
        for piece in locate(r, refs, g, blocks.clone(), max - found.len())? {
            let place = Place::At {
                at: piece.at,
                byte: piece.byte,
                private: piece.private,
                unwritten: extent.unwritten,
            };
            found.push(Part {
                block: next,
                len: piece.len,
                place,
            });
            next += piece.len;
        }
        if next < extent.end() || found.len() >= max {
            return Ok(found);
        }
    }
    if complete && next < range.end {
        found.push(Part {
            block: next,
            len: range.end - next,
            place: Place::Hole,
        });
    }
    Ok(found)
}
