//! One client: its requests, one after the other.

use super::proto::{Failure, Part, Progress, Reply, Request, Response};
use super::state::{Guard, State};
use super::wire::{Wire, gone};
use super::{files, import, listing, volumes, whereabouts};
use crate::base::{Error, Result};
use parking_lot::Mutex;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Progress is said at most this often.
const PROGRESS: Duration = Duration::from_millis(100);

/// What a request's work may say to its client meanwhile.
pub(super) struct Talk<'a> {
    pub state: &'a Arc<State>,
    wire: Mutex<&'a mut Wire>,
    lost: AtomicBool,
    last: Mutex<Option<Instant>>,
}

pub(super) fn serve(state: &Arc<State>, mut wire: Wire, guard: Guard) {
    loop {
        guard.busy(false);
        let request = match wire.receive::<Request>() {
            Ok(Some(r)) => r,
            Ok(None) => return,
            Err(e) => {
                log::debug!("a client: {e}");
                let failure = Reply::Error(Failure::of(&Error::Invalid(format!(
                    "request not understood: {e}"
                ))));
                let _ = wire.send(&failure, &[]);
                return;
            }
        };
        guard.busy(true);
        let fds = wire.take_fds();
        log::debug!("asked: {request:?}");
        let talk = Talk {
            state,
            wire: Mutex::new(&mut wire),
            lost: AtomicBool::new(false),
            last: Mutex::new(None),
        };
        let asked = request.verb();
        let result = catch_unwind(AssertUnwindSafe(|| dispatch(&talk, request, fds)));
        let lost = talk.lost.load(Ordering::Relaxed);
        let reply = match result {
            Ok(Ok(response)) => Reply::Done(response),
            Ok(Err(e)) => {
                log::debug!("{asked} failed: {e}");
                Reply::Error(Failure::of(&e))
            }
            Err(_) => {
                let log = state.dir.join(super::start::LOG);
                let e = Error::io(
                    format!(
                        "a fault in the daemon while it worked on '{asked}'; see {}",
                        log.display()
                    ),
                    std::io::ErrorKind::Other.into(),
                );
                Reply::Error(Failure::of(&e))
            }
        };
        if lost {
            return;
        }
        if let Err(e) = wire.send(&reply, &[]) {
            if e.kind() == std::io::ErrorKind::InvalidInput {
                let e = Error::Invalid("the answer is too long to be sent".into());
                let _ = wire.send(&Reply::Error(Failure::of(&e)), &[]);
            }
            return;
        }
    }
}

