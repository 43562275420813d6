//! The program as a user runs it, on a pool of its own that leaves nothing behind.
#![allow(dead_code)]

use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// No command of these tests takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(120);

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_cowfs");

/// A user without an account: any number will do.
pub const SOMEBODY: u32 = 31_415;

pub struct World {
    pub dir: tempfile::TempDir,
    pub pool: PathBuf,
    /// Seconds of idleness after which daemons leave.
    pub idle: &'static str,
    /// Run commands as this user.
    pub user: Option<u32>,
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Standard output of a command that did well and said nothing on the side.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.text(), self.err);
        assert_eq!(self.err, "", "silent when all is well");
        self.text()
    }

    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// One line on standard error, with this exit code, that says this.
    #[track_caller]
    pub fn fails(self, code: i32, says: &str) -> String {
        assert_eq!(self.code, Some(code), "{}{}", self.text(), self.err);
        assert!(self.err.starts_with("cowfs: "), "{}", self.err);
        assert_eq!(self.err.trim_end().lines().count(), 1, "{}", self.err);
        assert!(self.err.contains(says), "'{says}' in: {}", self.err);
        assert_eq!(self.text(), "", "nothing on standard output");
        self.err
    }
}

impl World {
    pub fn new() -> World {
        let dir = tempfile::Builder::new()
            .prefix("cowfs-cli-")
            .tempdir()
            .unwrap();
        std::fs::set_permissions(
            dir.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .unwrap();
        let pool = dir.path().join("pool");
        World {
            dir,
            pool,
            idle: "30",
            user: None,
        }
    }

    /// All commands as this user, in a directory of theirs.
    pub fn of(user: u32) -> World {
        let mut world = World::new();
        std::os::unix::fs::chown(world.dir.path(), Some(user), Some(user)).unwrap();
        world.user = Some(user);
        world
    }

    /// With the image `base:latest` in it.
    pub fn with_image() -> World {
        let world = World::new();
        world.import_base();
        world
    }

    pub fn import_base(&self) {
        let tar = self.path("base.tar");
        std::fs::write(&tar, image_tar()).unwrap();
        assert_eq!(
            self.run(["import", tar.to_str().unwrap(), "base"]).ok(),
            "base:latest\n"
        );
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An empty directory to mount on.
    pub fn mount_point(&self, name: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(&path).unwrap();
        if let Some(user) = self.user {
            std::os::unix::fs::chown(&path, Some(user), Some(user)).unwrap();
        }
        path.to_str().unwrap().to_owned()
    }

    pub fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(words);
        self.dress(&mut command);
        command
    }

    pub fn dress(&self, command: &mut Command) {
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("COWFS_POOL", &self.pool)
            .env("COWFS_IDLE_SECS", self.idle)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
    }

    pub fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Ran {
        finish(self.command(words).spawn().unwrap())
    }

    /// A line as one types it; words are separated by spaces.
    pub fn sh(&self, line: &str) -> Ran {
        self.run(line.split_whitespace())
    }

    pub fn run_with_input<S: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Ran {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let feeder = std::thread::spawn(move || {
            let _ = stdin.write_all(&input);
        });
        let ran = finish(child);
        feeder.join().unwrap();
        ran
    }

    /// The daemon's process, from the lock it holds.
    pub fn daemon(&self) -> Option<i32> {
        let lock = std::fs::read_to_string(self.pool.join("lock")).ok()?;
        let pid: i32 = lock
            .split("process ")
            .nth(1)?
            .split(')')
            .next()?
            .parse()
            .ok()?;
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        (exe.to_string_lossy().starts_with(PROGRAM)).then_some(pid)
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.pool.join("daemon.log")).unwrap_or_default()
    }

    /// Unmounts what nobody uses. (A process that another test is just starting may hold copies of this
    /// one's files until its exec.)
    #[track_caller]
    pub fn umount(&self, what: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let ran = self.run(["umount", what]);
            if ran.code != Some(5) || Instant::now() > end {
                ran.ok();
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    pub fn check(&self) {
        let said = self.sh("pool check").ok();
        assert!(said.starts_with("clean:"), "{said}");
    }

    /// Every daemon that this world's commands started says so in the log.
    pub fn started(&self) -> usize {
        self.log().matches(" serves ").count()
    }
}

/// Waits for a command; one that hangs is ended, and fails the test.
pub fn finish(mut child: Child) -> Ran {
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut bytes);
            }
            bytes
        })
    };
    let out = read(stdout.map(|p| Box::new(p) as Box<dyn Read + Send>));
    let err = read(stderr.map(|p| Box::new(p) as Box<dyn Read + Send>));
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            panic!("a command hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Ran {
        code: status.code(),
        signal: status.signal(),
        out: out.join().unwrap(),
        err: String::from_utf8_lossy(&err.join().unwrap()).into_owned(),
    }
}

#[track_caller]
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn alive(pid: i32) -> bool {
    // A zombie has no executable.
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

pub fn signal(pid: i32, signal: i32) {
    // SAFETY: kill(2) takes two numbers.
    unsafe {
        libc::kill(pid, signal);
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let mounts = cowfs::fuse::mountinfo::mounts().unwrap_or_default();
        for m in mounts
            .iter()
            .rev()
            .filter(|m| m.dir.starts_with(self.dir.path()))
        {
            let _ = cowfs::fuse::unmount(&m.dir, cowfs::fuse::Unmount::Force);
        }
        if let Some(pid) = self.daemon() {
            signal(pid, libc::SIGKILL);
            wait_for("the daemon's end", || !alive(pid));
        }
        if std::thread::panicking() {
            eprintln!("daemon.log:\n{}", self.log());
        }
    }
}

/// A small root file system: a few files, a link, a file of three chunks.
pub fn image_tar() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, mode: u32, data: &[u8], link: Option<&str>| {
        let mut h = tar::Header::new_gnu();
        h.set_entry_type(kind);
        h.set_mode(mode);
        h.set_uid(0);
        h.set_gid(0);
        h.set_mtime(1_600_000_000);
        h.set_size(data.len() as u64);
        match link {
            Some(to) => tar.append_link(&mut h, name, to).unwrap(),
            None => tar.append_data(&mut h, name, data).unwrap(),
        }
    };
    use tar::EntryType::{Directory, Regular, Symlink};
    add("etc/", Directory, 0o755, b"", None);
    add("etc/hostname", Regular, 0o644, b"base\n", None);
    add("etc/conf", Regular, 0o640, b"a=1\n", None);
    add("bin/", Directory, 0o755, b"", None);
    add("bin/tool", Regular, 0o4755, b"#!/bin/sh\n", None);
    add("link", Symlink, 0o777, b"", Some("/etc/hostname"));
    add("big", Regular, 0o644, &big(), None);
    tar.into_inner().unwrap()
}

/// 200,000 bytes that repeat nowhere.
pub fn big() -> Vec<u8> {
    (0..50_000u32)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

/// The program under another name.
pub fn linked(dir: &Path, name: &str) -> OsString {
    let path = dir.join(name);
    if !path.exists() {
        std::os::unix::fs::symlink(PROGRAM, &path).unwrap();
    }
    path.into_os_string()
}
