//! The files of an image archive, by name: in a directory, or inside a tar that can be read anywhere.

use super::digest::shown;
use super::pump::read_bounded;
use super::tar::{Feed, Kind, Walker, bad};
use crate::base::{Error, Result};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// More members than this and it is no image archive.
const MEMBERS: usize = 100_000;
/// Links from member to member followed.
const HOPS: usize = 16;

/// A stretch of a file, read from anywhere without moving the file's position.
#[derive(Clone)]
pub struct Stretch {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Stretch {
    pub fn new(file: Arc<File>, at: u64, end: u64) -> Stretch {
        Stretch { file, at, end }
    }

    pub fn len(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }
}

impl Read for Stretch {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.len())
            .unwrap_or(usize::MAX)
            .min(buf.len());
        let n = match buf.get_mut(..most) {
            Some(room) if most > 0 => self.file.read_at(room, self.at)?,
            _ => 0,
        };
        self.at += n as u64;
        Ok(n)
    }
}

/// A stretch as a feed for the tar walker: passing over data costs nothing.
pub struct Leaping {
    stretch: Stretch,
    buf: Vec<u8>,
    from: usize,
}

impl Leaping {
    pub fn new(stretch: Stretch) -> Leaping {
        Leaping {
            stretch,
            buf: Vec::new(),
            from: 0,
        }
    }
}

impl Feed for Leaping {
    fn fill(&mut self) -> Result<&[u8]> {
        if self.from >= self.buf.len() {
            self.buf.resize(4096, 0);
            let n = self
                .stretch
                .read(&mut self.buf)
                .map_err(|e| Error::io("cannot read", e))?;
            self.buf.truncate(n);
            self.from = 0;
        }
        Ok(self.buf.get(self.from..).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        self.from = self.from.saturating_add(n);
    }

    fn skip(&mut self, n: u64) -> Result<bool> {
        let have = self.buf.len().saturating_sub(self.from) as u64;
        if n <= have {
            self.from += n as usize;
            return Ok(true);
        }
        self.from = self.buf.len();
        let leap = n - have;
        if leap > self.stretch.len() {
            self.stretch.at = self.stretch.end;
            return Ok(false);
        }
        self.stretch.at += leap;
        Ok(true)
    }
}

pub enum Member {
    File { at: u64, size: u64 },
    Link(Vec<u8>),
}

/// What the names seen so far say about an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guess {
    /// Surely a root file system.
    Root,
    Open,
}

/// Top-level names that no image archive has and nearly every root file system does.
pub fn guess(path: &[u8], kind: Kind) -> Guess {
    const ROOTS: [&[u8]; 24] = [
        b"bin",
        b"boot",
        b"dev",
        b"etc",
        b"home",
        b"lib",
        b"lib32",
        b"lib64",
        b"libx32",
        b"media",
        b"mnt",
        b"opt",
        b"proc",
        b"root",
        b"run",
        b"sbin",
        b"srv",
        b"sys",
        b"tmp",
        b"usr",
        b"var",
        b"nix",
        b"gnu",
        b".dockerenv",
    ];
    let first = path
        .split(|&b| b == b'/')
        .find(|c| !c.is_empty() && *c != b".")
        .unwrap_or_default();
    let odd = matches!(kind, Kind::CharDevice | Kind::BlockDevice | Kind::Fifo);
    if odd || ROOTS.contains(&first) {
        Guess::Root
    } else {
        Guess::Open
    }
}

pub enum Members {
    Directory(OwnedFd),
    Archive {
        file: Arc<File>,
        index: HashMap<Vec<u8>, Member>,
    },
}

impl Members {
    /// Looks through a tar; `None` as soon as it is clear that it is a root file system.
    pub fn index(file: &Arc<File>, from: u64, end: u64) -> Result<Option<Members>> {
        let mut walker = Walker::new(Leaping::new(Stretch::new(file.clone(), from, end)));
        let mut index = HashMap::new();
        let mut entries = 0u64;
        while let Some(entry) = walker.next()? {
            entries += 1;
            if guess(&entry.path, entry.kind) == Guess::Root || index.len() >= MEMBERS {
                return Ok(None);
            }
            let path = plain(&entry.path);
            match entry.kind {
                Kind::File if entry.map.is_none() => {
                    index.insert(
                        path,
                        Member::File {
                            at: from.saturating_add(entry.position),
                            size: entry.size,
                        },
                    );
                }
                Kind::Symlink => {
                    let mut target = if entry.link.starts_with(b"/") {
                        Vec::new()
                    } else {
                        parent(&path).to_vec()
                    };
                    target.push(b'/');
                    target.extend_from_slice(&entry.link);
                    index.insert(path, Member::Link(plain(&target)));
                }
                Kind::Link => {
                    index.insert(path, Member::Link(plain(&entry.link)));
                }
                _ => {}
            }
        }
        if entries == 0 {
            return Err(bad(
                "holds nothing: it is not a tar archive, or an empty one",
            ));
        }
        Ok(Some(Members::Archive {
            file: file.clone(),
            index,
        }))
    }

    /// A file to be read from its start, with its size; `None`: no such member.
    pub fn open(&self, path: &str) -> Result<Option<Stretch>> {
        match self {
            Members::Directory(dir) => open_beneath(dir, path),
            Members::Archive { file, index } => {
                let mut path = plain(path.as_bytes());
                for _ in 0..HOPS {
                    match index.get(&path) {
                        None => return Ok(None),
                        Some(Member::File { at, size }) => {
                            return Ok(Some(Stretch::new(
                                file.clone(),
                                *at,
                                at.saturating_add(*size),
                            )));
                        }
                        Some(Member::Link(target)) => path = target.clone(),
                    }
                }
                Err(bad(format!(
                    "member '{}' is a link to a link without end",
                    shown(&path)
                )))
            }
        }
    }

    /// All of a short member.
    pub fn read(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>> {
        match self.open(path)? {
            None => Ok(None),
            Some(mut stretch) if stretch.len() <= most => {
                read_bounded(&mut stretch, most, path).map(Some)
            }
            Some(_) => Err(bad(format!("member '{path}' is longer than {most} bytes"))),
        }
    }

    pub fn has(&self, path: &str) -> bool {
        matches!(self.open(path), Ok(Some(_)))
    }

    /// Is there anything below this directory?
    pub fn has_below(&self, dir: &str) -> bool {
        match self {
            Members::Directory(fd) => beneath(fd, dir, OFlags::PATH | OFlags::DIRECTORY).is_ok(),
            Members::Archive { index, .. } => {
                let prefix = format!("{dir}/");
                index.keys().any(|k| k.starts_with(prefix.as_bytes()))
            }
        }
    }
}

fn beneath(dir: &OwnedFd, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat2(
        dir,
        path,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )
}

fn open_beneath(dir: &OwnedFd, path: &str) -> Result<Option<Stretch>> {
    use rustix::io::Errno;
    // Not to be held up by a fifo with a blob's name.
    let fd = match beneath(dir, path, OFlags::RDONLY | OFlags::NONBLOCK) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(e) => return Err(Error::io(format!("cannot open '{path}'"), e.into())),
    };
    let stat = rustix::fs::fstat(&fd)
        .map_err(|e| Error::io(format!("cannot look at '{path}'"), e.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    Ok(Some(Stretch::new(Arc::new(File::from(fd)), 0, size)))
}

/// Without empty and `.` parts; `..` takes one away, never more than there are.
fn plain(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&b| b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter()
        .rposition(|&b| b == b'/')
        .and_then(|at| path.get(..at))
        .unwrap_or_default()
}
