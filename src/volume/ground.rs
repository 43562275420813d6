//! What the allocator stands on: the mapping as it is, and new chunks. A trait, so that the
//! allocator can be tested on a model.

use super::map::{Geometry, Probe, probe};
use crate::base::{Chunk, Result, VChunk};
use crate::pool::{Entered, Volume};
use crate::tree::{Key, kind};
use std::ops::Range;

pub(crate) trait Ground {
    fn probe(&self, v: VChunk) -> Result<Option<Probe>>;
    /// The first chunk at or after `from` that is said to have free blocks.
    fn next_partial(&self, from: VChunk) -> Result<Option<VChunk>>;
    /// Up to `want` new neighbouring physical chunks; none: the pool is full.
    fn new_chunks(&self, want: u64) -> Option<Range<Chunk>>;
    fn give_back(&self, chunks: Range<Chunk>);
    /// `n` new neighbouring virtual chunks.
    fn new_vchunks(&self, n: u64) -> VChunk;
    /// See [`Volume::released`].
    fn released(&self) -> u64;
}

/// A volume inside its gate.
pub(crate) struct Inside<'a> {
    pub volume: &'a Volume,
    pub gate: &'a Entered<'a>,
    pub geometry: Geometry,
}

impl Ground for Inside<'_> {
    fn probe(&self, v: VChunk) -> Result<Option<Probe>> {
        let chunks = self.volume.chunks();
        self.gate
            .view(|r| probe(r, &|c| chunks.sharers(c), self.geometry, v))
    }

    fn next_partial(&self, from: VChunk) -> Result<Option<VChunk>> {
        self.gate.view(|r| {
            let next = r.next(&Key::new(0, kind::PARTIAL, from))?;
            Ok(next
                .and_then(|(k, _)| (k.object == 0 && k.kind == kind::PARTIAL).then_some(k.offset)))
        })
    }

    fn new_chunks(&self, want: u64) -> Option<Range<Chunk>> {
        self.volume.chunks().alloc(want)
    }

    fn give_back(&self, chunks: Range<Chunk>) {
        self.volume.chunks().give_back(chunks);
    }

    fn new_vchunks(&self, n: u64) -> VChunk {
        self.volume.new_vchunks(n)
    }

    fn released(&self) -> u64 {
        self.volume.released()
    }
}
