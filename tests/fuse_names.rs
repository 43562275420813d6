//! Names, attributes and their caching, through a real mount.

mod common;

use common::{Mounted, TempPool, need_fuse, need_program};
use cowfs::fuse::Request;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().unwrap()
}

/// Runs a shell line as an ordinary user in this directory.
fn as_nobody(dir: &Path, line: &str) -> (bool, String) {
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "sh",
        "-c",
        line,
    ]);
    let out = command.current_dir(dir).output().unwrap();
    let text = [out.stdout, out.stderr].concat();
    (
        out.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn all_kinds_of_names() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    fs::create_dir(m.join("d")).unwrap();
    File::create_new(m.join("d/f")).unwrap();
    fs::hard_link(m.join("d/f"), m.join("d/g")).unwrap();
    symlink("some/where", m.join("l")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        m.join("p"),
        rustix::fs::FileType::Fifo,
        0o600.into(),
        0,
    )
    .unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        m.join("null"),
        rustix::fs::FileType::CharacterDevice,
        0o666.into(),
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    let f = fs::metadata(m.join("d/f")).unwrap();
    assert_eq!(
        (f.nlink(), f.ino()),
        (2, fs::metadata(m.join("d/g")).unwrap().ino())
    );
    assert_eq!(fs::read_link(m.join("l")).unwrap(), Path::new("some/where"));
    assert!(fs::metadata(m.join("p")).unwrap().file_type().is_fifo());
    let null = fs::metadata(m.join("null")).unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!(null.rdev(), rustix::fs::makedev(1, 3));
    fs::write(m.join("null"), "into the void").unwrap();

    assert_eq!(errno(File::create_new(m.join("d/f"))), libc::EEXIST);
    assert_eq!(errno(fs::remove_dir(m.join("d"))), libc::ENOTEMPTY);
    assert_eq!(
        errno(fs::create_dir(m.join("x".repeat(256)))),
        libc::ENAMETOOLONG
    );
    fs::create_dir(m.join("x".repeat(255))).unwrap();
    fs::rename(m.join("d/f"), m.join("h")).unwrap();
    fs::remove_file(m.join("d/g")).unwrap();
    fs::remove_dir(m.join("d")).unwrap();
    assert_eq!(fs::metadata(m.join("h")).unwrap().nlink(), 1);
    m.unmount();
    pool.check();
}

#[test]
fn rename_flags() {
    if !need_fuse() {
        return;
    }
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    fs::create_dir(m.join("a")).unwrap();
    File::create_new(m.join("b")).unwrap();
    let (a, b) = (m.join("a"), m.join("b"));
    assert_eq!(
        renameat_with(CWD, &a, CWD, &b, RenameFlags::NOREPLACE),
        Err(rustix::io::Errno::EXIST)
    );
    renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
    assert!(a.is_file() && b.is_dir());
    renameat_with(CWD, &a, CWD, m.join("c"), RenameFlags::WHITEOUT).unwrap();
    let white = fs::symlink_metadata(&a).unwrap();
    assert!(white.file_type().is_char_device() && white.rdev() == 0);
    m.unmount();
    pool.check();
}

#[test]
fn numbers_are_the_same_everywhere_and_last() {
    if !need_fuse() {
        return;
    }
    let mut pool = TempPool::new();
    let fs = pool.container("c");
    let id = fs.volume().id();
    let m = Mounted::new(fs, "");
    fs::create_dir_all(m.join("d/e")).unwrap();
    let numbers = |m: &Mounted| {
        // What getdents tells, "." and ".." included.
        let dir = rustix::fs::Dir::new(File::open(m.join("d")).unwrap()).unwrap();
        let mut all: Vec<(Vec<u8>, u64)> = dir
            .map(|e| e.unwrap())
            .map(|e| (e.file_name().to_bytes().to_vec(), e.ino()))
            .collect();
        all.sort();
        all
    };
    let before = numbers(&m);
    let ino = |p: &str| fs::metadata(m.join(p)).unwrap().ino();
    assert_eq!(
        before,
        [
            (b".".to_vec(), ino("d")),
            (b"..".to_vec(), ino(".")),
            (b"e".to_vec(), ino("d/e"))
        ]
    );
    assert_eq!(ino("."), 1);
    m.unmount();
    pool.reopen();
    let again = Mounted::new(
        cowfs::fs::Fs::open(pool.pool.volume(id).unwrap()).unwrap(),
        "",
    );
    assert_eq!(numbers(&again), before);
}

