//! Keys: (object id, kind, offset), ordered in this sequence.

use std::fmt;

/// A key of a volume's tree. Encoded as 17 bytes, big-endian, so that byte order is key order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub object: u64,
    pub kind: u8,
    pub offset: u64,
}

/// Kinds of items. Object 0 is the volume itself, every other object an inode
/// (in the catalog: a volume).
pub mod kind {
    /// (0, SUPER, 0): the volume's file system: format, features, key of the name hash.
    pub const SUPER: u8 = 0x08;
    /// (ino, INODE, 0): the inode.
    pub const INODE: u8 = 0x10;
    /// (ino, XATTR, hash and slot and part): an extended attribute.
    pub const XATTR: u8 = 0x18;
    /// (dir, DIRENT, cookie): a directory entry.
    pub const DIRENT: u8 = 0x20;
    /// (ino, INLINE, 0): a tiny file's bytes, or a symbolic link's target.
    pub const INLINE: u8 = 0x28;
    /// (ino, LINK, hash of directory and cookie): a further name of an inode with several.
    pub const LINK: u8 = 0x2c;
    /// (ino, EXTENT, file block): where these blocks are in the volume's address space.
    pub const EXTENT: u8 = 0x30;
    /// (0, ORPHAN, ino): an inode with unfinished work: no name left, or a truncation under way.
    pub const ORPHAN: u8 = 0x40;
    /// (0, MAP, virtual chunk): where this virtual chunk (or run of them) is in the data device.
    pub const MAP: u8 = 0x50;
    /// (0, PARTIAL, virtual chunk): a chunk of this volume's own with free blocks in it.
    pub const PARTIAL: u8 = 0x58;
    /// Catalog: (volume, VOLUME, 0).
    pub const VOLUME: u8 = 0x80;
    /// Catalog: (0, NAME, hash and slot): a volume's name.
    pub const NAME: u8 = 0x88;
    /// Catalog: (volume, BLOB, hash and slot and part): a named blob (OCI configuration and the like).
    pub const BLOB: u8 = 0x90;
    /// Catalog: (0, DEAD, node): a reference to a tree that is being reclaimed.
    pub const DEAD: u8 = 0x98;
}

impl Key {
    pub const LEN: usize = 17;

    pub const fn new(object: u64, kind: u8, offset: u64) -> Key {
        Key {
            object,
            kind,
            offset,
        }
    }

    pub const MIN: Key = Key::new(0, 0, 0);
    pub const MAX: Key = Key::new(u64::MAX, u8::MAX, u64::MAX);

    pub fn encode(&self) -> [u8; Key::LEN] {
        let mut b = [0; Key::LEN];
        b[..8].copy_from_slice(&self.object.to_be_bytes());
        b[8] = self.kind;
        b[9..].copy_from_slice(&self.offset.to_be_bytes());
        b
    }

    pub fn decode(b: &[u8; Key::LEN]) -> Key {
        let (object, rest) = b.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        let (kind, offset) = rest.split_first().unwrap_or((&0, &[]));
        Key {
            object: u64::from_be_bytes(*object),
            kind: *kind,
            offset: offset
                .first_chunk::<8>()
                .map_or(0, |o| u64::from_be_bytes(*o)),
        }
    }

    /// The key just after this one, or `None` after the greatest.
    pub fn successor(&self) -> Option<Key> {
        if let Some(offset) = self.offset.checked_add(1) {
            return Some(Key { offset, ..*self });
        }
        if let Some(kind) = self.kind.checked_add(1) {
            return Some(Key {
                kind,
                offset: 0,
                ..*self
            });
        }
        self.object.checked_add(1).map(|object| Key {
            object,
            kind: 0,
            offset: 0,
        })
    }

    /// The key just before this one, or `None` before the least.
    pub fn predecessor(&self) -> Option<Key> {
        if let Some(offset) = self.offset.checked_sub(1) {
            return Some(Key { offset, ..*self });
        }
        if let Some(kind) = self.kind.checked_sub(1) {
            return Some(Key {
                kind,
                offset: u64::MAX,
                ..*self
            });
        }
        self.object.checked_sub(1).map(|object| Key {
            object,
            kind: u8::MAX,
            offset: u64::MAX,
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({}, {:#x}, {})", self.object, self.kind, self.offset)
    }
}
