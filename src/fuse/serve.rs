//! Serving a /dev/fuse descriptor that somebody mounted: the daemon's side.

use super::counters::Counters;
use super::door::{Door, Jobs};
use super::handle::Handle;
use super::known::Known;
use super::options::Squash;
use super::touched::Touched;
use crate::base::{Error, Ino, Result};
use crate::fs::{Attr, Fs};
use fuser::{INodeNo, Notifier, Session, SessionACL};
use parking_lot::{Condvar, Mutex};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A mount that was made sends its first request at once; without one the descriptor belongs to none.
const PATIENCE: Duration = Duration::from_secs(10);
/// Threads of one connection at most, however many CPUs there are.
const MOST_THREADS: usize = 16;
/// Threads of all connections above which a new one gets a single one.
const ALL_THREADS: usize = 256;

/// How to serve.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// The mount is made read-only (a sealed volume needs no word); `mount -o remount,rw` may change that later.
    pub read_only: bool,
    /// Keep access times (relatime).
    pub atime: bool,
    pub squash: Squash,
    /// Threads that take requests; 0: as many as CPUs.
    pub threads: usize,
}

impl Default for ServeOptions {
    fn default() -> ServeOptions {
        ServeOptions {
            read_only: false,
            atime: true,
            squash: Squash::default(),
            threads: 0,
        }
    }
}

/// One mounted volume, as the daemon sees it. It lives until the last mount of it is gone; dropping this changes nothing.
pub struct Connection {
    door: Arc<Door>,
    end: Arc<End>,
    number: Option<u32>,
}

type Callback = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct End {
    state: Mutex<EndState>,
    reached: Condvar,
}

#[derive(Default)]
struct EndState {
    ended: bool,
    callbacks: Vec<Callback>,
}

/// Begins to serve; returns when the kernel and we have agreed (INIT), from when on the mount is usable.
///
/// Errors: `Invalid` where `device` is no /dev/fuse, or nothing was mounted with it.
pub fn serve(fs: Arc<Fs>, device: OwnedFd, options: ServeOptions) -> Result<Connection> {
    let number = ready(&device)?;
    let sealed = fs.volume().sealed();
    let door = Arc::new(Door {
        fs,
        sealed,
        keep_back: !sealed && !options.read_only,
        atime: options.atime && !options.read_only,
        squash: options.squash,
        counters: Counters::default(),
        writeback: AtomicBool::new(false),
        known: Known::default(),
        orphans: Mutex::default(),
        touched: Touched::default(),
        notifier: OnceLock::new(),
        jobs: Jobs::default(),
    });
    let threads = Threads::take(options.threads);
    let mut config = fuser::Config::default();
    config.n_threads = Some(threads.0);
    // The kernel knows who may enter: whoever else asks was let in by allow_other or lives in the mount's user namespace.
    let session = Session::from_fd(Handle(door.clone()), device, SessionACL::All, config)
        .map_err(|e| Error::io("the kernel and cowfs do not agree on a FUSE protocol", e))?;
    let _ = door.notifier.set(session.notifier());

    let end = Arc::new(End::default());
    let run = {
        let (door, end) = (door.clone(), end.clone());
        move || {
            if let Err(e) = session.run() {
                log::error!("a FUSE connection ended: {e}");
            }
            drop(threads);
            door.ended();
            end.reach();
        }
    };
    std::thread::Builder::new()
        .name("fuse-connection".into())
        .spawn(run)
        .map_err(|e| Error::io("cannot start a thread", e))?;
    Ok(Connection { door, end, number })
}

/// Threads that take requests, of all connections of this process.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// A connection's share of them.
struct Threads(usize);

