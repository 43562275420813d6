//! What integration tests share: saying loudly what was skipped, pools that vanish, mounts that are always undone.
#![allow(dead_code)]

use cowfs::base::Result;
use cowfs::fs::Fs;
use cowfs::fuse::{Connection, How, MountOptions, ServeOptions, Unmount, prepare, serve, unmount};
use cowfs::pool::{Config, Format, Kind, NewVolume, Opened, Pool};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A test that cannot run here says so; with COWFS_TEST_REQUIRE=1 (as in .ci/run) it fails instead.
pub fn skip(why: &str) {
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    if std::env::var("COWFS_TEST_REQUIRE").is_ok_and(|v| v == "1") {
        panic!("{name} cannot run: {why}");
    }
    // Past the harness' capture of a passing test's output: a skip must be seen.
    let line = format!("\nSKIPPED {name}: {why}\n");
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
}

#[must_use]
pub fn need_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("it needs root");
    }
    root
}

/// Root, and a /dev/fuse that opens.
#[must_use]
pub fn need_fuse() -> bool {
    need_root()
        && match std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
        {
            Ok(_) => true,
            Err(e) => {
                skip(&format!("/dev/fuse: {e}"));
                false
            }
        }
}

/// A program that must be installed.
#[must_use]
pub fn need_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    if !there {
        skip(&format!("{name} is not installed"));
    }
    there
}

/// A child between fork and exec, of another test in this process, still holds the lock of a pool just closed.
fn open(path: &Path) -> Opened {
    for _ in 0..200 {
        match Pool::open_dir(path, Config::default()) {
            Err(cowfs::base::Error::Locked { .. }) => std::thread::sleep(Duration::from_millis(10)),
            opened => return opened.unwrap(),
        }
    }
    panic!("{} stays locked", path.display());
}

/// A pool in a directory of its own, gone with it.
pub struct TempPool {
    pub pool: Arc<Pool>,
    opened: Option<Opened>,
    pub dir: tempfile::TempDir,
}

impl TempPool {
    pub fn new() -> TempPool {
        TempPool::with(&Format {
            size: 4 << 30,
            ..Format::default()
        })
    }

    pub fn with(format: &Format) -> TempPool {
        let dir = tempfile::Builder::new()
            .prefix("cowfs-test-")
            .tempdir()
            .unwrap();
        let path = dir.path().join("pool");
        Pool::create_dir(&path, format, None, None).unwrap();
        let opened = open(&path);
        TempPool {
            pool: opened.pool.clone(),
            opened: Some(opened),
            dir,
        }
    }

    /// Closes and opens again: what comes back is what was kept. Nobody may use its volumes then.
    pub fn reopen(&mut self) {
        self.pool.close().unwrap();
        drop(self.opened.take());
        let opened = open(&self.path());
        self.pool = opened.pool.clone();
        self.opened = Some(opened);
    }

    /// Clean, or a panic that says what is not.
    pub fn check(&self) {
        let report = self.pool.check(&|_, _| {}).unwrap();
        assert!(report.problems.is_empty(), "{:#?}", report.problems);
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("pool")
    }

    /// An empty container with a root directory.
    pub fn container(&self, name: &str) -> Arc<Fs> {
        let new = NewVolume {
            name: name.into(),
            kind: Kind::Container,
            source: None,
            limit: None,
            building: false,
            sealed: false,
        };
        let volume = self
            .pool
            .volume(self.pool.create(&new).unwrap().id)
            .unwrap();
        Fs::format(&volume, 0o755).unwrap();
        Fs::open(volume).unwrap()
    }

    /// A clone of a volume; sealed: a snapshot.
    pub fn clone_of(&self, source: &Fs, name: &str, sealed: bool) -> Arc<Fs> {
        let kind = if sealed {
            Kind::Snapshot
        } else {
            Kind::Container
        };
        let new = NewVolume {
            name: name.into(),
            kind,
            source: Some(source.volume().id()),
            limit: None,
            building: false,
            sealed,
        };
        Fs::open(
            self.pool
                .volume(self.pool.create(&new).unwrap().id)
                .unwrap(),
        )
        .unwrap()
    }
}

/// A mounted volume, unmounted when dropped, whatever happens.
pub struct Mounted {
    pub connection: Connection,
    dir: tempfile::TempDir,
}

impl Mounted {
    pub fn new(fs: Arc<Fs>, options: &str) -> Mounted {
        Mounted::try_new(fs, options).unwrap()
    }

    pub fn try_new(fs: Arc<Fs>, options: &str) -> Result<Mounted> {
        let dir = tempfile::Builder::new()
            .prefix("cowfs-mnt-")
            .tempdir()
            .unwrap();
        let options = MountOptions::parse(options)?;
        let prepared = prepare(How::Kernel, "test", dir.path(), &options)?;
        let device: OwnedFd = prepared.device;
        // One thread must do: what waits, waits elsewhere.
        let threads = std::env::var("COWFS_TEST_THREADS")
            .ok()
            .and_then(|n| n.parse().ok());
        let how = ServeOptions {
            read_only: options.read_only,
            squash: options.squash,
            threads: threads.unwrap_or(0),
            ..ServeOptions::default()
        };
        let connection = serve(fs, device, how)?;
        prepared.pending.attach()?;
        std::fs::set_permissions(
            dir.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .ok();
        Ok(Mounted { connection, dir })
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Unmounts and waits for the connection's end.
    pub fn unmount(self) {
        unmount(self.path(), Unmount::Plain).unwrap();
        assert!(
            self.connection.wait(Duration::from_secs(20)),
            "the connection ends with its mount"
        );
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.connection.ended() {
            let _ = unmount(self.path(), Unmount::Plain)
                .or_else(|_| unmount(self.path(), Unmount::Force));
            self.connection.wait(Duration::from_secs(20));
        }
    }
}

/// /dev/fuse open to all, as on a desktop, until dropped. fusermount3 too opens it as the user.
pub struct OpenDevice(
    std::fs::Permissions,
    #[expect(dead_code, reason = "held")] std::sync::MutexGuard<'static, ()>,
);

impl OpenDevice {
    pub fn new() -> OpenDevice {
        static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let one = ONE.lock().unwrap_or_else(|e| e.into_inner());
        let before = std::fs::metadata("/dev/fuse").unwrap().permissions();
        std::fs::set_permissions(
            "/dev/fuse",
            std::os::unix::fs::PermissionsExt::from_mode(0o666),
        )
        .unwrap();
        OpenDevice(before, one)
    }
}

impl Drop for OpenDevice {
    fn drop(&mut self) {
        let _ = std::fs::set_permissions("/dev/fuse", self.0.clone());
    }
}
