//! What an import reads from, and what that turns out to be: the bytes tell, never the name.

use super::digest::Algorithm;
use super::members::{Guess, Members, Stretch, guess};
use super::pump::{Compression, Pump, Sums, sniff};
use super::tar::{Feed, Walker, bad};
use super::{Progress, Step};
use crate::base::{Error, Result};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much of a stream is looked at before it is spooled.
const LOOK: usize = 1 << 20;
/// Bytes spooled between two looks at the room that is left.
const ROOM: u64 = 64 << 20;

/// A file, pipe or directory to import, already open.
#[derive(Debug)]
pub struct Source {
    fd: OwnedFd,
    display: String,
}

impl Source {
    /// A file or directory by its path. (Standard input is the caller's to pass with `from_fd`.)
    pub fn open(path: &Path) -> Result<Source> {
        let display = path.display().to_string();
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(
            |e| match e {
                rustix::io::Errno::NOENT => {
                    Error::NotFound(format!("{display}: no such file or directory"))
                }
                e => Error::io(format!("cannot open {display}"), e.into()),
            },
        )?;
        Ok(Source { fd, display })
    }

    /// What somebody else opened, for reading. `display` is what errors call it, and where a
    /// nameless image's name comes from; `-` means it has none.
    pub fn from_fd(fd: OwnedFd, display: impl Into<String>) -> Source {
        Source {
            fd,
            display: display.into(),
        }
    }

    pub fn display(&self) -> &str {
        &self.display
    }
}

/// What a source is.
pub(crate) enum Content {
    Oci(Members),
    Docker(Members),
    RootTar { stream: Stream, total: Option<u64> },
    RootDirectory(OwnedFd),
}

/// A running pump, with the bytes that were looked at put back before it.
pub(crate) struct Stream {
    head: Vec<u8>,
    at: usize,
    pump: Pump,
}

impl Stream {
    pub fn new(pump: Pump) -> Stream {
        Stream {
            head: Vec::new(),
            at: 0,
            pump,
        }
    }

    pub fn taken(&self) -> u64 {
        self.pump.taken()
    }

    pub fn finish(self) -> Result<Sums> {
        self.pump.finish()
    }
}

impl Feed for Stream {
    fn fill(&mut self) -> Result<&[u8]> {
        if self.at >= self.head.len() {
            return self.pump.fill();
        }
        Ok(self.head.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, n: usize) {
        if self.at >= self.head.len() {
            self.pump.consume(n);
        } else {
            self.at = self.at.saturating_add(n);
        }
    }
}

/// Finds out; may spool a stream into an unlinked file in `temp`.
pub(crate) fn detect(
    source: &Source,
    temp: Option<&Path>,
    progress: &dyn Progress,
) -> Result<Content> {
    let fail = |e: rustix::io::Errno| Error::io("cannot read", e.into());
    let stat = rustix::fs::fstat(&source.fd).map_err(fail)?;
    let fd = source
        .fd
        .try_clone()
        .map_err(|e| Error::io("cannot read", e))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => directory(fd),
        FileType::RegularFile => {
            let from = rustix::fs::seek(&fd, SeekFrom::Current(0)).map_err(fail)?;
            file(
                Arc::new(File::from(fd)),
                from,
                u64::try_from(stat.st_size).unwrap_or(0),
                temp,
                progress,
            )
        }
        FileType::BlockDevice => Err(bad(
            "is a block device; import reads archives and directories",
        )),
        _ => stream(
            Pump::start(
                Box::new(File::from(fd)),
                Algorithm::Sha256,
                Algorithm::Sha256,
            )?,
            None,
            temp,
            progress,
        ),
    }
}

fn directory(fd: OwnedFd) -> Result<Content> {
    let here =
        |name: &str| rustix::fs::statat(&fd, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).is_ok();
    if here("oci-layout") && here("index.json") {
        return Ok(Content::Oci(Members::Directory(fd)));
    }
    if here("manifest.json") && !["usr", "bin", "etc"].iter().any(|n| here(n)) {
        return Ok(Content::Docker(Members::Directory(fd)));
    }
    Ok(Content::RootDirectory(fd))
}

fn file(
    file: Arc<File>,
    from: u64,
    end: u64,
    temp: Option<&Path>,
    progress: &dyn Progress,
) -> Result<Content> {
    if from >= end {
        return Err(bad("is empty"));
    }
    let mut head = [0u8; 8];
    let n = file
        .read_at(&mut head, from)
        .map_err(|e| Error::io("cannot read", e))?;
    let whole = Stretch::new(file.clone(), from, end);
    let total = Some(whole.len());
    if sniff(head.get(..n).unwrap_or_default())? != Compression::None {
        return stream(
            Pump::start(Box::new(whole), Algorithm::Sha256, Algorithm::Sha256)?,
            total,
            temp,
            progress,
        );
    }
    match Members::index(&file, from, end)? {
        Some(members) => match image(members)? {
            Some(content) => Ok(content),
            None => root(whole),
        },
        None => root(whole),
    }
}

