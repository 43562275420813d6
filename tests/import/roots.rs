//! Root file systems without a configuration: tars and directories.

use crate::support::*;
use cowfs::base::ExitKind;
use cowfs::image::{self, Source, import};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

fn root_tar() -> Vec<u8> {
    Tar::new()
        .dir("./")
        .dir("./etc")
        .file("./etc/passwd", b"root")
        .link("./etc/other", "./etc/passwd")
        .bytes()
}

#[test]
fn a_root_tar_in_every_compression_and_from_a_pipe() {
    let pool = pool();
    let tar = root_tar();
    let mut first = None;
    for (n, how) in PACKINGS.iter().enumerate() {
        for piped in [false, true] {
            let bytes = packed(&tar, *how);
            let source = if piped {
                pipe(bytes)
            } else {
                source(&bytes, "root.tar")
            };
            let done = import(&pool, source, &options(&format!("r{n}{piped}")), &()).unwrap();
            let found = tree(&open(&pool, done.image.id));
            assert_eq!(*first.get_or_insert(found.clone()), found);
            assert_eq!(layers(&pool), 1, "the same content is the same layer");
            let config = image::config(&pool, done.image.id).unwrap();
            assert_eq!(
                config.rootfs.diff_ids,
                [image::Digest::of(&tar).to_string()]
            );
            assert_eq!(config.os, "linux");
            assert!(config.config.env[0].starts_with("PATH="));
            assert!(config.created.unwrap().ends_with('Z'));
        }
    }
    let again = import_bytes(&pool, &tar, "r0false").unwrap();
    assert!(again.existed);
    assert_clean(&pool);
}

/// A tree with everything an ordinary user can make (and devices, if root).
pub fn make_tree(dir: &Path) {
    std::fs::create_dir_all(dir.join("etc/deep")).unwrap();
    std::fs::write(dir.join("etc/passwd"), "root").unwrap();
    std::fs::hard_link(dir.join("etc/passwd"), dir.join("etc/deep/linked")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.join("link")).unwrap();
    std::fs::write(dir.join("suid"), random_file(100_000)).unwrap();
    std::fs::set_permissions(dir.join("suid"), std::fs::Permissions::from_mode(0o4711)).unwrap();
    std::fs::set_permissions(
        dir.join("etc/deep"),
        std::fs::Permissions::from_mode(0o1770),
    )
    .unwrap();
    let sparse = std::fs::File::create(dir.join("sparse")).unwrap();
    sparse.set_len(10 << 30).unwrap();
    sparse.write_all_at(b"data", 5 << 30).unwrap();
    assert!(
        Command::new("mkfifo")
            .arg(dir.join("fifo"))
            .status()
            .unwrap()
            .success()
    );
    let _socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    std::fs::File::open(dir.join("etc"))
        .unwrap()
        .set_modified(std::time::UNIX_EPOCH + std::time::Duration::new(1_000, 123_456_789))
        .unwrap();
}