fn dispatch(talk: &Talk<'_>, request: Request, fds: Vec<OwnedFd>) -> Result<Response> {
    let state = talk.state;
    let mut fds = fds.into_iter();
    let mut fd = || {
        fds.next()
            .ok_or_else(|| Error::Invalid("the request came without its file descriptor".into()))
    };
    // What helps to end is served to the end.
    match &request {
        Request::Ping
        | Request::Status
        | Request::Stop
        | Request::Mounts
        | Request::Attached { .. }
        | Request::Unmounted { .. }
        | Request::Sync { .. }
        | Request::List { .. } => {}
        _ => state.refuse_when_draining()?,
    }
    match request {
        Request::Ping => Ok(Response::Done),
        Request::Status => Ok(Response::Status(Box::new(state.pool.status()?))),
        Request::Check => {
            let report = state.pool.check(&|done, total| {
                let _ = talk.progress("checking", done, Some(total), false);
            })?;
            Ok(Response::Checked(report))
        }
        Request::Stop => {
            let mounts = state.mounts.list();
            if let Some(m) = mounts.first() {
                let more = if mounts.len() > 1 {
                    format!(" and {} more", mounts.len() - 1)
                } else {
                    String::new()
                };
                return Err(Error::Busy(format!(
                    "{} is mounted on {}{more}; unmount first",
                    m.name, m.dir
                )));
            }
            state.ask_stop();
            Ok(Response::Done)
        }
        Request::Import { source, name } => import::import(talk, &source, name.as_deref(), fd()?),
        Request::List { kinds } => listing::list(talk, &kinds),
        Request::Inspect { name } => listing::inspect(state, &name),
        Request::History { name } => listing::history(talk, &name),
        Request::Create { image, name, size } => {
            volumes::create(state, &image, name.as_deref(), size)
        }
        Request::Snapshot { name } => volumes::snapshot(state, &name),
        Request::Clone { source, name } => volumes::clone(state, &source, &name),
        Request::Rollback { name } => volumes::rollback(state, &name),
        Request::Rename { old, new } => volumes::rename(state, &old, &new),
        Request::Remove { names, force } => volumes::remove(state, &names, force),
        Request::Diff { name, base } => whereabouts::diff(talk, &name, base.as_deref()),
        Request::Map { name, path } => whereabouts::map(state, &name, &path),
        Request::Mount { name, dir, options } => state.mounts.serve(&name, dir, &options, fd()?),
        Request::Attached { mount, connection } => state.mounts.attached(mount, connection),
        Request::Mounts => {
            for m in state.mounts.list() {
                talk.part(Part::Mount(m))?;
            }
            Ok(Response::Done)
        }
        Request::Unmounted { mount } => state.mounts.unmounted(mount),
        Request::Sync { name } => state.mounts.sync(&name),
        Request::Stat { name, path, follow } => files::stat(state, &name, &path, follow),
        Request::Ls { name, path } => files::ls(talk, &name, &path),
        Request::Read { name, path } => files::read(talk, &name, &path, fd()?),
        Request::Write {
            name,
            path,
            entry,
            xattrs,
        } => files::write(talk, &name, &path, &entry, &xattrs, fd().ok()),
        Request::Commit => Err(Error::Invalid("nothing to commit".into())),
    }
}

impl Talk<'_> {
    /// `Err` when the client is gone: stop and undo.
    pub fn alive(&self) -> Result<()> {
        if self.lost.load(Ordering::Relaxed) || gone(self.wire.lock().stream()) {
            self.lost.store(true, Ordering::Relaxed);
            return Err(Error::Busy("the client went away".into()));
        }
        if self.state.draining() && self.state.mounts.count() == 0 {
            return Err(Error::Busy("the daemon was told to end".into()));
        }
        Ok(())
    }

    /// Says how far it is, now and then; `Err` when the client is gone.
    pub fn progress(&self, what: &str, done: u64, total: Option<u64>, bytes: bool) -> Result<()> {
        {
            let mut last = self.last.lock();
            let now = Instant::now();
            if last.is_some_and(|l| now.duration_since(l) < PROGRESS) {
                return Ok(());
            }
            *last = Some(now);
        }
        self.alive()?;
        self.send(&Reply::Progress(Progress {
            what: what.to_owned(),
            done,
            total,
            bytes,
        }))
    }

    pub fn part(&self, part: Part) -> Result<()> {
        self.send(&Reply::Part(part))
    }

    fn send(&self, reply: &Reply) -> Result<()> {
        self.wire.lock().send(reply, &[]).map_err(|e| {
            self.lost.store(true, Ordering::Relaxed);
            Error::io("the client", e)
        })
    }

    /// The client's next line must be `commit`.
    pub fn committed(&self) -> Result<()> {
        match self.wire.lock().receive::<Request>() {
            Ok(Some(Request::Commit)) => Ok(()),
            Ok(Some(_)) => Err(Error::Invalid("expected 'commit'".into())),
            Ok(None) | Err(_) => {
                self.lost.store(true, Ordering::Relaxed);
                Err(Error::Busy("the client went away".into()))
            }
        }
    }

    /// Waits until `fd` can be read (or has ended); `Err` when the client goes away first.
    pub fn readable(&self, fd: &OwnedFd) -> Result<()> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        loop {
            let limit = Timespec {
                tv_sec: 0,
                tv_nsec: 200_000_000,
            };
            match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&limit)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => self.alive()?,
                // What cannot be polled can be read.
                _ => return Ok(()),
            }
        }
    }
}
