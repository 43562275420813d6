//! The nodes in memory: a bounded cache of clean ones, and the dirty ones of this generation.

use super::{Node, NodeKind};
use crate::base::{NodeAddr, Result};
use crate::device::Device;
use crate::space::Space;
use std::sync::Arc;

pub struct NodeStore {}

#[allow(unused_variables)]
impl NodeStore {
    /// `base` is the byte offset of node 0 on the device (node addresses count from there; address 0 is
    /// never handed out, `space` must hold it). `cache_bytes` bounds the clean nodes kept in memory.
    pub fn new(device: Arc<dyn Device>, space: Arc<Space>, base: u64, cache_bytes: usize, generation: u64) -> NodeStore { todo!() }
    /// Reads and verifies a node into the cache. I/O: call it with no tree lock held.
    pub fn load(&self, addr: NodeAddr) -> Result<()> { todo!() }
    pub fn generation(&self) -> u64 { todo!() }
    /// Ends the generation: the dirty nodes become immutable (a change copies them) and are returned,
    /// to be written by the checkpoint. They stay readable in memory until `written`.
    /// Caller holds the pool's gate exclusively.
    pub fn capture(&self) -> Vec<Arc<Node>> { todo!() }
    /// Seals (checksum) and writes captured nodes, neighbouring addresses in one write.
    pub fn write(&self, nodes: &[Arc<Node>]) -> Result<()> { todo!() }
    /// Captured nodes are on the device: they become ordinary clean nodes of the cache.
    pub fn written(&self, nodes: &[Arc<Node>]) { todo!() }
    /// Dirty nodes in memory now (including captured ones not yet written).
    pub fn dirty(&self) -> usize { todo!() }
    /// Writes a page that is not a tree node (counts, index): `body` at most `BODY` bytes.
    pub fn write_page(&self, addr: NodeAddr, kind: NodeKind, generation: u64, body: &[u8]) -> Result<()> { todo!() }
    pub fn read_page(&self, addr: NodeAddr, kind: NodeKind) -> Result<Vec<u8>> { todo!() }
}
