//! The superblock: where everything else is. Two slots; the valid one with the higher generation
//! counts. All numbers little-endian.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | magic "cowfspl\0" |
//! | 8 | 4 | format version |
//! | 12 | 4 | crc32 of the 4096 bytes with this field zero |
//! | 16 | 8 | compatible features (may be ignored) |
//! | 24 | 8 | read-only compatible features (unknown: open read-only) |
//! | 32 | 8 | incompatible features (unknown: refuse) |
//! | 40 | 16 | pool UUID |
//! | 56 | 8 | generation: number of this checkpoint |
//! | 64 | 8 | salt of the log's records |
//! | 72 | 32 | boot identity at the last open |
//! | 104 | 16 | key of name hashes |
//! | 120 | 4 | chunk size, bytes |
//! | 124 | 4 | node size, bytes |
//! | 128 | 8 | size limit of the data device, bytes |
//! | 136 | 8 | nodes preallocated on the metadata device |
//! | 144 | 8 | catalog root (node address) |
//! | 152 | 8 | log: ring size, bytes |
//! | 160 | 8 | log: position of the first record to replay |
//! | 168 | 8 | log: its sequence number |
//! | 176 | 8 | next volume id |
//! | 184 | 8 | size limit of new containers, bytes; 0: none |
//! | 192 | 8 | flags: bit 0 closed cleanly |
//! | 200 | 2, 64 | length and bytes of the pool's name |
//! | 1024 | 8 * 192 | addresses of index pages of chunk counts |
//! | 2560 | 8 * 64 | addresses of index pages of node counts |

use crate::base::{CHUNK_MAX, CHUNK_MIN, Error, NODE, NodeAddr, Result};
use crate::device::Device;

const SIZE: usize = 4096;
const MAGIC: &[u8; 8] = b"cowfspl\0";
const VERSION: u32 = 1;
/// Slots lie apart, so that one bad region does not take both.
const SLOTS: [u64; 2] = [0, 64 << 10];
/// Byte offset of node 0. Node address 0 means "none", so the first page is never used.
pub(super) const NODE_BASE: u64 = 128 << 10;

pub(super) const CHUNK_INDEX: usize = 192;
pub(super) const NODE_INDEX: usize = 64;
const CHUNK_INDEX_AT: usize = 1024;
const NODE_INDEX_AT: usize = CHUNK_INDEX_AT + 8 * CHUNK_INDEX;
const NAME_MAX: usize = 64;
const _: () = assert!(NODE_INDEX_AT + 8 * NODE_INDEX <= SIZE);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Superblock {
    pub uuid: [u8; 16],
    pub generation: u64,
    pub salt: u64,
    pub boot: [u8; 32],
    pub hash_key: [u8; 16],
    pub chunk_size: u32,
    pub size: u64,
    pub nodes: u64,
    pub catalog: NodeAddr,
    pub log_size: u64,
    pub log_pos: u64,
    pub log_seq: u64,
    pub next_volume: u64,
    pub container_size: u64,
    pub clean: bool,
    pub name: String,
    pub chunk_index: Vec<NodeAddr>,
    pub node_index: Vec<NodeAddr>,
}

fn put(b: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(slot) = b.get_mut(at..at + bytes.len()) {
        slot.copy_from_slice(bytes);
    }
}

fn array<const N: usize>(b: &[u8; SIZE], at: usize) -> [u8; N] {
    b.get(at..)
        .and_then(|s| s.first_chunk::<N>())
        .copied()
        .unwrap_or([0; N])
}

fn u64_at(b: &[u8; SIZE], at: usize) -> u64 {
    u64::from_le_bytes(array(b, at))
}

fn u32_at(b: &[u8; SIZE], at: usize) -> u32 {
    u32::from_le_bytes(array(b, at))
}

impl Superblock {
    pub fn encode(&self) -> [u8; SIZE] {
        let mut b = [0; SIZE];
        put(&mut b, 0, MAGIC);
        put(&mut b, 8, &VERSION.to_le_bytes());
        put(&mut b, 40, &self.uuid);
        put(&mut b, 56, &self.generation.to_le_bytes());
        put(&mut b, 64, &self.salt.to_le_bytes());
        put(&mut b, 72, &self.boot);
        put(&mut b, 104, &self.hash_key);
        put(&mut b, 120, &self.chunk_size.to_le_bytes());
        put(&mut b, 124, &(NODE as u32).to_le_bytes());
        put(&mut b, 128, &self.size.to_le_bytes());
        put(&mut b, 136, &self.nodes.to_le_bytes());
        put(&mut b, 144, &self.catalog.to_le_bytes());
        put(&mut b, 152, &self.log_size.to_le_bytes());
        put(&mut b, 160, &self.log_pos.to_le_bytes());
        put(&mut b, 168, &self.log_seq.to_le_bytes());
        put(&mut b, 176, &self.next_volume.to_le_bytes());
        put(&mut b, 184, &self.container_size.to_le_bytes());
        put(&mut b, 192, &u64::from(self.clean).to_le_bytes());
        let name = &self.name.as_bytes()[..self.name.len().min(NAME_MAX)];
        put(&mut b, 200, &(name.len() as u16).to_le_bytes());
        put(&mut b, 202, name);
        for (i, a) in self.chunk_index.iter().take(CHUNK_INDEX).enumerate() {
            put(&mut b, CHUNK_INDEX_AT + 8 * i, &a.to_le_bytes());
        }
        for (i, a) in self.node_index.iter().take(NODE_INDEX).enumerate() {
            put(&mut b, NODE_INDEX_AT + 8 * i, &a.to_le_bytes());
        }
        let crc = crc32fast::hash(&b);
        put(&mut b, 12, &crc.to_le_bytes());
        b
    }

