//! The file system's items: the bytes kept under each key. All numbers are little-endian.
//!
//! **Growing.** Every item has a fixed head and tolerates unknown bytes behind what it knows, so a
//! later version may append fields. Whoever rewrites an item drops what it did not know; so a
//! version that appends fields must set a `ro_compat` feature bit in the superitem (older programs
//! then only read), and one that changes the meaning of known bytes an `incompat` bit (older
//! programs refuse the volume). Reserved bytes are written as zeros and ignored when read.
//!
//! Superitem, key (0, SUPER, 0):
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | format version, 1 |
//! | 4 | 4 | reserved |
//! | 8 | 8 | incompatible features: refuse what is unknown |
//! | 16 | 8 | read-only compatible features: unknown ones forbid writing |
//! | 24 | 8 | compatible features: ignore what is unknown |
//! | 32 | 16 | key of the hash of names |
//! | 48 | 16 | reserved |
//!
//! Inode, key (ino, INODE, 0):
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 2 | version of this item, 1 |
//! | 2 | 1 | origin state (union; 0: none) |
//! | 3 | 1 | reserved |
//! | 4 | 4 | mode: type and permission bits |
//! | 8 | 4 | nlink |
//! | 12 | 4 | uid |
//! | 16 | 4 | gid |
//! | 20 | 4 | device number, the kernel's 32-bit encoding |
//! | 24 | 4 | flags, see [`flag`] |
//! | 28 | 4 | bytes of the list of attribute names, each with its NUL (0: no attributes) |
//! | 32 | 8 | size in bytes; of a directory: the sum of its names' lengths (0: empty) |
//! | 40 | 8 | allocated blocks of 4 KiB |
//! | 48 | 8 | directory that holds the first name (0: no name; root: itself) |
//! | 56 | 8 | cookie of the first name in that directory |
//! | 64 | 8 | change counter: grows with every change but those of atime |
//! | 72 | 32 | seconds of atime, mtime, ctime, btime, signed |
//! | 104 | 16 | nanoseconds of the same four, 4 bytes each |
//! | 120 | 4 | origin layer (union) |
//! | 124 | 4 | bytes of all attributes' values |
//! | 128 | 8 | origin inode (union) |
//! | 136 | 24 | reserved |
//!
//! Directory entry, key (dir, DIRENT, cookie):
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 8 | inode |
//! | 8 | 1 | type: the S_IFMT part of the mode >> 12 |
//! | 9 | 1 | flags (whiteout and origin marks later; 0) |
//! | 10 | 1 | length of the name, 1..=255 |
//! | 11 | 1 | reserved |
//! | 12 | n | name |
//!
//! Link, key (ino, LINK, hash of directory and cookie): a further name of an inode whose first
//! name is in its inode item. 0: directory, 8 bytes; 8: cookie in it, 8 bytes.
//!
//! Extended attribute, key (ino, XATTR, hash and slot and part), part 0; the other parts are bytes
//! of the value alone:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 4 | length of the whole value |
//! | 4 | 1 | length of the name, 1..=255 |
//! | 5 | 1 | flags, 0 |
//! | 6 | 2 | reserved |
//! | 8 | n | name, then as much of the value as the item takes |
//!
//! Orphan, key (0, ORPHAN, ino): work that a crash must not forget.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | bits: 1 no name left, 2 truncation under way |
//! | 1 | 7 | reserved |
//! | 8 | 8 | truncation's target size, bytes |

use crate::base::{Ino, Time};

/// The format this program writes.
pub const FORMAT: u32 = 1;
/// Features this program knows, incompatible and read-only compatible.
pub const KNOWN_INCOMPAT: u64 = 0;
pub const KNOWN_RO_COMPAT: u64 = 0;

/// Bits of an inode's flags. `0xff` belongs to names and attributes, `0xff00` to the data path.
pub mod flag {
    /// Has system.posix_acl_access.
    pub const ACL_ACCESS: u32 = 0x01;
    /// A directory with system.posix_acl_default.
    pub const ACL_DEFAULT: u32 = 0x02;
    /// Has security.capability.
    pub const CAPABILITY: u32 = 0x04;
    /// Made without a name, may be given one (O_TMPFILE).
    pub const LINKABLE: u32 = 0x08;
    /// The bytes are in an INLINE item.
    pub const INLINE: u32 = 0x100;
}

/// Bits of an orphan item.
pub mod orphan {
    pub const NO_NAME: u8 = 1;
    pub const TRUNCATE: u8 = 2;
}

fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    b.get(at..)?.first_chunk().map(|x| u16::from_le_bytes(*x))
}

fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    b.get(at..)?.first_chunk().map(|x| u32::from_le_bytes(*x))
}

fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    b.get(at..)?.first_chunk().map(|x| u64::from_le_bytes(*x))
}

/// The volume's own item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SuperItem {
    pub format: u32,
    pub incompat: u64,
    pub ro_compat: u64,
    pub compat: u64,
    pub hash_key: [u8; 16],
}

