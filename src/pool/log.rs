//! The log: a ring of records since the last checkpoint.
//!
//! A record is `HEADER` bytes, then its payload, padded to 8 bytes; it may wrap around the ring's end.
//! Positions count bytes since the pool was made; a position's place in the ring is its remainder.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic "cwlr" |
//! | 4 | 4 | payload length, bytes |
//! | 8 | 8 | sequence number |
//! | 16 | 8 | salt of this life of the pool |
//! | 24 | 4 | crc32 of bytes 0..24 and the payload |
//! | 28 | 4 | zero |

use crate::base::{Error, Result};
use crate::device::Device;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const MAGIC: u32 = u32::from_le_bytes(*b"cwlr");
const HEADER: usize = 32;
/// Longest payload.
pub(super) const RECORD_MAX: usize = 1 << 20;
pub(super) const SIZE_MIN: u64 = 1 << 20;

/// Bytes a record with this payload takes in the ring.
pub(super) fn record_size(payload: usize) -> u64 {
    (HEADER + payload).next_multiple_of(8) as u64
}

pub(super) struct Log {
    device: Arc<dyn Device>,
    size: u64,
    salt: u64,
    state: Mutex<State>,
    /// Serialises pwrites, so that they reach the device in order.
    writer: Mutex<()>,
    /// Serialises flushes: those who wait find that the flush before served them too.
    flusher: Mutex<()>,
    written: AtomicU64,
    durable: AtomicU64,
    /// A write or flush has failed: what is lost then cannot be told, and a second flush would say
    /// that all is well. Set and looked at under `writer` and `flusher`.
    failed: AtomicBool,
}

struct State {
    /// Position after the last appended record.
    head: u64,
    /// Sequence number of the next record.
    seq: u64,
    /// Position of the first record that a recovery would replay.
    tail: u64,
    /// Bytes promised to operations under way.
    reserved: u64,
    /// Appended, not yet written; ends at `head`.
    buffer: Vec<u8>,
}

impl Log {
    pub fn new(device: Arc<dyn Device>, size: u64, salt: u64, pos: u64, seq: u64) -> Log {
        Log {
            device,
            size,
            salt,
            state: Mutex::new(State {
                head: pos,
                seq,
                tail: pos,
                reserved: 0,
                buffer: Vec::new(),
            }),
            writer: Mutex::new(()),
            flusher: Mutex::new(()),
            written: AtomicU64::new(pos),
            durable: AtomicU64::new(pos),
            failed: AtomicBool::new(false),
        }
    }

    /// Sets ring space aside for a record of that payload; `false`: a checkpoint must make room.
    pub fn reserve(&self, bytes: u64) -> bool {
        let mut s = self.state.lock();
        if s.head - s.tail + s.reserved + bytes > self.size - MARK_ROOM {
            return false;
        }
        s.reserved += bytes;
        true
    }

    pub fn unreserve(&self, bytes: u64) {
        let mut s = self.state.lock();
        s.reserved = s.reserved.saturating_sub(bytes);
    }

