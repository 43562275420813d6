//! The body of a leaf: slots and a heap of items. The layout is in `node.rs`.

use super::node::{BODY, HEADER, Page, order};
use super::{Key, Mapping, VALUE_MAX, kind};
use crate::base::{Chunk, NODE};
use std::cmp::Ordering;

const SLOT: usize = 4;
/// What an item takes beside its value.
pub(super) const OVERHEAD: usize = SLOT + Key::LEN;

// Three of the largest items fit, so two pages always take one page's items and one more.
const _: () = assert!(3 * (OVERHEAD + VALUE_MAX) <= BODY);

type RawKey = [u8; Key::LEN];

/// Everything that access in place relies on.
pub(super) fn check(page: &Page) -> Result<(), &'static str> {
    let (count, heap) = (page.count(), page.heap());
    if count == 0 || count > BODY / OVERHEAD {
        return Err("impossible number of items");
    }
    if heap < HEADER + count * SLOT || heap > NODE {
        return Err("impossible heap");
    }
    let mut extents = Vec::with_capacity(count);
    for i in 0..count {
        let (at, len) = slot(page, i);
        if at < heap || at + Key::LEN + len > NODE || len > VALUE_MAX {
            return Err("an item outside its place");
        }
        if i > 0 && order(key(page, i - 1), key(page, i)) != Ordering::Less {
            return Err("keys out of order");
        }
        if is_map(key(page, i)) && Mapping::decode(value(page, i)).is_none() {
            return Err("impossible mapping");
        }
        extents.push((at, at + Key::LEN + len));
    }
    extents.sort_unstable();
    if extents
        .iter()
        .zip(extents.iter().skip(1))
        .any(|(a, b)| a.1 > b.0)
    {
        return Err("items overlap");
    }
    if extents.iter().map(|(from, to)| to - from).sum::<usize>() != page.alive() {
        return Err("wrong number of bytes in use");
    }
    Ok(())
}

/// Offset of the item, length of its value.
#[inline]
fn slot(page: &Page, i: usize) -> (usize, usize) {
    let slot = page.number(HEADER + i * SLOT, SLOT) as usize;
    (slot & 0xffff, slot >> 16)
}

fn set_slot(page: &mut Page, i: usize, at: usize, len: usize) {
    page.put(HEADER + i * SLOT, &((at | len << 16) as u32).to_le_bytes());
}

#[inline]
pub(super) fn key(page: &Page, i: usize) -> &RawKey {
    page.key(slot(page, i).0)
}

#[inline]
pub(super) fn value(page: &Page, i: usize) -> &[u8] {
    let (at, len) = slot(page, i);
    page.bytes(at + Key::LEN, len)
}

/// Where the key is, or where it would be.
pub(super) fn search(page: &Page, wanted: &RawKey) -> Result<usize, usize> {
    let (mut low, mut high) = (0, page.count());
    while low < high {
        let middle = (low + high) / 2;
        match order(key(page, middle), wanted) {
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
            Ordering::Equal => return Ok(middle),
        }
    }
    Err(low)
}

/// Bytes of the body in use.
pub(super) fn used(page: &Page) -> usize {
    page.count() * SLOT + page.alive()
}

pub(super) fn fits(page: &Page, value_len: usize) -> bool {
    used(page) + OVERHEAD + value_len <= BODY
}

/// Inserts an item that fits, before item `i`.
pub(super) fn insert(page: &mut Page, i: usize, key: &RawKey, value: &[u8]) {
    let count = page.count();
    let size = Key::LEN + value.len();
    if page.heap() < HEADER + (count + 1) * SLOT + size {
        compact(page);
    }
    let at = page.heap() - size;
    page.put(at, key);
    page.put(at + Key::LEN, value);
    page.set_heap(at);
    page.set_alive(page.alive() + size);
    let slots = HEADER + i * SLOT;
    page.shift(slots, (count - i) * SLOT, slots + SLOT);
    page.set_count(count + 1);
    set_slot(page, i, at, value.len());
}

pub(super) fn remove(page: &mut Page, i: usize) {
    let count = page.count();
    let (at, len) = slot(page, i);
    let size = Key::LEN + len;
    page.set_alive(page.alive() - size);
    if at == page.heap() {
        page.set_heap(at + size);
    }
    let slots = HEADER + i * SLOT;
    page.shift(slots + SLOT, (count - i - 1) * SLOT, slots);
    page.set_count(count - 1);
    if count == 1 {
        page.set_heap(NODE);
    }
}

/// Replaces a value by one of the same length; `false` when the lengths differ.
pub(super) fn overwrite(page: &mut Page, i: usize, value: &[u8]) -> bool {
    let (at, len) = slot(page, i);
    if len == value.len() {
        page.put(at + Key::LEN, value);
    }
    len == value.len()
}

/// Moves the items together at the end of the page.
fn compact(page: &mut Page) {
    let old = page.clone();
    let mut heap = NODE;
    for i in 0..old.count() {
        let (at, len) = slot(&old, i);
        heap -= Key::LEN + len;
        page.put(heap, old.bytes(at, Key::LEN + len));
        set_slot(page, i, heap, len);
    }
    page.set_heap(heap);
}

/// Makes room for an item of `size` (with overhead) before item `i`: moves the later part of the
/// items to the empty page `right`. An item that goes to the very end moves nothing, so that
/// ascending keys leave full pages behind. Answers how many items stay; the new one belongs to
/// `right` when `i` is greater, or equal and `true` is answered too.
pub(super) fn split(page: &mut Page, right: &mut Page, i: usize, size: usize) -> (usize, bool) {
    let count = page.count();
    if i == count {
        return (count, true);
    }
    let total = used(page) + size;
    // The best cut: `stay` old items remain, with or without the new one.
    let (mut best, mut best_max) = ((count, true), usize::MAX);
    let mut left = 0;
    for stay in 0..=count {
        for new_right in [true, false] {
            let fits_order = if new_right { stay <= i } else { stay >= i };
            let left = if new_right { left } else { left + size };
            if fits_order && left.max(total - left) < best_max {
                best_max = left.max(total - left);
                best = (stay, new_right);
            }
        }
        left += OVERHEAD + slot(page, stay).1;
    }
    let (stay, new_right) = best;
    for from in stay..count {
        let at = right.count();
        insert(right, at, key(page, from), value(page, from));
    }
    truncate(page, stay);
    (stay, new_right && i == stay)
}

fn truncate(page: &mut Page, count: usize) {
    let gone: usize = (count..page.count())
        .map(|i| Key::LEN + slot(page, i).1)
        .sum();
    page.set_alive(page.alive() - gone);
    page.set_count(count);
    if count == 0 {
        page.set_heap(NODE);
    }
}

#[inline]
pub(super) fn is_map(key: &RawKey) -> bool {
    key.get(8) == Some(&kind::MAP)
}

/// The runs of chunks that the leaf's mapping items point to.
pub(super) fn runs(page: &Page) -> Vec<(Chunk, u32)> {
    (0..page.count())
        .filter(|&i| is_map(key(page, i)))
        .filter_map(|i| Mapping::decode(value(page, i)))
        .map(|m| (m.chunk, m.count))
        .collect()
}
