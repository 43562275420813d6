//! A file's bytes between a volume and a descriptor: holes stay holes where the other side can have
//! them, and a client that goes away ends it.

use super::session::Talk;
use crate::base::{Error, Ino, Result};
use crate::fs::{Attr, Fs, Seek};
use rustix::fs::{FileType, SeekFrom};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Bytes moved at a time.
const STEP: usize = 1 << 20;

fn io(e: Errno) -> Error {
    Error::io("copying", e.into())
}

/// Writes a whole file to `to`: at the same offsets if that is a regular file, which is then cut or grown
/// to the same size; anything else (a pipe made for this) gets a stream and no longer blocks.
pub(super) fn out(talk: &Talk<'_>, fs: &Fs, attr: &Attr, to: &OwnedFd) -> Result<()> {
    let stat = rustix::fs::fstat(to).map_err(io)?;
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if !regular {
        let flags = rustix::fs::fcntl_getfl(to).map_err(io)?;
        rustix::fs::fcntl_setfl(to, flags | rustix::fs::OFlags::NONBLOCK).map_err(io)?;
    }
    let mut at = 0;
    while at < attr.size {
        talk.alive()?;
        talk.progress("copying", at, Some(attr.size), true)?;
        let mut end = attr.size;
        if regular {
            match fs.seek(attr.ino, at, Seek::Data) {
                Ok(data) => at = data,
                Err(e) if e.errno() == libc::ENXIO => break,
                Err(e) => return Err(e),
            }
            end = fs.seek(attr.ino, at, Seek::Hole)?.min(attr.size);
        }
        let want = usize::try_from(end.saturating_sub(at))
            .unwrap_or(STEP)
            .min(STEP);
        if want == 0 {
            break;
        }
        let n = fs.read_with(attr.ino, at, want, |bytes| {
            send(talk, to, regular.then_some(at), bytes)
        })??;
        if n == 0 {
            break;
        }
        at = at.saturating_add(n as u64);
    }
    if regular {
        rustix::fs::ftruncate(to, attr.size).map_err(io)?;
    }
    Ok(())
}

/// All of `bytes`, at an offset or into a stream. They are not looked at here: they may be a window of
/// the data device.
fn send(talk: &Talk<'_>, to: &OwnedFd, offset: Option<u64>, bytes: &[u8]) -> Result<usize> {
    let mut done = 0;
    while let Some(rest) = bytes.get(done..).filter(|r| !r.is_empty()) {
        let n = match offset {
            Some(o) => rustix::io::pwrite(to, rest, o + done as u64),
            None => rustix::io::write(to, rest),
        };
        match n {
            Ok(0) => return Err(Error::io("copying", std::io::ErrorKind::WriteZero.into())),
            Ok(n) => done += n,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => writable(talk, to)?,
            Err(e) => return Err(io(e)),
        }
    }
    Ok(done)
}

/// Waits until a pipe takes more; `Err` when the client goes away first.
fn writable(talk: &Talk<'_>, to: &OwnedFd) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    loop {
        let limit = Timespec {
            tv_sec: 0,
            tv_nsec: 200_000_000,
        };
        match poll(&mut [PollFd::new(to, PollFlags::OUT)], Some(&limit)) {
            Ok(0) | Err(Errno::INTR) => talk.alive()?,
            _ => return Ok(()),
        }
    }
}

/// Fills an empty file from `from`: a regular file from its present position to its end, anything else
/// until it ends and the client says that this was all.
pub(super) fn fill(talk: &Talk<'_>, fs: &Fs, ino: Ino, from: OwnedFd) -> Result<()> {
    let stat = rustix::fs::fstat(&from).map_err(io)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => fill_sparsely(
            talk,
            fs,
            ino,
            &from,
            u64::try_from(stat.st_size).unwrap_or(0),
        ),
        FileType::Directory => Err(Error::Posix(libc::EISDIR)),
        _ => fill_from_stream(talk, fs, ino, &from),
    }
}

fn fill_sparsely(talk: &Talk<'_>, fs: &Fs, ino: Ino, from: &OwnedFd, size: u64) -> Result<()> {
    let start = rustix::fs::tell(from).map_err(io)?;
    let mut buf = vec![0; STEP];
    let mut at = start;
    while at < size {
        talk.alive()?;
        talk.progress("copying", at - start, Some(size - start), true)?;
        at = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => break,
            // No holes on that file system.
            Err(_) => at,
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(at))
            .unwrap_or(size)
            .clamp(at, size);
        if end == at {
            break;
        }
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(STEP).min(STEP);
            let n = match rustix::io::pread(from, buf.get_mut(..want).unwrap_or(&mut []), at) {
                Ok(0) => return grow(fs, ino, at.saturating_sub(start)),
                Ok(n) => n,
                Err(Errno::INTR) => continue,
                Err(e) => return Err(io(e)),
            };
            fs.write(ino, at - start, buf.get(..n).unwrap_or(&[]), false, false)?;
            at += n as u64;
            talk.alive()?;
        }
    }
    grow(fs, ino, size.saturating_sub(start))
}

/// A hole at the end.
fn grow(fs: &Fs, ino: Ino, size: u64) -> Result<()> {
    if fs.attr(ino)?.size < size {
        let set = crate::fs::SetAttr {
            size: Some(size),
            ..Default::default()
        };
        fs.set_attr(ino, &set, &crate::fs::Cred::ROOT)?;
    }
    Ok(())
}

fn fill_from_stream(talk: &Talk<'_>, fs: &Fs, ino: Ino, from: &OwnedFd) -> Result<()> {
    let mut buf = vec![0; STEP];
    let (mut at, mut held) = (0u64, 0usize);
    loop {
        talk.readable(from)?;
        let ended = match rustix::io::read(from.as_fd(), buf.get_mut(held..).unwrap_or(&mut [])) {
            Ok(0) => true,
            Ok(n) => {
                held += n;
                false
            }
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(e) => return Err(io(e)),
        };
        if ended || held == buf.len() {
            fs.write(ino, at, buf.get(..held).unwrap_or(&[]), false, false)?;
            at = at.saturating_add(held as u64);
            held = 0;
            talk.progress("copying", at, None, true)?;
        }
        if ended {
            // The end of a pipe is also what the death of its writer looks like.
            return talk.committed();
        }
    }
}
