//! Reference counts and free space of numbered things (chunks, nodes). Arithmetic only: no I/O.
//!
//! A thing is free, held (taken by [`Space::alloc`], no reference yet), used (has references) or
//! quarantined (lost its last reference; not free before [`Space::release`]). All is kept in pages
//! made when first touched, so memory follows what is in use, not the limit.

mod bits;
mod counts;
mod state;

#[cfg(test)]
mod tests;

use parking_lot::RwLock;
use state::State;
use std::ops::Range;
use std::sync::Arc;

/// See the module. All methods may be called by many threads.
pub struct Space {
    state: RwLock<State>,
}

impl Space {
    /// Things 0..limit; none in use.
    pub fn new(limit: u64) -> Space {
        Space {
            state: RwLock::new(State::new(limit)),
        }
    }

    /// References of one thing (0: free, held or quarantined).
    pub fn refs(&self, i: u64) -> u32 {
        self.state.read().counts.get(i)
    }

    /// References that a crash may find: as `refs`, but at least 2 when a reference went away since
    /// the last durable capture, because its owner may come back with it. Only what has one sharer
    /// may be overwritten in place.
    pub fn sharers(&self, i: u64) -> u32 {
        self.state.read().sharers(i)
    }

    /// One more reference each; from 0 it becomes used (whether it was free, held or quarantined).
    /// Err when i is beyond the limit or the count would overflow (then nothing has changed).
    pub fn add(&self, start: u64, count: u64) -> Result<(), SpaceError> {
        self.state.write().add(start, count)
    }

    /// One reference less each; those that reach 0 are quarantined. Err when one has none (then
    /// nothing has changed).
    ///
    /// Through an `Arc` write `Space::drop(&space, ..)`: `space.drop(..)` means the Arc.
    pub fn drop(&self, start: u64, count: u64) -> Result<(), SpaceError> {
        self.state.write().lose(start, count).map(|_| ())
    }

    /// One reference less of one thing: how many are left. With [`Space::drop`] two threads that
    /// drop the last two references could not tell who was last.
    pub fn drop_one(&self, i: u64) -> Result<u32, SpaceError> {
        self.state.write().lose(i, 1)
    }

    /// Drops `n` references of one thing if others stay; `false`, and nothing dropped, when it has
    /// not more than `n`. For those who must do something about the last one.
    pub fn drop_shared(&self, i: u64, n: u32) -> bool {
        self.state.write().lose_some(i, n)
    }

    /// Takes up to `want` neighbouring free things: they are held: not free, without references.
    /// Prefers a run of the full length, else the longest found quickly. None: nothing free.
    pub fn alloc(&self, want: u64) -> Option<Range<u64>> {
        self.state.write().alloc(want)
    }

    /// Returns held things that never got a reference: free at once.
    pub fn give_back(&self, range: Range<u64>) {
        self.state.write().give_back(range);
    }

    /// At a capture: what was quarantined since the last one (neighbours joined).
    pub fn take_quarantine(&self) -> Vec<Range<u64>> {
        self.state.write().take_quarantine()
    }

    /// The capture is durable: makes quarantined things free, except those that have references again, or were quarantined
    /// again since `take_quarantine`.
    pub fn release(&self, ranges: &[Range<u64>]) {
        let mut state = self.state.write();
        for range in ranges {
            state.release(range.clone());
        }
        state.unshared_older.take();
    }

    /// Free now (not held, not quarantined), less what is reserved.
    pub fn free(&self) -> u64 {
        self.state.read().unreserved()
    }

    /// In use by references.
    pub fn used(&self) -> u64 {
        self.state.read().counts.used()
    }

    /// Quarantined (taken or not).
    pub fn quarantined(&self) -> u64 {
        self.state.read().quarantined.len()
    }

    pub fn limit(&self) -> u64 {
        self.state.read().limit
    }

    /// Things beyond a lowered limit stay as they are, but are never handed out.
    pub fn set_limit(&self, limit: u64) {
        self.state.write().limit = limit;
    }

    /// Sets `n` free things aside so that others' reservations cannot take them; `floor` things must
    /// stay free beyond that (the reserve for deletes and checkpoints). Drop gives them back.
    /// Reservations do not hold particular things: `alloc` ignores them.
    pub fn reserve(self: &Arc<Self>, n: u64, floor: u64) -> Option<Reservation> {
        let mut state = self.state.write();
        if state.unreserved() < n.checked_add(floor)? {
            return None;
        }
        state.reserved += n;
        Some(Reservation {
            space: self.clone(),
            n,
        })
    }

    // The stored form: pages of PER_PAGE counts, each a little-endian u32.
    pub const PER_PAGE: u64 = 4080;

    /// Numbers of pages changed since `clean`.
    pub fn dirty_pages(&self) -> Vec<u64> {
        self.state.read().counts.dirty.iter().copied().collect()
    }

    pub fn clean(&self, page: u64) {
        self.state.write().counts.dirty.remove(&page);
    }

    /// The page's bytes: PER_PAGE * 4. `None`: all zero.
    pub fn page(&self, page: u64) -> Option<Vec<u8>> {
        self.state.read().counts.page(page)
    }

    /// Loads a page when opening a pool; counts beyond the limit are an error (then nothing has
    /// changed). The page is clean afterwards. Missing bytes count as zeros.
    pub fn load_page(&self, page: u64, bytes: &[u8]) -> Result<(), SpaceError> {
        self.state.write().load_page(page, bytes)
    }
}

/// See [`Space::reserve`].
pub struct Reservation {
    space: Arc<Space>,
    n: u64,
}

impl Reservation {
    /// How many things are set aside.
    pub fn len(&self) -> u64 {
        self.n
    }

    pub fn is_empty(&self) -> bool {
        self.n == 0
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut state = self.space.state.write();
        state.reserved = state.reserved.saturating_sub(self.n);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("reference count of {0} out of bounds")]
pub struct SpaceError(pub u64);
