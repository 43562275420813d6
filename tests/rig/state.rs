//! The model: a file system as plain data, with the meaning that `cowfs::fs::Fs` promises.

use super::data::Data;
use super::ops::{Op, Reply};
use cowfs::base::{Ino, ROOT_INO, Time};
use cowfs::fs::{Cred, Fallocate, RenameFlags, SetAttr, XattrSet};
use libc::{S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, S_ISGID, S_ISUID, S_IXGRP};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    File(Data),
    Dir {
        names: BTreeMap<Vec<u8>, Ino>,
        parent: Ino,
    },
    Link(Vec<u8>),
    Other,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inode {
    pub mode: u32,
    pub nlink: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: u32,
    pub size: u64,
    /// atime, mtime, ctime, btime.
    pub times: [Time; 4],
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub body: Body,
}

impl Inode {
    pub fn is_dir(&self) -> bool {
        matches!(self.body, Body::Dir { .. })
    }
    pub fn is_file(&self) -> bool {
        matches!(self.body, Body::File(_))
    }
    pub fn data(&self) -> Option<&Data> {
        match &self.body {
            Body::File(d) => Some(d),
            _ => None,
        }
    }
    fn data_mut(&mut self) -> &mut Data {
        match &mut self.body {
            Body::File(d) => d,
            _ => panic!("not a file"),
        }
    }
}

pub const ATIME: u8 = 1;
pub const MTIME: u8 = 2;
pub const CTIME: u8 = 4;
pub const BTIME: u8 = 8;

/// Which times an operation must set to now, and which it may.
#[derive(Clone, Copy, Default, Debug)]
pub struct Touch {
    pub must: u8,
    pub may: u8,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    pub inodes: BTreeMap<Ino, Arc<Inode>>,
}

pub type Touched = BTreeMap<Ino, Touch>;
type Answer<T> = Result<T, i32>;

impl State {
    pub fn empty(root_mode: u32) -> State {
        let mut s = State::default();
        let mut root = fresh(S_IFDIR | root_mode, &Cred::ROOT, 0);
        root.nlink = 2;
        root.body = Body::Dir {
            names: BTreeMap::new(),
            parent: ROOT_INO,
        };
        s.inodes.insert(ROOT_INO, Arc::new(root));
        s
    }

    pub fn get(&self, ino: Ino) -> Answer<&Inode> {
        self.inodes.get(&ino).map(|i| &**i).ok_or(libc::ENOENT)
    }

    fn change(&mut self, ino: Ino) -> &mut Inode {
        Arc::make_mut(self.inodes.get_mut(&ino).expect("the model's own inode"))
    }

    pub fn names(&self, dir: Ino) -> Answer<&BTreeMap<Vec<u8>, Ino>> {
        match &self.get(dir)?.body {
            Body::Dir { names, .. } => Ok(names),
            _ => Err(libc::ENOTDIR),
        }
    }

    fn names_mut(&mut self, dir: Ino) -> &mut BTreeMap<Vec<u8>, Ino> {
        match &mut self.change(dir).body {
            Body::Dir { names, .. } => names,
            _ => panic!("not a directory"),
        }
    }

    pub fn parent(&self, dir: Ino) -> Answer<Ino> {
        match &self.get(dir)?.body {
            Body::Dir { parent, .. } => Ok(*parent),
            _ => Err(libc::ENOTDIR),
        }
    }

    /// Without what has no name left: what remains after a crash or in a clone.
    pub fn reaped(&self) -> State {
        let mut s = self.clone();
        s.inodes.retain(|_, i| i.nlink > 0);
        s
    }

    /// `dir` is `of` or lies above it.
    fn above(&self, dir: Ino, mut of: Ino) -> bool {
        loop {
            if of == dir {
                return true;
            }
            if of == ROOT_INO {
                return false;
            }
            of = self.parent(of).unwrap_or(ROOT_INO);
        }
    }

