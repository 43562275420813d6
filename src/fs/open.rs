//! Making a file system in a volume, and opening it.

use super::hash::NameHash;
use super::inode::{inode_key, write_inode};
use super::item::{FORMAT, InodeItem, KNOWN_INCOMPAT, KNOWN_RO_COMPAT, SuperItem};
use super::{Fs, data};
use crate::base::{Error, ROOT_INO, Result, Time};
use crate::pool::{Entered, Need, Volume};
use crate::tree::{Key, Read, kind};
use parking_lot::Mutex;
use std::sync::{Arc, Weak};

const SUPER: Key = Key::new(0, kind::SUPER, 0);

/// The one `Fs` of an open volume. There must not be two: the second would take the files that the
/// first has open without a name for what a crash left.
#[derive(Default)]
struct Opened(Mutex<Weak<Fs>>);

impl Fs {
    /// Makes the root directory in an empty volume; `Exists` in one that has a file system.
    pub fn format(volume: &Arc<Volume>, root_mode: u32) -> Result<()> {
        let mut hash_key = [0; 16];
        getrandom::fill(&mut hash_key)
            .map_err(|e| Error::io("reading random bytes", std::io::Error::other(e)))?;
        let now = Time::now();
        let root = InodeItem {
            mode: libc::S_IFDIR | root_mode & 0o7777,
            nlink: 2,
            parent: ROOT_INO,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            ..InodeItem::default()
        };
        let id = volume.id();
        volume.enter(Need::SMALL)?.update(|op| {
            if op.get(&SUPER)?.is_some() || op.get(&inode_key(ROOT_INO))?.is_some() {
                return Err(Error::Exists(format!(
                    "volume {id} has a file system already"
                )));
            }
            op.put(SUPER, SuperItem::new(hash_key).encode());
            write_inode(op, ROOT_INO, &root);
            Ok(())
        })
    }

    /// Opens; finishes what a crash left (orphans, truncations) unless sealed. A volume that is
    /// open already has its one `Fs`, which is given again.
    pub fn open(volume: Arc<Volume>) -> Result<Arc<Fs>> {
        let opened = volume.attach(Opened::default);
        let mut one = opened.0.lock();
        if let Some(fs) = one.upgrade() {
            return Ok(fs);
        }
        let item = volume.enter(Need::READ)?.view(|r| r.get(&SUPER))?;
        let place = format!("volume {}", volume.id());
        let Some(item) = item else {
            return Err(Error::Invalid(format!("{place} has no file system in it")));
        };
        let item = SuperItem::decode(&item)
            .ok_or_else(|| Error::corrupt(&place, "its superitem is too short"))?;
        let unknown = item.incompat & !KNOWN_INCOMPAT;
        if item.format != FORMAT || unknown != 0 {
            return Err(Error::Version {
                place,
                found: format!("{} (features {:#x})", item.format, item.incompat),
                known: format!("{FORMAT} (features {KNOWN_INCOMPAT:#x})"),
            });
        }
        let read_only = item.ro_compat & !KNOWN_RO_COMPAT != 0;
        let fs = Arc::new(Fs {
            names: NameHash::new(item.hash_key),
            data: data::State::default(),
            read_only,
            volume,
        });
        if !fs.read_only() {
            fs.reap_orphans();
        }
        *one = Arc::downgrade(&fs);
        Ok(fs)
    }

    pub fn volume(&self) -> &Arc<Volume> {
        &self.volume
    }

    /// Nothing may change: the volume is sealed, or was made by a program that knew more.
    pub(crate) fn read_only(&self) -> bool {
        self.read_only || self.volume.sealed()
    }

    /// Passes the gates for a change; EROFS in a sealed volume.
    pub(crate) fn enter_to_change(&self, need: Need) -> Result<Entered<'_>> {
        if self.read_only() {
            return Err(Error::Posix(libc::EROFS));
        }
        self.volume.enter(need)
    }
}
