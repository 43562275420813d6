//! Which blocks to hand out next. Decisions in memory only: blocks taken here are nobody's until
//! an operation commits them as bits of the mapping; what it does not commit it gives back.
//!
//! - Large pieces get whole chunks, neighbours in the data device where it has them.
//! - Small pieces are packed side by side in a few chunks that are being filled.
//! - A piece that continues a file goes right behind the file's last block when that is free; a
//!   file that has outgrown a chunk gets chunks of its own, whose rest waits for it.
//!
//! **Who may hand out which bit.** A chunk in `open` is known here wholly: `free` has the bits that
//! are neither in use, nor taken, nor freed too recently. A chunk enters `open` new, or by a look
//! at its mapping; between that look and the entry nothing of it can have been handed out, because
//! `epoch` counts every departure from `open`, and a chunk with blocks taken never departs.

use super::ground::Ground;
use super::map::{Geometry, Probe};
use crate::base::{Chunk, Error, Result, VBlock, VChunk};
use crate::tree::Bitmap;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};

/// Chunks being filled with small pieces of any file.
const PACKING: usize = 8;
/// Chunks whose rest waits for one file.
const OWN: usize = 64;
/// Virtual ranges that wait for a growing file.
const AHEAD: usize = 128;
/// PARTIAL items looked at before a new chunk is taken; and when there is no new chunk.
const LOOKS: usize = 4;
const LOOKS_FULL: usize = 512;

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub blocks: u64,
    /// Best right here: behind the file's block before.
    pub after: Option<VBlock>,
    /// The file has a chunk's size already: chunks of its own.
    pub large: bool,
}

/// Blocks handed out: `len` virtual blocks from `at`, whose chunks are neighbours in the data
/// device from `chunk` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Grant {
    pub at: VBlock,
    pub len: u64,
    pub chunk: Chunk,
}

/// What [`take`] found.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub grants: Vec<Grant>,
    /// PARTIAL items that lie: full, shared or gone.
    pub stale: Vec<VChunk>,
    /// Physical chunks newly taken.
    pub chunks: u64,
}

#[derive(Debug)]
struct Open {
    vchunk: VChunk,
    chunk: Chunk,
    free: Bitmap,
    /// Blocks taken and neither committed nor given back.
    taken: u32,
    /// Somebody committed blocks of it: it is in the mapping.
    committed: bool,
    /// Its mapping went away while blocks were taken: hand out no more.
    dead: bool,
    /// Waits for one file.
    own: bool,
}

#[derive(Debug, Default)]
struct Pending {
    bits: Bitmap,
    freed_at: u64,
    /// Operations about to free blocks of it.
    busy: u32,
}

#[derive(Debug)]
pub(crate) struct Alloc {
    g: Geometry,
    /// Most recently used last.
    open: Vec<Open>,
    /// Virtual chunks reserved to continue a file, by their start.
    ahead: VecDeque<(VChunk, VChunk)>,
    /// Blocks freed too recently to be used again.
    pending: HashMap<VChunk, Pending>,
    purged_at: u64,
    epoch: u64,
    /// Where the search for PARTIAL items goes on; `None`: nothing new since it came to the end.
    cursor: Option<VChunk>,
    /// Something new since the search began: once more from the start.
    again: bool,
}

/// First run of at least `n` set bits, or the longest one: first bit and length.
fn find(bits: &Bitmap, blocks: u32, n: u32) -> Option<(u32, u32)> {
    let mut best: Option<(u32, u32)> = None;
    let mut i = 0;
    while i < blocks {
        if !bits.get(i) {
            i += 1;
            continue;
        }
        let len = length(bits, blocks, i, n);
        if best.is_none_or(|(_, l)| len > l) {
            best = Some((i, len));
        }
        if len >= n {
            break;
        }
        i += len;
    }
    best
}

/// Set bits from `from` on, at most `n`.
fn length(bits: &Bitmap, blocks: u32, from: u32, n: u32) -> u32 {
    (from..blocks.min(from.saturating_add(n)))
        .take_while(|i| bits.get(*i))
        .count() as u32
}