    fn find(&self, dir: Ino, name: &[u8]) -> Answer<Option<Ino>> {
        if name.len() > 255 {
            return Err(libc::ENAMETOOLONG);
        }
        Ok(self.names(dir)?.get(name).copied())
    }

    /// The directory can take a new name.
    fn room(&self, dir: Ino, name: &[u8]) -> Answer<()> {
        if self.find(dir, name)?.is_some() {
            return Err(libc::EEXIST);
        }
        if self.get(dir)?.nlink == 0 {
            return Err(libc::ENOENT);
        }
        Ok(())
    }

    /// What a new inode in `dir` looks like.
    fn inherit(&self, dir: Ino, mode: u32, cred: &Cred) -> Answer<Inode> {
        let parent = self.get(dir)?;
        let mut i = fresh(mode & !(cred.umask & 0o777), cred, 0);
        if parent.mode & S_ISGID != 0 {
            i.gid = parent.gid;
            if mode & S_IFMT == S_IFDIR {
                i.mode |= S_ISGID;
            }
        }
        Ok(i)
    }

    fn enter(&mut self, dir: Ino, name: &[u8], ino: Ino, inode: Inode, t: &mut Touched) {
        touch(t, dir, MTIME | CTIME, 0);
        touch(t, ino, ATIME | MTIME | CTIME | BTIME, 0);
        if inode.is_dir() {
            self.change(dir).nlink += 1;
        }
        self.names_mut(dir).insert(name.to_vec(), ino);
        self.inodes.insert(ino, Arc::new(inode));
    }

