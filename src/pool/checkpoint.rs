//! Checkpoints: capture everything at one moment, write it out beside the writers, switch the superblock.
//!
//! 1. Gate exclusively: roots of changed volumes go into the catalog, the nodes of this generation
//!    become immutable, count pages get new addresses and are copied, the log's head is noted.
//! 2. Gate open again: data flushed, nodes and pages written, metadata flushed.
//! 3. Superblock written to the older slot, flushed. Now, and not before, the log's tail moves and
//!    what was freed up to the capture may be used again, once nobody inside the gate is left from before.

use super::superblock::{CHUNK_INDEX, NODE_BASE, NODE_INDEX, Superblock};
use super::{Pool, catalog};
use crate::base::{Error, NODE, NodeAddr, Result, VolumeId};
use crate::space::Space;
use crate::tree::{Change, Key, Node, NodeKind, Read};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

/// Addresses of count pages in one index page.
pub(super) const PER_INDEX: usize = 2040;

/// Where the count pages are.
#[derive(Default)]
pub(super) struct Table {
    pub pages: Vec<NodeAddr>,
    pub index: Vec<NodeAddr>,
}

#[derive(Default)]
pub(super) struct Tables {
    pub chunks: Table,
    pub nodes: Table,
}

impl Tables {
    pub fn pages(&self) -> u64 {
        (self.chunks.pages.len() + self.nodes.pages.len()) as u64
    }
}

/// What one moment looked like.
struct Captured {
    nodes: Vec<Arc<Node>>,
    pages: Vec<(NodeAddr, NodeKind, Vec<u8>)>,
    superblock: Superblock,
    freed_chunks: Vec<Range<u64>>,
    freed_nodes: Vec<Range<u64>>,
    /// So many dropped volumes are in it.
    dropped: usize,
}

/// Changes a checkpoint makes to the catalog without a record.
pub(super) type Extra<'a> = &'a dyn Fn(&dyn Read) -> Result<BTreeMap<Key, Change>>;

impl Pool {
    /// Everything answered so far becomes durable, and space freed so far usable.
    pub fn checkpoint(&self) -> Result<()> {
        let _one = self.checkpointing.lock();
        self.checkpoint_locked(None, false, false)
    }

    /// As `checkpoint`, unless one has captured since the caller looked at the generation.
    pub(super) fn checkpoint_unless(&self, seen: u64) -> Result<()> {
        let _one = self.checkpointing.lock();
        if self.nodes.generation() != seen {
            return self.refuse_if_failed();
        }
        self.checkpoint_locked(None, true, false)
    }

    pub(super) fn checkpoint_with(&self, extra: Option<Extra<'_>>, clean: bool) -> Result<()> {
        let _one = self.checkpointing.lock();
        self.checkpoint_locked(extra, true, clean)
    }

    fn checkpoint_locked(&self, extra: Option<Extra<'_>>, force: bool, clean: bool) -> Result<()> {
        super::op::outside();
        self.refuse_if_failed()?;
        if !force && extra.is_none() && !self.touched.swap(false, SeqCst) {
            // Data overwritten in place leaves no record, but has to get to the disk as well.
            return self.flush_data();
        }
        self.touched.store(false, SeqCst);
        self.grow_metadata(0);
        let generation = self.nodes.generation();
        let mut want = 64;
        let mut captured = loop {
            let gate = self.gate.write();
            let captured = self.capture(extra);
            drop(gate);
            match captured {
                Err(Error::Miss(addr)) => self.nodes.load(addr)?,
                // Many volumes' roots, far apart in the catalog, may take more than was set aside.
                Err(Error::NoSpace) if want < 1 << 20 && self.failed.lock().is_none() => {
                    want *= 2;
                    self.grow_metadata(want);
                }
                captured => break captured?,
            }
        };
        captured.superblock.clean = clean;
        self.write_captured(&captured).map_err(|e| self.fail(e))?;

        self.nodes.written(&captured.nodes);
        self.log.truncate(captured.superblock.log_pos);
        self.checkpointed
            .fetch_max(captured.superblock.log_seq.saturating_sub(1), SeqCst);
        {
            // Whoever was inside the gate when something was freed may still be reading it.
            let _everybody_left = self.gate.write();
            self.evict();
            self.dropped.lock().drain(..captured.dropped);
        }
        if self.config.discard {
            for r in &captured.freed_chunks {
                let bytes = r.start * self.chunk_size..r.end * self.chunk_size;
                if let Err(e) = self.devices.data.discard(bytes) {
                    log::warn!(
                        "discarding freed chunks of {}: {e}",
                        self.devices.data.name()
                    );
                    break;
                }
            }
        }
        self.chunks.release(&captured.freed_chunks);
        self.node_space.release(&captured.freed_nodes);
        self.released.store(generation + 1, SeqCst);
        self.fresh_dead.lock().1.clear();
        *self.superblock.lock() = captured.superblock;
        Ok(())
    }

