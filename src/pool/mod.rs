//! The pool: operations, log, checkpoint, catalog, recovery, reclaim, check.

use crate::base::{Error, Result, Time, VolumeId};
use crate::device::Device;
use crate::space::Space;
use crate::tree::{Key, Read};
use serde::{Deserialize, Serialize};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::Arc;

/// A pool's three devices.
#[derive(Clone)]
pub struct Devices {
    pub metadata: Arc<dyn Device>,
    pub data: Arc<dyn Device>,
    pub log: Arc<dyn Device>,
}

/// What `create` decides for good, or until changed.
#[derive(Clone, Debug)]
pub struct Format {
    pub name: String,
    /// Bounds the data device, bytes.
    pub size: u64,
    /// Power of two, 64 KiB to 1 MiB.
    pub chunk_size: u64,
    /// Size limit of new containers, bytes.
    pub container_size: Option<u64>,
    /// Bytes of the ring of records.
    pub log_size: u64,
}

impl Default for Format {
    fn default() -> Format {
        Format { name: "cowfs".into(), size: 100 << 30, chunk_size: crate::base::CHUNK_MIN, container_size: None, log_size: 32 << 20 }
    }
}

/// What opening may choose.
#[derive(Clone, Debug)]
pub struct Config {
    /// Identifies this boot and this mount of the pool's directory: an equal one found in the
    /// superblock means that everything written was kept (kill -9), a different one a power cut.
    pub boot: [u8; 32],
    /// Bound of the clean nodes in memory.
    pub cache_bytes: usize,
    /// Time between checkpoints; zero: no background thread at all (tests drive everything).
    pub interval: std::time::Duration,
    /// Punch or discard freed chunks.
    pub discard: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Image,
    Container,
    Layer,
    Snapshot,
}

/// A volume as the catalog knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeInfo {
    pub id: VolumeId,
    pub name: String,
    pub kind: Kind,
    /// What it was cloned from (may be gone by now).
    pub source: Option<VolumeId>,
    pub created: Time,
    /// Never written again.
    pub sealed: bool,
    /// Being imported; vanishes if that does not end.
    pub building: bool,
    /// Removed while in use: goes when its last user goes.
    pub removing: bool,
    /// Size limit, bytes.
    pub limit: Option<u64>,
    /// Bytes of blocks its files refer to, shared or not.
    pub used: u64,
    pub inodes: u64,
}

#[derive(Clone, Debug)]
pub struct NewVolume {
    pub name: String,
    pub kind: Kind,
    /// Clone of this volume, O(1); none: empty.
    pub source: Option<VolumeId>,
    pub limit: Option<u64>,
    /// Not logged while it is being filled; `Pool::finish` makes it real, a crash removes it.
    pub building: bool,
    /// Never written: a snapshot.
    pub sealed: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub name: String,
    pub uuid: String,
    pub chunk_size: u64,
    pub data: SpaceStatus,
    pub metadata: SpaceStatus,
    pub log_size: u64,
    pub log_used: u64,
    /// Checkpoints so far.
    pub transaction: u64,
    pub volumes: u64,
    pub deferred_removals: u64,
    /// References waiting for the reclaimer.
    pub reclaiming: u64,
    /// "ok", "low", "critical" or "full".
    pub level: String,
    /// Set when the pool refuses writes.
    pub failed: Option<String>,
}

/// Bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SpaceStatus {
    pub used: u64,
    pub total: u64,
    pub available: u64,
    /// Really taken from the host.
    pub real: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CheckReport {
    pub problems: Vec<String>,
    pub volumes: u64,
    pub nodes: u64,
    pub chunks: u64,
}

pub struct Pool {}

#[allow(unused_variables)]
impl Pool {
    pub fn format(devices: &Devices, format: &Format) -> Result<()> { todo!() }
    /// Recovers if needed, then serves. Refuses what is not a pool, damaged or of another version.
    pub fn open(devices: Devices, config: Config) -> Result<Arc<Pool>> { todo!() }
    /// Checkpoints and stops the background thread. Volumes must not be used any more.
    pub fn close(&self) -> Result<()> { todo!() }
    /// Everything answered so far becomes durable.
    pub fn sync(&self) -> Result<()> { todo!() }
    pub fn checkpoint(&self) -> Result<()> { todo!() }
    pub fn status(&self) -> Result<Status> { todo!() }
    /// Walks everything; safe while the pool is in use.
    pub fn check(&self, progress: &dyn Fn(u64, u64)) -> Result<CheckReport> { todo!() }
    pub fn chunk_size(&self) -> u64 { todo!() }

