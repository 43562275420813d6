//! The mapping items: looking up, cutting and joining runs.

use crate::base::{BLOCK, Chunk, Error, Result, VBlock, VChunk};
use crate::pool::Op;
use crate::tree::{Bitmap, Key, Mapping, RUN_MAX, Read, kind};
use std::ops::{ControlFlow, Range};

/// Sizes of one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub chunk_size: u64,
    /// Blocks of a chunk, 16 to 256.
    pub blocks: u32,
}

impl Geometry {
    pub fn new(chunk_size: u64) -> Geometry {
        Geometry {
            chunk_size,
            blocks: (chunk_size / BLOCK) as u32,
        }
    }

    /// Virtual chunk of a virtual block.
    pub fn vchunk(&self, at: VBlock) -> VChunk {
        at / u64::from(self.blocks)
    }

    /// A virtual block's place in its chunk.
    pub fn place(&self, at: VBlock) -> u32 {
        (at % u64::from(self.blocks)) as u32
    }

    /// First virtual block of a chunk.
    pub fn first(&self, v: VChunk) -> VBlock {
        v.saturating_mul(u64::from(self.blocks))
    }

    /// Byte offset in the data device.
    pub fn byte(&self, chunk: Chunk, place: u32) -> u64 {
        chunk
            .saturating_mul(self.chunk_size)
            .saturating_add(u64::from(place) * BLOCK)
    }

    /// Virtual chunks that a range of virtual blocks touches.
    pub fn vchunks(&self, range: &Range<VBlock>) -> Range<VChunk> {
        if range.is_empty() {
            return self.vchunk(range.start)..self.vchunk(range.start);
        }
        self.vchunk(range.start)..self.vchunk(range.end - 1) + 1
    }

    /// The part of `range` that lies in chunk `v`: first place and number of blocks.
    pub fn part(&self, range: &Range<VBlock>, v: VChunk) -> (u32, u32) {
        let first = self.first(v);
        let from = range.start.max(first) - first;
        let to = range
            .end
            .min(first.saturating_add(u64::from(self.blocks)))
            .saturating_sub(first);
        (from as u32, to.saturating_sub(from) as u32)
    }

    pub fn full(&self) -> Bitmap {
        Bitmap::full(self.blocks)
    }
}

/// A mapping item with its key: virtual chunks `vchunk..vchunk + count`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub vchunk: VChunk,
    pub map: Mapping,
}

impl Run {
    pub fn new(vchunk: VChunk, chunk: Chunk, count: u32) -> Run {
        Run {
            vchunk,
            map: Mapping {
                chunk,
                count,
                used: None,
            },
        }
    }

    /// One chunk with these blocks in use; none: no run.
    pub fn one(g: Geometry, vchunk: VChunk, chunk: Chunk, used: Bitmap) -> Option<Run> {
        let used = match used {
            u if u.is_empty() => return None,
            u if u == g.full() => None,
            u => Some(u),
        };
        Some(Run {
            vchunk,
            map: Mapping {
                chunk,
                count: 1,
                used,
            },
        })
    }

    pub fn end(&self) -> VChunk {
        self.vchunk.saturating_add(u64::from(self.map.count))
    }

    /// Physical chunk of virtual chunk `v` of this run.
    pub fn chunk(&self, v: VChunk) -> Chunk {
        self.map.chunk + (v - self.vchunk)
    }

    pub fn used(&self, g: Geometry) -> Bitmap {
        self.map.used.unwrap_or_else(|| g.full())
    }

    /// The part of it in `range`, if any.
    pub fn clip(&self, range: &Range<VChunk>) -> Option<Run> {
        let from = self.vchunk.max(range.start);
        let to = self.end().min(range.end);
        (from < to).then(|| Run {
            vchunk: from,
            map: Mapping {
                chunk: self.chunk(from),
                count: (to - from) as u32,
                used: self.map.used,
            },
        })
    }

    fn joins(&self, next: &Run) -> bool {
        self.map.used.is_none()
            && next.map.used.is_none()
            && self.end() == next.vchunk
            && self.map.chunk + u64::from(self.map.count) == next.map.chunk
            && self.map.count + next.map.count <= RUN_MAX
    }
}

pub(crate) const fn map_key(v: VChunk) -> Key {
    Key::new(0, kind::MAP, v)
}

fn decode(key: &Key, value: &[u8]) -> Result<Run> {
    let map = Mapping::decode(value).ok_or_else(|| {
        Error::corrupt(format!("virtual chunk {}", key.offset), "its mapping item")
    })?;
    Ok(Run {
        vchunk: key.offset,
        map,
    })
}

/// The run that holds virtual chunk `v`.
pub(crate) fn run_at(r: &dyn Read, v: VChunk) -> Result<Option<Run>> {
    match r.floor(&map_key(v))? {
        Some((key, value)) if key.object == 0 && key.kind == kind::MAP => {
            let run = decode(&key, &value)?;
            Ok((v < run.end()).then_some(run))
        }
        _ => Ok(None),
    }
}

