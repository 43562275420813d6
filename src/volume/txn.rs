//! One operation's dealings with the thin address space: blocks taken, freed, moved, kept wholly
//! when its update succeeds and given back wholly when it does not.

use super::alloc::{self, Grant, Want};
use super::edit::{Edits, Move, Share, apply};
use super::ground::Inside;
use super::{Counters, Thin};
use crate::base::{BLOCK, Chunk, Error, Result, VBlock, VChunk};
use crate::pool::{Entered, Op, Volume};
use crate::tree::{Bitmap, RUN_MAX};
use std::cell::Cell;
use std::ops::Range;

/// Lying PARTIAL items dropped by one operation.
const STALE: usize = 8;

/// How a commit ended.
#[must_use]
pub(crate) enum Outcome<T> {
    Done(T),
    /// Somebody moved a chunk meanwhile: plan again. Nothing has changed.
    Stale,
}

pub(crate) struct Txn<'a> {
    volume: &'a Volume,
    thin: &'a Thin,
    gate: &'a Entered<'a>,
    edits: Edits,
    /// Chunks partly freed, told to the allocator before the update.
    freeing: Vec<VChunk>,
    promised: u64,
    committed: bool,
}

impl<'a> Txn<'a> {
    pub fn new(volume: &'a Volume, thin: &'a Thin, gate: &'a Entered<'a>) -> Txn<'a> {
        Txn {
            volume,
            thin,
            gate,
            edits: Edits::default(),
            freeing: Vec::new(),
            promised: 0,
            committed: false,
        }
    }

    fn ground(&self) -> Inside<'a> {
        Inside {
            volume: self.volume,
            gate: self.gate,
            geometry: self.thin.geometry,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// New blocks. `NoSpace`: the pool is full (for now: a checkpoint may free some).
    pub fn take(&mut self, want: &Want) -> Result<Vec<Grant>> {
        let taken = alloc::take(&self.thin.alloc, &self.ground(), want)?;
        Counters::add(&self.thin.counters.chunks_allocated, taken.chunks);
        self.edits.uses.extend_from_slice(&taken.grants);
        // The others will be met again.
        let room = STALE.saturating_sub(self.edits.stale.len());
        self.edits.stale.extend(taken.stale.iter().take(room));
        Ok(taken.grants)
    }

    /// These blocks are needed no more.
    pub fn free(&mut self, range: Range<VBlock>) {
        let g = self.thin.geometry;
        let chunks = g.vchunks(&range);
        if chunks.is_empty() {
            return;
        }
        let last = chunks.end - 1;
        let ends = [Some(chunks.start), (last != chunks.start).then_some(last)];
        for v in ends.into_iter().flatten() {
            let (place, n) = g.part(&range, v);
            // A chunk freed wholly is never used again under its virtual number.
            if n < g.blocks {
                self.thin.alloc.lock().freeing(v, place, n);
                self.freeing.push(v);
            }
        }
        self.edits.frees.push(range);
    }

    /// New physical chunks for `count` virtual ones now at `from`; the caller copies.
    pub fn relocate(&mut self, vchunk: VChunk, from: Chunk, count: u32) -> Result<Vec<Move>> {
        let mut moves = Vec::new();
        let mut done = 0;
        while done < count {
            let want = u64::from((count - done).min(RUN_MAX));
            let got = self.volume.chunks().alloc(want).ok_or(Error::NoSpace)?;
            let n = (got.end - got.start).min(want) as u32;
            let i = u64::from(done);
            let one = Move {
                vchunk: vchunk + i,
                count: n,
                from: from + i,
                to: got.start,
            };
            self.edits.moves.push(one);
            moves.push(one);
            Counters::add(&self.thin.counters.chunks_allocated, u64::from(n));
            done += n;
        }
        Ok(moves)
    }

    /// New virtual chunks that map to the physical chunks of others, all of whose blocks are in use.
    pub fn share(&mut self, source: VChunk, chunk: Chunk, count: u32) -> VChunk {
        let target = self.volume.new_vchunks(u64::from(count));
        self.edits.shares.push(Share {
            source,
            target,
            count,
            chunk,
        });
        target
    }

    /// Checks the volume's size limit against what this operation adds. Before any data I/O.
    pub fn promise(&mut self) -> Result<()> {
        let blocks = u64::from(self.thin.geometry.blocks);
        let used: u64 = self.edits.uses.iter().map(|u| u.len).sum();
        let shared: u64 = self
            .edits
            .shares
            .iter()
            .map(|s| u64::from(s.count) * blocks)
            .sum();
        let freed: u64 = self.edits.frees.iter().map(|f| f.end - f.start).sum();
        let net = (used + shared)
            .saturating_sub(freed)
            .saturating_sub(self.promised);
        if net > 0 {
            self.thin.promise(self.volume, net)?;
            self.promised += net;
        }
        Ok(())
    }

    /// Writes to the data device; durable with the volume's next sync.
    pub fn write(&self, byte: u64, data: &[u8]) -> Result<()> {
        write(self.volume, byte, data)
    }

    /// Copies blocks `used` of one chunk to another.
    pub fn copy(&self, from: Chunk, to: Chunk, used: &Bitmap) -> Result<()> {
        let g = self.thin.geometry;
        let mut place = 0;
        let mut buf = Vec::new();
        while place < g.blocks {
            let n = (place..g.blocks).take_while(|i| used.get(*i)).count() as u32;
            if n == 0 {
                place += 1;
                continue;
            }
            buf.resize(n as usize * BLOCK as usize, 0);
            read(self.volume, g.byte(from, place), &mut buf)?;
            self.write(g.byte(to, place), &buf)?;
            Counters::add(&self.thin.counters.copied_bytes, buf.len() as u64);
            place += n;
        }
        Ok(())
    }

    /// One update: the changes of the mapping, then those of `f`.
    pub fn commit<T>(mut self, mut f: impl FnMut(&mut Op<'_>) -> Result<T>) -> Result<Outcome<T>> {
        let stale = Cell::new(false);
        let chunks = self.volume.chunks();
        let g = self.thin.geometry;
        let edits = &self.edits;
        let result = self.gate.update(|op| {
            stale.set(false);
            let Some(applied) = apply(op, &|c| chunks.sharers(c), g, edits)? else {
                stale.set(true);
                return Err(Error::Busy("a chunk was moved meanwhile".into()));
            };
            Ok((applied, f(op)?))
        });
        let (applied, value) = match result {
            Ok(done) => done,
            Err(_) if stale.get() => {
                Counters::add(&self.thin.counters.stale_plans, 1);
                return Ok(Outcome::Stale);
            }
            Err(e) => return Err(e),
        };
        self.committed = true;
        let freed_at = self.volume.freed_at();
        let mut alloc = self.thin.alloc.lock();
        alloc.commit(&self.edits.uses);
        for v in self.freeing.drain(..) {
            alloc.freed(v, Some(freed_at));
        }
        for v in applied.emptied {
            alloc.emptied(v);
        }
        Ok(Outcome::Done(value))
    }
}

impl Drop for Txn<'_> {
    fn drop(&mut self) {
        if self.promised > 0 {
            self.thin.keep_promise(self.promised);
        }
        if self.committed {
            return;
        }
        for m in &self.edits.moves {
            self.volume
                .chunks()
                .give_back(m.to..m.to + u64::from(m.count));
        }
        let ground = self.ground();
        let mut alloc = self.thin.alloc.lock();
        alloc.give_back(&self.edits.uses, &ground);
        for v in &self.freeing {
            alloc.freed(*v, None);
        }
    }
}

/// Writes to the data device; durable with the volume's next sync.
pub(crate) fn write(volume: &Volume, byte: u64, data: &[u8]) -> Result<()> {
    if data.is_empty() {
        return Ok(());
    }
    volume.dirtied(byte..byte + data.len() as u64);
    let device = volume.data();
    device
        .write_at(byte, data)
        .map_err(|e| Error::io(format!("writing {}", device.name()), e))
}

pub(crate) fn read(volume: &Volume, byte: u64, buf: &mut [u8]) -> Result<()> {
    let device = volume.data();
    device
        .read_at(byte, buf)
        .map_err(|e| Error::io(format!("reading {}", device.name()), e))
}
