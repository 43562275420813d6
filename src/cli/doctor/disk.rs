//! The pool's place: what its file system can do, tried with a file in it.

use super::Check;
use rustix::fs::{FallocateFlags, Mode, OFlags};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Less free than this is worth a word, bytes.
const LITTLE: u64 = 1 << 30;
/// Of the file to try things with.
const SIZE: u64 = 1 << 20;

pub fn checks(pool: &Path) -> Vec<Check> {
    let mut checks = vec![];
    let dir = existing(pool);
    let exists = pool.join("metadata").symlink_metadata().is_ok();
    let kind = file_system(&dir);
    checks.push(place(pool, exists, &dir, &kind));
    checks.push(free(&dir));
    match scratch(&dir) {
        Ok((a, b)) => {
            checks.push(punch(&a));
            checks.push(reflink(&a, &b));
        }
        Err(e) if exists => checks.push(Check::fail(
            "pool is writable",
            format!("{}: {e}", dir.display()),
            "name a pool of your own with --pool or COWFS_POOL",
        )),
        Err(e) => checks.push(Check::warn(
            "pool is writable",
            format!("{}: {e}", dir.display()),
            "name another place with --pool or COWFS_POOL",
        )),
    }
    checks
}

/// The pool's directory, or the nearest above it that exists.
fn existing(pool: &Path) -> PathBuf {
    pool.ancestors()
        .find(|d| d.is_dir())
        .unwrap_or(Path::new("/"))
        .to_path_buf()
}

fn place(pool: &Path, exists: bool, dir: &Path, kind: &str) -> Check {
    let name = "pool";
    let owner = dir.metadata().map(|m| m.uid()).ok();
    let me = rustix::process::geteuid().as_raw();
    let what = if exists {
        "a pool"
    } else {
        "no pool yet; it is made on first use"
    };
    let found = format!("{} on {kind}: {what}", pool.display());
    if exists && owner.is_some_and(|o| o != me) {
        return Check::fail(
            name,
            format!("{found}, of user {}", owner.unwrap_or(0)),
            "a pool is used by its owner alone: name another with --pool or COWFS_POOL",
        );
    }
    match kind {
        "tmpfs" | "ramfs" => Check::warn(
            name,
            found,
            "it is gone after the next boot, and takes memory; name another place with --pool or COWFS_POOL",
        ),
        "nfs" | "nfs4" | "cifs" | "smb3" | "9p" | "ceph" | "fuse" | "glusterfs" | "afs" => {
            Check::warn(
                name,
                found,
                "a network file system: slow, and one machine at a time; a local disk is better",
            )
        }
        _ => Check::ok(name, found),
    }
}

/// The type of the file system, from the mount table.
fn file_system(dir: &Path) -> String {
    let of_dir = || -> Option<String> {
        let dev = dir.metadata().ok()?.dev();
        let wanted = format!("{}:{}", libc::major(dev), libc::minor(dev));
        let table = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        table.lines().find_map(|line| {
            if line.split(' ').nth(2) != Some(&wanted) {
                return None;
            }
            line.split_once(" - ")?
                .1
                .split(' ')
                .next()
                .map(str::to_owned)
        })
    };
    of_dir().unwrap_or_else(|| by_path(dir))
}

/// Where device numbers do not match (btrfs): the longest mount point above.
fn by_path(dir: &Path) -> String {
    let real = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let all = crate::fuse::mountinfo::mounts().unwrap_or_default();
    let best = all
        .iter()
        .filter(|m| real.starts_with(&m.dir))
        .max_by_key(|m| m.dir.as_os_str().len());
    best.map_or_else(|| "an unknown file system".into(), |m| m.fs_type.clone())
}

fn free(dir: &Path) -> Check {
    let name = "free space";
    match rustix::fs::statvfs(dir) {
        Ok(s) => {
            let (free, total) = (
                s.f_bavail.saturating_mul(s.f_frsize),
                s.f_blocks.saturating_mul(s.f_frsize),
            );
            let found = format!(
                "{} of {}",
                crate::cli::size::human(free),
                crate::cli::size::human(total)
            );
            if free < LITTLE {
                Check::warn(
                    name,
                    found,
                    "make room, or name another place with --pool or COWFS_POOL",
                )
            } else {
                Check::ok(name, found)
            }
        }
        Err(e) => Check::warn(name, e.to_string(), ""),
    }
}

/// Two files without names.
fn scratch(dir: &Path) -> std::io::Result<(File, File)> {
    let unnamed = || -> std::io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        if let Ok(fd) = rustix::fs::open(dir, flags | OFlags::TMPFILE, Mode::from_raw_mode(0o600)) {
            return Ok(File::from(fd));
        }
        let path = dir.join(format!(".cowfs-doctor-{}", std::process::id()));
        let fd = rustix::fs::open(
            &path,
            flags | OFlags::CREATE | OFlags::EXCL,
            Mode::from_raw_mode(0o600),
        )?;
        std::fs::remove_file(&path)?;
        Ok(File::from(fd))
    };
    let a = unnamed()?;
    a.write_all_at(&vec![0x5a; SIZE as usize], 0)?;
    a.sync_data()?;
    Ok((a, unnamed()?))
}

fn punch(file: &File) -> Check {
    let name = "punching holes";
    let before = file.metadata().map_or(0, |m| m.blocks());
    let punched = rustix::fs::fallocate(
        file,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        0,
        SIZE / 2,
    );
    let gained = file
        .sync_data()
        .ok()
        .and_then(|()| file.metadata().ok())
        .map_or(0, |m| before.saturating_sub(m.blocks()));
    match punched {
        Ok(()) if gained > 0 => Check::ok(name, "works: what is removed goes back to the disk"),
        Ok(()) => Check::warn(
            name,
            "is accepted but frees nothing",
            "removed data stays on the disk until it is used again; use ext4, xfs, btrfs or tmpfs",
        ),
        Err(e) => Check::warn(
            name,
            e.to_string(),
            "removed data stays on the disk until it is used again; use ext4, xfs, btrfs or tmpfs",
        ),
    }
}

fn reflink(from: &File, to: &File) -> Check {
    let name = "reflinks";
    match rustix::fs::ioctl_ficlone(to.as_fd(), from.as_fd()) {
        Ok(()) => Check::ok(name, "work; copies of a pool directory are instant"),
        Err(_) => Check::ok(name, "not here (btrfs and xfs have them); cowfs needs none"),
    }
}
