//! /dev/fuse, fusermount3 and its settings, the helpers of mount(8): what a mount needs.

use super::{Check, Status};
use crate::cli::run::idmap::program;
use crate::fuse::{How, MountOptions, mountinfo, prepare};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// fusermount3's own default.
const MOUNT_MAX: u64 = 1000;

pub fn device() -> Check {
    let name = "/dev/fuse";
    let make = "as root: 'modprobe fuse'; in a container: start it with --device /dev/fuse";
    let meta = match std::fs::metadata(name) {
        Ok(m) => m,
        Err(e) => return Check::fail(name, e.to_string(), make),
    };
    let mode = meta.mode() & 0o7777;
    if !meta.file_type().is_char_device() || meta.rdev() != libc::makedev(10, 229) {
        return Check::fail(
            name,
            "not the FUSE device (character device 10, 229)",
            "as root: 'rm /dev/fuse && mknod -m 666 /dev/fuse c 10 229'",
        );
    }
    match std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(name)
    {
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => Check::fail(
            name,
            format!("mode {mode:04o}: this user may not open it"),
            "as root: 'chmod 0666 /dev/fuse', and for the next boot a udev rule: KERNEL==\"fuse\", MODE=\"0666\"",
        ),
        // A container's list of devices.
        Err(e) if e.raw_os_error() == Some(libc::EPERM) => Check::fail(
            name,
            format!("mode {mode:04o}, but: {e}"),
            "start the outer container with --device /dev/fuse",
        ),
        Err(e) => Check::fail(name, format!("mode {mode:04o}, but: {e}"), make),
        Ok(_) if mode & 0o006 != 0o006 => Check::warn(
            name,
            format!("opens; mode {mode:04o} keeps other users out"),
            "for ordinary users, as root: 'chmod 0666 /dev/fuse'",
        ),
        Ok(_) => Check::ok(name, format!("opens; mode {mode:04o}")),
    }
}

/// By the kernel directly, and by fusermount3: each really tried, with nobody behind and nothing left over.
/// Answers whether one of them works.
pub fn mounting(checks: &mut Vec<Check>, root: bool) -> bool {
    let direct = try_mount(How::Kernel);
    let by_kernel = direct.is_ok();
    checks.push(match direct {
        Ok(()) => Check::ok("mounting", "works directly"),
        Err(_) if !root => Check::ok("mounting", "directly for root only; for this user by fusermount3"),
        Err(e) => Check::fail("mounting", e, "root here lacks CAP_SYS_ADMIN, as in most containers: start the outer one with --cap-add SYS_ADMIN, or use 'cowfs run'"),
    });
    let name = "fusermount3";
    let Some(path) = program("fusermount3") else {
        checks.push(match by_kernel {
            true => Check::warn(
                name,
                "not installed; root needs none",
                "for ordinary users: 'apt install fuse3'",
            ),
            false => Check::fail(
                name,
                "not installed",
                "as root: 'apt install fuse3' (package fuse3 elsewhere too)",
            ),
        });
        return by_kernel;
    };
    let setuid = path
        .metadata()
        .is_ok_and(|m| m.mode() & 0o4000 != 0 && m.uid() == 0);
    let shown = path.display();
    if !setuid && !root {
        checks.push(Check::fail(
            name,
            format!("{shown} is not set-uid root"),
            format!("as root: 'chown root {shown} && chmod 4755 {shown}'"),
        ));
        return by_kernel;
    }
    let tried = try_mount(How::Fusermount);
    let works = tried.is_ok();
    checks.push(match tried {
        Ok(()) if setuid => Check::ok(name, format!("{shown}, set-uid root, works")),
        Ok(()) => Check::warn(
            name,
            format!("{shown} works for root, but is not set-uid"),
            format!("for ordinary users: 'chmod 4755 {shown}'"),
        ),
        Err(e) if by_kernel => Check::warn(name, e, "root needs none"),
        Err(e) => Check::fail(
            name,
            e,
            "see /dev/fuse above; a 'nosuid' file system or no_new_privs also makes it useless",
        ),
    });
    by_kernel || works
}

