//! Starting a pool's daemon: detached from the shell, the session and the unit that needed it.

use super::proto::Failure;
use crate::base::{Error, Result};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Name of the daemon's log in the pool's directory.
pub const LOG: &str = "daemon.log";
/// How long systemd may take to give us a scope before we go on without.
const SCOPE_PATIENCE: Duration = Duration::from_secs(5);

/// What a starting daemon says to the one who started it, a line each: first `Starting`, then one of
/// the others.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Readiness {
    Starting,
    Ready,
    Failed(Failure),
}

/// The daemon's end of the readiness pipe.
pub struct Ready(File);

impl Ready {
    /// From the number given on the command line. `None` when no such descriptor is open.
    pub fn from_number(fd: RawFd) -> Option<Ready> {
        if fd <= 2 {
            return None;
        }
        // SAFETY: F_GETFD only looks at the number; it fails on one that is not open.
        if unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return None;
        }
        // SAFETY: the descriptor is open (checked above) and nobody else in this process, which has
        // just started and was given this number for us, owns it.
        let owned = unsafe { OwnedFd::from_raw_fd(fd) };
        Some(Ready(File::from(owned)))
    }

    pub(super) fn say(&mut self, what: &Readiness) {
        // Whoever started us may be gone: that changes nothing.
        let _ = serde_json::to_vec(what).map(|mut line| {
            line.push(b'\n');
            self.0.write_all(&line)
        });
    }

    /// Says why the daemon could not start.
    pub fn failed(&mut self, e: &Error) {
        self.say(&Readiness::Failed(Failure::of(e)));
    }
}

/// Starts a daemon and waits until it serves, or says why it cannot.
pub(super) fn daemon(pool: &Path) -> Result<()> {
    if pool.join("metadata").symlink_metadata().is_err() {
        return Err(Error::NotAPool(pool.display().to_string()));
    }
    if let Some(scope) = scope_command() {
        match launch(pool, Some(&scope), Some(SCOPE_PATIENCE))? {
            Said::Ready => return Ok(()),
            Said::Failed(e) => return Err(e),
            Said::Nothing => {}
        }
    }
    match launch(pool, None, None)? {
        Said::Ready => Ok(()),
        Said::Failed(e) => Err(e),
        Said::Nothing => Err(Error::io(
            format!(
                "the daemon of {} ended before it was ready; see {}",
                pool.display(),
                pool.join(LOG).display()
            ),
            io::ErrorKind::UnexpectedEof.into(),
        )),
    }
}

enum Said {
    Ready,
    Failed(Error),
    Nothing,
}

fn launch(pool: &Path, prefix: Option<&[String]>, patience: Option<Duration>) -> Result<Said> {
    let what = || format!("starting the daemon of {}", pool.display());
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(pool.join(LOG))
        .map_err(|e| Error::io(pool.join(LOG).display().to_string(), e))?;
    let log2 = log.try_clone().map_err(|e| Error::io(what(), e))?;
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| Error::io(what(), e.into()))?;
    let number = write.as_raw_fd();

    let exe = program();
    let mut command = match prefix {
        Some([first, rest @ ..]) => {
            let mut c = Command::new(first);
            c.args(rest).arg(&exe);
            c
        }
        _ => {
            let mut c = Command::new(&exe);
            c.arg0("cowfs");
            c
        }
    };
    command
        .arg("--pool")
        .arg(pool)
        .args(["daemon", "--ready-fd"])
        .arg(number.to_string())
        .env_remove("COWFS_POOL")
        .env_remove("NOTIFY_SOCKET")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log2);
    // SAFETY: between fork and exec only system calls that are safe there, and no allocation. The
    // second fork makes init the daemon's parent; the middle process ends at once.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            match libc::fork() {
                -1 => return Err(io::Error::last_os_error()),
                0 => {}
                _ => libc::_exit(0),
            }
            // Nothing that the caller happened to have open lives on in the daemon.
            libc::syscall(
                libc::SYS_close_range,
                3,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            );
            if libc::fcntl(number, libc::F_SETFD, 0) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut middle = command
        .spawn()
        .map_err(|e| Error::io(format!("{} ({})", what(), exe.display()), e))?;
    drop(write);
    let _ = middle.wait();
    Ok(listen(read, patience))
}

/// Hears a starting daemon. With `patience`: for the first line.
fn listen(read: OwnedFd, patience: Option<Duration>) -> Said {
    if let Some(patience) = patience {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let limit = Timespec {
            tv_sec: patience.as_secs() as i64,
            tv_nsec: 0,
        };
        if !matches!(
            poll(&mut [PollFd::new(&read, PollFlags::IN)], Some(&limit)),
            Ok(1..)
        ) {
            return Said::Nothing;
        }
    }
    for line in BufReader::new(File::from(read)).lines() {
        let Ok(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(Readiness::Starting) => {}
            Ok(Readiness::Ready) => return Said::Ready,
            Ok(Readiness::Failed(f)) => return Said::Failed(f.into_error()),
            Err(_) => break,
        }
    }
    Said::Nothing
}

/// This program, or the one COWFS_PROGRAM names (for programs that use the library).
fn program() -> PathBuf {
    if let Some(p) = std::env::var_os("COWFS_PROGRAM")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
    {
        return p;
    }
    match std::env::current_exe() {
        Ok(p) if p.exists() => p,
        // Replaced while it runs: the file itself is still there.
        _ => PathBuf::from("/proc/self/exe"),
    }
}

/// A process started from a unit is killed with it; in a scope of its own it is not. Only where
/// systemd runs and we are in a service: a session's processes outlive it anyway.
fn scope_command() -> Option<Vec<String>> {
    let cgroup = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    if !Path::new("/run/systemd/system").is_dir() || !in_service(&cgroup) {
        return None;
    }
    let path = std::env::var_os("PATH")?;
    let tool = std::env::split_paths(&path)
        .map(|d| d.join("systemd-run"))
        .find(|p| p.is_file())?;
    let mut words = vec![tool.to_str()?.to_owned()];
    if !rustix::process::geteuid().is_root() {
        words.push("--user".into());
    }
    words.extend(["--scope", "--quiet", "--collect", "--"].map(String::from));
    Some(words)
}

/// Units that take their processes along when they stop. A mount unit runs mount(8) for a line of fstab.
const UNITS: [&str; 3] = [".service", ".mount", ".socket"];

/// Whether the last unit named in /proc/self/cgroup is such a one.
pub(super) fn in_service(cgroup: &str) -> bool {
    cgroup
        .lines()
        .filter_map(|l| l.splitn(3, ':').nth(2))
        .filter_map(|path| {
            path.rsplit('/')
                .find(|p| UNITS.iter().any(|u| p.ends_with(u)) || p.ends_with(".scope"))
        })
        .any(|unit| !unit.ends_with(".scope"))
}
