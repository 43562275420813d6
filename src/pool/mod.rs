//! The pool: operations, log, checkpoint, catalog, recovery, reclaim, check.

mod catalog;
mod check;
mod checkpoint;
mod core;
mod dir;
mod durable;
mod log;
mod op;
mod open;
mod reclaim;
mod record;
mod superblock;
mod volumes;
mod worker;

pub use self::core::Volume;
pub use dir::{Opened, boot_identity};
pub use op::{Entered, Op};

use self::core::Core;
use crate::base::{NODE, NodeAddr, Result, Time, VolumeId};
use crate::device::Device;
use crate::space::Space;
use crate::tree::NodeStore;
use ::log as logger;
use parking_lot::{Condvar, Mutex, RwLock};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

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
        Format {
            name: "cowfs".into(),
            size: 100 << 30,
            chunk_size: crate::base::CHUNK_MIN,
            container_size: None,
            log_size: 32 << 20,
        }
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
    pub level: Level,
    /// Set when the pool refuses writes.
    pub failed: Option<String>,
}

/// How close a pool is to being full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Ok,
    Low,
    Critical,
    Full,
}

/// Bytes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct SpaceStatus {
    pub used: u64,
    pub total: u64,
    pub available: u64,
    /// Really taken from the host.
    pub real: u64,
    /// Free on the host.
    pub host_free: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CheckReport {
    pub problems: Vec<String>,
    pub volumes: u64,
    pub nodes: u64,
    pub chunks: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            boot: [0; 32],
            cache_bytes: 64 << 20,
            interval: std::time::Duration::from_secs(5),
            discard: true,
        }
    }
}

/// An open pool.
///
/// Locks, in the order in which they are taken: `checkpointing`; `Core::marked`; the gate; a
/// volume's gate; a tree; `open` and the spaces. The gate is shared by every operation and exclusive
/// for a capture.
pub struct Pool {
    devices: Devices,
    config: Config,
    chunk_size: u64,
    salt: u64,
    nodes: NodeStore,
    node_space: Arc<Space>,
    chunks: Arc<Space>,
    gate: RwLock<()>,
    catalog: Core,
    open: Mutex<HashMap<VolumeId, Open>>,
    /// Volumes dropped since the last capture. Clones made of them before live on in the log, and
    /// need their records and their data.
    dropped: Mutex<Vec<Arc<Core>>>,
    next_volume: AtomicU64,
    log: log::Log,
    tables: Mutex<checkpoint::Tables>,
    checkpointing: Mutex<()>,
    growing: Mutex<()>,
    /// Sequence number of the last record that a durable checkpoint contains.
    checkpointed: AtomicU64,
    /// One more than the last generation whose freed space may be used again.
    released: AtomicU64,
    /// Roots given up since the last checkpoint was captured, and those that it captured but has
    /// not made durable: a crash may bring their volumes back, so they are not taken apart yet.
    fresh_dead: Mutex<(BTreeSet<NodeAddr>, BTreeSet<NodeAddr>)>,
    /// Something has changed since the last capture.
    touched: AtomicBool,
    failed: Mutex<Option<String>>,
    superblock: Mutex<superblock::Superblock>,
    waker: (Mutex<bool>, Condvar),
    worker: Mutex<Option<JoinHandle<()>>>,
    closing: AtomicBool,
}

/// A volume in memory: its core, and the handle its users share.
struct Open {
    core: Arc<Core>,
    handle: Weak<Volume>,
}

/// Nodes that the metadata of so large a pool may take at most.
fn metadata_limit(size: u64) -> u64 {
    (size / 8 + (1 << 30)) / NODE as u64
}

impl Pool {
    pub fn chunk_size(&self) -> u64 {
        self.chunk_size
    }

    pub fn uuid(&self) -> String {
        uuid::Uuid::from_bytes(self.superblock.lock().uuid).to_string()
    }

    /// Size limit of new containers, bytes.
    pub fn container_size(&self) -> Option<u64> {
        Some(self.superblock.lock().container_size).filter(|s| *s != 0)
    }

    fn hash_key(&self) -> [u8; 16] {
        self.superblock.lock().hash_key
    }

    fn size(&self) -> u64 {
        self.superblock.lock().size
    }

    fn closing(&self) -> bool {
        self.closing.load(SeqCst)
    }

    /// Checkpoints and stops the background thread. Volumes must not be used any more.
    pub fn close(&self) -> Result<()> {
        self.closing.store(true, SeqCst);
        self.wake();
        if let Some(worker) = self.worker.lock().take()
            && worker.thread().id() != std::thread::current().id()
            && worker.join().is_err()
        {
            logger::error!("the pool's background thread died");
        }
        self.checkpoint_with(None, true)
    }

    pub fn status(&self) -> Result<Status> {
        let volumes = self.volumes()?;
        let space = |space: &Space, unit: u64, device: &Arc<dyn Device>| {
            let usage = device.usage().unwrap_or_default();
            let total = space.limit().saturating_mul(unit);
            let used = space.used().saturating_mul(unit);
            SpaceStatus {
                used,
                total,
                available: space.free().saturating_mul(unit),
                real: usage.real,
                host_free: usage.host_free,
            }
        };
        let mut data = space(&self.chunks, self.chunk_size, &self.devices.data);
        // A sparse file can take no more than its host has.
        if self.devices.data.capacity() == u64::MAX {
            data.available = data.available.min(data.host_free);
        }
        let mut metadata = space(&self.node_space, NODE as u64, &self.devices.metadata);
        let most = metadata_limit(self.size())
            .saturating_mul(NODE as u64)
            .min(self.devices.metadata.capacity());
        metadata.total = metadata.total.max(
            most.min(
                metadata
                    .used
                    .saturating_add(metadata.available)
                    .saturating_add(metadata.host_free),
            ),
        );
        metadata.available = metadata.total.saturating_sub(metadata.used);
        let level = [&data, &metadata]
            .iter()
            .map(|s| level(s))
            .max()
            .unwrap_or(Level::Ok);
        let superblock = self.superblock.lock();
        Ok(Status {
            name: superblock.name.clone(),
            uuid: uuid::Uuid::from_bytes(superblock.uuid).to_string(),
            chunk_size: self.chunk_size,
            data,
            metadata,
            log_size: self.log.size(),
            log_used: self.log.used(),
            transaction: superblock.generation,
            volumes: volumes.len() as u64,
            deferred_removals: volumes.iter().filter(|v| v.removing).count() as u64,
            reclaiming: {
                drop(superblock);
                self.dead(1 << 20)?
            },
            level,
            failed: self.failed.lock().clone(),
        })
    }
}

/// Low below a fifth, critical below a twentieth.
fn level(s: &SpaceStatus) -> Level {
    match s.available {
        0 => Level::Full,
        a if a < s.total / 20 => Level::Critical,
        a if a < s.total / 5 => Level::Low,
        _ => Level::Ok,
    }
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
    pub const READ: Need = Need {
        keys: 0,
        bytes: 0,
        frees: false,
    };
    /// Any namespace operation.
    pub const SMALL: Need = Need {
        keys: 24,
        bytes: 16 << 10,
        frees: false,
    };
    /// Any operation that gives space back, in a bounded step.
    pub const FREE: Need = Need {
        keys: 64,
        bytes: 16 << 10,
        frees: true,
    };
}

#[cfg(test)]
mod tests;
