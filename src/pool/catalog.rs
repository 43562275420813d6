//! The catalog: the pool's own tree, with all volumes, their names, roots and blobs.
//!
//! | key | value |
//! |---|---|
//! | (volume, VOLUME, 0) | what the volume is (`VolumeItem`) |
//! | (volume, ROOT, 0) | where its tree is (`RootItem`); written by checkpoints only, never logged |
//! | (0, NAME, hash and slot) | volume 8, name |
//! | (volume, BLOB, hash, slot and part) | part 0: name length 2, name, total length 4, bytes; others: bytes |
//! | (0, DEAD, node) | references 8 that wait for the reclaimer; never logged |
//! | (0, LEAVING, volume) | empty: being removed, or being filled (gone after a crash) |
//!
//! `VolumeItem`, little-endian:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | kind: 1 image, 2 container, 3 layer, 4 snapshot |
//! | 1 | 1 | flags: 1 sealed, 2 building, 4 removing |
//! | 2 | 2 | length of the name |
//! | 4 | 4 | created, nanoseconds |
//! | 8 | 8 | created, seconds |
//! | 16 | 8 | source volume; 0: none |
//! | 24 | 8 | size limit, bytes; 0: none |
//! | 32 | 32 | zero |
//! | 64 | | name |
//!
//! `RootItem`: root 8, blocks 8, inodes 8, next inode number 8, next virtual chunk 8, zero 24.

use super::{Kind, VolumeInfo};
use crate::base::{BLOCK, Error, NodeAddr, Result, Time, VChunk, VolumeId};
use crate::tree::{Key, Read, VALUE_MAX, kind};
use siphasher::sip::SipHasher24;
use std::hash::Hasher;
use std::ops::ControlFlow;

