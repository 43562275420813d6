//! The data path: extents, read, write, truncate, fallocate, seek, copy, fsync, statfs.
//!
//! A file's bytes are in one of two places: in an INLINE item (flag `INLINE` of the inode; then it
//! has no extents, and what is behind the item's bytes reads as zeros), or in the blocks its
//! extents name. Blocks without an extent, and unwritten extents, read as zeros. The bytes of a
//! file's last block behind its end are undefined: whoever makes the file longer zeroes them.
//!
//! Every operation passes the gate, then takes the inode's lock (for itself alone when it changes
//! data), plans on the tree as it is, does its data I/O and then makes one update. Long work goes
//! in steps, several to a passage, several passages to an operation. A truncation that needs more
//! than one step first sets the new size, an orphan item and the flag `TRUNCATING`: until the rest
//! is gone, whoever would change the file finishes that first.

mod allocate;
mod copy;
mod extent;
mod layout;
mod plan;
mod read;
mod seek;
mod truncate;
mod write;

pub(crate) use extent::Extent;

use super::inode::read_inode;
use super::item::InodeItem;
use super::{Fs, Piece, StatFs};
use crate::base::{BLOCK, Error, Ino, Result};
use crate::pool::{Entered, Need};
use crate::tree::Read;
use crate::volume::{Counters, Thin};
use parking_lot::{RwLock, RwLockWriteGuard};
use plan::{Place, parts};
use std::array;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// Longest file kept in the tree, bytes. At the usual fill of nodes a longer one would take more
/// metadata than the block it saves.
pub(crate) const INLINE_MAX: u64 = 2048;

/// Largest size of a file, bytes.
pub(crate) const SIZE_MAX: u64 = i64::MAX as u64;

/// Flag of an inode: blocks behind its end are still to be freed.
pub(crate) const TRUNCATING: u32 = 0x200;

/// Steps of the reclaimer before a write that found no space tries again, and how often.
const RECLAIM: usize = 1024;
const ROUNDS: u32 = 1000;

/// Inode locks: an inode's is chosen by its number.
const LOCKS: usize = 128;

/// What the data path keeps in memory for an open file system.
pub(crate) struct State {
    locks: [RwLock<()>; LOCKS],
    thin: OnceLock<Arc<Thin>>,
}

impl Default for State {
    fn default() -> State {
        State {
            locks: array::from_fn(|_| RwLock::new(())),
            thin: OnceLock::new(),
        }
    }
}

/// How a step of a longer operation ended.
enum Step<T> {
    Done(T),
    /// A truncation is to be finished first, outside the gate.
    Unfinished,
}

fn posix<T>(errno: i32) -> Result<T> {
    Err(Error::Posix(errno))
}

/// A regular file's inode: the only kind with data.
fn read_file(r: &dyn Read, ino: Ino) -> Result<InodeItem> {
    let item = read_inode(r, ino)?;
    match item.kind() {
        libc::S_IFREG => Ok(item),
        libc::S_IFDIR => posix(libc::EISDIR),
        _ => posix(libc::EINVAL),
    }
}

/// The file blocks that bytes `range` touch.
fn blocks_of(range: &Range<u64>) -> Range<u64> {
    range.start / BLOCK..range.end.div_ceil(BLOCK)
}

impl Fs {
    fn thin(&self) -> &Thin {
        self.data.thin.get_or_init(|| Thin::of(&self.volume))
    }

    fn lock_index(ino: Ino) -> usize {
        (ino % LOCKS as u64) as usize
    }

    fn lock_of(&self, ino: Ino) -> &RwLock<()> {
        let [first, ..] = &self.data.locks;
        self.data.locks.get(Fs::lock_index(ino)).unwrap_or(first)
    }

    /// Locks of two inodes, in an order that cannot deadlock.
    fn lock_two(
        &self,
        a: Ino,
        b: Ino,
    ) -> (RwLockWriteGuard<'_, ()>, Option<RwLockWriteGuard<'_, ()>>) {
        let (a, b) = if Fs::lock_index(a) <= Fs::lock_index(b) {
            (a, b)
        } else {
            (b, a)
        };
        let first = self.lock_of(a).write();
        let second = (Fs::lock_index(a) != Fs::lock_index(b)).then(|| self.lock_of(b).write());
        (first, second)
    }

    fn writable(&self) -> Result<()> {
        if self.read_only() {
            posix(libc::EROFS)
        } else {
            Ok(())
        }
    }

