//! Taking away: what is in an entry's way, and what whiteouts hide.

use super::{Applier, is_dir};
use crate::base::{Ino, Result};
use crate::fs::Attr;
use crate::image::tar::bad;

/// Names read from a directory at a time.
const BATCH: usize = 512;

/// What to spare when a directory is emptied.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spare {
    Nothing,
    /// What this layer has put there.
    Ours,
}

/// A directory being emptied.
struct Level {
    ino: Ino,
    /// Its name in the level before.
    name: Vec<u8>,
    /// Continue reading after this.
    cookie: u64,
    /// Something in it stays.
    stays: bool,
}

impl Applier {
    /// `hidden`: what followed `.wh.` in the last part of the name.
    pub(super) fn whiteout(&mut self, dir: &[u8], hidden: &[u8]) -> Result<()> {
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(bad("it is a whiteout of no name"));
        }
        // Of nothing: harmless.
        let Some(parent) = self.existing(dir)? else {
            return Ok(());
        };
        if hidden == b".wh..opq" {
            return self.empty(parent, Spare::Ours).map(|_| ());
        }
        let attr = match self.fs.lookup(parent, hidden) {
            Err(e) if e.errno() == libc::ENOENT => return Ok(()),
            found => found?,
        };
        if self.is_ours(parent, hidden, attr.ino) {
            // Put there by this layer: only the layers below are hidden.
            return Ok(());
        }
        self.touch(parent)?;
        if is_dir(&attr) {
            let stays = self.empty(attr.ino, Spare::Ours)?;
            if stays || self.named.contains(&attr.ino) {
                return Ok(());
            }
            return self.remove_empty(parent, hidden, attr.ino);
        }
        self.remove_name(parent, hidden)
    }

    fn is_ours(&self, dir: Ino, name: &[u8], ino: Ino) -> bool {
        ino >= self.watermark
            || (!self.linked.is_empty() && self.linked.contains(&(dir, name.to_vec())))
    }

    /// A name with all below it.
    pub(super) fn remove(&mut self, dir: Ino, name: &[u8], attr: &Attr) -> Result<()> {
        match attr.mode & libc::S_IFMT {
            libc::S_IFDIR => {
                self.empty(attr.ino, Spare::Nothing)?;
                self.remove_empty(dir, name, attr.ino)
            }
            libc::S_IFLNK => {
                // Ways may have led through it.
                self.paths.clear();
                self.remove_name(dir, name)
            }
            _ => self.remove_name(dir, name),
        }
    }

    fn remove_name(&mut self, dir: Ino, name: &[u8]) -> Result<()> {
        let gone = self.fs.unlink(dir, name)?;
        if gone.mode & libc::S_IFMT == libc::S_IFLNK {
            self.paths.clear();
        }
        if gone.nlink == 0 {
            self.fs.forget(gone.ino)?;
        }
        Ok(())
    }

    fn remove_empty(&mut self, dir: Ino, name: &[u8], ino: Ino) -> Result<()> {
        self.fs.rmdir(dir, name)?;
        self.fs.forget(ino)?;
        self.touched.remove(&ino);
        self.named.remove(&ino);
        self.paths.clear();
        Ok(())
    }

    /// Empties a directory, without recursion (no archive decides how deep our stack grows).
    /// True if something stays in it.
    fn empty(&mut self, top: Ino, spare: Spare) -> Result<bool> {
        let mut levels = vec![Level {
            ino: top,
            name: Vec::new(),
            cookie: 0,
            stays: false,
        }];
        while let Some(level) = levels.last_mut() {
            let (dir, mut names) = (level.ino, Vec::with_capacity(BATCH));
            self.fs.readdir(dir, level.cookie, false, &mut |entry, _| {
                if names.len() >= BATCH {
                    return false;
                }
                names.push(entry.clone());
                true
            })?;
            let mut below = None;
            for entry in &names {
                level.cookie = entry.cookie;
                if matches!(&entry.name[..], b"." | b"..") {
                    continue;
                }
                if spare == Spare::Ours && self.is_ours(dir, &entry.name, entry.ino) {
                    level.stays = true;
                    continue;
                }
                if spare == Spare::Ours {
                    self.touch(dir)?;
                }
                if entry.kind & libc::S_IFMT == libc::S_IFDIR {
                    below = Some(Level {
                        ino: entry.ino,
                        name: entry.name.clone(),
                        cookie: 0,
                        stays: false,
                    });
                    break;
                }
                self.remove_name(dir, &entry.name)?;
            }
            if let Some(below) = below {
                levels.push(below);
                continue;
            }
            if !names.is_empty() {
                continue;
            }
            let Some(done) = levels.pop() else { break };
            match levels.last_mut() {
                None => return Ok(done.stays),
                Some(above)
                    if done.stays || (spare == Spare::Ours && self.named.contains(&done.ino)) =>
                {
                    above.stays = true
                }
                Some(above) => {
                    let above = above.ino;
                    self.remove_empty(above, &done.name, done.ino)?;
                }
            }
        }
        Ok(false)
    }
}
