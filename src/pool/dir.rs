//! A pool as a directory: `data`, `metadata`, `log`, `lock`. Data and metadata may be symbolic links
//! to block devices.

use super::{Config, Devices, Format, Pool};
use crate::base::{Error, Result};
use crate::device::FileDevice;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;

/// This boot and this host file system: while both are the same, what was written is still there
/// however the process died. (A file system that was unmounted in between was flushed by that.)
pub fn boot_identity(dir: &Path) -> Result<[u8; 32]> {
    let path = "/proc/sys/kernel/random/boot_id";
    let boot =
        std::fs::read_to_string(path).map_err(|e| Error::io(format!("reading {path}"), e))?;
    let meta =
        std::fs::metadata(dir).map_err(|e| Error::io(format!("opening {}", dir.display()), e))?;
    let mut id = [0; 32];
    let boot = uuid::Uuid::parse_str(boot.trim()).unwrap_or_default();
    id[..16].copy_from_slice(boot.as_bytes());
    id[16..24].copy_from_slice(&meta.dev().to_le_bytes());
    Ok(id)
}

/// There while a pool is being created: what is beside it is no pool yet.
const UNFINISHED: &str = "creating";

/// An open pool directory; the lock goes with it.
pub struct Opened {
    pub pool: Arc<Pool>,
    _lock: File,
}

fn take_lock(dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = open(&path, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|e| Error::io(format!("opening {}", path.display()), e.into()))?;
    let mut file = File::from(fd);
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut holder = String::new();
        // A courtesy to the reader of the message; whatever stands there is only shown.
        let _ = (&mut file).take(200).read_to_string(&mut holder);
        let holder = holder.lines().next().unwrap_or("").trim().to_string();
        let holder = if holder.is_empty() {
            "another process".into()
        } else {
            holder
        };
        return Err(Error::Locked {
            place: dir.display().to_string(),
            holder,
        });
    }
    let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let line = format!("{} (process {})\n", name.trim(), std::process::id());
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(line.as_bytes()))
        .map_err(|e| Error::io(format!("writing {}", path.display()), e))?;
    Ok(file)
}

fn devices(dir: &Path, create: bool) -> Result<Devices> {
    let device = |name: &str| {
        let path = dir.join(name);
        if !create && !path.exists() {
            return Err(Error::NotAPool(dir.display().to_string()));
        }
        let opened = if create && !path.exists() {
            FileDevice::create(&path)
        } else {
            FileDevice::open(&path)
        };
        opened
            .map(|d| Arc::new(d) as Arc<dyn crate::device::Device>)
            .map_err(|e| Error::io(format!("opening {}", path.display()), e))
    };
    Ok(Devices {
        metadata: device("metadata")?,
        data: device("data")?,
        log: device("log")?,
    })
}

impl Pool {
    /// Opens a pool directory. `Locked` names who has it.
    pub fn open_dir(dir: &Path, config: Config) -> Result<Opened> {
        match dir.join("metadata").try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(Error::NotAPool(dir.display().to_string())),
            Err(e) => return Err(Error::io(format!("opening {}", dir.display()), e)),
        }
        let lock = take_lock(dir)?;
        if dir.join(UNFINISHED).symlink_metadata().is_ok() {
            return Err(Error::NotAPool(format!(
                "{} (its creation was cut short; 'cowfs pool create' does it again)",
                dir.display()
            )));
        }
        let config = Config {
            boot: boot_identity(dir)?,
            ..config
        };
        Ok(Opened {
            pool: Pool::open(devices(dir, false)?, config)?,
            _lock: lock,
        })
    }

    /// Makes a pool directory; `data` and `metadata` elsewhere (a block device) become symbolic links.
    pub fn create_dir(
        dir: &Path,
        format: &Format,
        data: Option<&Path>,
        metadata: Option<&Path>,
    ) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|e| Error::io(format!("making {}", dir.display()), e))?;
        let lock = take_lock(dir)?;
        // A creation that was killed: what it made holds nothing, and is made again.
        let unfinished = dir.join(UNFINISHED);
        if unfinished.symlink_metadata().is_ok() {
            for name in ["metadata", "data", "log"] {
                let _ = std::fs::remove_file(dir.join(name));
            }
        }
        for name in ["metadata", "data", "log"] {
            if dir.join(name).symlink_metadata().is_ok() {
                return Err(Error::Exists(format!(
                    "{} holds a pool already (it has '{name}')",
                    dir.display()
                )));
            }
        }
        File::create(&unfinished)
            .map_err(|e| Error::io(format!("making {}", unfinished.display()), e))?;
        let made = Pool::fill_dir(dir, format, data, metadata);
        if made.is_err() {
            // Only what this call made: nothing of it was there before.
            for name in ["metadata", "data", "log"] {
                let _ = std::fs::remove_file(dir.join(name));
            }
        }
        // Durably: were it there again after a power cut, it would speak against a pool in use.
        std::fs::remove_file(&unfinished)
            .and_then(|()| File::open(dir)?.sync_all())
            .map_err(|e| Error::io(format!("removing {}", unfinished.display()), e))?;
        drop(lock);
        made
    }

    fn fill_dir(
        dir: &Path,
        format: &Format,
        data: Option<&Path>,
        metadata: Option<&Path>,
    ) -> Result<()> {
        for (name, elsewhere) in [("data", data), ("metadata", metadata)] {
            let Some(target) = elsewhere else { continue };
            let target = std::path::absolute(target)
                .map_err(|e| Error::io(format!("{}", target.display()), e))?;
            if !target.exists() {
                FileDevice::create(&target)
                    .map_err(|e| Error::io(format!("making {}", target.display()), e))?;
            }
            let link = dir.join(name);
            symlink(&target, &link)
                .map_err(|e| Error::io(format!("making {}", link.display()), e))?;
        }
        let devices = devices(dir, true)?;
        if super::superblock::Superblock::read(&*devices.metadata).is_ok() {
            return Err(Error::Exists(format!(
                "{} holds a pool's metadata already",
                devices.metadata.name()
            )));
        }
        Pool::format(&devices, format)?;
        // The names themselves must be as durable as what they name.
        File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(|e| Error::io(format!("flushing {}", dir.display()), e))
    }
}