impl Alloc {
    pub fn new(g: Geometry) -> Alloc {
        Alloc {
            g,
            open: Vec::new(),
            ahead: VecDeque::new(),
            pending: HashMap::new(),
            purged_at: 0,
            epoch: 0,
            cursor: Some(0),
            again: false,
        }
    }

    fn position(&self, v: VChunk) -> Option<usize> {
        self.open.iter().position(|o| o.vchunk == v)
    }

    /// Takes a chunk from `open`, or, while blocks of it are taken, marks it.
    fn retire(&mut self, v: VChunk) {
        let Some(i) = self.position(v) else { return };
        if let Some(o) = self.open.get_mut(i)
            && o.taken > 0
        {
            o.dead = true;
            return;
        }
        self.open.remove(i);
        self.epoch += 1;
    }

    /// Removes it if nothing more can come of it.
    fn tidy(&mut self, v: VChunk) {
        let done = |o: &Open| o.vchunk == v && o.taken == 0 && (o.dead || o.free.is_empty());
        if self.open.iter().any(done) {
            self.open.retain(|o| !done(o));
            self.epoch += 1;
        }
    }

    fn insert(&mut self, new: Open) {
        let own = new.own;
        let max = if own { OWN } else { PACKING };
        while self.open.iter().filter(|o| o.own == own).count() >= max {
            let idle = self.open.iter().filter(|o| o.own == own && o.taken == 0);
            // Of those being packed the fullest goes, of those that wait the oldest.
            let out = if own {
                idle.map(|o| o.vchunk).next()
            } else {
                idle.min_by_key(|o| o.free.count()).map(|o| o.vchunk)
            };
            let Some(out) = out else { break };
            self.retire(out);
            self.look_again();
        }
        self.open.push(new);
    }

    /// Blocks whose freeing has become safe are forgotten.
    fn purge(&mut self, released: u64) {
        if released != self.purged_at {
            self.purged_at = released;
            let before = self.pending.len();
            self.pending
                .retain(|_, p| p.busy > 0 || p.freed_at >= released);
            if self.pending.len() != before {
                self.look_again();
            }
        }
    }

    /// Takes a run of free blocks from an open chunk.
    fn cut(&mut self, i: usize, place: u32, n: u32) -> Option<Grant> {
        let g = self.g;
        let mut o = self.open.remove(i);
        let len = length(&o.free, g.blocks, place, n);
        o.free.clear(place, len);
        o.taken += len;
        let at = g.first(o.vchunk) + u64::from(place);
        let grant = Grant {
            at,
            len: u64::from(len),
            chunk: o.chunk,
        };
        self.open.push(o);
        (len > 0).then_some(grant)
    }

    /// These blocks are about to be freed: until [`Alloc::freed`] and beyond nobody may take them.
    pub fn freeing(&mut self, v: VChunk, place: u32, n: u32) {
        let p = self.pending.entry(v).or_default();
        p.bits.set(place, n);
        p.busy += 1;
    }

    /// They were freed (`freed_at`: see [`crate::pool::Volume::freed_at`]), or were not.
    pub fn freed(&mut self, v: VChunk, freed_at: Option<u64>) {
        if let Some(p) = self.pending.get_mut(&v) {
            p.busy = p.busy.saturating_sub(1);
            p.freed_at = p.freed_at.max(freed_at.unwrap_or(0));
        }
    }

    /// There may be chunks with free blocks that the search has passed.
    fn look_again(&mut self) {
        match self.cursor {
            None => self.cursor = Some(0),
            Some(_) => self.again = true,
        }
    }

    /// The mapping of this chunk is gone.
    pub fn emptied(&mut self, v: VChunk) {
        self.retire(v);
        // Who looked at the mapping before this must look again.
        self.epoch += 1;
        // Its number is never used again: unless somebody has just taken blocks of it, there is
        // nothing to wait for.
        if self.position(v).is_none() && self.pending.get(&v).is_some_and(|p| p.busy == 0) {
            self.pending.remove(&v);
        }
    }

