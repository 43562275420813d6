//! rename(2) with its flags.

use super::create::add_subdirectory;
use super::dir::{check_name, dirent_key, is_dots, is_empty, read_dir, read_live_dir};
use super::hash::Slot;
use super::inode::{attr_of, damaged, read_inode, write_inode};
use super::item::{DirentItem, InodeItem};
use super::link::missing;
use super::{Attr, Fs, RenameFlags};
use crate::base::{Error, Ino, ROOT_INO, Result, Time};
use crate::pool::{Entered, Need, Op};
use crate::tree::Read;

/// One rename, as asked.
struct Rename<'a> {
    dir: Ino,
    name: &'a [u8],
    new_dir: Ino,
    new_name: &'a [u8],
    flags: RenameFlags,
    /// For the whiteout, if there is one.
    new_ino: Ino,
    now: Time,
}

impl Fs {
    /// What was replaced, if anything, as it is now. A whiteout is left as a character device 0:0
    /// that belongs to root, as overlayfs has them.
    pub fn rename(
        &self,
        dir: Ino,
        name: &[u8],
        new_dir: Ino,
        new_name: &[u8],
        flags: RenameFlags,
    ) -> Result<Option<Attr>> {
        if flags.exchange && (flags.noreplace || flags.whiteout) {
            return Err(Error::Posix(libc::EINVAL));
        }
        check_name(name)?;
        check_name(new_name)?;
        if is_dots(name) || is_dots(new_name) {
            return Err(Error::Posix(libc::EBUSY));
        }
        let g = self.enter_to_change(Need::SMALL)?;
        if dir != new_dir {
            // Brings the inodes above into memory one by one: the change below walks them in one
            // go, and would begin again for each it had to read.
            walk_up(&g, dir)?;
            walk_up(&g, new_dir)?;
        }
        let new_ino = if flags.whiteout {
            self.volume.new_ino()
        } else {
            0
        };
        let now = Time::now();
        let ask = Rename {
            dir,
            name,
            new_dir,
            new_name,
            flags,
            new_ino,
            now,
        };
        g.update(|op| self.rename_in(op, &ask))
    }

    fn rename_in(&self, op: &mut Op<'_>, ask: &Rename<'_>) -> Result<Option<Attr>> {
        let Rename {
            dir,
            new_dir,
            flags,
            ..
        } = *ask;
        read_dir(op, dir)?;
        read_live_dir(op, new_dir)?;
        let (cookie, entry) = self.entry(op, dir, ask.name)?;
        let target = self.slot(op, new_dir, ask.new_name)?;
        let item = read_inode(op, entry.ino).map_err(|e| missing(e, dir))?;
        let new_cookie = match target {
            Slot::Found(..) if flags.noreplace => return Err(Error::Posix(libc::EEXIST)),
            Slot::Found(at, over) => {
                not_around(
                    op,
                    ask,
                    (entry.ino, entry.kind),
                    Some((over.ino, over.kind)),
                )?;
                if over.ino == entry.ino {
                    // Two names of one inode: nothing to do (POSIX).
                    return Ok(None);
                }
                if flags.exchange {
                    self.exchange(op, ask, (cookie, entry), (at, over))?;
                    return Ok(None);
                }
                let replaced = self.replace(op, ask, &item, at, over.ino)?;
                self.put_moved(op, ask, (cookie, entry), item, at)?;
                return Ok(Some(replaced));
            }
            Slot::Free(_) if flags.exchange => return Err(Error::Posix(libc::ENOENT)),
            free => {
                not_around(op, ask, (entry.ino, entry.kind), None)?;
                free.free()?
            }
        };
        edit(op, new_dir, |d| {
            d.size = d.size.saturating_add(ask.new_name.len() as u64);
            Ok(())
        })?;
        self.put_moved(op, ask, (cookie, entry), item, new_cookie)?;
        Ok(None)
    }

    /// What has the new name goes.
    fn replace(
        &self,
        op: &mut Op<'_>,
        ask: &Rename<'_>,
        item: &InodeItem,
        at: u64,
        ino: Ino,
    ) -> Result<Attr> {
        let mut over = read_inode(op, ino).map_err(|e| missing(e, ask.new_dir))?;
        match (item.is_dir(), over.is_dir()) {
            (true, false) => return Err(Error::Posix(libc::ENOTDIR)),
            (false, true) => return Err(Error::Posix(libc::EISDIR)),
            (true, true) if !is_empty(op, ino)? => return Err(Error::Posix(libc::ENOTEMPTY)),
            (true, true) => edit(op, ask.new_dir, |d| {
                d.nlink = d.nlink.saturating_sub(1);
                Ok(())
            })?,
            (false, false) => {}
        }
        self.drop_name(op, ino, &mut over, (ask.new_dir, at), ask.now)?;
        Ok(attr_of(ino, &over))
    }

