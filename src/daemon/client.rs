//! The client's door to the daemon: connect (starting it when none runs), ask, hear the answer.

use super::proto::{Event, Greeting, Reply, Request, Response, VERSION};
use super::start;
use super::wire::Wire;
use crate::base::{Error, Result};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the socket in the pool's directory.
pub const SOCKET: &str = "socket";
/// How long a starting daemon (recovering a pool) is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a daemon is started when none runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    IfNeeded,
    /// `NotFound` when none runs.
    Never,
}

/// A connection to a pool's daemon. One request at a time.
pub struct Client {
    wire: Wire,
    greeting: Greeting,
    pool: PathBuf,
}

impl Client {
    /// Connects to the daemon of the pool in `pool_dir`.
    ///
    /// `Denied` when the pool is another user's, `NotAPool` when the directory is none, `Locked` when
    /// something else than a daemon has it open.
    pub fn connect(pool_dir: &Path, start: Start) -> Result<Client> {
        let pool = std::path::absolute(pool_dir)
            .map_err(|e| Error::io(pool_dir.display().to_string(), e))?;
        check_owner(&pool)?;
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_millis(5);
        loop {
            if let Some(client) = Client::try_connect(&pool)? {
                return Ok(client);
            }
            if start == Start::Never {
                return Err(Error::NotFound(format!(
                    "no daemon runs for the pool {}",
                    pool.display()
                )));
            }
            match start::daemon(&pool) {
                Ok(()) => {}
                // Another one is starting, or leaving: its lock says so until it answers, or is gone.
                Err(
                    e @ (Error::Locked { .. }
                    | Error::Told {
                        kind: crate::base::ExitKind::Busy,
                        ..
                    }),
                ) => {
                    if Instant::now() > deadline {
                        return Err(e);
                    }
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(200));
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// The running daemon of a pool, or none; then also whatever one did last is done: it has let go
    /// of the pool. (A daemon on its way out is waited for.)
    pub fn running(pool_dir: &Path) -> Result<Option<Client>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Client::connect(pool_dir, Start::Never) {
                Ok(client) => return Ok(Some(client)),
                Err(Error::NotFound(_)) if !locked(pool_dir) || Instant::now() > deadline => {
                    return Ok(None);
                }
                Err(Error::NotFound(_)) => std::thread::sleep(Duration::from_millis(10)),
                Err(e) => return Err(e),
            }
        }
    }

    /// None: nobody listens.
    fn try_connect(pool: &Path) -> Result<Option<Client>> {
        let path = pool.join(SOCKET);
        let what = || format!("socket of the pool {}", pool.display());
        let stream = match connect_at(&path) {
            Ok(s) => s,
            Err(e) => match e.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => return Ok(None),
                _ => return Err(Error::io(what(), e)),
            },
        };
        let mut wire = Wire::new(stream);
        // A daemon that is just leaving closes without a greeting: then there is none.
        let greeting: Greeting = match wire.receive() {
            Ok(Some(g)) => g,
            Ok(None) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(Error::io(what(), e)),
        };
        if let Some(why) = &greeting.refusal {
            return Err(Error::Denied(format!(
                "the daemon (process {}) refuses: {why}",
                greeting.pid
            )));
        }
        if greeting.version != VERSION {
            return Err(Error::Invalid(format!(
                "the daemon of {} (process {}, cowfs {}) speaks version {}, this cowfs {VERSION}; stop it with 'kill {}' and try again",
                pool.display(),
                greeting.pid,
                greeting.program,
                greeting.version,
                greeting.pid
            )));
        }
        Ok(Some(Client {
            wire,
            greeting,
            pool: pool.to_path_buf(),
        }))
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.greeting.pid
    }

    /// The pool's directory, absolute.
    pub fn pool(&self) -> &Path {
        &self.pool
    }

    /// Asks and waits for the answer; progress and parts are dropped. `fds` go along with the request.
    pub fn call(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<Response> {
        self.call_with(request, fds, &mut |_| Ok(()))
    }

    /// Asks; `each` hears progress and the parts of a long answer as they come. When it fails, the
    /// connection is of no further use (drop it: the daemon then stops and undoes).
    pub fn call_with(
        &mut self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
        each: &mut dyn FnMut(Event) -> Result<()>,
    ) -> Result<Response> {
        self.send(request, fds)?;
        self.answer(each)
    }

    /// The first half of [`Client::call_with`], for requests whose descriptors are fed meanwhile.
    pub fn send(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.wire.send(request, fds).map_err(|e| self.lost(e))
    }

    /// The second half of [`Client::call_with`].
    pub fn answer(&mut self, each: &mut dyn FnMut(Event) -> Result<()>) -> Result<Response> {
        loop {
            match self.wire.receive::<Reply>() {
                Ok(Some(Reply::Progress(p))) => each(Event::Progress(p))?,
                Ok(Some(Reply::Part(p))) => each(Event::Part(p))?,
                Ok(Some(Reply::Done(r))) => return Ok(r),
                Ok(Some(Reply::Error(f))) => return Err(f.into_error()),
                Ok(None) => return Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
                Err(e) => return Err(self.lost(e)),
            }
        }
    }

    fn lost(&self, e: io::Error) -> Error {
        match e.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => Error::io(
                format!(
                    "the daemon (process {}) went away before it answered; see {}",
                    self.pid(),
                    self.pool.join("daemon.log").display()
                ),
                io::ErrorKind::ConnectionAborted.into(),
            ),
            _ => Error::io(format!("the daemon (process {})", self.pid()), e),
        }
    }
}

/// Whether some process has the pool open.
fn locked(pool: &Path) -> bool {
    use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
    match open(
        pool.join("lock"),
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    ) {
        Ok(lock) => {
            flock(&lock, FlockOperation::NonBlockingLockShared)
                == Err(rustix::io::Errno::WOULDBLOCK)
        }
        Err(_) => false,
    }
}

/// Connects through a directory descriptor: a socket's path may only have 107 bytes, a pool's more.
fn connect_at(path: &Path) -> io::Result<UnixStream> {
    use rustix::fs::{Mode, OFlags, open};
    if path.as_os_str().len() < 108 {
        return UnixStream::connect(path);
    }
    let dir = path.parent().unwrap_or(Path::new("/"));
    let dir = open(
        dir,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    use std::os::fd::AsRawFd;
    UnixStream::connect(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))
}

/// A pool is used by the user who owns it and nobody else: a daemon of root's in a user's directory
/// would follow what that user puts there.
pub(crate) fn check_owner(pool: &Path) -> Result<()> {
    let meta = std::fs::metadata(pool).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::NotFound(format!(
            "no pool at {}; make one with 'cowfs pool create'",
            pool.display()
        )),
        io::ErrorKind::PermissionDenied => Error::Denied(format!(
            "{} is not yours to look into; name another pool with --pool",
            pool.display()
        )),
        _ => Error::io(pool.display().to_string(), e),
    })?;
    let (owner, me) = (meta.uid(), rustix::process::geteuid().as_raw());
    if owner == me {
        return Ok(());
    }
    Err(Error::Denied(match me {
        0 => format!(
            "the pool {} belongs to user {owner}, and root does not open it; do this as that user: 'setpriv --reuid {owner} --regid {} --clear-groups cowfs --pool {} ...'",
            pool.display(),
            meta.gid(),
            pool.display()
        ),
        _ => format!(
            "the pool {} belongs to user {owner}; name one of your own with --pool",
            pool.display()
        ),
    }))
}
