//! Where the bytes of one write go: decided from the parts a range has now, without I/O.
//!
//! Private blocks are written where they are. Blocks of shared chunks are not: either the chunk is
//! copied (its virtual number stays, extents do not change), or just the blocks written get new
//! virtual blocks and the old ones are freed in this volume.

use super::extent::Extent;
use super::plan::{Part, Place};
use crate::base::{BLOCK, Chunk, VBlock, VChunk};
use crate::tree::Bitmap;
use crate::volume::{Geometry, Probe};
use std::collections::BTreeMap;
use std::ops::Range;

/// Neighbouring chunks to copy, virtual and physical.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CopyRun {
    pub vchunk: VChunk,
    pub from: Chunk,
    pub count: u32,
}

/// What is to be done for one write.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Parts written where they are.
    pub private: Vec<Part>,
    /// Parts written where their chunk's copy will be.
    pub moved: Vec<Part>,
    pub copies: Vec<CopyRun>,
    /// File blocks that get new virtual blocks, and whether they continue the block before them.
    pub fresh: Vec<Range<u64>>,
    /// Virtual blocks freed by that.
    pub freed: Vec<Range<VBlock>>,
    /// Unwritten blocks that become written under the numbers they have.
    pub converted: Vec<Extent>,
    /// Blocks of copied chunks that need not be copied: overwritten wholly, or unwritten.
    pub overwritten: BTreeMap<VChunk, Bitmap>,
}

/// Whether a write that leaves nothing of blocks `done` of a shared chunk copies the chunk: when
/// that is more than half of what is in use, and the chunk is at least half in use. Else the few
/// blocks get a new place: that copies nothing, and a copy for a few blocks would waste a chunk.
/// So a write never copies as many bytes as it has.
pub(crate) fn copies(blocks: u32, used: &Bitmap, done: &Bitmap) -> bool {
    let both = used
        .0
        .iter()
        .zip(done.0)
        .map(|(a, b)| (a & b).count_ones())
        .sum::<u32>();
    both * 2 > used.count() && used.count() * 2 >= blocks
}

/// A part cut at the borders of virtual chunks.
fn by_chunk(
    g: Geometry,
    part: &Part,
    at: VBlock,
) -> impl Iterator<Item = (VChunk, u32, u32, Part)> {
    let range = at..at + part.len;
    let part = *part;
    g.vchunks(&range).map(move |v| {
        let (place, n) = g.part(&range, v);
        let skip = g.first(v) + u64::from(place) - at;
        let mut piece = Part {
            block: part.block + skip,
            len: u64::from(n),
            place: part.place,
        };
        if let Place::At { at, byte, .. } = &mut piece.place {
            *at += skip;
            *byte += skip * BLOCK;
        }
        (v, place, n, piece)
    })
}

/// File blocks that `bytes` cover wholly.
fn covered(bytes: &Range<u64>) -> Range<u64> {
    bytes.start.div_ceil(BLOCK)..bytes.end / BLOCK
}

/// Lays out a write of `bytes` over `parts`; `probes` has the shared chunks among them.
pub(crate) fn lay_out(
    g: Geometry,
    parts: &[Part],
    probes: &BTreeMap<VChunk, Probe>,
    bytes: &Range<u64>,
) -> Layout {
    let whole = covered(bytes);
    let mut done: BTreeMap<VChunk, Bitmap> = BTreeMap::new();
    for part in parts {
        if let Place::At {
            at,
            private: false,
            unwritten,
            ..
        } = part.place
        {
            for (v, place, n, piece) in by_chunk(g, part, at) {
                let done = done.entry(v).or_default();
                for i in 0..n {
                    if unwritten || whole.contains(&(piece.block + u64::from(i))) {
                        done.set(place + i, 1);
                    }
                }
            }
        }
    }
    let mut l = Layout::default();
    for part in parts {
        match part.place {
            Place::Hole => l.add_fresh(part),
            Place::At {
                at,
                private: true,
                unwritten,
                ..
            } => {
                l.private.push(*part);
                l.convert(part, at, unwritten);
            }
            Place::At {
                at,
                private: false,
                unwritten,
                ..
            } => {
                for (v, place, n, piece) in by_chunk(g, part, at) {
                    let first = g.first(v) + u64::from(place);
                    let probe = probes.get(&v);
                    let done = done.get(&v).copied().unwrap_or_default();
                    match probe.filter(|p| copies(g.blocks, &p.used, &done)) {
                        Some(probe) => {
                            l.add_copy(v, probe.chunk);
                            l.moved.push(piece);
                            l.convert(&piece, first, unwritten);
                            l.overwritten.insert(v, done);
                        }
                        None => {
                            l.add_fresh(&piece);
                            l.add_freed(first..first + u64::from(n));
                        }
                    }
                }
            }
        }
    }
    l
}

impl Layout {
    fn add_fresh(&mut self, part: &Part) {
        match self.fresh.last_mut() {
            Some(last) if last.end == part.block => last.end = part.end(),
            _ => self.fresh.push(part.block..part.end()),
        }
    }

    fn add_freed(&mut self, range: Range<VBlock>) {
        match self.freed.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.freed.push(range),
        }
    }

    fn add_copy(&mut self, v: VChunk, from: Chunk) {
        if self
            .copies
            .iter()
            .any(|c| (c.vchunk..c.vchunk + u64::from(c.count)).contains(&v))
        {
            return;
        }
        match self.copies.last_mut() {
            Some(c)
                if c.vchunk + u64::from(c.count) == v && c.from + u64::from(c.count) == from =>
            {
                c.count += 1;
            }
            _ => self.copies.push(CopyRun {
                vchunk: v,
                from,
                count: 1,
            }),
        }
    }

    fn convert(&mut self, part: &Part, at: VBlock, unwritten: bool) {
        if unwritten {
            let (block, len) = (part.block, part.len as u32);
            self.converted.push(Extent {
                block,
                at,
                len,
                unwritten: false,
            });
        }
    }
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
