//! The check: walks every root and compares what it finds with the stored counts.
//!
//! At one moment every root gets a reference of ours, so nothing below can change in place, and the
//! counts are copied; then the walk goes on beside the writers. Checkpoints wait meanwhile: one that
//! counted our references would make them last.

use super::{CheckReport, Need, Pool, catalog};
use crate::base::{Error, NodeAddr, Result, VolumeId};
use crate::space::Space;
use crate::tree::{Change, Key, Read, Refers, Tree, kind};
use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

/// Hears of a key and its values in the one tree and in the other.
pub type EachDifference<'a> = &'a mut dyn FnMut(&Key, Option<&[u8]>, Option<&[u8]>) -> Result<()>;

/// One space's counts as they were.
struct Counts(HashMap<u64, Vec<u8>>);

impl Counts {
    fn copy(space: &Space) -> Counts {
        let pages = space.limit().div_ceil(Space::PER_PAGE);
        Counts(
            (0..pages)
                .filter_map(|p| Some((p, space.page(p)?)))
                .collect(),
        )
    }

    fn get(&self, i: u64) -> u32 {
        let at = (i % Space::PER_PAGE) as usize * 4;
        let page = self.0.get(&(i / Space::PER_PAGE));
        page.and_then(|p| p.get(at..)?.first_chunk::<4>())
            .map_or(0, |b| u32::from_le_bytes(*b))
    }

    fn each(&self, mut f: impl FnMut(u64, u32)) {
        for (page, bytes) in &self.0 {
            for (i, b) in bytes.chunks_exact(4).enumerate() {
                let n = b.first_chunk::<4>().map_or(0, |b| u32::from_le_bytes(*b));
                if n != 0 {
                    f(page * Space::PER_PAGE + i as u64, n);
                }
            }
        }
    }
}

struct Walk<'a> {
    pool: &'a Pool,
    nodes: HashMap<NodeAddr, u32>,
    chunks: HashMap<u64, u32>,
    report: CheckReport,
}

/// More problems than this are counted, not listed.
const PROBLEMS: usize = 1000;

impl Walk<'_> {
    fn problem(&mut self, what: String) {
        if self.report.problems.len() < PROBLEMS {
            self.report.problems.push(what);
        }
    }

    /// One reference to a node; its content counts once.
    fn refer(&mut self, root: NodeAddr, whose: &str, progress: &dyn Fn(u64, u64)) {
        let mut todo = vec![root];
        while let Some(addr) = todo.pop() {
            let n = self.nodes.entry(addr).or_insert(0);
            *n += 1;
            if *n > 1 {
                continue;
            }
            self.report.nodes += 1;
            if self.report.nodes.is_multiple_of(1024) {
                progress(self.report.nodes, self.pool.node_space.used());
            }
            match self.pool.refers(addr) {
                Ok(Refers::Branch(children)) => todo.extend(children),
                Ok(Refers::Leaf(runs)) => {
                    for (chunk, count) in runs {
                        for c in chunk..chunk.saturating_add(u64::from(count)) {
                            *self.chunks.entry(c).or_insert(0) += 1;
                        }
                    }
                }
                Err(e) => self.problem(format!("{whose}: {e}")),
            }
        }
    }
}

impl Pool {
    /// What a node refers to, read from the device where it is not in memory.
    fn refers(&self, addr: NodeAddr) -> Result<Refers> {
        loop {
            match Tree::refers(&self.nodes, addr) {
                Err(Error::Miss(a)) => self.nodes.load(a)?,
                done => return done,
            }
        }
    }

    /// Walks everything; safe while the pool is in use.
    pub fn check(&self, progress: &dyn Fn(u64, u64)) -> Result<CheckReport> {
        let _one = self.checkpointing.lock();
        let mut pinned: Vec<NodeAddr> = Vec::new();
        let (walk_roots, fixed, node_counts, chunk_counts) = loop {
            let _still = self.gate.write();
            let tree = self.catalog.tree.write();
            match self.roots(*tree) {
                Err(Error::Miss(addr)) => {
                    drop(tree);
                    drop(_still);
                    self.nodes.load(addr)?;
                }
                Err(e @ Error::Corrupt { .. }) => {
                    return Ok(CheckReport {
                        problems: vec![e.to_string()],
                        ..Default::default()
                    });
                }
                roots => {
                    let roots = roots?;
                    let counts = (Counts::copy(&self.node_space), Counts::copy(&self.chunks));
                    for (addr, _) in &roots {
                        self.node_space
                            .add(*addr, 1)
                            .map_err(|e| Error::corrupt("the reference counts", e.to_string()))?;
                        pinned.push(*addr);
                    }
                    let tables = self.tables.lock();
                    let fixed: Vec<NodeAddr> = [&tables.chunks, &tables.nodes]
                        .into_iter()
                        .flat_map(|t| t.pages.iter().chain(&t.index).copied())
                        .filter(|a| *a != 0)
                        .collect();
                    break (roots, fixed, counts.0, counts.1);
                }
            }
        };
        let mut walk = Walk {
            pool: self,
            nodes: HashMap::new(),
            chunks: HashMap::new(),
            report: CheckReport::default(),
        };
        walk.report.volumes = walk_roots
            .iter()
            .filter(|(_, w)| w.starts_with("volume"))
            .count() as u64;
        for (addr, whose) in &walk_roots {
            walk.refer(*addr, whose, progress);
        }
        for addr in fixed {
            *walk.nodes.entry(addr).or_insert(0) += 1;
        }
        // Address 0 is taken for good.
        *walk.nodes.entry(0).or_insert(0) += 1;
        self.unpin(&pinned)?;
        let (nodes, chunks) = (
            std::mem::take(&mut walk.nodes),
            std::mem::take(&mut walk.chunks),
        );
        walk.report.chunks = chunks.len() as u64;
        compare(&mut walk, "node", &nodes, &node_counts);
        compare(&mut walk, "chunk", &chunks, &chunk_counts);
        Ok(walk.report)
    }