    fn flush_data(&self) -> Result<()> {
        for core in self.cores() {
            self.mark_data(&core, &core.marked.lock())?;
        }
        Ok(())
    }

    /// The caller holds the gate exclusively. `Err(Miss)`: nothing has changed.
    fn capture(&self, extra: Option<Extra<'_>>) -> Result<Captured> {
        let cores = self.cores();
        // The count pages must find room once the catalog has changed.
        if self.node_space.free() < self.tables.lock().pages() + 32 + cores.len() as u64 / 8 {
            return Err(Error::NoSpace);
        }
        let mut tree = self.catalog.tree.write();
        let mut changes = match extra {
            Some(extra) => extra(&tree.at(&self.nodes))?,
            None => BTreeMap::new(),
        };
        for core in cores.iter().filter(|c| c.changed()) {
            changes.insert(catalog::root_key(core.id), Some(core.root_item().encode()));
        }
        tree.apply(&self.nodes, &self.chunks, self.chunk_size, &changes)?;
        for core in &cores {
            core.set_changed(false);
            core.age_dirty();
            if let Some(Some(item)) = changes.get(&catalog::volume_key(core.id)) {
                core.set_item(&catalog::VolumeItem::decode(item)?);
            }
        }
        let generation = self.nodes.generation();
        let nodes = self.nodes.capture();
        let (log_pos, log_seq) = self.log.head();
        {
            let (now, captured) = &mut *self.fresh_dead.lock();
            captured.append(now);
        }
        let mut tables = self.tables.lock();
        let pages = self.capture_counts(&mut tables).map_err(|e| self.fail(e))?;
        let old = self.superblock.lock();
        let superblock = Superblock {
            generation,
            salt: self.salt,
            boot: self.config.boot,
            nodes: self.node_space.limit(),
            catalog: tree.root,
            log_pos,
            log_seq,
            next_volume: self.next_volume.load(SeqCst),
            chunk_index: tables.chunks.index.clone(),
            node_index: tables.nodes.index.clone(),
            ..old.clone()
        };
        Ok(Captured {
            nodes,
            pages,
            superblock,
            freed_chunks: self.chunks.take_quarantine(),
            freed_nodes: self.node_space.take_quarantine(),
            dropped: self.dropped.lock().len(),
        })
    }

