//! A pool in memory, and short words for what the tests do.

use cowfs::base::{Error, Ino, ROOT_INO, Result, VolumeId};
use cowfs::device::{FileDevice, MemDevice};
use cowfs::fs::{Cred, Fs, SetAttr};
use cowfs::pool::{Config, Devices, Format, Kind, NewVolume, Pool};
use cowfs::volume::{Counters, counters};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub const BLOCK: u64 = 4096;
pub const KB: u64 = 1 << 10;
pub const MB: u64 = 1 << 20;

pub struct World {
    pub devices: Devices,
    pub pool: Arc<Pool>,
}

pub fn config() -> Config {
    Config {
        boot: [1; 32],
        cache_bytes: 64 << 20,
        interval: Duration::ZERO,
        discard: true,
    }
}

pub fn format() -> Format {
    Format {
        log_size: 16 << 20,
        ..Format::default()
    }
}

pub fn world(format: &Format) -> World {
    let devices = Devices {
        metadata: Arc::new(MemDevice::new()),
        data: Arc::new(MemDevice::new()),
        log: Arc::new(MemDevice::new()),
    };
    on(devices, format)
}

pub fn on(devices: Devices, format: &Format) -> World {
    Pool::format(&devices, format).unwrap();
    let pool = Pool::open(devices.clone(), config()).unwrap();
    World { devices, pool }
}

/// Sparse files in a directory: these have mapped windows.
pub fn files(dir: &Path) -> Devices {
    let file = |name| Arc::new(FileDevice::create(&dir.join(name)).unwrap());
    Devices {
        metadata: file("metadata"),
        data: file("data"),
        log: file("log"),
    }
}

impl World {
    pub fn volume(&self, name: &str, limit: Option<u64>) -> Arc<Fs> {
        let id = self
            .pool
            .create(&NewVolume {
                limit,
                ..new_volume(name, None)
            })
            .unwrap()
            .id;
        let volume = self.pool.volume(id).unwrap();
        Fs::format(&volume, 0o755).unwrap();
        Fs::open(volume).unwrap()
    }

    pub fn clone_of(&self, fs: &Fs, name: &str) -> Arc<Fs> {
        let source = Some(fs.volume().id());
        let id = self.pool.create(&new_volume(name, source)).unwrap().id;
        Fs::open(self.pool.volume(id).unwrap()).unwrap()
    }

    pub fn open(&self, id: VolumeId) -> Arc<Fs> {
        Fs::open(self.pool.volume(id).unwrap()).unwrap()
    }

    /// Chunks in use in the whole pool.
    pub fn chunks(&self) -> u64 {
        let status = self.pool.status().unwrap();
        status.data.used / status.chunk_size
    }

    pub fn check(&self) {
        let report = self.pool.check(&|_, _| ()).unwrap();
        assert_eq!(report.problems, Vec::<String>::new());
    }
}

pub fn new_volume(name: &str, source: Option<VolumeId>) -> NewVolume {
    NewVolume {
        name: name.into(),
        kind: Kind::Container,
        source,
        limit: None,
        building: false,
        sealed: false,
    }
}

pub fn file(fs: &Fs, name: &str) -> Ino {
    fs.mknod(
        ROOT_INO,
        name.as_bytes(),
        libc::S_IFREG | 0o644,
        0,
        &Cred::ROOT,
    )
    .unwrap()
    .ino
}

pub fn write(fs: &Fs, ino: Ino, offset: u64, data: &[u8]) {
    fs.write(ino, offset, data, true, false).unwrap();
}

pub fn truncate(fs: &Fs, ino: Ino, size: u64) {
    let set = SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    assert_eq!(fs.set_attr(ino, &set, &Cred::ROOT).unwrap().size, size);
}

/// All bytes of a file, by both ways of reading.
pub fn content(fs: &Fs, ino: Ino) -> Vec<u8> {
    let size = fs.attr(ino).unwrap().size;
    let mut buf = vec![0xa5; size as usize + 10];
    let n = fs.read(ino, 0, &mut buf).unwrap();
    assert_eq!(n as u64, size);
    buf.truncate(n);
    let same = fs.read_with(ino, 0, n + 10, |b| b == buf).unwrap();
    assert!(same, "read_with and read differ");
    buf
}

pub fn pattern(len: u64, seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut v = Vec::with_capacity(len as usize + 8);
    while (v.len() as u64) < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        v.extend_from_slice(&x.to_le_bytes());
    }
    v.truncate(len as usize);
    v
}

pub fn errno<T>(result: Result<T>) -> i32 {
    result.err().map_or(0, |e: Error| e.errno())
}

pub fn copied(fs: &Fs) -> u64 {
    stats(fs).copied_bytes.load(Ordering::Relaxed)
}

pub fn stats(fs: &Fs) -> Arc<Counters> {
    counters(fs.volume())
}

/// Every block in use by the mapping belongs to exactly one file.
pub fn balanced(fs: &Fs, inos: &[Ino]) {
    let blocks: u64 = inos.iter().map(|i| fs.attr(*i).unwrap().blocks / 8).sum();
    assert_eq!(
        fs.volume().usage().0 / BLOCK,
        blocks,
        "blocks of files and of the mapping"
    );
}
