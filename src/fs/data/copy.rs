//! copy_file_range: whole chunks are shared, the rest is copied.
//!
//! No virtual block is in two extents of a volume (freeing would need a count per block), so a
//! shared chunk gets a second virtual number that maps to the same physical chunk. Either side's
//! next write finds two references and copies.

use super::extent::{Extent, replace};
use super::plan::{Place, parts};
use super::write::{Effect, WRITE, inline_bytes};
use super::{SIZE_MAX, Step, TRUNCATING, posix, read_file};
use crate::base::{BLOCK, Ino, Result, Time};
use crate::fs::Fs;
use crate::fs::inode::{read_inode, write_inode};
use crate::fs::item::{InodeItem, flag};
use crate::pool::{Entered, Need};
use crate::tree::RUN_MAX;
use crate::volume::{Outcome, Txn};
use std::ops::Range;

/// Bytes copied in one step, and of holes.
const STEP: u64 = 1 << 20;
const HOLE: u64 = 1 << 30;
/// Steps in one passage of the gate.
const STEPS: usize = 4;

/// What the next bytes of the source are.
enum Next {
    End,
    /// Zeros.
    Hole(u64),
    /// Bytes to copy.
    Bytes(u64),
    /// Whole chunks: first virtual chunk, physical chunk, how many.
    Chunks(u64, u64, u32),
    Unfinished,
}

impl Fs {
    /// Copies by sharing chunks where alignment allows; returns bytes copied (short at the source's end).
    pub fn copy_range(
        &self,
        from: Ino,
        from_offset: u64,
        to: Ino,
        to_offset: u64,
        len: u64,
    ) -> Result<u64> {
        self.writable()?;
        // The source's end as it is now: copying may move it when both are one file.
        let size = self
            .volume
            .enter(Need::READ)?
            .view(|r| read_file(r, from))?
            .size;
        let source_end = from_offset.saturating_add(len).min(size);
        let len = source_end.saturating_sub(from_offset);
        let Some(target_end) = to_offset.checked_add(len).filter(|end| *end <= SIZE_MAX) else {
            return posix(libc::EFBIG);
        };
        if from == to && from_offset < target_end && to_offset < source_end {
            return posix(libc::EINVAL);
        }
        let mut done = 0;
        loop {
            let step = self.passage(WRITE, |gate| {
                let _locks = self.lock_two(from, to);
                for _ in 0..STEPS {
                    let (at, to_at) = (from_offset + done, to_offset + done);
                    let n = match self.next(gate, from, to, at..source_end, to_at)? {
                        Next::End => return Ok(Step::Done(true)),
                        Next::Unfinished => return Ok(Step::Unfinished),
                        Next::Hole(n) => self.copy_hole(gate, to, to_at..to_at + n)?,
                        Next::Bytes(n) => self.copy_bytes(gate, from, at, to, to_at, n)?,
                        Next::Chunks(v, chunk, count) => {
                            self.share(gate, to, to_at, v, chunk, count)?
                        }
                    };
                    match n {
                        Step::Done(n) => done += n,
                        Step::Unfinished => return Ok(Step::Unfinished),
                    }
                }
                Ok(Step::Done(false))
            })?;
            match step {
                Step::Done(true) => return Ok(done),
                Step::Done(false) => {}
                Step::Unfinished => self.finish_pending(to)?,
            }
        }
    }

