//! What differs between two trees, without looking at what they share.
//!
//! Two cursors go through both trees in key order. Each stands at an item, or before a subtree not
//! opened yet, of which the branch above tells the least key it may have. Where both stand before
//! the same node, both pass it by; else what begins earlier is opened. Where the trees cut their
//! nodes differently one opens a node that the other comes to a little later and opens as well:
//! that costs a path, not more, since both find the same nodes below.

use super::branch::{self, Child};
use super::{Key, Node, NodeKind, NodeStore, Tree, leaf};
use crate::base::{NodeAddr, Result};
use std::cmp::Ordering;
use std::sync::Arc;

type RawKey = [u8; Key::LEN];

struct Frame {
    node: Arc<Node>,
    place: usize,
    /// No key in the node is below.
    bound: RawKey,
}

/// Where a cursor stands.
enum At {
    /// Before a subtree: its root, level and least key.
    Subtree(Child, u8, RawKey),
    Item(RawKey),
    End,
}

struct Cursor<'a> {
    store: &'a NodeStore,
    /// Not opened yet.
    root: NodeAddr,
    frames: Vec<Frame>,
}

impl<'a> Cursor<'a> {
    fn new(store: &'a NodeStore, tree: Tree) -> Cursor<'a> {
        Cursor {
            store,
            root: tree.root,
            frames: Vec::new(),
        }
    }

    fn at(&mut self) -> At {
        if self.root != 0 {
            let child = Child {
                addr: self.root,
                birth: 0,
            };
            return At::Subtree(child, u8::MAX, Key::MIN.encode());
        }
        while let Some(frame) = self.frames.last() {
            let page = frame.node.page.read();
            if frame.place < page.count() {
                if frame.node.kind == NodeKind::Leaf {
                    return At::Item(*leaf::key(&page, frame.place));
                }
                let first = frame.place == 0;
                let bound = if first {
                    frame.bound
                } else {
                    *branch::key(&page, frame.place)
                };
                let level = frame.node.level.saturating_sub(1);
                return At::Subtree(branch::child(&page, frame.place), level, bound);
            }
            drop(page);
            self.frames.pop();
            self.pass();
        }
        At::End
    }

    /// Leaves the item or the subtree behind.
    fn pass(&mut self) {
        if self.root != 0 {
            self.root = 0;
        } else if let Some(frame) = self.frames.last_mut() {
            frame.place += 1;
        }
    }

    fn open(&mut self, child: Child, level: u8, bound: RawKey) -> Result<()> {
        let node = self.store.fetch(child.addr)?;
        let is_root = std::mem::take(&mut self.root) != 0;
        let node = if is_root {
            node
        } else {
            self.store.expect(node, child, level)?
        };
        self.frames.push(Frame {
            node,
            place: 0,
            bound,
        });
        Ok(())
    }

    /// The item's value, copied so that no page is locked while it is looked at.
    fn value(&self) -> Vec<u8> {
        let value = |f: &Frame| leaf::value(&f.node.page.read(), f.place).to_vec();
        self.frames.last().map(value).unwrap_or_default()
    }
}

impl Tree {
    /// Calls `each` for keys whose items differ between two trees, in order; shared subtrees are
    /// skipped by their address. Values: in `a`, in `b`.
    ///
    /// Reads nodes that are not in memory itself (it never answers `Miss`), so call it with no tree
    /// lock held, on roots that the caller has a reference of each for as long as it takes.
    #[allow(
        clippy::type_complexity,
        reason = "a closure is clearest where it is passed"
    )]
    pub fn diff(
        a: Tree,
        b: Tree,
        store: &NodeStore,
        each: &mut dyn FnMut(&Key, Option<&[u8]>, Option<&[u8]>) -> Result<()>,
    ) -> Result<()> {
        let (mut a, mut b) = (Cursor::new(store, a), Cursor::new(store, b));
        loop {
            let (at_a, at_b) = (a.at(), b.at());
            match (at_a, at_b) {
                (At::End, At::End) => return Ok(()),
                (At::Subtree(x, ..), At::Subtree(y, ..)) if x.addr == y.addr => {
                    a.pass();
                    b.pass();
                }
                (At::Subtree(x, level_x, from_x), At::Subtree(y, level_y, from_y)) => {
                    // What begins earlier first; the higher of two that begin alike.
                    match from_x.cmp(&from_y).then(level_y.cmp(&level_x)) {
                        Ordering::Greater => b.open(y, level_y, from_y)?,
                        _ => a.open(x, level_x, from_x)?,
                    }
                }
                (At::Subtree(x, level, from), At::Item(key)) if from <= key => {
                    a.open(x, level, from)?;
                }
                (At::Item(key), At::Subtree(y, level, from)) if from <= key => {
                    b.open(y, level, from)?;
                }
                (At::Subtree(x, level, from), At::End) => a.open(x, level, from)?,
                (At::End, At::Subtree(y, level, from)) => b.open(y, level, from)?,
                (At::Item(x), At::Item(y)) if x == y => {
                    let (in_a, in_b) = (a.value(), b.value());
                    if in_a != in_b {
                        each(&Key::decode(&x), Some(&in_a), Some(&in_b))?;
                    }
                    a.pass();
                    b.pass();
                }
                (At::Item(x), At::Item(y)) if y < x => {
                    each(&Key::decode(&y), None, Some(&b.value()))?;
                    b.pass();
                }
                (At::Item(x), _) => {
                    each(&Key::decode(&x), Some(&a.value()), None)?;
                    a.pass();
                }
                (_, At::Item(y)) => {
                    each(&Key::decode(&y), None, Some(&b.value()))?;
                    b.pass();
                }
            }
        }
    }
}
