//! Nodes: one page of the B-tree, searched in place.
//!
//! A page of the metadata device is [`NODE`] bytes; numbers are little-endian, keys as in `key.rs`.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic "cowN" |
//! | 4 | 2 | version of this layout, 1 |
//! | 6 | 1 | kind, see [`NodeKind`] |
//! | 7 | 1 | level: 0 leaves and other pages, branches one more than their children |
//! | 8 | 4 | crc32 of the page with this field zero |
//! | 12 | 4 | leaf, branch: number of items; counts, index: bytes of the body |
//! | 16 | 8 | address of this page: a misplaced one is found out |
//! | 24 | 8 | generation it was made in: a stale one is found out, see branches |
//! | 32 | 2 | leaf: offset of the lowest item of the heap (16384: none) |
//! | 34 | 2 | leaf: bytes of the heap in use by items |
//! | 36 | 28 | zero |
//! | 64 | | body |
//!
//! Body of a leaf (`leaf.rs`): slots of 4 bytes in key order (offset in the page, 2; length of the
//! value, 2), then free bytes, then the heap, which grows down: key (17), value.
//! Body of a branch (`branch.rs`): entries of 29 bytes in key order: key (17), address of the child
//! (8), low half of the child's generation (4). No key in the child is below the entry's, except
//! that the first entry also takes whatever is below it.
//! Body of counts and index: bytes that this room does not look into.

use super::{Key, branch, leaf};
use crate::base::{NODE, NodeAddr};
use parking_lot::RwLock;
use std::cmp::Ordering;
use std::sync::atomic::AtomicBool;

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

impl NodeKind {
    fn from_u8(kind: u8) -> Option<NodeKind> {
        [
            NodeKind::Leaf,
            NodeKind::Branch,
            NodeKind::Counts,
            NodeKind::Index,
        ]
        .into_iter()
        .find(|k| *k as u8 == kind)
    }
}

/// A node in memory. Who may change its page: see `change.rs`.
pub struct Node {
    pub addr: NodeAddr,
    pub generation: u64,
    pub kind: NodeKind,
    pub level: u8,
    /// Made in this generation and not captured yet.
    pub(super) fresh: AtomicBool,
    pub(super) page: RwLock<Page>,
}

impl Node {
    pub(super) fn new(page: Page, fresh: bool) -> Node {
        Node {
            addr: page.addr(),
            generation: page.generation(),
            kind: page.kind(),
            level: page.level(),
            fresh: AtomicBool::new(fresh),
            page: RwLock::new(page),
        }
    }
}

/// Bytes of the header.
pub(super) const HEADER: usize = 64;
/// Bytes of the body.
pub(super) const BODY: usize = NODE - HEADER;
/// Of a branch; deeper than any tree that fits a device.
pub(super) const LEVEL_MAX: u8 = 15;

const MAGIC: [u8; 4] = *b"cowN";
const VERSION: u16 = 1;

const KIND: usize = 6;
const LEVEL: usize = 7;
const CRC: usize = 8;
const COUNT: usize = 12;
const ADDR: usize = 16;
const GENERATION: usize = 24;
const HEAP: usize = 32;
const ALIVE: usize = 34;

const _: () = assert!(ALIVE + 2 <= HEADER && NODE <= u16::MAX as usize);
const _: () = assert!(BODY as u64 == crate::space::Space::PER_PAGE * 4);

/// Bytes of a page. What is read from a device is a `Page` only after [`Page::verify`].
#[derive(Clone)]
pub(super) struct Page(Box<[u8; NODE]>);

impl Page {
    pub fn new(kind: NodeKind, level: u8, addr: NodeAddr, generation: u64) -> Page {
        let mut page = Page(Box::new([0; NODE]));
        page.put(0, &MAGIC);
        page.put(4, &VERSION.to_le_bytes());
        page.put(KIND, &[kind as u8]);
        page.put(LEVEL, &[level]);
        page.place(addr, generation);
        if kind == NodeKind::Leaf {
            page.set_heap(NODE);
        }
        page
    }

