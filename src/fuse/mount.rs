//! Making and ending a mount, in the process of whoever asks for it.
//!
//! In two steps, so that a mount becomes visible only once it is usable: `prepare` opens /dev/fuse and
//! makes a mount attached to nothing; its device goes to the daemon, which answers when the kernel's INIT
//! is done; `Pending::attach` then puts the mount in its place. Where the kernel refuses us (an ordinary
//! user) fusermount3 mounts for us, at once.

use super::fusermount;
use super::mountinfo::{self, MountInfo};
use super::options::{Atime, MountOptions};
use crate::base::{Error, Result};
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
};
use std::ffi::CString;
use std::fmt::Write;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// By which means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum How {
    /// The kernel, and fusermount3 where that is refused.
    #[default]
    Auto,
    /// The kernel alone: as root, or in a user namespace of one's own.
    Kernel,
    /// fusermount3 alone.
    Fusermount,
}

/// A mount made but not yet in its place; dropped, it is gone again.
#[derive(Debug)]
pub struct Pending {
    dir: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    Detached(OwnedFd),
    /// Made in its place at once; to be undone unless `attach` says it is good.
    There(By),
    Kept,
}

#[derive(Clone, Copy, Debug)]
enum By {
    Kernel,
    Fusermount,
}

/// What `prepare` answers: the device for the daemon, and the mount to come.
#[derive(Debug)]
pub struct Prepared {
    /// Send it to the daemon, and close it here: the mount dies with its last copy.
    pub device: OwnedFd,
    pub pending: Pending,
}

/// First step. `source` is shown as the mount's source unless `fsname=` says otherwise.
///
/// Errors: `NotFound` and `Invalid` where `dir` is no directory, `Busy` where a cowfs is mounted on it
/// already, `Denied` where this user cannot mount, with what to do about it.
pub fn prepare(how: How, source: &str, dir: &Path, options: &MountOptions) -> Result<Prepared> {
    let dir = mount_point(dir)?;
    let source = options.fsname.as_deref().unwrap_or(source);
    let refused = match how {
        How::Fusermount => None,
        How::Auto | How::Kernel => match by_kernel(source, &dir, options) {
            Ok(prepared) => return Ok(prepared),
            Err(e @ Error::Denied(_)) if how == How::Auto => Some(e),
            Err(e) => return Err(e),
        },
    };
    match fusermount::mount(source, &dir, options) {
        Ok(device) => Ok(Prepared {
            device,
            pending: Pending {
                dir,
                state: State::There(By::Fusermount),
            },
        }),
        Err(Error::NotFound(missing)) => Err(match refused {
            Some(Error::Denied(why)) => Error::Denied(format!("{why}; and {missing}")),
            _ => Error::Denied(missing),
        }),
        Err(e) => Err(e),
    }
}

impl Pending {
    /// The directory, absolute and without symbolic links.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Second step: from now on everybody sees it.
    pub fn attach(mut self) -> Result<()> {
        if let State::Detached(mount) = &self.state {
            rustix::mount::move_mount(
                mount.as_fd(),
                c"",
                CWD,
                &self.dir,
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            )
            .map_err(|e| refused(format!("cannot mount on {}", self.dir.display()), e))?;
        }
        self.state = State::Kept;
        Ok(())
    }

