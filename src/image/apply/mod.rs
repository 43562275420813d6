//! A layer onto a volume: entries of a tar (or things found in a directory) become files, with the
//! overwriting and the whiteouts that the OCI image specification wants.
//!
//! What belongs to this layer is told by inode numbers: they only grow, so everything from
//! `watermark` up was made by this layer, and everything below came with the layers underneath.
//! Exceptions are kept in two small sets: names given here to older inodes (hard links), and older
//! directories that this layer has entries for itself.

mod paths;
mod remove;

#[cfg(test)]
mod tests;

pub use paths::clean;

use super::digest::shown;
use super::tar::{Entry, Feed, Kind, Segment, Walker, bad};
use crate::base::{Error, Ino, ROOT_INO, Result, Time};
use crate::fs::{Attr, Cred, Fs, NAME_MAX, SetAttr, XATTR_MAX, XattrSet};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Directory paths remembered; beyond that all are forgotten.
const PATHS: usize = 50_000;
/// Directories whose times wait for their content; beyond that they are set early.
const TIMES: usize = 500_000;
/// Entries of the two sets of exceptions, together.
const EXCEPTIONS: usize = 4_000_000;
/// Bytes gathered before a write.
const GATHER: usize = 1 << 20;
/// Longest target of a symbolic link.
const TARGET_MAX: usize = 4095;

/// What to make: everything about an entry but its data.
#[derive(Clone, Debug)]
pub struct Node {
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub rdev: u32,
    pub size: u64,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A directory this layer changes.
struct Touched {
    /// Its time when all is done: its own entry's, or the one it had.
    mtime: Time,
    /// New entries would inherit an ACL that the archive knows nothing of.
    default_acl: bool,
}

/// Made, but without its data and attributes.
pub struct Placed {
    parent: Ino,
    attr: Attr,
}

impl Placed {
    pub fn ino(&self) -> Ino {
        self.attr.ino
    }
}

pub struct Applier {
    fs: Arc<Fs>,
    watermark: Ino,
    paths: HashMap<Vec<u8>, Ino>,
    touched: HashMap<Ino, Touched>,
    /// (directory, name) of links to older inodes.
    linked: HashSet<(Ino, Vec<u8>)>,
    /// Older directories with an entry in this layer.
    named: HashSet<Ino>,
    gathered: Vec<u8>,
    /// The root directory was just made, and no entry has named it yet.
    fresh: bool,
}

impl Applier {
    /// `fresh`: the volume was empty.
    pub fn new(fs: Arc<Fs>, fresh: bool) -> Applier {
        let watermark = fs.volume().new_ino();
        Applier {
            fs,
            watermark,
            paths: HashMap::new(),
            touched: HashMap::new(),
            linked: HashSet::new(),
            named: HashSet::new(),
            gathered: Vec::new(),
            fresh,
        }
    }

    pub fn fs(&self) -> &Arc<Fs> {
        &self.fs
    }

    /// One entry of a tar, with its data.
    pub fn entry<F: Feed>(&mut self, entry: &Entry, walker: &mut Walker<F>) -> Result<()> {
        self.entry_inner(entry, walker)
            .map_err(|e| within(e, &entry.path))
    }

    fn entry_inner<F: Feed>(&mut self, entry: &Entry, walker: &mut Walker<F>) -> Result<()> {
        let path = clean(&entry.path)?;
        let (dir, name) = paths::split(&path);
        if paths::aufs(&path) {
            return Ok(());
        }
        if dir
            .split(|&b| b == b'/')
            .any(|part| part.starts_with(b".wh."))
        {
            return Err(bad("it lies below a whiteout"));
        }
        if let Some(hidden) = name.strip_prefix(b".wh.") {
            return self.whiteout(dir, hidden);
        }
        if entry.kind == Kind::Link {
            return self.hard_link(entry, dir, name);
        }
        let node = Node {
            kind: entry.kind,
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            rdev: entry.rdev,
            size: entry.size,
            target: entry.link.clone(),
            xattrs: entry.xattrs.clone(),
        };
        if name.is_empty() {
            if node.kind != Kind::Directory {
                return Err(bad(
                    "it would replace the root directory; remove it from the archive",
                ));
            }
            return self.merge(ROOT_INO, &node);
        }
        if std::mem::take(&mut self.fresh) {
            // As implied directories: as old as what is put into it, until an entry says otherwise.
            self.touched.insert(
                ROOT_INO,
                Touched {
                    mtime: node.mtime,
                    default_acl: false,
                },
            );
        }
        let parent = self.directory(dir, node.mtime)?;
        self.touch(parent)?;
        let attr = self.make(parent, name, &path, &node)?;
        if node.kind == Kind::Directory {
            return Ok(());
        }
        if node.kind == Kind::File {
            self.data(attr.ino, entry, walker)?;
        }
        self.dress(parent, &attr, &node)
    }