    /// Every reference to a node from outside the trees.
    fn roots(&self, catalog: Tree) -> Result<Vec<(NodeAddr, String)>> {
        let mut roots = Vec::new();
        if catalog.root != 0 {
            roots.push((catalog.root, "the catalog".to_string()));
        }
        let open: HashMap<VolumeId, NodeAddr> = self
            .cores()
            .iter()
            .map(|c| (c.id, c.tree.read().root))
            .collect();
        let snapshot = catalog.at(&self.nodes);
        let mut volumes = Vec::new();
        snapshot.scan(&Key::MIN, &Key::MAX, &mut |k, v| {
            match k.kind {
                kind::VOLUME => volumes.push(VolumeId(k.object)),
                kind::DEAD => {
                    for _ in 0..super::reclaim::count(v).min(u64::from(u32::MAX)) {
                        roots.push((k.offset, "a tree being reclaimed".into()));
                    }
                }
                _ => {}
            }
            Ok(ControlFlow::Continue(()))
        })?;
        for id in volumes {
            let root = match open.get(&id) {
                Some(root) => *root,
                None => catalog::root_item(&snapshot, id)?.unwrap_or_default().root,
            };
            if root != 0 {
                roots.push((root, format!("volume {id}")));
            }
        }
        Ok(roots)
    }

    /// Gives our references back: those that are the last ones through the dead list. The caller
    /// still keeps checkpoints away: one that counted our references would make them last.
    fn unpin(&self, pinned: &[NodeAddr]) -> Result<()> {
        loop {
            let _nobody_else_counts = self.gate.write();
            let mut tree = self.catalog.tree.write();
            let mut counts: BTreeMap<NodeAddr, u64> = BTreeMap::new();
            for addr in pinned {
                *counts.entry(*addr).or_insert(0) += 1;
            }
            counts.retain(|addr, n| u64::from(self.node_space.refs(*addr)) <= *n);
            let mut put = || -> Result<()> {
                let mut changes: BTreeMap<Key, Change> = BTreeMap::new();
                for addr in counts.keys() {
                    let key = catalog::dead_key(*addr);
                    let old = tree
                        .at(&self.nodes)
                        .get(&key)?
                        .map_or(0, |v| super::reclaim::count(&v));
                    changes.insert(key, Some((old + 1).to_le_bytes().to_vec()));
                }
                tree.apply(&self.nodes, &self.chunks, self.chunk_size, &changes)
                    .map(drop)
            };
            match put() {
                Err(Error::Miss(addr)) => {
                    drop(tree);
                    drop(_nobody_else_counts);
                    self.nodes.load(addr)?;
                }
                done => {
                    done?;
                    for addr in pinned {
                        // All of them but one that the dead list has now.
                        if counts.remove(addr).is_none()
                            && let Err(e) = Space::drop(&self.node_space, *addr, 1)
                        {
                            log::error!("node {addr}: {e}");
                        }
                    }
                    self.touched
                        .store(true, std::sync::atomic::Ordering::SeqCst);
                    self.wake();
                    return Ok(());
                }
            }
        }
    }

    /// Keys that differ between two volumes' trees, with both values.
    pub fn diff(&self, a: VolumeId, b: VolumeId, each: EachDifference<'_>) -> Result<()> {
        let _no_checkpoint = self.checkpointing.lock();
        let (trees, pinned) = {
            let _g = self.enter_catalog(Need::READ, false)?;
            let (a, b) = (self.core(a)?, self.core(b)?);
            let (mut trees, mut pinned) = (Vec::new(), Vec::new());
            for core in [a, b] {
                // Exclusively: whole operations only.
                let _whole = core.gate.write();
                let tree = *core.tree.read();
                if tree.root != 0 {
                    self.node_space
                        .add(tree.root, 1)
                        .map_err(|e| Error::corrupt("the reference counts", e.to_string()))?;
                    pinned.push(tree.root);
                }
                trees.push(tree);
            }
            (trees, pinned)
        };
        let done = Tree::diff(trees[0], trees[1], &self.nodes, each);
        self.unpin(&pinned)?;
        done
    }
}

fn compare(walk: &mut Walk<'_>, what: &str, found: &HashMap<u64, u32>, stored: &Counts) {
    let mut wrong: Vec<(u64, u32, u32)> = Vec::new();
    for (i, n) in found {
        if stored.get(*i) != *n {
            wrong.push((*i, *n, stored.get(*i)));
        }
    }
    stored.each(|i, n| {
        if !found.contains_key(&i) {
            wrong.push((i, 0, n));
        }
    });
    wrong.sort_unstable();
    for (i, found, stored) in wrong {
        walk.problem(format!(
            "{what} {i} has {found} references, its count says {stored}"
        ));
    }
}
