//! A pool in memory with one volume, and short words for what the tests do.

use cowfs::base::{Error, Ino, ROOT_INO, Result, Time, VolumeId};
use cowfs::device::MemDevice;
use cowfs::fs::{Attr, Cred, Fs};
use cowfs::pool::{Config, Devices, Format, Kind, NewVolume, Pool};
use std::sync::Arc;
use std::time::Duration;

pub const REG: u32 = libc::S_IFREG;
pub const DIR: u32 = libc::S_IFDIR;
pub const ROOT: Cred = Cred::ROOT;

pub struct World {
    pub devices: Devices,
    pub pool: Arc<Pool>,
    pub id: VolumeId,
    pub fs: Arc<Fs>,
}

pub fn config() -> Config {
    Config {
        boot: [1; 32],
        cache_bytes: 32 << 20,
        interval: Duration::ZERO,
        discard: true,
    }
}

pub fn world() -> World {
    let devices = Devices {
        metadata: Arc::new(MemDevice::new()),
        data: Arc::new(MemDevice::new()),
        log: Arc::new(MemDevice::new()),
    };
    Pool::format(
        &devices,
        &Format {
            log_size: 8 << 20,
            ..Format::default()
        },
    )
    .unwrap();
    let pool = Pool::open(devices.clone(), config()).unwrap();
    let new = new_volume("c", None, false);
    let id = pool.create(&new).unwrap().id;
    let volume = pool.volume(id).unwrap();
    Fs::format(&volume, 0o755).unwrap();
    let fs = Fs::open(volume).unwrap();
    World {
        devices,
        pool,
        id,
        fs,
    }
}

pub fn new_volume(name: &str, source: Option<VolumeId>, sealed: bool) -> NewVolume {
    let kind = if sealed {
        Kind::Snapshot
    } else {
        Kind::Container
    };
    NewVolume {
        name: name.into(),
        kind,
        source,
        limit: None,
        building: false,
        sealed,
    }
}

impl World {
    /// A clone of the volume, opened.
    pub fn clone_as(&self, name: &str, sealed: bool) -> Arc<Fs> {
        let id = self
            .pool
            .create(&new_volume(name, Some(self.id), sealed))
            .unwrap()
            .id;
        Fs::open(self.pool.volume(id).unwrap()).unwrap()
    }

    /// Ends this process's use without a clean close, and opens the pool again: replays the log.
    pub fn crash(self) -> World {
        let World {
            devices,
            pool,
            id,
            fs,
        } = self;
        drop(fs);
        drop(pool);
        let pool = Pool::open(devices.clone(), config()).unwrap();
        let fs = Fs::open(pool.volume(id).unwrap()).unwrap();
        World {
            devices,
            pool,
            id,
            fs,
        }
    }

    /// Counts found by walking equal those stored, nothing lost; every name fits.
    pub fn check(&self) {
        let report = self.pool.check(&|_, _| {}).unwrap();
        assert!(report.problems.is_empty(), "{:#?}", report.problems);
        assert_eq!(self.fs.check().unwrap(), Vec::<String>::new());
    }

    /// Inodes in the volume, those without a name too.
    pub fn inodes(&self) -> u64 {
        self.fs.volume().usage().1
    }
}

/// The path's inode.
pub fn at(fs: &Fs, path: &str) -> Ino {
    try_at(fs, path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

pub fn try_at(fs: &Fs, path: &str) -> Result<Ino> {
    let names = path.split('/').filter(|n| !n.is_empty());
    names.into_iter().try_fold(ROOT_INO, |dir, name| {
        Ok(fs.lookup(dir, name.as_bytes())?.ino)
    })
}

/// The directory and last name of a path.
pub fn split<'a>(fs: &Fs, path: &'a str) -> (Ino, &'a [u8]) {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    (at(fs, dir), name.as_bytes())
}

pub fn attr(fs: &Fs, path: &str) -> Attr {
    fs.attr(at(fs, path)).unwrap()
}

pub fn mkdir(fs: &Fs, path: &str) -> Ino {
    let (dir, name) = split(fs, path);
    fs.mkdir(dir, name, 0o755, &ROOT).unwrap().ino
}

pub fn file(fs: &Fs, path: &str) -> Ino {
    let (dir, name) = split(fs, path);
    fs.mknod(dir, name, REG | 0o644, 0, &ROOT).unwrap().ino
}

pub fn link(fs: &Fs, from: &str, to: &str) {
    let (dir, name) = split(fs, to);
    fs.link(at(fs, from), dir, name).unwrap();
}

pub fn unlink(fs: &Fs, path: &str) -> Attr {
    let (dir, name) = split(fs, path);
    fs.unlink(dir, name).unwrap()
}

pub fn rmdir(fs: &Fs, path: &str) -> Attr {
    let (dir, name) = split(fs, path);
    fs.rmdir(dir, name).unwrap()
}

/// All names of a directory, "." and ".." without.
pub fn names(fs: &Fs, dir: Ino) -> Vec<String> {
    let mut out = Vec::new();
    fs.readdir(dir, 0, false, &mut |e, _| {
        if e.name != b"." && e.name != b".." {
            out.push(String::from_utf8_lossy(&e.name).into_owned());
        }
        true
    })
    .unwrap();
    out.sort();
    out
}

#[track_caller]
pub fn errno<T: std::fmt::Debug>(result: Result<T>, expect: i32) {
    let found = result.expect_err("an error").errno();
    assert_eq!(found, expect, "{}", Error::Posix(found));
}

/// Lets the clock move, so that a time that was set differs from one that was not.
pub fn tick() -> Time {
    std::thread::sleep(Duration::from_millis(2));
    Time::now()
}

/// Times of an inode compared with a moment before: (atime, mtime, ctime) later than it?
pub fn later(a: &Attr, than: Time) -> (bool, bool, bool) {
    (a.atime >= than, a.mtime >= than, a.ctime >= than)
}

/// nlink, sizes and parents of the whole tree agree with its entries.
pub fn consistent(fs: &Fs) {
    let mut links = std::collections::BTreeMap::<Ino, u32>::new();
    let mut below = vec![ROOT_INO];
    while let Some(dir) = below.pop() {
        let (mut subdirs, mut bytes) = (0, 0);
        fs.readdir(dir, 0, true, &mut |e, a| {
            let a = a.unwrap_or_else(|| panic!("no inode {}", e.ino));
            assert_eq!(a.mode & libc::S_IFMT, e.kind);
            assert_eq!(a.ino, e.ino);
            if e.name == b"." || e.name == b".." {
                return true;
            }
            bytes += e.name.len() as u64;
            if e.kind == DIR {
                subdirs += 1;
                assert_eq!(fs.parent(e.ino).unwrap(), dir);
                below.push(e.ino);
            } else {
                *links.entry(e.ino).or_default() += 1;
            }
            true
        })
        .unwrap();
        let a = fs.attr(dir).unwrap();
        assert_eq!(a.nlink, 2 + subdirs, "nlink of directory {dir}");
        assert_eq!(a.size, bytes, "size of directory {dir}");
    }
    for (ino, n) in links {
        assert_eq!(fs.attr(ino).unwrap().nlink, n, "nlink of {ino}");
    }
}
