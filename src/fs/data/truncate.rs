//! Changing a file's size; giving blocks back in bounded steps.

use super::extent::{FILE_BLOCKS, extent_below, replace};
use super::{SIZE_MAX, Step, TRUNCATING, posix, read_file};
use crate::base::{BLOCK, Error, Ino, Result, Time, VBlock};
use crate::fs::Fs;
use crate::fs::inode::{clear_orphan, orphan_key, read_inode, set_orphan, write_inode};
use crate::fs::item::{InodeItem, flag, orphan};
use crate::pool::{Entered, Need, Op};
use crate::tree::{Key, Read, kind};
use crate::volume::{Geometry, Outcome, Txn, run_start};
use std::ops::Range;

/// Pieces of extents freed by one update: each changes at most eight keys, and [`Need::FREE`] has 64.
const PIECES: usize = 7;
/// Updates in one passage of the gate.
const UPDATES: usize = 32;

/// A piece of an extent whose blocks are in one run of the mapping.
struct Piece {
    file: Range<u64>,
    blocks: Range<VBlock>,
}

/// The last pieces of a file in file blocks `range`, from the end backwards; and whether there are
/// more.
fn last_pieces(
    r: &dyn Read,
    g: Geometry,
    ino: Ino,
    range: &Range<u64>,
) -> Result<(Vec<Piece>, bool)> {
    let mut pieces = Vec::new();
    let mut end = range.end;
    while end > range.start {
        let Some(e) = extent_below(r, ino, end - 1)?.and_then(|e| e.clip(&(range.start..end)))
        else {
            break;
        };
        if pieces.len() == PIECES {
            return Ok((pieces, true));
        }
        // What of it is in the run that holds its last block.
        let last = e.at + u64::from(e.len);
        let start = match run_start(r, g.vchunk(last - 1))? {
            Some(v) => g.first(v).max(e.at),
            // Not mapped: a damaged volume must still be able to delete.
            None => g.first(g.vchunk(last - 1)).max(e.at),
        };
        let block = e.block + (start - e.at);
        pieces.push(Piece {
            file: block..e.end(),
            blocks: start..last,
        });
        end = block;
    }
    Ok((pieces, false))
}

