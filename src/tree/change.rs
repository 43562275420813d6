//! The second half of a change: it cannot fail.
//!
//! A node is changed in place when nobody else can see it: it and all above it have one reference,
//! and it was made in this generation (no checkpoint has captured it). Else it is copied to a new
//! address. A copy of a node with other references takes one more on everything the node refers
//! to, *before* it drops its reference of the old one: so a thread in another tree that finds
//! itself the only owner finds what is below with the right counts. When the other owner leaves
//! at the same time, the last to leave finds no reference left, and gives those of the old node back.

use super::branch::{self, Child, Entry};
use super::leaf;
use super::node::{BODY, Page};
use super::plan::{Edit, Plan};
use super::{Key, Node, NodeKind, NodeStore};
use crate::base::NodeAddr;
use crate::space::{Space, SpaceError};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

type RawKey = [u8; Key::LEN];

/// A node with less than this in use looks for a neighbour to join.
const SMALL: usize = BODY / 3;
/// Joined nodes hold at most this, so that they are not split again at once.
const JOINED: usize = BODY / 4 * 3;

/// Addresses for new nodes, taken before the change; what is left is given back.
pub(super) struct Supply<'a> {
    space: &'a Space,
    runs: Vec<Range<NodeAddr>>,
}

impl<'a> Supply<'a> {
    /// `None` when there are not so many.
    pub fn new(space: &'a Space, n: u64) -> Option<Supply<'a>> {
        let mut supply = Supply {
            space,
            runs: Vec::new(),
        };
        let mut wanted = n;
        while wanted > 0 {
            let run = space.alloc(wanted)?;
            wanted = wanted.saturating_sub(run.end - run.start);
            supply.runs.push(run);
        }
        // Taken from the end.
        supply.runs.reverse();
        Some(supply)
    }

    fn take(&mut self) -> Option<NodeAddr> {
        loop {
            let run = self.runs.last_mut()?;
            if let Some(addr) = run.next() {
                return Some(addr);
            }
            self.runs.pop();
        }
    }
}

impl Drop for Supply<'_> {
    fn drop(&mut self) {
        for run in self.runs.drain(..).filter(|r| !r.is_empty()) {
            self.space.give_back(run);
        }
    }
}

pub(super) struct Changer<'a> {
    pub store: &'a NodeStore,
    pub chunks: &'a Space,
    pub supply: Supply<'a>,
}

/// What became of a node: itself (or its copy), unless it is empty now, and new ones to its right.
struct Outcome {
    first: Option<Child>,
    more: Vec<Entry>,
    /// `first` may be joined with a neighbour.
    small: bool,
}

fn child_of(node: &Node) -> Child {
    Child {
        addr: node.addr,
        birth: node.generation as u32,
    }
}

