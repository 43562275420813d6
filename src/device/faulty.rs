//! Disks that misbehave, in memory: for the proof of crash safety.
//!
//! A [`Machine`] has a few disks with one clock: every call on any of them has a number. A chosen
//! call fails, or the power goes there and everything after fails too. What was not flushed when the
//! power goes is kept, dropped or torn, write by write and sector by sector, as a seed decides.
//! A machine can also keep a journal of all changing calls, so that the state before each of them
//! can be made again without running the workload again.

mod disk;
#[cfg(test)]
mod tests;

use super::{Device, Usage};
pub use disk::{Dice, PAGE, SECTOR};
use disk::{Disk, errno};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What happens at a chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This call fails with this errno, once. A failed flush is never made good by a later one;
    /// a failed write has written a part.
    Error(i32),
    /// The machine is dead: this call and all later ones fail.
    PowerLoss,
}

/// One changing call, as the journal keeps it.
#[derive(Clone)]
pub struct Event {
    pub disk: usize,
    pub what: What,
}

#[derive(Clone)]
pub enum What {
    Write(u64, Arc<[u8]>),
    Discard(Range<u64>),
    Reserve(u64),
    Sync(Vec<Range<u64>>),
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "disk {} ", self.disk)?;
        match &self.what {
            What::Write(at, bytes) => write!(f, "write {at} + {}", bytes.len()),
            What::Discard(r) => write!(f, "discard {r:?}"),
            What::Reserve(len) => write!(f, "reserve {len}"),
            What::Sync(ranges) => write!(f, "sync {ranges:?}"),
        }
    }
}

#[derive(Default)]
struct State {
    disks: Vec<Disk>,
    calls: u64,
    faults: BTreeMap<u64, Fault>,
    fired: Vec<u64>,
    dead: bool,
    journal: Option<Vec<Event>>,
    /// Bytes that the disks together may take.
    space: Option<u64>,
    garbage: Option<u8>,
    syncs: u64,
}

/// A few disks that share power, clock and space.
pub struct Machine {
    state: Mutex<State>,
}

impl Machine {
    pub fn new(disks: usize) -> Arc<Machine> {
        Machine::with((0..disks).map(|_| Disk::default()).collect())
    }

    fn with(disks: Vec<Disk>) -> Arc<Machine> {
        Arc::new(Machine {
            state: Mutex::new(State {
                disks,
                ..State::default()
            }),
        })
    }

    pub fn device(self: &Arc<Self>, disk: usize, name: &str) -> Arc<FaultyDevice> {
        Arc::new(FaultyDevice {
            machine: self.clone(),
            disk,
            name: name.to_string(),
        })
    }

    /// Calls so far, on all disks; the next one has this number.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Flushes so far.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// Arms a fault at a call's number.
    pub fn fail(&self, call: u64, fault: Fault) {
        self.state.lock().faults.insert(call, fault);
    }

    /// How many armed faults have happened.
    pub fn fired(&self) -> usize {
        self.state.lock().fired.len()
    }

    /// Bounds what the disks take together; `None`: no bound.
    pub fn set_space(&self, bytes: Option<u64>) {
        self.state.lock().space = bytes;
    }

    /// Bytes the disks take together.
    pub fn taken(&self) -> u64 {
        self.state.lock().disks.iter().map(Disk::taken).sum::<u64>() * PAGE
    }

    /// From now on discarded ranges read as this byte, as on a block device.
    pub fn set_garbage(&self, byte: u8) {
        self.state.lock().garbage = Some(byte);
    }

    /// Starts the journal of changing calls.
    pub fn record(&self) {
        self.state.lock().journal = Some(Vec::new());
    }

    /// Length of the journal: the number of the next changing call.
    pub fn events(&self) -> usize {
        self.state.lock().journal.as_ref().map_or(0, Vec::len)
    }

    /// Ends the journal.
    pub fn take_journal(&self) -> Vec<Event> {
        self.state.lock().journal.take().unwrap_or_default()
    }

    /// Does what the journal says, without clock or faults.
    pub fn replay(&self, event: &Event) {
        let mut state = self.state.lock();
        let garbage = state.garbage;
        let Some(disk) = state.disks.get_mut(event.disk) else {
            return;
        };
        perform(disk, &event.what, garbage);
    }

    /// The first `bytes` of a write that was under way.
    pub fn replay_part(&self, event: &Event, bytes: usize) {
        if let What::Write(offset, data) = &event.what {
            let part = data[..bytes.min(data.len())].into();
            self.replay(&Event {
                disk: event.disk,
                what: What::Write(*offset, part),
            });
        }
    }

    /// Every later call fails.
    pub fn kill(&self) {
        self.state.lock().dead = true;
    }

