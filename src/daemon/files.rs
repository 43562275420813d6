//! Files of a volume without a mount: looking, reading, writing.

use super::proto::{Entry, Part, Raw, Response};
use super::resolve;
use super::session::Talk;
use super::state::State;
use super::transfer;
use crate::base::{Error, Ino, ROOT_INO, Result};
use crate::fs::{Attr, Cred, Fs, NAME_MAX, RenameFlags, SetAttr, XattrSet};
use crate::pool::VolumeInfo;
use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Symbolic links followed in one path, as the kernel does.
const LINKS_MAX: usize = 40;
/// Longest path, as the kernel's.
const PATH_MAX: usize = 4096;
/// Entries sent in one piece.
const BATCH: usize = 512;
/// Tries at a name for a file that is to replace another.
const TRIES: u32 = 100;

/// Where a path leads.
pub(super) struct Found {
    pub attr: Attr,
    /// The directory it is in, and its name there: none for the root.
    pub place: Option<(Ino, Vec<u8>)>,
}

pub(super) enum Walked {
    Found(Found),
    /// The last name does not exist in this directory.
    Missing(Ino, Vec<u8>),
}

/// Follows a path from the root of the volume; links and `..` never lead out of it.
pub(super) fn walk(fs: &Fs, path: &[u8], follow_last: bool) -> Result<Found> {
    match walk_to(fs, path, follow_last)? {
        Walked::Found(f) => Ok(f),
        Walked::Missing(..) => Err(named(Error::Posix(libc::ENOENT), path)),
    }
}

pub(super) fn walk_to(fs: &Fs, path: &[u8], follow_last: bool) -> Result<Walked> {
    if path.len() > PATH_MAX {
        return Err(named(Error::Posix(libc::ENAMETOOLONG), path));
    }
    let mut names: VecDeque<Vec<u8>> = split(path);
    // "a/" means the directory that a is or points to.
    let must_be_dir = path.ends_with(b"/");
    let root = || {
        Ok::<_, Error>(Found {
            attr: fs.attr(ROOT_INO)?,
            place: None,
        })
    };
    let mut at = root()?;
    let mut links = 0;
    while let Some(name) = names.pop_front() {
        if at.attr.mode & libc::S_IFMT != libc::S_IFDIR {
            return Err(named(Error::Posix(libc::ENOTDIR), path));
        }
        let dir = at.attr.ino;
        if name == b".." {
            // Where a directory's own name is matters to nobody here.
            at = Found {
                attr: fs.attr(fs.parent(dir)?)?,
                place: None,
            };
            continue;
        }
        if name.len() > NAME_MAX {
            return Err(named(Error::Posix(libc::ENAMETOOLONG), path));
        }
        let attr = match fs.lookup(dir, &name) {
            Ok(a) => a,
            Err(e) if e.errno() == libc::ENOENT && names.is_empty() => {
                return Ok(Walked::Missing(dir, name));
            }
            Err(e) => return Err(named(e, path)),
        };
        let last = names.is_empty();
        if attr.mode & libc::S_IFMT == libc::S_IFLNK && (!last || follow_last || must_be_dir) {
            links += 1;
            if links > LINKS_MAX {
                return Err(named(Error::Posix(libc::ELOOP), path));
            }
            let target = fs.readlink(attr.ino)?;
            if target.first() == Some(&b'/') {
                at = root()?;
            }
            for part in split(&target).into_iter().rev() {
                names.push_front(part);
            }
            if names.len() > PATH_MAX {
                return Err(named(Error::Posix(libc::ENAMETOOLONG), path));
            }
            continue;
        }
        at = Found {
            attr,
            place: Some((dir, name)),
        };
    }
    if must_be_dir && at.attr.mode & libc::S_IFMT != libc::S_IFDIR {
        return Err(named(Error::Posix(libc::ENOTDIR), path));
    }
    Ok(Walked::Found(at))
}

fn split(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|&b| b == b'/')
        .filter(|n| !n.is_empty() && *n != b".")
        .map(<[u8]>::to_vec)
        .collect()
}

/// An error of a path says which.
pub(super) fn named(e: Error, path: &[u8]) -> Error {
    match e {
        Error::Posix(errno) => {
            let message = format!("{}: {}", Raw(path.to_vec()), text(errno));
            match errno {
                libc::ENOENT => Error::NotFound(message),
                libc::EEXIST | libc::ENOTEMPTY => Error::Exists(message),
                _ => Error::Told {
                    message,
                    kind: Error::Posix(errno).exit_kind(),
                    errno,
                },
            }
        }
        e => e,
    }
}

fn text(errno: i32) -> String {
    let s = std::io::Error::from_raw_os_error(errno).to_string();
    s.split(" (os error").next().unwrap_or(&s).to_owned()
}

fn open(state: &State, name: &str) -> Result<(VolumeInfo, Arc<Fs>)> {
    let v = resolve::any(&state.pool, name)?;
    let fs = state.mounts.fs(v.id)?;
    Ok((v, fs))
}

