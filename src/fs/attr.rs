//! Changing attributes: what chmod(2), chown(2), truncate(2), utimensat(2) do, as Linux's
//! notify_change does it.

use super::inode::{attr_of, read_inode, write_inode};
use super::item::InodeItem;
use super::privilege::without_suidgid;
use super::{Attr, Cred, Fs, SetAttr};
use crate::base::{Error, Ino, Result, Time};
use crate::pool::{Need, Op};

/// relatime writes an access time that is a day old whatever the other times are.
const DAY: i64 = 24 * 60 * 60;

impl Fs {
    /// A size is set first, as an operation of its own; all else in one. Changing the owner clears
    /// setuid and setgid (unless `mode` is given too) and capabilities of what is no directory.
    /// EISDIR, EINVAL for a size of what is no file; EOPNOTSUPP for a symbolic link's mode.
    pub fn set_attr(&self, ino: Ino, set: &SetAttr, cred: &Cred) -> Result<Attr> {
        // Group membership and capabilities are the kernel's to judge, which it does before.
        let _ = cred;
        for t in [set.atime, set.mtime, set.ctime].into_iter().flatten() {
            if t.nsec >= 1_000_000_000 {
                return Err(Error::Posix(libc::EINVAL));
            }
        }
        if let Some(size) = set.size {
            self.set_file_size(ino, size, set.kill_suidgid)?;
        }
        let owner = set.uid.is_some() || set.gid.is_some();
        let times = set.atime.is_some() || set.mtime.is_some() || set.ctime.is_some();
        let kill = set.kill_suidgid && set.size.is_none();
        if !owner && !times && !kill && set.mode.is_none() {
            return self.attr(ino);
        }
        // Changing the ACL rewrites at most one item of it.
        let g = self.enter_to_change(Need::SMALL)?;
        let now = Time::now();
        g.update(|op| {
            let mut item = read_inode(op, ino)?;
            if !item.is_dir() && (owner || kill) {
                self.drop_privileges(op, ino, &mut item, false)?;
                if owner {
                    item.mode &= !libc::S_ISUID;
                    item.mode = without_suidgid(item.mode);
                }
                if kill {
                    item.mode = without_suidgid(item.mode);
                }
            }
            item.uid = set.uid.unwrap_or(item.uid);
            item.gid = set.gid.unwrap_or(item.gid);
            if let Some(mode) = set.mode {
                self.chmod(op, ino, &mut item, mode)?;
            }
            item.changed(now);
            item.atime = set.atime.unwrap_or(item.atime);
            item.mtime = set.mtime.unwrap_or(item.mtime);
            item.ctime = set.ctime.unwrap_or(item.ctime);
            write_inode(op, ino, &item);
            Ok(attr_of(ino, &item))
        })
    }

    fn chmod(&self, op: &mut Op<'_>, ino: Ino, item: &mut InodeItem, mode: u32) -> Result<()> {
        if item.kind() == libc::S_IFLNK {
            return Err(Error::Posix(libc::EOPNOTSUPP));
        }
        item.mode = item.kind() | mode & 0o7777;
        self.chmod_acl(op, ino, item)
    }

    fn set_file_size(&self, ino: Ino, size: u64, kill_suidgid: bool) -> Result<()> {
        if self.read_only() {
            return Err(Error::Posix(libc::EROFS));
        }
        let item = self
            .volume
            .enter(Need::READ)?
            .view(|r| read_inode(r, ino))?;
        match item.kind() {
            libc::S_IFREG => self.set_size(ino, size, kill_suidgid),
            libc::S_IFDIR => Err(Error::Posix(libc::EISDIR)),
            _ => Err(Error::Posix(libc::EINVAL)),
        }
    }

    /// relatime: writes atime if it is older than mtime, ctime or a day. No-op when sealed, and
    /// when there is no space for it: nobody's read fails for that.
    pub fn touch_atime(&self, ino: Ino) -> Result<()> {
        if self.read_only() {
            return Ok(());
        }
        let now = Time::now();
        let old = |i: &InodeItem| {
            i.atime <= i.mtime || i.atime <= i.ctime || now.sec.saturating_sub(i.atime.sec) >= DAY
        };
        let item = self
            .volume
            .enter(Need::READ)?
            .view(|r| read_inode(r, ino))?;
        if !old(&item) {
            return Ok(());
        }
        let write = || {
            self.enter_to_change(Need::SMALL)?.update(|op| {
                let mut item = read_inode(op, ino)?;
                if old(&item) {
                    item.atime = now;
                    write_inode(op, ino, &item);
                }
                Ok(())
            })
        };
        match write() {
            Err(Error::NoSpace | Error::Quota) => Ok(()),
            other => other,
        }
    }
}
