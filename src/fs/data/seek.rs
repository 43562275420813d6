//! SEEK_DATA and SEEK_HOLE.

use super::extent::extents;
use super::write::inline_bytes;
use super::{posix, read_file};
use crate::base::{BLOCK, Ino, Result};
use crate::fs::item::flag;
use crate::fs::{Fs, Seek};
use crate::pool::Need;
use std::ops::ControlFlow;

/// Extents looked at in one passage.
const BATCH: usize = 1024;

impl Fs {
    /// The first byte at or after `offset` that is data, or that is not. Unwritten blocks are holes,
    /// and so is the end of the file. ENXIO: at or behind the end, or no data follows.
    pub fn seek(&self, ino: Ino, offset: u64, what: Seek) -> Result<u64> {
        let mut next = offset / BLOCK;
        loop {
            let gate = self.volume.enter(Need::READ)?;
            let _lock = self.lock_of(ino).read();
            let found = gate.view(|r| {
                let item = read_file(r, ino)?;
                if offset >= item.size {
                    return posix(libc::ENXIO);
                }
                if item.flags & flag::INLINE != 0 {
                    let end = (inline_bytes(r, ino)?.len() as u64).min(item.size);
                    return match what {
                        Seek::Data if offset < end => Ok(ControlFlow::Break(offset)),
                        Seek::Data => posix(libc::ENXIO),
                        Seek::Hole => Ok(ControlFlow::Break(offset.max(end))),
                    };
                }
                let blocks = next..item.size.div_ceil(BLOCK);
                let list = extents(r, ino, &blocks, BATCH)?;
                let mut at = next;
                for e in &list {
                    match what {
                        Seek::Data if !e.unwritten => {
                            return Ok(ControlFlow::Break(offset.max(e.block * BLOCK)));
                        }
                        Seek::Hole if e.unwritten || e.block > at => break,
                        _ => at = e.end(),
                    }
                }
                let whole = list.last().is_some_and(|e| e.end() == at);
                match what {
                    _ if list.len() == BATCH && whole => Ok(ControlFlow::Continue(at)),
                    Seek::Data => posix(libc::ENXIO),
                    Seek::Hole => Ok(ControlFlow::Break(offset.max(at * BLOCK).min(item.size))),
                }
            })?;
            match found {
                ControlFlow::Break(offset) => return Ok(offset),
                ControlFlow::Continue(block) => next = block,
            }
        }
    }
}