    /// The number under which /sys/fs/fuse/connections knows this connection. Asks the file system nothing.
    pub fn connection(&self) -> Result<u32> {
        let flags = AtFlags::STATX_DONT_SYNC | AtFlags::EMPTY_PATH;
        let stat = match &self.state {
            State::Detached(mount) => rustix::fs::statx(mount, c"", flags, StatxFlags::empty()),
            _ => rustix::fs::statx(
                CWD,
                &self.dir,
                AtFlags::STATX_DONT_SYNC,
                StatxFlags::empty(),
            ),
        }
        .map_err(|e| {
            Error::io(
                format!("cannot ask for the device number of {}", self.dir.display()),
                e.into(),
            )
        })?;
        Ok((stat.stx_dev_major << 20) | stat.stx_dev_minor)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let undone = match self.state {
            State::There(By::Kernel) => {
                rustix::mount::unmount(&self.dir, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
                    .map_err(io::Error::from)
            }
            State::There(By::Fusermount) => fusermount::unmount(&self.dir, true),
            State::Detached(_) | State::Kept => Ok(()),
        };
        if let Err(e) = undone {
            log::warn!("cannot undo the mount on {}: {e}", self.dir.display());
        }
    }
}

/// The directory to mount on, as the kernel will name it.
fn mount_point(dir: &Path) -> Result<PathBuf> {
    let what = dir.display();
    let real = dir.canonicalize().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::NotFound(format!("mount point {what} does not exist")),
        _ => Error::io(format!("cannot use {what} as a mount point"), e),
    })?;
    // What is mounted there may be dead and answer nothing; the table tells all the same.
    if let Some(there) = mountinfo::mounted_on(&real)?.filter(MountInfo::is_cowfs) {
        return Err(Error::Busy(format!(
            "{} is already mounted on {what}; unmount it first",
            there.source.display()
        )));
    }
    if !real.is_dir() {
        return Err(Error::Invalid(format!(
            "mount point {what} is not a directory"
        )));
    }
    Ok(real)
}

fn by_kernel(source: &str, dir: &Path, options: &MountOptions) -> Result<Prepared> {
    let device = open_device()?;
    match detached(&device, source, options) {
        Ok(mount) => Ok(Prepared {
            device,
            pending: Pending {
                dir: dir.into(),
                state: State::Detached(mount),
            },
        }),
        // No such call in this kernel, or a filter before it that may let the old one pass.
        Err((_, Errno::NOSYS | Errno::PERM)) => {
            at_once(&device, source, dir, options)?;
            Ok(Prepared {
                device,
                pending: Pending {
                    dir: dir.into(),
                    state: State::There(By::Kernel),
                },
            })
        }
        Err((what, e)) => Err(refused(what, e)),
    }
}

fn open_device() -> Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags, open};
    open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|e| match e {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => Error::Denied(
            "there is no /dev/fuse here: 'modprobe fuse', or give the container that device".into(),
        ),
        Errno::PERM | Errno::ACCESS => Error::Denied(
            "cannot open /dev/fuse: permission denied; root can open it to users with 'chmod 666 /dev/fuse'".into(),
        ),
        e => refused("cannot open /dev/fuse".into(), e),
    })
}

/// By fsopen(2) and its like. The error says which step failed, in the kernel's words where it has some.
fn detached(
    device: &OwnedFd,
    source: &str,
    options: &MountOptions,
) -> Result<OwnedFd, (String, Errno)> {
    let fs = rustix::mount::fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|e| ("cannot mount".to_owned(), e))?;
    let step = |done: rustix::io::Result<()>, what: &str| {
        done.map_err(|e| (format!("cannot mount: {what}: {}", complaint(&fs, e)), e))
    };
    let text =
        |key: &str, value: &str| step(rustix::mount::fsconfig_set_string(&fs, key, value), key);
    let flag = |key: &str| step(rustix::mount::fsconfig_set_flag(&fs, key), key);
    text("source", source)?;
    text("subtype", "cowfs")?;
    // As text: before Linux 6.14 the kernel takes no descriptor here.
    text("fd", &device.as_raw_fd().to_string())?;
    text("rootmode", "40000")?;
    text("user_id", &rustix::process::geteuid().as_raw().to_string())?;
    text("group_id", &rustix::process::getegid().as_raw().to_string())?;
    flag("default_permissions")?;
    if options.allow_other.unwrap_or(true) {
        flag("allow_other")?;
    }
    for (on, key) in [
        (options.read_only, "ro"),
        (options.sync, "sync"),
        (options.dirsync, "dirsync"),
    ] {
        if on {
            flag(key)?;
        }
    }
    step(
        rustix::mount::fsconfig_create(&fs),
        "making the file system",
    )?;
    rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes(options))
        .map_err(|e| ("cannot mount: fsmount".to_owned(), e))
}

