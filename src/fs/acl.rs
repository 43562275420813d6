//! POSIX ACLs: what is in system.posix_acl_access and system.posix_acl_default, and what it has to
//! do with mode bits. Bytes and arithmetic are Linux's (include/uapi/linux/posix_acl_xattr.h,
//! fs/posix_acl.c), which follows POSIX.1e draft 17, section 23.
//!
//! The attribute: version (4 bytes, 2), then 8 bytes an entry: tag, permissions (2 each), id (4);
//! little-endian.

use crate::base::{Error, Result};

const VERSION: u32 = 2;
const UNDEFINED_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    tag: u16,
    /// rwx, 0..=7.
    perm: u32,
    id: u32,
}

/// A valid ACL: its entries in order, with all that must be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Acl(Vec<Entry>);

impl Acl {
    pub(crate) const ACCESS: &'static [u8] = b"system.posix_acl_access";
    pub(crate) const DEFAULT: &'static [u8] = b"system.posix_acl_default";
    /// Longest attribute: fits one item, and one page, which is what the kernel takes.
    pub(crate) const BYTES_MAX: usize = 4 + 500 * 8;

    /// `None`: an attribute without entries, which means "no ACL". EINVAL, E2BIG, EOPNOTSUPP.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Option<Acl>> {
        let Some((version, entries)) = bytes.split_first_chunk::<4>() else {
            return if bytes.is_empty() {
                Ok(None)
            } else {
                Err(Error::Posix(libc::EINVAL))
            };
        };
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Error::Posix(libc::EOPNOTSUPP));
        }
        if bytes.len() > Acl::BYTES_MAX {
            return Err(Error::Posix(libc::E2BIG));
        }
        let (entries, rest) = entries.as_chunks::<8>();
        if !rest.is_empty() {
            return Err(Error::Posix(libc::EINVAL));
        }
        let entry = |&[t0, t1, p0, p1, id @ ..]: &[u8; 8]| {
            let tag = u16::from_le_bytes([t0, t1]);
            let named = matches!(tag, USER | GROUP);
            Entry {
                tag,
                perm: u32::from(u16::from_le_bytes([p0, p1])),
                id: if named {
                    u32::from_le_bytes(id)
                } else {
                    UNDEFINED_ID
                },
            }
        };
        let acl = Acl(entries.iter().map(entry).collect());
        match acl.0.len() {
            0 => Ok(None),
            _ if acl.valid() => Ok(Some(acl)),
            _ => Err(Error::Posix(libc::EINVAL)),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut v = Vec::with_capacity(4 + 8 * self.0.len());
        v.extend_from_slice(&VERSION.to_le_bytes());
        for e in &self.0 {
            v.extend_from_slice(&e.tag.to_le_bytes());
            v.extend_from_slice(&(e.perm as u16).to_le_bytes());
            v.extend_from_slice(&e.id.to_le_bytes());
        }
        v
    }

    /// Owner, named users, group, named groups, mask (needed with named ones), others: in order.
    fn valid(&self) -> bool {
        let (mut last, mut named) = (0, false);
        for e in &self.0 {
            let again = e.tag == last;
            let ordered = match e.tag {
                USER | GROUP => {
                    named = true;
                    e.id != UNDEFINED_ID && e.tag >= last
                }
                USER_OBJ | GROUP_OBJ | MASK | OTHER => e.tag > last && !again,
                _ => false,
            };
            if !ordered || e.perm > 7 {
                return false;
            }
            last = e.tag;
        }
        let has = |tag| self.0.iter().any(|e| e.tag == tag);
        has(USER_OBJ) && has(GROUP_OBJ) && has(OTHER) && (!named || has(MASK))
    }

    fn get(&self, tag: u16) -> Option<u32> {
        self.0.iter().find(|e| e.tag == tag).map(|e| e.perm)
    }

    fn entry(&mut self, tag: u16) -> Option<&mut Entry> {
        self.0.iter_mut().find(|e| e.tag == tag)
    }

    /// The entry that the group bits of the mode stand for.
    fn class(&self) -> u16 {
        if self.get(MASK).is_some() {
            MASK
        } else {
            GROUP_OBJ
        }
    }

    /// Says more than nine permission bits can (posix_acl_equiv_mode).
    pub(crate) fn is_extended(&self) -> bool {
        self.0.iter().any(|e| matches!(e.tag, USER | GROUP | MASK))
    }

    /// `mode` with the permission bits this access ACL shows.
    pub(crate) fn mode(&self, mode: u32) -> u32 {
        let bits = |tag| self.get(tag).unwrap_or(0);
        mode & !0o777 | bits(USER_OBJ) << 6 | bits(self.class()) << 3 | bits(OTHER)
    }

    /// A default ACL becomes the access ACL of what is made with `mode`: both keep only what the
    /// other allows (posix_acl_create_masq). Answers the mode.
    pub(crate) fn inherit(&mut self, mode: u32) -> u32 {
        let class = self.class();
        for (tag, shift) in [(USER_OBJ, 6), (class, 3), (OTHER, 0)] {
            if let Some(e) = self.entry(tag) {
                e.perm &= mode >> shift & 7;
            }
        }
        self.mode(mode)
    }

    /// chmod(2): the permission bits go into the ACL (__posix_acl_chmod_masq).
    pub(crate) fn chmod(&mut self, mode: u32) {
        let class = self.class();
        for (tag, shift) in [(USER_OBJ, 6), (class, 3), (OTHER, 0)] {
            if let Some(e) = self.entry(tag) {
                e.perm = mode >> shift & 7;
            }
        }
    }
}

#[cfg(test)]
#[path = "acl_tests.rs"]
mod tests;
