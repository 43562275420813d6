//! What the tests of `run`, fstab and `doctor` share: programs where every user can execute them, users,
//! a small image, a pool whose daemon ends with it.
#![allow(dead_code)]

use crate::common::{need_fuse, skip};
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

/// A user with 65536 ids of its own, and one without.
pub const USER: &str = "cowfs-test";
pub const LONE: &str = "cowfs-lone";

/// What is set up once for all tests of a program.
pub struct Setup {
    /// cowfs, mount.cowfs, umount.fuse.cowfs.
    pub bin: PathBuf,
    _dir: tempfile::TempDir,
}

/// None, and said so, where these tests cannot run.
pub fn setup() -> Option<&'static Setup> {
    static SETUP: OnceLock<Option<Setup>> = OnceLock::new();
    if !need_fuse() {
        return None;
    }
    SETUP
        .get_or_init(|| make_setup().map_err(|e| eprintln!("\nSKIPPED: {e}")).ok())
        .as_ref()
        .or_else(|| {
            skip("the set-up failed");
            None
        })
}

fn make_setup() -> Result<Setup, String> {
    install(&[
        ("busybox", "busybox-static"),
        ("newuidmap", "uidmap"),
        ("fusermount3", "fuse3"),
        ("crun", "crun"),
    ])?;
    std::fs::set_permissions("/dev/fuse", PermissionsExt::from_mode(0o666))
        .map_err(|e| format!("/dev/fuse: {e}"))?;
    for user in [USER, LONE] {
        if !sh(&format!("id {user}")).status.success() {
            let made = sh(&format!("useradd -m -s /bin/sh {user}"));
            if !made.status.success() && !sh(&format!("id {user}")).status.success() {
                return Err(format!("useradd {user}: {}", text(&made.stderr)));
            }
        }
    }
    for file in ["/etc/subuid", "/etc/subgid"] {
        let ids = std::fs::read_to_string(file).unwrap_or_default();
        let mut kept: String = ids
            .lines()
            .filter(|l| !l.starts_with(&format!("{LONE}:")))
            .map(|l| format!("{l}\n"))
            .collect();
        if !kept.contains(&format!("{USER}:")) {
            let end = kept
                .lines()
                .filter_map(|l| {
                    l.rsplit_once(':')?
                        .0
                        .rsplit_once(':')?
                        .1
                        .parse::<u64>()
                        .ok()
                })
                .max()
                .unwrap_or(100_000);
            kept.push_str(&format!("{USER}:{}:65536\n", end + 65536));
        }
        if kept != ids {
            std::fs::write(file, kept).map_err(|e| format!("{file}: {e}"))?;
        }
    }
    let dir = tempfile::Builder::new()
        .prefix("cowfs-bin-")
        .tempdir_in("/var/tmp")
        .map_err(|e| e.to_string())?;
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755))
        .map_err(|e| e.to_string())?;
    let cowfs = Path::new(env!("CARGO_BIN_EXE_cowfs"));
    std::fs::copy(cowfs, dir.path().join("cowfs")).map_err(|e| e.to_string())?;
    let helper = helper(cowfs)?;
    for name in ["mount.cowfs", "umount.fuse.cowfs"] {
        std::fs::copy(&helper, dir.path().join(name)).map_err(|e| e.to_string())?;
    }
    Ok(Setup {
        bin: dir.path().into(),
        _dir: dir,
    })
}