    /// Passes the gate for `f`, which goes on where it was when it is called again: when one
    /// passage's updates are used up, and when there is no space: what is dead but not yet taken
    /// apart, and what waits for a checkpoint, may be what is wanted.
    fn passage<T>(&self, need: Need, mut f: impl FnMut(&Entered<'_>) -> Result<T>) -> Result<T> {
        self.with_room(|| {
            loop {
                let done = f(&self.volume.enter(need)?);
                if !matches!(done, Err(Error::Again)) {
                    return done;
                }
            }
        })
    }

    /// Runs `f`, outside the gate, again as long as making room is worth a try.
    fn with_room<T>(&self, mut f: impl FnMut() -> Result<T>) -> Result<T> {
        let mut last = false;
        for round in 0.. {
            match f() {
                Err(Error::NoSpace) if !last => {
                    Counters::add(&self.thin().counters().forced_checkpoints, 1);
                    let pool = self.volume.pool();
                    let more = pool.reclaim(RECLAIM)?;
                    pool.checkpoint()?;
                    last = !more || round >= ROUNDS;
                }
                done => return done,
            }
        }
        Err(Error::NoSpace)
    }

    /// The file's data and everything answered before becomes durable.
    pub fn fsync(&self, ino: Ino) -> Result<()> {
        let _ = ino;
        self.volume.sync()
    }

    /// Sizes and free space: of the volume's limit if it has one, else of the pool; never more free
    /// than the pool and its host have.
    pub fn statfs(&self) -> Result<StatFs> {
        let pool = self.volume.pool();
        let chunks = self.volume.chunks();
        let chunk_size = pool.chunk_size();
        let (used, inodes) = self.volume.usage();
        let host = match self.volume.data().capacity() {
            u64::MAX => {
                let usage = self.volume.data().usage();
                usage
                    .map_err(|e| Error::io("asking for the host's free space", e))?
                    .host_free
            }
            // A block device's space is ours already.
            _ => u64::MAX,
        };
        let mut free = chunks.free().saturating_mul(chunk_size).min(host);
        let mut total = chunks.limit().saturating_mul(chunk_size);
        if let Some(limit) = self.volume.limit() {
            total = limit;
            free = free.min(limit.saturating_sub(used));
        }
        // Every file takes metadata: an inode item and an entry, a few to a kilobyte.
        let metadata = pool.status()?.metadata;
        let files_free = metadata.available / 1024;
        Ok(StatFs {
            blocks: total / BLOCK,
            free: free / BLOCK,
            files: inodes.saturating_add(files_free),
            files_free,
            name_max: super::NAME_MAX as u32,
        })
    }

    /// Where the pieces of bytes `range` live; holes and unwritten blocks are left out.
    pub fn pieces(&self, ino: Ino, range: Range<u64>) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        let g = self.thin().geometry();
        let mut from = range.start / BLOCK;
        loop {
            let gate = self.volume.enter(Need::READ)?;
            let _lock = self.lock_of(ino).read();
            let chunks = self.volume.chunks();
            let (item, found) = gate.view(|r| {
                let item = read_file(r, ino)?;
                let end = item.size.min(range.end).div_ceil(BLOCK);
                let found = parts(r, &|c| chunks.sharers(c), g, ino, from..end, 256)?;
                Ok((item, found))
            })?;
            if item.flags & super::item::flag::INLINE != 0 {
                let length = item.size.min(INLINE_MAX);
                if range.start < length && range.start < range.end {
                    let (virtual_block, chunk, physical) = (0, 0, 0);
                    let (inline, shared, file_offset) = (true, false, 0);
                    pieces.push(Piece {
                        file_offset,
                        length,
                        inline,
                        virtual_block,
                        chunk,
                        physical,
                        shared,
                    });
                }
                return Ok(pieces);
            }
            for part in &found {
                if let Place::At {
                    at,
                    byte,
                    private,
                    unwritten: false,
                } = part.place
                {
                    pieces.push(Piece {
                        file_offset: part.block * BLOCK,
                        length: part.len * BLOCK,
                        inline: false,
                        virtual_block: at,
                        chunk: byte / g.chunk_size,
                        physical: byte,
                        shared: !private,
                    });
                }
            }
            match found.last() {
                Some(last) => from = last.end(),
                None => return Ok(pieces),
            }
        }
    }
}
