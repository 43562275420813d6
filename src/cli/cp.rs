//! `cowfs cp`.

use super::place::Place;
use super::{Bar, Context, Exit, complain};
use crate::base::{Error, Result, Time};
use crate::daemon::{Client, Entry, Event, Part, Raw, Request, Response};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Copy files into or out of a container (out of images and snapshots too); no mount needed
///
/// One of SOURCE and DEST is NAME:/PATH, the other a path of this machine, or '-' for standard input or
/// output. As cp(1): into DEST if that is a directory. Each file appears whole or not at all. In the
/// container files belong to its root, here to you; modes and times are kept, with -a owners and extended
/// attributes too.
#[derive(clap::Args, Debug)]
pub struct Args {
    source: OsString,
    dest: OsString,
    /// Directories with all they hold
    #[arg(short, long)]
    recursive: bool,
    /// As -r, and keep owners and extended attributes
    #[arg(short, long)]
    archive: bool,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let job = |client| Job {
        client,
        recursive: args.recursive || args.archive,
        archive: args.archive,
        bar: Bar::new(),
    };
    match (Place::parse(&args.source), Place::parse(&args.dest)) {
        (None, Some(to)) => job(cx.client()?).copy_in(Path::new(&args.source), &to)?,
        (Some(from), None) => job(cx.client()?).copy_out(&from, Path::new(&args.dest))?,
        (Some(from), Some(to)) => {
            return Err(Error::Invalid(format!(
                "both are in the pool; copy through a pipe: cowfs cat {}:{} | cowfs cp - {}:{}",
                from.name, from.path, to.name, to.path
            )));
        }
        (None, None) => {
            return Err(Error::Invalid(
                "neither is in the pool: write one as NAME:/PATH".into(),
            ));
        }
    }
    Ok(0)
}

struct Job {
    client: Client,
    recursive: bool,
    archive: bool,
    bar: Bar,
}

