//! Writing.

use super::extent::{self, Extent, extent_below};
use super::layout::{CopyRun, Layout, lay_out};
use super::plan::{Part, Place, parts};
use super::{INLINE_MAX, SIZE_MAX, Step, TRUNCATING, blocks_of, posix, read_file};
use crate::base::{BLOCK, Error, Ino, Result, Time, VBlock};
use crate::fs::Fs;
use crate::fs::inode::{damaged, read_inode, write_inode};
use crate::fs::item::{InodeItem, flag};
use crate::fs::privilege::without_suidgid;
use crate::pool::{Entered, Need, Op};
use crate::tree::{Key, Read, kind};
use crate::volume::{self, Counters, Grant, Outcome, Probe, Txn, Want, probe};
use std::collections::BTreeMap;
use std::ops::Range;

/// Bytes one update puts in place at most, and parts of the file it may meet.
const STEP: u64 = 1 << 20;
const PARTS: usize = 4;
/// Bytes written in one passage of the gate.
const PASSAGE: u64 = 4 << 20;
/// Times a step is planned anew because others moved chunks.
const PLANS: usize = 1000;

/// Keys of one step at worst, checked by the pool in debug builds.
pub(super) const WRITE: Need = Need {
    keys: 224,
    bytes: 16 << 10,
    frees: false,
};
/// The same for a write of few blocks.
const SMALL_WRITE: Need = Need {
    keys: 96,
    bytes: 8 << 10,
    frees: false,
};
const SMALL: u64 = 64 << 10;

static ZERO_BLOCK: [u8; BLOCK as usize] = [0; BLOCK as usize];

/// What a write does to the inode besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Effect {
    /// Set mtime and ctime.
    pub times: bool,
    /// Clear setuid and setgid (capabilities go in any case).
    pub kill: bool,
    /// Move the end of the file.
    pub extend: bool,
    /// Bytes of a file's own blocks behind or before a hole: no data for the user.
    pub quiet: bool,
}

/// A file's range as it is now.
struct Plan {
    item: InodeItem,
    inline: Option<Vec<u8>>,
    parts: Vec<Part>,
    probes: BTreeMap<u64, Probe>,
    /// Virtual block behind the file's block before the range, if that one is private.
    after: Option<VBlock>,
}