    /// Takes a page read from the device; the text says what is wrong with it.
    pub fn verify(bytes: Box<[u8; NODE]>, addr: NodeAddr) -> Result<Page, &'static str> {
        let page = Page(bytes);
        if page.bytes(0, 4) != MAGIC {
            return Err("no node");
        }
        if page.number(CRC, 4) != u64::from(page.crc()) {
            return Err("wrong checksum");
        }
        if page.number(4, 2) != u64::from(VERSION) {
            return Err("unknown version of a node");
        }
        if page.addr() != addr {
            return Err("a node of another place");
        }
        let level = page.level();
        match NodeKind::from_u8(page.number(KIND, 1) as u8).ok_or("unknown kind of node")? {
            NodeKind::Leaf if level == 0 => leaf::check(&page)?,
            NodeKind::Branch if (1..=LEVEL_MAX).contains(&level) => branch::check(&page)?,
            NodeKind::Counts | NodeKind::Index if level == 0 && page.count() <= BODY => {}
            _ => return Err("impossible level or size"),
        }
        Ok(page)
    }

    /// The bytes to write, with their checksum.
    pub fn seal(&self, to: &mut [u8]) {
        to.copy_from_slice(&self.0[..]);
        if let Some(crc) = to.get_mut(CRC..CRC + 4) {
            crc.copy_from_slice(&self.crc().to_le_bytes());
        }
    }

    fn crc(&self) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(self.bytes(0, CRC));
        hasher.update(&[0; 4]);
        hasher.update(self.bytes(CRC + 4, NODE - CRC - 4));
        hasher.finalize()
    }

    /// Gives the page its address and generation.
    pub fn place(&mut self, addr: NodeAddr, generation: u64) {
        self.put(ADDR, &addr.to_le_bytes());
        self.put(GENERATION, &generation.to_le_bytes());
    }

    pub fn kind(&self) -> NodeKind {
        NodeKind::from_u8(self.number(KIND, 1) as u8).unwrap_or(NodeKind::Index)
    }

    pub fn level(&self) -> u8 {
        self.number(LEVEL, 1) as u8
    }

    pub fn addr(&self) -> NodeAddr {
        self.number(ADDR, 8)
    }

    pub fn generation(&self) -> u64 {
        self.number(GENERATION, 8)
    }

    pub fn count(&self) -> usize {
        self.number(COUNT, 4) as usize
    }

    pub fn set_count(&mut self, count: usize) {
        self.put(COUNT, &(count as u32).to_le_bytes());
    }

    /// Of a page that is no tree node.
    pub fn body(&self) -> &[u8] {
        self.bytes(HEADER, self.count().min(BODY))
    }

    pub fn set_body(&mut self, body: &[u8]) {
        self.put(HEADER, body);
        self.set_count(body.len());
    }

    pub fn heap(&self) -> usize {
        self.number(HEAP, 2) as usize
    }

    pub fn set_heap(&mut self, offset: usize) {
        self.put(HEAP, &(offset as u16).to_le_bytes());
    }

    pub fn alive(&self) -> usize {
        self.number(ALIVE, 2) as usize
    }

    pub fn set_alive(&mut self, bytes: usize) {
        self.put(ALIVE, &(bytes as u16).to_le_bytes());
    }

    /// A little-endian number of `n` bytes, at most 8; 0 outside the page.
    #[inline]
    pub fn number(&self, at: usize, n: usize) -> u64 {
        let mut le = [0; 8];
        if let (Some(to), Some(from)) = (le.get_mut(..n), self.0.get(at..at + n)) {
            to.copy_from_slice(from);
        }
        u64::from_le_bytes(le)
    }

    /// `n` bytes; none outside the page.
    #[inline]
    pub fn bytes(&self, at: usize, n: usize) -> &[u8] {
        self.0.get(at..at.saturating_add(n)).unwrap_or(&[])
    }

    #[inline]
    pub fn key(&self, at: usize) -> &[u8; Key::LEN] {
        self.0
            .get(at..)
            .and_then(|b| b.first_chunk())
            .unwrap_or(&[0; Key::LEN])
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        if let Some(to) = self.0.get_mut(at..at + bytes.len()) {
            to.copy_from_slice(bytes);
        }
    }

    /// Moves bytes inside the page.
    pub fn shift(&mut self, from: usize, n: usize, to: usize) {
        if from + n <= NODE && to + n <= NODE {
            self.0.copy_within(from..from + n, to);
        }
    }
}

/// Key order, without a call for each byte.
#[inline]
pub(super) fn order(a: &[u8; Key::LEN], b: &[u8; Key::LEN]) -> Ordering {
    let split = |k: &[u8; Key::LEN]| {
        let high = k.first_chunk::<16>().map_or(0, |h| u128::from_be_bytes(*h));
        (high, k.last().copied())
    };
    split(a).cmp(&split(b))
}
