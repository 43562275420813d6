//! Answering: each request exactly once, with an errno where something went wrong.

use super::convert::errno;
use super::counters::Request;
use crate::base::{Error, Ino, Result};
use fuser::{
    Errno, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A reply that can say no.
pub(super) trait Refuse {
    fn refuse(self, errno: Errno);
}

macro_rules! refuse {
    ($($reply:ty),*) => { $(impl Refuse for $reply {
        fn refuse(self, errno: Errno) {
            self.error(errno)
        }
    })* };
}

refuse!(
    ReplyAttr,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyIoctl,
    ReplyLseek,
    ReplyOpen,
    ReplyStatfs,
    ReplyWrite,
    ReplyXattr
);

/// Runs; a panic (a fault of ours) becomes an I/O error: this volume's user gets it, other volumes live on.
pub(super) fn guarded<T>(run: impl FnOnce() -> Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(_) => Err(Error::io(
            "a fault in cowfs itself; please report it",
            io::Error::from_raw_os_error(libc::EIO),
        )),
    }
}

/// Runs and answers.
pub(super) fn answer<T, R: Refuse>(
    request: Request,
    ino: Ino,
    reply: R,
    run: impl FnOnce() -> Result<T>,
    done: impl FnOnce(R, T),
) {
    match guarded(run) {
        Ok(value) => done(reply, value),
        Err(e) => refuse(request, ino, reply, &e),
    }
}

pub(super) fn refuse<R: Refuse>(request: Request, ino: Ino, reply: R, e: &Error) {
    match e {
        // What users' mistakes and full pools give is no news.
        Error::Posix(_) | Error::NoSpace | Error::Quota | Error::NotFound(_) | Error::Exists(_) => {
            log::trace!("{} of inode {ino}: {e}", request.name())
        }
        e => log::error!("{} of inode {ino}: {e}", request.name()),
    }
    reply.refuse(errno(e));
}
