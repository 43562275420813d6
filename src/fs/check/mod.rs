//! Walks a whole file system and says what does not fit together.
//!
//! The pool's check proves that references and space are right; this one proves what lies above:
//! every name has its inode and every inode its names, counts are true, attributes are whole,
//! extents and mappings name the same blocks. One pass over the tree in key order, with point
//! lookups for what must correspond; in memory are only directories and extents.
//!
//! What is looked at must not change meanwhile: check a sealed volume, or one nobody uses.

mod object;
mod space;

use super::Fs;
use super::dir::read_dir;
use super::inode::{inode_key, read_inode};
use super::item::{OrphanItem, orphan};
use crate::base::{Error, Ino, ROOT_INO, Result};
use crate::pool::Need;
use crate::tree::{Key, Read, kind};
use object::Object;
use space::Blocks;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Items read at a time, and bytes of their values.
const BATCH: usize = 1024;
const BATCH_BYTES: usize = 1 << 20;
/// Problems told at most.
const PROBLEMS: usize = 1000;

type Item = (Key, Vec<u8>);

/// What was found.
struct Found {
    problems: Vec<String>,
    inodes: u64,
    /// Directories from which the root was reached.
    rooted: HashSet<Ino>,
    blocks: Blocks,
}

impl Found {
    fn say(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS {
            self.problems.push(problem);
        } else if self.problems.len() == PROBLEMS {
            self.problems.push("and more".into());
        }
    }
}

impl Fs {
    /// All problems, each in words, at most a thousand; none: the file system is whole. Time and
    /// I/O in proportion to its metadata.
    pub fn check(&self) -> Result<Vec<String>> {
        let mut found = Found {
            problems: Vec::new(),
            inodes: 0,
            rooted: HashSet::from([ROOT_INO]),
            blocks: Blocks::default(),
        };
        let mut object: Option<Object> = None;
        let mut from = Key::MIN;
        loop {
            let batch = self.batch(&from)?;
            let Some((last, _)) = batch.last() else { break };
            let next = last.successor();
            for (key, value) in &batch {
                if object.as_ref().is_some_and(|o| o.ino != key.object)
                    && let Some(done) = object.take()
                {
                    self.finish(&mut found, done)?;
                }
                match key.object {
                    0 => self.check_own(&mut found, key, value)?,
                    ino => {
                        let object = object.get_or_insert_with(|| Object::new(ino));
                        self.check_item(&mut found, object, key, value)?;
                    }
                }
            }
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        if let Some(done) = object {
            self.finish(&mut found, done)?;
        }
        match self.look(|r| read_dir(r, ROOT_INO)) {
            Ok(_) => {}
            Err(e) => found.say(format!("the root directory: {e}")),
        }
        let counted = self.volume.usage().1;
        if counted != found.inodes {
            found.say(format!(
                "{} inodes, but {counted} are counted",
                found.inodes
            ));
        }
        self.check_space(&mut found)?;
        Ok(found.problems)
    }

    fn look<T>(&self, f: impl FnMut(&dyn Read) -> Result<T>) -> Result<T> {
        self.volume.enter(Need::READ)?.view(f)
    }

    fn batch(&self, from: &Key) -> Result<Vec<Item>> {
        self.look(|r| {
            let (mut out, mut bytes) = (Vec::new(), 0);
            r.scan(from, &Key::MAX, &mut |key, value| {
                bytes += value.len();
                out.push((*key, value.to_vec()));
                let more = out.len() < BATCH && bytes < BATCH_BYTES;
                Ok(if more {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })?;
            Ok(out)
        })
    }

    /// An item of the volume itself.
    fn check_own(&self, found: &mut Found, key: &Key, value: &[u8]) -> Result<()> {
        match key.kind {
            kind::SUPER | kind::PARTIAL => {}
            kind::MAP => found
                .blocks
                .mapping(key, value, self.volume.pool().chunk_size()),
            kind::ORPHAN => {
                let ino = key.offset;
                let Some(item) = OrphanItem::decode(value) else {
                    found.say(format!("inode {ino}: its orphan item makes no sense"));
                    return Ok(());
                };
                match self.exists(ino)? {
                    None => found.say(format!(
                        "an orphan item for inode {ino}, which there is not"
                    )),
                    Some(nlink) if item.bits & orphan::NO_NAME != 0 && nlink != 0 => {
                        found.say(format!(
                            "inode {ino} has {nlink} names and an orphan item for having none"
                        ));
                    }
                    _ => {}
                }
            }
            other => found.say(format!("an item of kind {other:#x} of the volume itself")),
        }
        Ok(())
    }

    /// The link count of an inode that is there and can be read.
    fn exists(&self, ino: Ino) -> Result<Option<u32>> {
        match self.look(|r| read_inode(r, ino)) {
            Ok(item) => Ok(Some(item.nlink)),
            // Said where the inode item itself is met.
            Err(Error::Corrupt { .. }) => Ok(Some(0)),
            Err(Error::Posix(libc::ENOENT)) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Whether the way up from a directory ends at the root.
    fn reaches_root(&self, found: &mut Found, dir: Ino) -> Result<bool> {
        let mut way = HashSet::new();
        let mut at = dir;
        while !found.rooted.contains(&at) {
            if at == 0 || !way.insert(at) {
                return Ok(false);
            }
            at = match self.look(|r| read_inode(r, at)) {
                Ok(item) => item.parent,
                Err(Error::Corrupt { .. } | Error::Posix(_)) => return Ok(false),
                Err(e) => return Err(e),
            };
        }
        found.rooted.extend(way);
        Ok(true)
    }

    fn has_orphan_item(&self, ino: Ino) -> Result<bool> {
        self.look(|r| Ok(super::inode::read_orphan(r, ino)?.bits & orphan::NO_NAME != 0))
    }

    fn has_inode(&self, ino: Ino) -> Result<bool> {
        Ok(self.look(|r| r.get(&inode_key(ino)))?.is_some())
    }
}

#[cfg(test)]
mod tests;
