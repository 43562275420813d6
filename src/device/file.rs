//! A sparse file, or a block device, as a store's device.
//!
//! The file has one user (the pool's lock sees to that), so its length is kept here: every
//! extension goes through one lock, and no extension can cut off what another thread wrote.

use super::{Device, Usage, Window};
use memmap2::{MmapOptions, MmapRaw};
use parking_lot::{Mutex, RwLock};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, fstatvfs, seek};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of one mapped window; windows start at multiples of it.
const WINDOW: u64 = 1 << 30;
/// Address space is not free: at most this many windows (4 TiB).
const WINDOWS_MAX: usize = 4096;
/// Files grow in steps of this, so that most writes need not look at the length.
const GROW: u64 = 1 << 20;
/// Ranges nearer to each other than this are made durable by one call.
const NEAR: u64 = 256 << 10;
/// More pieces than this to make durable: one call for the whole file costs less.
const PIECES_MAX: usize = 256;
/// Bytes written at once where zeros must be written.
const ZEROS: usize = 1 << 20;

/// `BLKDISCARD` and `BLKZEROOUT` of linux/fs.h, `_IO(0x12, 119)` and `_IO(0x12, 127)`.
const BLKDISCARD: libc::Ioctl = 0x1277;
const BLKZEROOUT: libc::Ioctl = 0x127f;

/// See the module.
pub struct FileDevice {
    file: File,
    name: String,
    writable: bool,
    /// Size of a block device.
    block: Option<u64>,
    /// Length of the file; grows only.
    len: AtomicU64,
    grow: Mutex<()>,
    /// By number: mapped once, kept until drop. `None`: cannot be had, not tried again.
    windows: RwLock<BTreeMap<u64, Option<MmapRaw>>>,
}

impl FileDevice {
    /// Opens an existing file or block device for reading and writing. A block device is opened
    /// exclusively: `EBUSY` when it is mounted or somebody else's.
    pub fn open(path: &Path) -> io::Result<FileDevice> {
        FileDevice::with(path, true, false)
    }

    /// Opens for reading only: every change answers `EBADF`.
    pub fn open_read_only(path: &Path) -> io::Result<FileDevice> {
        FileDevice::with(path, false, false)
    }

    /// Makes an empty file (mode 0600; `EEXIST` when there is one), or opens an existing block device.
    pub fn create(path: &Path) -> io::Result<FileDevice> {
        FileDevice::with(path, true, true)
    }

