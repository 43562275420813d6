//! Which ids a user namespace gets: the caller's own as root, and those of /etc/subuid and
//! /etc/subgid above it, entered by the set-uid programs newuidmap and newgidmap.

use crate::base::{Error, Result};
use std::ffi::CStr;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A run of ids of the outer namespace: first and count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: u32,
    pub count: u32,
}

/// The maps of a namespace to come. `subuids` and `subgids` both empty: a single id each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMap {
    pub uid: u32,
    pub gid: u32,
    pub subuids: Vec<Range>,
    pub subgids: Vec<Range>,
    /// Why there is only a single id: one line for the user.
    pub warning: Option<String>,
}

impl IdMap {
    /// For the calling user.
    pub fn of_caller() -> IdMap {
        let uid = rustix::process::getuid().as_raw();
        let gid = rustix::process::getgid().as_raw();
        let name = user_name(uid);
        let read = |file: &str| {
            ranges(
                &std::fs::read_to_string(file).unwrap_or_default(),
                name.as_deref(),
                uid,
            )
        };
        let mut map = IdMap {
            uid,
            gid,
            subuids: read("/etc/subuid"),
            subgids: read("/etc/subgid"),
            warning: None,
        };
        let who = name.unwrap_or_else(|| uid.to_string());
        if map.subuids.is_empty() || map.subgids.is_empty() {
            let free = first_free();
            let last = free.saturating_add(65535);
            map.single(format!(
                "no ids for {who} in /etc/subuid and /etc/subgid, so only user 0 exists in the container and chown to others cannot work; \
                 root can add some: usermod --add-subuids {free}-{last} --add-subgids {free}-{last} {who}"
            ));
        } else if program("newuidmap").is_none() || program("newgidmap").is_none() {
            map.single(
                "newuidmap and newgidmap are not installed (Debian: 'apt install uidmap'), so only user 0 exists in the container \
                 and chown to others cannot work"
                    .into(),
            );
        }
        map
    }

    /// Only one id each.
    pub fn is_single(&self) -> bool {
        self.subuids.is_empty()
    }

    fn single(&mut self, warning: String) {
        self.subuids.clear();
        self.subgids.clear();
        self.warning = Some(warning);
    }

    /// Enters the maps of `pid`, a child of ours in a new user namespace. Where newuidmap refuses, the
    /// single id is entered instead and the map says so.
    pub fn enter(&mut self, pid: u32) -> Result<()> {
        if !self.is_single() {
            match self.by_programs(pid) {
                Ok(()) => return Ok(()),
                Err(why) => self.single(format!(
                    "{why}; so only user 0 exists in the container and chown to others cannot work"
                )),
            }
        }
        let write = |file: &str, text: String| {
            std::fs::write(format!("/proc/{pid}/{file}"), text)
                .map_err(|e| Error::io(format!("cannot enter the {file} of a user namespace"), e))
        };
        write("uid_map", format!("0 {} 1\n", self.uid))?;
        // Linux lets an ordinary user map groups only after giving up setgroups(2).
        write("setgroups", "deny".into())?;
        write("gid_map", format!("0 {} 1\n", self.gid))
    }

    fn by_programs(&self, pid: u32) -> Result<(), String> {
        let users = start("newuidmap", pid, self.uid, &self.subuids)?;
        let groups = start("newgidmap", pid, self.gid, &self.subgids);
        finish("newuidmap", users)?;
        finish("newgidmap", groups?)
    }
}

/// `newuidmap PID 0 UID 1 1 FIRST COUNT ...`
fn start(name: &str, pid: u32, own: u32, ranges: &[Range]) -> Result<Child, String> {
    let path = program(name).ok_or_else(|| format!("{name} is not installed"))?;
    let mut command = Command::new(path);
    command
        .arg(pid.to_string())
        .args(["0", &own.to_string(), "1"]);
    let mut inside: u32 = 1;
    for r in ranges {
        let Some(next) = inside.checked_add(r.count) else {
            break;
        };
        command.args([inside.to_string(), r.first.to_string(), r.count.to_string()]);
        inside = next;
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.spawn().map_err(|e| format!("{name}: {e}"))
}

fn finish(name: &str, child: Child) -> Result<(), String> {
    let out = child
        .wait_with_output()
        .map_err(|e| format!("{name}: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&out.stderr);
    let words = words.trim().lines().next_back().unwrap_or_default();
    let words = words
        .strip_prefix(name)
        .and_then(|w| w.strip_prefix(": "))
        .unwrap_or(words);
    Err(format!(
        "{name} refuses ({})",
        if words.is_empty() {
            "without a word"
        } else {
            words
        }
    ))
}

/// A program in PATH or where administrators' programs are.
pub fn program(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(
            [
                "/usr/local/sbin",
                "/usr/local/bin",
                "/usr/sbin",
                "/usr/bin",
                "/sbin",
                "/bin",
            ]
            .map(Into::into),
        )
        .filter(|d| d.is_absolute())
        .map(|d| d.join(name))
        .find(|p| is_executable(p))
}

pub fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Lines `NAME-OR-UID:FIRST:COUNT` that speak of this user. What cannot be read is passed over, as
/// newuidmap does.
pub fn ranges(text: &str, name: Option<&str>, uid: u32) -> Vec<Range> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut words = line.trim().splitn(3, ':');
            let who = words.next()?;
            if Some(who) != name && who != number {
                return None;
            }
            let first = words.next()?.parse().ok()?;
            let count = words.next()?.parse().ok()?;
            (count > 0 && u32::checked_add(first, count).is_some())
                .then_some(Range { first, count })
        })
        .collect()
}

/// Above all that is given out, in both files.
fn first_free() -> u32 {
    let ends = ["/etc/subuid", "/etc/subgid"]
        .map(|f| end(&std::fs::read_to_string(f).unwrap_or_default()));
    ends.into_iter().max().unwrap_or(0).max(FIRST)
}

/// Where useradd(8) begins to give out ids.
const FIRST: u32 = 100_000;

fn end(text: &str) -> u32 {
    let line = |l: &str| -> Option<u32> {
        let mut words = l.trim().splitn(3, ':').skip(1);
        let first: u32 = words.next()?.parse().ok()?;
        first.checked_add(words.next()?.parse().ok()?)
    };
    text.lines().filter_map(line).max().unwrap_or(0)
}

/// The name of a user on this machine.
pub fn user_name(uid: u32) -> Option<String> {
    let mut space = vec![0u8; 16 << 10];
    // SAFETY: all-zero bytes are a valid passwd (null pointers, zero ids); it is only read after the call filled it.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: the pointers are to live, writable variables and the length is that of the space behind them.
    let r = unsafe {
        libc::getpwuid_r(
            uid,
            &mut entry,
            space.as_mut_ptr().cast(),
            space.len(),
            &mut found,
        )
    };
    if r != 0 || found.is_null() || entry.pw_name.is_null() {
        return None;
    }
    // SAFETY: the call succeeded, so pw_name is a terminated string inside `space`, which still lives.
    let name = unsafe { CStr::from_ptr(entry.pw_name) };
    name.to_str().ok().map(str::to_owned)
}

/// Whether this process may make namespaces without a user namespace: CAP_SYS_ADMIN is in effect.
pub fn may_unshare() -> io::Result<bool> {
    use rustix::thread::{CapabilitySet, capabilities};
    Ok(capabilities(None)?
        .effective
        .contains(CapabilitySet::SYS_ADMIN))
}

#[cfg(test)]
#[path = "idmap_tests.rs"]
mod tests;