    /// The first and the last chunk of a grant may be open, those between are whole.
    fn ends(&self, grant: &Grant) -> impl Iterator<Item = VChunk> + use<> {
        let chunks = self.g.vchunks(&(grant.at..grant.at + grant.len));
        let (first, last) = (chunks.start, chunks.end.saturating_sub(1));
        [Some(first), (last != first).then_some(last)]
            .into_iter()
            .flatten()
    }

    /// The blocks are in the mapping now.
    pub fn commit(&mut self, grants: &[Grant]) {
        for grant in grants {
            let range = grant.at..grant.at + grant.len;
            for v in self.ends(grant) {
                let (_, n) = self.g.part(&range, v);
                if let Some(o) = self.open.iter_mut().find(|o| o.vchunk == v) {
                    o.taken = o.taken.saturating_sub(n);
                    o.committed = true;
                    self.tidy(v);
                }
            }
        }
    }

    /// The blocks were not used after all.
    pub fn give_back(&mut self, grants: &[Grant], ground: &dyn Ground) {
        for grant in grants {
            let range = grant.at..grant.at + grant.len;
            for v in self.g.vchunks(&range) {
                let (place, n) = self.g.part(&range, v);
                let Some(o) = self.open.iter_mut().find(|o| o.vchunk == v) else {
                    let chunk = grant.chunk + (v - self.g.vchunk(grant.at));
                    ground.give_back(chunk..chunk + 1);
                    continue;
                };
                o.taken = o.taken.saturating_sub(n);
                o.free.set(place, n);
                if o.taken == 0 && !o.committed {
                    ground.give_back(o.chunk..o.chunk + 1);
                    o.dead = true;
                }
                self.tidy(v);
            }
        }
    }
}

/// Hands out blocks, or none: `NoSpace`. Never holds the lock while it asks `ground`.
pub(crate) fn take(alloc: &Mutex<Alloc>, ground: &dyn Ground, want: &Want) -> Result<Taken> {
    let mut search = Search {
        alloc,
        ground,
        taken: Taken::default(),
    };
    alloc.lock().purge(ground.released());
    match search.run(want) {
        Ok(()) => Ok(search.taken),
        Err(e) => {
            alloc.lock().give_back(&search.taken.grants, ground);
            Err(e)
        }
    }
}

struct Search<'a> {
    alloc: &'a Mutex<Alloc>,
    ground: &'a dyn Ground,
    taken: Taken,
}

