//! The file system's calls as data, done on the real one and compared with the model.

use super::data::{Data, pattern};
use super::state::{Body, Inode, State, Touch, Touched};
use cowfs::base::{Ino, Result, Time};
use cowfs::fs::{Attr, Cred, Fallocate, Fs, RenameFlags, Seek, SetAttr, XattrSet};
use std::ops::Range;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum Op {
    Lookup {
        dir: Ino,
        name: Vec<u8>,
    },
    Attr {
        ino: Ino,
    },
    Parent {
        dir: Ino,
    },
    Mknod {
        dir: Ino,
        name: Vec<u8>,
        mode: u32,
        rdev: u32,
        cred: Cred,
    },
    Mkdir {
        dir: Ino,
        name: Vec<u8>,
        mode: u32,
        cred: Cred,
    },
    Symlink {
        dir: Ino,
        name: Vec<u8>,
        target: Vec<u8>,
        cred: Cred,
    },
    Tmpfile {
        dir: Ino,
        mode: u32,
        cred: Cred,
    },
    Link {
        ino: Ino,
        dir: Ino,
        name: Vec<u8>,
    },
    Unlink {
        dir: Ino,
        name: Vec<u8>,
    },
    Rmdir {
        dir: Ino,
        name: Vec<u8>,
    },
    Rename {
        dir: Ino,
        name: Vec<u8>,
        new_dir: Ino,
        new_name: Vec<u8>,
        flags: RenameFlags,
    },
    Readlink {
        ino: Ino,
    },
    Readdir {
        dir: Ino,
    },
    Forget {
        ino: Ino,
    },
    TouchAtime {
        ino: Ino,
    },
    SetAttr {
        ino: Ino,
        set: SetAttr,
        cred: Cred,
    },
    Xattr {
        ino: Ino,
        name: Vec<u8>,
    },
    Xattrs {
        ino: Ino,
    },
    SetXattr {
        ino: Ino,
        name: Vec<u8>,
        value: Vec<u8>,
        how: XattrSet,
    },
    RemoveXattr {
        ino: Ino,
        name: Vec<u8>,
    },
    Read {
        ino: Ino,
        offset: u64,
        len: usize,
    },
    /// Writes the pattern of write number `write`.
    Write {
        ino: Ino,
        offset: u64,
        len: usize,
        write: u64,
        times: bool,
        kill: bool,
    },
    Fallocate {
        ino: Ino,
        range: Range<u64>,
        mode: Fallocate,
    },
    Seek {
        ino: Ino,
        offset: u64,
        what: Seek,
    },
    Copy {
        from: Ino,
        from_offset: u64,
        to: Ino,
        to_offset: u64,
        len: u64,
    },
    Fsync {
        ino: Ino,
    },
}

/// An operation (or anything) in one line: lists of bytes as text where short, else their length.
pub fn short(what: &impl std::fmt::Debug) -> String {
    let text = format!("{what:?}");
    let mut out = String::new();
    let mut rest = &text[..];
    while let Some(at) = rest.find('[') {
        let end = rest[at..].find(']').map_or(rest.len() - 1, |e| at + e);
        let bytes: Option<Vec<u8>> = rest[at + 1..end]
            .split(", ")
            .map(|n| n.parse().ok())
            .collect();
        out.push_str(&rest[..at]);
        match bytes {
            Some(b) if b.len() > 40 => out.push_str(&format!("<{} bytes>", b.len())),
            Some(b) => out.push_str(&format!("{:?}", String::from_utf8_lossy(&b))),
            None => out.push_str(&rest[at..=end]),
        }
        rest = &rest[end + 1..];
    }
    out + rest
}

#[derive(Clone, PartialEq, Eq)]
pub enum Reply {
    Unit,
    Inode(Ino),
    Maybe(Option<Ino>),
    Bytes(Vec<u8>),
    Count(u64),
    /// Sorted: name, inode, type.
    Names(Vec<(Vec<u8>, Ino, u32)>),
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Reply::Unit => write!(f, "()"),
            Reply::Inode(i) => write!(f, "inode {i}"),
            Reply::Maybe(i) => write!(f, "{i:?}"),
            Reply::Bytes(b) if b.len() > 32 => write!(f, "{} bytes, {:x?}...", b.len(), &b[..32]),
            Reply::Bytes(b) => write!(f, "{b:x?}"),
            Reply::Count(n) => write!(f, "{n}"),
            Reply::Names(n) => {
                let names = n.iter().map(|(n, i, k)| (String::from_utf8_lossy(n), i, k));
                f.debug_list().entries(names).finish()
            }
        }
    }
}

