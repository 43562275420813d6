//! The first half of a change: everything that may fail, and changes nothing.

use super::branch::{self, Child};
use super::leaf;
use super::node::Page;
use super::tree::Delta;
use super::{Key, Mapping, Node, NodeKind, NodeStore, VALUE_MAX, kind};
use crate::base::{Chunk, Error, NodeAddr, Result};
use crate::space::Space;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

type RawKey = [u8; Key::LEN];

/// One key's new value, or its removal.
type Change<'a> = (RawKey, Option<&'a [u8]>);

/// A change that does change something.
pub(super) struct Edit<'a> {
    pub key: RawKey,
    pub value: Option<&'a [u8]>,
}

/// A node that will change, with those below it; all held in memory.
pub(super) struct Plan<'a> {
    pub node: Arc<Node>,
    /// Nobody else sees the node and it is of this generation: it is changed in place.
    pub own: bool,
    /// Of a branch: the entries whose children change, ascending.
    pub parts: Vec<(usize, Plan<'a>)>,
    /// Of a leaf, ascending.
    pub edits: Vec<Edit<'a>>,
}

/// What a change will do beside changing nodes.
#[derive(Default)]
pub(super) struct Effects {
    pub delta: Delta,
    pub gained: Vec<(Chunk, u32)>,
    pub lost: Vec<(Chunk, u32)>,
    /// New nodes it takes at most.
    pub nodes: u64,
}

pub(super) struct Planner<'a> {
    pub store: &'a NodeStore,
    pub chunks: &'a Space,
    pub chunk_size: u64,
    pub effects: Effects,
}