impl Job {
    fn ask(&mut self, request: &Request, fds: &[std::os::fd::BorrowedFd<'_>]) -> Result<Response> {
        let bar = &self.bar;
        self.client.call_with(request, fds, &mut |event| {
            if let Event::Progress(p) = event {
                bar.show(&p);
            }
            Ok(())
        })
    }

    /// What is at a place; none: nothing.
    fn stat(&mut self, name: &str, path: &Raw, follow: bool) -> Result<Option<Entry>> {
        match self.ask(
            &Request::Stat {
                name: name.to_owned(),
                path: path.clone(),
                follow,
            },
            &[],
        ) {
            Ok(Response::Entry(e)) => Ok(Some(*e)),
            Ok(other) => Err(super::context::unexpected(&other)),
            Err(e) if e.errno() == libc::ENOENT => Ok(None),
            Err(e) => Err(e),
        }
    }

    // In.

    fn copy_in(&mut self, source: &Path, to: &Place) -> Result<()> {
        let there = self.stat(&to.name, &to.path, true)?;
        if there.is_none() {
            // Tells apart a volume that does not exist from a path that does not.
            self.stat(&to.name, &Raw::from("/"), true)?;
        }
        let into = there.as_ref().is_some_and(is_dir);
        if source.as_os_str() == "-" {
            if into {
                return Err(Error::Invalid(format!(
                    "{} is a directory: name the file that standard input becomes",
                    to.path
                )));
            }
            return self.stdin_in(&to.name, &to.path);
        }
        let meta = std::fs::metadata(source).map_err(|e| here(source, e))?;
        if meta.is_dir() && !self.recursive {
            return Err(Error::Invalid(format!(
                "{} is a directory: use -r",
                source.display()
            )));
        }
        let mut target = to.path.0.clone();
        if into && let Some(name) = own_name(source)? {
            target = join(&target, name.as_bytes());
        }
        while target.len() > 1 && target.last() == Some(&b'/') {
            target.pop();
        }
        self.one_in(source, &to.name, target, true)
    }

    fn stdin_in(&mut self, name: &str, path: &Raw) -> Result<()> {
        // A daemon that stops reading what we pour says why: that is to be heard.
        // SAFETY: sets a signal's disposition; this program has no handlers.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        }
        let fail = |e| Error::io("standard input", e);
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| fail(e.into()))?;
        let _ = rustix::pipe::fcntl_setpipe_size(&write, 1 << 20);
        let now = Time::now();
        let entry = Entry {
            mode: libc::S_IFREG | 0o644,
            atime: now,
            mtime: now,
            ..Entry::default()
        };
        let request = Request::Write {
            name: name.to_owned(),
            path: path.clone(),
            entry: Box::new(entry),
            xattrs: Vec::new(),
        };
        self.client.send(&request, &[read.as_fd()])?;
        drop(read);
        let mut to = File::from(write);
        let mut from = std::io::stdin().lock();
        let mut buf = vec![0; 256 << 10];
        let mut refused = false;
        loop {
            let n = match from.read(&mut buf) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(fail(e)),
            };
            if let Err(e) = to.write_all(buf.get(..n).unwrap_or(&[])) {
                if e.kind() != std::io::ErrorKind::BrokenPipe {
                    return Err(fail(e));
                }
                // It has stopped reading: its answer says why.
                refused = true;
                break;
            }
        }
        drop(to);
        if !refused {
            // All of it was there, and not just what came before we died.
            self.client.send(&Request::Commit, &[])?;
        }
        self.client.answer(&mut |_| Ok(())).map(|_| ())
    }

    fn one_in(&mut self, source: &Path, name: &str, target: Vec<u8>, top: bool) -> Result<()> {
        let meta = if top {
            std::fs::metadata(source)
        } else {
            std::fs::symlink_metadata(source)
        };
        let meta = meta.map_err(|e| here(source, e))?;
        let mode = meta.mode();
        let entry = Entry {
            mode,
            uid: if self.archive { meta.uid() } else { 0 },
            gid: if self.archive { meta.gid() } else { 0 },
            rdev: kernel_dev(meta.rdev()),
            atime: Time {
                sec: meta.atime(),
                nsec: meta.atime_nsec() as u32,
            },
            mtime: Time {
                sec: meta.mtime(),
                nsec: meta.mtime_nsec() as u32,
            },
            target: match mode & libc::S_IFMT {
                libc::S_IFLNK => Some(Raw::from(
                    std::fs::read_link(source)
                        .map_err(|e| here(source, e))?
                        .as_os_str(),
                )),
                _ => None,
            },
            ..Entry::default()
        };
        let xattrs = if self.archive {
            xattrs(source, top)?
        } else {
            Vec::new()
        };
        let file = match mode & libc::S_IFMT {
            libc::S_IFREG => Some(File::open(source).map_err(|e| here(source, e))?),
            libc::S_IFSOCK => {
                complain(&format!("{} is a socket and is left out", source.display()));
                return Ok(());
            }
            _ => None,
        };
        let request = Request::Write {
            name: name.to_owned(),
            path: Raw(target.clone()),
            entry: Box::new(entry),
            xattrs,
        };
        let fds: Vec<_> = file.iter().map(AsFd::as_fd).collect();
        self.ask(&request, &fds)?;
        if mode & libc::S_IFMT == libc::S_IFDIR {
            for child in std::fs::read_dir(source).map_err(|e| here(source, e))? {
                let child = child.map_err(|e| here(source, e))?;
                let below = join(&target, child.file_name().as_bytes());
                self.one_in(&child.path(), name, below, false)?;
            }
        }
        Ok(())
    }

    // Out.

    fn copy_out(&mut self, from: &Place, dest: &Path) -> Result<()> {
        let Some(entry) = self.stat(&from.name, &from.path, true)? else {
            self.stat(&from.name, &Raw::from("/"), true)?;
            return Err(Error::NotFound(format!(
                "{}:{} does not exist",
                from.name, from.path
            )));
        };
        if dest.as_os_str() == "-" {
            return super::cat::stream(
                &mut self.client,
                &from.name,
                &from.path,
                std::io::stdout().as_fd(),
            );
        }
        if is_dir(&entry) && !self.recursive {
            return Err(Error::Invalid(format!(
                "{}:{} is a directory: use -r",
                from.name, from.path
            )));
        }
        let into = std::fs::metadata(dest).is_ok_and(|m| m.is_dir());
        let mut target = dest.to_path_buf();
        let last = from.path.as_path().file_name();
        if into && let Some(name) = last {
            target.push(name);
        }
        self.one_out(&from.name, from.path.0.clone(), &entry, target)
    }

    fn one_out(&mut self, name: &str, path: Vec<u8>, entry: &Entry, target: PathBuf) -> Result<()> {
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        match entry.mode & libc::S_IFMT {
            libc::S_IFDIR => {
                match std::fs::create_dir(&target) {
                    Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && target.is_dir() => {}
                    r => r.map_err(|e| here(&target, e))?,
                }
                let mut below = Vec::new();
                let request = Request::Ls {
                    name: name.to_owned(),
                    path: Raw(join(&path, b"")),
                };
                self.client.call_with(&request, &[], &mut |event| {
                    if let Event::Part(Part::Entries(some)) = event {
                        below.extend(some);
                    }
                    Ok(())
                })?;
                for e in below {
                    // A name is one name: nothing may lead out of the target.
                    let own = e.name.as_bytes();
                    if own.is_empty() || own == b"." || own == b".." || own.contains(&b'/') {
                        return Err(Error::corrupt(name, format!("the name '{}'", e.name)));
                    }
                    self.one_out(
                        name,
                        join(&path, own),
                        &e,
                        target.join(OsStr::from_bytes(own)),
                    )?;
                }
            }
            libc::S_IFREG => return self.file_out(name, &Raw(path), entry, &target),
            libc::S_IFLNK => {
                let to = entry.target.clone().unwrap_or_default();
                replace(&target, |at| {
                    rustix::fs::symlink(to.as_path(), at).map_err(Into::into)
                })?;
            }
            libc::S_IFIFO => {
                replace(&target, |at| {
                    rustix::fs::mknodat(CWD, at, FileType::Fifo, mode, 0).map_err(Into::into)
                })?;
            }
            libc::S_IFCHR | libc::S_IFBLK
                if self.archive && rustix::process::geteuid().is_root() =>
            {
                let (major, minor) = device(entry.rdev);
                let dev = rustix::fs::makedev(major, minor);
                let kind = FileType::from_raw_mode(entry.mode);
                replace(&target, |at| {
                    rustix::fs::mknodat(CWD, at, kind, mode, dev).map_err(Into::into)
                })?;
            }
            _ => {
                complain(&format!(
                    "{name}:{} is a device or socket and is left out",
                    Raw(path)
                ));
                return Ok(());
            }
        }
        self.dress(entry, &target)
    }

    fn file_out(&mut self, name: &str, path: &Raw, entry: &Entry, target: &Path) -> Result<()> {
        let there = std::fs::metadata(target);
        // A device or pipe there is written to, as cp(1) does.
        if there.as_ref().is_ok_and(|m| !m.is_file() && !m.is_dir()) {
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(target)
                .map_err(|e| here(target, e))?;
            return super::cat::stream(&mut self.client, name, path, file.as_fd());
        }
        if there.is_ok_and(|m| m.is_dir()) {
            return Err(Error::Exists(format!(
                "{} is a directory",
                target.display()
            )));
        }
        // A link there is followed, as cp(1) does.
        let target = std::fs::canonicalize(target).unwrap_or_else(|_| target.to_path_buf());
        let beside = temporary(&target);
        let file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)
            .map_err(|e| here(&target, e))?;
        let undo = Undo(Some(beside.clone()));
        self.ask(
            &Request::Read {
                name: name.to_owned(),
                path: path.clone(),
            },
            &[file.as_fd()],
        )?;
        drop(file);
        self.dress(entry, &beside)?;
        std::fs::rename(&beside, &target).map_err(|e| here(&target, e))?;
        undo.keep();
        Ok(())
    }

    /// Owner (as root, with -a), mode without set-id bits unless -a, times.
    fn dress(&self, entry: &Entry, at: &Path) -> Result<()> {
        let fail = |e: rustix::io::Errno| here(at, e.into());
        if self.archive && rustix::process::geteuid().is_root() {
            let (uid, gid) = (
                rustix::fs::Uid::from_raw(entry.uid),
                rustix::fs::Gid::from_raw(entry.gid),
            );
            rustix::fs::chownat(CWD, at, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(fail)?;
        }
        if entry.mode & libc::S_IFMT != libc::S_IFLNK {
            let bits = if self.archive { 0o7777 } else { 0o777 };
            let mut mode = entry.mode & bits;
            if !self.archive {
                mode &= !umask();
            }
            rustix::fs::chmodat(CWD, at, Mode::from_raw_mode(mode), AtFlags::empty())
                .map_err(fail)?;
        }
        let time = |t: Time| Timespec {
            tv_sec: t.sec,
            tv_nsec: i64::from(t.nsec),
        };
        let times = Timestamps {
            last_access: time(entry.atime),
            last_modification: time(entry.mtime),
        };
        rustix::fs::utimensat(CWD, at, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)
    }
}