impl Op {
    /// Whether the operation makes a new inode (when it succeeds).
    pub fn creates(&self) -> bool {
        match self {
            Op::Mknod { .. } | Op::Mkdir { .. } | Op::Symlink { .. } | Op::Tmpfile { .. } => true,
            Op::Rename { flags, .. } => flags.whiteout,
            _ => false,
        }
    }

    pub fn reads_only(&self) -> bool {
        matches!(
            self,
            Op::Lookup { .. }
                | Op::Attr { .. }
                | Op::Parent { .. }
                | Op::Readlink { .. }
                | Op::Readdir { .. }
                | Op::Xattr { .. }
                | Op::Xattrs { .. }
                | Op::Read { .. }
                | Op::Seek { .. }
                | Op::Fsync { .. }
        )
    }

    pub fn perform(&self, fs: &Arc<Fs>) -> Result<Reply> {
        let inode = |a: Attr| Reply::Inode(a.ino);
        Ok(match self {
            Op::Lookup { dir, name } => inode(fs.lookup(*dir, name)?),
            Op::Attr { ino } => inode(fs.attr(*ino)?),
            Op::Parent { dir } => Reply::Inode(fs.parent(*dir)?),
            Op::Mknod {
                dir,
                name,
                mode,
                rdev,
                cred,
            } => inode(fs.mknod(*dir, name, *mode, *rdev, cred)?),
            Op::Mkdir {
                dir,
                name,
                mode,
                cred,
            } => inode(fs.mkdir(*dir, name, *mode, cred)?),
            Op::Symlink {
                dir,
                name,
                target,
                cred,
            } => inode(fs.symlink(*dir, name, target, cred)?),
            Op::Tmpfile { dir, mode, cred } => {
                inode(fs.tmpfile(*dir, libc::S_IFREG | mode, cred)?)
            }
            Op::Link { ino, dir, name } => inode(fs.link(*ino, *dir, name)?),
            Op::Unlink { dir, name } => inode(fs.unlink(*dir, name)?),
            Op::Rmdir { dir, name } => inode(fs.rmdir(*dir, name)?),
            Op::Rename {
                dir,
                name,
                new_dir,
                new_name,
                flags,
            } => {
                let old = fs.rename(*dir, name, *new_dir, new_name, *flags)?;
                Reply::Maybe(old.map(|a| a.ino))
            }
            Op::Readlink { ino } => Reply::Bytes(fs.readlink(*ino)?),
            Op::Readdir { dir } => Reply::Names(readdir(fs, *dir)?),
            Op::Forget { ino } => {
                fs.forget(*ino)?;
                Reply::Unit
            }
            Op::TouchAtime { ino } => {
                fs.touch_atime(*ino)?;
                Reply::Unit
            }
            Op::SetAttr { ino, set, cred } => inode(fs.set_attr(*ino, set, cred)?),
            Op::Xattr { ino, name } => Reply::Bytes(fs.xattr(*ino, name)?),
            Op::Xattrs { ino } => {
                let mut names: Vec<_> = fs.xattrs(*ino)?.into_iter().map(|n| (n, 0, 0)).collect();
                names.sort();
                Reply::Names(names)
            }
            Op::SetXattr {
                ino,
                name,
                value,
                how,
            } => {
                fs.set_xattr(*ino, name, value, *how)?;
                Reply::Unit
            }
            Op::RemoveXattr { ino, name } => {
                fs.remove_xattr(*ino, name)?;
                Reply::Unit
            }
            Op::Read { ino, offset, len } => {
                let mut b = vec![0xEE; *len];
                let n = fs.read(*ino, *offset, &mut b)?;
                b.truncate(n);
                // The kernel's way to read answers the same bytes.
                let with = fs.read_with(*ino, *offset, *len, |x| x == b)?;
                assert!(with, "read and read_with differ: {self:?}");
                Reply::Bytes(b)
            }
            Op::Write {
                ino,
                offset,
                len,
                write,
                times,
                kill,
            } => {
                fs.write(
                    *ino,
                    *offset,
                    &pattern(*write, *offset, *len),
                    *times,
                    *kill,
                )?;
                Reply::Unit
            }
            Op::Fallocate { ino, range, mode } => {
                fs.fallocate(*ino, range.clone(), *mode)?;
                Reply::Unit
            }
            Op::Seek { ino, offset, what } => Reply::Count(fs.seek(*ino, *offset, *what)?),
            Op::Copy {
                from,
                from_offset,
                to,
                to_offset,
                len,
            } => Reply::Count(fs.copy_range(*from, *from_offset, *to, *to_offset, *len)?),
            Op::Fsync { ino } => {
                fs.fsync(*ino)?;
                Reply::Unit
            }
        })
    }
}

