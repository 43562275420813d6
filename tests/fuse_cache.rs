//! What is warm costs no request: the figures of a sealed mount, counted.

mod common;

use common::{Mounted, TempPool, need_fuse, need_program};
use cowfs::fuse::Request;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

fn fill(dir: &Path) {
    for d in 0..3 {
        fs::create_dir(dir.join(format!("d{d}"))).unwrap();
        for f in 0..40 {
            fs::write(dir.join(format!("d{d}/f{f}")), vec![d as u8; 5000 * f]).unwrap();
        }
        symlink("f1", dir.join(format!("d{d}/link"))).unwrap();
    }
}

/// Everything a program may look at: stat, open, read, readdir, readlink, names that are not there.
fn walk(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        sum += meta.len() + meta.nlink() + meta.mtime_nsec() as u64 % 7;
        if meta.is_dir() {
            sum += walk(&path);
        } else if meta.is_symlink() {
            sum += fs::read_link(&path).unwrap().as_os_str().len() as u64;
        } else {
            sum += fs::read(&path)
                .unwrap()
                .iter()
                .map(|b| u64::from(*b))
                .sum::<u64>();
        }
        assert!(!path.with_extension("not-there").exists());
    }
    sum
}

#[test]
fn a_warm_sealed_mount_sends_no_request() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let c = pool.container("c");
    let m = Mounted::new(c.clone(), "");
    fill(m.path());
    m.unmount();
    let sealed = Mounted::new(pool.clone_of(&c, "c@s", true), "");
    let first = walk(sealed.path());
    let cold = sealed.connection.counters().total();
    // The kernel's listing of a directory is whole after a second look at the latest.
    assert_eq!(walk(sealed.path()), first);
    let counters = sealed.connection.counters();
    let (before, list) = (counters.total(), counters.list());
    assert_eq!(walk(sealed.path()), first);
    assert_eq!(
        counters.total(),
        before,
        "from {list:?} to {:?}; cold {cold}",
        counters.list()
    );
    assert!(counters.get(Request::Open) <= 1 && counters.get(Request::Opendir) <= 1);
}

#[test]
fn a_warm_writable_mount_sends_hardly_any() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    fill(m.path());
    let first = walk(m.path());
    walk(m.path());
    walk(m.path());
    let counters = m.connection.counters();
    let before = |r| (r, counters.get(r));
    let still = [
        Request::Lookup,
        Request::Read,
        Request::Readdir,
        Request::Readdirplus,
        Request::Readlink,
        Request::Getxattr,
    ]
    .map(before);
    let asked = counters.get(Request::Getattr);
    assert_eq!(walk(m.path()), first);
    assert_eq!(still.map(|(r, _)| before(r)), still);
    // With writeback every close makes the kernel doubt st_blocks: one GETATTR for a file that was closed.
    assert!(
        counters.get(Request::Getattr) - asked <= 120,
        "{} for 120 files",
        counters.get(Request::Getattr) - asked
    );
}

#[test]
fn git_status_twice() {
    if !need_fuse() || !need_program("git") {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    fill(m.path());
    let git = |args: &[&str]| {
        let out = Command::new("git")
            .args([
                "-c",
                "user.name=a",
                "-c",
                "user.email=b",
                "-c",
                "safe.directory=*",
            ])
            .args(args)
            .current_dir(m.path())
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        out.stdout
    };
    // Older than the index: else git reads every file again to be sure, in the first second.
    let old = Command::new("sh")
        .args(["-c", "find . -type f -exec touch -d '1 hour ago' {} +"])
        .current_dir(m.path())
        .status()
        .unwrap();
    assert!(old.success());
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "all"]);
    git(&["fsck", "--strict"]);
    assert!(git(&["status", "--porcelain"]).is_empty());
    let before = m.connection.counters().total();
    let list = m.connection.counters().list();
    assert!(git(&["--no-optional-locks", "status", "--porcelain"]).is_empty());
    let cost = m.connection.counters().total() - before;
    let after: Vec<_> = m
        .connection
        .counters()
        .list()
        .into_iter()
        .filter(|x| !list.contains(x))
        .collect();
    let directories = 4 + walk_dirs(&m.join(".git"));
    assert!(
        cost <= directories,
        "{cost} requests for {directories} directories: {list:?} then {after:?}"
    );
}

fn walk_dirs(dir: &Path) -> u64 {
    let dirs = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.file_type().unwrap().is_dir());
    1 + dirs.map(|e| walk_dirs(&e.path())).sum::<u64>()
}
