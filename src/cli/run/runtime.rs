//! crun and runc: found, and really tried before they are trusted. What the trial showed is remembered
//! until the machine starts anew or the program changes.

use super::engine;
use super::idmap::{IdMap, is_executable, program};
use super::inside::{Inside, Root};
use super::spec::{Spec, Volume};
use crate::base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    pub path: PathBuf,
}

impl Runtime {
    /// Others than crun are spoken to as runc.
    pub fn is_crun(&self) -> bool {
        self.path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().contains("crun"))
    }
}

/// `--runtime`: auto, none, a name or a path.
pub fn choose(word: &str) -> Result<Option<Runtime>> {
    match word {
        "none" => Ok(None),
        "auto" => Ok(installed().into_iter().find(|r| match tried(r) {
            Ok(()) => true,
            Err(why) => {
                log::debug!("{} does not work here: {why}", r.path.display());
                false
            }
        })),
        name => {
            let path = if name.contains('/') {
                Some(PathBuf::from(name)).filter(|p| is_executable(p))
            } else {
                program(name)
            };
            let path = path.ok_or_else(|| {
                Error::NotFound(format!(
                    "runtime '{name}' is not installed; use --runtime none"
                ))
            })?;
            Ok(Some(Runtime { path }))
        }
    }
}

/// Those of this machine, the faster first.
pub fn installed() -> Vec<Runtime> {
    ["crun", "runc"]
        .iter()
        .filter_map(|n| program(n))
        .map(|path| Runtime { path })
        .collect()
}

#[derive(Serialize, Deserialize)]
struct Memory {
    /// Of the program, the boot and this version.
    key: String,
    /// None: it works.
    failure: Option<String>,
}

/// Whether it works here for this user, from memory where possible.
pub fn tried(runtime: &Runtime) -> Result<(), String> {
    let key = key(runtime);
    let file = memory_file(runtime);
    if let (Some(file), Some(key)) = (&file, &key)
        && let Ok(text) = std::fs::read(file)
        && let Ok(memory) = serde_json::from_slice::<Memory>(&text)
        && memory.key == *key
    {
        return memory.failure.map_or(Ok(()), Err);
    }
    let result = try_out(runtime);
    if let (Some(file), Some(key)) = (file, key) {
        remember(
            &file,
            &Memory {
                key,
                failure: result.clone().err(),
            },
        );
    }
    result
}

fn key(runtime: &Runtime) -> Option<String> {
    let m = runtime.path.metadata().ok()?;
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let ids = IdMap::of_caller();
    let own = std::env::current_exe()
        .and_then(|p| p.metadata())
        .map_or(0, |m| m.mtime());
    Some(format!(
        "{} {} {} {}.{} {} {} {own} {}",
        runtime.path.display(),
        m.ino(),
        m.size(),
        m.mtime(),
        m.mtime_nsec(),
        boot.trim(),
        ids.is_single(),
        cgroups()
    ))
}

/// How this machine's control groups look from here: runtimes are particular about it.
fn cgroups() -> String {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let kinds = table.lines().filter_map(|l| {
        let place = l.split(' ').nth(4)?;
        let kind = l.split_once(" - ")?.1.split(' ').next()?;
        (kind.starts_with("cgroup") || place == "/sys/fs/cgroup").then(|| format!("{kind}@{place}"))
    });
    kinds.collect::<Vec<_>>().join(",")
}

fn memory_file(runtime: &Runtime) -> Option<PathBuf> {
    let dir = if rustix::process::geteuid().is_root() {
        PathBuf::from("/run/cowfs")
    } else {
        let var = |n: &str| {
            std::env::var_os(n)
                .map(PathBuf::from)
                .filter(|p| p.is_absolute())
        };
        var("XDG_RUNTIME_DIR")
            .or_else(|| var("XDG_CACHE_HOME"))
            .or_else(|| Some(var("HOME")?.join(".cache")))?
            .join("cowfs")
    };
    let name = runtime.path.file_name()?.to_string_lossy().into_owned();
    Some(dir.join(format!("runtime-{name}.json")))
}

fn remember(file: &Path, memory: &Memory) {
    let save = || -> std::io::Result<()> {
        let dir = file.parent().unwrap_or(Path::new("/"));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)?;
        let new = file.with_extension(format!("{}", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        let f = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)?;
        serde_json::to_writer(f, memory)?;
        std::fs::rename(&new, file)
    };
    if let Err(e) = save() {
        log::debug!("{}: {e}", file.display());
    }
}

/// Runs this very program in an otherwise empty container, by the same road as any other.
fn try_out(runtime: &Runtime) -> Result<(), String> {
    let Ok(exe) = std::env::current_exe() else {
        return Err("cannot find this program".into());
    };
    // What it is linked to, wherever this system keeps that.
    let libraries = [
        "/usr",
        "/lib",
        "/lib32",
        "/lib64",
        "/nix/store",
        "/gnu/store",
    ]
    .map(Path::new);
    let shown = |source: &Path, target: &Path| Volume {
        source: source.into(),
        target: target.into(),
        read_only: true,
    };
    let mut volumes: Vec<Volume> = libraries
        .iter()
        .filter(|d| d.is_dir())
        .map(|d| shown(d, d))
        .collect();
    volumes.push(shown(&exe, Path::new("/cowfs")));
    // It asks nothing of a pool and ends at once.
    let spec = Spec {
        volumes,
        ..Spec::bare(vec!["/cowfs".into(), "--version".into()])
    };
    let user_namespace = !super::idmap::may_unshare().unwrap_or(false);
    let inside = Inside {
        spec,
        root: Root::Empty,
        runtime: Some(runtime.clone()),
        user_namespace,
    };
    let mut ids = user_namespace.then(IdMap::of_caller);
    let quiet = Quiet::new().map_err(|e| e.to_string())?;
    let mut serve = |_, _| Ok(());
    let outcome = engine::go(&inside, ids.as_mut(), &mut serve, &|_| {});
    let words = quiet.words();
    match outcome.end {
        Ok(0) => Ok(()),
        Ok(code) => Err(format!(
            "{} ended with {code}: {words}",
            runtime.path.display()
        )),
        Err(f) => Err(f.error.to_string()),
    }
}

/// Standard output and error go to a memory file while this lives.
struct Quiet {
    kept: [std::os::fd::OwnedFd; 3],
    words: std::fs::File,
}

impl Quiet {
    fn new() -> std::io::Result<Quiet> {
        use rustix::fs::MemfdFlags;
        let words = std::fs::File::from(rustix::fs::memfd_create("words", MemfdFlags::CLOEXEC)?);
        let null = std::fs::File::open("/dev/null")?;
        let keep = |fd: std::os::fd::BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
        let kept = [
            keep(rustix::stdio::stdin())?,
            keep(rustix::stdio::stdout())?,
            keep(rustix::stdio::stderr())?,
        ];
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&words)?;
        rustix::stdio::dup2_stderr(&words)?;
        Ok(Quiet { kept, words })
    }

    /// The last line written.
    fn words(&self) -> String {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0u8; 4096];
        let n = self.words.read_at(&mut bytes, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(bytes.get(..n).unwrap_or_default()).into_owned();
        text.trim()
            .lines()
            .next_back()
            .unwrap_or_default()
            .to_owned()
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let [stdin, stdout, stderr] = &self.kept;
        // They were open a moment ago; there is nobody to tell if this fails.
        let _ = rustix::stdio::dup2_stdin(stdin);
        let _ = rustix::stdio::dup2_stdout(stdout);
        let _ = rustix::stdio::dup2_stderr(stderr);
    }
}
