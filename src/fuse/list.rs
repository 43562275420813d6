//! Directories listed: READDIR and READDIRPLUS.

use super::answer::{guarded, refuse};
use super::convert::{FOREVER, kind};
use super::counters::Request as Kind;
use super::door::Door;
use crate::base::{Error, Ino};
use fuser::{Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

impl Door {
    pub fn list(&self, ino: Ino, offset: u64, mut reply: ReplyDirectory) {
        self.will_be_read(ino);
        let mut any = false;
        let read = guarded(|| {
            self.fs.readdir(ino, offset, false, &mut |e, _| {
                let Some(kind) = kind(e.kind) else {
                    return true;
                };
                let full = reply.add(INodeNo(e.ino), e.cookie, kind, OsStr::from_bytes(&e.name));
                any |= !full;
                !full
            })
        });
        match read {
            // What came before the error is good; the next request meets it.
            Err(e) if !any => refuse(Kind::Readdir, ino, reply, &e),
            _ => reply.ok(),
        }
    }

    /// Each entry told here is a lookup to the kernel, which it will forget one day.
    pub fn list_with_attrs(&self, ino: Ino, offset: u64, mut reply: ReplyDirectoryPlus) {
        self.will_be_read(ino);
        let (mut any, mut bad) = (false, None);
        let show = self.show();
        let read = guarded(|| {
            self.fs.readdir(ino, offset, true, &mut |e, attr| {
                let shown = match attr
                    .ok_or(Error::Posix(libc::EIO))
                    .and_then(|a| show.attr(a))
                {
                    Ok(shown) => shown,
                    Err(e) => {
                        bad = Some(e);
                        return false;
                    }
                };
                let full = reply.add(
                    INodeNo(e.ino),
                    e.cookie,
                    OsStr::from_bytes(&e.name),
                    &FOREVER,
                    &shown,
                    Generation(0),
                );
                any |= !full;
                // The kernel takes no note of these two.
                if let (false, Some(attr), false) =
                    (full, attr, matches!(e.name.as_slice(), b"." | b".."))
                {
                    self.told(attr);
                }
                !full
            })
        });
        match read.and_then(|()| bad.map_or(Ok(()), Err)) {
            Err(e) if !any => refuse(Kind::Readdirplus, ino, reply, &e),
            _ => reply.ok(),
        }
    }
}