    fn next(
        &self,
        gate: &Entered<'_>,
        from: Ino,
        to: Ino,
        source: Range<u64>,
        target: u64,
    ) -> Result<Next> {
        let g = self.thin().geometry();
        let chunks = self.volume.chunks();
        gate.view(|r| {
            let item = read_file(r, from)?;
            if read_file(r, to)?.flags & TRUNCATING != 0 {
                return Ok(Next::Unfinished);
            }
            let end = source.end.min(item.size);
            if source.start >= end {
                return Ok(Next::End);
            }
            let left = end - source.start;
            if item.flags & flag::INLINE != 0 {
                let have = inline_bytes(r, from)?.len() as u64;
                return Ok(match have.saturating_sub(source.start) {
                    0 => Next::Hole(left.min(HOLE)),
                    n => Next::Bytes(n.min(left)),
                });
            }
            let blocks = source.start / BLOCK..end.div_ceil(BLOCK);
            let found = parts(r, &|c| chunks.sharers(c), g, from, blocks, 2)?;
            let Some(part) = found.first() else {
                return Ok(Next::Bytes(left.min(STEP)));
            };
            let left = left.min(part.bytes().end - source.start);
            let Place::At {
                at,
                byte,
                unwritten: false,
                ..
            } = part.place
            else {
                return Ok(Next::Hole(left.min(HOLE)));
            };
            if !source.start.is_multiple_of(BLOCK) || !target.is_multiple_of(BLOCK) {
                return Ok(Next::Bytes(left.min(STEP)));
            }
            // Whole chunks of this part.
            let skipped = source.start / BLOCK - part.block;
            let first = at + skipped;
            let v = g.vchunk(first + u64::from(g.blocks) - 1);
            let last = g.vchunk(first + left / BLOCK);
            let to_boundary = (g.first(v) - first) * BLOCK;
            if v >= last {
                return Ok(Next::Bytes(left.min(STEP)));
            }
            if to_boundary > 0 {
                return Ok(Next::Bytes(to_boundary.min(STEP)));
            }
            let chunk = (byte + skipped * BLOCK) / g.chunk_size;
            Ok(Next::Chunks(
                v,
                chunk,
                (last - v).min(u64::from(RUN_MAX)) as u32,
            ))
        })
    }

    fn copy_bytes(
        &self,
        gate: &Entered<'_>,
        from: Ino,
        at: u64,
        to: Ino,
        to_at: u64,
        n: u64,
    ) -> Result<Step<u64>> {
        let mut buf = vec![0; n as usize];
        self.read_inside(gate, from, at, &mut buf)?;
        let effect = Effect {
            times: true,
            extend: true,
            ..Effect::default()
        };
        self.write_step(gate, to, to_at, &buf, effect)
    }

    /// Makes target bytes zeros as cheaply as may be.
    fn copy_hole(&self, gate: &Entered<'_>, to: Ino, range: Range<u64>) -> Result<Step<u64>> {
        let item = gate.view(|r| read_file(r, to))?;
        let inside = range.start..range.end.min(item.size);
        if inside.start < inside.end {
            if item.flags & flag::INLINE != 0 {
                self.zero_inline(gate, to, &inside)?;
            } else {
                let blocks = self.zero_edges(gate, to, &item, &inside)?;
                while !self.free_some(gate, to, &blocks)? {}
            }
        }
        if range.end > item.size {
            self.zero_tail(gate, to, item.size, range.end)?;
        }
        gate.update(|op| {
            let mut item = read_inode(op, to)?;
            self.copied(op, to, &mut item, range.end)?;
            Ok(Step::Done(range.end - range.start))
        })
    }

    /// What every copy does to the target's inode, which it writes.
    fn copied(
        &self,
        op: &mut crate::pool::Op<'_>,
        to: Ino,
        item: &mut InodeItem,
        end: u64,
    ) -> Result<()> {
        item.size = item.size.max(end);
        self.drop_privileges(op, to, item, false)?;
        item.modified(Time::now());
        write_inode(op, to, item);
        Ok(())
    }

    fn share(
        &self,
        gate: &Entered<'_>,
        to: Ino,
        to_at: u64,
        source: u64,
        chunk: u64,
        count: u32,
    ) -> Result<Step<u64>> {
        let g = self.thin().geometry();
        let item = gate.view(|r| read_file(r, to))?;
        if item.flags & flag::INLINE != 0 {
            let bytes = gate.view(|r| inline_bytes(r, to))?;
            self.spill(gate, to, &item, &bytes)?;
        }
        if to_at > item.size {
            self.zero_tail(gate, to, item.size, to_at)?;
        }
        let len = u64::from(count) * u64::from(g.blocks);
        let range = to_at / BLOCK..to_at / BLOCK + len;
        while !self.free_some(gate, to, &range)? {}
        let mut txn = Txn::new(&self.volume, self.thin(), gate);
        let target = txn.share(source, chunk, count);
        txn.promise()?;
        let (block, at, unwritten) = (range.start, g.first(target), false);
        let extent = Extent {
            block,
            at,
            len: len as u32,
            unwritten,
        };
        let outcome = txn.commit(|op| {
            let mut item = read_inode(op, to)?;
            let delta = replace(op, to, &range, &[extent])?;
            item.blocks = item.blocks.saturating_add_signed(delta);
            self.copied(op, to, &mut item, range.end * BLOCK)
        })?;
        Ok(Step::Done(match outcome {
            Outcome::Done(()) => len * BLOCK,
            Outcome::Stale => 0,
        }))
    }
}