#[test]
fn a_directory_with_everything_in_it() {
    let pool = pool();
    let dir = tempfile::tempdir().unwrap();
    make_tree(dir.path());
    let root = rustix::process::geteuid().is_root();
    if root {
        assert!(
            Command::new("mknod")
                .arg(dir.path().join("null"))
                .args(["c", "1", "3"])
                .status()
                .unwrap()
                .success()
        );
    }
    let path = dir.path().join("suid");
    let noted = rustix::fs::setxattr(
        &path,
        "user.note",
        b"hello",
        rustix::fs::XattrFlags::empty(),
    )
    .is_ok();
    let done = import(
        &pool,
        Source::open(dir.path()).unwrap(),
        &options("dir"),
        &(),
    )
    .unwrap();
    let fs = open(&pool, done.image.id);
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let mut names: Vec<String> = Vec::new();
    let mut ahead = vec![dir.path().to_path_buf()];
    while let Some(dir_path) = ahead.pop() {
        for entry in std::fs::read_dir(&dir_path).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = format!("/{}", path.strip_prefix(dir.path()).unwrap().display());
            if name == "/socket" {
                continue;
            }
            let attr = fs.attr(ino(&fs, &name)).unwrap();
            assert_eq!(
                (attr.mode, attr.uid, attr.gid),
                (meta.mode(), uid, gid),
                "{name}"
            );
            assert_eq!(
                (attr.mtime.sec, i64::from(attr.mtime.nsec)),
                (meta.mtime(), meta.mtime_nsec()),
                "{name}"
            );
            if meta.is_file() {
                assert_eq!(
                    (attr.size, u64::from(attr.nlink)),
                    (meta.size(), meta.nlink()),
                    "{name}"
                );
            }
            if meta.is_dir() {
                ahead.push(path);
            }
            names.push(name);
        }
    }
    names.sort();
    let mut found: Vec<_> = Vec::new();
    for name in listing(&fs) {
        found.push(name);
    }
    assert_eq!(found, names);
    assert_eq!(content(&fs, ino(&fs, "suid")), random_file(100_000));
    assert_eq!(ino(&fs, "etc/passwd"), ino(&fs, "etc/deep/linked"));
    if noted {
        assert_eq!(fs.xattr(ino(&fs, "suid"), b"user.note").unwrap(), b"hello");
    }
    let sparse = ino(&fs, "sparse");
    assert!(fs.attr(sparse).unwrap().blocks < 10_000);
    let mut bytes = [0; 4];
    fs.read(sparse, 5 << 30, &mut bytes).unwrap();
    assert_eq!(&bytes, b"data");
    if root {
        assert_eq!(fs.attr(ino(&fs, "null")).unwrap().rdev, 0x103);
    }

    let again = import(
        &pool,
        Source::open(dir.path()).unwrap(),
        &options("other"),
        &(),
    )
    .unwrap();
    assert_eq!(
        (again.new_layers, layers(&pool)),
        (0, 1),
        "the same content is the same layer"
    );
    std::fs::write(dir.path().join("new"), "").unwrap();
    let changed = import(
        &pool,
        Source::open(dir.path()).unwrap(),
        &options("changed"),
        &(),
    )
    .unwrap();
    assert_eq!(changed.new_layers, 1);
    assert_clean(&pool);
}

/// Names only: a ten-gigabyte hole need not be read.
fn listing(fs: &cowfs::fs::Fs) -> Vec<String> {
    let mut found = Vec::new();
    let mut ahead = vec![(1, String::new())];
    while let Some((dir, path)) = ahead.pop() {
        fs.readdir(dir, 0, false, &mut |e, _| {
            if e.name != b"." && e.name != b".." {
                let path = format!("{path}/{}", String::from_utf8_lossy(&e.name));
                if e.kind == libc::S_IFDIR {
                    ahead.push((e.ino, path.clone()));
                }
                found.push(path);
            }
            true
        })
        .unwrap();
    }
    found.sort();
    found
}

#[test]
fn what_may_not_be_read_is_named() {
    if rustix::process::geteuid().is_root() {
        // Root reads everything: ask again as somebody else, in a process of its own.
        let exe = std::env::current_exe().unwrap();
        let copy = tempfile::tempdir().unwrap();
        std::fs::set_permissions(copy.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let program = copy.path().join("test");
        std::fs::copy(exe, &program).unwrap();
        let status = Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(["--exact", "roots::what_may_not_be_read_is_named"])
            .env("TMPDIR", "/tmp")
            .current_dir("/")
            .output()
            .unwrap();
        assert!(
            status.status.success(),
            "{}",
            String::from_utf8_lossy(&status.stdout)
        );
        return;
    }
    let pool = pool();
    let dir = tempfile::tempdir().unwrap();
    make_tree(dir.path());
    let secret = dir.path().join("etc/deep/secret");
    std::fs::write(&secret, "x").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o0)).unwrap();
    let error = import(&pool, Source::open(dir.path()).unwrap(), &options("x"), &()).unwrap_err();
    assert_eq!(error.exit_kind(), ExitKind::Denied);
    assert!(
        error.to_string().contains("etc/deep/secret") && error.to_string().contains("run as root"),
        "{error}"
    );
    assert_eq!(names(&pool), Vec::<String>::new());
    std::fs::remove_file(&secret).unwrap();
    std::fs::set_permissions(
        dir.path().join("etc/deep"),
        std::fs::Permissions::from_mode(0o0),
    )
    .unwrap();
    let error = import(&pool, Source::open(dir.path()).unwrap(), &options("x"), &()).unwrap_err();
    assert!(error.to_string().contains("etc/deep"), "{error}");
    std::fs::set_permissions(
        dir.path().join("etc/deep"),
        std::fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    import(&pool, Source::open(dir.path()).unwrap(), &options("x"), &()).unwrap();
    assert_clean(&pool);
}