/// First virtual chunk of the run that holds `v`.
pub(crate) fn run_start(r: &dyn Read, v: VChunk) -> Result<Option<VChunk>> {
    Ok(run_at(r, v)?.map(|run| run.vchunk))
}

/// Runs that touch `range`, whole, in order, at most `max` of them.
pub(crate) fn runs(r: &dyn Read, range: Range<VChunk>, max: usize) -> Result<Vec<Run>> {
    let mut found = Vec::new();
    if range.is_empty() || max == 0 {
        return Ok(found);
    }
    found.extend(run_at(r, range.start)?);
    let from = found.first().map_or(range.start, Run::end);
    if from < range.end && found.len() < max {
        r.scan(&map_key(from), &map_key(range.end), &mut |key, value| {
            found.push(decode(key, value)?);
            Ok(if found.len() < max {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        })?;
    }
    Ok(found)
}

/// Reference counts of physical chunks.
pub(crate) type Refs<'a> = &'a dyn Fn(Chunk) -> u32;

/// One virtual chunk as it is now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Probe {
    pub chunk: Chunk,
    pub used: Bitmap,
    pub private: bool,
}

pub(crate) fn probe(r: &dyn Read, refs: Refs<'_>, g: Geometry, v: VChunk) -> Result<Option<Probe>> {
    let Some(run) = run_at(r, v)? else {
        return Ok(None);
    };
    let chunk = run.chunk(v);
    let private = refs(chunk) == 1 && !r.shared(&map_key(run.vchunk))?;
    Ok(Some(Probe {
        chunk,
        used: run.used(g),
        private,
    }))
}

/// Virtual blocks that are together in the data device, and alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Located {
    pub at: VBlock,
    pub len: u64,
    /// Byte offset of the first block in the data device.
    pub byte: u64,
    pub private: bool,
}

/// Where virtual blocks `range` are: pieces in order, neighbouring ones joined when they are
/// neighbours in the data device too and both private or both not. At most about `max` pieces; the
/// last one says how far this went. All blocks must be mapped: what an extent names has a place.
pub(crate) fn locate(
    r: &dyn Read,
    refs: Refs<'_>,
    g: Geometry,
    range: Range<VBlock>,
    max: usize,
) -> Result<Vec<Located>> {
    let mut pieces: Vec<Located> = Vec::new();
    let mut at = range.start;
    for run in runs(r, g.vchunks(&range), max)? {
        if run.vchunk > g.vchunk(at) {
            break;
        }
        let alone = !r.shared(&map_key(run.vchunk))?;
        while at < range.end && g.vchunk(at) < run.end() && pieces.len() <= max {
            let v = g.vchunk(at);
            let (place, len) = g.part(&(at..range.end), v);
            let chunk = run.chunk(v);
            let byte = g.byte(chunk, place);
            let private = alone && refs(chunk) == 1;
            match pieces.last_mut() {
                Some(p) if p.private == private && p.byte + p.len * BLOCK == byte => {
                    p.len += u64::from(len);
                }
                _ => pieces.push(Located {
                    at,
                    len: u64::from(len),
                    byte,
                    private,
                }),
            }
            at += u64::from(len);
        }
    }
    if at == range.start && at < range.end {
        return Err(Error::corrupt(
            format!("virtual chunk {}", g.vchunk(at)),
            "a file has blocks there but nothing is mapped",
        ));
    }
    Ok(pieces)
}

/// A tree that can be changed: an operation in progress.
pub(crate) trait Edit: Read {
    fn put(&mut self, key: Key, value: Vec<u8>);
    fn delete(&mut self, key: Key);
}

impl Edit for Op<'_> {
    fn put(&mut self, key: Key, value: Vec<u8>) {
        Op::put(self, key, value);
    }
    fn delete(&mut self, key: Key) {
        Op::delete(self, key);
    }
}

/// Replaces the mapping of `range` by `new` (in order, inside it). What surrounding runs have
/// outside stays; runs that continue each other are joined. Runs touched must be few: the caller
/// keeps `range` short or knows it to be new.
pub(crate) fn replace(
    op: &mut dyn Edit,
    g: Geometry,
    range: Range<VChunk>,
    new: &[Run],
) -> Result<()> {
    // With one chunk on either side, neighbours to join are found too.
    let wide = range.start.saturating_sub(1)..range.end.saturating_add(1);
    let old = runs(&*op, wide, usize::MAX)?;
    let outside = [0..range.start, range.end..VChunk::MAX];
    let left = old.iter().filter_map(|run| run.clip(&outside[0]));
    let right = old.iter().filter_map(|run| run.clip(&outside[1]));
    let mut now: Vec<Run> = Vec::with_capacity(old.len() + new.len() + 1);
    for run in left.chain(new.iter().copied()).chain(right) {
        match now.last_mut() {
            Some(last) if last.joins(&run) => last.map.count += run.map.count,
            _ => now.push(run),
        }
    }
    for run in &old {
        if !now.iter().any(|n| n.vchunk == run.vchunk) {
            op.delete(map_key(run.vchunk));
        }
    }
    for run in &now {
        if !old.contains(run) {
            op.put(map_key(run.vchunk), run.map.encode(g.chunk_size));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "map_tests.rs"]
mod tests;