    /// The inode leaves its old name (or a whiteout there) and gets the new one, at `new_cookie`.
    fn put_moved(
        &self,
        op: &mut Op<'_>,
        ask: &Rename<'_>,
        (cookie, entry): (u64, DirentItem),
        mut item: InodeItem,
        new_cookie: u64,
    ) -> Result<()> {
        let Rename {
            dir, new_dir, now, ..
        } = *ask;
        if ask.flags.whiteout {
            self.put_whiteout(op, ask, cookie)?;
        } else {
            op.delete(dirent_key(dir, cookie));
        }
        let moved = DirentItem {
            name: ask.new_name.to_vec(),
            ..entry
        };
        op.put(dirent_key(new_dir, new_cookie), moved.encode());
        self.move_name(
            op,
            moved.ino,
            &mut item,
            (dir, cookie),
            (new_dir, new_cookie),
        )?;
        item.changed(now);
        write_inode(op, moved.ino, &item);
        edit(op, dir, |d| {
            if !ask.flags.whiteout {
                d.size = d.size.saturating_sub(ask.name.len() as u64);
            }
            if item.is_dir() && dir != new_dir {
                d.nlink = d.nlink.saturating_sub(1);
            }
            d.modified(now);
            Ok(())
        })?;
        if dir != new_dir {
            edit(op, new_dir, |d| {
                if item.is_dir() {
                    add_subdirectory(d)?;
                }
                d.modified(now);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn put_whiteout(&self, op: &mut Op<'_>, ask: &Rename<'_>, cookie: u64) -> Result<()> {
        let white = InodeItem {
            mode: libc::S_IFCHR,
            nlink: 1,
            parent: ask.dir,
            cookie,
            atime: ask.now,
            mtime: ask.now,
            ctime: ask.now,
            btime: ask.now,
            ..InodeItem::default()
        };
        write_inode(op, ask.new_ino, &white);
        let name = ask.name.to_vec();
        let entry = DirentItem {
            ino: ask.new_ino,
            kind: libc::S_IFCHR,
            flags: 0,
            name,
        };
        op.put(dirent_key(ask.dir, cookie), entry.encode());
        Ok(())
    }

    fn exchange(
        &self,
        op: &mut Op<'_>,
        ask: &Rename<'_>,
        (cookie, a): (u64, DirentItem),
        (new_cookie, b): (u64, DirentItem),
    ) -> Result<()> {
        let Rename {
            dir, new_dir, now, ..
        } = *ask;
        let crosses = dir != new_dir;
        let mut item_a = read_inode(op, a.ino)?;
        let mut item_b = read_inode(op, b.ino).map_err(|e| missing(e, new_dir))?;
        let (here, there) = ((dir, cookie), (new_dir, new_cookie));
        let (name, new_name) = (a.name.clone(), b.name.clone());
        op.put(
            dirent_key(new_dir, new_cookie),
            DirentItem {
                name: new_name,
                ..a
            }
            .encode(),
        );
        op.put(dirent_key(dir, cookie), DirentItem { name, ..b }.encode());
        self.move_name(op, a.ino, &mut item_a, here, there)?;
        self.move_name(op, b.ino, &mut item_b, there, here)?;
        for (ino, item) in [(a.ino, &mut item_a), (b.ino, &mut item_b)] {
            item.changed(now);
            write_inode(op, ino, item);
        }
        let (out, back) = (crosses && item_a.is_dir(), crosses && item_b.is_dir());
        for (d, loses, gains) in [(dir, out, back), (new_dir, back, out)] {
            edit(op, d, |item| {
                if gains {
                    add_subdirectory(item)?;
                }
                if loses {
                    item.nlink = item.nlink.saturating_sub(1);
                }
                item.modified(now);
                Ok(())
            })?;
            if !crosses {
                break;
            }
        }
        Ok(())
    }
}

/// Changes an inode in place.
fn edit(
    op: &mut Op<'_>,
    ino: Ino,
    change: impl FnOnce(&mut InodeItem) -> Result<()>,
) -> Result<()> {
    let mut item = read_inode(op, ino)?;
    change(&mut item)?;
    write_inode(op, ino, &item);
    Ok(())
}

/// Notices that the way up never ends, which only damage can cause: remembers a place after 1, 2,
/// 4 ... steps and looks whether it comes again (Brent's algorithm).
#[derive(Default)]
struct Circle {
    seen: Ino,
    steps: u64,
    next: u64,
}

impl Circle {
    fn check(&mut self, at: Ino) -> Result<()> {
        if at == self.seen {
            return Err(damaged(at, "its parents run in a circle"));
        }
        if self.steps == self.next {
            self.seen = at;
            self.next = self.next * 2 + 1;
        }
        self.steps += 1;
        Ok(())
    }
}

/// A directory goes neither below itself (EINVAL) nor in the place of one that it is in (ENOTEMPTY;
/// EINVAL when they would change places). `from`, `over`: inode and type.
fn not_around(
    r: &dyn Read,
    ask: &Rename<'_>,
    from: (Ino, u32),
    over: Option<(Ino, u32)>,
) -> Result<()> {
    if ask.dir == ask.new_dir {
        return Ok(());
    }
    if from.1 == libc::S_IFDIR && is_above(r, from.0, ask.new_dir)? {
        return Err(Error::Posix(libc::EINVAL));
    }
    if let Some((over, libc::S_IFDIR)) = over
        && is_above(r, over, ask.dir)?
    {
        return Err(Error::Posix(if ask.flags.exchange {
            libc::EINVAL
        } else {
            libc::ENOTEMPTY
        }));
    }
    Ok(())
}

/// Whether `upper` is `dir` or above it.
fn is_above(r: &dyn Read, upper: Ino, dir: Ino) -> Result<bool> {
    let (mut at, mut circle) = (dir, Circle::default());
    loop {
        match at {
            _ if at == upper => return Ok(true),
            // The root; or above a removed directory.
            ROOT_INO | 0 => return Ok(false),
            _ => circle.check(at)?,
        }
        at = read_inode(r, at)?.parent;
    }
}

fn walk_up(g: &Entered<'_>, dir: Ino) -> Result<()> {
    let (mut at, mut circle) = (dir, Circle::default());
    while !matches!(at, ROOT_INO | 0) {
        circle.check(at)?;
        at = g.view(|r| read_inode(r, at))?.parent;
    }
    Ok(())
}
