//! Making and opening a pool; recovery.
//!
//! After the death of the process (same boot) every record of the log's unbroken chain counts. After
//! a power cut data may be missing that records name, so a volume's records count only up to its
//! last mark, and the catalog's up to its own.

use super::checkpoint::{PER_INDEX, Tables};
use super::core::Core;
use super::log::{Log, scan};
use super::record::{self, Action};
use super::superblock::{CHUNK_INDEX, NODE_BASE, NODE_INDEX, Superblock};
use super::{Config, Devices, Format, Need, Pool, catalog, log as ring};
use crate::base::{CHUNK_MAX, CHUNK_MIN, Error, NODE, NodeAddr, Result, VolumeId};
use crate::space::Space;
use crate::tree::{Change, Key, NodeKind, NodeStore, kind};
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// Nodes preallocated in a new pool.
const FIRST_NODES: u64 = 512;

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut b = [0; N];
    getrandom::fill(&mut b).map_err(|e| Error::Invalid(format!("no random numbers: {e}")))?;
    Ok(b)
}

impl Pool {
    pub fn format(devices: &Devices, format: &Format) -> Result<()> {
        let chunk = format.chunk_size;
        if !chunk.is_power_of_two() || !(CHUNK_MIN..=CHUNK_MAX).contains(&chunk) {
            return Err(Error::Invalid(format!(
                "chunk size {chunk} is not a power of two between 64K and 1M"
            )));
        }
        if format.size < 16 * chunk || format.size > 1 << 60 {
            return Err(Error::Invalid(format!(
                "a pool's size is at least 16 chunks ({} bytes)",
                16 * chunk
            )));
        }
        if format.log_size < ring::SIZE_MIN || format.log_size > 1 << 40 {
            return Err(Error::Invalid("a pool's log has at least 1M".into()));
        }
        let size = format.size.min(devices.data.capacity());
        let most = devices.metadata.capacity().saturating_sub(NODE_BASE) / NODE as u64;
        if most < 128 {
            return Err(Error::Invalid(format!(
                "{} is too small for metadata",
                devices.metadata.name()
            )));
        }
        let nodes = FIRST_NODES.min(most);
        let reserve = |d: &Arc<dyn crate::device::Device>, len| {
            d.reserve(len)
                .map_err(|e| Error::io(format!("preallocating {}", d.name()), e))
        };
        reserve(&devices.metadata, NODE_BASE + nodes * NODE as u64)?;
        reserve(&devices.log, format.log_size)?;
        let superblock = Superblock {
            uuid: *uuid::Uuid::new_v4().as_bytes(),
            generation: 1,
            salt: u64::from_le_bytes(random()?),
            boot: [0; 32],
            hash_key: random()?,
            chunk_size: chunk as u32,
            size,
            nodes,
            catalog: 0,
            log_size: format.log_size,
            log_pos: 0,
            log_seq: 1,
            next_volume: 1,
            container_size: format.container_size.unwrap_or(0),
            clean: true,
            name: format.name.clone(),
            chunk_index: Vec::new(),
            node_index: Vec::new(),
        };
        superblock.write(&*devices.metadata)?;
        for d in [&devices.log, &devices.metadata] {
            d.sync()
                .map_err(|e| Error::io(format!("flushing {}", d.name()), e))?;
        }
        Ok(())
    }

    /// Recovers if needed, then serves. Refuses what is not a pool, damaged or of another version.
    pub fn open(devices: Devices, config: Config) -> Result<Arc<Pool>> {
        let superblock = Superblock::read(&*devices.metadata)?;
        let records = scan(
            &*devices.log,
            superblock.log_size,
            superblock.salt,
            superblock.log_pos,
            superblock.log_seq,
        )?;
        let end = records.iter().fold(superblock.log_pos, |p, (_, b)| {
            p + ring::record_size(b.len())
        });
        let next_seq = superblock.log_seq + records.len() as u64;
        let salt = u64::from_le_bytes(random()?);

        let node_space = Arc::new(Space::new(superblock.nodes));
        let chunk_size = u64::from(superblock.chunk_size);
        let chunks = Arc::new(Space::new(
            superblock.size.min(devices.data.capacity()) / chunk_size,
        ));
        let nodes = NodeStore::new(
            devices.metadata.clone(),
            node_space.clone(),
            NODE_BASE,
            config.cache_bytes,
            superblock.generation + 1,
        );
        let tables = Tables {
            chunks: load_counts(&nodes, &chunks, &superblock.chunk_index, CHUNK_INDEX)?,
            nodes: load_counts(&nodes, &node_space, &superblock.node_index, NODE_INDEX)?,
        };
        if node_space.refs(0) == 0 {
            // Address 0 means "none" everywhere.
            node_space
                .add(0, 1)
                .map_err(|e| Error::corrupt("the reference counts", e.to_string()))?;
        }
        let root = catalog::RootItem {
            root: superblock.catalog,
            ..Default::default()
        };
        let (clean, boot) = (superblock.clean, superblock.boot);
        let pool = Arc::new(Pool {
            log: Log::new(
                devices.log.clone(),
                superblock.log_size,
                salt,
                end,
                next_seq,
            ),
            devices,
            salt,
            chunk_size,
            nodes,
            node_space,
            chunks,
            gate: RwLock::new(()),
            catalog: Core::new(VolumeId::CATALOG, None, &root),
            open: Mutex::new(HashMap::new()),
            dropped: Mutex::new(Vec::new()),
            next_volume: AtomicU64::new(superblock.next_volume.max(1)),
            tables: Mutex::new(tables),
            checkpointing: Mutex::new(()),
            growing: Mutex::new(()),
            checkpointed: AtomicU64::new(next_seq.saturating_sub(1)),
            released: AtomicU64::new(superblock.generation + 1),
            fresh_dead: Mutex::default(),
            touched: AtomicBool::new(true),
            failed: Mutex::new(None),
            superblock: Mutex::new(superblock),
            waker: (Mutex::new(false), Condvar::new()),
            worker: Mutex::new(None),
            closing: AtomicBool::new(false),
            config,
        });
        if !records.is_empty() {
            let power_cut = boot != pool.config.boot;
            log::info!(
                "recovering {} records after {}",
                records.len(),
                if power_cut {
                    "a power cut"
                } else {
                    "the death of the process"
                }
            );
            pool.replay(records, power_cut)?;
        } else if !clean {
            log::info!("the pool was not closed; its log is empty");
        }
        // The salt of this life becomes durable before its first record.
        pool.checkpoint_with(None, false)?;
        pool.drop_unfinished()?;
        pool.start_worker();
        Ok(pool)
    }

