//! An OCI bundle (runtime-spec) for crun or runc. The root is mounted already, in this process's own
//! mount namespace, as podman does it; so the bundle says nothing of users' namespaces.

use super::Failure;
use super::chan::Chan;
use super::mounts::{Base, MASKED, READ_ONLY, SHM_SIZE};
use super::process;
use super::runtime::Runtime;
use super::spec::Spec;
use super::user::User;
use crate::base::{Error, Result};
use rustix::mount::MountFlags;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

pub struct Bundle<'a> {
    pub spec: &'a Spec,
    pub user: &'a User,
    /// The program's full path in the container.
    pub program: OsString,
    pub base: &'a Base,
    pub user_namespace: bool,
    pub single: bool,
}

impl Bundle<'_> {
    pub fn write(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.config()?)
            .map_err(|e| Error::io("OCI bundle", e.into()))?;
        self.base.write(&self.base.dir.join("config.json"), &text)?;
        self.base.make_dir("state").map(drop)
    }

    fn config(&self) -> Result<Value> {
        let spec = self.spec;
        let mut args = words(&spec.argv)?;
        if let Some(first) = args.first_mut() {
            *first = word(&self.program)?;
        }
        let caps = spec.caps.names();
        let effective = if self.user.uid == 0 {
            caps.clone()
        } else {
            vec![]
        };
        Ok(json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": self.terminal(),
                "user": {"uid": self.user.uid, "gid": self.user.gid, "umask": 0o22,
                         "additionalGids": if self.single { vec![] } else { self.user.groups.clone() }},
                "args": args,
                "env": words(&process::env(spec, self.user))?,
                "cwd": path(&spec.cwd)?,
                "capabilities": {"bounding": caps, "effective": effective, "permitted": effective},
                "noNewPrivileges": false,
            },
            "root": {"path": path(&self.base.root())?, "readonly": spec.read_only},
            "hostname": spec.hostname,
            "mounts": self.mounts()?,
            "linux": {
                "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "uts"}, {"type": "ipc"}],
                "maskedPaths": MASKED,
                "readonlyPaths": READ_ONLY,
            },
        }))
    }

    /// The runtime makes a terminal of its own and passes bytes on: only where both ends are one.
    fn terminal(&self) -> bool {
        self.spec.terminal.is_some() && rustix::termios::isatty(rustix::stdio::stdout())
    }

    fn mounts(&self) -> Result<Vec<Value>> {
        let of = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
        let mut pts = vec![
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
        ];
        if !self.single {
            pts.push("gid=5");
        }
        let shm = format!("size={SHM_SIZE}");
        let sys = match self.user_namespace {
            // The network namespace is the host's: a fresh sysfs would be refused.
            true => of(
                "/sys",
                "bind",
                "/sys",
                &["rbind", "nosuid", "noexec", "nodev", "ro"],
            ),
            false => of(
                "/sys",
                "sysfs",
                "sysfs",
                &["nosuid", "noexec", "nodev", "ro"],
            ),
        };
        let mut mounts = vec![
            of("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            of(
                "/dev",
                "tmpfs",
                "tmpfs",
                &["nosuid", "strictatime", "mode=755", "size=65536k"],
            ),
            of("/dev/pts", "devpts", "devpts", &pts),
            of(
                "/dev/shm",
                "tmpfs",
                "shm",
                &["nosuid", "noexec", "nodev", "mode=1777", &shm],
            ),
            of(
                "/dev/mqueue",
                "mqueue",
                "mqueue",
                &["nosuid", "noexec", "nodev"],
            ),
            sys,
        ];
        for (name, _) in &self.spec.files {
            let file = self.base.file(name);
            mounts.push(of(
                &format!("/{name}"),
                "bind",
                &path(&file)?,
                &["bind", "rprivate"],
            ));
        }
        for (i, v) in self.spec.volumes.iter().enumerate() {
            let there = self.base.expose_volume(i)?;
            let access = if v.read_only { "ro" } else { "rw" };
            mounts.push(of(
                &path(&v.target)?,
                "bind",
                &path(&there)?,
                &["rbind", "rprivate", access],
            ));
        }
        Ok(mounts)
    }

    /// Becomes the runtime. It is process 1 of a namespace: when it dies, all of it dies.
    pub fn enter(
        &self,
        runtime: &Runtime,
        mask: &libc::sigset_t,
        chan: &Chan,
    ) -> Result<Infallible, Failure> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("proc", "/proc", "proc", flags, None)
            .map_err(|e| Failure::own(Error::io("cannot mount a fresh /proc", e.into())))?;
        let mut command = Command::new(&runtime.path);
        command.arg("--root").arg(self.base.dir.join("state"));
        if runtime.is_crun() {
            command.arg("--cgroup-manager=disabled");
        }
        command
            .args(["run", "--bundle"])
            .arg(&self.base.dir)
            .arg("container");
        process::reset_signals(mask);
        // SAFETY: only marks descriptors; those that this process uses are marked already.
        unsafe {
            libc::syscall(
                libc::SYS_close_range,
                3,
                libc::c_uint::MAX,
                libc::CLOSE_RANGE_CLOEXEC,
            )
        };
        process::die_with_parent(chan)?;
        let e = command.exec();
        Err(Failure::own(Error::io(
            runtime.path.display().to_string(),
            e,
        )))
    }
}

/// JSON has no other strings than UTF-8.
fn word(w: &std::ffi::OsStr) -> Result<String> {
    w.to_str().map(str::to_owned).ok_or_else(|| {
        Error::Invalid(format!(
            "'{}' is not UTF-8, which runtimes cannot take; use --runtime none",
            w.to_string_lossy()
        ))
    })
}

fn words(list: &[OsString]) -> Result<Vec<String>> {
    list.iter().map(|w| word(w)).collect()
}

fn path(p: &Path) -> Result<String> {
    word(p.as_os_str())
}
