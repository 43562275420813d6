//! An open volume: its tree, its gate, its counters, what it has to make durable.

use super::Pool;
use super::catalog::{RootItem, VolumeItem};
use crate::base::{BLOCK, Ino, ROOT_INO, Result, VChunk, VolumeId};
use crate::device::Device;
use crate::space::Space;
use crate::tree::{Change, Delta, Key, Mapping, Tree, kind};
use parking_lot::{Mutex, RwLock};
use std::any::Any;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

/// What the pool keeps of a volume while it is open or changed since the last checkpoint.
pub(super) struct Core {
    pub id: VolumeId,
    pub tree: RwLock<Tree>,
    /// Shared: an operation is under way. Exclusive: a snapshot of it is taken.
    pub gate: RwLock<()>,
    blocks: AtomicU64,
    inodes: AtomicU64,
    next_ino: AtomicU64,
    next_vchunk: AtomicU64,
    limit: AtomicU64,
    sealed: AtomicBool,
    building: AtomicBool,
    /// The catalog's root item is older than this.
    changed: AtomicBool,
    /// Sequence number of its last record.
    last_seq: AtomicU64,
    /// Sequence number of the record that made it; 0: in the last checkpoint.
    born_seq: AtomicU64,
    /// Held while its data is flushed and its mark appended: (marked up to, log position of the mark).
    pub marked: Mutex<(u64, u64)>,
    dirty: Mutex<Dirty>,
    /// What the rooms above keep of it. It outlives the last user until a checkpoint has made all
    /// changes durable: which blocks were freed, and may not be used yet, must not be forgotten.
    attached: Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
}

#[derive(Default)]
struct Dirty {
    /// Written since the last capture.
    now: Vec<Range<u64>>,
    /// Written before the last capture, whose checkpoint has not flushed them yet.
    older: Vec<Range<u64>>,
}

/// So many ranges are kept apart before neighbours are joined.
const RANGES: usize = 4096;

fn join(ranges: &mut Vec<Range<u64>>) {
    ranges.sort_unstable_by_key(|r| r.start);
    let mut out: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for r in ranges.drain(..) {
        match out.last_mut() {
            Some(last) if r.start <= last.end => last.end = last.end.max(r.end),
            _ => out.push(r),
        }
    }
    *ranges = out;
}

impl Core {
    pub fn new(id: VolumeId, item: Option<&VolumeItem>, root: &RootItem) -> Core {
        Core {
            id,
            tree: RwLock::new(Tree { root: root.root }),
            gate: RwLock::new(()),
            blocks: AtomicU64::new(root.blocks),
            inodes: AtomicU64::new(root.inodes),
            next_ino: AtomicU64::new(root.next_ino.max(ROOT_INO + 1)),
            next_vchunk: AtomicU64::new(root.next_vchunk),
            limit: AtomicU64::new(item.map_or(0, |i| i.limit)),
            sealed: AtomicBool::new(item.is_some_and(|i| i.sealed)),
            building: AtomicBool::new(item.is_some_and(|i| i.building)),
            changed: AtomicBool::new(false),
            last_seq: AtomicU64::new(0),
            born_seq: AtomicU64::new(0),
            marked: Mutex::new((0, 0)),
            dirty: Mutex::new(Dirty::default()),
            attached: Mutex::new(Vec::new()),
        }
    }

    /// What a checkpoint writes into the catalog.
    pub fn root_item(&self) -> RootItem {
        RootItem {
            root: self.tree.read().root,
            blocks: self.blocks.load(Relaxed),
            inodes: self.inodes.load(Relaxed),
            next_ino: self.next_ino.load(Relaxed),
            next_vchunk: self.next_vchunk.load(Relaxed),
        }
    }

    /// Takes over another volume's tree and totals; its own inode counter never goes back.
    pub fn assume(&self, from: &RootItem) {
        // What was known of the old content is wrong now.
        self.attached.lock().clear();
        self.tree.write().root = from.root;
        self.blocks.store(from.blocks, Relaxed);
        self.inodes.store(from.inodes, Relaxed);
        self.next_ino.fetch_max(from.next_ino, Relaxed);
        self.next_vchunk.fetch_max(from.next_vchunk, Relaxed);
        self.changed.store(true, SeqCst);
    }

    /// Totals and counters after a change. Counters are derived here, in the original and in a
    /// replay alike, so that no record need carry them.
    pub fn account(&self, delta: Delta, changes: &BTreeMap<Key, Change>) {
        let add = |to: &AtomicU64, n: i64| {
            let _ = to.fetch_update(Relaxed, Relaxed, |v| Some(v.saturating_add_signed(n)));
        };
        add(&self.blocks, delta.blocks);
        add(&self.inodes, delta.inodes);
        if self.id != VolumeId::CATALOG {
            for (key, change) in changes {
                let Some(value) = change else { continue };
                match key.kind {
                    kind::INODE => drop(
                        self.next_ino
                            .fetch_max(key.object.saturating_add(1), Relaxed),
                    ),
                    kind::MAP => {
                        let count = Mapping::decode(value).map_or(1, |m| u64::from(m.count));
                        self.next_vchunk
                            .fetch_max(key.offset.saturating_add(count), Relaxed);
                    }
                    _ => {}
                }
            }
        }
        self.changed.store(true, SeqCst);
    }