    /// `Ok(None)`: these bytes are no superblock.
    pub fn decode(b: &[u8; SIZE], place: &str) -> Result<Option<Superblock>> {
        if array::<8>(b, 0) != *MAGIC {
            return Ok(None);
        }
        let mut zeroed = *b;
        put(&mut zeroed, 12, &[0; 4]);
        if crc32fast::hash(&zeroed) != u32_at(b, 12) {
            return Ok(None);
        }
        let version = |found: String, known: String| Error::Version {
            place: place.into(),
            found,
            known,
        };
        if u32_at(b, 8) != VERSION {
            return Err(version(u32_at(b, 8).to_string(), VERSION.to_string()));
        }
        let (ro, incompatible) = (u64_at(b, 24), u64_at(b, 32));
        if ro | incompatible != 0 {
            return Err(version(
                format!("{VERSION} with features {:#x}", ro | incompatible),
                VERSION.to_string(),
            ));
        }
        let corrupt = |what: &str| Error::corrupt(format!("the superblock of {place}"), what);
        let chunk_size = u32_at(b, 120);
        if !chunk_size.is_power_of_two()
            || !(CHUNK_MIN..=CHUNK_MAX).contains(&u64::from(chunk_size))
        {
            return Err(corrupt("impossible chunk size"));
        }
        if u32_at(b, 124) as usize != NODE {
            return Err(version(
                format!("node size {}", u32_at(b, 124)),
                format!("{NODE}"),
            ));
        }
        let name_len = usize::from(u16::from_le_bytes(array(b, 200))).min(NAME_MAX);
        let name = String::from_utf8_lossy(b.get(202..202 + name_len).unwrap_or(&[])).into_owned();
        let list = |at: usize, n: usize| (0..n).map(|i| u64_at(b, at + 8 * i)).collect::<Vec<_>>();
        let s = Superblock {
            uuid: array(b, 40),
            generation: u64_at(b, 56),
            salt: u64_at(b, 64),
            boot: array(b, 72),
            hash_key: array(b, 104),
            chunk_size,
            size: u64_at(b, 128),
            nodes: u64_at(b, 136),
            catalog: u64_at(b, 144),
            log_size: u64_at(b, 152),
            log_pos: u64_at(b, 160),
            log_seq: u64_at(b, 168),
            next_volume: u64_at(b, 176),
            container_size: u64_at(b, 184),
            clean: u64_at(b, 192) & 1 == 1,
            name,
            chunk_index: list(CHUNK_INDEX_AT, CHUNK_INDEX),
            node_index: list(NODE_INDEX_AT, NODE_INDEX),
        };
        if s.nodes > 1 << 40
            || s.log_size < super::log::SIZE_MIN
            || s.log_size > 1 << 40
            || s.size > 1 << 60
        {
            return Err(corrupt("impossible sizes"));
        }
        if s.log_pos > 1 << 62
            || s.generation > 1 << 62
            || s.next_volume > 1 << 62
            || s.log_seq > 1 << 62
        {
            return Err(corrupt("impossible counters"));
        }
        Ok(Some(s))
    }

    /// The newest valid superblock of the metadata device.
    pub fn read(device: &dyn Device) -> Result<Superblock> {
        let place = device.name();
        let mut best: Option<Superblock> = None;
        let mut magic = false;
        for at in SLOTS {
            let mut b = [0; SIZE];
            device
                .read_at(at, &mut b)
                .map_err(|e| Error::io(format!("reading {place}"), e))?;
            magic |= array::<8>(&b, 0) == *MAGIC;
            if let Some(s) = Superblock::decode(&b, &place)?
                && best.as_ref().is_none_or(|o| s.generation > o.generation)
            {
                best = Some(s);
            }
        }
        match best {
            Some(s) => Ok(s),
            None if magic => Err(Error::corrupt(
                format!("the superblock of {place}"),
                "both copies fail their checksum",
            )),
            None => Err(Error::NotAPool(place)),
        }
    }

    /// Writes the slot this generation belongs to. Not durable before the device is synced.
    pub fn write(&self, device: &dyn Device) -> Result<()> {
        let slot = SLOTS[(self.generation % 2) as usize];
        device
            .write_at(slot, &self.encode())
            .map_err(|e| Error::io(format!("writing the superblock of {}", device.name()), e))
    }
}
