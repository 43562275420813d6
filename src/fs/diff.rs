//! What changed between two file systems, as paths.
//!
//! The trees say which items differ (whatever both share is never looked at); from there:
//!
//! - A directory is **in place** when it has the same path in both: its entry in its parent is the
//!   same item, and the parent is in place. The inode item knows that entry (directory and cookie),
//!   so this is found upwards, without a search.
//! - Entries that differ in a directory in place: a name only in the old one is deleted (with all
//!   below it: one line), a name only in the new one is added (with all below it: a line each), a
//!   name in both is compared, down to the last entry if it is now another directory.
//! - An inode that differs is reported under every name whose entry is the same in both. A further
//!   name of a file is found by its LINK items.
//! - Anything else lies below a directory that is not in place, that is, below an entry that differs
//!   in one that is.
//!
//! Whether content changed is read from the inode item alone: each write counts up its change
//! counter. Mapping items may differ without it (blocks copied away from a shared chunk), and a
//! mapping that differs says nothing about a file that no write touched. An access time is no
//! change. Compared are the two volumes as they are when looked at: for an exact answer about a
//! volume in use, snapshot it first.

use super::dir::list;
use super::hash::all_of;
use super::inode::read_inode;
use super::item::{DirentItem, InodeItem, LinkItem};
use super::{ChangeKind, Fs};
use crate::base::{Error, Ino, ROOT_INO, Result, Time};
use crate::pool::Need;
use crate::tree::{Read, kind};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Bytes of all paths at most: very deep trees have paths out of proportion to their size.
const PATHS_MAX: usize = 1 << 30;
const BATCH: usize = 512;

/// Inode and type.
type Target = (Ino, u32);

/// Entries of one directory that differ.
#[derive(Default)]
struct Names {
    cookies: HashSet<u64>,
    old: BTreeMap<Vec<u8>, Target>,
    new: BTreeMap<Vec<u8>, Target>,
}

struct Diff<'a> {
    old: &'a Fs,
    new: &'a Fs,
    dirs: BTreeMap<Ino, Names>,
    /// Inodes in both whose items differ.
    inodes: BTreeSet<Ino>,
    /// The root's attributes differ.
    root_xattrs: bool,
    /// Of directories in place, parent and name; `None`: not in place.
    places: HashMap<Ino, Option<(Ino, Vec<u8>)>>,
    out: BTreeMap<Vec<u8>, ChangeKind>,
    bytes: usize,
}

/// What `volume` has that `base` has not, sorted by path (paths begin with '/'). An access time is
/// no change; the root itself is reported only when its mode, owner or attributes changed.
pub fn diff(base: &Arc<Fs>, volume: &Arc<Fs>) -> Result<Vec<(ChangeKind, Vec<u8>)>> {
    if !Arc::ptr_eq(base.volume.pool(), volume.volume.pool()) {
        return Err(Error::Invalid(
            "the two volumes are in different pools".into(),
        ));
    }
    let mut diff = Diff {
        old: base,
        new: volume,
        dirs: BTreeMap::new(),
        inodes: BTreeSet::new(),
        root_xattrs: false,
        places: HashMap::new(),
        out: BTreeMap::new(),
        bytes: 0,
    };
    diff.collect()?;
    diff.compare_names()?;
    diff.report_inodes()?;
    Ok(diff
        .out
        .into_iter()
        .map(|(path, kind)| (kind, path))
        .collect())
}

