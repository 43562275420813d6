//! What is said over the socket: one JSON object a line, each way.
//!
//! The daemon greets first ([`Greeting`]). Then the client asks ([`Request`]) and the daemon answers
//! with any number of [`Reply::Progress`] and [`Reply::Part`] lines and exactly one [`Reply::Done`] or
//! [`Reply::Error`]; then the next request may follow. File descriptors travel beside the request's
//! bytes (SCM_RIGHTS). Unknown fields are ignored, so that fields can be added; what cannot be added
//! so raises [`VERSION`].

use crate::base::{Error, ExitKind, Time, VolumeId};
use crate::pool::{CheckReport, Kind, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Of what is said here. The greeting names it; a client of another version does not ask.
pub const VERSION: u32 = 1;
/// A line may not be longer, newline included: bytes.
pub const LINE_MAX: usize = 4 << 20;
/// File descriptors that may come with one request.
pub const FDS_MAX: usize = 4;

/// The daemon's first line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Greeting {
    pub version: u32,
    /// The daemon's process.
    pub pid: u32,
    /// The program's version, for messages.
    #[serde(default)]
    pub program: String,
    /// Why it serves this client nothing.
    #[serde(default)]
    pub refusal: Option<String>,
}

/// Bytes that are nearly always UTF-8 (paths). In JSON a string, where `\\` is a backslash and `\xHH`
/// a byte that is not UTF-8.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Raw(pub Vec<u8>);

/// What is asked of the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Request {
    /// Nothing; answers `Done`.
    Ping,
    /// The pool's state: `Response::Status`.
    Status,
    /// Walks everything: progress, then `Response::Checked`.
    Check,
    /// The daemon ends as if told so by SIGTERM: `Done`, or `Busy` while something is mounted.
    Stop,
    /// fd 0: the archive, layout or root directory, open for reading (a pipe will do).
    /// Progress, then `Response::Name`. Cancelled and undone when the client goes away.
    Import {
        /// How messages call it, and where the name comes from when `name` is none: a path or `-`.
        source: Raw,
        #[serde(default)]
        name: Option<String>,
    },
    /// `Part::Row` each, sorted by name, then `Done`. No kinds: images, containers and snapshots.
    List {
        #[serde(default)]
        kinds: Vec<Kind>,
    },
    /// Everything about one volume: `Response::Inspect`.
    Inspect {
        name: String,
    },
    /// The image's layers, newest first: `Part::Layer` each, then `Done`.
    History {
        name: String,
    },
    /// A container of an image (or of a snapshot): `Response::Name`.
    Create {
        image: String,
        /// None: one is made up.
        #[serde(default)]
        name: Option<String>,
        /// Size limit, bytes. None: the pool's.
        #[serde(default)]
        size: Option<u64>,
    },
    /// `NAME@SNAP`: `Done`.
    Snapshot {
        name: String,
    },
    /// A writable copy of a container, snapshot or image: `Response::Name`.
    Clone {
        source: String,
        name: String,
    },
    /// The container becomes what `NAME@SNAP` holds: `Done`.
    Rollback {
        name: String,
    },
    Rename {
        old: String,
        new: String,
    },
    /// Removes all of these; `force`: with their dependants. `Response::Removed`.
    Remove {
        names: Vec<String>,
        #[serde(default)]
        force: bool,
    },
    /// What `name` has that `base` (none: its image) has not: `Part::Change` each, then `Done`.
    Diff {
        name: String,
        #[serde(default)]
        base: Option<String>,
    },
    /// Where a file lives: `Response::Pieces`.
    Map {
        name: String,
        path: Raw,
    },
    /// fd 0: an open /dev/fuse whose other end is being mounted (`cowfs::fuse`'s prepare). The daemon
    /// serves it from now on: `Response::Mounted`. Then attach, and say `Attached`.
    Mount {
        name: String,
        /// Where it will be, as the user will look for it; shown in listings and used by `umount NAME`.
        dir: Raw,
        #[serde(default)]
        options: MountOptions,
    },
    /// The mount is where it belongs; `connection` is the kernel's number for it (`MountInfo::connection`).
    /// `Done`.
    Attached {
        mount: u64,
        connection: u32,
    },
    /// What is mounted: `Part::Mount` each, then `Done`.
    Mounts,
    /// The caller unmounted: waits a moment for the connection's end, makes everything durable:
    /// `Response::Ended`.
    Unmounted {
        mount: u64,
    },
    /// Everything answered on this volume becomes durable (whatever the kernel still holds of open
    /// files too): `Done`.
    Sync {
        name: String,
    },
    /// Attributes of one path (a final symbolic link itself): `Response::Entry`.
    Stat {
        name: String,
        path: Raw,
        /// Follow a final symbolic link (inside the volume).
        #[serde(default)]
        follow: bool,
    },
    /// Entries of a directory, or the file itself: `Part::Entries`, then `Done`.
    Ls {
        name: String,
        path: Raw,
    },
    /// fd 0: written with the bytes of a file, sparsely if it is a regular file: `Done`.
    Read {
        name: String,
        path: Raw,
    },
    /// Makes or replaces one file. Regular files: fd 0 gives the bytes: a regular file is read to its
    /// end, sparsely; of anything else `commit` must follow as the next request after its last byte, or
    /// nothing happens. Directories that exist stay. `Done`.
    Write {
        name: String,
        path: Raw,
        /// Mode with type, owner, times, link target, device.
        entry: Box<Entry>,
        #[serde(default)]
        xattrs: Vec<(Raw, Raw)>,
    },
    /// See `Write`.
    Commit,
}

