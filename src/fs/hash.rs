//! Where a name is: the hash that gives directory entries, attributes and further links their keys.
//!
//! A directory entry's offset is `hash << 8 | slot`: 55 bits of keyed SipHash-2-4, then the first
//! free of 256 slots. The offset is the entry's cookie for readdir(3): it depends on the name alone,
//! so it stays whatever is added or removed beside it. Cookies 0, 1 and 2 belong to the start, "."
//! and "..", so a hash is never 0; the greatest is not used either, because a cookie of `i64::MAX`
//! means "at the end" to some programs.

use crate::base::{Error, Ino, Result};
use crate::tree::{Key, Read, kind};
use siphasher::sip::SipHasher24;
use std::ops::ControlFlow;

const BITS: u32 = 55;
/// Names with the same hash in one directory. The key is random and kept secret in the volume, so
/// that nobody can make more.
pub(crate) const SLOTS: u64 = 256;

#[derive(Clone, Copy)]
pub(crate) struct NameHash {
    key: [u8; 16],
    bits: u32,
}

impl NameHash {
    pub(crate) fn new(key: [u8; 16]) -> NameHash {
        NameHash { key, bits: BITS }
    }

    /// So few bits that names collide.
    #[cfg(test)]
    pub(crate) fn narrow(key: [u8; 16], bits: u32) -> NameHash {
        NameHash { key, bits }
    }

    fn hash(&self, parts: &[u8]) -> u64 {
        let h = SipHasher24::new_with_key(&self.key).hash(parts) >> (64 - self.bits);
        h.clamp(1, (1 << BITS) - 2)
    }

    /// First slot of a name in a directory.
    pub(crate) fn name(&self, name: &[u8]) -> u64 {
        self.hash(name) << 8
    }

    /// First slot of an attribute: 47 bits of hash, 8 of slot, 8 of part.
    pub(crate) fn xattr(&self, name: &[u8]) -> u64 {
        (self.hash(name) >> 8) << 16
    }

    /// First slot of a further link.
    pub(crate) fn link(&self, dir: Ino, cookie: u64) -> u64 {
        let mut b = [0; 16];
        let (d, c) = b.split_at_mut(8);
        d.copy_from_slice(&dir.to_le_bytes());
        c.copy_from_slice(&cookie.to_le_bytes());
        self.hash(&b) << 8
    }
}

/// What a search among the slots of one hash found.
pub(crate) enum Slot<T> {
    Found(u64, T),
    /// The first free offset; `None`: all taken.
    Free(Option<u64>),
}

impl<T> Slot<T> {
    /// The free offset, for something new: ENOSPC when 256 others have the same hash.
    pub(crate) fn free(self) -> Result<u64> {
        match self {
            Slot::Free(Some(at)) => Ok(at),
            _ => Err(Error::Posix(libc::ENOSPC)),
        }
    }

    pub(crate) fn found(self) -> Option<(u64, T)> {
        match self {
            Slot::Found(at, what) => Some((at, what)),
            Slot::Free(_) => None,
        }
    }
}

/// Searches the slots `first`, `first + step` ... of (object, kind) for an item `test` accepts.
pub(crate) fn search<T>(
    r: &dyn Read,
    (object, kind): (u64, u8),
    first: u64,
    step: u64,
    test: &mut dyn FnMut(&[u8]) -> Result<Option<T>>,
) -> Result<Slot<T>> {
    let end = first.saturating_add(SLOTS * step);
    let mut free = first;
    let mut found = None;
    let (from, to) = (Key::new(object, kind, first), Key::new(object, kind, end));
    r.scan(&from, &to, &mut |key, value| {
        // Parts of an attribute beyond its first lie between the slots.
        if !(key.offset - first).is_multiple_of(step) {
            return Ok(ControlFlow::Continue(()));
        }
        if key.offset == free {
            free += step;
        }
        match test(value)? {
            None => Ok(ControlFlow::Continue(())),
            Some(what) => {
                found = Some((key.offset, what));
                Ok(ControlFlow::Break(()))
            }
        }
    })?;
    Ok(match found {
        Some((at, what)) => Slot::Found(at, what),
        None => Slot::Free((free < end).then_some(free)),
    })
}

/// The range of all items of one kind an object has.
pub(crate) fn all_of(object: u64, kind: u8) -> (Key, Key) {
    (Key::new(object, kind, 0), Key::new(object, kind + 1, 0))
}

const _: () = assert!(kind::DIRENT < u8::MAX && kind::XATTR < u8::MAX);

#[cfg(test)]
#[path = "hash_tests.rs"]
mod tests;