    /// `new_ino`: the number that the real one gave to what this creates.
    pub fn apply(&mut self, op: &Op, new_ino: Ino, t: &mut Touched) -> Answer<Reply> {
        match op {
            Op::Lookup { dir, name } => {
                self.find(*dir, name)?.map(Reply::Inode).ok_or(libc::ENOENT)
            }
            Op::Attr { ino } => self.get(*ino).map(|_| Reply::Inode(*ino)),
            Op::Parent { dir } => {
                let parent = self.parent(*dir)?;
                if self.get(*dir)?.nlink == 0 {
                    return Err(libc::ENOENT);
                }
                Ok(Reply::Inode(parent))
            }
            Op::Mknod {
                dir,
                name,
                mode,
                rdev,
                cred,
            } => {
                self.room(*dir, name)?;
                let mut i = self.inherit(*dir, *mode, cred)?;
                i.rdev = *rdev;
                self.enter(*dir, name, new_ino, i, t);
                Ok(Reply::Inode(new_ino))
            }
            Op::Mkdir {
                dir,
                name,
                mode,
                cred,
            } => {
                self.room(*dir, name)?;
                // mkdir(2) knows the permission bits and the sticky bit alone.
                let mut i = self.inherit(*dir, S_IFDIR | mode & 0o1777, cred)?;
                i.nlink = 2;
                i.body = Body::Dir {
                    names: BTreeMap::new(),
                    parent: *dir,
                };
                self.enter(*dir, name, new_ino, i, t);
                Ok(Reply::Inode(new_ino))
            }
            Op::Symlink {
                dir,
                name,
                target,
                cred,
            } => {
                self.room(*dir, name)?;
                let mut i = self.inherit(*dir, S_IFLNK | 0o777, &Cred { umask: 0, ..*cred })?;
                i.size = target.len() as u64;
                i.body = Body::Link(target.clone());
                self.enter(*dir, name, new_ino, i, t);
                Ok(Reply::Inode(new_ino))
            }
            Op::Tmpfile { dir, mode, cred } => {
                self.names(*dir)?;
                let mut i = self.inherit(*dir, S_IFREG | mode, cred)?;
                i.nlink = 0;
                touch(t, new_ino, ATIME | MTIME | CTIME | BTIME, 0);
                self.inodes.insert(new_ino, Arc::new(i));
                Ok(Reply::Inode(new_ino))
            }
            Op::Link { ino, dir, name } => {
                if self.get(*ino)?.is_dir() {
                    return Err(libc::EPERM);
                }
                self.room(*dir, name)?;
                self.change(*ino).nlink += 1;
                self.names_mut(*dir).insert(name.clone(), *ino);
                touch(t, *ino, CTIME, 0);
                touch(t, *dir, MTIME | CTIME, 0);
                Ok(Reply::Inode(*ino))
            }
            Op::Unlink { dir, name } => {
                let ino = self.find(*dir, name)?.ok_or(libc::ENOENT)?;
                if self.get(ino)?.is_dir() {
                    return Err(libc::EISDIR);
                }
                self.names_mut(*dir).remove(name);
                self.change(ino).nlink -= 1;
                touch(t, *dir, MTIME | CTIME, 0);
                touch(t, ino, CTIME, 0);
                Ok(Reply::Inode(ino))
            }
            Op::Rmdir { dir, name } => {
                let ino = self.find(*dir, name)?.ok_or(libc::ENOENT)?;
                if !self.names(ino)?.is_empty() {
                    return Err(libc::ENOTEMPTY);
                }
                self.names_mut(*dir).remove(name);
                self.change(*dir).nlink -= 1;
                self.change(ino).nlink = 0;
                touch(t, *dir, MTIME | CTIME, 0);
                touch(t, ino, 0, MTIME | CTIME);
                Ok(Reply::Inode(ino))
            }
            Op::Rename {
                dir,
                name,
                new_dir,
                new_name,
                flags,
            } => self
                .rename((*dir, name), (*new_dir, new_name), *flags, new_ino, t)
                .map(Reply::Maybe),
            Op::Readlink { ino } => match &self.get(*ino)?.body {
                Body::Link(target) => Ok(Reply::Bytes(target.clone())),
                _ => Err(libc::EINVAL),
            },
            Op::Readdir { dir } => {
                let names = self.names(*dir)?;
                if self.get(*dir)?.nlink == 0 {
                    return Err(libc::ENOENT);
                }
                let kind = |ino: &Ino| self.inodes.get(ino).map_or(0, |i| i.mode & S_IFMT);
                let mut all: Vec<_> = names
                    .iter()
                    .map(|(n, i)| (n.clone(), *i, kind(i)))
                    .collect();
                all.push((b".".to_vec(), *dir, S_IFDIR));
                all.push((b"..".to_vec(), self.parent(*dir)?, S_IFDIR));
                all.sort();
                Ok(Reply::Names(all))
            }
            Op::Forget { ino } => {
                if self.inodes.get(ino).is_some_and(|i| i.nlink == 0) {
                    self.inodes.remove(ino);
                }
                Ok(Reply::Unit)
            }
            Op::TouchAtime { ino } => {
                self.get(*ino)?;
                touch(t, *ino, 0, ATIME);
                Ok(Reply::Unit)
            }
            Op::SetAttr { ino, set, .. } => self.set_attr(*ino, set, t),
            Op::Xattr { name, .. } if name.len() > 255 => Err(libc::ERANGE),
            Op::Xattr { ino, name } => self
                .get(*ino)?
                .xattrs
                .get(name)
                .map(|v| Reply::Bytes(v.clone()))
                .ok_or(libc::ENODATA),
            Op::Xattrs { ino } => {
                let names = self.get(*ino)?.xattrs.keys().map(|n| (n.clone(), 0, 0));
                Ok(Reply::Names(names.collect()))
            }
            Op::SetXattr {
                ino,
                name,
                value,
                how,
            } => {
                if name.len() > 255 {
                    return Err(libc::ERANGE);
                }
                if value.len() > cowfs::fs::XATTR_MAX {
                    return Err(libc::E2BIG);
                }
                let i = self.may_have(*ino, name)?;
                match (how, i.xattrs.contains_key(name)) {
                    (XattrSet::Create, true) => return Err(libc::EEXIST),
                    (XattrSet::Replace, false) => return Err(libc::ENODATA),
                    _ => {}
                }
                self.change(*ino).xattrs.insert(name.clone(), value.clone());
                touch(t, *ino, CTIME, 0);
                Ok(Reply::Unit)
            }
            Op::RemoveXattr { ino, name } => {
                if name.len() > 255 {
                    return Err(libc::ERANGE);
                }
                if !self.may_have(*ino, name)?.xattrs.contains_key(name) {
                    return Err(libc::ENODATA);
                }
                self.change(*ino).xattrs.remove(name);
                touch(t, *ino, CTIME, 0);
                Ok(Reply::Unit)
            }
            Op::Read { ino, offset, len } => {
                let i = self.file(*ino)?;
                let end = i.size.min(offset.saturating_add(*len as u64));
                let len = end.saturating_sub(*offset) as usize;
                Ok(Reply::Bytes(
                    i.data().map(|d| d.read(*offset, len)).unwrap_or_default(),
                ))
            }
            Op::Write {
                ino,
                offset,
                len,
                write,
                times,
                kill,
            } => {
                self.file(*ino)?;
                if *len == 0 {
                    touch(t, *ino, 0, MTIME | CTIME);
                    return Ok(Reply::Unit);
                }
                let bytes = super::data::pattern(*write, *offset, *len);
                let may = if *kill { CTIME } else { 0 };
                touch(t, *ino, if *times { MTIME | CTIME } else { 0 }, may);
                self.drop_privileges(*ino, *kill);
                let i = self.change(*ino);
                i.data_mut().write(*offset, &bytes);
                i.size = i.size.max(offset + *len as u64);
                Ok(Reply::Unit)
            }
            Op::Fallocate { ino, range, mode } => {
                if range.is_empty() {
                    return Err(libc::EINVAL);
                }
                let i = self.file(*ino)?;
                let (size, grows) = match mode {
                    Fallocate::Allocate { keep_size } | Fallocate::ZeroRange { keep_size } => {
                        (i.size, !keep_size && range.end > i.size)
                    }
                    Fallocate::PunchHole => (i.size, false),
                };
                touch(t, *ino, if grows { CTIME } else { 0 }, MTIME | CTIME);
                self.drop_privileges(*ino, false);
                let i = self.change(*ino);
                if !matches!(mode, Fallocate::Allocate { .. }) {
                    i.data_mut()
                        .zero(range.start..range.end.min(size).max(range.start));
                }
                if grows {
                    i.size = range.end;
                }
                Ok(Reply::Unit)
            }
            // Where data and holes are is the real one's own choice; see `ops::compare`.
            Op::Seek { ino, offset, .. } => match self.file(*ino)? {
                i if *offset >= i.size => Err(libc::ENXIO),
                _ => Ok(Reply::Unit),
            },
            Op::Copy {
                from,
                from_offset,
                to,
                to_offset,
                len,
            } => {
                let (source, _) = (self.file(*from)?, self.file(*to)?);
                let n = source.size.saturating_sub(*from_offset).min(*len);
                if n == 0 {
                    touch(t, *to, 0, MTIME | CTIME);
                    return Ok(Reply::Count(0));
                }
                let bytes = source
                    .data()
                    .map(|d| d.read(*from_offset, n as usize))
                    .unwrap_or_default();
                touch(t, *to, MTIME | CTIME, 0);
                self.drop_privileges(*to, false);
                let i = self.change(*to);
                i.data_mut().write(*to_offset, &bytes);
                i.size = i.size.max(to_offset + n);
                Ok(Reply::Count(n))
            }
            // All of the volume becomes durable, whatever the number.
            Op::Fsync { .. } => Ok(Reply::Unit),
        }
    }

