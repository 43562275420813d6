//! What one operation does to the mapping, as changes of keys. Runs inside the operation's update,
//! on the mapping as it is then, not as it was when the operation was planned.

use super::alloc::Grant;
use super::map::{Edit, Geometry, Refs, Run, map_key, probe, replace, run_at, runs};
use crate::base::{Chunk, Error, Result, VBlock, VChunk};
use crate::tree::{Bitmap, Key, RUN_MAX, Read, kind};
use std::ops::Range;

/// Virtual chunks that get a copy of their own: their used blocks were copied from physical chunks
/// `from..` to `to..`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Move {
    pub vchunk: VChunk,
    pub count: u32,
    pub from: Chunk,
    pub to: Chunk,
}

/// New virtual chunks for the content of others: both map to the same physical chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Share {
    pub source: VChunk,
    pub target: VChunk,
    pub count: u32,
    pub chunk: Chunk,
}

/// One operation's changes of the mapping.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    pub moves: Vec<Move>,
    pub shares: Vec<Share>,
    pub frees: Vec<Range<VBlock>>,
    pub uses: Vec<Grant>,
    /// PARTIAL items found to be lying.
    pub stale: Vec<VChunk>,
}

impl Edits {
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty()
            && self.shares.is_empty()
            && self.frees.is_empty()
            && self.uses.is_empty()
    }
}

/// What [`apply`] brought about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Partly freed chunks that have no block in use any more.
    pub emptied: Vec<VChunk>,
}

const fn partial_key(v: VChunk) -> Key {
    Key::new(0, kind::PARTIAL, v)
}

/// Makes the changes; `None`, and nothing changed: a chunk to be moved or shared is not where it
/// was, or has become private: plan again.
pub(crate) fn apply(
    op: &mut dyn Edit,
    refs: Refs<'_>,
    g: Geometry,
    edits: &Edits,
) -> Result<Option<Applied>> {
    // All checks come first, since what is put cannot be taken back here.
    let mut moved = Vec::with_capacity(edits.moves.len());
    for m in &edits.moves {
        match moved_runs(&*op, refs, m)? {
            Some(new) => moved.push(new),
            None => return Ok(None),
        }
    }
    for s in &edits.shares {
        if !still_there(&*op, s)? {
            return Ok(None);
        }
    }
    let mut applied = Applied::default();
    for (m, new) in edits.moves.iter().zip(moved) {
        replace(op, g, m.vchunk..m.vchunk + u64::from(m.count), &new)?;
        for run in new.iter().filter(|run| run.map.used.is_some()) {
            note_partial(op, run.vchunk, true)?;
        }
    }
    for s in &edits.shares {
        put_runs(op, g, s.target, s.chunk, u64::from(s.count), &[], &[])?;
    }
    for range in &edits.frees {
        free(op, refs, g, range, &mut applied)?;
    }
    for grant in &edits.uses {
        take_into_use(op, g, grant)?;
    }
    for v in &edits.stale {
        let useful = probe(&*op, refs, g, *v)?.is_some_and(|p| p.private && p.used != g.full());
        if !useful {
            note_partial(op, *v, false)?;
        }
    }
    Ok(Some(applied))
}

/// The runs that a move makes; `None`: it does not hold any more.
fn moved_runs(r: &dyn Read, refs: Refs<'_>, m: &Move) -> Result<Option<Vec<Run>>> {
    let range = m.vchunk..m.vchunk + u64::from(m.count);
    let mut new: Vec<Run> = Vec::new();
    let mut next = range.start;
    for run in runs(r, range.clone(), usize::MAX)? {
        let shared_leaf = r.shared(&map_key(run.vchunk))?;
        let Some(part) = run.clip(&range) else {
            continue;
        };
        if part.vchunk != next || part.map.chunk != m.from + (next - m.vchunk) {
            return Ok(None);
        }
        // A chunk that has become private may have been written since it was copied.
        let private = |i: u32| !shared_leaf && refs(part.map.chunk + u64::from(i)) <= 1;
        if (0..part.map.count).any(private) {
            return Ok(None);
        }
        let mut run = part;
        run.map.chunk = m.to + (next - m.vchunk);
        next = part.end();
        new.push(run);
    }
    Ok((next == range.end).then_some(new))
}