/// Another package's binary: built beside ours.
fn helper(cowfs: &Path) -> Result<PathBuf, String> {
    let path = cowfs.with_file_name("mount-cowfs");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo
        .args(["build", "--quiet", "-p", "mount-helper"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if cowfs.components().any(|c| c.as_os_str() == "release") {
        cargo.arg("--release");
    }
    let built = cargo.output().map_err(|e| format!("cargo: {e}"))?;
    if built.status.success() && path.is_file() {
        Ok(path)
    } else {
        Err(format!("building mount-helper: {}", text(&built.stderr)))
    }
}

fn install(wanted: &[(&str, &str)]) -> Result<(), String> {
    let there = |program: &str| sh(&format!("command -v {program}")).status.success();
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(p, _)| !there(p))
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    eprintln!("installing {list}");
    let line = format!(
        "export DEBIAN_FRONTEND=noninteractive; apt-get install -y -q {list} || {{ apt-get update -q && apt-get install -y -q {list}; }}"
    );
    let done = sh(&line);
    if done.status.success() {
        Ok(())
    } else {
        Err(format!("cannot install {list}: {}", text(&done.stderr)))
    }
}

pub fn sh(line: &str) -> Output {
    Command::new("sh")
        .arg("-c")
        .arg(line)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A pool of a user's, in a directory of that user's. Its daemon ends with it.
pub struct Pool {
    pub dir: tempfile::TempDir,
    pub user: Option<&'static str>,
    bin: PathBuf,
}

impl Pool {
    /// With an image `bb`: busybox, and what `config` says.
    pub fn new(setup: &Setup, user: Option<&'static str>, config: &str) -> Pool {
        // Not below /tmp: that containers hide /tmp while they start is none of this pool's business.
        let dir = tempfile::Builder::new()
            .prefix("cowfs-box-")
            .tempdir_in("/var/tmp")
            .unwrap();
        image(&dir.path().join("image"), config);
        let pool = Pool {
            dir,
            user,
            bin: setup.bin.clone(),
        };
        if let Some(user) = user {
            assert!(
                sh(&format!("chown -R {user}: {}", pool.dir.path().display()))
                    .status
                    .success()
            );
        }
        let out = pool.cowfs(["import", &pool.at("image"), "bb"]);
        assert!(out.status.success(), "import: {}", text(&out.stderr));
        pool
    }

    pub fn at(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn path(&self) -> String {
        self.at("pool")
    }

    /// `cowfs` as the pool's user.
    pub fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let cowfs = self.bin.join("cowfs");
        let mut command = match self.user {
            Some(user) => {
                let mut c = Command::new("setpriv");
                c.args(["--reuid", user, "--regid", user, "--init-groups", "--"])
                    .arg(&cowfs);
                c.env("HOME", format!("/home/{user}"))
                    .env_remove("XDG_RUNTIME_DIR");
                c
            }
            None => Command::new(&cowfs),
        };
        command
            .args(words)
            .env("COWFS_POOL", self.path())
            .env("COWFS_RUNTIME", "none")
            .stdin(Stdio::null())
            .current_dir("/");
        command
    }

    pub fn cowfs<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Output {
        self.command(words).output().unwrap()
    }

    /// `cowfs run ... sh -c LINE`, expected to end with `code`: what it wrote.
    pub fn run(&self, words: &str, line: &str, code: i32) -> String {
        let out = self.cowfs(
            ["run"]
                .into_iter()
                .chain(words.split_whitespace())
                .chain(["sh", "-c", line]),
        );
        assert_eq!(
            out.status.code(),
            Some(code),
            "run {words}: {line}: {}{}",
            text(&out.stdout),
            text(&out.stderr)
        );
        text(&out.stdout)
    }

    pub fn names(&self) -> Vec<String> {
        text(&self.cowfs(["containers", "--format", "{{.Name}}"]).stdout)
            .lines()
            .map(str::to_owned)
            .collect()
    }

    pub fn check(&self) {
        let out = self.cowfs(["pool", "check"]);
        assert!(
            out.status.success(),
            "{}{}",
            text(&out.stdout),
            text(&out.stderr)
        );
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.check_unless_failing();
        let lock = self.dir.path().join("pool");
        // The daemon's greeting is the one place that says its number for sure.
        if let Ok(stream) = std::os::unix::net::UnixStream::connect(lock.join("socket")) {
            use std::io::{BufRead, BufReader};
            let mut line = String::new();
            let _ = BufReader::new(stream).read_line(&mut line);
            let pid = line.split("\"pid\":").nth(1).and_then(|r| {
                r.split(|c: char| !c.is_ascii_digit())
                    .next()?
                    .parse::<i32>()
                    .ok()
            });
            if let Some(pid) = pid {
                let _ = Command::new("kill").arg(pid.to_string()).output();
                for _ in 0..200 {
                    if !Path::new(&format!("/proc/{pid}")).exists() {
                        return;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(25));
                }
                let _ = Command::new("kill").args(["-9", &pid.to_string()]).output();
            }
        }
    }
}

impl Pool {
    fn check_unless_failing(&self) {
        if !std::thread::panicking() {
            self.check();
        }
    }
}

/// Writes an OCI layout with one layer: busybox and a few files.
pub fn image(dir: &Path, config: &str) {
    let root = dir.join("root");
    for d in ["bin", "etc", "home/ann", "tmp", "srv"] {
        std::fs::create_dir_all(root.join(d)).unwrap();
    }
    std::fs::set_permissions(root.join("tmp"), PermissionsExt::from_mode(0o1777)).unwrap();
    std::fs::copy(busybox(), root.join("bin/busybox")).unwrap();
    let list = Command::new(busybox()).arg("--list").output().unwrap();
    for applet in text(&list.stdout).lines().filter(|a| *a != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(
        root.join("etc/group"),
        "root:x:0:\nann:x:1000:\naudio:x:29:ann\n",
    )
    .unwrap();
    std::fs::write(root.join("etc/plain"), "text\n").unwrap();
    layout(dir, &root, config);
    std::fs::remove_dir_all(&root).unwrap();
}

fn busybox() -> PathBuf {
    ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .map(PathBuf::from)
        .find(|p| p.is_file())
        .expect("busybox-static is installed")
}

/// An OCI layout in `dir` from the directory `root`; all files are root's.
pub fn layout(dir: &Path, root: &Path, config: &str) {
    let blobs = dir.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let tar = dir.join("layer.tar");
    let made = Command::new("tar")
        .args(["--owner=0", "--group=0", "--numeric-owner", "-C"])
        .arg(root)
        .arg("-cf")
        .arg(&tar)
        .arg(".")
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let layer = std::fs::read(&tar).unwrap();
    std::fs::remove_file(&tar).unwrap();
    let blob = |bytes: &[u8]| {
        let digest: String = Sha256::digest(bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        std::fs::write(blobs.join(&digest), bytes).unwrap();
        (digest, bytes.len())
    };
    let (layer, layer_size) = blob(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{config},"rootfs":{{"type":"layers","diff_ids":["sha256:{layer}"]}}}}"#
    );
    let (config, config_size) = blob(config.as_bytes());
    let of = |kind: &str, digest: &str, size: usize| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.{kind}","digest":"sha256:{digest}","size":{size}}}"#
        )
    };
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
        of("config.v1+json", &config, config_size),
        of("layer.v1.tar", &layer, layer_size)
    );
    let (manifest, size) = blob(manifest.as_bytes());
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        of("manifest.v1+json", &manifest, size)
    );
    std::fs::write(dir.join("index.json"), index).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}