fn entry(fs: &Fs, name: Vec<u8>, a: &Attr) -> Result<Entry> {
    let target = match a.mode & libc::S_IFMT {
        libc::S_IFLNK => Some(Raw(fs.readlink(a.ino)?)),
        _ => None,
    };
    Ok(Entry {
        name: Raw(name),
        inode: a.ino,
        mode: a.mode,
        nlink: a.nlink,
        uid: a.uid,
        gid: a.gid,
        rdev: a.rdev,
        size: a.size,
        blocks: a.blocks,
        atime: a.atime,
        mtime: a.mtime,
        ctime: a.ctime,
        target,
    })
}

pub(super) fn stat(state: &State, name: &str, path: &Raw, follow: bool) -> Result<Response> {
    let (v, fs) = open(state, name)?;
    let found = walk(&fs, path.as_bytes(), follow)?;
    let attr = fresh(state, &v, &fs, found.attr)?;
    let own = found.place.map_or_else(|| b"/".to_vec(), |(_, n)| n);
    Ok(Response::Entry(Box::new(entry(&fs, own, &attr)?)))
}

/// As the kernel would tell it: with what it keeps of writes.
fn fresh(state: &State, v: &VolumeInfo, fs: &Fs, attr: Attr) -> Result<Attr> {
    if attr.mode & libc::S_IFMT != libc::S_IFREG || state.mounts.of(v.id).is_empty() {
        return Ok(attr);
    }
    state.mounts.flush_file(v.id, attr.ino);
    fs.attr(attr.ino)
}

pub(super) fn ls(talk: &Talk<'_>, name: &str, path: &Raw) -> Result<Response> {
    let state = talk.state;
    let (v, fs) = open(state, name)?;
    let found = walk(&fs, path.as_bytes(), path.as_bytes().ends_with(b"/"))?;
    if found.attr.mode & libc::S_IFMT != libc::S_IFDIR {
        let attr = fresh(state, &v, &fs, found.attr)?;
        let own = found.place.map_or_else(Vec::new, |(_, n)| n);
        talk.part(Part::Entries(vec![entry(&fs, own, &attr)?]))?;
        return Ok(Response::Done);
    }
    if !state.mounts.of(v.id).is_empty() {
        state.mounts.flush(v.id);
    }
    let mut cookie = 0;
    loop {
        // Collected first: the client may be slow, and nothing waits for it in there.
        let mut batch: Vec<(Vec<u8>, u64, Option<Attr>)> = Vec::new();
        fs.readdir(found.attr.ino, cookie, true, &mut |e, a| {
            if batch.len() >= BATCH {
                return false;
            }
            batch.push((e.name.clone(), e.cookie, a.copied()));
            true
        })?;
        let Some(last) = batch.last() else {
            return Ok(Response::Done);
        };
        cookie = last.1;
        let mut entries = Vec::with_capacity(batch.len());
        for (own, _, attr) in batch {
            if own == b"." || own == b".." {
                continue;
            }
            let attr = match attr {
                Some(a) => a,
                None => match fs.lookup(found.attr.ino, &own) {
                    Ok(a) => a,
                    Err(e) if e.errno() == libc::ENOENT => continue,
                    Err(e) => return Err(e),
                },
            };
            entries.push(entry(&fs, own, &attr)?);
        }
        talk.part(Part::Entries(entries))?;
        talk.alive()?;
    }
}

pub(super) fn read(talk: &Talk<'_>, name: &str, path: &Raw, to: OwnedFd) -> Result<Response> {
    let state = talk.state;
    let (v, fs) = open(state, name)?;
    let attr = walk(&fs, path.as_bytes(), true)?.attr;
    match attr.mode & libc::S_IFMT {
        libc::S_IFREG => {}
        libc::S_IFDIR => return Err(named(Error::Posix(libc::EISDIR), path.as_bytes())),
        _ => {
            return Err(Error::Invalid(format!(
                "{path} is not a regular file: there is nothing to read"
            )));
        }
    }
    let attr = fresh(state, &v, &fs, attr)?;
    transfer::out(talk, &fs, &attr, &to)?;
    Ok(Response::Done)
}

