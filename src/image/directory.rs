//! A root file system found in a directory: walked by descriptors, never through a symbolic link.
//!
//! What is mounted inside stays outside: the mount point becomes an empty directory, so a root in
//! use can be imported without its /proc. Sockets are left out, as tar does.

use super::apply::{Applier, Node, Placed, within};
use super::digest::{Algorithm, Digest, Hasher, shown};
use super::tar::Kind;
use super::{Progress, stopped};
use crate::base::{Error, Ino, Result, Time};
use crate::fs::{Cred, SetAttr, XATTR_MAX};
use rustix::fs::{AtFlags, Dir, Mode, OFlags, Statx, StatxFlags};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Bytes read from a file at a time.
const PIECE: usize = 1 << 20;

/// Names still to visit in one directory, the next one last.
struct Level {
    fd: OwnedFd,
    path: Vec<u8>,
    names: Vec<Vec<u8>>,
}

pub struct Walk<'a> {
    applier: Applier,
    progress: &'a dyn Progress,
    /// Files with several names that were seen: by device and inode.
    seen: HashMap<(u64, u64), Ino>,
    /// Of everything imported, in order: names this content.
    hasher: Hasher,
    bytes: u64,
    buf: Vec<u8>,
}

/// What an import of a directory amounts to.
pub struct Walked {
    /// Identity of the content: the same directory gives the same.
    pub digest: Digest,
    /// Bytes of the files.
    pub bytes: u64,
}