impl Fs {
    /// Frees the last blocks of a file in file blocks `range`, as many as one update may; `also`
    /// changes the inode in the same update and learns whether the range is empty now. Answers the
    /// same. The caller has the inode's lock.
    fn free_step(
        &self,
        gate: &Entered<'_>,
        ino: Ino,
        range: &Range<u64>,
        also: &dyn Fn(&mut Op<'_>, &mut InodeItem, bool) -> Result<()>,
    ) -> Result<bool> {
        let g = self.thin().geometry();
        let (pieces, more) = gate.view(|r| last_pieces(r, g, ino, range))?;
        let mut txn = Txn::new(&self.volume, self.thin(), gate);
        for piece in &pieces {
            txn.free(piece.blocks.clone());
        }
        let outcome = txn.commit(|op| {
            let mut item = read_inode(op, ino)?;
            for piece in &pieces {
                let delta = replace(op, ino, &piece.file, &[])?;
                item.blocks = item.blocks.saturating_add_signed(delta);
            }
            also(op, &mut item, !more)?;
            write_inode(op, ino, &item);
            Ok(())
        })?;
        match outcome {
            Outcome::Done(()) => Ok(!more),
            Outcome::Stale => Ok(false),
        }
    }

    /// Frees file blocks `range`, some updates of it: whether all of it. The caller has the lock.
    pub(super) fn free_some(
        &self,
        gate: &Entered<'_>,
        ino: Ino,
        range: &Range<u64>,
    ) -> Result<bool> {
        for _ in 0..UPDATES {
            if self.free_step(gate, ino, range, &|_, _, _| Ok(()))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sets a regular file's size (shorter: frees what is behind; longer: a hole, the gap reads as
    /// zeros), mtime, ctime; `kill_suidgid` as in `SetAttr`. Bounded steps.
    pub(crate) fn set_size(&self, ino: Ino, size: u64, kill_suidgid: bool) -> Result<()> {
        self.writable()?;
        if size > SIZE_MAX {
            return posix(libc::EFBIG);
        }
        loop {
            let step = self.passage(Need::FREE, |gate| {
                let _lock = self.lock_of(ino).write();
                let item = gate.view(|r| read_file(r, ino))?;
                if item.flags & TRUNCATING != 0 {
                    return Ok(Step::Unfinished);
                }
                self.resize(gate, ino, &item, size, kill_suidgid)
                    .map(Step::Done)
            })?;
            match step {
                Step::Done(true) => return Ok(()),
                // The rest of the blocks behind the new end.
                Step::Done(false) => return self.finish_truncate(ino, size),
                Step::Unfinished => self.finish_pending(ino)?,
            }
        }
    }

    /// The first update of a change of size; whether it was all.
    fn resize(
        &self,
        gate: &Entered<'_>,
        ino: Ino,
        item: &InodeItem,
        size: u64,
        kill: bool,
    ) -> Result<bool> {
        if size > item.size {
            self.zero_tail(gate, ino, item.size, size)?;
        }
        let changed = |op: &mut Op<'_>, item: &mut InodeItem| {
            if item.flags & flag::INLINE != 0 {
                cut_inline(op, ino, item, size)?;
            }
            item.size = size;
            self.drop_privileges(op, ino, item, kill)?;
            item.modified(Time::now());
            Ok::<(), Error>(())
        };
        // A longer file keeps what was allocated behind its end.
        if size > item.size || item.blocks == 0 {
            return gate.update(|op| {
                let mut item = read_inode(op, ino)?;
                changed(op, &mut item)?;
                write_inode(op, ino, &item);
                Ok(true)
            });
        }
        let behind = size.div_ceil(BLOCK)..FILE_BLOCKS;
        self.free_step(gate, ino, &behind, &|op, item, all| {
            changed(op, item)?;
            if !all {
                item.flags |= TRUNCATING;
                set_orphan(op, ino, orphan::TRUNCATE, Some(size))?;
            }
            Ok(())
        })
    }

    /// Finishes a truncation under way before the file is changed otherwise.
    pub(super) fn finish_pending(&self, ino: Ino) -> Result<()> {
        self.finish_truncate(ino, 0)
    }

    /// Finishes a truncation, of this run or one that a crash interrupted (orphan item with
    /// `TRUNCATE`). The inode's size is the target: it was set first, and nothing changes it
    /// until this is done.
    pub(crate) fn finish_truncate(&self, ino: Ino, _size: u64) -> Result<()> {
        loop {
            let done = self.passage(Need::FREE, |gate| {
                let _lock = self.lock_of(ino).write();
                let item = match gate.view(|r| read_inode(r, ino)) {
                    Ok(item) if item.flags & TRUNCATING != 0 => item,
                    Ok(_) => return self.forget_truncate(gate, ino),
                    Err(Error::Posix(libc::ENOENT)) => return self.forget_truncate(gate, ino),
                    Err(e) => return Err(e),
                };
                let behind = item.size.div_ceil(BLOCK)..FILE_BLOCKS;
                for _ in 0..UPDATES {
                    let done = self.free_step(gate, ino, &behind, &|op, item, all| {
                        if all {
                            item.flags &= !TRUNCATING;
                            clear_orphan(op, ino, orphan::TRUNCATE)?;
                        }
                        Ok(())
                    })?;
                    if done {
                        return Ok(true);
                    }
                }
                Ok(false)
            })?;
            if done {
                return Ok(());
            }
        }
    }

    fn forget_truncate(&self, gate: &Entered<'_>, ino: Ino) -> Result<bool> {
        gate.update(|op| {
            if op.get(&orphan_key(ino))?.is_some() {
                clear_orphan(op, ino, orphan::TRUNCATE)?;
            }
            Ok(true)
        })
    }

    /// Removes all extents and inline data of an inode without a name, in bounded steps.
    pub(crate) fn drop_data(&self, ino: Ino) -> Result<()> {
        loop {
            let done = self.passage(Need::FREE, |gate| {
                let _lock = self.lock_of(ino).write();
                for _ in 0..UPDATES {
                    let done = self.free_step(gate, ino, &(0..FILE_BLOCKS), &|op, item, all| {
                        if all && item.is_file() && item.flags & flag::INLINE != 0 {
                            op.delete(Key::new(ino, kind::INLINE, 0));
                            item.flags &= !flag::INLINE;
                        }
                        Ok(())
                    })?;
                    if done {
                        return Ok(true);
                    }
                }
                Ok(false)
            })?;
            if done {
                return Ok(());
            }
        }
    }
}

/// Cuts the bytes of a file kept in the tree.
fn cut_inline(op: &mut Op<'_>, ino: Ino, item: &mut InodeItem, size: u64) -> Result<()> {
    let key = Key::new(ino, kind::INLINE, 0);
    let Some(mut bytes) = op.get(&key)? else {
        return Ok(());
    };
    if size == 0 {
        op.delete(key);
        item.flags &= !flag::INLINE;
    } else if (bytes.len() as u64) > size {
        bytes.truncate(size as usize);
        op.put(key, bytes);
    }
    Ok(())
}

#[cfg(test)]
#[path = "truncate_tests.rs"]
mod tests;