    /// user.* attributes are for files and directories only.
    fn may_have(&self, ino: Ino, name: &[u8]) -> Answer<&Inode> {
        let i = self.get(ino)?;
        match i.is_file() || i.is_dir() || !name.starts_with(b"user.") {
            true => Ok(i),
            false => Err(libc::EPERM),
        }
    }

    fn file(&self, ino: Ino) -> Answer<&Inode> {
        let i = self.get(ino)?;
        match i.body {
            Body::File(_) => Ok(i),
            Body::Dir { .. } => Err(libc::EISDIR),
            _ => Err(libc::EINVAL),
        }
    }

    /// A file's content changes: capabilities go, with `suidgid` setuid and setgid too.
    fn drop_privileges(&mut self, ino: Ino, suidgid: bool) {
        let i = self.change(ino);
        i.xattrs.remove(&b"security.capability"[..]);
        if suidgid {
            i.mode = without_suidgid(i.mode);
        }
    }

    fn set_attr(&mut self, ino: Ino, set: &SetAttr, t: &mut Touched) -> Answer<Reply> {
        let i = self.get(ino)?;
        let mut touched = CTIME;
        if set.mode.is_some() && matches!(i.body, Body::Link(_)) {
            return Err(libc::EOPNOTSUPP);
        }
        if let Some(size) = set.size {
            self.file(ino)?;
            touched |= MTIME;
            self.drop_privileges(ino, set.kill_suidgid);
            let i = self.change(ino);
            let kept = size.min(i.size);
            i.data_mut().truncate(kept);
            i.size = size;
        }
        let owner = set.uid.is_some() || set.gid.is_some();
        let kill = set.kill_suidgid && set.size.is_none();
        if (owner || kill) && !self.get(ino)?.is_dir() {
            self.drop_privileges(ino, true);
        }
        let i = self.change(ino);
        if let Some(mode) = set.mode {
            i.mode = i.mode & S_IFMT | mode & 0o7777;
        }
        i.uid = set.uid.unwrap_or(i.uid);
        i.gid = set.gid.unwrap_or(i.gid);
        for (n, given) in [set.atime, set.mtime, set.ctime].into_iter().enumerate() {
            if let Some(time) = given {
                i.times[n] = time;
                touched &= !(1 << n);
            }
        }
        touch(t, ino, touched, 0);
        Ok(Reply::Inode(ino))
    }

