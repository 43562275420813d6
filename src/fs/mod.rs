//! POSIX on a volume: inodes, names, extended attributes, extents. A plain library: no FUSE.
//!
//! Names and link targets are bytes. Permission checks are the caller's (the kernel's, with
//! default_permissions); what follows from a change is ours: setgid inheritance, default ACLs,
//! clearing of setuid, setgid and capabilities, times.

mod data;
mod inode;
mod item;
mod privilege;
mod xattr;

use crate::base::{Ino, Result, Time};
use crate::pool::Volume;
use std::sync::Arc;

/// What stat(2) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attr {
    pub ino: Ino,
    /// File type and permission bits, as st_mode.
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    /// Device number as the kernel's 32-bit new encoding (what FUSE and statx use).
    pub rdev: u32,
    pub size: u64,
    /// Allocated, in units of 512 bytes. A tiny file kept in the tree counts 1 (a file with data never shows 0).
    pub blocks: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Time,
}

/// Who asks: owner of what is created; group tests of chmod and chown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cred {
    pub uid: u32,
    pub gid: u32,
    /// umask, applied by us unless the directory has a default ACL.
    pub umask: u32,
}

impl Cred {
    pub const ROOT: Cred = Cred { uid: 0, gid: 0, umask: 0 };
}

/// What to change; `None` leaves as it is. ctime becomes now unless given.
#[derive(Clone, Copy, Debug, Default)]
pub struct SetAttr {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<Time>,
    pub mtime: Option<Time>,
    pub ctime: Option<Time>,
    /// Clear setuid, and setgid if group-executable, and capabilities (a write or truncation by one without CAP_FSETID).
    pub kill_suidgid: bool,
}

/// One name of a directory. `cookie` continues after it; cookies are stable and positive (fit an i64).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub name: Vec<u8>,
    pub ino: Ino,
    /// S_IFMT part of the mode.
    pub kind: u32,
    pub cookie: u64,
}

/// rename(2)'s flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenameFlags {
    pub noreplace: bool,
    pub exchange: bool,
    pub whiteout: bool,
}

/// setxattr(2)'s flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XattrSet {
    Any,
    Create,
    Replace,
}

/// fallocate(2)'s modes that a file system of this kind has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallocate {
    Allocate { keep_size: bool },
    PunchHole,
    ZeroRange { keep_size: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    Data,
    Hole,
}

#[derive(Clone, Copy, Debug)]
pub struct StatFs {
    /// Units of `BLOCK`.
    pub blocks: u64,
    pub free: u64,
    pub files: u64,
    pub files_free: u64,
    pub name_max: u32,
}

/// Where a piece of a file lives (`cowfs map`, FIEMAP).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Piece {
    /// Bytes.
    pub file_offset: u64,
    pub length: u64,
    /// In the tree itself: no block.
    pub inline: bool,
    pub virtual_block: u64,
    pub chunk: u64,
    /// Byte offset in the data device.
    pub physical: u64,
    pub shared: bool,
}

/// Longest name, in bytes.
pub const NAME_MAX: usize = 255;
/// Longest extended attribute value, and longest list of names.
pub const XATTR_MAX: usize = 65536;

/// The file system in one volume.
pub struct Fs {
    volume: Arc<Volume>,
    /// Key of the hash of names: random, a volume's own, so that nobody can force collisions.
    hash_key: [u8; 16],
    data: data::State,
}

#[allow(unused_variables)]
impl Fs {
    /// Makes the root directory in an empty volume.
    pub fn format(volume: &Arc<Volume>, root_mode: u32) -> Result<()> { todo!() }
    /// Opens; finishes what a crash left (orphans, truncations) unless sealed.
    pub fn open(volume: Arc<Volume>) -> Result<Arc<Fs>> { todo!() }
    pub fn volume(&self) -> &Arc<Volume> { &self.volume }

    // Names.
    pub fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Attr> { todo!() }
    /// The directory a directory is in (root: itself).
    pub fn parent(&self, dir: Ino) -> Result<Ino> { todo!() }
    pub fn set_attr(&self, ino: Ino, set: &SetAttr, cred: &Cred) -> Result<Attr> { todo!() }
    /// Regular files, fifos, sockets, devices; `mode` with its type.
    pub fn mknod(&self, dir: Ino, name: &[u8], mode: u32, rdev: u32, cred: &Cred) -> Result<Attr> { todo!() }
    pub fn mkdir(&self, dir: Ino, name: &[u8], mode: u32, cred: &Cred) -> Result<Attr> { todo!() }
    pub fn symlink(&self, dir: Ino, name: &[u8], target: &[u8], cred: &Cred) -> Result<Attr> { todo!() }
    pub fn link(&self, ino: Ino, dir: Ino, name: &[u8]) -> Result<Attr> { todo!() }
    /// A file without a name (O_TMPFILE); `link` may give it one.
    pub fn tmpfile(&self, dir: Ino, mode: u32, cred: &Cred) -> Result<Attr> { todo!() }
    /// What was unlinked, as it is now: nlink 0 means an orphan that `forget` reaps.
    pub fn unlink(&self, dir: Ino, name: &[u8]) -> Result<Attr> { todo!() }
    pub fn rmdir(&self, dir: Ino, name: &[u8]) -> Result<Attr> { todo!() }
    /// What was replaced, if anything, as it is now.
    pub fn rename(&self, dir: Ino, name: &[u8], new_dir: Ino, new_name: &[u8], flags: RenameFlags) -> Result<Option<Attr>> { todo!() }
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>> { todo!() }
    /// Entries after `cookie` (0: from the start; "." and ".." are included first), until `each`
    /// answers false (that entry counts as not taken). With attributes where wanted.
    pub fn readdir(&self, dir: Ino, cookie: u64, attrs: bool, each: &mut dyn FnMut(&DirEntry, Option<&Attr>) -> bool) -> Result<()> { todo!() }
    /// The kernel forgot this inode: if it has no name left, it goes now, in bounded steps.
    pub fn forget(&self, ino: Ino) -> Result<()> { todo!() }
    /// relatime: writes atime if it is older than mtime, ctime or a day. No-op when sealed.
    pub fn touch_atime(&self, ino: Ino) -> Result<()> { todo!() }

    // Extended attributes (ACLs are those named system.posix_acl_*).
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> { todo!() }
    pub fn xattrs(&self, ino: Ino) -> Result<Vec<Vec<u8>>> { todo!() }
    pub fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], how: XattrSet) -> Result<()> { todo!() }
    pub fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> { todo!() }

}

/// Paths that differ between two volumes' file systems: walks only what differs between the trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    Added,
    Changed,
    Deleted,
}

/// What `volume` has that `base` has not, sorted by path (paths begin with '/'). An access time is no change.
#[allow(unused_variables)]
pub fn diff(base: &Arc<Fs>, volume: &Arc<Fs>) -> Result<Vec<(ChangeKind, Vec<u8>)>> { todo!() }
