//! The daemon's life: opens the pool, serves the socket, leaves when nobody needs it.

use super::client::{SOCKET, check_owner};
use super::proto::{Greeting, VERSION};
use super::session;
use super::start::{Readiness, Ready};
use super::state::State;
use super::systemd;
use super::wire::Wire;
use crate::base::{Error, Result};
use crate::pool::{Config, Opened, Pool};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Clients served at once; more are turned away.
const CLIENTS_MAX: usize = 256;
/// How long requests under way may take to end once the daemon is told to go.
const DRAIN: Duration = Duration::from_secs(20);
/// How long a pool that nobody uses is kept open, unless said otherwise.
const IDLE: Duration = Duration::from_secs(5);
/// Whoever started a daemon is given this long to come, however soon idle ones leave.
const FIRST: Duration = Duration::from_secs(3);

/// How to run.
pub struct Options {
    pub pool: PathBuf,
    /// Whom to tell when it serves.
    pub ready: Option<Ready>,
    /// Leave when unused for this long. None: stay until told.
    pub idle: Option<Duration>,
}

impl Options {
    /// COWFS_IDLE_SECS, else a few seconds.
    pub fn usual_idle() -> Duration {
        let secs = std::env::var("COWFS_IDLE_SECS")
            .ok()
            .and_then(|s| s.parse::<f64>().ok());
        secs.and_then(|s| Duration::try_from_secs_f64(s).ok())
            .unwrap_or(IDLE)
    }
}

/// Runs the daemon in this process until it may leave.
pub fn serve(options: Options) -> Result<()> {
    let Options {
        pool: dir,
        mut ready,
        idle,
    } = options;
    if let Some(r) = &mut ready {
        r.say(&Readiness::Starting);
    }
    let mut server = match Server::open(&dir, idle) {
        Ok(s) => s,
        Err(e) => {
            if let Some(r) = &mut ready {
                r.failed(&e);
            }
            return Err(e);
        }
    };
    if let Some(mut r) = ready.take() {
        r.say(&Readiness::Ready);
    }
    log::info!(
        "cowfs {} serves {} (process {})",
        env!("CARGO_PKG_VERSION"),
        dir.display(),
        std::process::id()
    );
    systemd::notify(&format!(
        "READY=1\nMAINPID={}\nSTATUS=serving {}",
        std::process::id(),
        dir.display()
    ));
    server.run();
    server.leave()
}

struct Server {
    dir: PathBuf,
    listener: UnixListener,
    signals: OwnedFd,
    wake: OwnedFd,
    state: Arc<State>,
    idle: Option<Duration>,
    /// The pool's lock is in here.
    opened: Opened,
}

