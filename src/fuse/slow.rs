//! Requests that may take long. Workers answer them, so that the thread which took one takes the next.

use super::answer::answer;
use super::counters::Request as Kind;
use super::door::Door;
use crate::base::{Error, Ino, Result};
use crate::fs::{Fallocate, Seek};
use fuser::{Errno, ReplyEmpty, ReplyIoctl, ReplyLseek, ReplyWrite};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Answered in one COPY_FILE_RANGE; the caller asks for the rest.
const MAX_COPY: u64 = 1 << 30;

impl Door {
    pub fn sync(self: &Arc<Self>, request: Kind, ino: Ino, reply: ReplyEmpty) {
        self.later(move |door| {
            let run = || {
                if door.sealed {
                    Ok(())
                } else {
                    door.fs.fsync(ino)
                }
            };
            answer(request, ino, reply, run, |reply, ()| reply.ok());
        });
    }

    pub fn allocate(
        self: &Arc<Self>,
        ino: Ino,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.later(move |door| {
            let run = || {
                let keep_size = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
                let how = match mode & !libc::FALLOC_FL_KEEP_SIZE {
                    0 => Fallocate::Allocate { keep_size },
                    libc::FALLOC_FL_PUNCH_HOLE if keep_size => Fallocate::PunchHole,
                    libc::FALLOC_FL_ZERO_RANGE => Fallocate::ZeroRange { keep_size },
                    _ => return Err(Error::Posix(libc::EOPNOTSUPP)),
                };
                let end = offset
                    .checked_add(length)
                    .ok_or(Error::Posix(libc::EFBIG))?;
                door.fs.fallocate(ino, offset..end, how)?;
                door.touched.changed(ino);
                Ok(())
            };
            answer(Kind::Fallocate, ino, reply, run, |reply, ()| reply.ok());
        });
    }

    pub fn seek(self: &Arc<Self>, ino: Ino, offset: i64, whence: i32, reply: ReplyLseek) {
        let (offset, what) = match (u64::try_from(offset), whence) {
            (Ok(offset), libc::SEEK_DATA) => (offset, Seek::Data),
            (Ok(offset), libc::SEEK_HOLE) => (offset, Seek::Hole),
            (Err(_), libc::SEEK_DATA | libc::SEEK_HOLE) => return reply.error(Errno::ENXIO),
            // The kernel does the others itself.
            _ => return reply.error(Errno::EINVAL),
        };
        let seek = move |door: &Door, reply: ReplyLseek| {
            let run = || {
                i64::try_from(door.fs.seek(ino, offset, what)?)
                    .map_err(|_| Error::Posix(libc::EOVERFLOW))
            };
            answer(Kind::Lseek, ino, reply, run, |reply, at| reply.offset(at));
        };
        if !self.writeback.load(Ordering::Relaxed) {
            return seek(self, reply);
        }
        // The kernel does not flush before it asks, and what it still keeps would look like a hole.
        self.later(move |door| {
            door.flush(ino, offset);
            seek(door, reply);
        });
    }

    /// From and to: inode and offset.
    pub fn copy(self: &Arc<Self>, from: (Ino, u64), to: (Ino, u64), len: u64, reply: ReplyWrite) {
        self.later(move |door| {
            let run = || {
                let copied = door
                    .fs
                    .copy_range(from.0, from.1, to.0, to.1, len.min(MAX_COPY))?;
                door.touched.changed(to.0);
                u32::try_from(copied).map_err(|_| Error::Posix(libc::EIO))
            };
            answer(Kind::CopyFileRange, from.0, reply, run, |reply, n| {
                reply.written(n)
            });
        });
    }

    /// FITRIM. Its struct fstrim_range, { u64 start, len, minlen }, goes back with what was given back as `len`.
    pub fn trim(self: &Arc<Self>, ino: Ino, mut range: Vec<u8>, reply: ReplyIoctl) {
        self.later(move |door| {
            answer(
                Kind::Ioctl,
                ino,
                reply,
                || door.give_back(),
                |reply, given_back| {
                    if let Some(len) = range.get_mut(8..16) {
                        len.copy_from_slice(&given_back.to_ne_bytes());
                    }
                    reply.ioctl(0, &range);
                },
            );
        });
    }

    /// Freed chunks go back to the host; answers how many bytes.
    fn give_back(&self) -> Result<u64> {
        let pool = self.fs.volume().pool();
        let before = pool.status()?.data.real;
        pool.checkpoint()?;
        Ok(before.saturating_sub(pool.status()?.data.real))
    }
}
