//! POSIX on a volume: inodes, names, extended attributes, extents. A plain library: no FUSE.
//!
//! Names and link targets are bytes. Permission checks are the caller's (the kernel's, with
//! default_permissions); what follows from a change is ours: setgid inheritance, default ACLs,
//! clearing of setuid, setgid and capabilities, times.

mod acl;
mod attr;
mod check;
mod create;
mod data;
mod diff;
mod dir;
mod hash;
mod inode;
mod item;
mod link;
mod open;
mod privilege;
mod reap;
mod rename;
mod xattr;

#[cfg(test)]
mod collide_tests;

pub use create::{LINK_MAX, TARGET_MAX};
pub use diff::diff;

use crate::base::{Ino, Time};
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
    pub const ROOT: Cred = Cred {
        uid: 0,
        gid: 0,
        umask: 0,
    };
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
    names: hash::NameHash,
    data: data::State,
    /// Made by a program that knew more.
    read_only: bool,
}

/// How a path differs between two volumes' file systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    Added,
    Changed,
    Deleted,
}
