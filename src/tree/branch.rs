//! The body of a branch: an array of entries. The layout is in `node.rs`.

use super::Key;
use super::node::{BODY, HEADER, Page, order};
use crate::base::NodeAddr;
use std::cmp::Ordering;

const ENTRY: usize = Key::LEN + 8 + 4;
/// Entries of a full branch.
pub(super) const MAX: usize = BODY / ENTRY;

const _: () = assert!(ENTRY == 29 && MAX == 562);

/// What an entry points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Child {
    pub addr: NodeAddr,
    /// Low half of its generation.
    pub birth: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub key: [u8; Key::LEN],
    pub child: Child,
}

/// Everything that access in place relies on.
pub(super) fn check(page: &Page) -> Result<(), &'static str> {
    let count = page.count();
    if count == 0 || count > MAX {
        return Err("impossible number of entries");
    }
    for i in 0..count {
        if i > 0 && order(key(page, i - 1), key(page, i)) != Ordering::Less {
            return Err("keys out of order");
        }
        let addr = child(page, i).addr;
        if addr == 0 || addr == page.addr() {
            return Err("impossible address of a child");
        }
    }
    Ok(())
}

#[inline]
pub(super) fn key(page: &Page, i: usize) -> &[u8; Key::LEN] {
    page.key(HEADER + i * ENTRY)
}

#[inline]
pub(super) fn child(page: &Page, i: usize) -> Child {
    let at = HEADER + i * ENTRY + Key::LEN;
    Child {
        addr: page.number(at, 8),
        birth: page.number(at + 8, 4) as u32,
    }
}

pub(super) fn set_child(page: &mut Page, i: usize, child: Child) {
    let at = HEADER + i * ENTRY + Key::LEN;
    page.put(at, &child.addr.to_le_bytes());
    page.put(at + 8, &child.birth.to_le_bytes());
}

/// The entry whose child holds, or would hold, the key.
pub(super) fn search(page: &Page, wanted: &[u8; Key::LEN]) -> usize {
    // The first entry takes everything below the second.
    let (mut low, mut high) = (1, page.count());
    while low < high {
        let middle = (low + high) / 2;
        match order(key(page, middle), wanted) {
            Ordering::Greater => high = middle,
            _ => low = middle + 1,
        }
    }
    low - 1
}

pub(super) fn entries(page: &Page) -> Vec<Entry> {
    (0..page.count())
        .map(|i| Entry {
            key: *key(page, i),
            child: child(page, i),
        })
        .collect()
}

/// Replaces all entries; at most [`MAX`].
pub(super) fn fill(page: &mut Page, entries: &[Entry]) {
    for (i, entry) in entries.iter().enumerate() {
        page.put(HEADER + i * ENTRY, &entry.key);
        set_child(page, i, entry.child);
    }
    page.set_count(entries.len());
}
