//! What podman mounts in a container: /proc, /dev, /sys, the files of the network, volumes; and what
//! it hides of the kernel's files. Done from outside the root, in the container's own namespaces.

use super::inroot::{InRoot, proc_path};
use super::spec::Spec;
use crate::base::{Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount,
    mount_bind, mount_bind_recursive, mount_remount,
};
use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Hidden behind emptiness, as podman does.
pub const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/fs/selinux",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
];
/// Shown, but not to be written, as podman does.
pub const READ_ONLY: [&str; 6] = [
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
/// Bytes of /dev/shm, as podman's.
pub const SHM_SIZE: &str = "65536000";
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("/proc/kcore", "core"),
    ("pts/ptmx", "ptmx"),
];

/// The private place of a run: a tmpfs that nobody else sees, with the root's mount point and the
/// files made for the container.
pub struct Base {
    pub dir: PathBuf,
    /// Mounts attached to nothing, made before the tmpfs hides what lies beneath.
    volumes: Vec<OwnedFd>,
}

impl Base {
    /// Makes all mounts of this namespace private, then the place.
    pub fn make(spec: &Spec) -> Result<Base> {
        rustix::mount::mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )
        .map_err(|e| Error::io("cannot make this namespace's mounts private", e.into()))?;
        let mut volumes = vec![];
        for v in &spec.volumes {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE;
            let tree = rustix::mount::open_tree(rustix::fs::CWD, &v.source, flags)
                .map_err(|e| Error::io(format!("volume {}", v.source.display()), e.into()))?;
            volumes.push(tree);
        }
        let dir = ["/tmp", "/var/tmp", "/mnt", "/run", "/srv"]
            .iter()
            .map(Path::new)
            .find(|d| d.is_dir());
        let dir = dir.ok_or_else(|| {
            Error::Denied(
                "this machine has none of /tmp, /var/tmp, /mnt, /run, /srv to mount on".into(),
            )
        })?;
        fs(
            "tmpfs",
            dir,
            "tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV,
            "mode=0755",
        )?;
        let base = Base {
            dir: dir.to_path_buf(),
            volumes,
        };
        base.make_dir("root")?;
        base.make_dir("files")?;
        for (name, bytes) in &spec.files {
            base.write(&base.file(name), bytes)?;
        }
        Ok(base)
    }

    /// Where the container's root goes.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Where a file made for the container is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join("files").join(name.replace('/', "-"))
    }

    pub fn make_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        std::fs::create_dir(&dir).map_err(|e| Error::io(dir.display().to_string(), e))?;
        Ok(dir)
    }

    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(path)
            .map_err(|e| Error::io(path.display().to_string(), e))?;
        file.write_all(bytes)
            .map_err(|e| Error::io(path.display().to_string(), e))
    }

    /// Whether a volume is a directory.
    fn volume_is_dir(&self, index: usize) -> bool {
        self.volumes
            .get(index)
            .and_then(|tree| rustix::fs::fstat(tree).ok())
            .is_some_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFDIR)
    }

    /// Puts a volume in its place. Once each.
    fn put_volume(&self, index: usize, target: &OwnedFd, what: &str) -> Result<()> {
        let Some(tree) = self.volumes.get(index) else {
            return Ok(());
        };
        let flags =
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(tree, c"", target, c"", flags).map_err(|e| failed(what, e))
    }

    /// Puts a volume under a name in the private place, for another program to find.
    pub fn expose_volume(&self, index: usize) -> Result<PathBuf> {
        let name = format!("volume-{index}");
        let place = if self.volume_is_dir(index) {
            self.make_dir(&name)?
        } else {
            let file = self.dir.join(&name);
            self.write(&file, b"")?;
            file
        };
        let target = rustix::fs::open(&place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::io(place.display().to_string(), e.into()))?;
        self.put_volume(index, &target, &place.display().to_string())?;
        Ok(place)
    }
}

