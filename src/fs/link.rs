//! Names of an inode: giving one more, taking one away.
//!
//! An inode item knows the inode's first name (directory and cookie), so the path of a directory,
//! or of a file with one name, is found upwards without a search. Further names of a file are LINK
//! items; when the first name goes, one of them takes its place.

use super::create::LINK_MAX;
use super::dir::{check_name, dirent_key, is_dots, is_empty, read_dir, read_live_dir};
use super::hash::{Slot, search};
use super::inode::{attr_of, clear_orphan, damaged, read_inode, set_orphan, write_inode};
use super::item::{DirentItem, InodeItem, LinkItem, flag, orphan};
use super::{Attr, Fs};
use crate::base::{Error, Ino, Result, Time};
use crate::pool::{Need, Op};
use crate::tree::{Key, Read, kind};

/// Where a name is.
pub(crate) type Place = (Ino, u64);

impl Fs {
    /// One more name. EPERM for directories, EEXIST, EMLINK, ENOENT for an inode without a name
    /// that was not made as one (`tmpfile`).
    pub fn link(&self, ino: Ino, dir: Ino, name: &[u8]) -> Result<Attr> {
        check_name(name)?;
        if is_dots(name) {
            return Err(Error::Posix(libc::EEXIST));
        }
        let g = self.enter_to_change(Need::SMALL)?;
        let now = Time::now();
        g.update(|op| {
            let mut item = read_inode(op, ino)?;
            let mut parent = read_live_dir(op, dir)?;
            if item.is_dir() {
                return Err(Error::Posix(libc::EPERM));
            }
            if item.nlink == 0 && item.flags & flag::LINKABLE == 0 {
                return Err(Error::Posix(libc::ENOENT));
            }
            if item.nlink >= LINK_MAX {
                return Err(Error::Posix(libc::EMLINK));
            }
            let slot = self.slot(op, dir, name)?;
            if matches!(slot, Slot::Found(..)) {
                return Err(Error::Posix(libc::EEXIST));
            }
            let cookie = slot.free()?;
            let kind = item.kind();
            let entry = DirentItem {
                ino,
                kind,
                flags: 0,
                name: name.to_vec(),
            };
            op.put(dirent_key(dir, cookie), entry.encode());
            if item.nlink == 0 {
                item.flags &= !flag::LINKABLE;
                clear_orphan(op, ino, orphan::NO_NAME)?;
            }
            if item.parent == 0 {
                (item.parent, item.cookie) = (dir, cookie);
            } else {
                self.put_link(op, ino, (dir, cookie))?;
            }
            item.nlink += 1;
            item.changed(now);
            write_inode(op, ino, &item);
            parent.size = parent.size.saturating_add(name.len() as u64);
            parent.modified(now);
            write_inode(op, dir, &parent);
            Ok(attr_of(ino, &item))
        })
    }

    /// What was unlinked, as it is now: nlink 0 means an orphan that `forget` reaps.
    /// EISDIR for directories.
    pub fn unlink(&self, dir: Ino, name: &[u8]) -> Result<Attr> {
        if is_dots(name) {
            return Err(Error::Posix(libc::EISDIR));
        }
        self.remove_name(dir, name, &|_, _, item| match item.is_dir() {
            true => Err(Error::Posix(libc::EISDIR)),
            false => Ok(()),
        })
    }

    /// ENOTDIR, ENOTEMPTY.
    pub fn rmdir(&self, dir: Ino, name: &[u8]) -> Result<Attr> {
        match name {
            b"." => return Err(Error::Posix(libc::EINVAL)),
            b".." => return Err(Error::Posix(libc::ENOTEMPTY)),
            _ => {}
        }
        self.remove_name(dir, name, &|r, ino, item| {
            if !item.is_dir() {
                return Err(Error::Posix(libc::ENOTDIR));
            }
            if !is_empty(r, ino)? {
                return Err(Error::Posix(libc::ENOTEMPTY));
            }
            Ok(())
        })
    }

