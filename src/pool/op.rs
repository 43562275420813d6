//! Operations: passing the gates, reading and changing one volume's tree.

use super::core::{Core, Volume};
use super::record::Action;
use super::{Need, Pool};
use crate::base::{Error, Result};
use crate::space::Reservation;
use crate::tree::{Change, Key, NodeStore, Read, Snapshot, Tree};
use parking_lot::RwLockReadGuard;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::Ordering;

/// Inside the gates: no checkpoint captures and no snapshot is taken meanwhile. Keep it for one
/// operation, with its data I/O, and no longer.
pub struct Entered<'a> {
    pub(super) pool: &'a Pool,
    pub(super) core: &'a Core,
    _gate: RwLockReadGuard<'a, ()>,
    _pool_gate: RwLockReadGuard<'a, ()>,
    _reserved: Reserved<'a>,
    _inside: Inside,
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// A thread inside a gate must not pass one again, nor wait for a checkpoint: one that waits for
/// the gate in between would wait for both, and they for it. Tests find out who does.
struct Inside;

impl Inside {
    fn enter() -> Inside {
        outside();
        INSIDE.set(true);
        Inside
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        INSIDE.set(false);
    }
}

/// See `Inside`.
pub(super) fn outside() {
    debug_assert!(!INSIDE.get(), "this thread is inside the gate already");
}

/// Ring space and nodes set aside; given back on drop.
pub(super) struct Reserved<'a> {
    pool: &'a Pool,
    ring: u64,
    _nodes: Option<Reservation>,
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.ring > 0 {
            self.pool.log.unreserve(self.ring);
        }
    }
}

/// Nodes that only deletes and checkpoints may take, and those that only checkpoints may take.
const FLOOR: u64 = 96;
const FLOOR_FREES: u64 = 48;
/// Dirty nodes at which writers wait for a checkpoint (they are pinned in memory).
const DIRTY_HIGH: usize = 6144;

impl Pool {
    /// Sets aside what an operation may need; makes room by a checkpoint where there is none.
    pub(super) fn reserve(&self, need: Need, logged: bool) -> Result<Reserved<'_>> {
        let none = Reserved {
            pool: self,
            ring: 0,
            _nodes: None,
        };
        if need.keys == 0 {
            return Ok(none);
        }
        self.refuse_if_failed()?;
        let payload = 64 + need.keys as usize * (Key::LEN + 5) + need.bytes as usize;
        let ring = if logged {
            super::log::record_size(payload)
        } else {
            0
        };
        let nodes = 8 + 3 * u64::from(need.keys);
        // A checkpoint puts every changed volume's root into the catalog, and new pages of counts.
        let volumes = self.open.lock().len() as u64 / 8;
        let floor =
            volumes + self.tables.lock().pages() + if need.frees { FLOOR_FREES } else { FLOOR };
        for attempt in 0.. {
            let seen = self.nodes.generation();
            if self.nodes.dirty() < DIRTY_HIGH || attempt > 0 {
                let n = self.node_space.reserve(nodes, floor).or_else(|| {
                    self.grow_metadata(nodes + floor);
                    self.node_space.reserve(nodes, floor)
                });
                if n.is_some() && (ring == 0 || self.log.reserve(ring)) {
                    return Ok(Reserved {
                        pool: self,
                        ring,
                        _nodes: n,
                    });
                }
                // What is dead but not yet taken apart may be what is wanted.
                let more = n.is_none() && attempt > 0 && !need.frees && self.reclaim(64)?;
                if n.is_none() && attempt > 2 && !more {
                    return Err(Error::NoSpace);
                }
            }
            if attempt > 16 {
                return Err(Error::NoSpace);
            }
            self.checkpoint_unless(seen)?;
        }
        Ok(none)
    }
}

impl Volume {
    /// Sets aside what the operation needs, then passes the pool's and the volume's gate, shared.
    /// Never call it while holding an `Entered`, or a lock that somebody inside the gate waits for.
    pub fn enter(&self, need: Need) -> Result<Entered<'_>> {
        let logged = !self.core.building();
        let reserved = self.pool.reserve(need, logged)?;
        Ok(Entered::pass(&self.pool, &self.core, reserved))
    }
}

