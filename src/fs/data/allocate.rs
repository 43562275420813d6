//! fallocate: blocks ahead of the data, holes, zeros.

use super::extent::{Extent, extent_below, extents, replace};
use super::write::{WRITE, extents_of, inline_bytes};
use super::{SIZE_MAX, Step, TRUNCATING, posix, read_file};
use crate::base::{BLOCK, Error, Ino, Result, Time};
use crate::fs::inode::{read_inode, write_inode};
use crate::fs::item::{InodeItem, flag};
use crate::fs::{Fallocate, Fs};
use crate::pool::{Entered, Need};
use crate::volume::{Outcome, Txn, Want};
use std::ops::Range;

/// Extents looked at in one step, and chunks allocated.
const EXTENTS: usize = 8;
const CHUNKS: u64 = 32;
/// Steps in one passage of the gate.
const STEPS: usize = 32;

impl Fs {
    pub fn fallocate(&self, ino: Ino, range: Range<u64>, mode: Fallocate) -> Result<()> {
        self.writable()?;
        if range.start >= range.end {
            return posix(libc::EINVAL);
        }
        if range.end > SIZE_MAX {
            return posix(libc::EFBIG);
        }
        match mode {
            Fallocate::PunchHole => {
                self.punch(ino, &range)?;
                self.stamp(ino, None)
            }
            Fallocate::Allocate { keep_size } => {
                self.allocate(ino, &range, (!keep_size).then_some(range.end))
            }
            Fallocate::ZeroRange { keep_size } => {
                self.zero_range(ino, &range)?;
                self.allocate(ino, &range, (!keep_size).then_some(range.end))
            }
        }
    }

    /// Sets times, drops privileges, and may make the file longer.
    fn stamp(&self, ino: Ino, size: Option<u64>) -> Result<()> {
        loop {
            let step = self.passage(Need::FREE, |gate| {
                let _lock = self.lock_of(ino).write();
                let old = gate.view(|r| read_file(r, ino))?;
                let size = size.filter(|size| *size > old.size);
                if let Some(size) = size {
                    if old.flags & TRUNCATING != 0 {
                        return Ok(Step::Unfinished);
                    }
                    self.zero_tail(gate, ino, old.size, size)?;
                }
                gate.update(|op| {
                    let mut item = read_inode(op, ino)?;
                    item.size = size.unwrap_or(item.size);
                    self.drop_privileges(op, ino, &mut item, false)?;
                    item.modified(Time::now());
                    write_inode(op, ino, &item);
                    Ok(Step::Done(()))
                })
            })?;
            match step {
                Step::Done(()) => return Ok(()),
                Step::Unfinished => self.finish_pending(ino)?,
            }
        }
    }

    /// The file blocks wholly in `range`, after what of it is only part of a block has been zeroed.
    /// The block with the file's end counts as whole when the range goes to the end.
    pub(super) fn zero_edges(
        &self,
        gate: &Entered<'_>,
        ino: Ino,
        item: &InodeItem,
        range: &Range<u64>,
    ) -> Result<Range<u64>> {
        let end = match range.end {
            end if end >= item.size => end.next_multiple_of(BLOCK),
            end => end,
        };
        let (first, last) = (range.start.next_multiple_of(BLOCK), end / BLOCK * BLOCK);
        if first > last {
            // Inside one block.
            self.zero_bytes(gate, ino, range.start..range.end)?;
            return Ok(0..0);
        }
        self.zero_bytes(gate, ino, range.start..first)?;
        self.zero_bytes(gate, ino, last..end)?;
        Ok(first / BLOCK..last / BLOCK)
    }

    /// Zeroes what of a tiny file is in `range`.
    pub(super) fn zero_inline(
        &self,
        gate: &Entered<'_>,
        ino: Ino,
        range: &Range<u64>,
    ) -> Result<()> {
        let end = gate.view(|r| inline_bytes(r, ino))?.len() as u64;
        self.zero_bytes(gate, ino, range.start..range.end.min(end).max(range.start))
    }

    /// Makes a hole: bytes read as zeros, whole blocks are given back.
    pub(super) fn punch(&self, ino: Ino, range: &Range<u64>) -> Result<()> {
        let mut edges = true;
        loop {
            let done = self.passage(Need::FREE, |gate| {
                let _lock = self.lock_of(ino).write();
                let item = gate.view(|r| read_file(r, ino))?;
                if item.flags & flag::INLINE != 0 {
                    self.zero_inline(gate, ino, range)?;
                    return Ok(true);
                }
                let blocks = if edges {
                    let blocks = self.zero_edges(gate, ino, &item, range)?;
                    edges = false;
                    blocks
                } else {
                    let end = match range.end {
                        end if end >= item.size => end.div_ceil(BLOCK),
                        end => end / BLOCK,
                    };
                    range.start.div_ceil(BLOCK)..end
                };
                self.free_some(gate, ino, &blocks)
            })?;
            if done {
                return Ok(());
            }
        }
    }

