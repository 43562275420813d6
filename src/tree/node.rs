//! Nodes: one page of the B-tree, searched in place.

/// What a page of the metadata device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum NodeKind {
    Leaf = 1,
    Branch = 2,
    /// A page of reference counts.
    Counts = 3,
    /// A page of addresses of count pages.
    Index = 4,
}

pub struct Node {}