impl Threads {
    /// As many as wanted (0: as CPUs); one alone once there are many: it hands on whatever takes long.
    fn take(wanted: usize) -> Threads {
        let cpus = || std::thread::available_parallelism().map_or(2, usize::from);
        let wanted = if wanted == 0 { cpus() } else { wanted }.clamp(1, MOST_THREADS);
        let taken = TAKEN.load(Ordering::Relaxed);
        let share = if taken + wanted > ALL_THREADS {
            1
        } else {
            wanted
        };
        TAKEN.fetch_add(share, Ordering::Relaxed);
        Threads(share)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        TAKEN.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Waits for the first request and answers the connection's number, where this kernel tells.
fn ready(device: &OwnedFd) -> Result<Option<u32>> {
    let what = "the descriptor to serve";
    let stat = rustix::fs::fstat(device).map_err(|e| Error::io(what, e.into()))?;
    if stat.st_rdev != rustix::fs::makedev(10, 229) || stat.st_mode & libc::S_IFMT != libc::S_IFCHR
    {
        return Err(Error::Invalid(format!("{what} is not /dev/fuse")));
    }
    // The transport would spin on a descriptor that does not block.
    let flags = rustix::fs::fcntl_getfl(device).map_err(|e| Error::io(what, e.into()))?;
    rustix::fs::fcntl_setfl(device, flags - OFlags::NONBLOCK)
        .map_err(|e| Error::io(what, e.into()))?;
    let end = Instant::now() + PATIENCE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let mut fds = [PollFd::new(device, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(Error::io(what, e.into())),
            Ok(_)
                if fds[0].revents().contains(PollFlags::IN)
                    && !fds[0].revents().contains(PollFlags::ERR) =>
            {
                break;
            }
            Ok(_) => {
                return Err(Error::Invalid(
                    "nothing is mounted with this /dev/fuse descriptor".into(),
                ));
            }
        }
    }
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", device.as_raw_fd()))
        .unwrap_or_default();
    Ok(info
        .lines()
        .find_map(|l| l.strip_prefix("fuse_connection:"))
        .and_then(|n| n.trim().parse().ok()))
}

impl End {
    fn reach(&self) {
        let callbacks = {
            let mut state = self.state.lock();
            state.ended = true;
            std::mem::take(&mut state.callbacks)
        };
        self.reached.notify_all();
        for callback in callbacks {
            callback();
        }
    }
}

impl Connection {
    pub fn fs(&self) -> &Arc<Fs> {
        &self.door.fs
    }

    pub fn counters(&self) -> &Counters {
        &self.door.counters
    }

    /// Nothing in it can change.
    pub fn sealed(&self) -> bool {
        self.door.sealed
    }

    /// The number under which /sys/fs/fuse/connections knows it: `MountInfo::connection` of its mounts. Kernels before
    /// Linux 6.15 do not tell.
    pub fn number(&self) -> Option<u32> {
        self.number
    }

    pub fn ended(&self) -> bool {
        self.end.state.lock().ended
    }

    /// Runs once the connection has ended, on its own thread; at once where it has already.
    pub fn on_end(&self, callback: impl FnOnce() + Send + 'static) {
        let mut state = self.end.state.lock();
        if state.ended {
            drop(state);
            callback();
        } else {
            state.callbacks.push(Box::new(callback));
        }
    }

    /// Waits for the end; answers whether it came in time.
    pub fn wait(&self, most: Duration) -> bool {
        let until = Instant::now().checked_add(most);
        let mut state = self.end.state.lock();
        while !state.ended {
            match until {
                Some(until) if self.end.reached.wait_until(&mut state, until).timed_out() => {
                    return state.ended;
                }
                Some(_) => {}
                None => self.end.reached.wait(&mut state),
            }
        }
        true
    }

    /// Ends it from this side: programs in the mount get errors, what the kernel kept of writes is lost.
    pub fn abort(&self) -> Result<()> {
        match self.number {
            Some(number) => super::mount::abort(number),
            None => Err(Error::Denied(
                "this kernel does not tell the connection's number; 'umount -f' its mount point"
                    .into(),
            )),
        }
    }

    /// Has the kernel send what it keeps of writes, before a snapshot. Call it with no gate held. What programs
    /// write meanwhile may be in or out. Where the daemon can see the mount point, `mount::flush` does the
    /// same and spares the kernel's caches.
    pub fn flush_dirty(&self) {
        if self.door.sealed || self.ended() {
            return;
        }
        for ino in self.door.known.list() {
            self.door.flush(ino, 0);
        }
    }

    /// The same for one file, before it is read from outside.
    pub fn flush_file(&self, ino: Ino) {
        if !self.door.sealed && !self.ended() {
            self.door.flush(ino, 0);
        }
    }

    /// A name of this directory changed from outside (created, removed, renamed): the kernel asks again.
    pub fn entry_changed(&self, dir: Ino, name: &[u8]) -> Result<()> {
        self.notify(|n| n.inval_entry(INodeNo(dir), OsStr::from_bytes(name)))?;
        // The directory's own times and its cached listing.
        self.notify(|n| n.inval_inode(INodeNo(dir), 0, 0))
    }

    /// A file's content or attributes changed from outside: the kernel drops what it has of it, after sending what
    /// it kept of writes.
    pub fn inode_changed(&self, ino: Ino) -> Result<()> {
        self.door.touched.changed(ino);
        self.notify(|n| n.inval_inode(INodeNo(ino), 0, 0))
    }

    /// After an unlink, rmdir or rename from outside, with what these answered: what has lost its last name is reaped
    /// when the kernel forgets it (at the latest when the connection ends), or now if it does not know it. In place of
    /// `Fs::forget`.
    pub fn unlinked(&self, gone: &Attr) {
        if gone.nlink > 0 {
            return;
        }
        let file = gone.mode & libc::S_IFMT == libc::S_IFREG;
        if self.ended() || (file && !self.door.known.has(gone.ino)) {
            self.door.reap(gone.ino);
        } else {
            self.door.unlinked(gone);
            // Ended just now: nobody else would reap it.
            if self.ended() {
                self.door.ended();
            }
        }
    }

    fn notify(&self, send: impl FnOnce(&Notifier) -> io::Result<()>) -> Result<()> {
        match self.door.notifier.get() {
            Some(notifier) if !self.ended() => match send(notifier) {
                // Ended meanwhile.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENODEV | libc::ENOTCONN)) => Ok(()),
                other => other.map_err(|e| Error::io("cannot tell the kernel of a change", e)),
            },
            _ => Ok(()),
        }
    }
}