    /// Makes bytes zeros and keeps their blocks.
    fn zero_range(&self, ino: Ino, range: &Range<u64>) -> Result<()> {
        let mut from: Option<u64> = None;
        loop {
            let done = self.passage(WRITE, |gate| {
                let _lock = self.lock_of(ino).write();
                let item = gate.view(|r| read_file(r, ino))?;
                if item.flags & flag::INLINE != 0 {
                    self.zero_inline(gate, ino, range)?;
                    return Ok(true);
                }
                let blocks = self.zero_edges(gate, ino, &item, range)?;
                let mut next = from.unwrap_or(blocks.start);
                for _ in 0..STEPS {
                    let rest = next..blocks.end;
                    let list = gate.view(|r| extents(r, ino, &rest, EXTENTS))?;
                    gate.update(|op| {
                        for e in list.iter().filter_map(|e| e.clip(&rest)) {
                            let new = Extent {
                                unwritten: true,
                                ..e
                            };
                            replace(op, ino, &(e.block..e.end()), &[new])?;
                        }
                        Ok(())
                    })?;
                    match list.last() {
                        Some(last) if list.len() == EXTENTS && last.end() < blocks.end => {
                            next = last.end();
                        }
                        _ => return Ok(true),
                    }
                }
                from = Some(next);
                Ok(false)
            })?;
            if done {
                return Ok(());
            }
        }
    }

    /// Gives every block of `range` a place; new ones read as zeros. `size`: the file's new end if
    /// it is longer.
    fn allocate(&self, ino: Ino, range: &Range<u64>, size: Option<u64>) -> Result<()> {
        let blocks = range.start / BLOCK..range.end.div_ceil(BLOCK);
        self.check_room(ino, &blocks)?;
        let mut next = blocks.start;
        while next < blocks.end {
            let step = self.passage(WRITE, |gate| {
                let _lock = self.lock_of(ino).write();
                for _ in 0..STEPS {
                    let item = gate.view(|r| read_file(r, ino))?;
                    if item.flags & TRUNCATING != 0 {
                        return Ok(Step::Unfinished);
                    }
                    if item.flags & flag::INLINE != 0 {
                        let bytes = gate.view(|r| inline_bytes(r, ino))?;
                        self.spill(gate, ino, &item, &bytes)?;
                        continue;
                    }
                    if next < blocks.end {
                        next = self.allocate_step(gate, ino, &item, next..blocks.end)?;
                    }
                }
                Ok(Step::Done(()))
            })?;
            if let Step::Unfinished = step {
                self.finish_pending(ino)?;
            }
        }
        self.stamp(ino, size)
    }

    /// Fails before anything is allocated when there cannot be room for all of it.
    fn check_room(&self, ino: Ino, blocks: &Range<u64>) -> Result<()> {
        let mut missing = blocks.end - blocks.start;
        let mut next = blocks.start;
        loop {
            let gate = self.volume.enter(Need::READ)?;
            let rest = next..blocks.end;
            let list = gate.view(|r| extents(r, ino, &rest, 1024))?;
            drop(gate);
            let have = list
                .iter()
                .filter_map(|e| e.clip(&rest))
                .map(|e| u64::from(e.len));
            missing = missing.saturating_sub(have.sum());
            match list.last() {
                Some(last) if list.len() == 1024 => next = last.end(),
                _ => break,
            }
        }
        let wanted = missing.saturating_mul(BLOCK);
        if let Some(limit) = self.volume.limit()
            && self.volume.usage().0.saturating_add(wanted) > limit
        {
            return Err(Error::Quota);
        }
        self.with_room(|| {
            let room = self.statfs()?.free;
            if missing > room {
                Err(Error::NoSpace)
            } else {
                Ok(())
            }
        })
    }

    /// Allocates the holes at the beginning of file blocks `rest`; answers how far that went.
    fn allocate_step(
        &self,
        gate: &Entered<'_>,
        ino: Ino,
        item: &InodeItem,
        rest: Range<u64>,
    ) -> Result<u64> {
        let g = self.thin().geometry();
        let (list, before) = gate.view(|r| {
            let before = match rest.start.checked_sub(1) {
                Some(b) => extent_below(r, ino, b)?.filter(|e| e.end() == rest.start),
                None => None,
            };
            Ok((extents(r, ino, &rest, EXTENTS)?, before))
        })?;
        let mut after = before.map(|e| e.at + u64::from(e.len));
        let mut txn = Txn::new(&self.volume, self.thin(), gate);
        let mut placed = Vec::new();
        let mut holes = Vec::new();
        let (mut next, mut left) = (rest.start, CHUNKS * u64::from(g.blocks));
        let ends = list.iter().map(|e| (e.block, Some(e)));
        let open_end = (list.len() < EXTENTS).then_some((rest.end, None));
        for (end, extent) in ends.chain(open_end) {
            let hole = next..end.min(rest.end).max(next).min(next.saturating_add(left));
            if hole.start < hole.end {
                let blocks = hole.end - hole.start;
                let large = after.is_some() && item.blocks >= u64::from(g.blocks);
                let mut block = hole.start;
                for grant in txn.take(&Want {
                    blocks,
                    after,
                    large,
                })? {
                    placed.push((grant, block));
                    block += grant.len;
                }
                left -= blocks;
                next = hole.end;
                holes.push(hole);
                if left == 0 {
                    break;
                }
            }
            if let Some(e) = extent {
                after = Some(e.at + u64::from(e.len));
                next = e.end().min(rest.end);
            }
        }
        if holes.is_empty() {
            return Ok(next);
        }
        txn.promise()?;
        let outcome = txn.commit(|op| {
            let mut item = read_inode(op, ino)?;
            for hole in &holes {
                let mut new = extents_of(&placed, hole);
                new.iter_mut().for_each(|e| e.unwritten = true);
                let delta = replace(op, ino, hole, &new)?;
                item.blocks = item.blocks.saturating_add_signed(delta);
            }
            write_inode(op, ino, &item);
            Ok(())
        })?;
        match outcome {
            Outcome::Done(()) => Ok(next),
            Outcome::Stale => Ok(rest.start),
        }
    }
}
