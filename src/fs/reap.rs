//! Inodes without a name: what becomes of them when nobody uses them any more.
//!
//! Taking the last name away writes an orphan item in the same operation, so neither a crash nor a
//! full pool can lose the inode. Reaping goes in steps of a bounded size and may stop anywhere: the
//! orphan item and the inode go last, together.

use super::Fs;
use super::inode::{inode_key, orphan_key, read_inode, read_orphan, write_inode};
use super::item::{OrphanItem, flag, orphan};
use crate::base::{Error, Ino, Result};
use crate::pool::Need;
use crate::tree::{Key, Read, kind};
use std::ops::ControlFlow;

/// Items removed in one step.
const STEP: usize = 48;
/// Orphans looked at in one step.
const LIST: usize = 256;

impl Fs {
    /// The kernel forgot this inode: if it has no name left, it goes now, in bounded steps.
    pub fn forget(&self, ino: Ino) -> Result<()> {
        if self.read_only() {
            return Ok(());
        }
        let nameless = self
            .volume
            .enter(Need::READ)?
            .view(|r| match read_inode(r, ino) {
                Ok(item) => Ok(item.nlink == 0),
                Err(Error::Posix(libc::ENOENT)) => Ok(false),
                Err(e) => Err(e),
            })?;
        if nameless { self.reap(ino) } else { Ok(()) }
    }

    /// Finishes what a crash left. What fails stays for the next time: no orphan keeps a volume
    /// from being opened, be the pool full, failed or damaged there.
    pub(crate) fn reap_orphans(&self) {
        let mut from = 0;
        loop {
            let orphans = match self
                .volume
                .enter(Need::READ)
                .and_then(|g| g.view(|r| list(r, from)))
            {
                Ok(orphans) => orphans,
                Err(e) => return log::warn!("volume {}: reading orphans: {e}", self.volume.id()),
            };
            for (ino, bits, size) in &orphans {
                let done = match bits {
                    b if b & orphan::NO_NAME != 0 => self.reap(*ino),
                    b if b & orphan::TRUNCATE != 0 => self.finish_truncate(*ino, *size),
                    _ => Ok(()),
                };
                if let Err(e) = done {
                    log::warn!("volume {}: finishing inode {ino}: {e}", self.volume.id());
                }
            }
            match orphans.last() {
                Some((ino, ..)) if orphans.len() == LIST && *ino < Ino::MAX => from = ino + 1,
                _ => return,
            }
        }
    }

    fn reap(&self, ino: Ino) -> Result<()> {
        let Some(is_file) = self.give_up(ino)? else {
            return Ok(());
        };
        if is_file {
            self.drop_data(ino)?;
        }
        while !self.reap_step(ino)? {}
        Ok(())
    }

    /// From here on the inode takes no name any more. `None`: it has one (again), or is gone.
    /// Otherwise whether it is a file.
    fn give_up(&self, ino: Ino) -> Result<Option<bool>> {
        self.enter_to_change(Need::FREE)?.update(|op| {
            let mut item = match read_inode(op, ino) {
                Ok(item) => item,
                Err(Error::Posix(libc::ENOENT)) => {
                    if read_orphan(op, ino)?.bits != 0 {
                        op.delete(orphan_key(ino));
                    }
                    return Ok(None);
                }
                Err(e) => return Err(e),
            };
            if item.nlink != 0 {
                super::inode::clear_orphan(op, ino, orphan::NO_NAME)?;
                return Ok(None);
            }
            if item.flags & flag::LINKABLE != 0 {
                item.flags &= !flag::LINKABLE;
                write_inode(op, ino, &item);
            }
            Ok(Some(item.is_file()))
        })
    }

    /// Removes some of what is left of an inode, at last itself; true when it is gone.
    fn reap_step(&self, ino: Ino) -> Result<bool> {
        self.enter_to_change(Need::FREE)?.update(|op| {
            let mut keys = Vec::new();
            // Everything but extents, which `drop_data` removes with what they refer to.
            let (from, to) = (inode_key(ino).successor(), Key::new(ino, kind::EXTENT, 0));
            op.scan(&from.unwrap_or(to), &to, &mut |key, _| {
                keys.push(*key);
                let more = keys.len() < STEP;
                Ok(if more {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })?;
            let last = keys.len() < STEP;
            for key in keys {
                op.delete(key);
            }
            if last {
                op.delete(inode_key(ino));
                op.delete(orphan_key(ino));
            }
            Ok(last)
        })
    }
}

/// Inodes with their bits and target size; bits 0 where the item makes no sense.
fn list(r: &dyn Read, from: Ino) -> Result<Vec<(Ino, u8, u64)>> {
    let mut out = Vec::new();
    let end = Key::new(0, kind::ORPHAN + 1, 0);
    r.scan(&orphan_key(from), &end, &mut |key, value| {
        let item = OrphanItem::decode(value).unwrap_or_default();
        out.push((key.offset, item.bits, item.size));
        Ok(if out.len() < LIST {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        })
    })?;
    Ok(out)
}
