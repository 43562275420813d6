//! Lookups and changes.

use super::{Key, NodeStore};
use crate::base::{Chunk, NodeAddr, Result};
use crate::space::Space;
use std::collections::BTreeMap;

/// A key's new value, or its removal.
pub type Change = Option<Vec<u8>>;

/// What a set of changes did to the volume's totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Blocks in use (by mapping items).
    pub blocks: i64,
    /// Inode items.
    pub inodes: i64,
}

/// A tree: its root (0: empty). All reading methods of [`super::Read`] exist here with a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub root: NodeAddr,
}

#[allow(unused_variables)]
impl Tree {
    /// Applies all changes, or none: `Err(Miss)` (or corruption, or want of nodes) is answered before
    /// anything is changed. `chunks` gets the new and dropped references of mapping items: all
    /// additions before all drops, so that no chunk is freed on the way.
    pub fn apply(&mut self, store: &NodeStore, chunks: &Space, chunk_size: u64, changes: &BTreeMap<Key, Change>) -> Result<Delta> { todo!() }
    /// What a node refers to, for the reclaimer and the check: children of a branch, or runs of
    /// chunks of a leaf. `Err(Miss)` when it is not in memory.
    pub fn refers(store: &NodeStore, addr: NodeAddr) -> Result<Refers> { todo!() }
    /// Calls `each` for keys whose items differ between two trees, in order; shared subtrees are
    /// skipped by their address. Values: in `a`, in `b`.
    pub fn diff(a: Tree, b: Tree, store: &NodeStore, each: &mut dyn FnMut(&Key, Option<&[u8]>, Option<&[u8]>) -> Result<()>) -> Result<()> { todo!() }
}

pub enum Refers {
    Branch(Vec<NodeAddr>),
    Leaf(Vec<(Chunk, u32)>),
}
