//! Extended attributes.
//!
//! An attribute is a first item with name, length and the value's beginning, and as many items with
//! the rest as the value needs. ACLs are kept the same way; the access ACL goes together with the
//! mode, as on Linux.

use super::acl::Acl;
use super::hash::{Slot, search};
use super::inode::{damaged, read_inode, write_inode};
use super::item::{InodeItem, XattrItem, flag};
use super::{Fs, NAME_MAX, XATTR_MAX, XattrSet};
use crate::base::{Error, Ino, Result, Time};
use crate::pool::{Need, Op};
use crate::tree::{Key, Read, VALUE_MAX, kind};

/// Bytes of all values of one inode at most. Attributes are metadata, which a volume's size limit
/// does not count.
pub const VALUES_MAX: u32 = 16 << 20;

const CAPABILITY: &[u8] = b"security.capability";
/// Offset from one slot to the next: the low byte numbers an attribute's parts.
const STEP: u64 = 256;

const fn xattr_key(ino: Ino, at: u64) -> Key {
    Key::new(ino, kind::XATTR, at)
}

/// Items of an attribute.
fn parts(name: usize, value: usize) -> u64 {
    let first = VALUE_MAX - XattrItem::HEAD - name;
    1 + value.saturating_sub(first).div_ceil(VALUE_MAX) as u64
}

/// What name it is, and for which types of files: ERANGE, EINVAL, EOPNOTSUPP.
fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name.len() > NAME_MAX {
        return Err(Error::Posix(libc::ERANGE));
    }
    if name.contains(&0) {
        return Err(Error::Posix(libc::EINVAL));
    }
    if matches!(name, Acl::ACCESS | Acl::DEFAULT) {
        return Ok(());
    }
    let space = [&b"user."[..], b"trusted.", b"security."]
        .into_iter()
        .find_map(|p| name.strip_prefix(p));
    match space {
        None => Err(Error::Posix(libc::EOPNOTSUPP)),
        Some([]) => Err(Error::Posix(libc::EINVAL)),
        Some(_) => Ok(()),
    }
}

/// user.* attributes are for files and directories: permission to write a device says nothing
/// about permission to fill the disk below it.
fn allowed(item: &InodeItem, name: &[u8]) -> bool {
    !name.starts_with(b"user.") || item.is_file() || item.is_dir()
}

/// The inode's flag for attributes that other operations must know of.
fn flag_of(name: &[u8]) -> u32 {
    match name {
        Acl::ACCESS => flag::ACL_ACCESS,
        Acl::DEFAULT => flag::ACL_DEFAULT,
        CAPABILITY => flag::CAPABILITY,
        _ => 0,
    }
}