    /// Makes the thing itself, taking away what is in its way; a directory is complete after this.
    fn make(&mut self, parent: Ino, name: &[u8], path: &[u8], node: &Node) -> Result<Attr> {
        let attr = match self.create(parent, name, node) {
            Err(e) if e.errno() == libc::EEXIST => {
                let old = self.fs.lookup(parent, name)?;
                if node.kind == Kind::Directory && is_dir(&old) {
                    self.merge(old.ino, node)?;
                    self.remember(path, old.ino);
                    return Ok(old);
                }
                self.remove(parent, name, &old)?;
                self.create(parent, name, node)?
            }
            made => made?,
        };
        if node.kind == Kind::Directory {
            self.dress(parent, &attr, node)?;
            self.touched.insert(
                attr.ino,
                Touched {
                    mtime: node.mtime,
                    default_acl: has_default_acl(node),
                },
            );
            self.remember(path, attr.ino);
        }
        Ok(attr)
    }

    fn create(&self, parent: Ino, name: &[u8], node: &Node) -> Result<Attr> {
        let cred = Cred {
            uid: node.uid,
            gid: node.gid,
            umask: 0,
        };
        let device = |kind: u32| {
            self.fs
                .mknod(parent, name, kind | node.mode, node.rdev, &cred)
        };
        match node.kind {
            Kind::File => device(libc::S_IFREG),
            Kind::CharDevice => device(libc::S_IFCHR),
            Kind::BlockDevice => device(libc::S_IFBLK),
            Kind::Fifo => device(libc::S_IFIFO),
            Kind::Directory => self.fs.mkdir(parent, name, node.mode, &cred),
            Kind::Symlink if node.target.is_empty() => Err(bad("it is a symbolic link to nothing")),
            Kind::Symlink if node.target.len() > TARGET_MAX => {
                Err(bad(format!("its target is longer than {TARGET_MAX} bytes")))
            }
            Kind::Symlink => self.fs.symlink(parent, name, &node.target, &cred),
            Kind::Link => Err(bad("a hard link is not made this way")),
        }
    }

    /// Attributes of what was just made: whatever it inherited goes, what the entry says comes.
    fn dress(&self, parent: Ino, attr: &Attr, node: &Node) -> Result<()> {
        let inherits =
            self.touched.get(&parent).is_some_and(|t| t.default_acl) && node.kind != Kind::Symlink;
        if inherits {
            for acl in [ACL_ACCESS, ACL_DEFAULT] {
                match self.fs.remove_xattr(attr.ino, acl) {
                    Err(e) if e.errno() == libc::ENODATA => {}
                    other => other?,
                }
            }
        }
        let mode = (node.kind != Kind::Symlink && (inherits || attr.mode & 0o7777 != node.mode))
            .then_some(node.mode);
        let mut set = SetAttr {
            mode,
            ..times(node.mtime)
        };
        if (attr.uid, attr.gid) != (node.uid, node.gid) {
            (set.uid, set.gid) = (Some(node.uid), Some(node.gid));
            // Giving a file away takes its setuid bit.
            set.mode = (node.kind != Kind::Symlink).then_some(node.mode);
        }
        self.fs.set_attr(attr.ino, &set, &Cred::ROOT)?;
        if !node.xattrs.is_empty() {
            self.xattrs(attr.ino, node)?;
        }
        Ok(())
    }

