//! The last steps of the container's first process: who it is, what it may, what it executes.

use super::caps::Caps;
use super::chan::Chan;
use super::inroot::InRoot;
use super::spec::{DEFAULT_PATH, Spec};
use super::user::{self, User};
use super::{Failure, init};
use crate::base::{Error, Result};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Exit codes of podman and of shells.
pub const NOT_EXECUTABLE: u8 = 126;
pub const NOT_FOUND: u8 = 127;

/// The user, in the container's own files.
pub fn user(spec: &Spec, root: InRoot<'_>) -> Result<User> {
    // Most images say nothing or a number; the files are small, so they are read all the same: HOME is there.
    user::resolve(
        &spec.user,
        &root.text("etc/passwd")?,
        &root.text("etc/group")?,
    )
}

/// The environment, with the user's home unless told otherwise.
pub fn env(spec: &Spec, user: &User) -> Vec<OsString> {
    let mut env = spec.env.clone();
    if !env.iter().any(|e| e.as_bytes().starts_with(b"HOME=")) {
        env.push(format!("HOME={}", user.home).into());
    }
    env
}

/// The working directory: made where it is missing, and then the user's.
pub fn workdir(spec: &Spec, user: &User, root: InRoot<'_>) -> Result<()> {
    let (_, made) = root.directory(&spec.cwd)?;
    if !made || (user.uid, user.gid) == (0, 0) {
        return Ok(());
    }
    let path = spec.cwd.strip_prefix("/").unwrap_or(&spec.cwd);
    rustix::fs::chownat(
        root.0,
        path,
        Some(Uid::from_raw(user.uid)),
        Some(Gid::from_raw(user.gid)),
        rustix::fs::AtFlags::empty(),
    )
    .map_err(|e| {
        Error::io(
            format!("working directory {}", spec.cwd.display()),
            e.into(),
        )
    })
}

/// Directories programs are looked for in.
pub fn search_path(env: &[OsString]) -> OsString {
    env.iter()
        .find_map(|e| e.as_bytes().strip_prefix(b"PATH="))
        .map_or(DEFAULT_PATH.into(), |p| OsStr::from_bytes(p).to_owned())
}

/// Becomes the program. Returns only when that failed.
///
/// To be called inside the container's root, with all capabilities of the namespace.
pub fn become_program(
    spec: &Spec,
    user: &User,
    single: bool,
    mask: &libc::sigset_t,
    chan: &Chan,
) -> Result<std::convert::Infallible, Failure> {
    let env = env(spec, user);
    rustix::process::umask(Mode::from_raw_mode(0o022));
    new_keyring();
    limit(spec.caps)?;
    switch(user, single)?;
    if user.uid == 0 {
        keep(spec.caps)?;
    }
    rustix::process::chdir(&spec.cwd).map_err(|e| {
        Failure::own(Error::io(
            format!("working directory {} in the container", spec.cwd.display()),
            e.into(),
        ))
    })?;
    reset_signals(mask);
    // Nothing that the caller happened to have open lives on in the container.
    // SAFETY: only marks descriptors; those that this process uses are marked already.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    die_with_parent(chan)?;
    if spec.init {
        init::stay_if_parent()
            .map_err(|e| Failure::own(Error::io("cannot start an init process", e)))?;
    }
    Err(execute(&spec.argv, &env))
}

/// A session keyring of its own, as podman's: the caller's keys stay outside.
fn new_keyring() {
    // SAFETY: no pointers but a null name, which asks for an anonymous keyring.
    unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
}

/// Takes all other capabilities from this process and its children for good.
fn limit(caps: Caps) -> Result<(), Failure> {
    for number in 0..64 {
        if caps.has(number) {
            continue;
        }
        // SAFETY: takes numbers only.
        let r = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number as libc::c_ulong, 0, 0, 0) };
        if r == 0 {
            continue;
        }
        let e = std::io::Error::last_os_error();
        if e.raw_os_error() == Some(libc::EINVAL) {
            // The kernel knows no more.
            break;
        }
        return Err(Failure::own(Error::io("cannot drop capabilities", e)));
    }
    Ok(())
}

fn switch(user: &User, single: bool) -> Result<(), Failure> {
    let fail = |what: &str, e: Errno| {
        Failure::own(match e {
            Errno::INVAL | Errno::PERM if single => Error::Denied(format!(
                "cannot become user {}:{} in the container: only user 0 exists in it ('cowfs doctor' says how to get more)",
                user.uid, user.gid
            )),
            Errno::INVAL => Error::Denied(format!(
                "cannot become user {}:{} in the container: not among the ids of /etc/subuid and /etc/subgid",
                user.uid, user.gid
            )),
            e => Error::io(what.to_owned(), e.into()),
        })
    };
    let groups: Vec<Gid> = user.groups.iter().map(|g| Gid::from_raw(*g)).collect();
    if let Err(e) = rustix::thread::set_thread_groups(&groups) {
        // With a single id setgroups(2) is denied for good; the groups do not exist there anyway.
        if !single {
            return Err(fail("cannot set groups", e));
        }
    }
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .map_err(|e| fail("cannot set the group", e))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|e| fail("cannot set the user", e))
}

