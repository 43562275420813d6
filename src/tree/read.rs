//! Lookups.

use super::branch;
use super::{Key, Node, NodeKind, NodeStore, Read, Tree, leaf};
use crate::base::Result;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A tree for reading. Nothing may change it meanwhile; trees that share nodes with it may change.
#[derive(Clone, Copy)]
pub struct Snapshot<'a> {
    pub tree: Tree,
    pub store: &'a NodeStore,
}

/// The nodes from the root to a leaf, and the place in each.
type Path = Vec<(Arc<Node>, usize)>;

type RawKey = [u8; Key::LEN];

impl Snapshot<'_> {
    /// Goes down to the leaf for `key`. The place in the leaf is that of the least key not below it.
    /// Empty: the tree is.
    fn descend(&self, key: &RawKey) -> Result<Path> {
        let mut path = Path::new();
        if self.tree.root == 0 {
            return Ok(path);
        }
        let mut node = self.store.get(self.tree.root)?;
        loop {
            if node.kind == NodeKind::Leaf {
                let place = leaf::search(&node.page.read(), key).unwrap_or_else(|at| at);
                path.push((node, place));
                return Ok(path);
            }
            let (place, child) = {
                let page = node.page.read();
                let place = branch::search(&page, key);
                (place, branch::child(&page, place))
            };
            // Levels fall, so this ends.
            let below = self.store.child(child, node.level.saturating_sub(1))?;
            path.push((node, place));
            node = below;
        }
    }

    /// Goes on to the first (or last) place of the leaf to the right (or left); `false` at the end.
    fn turn(&self, path: &mut Path, right: bool) -> Result<bool> {
        path.pop();
        loop {
            let Some((node, place)) = path.last_mut() else {
                return Ok(false);
            };
            let next = if right {
                Some(*place + 1)
            } else {
                place.checked_sub(1)
            };
            match next.filter(|n| *n < node.page.read().count()) {
                Some(next) => *place = next,
                None => {
                    path.pop();
                    continue;
                }
            }
            break;
        }
        while let Some((node, place)) = path.last().filter(|(n, _)| n.kind == NodeKind::Branch) {
            let child = branch::child(&node.page.read(), *place);
            let below = self.store.child(child, node.level.saturating_sub(1))?;
            let place = if right {
                0
            } else {
                below.page.read().count().saturating_sub(1)
            };
            path.push((below, place));
        }
        Ok(true)
    }
}

fn item(path: &Path) -> Option<(Key, Vec<u8>)> {
    let (node, place) = path.last()?;
    let page = node.page.read();
    (*place < page.count()).then(|| {
        (
            Key::decode(leaf::key(&page, *place)),
            leaf::value(&page, *place).to_vec(),
        )
    })
}

impl Read for Snapshot<'_> {
    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        if self.tree.root == 0 {
            return Ok(None);
        }
        let key = key.encode();
        let mut node = self.store.get(self.tree.root)?;
        loop {
            let child = {
                let page = node.page.read();
                if node.kind == NodeKind::Leaf {
                    let found = leaf::search(&page, &key).ok();
                    return Ok(found.map(|i| leaf::value(&page, i).to_vec()));
                }
                branch::child(&page, branch::search(&page, &key))
            };
            node = self.store.child(child, node.level.saturating_sub(1))?;
        }
    }

    fn floor(&self, key: &Key) -> Result<Option<(Key, Vec<u8>)>> {
        let raw = key.encode();
        let mut path = self.descend(&raw)?;
        let Some((node, place)) = path.last_mut() else {
            return Ok(None);
        };
        let exact = {
            let page = node.page.read();
            *place < page.count() && *leaf::key(&page, *place) == raw
        };
        if !exact {
            match place.checked_sub(1) {
                Some(before) => *place = before,
                None if self.turn(&mut path, false)? => {}
                None => return Ok(None),
            }
        }
        Ok(item(&path))
    }

    fn next(&self, key: &Key) -> Result<Option<(Key, Vec<u8>)>> {
        let mut path = self.descend(&key.encode())?;
        match item(&path) {
            Some(found) => Ok(Some(found)),
            None if self.turn(&mut path, true)? => Ok(item(&path)),
            None => Ok(None),
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
        let mut path = self.descend(&from.encode())?;
        let to = to.encode();
        while let Some((node, place)) = path.last() {
            let page = node.page.read();
            for i in *place..page.count() {
                let key = leaf::key(&page, i);
                if *key >= to || each(&Key::decode(key), leaf::value(&page, i))?.is_break() {
                    return Ok(());
                }
            }
            drop(page);
            if !self.turn(&mut path, true)? {
                break;
            }
        }
        Ok(())
    }

    fn shared(&self, key: &Key) -> Result<bool> {
        let path = self.descend(&key.encode())?;
        let space = self.store.space();
        Ok(path.iter().any(|(node, _)| space.sharers(node.addr) > 1))
    }
}
