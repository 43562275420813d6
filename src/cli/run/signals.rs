//! Signals between the command and the container: what arrives here goes there, and the container's
//! end, stops included, is followed here.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

/// si_code of signals that the kernel made: from the terminal, which sends them to the whole group.
pub const FROM_KERNEL: i32 = 0x80;

pub fn all() -> libc::sigset_t {
    let mut set = empty();
    // SAFETY: points to a live set.
    unsafe { libc::sigfillset(&mut set) };
    set
}

pub fn empty() -> libc::sigset_t {
    // SAFETY: zero bytes are a valid, empty set.
    unsafe { std::mem::zeroed() }
}

/// All signals, as a file to read them from. Undone when dropped.
pub struct Signals {
    file: File,
    pub old: libc::sigset_t,
}

/// What arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrived {
    pub signal: i32,
    /// Sent by the terminal, or the kernel otherwise.
    pub from_kernel: bool,
}

impl Signals {
    pub fn take() -> io::Result<Signals> {
        let set = all();
        let mut old = empty();
        // SAFETY: both point to live sets.
        if unsafe { libc::sigprocmask(libc::SIG_BLOCK, &set, &mut old) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: points to a live set; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else knows.
        let file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
        Ok(Signals { file, old })
    }

    /// The next one waiting, if any.
    pub fn next(&mut self) -> io::Result<Option<Arrived>> {
        let mut bytes = [0u8; size_of::<libc::signalfd_siginfo>()];
        match self.file.read(&mut bytes) {
            Ok(n) if n == bytes.len() => {}
            Ok(_) => return Ok(None),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                return Ok(None);
            }
            Err(e) => return Err(e),
        }
        // SAFETY: every bit pattern of that length is a valid signalfd_siginfo (integers only); the
        // read is unaligned-safe.
        let info: libc::signalfd_siginfo =
            unsafe { std::ptr::read_unaligned(bytes.as_ptr().cast()) };
        Ok(Some(Arrived {
            signal: info.ssi_signo as i32,
            from_kernel: info.ssi_code == FROM_KERNEL,
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: points to the set the kernel gave.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &self.old, std::ptr::null_mut()) };
    }
}

/// What a process does about a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attitude {
    /// Nothing of its own.
    Default,
    /// Catches or ignores it.
    Handles,
    /// Blocks it for now, perhaps to wait for it in its own way; whether one is waiting.
    Blocks { pending: bool },
}

pub fn attitude(pid: i32, signal: i32) -> Attitude {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    attitude_in(&status, signal)
}

pub(super) fn attitude_in(status: &str, signal: i32) -> Attitude {
    let bit = u32::try_from(signal - 1)
        .ok()
        .and_then(|b| 1u64.checked_shl(b))
        .unwrap_or(0);
    let has = |key: &str| {
        status
            .lines()
            .find_map(|l| l.strip_prefix(key))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .is_some_and(|set| set & bit != 0)
    };
    if has("SigIgn:") || has("SigCgt:") {
        Attitude::Handles
    } else if has("SigBlk:") {
        Attitude::Blocks {
            pending: has("ShdPnd:") || has("SigPnd:"),
        }
    } else {
        Attitude::Default
    }
}

pub fn send(pid: i32, signal: i32) {
    // SAFETY: takes numbers only; the process is our child, not reaped, so the number is its own.
    unsafe { libc::kill(pid, signal) };
}

/// What became of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Exited(u8),
    Killed(i32),
    Stopped,
    Continued,
}

/// None: nothing new.
pub fn wait(pid: i32, block: bool) -> io::Result<Option<Change>> {
    let flags = libc::WUNTRACED | libc::WCONTINUED | if block { 0 } else { libc::WNOHANG };
    let mut status = 0;
    loop {
        // SAFETY: points to a live integer.
        match unsafe { libc::waitpid(pid, &mut status, flags) } {
            -1 => {
                let e = io::Error::last_os_error();
                if e.kind() != io::ErrorKind::Interrupted {
                    return Err(e);
                }
            }
            0 => return Ok(None),
            _ => break,
        }
    }
    Ok(Some(if libc::WIFEXITED(status) {
        Change::Exited(libc::WEXITSTATUS(status) as u8)
    } else if libc::WIFSIGNALED(status) {
        Change::Killed(libc::WTERMSIG(status))
    } else if libc::WIFSTOPPED(status) {
        Change::Stopped
    } else {
        Change::Continued
    }))
}

/// The terminal as it was found: modes, and which group of processes is in front.
pub struct Terminal {
    fd: OwnedFd,
    modes: Option<rustix::termios::Termios>,
    front: bool,
}

impl Terminal {
    pub fn save() -> Option<Terminal> {
        let fd = rustix::fs::open(
            "/dev/tty",
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::NOCTTY,
            rustix::fs::Mode::empty(),
        )
        .ok()?;
        let modes = rustix::termios::tcgetattr(&fd).ok();
        let front = rustix::termios::tcgetpgrp(&fd).is_ok_and(|g| g == rustix::process::getpgrp());
        Some(Terminal { fd, modes, front })
    }

    /// With SIGTTOU blocked. A shell in the container leaves itself in front, and gone.
    pub fn restore(&self) {
        if !self.front {
            return;
        }
        let own = rustix::process::getpgrp();
        if rustix::termios::tcgetpgrp(&self.fd).is_ok_and(|g| g == own) {
            // Still in front: nobody changed it, or a runtime that puts modes back by itself unless killed.
        } else if rustix::termios::tcsetpgrp(&self.fd, own).is_err() {
            return;
        }
        if let Some(modes) = &self.modes {
            let _ =
                rustix::termios::tcsetattr(&self.fd, rustix::termios::OptionalActions::Now, modes);
        }
    }
}

#[cfg(test)]
#[path = "signals_tests.rs"]
mod tests;