fn still_there(r: &dyn Read, s: &Share) -> Result<bool> {
    let range = s.source..s.source + u64::from(s.count);
    let mut next = range.start;
    for run in runs(r, range.clone(), usize::MAX)? {
        let Some(part) = run.clip(&range) else {
            continue;
        };
        let there = part.vchunk == next && part.map.chunk == s.chunk + (next - s.source);
        if !there || part.map.used.is_some() {
            return Ok(false);
        }
        next = part.end();
    }
    Ok(next == range.end)
}

/// Maps `count` whole chunks from `v` on, between `before` and `after`.
fn put_runs(
    op: &mut dyn Edit,
    g: Geometry,
    v: VChunk,
    chunk: Chunk,
    count: u64,
    before: &[Run],
    after: &[Run],
) -> Result<()> {
    let mut new = before.to_vec();
    let mut done = 0;
    while done < count {
        let n = (count - done).min(u64::from(RUN_MAX));
        new.push(Run::new(v + done, chunk + done, n as u32));
        done += n;
    }
    new.extend_from_slice(after);
    let start = before.first().map_or(v, |run| run.vchunk);
    let end = after.last().map_or(v + count, Run::end);
    replace(op, g, start..end, &new)
}

/// The first and the last chunk of a range of blocks, once if they are one.
fn ends(g: Geometry, range: &Range<VBlock>) -> impl Iterator<Item = VChunk> + use<> {
    let chunks = g.vchunks(range);
    let last = chunks.end.saturating_sub(1);
    let first = chunks.start;
    [
        (!chunks.is_empty()).then_some(first),
        (last > first).then_some(last),
    ]
    .into_iter()
    .flatten()
}

/// Clears blocks; chunks without blocks lose their mapping, and by it their reference.
fn free(
    op: &mut dyn Edit,
    refs: Refs<'_>,
    g: Geometry,
    range: &Range<VBlock>,
    applied: &mut Applied,
) -> Result<()> {
    let mut keep = Vec::with_capacity(2);
    for v in ends(g, range) {
        let (place, n) = g.part(range, v);
        if n == g.blocks {
            continue;
        }
        let Some(run) = run_at(&*op, v)? else {
            continue;
        };
        let mut used = run.used(g);
        used.clear(place, n);
        let chunk = run.chunk(v);
        match Run::one(g, v, chunk, used) {
            Some(run) => keep.push(run),
            None => applied.emptied.push(v),
        }
        let private = refs(chunk) == 1 && !op.shared(&map_key(run.vchunk))?;
        if used.is_empty() {
            note_partial(op, v, false)?;
        } else if private {
            note_partial(op, v, true)?;
        }
    }
    replace(op, g, g.vchunks(range), &keep)
}

/// Sets the bits of blocks handed out.
fn take_into_use(op: &mut dyn Edit, g: Geometry, grant: &Grant) -> Result<()> {
    let range = grant.at..grant.at + grant.len;
    let chunks = g.vchunks(&range);
    let (mut whole, mut before, mut after) = (chunks.clone(), None, None);
    for v in ends(g, &range) {
        let (place, n) = g.part(&range, v);
        if n == g.blocks {
            continue;
        }
        let chunk = grant.chunk + (v - chunks.start);
        let mut used = Bitmap::default();
        used.set(place, n);
        if let Some(run) = run_at(&*op, v)? {
            let old = run.used(g);
            let twice = old.0.iter().zip(used.0).any(|(a, b)| a & b != 0);
            if run.chunk(v) != chunk || twice {
                return Err(Error::corrupt(
                    format!("virtual chunk {v}"),
                    "blocks handed out as free are in use",
                ));
            }
            for (used, old) in used.0.iter_mut().zip(old.0) {
                *used |= old;
            }
        }
        note_partial(op, v, used != g.full())?;
        let run = Run::one(g, v, chunk, used);
        if v == chunks.start {
            (before, whole.start) = (run, v + 1);
        } else {
            (after, whole.end) = (run, v);
        }
    }
    let count = whole.end.saturating_sub(whole.start);
    let chunk = grant.chunk + (whole.start - chunks.start);
    put_runs(
        op,
        g,
        whole.start,
        chunk,
        count,
        before.as_slice(),
        after.as_slice(),
    )
}

/// Makes or drops the PARTIAL item.
fn note_partial(op: &mut dyn Edit, v: VChunk, wanted: bool) -> Result<()> {
    match (op.get(&partial_key(v))?.is_some(), wanted) {
        (false, true) => op.put(partial_key(v), Vec::new()),
        (true, false) => op.delete(partial_key(v)),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
