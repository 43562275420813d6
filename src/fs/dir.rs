//! Directories: finding a name, listing names.

use super::hash::{Slot, all_of, search};
use super::inode::{attr_of, damaged, read_inode};
use super::item::{DirentItem, InodeItem};
use super::{Attr, DirEntry, Fs, NAME_MAX};
use crate::base::{Error, Ino, ROOT_INO, Result};
use crate::pool::{Entered, Need};
use crate::tree::{Key, Read, kind};
use std::ops::ControlFlow;

/// Cookies of "." and "..".
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;
/// Entries read at a time: the first time as many as a small buffer takes, then more.
const FIRST_BATCH: usize = 64;
const BATCH: usize = 512;

pub(crate) const fn dirent_key(dir: Ino, cookie: u64) -> Key {
    Key::new(dir, kind::DIRENT, cookie)
}

/// Refuses what cannot be an entry's name: ENOENT (empty), ENAMETOOLONG, EINVAL (with a slash or
/// a NUL; "." and ".." are the caller's).
pub(crate) fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() {
        return Err(Error::Posix(libc::ENOENT));
    }
    if name.len() > NAME_MAX {
        return Err(Error::Posix(libc::ENAMETOOLONG));
    }
    if name.iter().any(|b| matches!(b, b'/' | 0)) {
        return Err(Error::Posix(libc::EINVAL));
    }
    Ok(())
}

pub(crate) fn is_dots(name: &[u8]) -> bool {
    matches!(name, b"." | b"..")
}

/// A directory's inode: ENOENT, ENOTDIR.
pub(crate) fn read_dir(r: &dyn Read, dir: Ino) -> Result<InodeItem> {
    let item = read_inode(r, dir)?;
    if !item.is_dir() {
        return Err(Error::Posix(libc::ENOTDIR));
    }
    Ok(item)
}

/// The same, for adding a name: a removed directory takes none (ENOENT).
pub(crate) fn read_live_dir(r: &dyn Read, dir: Ino) -> Result<InodeItem> {
    let item = read_dir(r, dir)?;
    if item.nlink == 0 {
        return Err(Error::Posix(libc::ENOENT));
    }
    Ok(item)
}