fn try_mount(how: How) -> Result<(), String> {
    let dir = Scratch::new()?;
    match prepare(how, "cowfs-doctor", &dir.0, &MountOptions::default()) {
        Ok(prepared) => {
            // The other end first: nobody will wait for an answer.
            drop(prepared.device);
            drop(prepared.pending);
            Ok(())
        }
        Err(e) => Err(e.to_string()),
    }
}

/// A directory that is gone again afterwards.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, String> {
        let base = std::env::temp_dir();
        for n in 0..100 {
            let dir = base.join(format!("cowfs-doctor-{}-{n}", std::process::id()));
            match std::fs::create_dir(&dir) {
                Ok(()) => return Ok(Scratch(dir)),
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(format!("{}: {e}", dir.display())),
            }
        }
        Err(format!("cannot make a directory in {}", base.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// /etc/fuse.conf as fusermount3 reads it.
struct Conf {
    allow_other: bool,
    mount_max: u64,
}

fn read_conf() -> Conf {
    parse_conf(&std::fs::read_to_string("/etc/fuse.conf").unwrap_or_default())
}

fn parse_conf(text: &str) -> Conf {
    let mut conf = Conf {
        allow_other: false,
        mount_max: MOUNT_MAX,
    };
    for line in text
        .lines()
        .map(|l| l.split('#').next().unwrap_or_default().trim())
    {
        match line.split_once('=') {
            None if line == "user_allow_other" => conf.allow_other = true,
            Some((k, v)) if k.trim() == "mount_max" => {
                conf.mount_max = v.trim().parse().unwrap_or(MOUNT_MAX)
            }
            _ => {}
        }
    }
    conf
}

pub fn conf(root: bool) -> Check {
    let name = "user_allow_other";
    match read_conf().allow_other {
        true => Check::ok(
            name,
            "set in /etc/fuse.conf: users may let others into their mounts",
        ),
        false if root => Check::ok(name, "not set in /etc/fuse.conf; root needs none"),
        false => Check::warn(
            name,
            "not set in /etc/fuse.conf: -o allow_other is refused; root and others cannot enter this user's mounts ('cowfs run' is not affected)",
            "if wanted, as root: 'echo user_allow_other >> /etc/fuse.conf'",
        ),
    }
}

pub fn mount_max(root: bool) -> Check {
    let name = "mount_max";
    let max = read_conf().mount_max;
    let now = mountinfo::mounts().map_or(0, |all| {
        all.iter().filter(|m| m.fs_type.starts_with("fuse")).count() as u64
    });
    let found = format!("{max} mounts by users at most, {now} of FUSE there now");
    if !root && now.saturating_add(10) > max {
        return Check::warn(name, found, "as root: a larger mount_max in /etc/fuse.conf");
    }
    Check::ok(name, found)
}

/// What mount(8) and umount(8) call.
pub fn helpers() -> Check {
    let name = "mount(8) helpers";
    let missing: Vec<&str> = ["mount.cowfs", "umount.fuse.cowfs"]
        .into_iter()
        .filter(|n| {
            !["/sbin", "/usr/sbin"]
                .iter()
                .any(|d| crate::cli::run::idmap::is_executable(&Path::new(d).join(n)))
        })
        .collect();
    if missing.is_empty() {
        return Check::ok(
            name,
            "/sbin/mount.cowfs and /sbin/umount.fuse.cowfs: fstab and 'mount -t cowfs' work",
        );
    }
    Check {
        name,
        status: Status::Warn,
        found: format!("not in /sbin: {}; 'mount -t cowfs' and fstab do not work ('cowfs mount' does)", missing.join(", ")),
        advice: "as root: install -m 755 cowfs /usr/local/bin/cowfs; install -m 755 mount-cowfs /sbin/mount.cowfs; install -m 755 mount-cowfs /sbin/umount.fuse.cowfs".into(),
    }
}

#[cfg(test)]
#[path = "fuse_tests.rs"]
mod tests;
