//! What all threads of the daemon share.

use super::mounts::Mounts;
use super::server::wake;
use crate::base::{Error, Result};
use crate::pool::Pool;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

pub(super) struct State {
    pub pool: Arc<Pool>,
    /// The pool's directory, absolute.
    pub dir: PathBuf,
    pub mounts: Mounts,
    /// Held while names are looked at and then changed (create, rename, remove ...), so that what was
    /// found still holds. Never held while waiting for a client.
    pub naming: Mutex<()>,
    /// Imports under way: layers nobody names yet are theirs.
    pub imports: AtomicUsize,
    clients: Mutex<HashMap<u64, Seat>>,
    next: AtomicU64,
    draining: AtomicBool,
    stop: AtomicBool,
    waker: Arc<OwnedFd>,
}

/// A client as the main thread sees it.
struct Seat {
    stream: UnixStream,
    busy: bool,
}

/// One client's presence; dropped, the client is gone.
pub(super) struct Guard {
    state: Arc<State>,
    id: u64,
}

impl State {
    pub fn new(pool: Arc<Pool>, dir: PathBuf, waker: OwnedFd) -> State {
        let waker = Arc::new(waker);
        State {
            mounts: Mounts::new(pool.clone(), waker.clone()),
            pool,
            dir,
            naming: Mutex::new(()),
            imports: AtomicUsize::new(0),
            clients: Mutex::new(HashMap::new()),
            next: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            waker,
        }
    }

    pub fn clients(&self) -> usize {
        self.clients.lock().len()
    }

    /// Whether anybody has come yet.
    pub fn visited(&self) -> bool {
        self.next.load(Ordering::Relaxed) > 1
    }

    pub fn admit(self: &Arc<Self>, stream: &UnixStream) -> io::Result<Guard> {
        let stream = stream.try_clone()?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.clients.lock().insert(
            id,
            Seat {
                stream,
                busy: false,
            },
        );
        Ok(Guard {
            state: self.clone(),
            id,
        })
    }

    /// Whether freed space is still being given back.
    pub fn reclaiming(&self) -> bool {
        self.pool
            .status()
            .is_ok_and(|s| s.reclaiming > 0 && s.failed.is_none())
    }

    /// No new work from now on; who waits for nothing is let go.
    pub fn drain(&self) {
        let clients = self.clients.lock();
        self.draining.store(true, Ordering::SeqCst);
        for seat in clients.values().filter(|s| !s.busy) {
            let _ = seat.stream.shutdown(std::net::Shutdown::Read);
        }
    }

    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    /// A client asked the daemon to end.
    pub fn ask_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        wake(&self.waker);
    }

    pub fn stop_asked(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Runs something alone among those that change names.
    pub fn naming<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<T> {
        let _alone = self.naming.lock();
        f()
    }

    pub fn refuse_when_draining(&self) -> Result<()> {
        if self.draining() {
            return Err(Error::Busy("the daemon was told to end and takes no new work; try again when its mounts are gone".into()));
        }
        Ok(())
    }
}

impl Guard {
    /// Between requests a client may be let go at any time; during one it is waited for.
    pub fn busy(&self, busy: bool) {
        if let Some(seat) = self.state.clients.lock().get_mut(&self.id) {
            seat.busy = busy;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.state.clients.lock().remove(&self.id);
        wake(&self.state.waker);
    }
}
