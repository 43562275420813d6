//! The data path: extents, read, write, truncate, fallocate, seek, copy, fsync, statfs.

use super::{Fallocate, Fs, Piece, Seek, StatFs};
use crate::base::{Ino, Result};
use std::ops::Range;

/// What the data path keeps in memory for an open file system.
#[derive(Default)]
pub(crate) struct State {}

#[allow(unused_variables)]
impl Fs {
    /// Calls `f` once with the bytes at `offset`, at most `len`, short only at the end of the file.
    /// The slice may be a mapped window of the data device: hand it to the kernel, do not look at it.
    pub fn read_with<R>(&self, ino: Ino, offset: u64, len: usize, f: impl FnOnce(&[u8]) -> R) -> Result<R> { todo!() }
    /// Reads by copying; for those who look at the bytes.
    pub fn read(&self, ino: Ino, offset: u64, buf: &mut [u8]) -> Result<usize> { todo!() }
    /// Writes all of `data` or fails. `times`: set mtime and ctime (not for the kernel's write-back).
    /// `kill_suidgid` as in `SetAttr`.
    pub fn write(&self, ino: Ino, offset: u64, data: &[u8], times: bool, kill_suidgid: bool) -> Result<()> { todo!() }
    pub fn fallocate(&self, ino: Ino, range: Range<u64>, mode: Fallocate) -> Result<()> { todo!() }
    pub fn seek(&self, ino: Ino, offset: u64, what: Seek) -> Result<u64> { todo!() }
    /// Copies by sharing chunks where alignment allows; returns bytes copied (short at the source's end).
    pub fn copy_range(&self, from: Ino, from_offset: u64, to: Ino, to_offset: u64, len: u64) -> Result<u64> { todo!() }
    pub fn pieces(&self, ino: Ino, range: Range<u64>) -> Result<Vec<Piece>> { todo!() }
    /// The file's data and everything answered before becomes durable.
    pub fn fsync(&self, ino: Ino) -> Result<()> { todo!() }
    pub fn statfs(&self) -> Result<StatFs> { todo!() }

    /// Sets a regular file's size (shorter: frees what is behind; longer: a hole, the gap reads as
    /// zeros), mtime, ctime; `kill_suidgid` as in `SetAttr`. Bounded steps.
    pub(crate) fn set_size(&self, ino: Ino, size: u64, kill_suidgid: bool) -> Result<()> { todo!() }
    /// Removes all extents and inline data of an inode without a name, in bounded steps.
    pub(crate) fn drop_data(&self, ino: Ino) -> Result<()> { todo!() }
    /// Finishes a truncation that a crash interrupted (orphan item with `TRUNCATE`).
    pub(crate) fn finish_truncate(&self, ino: Ino, size: u64) -> Result<()> { todo!() }
}
