//! What is open and what is mounted: one `Fs` a volume, shared by its mounts and by the commands that
//! need no mount.

use super::proto::{Ended, Mount, MountOptions, Raw, Response};
use super::resolve;
use super::server::wake;
use crate::base::{Error, Ino, Result, Time, VolumeId};
use crate::fs::{Attr, Fs};
use crate::fuse::{Connection, ServeOptions, Squash};
use crate::pool::{Pool, VolumeInfo};
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How long the end of a connection is waited for after its unmount. Longer: it lives elsewhere.
const END: Duration = Duration::from_secs(2);

/// The table.
pub(super) struct Mounts {
    pool: Arc<Pool>,
    shared: Arc<Shared>,
    open: Mutex<HashMap<VolumeId, Arc<Slot>>>,
}

/// A volume's open file system, if any. Its lock is held while it is opened: never twice at a time.
type Slot = Mutex<Weak<Fs>>;

struct Shared {
    table: Mutex<Table>,
    changed: Condvar,
    waker: Arc<OwnedFd>,
}

#[derive(Default)]
struct Table {
    next: u64,
    served: BTreeMap<u64, Served>,
}

struct Served {
    mount: Mount,
    /// None while it is being set up.
    connection: Option<Arc<Connection>>,
    fs: Arc<Fs>,
}

impl Mounts {
    pub fn new(pool: Arc<Pool>, waker: Arc<OwnedFd>) -> Mounts {
        let shared = Shared {
            table: Mutex::new(Table {
                next: 1,
                served: BTreeMap::new(),
            }),
            changed: Condvar::new(),
            waker,
        };
        Mounts {
            pool,
            shared: Arc::new(shared),
            open: Mutex::new(HashMap::new()),
        }
    }

    /// The file system of a volume, opened if it is not. Opening finishes what a crash left.
    pub fn fs(&self, id: VolumeId) -> Result<Arc<Fs>> {
        let slot = {
            let mut open = self.open.lock();
            if open.len() > 256 {
                open.retain(|_, s| s.try_lock().is_none_or(|fs| fs.strong_count() > 0));
            }
            open.entry(id).or_default().clone()
        };
        let mut weak = slot.lock();
        if let Some(fs) = weak.upgrade() {
            return Ok(fs);
        }
        let fs = Fs::open(self.pool.volume(id)?)?;
        *weak = Arc::downgrade(&fs);
        Ok(fs)
    }

    pub fn count(&self) -> usize {
        self.shared.table.lock().served.len()
    }

    /// In the order they were made.
    pub fn list(&self) -> Vec<Mount> {
        self.shared
            .table
            .lock()
            .served
            .values()
            .map(|s| s.mount.clone())
            .collect()
    }

    pub fn of(&self, id: VolumeId) -> Vec<Mount> {
        self.shared
            .table
            .lock()
            .served
            .values()
            .filter(|s| s.mount.volume == id)
            .map(|s| s.mount.clone())
            .collect()
    }

    fn connections(&self, id: VolumeId) -> Vec<Arc<Connection>> {
        let table = self.shared.table.lock();
        table
            .served
            .values()
            .filter(|s| s.mount.volume == id)
            .filter_map(|s| s.connection.clone())
            .collect()
    }

    /// Serves a /dev/fuse descriptor for a volume.
    pub fn serve(
        &self,
        name: &str,
        dir: Raw,
        options: &MountOptions,
        device: OwnedFd,
    ) -> Result<Response> {
        let info = resolve::any(&self.pool, name)?;
        let read_only = options.read_only || info.sealed;
        if info.building {
            return Err(Error::Busy(format!(
                "{} is being imported; mount it when that is done",
                info.name
            )));
        }
        // From here on it is in use: not rolled back, and removed only when we are done.
        let fs = self.fs(info.id)?;
        let mount = {
            let mut table = self.shared.table.lock();
            let same = table
                .served
                .values()
                .find(|s| s.mount.volume == info.id && !(s.mount.read_only && info.sealed));
            if let Some(s) = same {
                return Err(Error::Busy(format!(
                    "{} is mounted on {} already; unmount it there, or use 'mount --bind {} DIR'",
                    info.name, s.mount.dir, s.mount.dir
                )));
            }
            let id = table.next;
            table.next += 1;
            let mount = Mount {
                id,
                name: info.name.clone(),
                volume: info.id,
                dir,
                read_only,
                connection: None,
                pid: options.pid,
                since: Time::now(),
            };
            table.served.insert(
                id,
                Served {
                    mount: mount.clone(),
                    connection: None,
                    fs: fs.clone(),
                },
            );
            mount
        };
        let serve = ServeOptions {
            read_only,
            atime: !options.noatime,
            squash: Squash {
                uid: options.uid,
                gid: options.gid,
            },
            ..ServeOptions::default()
        };
        let connection = match crate::fuse::serve(fs, device, serve) {
            Ok(connection) => Arc::new(connection),
            Err(e) => {
                self.shared.end(mount.id);
                return Err(e);
            }
        };
        if let Some(s) = self.shared.table.lock().served.get_mut(&mount.id) {
            s.mount.connection = connection.number();
            s.connection = Some(connection.clone());
        }
        log::info!("{} is mounted on {}", mount.name, mount.dir);
        let (shared, id) = (self.shared.clone(), mount.id);
        connection.on_end(move || shared.end(id));
        Ok(Response::Mounted(Mount {
            connection: connection.number(),
            ..mount
        }))
    }