    pub fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Relaxed)).filter(|l| *l != 0)
    }

    pub fn sealed(&self) -> bool {
        self.sealed.load(Relaxed)
    }

    pub fn building(&self) -> bool {
        self.building.load(Relaxed)
    }

    /// The catalog's entry has changed.
    pub fn set_item(&self, item: &VolumeItem) {
        self.limit.store(item.limit, Relaxed);
        self.sealed.store(item.sealed, Relaxed);
        self.building.store(item.building, Relaxed);
    }

    pub fn changed(&self) -> bool {
        self.changed.load(SeqCst)
    }

    pub fn set_changed(&self, changed: bool) {
        self.changed.store(changed, SeqCst);
    }

    pub fn last_seq(&self) -> u64 {
        self.last_seq.load(SeqCst)
    }

    pub fn set_last_seq(&self, seq: u64) {
        self.last_seq.fetch_max(seq, SeqCst);
    }

    pub fn born_seq(&self) -> u64 {
        self.born_seq.load(SeqCst)
    }

    pub fn set_born_seq(&self, seq: u64) {
        self.born_seq.store(seq, SeqCst);
        self.set_last_seq(seq);
    }

    fn dirtied(&self, range: Range<u64>) {
        let mut dirty = self.dirty.lock();
        match dirty.now.last_mut() {
            Some(last) if range.start >= last.start && range.start <= last.end => {
                last.end = last.end.max(range.end)
            }
            _ => dirty.now.push(range),
        }
        if dirty.now.len() > RANGES {
            join(&mut dirty.now);
        }
    }

    /// At a capture: the checkpoint flushes all that was written so far.
    pub fn age_dirty(&self) {
        let mut dirty = self.dirty.lock();
        let Dirty { now, older } = &mut *dirty;
        older.append(now);
    }

    /// The checkpoint has flushed the data device.
    pub fn forget_older(&self) {
        self.dirty.lock().older.clear();
    }

    /// All ranges not known to be durable.
    pub fn take_dirty(&self) -> Vec<Range<u64>> {
        let mut dirty = self.dirty.lock();
        let mut all = std::mem::take(&mut dirty.older);
        all.append(&mut dirty.now);
        join(&mut all);
        all
    }
}

/// A volume in use. (Its thin address space is room `volume`, its files room `fs`.)
pub struct Volume {
    pub(super) pool: Arc<Pool>,
    pub(super) core: Arc<Core>,
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.pool.unused(self.core.id);
    }
}

impl Volume {
    pub(super) fn new(pool: Arc<Pool>, core: Arc<Core>) -> Volume {
        Volume { pool, core }
    }

    pub fn id(&self) -> VolumeId {
        self.core.id
    }

    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    pub fn sealed(&self) -> bool {
        self.core.sealed()
    }

    /// Size limit, bytes.
    pub fn limit(&self) -> Option<u64> {
        self.core.limit()
    }

    /// Bytes of blocks in use by mapping items, and inodes.
    pub fn usage(&self) -> (u64, u64) {
        (
            self.core.blocks.load(Relaxed).saturating_mul(BLOCK),
            self.core.inodes.load(Relaxed),
        )
    }

    /// A new inode number, never used before in this volume, whatever was rolled back.
    pub fn new_ino(&self) -> Ino {
        self.core.next_ino.fetch_add(1, Relaxed)
    }

    /// `n` new neighbouring virtual chunks; returns the first. Never handed out twice.
    pub fn new_vchunks(&self, n: u64) -> VChunk {
        self.core.next_vchunk.fetch_add(n, Relaxed)
    }

    /// These bytes of the data device are about to be written for this volume: the next sync makes
    /// them durable.
    pub fn dirtied(&self, range: Range<u64>) {
        self.core.dirtied(range);
    }

    /// Everything answered so far on this volume becomes durable.
    pub fn sync(&self) -> Result<()> {
        self.pool.sync_volume(&self.core)
    }

    pub fn data(&self) -> &Arc<dyn Device> {
        &self.pool.devices.data
    }

    pub fn chunks(&self) -> &Arc<Space> {
        &self.pool.chunks
    }

    /// Blocks freed when `freed_at` was `n` may be used again as soon as this is above `n`.
    pub fn released(&self) -> u64 {
        self.pool.released.load(SeqCst)
    }

    /// The number to remember with blocks freed now. Call it inside the gate.
    pub fn freed_at(&self) -> u64 {
        self.pool.nodes.generation()
    }

    /// Per-volume state of the rooms above: made once, lives at least as long as the volume is open
    /// and its changes are not in a checkpoint.
    pub fn attach<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut attached = self.core.attached.lock();
        for a in attached.iter() {
            if let Ok(found) = a.clone().downcast::<T>() {
                return found;
            }
        }
        let made = Arc::new(make());
        attached.push(made.clone());
        made
    }
}
