//! The kernel's words and ours.

use super::options::Squash;
use crate::base::{Error, Result, Time};
use crate::fs::Attr;
use fuser::{Errno, FileAttr, FileType, INodeNo, TimeOrNow};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Practically for ever: nobody else changes a volume, and we tell the kernel of what we change.
pub(super) const FOREVER: Duration = Duration::from_secs(1 << 32);

/// How a mount shows attributes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Show {
    pub squash: Squash,
    /// Files may hold data that only the kernel knows of: then none is shown without a block, for a reader
    /// that looks for holes by st_blocks would take it for one (tar --sparse).
    pub maybe_dirty: bool,
}

impl Show {
    pub fn attr(&self, a: &Attr) -> Result<FileAttr> {
        let kind = kind(a.mode).ok_or_else(|| {
            Error::corrupt(
                format!("inode {}", a.ino),
                format!("unknown file type in mode {:o}", a.mode),
            )
        })?;
        let least = u64::from(self.maybe_dirty && kind == FileType::RegularFile);
        Ok(FileAttr {
            ino: INodeNo(a.ino),
            size: a.size,
            blocks: a.blocks.max(least),
            atime: to_system(a.atime),
            mtime: to_system(a.mtime),
            ctime: to_system(a.ctime),
            crtime: to_system(a.btime),
            kind,
            perm: (a.mode & 0o7777) as u16,
            nlink: a.nlink,
            uid: self.squash.uid.unwrap_or(a.uid),
            gid: self.squash.gid.unwrap_or(a.gid),
            rdev: a.rdev,
            blksize: crate::base::BLOCK as u32,
            flags: 0,
        })
    }

    /// What a negative entry is made of: number 0 means "no such name", with a lasting answer.
    pub fn nothing() -> FileAttr {
        FileAttr {
            ino: INodeNo(0),
            size: 0,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::RegularFile,
            perm: 0,
            nlink: 0,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 0,
            flags: 0,
        }
    }
}

/// From the S_IFMT part of a mode.
pub(super) fn kind(mode: u32) -> Option<FileType> {
    Some(match mode & libc::S_IFMT {
        libc::S_IFREG => FileType::RegularFile,
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFSOCK => FileType::Socket,
        _ => return None,
    })
}

/// A time beyond what the library can say (only a damaged item holds such) becomes the epoch.
pub(super) fn to_system(t: Time) -> SystemTime {
    let nsec = Duration::from_nanos(u64::from(t.nsec));
    let whole = Duration::from_secs(t.sec.unsigned_abs());
    let sec = if t.sec >= 0 {
        UNIX_EPOCH.checked_add(whole)
    } else {
        UNIX_EPOCH.checked_sub(whole)
    };
    sec.and_then(|s| s.checked_add(nsec)).unwrap_or(UNIX_EPOCH)
}

/// A time of a SETATTR. For times before 1970 fuser subtracts the nanoseconds where it should add them
/// (`system_time_from_time` in fuser 0.18: "TODO: 1_000_000_000 - nsec"); that is exactly undone here.
pub(super) fn from_request(t: SystemTime) -> Time {
    match t.duration_since(UNIX_EPOCH) {
        Ok(d) => Time {
            sec: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
            nsec: d.subsec_nanos(),
        },
        Err(e) => {
            let d = e.duration();
            Time {
                sec: 0i64.checked_sub_unsigned(d.as_secs()).unwrap_or(i64::MIN),
                nsec: d.subsec_nanos(),
            }
        }
    }
}

pub(super) fn from_request_or_now(t: TimeOrNow) -> Time {
    match t {
        TimeOrNow::SpecificTime(t) => from_request(t),
        TimeOrNow::Now => Time::now(),
    }
}

/// The errno to answer. Never ENOSYS, which the kernel takes for "never ask that again".
pub(super) fn errno(e: &Error) -> Errno {
    match e.errno() {
        libc::ENOSYS => Errno::EIO,
        e @ 1..=511 => Errno::from_i32(e),
        _ => Errno::EIO,
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