    fn replay(&self, records: Vec<(u64, Vec<u8>)>, power_cut: bool) -> Result<()> {
        let damaged = || Error::corrupt("the log", "a record with a good checksum makes no sense");
        let mut decoded = Vec::with_capacity(records.len());
        let mut marks: HashMap<u64, u64> = HashMap::new();
        for (seq, payload) in records {
            let (owner, actions) = record::decode(&payload).ok_or_else(damaged)?;
            for action in &actions {
                if let Action::Mark(list) = action {
                    for (volume, upto) in list {
                        let m = marks.entry(*volume).or_default();
                        *m = (*m).max(*upto);
                    }
                }
            }
            decoded.push((seq, owner, actions));
        }
        for (seq, owner, actions) in decoded {
            if power_cut && seq > marks.get(&owner).copied().unwrap_or(0) {
                continue;
            }
            let mut changes: BTreeMap<Key, Change> = BTreeMap::new();
            let mut others = Vec::new();
            for action in actions {
                match action {
                    Action::Change(key, change) => drop(changes.insert(key, change)),
                    Action::Mark(_) => {}
                    other => others.push(other),
                }
            }
            if !changes.is_empty() || !others.is_empty() {
                self.replay_one(VolumeId(owner), &changes, &others)?;
            }
        }
        Ok(())
    }

    fn replay_one(
        &self,
        owner: VolumeId,
        changes: &BTreeMap<Key, Change>,
        actions: &[Action],
    ) -> Result<()> {
        let mut keep = Vec::new();
        for action in actions {
            if let Action::Clone { source: id, .. } | Action::Drop { volume: id } = action {
                keep.push(self.core(VolumeId(*id))?);
            }
            if let Action::Replace { source, target } = action {
                keep.push(self.core(VolumeId(*source))?);
                keep.push(self.core(VolumeId(*target))?);
            }
        }
        let mine;
        let core = if owner == VolumeId::CATALOG {
            &self.catalog
        } else {
            match self.core(owner) {
                // Its making was never marked: it was not promised either.
                Err(Error::NotFound(_)) => return Ok(()),
                core => mine = core?,
            }
            &*mine
        };
        // Room for what the record may change, as the operation had it.
        self.grow_metadata(8 + 3 * changes.len() as u64);
        loop {
            let mut tree = core.tree.write();
            let done = self.commit(core, &mut tree, changes, actions, false);
            drop(tree);
            match done {
                Err(Error::Miss(addr)) => self.nodes.load(addr)?,
                done => {
                    done?;
                    break;
                }
            }
        }
        if owner == VolumeId::CATALOG {
            self.after_catalog_change(changes)?;
        }
        Ok(())
    }

    /// What live code does beside a record of the catalog: the next id, and what open cores know.
    fn after_catalog_change(&self, changes: &BTreeMap<Key, Change>) -> Result<()> {
        for (key, change) in changes {
            if let (kind::VOLUME, Some(value)) = (key.kind, change) {
                self.next_volume
                    .fetch_max(key.object.saturating_add(1), SeqCst);
                let item = catalog::VolumeItem::decode(value)?;
                if let Some(o) = self.open.lock().get(&VolumeId(key.object)) {
                    o.core.set_item(&item);
                }
            }
        }
        Ok(())
    }

    /// Volumes that were being filled go; those that were being removed go on.
    fn drop_unfinished(&self) -> Result<()> {
        for id in self.leaving()? {
            let building = {
                let g = self.enter_catalog(Need::READ, false)?;
                g.view(|r| Ok(catalog::volume_item(r, id)?.building))?
            };
            if building {
                self.remove(id)?;
            } else {
                self.leave(id)?;
            }
        }
        Ok(())
    }
}

fn load_counts(
    nodes: &NodeStore,
    space: &Space,
    index: &[NodeAddr],
    most: usize,
) -> Result<super::checkpoint::Table> {
    let mut table = super::checkpoint::Table::default();
    let bad = |what: &str| Error::corrupt("the reference counts", what);
    let used = index.iter().rposition(|a| *a != 0).map_or(0, |i| i + 1);
    for (i, addr) in index.iter().take(used.min(most)).enumerate() {
        table.index.push(*addr);
        table.pages.resize(i * PER_INDEX, 0);
        if *addr == 0 {
            continue;
        }
        let body = nodes.read_page(*addr, NodeKind::Index)?;
        for a in body.chunks_exact(8).take(PER_INDEX) {
            let page = table.pages.len() as u64;
            let a = a.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
            if a != 0 {
                let counts = nodes.read_page(a, NodeKind::Counts)?;
                space
                    .load_page(page, &counts)
                    .map_err(|e| bad(&e.to_string()))?;
            }
            table.pages.push(a);
        }
    }
    while table.pages.last() == Some(&0) {
        table.pages.pop();
    }
    Ok(table)
}