/// All names, read in small portions, each continued from its last cookie; sorted.
pub fn readdir(fs: &Arc<Fs>, dir: Ino) -> Result<Vec<(Vec<u8>, Ino, u32)>> {
    let (mut all, mut cookie, mut order) = (Vec::new(), 0, Vec::new());
    loop {
        let mut portion = 0;
        let before = all.len();
        fs.readdir(dir, cookie, portion % 2 == 0, &mut |e, attr| {
            if portion == 7 {
                return false;
            }
            portion += 1;
            assert!(
                e.cookie > 0 && e.cookie <= i64::MAX as u64,
                "cookie {}",
                e.cookie
            );
            if let Some(a) = attr {
                assert_eq!(
                    (a.ino, a.mode & libc::S_IFMT),
                    (e.ino, e.kind),
                    "readdir with attributes"
                );
            }
            cookie = e.cookie;
            order.push(e.cookie);
            all.push((e.name.clone(), e.ino, e.kind));
            true
        })?;
        if all.len() == before {
            break;
        }
    }
    assert!(
        order.is_sorted_by(|a, b| a < b),
        "cookies of directory {dir} do not grow: {order:?}"
    );
    all.sort();
    Ok(all)
}

/// The real answer against the model's.
pub fn compare(
    op: &Op,
    before: &State,
    real: &Result<Reply>,
    model: &Result<Reply, i32>,
) -> Result<(), String> {
    let wrong = || {
        Err(format!(
            "{}\n   real: {real:?}\n  model: {model:?}",
            short(op)
        ))
    };
    match (real, model) {
        (Err(e), Err(errno)) if e.errno() == *errno || before.also_wrong(op, e.errno()) => Ok(()),
        (Ok(Reply::Count(at)), Ok(Reply::Unit)) => match op {
            Op::Seek { ino, offset, what } if seek_is_right(before, *ino, *offset, *what, *at) => {
                Ok(())
            }
            _ => wrong(),
        },
        // No data behind `offset` is allowed only where there is none.
        (Err(e), Ok(Reply::Unit)) if e.errno() == libc::ENXIO => match op {
            Op::Seek {
                ino,
                offset,
                what: Seek::Data,
            } => match before.get(*ino) {
                Ok(i)
                    if i.data()
                        .is_some_and(|d| d.first_byte(*offset, i.size).is_none()) =>
                {
                    Ok(())
                }
                _ => wrong(),
            },
            _ => wrong(),
        },
        (Ok(real), Ok(model)) if real == model => Ok(()),
        _ => wrong(),
    }
}

fn seek_is_right(state: &State, ino: Ino, offset: u64, what: Seek, at: u64) -> bool {
    let Ok(i) = state.get(ino) else { return false };
    let Some(data) = i.data() else { return false };
    match what {
        Seek::Data => at >= offset && at < i.size && data.first_byte(offset, at).is_none(),
        Seek::Hole => {
            // What is called a hole must be zeros as far as its block goes.
            let end = ((at / 4096 + 1) * 4096).min(i.size);
            at >= offset && at <= i.size && data.first_byte(at, end).is_none()
        }
    }
}