#[test]
fn a_large_directory_listed_while_it_changes() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    for n in 0..3000 {
        File::create_new(m.join(format!("file-with-a-rather-long-name-{n}"))).unwrap();
    }
    let mut seen = std::collections::HashSet::new();
    for (n, entry) in fs::read_dir(m.path()).unwrap().enumerate() {
        let name = entry.unwrap().file_name();
        if n % 3 == 0 {
            fs::remove_file(m.path().join(&name)).unwrap();
            File::create_new(m.join(format!("new-{n}"))).unwrap();
        }
        assert!(seen.insert(name), "twice");
    }
    let old = seen
        .iter()
        .filter(|n| n.as_bytes().starts_with(b"file"))
        .count();
    assert_eq!(
        old, 3000,
        "none of those there all the time, or taken after being listed, is missing"
    );
    assert_eq!(fs::read_dir(m.path()).unwrap().count(), 3000);
    m.unmount();
    pool.check();
}

#[test]
fn what_is_not_there_is_asked_for_once() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let c = pool.container("c");
    for options in ["rw", "ro"] {
        let m = Mounted::new(c.clone(), options);
        for _ in 0..5 {
            assert_eq!(errno(fs::metadata(m.join("nothing"))), libc::ENOENT);
        }
        assert_eq!(m.connection.counters().get(Request::Lookup), 1, "{options}");
        if options == "rw" {
            // It is there as soon as it is made; gone as soon as it is removed.
            File::create_new(m.join("nothing")).unwrap();
            fs::metadata(m.join("nothing")).unwrap();
            fs::remove_file(m.join("nothing")).unwrap();
            assert_eq!(errno(fs::metadata(m.join("nothing"))), libc::ENOENT);
        }
        m.unmount();
    }
}

#[test]
fn making_a_file_is_one_request() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    // The first answers teach the kernel that there is no CREATE, OPEN and FLUSH.
    File::create_new(m.join("first")).unwrap();
    let counters = m.connection.counters();
    let before = counters.list();
    for n in 0..10 {
        File::create_new(m.join(format!("f{n}"))).unwrap();
    }
    let grown: Vec<_> = counters
        .list()
        .into_iter()
        .filter(|(name, n)| {
            before
                .iter()
                .find(|b| b.0 == *name)
                .is_none_or(|b| b.1 != *n)
        })
        .collect();
    // A LOOKUP finds no name, MKNOD makes it. The directory's changed times may be asked for.
    assert!(
        grown
            .iter()
            .all(|(name, _)| ["lookup", "mknod", "getattr"].contains(name)),
        "{grown:?}"
    );
    assert_eq!(counters.get(Request::Mknod), 11);
    for once in [Request::Create, Request::Open, Request::Flush] {
        assert!(counters.get(once) <= 1, "{once:?}");
    }
    assert_eq!(counters.get(Request::Release), 0);
}

