//! What a change of content or owner takes away: setuid, setgid, capabilities.

use super::Fs;
use super::item::{InodeItem, flag};
use crate::base::{Ino, Result};
use crate::pool::Op;

/// Mode bits a write by one without CAP_FSETID leaves of `mode`: setgid means mandatory locking,
/// not a privilege, where the group may not execute.
pub(crate) fn without_suidgid(mode: u32) -> u32 {
    let mut kept = mode & !libc::S_ISUID;
    if mode & libc::S_IXGRP != 0 {
        kept &= !libc::S_ISGID;
    }
    kept
}

impl Fs {
    /// A file's content changes: its capabilities go, with `suidgid` setuid and setgid too.
    /// Changes `item`, which the caller writes.
    pub(crate) fn drop_privileges(
        &self,
        op: &mut Op<'_>,
        ino: Ino,
        item: &mut InodeItem,
        suidgid: bool,
    ) -> Result<()> {
        if suidgid {
            item.mode = without_suidgid(item.mode);
        }
        if item.flags & flag::CAPABILITY != 0 {
            self.drop_capability(op, ino, item)?;
        }
        Ok(())
    }
}