impl Changer<'_> {
    /// Carries the plan out: the new root.
    pub fn root(&mut self, plan: Plan<'_>) -> NodeAddr {
        let level = plan.node.level;
        let outcome = self.node(plan, Key::MIN.encode());
        self.grow(outcome, level)
    }

    /// A tree that had no node.
    pub fn plant(&mut self, edits: &[Edit<'_>]) -> NodeAddr {
        if edits.is_empty() {
            return 0;
        }
        let root = self.create(NodeKind::Leaf, 0);
        let outcome = self.leaf(root, edits);
        self.grow(outcome, 0)
    }

    /// Puts branches above nodes of `level` until there is one root; takes away what is not needed.
    fn grow(&mut self, outcome: Outcome, mut level: u8) -> NodeAddr {
        let Outcome { first, more, .. } = outcome;
        let first = first.map(|child| Entry {
            key: Key::MIN.encode(),
            child,
        });
        let mut entries: Vec<Entry> = first.into_iter().chain(more).collect();
        while entries.len() > 1 {
            level += 1;
            entries = self.lay_out(None, level, &entries, false);
        }
        let Some(root) = entries.first() else {
            return 0;
        };
        let mut root = root.child.addr;
        // A branch of this generation with one child is of no use; others go when next changed.
        while let Ok(node) = self.store.get(root) {
            let own = node.fresh.load(Ordering::Acquire) && self.store.space().refs(root) == 1;
            let page = node.page.read();
            if node.kind != NodeKind::Branch || !own || page.count() != 1 {
                break;
            }
            let only = branch::child(&page, 0).addr;
            self.leave(root);
            root = only;
        }
        root
    }

    /// `low`: the least key that may ever be below this node.
    fn node(&mut self, plan: Plan<'_>, low: RawKey) -> Outcome {
        let Plan {
            node,
            own,
            parts,
            edits,
        } = plan;
        let node = if own { node } else { self.copy(&node) };
        match node.kind {
            NodeKind::Leaf => self.leaf(node, &edits),
            _ => self.branch(node, parts, low),
        }
    }

    /// Edits a leaf of our own.
    fn leaf(&mut self, node: Arc<Node>, edits: &[Edit<'_>]) -> Outcome {
        // Ascending by first key; edits ascend too, so those to the left of `at` are done.
        let mut nodes: Vec<(Option<RawKey>, Arc<Node>)> = vec![(None, node)];
        let mut at = 0;
        for edit in edits {
            while nodes
                .get(at + 1)
                .is_some_and(|(key, _)| key.is_some_and(|k| k <= edit.key))
            {
                at += 1;
            }
            let Some((_, node)) = nodes.get(at) else {
                break;
            };
            let mut page = node.page.write();
            let place = match (leaf::search(&page, &edit.key), edit.value) {
                (Ok(i), Some(value)) if leaf::overwrite(&mut page, i, value) => continue,
                (Ok(i), _) => {
                    leaf::remove(&mut page, i);
                    i
                }
                (Err(i), _) => i,
            };
            let Some(value) = edit.value else { continue };
            if leaf::fits(&page, value.len()) {
                leaf::insert(&mut page, place, &edit.key, value);
                continue;
            }
            let right = self.create(NodeKind::Leaf, 0);
            let mut page_right = right.page.write();
            let size = leaf::OVERHEAD + value.len();
            let (stay, right_of_cut) = leaf::split(&mut page, &mut page_right, place, size);
            if place > stay || (place == stay && right_of_cut) {
                leaf::insert(&mut page_right, place - stay, &edit.key, value);
            } else {
                leaf::insert(&mut page, place, &edit.key, value);
            }
            let first = *leaf::key(&page_right, 0);
            drop(page_right);
            drop(page);
            nodes.insert(at + 1, (Some(first), right));
        }
        let mut outcome = Outcome {
            first: None,
            more: Vec::new(),
            small: false,
        };
        for (key, node) in nodes {
            let (count, used) = {
                let page = node.page.read();
                (page.count(), leaf::used(&page))
            };
            if count == 0 {
                self.leave(node.addr);
                continue;
            }
            let child = child_of(&node);
            match key {
                Some(key) if outcome.first.is_some() => outcome.more.push(Entry { key, child }),
                _ => {
                    outcome.first = Some(child);
                    outcome.small = used < SMALL && edits.iter().any(|e| e.value.is_none());
                }
            }
        }
        outcome
    }

    /// Changes what is below a branch of our own.
    fn branch(&mut self, node: Arc<Node>, parts: Vec<(usize, Plan<'_>)>, low: RawKey) -> Outcome {
        let mut outcomes = Vec::with_capacity(parts.len());
        let mut same = true;
        for (i, plan) in parts {
            let low = if i == 0 {
                low
            } else {
                *branch::key(&node.page.read(), i)
            };
            let outcome = self.node(plan, low);
            same &= outcome.first.is_some() && outcome.more.is_empty() && !outcome.small;
            outcomes.push((i, outcome));
        }
        if same {
            let mut page = node.page.write();
            for (i, child) in outcomes.iter().filter_map(|(i, o)| Some((*i, o.first?))) {
                branch::set_child(&mut page, i, child);
            }
            return Outcome {
                first: Some(child_of(&node)),
                more: Vec::new(),
                small: false,
            };
        }
        let mut old = branch::entries(&node.page.read());
        // The first entry also takes keys below its own (entries before it may be gone), so what
        // is split off there may begin below it.
        if let Some(first) = old.first_mut() {
            first.key = low;
        }
        let before = old.len();
        let mut entries: Vec<Entry> = Vec::with_capacity(before + outcomes.len());
        let mut small = Vec::new();
        let mut outcomes = outcomes.into_iter().peekable();
        let mut appended = true;
        for (i, entry) in old.into_iter().enumerate() {
            let Some((_, outcome)) = outcomes.next_if(|(at, _)| *at == i) else {
                entries.push(entry);
                continue;
            };
            if let Some(child) = outcome.first {
                if outcome.small {
                    small.push(entries.len());
                }
                entries.push(Entry { child, ..entry });
            }
            appended &= i + 1 == before || outcome.more.is_empty();
            entries.extend(outcome.more);
        }
        let level = node.level;
        for i in small.into_iter().rev() {
            self.join(&mut entries, i, level.saturating_sub(1));
        }
        if entries.is_empty() {
            self.leave(node.addr);
            return Outcome {
                first: None,
                more: Vec::new(),
                small: false,
            };
        }
        let small = entries.len() < before && entries.len() < self.store.fanout / 3;
        let mut nodes = self
            .lay_out(Some(node), level, &entries, appended)
            .into_iter();
        Outcome {
            first: nodes.next().map(|e| e.child),
            more: nodes.collect(),
            small,
        }
    }

    /// Writes entries into branches: into `node` first, then into new ones. `appended`: new entries
    /// are at the end, where more will come, so full nodes stay full.
    fn lay_out(
        &mut self,
        node: Option<Arc<Node>>,
        level: u8,
        entries: &[Entry],
        appended: bool,
    ) -> Vec<Entry> {
        let fanout = self.store.fanout;
        let pieces = entries.len().div_ceil(fanout).max(1);
        let each = if appended {
            fanout
        } else {
            entries.len().div_ceil(pieces)
        };
        let mut node = node;
        let mut above = Vec::with_capacity(pieces);
        for piece in entries.chunks(each.max(1)) {
            let node = node
                .take()
                .unwrap_or_else(|| self.create(NodeKind::Branch, level));
            branch::fill(&mut node.page.write(), piece);
            if let Some(first) = piece.first() {
                above.push(Entry {
                    key: first.key,
                    child: child_of(&node),
                });
            }
        }
        above
    }

    /// Joins the small node of entry `i`, which is our own, with a neighbour that is in memory.
    fn join(&mut self, entries: &mut Vec<Entry>, i: usize, level: u8) {
        let Some(entry) = entries.get(i).copied() else {
            return;
        };
        let Ok(node) = self.store.child(entry.child, level) else {
            return;
        };
        let left = i.checked_sub(1).and_then(|l| Some((l, *entries.get(l)?)));
        let right = entries.get(i + 1).map(|e| (i + 1, *e));
        for (at, beside) in right.into_iter().chain(left) {
            let Ok(neighbour) = self.store.child(beside.child, level) else {
                continue;
            };
            // A crafted page may point twice to one node.
            if neighbour.addr == node.addr || neighbour.kind != node.kind {
                continue;
            }
            let is_left = at < i;
            let joined = match node.kind {
                NodeKind::Leaf => self.join_leaves(&node, &neighbour, is_left),
                _ => {
                    let lower = if is_left { &entry } else { &beside };
                    self.join_branches(&node, &neighbour, is_left, lower)
                }
            };
            if joined {
                let key = if is_left { beside.key } else { entry.key };
                if let Some(e) = entries.get_mut(i.min(at)) {
                    *e = Entry {
                        key,
                        child: entry.child,
                    };
                }
                entries.remove(i.max(at));
                return;
            }
        }
    }

    fn join_leaves(&mut self, node: &Node, neighbour: &Node, is_left: bool) -> bool {
        let mut page = node.page.write();
        let other = neighbour.page.read();
        if leaf::used(&page) + leaf::used(&other) > JOINED {
            return false;
        }
        self.take_over(&other);
        for i in 0..other.count() {
            let at = if is_left { i } else { page.count() };
            leaf::insert(&mut page, at, leaf::key(&other, i), leaf::value(&other, i));
        }
        true
    }

    /// `lower` is the entry of the right one of both: its key bounds all that is there, which the
    /// first key inside need not.
    fn join_branches(
        &mut self,
        node: &Node,
        neighbour: &Node,
        is_left: bool,
        lower: &Entry,
    ) -> bool {
        let mut page = node.page.write();
        let other = neighbour.page.read();
        if page.count() + other.count() > self.store.fanout * 3 / 4 {
            return false;
        }
        self.take_over(&other);
        let (ours, theirs) = (branch::entries(&page), branch::entries(&other));
        let (mut all, mut second) = if is_left {
            (theirs, ours)
        } else {
            (ours, theirs)
        };
        if let Some(first) = second.first_mut() {
            first.key = lower.key;
        }
        all.append(&mut second);
        branch::fill(&mut page, &all);
        true
    }

    /// A node of our own with the same content, in place of `node`.
    fn copy(&mut self, node: &Node) -> Arc<Node> {
        let old = node.page.read();
        let mut page = old.clone();
        page.place(self.new_addr(), self.store.generation());
        let copy = self.store.insert(page);
        self.take_over(&old);
        copy
    }

    fn create(&mut self, kind: NodeKind, level: u8) -> Arc<Node> {
        let page = Page::new(kind, level, self.new_addr(), self.store.generation());
        self.store.insert(page)
    }

    fn new_addr(&mut self) -> NodeAddr {
        let space = self.store.space();
        // The plan counted the nodes; should it have miscounted, there is still the reserve.
        let addr = self.supply.take().or_else(|| {
            debug_assert!(false, "more nodes than planned");
            log::error!("a change of a tree took more nodes than planned");
            space.alloc(1).map(|r| r.start)
        });
        let addr = addr.expect("nodes for a planned change");
        note(space.add(addr, 1));
        addr
    }

    /// Drops our reference of a node whose content another node of ours has now.
    fn take_over(&self, page: &Page) {
        let space = self.store.space();
        let shared = space.refs(page.addr()) > 1;
        if shared {
            self.refer(page, |space, start, n| space.add(start, n));
        }
        if space.drop_one(page.addr()).is_ok_and(|left| left > 0) {
            return;
        }
        if shared {
            self.refer(page, |space, start, n| space.drop(start, n));
        }
        self.store.forget(page.addr());
    }

    /// Drops our reference of a node of our own that is empty, or whose child has taken its place.
    fn leave(&self, addr: NodeAddr) {
        note(self.store.space().drop_one(addr).map(|_| ()));
        self.store.forget(addr);
    }

    fn refer(&self, page: &Page, f: impl Fn(&Space, u64, u64) -> Result<(), SpaceError>) {
        match page.kind() {
            NodeKind::Leaf => {
                for (chunk, n) in leaf::runs(page) {
                    note(f(self.chunks, chunk, u64::from(n)));
                }
            }
            _ => {
                for i in 0..page.count() {
                    note(f(self.store.space(), branch::child(page, i).addr, 1));
                }
            }
        }
    }
}

/// Counts that do not fit what was found in the plan: the check will tell what is wrong.
pub(super) fn note(result: Result<(), SpaceError>) {
    if let Err(e) = result {
        log::error!("{e}; run 'cowfs pool check'");
    }
}
