//! Words shared by all rooms: ids, sizes, times, errors.

mod error;

pub use error::{Error, ExitKind, Result};

use serde::{Deserialize, Serialize};

/// Bytes of a block, the unit of a file's space inside a chunk.
pub const BLOCK: u64 = 4096;
/// Smallest chunk, and the default.
pub const CHUNK_MIN: u64 = 64 << 10;
/// Largest chunk.
pub const CHUNK_MAX: u64 = 1 << 20;
/// Bytes of a node, a page of the metadata B-tree.
pub const NODE: usize = 16 << 10;

/// A volume's id: never used twice in a pool. 0 is the pool's own catalog.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VolumeId(pub u64);

impl VolumeId {
    pub const CATALOG: VolumeId = VolumeId(0);
}

impl std::fmt::Display for VolumeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Index of a node in the metadata device. 0 means "none": the first slots hold the superblocks.
pub type NodeAddr = u64;
/// Index of a chunk in the data device (a physical chunk).
pub type Chunk = u64;
/// Index of a chunk in a volume's thin address space.
pub type VChunk = u64;
/// Index of a block in a volume's thin address space.
pub type VBlock = u64;
/// An inode number: 64 bits, never reused in a volume. The root directory is 1.
pub type Ino = u64;

/// Inode number of every volume's root directory.
pub const ROOT_INO: Ino = 1;

/// A point in time as POSIX keeps it: seconds since 1970 (may be negative) and nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Time {
    pub sec: i64,
    /// 0..1_000_000_000
    pub nsec: u32,
}

impl Time {
    pub fn now() -> Time {
        Time::from(std::time::SystemTime::now())
    }
}

impl From<std::time::SystemTime> for Time {
    fn from(t: std::time::SystemTime) -> Time {
        match t.duration_since(std::time::UNIX_EPOCH) {
            Ok(d) => Time {
                sec: d.as_secs() as i64,
                nsec: d.subsec_nanos(),
            },
            Err(e) => {
                let d = e.duration();
                let (sec, nsec) = (d.as_secs() as i64, d.subsec_nanos());
                if nsec == 0 {
                    Time { sec: -sec, nsec: 0 }
                } else {
                    Time {
                        sec: -sec - 1,
                        nsec: 1_000_000_000 - nsec,
                    }
                }
            }
        }
    }
}

impl From<Time> for std::time::SystemTime {
    fn from(t: Time) -> std::time::SystemTime {
        use std::time::{Duration, UNIX_EPOCH};
        let nsec = Duration::from_nanos(u64::from(t.nsec));
        if t.sec >= 0 {
            UNIX_EPOCH + Duration::from_secs(t.sec as u64) + nsec
        } else {
            UNIX_EPOCH - Duration::from_secs(t.sec.unsigned_abs()) + nsec
        }
    }
}