impl<'a> Walk<'a> {
    pub fn new(applier: Applier, progress: &'a dyn Progress) -> Walk<'a> {
        Walk {
            applier,
            progress,
            seen: HashMap::new(),
            hasher: Hasher::new(Algorithm::Sha256),
            bytes: 0,
            buf: vec![0; PIECE],
        }
    }

    pub fn run(mut self, root: &OwnedFd) -> Result<Walked> {
        let fd = rustix::fs::openat(
            root,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| refused(b"/", e))?;
        let stat = look(&fd, b"", AtFlags::EMPTY_PATH).map_err(|e| refused(b"/", e))?;
        let mut node = node(Kind::Directory, &stat);
        node.xattrs = xattrs(&fd, None).map_err(|e| refused(b"/", e))?;
        self.applier.root(&node)?;
        self.record(b"", &node);
        let names = names(&fd, b"/")?;
        let mut levels = vec![Level {
            fd,
            path: Vec::new(),
            names,
        }];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                levels.pop();
                continue;
            };
            let mut path = level.path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            if let Some(below) = self
                .visit(&level.fd, &name, path.clone())
                .map_err(|e| within(e, &path))?
            {
                levels.push(below);
            }
            self.progress.read(self.bytes, None);
            if self.progress.stopped() {
                return Err(stopped());
            }
        }
        self.applier.finish()?;
        Ok(Walked {
            digest: self.hasher.finish(),
            bytes: self.bytes,
        })
    }

    /// One name; a directory is to be entered.
    fn visit(&mut self, dir: &OwnedFd, name: &[u8], path: Vec<u8>) -> Result<Option<Level>> {
        let stat = look(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| refused(&path, e))?;
        let kind = match u32::from(stat.stx_mode) & libc::S_IFMT {
            libc::S_IFREG => Kind::File,
            libc::S_IFDIR => Kind::Directory,
            libc::S_IFLNK => Kind::Symlink,
            libc::S_IFCHR => Kind::CharDevice,
            libc::S_IFBLK => Kind::BlockDevice,
            libc::S_IFIFO => Kind::Fifo,
            _ => return Ok(None),
        };
        let identity = (
            u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor),
            stat.stx_ino,
        );
        if kind != Kind::Directory
            && let Some(&ino) = self.seen.get(&identity)
        {
            let (parent, last) = path
                .iter()
                .rposition(|&b| b == b'/')
                .map_or((&path[..0], &path[..]), |at| (&path[..at], &path[at + 1..]));
            self.applier.link(ino, parent, last, time(&stat))?;
            self.record_bytes(&path);
            self.record_bytes(&ino.to_le_bytes());
            return Ok(None);
        }
        let mut node = node(kind, &stat);
        let placed = match kind {
            Kind::Directory => return self.directory(dir, name, path, node, &stat),
            Kind::File => {
                let flags = OFlags::RDONLY
                    | OFlags::NOFOLLOW
                    | OFlags::NONBLOCK
                    | OFlags::NOCTTY
                    | OFlags::CLOEXEC;
                let fd = rustix::fs::openat(dir, name, flags, Mode::empty())
                    .map_err(|e| refused(&path, e))?;
                let again = look(&fd, b"", AtFlags::EMPTY_PATH).map_err(|e| refused(&path, e))?;
                if (again.stx_ino, u32::from(again.stx_mode) & libc::S_IFMT)
                    != (stat.stx_ino, libc::S_IFREG)
                {
                    return Err(Error::Invalid(
                        "it changed while it was read; import what stands still".into(),
                    ));
                }
                node.xattrs = xattrs(&fd, None).map_err(|e| refused(&path, e))?;
                self.record(&path, &node);
                let placed = self.applier.place(&path, &node)?;
                self.data(&File::from(fd), placed.ino(), node.size, &path)?;
                placed
            }
            _ => {
                if kind == Kind::Symlink {
                    node.target = rustix::fs::readlinkat(dir, name, Vec::new())
                        .map_err(|e| refused(&path, e))?
                        .into_bytes();
                }
                node.xattrs = xattrs(dir, Some(name)).map_err(|e| refused(&path, e))?;
                self.record(&path, &node);
                self.applier.place(&path, &node)?
            }
        };
        self.complete(&placed, &node, &stat, identity)?;
        Ok(None)
    }

    fn complete(
        &mut self,
        placed: &Placed,
        node: &Node,
        stat: &Statx,
        identity: (u64, u64),
    ) -> Result<()> {
        self.applier.complete(placed, node)?;
        if stat.stx_nlink > 1 {
            self.seen.insert(identity, placed.ino());
        }
        Ok(())
    }

    fn directory(
        &mut self,
        dir: &OwnedFd,
        name: &[u8],
        path: Vec<u8>,
        mut node: Node,
        stat: &Statx,
    ) -> Result<Option<Level>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mounted = stat.stx_attributes.bits() & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0;
        let fd = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
            // Another's mount (a FUSE one, say) may be closed even to root.
            Err(_) if mounted => None,
            opened => Some(opened.map_err(|e| refused(&path, e))?),
        };
        if let Some(fd) = &fd {
            node.xattrs = xattrs(fd, None).map_err(|e| refused(&path, e))?;
        }
        self.record(&path, &node);
        self.applier.place(&path, &node)?;
        match fd {
            Some(fd) if !mounted => {
                let names = names(&fd, &path)?;
                Ok(Some(Level { fd, path, names }))
            }
            _ => Ok(None),
        }
    }

    /// Data of a file, holes as holes.
    fn data(&mut self, file: &File, ino: Ino, size: u64, path: &[u8]) -> Result<()> {
        let fs = self.applier.fs().clone();
        let (mut at, mut written) = (0, 0);
        while at < size {
            let start = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
                Ok(start) => start.min(size),
                Err(Errno::NXIO) => break,
                // A file system that knows nothing of holes.
                Err(_) => at,
            };
            let end = match rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(start)) {
                Ok(end) if end > start => end.min(size),
                _ => size,
            };
            at = start;
            while at < end {
                let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
                let room = self.buf.get_mut(..most).unwrap_or_default();
                let n = file
                    .read_at(room, at)
                    .map_err(|e| Error::io(format!("cannot read '{}'", shown(path)), e))?;
                if n == 0 {
                    // It became shorter meanwhile: zeros, as tar has it.
                    at = size;
                    break;
                }
                let bytes = room.get(..n).unwrap_or_default();
                self.hasher.update(&at.to_le_bytes());
                self.hasher.update(bytes);
                fs.write(ino, at, bytes, false, false)?;
                at += n as u64;
                written = at;
                self.bytes += n as u64;
                if self.progress.stopped() {
                    return Err(stopped());
                }
            }
        }
        if written < size {
            fs.set_attr(
                ino,
                &SetAttr {
                    size: Some(size),
                    ..SetAttr::default()
                },
                &Cred::ROOT,
            )?;
        }
        Ok(())
    }

    fn record(&mut self, path: &[u8], node: &Node) {
        self.record_bytes(path);
        let head = format!(
            "{:?} {:o} {} {} {} {} {} {} {}",
            node.kind,
            node.mode,
            node.uid,
            node.gid,
            node.mtime.sec,
            node.mtime.nsec,
            node.rdev,
            node.size,
            node.xattrs.len()
        );
        self.record_bytes(head.as_bytes());
        self.record_bytes(&node.target);
        for (name, value) in &node.xattrs {
            self.record_bytes(name);
            self.record_bytes(value);
        }
    }

    /// With the length before, so that no two contents look the same.
    fn record_bytes(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }
}

