//! One connection's state, and what answering takes beyond a call of `fs`: who asks, what the kernel was told,
//! what must wait until it forgets.

use super::answer::{answer, guarded, refuse};
use super::convert::{FOREVER, Show};
use super::counters::{Counters, Request as Kind};
use super::known::Known;
use super::options::Squash;
use super::resident::resident;
use super::touched::Touched;
use super::workers::later;
use crate::base::{Ino, Result};
use crate::fs::{Attr, Cred, Fs, SetAttr};
use fuser::{Errno, Generation, INodeNo, Notifier, ReplyData, ReplyEntry, Request};
use parking_lot::{Condvar, Mutex};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// One connection's state, shared by its threads and its `Connection`.
pub(super) struct Door {
    pub fs: Arc<Fs>,
    /// Sealed: nothing ever changes.
    pub sealed: bool,
    /// Let the kernel keep writes back. Not on a mount that is read-only now: it gains nothing there and costs a GETATTR
    /// after every close. (Remounted for writing, it writes through.)
    pub keep_back: bool,
    /// Access times are kept.
    pub atime: bool,
    pub squash: Squash,
    pub counters: Counters,
    /// The kernel keeps writes back (agreed on at INIT).
    pub writeback: AtomicBool,
    pub known: Known,
    /// Without a name, but perhaps still open: to be reaped when the kernel forgets them.
    pub orphans: Mutex<HashSet<Ino>>,
    pub touched: Touched,
    pub notifier: OnceLock<Notifier>,
    pub jobs: Jobs,
}

/// What workers do for one connection.
#[derive(Default)]
pub(super) struct Jobs {
    running: Mutex<usize>,
    fewer: Condvar,
}

/// Dropped when a job is done, or was given up by a panic.
struct Done(Arc<Door>);

impl Drop for Done {
    fn drop(&mut self) {
        *self.0.jobs.running.lock() -= 1;
        self.0.jobs.fewer.notify_all();
    }
}

impl Door {
    pub fn show(&self) -> Show {
        Show {
            squash: self.squash,
            maybe_dirty: self.writeback.load(Ordering::Relaxed),
        }
    }

    /// Whoever asks; under squash files belong to the image's root.
    pub fn cred(&self, req: &Request, umask: u32) -> Cred {
        Cred {
            uid: if self.squash.uid.is_some() {
                0
            } else {
                req.uid()
            },
            gid: if self.squash.gid.is_some() {
                0
            } else {
                req.gid()
            },
            umask,
        }
    }

    /// The kernel is told of this file by what is answered now.
    pub fn told(&self, attr: &Attr) {
        if !self.sealed && attr.mode & libc::S_IFMT == libc::S_IFREG {
            self.known.told(attr.ino);
        }
    }

    pub fn entry(
        &self,
        request: Kind,
        dir: Ino,
        reply: ReplyEntry,
        run: impl FnOnce() -> Result<Attr>,
    ) {
        answer(
            request,
            dir,
            reply,
            || {
                let attr = run()?;
                Ok((attr, self.show().attr(&attr)?))
            },
            |reply, (attr, shown)| {
                self.told(&attr);
                reply.entry(&FOREVER, &shown, Generation(0));
            },
        );
    }

    /// After an unlink, rmdir or rename: what lost its last name stays until the kernel forgets it.
    pub fn unlinked(&self, gone: &Attr) {
        if gone.nlink == 0 {
            self.orphans.lock().insert(gone.ino);
        }
    }

    pub fn forget(self: &Arc<Self>, ino: Ino, times: u64) {
        if self.sealed {
            return;
        }
        self.known.forgotten(ino, times);
        if self.orphans.lock().remove(&ino) {
            self.later(move |door| door.reap(ino));
        }
    }

    /// Does it on a worker; the connection has not ended before that is done.
    pub fn later(self: &Arc<Self>, job: impl FnOnce(&Arc<Door>) + Send + 'static) {
        *self.jobs.running.lock() += 1;
        let done = Done(self.clone());
        later(move || job(&done.0));
    }

    /// What has no name and no user goes; where that fails, opening the volume next time does it.
    pub fn reap(&self, ino: Ino) {
        if let Err(e) = guarded(|| self.fs.forget(ino)) {
            log::warn!("cannot give back the space of deleted inode {ino} yet: {e}");
        }
    }

    /// The connection is over: no open file is left, and no FORGET comes any more. What was begun is finished.
    pub fn ended(&self) {
        let mut running = self.jobs.running.lock();
        while *running > 0 {
            self.jobs.fewer.wait(&mut running);
        }
        drop(running);
        for ino in std::mem::take(&mut *self.orphans.lock()) {
            self.reap(ino);
        }
    }

    /// Before the answer: the kernel asks for the new access time as soon as it has that.
    pub fn will_be_read(&self, ino: Ino) {
        if self.atime
            && !self.sealed
            && self.touched.first(ino)
            && let Err(e) = guarded(|| self.fs.touch_atime(ino))
        {
            log::debug!("access time of inode {ino}: {e}");
        }
    }

    /// Has the kernel send us what it keeps of this file from `offset` on. Never on a thread that takes requests: they
    /// are the ones to take what is sent.
    pub fn flush(&self, ino: Ino, offset: u64) {
        if let (Some(notifier), Ok(offset)) = (self.notifier.get(), i64::try_from(offset))
            && let Err(e) = notifier.inval_inode(INodeNo(ino), offset, 0)
        {
            log::debug!("the kernel refuses to flush inode {ino}: {e}");
        }
    }
}

impl Door {
    /// Answers a READ straight from the window of the data file: its bytes are never looked at here. Gives the reply
    /// back, unless it may `wait`, where a disk would have to be waited for.
    pub fn read(
        &self,
        ino: Ino,
        offset: u64,
        len: usize,
        reply: ReplyData,
        wait: bool,
    ) -> Option<ReplyData> {
        let mut reply = Some(reply);
        let mut cold = false;
        let read = guarded(|| {
            self.fs.read_with(ino, offset, len, |data| {
                cold = !wait && !resident(data);
                if !cold && let Some(reply) = reply.take() {
                    reply.data(data);
                }
            })
        });
        match (read, reply) {
            (Ok(()), Some(reply)) if cold => return Some(reply),
            (Ok(()), Some(reply)) => reply.error(Errno::EIO),
            (Ok(()), None) => {}
            (Err(e), Some(reply)) => refuse(Kind::Read, ino, reply, &e),
            (Err(e), None) => log::error!("read of inode {ino}, already answered: {e}"),
        }
        None
    }

    /// An access ACL set by someone outside the file's group takes setgid with it; the kernel's flag for that comes
    /// with SETXATTR_EXT, which the transport cannot read.
    pub fn acl_was_set(&self, req: &Request, ino: Ino, name: &[u8]) -> Result<()> {
        if name != b"system.posix_acl_access" || req.uid() == 0 {
            return Ok(());
        }
        let attr = self.fs.attr(ino)?;
        if attr.mode & libc::S_ISGID != 0 && req.gid() != attr.gid && !in_group(req.pid(), attr.gid)
        {
            let set = SetAttr {
                mode: Some(attr.mode & 0o7777 & !libc::S_ISGID),
                ..SetAttr::default()
            };
            self.fs.set_attr(ino, &set, &self.cred(req, 0))?;
        }
        Ok(())
    }
}

/// Whether a process has this supplementary group; no where that cannot be told.
fn in_group(pid: u32, gid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let groups = status
        .lines()
        .find_map(|l| l.strip_prefix("Groups:"))
        .unwrap_or_default();
    groups.split_whitespace().any(|g| g.parse() == Ok(gid))
}