impl Server {
    fn open(dir: &Path, idle: Option<Duration>) -> Result<Server> {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        check_owner(dir)?;
        raise_limits();
        let what = || format!("starting the daemon of {}", dir.display());
        let signals = signals().map_err(|e| Error::io(what(), e))?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|e| Error::io(what(), e.into()))?;
        let waker = wake.try_clone().map_err(|e| Error::io(what(), e))?;
        let opened = Pool::open_dir(dir, Config::default())?;
        // The pool's lock is ours: whatever socket is there has nobody behind it.
        let listener = match listen(dir) {
            Ok(l) => l,
            Err(e) => {
                let _ = opened.pool.close();
                return Err(Error::io(dir.join(SOCKET).display().to_string(), e));
            }
        };
        let state = Arc::new(State::new(opened.pool.clone(), dir.to_path_buf(), waker));
        Ok(Server {
            dir: dir.to_path_buf(),
            listener,
            signals,
            wake,
            state,
            idle,
            opened,
        })
    }

    fn run(&mut self) {
        let mut unused_since = Instant::now();
        let mut told = 0u32;
        let mut deadline = None;
        loop {
            let used = self.state.clients() > 0 || self.state.mounts.count() > 0;
            if used {
                unused_since = Instant::now();
            }
            let mut wait = None;
            if told > 0 {
                match (self.state.mounts.count(), self.state.clients(), deadline) {
                    (0, 0, _) => return,
                    (0, _, Some(d)) => {
                        let left = Instant::now();
                        if left >= d {
                            log::warn!("requests did not end in time: leaving without them");
                            return;
                        }
                        wait = Some(d - left);
                    }
                    (0, _, None) => {
                        deadline = Some(Instant::now() + DRAIN);
                        continue;
                    }
                    _ => deadline = None,
                }
            } else if let (false, Some(idle)) = (used, self.idle) {
                let passed = unused_since.elapsed();
                let idle = if self.state.visited() {
                    idle
                } else {
                    idle.max(FIRST)
                };
                if passed >= idle && !self.state.reclaiming() {
                    log::info!("nobody uses {}: leaving", self.dir.display());
                    return;
                }
                wait = Some(idle.saturating_sub(passed).max(Duration::from_millis(100)));
            }
            let (accept, signal) = self.wait(wait);
            if accept {
                self.accept();
            }
            if signal {
                told += 1;
                self.told(told);
            }
            if self.state.stop_asked() && told == 0 {
                told = 1;
                self.told(told);
            }
        }
    }

    /// Waits for a client, a signal, or a change; answers whether the first two came.
    fn wait(&self, limit: Option<Duration>) -> (bool, bool) {
        let limit = limit.map(|d| Timespec {
            tv_sec: d.as_secs() as i64,
            tv_nsec: i64::from(d.subsec_nanos()),
        });
        let mut fds = [
            PollFd::new(&self.listener, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.wake, PollFlags::IN),
        ];
        if poll(&mut fds, limit.as_ref()).is_err() {
            return (false, false);
        }
        let came = |i: usize| {
            fds.get(i)
                .is_some_and(|f| f.revents().contains(PollFlags::IN))
        };
        if came(2) {
            let _ = rustix::io::read(&self.wake, &mut [0u8; 8]);
        }
        let mut signal = false;
        if came(1) {
            let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
            signal = rustix::io::read(&self.signals, &mut info).is_ok();
        }
        (came(0), signal)
    }

    fn accept(&self) {
        let stream = match self.listener.accept() {
            Ok((s, _)) => s,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return;
            }
            Err(e) => {
                log::warn!("accept: {e}");
                std::thread::sleep(Duration::from_millis(50));
                return;
            }
        };
        // On its way out: without a greeting the client goes to the next daemon.
        if (self.state.draining() || self.state.stop_asked()) && self.state.mounts.count() == 0 {
            return;
        }
        if let Err(e) = self.admit(stream) {
            log::warn!("a client was turned away: {e}");
        }
    }

    fn admit(&self, stream: UnixStream) -> io::Result<()> {
        let mut greeting = Greeting {
            version: VERSION,
            pid: std::process::id(),
            program: env!("CARGO_PKG_VERSION").into(),
            refusal: None,
        };
        let peer = rustix::net::sockopt::socket_peercred(&stream)?;
        let (uid, me) = (peer.uid.as_raw(), rustix::process::geteuid().as_raw());
        // Root may do anything to this process anyway; its own commands refuse before they come here.
        if uid != me && uid != 0 {
            greeting.refusal = Some(format!("the pool {} is user {me}'s", self.dir.display()));
        } else if self.state.clients() >= CLIENTS_MAX {
            greeting.refusal = Some(format!(
                "it serves {CLIENTS_MAX} clients already; try again later"
            ));
        }
        let refused = greeting.refusal.clone();
        let guard = self.state.admit(&stream)?;
        let mut wire = Wire::new(stream);
        wire.send(&greeting, &[])?;
        if let Some(why) = refused {
            return Err(io::Error::other(why));
        }
        let state = self.state.clone();
        std::thread::Builder::new()
            .name("client".into())
            .stack_size(2 << 20)
            .spawn(move || session::serve(&state, wire, guard))?;
        Ok(())
    }

    /// SIGTERM or SIGINT, for the n-th time.
    fn told(&self, n: u32) {
        self.state.drain();
        let mounts = self.state.mounts.count();
        if mounts == 0 {
            return;
        }
        if n == 1 {
            let text = format!(
                "told to end; {mounts} mounts are in use: leaving when the last is unmounted"
            );
            log::warn!("{text} (tell again to cut them off)");
            systemd::notify(&format!("STATUS={text}"));
            if let Err(e) = self.state.pool.sync() {
                log::error!("sync: {e}");
            }
        } else {
            log::warn!("told to end again: cutting off {mounts} mounts");
            self.state.mounts.abort_all();
        }
    }

    fn leave(self) -> Result<()> {
        systemd::notify("STOPPING=1");
        // First the name: who comes from now on finds no socket, and starts the next daemon, which
        // waits for our lock. Who waits in the queue is not greeted, and does the same.
        let _ = std::fs::remove_file(self.dir.join(SOCKET));
        drop(self.listener);
        let closed = self.opened.pool.close();
        match &closed {
            Ok(()) => log::info!("left {}", self.dir.display()),
            Err(e) => log::error!("closing {}: {e}", self.dir.display()),
        }
        closed
    }
}

/// Binds beside the name and moves it there, so that the socket appears with its mode, at once.
fn listen(dir: &Path) -> io::Result<UnixListener> {
    use rustix::fs::{Mode, OFlags, open};
    let at = open(
        dir,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let new = format!("{SOCKET}.new");
    match std::fs::remove_file(dir.join(&new)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // Through the descriptor: a socket's path may only have 107 bytes.
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{new}", at.as_raw_fd()))?;
    std::fs::set_permissions(
        dir.join(&new),
        std::os::unix::fs::PermissionsExt::from_mode(0o600),
    )?;
    listener.set_nonblocking(true)?;
    std::fs::rename(dir.join(&new), dir.join(SOCKET))?;
    Ok(listener)
}

/// SIGTERM, SIGINT and SIGHUP become readable; no thread is interrupted by them.
fn signals() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before anything reads it; the other calls take it by
    // pointer for their own duration.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in [libc::SIGTERM, libc::SIGINT] {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        if libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Each mount holds a few descriptors: as many as we may.
fn raise_limits() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Wakes the main loop.
pub(super) fn wake(fd: &OwnedFd) {
    let _ = rustix::io::write(fd.as_fd(), &1u64.to_ne_bytes());
}