    fn rename(
        &mut self,
        (dir, name): (Ino, &[u8]),
        (new_dir, new_name): (Ino, &[u8]),
        flags: RenameFlags,
        new_ino: Ino,
        t: &mut Touched,
    ) -> Answer<Option<Ino>> {
        if let Some(e) = self
            .rename_errors((dir, name), (new_dir, new_name), flags)
            .first()
        {
            return Err(*e);
        }
        let (ino, old) = (
            self.find(dir, name)?.ok_or(libc::ENOENT)?,
            self.find(new_dir, new_name)?,
        );
        if old == Some(ino) {
            return Ok(None);
        }
        for d in [dir, new_dir] {
            touch(t, d, MTIME | CTIME, 0);
        }
        touch(t, ino, CTIME, 0);
        self.names_mut(dir).remove(name);
        self.names_mut(new_dir).insert(new_name.to_vec(), ino);
        self.moved(ino, dir, new_dir);
        match old {
            Some(old) if flags.exchange => {
                touch(t, old, CTIME, 0);
                self.names_mut(dir).insert(name.to_vec(), old);
                self.moved(old, new_dir, dir);
            }
            Some(old) => {
                let was_dir = self.get(old)?.is_dir();
                let i = self.change(old);
                i.nlink = if was_dir { 0 } else { i.nlink - 1 };
                if was_dir {
                    self.change(new_dir).nlink -= 1;
                }
                touch(t, old, if was_dir { 0 } else { CTIME }, MTIME | CTIME);
            }
            None => {}
        }
        if flags.whiteout {
            let hole = fresh(S_IFCHR, &Cred::ROOT, 0);
            self.enter(dir, name, new_ino, hole, t);
        }
        Ok(old.filter(|_| !flags.exchange))
    }

