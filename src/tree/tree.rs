//! Changing a tree, and what a node of it refers to.

use super::change::{Changer, Supply, note};
use super::plan::Planner;
use super::read::Snapshot;
use super::{Key, NodeKind, NodeStore, Read, branch, leaf};
use crate::base::{Chunk, Error, NodeAddr, Result};
use crate::space::Space;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

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
///
/// Whoever keeps a root has one reference of it in the store's space; `apply` keeps that so. While
/// one changes a tree nobody else may read or change the same tree; other trees, which may share
/// nodes with it, may be read and changed at the same time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    pub root: NodeAddr,
}

impl Tree {
    /// Applies all changes, or none: `Err(Miss)` (or corruption, or want of nodes) is answered before
    /// anything is changed. `chunks` gets the new and dropped references of mapping items: all
    /// additions before all drops, so that no chunk is freed on the way.
    ///
    /// `Invalid`: a value above [`super::VALUE_MAX`] bytes, or a mapping item that is none or points
    /// beyond the data device. Changes that change nothing touch no node.
    pub fn apply(
        &mut self,
        store: &NodeStore,
        chunks: &Space,
        chunk_size: u64,
        changes: &BTreeMap<Key, Change>,
    ) -> Result<Delta> {
        let mut planner = Planner {
            store,
            chunks,
            chunk_size,
            effects: Default::default(),
        };
        let encoded = planner.encode(changes)?;
        let (mut plan, mut edits) = (None, Vec::new());
        if self.root == 0 {
            edits = planner.empty(&encoded)?;
        } else if !encoded.is_empty() {
            plan = planner.root(self.root, &encoded)?;
        }
        let mut effects = planner.effects;
        cancel(&mut effects.gained, &mut effects.lost);
        if plan.is_none() && edits.is_empty() {
            return Ok(effects.delta);
        }
        let supply = Supply::new(store.space(), effects.nodes).ok_or(Error::NoSpace)?;
        for (i, (chunk, n)) in effects.gained.iter().enumerate() {
            if let Err(e) = chunks.add(*chunk, u64::from(*n)) {
                for (chunk, n) in effects.gained.iter().take(i) {
                    note(chunks.drop(*chunk, u64::from(*n)));
                }
                return Err(Error::corrupt("the count of chunks", e.to_string()));
            }
        }
        let mut changer = Changer {
            store,
            chunks,
            supply,
        };
        self.root = match plan {
            Some(plan) => changer.root(plan),
            None => changer.plant(&edits),
        };
        for (chunk, n) in effects.lost {
            note(chunks.drop(chunk, u64::from(n)));
        }
        Ok(effects.delta)
    }

    /// New nodes that changing `keys` keys of a tree of this height takes at most: each key's path
    /// is copied, and split all the way up.
    pub const fn nodes_at_most(height: u64, keys: u64) -> u64 {
        let height = if height == 0 { 1 } else { height };
        2 * height * keys + keys + 2
    }

    /// Nodes from the root to a leaf (0: empty). `Err(Miss)` when the root is not in memory.
    pub fn height(&self, store: &NodeStore) -> Result<u64> {
        match self.root {
            0 => Ok(0),
            root => Ok(u64::from(store.get(root)?.level) + 1),
        }
    }

    /// For reading.
    pub fn at(self, store: &NodeStore) -> Snapshot<'_> {
        Snapshot { tree: self, store }
    }

    pub fn get(&self, store: &NodeStore, key: &Key) -> Result<Option<Vec<u8>>> {
        self.at(store).get(key)
    }

    pub fn floor(&self, store: &NodeStore, key: &Key) -> Result<Option<(Key, Vec<u8>)>> {
        self.at(store).floor(key)
    }

    pub fn next(&self, store: &NodeStore, key: &Key) -> Result<Option<(Key, Vec<u8>)>> {
        self.at(store).next(key)
    }

    #[allow(
        clippy::type_complexity,
        reason = "a closure is clearest where it is passed"
    )]
    pub fn scan(
        &self,
        store: &NodeStore,
        from: &Key,
        to: &Key,
        each: &mut dyn FnMut(&Key, &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.at(store).scan(from, to, each)
    }

    pub fn shared(&self, store: &NodeStore, key: &Key) -> Result<bool> {
        self.at(store).shared(key)
    }

    /// What a node refers to, for the reclaimer and the check: children of a branch, or runs of
    /// chunks of a leaf. `Err(Miss)` when it is not in memory.
    pub fn refers(store: &NodeStore, addr: NodeAddr) -> Result<Refers> {
        let node = store.get(addr)?;
        let page = node.page.read();
        Ok(match node.kind {
            NodeKind::Leaf => Refers::Leaf(leaf::runs(&page)),
            _ => Refers::Branch(
                (0..page.count())
                    .map(|i| branch::child(&page, i).addr)
                    .collect(),
            ),
        })
    }
}

/// Leaves what is gained or lost on balance: a run that is cut, joined or put again with other bits
/// keeps its references, and nobody sees a count go up and down.
fn cancel(gained: &mut Vec<(Chunk, u32)>, lost: &mut Vec<(Chunk, u32)>) {
    if gained.is_empty() || lost.is_empty() {
        return;
    }
    let mut edges: BTreeMap<Chunk, i64> = BTreeMap::new();
    let runs = gained
        .drain(..)
        .map(|r| (r, 1))
        .chain(lost.drain(..).map(|r| (r, -1)));
    for ((chunk, n), sign) in runs {
        *edges.entry(chunk).or_insert(0) += sign;
        *edges.entry(chunk.saturating_add(u64::from(n))).or_insert(0) -= sign;
    }
    let (mut from, mut level) = (0, 0_i64);
    for (at, step) in edges {
        let n = u32::try_from(at - from).unwrap_or(u32::MAX);
        let list = if level > 0 { &mut *gained } else { &mut *lost };
        list.extend((0..level.unsigned_abs()).map(|_| (from, n)));
        (from, level) = (at, level + step);
    }
}

/// See [`Tree::refers`].
#[derive(Debug, PartialEq, Eq)]
pub enum Refers {
    Branch(Vec<NodeAddr>),
    Leaf(Vec<(Chunk, u32)>),
}
