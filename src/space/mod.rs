//! Reference counts and free space of numbered things (chunks, nodes). Arithmetic only: no I/O.

use std::ops::Range;

pub struct Space {}

#[allow(unused_variables)]
impl Space {
    /// Things 0..limit; none in use.
    pub fn new(limit: u64) -> Space { todo!() }
    /// References of one thing (0: free, held or quarantined).
    pub fn refs(&self, i: u64) -> u32 { todo!() }
    /// One more reference each; from 0 it becomes used (whether it was free, held or quarantined).
    /// Err when i is beyond the limit or the count would overflow (then nothing has changed).
    pub fn add(&self, start: u64, count: u64) -> Result<(), SpaceError> { todo!() }
    /// One reference less each; those that reach 0 are quarantined. Err when one has none.
    pub fn drop(&self, start: u64, count: u64) -> Result<(), SpaceError> { todo!() }
    /// Takes up to `want` neighbouring free things: they are held: not free, without references.
    /// Prefers a run of the full length, else the longest found quickly. None: nothing free.
    pub fn alloc(&self, want: u64) -> Option<Range<u64>> { todo!() }
    /// Returns held things that never got a reference: free at once.
    pub fn give_back(&self, range: Range<u64>) { todo!() }
    /// What was quarantined since the last call (neighbours joined).
    pub fn take_quarantine(&self) -> Vec<Range<u64>> { todo!() }
    /// Makes quarantined things free, except those that have references again.
    pub fn release(&self, ranges: &[Range<u64>]) { todo!() }
    /// Free now (not held, not quarantined), less what is reserved.
    pub fn free(&self) -> u64 { todo!() }
    /// In use by references.
    pub fn used(&self) -> u64 { todo!() }
    /// Quarantined (taken or not).
    pub fn quarantined(&self) -> u64 { todo!() }
    pub fn limit(&self) -> u64 { todo!() }
    pub fn set_limit(&self, limit: u64) { todo!() }
    /// Sets `n` free things aside so that others' reservations cannot take them; `floor` things must
    /// stay free beyond that (the reserve for deletes and checkpoints). Drop gives them back.
    /// Reservations do not hold particular things: `alloc` ignores them.
    pub fn reserve(self: &std::sync::Arc<Self>, n: u64, floor: u64) -> Option<Reservation> { todo!() }
    // The stored form: pages of PER_PAGE counts, each a little-endian u32.
    pub const PER_PAGE: u64 = 4080;
    /// Numbers of pages changed since `clean`.
    pub fn dirty_pages(&self) -> Vec<u64> { todo!() }
    pub fn clean(&self, page: u64) { todo!() }
    /// The page's bytes: PER_PAGE * 4. `None`: all zero.
    pub fn page(&self, page: u64) -> Option<Vec<u8>> { todo!() }
    /// Loads a page when opening a pool; counts beyond the limit are an error.
    pub fn load_page(&self, page: u64, bytes: &[u8]) -> Result<(), SpaceError> { todo!() }
}

pub struct Reservation {}

#[derive(Debug, thiserror::Error)]
#[error("reference count of {0} out of bounds")]
pub struct SpaceError(pub u64);
