//! The reclaimer: takes dead trees apart, a node a step, with no record: what a crash undoes is done again.

use super::{Need, Pool, catalog};
use crate::base::{Error, Result};
use crate::space::Space;
use crate::tree::{Change, Key, Read, Refers, Tree, kind};
use std::collections::BTreeMap;

/// A dead item's value: how many references to the node wait.
pub(super) fn count(value: &[u8]) -> u64 {
    value
        .first_chunk::<8>()
        .map_or(0, |b| u64::from_le_bytes(*b))
}

impl Pool {
    /// Removes volumes that nobody uses any more, then takes up to `steps` steps on dead trees.
    /// What died since the last checkpoint is made durable first. True: there is more to do.
    pub fn reclaim(&self, steps: usize) -> Result<bool> {
        if self.reclaim_settled(steps)? {
            return Ok(true);
        }
        if steps == 0 || self.fresh_dead.lock().0.is_empty() {
            return Ok(false);
        }
        self.checkpoint()?;
        self.reclaim_settled(steps)
    }

    /// The same without what died since the last checkpoint.
    pub(super) fn reclaim_settled(&self, steps: usize) -> Result<bool> {
        for id in self.leaving()? {
            self.leave(id)?;
        }
        for _ in 0..steps {
            if !self.reclaim_step()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// References waiting (at most `most` are counted).
    pub(super) fn dead(&self, most: u64) -> Result<u64> {
        let g = self.enter_catalog(Need::READ, false)?;
        g.view(|r| {
            let mut n = 0;
            r.scan(
                &Key::new(0, kind::DEAD, 0),
                &Key::new(0, kind::DEAD + 1, 0),
                &mut |_, v| {
                    n += count(v);
                    Ok(if n < most {
                        std::ops::ControlFlow::Continue(())
                    } else {
                        std::ops::ControlFlow::Break(())
                    })
                },
            )?;
            Ok(n)
        })
    }

    fn reclaim_step(&self) -> Result<bool> {
        let _g = self.enter_catalog(Need::FREE, false)?;
        loop {
            let mut tree = self.catalog.tree.write();
            let stepped = self.reclaim_one(&mut tree);
            drop(tree);
            match stepped {
                Err(Error::Miss(addr)) => match self.nodes.load(addr) {
                    Err(Error::Corrupt { place, what }) => {
                        log::error!(
                            "reclaiming: {place} is damaged: {what}; its space stays taken"
                        );
                        self.skip_dead(addr)?;
                    }
                    loaded => loaded?,
                },
                stepped => return stepped,
            }
        }
    }

    /// The first dead node whose death is durable. Before that a crash may bring its volume back,
    /// and what the volume shared must not look private to others until then.
    fn next_dead(&self, snapshot: &dyn Read) -> Result<Option<(Key, Vec<u8>)>> {
        let mut from = Key::new(0, kind::DEAD, 0);
        loop {
            let found = snapshot
                .next(&from)?
                .filter(|(k, _)| k.object == 0 && k.kind == kind::DEAD);
            let Some((key, value)) = found else {
                return Ok(None);
            };
            let (now, captured) = &*self.fresh_dead.lock();
            if !now.contains(&key.offset) && !captured.contains(&key.offset) {
                return Ok(Some((key, value)));
            }
            match key.successor() {
                Some(next) => from = next,
                None => return Ok(None),
            }
        }
    }

    fn reclaim_one(&self, tree: &mut Tree) -> Result<bool> {
        let snapshot = tree.at(&self.nodes);
        let Some((key, value)) = self.next_dead(&snapshot)? else {
            return Ok(false);
        };
        let (addr, waiting) = (key.offset, count(&value));
        let refs = u64::from(self.node_space.refs(addr));
        let mut changes: BTreeMap<Key, Change> = BTreeMap::new();
        let put = |changes: &mut BTreeMap<Key, Change>, key, n: u64| {
            changes.insert(key, (n > 0).then(|| n.to_le_bytes().to_vec()));
        };
        let mut runs = Vec::new();
        // Others have it too: only our references go. All are ours: all but one go. The last one:
        // the node goes, and what it refers to is next.
        let (gone, last) = match waiting {
            _ if refs > waiting => (waiting, false),
            0 | 1 => (1, true),
            _ => (waiting - 1, false),
        };
        if last {
            match Tree::refers(&self.nodes, addr)? {
                Refers::Leaf(r) => runs = r,
                Refers::Branch(children) => {
                    for child in children {
                        let key = catalog::dead_key(child);
                        let n = match changes.get(&key) {
                            Some(Some(v)) => count(v),
                            _ => snapshot.get(&key)?.map_or(0, |v| count(&v)),
                        };
                        put(&mut changes, key, n + 1);
                    }
                }
            }
        }
        put(&mut changes, key, waiting.saturating_sub(gone));
        tree.apply(&self.nodes, &self.chunks, self.chunk_size, &changes)?;
        self.catalog.set_changed(true);
        self.touched
            .store(true, std::sync::atomic::Ordering::SeqCst);
        if last {
            if let Err(e) = Space::drop(&self.node_space, addr, 1) {
                log::error!("reclaiming node {addr}: {e}; run 'cowfs pool check'");
            }
            self.nodes.discard(addr);
        } else if !self
            .node_space
            .drop_shared(addr, u32::try_from(gone).unwrap_or(u32::MAX))
        {
            // The others left while we looked: the last reference is ours, and what the node refers
            // to goes with it. It waits again.
            let mut again = BTreeMap::new();
            put(&mut again, key, waiting);
            loop {
                match tree.apply(&self.nodes, &self.chunks, self.chunk_size, &again) {
                    Err(Error::Miss(a)) => self.nodes.load(a)?,
                    done => break done.map(drop)?,
                }
            }
        }
        for (chunk, n) in runs {
            if let Err(e) = Space::drop(&self.chunks, chunk, u64::from(n)) {
                log::error!("reclaiming chunks {chunk}+{n}: {e}; run 'cowfs pool check'");
            }
        }
        Ok(true)
    }

    fn skip_dead(&self, addr: u64) -> Result<()> {
        let mut tree = self.catalog.tree.write();
        let changes = BTreeMap::from([(catalog::dead_key(addr), None)]);
        loop {
            match tree.apply(&self.nodes, &self.chunks, self.chunk_size, &changes) {
                Err(Error::Miss(a)) => self.nodes.load(a)?,
                done => return done.map(drop),
            }
        }
    }
}