#[test]
fn a_new_file_that_its_maker_may_not_write_again() {
    if !need_fuse() || !need_program("setpriv") || !need_program("perl") {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    fs::set_permissions(m.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    // As git makes its objects: open for writing, mode 0444.
    for n in 0..2 {
        let line = format!(
            "perl -e 'use Fcntl; sysopen(F, \"o{n}\", O_CREAT|O_EXCL|O_RDWR, 0444) or die $!; close F or die $!'"
        );
        let (good, text) = as_nobody(m.path(), &line);
        assert!(good, "{text}");
        let made = fs::metadata(m.join(format!("o{n}"))).unwrap();
        assert_eq!(
            (made.mode() & 0o7777, made.uid(), made.gid()),
            (0o444, 65534, 65534)
        );
    }
}

#[test]
fn permissions_and_identity() {
    if !need_fuse() || !need_program("setpriv") {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    File::create_new(m.join("secret")).unwrap();
    fs::set_permissions(m.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir(m.join("pub")).unwrap();
    fs::set_permissions(m.join("pub"), fs::Permissions::from_mode(0o1777)).unwrap();
    // Others may enter (allow_other), modes decide.
    assert!(!as_nobody(m.path(), "cat secret").0);
    assert!(!as_nobody(m.path(), "mkdir x").0);
    assert!(!as_nobody(m.path(), "chown 65534 pub").0);
    let (good, text) = as_nobody(
        &m.join("pub"),
        "umask 027 && mkdir mine && touch mine/f && stat -c '%u %g %a' mine mine/f",
    );
    assert!(
        good && text == "65534 65534 750\n65534 65534 640\n",
        "{text}"
    );
    // setgid directories hand on their group.
    fs::create_dir(m.join("team")).unwrap();
    std::os::unix::fs::chown(m.join("team"), Some(65534), Some(1234)).unwrap();
    fs::set_permissions(m.join("team"), fs::Permissions::from_mode(0o2775)).unwrap();
    let (good, text) = as_nobody(
        &m.join("team"),
        "umask 022; mkdir sub; touch f; stat -c '%g %a' sub f",
    );
    assert!(good && text == "1234 2755\n1234 644\n", "{text}");
}

#[test]
fn squash_shows_everything_as_one_users() {
    if !need_fuse() || !need_program("setpriv") {
        return;
    }
    let pool = TempPool::new();
    let c = pool.container("c");
    let plain = Mounted::new(c.clone(), "");
    fs::create_dir(plain.join("root")).unwrap();
    File::create_new(plain.join("root/f")).unwrap();
    std::os::unix::fs::chown(plain.join("root/f"), Some(77), Some(88)).unwrap();
    plain.unmount();
    let m = Mounted::new(c.clone(), "uid=65534,gid=65534");
    let (good, text) = as_nobody(
        m.path(),
        "stat -c '%u %g' root/f && mkdir root/new && touch root/new/f && chown 65534 root/f && stat -c %u root/new/f",
    );
    assert!(good && text == "65534 65534\n65534\n", "{text}");
    m.unmount();
    let plain = Mounted::new(c, "");
    let owner = |p: &str| {
        fs::metadata(plain.join(p))
            .map(|m| (m.uid(), m.gid()))
            .unwrap()
    };
    assert_eq!(owner("root/f"), (77, 88), "kept as it was");
    assert_eq!(owner("root/new/f"), (0, 0), "the image's root");
}

fn xattr(path: &Path, name: &str) -> Result<Vec<u8>, rustix::io::Errno> {
    let mut value = vec![0; 70_000];
    let n = rustix::fs::lgetxattr(path, name, &mut value)?;
    value.truncate(n);
    Ok(value)
}

#[test]
fn extended_attributes() {
    if !need_fuse() {
        return;
    }
    use rustix::fs::{XattrFlags, lgetxattr, listxattr, lremovexattr, lsetxattr};
    use rustix::io::Errno;
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    let f = m.join("f");
    File::create_new(&f).unwrap();
    assert_eq!(xattr(&f, "user.a"), Err(Errno::NODATA));
    lsetxattr(&f, "user.a", b"one", XattrFlags::CREATE).unwrap();
    assert_eq!(
        lsetxattr(&f, "user.a", b"two", XattrFlags::CREATE),
        Err(Errno::EXIST)
    );
    assert_eq!(
        lsetxattr(&f, "user.b", b"two", XattrFlags::REPLACE),
        Err(Errno::NODATA)
    );
    lsetxattr(&f, "trusted.t", b"", XattrFlags::empty()).unwrap();
    lsetxattr(&f, "security.x", &[7; 60_000], XattrFlags::empty()).unwrap();
    assert_eq!(xattr(&f, "user.a"), Ok(b"one".to_vec()));
    assert_eq!(xattr(&f, "trusted.t"), Ok(vec![]));
    assert_eq!(xattr(&f, "security.x"), Ok(vec![7; 60_000]));
    // Asking for the size, and with too little room.
    assert_eq!(rustix::fs::lgetxattr_query(&f, "user.a"), Ok(3));
    assert_eq!(lgetxattr(&f, "user.a", &mut [0u8; 2]), Err(Errno::RANGE));
    let mut names = vec![0; 1000];
    assert_eq!(listxattr(&f, &mut [0u8; 3]), Err(Errno::RANGE));
    let n = listxattr(&f, &mut names).unwrap();
    assert_eq!(rustix::fs::listxattr_query(&f), Ok(n));
    let mut names: Vec<&[u8]> = names[..n]
        .split(|b| *b == 0)
        .filter(|n| !n.is_empty())
        .collect();
    names.sort();
    assert_eq!(names, [&b"security.x"[..], b"trusted.t", b"user.a"]);
    lremovexattr(&f, "user.a").unwrap();
    assert_eq!(lremovexattr(&f, "user.a"), Err(Errno::NODATA));
    assert_eq!(xattr(&f, "user.a"), Err(Errno::NODATA));
    m.unmount();
    pool.check();
}

/// struct posix_acl_xattr: version 2, then (tag, perm, id) each.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut out = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        out.extend(tag.to_le_bytes());
        out.extend(perm.to_le_bytes());
        out.extend(id.to_le_bytes());
    }
    out
}

#[test]
fn access_control_lists() {
    if !need_fuse() || !need_program("setpriv") {
        return;
    }
    use rustix::fs::{XattrFlags, lsetxattr};
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    const NONE: u32 = u32::MAX;
    fs::create_dir(m.join("d")).unwrap();
    fs::set_permissions(m.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(!as_nobody(m.path(), "ls d").0);
    // user::rwx user:65534:rwx group::--- mask::rwx other::---
    let list = acl(&[
        (1, 7, NONE),
        (2, 7, 65534),
        (4, 0, NONE),
        (0x10, 7, NONE),
        (0x20, 0, NONE),
    ]);
    lsetxattr(
        m.join("d"),
        "system.posix_acl_access",
        &list,
        XattrFlags::empty(),
    )
    .unwrap();
    lsetxattr(
        m.join("d"),
        "system.posix_acl_default",
        &list,
        XattrFlags::empty(),
    )
    .unwrap();
    assert_eq!(
        fs::metadata(m.join("d")).unwrap().mode() & 0o777,
        0o770,
        "the mask shows as the group's"
    );
    let (good, text) = as_nobody(
        m.path(),
        "ls d && umask 077 && touch d/f && mkdir d/e && stat -c %a d/f d/e",
    );
    // With a default list the umask counts for nothing.
    assert!(good && text == "660\n770\n", "{text}");
    assert_eq!(
        xattr(&m.join("d/e"), "system.posix_acl_default").unwrap(),
        list
    );
    // chmod changes the mask.
    fs::set_permissions(m.join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(!as_nobody(m.path(), "ls d").0);
    m.unmount();
    pool.check();
}

#[test]
fn an_access_list_set_by_an_outsider_takes_setgid() {
    if !need_fuse() || !need_program("setpriv") || !need_program("setfacl") {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    File::create_new(m.join("f")).unwrap();
    std::os::unix::fs::chown(m.join("f"), Some(65534), Some(1234)).unwrap();
    fs::set_permissions(m.join("f"), fs::Permissions::from_mode(0o2755)).unwrap();
    let (good, text) = as_nobody(m.path(), "setfacl -m u:1:r f");
    assert!(good, "{text}");
    assert_eq!(fs::metadata(m.join("f")).unwrap().mode() & 0o7000, 0);
}

#[test]
fn deleted_but_open() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let fs_ = pool.container("c");
    let m = Mounted::new(fs_.clone(), "");
    let f = File::create_new(m.join("f")).unwrap();
    let ino = f.metadata().unwrap().ino();
    fs::remove_file(m.join("f")).unwrap();
    f.set_permissions(fs::Permissions::from_mode(0o640))
        .unwrap();
    assert_eq!(
        (
            f.metadata().unwrap().nlink(),
            f.metadata().unwrap().mode() & 0o777
        ),
        (0, 0o640)
    );
    assert_eq!(fs_.attr(ino).unwrap().nlink, 0, "still there");
    drop(f);
    // FORGET comes when the last user closes; the space is given back by a worker.
    for _ in 0..500 {
        if fs_.attr(ino).is_err() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(
        fs_.attr(ino).unwrap_err().errno(),
        libc::ENOENT,
        "forgotten and reaped"
    );
    // A directory that is somebody's working directory too.
    fs::create_dir(m.join("d")).unwrap();
    let d = File::open(m.join("d")).unwrap();
    let ino = d.metadata().unwrap().ino();
    fs::remove_dir(m.join("d")).unwrap();
    assert_eq!(rustix::fs::Dir::read_from(&d).unwrap().count(), 0);
    assert_eq!(
        errno(File::create_new(format!(
            "/proc/self/fd/{}/x",
            std::os::fd::AsRawFd::as_raw_fd(&d)
        ))),
        libc::ENOENT
    );
    assert!(fs_.attr(ino).is_ok());
    // Open at the end of the mount: nobody forgets it.
    drop(d);
    m.unmount();
    pool.check();
}

#[test]
fn times() {
    if !need_fuse() {
        return;
    }
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    let f = m.join("f");
    File::create_new(&f).unwrap();
    for (sec, nsec) in [
        (0, 1),
        (-1, 999_999_999),
        (-2_000_000_000, 5),
        (10_000_000_000, 123_456_789),
    ] {
        let t = Timespec {
            tv_sec: sec,
            tv_nsec: nsec,
        };
        utimensat(
            CWD,
            &f,
            &Timestamps {
                last_access: t,
                last_modification: t,
            },
            AtFlags::empty(),
        )
        .unwrap();
        let s = fs::metadata(&f).unwrap();
        assert_eq!((s.mtime(), s.mtime_nsec()), (sec, nsec));
        assert_eq!((s.atime(), s.atime_nsec()), (sec, nsec));
    }
    // Kept, not only cached.
    let fs_ = m.connection.fs().clone();
    let ino = fs::metadata(&f).unwrap().ino();
    m.unmount();
    assert_eq!(
        fs_.attr(ino).unwrap().mtime,
        cowfs::base::Time {
            sec: 10_000_000_000,
            nsec: 123_456_789
        }
    );
}

#[test]
fn a_read_only_mount_changes_nothing() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let c = pool.container("c");
    let m = Mounted::new(c.clone(), "");
    fs::create_dir(m.join("d")).unwrap();
    m.unmount();
    let sealed = pool.clone_of(&c, "c@s", true);
    for (fs_, options) in [(c.clone(), "ro"), (sealed, "")] {
        let m = Mounted::new(fs_, options);
        assert_eq!(m.connection.sealed(), options.is_empty());
        assert_eq!(errno(File::create_new(m.join("f"))), libc::EROFS);
        assert_eq!(errno(fs::remove_dir(m.join("d"))), libc::EROFS);
        assert_eq!(
            errno(fs::set_permissions(
                m.join("d"),
                fs::Permissions::from_mode(0o777)
            )),
            libc::EROFS
        );
        assert_eq!(fs::read_dir(m.path()).unwrap().count(), 1);
    }
    // Made writable later, it holds and gives back as any other.
    let m = Mounted::new(c.clone(), "ro");
    rustix::mount::mount_remount(m.path(), rustix::mount::MountFlags::empty(), c"").unwrap();
    fs::write(m.join("f"), "written").unwrap();
    let f = File::open(m.join("f")).unwrap();
    f.sync_all().unwrap();
    let ino = f.metadata().unwrap().ino();
    fs::remove_file(m.join("f")).unwrap();
    drop(f);
    m.unmount();
    assert_eq!(c.attr(ino).unwrap_err().errno(), libc::ENOENT);
}

#[test]
fn changes_from_outside_are_seen() {
    if !need_fuse() {
        return;
    }
    use cowfs::fs::{Cred, SetAttr};
    let pool = TempPool::new();
    let c = pool.container("c");
    let m = Mounted::new(c.clone(), "");
    assert!(!m.join("made").exists());
    assert_eq!(fs::read_dir(m.path()).unwrap().count(), 0);
    let made = c
        .mknod(1, b"made", libc::S_IFREG | 0o644, 0, &Cred::ROOT)
        .unwrap();
    assert!(
        !m.join("made").exists(),
        "the kernel remembers that it is not there"
    );
    m.connection.entry_changed(1, b"made").unwrap();
    assert!(m.join("made").exists());
    assert_eq!(fs::read_dir(m.path()).unwrap().count(), 1);
    c.set_attr(
        made.ino,
        &SetAttr {
            mode: Some(0o600),
            ..SetAttr::default()
        },
        &Cred::ROOT,
    )
    .unwrap();
    m.connection.inode_changed(made.ino).unwrap();
    assert_eq!(fs::metadata(m.join("made")).unwrap().mode() & 0o777, 0o600);
    // Taken away from under somebody who has it open.
    let held = File::open(m.join("made")).unwrap();
    let gone = c.unlink(1, b"made").unwrap();
    m.connection.unlinked(&gone);
    m.connection.entry_changed(1, b"made").unwrap();
    m.connection.inode_changed(gone.ino).unwrap();
    assert!(!m.join("made").exists());
    assert_eq!(held.metadata().unwrap().nlink(), 0);
    drop(held);
    m.unmount();
    assert_eq!(
        c.attr(gone.ino).unwrap_err().errno(),
        libc::ENOENT,
        "reaped"
    );
    pool.check();
}

#[test]
fn the_ends_of_time() {
    if !need_fuse() {
        return;
    }
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    let f = m.join("f");
    File::create_new(&f).unwrap();
    for (sec, nsec, shown) in [
        (i64::MIN, 5, 0),
        (i64::MIN + 1, 999_999_999, 999_999_999),
        (i64::MAX, 999_999_999, 0),
    ] {
        let t = Timespec {
            tv_sec: sec,
            tv_nsec: nsec,
        };
        let both = Timestamps {
            last_access: t,
            last_modification: t,
        };
        utimensat(CWD, &f, &both, AtFlags::empty()).unwrap();
        let s = fs::metadata(&f).unwrap();
        assert_eq!(
            (s.mtime(), s.mtime_nsec()),
            (sec, shown),
            "the kernel cuts the very ends"
        );
    }
}

#[test]
fn what_the_transport_does_not_know() {
    if !need_fuse() {
        return;
    }
    use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, open, statx};
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    let unnamed = open(m.path(), OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR);
    assert_eq!(unnamed.unwrap_err(), rustix::io::Errno::OPNOTSUPP);
    File::create_new(m.join("f")).unwrap();
    let stat = statx(
        CWD,
        m.join("f"),
        AtFlags::empty(),
        StatxFlags::BTIME | StatxFlags::BASIC_STATS,
    )
    .unwrap();
    assert_eq!(stat.stx_mask & StatxFlags::BTIME.bits(), 0);
    assert_eq!(stat.stx_nlink, 1);
    // A file is always ready.
    let f = File::open(m.join("f")).unwrap();
    let mut fds = [rustix::event::PollFd::new(&f, rustix::event::PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut fds, None), Ok(1));
    drop(f);
    m.unmount();
}