pub(super) const ROOT: u8 = 0x81;
pub(super) const LEAVING: u8 = 0x99;
pub const NAME_MAX: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VolumeItem {
    pub kind: Kind,
    pub sealed: bool,
    pub building: bool,
    pub removing: bool,
    pub created: Time,
    pub source: u64,
    pub limit: u64,
    pub name: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RootItem {
    pub root: NodeAddr,
    pub blocks: u64,
    pub inodes: u64,
    pub next_ino: u64,
    pub next_vchunk: VChunk,
}

const ITEM_HEADER: usize = 64;
const ROOT_LEN: usize = 64;

impl VolumeItem {
    pub fn encode(&self) -> Vec<u8> {
        let mut b = vec![0; ITEM_HEADER];
        b[0] = match self.kind {
            Kind::Image => 1,
            Kind::Container => 2,
            Kind::Layer => 3,
            Kind::Snapshot => 4,
        };
        b[1] = u8::from(self.sealed) | u8::from(self.building) << 1 | u8::from(self.removing) << 2;
        b[2..4].copy_from_slice(&(self.name.len() as u16).to_le_bytes());
        b[4..8].copy_from_slice(&self.created.nsec.to_le_bytes());
        b[8..16].copy_from_slice(&self.created.sec.to_le_bytes());
        b[16..24].copy_from_slice(&self.source.to_le_bytes());
        b[24..32].copy_from_slice(&self.limit.to_le_bytes());
        b.extend_from_slice(self.name.as_bytes());
        b
    }

    pub fn decode(b: &[u8]) -> Result<VolumeItem> {
        let bad = || Error::corrupt("the catalog", "a volume's entry cannot be read");
        let (h, name) = b.split_first_chunk::<ITEM_HEADER>().ok_or_else(bad)?;
        let kind = match h[0] {
            1 => Kind::Image,
            2 => Kind::Container,
            3 => Kind::Layer,
            4 => Kind::Snapshot,
            _ => return Err(bad()),
        };
        let name_len = usize::from(u16::from_le_bytes([h[2], h[3]]));
        let name = name.get(..name_len).ok_or_else(bad)?;
        Ok(VolumeItem {
            kind,
            sealed: h[1] & 1 != 0,
            building: h[1] & 2 != 0,
            removing: h[1] & 4 != 0,
            created: Time {
                nsec: u32::from_le_bytes([h[4], h[5], h[6], h[7]]) % 1_000_000_000,
                sec: long(h, 8) as i64,
            },
            source: long(h, 16),
            limit: long(h, 24),
            name: String::from_utf8(name.to_vec()).map_err(|_| bad())?,
        })
    }

    pub fn info(&self, id: VolumeId, root: &RootItem) -> VolumeInfo {
        VolumeInfo {
            id,
            name: self.name.clone(),
            kind: self.kind,
            source: (self.source != 0).then_some(VolumeId(self.source)),
            created: self.created,
            sealed: self.sealed,
            building: self.building,
            removing: self.removing,
            limit: (self.limit != 0).then_some(self.limit),
            used: root.blocks.saturating_mul(BLOCK),
            inodes: root.inodes,
        }
    }
}

fn long(b: &[u8], at: usize) -> u64 {
    b.get(at..)
        .and_then(|s| s.first_chunk::<8>())
        .map_or(0, |v| u64::from_le_bytes(*v))
}

impl RootItem {
    pub fn encode(&self) -> Vec<u8> {
        let mut b = Vec::with_capacity(ROOT_LEN);
        for v in [
            self.root,
            self.blocks,
            self.inodes,
            self.next_ino,
            self.next_vchunk,
        ] {
            b.extend_from_slice(&v.to_le_bytes());
        }
        b.resize(ROOT_LEN, 0);
        b
    }

    pub fn decode(b: &[u8]) -> Result<RootItem> {
        if b.len() < ROOT_LEN {
            return Err(Error::corrupt(
                "the catalog",
                "a volume's root cannot be read",
            ));
        }
        Ok(RootItem {
            root: long(b, 0),
            blocks: long(b, 8),
            inodes: long(b, 16),
            next_ino: long(b, 24),
            next_vchunk: long(b, 32),
        })
    }
}

pub(super) fn volume_key(id: VolumeId) -> Key {
    Key::new(id.0, kind::VOLUME, 0)
}

pub(super) fn root_key(id: VolumeId) -> Key {
    Key::new(id.0, ROOT, 0)
}

pub(super) fn leaving_key(id: VolumeId) -> Key {
    Key::new(0, LEAVING, id.0)
}

pub(super) fn dead_key(node: NodeAddr) -> Key {
    Key::new(0, kind::DEAD, node)
}

pub(super) fn volume_item(r: &dyn Read, id: VolumeId) -> Result<VolumeItem> {
    match r.get(&volume_key(id))? {
        Some(b) => VolumeItem::decode(&b),
        None => Err(Error::NotFound(format!("no volume with id {id}"))),
    }
}

pub(super) fn root_item(r: &dyn Read, id: VolumeId) -> Result<Option<RootItem>> {
    r.get(&root_key(id))?
        .map(|b| RootItem::decode(&b))
        .transpose()
}

/// Names and blob names are found by a keyed hash in the key's offset; equal hashes take the next slot.
fn hash(key: &[u8; 16], name: &[u8]) -> u64 {
    let mut h = SipHasher24::new_with_key(key);
    h.write(name);
    h.finish()
}

/// Slots that equal hashes may take.
const SLOTS: u64 = 1 << 8;

/// Where a name is (its key and volume), or else the key it would get.
pub(super) enum Found {
    At(Key, VolumeId),
    Free(Key),
}

pub(super) fn find_name(r: &dyn Read, hash_key: &[u8; 16], name: &str) -> Result<Found> {
    let base = hash(hash_key, name.as_bytes()) & !(SLOTS - 1);
    let from = Key::new(0, kind::NAME, base);
    let to = Key::new(0, kind::NAME, base | (SLOTS - 1))
        .successor()
        .unwrap_or(Key::MAX);
    let (mut found, mut free) = (None, base);
    r.scan(&from, &to, &mut |k, v| {
        if v.split_at_checked(8)
            .is_some_and(|(_, n)| n == name.as_bytes())
        {
            found = Some(Found::At(*k, VolumeId(long(v, 0))));
            return Ok(ControlFlow::Break(()));
        }
        if k.offset == free {
            free += 1;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    match found {
        Some(f) => Ok(f),
        None if free - base < SLOTS => Ok(Found::Free(Key::new(0, kind::NAME, free))),
        None => Err(Error::NoSpace),
    }
}

pub(super) fn name_value(id: VolumeId, name: &str) -> Vec<u8> {
    let mut v = id.0.to_le_bytes().to_vec();
    v.extend_from_slice(name.as_bytes());
    v
}

/// A blob's parts share one base: 40 bits of hash, 8 of slot, 16 of part.
const PART_BITS: u32 = 16;
const BLOB_SLOTS: u64 = 1 << 8;
pub(super) const BLOB_MAX: usize = 4 << 20;

pub(super) fn blob_parts(name: &str, bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut first = Vec::with_capacity(VALUE_MAX.min(bytes.len() + name.len() + 6));
    first.extend_from_slice(&(name.len() as u16).to_le_bytes());
    first.extend_from_slice(name.as_bytes());
    first.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    let (head, tail) = bytes.split_at(bytes.len().min(VALUE_MAX - first.len()));
    first.extend_from_slice(head);
    let mut parts = vec![first];
    parts.extend(tail.chunks(VALUE_MAX).map(<[u8]>::to_vec));
    parts
}

fn blob_head(v: &[u8]) -> Option<(&[u8], usize, &[u8])> {
    let (n, rest) = v.split_first_chunk::<2>()?;
    let (name, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*n)))?;
    let (total, bytes) = rest.split_first_chunk::<4>()?;
    Some((name, u32::from_le_bytes(*total) as usize, bytes))
}

/// The offset of the blob's part 0 and its parts' number, or the offset it would get.
pub(super) fn find_blob(
    r: &dyn Read,
    hash_key: &[u8; 16],
    id: VolumeId,
    name: &str,
) -> Result<(u64, Option<Vec<u8>>)> {
    let base = hash(hash_key, name.as_bytes()) & !((BLOB_SLOTS << PART_BITS) - 1);
    for slot in 0..BLOB_SLOTS {
        let offset = base | slot << PART_BITS;
        match r.get(&Key::new(id.0, kind::BLOB, offset))? {
            None => return Ok((offset, None)),
            Some(v) if blob_head(&v).is_some_and(|(n, _, _)| n == name.as_bytes()) => {
                return Ok((offset, Some(v)));
            }
            Some(_) => {}
        }
    }
    Err(Error::NoSpace)
}

pub(super) fn read_blob(
    r: &dyn Read,
    hash_key: &[u8; 16],
    id: VolumeId,
    name: &str,
) -> Result<Option<Vec<u8>>> {
    let (offset, Some(head)) = find_blob(r, hash_key, id, name)? else {
        return Ok(None);
    };
    let bad = || {
        Error::corrupt(
            "the catalog",
            format!("blob '{name}' of volume {id} is incomplete"),
        )
    };
    let (_, total, first) = blob_head(&head).ok_or_else(bad)?;
    if total > BLOB_MAX {
        return Err(bad());
    }
    let mut bytes = first.to_vec();
    let from = Key::new(id.0, kind::BLOB, offset + 1);
    let to = Key::new(id.0, kind::BLOB, offset + (1 << PART_BITS));
    r.scan(&from, &to, &mut |_, v| {
        bytes.extend_from_slice(v);
        Ok(if bytes.len() > total {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    if bytes.len() == total {
        Ok(Some(bytes))
    } else {
        Err(bad())
    }
}