impl Fs {
    /// Writes all of `data` or fails. `times`: set mtime and ctime (not for the kernel's write-back).
    /// `kill_suidgid` as in `SetAttr`.
    pub fn write(
        &self,
        ino: Ino,
        offset: u64,
        data: &[u8],
        times: bool,
        kill_suidgid: bool,
    ) -> Result<()> {
        self.writable()?;
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|end| *end <= SIZE_MAX);
        let Some(end) = end else {
            return posix(libc::EFBIG);
        };
        let effect = Effect {
            times,
            kill: kill_suidgid,
            extend: true,
            quiet: false,
        };
        let need = if data.len() as u64 <= SMALL {
            SMALL_WRITE
        } else {
            WRITE
        };
        let mut next = offset;
        while next < end {
            let step = self.passage(need, |gate| {
                let _lock = self.lock_of(ino).write();
                let until = end.min(next.saturating_add(PASSAGE));
                while next < until {
                    let rest = data.get((next - offset) as usize..(until - offset) as usize);
                    match self.write_step(gate, ino, next, rest.unwrap_or_default(), effect)? {
                        Step::Done(n) => next += n,
                        Step::Unfinished => return Ok(Step::Unfinished),
                    }
                }
                Ok(Step::Done(()))
            })?;
            if let Step::Unfinished = step {
                self.finish_pending(ino)?;
            }
        }
        Ok(())
    }

    /// Writes the beginning of `data`: how many bytes of it. The caller has the inode's lock.
    pub(super) fn write_step(
        &self,
        gate: &Entered<'_>,
        ino: Ino,
        offset: u64,
        data: &[u8],
        effect: Effect,
    ) -> Result<Step<u64>> {
        // Whole blocks at the end of all steps but the last.
        let most = (STEP - offset % BLOCK).min(data.len() as u64);
        let mut gap_is_zero = false;
        for _ in 0..PLANS {
            let range = offset..offset + most;
            let plan = self.plan(gate, ino, &range)?;
            if effect.extend && plan.item.flags & TRUNCATING != 0 {
                return Ok(Step::Unfinished);
            }
            if effect.extend && offset > plan.item.size && !gap_is_zero {
                // This may move the block: the plan is out of date then.
                self.zero_tail(gate, ino, plan.item.size, offset)?;
                gap_is_zero = true;
                continue;
            }
            let data = data.get(..most as usize).unwrap_or_default();
            let wants_inline = plan.inline.is_some()
                || (plan.item.blocks == 0 && plan.item.size <= INLINE_MAX && !effect.quiet);
            if wants_inline {
                if range.end <= INLINE_MAX {
                    return self
                        .write_inline(gate, ino, offset, data, effect)
                        .map(Step::Done);
                }
                if let Some(bytes) = &plan.inline {
                    self.spill(gate, ino, &plan.item, bytes)?;
                    continue;
                }
            }
            if let Some(n) = self.write_blocks(gate, ino, offset, data, effect, &plan)? {
                return Ok(Step::Done(n));
            }
        }
        Err(Error::Busy("a file's chunks keep moving".into()))
    }

    fn plan(&self, gate: &Entered<'_>, ino: Ino, bytes: &Range<u64>) -> Result<Plan> {
        let g = self.thin().geometry();
        let chunks = self.volume.chunks();
        let refs = |c| chunks.sharers(c);
        let blocks = blocks_of(bytes);
        gate.view(|r| {
            let item = read_file(r, ino)?;
            let mut plan = Plan {
                item,
                inline: None,
                parts: Vec::new(),
                probes: BTreeMap::new(),
                after: None,
            };
            if item.flags & flag::INLINE != 0 {
                plan.inline = Some(inline_bytes(r, ino)?);
                return Ok(plan);
            }
            plan.parts = parts(r, &refs, g, ino, blocks.clone(), PARTS)?;
            for part in &plan.parts {
                if let Place::At {
                    at, private: false, ..
                } = part.place
                {
                    for v in g.vchunks(&(at..at + part.len)) {
                        if let Some(found) = probe(r, &refs, g, v)? {
                            plan.probes.insert(v, found);
                        }
                    }
                }
            }
            let in_place = |p: &Part| matches!(p.place, Place::At { private: true, .. });
            if let Some(before) = blocks.start.checked_sub(1)
                && !plan.parts.iter().all(in_place)
                && let Some(e) = extent_below(r, ino, before)?
                && e.end() > before
            {
                // Behind a shared block is no place to go on.
                let at = e.at + (before - e.block);
                let private = probe(r, &refs, g, g.vchunk(at))?.is_some_and(|p| p.private);
                plan.after = private.then_some(at + 1);
            }
            Ok(plan)
        })
    }

    /// Zeroes what is behind the end in the last block, as far as `until`: the file grows.
    pub(super) fn zero_tail(
        &self,
        gate: &Entered<'_>,
        ino: Ino,
        size: u64,
        until: u64,
    ) -> Result<()> {
        self.zero_bytes(gate, ino, size..until.min(size.next_multiple_of(BLOCK)))
    }

    /// Zeroes bytes inside one block if that has data; size and times stay as they are.
    pub(super) fn zero_bytes(&self, gate: &Entered<'_>, ino: Ino, bytes: Range<u64>) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        for _ in 0..PLANS {
            let plan = self.plan(gate, ino, &bytes)?;
            if let Some(inline) = &plan.inline {
                // Behind its bytes are zeros already.
                let end = bytes.end.min(inline.len() as u64);
                if bytes.start < end {
                    let zeros = vec![0; (end - bytes.start) as usize];
                    self.write_inline(gate, ino, bytes.start, &zeros, Effect::default())?;
                }
                return Ok(());
            }
            let written = plan
                .parts
                .first()
                .is_some_and(|p| p.written(bytes.start).is_some());
            let zeros = ZERO_BLOCK
                .get(..(bytes.end - bytes.start) as usize)
                .unwrap_or_default();
            let effect = Effect {
                quiet: true,
                ..Effect::default()
            };
            if !written
                || self
                    .write_blocks(gate, ino, bytes.start, zeros, effect, &plan)?
                    .is_some()
            {
                return Ok(());
            }
        }
        Err(Error::Busy("a file's chunks keep moving".into()))
    }

    /// What every update of a write does to the inode. `end`: of the bytes written.
    fn after_write(
        &self,
        op: &mut Op<'_>,
        ino: Ino,
        end: u64,
        effect: Effect,
        change: impl FnOnce(&mut InodeItem),
    ) -> Result<()> {
        let mut item = read_inode(op, ino)?;
        change(&mut item);
        if effect.extend {
            item.size = item.size.max(end);
        }
        if !effect.quiet {
            self.drop_privileges(op, ino, &mut item, effect.kill)?;
        }
        if effect.times {
            item.modified(Time::now());
        } else if !effect.quiet {
            // Written back by the kernel, which sets the times itself: content changed all the same.
            item.version = item.version.wrapping_add(1);
        }
        write_inode(op, ino, &item);
        Ok(())
    }

    fn write_inline(
        &self,
        gate: &Entered<'_>,
        ino: Ino,
        offset: u64,
        data: &[u8],
        effect: Effect,
    ) -> Result<u64> {
        let end = offset + data.len() as u64;
        let key = Key::new(ino, kind::INLINE, 0);
        gate.update(|op| {
            let mut bytes = op.get(&key)?.unwrap_or_default();
            if (bytes.len() as u64) < end {
                bytes.resize(end as usize, 0);
            }
            if let Some(slot) = bytes.get_mut(offset as usize..end as usize) {
                slot.copy_from_slice(data);
            }
            op.put(key, bytes);
            self.after_write(op, ino, end, effect, |item| item.flags |= flag::INLINE)
        })?;
        Ok(data.len() as u64)
    }

    /// Moves a file's bytes out of the tree into its first block.
    pub(super) fn spill(
        &self,
        gate: &Entered<'_>,
        ino: Ino,
        item: &InodeItem,
        bytes: &[u8],
    ) -> Result<()> {
        let mut block = bytes.to_vec();
        block.truncate(item.size.min(BLOCK) as usize);
        let mut txn = Txn::new(&self.volume, self.thin(), gate);
        let mut new = None;
        if !block.is_empty() {
            block.resize(BLOCK as usize, 0);
            let grants = txn.take(&Want {
                blocks: 1,
                after: None,
                large: false,
            })?;
            txn.promise()?;
            for grant in grants {
                let g = self.thin().geometry();
                txn.write(g.byte(grant.chunk, g.place(grant.at)), &block)?;
                new = Some(Extent {
                    block: 0,
                    at: grant.at,
                    len: 1,
                    unwritten: false,
                });
            }
        }
        let done = txn.commit(|op| {
            op.delete(Key::new(ino, kind::INLINE, 0));
            let mut item = read_inode(op, ino)?;
            item.flags &= !flag::INLINE;
            let delta = extent::replace(op, ino, &(0..1), new.as_slice())?;
            item.blocks = item.blocks.saturating_add_signed(delta);
            write_inode(op, ino, &item);
            Ok(())
        })?;
        match done {
            Outcome::Done(()) => Ok(()),
            Outcome::Stale => Err(Error::Busy("a file's chunks keep moving".into())),
        }
    }

    /// Writes into blocks what the plan reaches: how many bytes; `None`: plan again.
    fn write_blocks(
        &self,
        gate: &Entered<'_>,
        ino: Ino,
        offset: u64,
        data: &[u8],
        effect: Effect,
        plan: &Plan,
    ) -> Result<Option<u64>> {
        let reached = plan.parts.last().map_or(0, |p| p.bytes().end);
        let end = reached.min(offset + data.len() as u64);
        if end <= offset {
            return Err(damaged(ino, "its extents"));
        }
        let bytes = offset..end;
        let data = data.get(..(end - offset) as usize).unwrap_or_default();
        let writer = Writer {
            fs: self,
            bytes: &bytes,
            data,
            plan,
        };
        let layout = lay_out(self.thin().geometry(), &plan.parts, &plan.probes, &bytes);
        let mut txn = Txn::new(&self.volume, self.thin(), gate);
        for range in &layout.freed {
            txn.free(range.clone());
        }
        let fresh = writer.place_fresh(&mut txn, &layout)?;
        txn.promise()?;
        writer.copy_chunks(&mut txn, &layout)?;
        for (grant, block) in &fresh {
            writer.fill(&txn, grant, *block)?;
        }
        for part in &layout.private {
            if let Place::At {
                byte, unwritten, ..
            } = part.place
            {
                writer.overwrite(&txn, part, byte, unwritten)?;
            }
        }
        let item = &plan.item;
        let privileged = item.flags & flag::CAPABILITY != 0
            || (effect.kill && without_suidgid(item.mode) != item.mode);
        let plain = txn.is_empty()
            && layout.converted.is_empty()
            && !effect.times
            && (effect.quiet || !privileged)
            && (!effect.extend || end <= item.size);
        if plain {
            return Ok(Some(end - offset));
        }
        let done = txn.commit(|op| {
            let mut delta = 0;
            for range in &layout.fresh {
                let new = extents_of(&fresh, range);
                delta += extent::replace(op, ino, range, &new)?;
            }
            for e in &layout.converted {
                delta += extent::replace(op, ino, &(e.block..e.end()), &[*e])?;
            }
            self.after_write(op, ino, end, effect, |item| {
                item.blocks = item.blocks.saturating_add_signed(delta);
            })
        })?;
        Ok(match done {
            Outcome::Done(()) => Some(end - offset),
            Outcome::Stale => None,
        })
    }
}