    fn remove_name(
        &self,
        dir: Ino,
        name: &[u8],
        allowed: &dyn Fn(&dyn Read, Ino, &InodeItem) -> Result<()>,
    ) -> Result<Attr> {
        check_name(name)?;
        let g = self.enter_to_change(Need::FREE)?;
        let now = Time::now();
        g.update(|op| {
            let mut parent = read_dir(op, dir)?;
            let (cookie, entry) = self.entry(op, dir, name)?;
            let mut item = read_inode(op, entry.ino).map_err(|e| missing(e, dir))?;
            allowed(op, entry.ino, &item)?;
            op.delete(dirent_key(dir, cookie));
            if item.is_dir() {
                parent.nlink = parent.nlink.saturating_sub(1);
            }
            parent.size = parent.size.saturating_sub(name.len() as u64);
            parent.modified(now);
            write_inode(op, dir, &parent);
            self.drop_name(op, entry.ino, &mut item, (dir, cookie), now)?;
            Ok(attr_of(entry.ino, &item))
        })
    }

    /// The inode's name at `place` is gone: one link less, or an orphan. Writes the inode.
    pub(crate) fn drop_name(
        &self,
        op: &mut Op<'_>,
        ino: Ino,
        item: &mut InodeItem,
        place: Place,
        now: Time,
    ) -> Result<()> {
        if item.is_dir() || item.nlink <= 1 {
            (item.nlink, item.parent, item.cookie) = (0, 0, 0);
            set_orphan(op, ino, orphan::NO_NAME, None)?;
        } else {
            item.nlink -= 1;
            if (item.parent, item.cookie) == place {
                // Another name becomes the first. None to be found is damage, but no reason to
                // refuse a removal.
                (item.parent, item.cookie) = (0, 0);
                if let Some((key, link)) = first_link(op, ino)? {
                    op.delete(key);
                    (item.parent, item.cookie) = (link.dir, link.cookie);
                }
            } else if let Some(at) = self.find_link(op, ino, place)?.found() {
                op.delete(link_key(ino, at.0));
            }
        }
        item.changed(now);
        write_inode(op, ino, item);
        Ok(())
    }

    /// A name moved. Changes `item`, which the caller writes.
    pub(crate) fn move_name(
        &self,
        op: &mut Op<'_>,
        ino: Ino,
        item: &mut InodeItem,
        from: Place,
        to: Place,
    ) -> Result<()> {
        if (item.parent, item.cookie) == from || item.parent == 0 {
            (item.parent, item.cookie) = to;
            return Ok(());
        }
        if let Some((at, ())) = self.find_link(op, ino, from)?.found() {
            op.delete(link_key(ino, at));
        }
        self.put_link(op, ino, to)
    }

    fn put_link(&self, op: &mut Op<'_>, ino: Ino, (dir, cookie): Place) -> Result<()> {
        let at = self.find_link(op, ino, (dir, cookie))?.free()?;
        op.put(link_key(ino, at), LinkItem { dir, cookie }.encode());
        Ok(())
    }

    /// Whether a further name of the inode is there.
    pub(crate) fn has_link(&self, r: &dyn Read, ino: Ino, place: Place) -> Result<bool> {
        Ok(self.find_link(r, ino, place)?.found().is_some())
    }

    fn find_link(&self, r: &dyn Read, ino: Ino, (dir, cookie): Place) -> Result<Slot<()>> {
        let first = self.names.link(dir, cookie);
        search(r, (ino, kind::LINK), first, 1, &mut |value| {
            let link = LinkItem::decode(value).ok_or_else(|| damaged(ino, "a link item"))?;
            Ok((link == LinkItem { dir, cookie }).then_some(()))
        })
    }
}

const fn link_key(ino: Ino, at: u64) -> Key {
    Key::new(ino, kind::LINK, at)
}

/// The first LINK item, if any.
fn first_link(r: &dyn Read, ino: Ino) -> Result<Option<(Key, LinkItem)>> {
    match r.next(&link_key(ino, 0))? {
        Some((key, value)) if (key.object, key.kind) == (ino, kind::LINK) => {
            let link = LinkItem::decode(&value).ok_or_else(|| damaged(ino, "a link item"))?;
            Ok(Some((key, link)))
        }
        _ => Ok(None),
    }
}

/// A name without an inode is damage, not absence.
pub(crate) fn missing(e: Error, dir: Ino) -> Error {
    match e {
        Error::Posix(libc::ENOENT) => damaged(dir, "an entry's inode is missing"),
        e => e,
    }
}