/// What the kernel left to read on a failed file system context: `e fuse: Bad value for 'fd'`.
fn complaint(fs: &OwnedFd, e: Errno) -> String {
    let mut line = [0u8; 256];
    match rustix::io::read(fs, &mut line) {
        Ok(n) => String::from_utf8_lossy(line.get(..n).unwrap_or_default())
            .trim_start_matches(['e', 'w', 'i', ' '])
            .trim_end()
            .to_owned(),
        Err(_) => io::Error::from(e).to_string(),
    }
}

fn attributes(options: &MountOptions) -> MountAttrFlags {
    let mut attributes = match options.atime {
        Atime::Relatime => MountAttrFlags::MOUNT_ATTR_RELATIME,
        Atime::Noatime => MountAttrFlags::MOUNT_ATTR_NOATIME,
        Atime::Strictatime => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
    };
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, options.read_only);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, options.nodev);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, options.nosuid);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, options.noexec);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODIRATIME, options.nodiratime);
    attributes
}

/// By mount(2), which knows no detached mounts.
fn at_once(device: &OwnedFd, source: &str, dir: &Path, options: &MountOptions) -> Result<()> {
    let mut flags = MountFlags::empty();
    flags.set(MountFlags::RDONLY, options.read_only);
    flags.set(MountFlags::NODEV, options.nodev);
    flags.set(MountFlags::NOSUID, options.nosuid);
    flags.set(MountFlags::NOEXEC, options.noexec);
    flags.set(MountFlags::NODIRATIME, options.nodiratime);
    flags.set(MountFlags::SYNCHRONOUS, options.sync);
    flags.set(MountFlags::DIRSYNC, options.dirsync);
    flags |= match options.atime {
        Atime::Relatime => MountFlags::RELATIME,
        Atime::Noatime => MountFlags::NOATIME,
        Atime::Strictatime => MountFlags::STRICTATIME,
    };
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let mut data = format!(
        "fd={},rootmode=40000,user_id={uid},group_id={gid},default_permissions",
        device.as_raw_fd()
    );
    if options.allow_other.unwrap_or(true) {
        let _ = write!(data, ",allow_other");
    }
    let data =
        CString::new(data).map_err(|_| Error::Invalid("mount options with a zero byte".into()))?;
    rustix::mount::mount(source, dir, super::FS_TYPE, flags, data.as_c_str())
        .map_err(|e| refused(format!("cannot mount on {}", dir.display()), e))
}

fn refused(what: String, e: Errno) -> Error {
    match e {
        Errno::PERM | Errno::ACCESS => Error::Denied(format!("{what}: {}", io::Error::from(e))),
        Errno::BUSY => Error::Busy(format!("{what}: it is in use")),
        e => Error::io(what, e.into()),
    }
}

/// How hard to unmount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmount {
    /// Fails where somebody uses it.
    #[default]
    Plain,
    /// Gone from sight at once, for good when its last user leaves.
    Lazy,
    /// Ends the connection first: whoever uses it gets errors, what was not written is lost.
    Force,
}

/// Ends a cowfs mount: the topmost on that directory. What the kernel still keeps of writes reaches the
/// daemon before this returns (not with `Force`); making it durable is asked of the daemon.
///
/// Errors: `NotFound` where nothing is mounted there, `Invalid` where it is no directory, `Denied` where
/// what is mounted there is not ours or not this user's, `Busy` where somebody uses it.
pub fn unmount(dir: &Path, how: Unmount) -> Result<MountInfo> {
    let there = find(dir)?;
    let what = dir.display();
    if how == Unmount::Force {
        // Best effort: MNT_FORCE does the same for those who may unmount at all.
        if let Err(e) = abort(there.connection()) {
            log::debug!("no abort of connection {}: {e}", there.connection());
        }
    }
    let flags = UnmountFlags::NOFOLLOW
        | match how {
            Unmount::Plain => UnmountFlags::empty(),
            Unmount::Lazy => UnmountFlags::DETACH,
            Unmount::Force => UnmountFlags::DETACH | UnmountFlags::FORCE,
        };
    match rustix::mount::unmount(&there.dir, flags) {
        Ok(()) => Ok(there),
        Err(Errno::BUSY) => Err(busy(dir)),
        // Unmounted by another meanwhile.
        Err(Errno::INVAL) => Err(not_mounted(dir)),
        Err(Errno::PERM) => match fusermount::unmount(&there.dir, how != Unmount::Plain) {
            Ok(()) => Ok(there),
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy => Err(busy(dir)),
            Err(e) => Err(Error::Denied(format!("cannot unmount {what}: {e}"))),
        },
        Err(e) => Err(refused(format!("cannot unmount {what}"), e)),
    }
}

