//! Making files of all types.

use super::acl::Acl;
use super::dir::{check_name, dirent_key, is_dots, read_dir, read_live_dir};
use super::inode::{attr_of, set_orphan, write_inode};
use super::item::{DirentItem, InodeItem, flag, known_type, orphan};
use super::{Attr, Cred, Fs};
use crate::base::{Error, Ino, Result, Time};
use crate::pool::{Need, Op};
use crate::tree::{Key, kind};

/// Names of one inode, and subdirectories of one directory: as many as XFS allows.
pub const LINK_MAX: u32 = i32::MAX as u32;
/// Longest target of a symbolic link: PATH_MAX without its NUL.
pub const TARGET_MAX: usize = 4095;

/// What is to be made.
struct New<'a> {
    mode: u32,
    rdev: u32,
    /// Of a symbolic link.
    target: &'a [u8],
    cred: &'a Cred,
}

impl Fs {
    /// Regular files (also: no type given), fifos, sockets, devices; `mode` with its type.
    /// EEXIST, ENOENT, ENOTDIR, EPERM for a directory, EINVAL for other types.
    pub fn mknod(&self, dir: Ino, name: &[u8], mode: u32, rdev: u32, cred: &Cred) -> Result<Attr> {
        let kind = match mode & libc::S_IFMT {
            0 => libc::S_IFREG,
            libc::S_IFDIR => return Err(Error::Posix(libc::EPERM)),
            libc::S_IFLNK => return Err(Error::Posix(libc::EINVAL)),
            other if !known_type(other) => return Err(Error::Posix(libc::EINVAL)),
            other => other,
        };
        let rdev = if matches!(kind, libc::S_IFCHR | libc::S_IFBLK) {
            rdev
        } else {
            0
        };
        self.make(
            dir,
            name,
            &New {
                mode: kind | mode & 0o7777,
                rdev,
                target: b"",
                cred,
            },
        )
    }

    pub fn mkdir(&self, dir: Ino, name: &[u8], mode: u32, cred: &Cred) -> Result<Attr> {
        // As mkdir(2): of the special bits only the sticky one counts; setgid comes from the parent.
        let mode = libc::S_IFDIR | mode & 0o1777;
        self.make(
            dir,
            name,
            &New {
                mode,
                rdev: 0,
                target: b"",
                cred,
            },
        )
    }

    /// ENOENT for an empty target, ENAMETOOLONG beyond [`TARGET_MAX`].
    pub fn symlink(&self, dir: Ino, name: &[u8], target: &[u8], cred: &Cred) -> Result<Attr> {
        if target.is_empty() {
            return Err(Error::Posix(libc::ENOENT));
        }
        if target.len() > TARGET_MAX {
            return Err(Error::Posix(libc::ENAMETOOLONG));
        }
        if target.contains(&0) {
            return Err(Error::Posix(libc::EINVAL));
        }
        self.make(
            dir,
            name,
            &New {
                mode: libc::S_IFLNK | 0o777,
                rdev: 0,
                target,
                cred,
            },
        )
    }

    /// A file without a name (O_TMPFILE); `link` may give it one.
    pub fn tmpfile(&self, dir: Ino, mode: u32, cred: &Cred) -> Result<Attr> {
        let new = New {
            mode: libc::S_IFREG | mode & 0o7777,
            rdev: 0,
            target: b"",
            cred,
        };
        let g = self.enter_to_change(Need::SMALL)?;
        let ino = self.volume.new_ino();
        let now = Time::now();
        g.update(|op| {
            let parent = read_dir(op, dir)?;
            let mut item = self.inherit(op, dir, &parent, ino, &new, now)?;
            item.nlink = 0;
            item.flags |= flag::LINKABLE;
            write_inode(op, ino, &item);
            set_orphan(op, ino, orphan::NO_NAME, None)?;
            Ok(attr_of(ino, &item))
        })
    }

    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        self.volume.enter(Need::READ)?.view(|r| {
            let item = super::inode::read_inode(r, ino)?;
            if item.kind() != libc::S_IFLNK {
                return Err(Error::Posix(libc::EINVAL));
            }
            let target = r.get(&Key::new(ino, kind::INLINE, 0))?;
            target
                .filter(|t| t.len() as u64 == item.size)
                .ok_or_else(|| super::inode::damaged(ino, "its link target"))
        })
    }

    fn make(&self, dir: Ino, name: &[u8], new: &New<'_>) -> Result<Attr> {
        check_name(name)?;
        if is_dots(name) {
            return Err(Error::Posix(libc::EEXIST));
        }
        let g = self.enter_to_change(Need::SMALL)?;
        let ino = self.volume.new_ino();
        let now = Time::now();
        g.update(|op| {
            let mut parent = read_live_dir(op, dir)?;
            let slot = self.slot(op, dir, name)?;
            if matches!(slot, super::hash::Slot::Found(..)) {
                return Err(Error::Posix(libc::EEXIST));
            }
            let cookie = slot.free()?;
            let mut item = self.inherit(op, dir, &parent, ino, new, now)?;
            (item.parent, item.cookie) = (dir, cookie);
            item.nlink = 1;
            if item.is_dir() {
                item.nlink = 2;
                add_subdirectory(&mut parent)?;
            }
            if !new.target.is_empty() {
                item.size = new.target.len() as u64;
                op.put(Key::new(ino, kind::INLINE, 0), new.target.to_vec());
            }
            write_inode(op, ino, &item);
            let kind = item.kind();
            let entry = DirentItem {
                ino,
                kind,
                flags: 0,
                name: name.to_vec(),
            };
            op.put(dirent_key(dir, cookie), entry.encode());
            parent.size = parent.size.saturating_add(name.len() as u64);
            parent.modified(now);
            write_inode(op, dir, &parent);
            Ok(attr_of(ino, &item))
        })
    }

    /// A new inode as its directory wants it: group and setgid, default ACL or umask.
    fn inherit(
        &self,
        op: &mut Op<'_>,
        dir: Ino,
        parent: &InodeItem,
        ino: Ino,
        new: &New<'_>,
        now: Time,
    ) -> Result<InodeItem> {
        let setgid = parent.mode & libc::S_ISGID != 0;
        let mut item = InodeItem {
            mode: new.mode,
            uid: new.cred.uid,
            gid: if setgid { parent.gid } else { new.cred.gid },
            rdev: new.rdev,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            ..InodeItem::default()
        };
        if setgid && item.is_dir() {
            item.mode |= libc::S_ISGID;
        }
        if item.kind() == libc::S_IFLNK {
            return Ok(item);
        }
        let default = match parent.flags & flag::ACL_DEFAULT {
            0 => None,
            _ => self.default_acl(op, dir, parent)?,
        };
        let Some(default) = default else {
            item.mode &= !(new.cred.umask & 0o777);
            return Ok(item);
        };
        let mut access = default.clone();
        item.mode = access.inherit(item.mode);
        if access.is_extended() {
            self.put_acl(op, ino, &mut item, Acl::ACCESS, &access)?;
        }
        if item.is_dir() {
            self.put_acl(op, ino, &mut item, Acl::DEFAULT, &default)?;
        }
        Ok(item)
    }
}

/// One more "..": EMLINK beyond [`LINK_MAX`].
pub(crate) fn add_subdirectory(dir: &mut InodeItem) -> Result<()> {
    if dir.nlink >= LINK_MAX {
        return Err(Error::Posix(libc::EMLINK));
    }
    dir.nlink += 1;
    Ok(())
}