/// Removes a half-made file.
struct Undo(Option<PathBuf>);

impl Undo {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn temporary(target: &Path) -> PathBuf {
    let mut b = [0; 8];
    let _ = getrandom::fill(&mut b);
    target.with_file_name(format!(".cowfs-{:016x}", u64::from_le_bytes(b)))
}

/// Makes something in place of what is there, unless that is a directory.
fn replace(target: &Path, make: impl Fn(&Path) -> std::io::Result<()>) -> Result<()> {
    match make(target) {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
        r => return r.map_err(|e| here(target, e)),
    }
    let beside = temporary(target);
    make(&beside).map_err(|e| here(target, e))?;
    let undo = Undo(Some(beside.clone()));
    std::fs::rename(&beside, target).map_err(|e| here(target, e))?;
    undo.keep();
    Ok(())
}

fn umask() -> u32 {
    let mask = rustix::process::umask(Mode::empty());
    rustix::process::umask(mask);
    mask.as_raw_mode()
}

fn is_dir(e: &Entry) -> bool {
    e.mode & libc::S_IFMT == libc::S_IFDIR
}

fn here(path: &Path, e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::NotFound => {
            Error::NotFound(format!("{} does not exist", path.display()))
        }
        std::io::ErrorKind::AlreadyExists => {
            Error::Exists(format!("{} exists already", path.display()))
        }
        std::io::ErrorKind::PermissionDenied => {
            Error::Denied(format!("{}: permission denied", path.display()))
        }
        _ => Error::io(path.display().to_string(), e),
    }
}