fn busy(dir: &Path) -> Error {
    Error::Busy(format!(
        "{0} is in use; 'fuser -vm {0}' names by whom",
        dir.display()
    ))
}

fn not_mounted(dir: &Path) -> Error {
    Error::NotFound(format!("nothing is mounted on {}", dir.display()))
}

/// The cowfs mount on this directory. Touches only what lies above the mount: it may be dead.
pub fn find(dir: &Path) -> Result<MountInfo> {
    let what = dir.display();
    let real = resolve(dir).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::NotFound(format!("{what} does not exist")),
        _ => Error::io(format!("cannot look at {what}"), e),
    })?;
    match mountinfo::mounted_on(&real)? {
        Some(there) if there.is_cowfs() => Ok(there),
        Some(there) => Err(Error::Denied(format!(
            "what is mounted on {what} is {}, not a cowfs",
            there.fs_type
        ))),
        None => match real.symlink_metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(Error::NotFound(format!("{what} does not exist")))
            }
            Ok(m) if !m.is_dir() => Err(Error::Invalid(format!("{what} is not a directory"))),
            _ => Err(not_mounted(dir)),
        },
    }
}

/// As canonicalize, but without asking the last component anything unless it is a symbolic link.
fn resolve(dir: &Path) -> io::Result<PathBuf> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return dir.canonicalize();
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let real = parent.canonicalize()?.join(name);
    match std::fs::read_link(&real) {
        Ok(_) => real.canonicalize(),
        Err(_) => Ok(real),
    }
}

/// Ends a connection: every request waiting or to come fails. For root, and for the user who made the mount.
pub fn abort(connection: u32) -> Result<()> {
    use rustix::fs::{Mode, OFlags, openat};
    let what = format!("cannot abort FUSE connection {connection}");
    let path = format!("/sys/fs/fuse/connections/{connection}/abort");
    let written = match std::fs::write(&path, "1") {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // The control file system is not mounted here, as in most containers: a look at it of our own.
            let control = || -> rustix::io::Result<()> {
                let fs = rustix::mount::fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC)?;
                rustix::mount::fsconfig_create(&fs)?;
                let mount = rustix::mount::fsmount(
                    &fs,
                    FsMountFlags::FSMOUNT_CLOEXEC,
                    MountAttrFlags::empty(),
                )?;
                let file = openat(
                    &mount,
                    format!("{connection}/abort"),
                    OFlags::WRONLY | OFlags::CLOEXEC,
                    Mode::empty(),
                )?;
                rustix::io::write(&file, b"1")?;
                Ok(())
            };
            control().map_err(io::Error::from)
        }
        other => other,
    };
    written.map_err(|e| Error::io(what, e))
}

/// Sends what the kernel keeps of writes to this mount's files to the daemon. (The daemon alone decides when
/// it becomes durable.) `dir` is any directory of the mount.
pub fn flush(dir: &Path) -> Result<()> {
    let what = || format!("cannot flush {}", dir.display());
    let dir = std::fs::File::open(dir).map_err(|e| Error::io(what(), e))?;
    rustix::fs::syncfs(&dir).map_err(|e| Error::io(what(), e.into()))
}