    /// Gives every changed count page, and the index pages above them, a new address, until that
    /// itself changes no further page; then copies them.
    fn capture_counts(&self, tables: &mut Tables) -> Result<Vec<(NodeAddr, NodeKind, Vec<u8>)>> {
        let new_page = |old: &mut NodeAddr| -> Result<()> {
            let at = self.node_space.alloc(1).ok_or(Error::NoSpace)?.start;
            let counts = |e| Error::corrupt("the reference counts", format!("{e}"));
            self.node_space.add(at, 1).map_err(counts)?;
            if *old != 0 {
                Space::drop(&self.node_space, *old, 1).map_err(counts)?;
            }
            *old = at;
            Ok(())
        };
        let mut done: [BTreeSet<u64>; 2] = Default::default();
        let mut indexed: [BTreeSet<usize>; 2] = Default::default();
        loop {
            let mut progress = false;
            for (which, space) in [&self.chunks, &self.node_space].into_iter().enumerate() {
                let (table, most) = match which {
                    0 => (&mut tables.chunks, CHUNK_INDEX),
                    _ => (&mut tables.nodes, NODE_INDEX),
                };
                for page in space.dirty_pages() {
                    if !done[which].insert(page) {
                        continue;
                    }
                    progress = true;
                    let page = page as usize;
                    if table.pages.len() <= page {
                        table.pages.resize(page + 1, 0);
                    }
                    new_page(&mut table.pages[page])?;
                    let index = page / PER_INDEX;
                    if index >= most {
                        return Err(Error::NoSpace);
                    }
                    if table.index.len() <= index {
                        table.index.resize(index + 1, 0);
                    }
                    if indexed[which].insert(index) {
                        new_page(&mut table.index[index])?;
                    }
                }
            }
            if !progress {
                break;
            }
        }
        let mut out = Vec::new();
        for (which, space) in [&self.chunks, &self.node_space].into_iter().enumerate() {
            let table = if which == 0 {
                &tables.chunks
            } else {
                &tables.nodes
            };
            for page in &done[which] {
                let bytes = space
                    .page(*page)
                    .unwrap_or_else(|| vec![0; Space::PER_PAGE as usize * 4]);
                space.clean(*page);
                out.push((table.pages[*page as usize], NodeKind::Counts, bytes));
            }
            for index in &indexed[which] {
                let addresses = table.pages.iter().skip(index * PER_INDEX).take(PER_INDEX);
                out.push((
                    table.index[*index],
                    NodeKind::Index,
                    addresses.flat_map(|a| a.to_le_bytes()).collect(),
                ));
            }
        }
        Ok(out)
    }

    fn write_captured(&self, captured: &Captured) -> Result<()> {
        let (data, metadata) = (&self.devices.data, &self.devices.metadata);
        let flush = |d: &Arc<dyn crate::device::Device>| {
            d.sync()
                .map_err(|e| Error::io(format!("flushing {}", d.name()), e))
        };
        flush(data)?;
        for core in self.cores() {
            core.forget_older();
        }
        self.nodes.write(&captured.nodes)?;
        for (addr, kind, body) in &captured.pages {
            self.nodes
                .write_page(*addr, *kind, captured.superblock.generation, body)?;
        }
        flush(metadata)?;
        captured.superblock.write(&**metadata)?;
        flush(metadata)
    }

    /// Forgets volumes that nobody uses and that have nothing to write. Gate held exclusively.
    fn evict(&self) {
        let mut open = self.open.lock();
        open.retain(|_, o| {
            o.handle.strong_count() > 0 || o.core.changed() || Arc::strong_count(&o.core) > 1
        });
    }

    /// Preallocates more of the metadata device when fewer than `want` nodes and a reserve are free.
    pub(super) fn grow_metadata(&self, want: u64) {
        let _one = self.growing.lock();
        let limit = self.node_space.limit();
        let floor = want + 128 + 2 * self.tables.lock().pages();
        if self.node_space.free() >= floor {
            return;
        }
        let step = (limit / 4).clamp(256, 4096).max(floor);
        let most = (self.devices.metadata.capacity().saturating_sub(NODE_BASE) / NODE as u64)
            .min(super::metadata_limit(self.size()))
            .min((NODE_INDEX * PER_INDEX) as u64 * Space::PER_PAGE);
        let new = (limit + step).min(most);
        if new <= limit {
            return;
        }
        match self.devices.metadata.reserve(NODE_BASE + new * NODE as u64) {
            Ok(()) => self.node_space.set_limit(new),
            Err(e) => log::warn!("growing {}: {e}", self.devices.metadata.name()),
        }
    }

    /// Ends `building` of all these at once, durably; `sealed` as said.
    pub fn finish(&self, ids: &[(VolumeId, bool)]) -> Result<()> {
        self.checkpoint_with(
            Some(&|r| {
                let mut changes = BTreeMap::new();
                for (id, sealed) in ids {
                    let mut item = catalog::volume_item(r, *id)?;
                    if item.building {
                        changes.insert(catalog::leaving_key(*id), None);
                    }
                    item.building = false;
                    item.sealed = *sealed;
                    changes.insert(catalog::volume_key(*id), Some(item.encode()));
                }
                Ok(changes)
            }),
            false,
        )
    }
}
