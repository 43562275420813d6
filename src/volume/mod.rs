//! A volume's thin address space: virtual blocks that a file system hands to its files, and where
//! they are in the pool's data device.
//!
//! | part | what |
//! |---|---|
//! | `map` | the mapping items: looking up, cutting and joining runs |
//! | `alloc` | which blocks to hand out next: whole chunks, or places in a chunk that is being filled |
//! | `edit` | what one operation does to the mapping, as changes of keys |
//! | `txn` | blocks taken, freed, moved by one operation: kept wholly or given back wholly |
//!
//! A block is *private* when its chunk has one reference, from a leaf that only this volume
//! reaches. Private blocks are overwritten where they are and free ones beside them are handed
//! out; a chunk shared with anybody is never written.
//!
//! Items of this room (the mapping's own bytes are `tree`'s, which counts references by them):
//! key (0, PARTIAL, virtual chunk), no value: this chunk was the volume's own and had free blocks
//! when the item was made. It is a hint: the mapping decides.

mod alloc;
mod edit;
mod ground;
mod map;
#[cfg(test)]
mod model;
mod txn;

pub(crate) use alloc::{Grant, Want};
pub(crate) use map::{Edit, Geometry, Probe, locate, probe, run_start};
pub(crate) use txn::{Outcome, Txn, read};

#[cfg(test)]
pub(crate) use model::Model;

use crate::base::{Error, Result};
use crate::pool::Volume;
use alloc::Alloc;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the copy-on-write machinery has done since the volume was opened.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes copied from shared chunks because a write touched them.
    pub copied_bytes: AtomicU64,
    /// Physical chunks taken.
    pub chunks_allocated: AtomicU64,
    /// Blocks given new virtual addresses because their chunk is shared.
    pub redirected_blocks: AtomicU64,
    /// Plans thrown away because somebody else moved a chunk meanwhile.
    pub stale_plans: AtomicU64,
    /// Checkpoints forced by want of space.
    pub forced_checkpoints: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// The thin address space's state in memory, one per open volume.
pub(crate) struct Thin {
    geometry: Geometry,
    alloc: Mutex<Alloc>,
    /// Blocks that operations under way will add to the volume's use.
    promised: Mutex<u64>,
    counters: Arc<Counters>,
}

impl Thin {
    /// The one of this volume.
    pub fn of(volume: &Volume) -> Arc<Thin> {
        volume.attach(|| {
            let geometry = Geometry::new(volume.pool().chunk_size());
            Thin {
                geometry,
                alloc: Mutex::new(Alloc::new(geometry)),
                promised: Mutex::new(0),
                counters: Arc::default(),
            }
        })
    }

    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Sets `blocks` aside from the volume's limit, until [`Thin::keep_promise`].
    fn promise(&self, volume: &Volume, blocks: u64) -> Result<()> {
        let mut promised = self.promised.lock();
        if let Some(limit) = volume.limit() {
            let wanted = promised
                .saturating_add(blocks)
                .saturating_mul(crate::base::BLOCK);
            if volume.usage().0.saturating_add(wanted) > limit {
                return Err(Error::Quota);
            }
        }
        *promised = promised.saturating_add(blocks);
        Ok(())
    }

    fn keep_promise(&self, blocks: u64) {
        let mut promised = self.promised.lock();
        *promised = promised.saturating_sub(blocks);
    }
}

/// Counters of a volume in use, for tests and metrics.
pub fn counters(volume: &Volume) -> Arc<Counters> {
    Thin::of(volume).counters().clone()
}