impl SuperItem {
    pub const LEN: usize = 64;

    pub fn new(hash_key: [u8; 16]) -> SuperItem {
        SuperItem {
            format: FORMAT,
            incompat: 0,
            ro_compat: 0,
            compat: 0,
            hash_key,
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut v = Vec::with_capacity(SuperItem::LEN);
        v.extend_from_slice(&self.format.to_le_bytes());
        v.extend_from_slice(&[0; 4]);
        for features in [self.incompat, self.ro_compat, self.compat] {
            v.extend_from_slice(&features.to_le_bytes());
        }
        v.extend_from_slice(&self.hash_key);
        v.resize(SuperItem::LEN, 0);
        v
    }

    pub fn decode(b: &[u8]) -> Option<SuperItem> {
        Some(SuperItem {
            format: u32_at(b, 0)?,
            incompat: u64_at(b, 8)?,
            ro_compat: u64_at(b, 16)?,
            compat: u64_at(b, 24)?,
            hash_key: *b.get(32..SuperItem::LEN)?.first_chunk()?,
        })
    }
}

/// An inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InodeItem {
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    /// See [`flag`].
    pub flags: u32,
    /// Bytes of the list of attribute names, NULs included.
    pub xattr_names: u32,
    /// Bytes of all attributes' values.
    pub xattr_bytes: u32,
    /// Bytes.
    pub size: u64,
    /// Allocated blocks of 4 KiB.
    pub blocks: u64,
    /// Directory and cookie of the first name; 0, 0: no name.
    pub parent: Ino,
    pub cookie: u64,
    /// Counts changes; see [`InodeItem::changed`].
    pub version: u64,
    pub atime: Time,
    pub mtime: Time,
    pub ctime: Time,
    pub btime: Time,
    pub origin_state: u8,
    pub origin_layer: u32,
    pub origin_ino: u64,
}

/// Length of an inode item.
const INODE_LEN: usize = 160;
// 2 + 1 + 1, seven numbers of 4, five of 8, four times of 8 + 4, origin and attributes 4 + 4 + 8, reserved 24.
const _: () = assert!(4 + 7 * 4 + 5 * 8 + 4 * 12 + 16 + 24 == INODE_LEN);
const _: () = assert!(4 + 4 + 3 * 8 + 16 + 16 == SuperItem::LEN);
const INODE_VERSION: u16 = 1;

impl InodeItem {
    pub fn encode(&self) -> Vec<u8> {
        let mut v = Vec::with_capacity(INODE_LEN);
        v.extend_from_slice(&INODE_VERSION.to_le_bytes());
        v.extend_from_slice(&[self.origin_state, 0]);
        for n in [
            self.mode,
            self.nlink,
            self.uid,
            self.gid,
            self.rdev,
            self.flags,
            self.xattr_names,
        ] {
            v.extend_from_slice(&n.to_le_bytes());
        }
        for n in [
            self.size,
            self.blocks,
            self.parent,
            self.cookie,
            self.version,
        ] {
            v.extend_from_slice(&n.to_le_bytes());
        }
        let times = [self.atime, self.mtime, self.ctime, self.btime];
        for t in times {
            v.extend_from_slice(&t.sec.to_le_bytes());
        }
        for t in times {
            v.extend_from_slice(&t.nsec.to_le_bytes());
        }
        v.extend_from_slice(&self.origin_layer.to_le_bytes());
        v.extend_from_slice(&self.xattr_bytes.to_le_bytes());
        v.extend_from_slice(&self.origin_ino.to_le_bytes());
        v.resize(INODE_LEN, 0);
        v
    }

    /// `None`: no inode of a version this program reads.
    pub fn decode(b: &[u8]) -> Option<InodeItem> {
        if b.len() < INODE_LEN || u16_at(b, 0)? != INODE_VERSION {
            return None;
        }
        let time = |i: usize| -> Option<Time> {
            let nsec = u32_at(b, 104 + 4 * i)?;
            let sec = i64::from_le_bytes(*b.get(72 + 8 * i..)?.first_chunk()?);
            (nsec < 1_000_000_000).then_some(Time { sec, nsec })
        };
        let item = InodeItem {
            origin_state: *b.get(2)?,
            mode: u32_at(b, 4)?,
            nlink: u32_at(b, 8)?,
            uid: u32_at(b, 12)?,
            gid: u32_at(b, 16)?,
            rdev: u32_at(b, 20)?,
            flags: u32_at(b, 24)?,
            xattr_names: u32_at(b, 28)?,
            xattr_bytes: u32_at(b, 124)?,
            size: u64_at(b, 32)?,
            blocks: u64_at(b, 40)?,
            parent: u64_at(b, 48)?,
            cookie: u64_at(b, 56)?,
            version: u64_at(b, 64)?,
            atime: time(0)?,
            mtime: time(1)?,
            ctime: time(2)?,
            btime: time(3)?,
            origin_layer: u32_at(b, 120)?,
            origin_ino: u64_at(b, 128)?,
        };
        let sane = known_type(item.mode) && i64::try_from(item.size).is_ok();
        sane.then_some(item)
    }

