use crate::support::*;
use cowfs::base::ROOT_INO;
use cowfs::fs::{Cred, Fs, SetAttr, XattrSet};

fn user(uid: u32, gid: u32, umask: u32) -> Cred {
    Cred { uid, gid, umask }
}

#[test]
fn the_root() {
    let w = world();
    let a = w.fs.attr(ROOT_INO).unwrap();
    assert_eq!((a.mode, a.nlink, a.size), (DIR | 0o755, 2, 0));
    assert_eq!(w.fs.parent(ROOT_INO).unwrap(), ROOT_INO);
    assert_eq!(w.fs.lookup(ROOT_INO, b"..").unwrap().ino, ROOT_INO);
    errno(w.fs.attr(0), libc::ENOENT);
    errno(w.fs.attr(99), libc::ENOENT);
    assert!(Fs::format(w.fs.volume(), 0o755).is_err(), "formatted twice");
    assert!(
        std::sync::Arc::ptr_eq(&w.fs, &Fs::open(w.fs.volume().clone()).unwrap()),
        "one Fs a volume"
    );
    w.check();
}

#[test]
fn all_types() {
    let w = world();
    let cred = user(5, 6, 0o027);
    let table = [
        (0, 0o666, libc::S_IFREG | 0o640, 9, 0),
        (libc::S_IFREG, 0o6777, libc::S_IFREG | 0o6750, 9, 0),
        (libc::S_IFIFO, 0o666, libc::S_IFIFO | 0o640, 9, 0),
        (libc::S_IFSOCK, 0o777, libc::S_IFSOCK | 0o750, 9, 0),
        (libc::S_IFCHR, 0o666, libc::S_IFCHR | 0o640, 0x1234, 0x1234),
        (
            libc::S_IFBLK,
            0o666,
            libc::S_IFBLK | 0o640,
            0x0fff_ffff,
            0x0fff_ffff,
        ),
    ];
    for (i, (kind, mode, expect, rdev, kept)) in table.into_iter().enumerate() {
        let name = format!("n{i}");
        let made =
            w.fs.mknod(ROOT_INO, name.as_bytes(), kind | mode, rdev, &cred)
                .unwrap();
        assert_eq!((made.mode, made.rdev), (expect, kept), "{i}");
        assert_eq!(
            (made.uid, made.gid, made.nlink, made.size, made.blocks),
            (5, 6, 1, 0, 0)
        );
        assert_eq!(w.fs.lookup(ROOT_INO, name.as_bytes()).unwrap(), made);
        assert_eq!(
            (made.atime, made.mtime, made.ctime),
            (made.btime, made.btime, made.btime)
        );
    }
    errno(
        w.fs.mknod(ROOT_INO, b"d", DIR | 0o755, 0, &cred),
        libc::EPERM,
    );
    errno(
        w.fs.mknod(ROOT_INO, b"d", libc::S_IFLNK | 0o777, 0, &cred),
        libc::EINVAL,
    );
    errno(
        w.fs.mknod(ROOT_INO, b"d", 0o030_000, 0, &cred),
        libc::EINVAL,
    );
    let d = w.fs.mkdir(ROOT_INO, b"d", 0o7777, &cred).unwrap();
    assert_eq!((d.mode, d.nlink), (DIR | 0o1750, 2));
    assert_eq!(w.fs.attr(ROOT_INO).unwrap().nlink, 3);
    consistent(&w.fs);
    w.check();
}

#[test]
fn errors() {
    let w = world();
    let f = file(&w.fs, "f");
    for make in [
        &|dir, name: &[u8]| w.fs.mknod(dir, name, REG | 0o644, 0, &ROOT) as cowfs::base::Result<_>,
        &|dir, name: &[u8]| w.fs.mkdir(dir, name, 0o755, &ROOT),
        &|dir, name: &[u8]| w.fs.symlink(dir, name, b"t", &ROOT),
        &|dir, name: &[u8]| w.fs.link(f, dir, name),
    ] as [&dyn Fn(u64, &[u8]) -> cowfs::base::Result<cowfs::fs::Attr>; 4]
    {
        errno(make(ROOT_INO, b"f"), libc::EEXIST);
        errno(make(ROOT_INO, b"."), libc::EEXIST);
        errno(make(ROOT_INO, b".."), libc::EEXIST);
        errno(make(ROOT_INO, b""), libc::ENOENT);
        errno(make(ROOT_INO, b"a/b"), libc::EINVAL);
        errno(make(ROOT_INO, b"a\0"), libc::EINVAL);
        errno(make(ROOT_INO, &[b'x'; 256]), libc::ENAMETOOLONG);
        errno(make(f, b"x"), libc::ENOTDIR);
        errno(make(77, b"x"), libc::ENOENT);
    }
    errno(w.fs.lookup(ROOT_INO, &[b'x'; 256]), libc::ENAMETOOLONG);
    errno(w.fs.lookup(ROOT_INO, b"x"), libc::ENOENT);
    errno(w.fs.lookup(f, b"x"), libc::ENOTDIR);
    assert_eq!(w.fs.attr(ROOT_INO).unwrap().size, 1, "nothing changed");
    assert_eq!(w.inodes(), 2);
    // Names are bytes.
    let name: Vec<u8> = (1..=255).filter(|b| *b != b'/').collect();
    let made = w.fs.mknod(ROOT_INO, &name, REG | 0o644, 0, &ROOT).unwrap();
    assert_eq!(w.fs.lookup(ROOT_INO, &name).unwrap().ino, made.ino);
}