    fn with(path: &Path, writable: bool, create: bool) -> io::Result<FileDevice> {
        let is_block = match std::fs::metadata(path) {
            Ok(m) => m.file_type().is_block_device(),
            Err(e) if create && e.kind() == io::ErrorKind::NotFound => false,
            Err(e) => return Err(e),
        };
        let mut options = OpenOptions::new();
        options.read(true).write(writable).mode(0o600);
        if is_block {
            options.custom_flags(libc::O_EXCL);
        } else if create {
            options.create_new(true);
        }
        let file = options.open(path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_block_device() != is_block || !(is_block || kind.is_file()) {
            return Err(io::Error::other("neither a file nor a block device"));
        }
        let end = seek(&file, SeekFrom::End(0))?;
        Ok(FileDevice {
            file,
            name: path.display().to_string(),
            writable,
            block: is_block.then_some(end),
            len: AtomicU64::new(end),
            grow: Mutex::new(()),
            windows: RwLock::new(BTreeMap::new()),
        })
    }

    /// Makes the file at least `end` long.
    fn extend(&self, end: u64) -> io::Result<()> {
        if end <= self.len.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.block.is_some() {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        let _grow = self.grow.lock();
        if end <= self.len.load(Ordering::Acquire) {
            return Ok(());
        }
        let rounded = end.checked_next_multiple_of(GROW).unwrap_or(end);
        // The step may pass the largest file possible here where the end itself does not.
        let len = match self.file.set_len(rounded) {
            Ok(()) => rounded,
            Err(_) => {
                self.file.set_len(end)?;
                end
            }
        };
        self.len.store(len, Ordering::Release);
        Ok(())
    }

    /// Runs `f` with the window that has number `index`; `None` when it cannot be mapped.
    fn with_window<T>(&self, index: u64, f: impl FnOnce(&MmapRaw) -> T) -> Option<T> {
        if let Some(map) = self.windows.read().get(&index) {
            return map.as_ref().map(f);
        }
        let mut windows = self.windows.write();
        if windows.len() >= WINDOWS_MAX && !windows.contains_key(&index) {
            return None;
        }
        let map = windows.entry(index).or_insert_with(|| {
            let offset = index.checked_mul(WINDOW)?;
            let len = usize::try_from(WINDOW).ok()?;
            let map = MmapOptions::new()
                .offset(offset)
                .len(len)
                .map_raw_read_only(&self.file);
            map.inspect_err(|e| log::debug!("{}: no mapped window: {e}", self.name))
                .ok()
        });
        map.as_ref().map(f)
    }

    /// Makes one range durable; `false` when no mapping can be had.
    fn sync_range(&self, range: &Range<u64>) -> io::Result<bool> {
        let mut at = range.start;
        while at < range.end {
            let index = at / WINDOW;
            let end = range.end.min((index + 1).saturating_mul(WINDOW));
            let (from, len) = ((at % WINDOW) as usize, (end - at) as usize);
            match self.with_window(index, |map| map.flush_range(from, len)) {
                Some(Ok(())) => at = end,
                Some(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                // Not a mapping of a file any more, as the kernel sees it.
                Some(Err(e)) if e.raw_os_error() == Some(libc::ENOMEM) => return Ok(false),
                Some(Err(e)) => return Err(e),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn block_ioctl(&self, request: libc::Ioctl, range: &Range<u64>) -> io::Result<()> {
        let argument: [u64; 2] = [range.start, range.end - range.start];
        // SAFETY: BLKDISCARD and BLKZEROOUT read two u64 (start and length in bytes) from the
        // pointer, which is valid for the call; the fd is ours and open.
        let r = unsafe { libc::ioctl(self.file.as_raw_fd(), request, argument.as_ptr()) };
        if r == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Writes zeros, for file systems that cannot do better.
    fn write_zeros(&self, range: Range<u64>) -> io::Result<()> {
        let zeros = vec![0; ZEROS.min(usize::try_from(range.end - range.start).unwrap_or(ZEROS))];
        let mut at = range.start;
        while at < range.end {
            let n = zeros
                .len()
                .min(usize::try_from(range.end - at).unwrap_or(usize::MAX));
            self.file
                .write_all_at(zeros.get(..n).unwrap_or_default(), at)?;
            at += n as u64;
        }
        Ok(())
    }

    /// Fills the holes below `len` by writing: what `reserve` promises where the file system has
    /// no fallocate. Nobody else writes there meanwhile.
    fn fill_holes(&self, len: u64) -> io::Result<()> {
        let end = self.file.metadata()?.len();
        let mut at = 0;
        while at < len {
            let hole = match seek(&self.file, SeekFrom::Hole(at)) {
                Ok(hole) if hole < end => hole,
                // No holes any more, or a file system that does not know them.
                _ => break,
            };
            let data = match seek(&self.file, SeekFrom::Data(hole)) {
                Ok(data) => data,
                Err(Errno::NXIO) => end,
                Err(e) => return Err(e.into()),
            };
            self.write_zeros(hole..data.min(len).max(hole))?;
            at = data.max(at + 1);
        }
        if end < len {
            self.write_zeros(end..len)?;
        }
        Ok(())
    }
}

impl Device for FileDevice {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|r| !r.is_empty()) {
            let at = offset
                .checked_add(done as u64)
                .ok_or(io::ErrorKind::InvalidInput)?;
            match self.file.read_at(rest, at) {
                Ok(0) => {
                    rest.fill(0);
                    break;
                }
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        let end = offset
            .checked_add(buf.len() as u64)
            .ok_or(io::ErrorKind::InvalidInput)?;
        self.extend(end)?;
        // Goes on after short writes and EINTR.
        self.file.write_all_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        loop {
            match self.file.sync_data() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                r => return r,
            }
        }
    }

    /// A ranged msync of a shared mapping is the only ranged fdatasync Linux has
    /// (sync_file_range flushes neither allocations nor the disk's cache).
    fn sync_ranges(&self, ranges: &[Range<u64>]) -> io::Result<()> {
        let pieces = join(ranges, NEAR);
        if pieces.len() > PIECES_MAX {
            return self.sync();
        }
        for piece in &pieces {
            if !self.sync_range(piece)? {
                return self.sync();
            }
        }
        Ok(())
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        if range.start >= range.end {
            return Ok(());
        }
        if self.block.is_some() {
            return match self.block_ioctl(BLKDISCARD, &range) {
                Err(e) if unsupported(&e) => Ok(()),
                r => r,
            };
        }
        let end = range.end.min(self.len.load(Ordering::Acquire));
        if range.start >= end {
            return Ok(());
        }
        let len = end - range.start;
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match again(|| fallocate(&self.file, punch, range.start, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            r => return Ok(r?),
        }
        // The space stays taken, but it must read as zeros.
        let zero = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        match again(|| fallocate(&self.file, zero, range.start, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.write_zeros(range.start..end),
            r => Ok(r?),
        }
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        if let Some(size) = self.block {
            return if len <= size {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(libc::ENOSPC))
            };
        }
        if len == 0 {
            return Ok(());
        }
        let _grow = self.grow.lock();
        match again(|| fallocate(&self.file, FallocateFlags::empty(), 0, len)) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.fill_holes(len)?,
            r => r?,
        }
        self.len.fetch_max(len, Ordering::AcqRel);
        Ok(())
    }

    fn capacity(&self) -> u64 {
        self.block.unwrap_or(u64::MAX)
    }

    /// A block device is taken as a whole and has nothing more to ask its host for: its size twice.
    fn usage(&self) -> io::Result<Usage> {
        if let Some(size) = self.block {
            return Ok(Usage {
                real: size,
                host_free: size,
            });
        }
        let real = self.file.metadata()?.blocks().saturating_mul(512);
        let host = fstatvfs(&self.file)?;
        Ok(Usage {
            real,
            host_free: host.f_bavail.saturating_mul(host.f_frsize),
        })
    }

    fn window(&self, range: Range<u64>) -> Option<Window<'_>> {
        let len = usize::try_from(range.end.checked_sub(range.start)?).ok()?;
        let index = range.start / WINDOW;
        if len == 0 || (range.end - 1) / WINDOW != index {
            return None;
        }
        if self.writable {
            self.extend(range.end).ok()?;
        } else if range.end > self.len.load(Ordering::Acquire) {
            return None;
        }
        let at = usize::try_from(range.start % WINDOW).ok()?;
        let ptr = self.with_window(index, |map| map.as_ptr().wrapping_add(at))?;
        Some(Window {
            ptr,
            len,
            _device: std::marker::PhantomData,
        })
    }
}

impl FileDevice {
    /// Overwrites with zeros whatever is there, giving no space back (a block device's discarded
    /// bytes may read as anything).
    pub fn zero(&self, range: Range<u64>) -> io::Result<()> {
        if range.start >= range.end {
            return Ok(());
        }
        if self.block.is_some() && self.block_ioctl(BLKZEROOUT, &range).is_ok() {
            return Ok(());
        }
        self.extend(range.end)?;
        self.write_zeros(range)
    }
}

fn again(mut call: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            r => return r,
        }
    }
}

fn unsupported(e: &io::Error) -> bool {
    matches!(
        e.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENOTTY)
    )
}

/// Sorted, with neighbours and those nearer than `near` joined; empty ones left out.
fn join(ranges: &[Range<u64>], near: u64) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> = ranges.iter().filter(|r| r.start < r.end).cloned().collect();
    sorted.sort_unstable_by_key(|r| r.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for r in sorted {
        match joined.last_mut() {
            Some(last) if r.start <= last.end.saturating_add(near) => {
                last.end = last.end.max(r.end)
            }
            _ => joined.push(r),
        }
    }
    joined
}