    pub fn volumes(&self) -> Result<Vec<VolumeInfo>> { todo!() }
    pub fn find(&self, name: &str) -> Result<Option<VolumeInfo>> { todo!() }
    pub fn info(&self, id: VolumeId) -> Result<VolumeInfo> { todo!() }
    /// Opens a volume for use; it counts as used while any clone of the Arc lives.
    pub fn volume(self: &Arc<Self>, id: VolumeId) -> Result<Arc<Volume>> { todo!() }
    /// `Exists` when the name is taken. O(1). For a source in use: contains whole operations only.
    pub fn create(&self, new: &NewVolume) -> Result<VolumeInfo> { todo!() }
    pub fn rename(&self, id: VolumeId, name: &str) -> Result<()> { todo!() }
    /// Ends `building` of all these at once, durably; `sealed` as said.
    pub fn finish(&self, ids: &[(VolumeId, bool)]) -> Result<()> { todo!() }
    /// Name gone at once, space later; deferred while in use. Removing what is gone is success.
    pub fn remove(&self, id: VolumeId) -> Result<()> { todo!() }
    /// The volume's content becomes the snapshot's; its name, id and inode counter stay.
    /// `Busy` while in use.
    pub fn rollback(&self, id: VolumeId, snapshot: VolumeId) -> Result<()> { todo!() }
    pub fn set_limit(&self, id: VolumeId, limit: Option<u64>) -> Result<()> { todo!() }
    /// A named blob beside a volume (at most 4 MiB); cloned volumes start without.
    pub fn put_blob(&self, id: VolumeId, name: &str, bytes: &[u8]) -> Result<()> { todo!() }
    pub fn blob(&self, id: VolumeId, name: &str) -> Result<Option<Vec<u8>>> { todo!() }
    /// Keys that differ between two volumes' trees, with both values.
    pub fn diff(&self, a: VolumeId, b: VolumeId, each: &mut dyn FnMut(&Key, Option<&[u8]>, Option<&[u8]>) -> Result<()>) -> Result<()> { todo!() }
    /// Opens a pool directory: `data`, `metadata`, `log`, `lock`. Takes the lock.
    pub fn open_dir(dir: &Path, config: Option<Config>) -> Result<Arc<Pool>> { todo!() }
    /// Makes a pool directory; `data`/`metadata` elsewhere (a block device) become symbolic links.
    pub fn create_dir(dir: &Path, format: &Format, data: Option<&Path>, metadata: Option<&Path>) -> Result<()> { todo!() }
}

/// What an operation may need, set aside before it passes the gate.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Keys put or deleted at most by any one `update` of this passage.
    pub keys: u32,
    /// Bytes of values put at most by any one `update`.
    pub bytes: u32,
    /// Deleting frees space: may use the pool's last reserve.
    pub frees: bool,
}

impl Need {
    pub const READ: Need = Need { keys: 0, bytes: 0, frees: false };
    /// Any namespace operation.
    pub const SMALL: Need = Need { keys: 24, bytes: 16 << 10, frees: false };
    /// Any operation that gives space back, in a bounded step.
    pub const FREE: Need = Need { keys: 64, bytes: 16 << 10, frees: true };
}

/// A volume in use. (Its thin address space is room `volume`, its files room `fs`.)
pub struct Volume {}

#[allow(unused_variables)]
impl Volume {
    pub fn id(&self) -> VolumeId { todo!() }
    pub fn pool(&self) -> &Arc<Pool> { todo!() }
    pub fn sealed(&self) -> bool { todo!() }
    /// Size limit, bytes.
    pub fn limit(&self) -> Option<u64> { todo!() }
    /// Bytes of blocks in use by mapping items, and inodes.
    pub fn usage(&self) -> (u64, u64) { todo!() }
    /// Sets aside what the operation needs, then passes the pool's and the volume's gate, shared.
    /// Never call it while holding an `Entered`, or a lock that somebody inside the gate waits for.
    pub fn enter(&self, need: Need) -> Result<Entered<'_>> { todo!() }
    /// A new inode number, never used before in this volume, whatever was rolled back.
    pub fn new_ino(&self) -> u64 { todo!() }
    /// `n` new neighbouring virtual chunks; returns the first. Never handed out twice.
    pub fn new_vchunks(&self, n: u64) -> u64 { todo!() }
    /// These bytes of the data device were written for this volume: the next sync makes them durable.
    pub fn dirtied(&self, range: Range<u64>) { todo!() }
    /// Everything answered so far on this volume becomes durable.
    pub fn sync(&self) -> Result<()> { todo!() }
    pub fn data(&self) -> &Arc<dyn Device> { todo!() }
    pub fn chunks(&self) -> &Arc<Space> { todo!() }
    /// Grows with every release of freed space: blocks that this volume freed when it was `n` may be
    /// used again as soon as it is above `n` (see `Volume::freed_at`).
    pub fn released(&self) -> u64 { todo!() }
    /// The number to remember with blocks freed now.
    pub fn freed_at(&self) -> u64 { todo!() }
    /// Per-volume state of the rooms above (made once, lives as long as the volume is open).
    pub fn attach<T: std::any::Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> { todo!() }
}

/// Inside the gates: no checkpoint captures and no snapshot is taken meanwhile. Keep it for one
/// operation, with its data I/O, and no longer.
pub struct Entered<'a> {
    _volume: &'a Volume,
}

#[allow(unused_variables)]
impl Entered<'_> {
    /// Reads the tree. The closure may run several times (nodes not in memory are read in between).
    pub fn view<T>(&self, f: impl FnMut(&dyn Read) -> Result<T>) -> Result<T> { todo!() }
    /// Changes the tree: one record, wholly or not at all. The closure may run several times, each
    /// time from a clean slate; when it answers `Err` nothing is changed. Alone in this volume's tree.
    /// Answered when the record is in the log (safe against the death of this process).
    pub fn update<T>(&self, f: impl FnMut(&mut Op<'_>) -> Result<T>) -> Result<T> { todo!() }
}

/// Changes in progress: reads see them.
pub struct Op<'a> {
    _p: std::marker::PhantomData<&'a ()>,
}

#[allow(unused_variables)]
impl Op<'_> {
    pub fn put(&mut self, key: Key, value: Vec<u8>) { todo!() }
    pub fn delete(&mut self, key: Key) { todo!() }
}

#[allow(unused_variables)]
impl Read for Op<'_> {
    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> { todo!() }
    fn floor(&self, key: &Key) -> Result<Option<(Key, Vec<u8>)>> { todo!() }
    fn next(&self, key: &Key) -> Result<Option<(Key, Vec<u8>)>> { todo!() }
    fn scan(&self, from: &Key, to: &Key, each: &mut dyn FnMut(&Key, &[u8]) -> Result<ControlFlow<()>>) -> Result<()> { todo!() }
    fn shared(&self, key: &Key) -> Result<bool> { todo!() }
}

const _: fn(&Error) = |_| ();