pub(super) fn write(
    talk: &Talk<'_>,
    name: &str,
    path: &Raw,
    new: &Entry,
    xattrs: &[(Raw, Raw)],
    from: Option<OwnedFd>,
) -> Result<Response> {
    let state = talk.state;
    let (v, fs) = open(state, name)?;
    if v.sealed {
        return Err(Error::Denied(format!(
            "{} never changes; make a container of it and copy into that",
            v.name
        )));
    }
    let kind = new.mode & libc::S_IFMT;
    // As cp(1): a file goes where a link points, anything else takes the link's place.
    let there = walk_to(
        &fs,
        path.as_bytes(),
        matches!(kind, libc::S_IFREG | libc::S_IFDIR),
    )?;
    let (dir, own, old) = match there {
        Walked::Missing(dir, own) => (dir, own, None),
        Walked::Found(Found { attr, place }) => match (place, attr.mode & libc::S_IFMT, kind) {
            (_, libc::S_IFDIR, libc::S_IFDIR) => return Ok(Response::Done),
            (_, libc::S_IFDIR, _) => {
                return Err(named(Error::Posix(libc::EISDIR), path.as_bytes()));
            }
            (_, _, libc::S_IFDIR) => {
                return Err(named(Error::Posix(libc::ENOTDIR), path.as_bytes()));
            }
            (Some((dir, own)), _, _) => (dir, own, Some(attr)),
            (None, _, _) => return Err(named(Error::Posix(libc::EISDIR), path.as_bytes())),
        },
    };
    let fail = |e| named(e, path.as_bytes());
    let cred = Cred {
        uid: new.uid,
        gid: new.gid,
        umask: 0,
    };
    match kind {
        libc::S_IFREG => {
            let from = from.ok_or_else(|| {
                Error::Invalid("the request came without its file descriptor".into())
            })?;
            let file = fs.tmpfile(dir, new.mode, &cred).map_err(fail)?;
            let filled = transfer::fill(talk, &fs, file.ino, from)
                .and_then(|()| dress(&fs, file.ino, new, xattrs))
                .and_then(|()| {
                    place(&fs, dir, &own, old.is_some(), &mut |n| {
                        fs.link(file.ino, dir, n)
                    })
                });
            match filled {
                Ok(replaced) => finish(state, &v, &fs, dir, &own, replaced)?,
                Err(e) => {
                    if let Err(e) = fs.forget(file.ino) {
                        log::warn!("a file left over: {e}");
                    }
                    return Err(fail(e));
                }
            }
        }
        libc::S_IFDIR
        | libc::S_IFLNK
        | libc::S_IFIFO
        | libc::S_IFSOCK
        | libc::S_IFCHR
        | libc::S_IFBLK => {
            let target = new.target.clone().unwrap_or_default();
            let replaced = place(&fs, dir, &own, old.is_some(), &mut |n| {
                let made = match kind {
                    libc::S_IFDIR => fs.mkdir(dir, n, new.mode, &cred)?,
                    libc::S_IFLNK => fs.symlink(dir, n, target.as_bytes(), &cred)?,
                    _ => fs.mknod(dir, n, new.mode, new.rdev, &cred)?,
                };
                dress(&fs, made.ino, new, xattrs)?;
                Ok(made)
            })
            .map_err(fail)?;
            finish(state, &v, &fs, dir, &own, replaced)?;
        }
        _ => {
            return Err(Error::Invalid(format!(
                "{path}: no such type of file: {:o}",
                new.mode
            )));
        }
    }
    Ok(Response::Done)
}

/// Makes something under this name, at once in place of what is there. Answers what was replaced.
fn place(
    fs: &Fs,
    dir: Ino,
    own: &[u8],
    exists: bool,
    make: &mut dyn FnMut(&[u8]) -> Result<Attr>,
) -> Result<Option<Attr>> {
    if !exists {
        match make(own) {
            Err(e) if e.errno() == libc::EEXIST => {}
            r => return r.map(|_| None),
        }
    }
    let mut tries = 0;
    let temporary = loop {
        let name = format!(".cowfs-{:016x}", std::process::id() as u64 ^ random());
        match make(name.as_bytes()) {
            Err(e) if e.errno() == libc::EEXIST && tries < TRIES => tries += 1,
            Err(e) => return Err(e),
            Ok(_) => break name,
        }
    };
    fs.rename(dir, temporary.as_bytes(), dir, own, RenameFlags::default())
        .inspect_err(|_| {
            if let Ok(gone) = fs.unlink(dir, temporary.as_bytes())
                && gone.nlink == 0
            {
                let _ = fs.forget(gone.ino);
            }
        })
}

fn random() -> u64 {
    let mut b = [0; 8];
    let _ = getrandom::fill(&mut b);
    u64::from_le_bytes(b)
}

/// Attributes as they were; owner before mode, because a change of owner clears setuid.
fn dress(fs: &Fs, ino: Ino, new: &Entry, xattrs: &[(Raw, Raw)]) -> Result<()> {
    for (name, value) in xattrs {
        fs.set_xattr(ino, name.as_bytes(), value.as_bytes(), XattrSet::Any)?;
    }
    let mut set = SetAttr {
        uid: Some(new.uid),
        gid: Some(new.gid),
        atime: Some(new.atime),
        mtime: Some(new.mtime),
        ..SetAttr::default()
    };
    fs.set_attr(ino, &set, &Cred::ROOT)?;
    if new.mode & libc::S_IFMT != libc::S_IFLNK {
        set = SetAttr {
            mode: Some(new.mode),
            ..SetAttr::default()
        };
        fs.set_attr(ino, &set, &Cred::ROOT)?;
    }
    Ok(())
}

/// The kernel and whoever mounted it see the change; what was replaced goes.
fn finish(
    state: &State,
    v: &VolumeInfo,
    fs: &Fs,
    dir: Ino,
    own: &[u8],
    replaced: Option<Attr>,
) -> Result<()> {
    state.mounts.entry_changed(v.id, dir, own);
    match replaced {
        Some(gone) => state.mounts.unlinked(fs, &gone),
        None => Ok(()),
    }
}