/// The real inode's attributes against the model's; takes over times that were to change.
/// `since`, `until`: when the operation ran.
pub fn compare_attr(
    model: &mut Inode,
    real: &Attr,
    touch: Touch,
    since: Time,
    until: Time,
) -> Result<(), String> {
    let times = [real.atime, real.mtime, real.ctime, real.btime];
    for (n, time) in times.into_iter().enumerate() {
        let now = time >= since && time <= until;
        let (must, may) = (touch.must >> n & 1 == 1, touch.may >> n & 1 == 1);
        let unchanged = time == model.times[n];
        let allowed = if must { now } else { unchanged || (may && now) };
        if !allowed {
            let name = ["atime", "mtime", "ctime", "btime"][n];
            let was = model.times[n];
            return Err(format!(
                "{name} of {}: {time:?}, was {was:?}, {touch:?}, now {since:?}",
                real.ino
            ));
        }
        model.times[n] = time;
    }
    let (r, m) = (real, &*model);
    let same = (r.mode, r.nlink, r.uid, r.gid, r.rdev) == (m.mode, m.nlink, m.uid, m.gid, m.rdev);
    if !same || (!model.is_dir() && r.size != model.size) {
        return Err(format!("attributes\n   real: {real:?}\n  model: {model:?}"));
    }
    if model.data().is_some_and(|d| *d != Data::default()) && real.blocks == 0 {
        return Err(format!("a file with data has no blocks: {real:?}"));
    }
    Ok(())
}

/// What the real file system holds, found by walking it.
pub fn walk(fs: &Arc<Fs>) -> Result<State> {
    let mut state = State::default();
    let mut todo = vec![(cowfs::base::ROOT_INO, cowfs::base::ROOT_INO)];
    while let Some((ino, parent)) = todo.pop() {
        if state.inodes.contains_key(&ino) {
            continue;
        }
        let a = fs.attr(ino)?;
        let body = match a.mode & libc::S_IFMT {
            libc::S_IFREG => Body::File(contents(fs, &a)?),
            libc::S_IFLNK => Body::Link(fs.readlink(ino)?),
            libc::S_IFDIR => {
                let mut names = std::collections::BTreeMap::new();
                for (name, child, kind) in readdir(fs, ino)? {
                    match &name[..] {
                        b"." => assert_eq!(child, ino),
                        b".." => {
                            assert_eq!((child, fs.parent(ino)?), (parent, parent), ".. of {ino}")
                        }
                        _ => {
                            let there = fs.lookup(ino, &name)?;
                            assert_eq!((there.ino, there.mode & libc::S_IFMT), (child, kind));
                            todo.push((child, ino));
                            assert!(names.insert(name, child).is_none(), "a name twice in {ino}");
                        }
                    }
                }
                Body::Dir { names, parent }
            }
            _ => Body::Other,
        };
        let mut xattrs = std::collections::BTreeMap::new();
        for name in fs.xattrs(ino)? {
            let value = fs.xattr(ino, &name)?;
            xattrs.insert(name, value);
        }
        let dir = matches!(body, Body::Dir { .. });
        let inode = Inode {
            mode: a.mode,
            nlink: a.nlink,
            uid: a.uid,
            gid: a.gid,
            rdev: a.rdev,
            size: if dir { 0 } else { a.size },
            times: [a.atime, a.mtime, a.ctime, a.btime],
            xattrs,
            body,
        };
        state.inodes.insert(ino, Arc::new(inode));
    }
    Ok(state)
}

/// Small files are read from end to end, large ones where they say that they have data.
fn contents(fs: &Arc<Fs>, a: &Attr) -> Result<Data> {
    let mut data = Data::default();
    let mut at = 0;
    while at < a.size {
        let mut end = a.size;
        if a.size > 2 << 20 {
            match fs.seek(a.ino, at, Seek::Data) {
                Ok(start) => at = start,
                Err(e) if e.errno() == libc::ENXIO => break,
                Err(e) => return Err(e),
            }
            end = fs.seek(a.ino, at, Seek::Hole)?;
            assert!(
                end > at && end <= a.size,
                "hole at {end} after data at {at} of {a:?}"
            );
        }
        while at < end {
            let mut b = vec![0xEE; (end - at).min(128 << 10) as usize];
            let n = fs.read(a.ino, at, &mut b)?;
            assert_eq!(n, b.len(), "short read at {at} of {a:?}");
            data.write(at, &b);
            at += n as u64;
        }
    }
    Ok(data)
}

/// Applies `op` to a copy of the model; the caller keeps it when the real one agreed.
pub fn predict(state: &State, op: &Op, new_ino: Ino) -> (State, Result<Reply, i32>, Touched) {
    let (mut next, mut touched) = (state.clone(), Touched::new());
    match next.apply(op, new_ino, &mut touched) {
        Ok(reply) => (next, Ok(reply), touched),
        Err(e) => (state.clone(), Err(e), Touched::new()),
    }
}
