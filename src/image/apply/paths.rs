//! Names of an archive's entries, and the directories they lead to.
//!
//! A name is taken apart as text first: leading slashes and `.` go, `..` takes the part before it
//! away and must not leave the root. Then the directory part is walked; a symbolic link in it is
//! followed inside the volume's root, as if one had changed root into it, so that `lib/x` finds
//! its way through a `lib -> usr/lib` of a lower layer. The last part is never followed.

use super::{Applier, Node, is_dir};
use crate::base::{Ino, ROOT_INO, Result, Time};
use crate::fs::NAME_MAX;
use crate::image::digest::shown;
use crate::image::tar::{Kind, bad};
use std::borrow::Cow;

/// Longest name of an entry: Linux's PATH_MAX.
const PATH: usize = 4096;
/// Symbolic links followed on one way, as many as Linux follows.
const LINKS: u32 = 40;

/// Without leading, double and trailing slashes, `.` and `..`. Empty: the root.
pub fn clean(path: &[u8]) -> Result<Cow<'_, [u8]>> {
    if path.len() > PATH {
        return Err(bad(format!(
            "its name has {} bytes, {PATH} are possible",
            path.len()
        )));
    }
    if path.contains(&0) {
        return Err(bad("its name has a NUL inside"));
    }
    let parts = || path.split(|&b| b == b'/');
    if parts().any(|part| part.len() > NAME_MAX) {
        return Err(bad(format!(
            "a part of its name is longer than {NAME_MAX} bytes"
        )));
    }
    let trimmed = trim(path);
    if trimmed.is_empty()
        || trimmed
            .split(|&b| b == b'/')
            .all(|part| !matches!(part, b"" | b"." | b".."))
    {
        return Ok(Cow::Borrowed(trimmed));
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    for part in parts() {
        match part {
            b"" | b"." => {}
            b".." if kept.pop().is_none() => {
                return Err(bad("its name leads out of the root by '..'; it is refused"));
            }
            b".." => {}
            part => kept.push(part),
        }
    }
    Ok(Cow::Owned(kept.join(&b'/')))
}

/// The common cases: `./usr/bin`, `usr/bin/`, `/usr/bin`.
fn trim(path: &[u8]) -> &[u8] {
    let mut rest = path;
    loop {
        rest = match rest {
            [b'/', tail @ ..] | [b'.', b'/', tail @ ..] | [tail @ .., b'/'] => tail,
            [b'.'] => &[],
            _ => return rest,
        };
    }
}

/// Directory and last part.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(at) => (
            path.get(..at).unwrap_or_default(),
            path.get(at + 1..).unwrap_or_default(),
        ),
        None => (&[], path),
    }
}

/// AUFS's own files (`.wh..wh.plnk` and so on, at the top or anywhere), but for the opaque marker.
pub fn aufs(path: &[u8]) -> bool {
    path.split(|&b| b == b'/')
        .any(|part| part.starts_with(b".wh..wh.") && part != b".wh..wh..opq")
}

impl Applier {
    /// The directory of that (clean) path, made with mode 0755 where it is missing.
    pub(super) fn directory(&mut self, path: &[u8], mtime: Time) -> Result<Ino> {
        match self.find_directory(path, Some(mtime))? {
            Some(ino) => Ok(ino),
            None => Err(bad(format!("directory '{}' is not there", shown(path)))),
        }
    }

    /// The directory of that path, if there is one.
    pub(super) fn existing(&mut self, path: &[u8]) -> Result<Option<Ino>> {
        self.find_directory(path, None)
    }

    fn find_directory(&mut self, path: &[u8], create: Option<Time>) -> Result<Option<Ino>> {
        if path.is_empty() {
            return Ok(Some(ROOT_INO));
        }
        if let Some(&ino) = self.paths.get(path) {
            return Ok(Some(ino));
        }
        // The longest part of the way that is known.
        let mut known = path;
        let mut dir = ROOT_INO;
        while !known.is_empty() {
            known = split(known).0;
            if let Some(&ino) = self.paths.get(known) {
                dir = ino;
                break;
            }
        }
        let mut done = known.len();
        let mut links = LINKS;
        while done < path.len() {
            let rest = path.get(done..).unwrap_or_default();
            let start = done + usize::from(rest.first() == Some(&b'/'));
            let tail = path.get(start..).unwrap_or_default();
            let length = tail.iter().position(|&b| b == b'/').unwrap_or(tail.len());
            let name = tail.get(..length).unwrap_or_default();
            done = start + length;
            let prefix = path.get(..done).unwrap_or_default();
            dir = match self
                .enter(dir, name, create, &mut links)
                .map_err(|e| match e {
                    crate::base::Error::Invalid(what) => {
                        bad(format!("its directory '{}' {what}", shown(prefix)))
                    }
                    e => e,
                })? {
                Some(ino) => ino,
                None => return Ok(None),
            };
            self.remember(prefix, dir);
        }
        Ok(Some(dir))
    }

    /// From a directory into the one of that name, through symbolic links.
    fn enter(
        &mut self,
        dir: Ino,
        name: &[u8],
        create: Option<Time>,
        links: &mut u32,
    ) -> Result<Option<Ino>> {
        // Parts still to go, the next one last.
        let mut ahead = vec![name.to_vec()];
        let mut dir = dir;
        while let Some(name) = ahead.pop() {
            if name == b".." {
                dir = self.fs.parent(dir)?;
                continue;
            }
            let attr = match self.fs.lookup(dir, &name) {
                Err(e) if e.errno() == libc::ENOENT => match create {
                    Some(mtime) => {
                        dir = self.implied(dir, &name, mtime)?;
                        continue;
                    }
                    None => return Ok(None),
                },
                found => found?,
            };
            if is_dir(&attr) {
                dir = attr.ino;
            } else if attr.mode & libc::S_IFMT == libc::S_IFLNK {
                *links = links
                    .checked_sub(1)
                    .ok_or_else(|| bad("leads through too many symbolic links"))?;
                let target = self.fs.readlink(attr.ino)?;
                if target.first() == Some(&b'/') {
                    dir = ROOT_INO;
                }
                let parts = target
                    .split(|&b| b == b'/')
                    .filter(|p| !matches!(*p, b"" | b"."));
                ahead.extend(parts.rev().map(<[u8]>::to_vec));
            } else if create.is_some() {
                return Err(bad("is a file"));
            } else {
                return Ok(None);
            }
        }
        Ok(Some(dir))
    }

    /// A directory that no entry names (yet): 0755, root's, as old as what is put into it.
    fn implied(&mut self, dir: Ino, name: &[u8], mtime: Time) -> Result<Ino> {
        let node = Node {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime,
            rdev: 0,
            size: 0,
            target: Vec::new(),
            xattrs: Vec::new(),
        };
        self.touch(dir)?;
        let attr = self.create(dir, name, &node)?;
        self.dress(dir, &attr, &node)?;
        self.touched.insert(
            attr.ino,
            super::Touched {
                mtime,
                default_acl: false,
            },
        );
        Ok(attr.ino)
    }
}