    /// The machine after a power cut, switched on again.
    pub fn power_cut(&self, seed: u64) -> Arc<Machine> {
        let state = self.state.lock();
        let mut dice = Dice(seed);
        let after = Machine::with(state.disks.iter().map(|d| d.power_cut(&mut dice)).collect());
        after.inherit(&state);
        after
    }

    /// The machine as a new process finds it: everything written is there.
    pub fn restart(&self) -> Arc<Machine> {
        let state = self.state.lock();
        let after = Machine::with(state.disks.iter().map(Disk::settled).collect());
        after.inherit(&state);
        after
    }

    fn inherit(&self, before: &State) {
        let mut state = self.state.lock();
        state.garbage = before.garbage;
        state.space = before.space;
    }

    /// Sectors not flushed yet.
    pub fn pending(&self) -> usize {
        self.state.lock().disks.iter().map(Disk::pending).sum()
    }
}

fn perform(disk: &mut Disk, what: &What, garbage: Option<u8>) {
    match what {
        What::Write(offset, bytes) => disk.write(*offset, bytes),
        What::Discard(range) => disk.discard(range, garbage),
        What::Reserve(len) => disk.reserve(*len),
        What::Sync(ranges) => ranges.iter().for_each(|r| disk.flush(r, false)),
    }
}

/// One disk of a [`Machine`].
pub struct FaultyDevice {
    machine: Arc<Machine>,
    disk: usize,
    name: String,
}

impl FaultyDevice {
    pub fn machine(&self) -> &Arc<Machine> {
        &self.machine
    }

    /// Counts the call; answers the fault that is armed for it.
    fn tick(&self, state: &mut State) -> io::Result<Option<i32>> {
        if state.dead {
            return Err(errno(libc::EIO));
        }
        let call = state.calls;
        state.calls += 1;
        match state.faults.get(&call).copied() {
            None => Ok(None),
            Some(Fault::Error(e)) => {
                state.fired.push(call);
                Ok(Some(e))
            }
            Some(Fault::PowerLoss) => {
                state.fired.push(call);
                state.dead = true;
                Ok(Some(libc::EIO))
            }
        }
    }

    fn change(&self, what: What) -> io::Result<()> {
        let mut state = self.machine.state.lock();
        let fault = self.tick(&mut state)?;
        let garbage = state.garbage;
        if let Some(e) = fault {
            let disk = &mut state.disks[self.disk];
            match &what {
                // Half of it, not a multiple of anything.
                What::Write(offset, bytes) => disk.write(*offset, &bytes[..bytes.len() / 2]),
                What::Sync(ranges) => ranges.iter().for_each(|r| disk.flush(r, true)),
                What::Discard(_) | What::Reserve(_) => {}
            }
            return Err(errno(e));
        }
        if let Some(space) = state.space {
            let more = match &what {
                What::Write(offset, bytes) => state.disks[self.disk]
                    .missing(&(*offset..offset.saturating_add(bytes.len() as u64))),
                What::Reserve(len) => state.disks[self.disk].missing_to(*len),
                _ => 0,
            };
            let taken = state.disks.iter().map(Disk::taken).sum::<u64>();
            if more > 0 && (taken + more) * PAGE > space {
                return Err(errno(libc::ENOSPC));
            }
        }
        if matches!(what, What::Sync(_)) {
            state.syncs += 1;
        }
        perform(&mut state.disks[self.disk], &what, garbage);
        if let Some(journal) = &mut state.journal {
            journal.push(Event {
                disk: self.disk,
                what,
            });
        }
        Ok(())
    }
}

impl Device for FaultyDevice {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut state = self.machine.state.lock();
        if let Some(e) = self.tick(&mut state)? {
            return Err(errno(e));
        }
        state.disks[self.disk].read(offset, buf);
        Ok(())
    }

    fn write_at(&self, offset: u64, buf: &[u8]) -> io::Result<()> {
        self.change(What::Write(offset, buf.into()))
    }

    fn sync(&self) -> io::Result<()> {
        self.change(What::Sync(std::iter::once(0..u64::MAX).collect()))
    }

    fn sync_ranges(&self, ranges: &[Range<u64>]) -> io::Result<()> {
        self.change(What::Sync(ranges.to_vec()))
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        self.change(What::Discard(range))
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.change(What::Reserve(len))
    }

    fn capacity(&self) -> u64 {
        u64::MAX
    }

    fn usage(&self) -> io::Result<Usage> {
        let state = self.machine.state.lock();
        let real = state.disks[self.disk].taken() * PAGE;
        let all = state.disks.iter().map(Disk::taken).sum::<u64>() * PAGE;
        let host_free = state.space.map_or(u64::MAX / 2, |s| s.saturating_sub(all));
        Ok(Usage { real, host_free })
    }
}