/// All of it. `root` is the container's root directory, `tty` whether group 5 exists here.
/// Answers with what did not work out and the user should know.
pub fn all(root: InRoot<'_>, base: &Base, spec: &Spec, tty: bool) -> Result<Vec<String>> {
    let mut warnings = vec![];
    warnings.extend(proc(root)?);
    dev(root, spec, tty)?;
    sys(root)?;
    for path in MASKED {
        mask(root, Path::new(path))?;
    }
    for path in READ_ONLY {
        read_only(root, Path::new(path))?;
    }
    for (name, _) in &spec.files {
        // A container without /etc, read-only, or with a link to nowhere there still runs.
        match root.file(Path::new(name)) {
            Ok(target) => bind(&base.file(name), &target, name)?,
            Err(e) => log::debug!("not given to the container: {e}"),
        }
    }
    for (i, v) in spec.volumes.iter().enumerate() {
        let what = v.target.display().to_string();
        let target = if base.volume_is_dir(i) {
            root.directory(&v.target)?.0
        } else {
            root.file(&v.target)?
        };
        base.put_volume(i, &target, &what)?;
        if v.read_only {
            let there = found(root, &v.target)?;
            recursive_read_only(&there).map_err(|e| failed(&what, e))?;
        }
    }
    if spec.read_only {
        let there = found(root, Path::new(""))?;
        mount_remount(
            proc_path(&there),
            MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV,
            c"",
        )
        .map_err(|e| failed("/", e))?;
    }
    Ok(warnings)
}

fn proc(root: InRoot<'_>) -> Result<Option<String>> {
    let target = plain_dir(root, "proc")?;
    let path = proc_path(&target);
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount("proc", &path, "proc", flags, None) {
        Ok(()) => Ok(None),
        // In a container whose /proc has parts masked the kernel refuses a fresh one.
        Err(Errno::PERM) => {
            mount_bind_recursive("/proc", &path).map_err(|e| failed("/proc", e))?;
            Ok(Some("a fresh /proc is refused here (an outer container masks its own): the container sees the outer one's processes".into()))
        }
        Err(e) => Err(failed("/proc", e)),
    }
}

fn dev(root: InRoot<'_>, spec: &Spec, tty: bool) -> Result<()> {
    let target = plain_dir(root, "dev")?;
    fs(
        "tmpfs",
        &proc_path(&target),
        "tmpfs",
        MountFlags::NOSUID | MountFlags::STRICTATIME,
        "mode=755,size=65536k",
    )?;
    let dev = found(root, Path::new("dev"))?;
    let at = InRoot(dev.as_fd());
    for name in DEVICES {
        let host = Path::new("/dev").join(name);
        if host.exists() {
            bind(&host, &at.file(Path::new(name))?, name)?;
        }
    }
    for (to, name) in LINKS {
        rustix::fs::symlinkat(to, &dev, name).map_err(|e| failed(&format!("/dev/{name}"), e))?;
    }
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC;
    let group = if tty { ",gid=5" } else { "" };
    let pts = at.directory(Path::new("pts"))?.0;
    fs(
        "devpts",
        &proc_path(&pts),
        "devpts",
        quiet,
        &format!("newinstance,ptmxmode=0666,mode=0620{group}"),
    )?;
    let shm = at.directory(Path::new("shm"))?.0;
    fs(
        "shm",
        &proc_path(&shm),
        "tmpfs",
        quiet | MountFlags::NODEV,
        &format!("mode=1777,size={SHM_SIZE}"),
    )?;
    let mqueue = at.directory(Path::new("mqueue"))?.0;
    if let Err(e) = fs(
        "mqueue",
        &proc_path(&mqueue),
        "mqueue",
        quiet | MountFlags::NODEV,
        "",
    ) {
        log::debug!("no message queues in the container: {e}");
    }
    if let Some(tty) = spec.terminal.as_deref().filter(|t| t.exists()) {
        bind(tty, &at.file(Path::new("console"))?, "console")?;
    }
    Ok(())
}

/// A fresh one where the kernel lets us (as root), else the host's; never to be written.
fn sys(root: InRoot<'_>) -> Result<()> {
    let target = plain_dir(root, "sys")?;
    let path = proc_path(&target);
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    match mount("sysfs", &path, "sysfs", flags | MountFlags::RDONLY, None) {
        Ok(()) => {
            if let Some(cgroup) = root.find(Path::new("sys/fs/cgroup"))? {
                match mount_bind_recursive("/sys/fs/cgroup", proc_path(&cgroup)) {
                    Ok(()) => recursive_read_only(&found(root, Path::new("sys/fs/cgroup"))?)
                        .map_err(|e| failed("/sys/fs/cgroup", e))?,
                    Err(e) => log::debug!("no /sys/fs/cgroup in the container: {e}"),
                }
            }
            Ok(())
        }
        // The network namespace is not ours.
        Err(_) => {
            mount_bind_recursive("/sys", &path).map_err(|e| failed("/sys", e))?;
            recursive_read_only(&found(root, Path::new("sys"))?).map_err(|e| failed("/sys", e))
        }
    }
}