    fn xattrs(&self, ino: Ino, node: &Node) -> Result<()> {
        for (name, value) in &node.xattrs {
            if name.is_empty() || name.len() > NAME_MAX || value.len() > XATTR_MAX {
                return Err(bad(format!(
                    "its extended attribute '{}' is too long",
                    shown(name)
                )));
            }
            match self.fs.set_xattr(ino, name, value, XattrSet::Any) {
                // As tar and podman do: an attribute of another system is no reason to fail.
                Err(e) if e.errno() == libc::EOPNOTSUPP => {
                    log::warn!(
                        "extended attribute '{}' left out: not one of Linux",
                        shown(name)
                    );
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// A directory over a directory: its content stays, its attributes become the entry's.
    fn merge(&mut self, ino: Ino, node: &Node) -> Result<()> {
        self.fresh &= ino != ROOT_INO;
        let set = SetAttr {
            mode: Some(node.mode),
            uid: Some(node.uid),
            gid: Some(node.gid),
            ..times(node.mtime)
        };
        for name in self.fs.xattrs(ino)? {
            if !node.xattrs.iter().any(|(n, _)| *n == name) {
                self.fs.remove_xattr(ino, &name)?;
            }
        }
        self.fs.set_attr(ino, &set, &Cred::ROOT)?;
        self.xattrs(ino, node)?;
        self.touched.insert(
            ino,
            Touched {
                mtime: node.mtime,
                default_acl: has_default_acl(node),
            },
        );
        if ino < self.watermark {
            self.named.insert(ino);
            self.check_exceptions()?;
        }
        Ok(())
    }

    /// The archive's hard links may lead to what lower layers made.
    fn hard_link(&mut self, entry: &Entry, dir: &[u8], name: &[u8]) -> Result<()> {
        let target = clean(&entry.link)?;
        let nothing = || {
            bad(format!(
                "it is a hard link to '{}', which is not there",
                shown(&entry.link)
            ))
        };
        let (target_dir, target_name) = paths::split(&target);
        if name.is_empty() || target_name.is_empty() {
            return Err(nothing());
        }
        let from = self.existing(target_dir)?.ok_or_else(nothing)?;
        let attr = match self.fs.lookup(from, target_name) {
            Err(e) if e.errno() == libc::ENOENT => return Err(nothing()),
            found => found?,
        };
        if is_dir(&attr) {
            return Err(bad(format!(
                "it is a hard link to '{}', a directory",
                shown(&entry.link)
            )));
        }
        self.link(attr.ino, dir, name, entry.mtime)
    }

    /// Another name for an inode.
    pub fn link(&mut self, ino: Ino, dir: &[u8], name: &[u8], mtime: Time) -> Result<()> {
        let parent = self.directory(dir, mtime)?;
        self.touch(parent)?;
        match self.fs.link(ino, parent, name) {
            Err(e) if e.errno() == libc::EEXIST => {
                let old = self.fs.lookup(parent, name)?;
                if old.ino == ino {
                    return Ok(());
                }
                self.remove(parent, name, &old)?;
                self.fs.link(ino, parent, name)?;
            }
            made => {
                made?;
            }
        }
        if ino < self.watermark {
            self.linked.insert((parent, name.to_vec()));
            self.check_exceptions()?;
        }
        Ok(())
    }

    fn check_exceptions(&self) -> Result<()> {
        if self.linked.len() + self.named.len() > EXCEPTIONS {
            return Err(bad(format!(
                "the layer changes more than {EXCEPTIONS} names of the layers below"
            )));
        }
        Ok(())
    }

    /// Something found in a directory that is being imported. Directories are complete after this;
    /// `complete` does it for the rest, after a file's data.
    pub fn place(&mut self, path: &[u8], node: &Node) -> Result<Placed> {
        let (dir, name) = paths::split(path);
        let parent = self.directory(dir, node.mtime)?;
        self.touch(parent)?;
        let attr = self.make(parent, name, path, node)?;
        Ok(Placed { parent, attr })
    }

    pub fn complete(&self, placed: &Placed, node: &Node) -> Result<()> {
        self.dress(placed.parent, &placed.attr, node)
    }

    /// The root directory's own attributes.
    pub fn root(&mut self, node: &Node) -> Result<()> {
        self.merge(ROOT_INO, node)
    }

    /// The stored bytes, each where it belongs.
    fn data<F: Feed>(&mut self, ino: Ino, entry: &Entry, walker: &mut Walker<F>) -> Result<()> {
        let whole = [Segment {
            offset: 0,
            length: entry.size,
        }];
        let segments = entry.map.as_deref().unwrap_or(&whole);
        let mut end = 0;
        for segment in segments {
            let (mut at, mut left) = (segment.offset, segment.length);
            while left > 0 {
                let piece = walker.data()?;
                let n = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                // Written at once if it is all there is, else gathered into long, even pieces: a
                // block is then written once.
                if n as u64 == left && self.gathered.is_empty() {
                    self.fs
                        .write(ino, at, piece.get(..n).unwrap_or_default(), false, false)?;
                    at += n as u64;
                    walker.consume(n);
                    break;
                }
                let room = GATHER - self.gathered.len();
                let n = n.min(room);
                self.gathered
                    .extend_from_slice(piece.get(..n).unwrap_or_default());
                walker.consume(n);
                left -= n as u64;
                if self.gathered.len() >= GATHER || left == 0 {
                    self.fs.write(ino, at, &self.gathered, false, false)?;
                    at += self.gathered.len() as u64;
                    self.gathered.clear();
                }
            }
            if segment.length > 0 {
                end = at;
            }
        }
        if end < entry.size {
            self.fs.set_attr(
                ino,
                &SetAttr {
                    size: Some(entry.size),
                    ..SetAttr::default()
                },
                &Cred::ROOT,
            )?;
        }
        Ok(())
    }

    /// Before a directory's names change: its time is to be what it is now, unless its entry says else.
    fn touch(&mut self, dir: Ino) -> Result<()> {
        if self.touched.contains_key(&dir) {
            return Ok(());
        }
        if self.touched.len() >= TIMES {
            self.set_times()?;
        }
        let mtime = self.fs.attr(dir)?.mtime;
        let default_acl = match self.fs.xattr(dir, ACL_DEFAULT) {
            Ok(_) => true,
            Err(e) if matches!(e.errno(), libc::ENODATA | libc::EOPNOTSUPP) => false,
            Err(e) => return Err(e),
        };
        self.touched.insert(dir, Touched { mtime, default_acl });
        Ok(())
    }

    fn set_times(&mut self) -> Result<()> {
        for (ino, touched) in std::mem::take(&mut self.touched) {
            self.fs.set_attr(ino, &times(touched.mtime), &Cred::ROOT)?;
        }
        Ok(())
    }

    /// All entries were there: directories get their times.
    pub fn finish(mut self) -> Result<()> {
        self.set_times()
    }

    fn remember(&mut self, path: &[u8], ino: Ino) {
        if self.paths.len() >= PATHS {
            self.paths.clear();
        }
        self.paths.insert(path.to_vec(), ino);
    }
}

const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

fn has_default_acl(node: &Node) -> bool {
    node.xattrs.iter().any(|(name, _)| name == ACL_DEFAULT)
}

fn times(mtime: Time) -> SetAttr {
    SetAttr {
        mtime: Some(mtime),
        atime: Some(mtime),
        ..SetAttr::default()
    }
}

fn is_dir(attr: &Attr) -> bool {
    attr.mode & libc::S_IFMT == libc::S_IFDIR
}

/// Says which entry it was; the kind of failure stays.
pub fn within(e: Error, path: &[u8]) -> Error {
    match e {
        Error::Invalid(what) => Error::Invalid(format!("entry '{}': {what}", shown(path))),
        Error::Posix(_) => Error::Invalid(format!("entry '{}': {e}", shown(path))),
        e => e,
    }
}