impl Diff<'_> {
    fn collect(&mut self) -> Result<()> {
        let (old, new) = (self.old.volume.id(), self.new.volume.id());
        self.new.volume.pool().diff(old, new, &mut |key, a, b| {
            match key.kind {
                kind::INODE => {
                    if let (Some(a), Some(b)) = (a, b)
                        && !same_bytes(a, b)?
                    {
                        self.inodes.insert(key.object);
                    }
                }
                kind::DIRENT => {
                    let names = self.dirs.entry(key.object).or_default();
                    names.cookies.insert(key.offset);
                    for (side, value) in [(&mut names.old, a), (&mut names.new, b)] {
                        if let Some(value) = value {
                            let e = DirentItem::decode(value).ok_or_else(damaged_entry)?;
                            side.insert(e.name, (e.ino, e.kind));
                        }
                    }
                }
                kind::XATTR if key.object == ROOT_INO => self.root_xattrs = true,
                _ => {}
            }
            Ok(())
        })
    }

    /// Entries that differ in directories in place.
    fn compare_names(&mut self) -> Result<()> {
        let dirs: Vec<Ino> = self.dirs.keys().copied().collect();
        for dir in dirs {
            if let Some(path) = self.path(dir)?
                && let Some(names) = self.dirs.get_mut(&dir)
            {
                let old = std::mem::take(&mut names.old);
                let new = std::mem::take(&mut names.new);
                self.compare(path, old, new)?;
            }
        }
        Ok(())
    }

    /// Some or all entries of what is, in both, the directory at `path`; and what is below.
    fn compare(
        &mut self,
        path: Vec<u8>,
        old: BTreeMap<Vec<u8>, Target>,
        new: BTreeMap<Vec<u8>, Target>,
    ) -> Result<()> {
        let mut below = vec![(path, old, new)];
        while let Some((path, old, new)) = below.pop() {
            for name in old.keys().filter(|n| !new.contains_key(*n)) {
                self.emit(ChangeKind::Deleted, join(&path, name))?;
            }
            for (name, target) in new {
                let path = join(&path, &name);
                let Some(before) = old.get(&name) else {
                    self.added(path, target)?;
                    continue;
                };
                if self.differs(before.0, target.0)? {
                    self.emit(ChangeKind::Changed, path.clone())?;
                }
                match (before.1 == libc::S_IFDIR, target.1 == libc::S_IFDIR) {
                    (true, true) => {
                        let (a, b) = (children(self.old, before.0)?, children(self.new, target.0)?);
                        below.push((path, a, b));
                    }
                    (false, true) => self.added_below(path, target.0)?,
                    // What was below a directory that is none any more is gone with it.
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn differs(&self, old: Ino, new: Ino) -> Result<bool> {
        if old != new {
            return Ok(true);
        }
        match (inode(self.old, old)?, inode(self.new, new)?) {
            (Some(a), Some(b)) => Ok(!same(&a, &b)),
            _ => Ok(true),
        }
    }

    /// A path that was not there, with everything below it.
    fn added(&mut self, path: Vec<u8>, target: Target) -> Result<()> {
        self.emit(ChangeKind::Added, path.clone())?;
        if target.1 == libc::S_IFDIR {
            self.added_below(path, target.0)?;
        }
        Ok(())
    }

    fn added_below(&mut self, path: Vec<u8>, dir: Ino) -> Result<()> {
        let mut below = vec![(path, dir)];
        while let Some((path, dir)) = below.pop() {
            for_each_child(self.new, dir, &mut |entry| {
                let path = join(&path, &entry.name);
                self.emit(ChangeKind::Added, path.clone())?;
                if entry.kind == libc::S_IFDIR {
                    below.push((path, entry.ino));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Inodes that differ, under the names that do not.
    fn report_inodes(&mut self) -> Result<()> {
        for ino in std::mem::take(&mut self.inodes) {
            if ino == ROOT_INO {
                self.report_root()?;
                continue;
            }
            for (dir, cookie) in places(self.new, ino)? {
                let differs = self
                    .dirs
                    .get(&dir)
                    .is_some_and(|n| n.cookies.contains(&cookie));
                if differs {
                    continue;
                }
                if let Some(path) = self.path(dir)?
                    && let Some(entry) = entry_at(self.new, dir, cookie)?
                {
                    self.emit(ChangeKind::Changed, join(&path, &entry.name))?;
                }
            }
        }
        Ok(())
    }

    fn report_root(&mut self) -> Result<()> {
        if let (Some(a), Some(b)) = (inode(self.old, ROOT_INO)?, inode(self.new, ROOT_INO)?) {
            let owner = |i: &InodeItem| (i.mode, i.uid, i.gid, i.flags);
            if self.root_xattrs || owner(&a) != owner(&b) {
                self.emit(ChangeKind::Changed, b"/".to_vec())?;
            }
        }
        Ok(())
    }

    /// The path of a directory in place, without a slash at the end (root: empty).
    fn path(&mut self, dir: Ino) -> Result<Option<Vec<u8>>> {
        let mut chain = Vec::new();
        let mut seen = HashSet::new();
        let mut at = dir;
        // Upwards to what is known.
        let in_place = loop {
            if at == ROOT_INO {
                break true;
            }
            if let Some(place) = self.places.get(&at) {
                break place.is_some();
            }
            match self.place(at)? {
                // Met on the way already: a circle, that is, damage.
                Some(_) if !seen.insert(at) => break false,
                Some((up, name)) => {
                    chain.push((at, Some((up, name))));
                    at = up;
                }
                None => {
                    chain.push((at, None));
                    break false;
                }
            }
        };
        for (ino, place) in chain {
            self.places.insert(ino, place.filter(|_| in_place));
        }
        if !in_place {
            return Ok(None);
        }
        let mut names = Vec::new();
        let mut at = dir;
        while at != ROOT_INO {
            let Some(Some((up, name))) = self.places.get(&at) else {
                return Ok(None);
            };
            names.push(name.as_slice());
            at = *up;
        }
        let mut path = Vec::with_capacity(names.iter().map(|n| n.len() + 1).sum());
        for name in names.into_iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        Ok(Some(path))
    }

    /// Parent and name of a directory whose entry is the same in both.
    fn place(&self, dir: Ino) -> Result<Option<(Ino, Vec<u8>)>> {
        let Some(item) = inode(self.new, dir)? else {
            return Ok(None);
        };
        if self
            .dirs
            .get(&item.parent)
            .is_some_and(|n| n.cookies.contains(&item.cookie))
        {
            return Ok(None);
        }
        let entry = entry_at(self.new, item.parent, item.cookie)?;
        Ok(entry
            .filter(|e| e.ino == dir)
            .map(|e| (item.parent, e.name)))
    }

    fn emit(&mut self, kind: ChangeKind, path: Vec<u8>) -> Result<()> {
        self.bytes = self.bytes.saturating_add(path.len() + 32);
        if self.bytes > PATHS_MAX {
            let limit = PATHS_MAX >> 20;
            return Err(Error::Invalid(format!(
                "the changed paths take more than {limit} MiB"
            )));
        }
        self.out.entry(path).or_insert(kind);
        Ok(())
    }
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    [path, b"/", name].concat()
}

fn damaged_entry() -> Error {
    Error::corrupt("a directory", "one of its entries")
}

/// Equal but for the access time.
fn same(a: &InodeItem, b: &InodeItem) -> bool {
    let rest = |i: &InodeItem| InodeItem {
        atime: Time::default(),
        ..*i
    };
    rest(a) == rest(b)
}

fn same_bytes(a: &[u8], b: &[u8]) -> Result<bool> {
    let decode =
        |b| InodeItem::decode(b).ok_or_else(|| Error::corrupt("an inode", "its inode item"));
    Ok(same(&decode(a)?, &decode(b)?))
}

fn view<T>(fs: &Fs, f: impl FnMut(&dyn Read) -> Result<T>) -> Result<T> {
    fs.volume.enter(Need::READ)?.view(f)
}

fn inode(fs: &Fs, ino: Ino) -> Result<Option<InodeItem>> {
    view(fs, |r| match read_inode(r, ino) {
        Ok(item) => Ok(Some(item)),
        Err(Error::Posix(libc::ENOENT)) => Ok(None),
        Err(e) => Err(e),
    })
}

fn entry_at(fs: &Fs, dir: Ino, cookie: u64) -> Result<Option<DirentItem>> {
    let value = view(fs, |r| r.get(&super::dir::dirent_key(dir, cookie)))?;
    value
        .map(|v| DirentItem::decode(&v).ok_or_else(damaged_entry))
        .transpose()
}

/// All names of an inode.
fn places(fs: &Fs, ino: Ino) -> Result<Vec<(Ino, u64)>> {
    view(fs, |r| {
        let item = match read_inode(r, ino) {
            Ok(item) if item.parent != 0 => item,
            Ok(_) | Err(Error::Posix(libc::ENOENT)) => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut out = vec![(item.parent, item.cookie)];
        if item.is_dir() || item.nlink < 2 {
            return Ok(out);
        }
        let (from, to) = all_of(ino, kind::LINK);
        r.scan(&from, &to, &mut |_, value| {
            let link =
                LinkItem::decode(value).ok_or_else(|| super::inode::damaged(ino, "a link item"))?;
            out.push((link.dir, link.cookie));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(out)
    })
}

fn for_each_child(fs: &Fs, dir: Ino, each: &mut dyn FnMut(DirentItem) -> Result<()>) -> Result<()> {
    let mut from = 0;
    loop {
        let batch = view(fs, |r| list(r, dir, from, BATCH))?;
        let more = batch.len() == BATCH;
        for (cookie, entry) in batch {
            from = cookie.saturating_add(1);
            each(entry)?;
        }
        if !more {
            return Ok(());
        }
    }
}

fn children(fs: &Fs, dir: Ino) -> Result<BTreeMap<Vec<u8>, Target>> {
    let mut out = BTreeMap::new();
    for_each_child(fs, dir, &mut |e| {
        out.insert(e.name, (e.ino, e.kind));
        Ok(())
    })?;
    Ok(out)
}
