//! The copy-on-write B-tree: nodes, their store, lookups and changes.

mod branch;
mod change;
mod diff;
mod key;
mod leaf;
mod mapping;
mod node;
mod plan;
mod read;
mod store;
#[allow(clippy::module_inception)]
mod tree;

#[cfg(test)]
mod tests;

pub use key::{Key, kind};
pub use mapping::{Bitmap, Mapping, RUN_MAX};
pub use node::{Node, NodeKind};
pub use read::Snapshot;
pub use store::NodeStore;
pub use tree::{Change, Delta, Refers, Tree};

use crate::base::Result;
use std::ops::ControlFlow;

/// Bytes a value may have at most (a node holds at least three such items).
pub const VALUE_MAX: usize = 4096;

/// Reading an ordered map of keys to values: a tree, or a tree with an operation's changes on top.
///
/// Any of these may answer [`crate::base::Error::Miss`]; pass it up with `?`: the caller of the
/// closure reads the node and runs the closure again from its start.
pub trait Read {
    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>>;
    /// The item with the greatest key not above `key`.
    fn floor(&self, key: &Key) -> Result<Option<(Key, Vec<u8>)>>;
    /// The item with the least key not below `key`.
    fn next(&self, key: &Key) -> Result<Option<(Key, Vec<u8>)>>;
    /// Items with `from <= key < to`, in order, until `each` breaks.
    #[allow(
        clippy::type_complexity,
        reason = "a closure is clearest where it is passed"
    )]
    fn scan(
        &self,
        from: &Key,
        to: &Key,
        each: &mut dyn FnMut(&Key, &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()>;
    /// Whether the leaf that holds (or would hold) `key` may be reached from another volume too:
    /// some node on the way has more than one reference. What an operation in progress has changed
    /// itself is not shared... but is answered by the tree as it was before the operation.
    fn shared(&self, key: &Key) -> Result<bool>;
}