fn root(whole: Stretch) -> Result<Content> {
    let total = Some(whole.len());
    let pump = Pump::start(Box::new(whole), Algorithm::Sha256, Algorithm::Sha256)?;
    Ok(Content::RootTar {
        stream: Stream::new(pump),
        total,
    })
}

/// Which kind of image archive, if any.
fn image(members: Members) -> Result<Option<Content>> {
    // `docker save` writes both kinds at once: OCI has digests for everything.
    if members.has("index.json") && (members.has("oci-layout") || members.has_below("blobs")) {
        return Ok(Some(Content::Oci(members)));
    }
    if members.has("manifest.json") {
        return Ok(Some(Content::Docker(members)));
    }
    if members.has("repositories") {
        return Err(bad(
            "is an image saved by a Docker before 1.10, without manifest.json; save it again with a newer one",
        ));
    }
    Ok(None)
}

/// A stream cannot be read twice. Its first bytes mostly tell that it is a root file system, to be
/// applied on the fly; anything else goes into a file first, for the order of members is free.
fn stream(
    mut pump: Pump,
    total: Option<u64>,
    temp: Option<&Path>,
    progress: &dyn Progress,
) -> Result<Content> {
    let mut head = Vec::new();
    while head.len() < LOOK {
        let piece = pump.fill()?;
        if piece.is_empty() {
            break;
        }
        let n = piece.len();
        head.extend_from_slice(piece);
        pump.consume(n);
    }
    if head.is_empty() {
        return Err(bad("is empty"));
    }
    let mut walker = Walker::new(&head[..]);
    let mut first = true;
    loop {
        match walker.next() {
            Ok(Some(entry)) => {
                if guess(&entry.path, entry.kind) == Guess::Root {
                    return Ok(Content::RootTar {
                        stream: Stream { head, at: 0, pump },
                        total,
                    });
                }
            }
            // Not a tar at all: not worth a copy.
            Err(e) if first => return Err(e),
            Ok(None) if first => {
                return Err(bad(
                    "holds nothing: it is not a tar archive, or an empty one",
                ));
            }
            // The end of what was looked at; if it is damage, it is found again.
            Ok(None) | Err(_) => break,
        }
        first = false;
    }
    progress.step(&Step::Spooling);
    let mut file = spool(temp)?;
    let mut size = 0u64;
    let mut put = |bytes: &[u8]| {
        if size / ROOM != (size + bytes.len() as u64) / ROOM {
            leave_room(&file)?;
        }
        size += bytes.len() as u64;
        // Not `Error::io`: it is not the pool that is full.
        file.write_all(bytes).map_err(|source| Error::Io {
            what: "cannot copy it to a temporary file".into(),
            source,
        })
    };
    put(&head)?;
    drop(head);
    loop {
        let piece = pump.fill()?;
        if piece.is_empty() {
            break;
        }
        put(piece)?;
        let n = piece.len();
        pump.consume(n);
        progress.read(pump.taken(), total);
        if progress.stopped() {
            return Err(super::stopped());
        }
    }
    pump.finish()?;
    let file = Arc::new(file);
    match Members::index(&file, 0, size)? {
        Some(members) => match image(members)? {
            Some(content) => Ok(content),
            None => root(Stretch::new(file, 0, size)),
        },
        None => root(Stretch::new(file, 0, size)),
    }
}

/// A small stream may unpack to more than all there is: others need the host's disk, too.
fn leave_room(file: &File) -> Result<()> {
    let stat = rustix::fs::fstatvfs(file)
        .map_err(|e| Error::io("cannot look at the temporary file", e.into()))?;
    if stat.f_bavail < stat.f_blocks / 50 {
        return Err(bad(
            "unpacks to more than the file system of temporary files has room for; set TMPDIR",
        ));
    }
    Ok(())
}

/// A file without a name: gone with its last descriptor, however this ends.
fn spool(temp: Option<&Path>) -> Result<File> {
    let dir = match temp {
        Some(dir) => dir.to_path_buf(),
        None => std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from),
    };
    let fail = |e: std::io::Error| Error::Io {
        what: format!(
            "cannot make a temporary file in {}; set TMPDIR",
            dir.display()
        ),
        source: e,
    };
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(&dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode) {
        Ok(fd) => return Ok(File::from(fd)),
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR | rustix::io::Errno::INVAL) => {
        }
        Err(e) => return Err(fail(e.into())),
    }
    let path = dir.join(format!(".cowfs-import-{}", uuid::Uuid::new_v4()));
    let fd = rustix::fs::open(
        &path,
        OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC,
        mode,
    )
    .map_err(|e| fail(e.into()))?;
    std::fs::remove_file(&path).map_err(fail)?;
    Ok(File::from(fd))
}