/// Like MS_REMOUNT|MS_BIND on each mount of the tree, adding to what each has already.
fn recursive_read_only(there: &OwnedFd) -> rustix::io::Result<()> {
    /// struct mount_attr of linux/mount.h.
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        userns_fd: u64,
    }
    const RDONLY: u64 = 1;
    const RECURSIVE: libc::c_uint = 0x8000;
    let attr = MountAttr {
        set: RDONLY,
        clear: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let flags = RECURSIVE | libc::AT_EMPTY_PATH as libc::c_uint;
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor is open, the path a terminated empty string, the struct as large as said.
    let r = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            there.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &attr,
            size_of::<MountAttr>(),
        )
    };
    match r {
        0 => Ok(()),
        _ => {
            let e = std::io::Error::last_os_error();
            match Errno::from_io_error(&e) {
                // Before Linux 5.12: the topmost alone.
                Some(Errno::NOSYS) => {
                    mount_remount(proc_path(there), MountFlags::BIND | MountFlags::RDONLY, c"")
                }
                e => Err(e.unwrap_or(Errno::IO)),
            }
        }
    }
}

fn mask(root: InRoot<'_>, path: &Path) -> Result<()> {
    let Some(target) = root.find(path)? else {
        return Ok(());
    };
    let place = proc_path(&target);
    let directory =
        rustix::fs::fstat(&target).is_ok_and(|s| s.st_mode & libc::S_IFMT == libc::S_IFDIR);
    if directory {
        fs("tmpfs", &place, "tmpfs", MountFlags::RDONLY, "size=0k")
    } else {
        bind(Path::new("/dev/null"), &target, &path.display().to_string())
    }
}

fn read_only(root: InRoot<'_>, path: &Path) -> Result<()> {
    let Some(target) = root.find(path)? else {
        return Ok(());
    };
    let what = path.display().to_string();
    let place = proc_path(&target);
    mount_bind_recursive(&place, &place).map_err(|e| failed(&what, e))?;
    let there = found(root, path)?;
    let flags = MountFlags::BIND
        | MountFlags::RDONLY
        | MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC;
    mount_remount(proc_path(&there), flags, c"").map_err(|e| failed(&what, e))
}

/// A directory at the top of the root that must not be a symbolic link.
fn plain_dir(root: InRoot<'_>, name: &str) -> Result<OwnedFd> {
    let made = rustix::fs::mkdirat(root.0, name, Mode::from_raw_mode(0o755));
    if let Err(e) = made.or_else(|e| if e == Errno::EXIST { Ok(()) } else { Err(e) }) {
        return Err(Error::io(
            format!("cannot make the directory /{name} in the container"),
            e.into(),
        ));
    }
    rustix::fs::openat(
        root.0,
        name,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|e| {
        Error::io(
            format!("/{name} in the container must be a directory"),
            e.into(),
        )
    })
}

/// What is on top there now.
fn found(root: InRoot<'_>, path: &Path) -> Result<OwnedFd> {
    root.find(path)?
        .ok_or_else(|| Error::NotFound(format!("/{} in the container vanished", path.display())))
}

fn bind(source: &Path, target: &OwnedFd, what: &str) -> Result<()> {
    mount_bind(source, proc_path(target)).map_err(|e| failed(what, e))
}

fn fs(source: &str, target: &Path, kind: &str, flags: MountFlags, data: &str) -> Result<()> {
    let data =
        CString::new(data).map_err(|_| Error::Invalid("mount options with a zero byte".into()))?;
    mount(source, target, kind, flags, data.as_c_str()).map_err(|e| failed(kind, e))
}

fn failed(what: &str, e: Errno) -> Error {
    Error::io(format!("cannot mount {what} in the container"), e.into())
}

/// Makes `root` the root of this namespace and lets go of the old one.
pub fn pivot(root: &Path) -> Result<()> {
    let what = |e: Errno| Error::io("cannot enter the container's root", e.into());
    let old = rustix::fs::open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(what)?;
    rustix::process::chdir(root).map_err(what)?;
    rustix::process::pivot_root(".", ".").map_err(what)?;
    rustix::process::fchdir(&old).map_err(what)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(what)?;
    rustix::process::chdir("/").map_err(what)?;
    Ok(())
}
