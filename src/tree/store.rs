//! The nodes in memory: a bounded cache of clean ones, and the dirty ones of this generation.

use super::branch::{self, Child};
use super::node::{BODY, Page};
use super::{Node, NodeKind};
use crate::base::{Error, NODE, NodeAddr, Result};
use crate::device::Device;
use crate::space::Space;
use dashmap::DashMap;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Nodes written by one call at most.
const BATCH: usize = 64;
/// What a clean node takes in memory, with its share of the cache.
const WEIGHT: usize = NODE + 256;
/// Nodes loaded last stay in memory whatever the cache thinks of them: an operation that needs
/// many nodes at once, and starts again after each load, comes to its end.
const RECENT: usize = 256;

/// See the module. A node is in memory as long as it is dirty or captured; clean ones come and go.
pub struct NodeStore {
    device: Arc<dyn Device>,
    space: Arc<Space>,
    base: u64,
    generation: AtomicU64,
    clean: Cache<NodeAddr, Arc<Node>>,
    /// Of this generation, and captured ones until they are written.
    dirty: DashMap<NodeAddr, Arc<Node>, BuildHasherDefault<AddrHasher>>,
    recent: Mutex<VecDeque<(NodeAddr, Arc<Node>)>>,
    recent_max: usize,
    /// Entries of a full branch; tests make deep trees of few items.
    pub(super) fanout: usize,
}

/// Addresses are numbers of ours: nobody can choose them to collide.
#[derive(Default)]
struct AddrHasher(u64);

impl Hasher for AddrHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        let product = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ product >> 32;
    }
}

impl NodeStore {
    /// Bytes of a page that is not a tree node.
    pub const BODY: usize = BODY;

    /// `base` is the byte offset of node 0 on the device (node addresses count from there; address 0 is
    /// never handed out, `space` must hold it). `cache_bytes` bounds the clean nodes kept in memory.
    /// `generation` must be above that of every node on the device.
    pub fn new(
        device: Arc<dyn Device>,
        space: Arc<Space>,
        base: u64,
        cache_bytes: usize,
        generation: u64,
    ) -> NodeStore {
        NodeStore {
            device,
            space,
            base,
            generation: AtomicU64::new(generation),
            clean: Cache::new((cache_bytes / WEIGHT).max(RECENT)),
            dirty: DashMap::default(),
            recent: Mutex::new(VecDeque::new()),
            recent_max: RECENT,
            fanout: branch::MAX,
        }
    }

    /// Keeps next to nothing in memory.
    #[cfg(test)]
    pub(super) fn tiny(self) -> NodeStore {
        NodeStore {
            clean: Cache::new(8),
            recent_max: 40,
            ..self
        }
    }

    /// Clean nodes in memory.
    #[cfg(test)]
    pub(super) fn clean(&self) -> usize {
        self.clean.len()
    }

    #[cfg(test)]
    pub(super) fn fanout(self, fanout: usize) -> NodeStore {
        NodeStore { fanout, ..self }
    }

    /// Reads and verifies a node into the cache. I/O: call it with no tree lock held.
    pub fn load(&self, addr: NodeAddr) -> Result<()> {
        self.fetch(addr).map(|_| ())
    }

    /// A node in memory, else `Err(Miss)`.
    pub fn get(&self, addr: NodeAddr) -> Result<Arc<Node>> {
        self.cached(addr).ok_or(Error::Miss(addr))
    }

    /// A node, read from the device when it is not in memory: for those who hold no tree lock.
    pub fn fetch(&self, addr: NodeAddr) -> Result<Arc<Node>> {
        if let Some(node) = self.cached(addr) {
            return Ok(node);
        }
        let page = self.read(addr)?;
        if !matches!(page.kind(), NodeKind::Leaf | NodeKind::Branch) {
            return Err(self.corrupt(addr, "a page that is no tree node"));
        }
        let node = Arc::new(Node::new(page, false));
        // A dirty one of this address is newer than what was on the device.
        if let Some(newer) = self.dirty.get(&addr) {
            return Ok(newer.clone());
        }
        self.clean.insert(addr, node.clone());
        let mut recent = self.recent.lock();
        recent.push_back((addr, node.clone()));
        if recent.len() > self.recent_max {
            recent.pop_front();
        }
        Ok(node)
    }

    fn cached(&self, addr: NodeAddr) -> Option<Arc<Node>> {
        if let Some(node) = self.dirty.get(&addr) {
            return Some(node.clone());
        }
        if let Some(node) = self.clean.get(&addr) {
            return Some(node);
        }
        let recent = self.recent.lock();
        recent
            .iter()
            .rev()
            .find(|(a, _)| *a == addr)
            .map(|(_, n)| n.clone())
    }

    /// Follows a pointer of a branch of `level + 1`: what is there must be what was meant.
    pub(super) fn child(&self, child: Child, level: u8) -> Result<Arc<Node>> {
        self.expect(self.get(child.addr)?, child, level)
    }

    pub(super) fn expect(&self, node: Arc<Node>, child: Child, level: u8) -> Result<Arc<Node>> {
        if node.generation as u32 != child.birth {
            return Err(self.corrupt(child.addr, "a stale node"));
        }
        if node.level != level {
            return Err(self.corrupt(child.addr, "a node of another level"));
        }
        Ok(node)
    }