    /// All that is wrong with a rename; which of it is answered depends on who looks first.
    fn rename_errors(
        &self,
        (dir, name): (Ino, &[u8]),
        (new_dir, new_name): (Ino, &[u8]),
        flags: RenameFlags,
    ) -> Vec<i32> {
        let mut errors = Vec::new();
        if flags.exchange && (flags.noreplace || flags.whiteout) {
            errors.push(libc::EINVAL);
        }
        let there = self.find(dir, name).and_then(|i| i.ok_or(libc::ENOENT));
        let old = self.find(new_dir, new_name);
        errors.extend(there.err());
        errors.extend(old.err());
        if self.get(new_dir).is_ok_and(|d| d.nlink == 0) {
            errors.push(libc::ENOENT);
        }
        match old {
            Ok(Some(_)) if flags.noreplace => errors.push(libc::EEXIST),
            Ok(None) if flags.exchange => errors.push(libc::ENOENT),
            _ => {}
        }
        let is_dir = |ino| self.get(ino).is_ok_and(|i| i.is_dir());
        if let Ok(ino) = there
            && is_dir(ino)
            && is_dir(new_dir)
            && self.above(ino, new_dir)
        {
            errors.push(libc::EINVAL);
        }
        if let (Ok(ino), Ok(Some(old))) = (there, old) {
            if is_dir(old) && is_dir(dir) && self.above(old, dir) {
                errors.push(if flags.exchange {
                    libc::EINVAL
                } else {
                    libc::ENOTEMPTY
                });
            }
            if old != ino && !flags.exchange {
                match (is_dir(ino), is_dir(old)) {
                    (true, false) => errors.push(libc::ENOTDIR),
                    (false, true) => errors.push(libc::EISDIR),
                    (true, true) if !self.names(old).is_ok_and(|n| n.is_empty()) => {
                        errors.push(libc::ENOTEMPTY)
                    }
                    _ => {}
                }
            }
        }
        errors
    }

    /// Whether another error than the model's first fits as well.
    pub fn also_wrong(&self, op: &Op, errno: i32) -> bool {
        match op {
            Op::Rename {
                dir,
                name,
                new_dir,
                new_name,
                flags,
            } => self
                .rename_errors((*dir, name), (*new_dir, new_name), *flags)
                .contains(&errno),
            Op::Link { ino, dir, name } => {
                self.room(*dir, name) == Err(errno)
                    || self.get(*ino).err() == Some(errno)
                    || errno == libc::EPERM && self.get(*ino).is_ok_and(|i| i.is_dir())
            }
            _ => false,
        }
    }

    /// A directory's parent and the link counts of both.
    fn moved(&mut self, ino: Ino, from: Ino, to: Ino) {
        if let Body::Dir { parent, .. } = &mut self.change(ino).body {
            *parent = to;
            self.change(from).nlink -= 1;
            self.change(to).nlink += 1;
        }
    }
}

fn touch(t: &mut Touched, ino: Ino, must: u8, may: u8) {
    let e = t.entry(ino).or_default();
    e.must |= must;
    e.may |= may;
}

fn without_suidgid(mode: u32) -> u32 {
    let kept = mode & !S_ISUID;
    if mode & S_IXGRP != 0 {
        kept & !S_ISGID
    } else {
        kept
    }
}

fn fresh(mode: u32, cred: &Cred, rdev: u32) -> Inode {
    Inode {
        mode,
        nlink: 1,
        uid: cred.uid,
        gid: cred.gid,
        rdev,
        size: 0,
        times: [Time::default(); 4],
        xattrs: BTreeMap::new(),
        body: if mode & S_IFMT == S_IFREG {
            Body::File(Data::default())
        } else {
            Body::Other
        },
    }
}