/// Some names of `dir` after offset `from`, at most `max`.
pub(crate) fn list(
    r: &dyn Read,
    dir: Ino,
    from: u64,
    max: usize,
) -> Result<Vec<(u64, DirentItem)>> {
    let mut out = Vec::new();
    let (_, end) = all_of(dir, kind::DIRENT);
    r.scan(&dirent_key(dir, from), &end, &mut |key, value| {
        let entry = DirentItem::decode(value).ok_or_else(|| damaged(dir, "an entry in it"))?;
        out.push((key.offset, entry));
        Ok(if out.len() < max {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    Ok(out)
}

/// Whether a directory has no name in it.
pub(crate) fn is_empty(r: &dyn Read, dir: Ino) -> Result<bool> {
    let next = r.next(&dirent_key(dir, 0))?;
    Ok(next.is_none_or(|(key, _)| (key.object, key.kind) != (dir, kind::DIRENT)))
}

impl Fs {
    /// The entry with this name, or a free slot for it.
    pub(crate) fn slot(&self, r: &dyn Read, dir: Ino, name: &[u8]) -> Result<Slot<DirentItem>> {
        let first = self.names.name(name);
        search(r, (dir, kind::DIRENT), first, 1, &mut |value| {
            let (ino, kind, flags, n) =
                DirentItem::borrow(value).ok_or_else(|| damaged(dir, "an entry in it"))?;
            Ok((n == name).then(|| DirentItem {
                ino,
                kind,
                flags,
                name: n.to_vec(),
            }))
        })
    }

    /// The entry with this name and its cookie; ENOENT.
    pub(crate) fn entry(&self, r: &dyn Read, dir: Ino, name: &[u8]) -> Result<(u64, DirentItem)> {
        self.slot(r, dir, name)?
            .found()
            .ok_or(Error::Posix(libc::ENOENT))
    }

    /// "." and ".." work. ENOENT, ENOTDIR, ENAMETOOLONG.
    pub fn lookup(&self, dir: Ino, name: &[u8]) -> Result<Attr> {
        match name {
            b"." => return self.attr(dir),
            b".." => return self.attr(self.parent(dir)?),
            _ if name.len() > NAME_MAX => return Err(Error::Posix(libc::ENAMETOOLONG)),
            _ => {}
        }
        self.volume
            .enter(Need::READ)?
            .view(|r| match self.slot(r, dir, name)?.found() {
                Some((_, entry)) => match read_inode(r, entry.ino) {
                    Ok(item) => Ok(attr_of(entry.ino, &item)),
                    // A name without an inode is damage, not absence.
                    Err(Error::Posix(_)) => Err(damaged(dir, "an entry's inode is missing")),
                    Err(e) => Err(e),
                },
                None => {
                    read_dir(r, dir)?;
                    Err(Error::Posix(libc::ENOENT))
                }
            })
    }

    /// The directory a directory is in (root: itself). ENOENT for a removed one.
    pub fn parent(&self, dir: Ino) -> Result<Ino> {
        let item = self.volume.enter(Need::READ)?.view(|r| read_dir(r, dir))?;
        match item.parent {
            _ if dir == ROOT_INO => Ok(ROOT_INO),
            0 => Err(Error::Posix(libc::ENOENT)),
            parent => Ok(parent),
        }
    }

    /// Entries after `cookie` (0: from the start; "." and ".." are included first), until `each`
    /// answers false (that entry counts as not taken). With attributes where wanted (absent for an
    /// entry that went meanwhile). What is added or removed while listing may or may not be seen;
    /// every other name is seen once.
    pub fn readdir(
        &self,
        dir: Ino,
        cookie: u64,
        attrs: bool,
        each: &mut dyn FnMut(&DirEntry, Option<&Attr>) -> bool,
    ) -> Result<()> {
        let mut batch = self.dots(dir, cookie)?;
        let mut from = cookie.max(DOT_DOT).saturating_add(1);
        let mut max = FIRST_BATCH;
        loop {
            let g = self.volume.enter(Need::READ)?;
            let entries = g.view(|r| list(r, dir, from, max))?;
            let last = entries.len() < max;
            batch.extend(entries.into_iter().map(|(cookie, e)| DirEntry {
                name: e.name,
                ino: e.ino,
                kind: e.kind,
                cookie,
            }));
            let known = if attrs {
                attributes(&g, &batch)?
            } else {
                vec![None; batch.len()]
            };
            drop(g);
            for (entry, attr) in batch.iter().zip(&known) {
                if !each(entry, attr.as_ref()) {
                    return Ok(());
                }
            }
            match batch.last() {
                Some(entry) if !last => from = entry.cookie.saturating_add(1),
                _ => return Ok(()),
            }
            batch.clear();
            max = BATCH;
        }
    }

    /// "." and "..", as far as they come after `cookie`.
    fn dots(&self, dir: Ino, cookie: u64) -> Result<Vec<DirEntry>> {
        let item = self
            .volume
            .enter(Need::READ)?
            .view(|r| read_live_dir(r, dir))?;
        let dot = |name: &[u8], ino, cookie| DirEntry {
            name: name.to_vec(),
            ino,
            kind: libc::S_IFDIR,
            cookie,
        };
        let mut both = vec![dot(b".", dir, DOT), dot(b"..", item.parent, DOT_DOT)];
        both.retain(|e| e.cookie > cookie);
        Ok(both)
    }
}

fn attributes(g: &Entered<'_>, entries: &[DirEntry]) -> Result<Vec<Option<Attr>>> {
    let mut out = Vec::with_capacity(entries.len());
    g.view(|r| {
        // Goes on where it was when a node had to be read.
        while let Some(entry) = entries.get(out.len()) {
            out.push(match read_inode(r, entry.ino) {
                Ok(item) => Some(attr_of(entry.ino, &item)),
                Err(Error::Posix(libc::ENOENT)) => None,
                Err(e) => return Err(e),
            });
        }
        Ok(())
    })?;
    Ok(out)
}