    /// S_IFMT part of the mode.
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    pub fn is_dir(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    pub fn is_file(&self) -> bool {
        self.kind() == libc::S_IFREG
    }

    /// Metadata changed: ctime and the change counter.
    pub fn changed(&mut self, now: Time) {
        self.ctime = now;
        self.version = self.version.wrapping_add(1);
    }

    /// Content changed: mtime too.
    pub fn modified(&mut self, now: Time) {
        self.mtime = now;
        self.changed(now);
    }
}

/// One of the seven types of files.
pub fn known_type(mode: u32) -> bool {
    use libc::{S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK};
    matches!(
        mode & S_IFMT,
        S_IFREG | S_IFDIR | S_IFLNK | S_IFCHR | S_IFBLK | S_IFIFO | S_IFSOCK
    )
}

/// A directory entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirentItem {
    pub ino: Ino,
    /// S_IFMT part of the mode.
    pub kind: u32,
    pub flags: u8,
    pub name: Vec<u8>,
}

impl DirentItem {
    pub fn encode(&self) -> Vec<u8> {
        let mut v = Vec::with_capacity(12 + self.name.len());
        v.extend_from_slice(&self.ino.to_le_bytes());
        // Callers refuse names longer than 255 bytes.
        v.extend_from_slice(&[
            (self.kind >> 12) as u8,
            self.flags,
            self.name.len() as u8,
            0,
        ]);
        v.extend_from_slice(&self.name);
        v
    }

    pub fn decode(b: &[u8]) -> Option<DirentItem> {
        let (ino, kind, flags, name) = DirentItem::borrow(b)?;
        Some(DirentItem {
            ino,
            kind,
            flags,
            name: name.to_vec(),
        })
    }

    /// The same without a copy: inode, type, flags, name.
    pub fn borrow(b: &[u8]) -> Option<(Ino, u32, u8, &[u8])> {
        let ino = u64_at(b, 0)?;
        let kind = u32::from(*b.get(8)?) << 12;
        let name = b.get(12..)?.get(..usize::from(*b.get(10)?))?;
        let sane = known_type(kind) && ino != 0 && !name.is_empty();
        sane.then_some((ino, kind, *b.get(9)?, name))
    }
}

/// A further name of an inode: directory and cookie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkItem {
    pub dir: Ino,
    pub cookie: u64,
}

impl LinkItem {
    pub fn encode(&self) -> Vec<u8> {
        [self.dir.to_le_bytes(), self.cookie.to_le_bytes()].concat()
    }

    pub fn decode(b: &[u8]) -> Option<LinkItem> {
        Some(LinkItem {
            dir: u64_at(b, 0)?,
            cookie: u64_at(b, 8)?,
        })
    }
}

/// The first part of an extended attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XattrItem<'a> {
    /// Length of the whole value.
    pub len: u32,
    pub name: &'a [u8],
    /// The value's first bytes.
    pub head: &'a [u8],
}

impl<'a> XattrItem<'a> {
    /// Bytes before the name.
    pub const HEAD: usize = 8;

    pub fn encode(&self) -> Vec<u8> {
        let mut v = Vec::with_capacity(XattrItem::HEAD + self.name.len() + self.head.len());
        v.extend_from_slice(&self.len.to_le_bytes());
        // Callers refuse names longer than 255 bytes.
        v.extend_from_slice(&[self.name.len() as u8, 0, 0, 0]);
        v.extend_from_slice(self.name);
        v.extend_from_slice(self.head);
        v
    }

    pub fn decode(b: &'a [u8]) -> Option<XattrItem<'a>> {
        let len = u32_at(b, 0)?;
        let (name, head) = b.get(8..)?.split_at_checked(usize::from(*b.get(4)?))?;
        let sane = !name.is_empty() && len as usize <= super::XATTR_MAX;
        sane.then_some(XattrItem { len, name, head })
    }
}

/// Unfinished work on an inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OrphanItem {
    /// See [`orphan`].
    pub bits: u8,
    /// Target of a truncation under way, bytes.
    pub size: u64,
}

impl OrphanItem {
    pub fn encode(&self) -> Vec<u8> {
        let mut v = vec![0; 8];
        if let Some(b) = v.first_mut() {
            *b = self.bits;
        }
        v.extend_from_slice(&self.size.to_le_bytes());
        v
    }

    pub fn decode(b: &[u8]) -> Option<OrphanItem> {
        Some(OrphanItem {
            bits: *b.first()?,
            size: u64_at(b, 8)?,
        })
    }
}

#[cfg(test)]
#[path = "item_tests.rs"]
mod tests;