    pub fn attached(&self, mount: u64, connection: u32) -> Result<Response> {
        match self.shared.table.lock().served.get_mut(&mount) {
            Some(s) => s.mount.connection = Some(connection),
            None => return Err(Error::NotFound(format!("mount {mount} has ended"))),
        }
        Ok(Response::Done)
    }

    /// After an unmount: waits for the connection's end, then makes the volume durable.
    pub fn unmounted(&self, mount: u64) -> Result<Response> {
        let deadline = Instant::now() + END;
        let mut table = self.shared.table.lock();
        let Some(volume) = table.served.get(&mount).map(|s| s.mount.volume) else {
            drop(table);
            self.pool.sync()?;
            return Ok(Response::Ended(Ended { ended: true }));
        };
        while table.served.contains_key(&mount) {
            if self
                .shared
                .changed
                .wait_until(&mut table, deadline)
                .timed_out()
            {
                break;
            }
        }
        let ended = !table.served.contains_key(&mount);
        drop(table);
        if !ended {
            self.flush(volume);
        }
        self.fs(volume)?.volume().sync()?;
        Ok(Response::Ended(Ended { ended }))
    }

    pub fn sync(&self, name: &str) -> Result<Response> {
        let info = resolve::any(&self.pool, name)?;
        self.flush(info.id);
        if !info.sealed {
            self.pool.volume(info.id)?.sync()?;
        }
        Ok(Response::Done)
    }

    /// What the kernel keeps of files open for writing comes to us.
    pub fn flush(&self, id: VolumeId) {
        for connection in self.connections(id) {
            connection.flush_dirty();
        }
    }

    /// The same of one file.
    pub fn flush_file(&self, id: VolumeId, ino: Ino) {
        for connection in self.connections(id) {
            connection.flush_file(ino);
        }
    }

    /// A name changed behind the kernel's back: it must ask again.
    pub fn entry_changed(&self, id: VolumeId, dir: Ino, name: &[u8]) {
        for connection in self.connections(id) {
            if let Err(e) = connection.entry_changed(dir, name) {
                log::warn!("{e}");
            }
        }
    }

    /// What lost its last name goes: now, or when the kernel no longer uses it.
    pub fn unlinked(&self, fs: &Fs, gone: &Attr) -> Result<()> {
        match self.connections(fs.volume().id()).first() {
            Some(connection) => connection.unlinked(gone),
            None if gone.nlink == 0 => fs.forget(gone.ino)?,
            None => {}
        }
        Ok(())
    }

    /// Cuts every connection off: whoever uses them gets errors.
    pub fn abort_all(&self) {
        let all: Vec<_> = {
            let table = self.shared.table.lock();
            table
                .served
                .values()
                .map(|s| (s.mount.clone(), s.connection.clone()))
                .collect()
        };
        for (mount, connection) in all {
            let number = connection
                .as_ref()
                .and_then(|c| c.number())
                .or(mount.connection);
            let aborted = match number {
                Some(n) => crate::fuse::mount::abort(n),
                None => Err(Error::Denied("this kernel does not tell its number".into())),
            };
            if let Err(e) = aborted {
                log::error!(
                    "cannot cut off the mount of {} on {}: {e}",
                    mount.name,
                    mount.dir
                );
            }
        }
    }

    /// `Busy`, with where, when the volume is mounted.
    pub fn refuse_mounted(&self, info: &VolumeInfo) -> Result<()> {
        match self.of(info.id).first() {
            Some(m) => Err(Error::Busy(format!(
                "{} is mounted on {}; unmount it first",
                info.name, m.dir
            ))),
            None => Ok(()),
        }
    }
}

impl Shared {
    fn end(&self, mount: u64) {
        let ended = self.table.lock().served.remove(&mount);
        self.changed.notify_all();
        let Some(ended) = ended else { return };
        log::info!(
            "{} is no longer mounted on {}",
            ended.mount.name,
            ended.mount.dir
        );
        // umount(2) tells us nothing but this: what was written becomes durable now.
        let volume = ended.fs.volume().clone();
        drop(ended);
        if !volume.sealed()
            && let Err(e) = volume.sync()
        {
            log::error!("sync of volume {}: {e}", volume.id());
        }
        drop(volume);
        wake(&self.waker);
    }
}