    pub(super) fn corrupt(&self, addr: NodeAddr, what: &str) -> Error {
        Error::corrupt(format!("node {addr} of {}", self.device.name()), what)
    }

    pub fn space(&self) -> &Arc<Space> {
        &self.space
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A new node of this generation. Its address has its reference already.
    pub(super) fn insert(&self, page: Page) -> Arc<Node> {
        let node = Arc::new(Node::new(page, true));
        self.dirty.insert(node.addr, node.clone());
        // The address may have had another node, long ago.
        self.clean.remove(&node.addr);
        self.recent.lock().retain(|(addr, _)| *addr != node.addr);
        node
    }

    /// Nobody refers to the node any more. (A captured one is still written: the checkpoint has it.)
    pub(super) fn forget(&self, addr: NodeAddr) {
        self.dirty.remove(&addr);
        self.clean.remove(&addr);
    }

    /// Drops a node's reference for good: what it refers to has been dropped or taken over.
    /// For the reclaimer; the caller has seen that it was the last one.
    pub fn discard(&self, addr: NodeAddr) {
        if self.space.refs(addr) == 0 {
            self.forget(addr);
        }
    }

    /// Ends the generation: the dirty nodes become immutable (a change copies them) and are returned,
    /// to be written by the checkpoint. They stay readable in memory until `written`.
    /// Caller holds the pool's gate exclusively.
    pub fn capture(&self) -> Vec<Arc<Node>> {
        let mut nodes: Vec<Arc<Node>> = self
            .dirty
            .iter()
            .filter(|n| n.fresh.swap(false, Ordering::AcqRel))
            .map(|n| n.clone())
            .collect();
        nodes.sort_unstable_by_key(|n| n.addr);
        self.generation.fetch_add(1, Ordering::AcqRel);
        nodes
    }

    /// Seals (checksum) and writes captured nodes, neighbouring addresses in one write.
    pub fn write(&self, nodes: &[Arc<Node>]) -> Result<()> {
        let mut sorted: Vec<&Arc<Node>> = nodes.iter().collect();
        sorted.sort_unstable_by_key(|n| n.addr);
        let mut buffer = vec![0; BATCH * NODE];
        let mut rest = sorted.as_slice();
        while let Some((first, _)) = rest.split_first() {
            let next = rest.iter().zip(first.addr..).take(BATCH);
            let run = next.take_while(|(n, addr)| n.addr == *addr).count().max(1);
            let (batch, after) = rest.split_at(run);
            for (node, to) in batch.iter().zip(buffer.chunks_exact_mut(NODE)) {
                node.page.read().seal(to);
            }
            self.write_at(first.addr, buffer.get(..run * NODE).unwrap_or_default())?;
            rest = after;
        }
        Ok(())
    }

    /// Captured nodes are on the device: they become ordinary clean nodes of the cache.
    pub fn written(&self, nodes: &[Arc<Node>]) {
        for node in nodes {
            if self.space.refs(node.addr) > 0 {
                self.clean.insert(node.addr, node.clone());
            }
            self.dirty
                .remove_if(&node.addr, |_, n| Arc::ptr_eq(n, node));
        }
    }

    /// Dirty nodes in memory now (including captured ones not yet written).
    pub fn dirty(&self) -> usize {
        self.dirty.len()
    }

    /// Writes a page that is not a tree node (counts, index): `body` at most `BODY` bytes.
    pub fn write_page(
        &self,
        addr: NodeAddr,
        kind: NodeKind,
        generation: u64,
        body: &[u8],
    ) -> Result<()> {
        let other = matches!(kind, NodeKind::Counts | NodeKind::Index);
        if body.len() > BODY || !other {
            return Err(Error::Invalid(format!(
                "{kind:?} page of {} bytes",
                body.len()
            )));
        }
        let mut page = Page::new(kind, 0, addr, generation);
        page.set_body(body);
        let mut bytes = vec![0; NODE];
        page.seal(&mut bytes);
        self.write_at(addr, &bytes)
    }

    /// The body of a page that is not a tree node.
    pub fn read_page(&self, addr: NodeAddr, kind: NodeKind) -> Result<Vec<u8>> {
        let page = self.read(addr)?;
        if page.kind() != kind || matches!(kind, NodeKind::Leaf | NodeKind::Branch) {
            return Err(self.corrupt(addr, "a page of another kind"));
        }
        Ok(page.body().to_vec())
    }

    fn place(&self, addr: NodeAddr) -> Result<u64> {
        let place = addr
            .checked_mul(NODE as u64)
            .and_then(|at| at.checked_add(self.base));
        match place.filter(|_| addr != 0) {
            Some(at) => Ok(at),
            None => Err(self.corrupt(addr, "an impossible address")),
        }
    }

    fn write_at(&self, addr: NodeAddr, bytes: &[u8]) -> Result<()> {
        let what = || format!("cannot write node {addr} of {}", self.device.name());
        self.device
            .write_at(self.place(addr)?, bytes)
            .map_err(|e| Error::io(what(), e))
    }

    fn read(&self, addr: NodeAddr) -> Result<Page> {
        let mut bytes = Box::new([0; NODE]);
        let what = || format!("cannot read node {addr} of {}", self.device.name());
        self.device
            .read_at(self.place(addr)?, &mut bytes[..])
            .map_err(|e| Error::io(what(), e))?;
        Page::verify(bytes, addr).map_err(|what| self.corrupt(addr, what))
    }
}