impl Fs {
    /// ENODATA when there is none.
    pub fn xattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        check_name(name)?;
        self.volume.enter(Need::READ)?.view(|r| {
            let item = read_inode(r, ino)?;
            self.read_xattr(r, ino, &item, name)?
                .ok_or(Error::Posix(libc::ENODATA))
        })
    }

    /// The names, in no particular order; together at most `XATTR_MAX` bytes with a NUL each.
    pub fn xattrs(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        self.volume.enter(Need::READ)?.view(|r| {
            let mut names = Vec::new();
            if read_inode(r, ino)?.xattr_names == 0 {
                return Ok(names);
            }
            let mut at = 0;
            while let Some((key, value)) = r.next(&xattr_key(ino, at))? {
                if (key.object, key.kind) != (ino, kind::XATTR) {
                    break;
                }
                let x = XattrItem::decode(&value).ok_or_else(|| damaged(ino, "an attribute"))?;
                names.push(x.name.to_vec());
                // Over the other parts.
                at = (key.offset | 0xff).saturating_add(1);
            }
            Ok(names)
        })
    }

    /// E2BIG beyond `XATTR_MAX` bytes, EEXIST, ENODATA, EOPNOTSUPP for other name spaces, EPERM for
    /// user.* on what is neither file nor directory, ENOSPC when the list of names would be longer
    /// than `XATTR_MAX` or the values longer than [`VALUES_MAX`].
    pub fn set_xattr(&self, ino: Ino, name: &[u8], value: &[u8], how: XattrSet) -> Result<()> {
        check_name(name)?;
        if value.len() > XATTR_MAX {
            return Err(Error::Posix(libc::E2BIG));
        }
        let acl = match name {
            Acl::ACCESS | Acl::DEFAULT => Some(Acl::decode(value)?),
            _ => None,
        };
        let most = parts(name.len(), XATTR_MAX) as u32;
        let need = Need {
            keys: 2 * most + 8,
            bytes: value.len() as u32 + (8 << 10),
            frees: false,
        };
        let g = self.enter_to_change(need)?;
        let now = Time::now();
        g.update(|op| {
            let mut item = read_inode(op, ino)?;
            if !allowed(&item, name) {
                return Err(Error::Posix(libc::EPERM));
            }
            let exists = self.find_xattr(op, ino, &item, name)?.found().is_some();
            match how {
                XattrSet::Create if exists => return Err(Error::Posix(libc::EEXIST)),
                XattrSet::Replace if !exists => return Err(Error::Posix(libc::ENODATA)),
                _ => {}
            }
            match &acl {
                None => self.put_xattr(op, ino, &mut item, name, value)?,
                Some(acl) => self.set_acl(op, ino, &mut item, name, acl.as_ref())?,
            }
            item.changed(now);
            write_inode(op, ino, &item);
            Ok(())
        })
    }

    /// ENODATA when there is none.
    pub fn remove_xattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        check_name(name)?;
        let g = self.enter_to_change(Need::FREE)?;
        let now = Time::now();
        g.update(|op| {
            let mut item = read_inode(op, ino)?;
            if !allowed(&item, name) {
                return Err(Error::Posix(libc::EPERM));
            }
            if !self.delete_xattr(op, ino, &mut item, name)? {
                return Err(Error::Posix(libc::ENODATA));
            }
            item.changed(now);
            write_inode(op, ino, &item);
            Ok(())
        })
    }

    /// A write takes a file's capabilities away. Changes `item`, which the caller writes.
    pub(crate) fn drop_capability(
        &self,
        op: &mut Op<'_>,
        ino: Ino,
        item: &mut InodeItem,
    ) -> Result<()> {
        self.delete_xattr(op, ino, item, CAPABILITY)?;
        item.flags &= !flag::CAPABILITY;
        Ok(())
    }

    /// The directory's default ACL, which its flags say is there.
    pub(crate) fn default_acl(
        &self,
        r: &dyn Read,
        dir: Ino,
        item: &InodeItem,
    ) -> Result<Option<Acl>> {
        self.read_acl(r, dir, item, Acl::DEFAULT)
    }

    fn read_acl(
        &self,
        r: &dyn Read,
        ino: Ino,
        item: &InodeItem,
        name: &[u8],
    ) -> Result<Option<Acl>> {
        let Some(bytes) = self.read_xattr(r, ino, item, name)? else {
            return Ok(None);
        };
        Acl::decode(&bytes).map_err(|_| damaged(ino, "its access control list"))
    }

    pub(crate) fn put_acl(
        &self,
        op: &mut Op<'_>,
        ino: Ino,
        item: &mut InodeItem,
        name: &[u8],
        acl: &Acl,
    ) -> Result<()> {
        self.put_xattr(op, ino, item, name, &acl.encode())
    }

    /// The mode was changed: the access ACL follows.
    pub(crate) fn chmod_acl(&self, op: &mut Op<'_>, ino: Ino, item: &mut InodeItem) -> Result<()> {
        if item.flags & flag::ACL_ACCESS == 0 {
            return Ok(());
        }
        let Some(mut acl) = self.read_acl(op, ino, item, Acl::ACCESS)? else {
            item.flags &= !flag::ACL_ACCESS;
            return Ok(());
        };
        acl.chmod(item.mode);
        self.put_acl(op, ino, item, Acl::ACCESS, &acl)
    }

    /// As posix_acl(7) has it on Linux: an access ACL sets the permission bits and is kept only when
    /// it says more than they do; none at all removes it.
    fn set_acl(
        &self,
        op: &mut Op<'_>,
        ino: Ino,
        item: &mut InodeItem,
        name: &[u8],
        acl: Option<&Acl>,
    ) -> Result<()> {
        if item.kind() == libc::S_IFLNK {
            return Err(Error::Posix(libc::EOPNOTSUPP));
        }
        if name == Acl::DEFAULT && !item.is_dir() {
            return if acl.is_some() {
                Err(Error::Posix(libc::EACCES))
            } else {
                Ok(())
            };
        }
        let keep = match acl {
            None => None,
            Some(acl) if name == Acl::ACCESS => {
                item.mode = acl.mode(item.mode);
                Some(acl).filter(|a| a.is_extended())
            }
            Some(acl) => Some(acl),
        };
        match keep {
            Some(acl) => self.put_acl(op, ino, item, name, acl),
            None => self.delete_xattr(op, ino, item, name).map(|_| ()),
        }
    }

    /// The attribute's slot and the length of its value.
    fn find_xattr(
        &self,
        r: &dyn Read,
        ino: Ino,
        item: &InodeItem,
        name: &[u8],
    ) -> Result<Slot<usize>> {
        let first = self.names.xattr(name);
        if item.xattr_names == 0 {
            return Ok(Slot::Free(Some(first)));
        }
        search(r, (ino, kind::XATTR), first, STEP, &mut |value| {
            let x = XattrItem::decode(value).ok_or_else(|| damaged(ino, "an attribute"))?;
            Ok((x.name == name).then_some(x.len as usize))
        })
    }

    fn read_xattr(
        &self,
        r: &dyn Read,
        ino: Ino,
        item: &InodeItem,
        name: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        let Some((at, len)) = self.find_xattr(r, ino, item, name)?.found() else {
            return Ok(None);
        };
        let bad = || damaged(ino, "an attribute");
        let mut out = Vec::with_capacity(len);
        for part in 0..parts(name.len(), len) {
            let bytes = r.get(&xattr_key(ino, at + part))?.ok_or_else(bad)?;
            match part {
                0 => out.extend_from_slice(XattrItem::decode(&bytes).ok_or_else(bad)?.head),
                _ => out.extend_from_slice(&bytes),
            }
        }
        if out.len() != len {
            return Err(bad());
        }
        Ok(Some(out))
    }

    /// Puts a value, over an earlier one. Changes `item`, which the caller writes.
    fn put_xattr(
        &self,
        op: &mut Op<'_>,
        ino: Ino,
        item: &mut InodeItem,
        name: &[u8],
        value: &[u8],
    ) -> Result<()> {
        self.delete_xattr(op, ino, item, name)?;
        let at = self.find_xattr(op, ino, item, name)?.free()?;
        let names = item.xattr_names as usize + name.len() + 1;
        let bytes = item.xattr_bytes as usize + value.len();
        if names > XATTR_MAX || bytes > VALUES_MAX as usize {
            return Err(Error::Posix(libc::ENOSPC));
        }
        (item.xattr_names, item.xattr_bytes) = (names as u32, bytes as u32);
        item.flags |= flag_of(name);
        let first = VALUE_MAX - XattrItem::HEAD - name.len();
        let (head, rest) = value.split_at(first.min(value.len()));
        let x = XattrItem {
            len: value.len() as u32,
            name,
            head,
        };
        op.put(xattr_key(ino, at), x.encode());
        for (part, bytes) in (1u64..).zip(rest.chunks(VALUE_MAX)) {
            op.put(xattr_key(ino, at + part), bytes.to_vec());
        }
        Ok(())
    }

    /// Whether there was one. Changes `item`, which the caller writes.
    fn delete_xattr(
        &self,
        op: &mut Op<'_>,
        ino: Ino,
        item: &mut InodeItem,
        name: &[u8],
    ) -> Result<bool> {
        let Some((at, len)) = self.find_xattr(op, ino, item, name)?.found() else {
            return Ok(false);
        };
        for part in 0..parts(name.len(), len) {
            op.delete(xattr_key(ino, at + part));
        }
        item.xattr_names = item.xattr_names.saturating_sub(name.len() as u32 + 1);
        item.xattr_bytes = item.xattr_bytes.saturating_sub(len as u32);
        item.flags &= !flag_of(name);
        Ok(true)
    }
}

const _: () = assert!(Acl::BYTES_MAX + XattrItem::HEAD + Acl::DEFAULT.len() <= VALUE_MAX);
// Parts are numbered by one byte.
const _: () = assert!(XATTR_MAX / VALUE_MAX + 2 < 256);