impl<'a> Planner<'a> {
    /// The keys in their stored form, and whether all of it can be stored.
    pub fn encode(&self, changes: &'a BTreeMap<Key, super::Change>) -> Result<Vec<Change<'a>>> {
        let encode = |(key, change): (&Key, &'a super::Change)| {
            if let Some(value) = change {
                if value.len() > VALUE_MAX {
                    let n = value.len();
                    return Err(Error::Invalid(format!(
                        "value of {n} bytes for key {key:?}"
                    )));
                }
                if key.kind == kind::MAP {
                    let known = Mapping::decode(value).filter(|m| in_bounds(self.chunks, m));
                    known.ok_or_else(|| Error::Invalid(format!("no mapping for key {key:?}")))?;
                }
            }
            Ok((key.encode(), change.as_deref()))
        };
        changes.iter().map(encode).collect()
    }

    /// `None`: nothing below changes.
    pub fn root(&mut self, root: NodeAddr, changes: &[Change<'a>]) -> Result<Option<Plan<'a>>> {
        let node = self.store.get(root)?;
        let (plan, splits) = self.node(node, false, changes)?;
        if splits > 0 {
            self.effects.nodes += splits + 2 + splits / (self.store.fanout as u64 - 1);
        }
        Ok(plan)
    }

    /// New items of a tree that has no node yet.
    pub fn empty(&mut self, changes: &[Change<'a>]) -> Result<Vec<Edit<'a>>> {
        let mut edits = Vec::new();
        for (key, value) in changes.iter().filter(|(_, value)| value.is_some()) {
            self.account(key, None, *value)?;
            edits.push(Edit {
                key: *key,
                value: *value,
            });
        }
        // A leaf for each item is more than enough, and branches above them.
        self.effects.nodes += 2 * edits.len() as u64 + 2;
        Ok(edits)
    }

    /// The plan, and by how many entries the node's parent may grow.
    fn node(
        &mut self,
        node: Arc<Node>,
        above: bool,
        changes: &[Change<'a>],
    ) -> Result<(Option<Plan<'a>>, u64)> {
        let space = self.store.space();
        let refs = space.refs(node.addr);
        if refs == 0 {
            return Err(self
                .store
                .corrupt(node.addr, "a node in use has no reference"));
        }
        let shared = above || refs > 1;
        let own = !shared && node.fresh.load(Ordering::Acquire);
        let (mut parts, mut edits) = (Vec::new(), Vec::new());
        let splits;
        {
            let page = node.page.read();
            if node.kind == NodeKind::Leaf {
                edits = self.leaf(&page, changes)?;
                let incoming: usize = edits
                    .iter()
                    .filter_map(|e| e.value)
                    .map(|v| leaf::OVERHEAD + v.len())
                    .sum();
                let puts = edits.iter().filter(|e| e.value.is_some()).count() as u64;
                splits = if leaf::used(&page) + incoming > super::node::BODY {
                    puts
                } else {
                    0
                };
            } else {
                let mut grown = 0;
                let mut rest = changes;
                while let Some((first, _)) = rest.first().copied() {
                    let i = branch::search(&page, &first);
                    let n = if i + 1 < page.count() {
                        let end = branch::key(&page, i + 1);
                        rest.partition_point(|(key, _)| key < end)
                    } else {
                        rest.len()
                    };
                    let (now, later) = rest.split_at(n.max(1));
                    rest = later;
                    let child = self.child(branch::child(&page, i), &node)?;
                    let (plan, more) = self.node(child, shared, now)?;
                    grown += more;
                    parts.extend(plan.map(|p| (i, p)));
                }
                splits = if page.count() as u64 + grown > self.store.fanout as u64 {
                    grown
                } else {
                    0
                };
                self.effects.nodes += grown;
            }
            if edits.is_empty() && parts.is_empty() {
                return Ok((None, 0));
            }
            if shared {
                self.shareable(&page)?;
            }
        }
        self.effects.nodes += u64::from(!own);
        Ok((
            Some(Plan {
                node,
                own,
                parts,
                edits,
            }),
            splits,
        ))
    }

    fn child(&self, child: Child, parent: &Node) -> Result<Arc<Node>> {
        let level = parent.level.checked_sub(1);
        let level = level.ok_or_else(|| self.store.corrupt(parent.addr, "a branch of level 0"))?;
        self.store.child(child, level)
    }

    /// The changes that do change something here.
    fn leaf(&mut self, page: &Page, changes: &[Change<'a>]) -> Result<Vec<Edit<'a>>> {
        let mut edits = Vec::with_capacity(changes.len());
        for &(key, value) in changes {
            let old = leaf::search(page, &key).ok().map(|i| leaf::value(page, i));
            if old != value {
                self.account(&key, old, value)?;
                edits.push(Edit { key, value });
            }
        }
        Ok(edits)
    }

    fn account(&mut self, key: &RawKey, old: Option<&[u8]>, new: Option<&[u8]>) -> Result<()> {
        let delta = &mut self.effects.delta;
        match key.get(8) {
            Some(&kind::INODE) => {
                delta.inodes += i64::from(new.is_some()) - i64::from(old.is_some());
            }
            Some(&kind::MAP) => {
                let old = old.and_then(Mapping::decode);
                let new = new.and_then(Mapping::decode);
                let blocks = |m: &Mapping| m.blocks(self.chunk_size) as i64;
                delta.blocks += new.as_ref().map_or(0, blocks) - old.as_ref().map_or(0, blocks);
                let run = |m: Mapping| (m.chunk, m.count);
                // The same chunks, other blocks of them: the reference just stays.
                if old.map(run) != new.map(run) {
                    if let Some(old) = &old {
                        self.referenced(old)?;
                    }
                    self.effects.gained.extend(new.map(run));
                    self.effects.lost.extend(old.map(run));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A mapping that goes must have references to give back.
    fn referenced(&self, old: &Mapping) -> Result<()> {
        let ends = [old.chunk, old.chunk + u64::from(old.count) - 1];
        if let Some(chunk) = ends.into_iter().find(|c| self.chunks.refs(*c) == 0) {
            return Err(Error::corrupt(
                format!("chunk {chunk}"),
                "it is in use but has no reference",
            ));
        }
        Ok(())
    }

    /// Whether one more reference can be taken on all a page refers to.
    fn shareable(&self, page: &Page) -> Result<()> {
        let space = self.store.space();
        let fine = match page.kind() {
            NodeKind::Leaf => leaf::runs(page).iter().all(|(c, n)| {
                c.checked_add(u64::from(*n))
                    .is_some_and(|e| e <= self.chunks.limit())
            }),
            _ => (0..page.count()).all(|i| space.refs(branch::child(page, i).addr) > 0),
        };
        if fine {
            return Ok(());
        }
        Err(self
            .store
            .corrupt(page.addr(), "it refers to what is not there"))
    }
}

fn in_bounds(chunks: &Space, m: &Mapping) -> bool {
    m.chunk
        .checked_add(u64::from(m.count))
        .is_some_and(|end| end <= chunks.limit())
}