impl Request {
    /// The request's name, for messages.
    pub fn verb(&self) -> String {
        match serde_json::to_value(self) {
            Ok(Value::Object(o)) => o
                .get("do")
                .and_then(Value::as_str)
                .unwrap_or("?")
                .to_owned(),
            _ => "?".into(),
        }
    }
}

/// What the daemon must know to serve a mount (the rest is the mounting side's business).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountOptions {
    pub read_only: bool,
    /// Access times are not kept.
    pub noatime: bool,
    /// Show every file as this user's and group's (`cowfs::fuse::Squash`).
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// The mounting process: shown in listings.
    pub pid: u32,
}

impl From<&crate::fuse::MountOptions> for MountOptions {
    fn from(o: &crate::fuse::MountOptions) -> MountOptions {
        MountOptions {
            read_only: o.read_only,
            noatime: o.atime == crate::fuse::Atime::Noatime,
            uid: o.squash.uid,
            gid: o.squash.gid,
            pid: std::process::id(),
        }
    }
}

/// A line of the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Progress(Progress),
    Part(Part),
    Done(Response),
    Error(Failure),
}

/// What comes before the final answer.
#[derive(Clone, Debug)]
pub enum Event {
    Progress(Progress),
    Part(Part),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// What is being done, a few words.
    pub what: String,
    pub done: u64,
    /// None: not known.
    pub total: Option<u64>,
    /// `done` and `total` count bytes, not things.
    pub bytes: bool,
}

/// A piece of a long answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Row(Box<Row>),
    Layer(Layer),
    Change {
        /// "A", "C" or "D".
        kind: String,
        path: Raw,
    },
    Mount(Mount),
    Entries(Vec<Entry>),
}

/// The final answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    Done,
    Name(String),
    Status(Box<Status>),
    Checked(CheckReport),
    Inspect(Box<Inspect>),
    Removed(Vec<Removed>),
    Pieces(Pieces),
    Mounted(Mount),
    Ended(Ended),
    Entry(Box<Entry>),
}

/// One line of a listing. Its JSON is what `--json` prints and `--format` sees.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Row {
    #[serde(rename = "ID")]
    pub id: VolumeId,
    pub name: String,
    pub kind: Kind,
    /// Containers, snapshots: the image they come from, while it exists.
    #[serde(default)]
    pub image: Option<String>,
    /// RFC 3339, UTC.
    pub created: String,
    /// Bytes of blocks its files refer to, shared or not.
    pub size: u64,
    /// Size limit, bytes.
    #[serde(default)]
    pub limit: Option<u64>,
    pub inodes: u64,
    /// Where it is mounted.
    #[serde(default)]
    pub mounts: Vec<Raw>,
    /// "sealed", "mounted", "removing" (deferred until its last user goes), "building" or "ready".
    pub status: String,
    /// Images: the digest of the OCI configuration.
    #[serde(default)]
    pub digest: Option<String>,
}

/// Everything about one volume.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspect {
    #[serde(flatten)]
    pub row: Row,
    pub sealed: bool,
    /// The volume it was cloned from, by name while that exists.
    #[serde(default)]
    pub source: Option<String>,
    #[serde(default, rename = "SourceID")]
    pub source_id: Option<VolumeId>,
    /// Names of snapshots of a container, containers of an image.
    #[serde(default)]
    pub dependants: Vec<String>,
    /// The pool's directory.
    pub pool: Raw,
    #[serde(default, rename = "Mounted")]
    pub mounted: Vec<Mount>,
    /// Of the image itself, or of the image a container or snapshot comes from.
    #[serde(default, rename = "OCI")]
    pub oci: Option<ImageDetails>,
}

/// What the image said of itself when it was imported.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImageDetails {
    /// The OCI image configuration, as it came.
    #[serde(default)]
    pub config: Option<Value>,
    /// The OCI manifest, as it came.
    #[serde(default)]
    pub manifest: Option<Value>,
    /// Layer volumes, lowest first.
    #[serde(default)]
    pub layers: Vec<String>,
}

/// One step of an image's history.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Layer {
    /// The layer's volume (its chain ID); none for steps that changed no files.
    #[serde(rename = "ID")]
    pub id: Option<String>,
    pub created: String,
    pub created_by: String,
    /// Bytes of blocks in its files, less those of the layer below.
    pub size: u64,
    pub comment: String,
}