fn look(dir: &OwnedFd, name: &[u8], flags: AtFlags) -> rustix::io::Result<Statx> {
    rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)
}

fn time(stat: &Statx) -> Time {
    Time {
        sec: stat.stx_mtime.tv_sec,
        nsec: stat.stx_mtime.tv_nsec,
    }
}

fn node(kind: Kind, stat: &Statx) -> Node {
    let (major, minor) = (stat.stx_rdev_major, stat.stx_rdev_minor);
    let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    Node {
        kind,
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime: time(stat),
        rdev: if device {
            minor & 0xff | (major & 0xfff) << 8 | (minor & !0xff) << 12
        } else {
            0
        },
        size: if kind == Kind::File { stat.stx_size } else { 0 },
        target: Vec::new(),
        xattrs: Vec::new(),
    }
}

/// Sorted backwards: the first one is popped first.
fn names(fd: &OwnedFd, path: &[u8]) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd).map_err(|e| refused(path, e))? {
        let name = entry
            .map_err(|e| refused(path, e))?
            .file_name()
            .to_bytes()
            .to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// Extended attributes of an open file, or of a name in an open directory that is not to be opened
/// (a device, a symbolic link): by way of /proc, there is no call for it.
fn xattrs(fd: &OwnedFd, name: Option<&[u8]>) -> rustix::io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let way = name.map(|name| {
        [
            format!("/proc/self/fd/{}/", fd.as_raw_fd()).as_bytes(),
            name,
        ]
        .concat()
    });
    let list = |buf: &mut [u8]| match &way {
        None => rustix::fs::flistxattr(fd, buf),
        Some(way) => rustix::fs::llistxattr(&way[..], buf),
    };
    let mut buf = vec![0u8; 1024];
    let n = match list(&mut buf[..]) {
        Err(Errno::RANGE) => {
            buf = vec![0u8; XATTR_MAX];
            list(&mut buf[..])?
        }
        // None at all here, or no way to ask.
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(Errno::NOENT) if way.is_some() => return Ok(Vec::new()),
        n => n?,
    };
    let mut found = Vec::new();
    for name in buf
        .get(..n)
        .unwrap_or_default()
        .split(|&b| b == 0)
        .filter(|n| !n.is_empty())
    {
        let mut value = vec![0u8; XATTR_MAX];
        let n = match &way {
            None => rustix::fs::fgetxattr(fd, name, &mut value[..]),
            Some(way) => rustix::fs::lgetxattr(&way[..], name, &mut value[..]),
        };
        match n {
            Ok(n) => value.truncate(n),
            // Gone meanwhile, or not for us to see.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => continue,
            Err(e) => return Err(e),
        }
        found.push((name.to_vec(), value));
    }
    found.sort();
    Ok(found)
}

fn refused(path: &[u8], e: Errno) -> Error {
    match e {
        Errno::ACCESS | Errno::PERM => Error::Denied(format!(
            "cannot read '{}': {e}; run as root, or as somebody who may read all of it",
            shown(path)
        )),
        e => Error::io(format!("cannot read '{}'", shown(path)), e.into()),
    }
}