fn keep(caps: Caps) -> Result<(), Failure> {
    let own = |e: Errno| Failure::own(Error::io("cannot set capabilities", e.into()));
    let now = rustix::thread::capabilities(None).map_err(own)?;
    let set = CapabilitySet::from_bits_retain(caps.0) & now.permitted;
    let sets = CapabilitySets {
        effective: set,
        permitted: set,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).map_err(own)
}

/// As a freshly started program has them: Rust ignores SIGPIPE, the command blocked everything.
pub fn reset_signals(mask: &libc::sigset_t) {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid disposition for every signal; those that have none are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: `mask` is a set the command got from the kernel.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) };
}

/// The container does not outlive the command, however that ends.
pub fn die_with_parent(chan: &Chan) -> Result<(), Failure> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let own = |e: Errno| Failure::own(Error::io("cannot follow the command", e.into()));
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(own)?;
    // It may have gone before that.
    let mut fds = [PollFd::new(chan, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut fds, Some(&now)) {
        Ok(0) => Ok(()),
        _ => Err(Failure::own(Error::Denied(
            "the command that started the container is gone".into(),
        ))),
    }
}

/// execve(2), looking in PATH as execvp(3) does.
fn execute(argv: &[OsString], env: &[OsString]) -> Failure {
    let name = argv.first().map(OsString::as_os_str).unwrap_or_default();
    let shown = name.to_string_lossy().into_owned();
    let (Some(words), Some(vars)) = (c_strings(argv), c_strings(env)) else {
        return Failure::own(Error::Invalid(
            "a word of the command or the environment has a zero byte".into(),
        ));
    };
    let mut worst = Errno::NOENT;
    for path in candidates(name, &search_path(env)) {
        let Ok(path) = CString::new(path.into_encoded_bytes()) else {
            continue;
        };
        match exec(&path, &words, &vars) {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => worst = Errno::ACCESS,
            e => return failure(&shown, e),
        }
    }
    failure(&shown, worst)
}

/// What a name on a command line may mean.
pub fn candidates(name: &OsStr, path: &OsStr) -> Vec<OsString> {
    if name.is_empty() {
        return vec![];
    }
    if name.as_bytes().contains(&b'/') {
        return vec![name.to_owned()];
    }
    let dir = |d: &[u8]| {
        if d.is_empty() {
            Path::new(".").join(name)
        } else {
            Path::new(OsStr::from_bytes(d)).join(name)
        }
    };
    path.as_bytes()
        .split(|b| *b == b':')
        .map(|d| dir(d).into_os_string())
        .collect()
}

fn c_strings(words: &[OsString]) -> Option<Vec<CString>> {
    words
        .iter()
        .map(|w| CString::new(w.as_bytes()).ok())
        .collect()
}

fn exec(path: &CString, argv: &[CString], env: &[CString]) -> Errno {
    let pointers = |words: &[CString]| -> Vec<*const libc::c_char> {
        words
            .iter()
            .map(|w| w.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: terminated strings in terminated arrays, all alive during the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// In the words and with the exit codes of podman.
pub fn failure(name: &str, e: Errno) -> Failure {
    match e {
        Errno::NOENT | Errno::NOTDIR => Failure {
            code: NOT_FOUND,
            error: Error::NotFound(format!(
                "'{name}' was not found in the container (or the interpreter it names)"
            )),
        },
        Errno::ACCESS | Errno::PERM | Errno::NOEXEC | Errno::ISDIR => Failure {
            code: NOT_EXECUTABLE,
            error: Error::io(
                format!("'{name}' in the container cannot be executed"),
                e.into(),
            ),
        },
        e => Failure {
            code: NOT_EXECUTABLE,
            error: Error::io(format!("executing '{name}' in the container"), e.into()),
        },
    }
}

/// For runtimes that do not tell: whether the program is there, and its full path.
pub fn find_program(spec: &Spec, env: &[OsString], root: InRoot<'_>) -> Result<OsString, Failure> {
    let name = spec
        .argv
        .first()
        .map(OsString::as_os_str)
        .unwrap_or_default();
    let shown = name.to_string_lossy();
    let mut worst = Errno::NOENT;
    for path in candidates(name, &search_path(env)) {
        let full = spec.cwd.join(&path);
        let Some(fd) = root.find(&full).map_err(Failure::own)? else {
            continue;
        };
        let stat = rustix::fs::fstat(fd.as_fd()).map_err(|e| failure(&shown, e))?;
        if stat.st_mode & libc::S_IFMT == libc::S_IFREG && stat.st_mode & 0o111 != 0 {
            return Ok(full.into_os_string());
        }
        worst = Errno::ACCESS;
    }
    // It may be in a volume, which is not there yet.
    if spec.volumes.is_empty() {
        Err(failure(&shown, worst))
    } else {
        Ok(name.to_owned())
    }
}