/// A tiny file's bytes.
pub(super) fn inline_bytes(r: &dyn Read, ino: Ino) -> Result<Vec<u8>> {
    let bytes = r.get(&Key::new(ino, kind::INLINE, 0))?;
    bytes.ok_or_else(|| damaged(ino, "its inline data is missing"))
}

/// The extents of file blocks `range` by what was handed out for them.
pub(super) fn extents_of(fresh: &[(Grant, u64)], range: &Range<u64>) -> Vec<Extent> {
    let inside = fresh.iter().filter(|(_, block)| range.contains(block));
    inside
        .map(|(g, block)| Extent {
            block: *block,
            at: g.at,
            len: g.len as u32,
            unwritten: false,
        })
        .collect()
}

/// The bytes of one step, and where they belong.
struct Writer<'a> {
    fs: &'a Fs,
    bytes: &'a Range<u64>,
    data: &'a [u8],
    plan: &'a Plan,
}

impl Writer<'_> {
    /// New blocks for all that needs them: grants with the file block each begins at.
    fn place_fresh(&self, txn: &mut Txn<'_>, layout: &Layout) -> Result<Vec<(Grant, u64)>> {
        let g = self.fs.thin().geometry();
        let mut placed: Vec<(Grant, u64)> = Vec::new();
        for range in &layout.fresh {
            let after = self.before(range.start, &placed);
            // Only a file that grows block by block gets chunks of its own; holes of a big file
            // filled here and there do not.
            let large = after.is_some() && self.plan.item.blocks >= u64::from(g.blocks);
            let want = Want {
                blocks: range.end - range.start,
                after,
                large,
            };
            let mut block = range.start;
            for grant in txn.take(&want)? {
                placed.push((grant, block));
                block += grant.len;
            }
        }
        let redirected: u64 = layout.freed.iter().map(|f| f.end - f.start).sum();
        Counters::add(&self.fs.thin().counters().redirected_blocks, redirected);
        Ok(placed)
    }

    /// Virtual block behind file block `block - 1`.
    fn before(&self, block: u64, placed: &[(Grant, u64)]) -> Option<VBlock> {
        if self.plan.parts.first().is_some_and(|p| p.block == block) {
            return self.plan.after;
        }
        if let Some((grant, start)) = placed.last()
            && start + grant.len == block
        {
            return Some(grant.at + grant.len);
        }
        self.plan
            .parts
            .iter()
            .find(|p| p.end() == block)
            .and_then(|p| match p.place {
                Place::At {
                    at, private: true, ..
                } => Some(at + p.len),
                _ => None,
            })
    }

    /// Copies shared chunks, and writes what belongs into the copies.
    fn copy_chunks(&self, txn: &mut Txn<'_>, layout: &Layout) -> Result<()> {
        let g = self.fs.thin().geometry();
        for CopyRun {
            vchunk,
            from,
            count,
        } in &layout.copies
        {
            for m in txn.relocate(*vchunk, *from, *count)? {
                for i in 0..u64::from(m.count) {
                    let v = m.vchunk + i;
                    let used = self.plan.probes.get(&v).map(|p| p.used).unwrap_or_default();
                    let done = layout.overwritten.get(&v).copied().unwrap_or_default();
                    let mut copy = used;
                    for (copy, done) in copy.0.iter_mut().zip(done.0) {
                        *copy &= !done;
                    }
                    txn.copy(m.from + i, m.to + i, &copy)?;
                }
                self.write_moved(txn, layout, m.vchunk..m.vchunk + u64::from(m.count), m.to)?;
            }
        }
        debug_assert!(g.blocks > 0);
        Ok(())
    }

    /// Writes the moved parts in virtual chunks `range`, now from physical chunk `to` on;
    /// neighbours together.
    fn write_moved(
        &self,
        txn: &Txn<'_>,
        layout: &Layout,
        range: Range<u64>,
        to: u64,
    ) -> Result<()> {
        let g = self.fs.thin().geometry();
        let mut joined: Option<(Part, u64, bool)> = None;
        for part in &layout.moved {
            let Place::At { at, unwritten, .. } = part.place else {
                continue;
            };
            let v = g.vchunk(at);
            if !range.contains(&v) {
                continue;
            }
            let byte = g.byte(to + (v - range.start), g.place(at));
            match &mut joined {
                Some((last, start, same))
                    if last.end() == part.block
                        && *start + last.len * BLOCK == byte
                        && *same == unwritten =>
                {
                    last.len += part.len;
                }
                _ => {
                    if let Some((part, byte, unwritten)) = joined.replace((*part, byte, unwritten))
                    {
                        self.overwrite(txn, &part, byte, unwritten)?;
                    }
                }
            }
        }
        if let Some((part, byte, unwritten)) = joined {
            self.overwrite(txn, &part, byte, unwritten)?;
        }
        Ok(())
    }

    /// Writes the step's bytes that belong into `part`, now at `byte` of the device: exactly those
    /// where the blocks have data, whole blocks where they have none yet.
    fn overwrite(&self, txn: &Txn<'_>, part: &Part, byte: u64, unwritten: bool) -> Result<()> {
        let file = part.bytes();
        if unwritten {
            return self.whole_blocks(txn, file, byte, &|_| None);
        }
        let from = file.start.max(self.bytes.start);
        let to = file.end.min(self.bytes.end);
        if from < to {
            txn.write(byte + (from - file.start), self.slice(from..to))?;
        }
        Ok(())
    }

    /// Writes new blocks: the step's bytes, around them what was there before.
    fn fill(&self, txn: &Txn<'_>, grant: &Grant, block: u64) -> Result<()> {
        let g = self.fs.thin().geometry();
        let byte = g.byte(grant.chunk, g.place(grant.at));
        let file = block * BLOCK..(block + grant.len) * BLOCK;
        self.whole_blocks(txn, file, byte, &|block| {
            let at = block * BLOCK;
            let part = self.plan.parts.iter().find(|p| p.bytes().contains(&at))?;
            part.written(at)
        })
    }

    fn slice(&self, range: Range<u64>) -> &[u8] {
        let start = self.bytes.start;
        self.data
            .get((range.start - start) as usize..(range.end - start) as usize)
            .unwrap_or(&[])
    }

    /// Writes whole blocks `file` (bytes) at `byte`. The first and the last may be covered in part:
    /// the rest is what `old` (by file block: where in the device) has, else zeros.
    fn whole_blocks(
        &self,
        txn: &Txn<'_>,
        file: Range<u64>,
        byte: u64,
        old: &dyn Fn(u64) -> Option<u64>,
    ) -> Result<()> {
        let from = file.start.max(self.bytes.start);
        let to = file.end.min(self.bytes.end);
        if from == file.start && to == file.end {
            return txn.write(byte, self.slice(file));
        }
        // Few bytes: one buffer, one call. Many: the blocks at the ends, then what is between.
        const FEW: u64 = 128 << 10;
        if file.end - file.start <= FEW {
            let mut buf = vec![0; (file.end - file.start) as usize];
            let last = file.end - BLOCK;
            let ends = [file.start, last];
            let count = if last == file.start { 1 } else { 2 };
            for start in ends.into_iter().take(count) {
                let partial = start < from || start + BLOCK > to;
                if let (true, Some(device)) = (partial, old(start / BLOCK)) {
                    let at = (start - file.start) as usize;
                    if let Some(slot) = buf.get_mut(at..at + BLOCK as usize) {
                        volume::read(&self.fs.volume, device, slot)?;
                    }
                }
            }
            let at = (from - file.start) as usize..(to - file.start) as usize;
            if let Some(slot) = buf.get_mut(at) {
                slot.copy_from_slice(self.slice(from..to));
            }
            return txn.write(byte, &buf);
        }
        let head = file.start..if from == file.start {
            file.start
        } else {
            file.start + BLOCK
        };
        let tail = if to == file.end {
            file.end
        } else {
            file.end - BLOCK
        }..file.end;
        for edge in [head.clone(), tail.clone()] {
            if !edge.is_empty() {
                self.whole_blocks(txn, edge.clone(), byte + (edge.start - file.start), old)?;
            }
        }
        txn.write(
            byte + (head.end - file.start),
            self.slice(head.end..tail.start),
        )
    }
}
