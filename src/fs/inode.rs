//! Inodes: reading, writing, making them.

use super::item::{InodeItem, OrphanItem, flag};
use super::{Attr, Fs};
use crate::base::{BLOCK, Error, Ino, Result};
use crate::pool::{Need, Op};
use crate::tree::{Key, Read, kind};

pub(crate) const fn inode_key(ino: Ino) -> Key {
    Key::new(ino, kind::INODE, 0)
}

/// The inode; ENOENT when there is none.
pub(crate) fn read_inode(r: &dyn Read, ino: Ino) -> Result<InodeItem> {
    // Object 0 is the volume itself, never an inode.
    if ino == 0 {
        return Err(Error::Posix(libc::ENOENT));
    }
    match r.get(&inode_key(ino))? {
        None => Err(Error::Posix(libc::ENOENT)),
        Some(b) => InodeItem::decode(&b).ok_or_else(|| damaged(ino, "its inode item")),
    }
}

pub(crate) fn write_inode(op: &mut Op<'_>, ino: Ino, item: &InodeItem) {
    op.put(inode_key(ino), item.encode());
}

pub(crate) fn attr_of(ino: Ino, item: &InodeItem) -> Attr {
    let blocks = match item.blocks {
        0 if item.flags & flag::INLINE != 0 && item.is_file() => 1,
        n => n.saturating_mul(BLOCK / 512),
    };
    Attr {
        ino,
        mode: item.mode,
        nlink: item.nlink,
        uid: item.uid,
        gid: item.gid,
        rdev: item.rdev,
        size: item.size,
        blocks,
        atime: item.atime,
        mtime: item.mtime,
        ctime: item.ctime,
        btime: item.btime,
    }
}

/// The error for bytes of an inode's items that make no sense.
pub(crate) fn damaged(ino: Ino, what: &str) -> Error {
    Error::corrupt(format!("inode {ino}"), what)
}

pub(crate) const fn orphan_key(ino: Ino) -> Key {
    Key::new(0, kind::ORPHAN, ino)
}

/// The inode's unfinished work; none: no bits.
pub(crate) fn read_orphan(r: &dyn Read, ino: Ino) -> Result<OrphanItem> {
    match r.get(&orphan_key(ino))? {
        None => Ok(OrphanItem::default()),
        Some(b) => OrphanItem::decode(&b).ok_or_else(|| damaged(ino, "its orphan item")),
    }
}

/// Adds one kind of unfinished work (`size`: a truncation's target).
pub(crate) fn set_orphan(op: &mut Op<'_>, ino: Ino, bit: u8, size: Option<u64>) -> Result<()> {
    let mut item = read_orphan(op, ino)?;
    item.bits |= bit;
    item.size = size.unwrap_or(item.size);
    op.put(orphan_key(ino), item.encode());
    Ok(())
}

/// Takes one kind of unfinished work away; other kinds stay.
pub(crate) fn clear_orphan(op: &mut Op<'_>, ino: Ino, bit: u8) -> Result<()> {
    let mut item = read_orphan(op, ino)?;
    let before = item.bits;
    item.bits &= !bit;
    match item.bits {
        0 if before != 0 => op.delete(orphan_key(ino)),
        bits if bits != before => op.put(orphan_key(ino), item.encode()),
        _ => {}
    }
    Ok(())
}

impl Fs {
    pub fn attr(&self, ino: Ino) -> Result<Attr> {
        let g = self.volume.enter(Need::READ)?;
        g.view(|r| Ok(attr_of(ino, &read_inode(r, ino)?)))
    }
}
