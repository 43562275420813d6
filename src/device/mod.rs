//! The store's devices: sparse files or block devices; a faulty one for tests.

pub mod faulty;
mod file;
mod mem;

#[cfg(test)]
mod tests;

pub use file::FileDevice;
pub use mem::MemDevice;

use std::io;
use std::ops::Range;

/// Random access to the bytes of one device. All calls are positional and may run in parallel.
///
/// Nothing written is promised to survive a power cut before `sync` (everything written earlier)
/// or `sync_ranges` (what was written earlier inside the ranges) has returned.
pub trait Device: Send + Sync {
    /// What to call this device in messages.
    fn name(&self) -> String;
    /// Fills `buf` from `offset`; bytes never written, and bytes past the end, read as zeros.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
    fn sync_ranges(&self, ranges: &[Range<u64>]) -> io::Result<()>;
    /// Gives the range's space back; it reads as zeros afterwards (files) or as anything (block devices).
    fn discard(&self, range: Range<u64>) -> io::Result<()>;
    /// Makes sure that writes below `len` cannot fail for want of space (preallocates a file;
    /// on a block device checks its size).
    fn reserve(&self, len: u64) -> io::Result<()>;
    /// Bytes that may be addressed now: a block device's size, `u64::MAX` for a file.
    fn capacity(&self) -> u64;
    /// Bytes really taken from the host (st_blocks), and bytes the host has free for us.
    fn usage(&self) -> io::Result<Usage>;
    /// The bytes of `range` as a mapped window, when the device can (a test device cannot).
    /// The caller hands the slice to the kernel and does not look at it: touching bytes of a bad
    /// disk raises SIGBUS here but only EFAULT inside a system call.
    fn window(&self, range: Range<u64>) -> Option<Window<'_>> {
        let _ = range;
        None
    }
}

/// See [`Device::window`].
pub struct Window<'a> {
    pub ptr: *const u8,
    pub len: usize,
    pub _device: std::marker::PhantomData<&'a ()>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub real: u64,
    pub host_free: u64,
}
