//! What a [`super::Space`] guards with its lock.

use super::SpaceError;
use super::bits::Bits;
use super::counts::Counts;
use std::ops::Range;

/// Runs looked at before a shorter one is taken.
const TRIES: u32 = 64;
/// Space below the highest thing ever taken is used again before the device grows, when at least
/// one in so many things there is free.
const SPARSE: u64 = 16;

pub(super) struct State {
    pub limit: u64,
    pub reserved: u64,
    pub counts: Counts,
    /// Not free: held, used or quarantined.
    taken: Bits,
    /// Without references, not free before `release`.
    pub quarantined: Bits,
    /// Of these, what came since `take_quarantine`.
    pub fresh: Bits,
    /// What has lost a reference and kept others: since the last capture, and before it.
    pub unshared: Bits,
    pub unshared_older: Bits,
    /// Where the next search starts: neighbours in time become neighbours on the device.
    cursor: u64,
    /// Nothing at or above was ever taken.
    high: u64,
}

impl State {
    pub fn new(limit: u64) -> State {
        State {
            limit,
            reserved: 0,
            counts: Counts::default(),
            taken: Bits::default(),
            quarantined: Bits::default(),
            fresh: Bits::default(),
            unshared: Bits::default(),
            unshared_older: Bits::default(),
            cursor: 0,
            high: 0,
        }
    }

    /// Things that stayed behind beyond a lowered limit count against it: rather too little.
    pub fn unreserved(&self) -> u64 {
        self.limit
            .saturating_sub(self.taken.len())
            .saturating_sub(self.reserved)
    }

    fn checked(&self, start: u64, count: u64) -> Result<Range<u64>, SpaceError> {
        match start.checked_add(count) {
            Some(end) if end <= self.limit || count == 0 => Ok(start..end),
            _ => Err(SpaceError(start.max(self.limit))),
        }
    }

    pub fn add(&mut self, start: u64, count: u64) -> Result<(), SpaceError> {
        let range = self.checked(start, count)?;
        if let Some(full) = self.counts.find(range.clone(), u32::MAX) {
            return Err(SpaceError(full));
        }
        self.high = self.high.max(range.end);
        let State {
            counts,
            taken,
            quarantined,
            fresh,
            ..
        } = self;
        counts.increment(range, |i| {
            taken.set(i);
            quarantined.clear(i);
            fresh.clear(i);
        });
        Ok(())
    }

    /// What the last one has left.
    pub fn lose(&mut self, start: u64, count: u64) -> Result<u32, SpaceError> {
        let end = start.checked_add(count).ok_or(SpaceError(start))?;
        if let Some(none) = self.counts.find(start..end, 0) {
            return Err(SpaceError(none));
        }
        let State {
            counts,
            quarantined,
            fresh,
            unshared,
            ..
        } = self;
        counts.decrement(start..end, |i, left| {
            if left > 0 {
                unshared.set(i);
            } else {
                quarantined.set(i);
                fresh.set(i);
            }
        });
        Ok(self.counts.get(end.saturating_sub(1)))
    }

    pub fn sharers(&self, i: u64) -> u32 {
        match self.counts.get(i) {
            1 if self.unshared.get(i) || self.unshared_older.get(i) => 2,
            refs => refs,
        }
    }

    pub fn take_quarantine(&mut self) -> Vec<Range<u64>> {
        for i in self.unshared.take().into_iter().flatten() {
            self.unshared_older.set(i);
        }
        self.fresh.take()
    }

    pub fn lose_some(&mut self, i: u64, n: u32) -> bool {
        let others = self.counts.get(i) > n;
        if others {
            self.counts.subtract(i, n);
            self.unshared.set(i);
        }
        others
    }

    pub fn alloc(&mut self, want: u64) -> Option<Range<u64>> {
        let want = want.max(1);
        let (cursor, limit) = (self.cursor.min(self.limit), self.limit);
        let high = self.high.min(limit);
        let below = high.saturating_sub(self.taken.len());
        let mut best = 0..0;
        let found = if below > high / SPARSE {
            self.search(cursor.min(high)..high, want, &mut best)
                .or_else(|| self.search(0..cursor.min(high), want, &mut best))
        } else {
            None
        };
        let range = found
            .or_else(|| self.search(high..limit, want, &mut best))
            .or_else(|| (best.end > best.start).then(|| best.clone()))
            .or_else(|| self.search(cursor.min(high)..high, want, &mut best))
            .or_else(|| self.search(0..high, want, &mut best))
            .or_else(|| (best.end > best.start).then(|| best.clone()))?;
        for i in range.clone() {
            self.taken.set(i);
        }
        self.cursor = range.end;
        self.high = self.high.max(range.end);
        Some(range)
    }

    /// A free run of `want` inside `within`; `best` becomes the longest seen on the way.
    fn search(&self, within: Range<u64>, want: u64, best: &mut Range<u64>) -> Option<Range<u64>> {
        let mut at = within.start;
        for _ in 0..TRIES {
            let start = self.taken.next_clear(at..within.end)?;
            let stop = within.end.min(start.saturating_add(want));
            let end = self.taken.next_set(start..stop).unwrap_or(stop);
            if end - start == want {
                return Some(start..end);
            }
            if end - start > best.end - best.start {
                *best = start..end;
            }
            at = end;
        }
        None
    }

    pub fn give_back(&mut self, range: Range<u64>) {
        for i in range {
            if self.counts.get(i) == 0 && !self.quarantined.get(i) {
                self.taken.clear(i);
            }
        }
    }

    pub fn release(&mut self, range: Range<u64>) {
        let mut at = range.start;
        while let Some(i) = self.quarantined.next_set(at..range.end) {
            if !self.fresh.get(i) {
                self.quarantined.clear(i);
                self.taken.clear(i);
            }
            at = i + 1;
        }
    }

    pub fn load_page(&mut self, page: u64, bytes: &[u8]) -> Result<(), SpaceError> {
        let (old, new) = self.counts.load(page, bytes, self.limit)?;
        for i in old {
            self.taken.clear(i);
        }
        for i in new {
            self.taken.set(i);
            self.quarantined.clear(i);
            self.fresh.clear(i);
            self.high = self.high.max(i + 1);
        }
        Ok(())
    }
}