    /// Appends a record; returns (its sequence number, the position after it). Records are ordered as
    /// the calls are: callers hold the lock of the tree whose change it describes.
    pub fn append(&self, payload: &[u8]) -> (u64, u64) {
        let mut s = self.state.lock();
        let seq = s.seq;
        let mut header = [0; HEADER];
        header[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[4..8].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[8..16].copy_from_slice(&seq.to_le_bytes());
        header[16..24].copy_from_slice(&self.salt.to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&header[..24]);
        crc.update(payload);
        header[24..28].copy_from_slice(&crc.finalize().to_le_bytes());
        s.buffer.extend_from_slice(&header);
        s.buffer.extend_from_slice(payload);
        let size = record_size(payload.len());
        let padded = s.buffer.len() + size as usize - HEADER - payload.len();
        s.buffer.resize(padded, 0);
        s.head += size;
        s.seq += 1;
        (seq, s.head)
    }

    /// Appends a record that was not reserved for, if the ring has room for it.
    pub fn append_unreserved(&self, payload: &[u8]) -> Option<u64> {
        {
            let s = self.state.lock();
            if s.head - s.tail + s.reserved + record_size(payload.len()) + MARK_ROOM / 2 > self.size
            {
                return None;
            }
        }
        // Others may append in between; the half of MARK_ROOM left free is for them.
        Some(self.append(payload).1)
    }

    /// Hands everything up to `pos` to the device (page cache): it survives this process.
    pub fn write_out(&self, pos: u64) -> Result<()> {
        if self.written.load(Ordering::Acquire) >= pos {
            return Ok(());
        }
        let _order = self.writer.lock();
        if self.written.load(Ordering::Acquire) >= pos {
            return Ok(());
        }
        self.refuse_if_failed()?;
        let (bytes, head) = {
            let mut s = self.state.lock();
            (std::mem::take(&mut s.buffer), s.head)
        };
        let start = head - bytes.len() as u64;
        let at = start % self.size;
        let first = bytes.len().min((self.size - at) as usize);
        let (a, b) = bytes.split_at(first);
        let put = |at, part: &[u8]| {
            if part.is_empty() {
                Ok(())
            } else {
                self.device.write_at(at, part)
            }
        };
        put(at, a)
            .and_then(|()| put(0, b))
            .map_err(|e| self.fail("writing", e))?;
        self.written.store(head, Ordering::Release);
        Ok(())
    }

    /// Makes everything up to `pos` durable; concurrent callers share a flush.
    pub fn sync(&self, pos: u64) -> Result<()> {
        if self.durable.load(Ordering::Acquire) >= pos {
            return Ok(());
        }
        let _order = self.flusher.lock();
        if self.durable.load(Ordering::Acquire) >= pos {
            return Ok(());
        }
        let head = self.head().0;
        self.write_out(head)?;
        self.refuse_if_failed()?;
        let written = self.written.load(Ordering::Acquire);
        self.device.sync().map_err(|e| self.fail("flushing", e))?;
        self.durable.store(written, Ordering::Release);
        Ok(())
    }

    fn fail(&self, doing: &str, e: std::io::Error) -> Error {
        self.failed.store(true, Ordering::SeqCst);
        Error::io(format!("{doing} the log {}", self.device.name()), e)
    }

    fn refuse_if_failed(&self) -> Result<()> {
        if self.failed.load(Ordering::SeqCst) {
            return Err(Error::Failed(format!(
                "the log {} has failed",
                self.device.name()
            )));
        }
        Ok(())
    }

    /// (position after the last record, next sequence number)
    pub fn head(&self) -> (u64, u64) {
        let s = self.state.lock();
        (s.head, s.seq)
    }

    /// Bytes since the tail.
    pub fn used(&self) -> u64 {
        let s = self.state.lock();
        s.head - s.tail
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// A durable superblock says that replay starts at `pos`: what is before it may be overwritten.
    pub fn truncate(&self, pos: u64) {
        let mut s = self.state.lock();
        s.tail = s.tail.max(pos);
    }
}

/// Kept free for marks, which are appended without a reservation (where it does not do, a
/// checkpoint takes the mark's place).
const MARK_ROOM: u64 = 128 << 10;

/// Reads the unbroken chain of records from `pos` on.
pub(super) fn scan(
    device: &dyn Device,
    size: u64,
    salt: u64,
    mut pos: u64,
    mut seq: u64,
) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut out = Vec::new();
    let start = pos;
    let read = |pos: u64, buf: &mut [u8]| -> Result<()> {
        let at = pos % size;
        let first = buf.len().min((size - at) as usize);
        let (a, b) = buf.split_at_mut(first);
        device
            .read_at(at, a)
            .and_then(|()| {
                if b.is_empty() {
                    Ok(())
                } else {
                    device.read_at(0, b)
                }
            })
            .map_err(|e| Error::io(format!("reading the log {}", device.name()), e))
    };
    loop {
        let mut h = [0; HEADER];
        read(pos, &mut h)?;
        let word = |at: usize| {
            h.get(at..)
                .and_then(|s| s.first_chunk::<4>())
                .map_or(0, |b| u32::from_le_bytes(*b))
        };
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        let len = word(4) as usize;
        if word(0) != MAGIC || len > RECORD_MAX || long(16) != salt {
            break;
        }
        let found = long(8);
        if record_size(len) > size - (pos - start) {
            break;
        }
        let mut payload = vec![0; len];
        read(pos + HEADER as u64, &mut payload)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(h.get(..24).unwrap_or(&[]));
        crc.update(&payload);
        if crc.finalize() != word(24) {
            break;
        }
        if found != seq {
            // A later record of this life where the first one should be: the superblock is older
            // than the log, so replaying from it would silently lose what came between.
            if found > seq && out.is_empty() {
                return Err(Error::corrupt(
                    "the superblock",
                    "it is older than the log; the newer copy must have been damaged",
                ));
            }
            break;
        }
        out.push((seq, payload));
        pos += record_size(len);
        seq += 1;
    }
    Ok(out)
}