#[test]
fn a_removed_directory_takes_no_names() {
    let w = world();
    let d = mkdir(&w.fs, "d");
    let f = file(&w.fs, "f");
    rmdir(&w.fs, "d");
    errno(w.fs.mknod(d, b"x", REG | 0o644, 0, &ROOT), libc::ENOENT);
    errno(w.fs.mkdir(d, b"x", 0o755, &ROOT), libc::ENOENT);
    errno(w.fs.link(f, d, b"x"), libc::ENOENT);
    errno(
        w.fs.rename(ROOT_INO, b"f", d, b"f", Default::default()),
        libc::ENOENT,
    );
    errno(w.fs.parent(d), libc::ENOENT);
    assert_eq!(w.fs.attr(d).unwrap().nlink, 0, "usable until forgotten");
}

#[test]
fn times_of_the_parent() {
    let w = world();
    let d = mkdir(&w.fs, "d");
    let before = w.fs.attr(d).unwrap();
    let t = tick();
    let f = w.fs.mknod(d, b"f", REG | 0o644, 0, &ROOT).unwrap();
    let after = w.fs.attr(d).unwrap();
    assert_eq!(later(&after, t), (false, true, true));
    assert_eq!((after.atime, after.btime), (before.atime, before.btime));
    assert_eq!((f.mtime, f.ctime), (after.mtime, after.ctime));
    let t = tick();
    errno(w.fs.mknod(d, b"f", REG | 0o644, 0, &ROOT), libc::EEXIST);
    assert_eq!(later(&w.fs.attr(d).unwrap(), t), (false, false, false));
}

#[test]
fn symbolic_links() {
    let w = world();
    let a =
        w.fs.symlink(ROOT_INO, b"s", b"../x", &user(1, 2, 0o777))
            .unwrap();
    assert_eq!(
        (a.mode, a.size, a.blocks, a.uid),
        (libc::S_IFLNK | 0o777, 4, 0, 1)
    );
    assert_eq!(w.fs.readlink(a.ino).unwrap(), b"../x");
    errno(w.fs.readlink(ROOT_INO), libc::EINVAL);
    errno(w.fs.readlink(88), libc::ENOENT);
    let longest = vec![b'y'; 4095];
    let l = w.fs.symlink(ROOT_INO, b"l", &longest, &ROOT).unwrap();
    assert_eq!(w.fs.readlink(l.ino).unwrap(), longest);
    errno(
        w.fs.symlink(ROOT_INO, b"m", &[b'y'; 4096], &ROOT),
        libc::ENAMETOOLONG,
    );
    errno(w.fs.symlink(ROOT_INO, b"m", b"", &ROOT), libc::ENOENT);
    errno(
        w.fs.set_attr(
            l.ino,
            &SetAttr {
                mode: Some(0o600),
                ..SetAttr::default()
            },
            &ROOT,
        ),
        libc::EOPNOTSUPP,
    );
    unlink(&w.fs, "l");
    w.fs.forget(l.ino).unwrap();
    errno(w.fs.attr(l.ino), libc::ENOENT);
    w.check();
}

#[test]
fn setgid_directories() {
    let w = world();
    let d = mkdir(&w.fs, "d");
    let set = SetAttr {
        mode: Some(0o2775),
        gid: Some(50),
        ..SetAttr::default()
    };
    w.fs.set_attr(d, &set, &ROOT).unwrap();
    let cred = user(1, 2, 0);
    let sub = w.fs.mkdir(d, b"sub", 0o755, &cred).unwrap();
    assert_eq!((sub.mode, sub.uid, sub.gid), (DIR | 0o2755, 1, 50));
    let f = w.fs.mknod(d, b"f", REG | 0o644, 0, &cred).unwrap();
    assert_eq!((f.mode, f.gid), (REG | 0o644, 50));
    assert_eq!(w.fs.symlink(d, b"s", b"x", &cred).unwrap().gid, 50);
    assert_eq!(w.fs.tmpfile(d, 0o600, &cred).unwrap().gid, 50);
    assert_eq!(
        w.fs.mkdir(sub.ino, b"deeper", 0o700, &cred).unwrap().mode,
        DIR | 0o2700
    );
}

fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut v = 2u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        v.extend_from_slice(&tag.to_le_bytes());
        v.extend_from_slice(&perm.to_le_bytes());
        v.extend_from_slice(&id.to_le_bytes());
    }
    v
}

#[test]
fn default_acls() {
    let w = world();
    let (access, default) = (b"system.posix_acl_access", b"system.posix_acl_default");
    let no = u32::MAX;
    let d = mkdir(&w.fs, "d");
    let value = acl(&[(1, 7, no), (2, 6, 5), (4, 5, no), (16, 7, no), (32, 0, no)]);
    w.fs.set_xattr(d, default, &value, XattrSet::Any).unwrap();
    assert_eq!(
        w.fs.attr(d).unwrap().mode,
        DIR | 0o755,
        "a default ACL says nothing of the mode"
    );
    // The umask does not count.
    let cred = user(1, 2, 0o077);
    let f = w.fs.mknod(d, b"f", REG | 0o666, 0, &cred).unwrap();
    assert_eq!(f.mode, REG | 0o660);
    let cut = acl(&[(1, 6, no), (2, 6, 5), (4, 5, no), (16, 6, no), (32, 0, no)]);
    assert_eq!(w.fs.xattr(f.ino, access).unwrap(), cut);
    errno(w.fs.xattr(f.ino, default), libc::ENODATA);
    let sub = w.fs.mkdir(d, b"sub", 0o755, &cred).unwrap();
    assert_eq!(sub.mode, DIR | 0o750);
    assert_eq!(
        w.fs.xattr(sub.ino, default).unwrap(),
        value,
        "inherited whole"
    );
    let s = w.fs.symlink(d, b"s", b"x", &cred).unwrap();
    assert_eq!(
        (s.mode, w.fs.xattrs(s.ino).unwrap().len()),
        (libc::S_IFLNK | 0o777, 0)
    );
    let t = w.fs.tmpfile(d, 0o606, &cred).unwrap();
    assert_eq!(t.mode, REG | 0o600);
    // One that says no more than a mode is not kept as an attribute.
    let e = mkdir(&w.fs, "e");
    let plain = acl(&[(1, 7, no), (4, 5, no), (32, 1, no)]);
    w.fs.set_xattr(e, default, &plain, XattrSet::Any).unwrap();
    let f = w.fs.mknod(e, b"f", REG | 0o666, 0, &cred).unwrap();
    assert_eq!(f.mode, REG | 0o640);
    assert_eq!(w.fs.xattrs(f.ino).unwrap(), Vec::<Vec<u8>>::new());
    w.fs.remove_xattr(e, default).unwrap();
    assert_eq!(
        w.fs.mknod(e, b"g", REG | 0o666, 0, &cred).unwrap().mode,
        REG | 0o600,
        "umask again"
    );
    w.check();
}

#[test]
fn sealed() {
    let w = world();
    file(&w.fs, "f");
    let d = mkdir(&w.fs, "d");
    let s = w.clone_as("c@s", true);
    let f = at(&s, "f");
    let no = libc::EROFS;
    errno(s.mknod(ROOT_INO, b"x", REG, 0, &ROOT), no);
    errno(s.mkdir(ROOT_INO, b"x", 0, &ROOT), no);
    errno(s.symlink(ROOT_INO, b"x", b"t", &ROOT), no);
    errno(s.tmpfile(ROOT_INO, 0, &ROOT), no);
    errno(s.link(f, ROOT_INO, b"x"), no);
    errno(s.unlink(ROOT_INO, b"f"), no);
    errno(s.rmdir(ROOT_INO, b"d"), no);
    errno(s.rename(ROOT_INO, b"f", d, b"f", Default::default()), no);
    errno(
        s.set_attr(
            f,
            &SetAttr {
                mode: Some(0),
                ..SetAttr::default()
            },
            &ROOT,
        ),
        no,
    );
    errno(
        s.set_attr(
            f,
            &SetAttr {
                size: Some(0),
                ..SetAttr::default()
            },
            &ROOT,
        ),
        no,
    );
    errno(s.set_xattr(f, b"user.a", b"", XattrSet::Any), no);
    errno(s.remove_xattr(f, b"user.a"), no);
    s.touch_atime(f).unwrap();
    s.forget(f).unwrap();
    assert_eq!(s.attr(f).unwrap(), w.fs.attr(f).unwrap());
    assert_eq!(names(&s, ROOT_INO), ["d", "f"]);
}