impl Search<'_> {
    fn run(&mut self, want: &Want) -> Result<()> {
        let g = self.alloc.lock().g;
        let blocks = u64::from(g.blocks);
        let mut left = want.blocks;
        // Right behind the file's last block.
        let mut next = want.after;
        if let Some(at) = want.after.filter(|at| g.place(*at) != 0)
            && self.open(g.vchunk(at), true)?
        {
            let mut alloc = self.alloc.lock();
            if let Some(i) = alloc.usable(g.vchunk(at))
                && let Some(grant) = alloc.cut(i, g.place(at), narrow(left))
            {
                left -= grant.len;
                next = Some(grant.at + grant.len);
                self.taken.grants.push(grant);
            }
        }
        // Whole chunks.
        let whole = if want.large {
            left.div_ceil(blocks)
        } else {
            left / blocks
        };
        if whole > 0 {
            left -= self.whole(g, whole, left.min(whole * blocks), next, want.large)?;
        }
        if left > 0 && !self.pack(g, left)? {
            match self.fresh(g, left) {
                Err(Error::NoSpace) => self.scrape(left)?,
                other => other?,
            }
        }
        Ok(())
    }

    /// Brings chunk `v` into `open` and sees that it is private still; false: it cannot be used.
    fn open(&mut self, v: VChunk, own: bool) -> Result<bool> {
        for _ in 0..8 {
            let epoch = {
                let alloc = self.alloc.lock();
                if alloc
                    .open
                    .iter()
                    .any(|o| o.vchunk == v && !o.committed && !o.dead)
                {
                    return Ok(true);
                }
                alloc.epoch
            };
            let probe = self.ground.probe(v)?;
            let mut alloc = self.alloc.lock();
            let known = alloc.open.iter().find(|o| o.vchunk == v).map(|o| o.chunk);
            let probe = probe.filter(|p| p.private && known.is_none_or(|c| c == p.chunk));
            let Some(Probe { chunk, used, .. }) = probe else {
                if known.is_some() {
                    alloc.retire(v);
                    self.taken.stale.push(v);
                }
                return Ok(false);
            };
            if known.is_some() {
                return Ok(true);
            }
            if alloc.epoch != epoch {
                continue;
            }
            let mut free = alloc.g.full();
            let pending = alloc.pending.get(&v).map(|p| p.bits).unwrap_or_default();
            for (free, (used, pending)) in free.0.iter_mut().zip(used.0.iter().zip(pending.0)) {
                *free &= !(used | pending);
            }
            if free.is_empty() {
                return Ok(false);
            }
            let new = Open {
                vchunk: v,
                chunk,
                free,
                taken: 0,
                committed: true,
                dead: false,
                own,
            };
            alloc.insert(new);
            return Ok(true);
        }
        Ok(false)
    }

    /// `count` whole chunks of which `used` blocks are wanted now.
    fn whole(
        &mut self,
        g: Geometry,
        count: u64,
        used: u64,
        next: Option<VBlock>,
        large: bool,
    ) -> Result<u64> {
        let mut v = self.virtual_chunks(g, count, next, large);
        let (mut chunks_left, mut left) = (count, used);
        while chunks_left > 0 {
            let got = self.ground.new_chunks(chunks_left).ok_or(Error::NoSpace)?;
            let n = (got.end - got.start).min(chunks_left);
            self.taken.chunks += n;
            let len = left.min(n * u64::from(g.blocks));
            // The last chunk's rest waits for the file.
            let rest = (n * u64::from(g.blocks) - len) as u32;
            if rest > 0 {
                let taken = g.blocks - rest;
                let mut free = Bitmap::default();
                free.set(taken, rest);
                let (vchunk, chunk) = (v + n - 1, got.start + n - 1);
                let (committed, dead, own) = (false, false, true);
                self.alloc.lock().insert(Open {
                    vchunk,
                    chunk,
                    free,
                    taken,
                    committed,
                    dead,
                    own,
                });
            }
            self.taken.grants.push(Grant {
                at: g.first(v),
                len,
                chunk: got.start,
            });
            v += n;
            chunks_left -= n;
            left -= len;
        }
        Ok(used)
    }

    /// Virtual chunks, where possible those that continue the file at `next`.
    fn virtual_chunks(&self, g: Geometry, count: u64, next: Option<VBlock>, large: bool) -> VChunk {
        let next = next.filter(|at| g.place(*at) == 0).map(|at| g.vchunk(at));
        let mut alloc = self.alloc.lock();
        if let Some(v) = next
            && let Some(i) = alloc.ahead.iter().position(|a| a.0 == v)
            && let Some((start, end)) = alloc.ahead.remove(i)
            && end - start >= count
        {
            if end - start > count {
                alloc.ahead.push_back((start + count, end));
            }
            return start;
        }
        // Numbers cost nothing: a growing file gets some more, so that it stays one run.
        let spare = if large || count >= 4 {
            (count * 8).clamp(64, 4096)
        } else {
            0
        };
        let v = self.ground.new_vchunks(count + spare);
        if spare > 0 {
            alloc.ahead.push_back((v + count, v + count + spare));
            if alloc.ahead.len() > AHEAD {
                alloc.ahead.pop_front();
            }
        }
        v
    }

    /// A small piece beside others, in one chunk. False: none has room.
    fn pack(&mut self, g: Geometry, n: u64) -> Result<bool> {
        let n = narrow(n);
        let mut refused: Vec<VChunk> = Vec::new();
        let mut looks = 0;
        loop {
            let candidate = {
                let alloc = self.alloc.lock();
                alloc
                    .open
                    .iter()
                    .rev()
                    .map(|o| (o.vchunk, o))
                    .find_map(|(v, o)| {
                        let room = find(&o.free, g.blocks, n).is_some_and(|(_, len)| len >= n);
                        (!o.own && !o.dead && room && !refused.contains(&v)).then_some(v)
                    })
            };
            if let Some(v) = candidate {
                if self.open(v, false)? && self.cut_any(g, v, n, n) > 0 {
                    return Ok(true);
                }
                refused.push(v);
                continue;
            }
            if looks >= LOOKS || !self.look(false, &mut refused)? {
                return Ok(false);
            }
            looks += 1;
        }
    }

    /// Takes up to `n` free neighbours from an open chunk if there are at least `least`.
    fn cut_any(&mut self, g: Geometry, v: VChunk, n: u32, least: u32) -> u64 {
        let mut alloc = self.alloc.lock();
        let Some(i) = alloc.usable(v) else { return 0 };
        let Some(o) = alloc.open.get(i) else { return 0 };
        let Some((place, len)) = find(&o.free, g.blocks, n).filter(|f| f.1 >= least) else {
            return 0;
        };
        let Some(grant) = alloc.cut(i, place, len.min(n)) else {
            return 0;
        };
        self.taken.grants.push(grant);
        grant.len
    }

    /// Opens the next chunk that a PARTIAL item names; false: there is none.
    fn look(&mut self, wrap: bool, refused: &mut Vec<VChunk>) -> Result<bool> {
        let cursor = self.alloc.lock().cursor;
        let Some(from) = cursor.or(wrap.then_some(0)) else {
            return Ok(false);
        };
        let Some(v) = self.ground.next_partial(from)? else {
            let mut alloc = self.alloc.lock();
            alloc.cursor = std::mem::take(&mut alloc.again).then_some(0);
            return Ok(alloc.cursor.is_some());
        };
        self.alloc.lock().cursor = v.checked_add(1);
        if self.alloc.lock().position(v).is_some() {
            return Ok(true);
        }
        if !self.open(v, false)? {
            // Full, shared or gone; or its free blocks are too young, which will pass.
            if !self.alloc.lock().pending.contains_key(&v) {
                self.taken.stale.push(v);
            }
            refused.push(v);
        }
        Ok(true)
    }

    /// A new chunk to pack small pieces in.
    fn fresh(&mut self, g: Geometry, n: u64) -> Result<()> {
        let chunk = self.ground.new_chunks(1).ok_or(Error::NoSpace)?.start;
        let vchunk = self.ground.new_vchunks(1);
        self.taken.chunks += 1;
        let taken = narrow(n);
        let mut free = g.full();
        free.clear(0, taken);
        self.taken.grants.push(Grant {
            at: g.first(vchunk),
            len: n,
            chunk,
        });
        let (committed, dead, own) = (false, false, false);
        self.alloc.lock().insert(Open {
            vchunk,
            chunk,
            free,
            taken,
            committed,
            dead,
            own,
        });
        Ok(())
    }

    /// No chunk is left: free blocks wherever this volume has them.
    fn scrape(&mut self, mut left: u64) -> Result<()> {
        let g = self.alloc.lock().g;
        let mut refused = Vec::new();
        for _ in 0..LOOKS_FULL {
            let known: Vec<VChunk> = self.alloc.lock().open.iter().map(|o| o.vchunk).collect();
            for v in known {
                while left > 0 && self.taken.grants.len() < 8 && self.open(v, false)? {
                    match self.cut_any(g, v, narrow(left), 1) {
                        0 => break,
                        n => left -= n,
                    }
                }
            }
            if left == 0 {
                return Ok(());
            }
            if self.taken.grants.len() >= 8 || !self.look(true, &mut refused)? {
                break;
            }
        }
        Err(Error::NoSpace)
    }
}

impl Alloc {
    /// An open chunk that may be cut.
    fn usable(&self, v: VChunk) -> Option<usize> {
        self.open.iter().position(|o| o.vchunk == v && !o.dead)
    }
}

/// A number of blocks inside one chunk.
fn narrow(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[path = "alloc_tests.rs"]
mod tests;
