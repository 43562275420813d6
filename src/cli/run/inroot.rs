//! Paths inside a container's root, before it is anyone's root: symbolic links lead nowhere else
//! (openat2(2), RESOLVE_IN_ROOT), so that an image cannot have us mount over or read the host's files.

use crate::base::{Error, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// Of a file of the container that is read whole (passwd, group), bytes.
const READ_MAX: u64 = 8 << 20;

/// A container's root directory.
#[derive(Clone, Copy)]
pub struct InRoot<'a>(pub BorrowedFd<'a>);

/// The path by which mount(2) reaches an open file.
pub fn proc_path(fd: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

impl InRoot<'_> {
    /// Opens by O_PATH; `None` when it does not exist.
    pub fn find(&self, path: &Path) -> Result<Option<OwnedFd>> {
        match self.open(path, OFlags::PATH) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(fail("cannot look at", path, e)),
        }
    }

    fn open(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        loop {
            match openat2(
                self.0,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::IN_ROOT,
            ) {
                // A rename went on somewhere meanwhile: the kernel asks to try again.
                Err(Errno::AGAIN | Errno::INTR) => continue,
                r => return r,
            }
        }
    }

    /// A directory, made (0755, root's) with its parents where it is missing. Tells whether it was.
    pub fn directory(&self, path: &Path) -> Result<(OwnedFd, bool)> {
        match self.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(fd) => return Ok((fd, false)),
            Err(Errno::NOENT) => {}
            Err(e) => return Err(fail("cannot use the directory", path, e)),
        }
        let mut so_far = PathBuf::new();
        let mut at: Option<OwnedFd> = None;
        for part in path.components() {
            let Component::Normal(name) = part else {
                continue;
            };
            so_far.push(name);
            let fd = match self.open(&so_far, OFlags::PATH | OFlags::DIRECTORY) {
                Ok(fd) => fd,
                Err(Errno::NOENT) => {
                    let parent = at.as_ref().map_or(self.0, |p| p.as_fd());
                    match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(e) => return Err(fail("cannot make the directory", &so_far, e)),
                    }
                    self.open(&so_far, OFlags::PATH | OFlags::DIRECTORY)
                        .map_err(|e| fail("cannot use the directory", &so_far, e))?
                }
                Err(e) => return Err(fail("cannot use the directory", &so_far, e)),
            };
            at = Some(fd);
        }
        match at {
            Some(fd) => Ok((fd, true)),
            None => Err(fail("cannot use the directory", path, Errno::INVAL)),
        }
    }

    /// A file to mount over, made empty where it is missing.
    pub fn file(&self, path: &Path) -> Result<OwnedFd> {
        if let Some(fd) = self.find(path)? {
            return Ok(fd);
        }
        let parent = path.parent().unwrap_or(Path::new(""));
        let dir = if parent.as_os_str().is_empty() {
            None
        } else {
            Some(self.directory(parent)?.0)
        };
        let at = dir.as_ref().map_or(self.0, |d| d.as_fd());
        let name = path.file_name().unwrap_or(OsStr::new("."));
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o644)) {
            Ok(_) => {}
            // A symbolic link to nothing: replacing what it says would surprise; leave it out.
            Err(e) => return Err(fail("cannot make the file", path, e)),
        }
        self.open(path, OFlags::PATH)
            .map_err(|e| fail("cannot use the file", path, e))
    }

    /// The bytes of a file as text; empty when there is none.
    pub fn text(&self, path: &str) -> Result<String> {
        let path = Path::new(path);
        let fd = match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
            Err(e) => return Err(fail("cannot read", path, e)),
        };
        let file = File::from(fd);
        if !file.metadata().is_ok_and(|m| m.is_file()) {
            return Ok(String::new());
        }
        let mut bytes = Vec::new();
        file.take(READ_MAX).read_to_end(&mut bytes).map_err(|e| {
            Error::io(
                format!("cannot read the container's /{}", path.display()),
                e,
            )
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn fail(what: &str, path: &Path, e: Errno) -> Error {
    let path = path.strip_prefix("/").unwrap_or(path);
    Error::io(
        format!("{what} /{} in the container", path.display()),
        e.into(),
    )
}