impl<'a> Entered<'a> {
    pub(super) fn pass(pool: &'a Pool, core: &'a Core, reserved: Reserved<'a>) -> Entered<'a> {
        let inside = Inside::enter();
        let pool_gate = pool.gate.read();
        let gate = core.gate.read();
        Entered {
            pool,
            core,
            _gate: gate,
            _pool_gate: pool_gate,
            _reserved: reserved,
            _inside: inside,
        }
    }

    /// Reads the tree. The closure may run several times (nodes not in memory are read in between).
    pub fn view<T>(&self, f: impl FnMut(&dyn Read) -> Result<T>) -> Result<T> {
        self.pool.view(self.core, f)
    }

    /// Changes the tree: one record, wholly or not at all. The closure may run several times, each
    /// time from a clean slate; when it answers `Err` nothing is changed. Alone in this volume's tree.
    /// Answered when the record is in the log (safe against the death of this process).
    pub fn update<T>(&self, mut f: impl FnMut(&mut Op<'_>) -> Result<T>) -> Result<T> {
        self.pool.update(self.core, |op| Ok((f(op)?, Vec::new())))
    }
}

impl Pool {
    pub(super) fn view<T>(
        &self,
        core: &Core,
        mut f: impl FnMut(&dyn Read) -> Result<T>,
    ) -> Result<T> {
        loop {
            let tree = core.tree.read();
            let done = f(&tree.at(&self.nodes));
            drop(tree);
            match done {
                Err(Error::Miss(addr)) => self.nodes.load(addr)?,
                done => return done,
            }
        }
    }

    /// `f` answers its result and the tree-level actions that belong into the same record.
    /// The caller has passed the gates.
    pub(super) fn update<T>(
        &self,
        core: &Core,
        mut f: impl FnMut(&mut Op<'_>) -> Result<(T, Vec<Action>)>,
    ) -> Result<T> {
        loop {
            let mut tree = core.tree.write();
            let mut op = Op {
                tree: *tree,
                nodes: &self.nodes,
                changes: BTreeMap::new(),
            };
            let done = f(&mut op).and_then(|(value, actions)| {
                if op.changes.is_empty() && actions.is_empty() {
                    return Ok((value, None));
                }
                self.refuse_if_failed()?;
                let pos = self.commit(core, &mut tree, &op.changes, &actions, true)?;
                Ok((value, pos))
            });
            drop(tree);
            match done {
                Err(Error::Miss(addr)) => self.nodes.load(addr)?,
                Err(e) => return Err(e),
                Ok((value, pos)) => {
                    if let Some(pos) = pos {
                        self.log.write_out(pos).map_err(|e| self.fail(e))?;
                    }
                    return Ok(value);
                }
            }
        }
    }

    /// Applies changes and actions to the trees and appends their record; the position after it, or
    /// none where nothing is logged. Also the replay's way in (`log` false).
    pub(super) fn commit(
        &self,
        core: &Core,
        tree: &mut Tree,
        changes: &BTreeMap<Key, Change>,
        actions: &[Action],
        log: bool,
    ) -> Result<Option<u64>> {
        // The catalog's side of the actions is changes too, but of keys that are never logged.
        let mut all;
        let mut applied = changes;
        if !actions.is_empty() {
            all = changes.clone();
            self.prepare_actions(*tree, actions, &mut all)?;
            applied = &all;
        }
        let delta = tree.apply(&self.nodes, &self.chunks, self.chunk_size, applied)?;
        // From here on nothing fails.
        self.touched.store(true, Ordering::SeqCst);
        core.account(delta, applied);
        self.perform_actions(actions, applied);
        if !log || core.building() {
            return Ok(None);
        }
        let payload = super::record::encode(core.id.0, changes, actions);
        let (seq, pos) = self.log.append(&payload);
        core.set_last_seq(seq);
        for action in actions {
            if let Action::Clone { target, .. } = action {
                self.born(*target, seq);
            }
        }
        if self.log.used() > self.log.size() / 2 {
            self.wake();
        }
        Ok(Some(pos))
    }
}

/// Changes in progress: reads see them.
pub struct Op<'a> {
    tree: Tree,
    nodes: &'a NodeStore,
    changes: BTreeMap<Key, Change>,
}

impl Op<'_> {
    pub fn put(&mut self, key: Key, value: Vec<u8>) {
        self.changes.insert(key, Some(value));
    }

    pub fn delete(&mut self, key: Key) {
        self.changes.insert(key, None);
    }

    fn before(&self) -> Snapshot<'_> {
        self.tree.at(self.nodes)
    }
}

impl Read for Op<'_> {
    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        match self.changes.get(key) {
            Some(change) => Ok(change.clone()),
            None => self.before().get(key),
        }
    }

    fn floor(&self, key: &Key) -> Result<Option<(Key, Vec<u8>)>> {
        let mut at = *key;
        loop {
            let below = self.before().floor(&at)?;
            let mine = self.changes.range(..=at).next_back();
            match (below, mine) {
                (None, None) => return Ok(None),
                (Some(found), None) => return Ok(Some(found)),
                (Some(found), Some((k, _))) if found.0 > *k => return Ok(Some(found)),
                (_, Some((k, Some(value)))) => return Ok(Some((*k, value.clone()))),
                (_, Some((k, None))) => match k.predecessor() {
                    Some(p) => at = p,
                    None => return Ok(None),
                },
            }
        }
    }

    fn next(&self, key: &Key) -> Result<Option<(Key, Vec<u8>)>> {
        let mut at = *key;
        loop {
            let above = self.before().next(&at)?;
            let mine = self.changes.range(at..).next();
            match (above, mine) {
                (None, None) => return Ok(None),
                (Some(found), None) => return Ok(Some(found)),
                (Some(found), Some((k, _))) if found.0 < *k => return Ok(Some(found)),
                (_, Some((k, Some(value)))) => return Ok(Some((*k, value.clone()))),
                (_, Some((k, None))) => match k.successor() {
                    Some(s) => at = s,
                    None => return Ok(None),
                },
            }
        }
    }

    fn scan(
        &self,
        from: &Key,
        to: &Key,
        each: &mut dyn FnMut(&Key, &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        if self
            .changes
            .range((Bound::Included(from), Bound::Excluded(to)))
            .next()
            .is_none()
        {
            return self.before().scan(from, to, each);
        }
        let mut at = *from;
        while let Some((k, v)) = self.next(&at)? {
            if k >= *to || each(&k, &v)?.is_break() {
                break;
            }
            match k.successor() {
                Some(s) => at = s,
                None => break,
            }
        }
        Ok(())
    }

    fn shared(&self, key: &Key) -> Result<bool> {
        self.before().shared(key)
    }
}