/// A mount the daemon serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mount {
    /// The daemon's number for it.
    #[serde(rename = "ID")]
    pub id: u64,
    pub name: String,
    #[serde(rename = "VolumeID")]
    pub volume: VolumeId,
    pub dir: Raw,
    pub read_only: bool,
    /// The kernel's number for the connection, once attached.
    #[serde(default)]
    pub connection: Option<u32>,
    #[serde(default, rename = "PID")]
    pub pid: u32,
    pub since: Time,
}

/// One thing removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Removed {
    pub name: String,
    /// In use: its name is gone, its space follows when the last user goes.
    pub deferred: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The connection has ended; false: something else (a bind mount, another namespace) holds it.
    pub ended: bool,
}

/// Answer of `Map`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Pieces {
    pub volume: String,
    #[serde(rename = "VolumeID")]
    pub id: VolumeId,
    pub path: Raw,
    pub inode: u64,
    /// Bytes.
    pub size: u64,
    /// Bytes.
    pub chunk_size: u64,
    pub pieces: Vec<OwnedPiece>,
}

/// A piece of a file: where it lives, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct OwnedPiece {
    /// Bytes.
    pub file_offset: u64,
    pub length: u64,
    /// In the metadata tree itself: no block; the numbers below are 0.
    pub inline: bool,
    /// In the volume's address space, units of 4 KiB.
    pub virtual_block: u64,
    /// In the data file, units of the pool's chunk size.
    pub chunk: u64,
    /// Byte offset in the data file.
    pub physical: u64,
    /// Reached from another volume too.
    pub shared: bool,
    /// The volume that wrote it, as far as it is known: the oldest in the line of sources that has the
    /// same chunk at the same place.
    #[serde(default)]
    pub owner: Option<String>,
}

/// A path and its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Entry {
    pub name: Raw,
    pub inode: u64,
    /// As st_mode, type included.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    /// The kernel's 32-bit encoding.
    pub rdev: u32,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    /// Symbolic links: the target.
    pub target: Option<Raw>,
}

/// Why a request failed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The exit code ([`ExitKind`]).
    pub exit: u8,
    pub errno: i32,
    /// One line.
    pub message: String,
}

// No `From`: it would make the error type of many a closure below us ambiguous.
impl Failure {
    pub fn of(e: &Error) -> Failure {
        Failure {
            exit: e.exit_kind() as u8,
            errno: e.errno(),
            message: e.to_string(),
        }
    }

    pub fn into_error(self) -> Error {
        let kind = match self.exit {
            2 => ExitKind::Usage,
            3 => ExitKind::NotFound,
            4 => ExitKind::Exists,
            5 => ExitKind::Busy,
            6 => ExitKind::NoSpace,
            7 => ExitKind::Damaged,
            8 => ExitKind::Denied,
            _ => ExitKind::Failure,
        };
        Error::Told {
            message: self.message,
            kind,
            errno: self.errno,
        }
    }
}

impl Raw {
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    fn escaped(&self) -> String {
        let mut out = String::with_capacity(self.0.len());
        for part in self.0.utf8_chunks() {
            for c in part.valid().chars() {
                if c == '\\' {
                    out.push('\\');
                }
                out.push(c);
            }
            for b in part.invalid() {
                out.push_str(&format!("\\x{b:02x}"));
            }
        }
        out
    }

    fn unescaped(s: &str) -> Option<Raw> {
        let mut out = Vec::with_capacity(s.len());
        let mut rest = s.as_bytes();
        while let Some((&b, after)) = rest.split_first() {
            rest = after;
            if b != b'\\' {
                out.push(b);
                continue;
            }
            match rest {
                [b'\\', after @ ..] => {
                    out.push(b'\\');
                    rest = after;
                }
                [b'x', h, l, after @ ..] => {
                    let digit = |d: &u8| char::from(*d).to_digit(16);
                    out.push((digit(h)? << 4 | digit(l)?) as u8);
                    rest = after;
                }
                _ => return None,
            }
        }
        Some(Raw(out))
    }
}

impl std::fmt::Display for Raw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl From<&Path> for Raw {
    fn from(p: &Path) -> Raw {
        Raw(p.as_os_str().as_bytes().to_vec())
    }
}
impl From<&OsStr> for Raw {
    fn from(p: &OsStr) -> Raw {
        Raw(p.as_bytes().to_vec())
    }
}
impl From<&str> for Raw {
    fn from(p: &str) -> Raw {
        Raw(p.as_bytes().to_vec())
    }
}
impl From<Vec<u8>> for Raw {
    fn from(p: Vec<u8>) -> Raw {
        Raw(p)
    }
}
impl From<Raw> for PathBuf {
    fn from(p: Raw) -> PathBuf {
        PathBuf::from(OsString::from_vec(p.0))
    }
}

impl Serialize for Raw {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.escaped())
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Raw, D::Error> {
        let s = std::borrow::Cow::<str>::deserialize(d)?;
        Raw::unescaped(&s)
            .ok_or_else(|| serde::de::Error::custom("a backslash that escapes nothing"))
    }
}
