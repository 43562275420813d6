//! The bytes of one misbehaving disk: what a reader sees now, what is durable, and what lies between.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// What a disk writes at once or not at all.
pub const SECTOR: u64 = 512;
/// The unit in which space is taken and given back.
pub const PAGE: u64 = 4096;

type Page = [u8; PAGE as usize];
type Pages = HashMap<u64, Arc<Page>>;

/// A sector as it was after one of the writes since the last flush.
#[derive(Clone)]
struct Version {
    write: u64,
    /// All sectors of that write, and which one of them this is.
    bytes: Arc<[u8]>,
    index: usize,
    /// Named by a flush that failed: the host holds it clean now, and no later flush writes it.
    doomed: bool,
}

impl Version {
    fn sector(&self) -> &[u8] {
        &self.bytes[self.index * SECTOR as usize..][..SECTOR as usize]
    }
}

#[derive(Clone, Default)]
pub struct Disk {
    now: Pages,
    durable: Pages,
    pending: BTreeMap<u64, Vec<Version>>,
    writes: u64,
    /// Preallocated bytes: they take space whether written or not.
    reserved: u64,
}

/// What becomes of one unflushed write when the power goes.
#[derive(Clone, Copy)]
enum Fate {
    Kept,
    Dropped,
    /// Sector by sector, or page by page, as the dice fall.
    Torn(u64),
    /// Only its beginning reached the disk.
    Prefix(u64),
}

/// A small generator (splitmix64): the library has no other need for one.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n.max(1)
    }
}

impl Disk {
    pub fn read(&self, offset: u64, buf: &mut [u8]) {
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let n = (PAGE as usize - within).min(buf.len() - done);
            let to = &mut buf[done..done + n];
            match self.now.get(&(at / PAGE)) {
                Some(page) => to.copy_from_slice(&page[within..within + n]),
                None => to.fill(0),
            }
            done += n;
        }
    }

    /// Pages that a write of `range` would newly take.
    pub fn missing(&self, range: &Range<u64>) -> u64 {
        (range.start / PAGE..range.end.div_ceil(PAGE))
            .filter(|p| *p >= self.reserved / PAGE && !self.now.contains_key(p))
            .count() as u64
    }

    /// Pages taken from the host.
    pub fn taken(&self) -> u64 {
        let reserved = self.reserved / PAGE;
        reserved + self.now.keys().filter(|p| **p >= reserved).count() as u64
    }

    /// Pages that a reservation up to `len` would newly take.
    pub fn missing_to(&self, len: u64) -> u64 {
        if len <= self.reserved {
            0
        } else {
            self.missing(&(self.reserved..len))
        }
    }

    pub fn reserve(&mut self, len: u64) {
        self.reserved = self.reserved.max(len.next_multiple_of(PAGE));
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let within = (at % PAGE) as usize;
            let n = (PAGE as usize - within).min(bytes.len() - done);
            let page = self
                .now
                .entry(at / PAGE)
                .or_insert_with(|| Arc::new([0; PAGE as usize]));
            Arc::make_mut(page)[within..within + n].copy_from_slice(&bytes[done..done + n]);
            done += n;
        }
        self.remember(&(offset..offset + bytes.len() as u64));
    }

    /// Whole pages inside `range` read as zeros (a punched file) or as `garbage` (a device).
    pub fn discard(&mut self, range: &Range<u64>, garbage: Option<u8>) {
        let pages = range.start.div_ceil(PAGE)..range.end / PAGE;
        if pages.is_empty() {
            return;
        }
        for p in pages.clone() {
            match garbage {
                None => {
                    self.now.remove(&p);
                }
                Some(byte) => {
                    self.now.insert(p, Arc::new([byte; PAGE as usize]));
                }
            }
        }
        self.remember(&(pages.start * PAGE..pages.end * PAGE));
    }

    /// Notes the sectors of `range`, as they are now, as unflushed.
    fn remember(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        let first = range.start / SECTOR;
        let end = range.end.div_ceil(SECTOR);
        let mut bytes = vec![0; ((end - first) * SECTOR) as usize];
        self.read(first * SECTOR, &mut bytes);
        let bytes: Arc<[u8]> = bytes.into();
        self.writes += 1;
        for sector in first..end {
            self.pending.entry(sector).or_default().push(Version {
                write: self.writes,
                bytes: bytes.clone(),
                index: (sector - first) as usize,
                doomed: false,
            });
        }
    }

    /// Makes the sectors that `range` touches durable; `fail`: pretends to, and they never will be.
    pub fn flush(&mut self, range: &Range<u64>, fail: bool) {
        let sectors = range.start / SECTOR..range.end.div_ceil(SECTOR);
        let mut done = Vec::new();
        for (sector, versions) in self.pending.range_mut(sectors) {
            if fail {
                versions.iter_mut().for_each(|v| v.doomed = true);
            } else if let Some(last) = versions.last().filter(|v| !v.doomed) {
                put(&mut self.durable, *sector, last.sector());
                done.push(*sector);
            }
        }
        for sector in done {
            self.pending.remove(&sector);
        }
    }

    /// Unflushed sectors.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The disk after a power cut: every unflushed write kept, dropped or torn.
    pub fn power_cut(&self, dice: &mut Dice) -> Disk {
        let mut pages = self.durable.clone();
        // Some cuts lose nearly everything, some nearly nothing: both find other faults than a fair coin.
        let kept = [0, 10, 50, 90, 100][dice.below(5) as usize];
        let torn = [0, 5, 30][dice.below(3) as usize];
        let mut fates: HashMap<u64, Fate> = HashMap::new();
        for (sector, versions) in &self.pending {
            let mut survivor = None;
            for v in versions {
                let fate = *fates.entry(v.write).or_insert_with(|| {
                    if dice.below(100) < torn {
                        match dice.below(2) {
                            0 => Fate::Torn(dice.roll()),
                            _ => Fate::Prefix(dice.below(v.bytes.len() as u64 / SECTOR)),
                        }
                    } else if dice.below(100) < kept {
                        Fate::Kept
                    } else {
                        Fate::Dropped
                    }
                });
                let reached = match fate {
                    Fate::Kept => true,
                    Fate::Dropped => false,
                    Fate::Torn(salt) => {
                        let unit = if salt & 1 == 0 { SECTOR } else { PAGE };
                        Dice(salt ^ (sector * SECTOR / unit)).roll() & 1 == 1
                    }
                    Fate::Prefix(n) => (v.index as u64) < n,
                };
                if reached {
                    survivor = Some(v);
                }
            }
            if let Some(v) = survivor {
                put(&mut pages, *sector, v.sector());
            }
        }
        Disk {
            now: pages.clone(),
            durable: pages,
            reserved: self.reserved,
            ..Disk::default()
        }
    }

    /// The disk as a new process finds it when only the old one died.
    pub fn settled(&self) -> Disk {
        Disk {
            now: self.now.clone(),
            durable: self.now.clone(),
            reserved: self.reserved,
            ..Disk::default()
        }
    }
}

fn put(pages: &mut Pages, sector: u64, bytes: &[u8]) {
    let at = sector * SECTOR;
    let within = (at % PAGE) as usize;
    let page = pages
        .entry(at / PAGE)
        .or_insert_with(|| Arc::new([0; PAGE as usize]));
    if page[within..within + bytes.len()] != *bytes {
        Arc::make_mut(page)[within..within + bytes.len()].copy_from_slice(bytes);
    }
}

pub fn errno(e: i32) -> io::Error {
    io::Error::from_raw_os_error(e)
}
