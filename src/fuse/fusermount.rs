//! fusermount3, the set-uid program by which ordinary users mount: it opens /dev/fuse, mounts, and sends the
//! descriptor over the socket named by `_FUSE_COMMFD` (libfuse, util/fusermount.c).

use super::options::MountOptions;
use crate::base::{Error, Result};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};
use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Mounts at once. `NotFound` where there is no fusermount3.
pub(super) fn mount(source: &str, dir: &Path, options: &MountOptions) -> Result<OwnedFd> {
    let what = || format!("cannot run fusermount3 for {}", dir.display());
    let program = program().ok_or_else(|| {
        Error::NotFound("fusermount3 is not installed (Debian: 'apt install fuse3')".into())
    })?;
    let (ours, theirs) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|e| Error::io(what(), e.into()))?;
    let mut child = {
        let mut command = Command::new(program);
        command
            .arg("-o")
            .arg(options.fusermount_words(source))
            .arg("--")
            .arg(dir);
        // Its standard input is the socket: the one descriptor a child gets without further ado.
        command
            .env("_FUSE_COMMFD", "0")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command.spawn().map_err(|e| Error::io(what(), e))?
        // The command goes, and our copy of their end with it: else we would never see the end of the stream.
    };
    let received = receive(&ours);
    let mut words = String::new();
    if let Some(stderr) = child.stderr.take() {
        let _ = stderr.take(4096).read_to_string(&mut words);
    }
    let status = child.wait().map_err(|e| Error::io(what(), e))?;
    let words = spoken(words.as_bytes());
    match received {
        Ok(Some(device)) if status.success() => {
            if !words.is_empty() {
                log::warn!("fusermount3: {words}");
            }
            Ok(device)
        }
        Err(e) => Err(Error::io(what(), e)),
        Ok(_) => Err(explain(dir, &words)),
    }
}

/// The words of fusermount3 and what to do about them.
fn explain(dir: &Path, words: &str) -> Error {
    let hint = if words.contains("user_allow_other") {
        "; root can allow it with a line user_allow_other in /etc/fuse.conf"
    } else if words.contains("too many FUSE") {
        "; root can raise mount_max in /etc/fuse.conf"
    } else if words.contains("no write access") || words.contains("not owned") {
        "; mount on a directory of your own"
    } else if words.contains("open /dev/fuse: Permission denied") {
        "; root can open it to users with 'chmod 666 /dev/fuse'"
    } else if words.contains("/dev/fuse") {
        "; 'cowfs doctor' tells what is missing"
    } else {
        ""
    };
    let words = if words.is_empty() {
        "fusermount3 failed without a word"
    } else {
        words
    };
    Error::Denied(format!("cannot mount on {}: {words}{hint}", dir.display()))
}

fn receive(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    loop {
        match recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
            Ok(_) => break,
        }
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            return Ok(fds.next());
        }
    }
    Ok(None)
}

/// What it said, on one line, without its name before each.
fn spoken(stderr: &[u8]) -> String {
    let words = String::from_utf8_lossy(stderr);
    let lines = words.lines().map(str::trim).filter(|l| !l.is_empty());
    let lines: Vec<&str> = lines
        .map(|l| l.split_once("fusermount3: ").map_or(l, |(_, rest)| rest))
        .collect();
    lines.join("; ")
}

/// Unmounts what this user mounted. `ResourceBusy` where it is in use.
pub(super) fn unmount(dir: &Path, lazy: bool) -> io::Result<()> {
    let program = program().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "not permitted, and fusermount3 is not installed",
        )
    })?;
    let mut command = Command::new(program);
    command.arg("-u");
    if lazy {
        command.arg("-z");
    }
    let output = command.arg("--").arg(dir).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = spoken(&output.stderr);
    let kind = if words.contains("busy") {
        io::ErrorKind::ResourceBusy
    } else {
        io::ErrorKind::PermissionDenied
    };
    Err(io::Error::new(kind, words))
}

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/bin".into(), "/bin".into()]);
    let dirs: Vec<PathBuf> = dirs.filter(|d| d.is_absolute()).collect();
    ["fusermount3", "fusermount"]
        .iter()
        .flat_map(|name| dirs.iter().map(move |d| d.join(name)))
        .find(|p| p.is_file())
}

#[cfg(test)]
#[path = "fusermount_tests.rs"]
mod tests;