/// The name a source has in the directory it is copied into. `dir/.` has none: its content is copied.
fn own_name(source: &Path) -> Result<Option<OsString>> {
    let bytes = source.as_os_str().as_bytes();
    if bytes == b"." || bytes.ends_with(b"/.") {
        return Ok(None);
    }
    match source.file_name() {
        Some(n) => Ok(Some(n.to_owned())),
        None => {
            let real = source.canonicalize().map_err(|e| here(source, e))?;
            Ok(real.file_name().map(OsStr::to_owned))
        }
    }
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = dir.to_vec();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The kernel's 32-bit encoding, of a st_rdev.
fn kernel_dev(dev: u64) -> u32 {
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// Major and minor, of the kernel's 32-bit encoding.
fn device(dev: u32) -> (u32, u32) {
    ((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xf_ff00))
}

/// A link's own are left alone: they are none that a user could set.
fn xattrs(path: &Path, follow: bool) -> Result<Vec<(Raw, Raw)>> {
    let is_link = std::fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
    if is_link && !follow {
        return Ok(Vec::new());
    }
    let fail = |e: rustix::io::Errno| here(path, e.into());
    let mut names = vec![0u8; 64 << 10];
    let n = match rustix::fs::listxattr(path, &mut names) {
        Ok(n) => n,
        Err(rustix::io::Errno::NOTSUP) => return Ok(Vec::new()),
        Err(e) => return Err(fail(e)),
    };
    let mut found = Vec::new();
    for name in names
        .get(..n)
        .unwrap_or(&[])
        .split(|&b| b == 0)
        .filter(|n| !n.is_empty())
    {
        let mut value = vec![0u8; 64 << 10];
        match rustix::fs::getxattr(path, OsStr::from_bytes(name), &mut value) {
            Ok(n) => {
                value.truncate(n);
                found.push((Raw(name.to_vec()), Raw(value)));
            }
            Err(rustix::io::Errno::NODATA) => {}
            Err(e) => return Err(fail(e)),
        }
    }
    Ok(found)
}
