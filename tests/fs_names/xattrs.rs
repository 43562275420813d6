use crate::support::*;
use cowfs::base::{Ino, ROOT_INO};
use cowfs::fs::{Fs, SetAttr, XattrSet};

const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

fn set(fs: &Fs, ino: Ino, name: &str, value: &[u8]) {
    fs.set_xattr(ino, name.as_bytes(), value, XattrSet::Any)
        .unwrap_or_else(|e| panic!("{name}: {e}"));
}

fn list(fs: &Fs, ino: Ino) -> Vec<String> {
    let mut names: Vec<_> = fs
        .xattrs(ino)
        .unwrap()
        .iter()
        .map(|n| String::from_utf8_lossy(n).into_owned())
        .collect();
    names.sort();
    names
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

const NO: u32 = u32::MAX;

#[test]
fn set_get_list_remove() {
    let w = world();
    let f = file(&w.fs, "f");
    assert_eq!(list(&w.fs, f), Vec::<String>::new());
    let t = tick();
    set(&w.fs, f, "user.a", b"1");
    set(&w.fs, f, "trusted.overlay.opaque", b"y");
    set(&w.fs, f, "security.selinux", b"");
    set(&w.fs, f, "user.a", b"22");
    assert_eq!(later(&w.fs.attr(f).unwrap(), t), (false, false, true));
    assert_eq!(w.fs.xattr(f, b"user.a").unwrap(), b"22");
    assert_eq!(w.fs.xattr(f, b"security.selinux").unwrap(), b"");
    assert_eq!(
        list(&w.fs, f),
        ["security.selinux", "trusted.overlay.opaque", "user.a"]
    );
    errno(w.fs.xattr(f, b"user.b"), libc::ENODATA);
    errno(w.fs.remove_xattr(f, b"user.b"), libc::ENODATA);
    errno(
        w.fs.set_xattr(f, b"user.a", b"", XattrSet::Create),
        libc::EEXIST,
    );
    errno(
        w.fs.set_xattr(f, b"user.b", b"", XattrSet::Replace),
        libc::ENODATA,
    );
    w.fs.set_xattr(f, b"user.b", b"x", XattrSet::Create)
        .unwrap();
    w.fs.set_xattr(f, b"user.b", b"y", XattrSet::Replace)
        .unwrap();
    w.fs.remove_xattr(f, b"user.a").unwrap();
    errno(w.fs.xattr(f, b"user.a"), libc::ENODATA);
    let w = w.crash();
    assert_eq!(
        list(&w.fs, f),
        ["security.selinux", "trusted.overlay.opaque", "user.b"]
    );
    assert_eq!(w.fs.xattr(f, b"user.b").unwrap(), b"y");
    w.check();
}

#[test]
fn names() {
    let w = world();
    let f = file(&w.fs, "f");
    let put = |name: &[u8]| w.fs.set_xattr(f, name, b"", XattrSet::Any);
    errno(put(b""), libc::ERANGE);
    errno(put(&[b"user.", &[b'x'; 251][..]].concat()), libc::ERANGE);
    put(&[b"user.", &[b'x'; 250][..]].concat()).unwrap();
    errno(put(b"user."), libc::EINVAL);
    errno(put(b"user.a\0b"), libc::EINVAL);
    errno(put(b"other.a"), libc::EOPNOTSUPP);
    errno(put(b"system.other"), libc::EOPNOTSUPP);
    errno(w.fs.xattr(f, b"nothing"), libc::EOPNOTSUPP);
    errno(
        w.fs.set_xattr(99, b"user.a", b"", XattrSet::Any),
        libc::ENOENT,
    );
}

#[test]
fn user_attributes_are_for_files_and_directories() {
    let w = world();
    let d = mkdir(&w.fs, "d");
    set(&w.fs, d, "user.a", b"1");
    let s = w.fs.symlink(ROOT_INO, b"s", b"t", &ROOT).unwrap().ino;
    let p =
        w.fs.mknod(ROOT_INO, b"p", libc::S_IFIFO, 0, &ROOT)
            .unwrap()
            .ino;
    for ino in [s, p] {
        errno(
            w.fs.set_xattr(ino, b"user.a", b"", XattrSet::Any),
            libc::EPERM,
        );
        errno(w.fs.remove_xattr(ino, b"user.a"), libc::EPERM);
        errno(w.fs.xattr(ino, b"user.a"), libc::ENODATA);
        set(&w.fs, ino, "trusted.a", b"1");
        set(&w.fs, ino, "security.a", b"1");
    }
    errno(
        w.fs.set_xattr(
            s,
            ACCESS,
            &acl(&[(1, 7, NO), (4, 5, NO), (32, 5, NO)]),
            XattrSet::Any,
        ),
        libc::EOPNOTSUPP,
    );
}

#[test]
fn sizes() {
    let w = world();
    let f = file(&w.fs, "f");
    for len in [
        0, 1, 4074, 4081, 4082, 4083, 8177, 8178, 8179, 40_000, 65_535, 65_536,
    ] {
        let value: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        set(&w.fs, f, "user.a", &value);
        assert_eq!(w.fs.xattr(f, b"user.a").unwrap(), value, "{len}");
        set(&w.fs, f, &format!("user.{len}"), &value);
    }
    errno(
        w.fs.set_xattr(f, b"user.a", &vec![0; 65_537], XattrSet::Any),
        libc::E2BIG,
    );
    assert_eq!(list(&w.fs, f).len(), 13);
    // Shorter again: the parts behind are gone.
    set(&w.fs, f, "user.a", b"short");
    assert_eq!(w.fs.xattr(f, b"user.a").unwrap(), b"short");
    assert_eq!(w.fs.xattr(f, b"user.65536").unwrap().len(), 65_536);
    for name in list(&w.fs, f) {
        w.fs.remove_xattr(f, name.as_bytes()).unwrap();
    }
    assert_eq!(list(&w.fs, f).len(), 0);
    unlink(&w.fs, "f");
    w.fs.forget(f).unwrap();
    assert_eq!(w.inodes(), 1);
    w.check();
}

#[test]
fn the_list_is_bounded() {
    let w = world();
    let f = file(&w.fs, "f");
    // 256 bytes each with the NUL: 256 of them fill 64 KiB.
    let name = |i: u32| format!("user.{i:0250}");
    for i in 0..256 {
        set(&w.fs, f, &name(i), b"");
    }
    errno(
        w.fs.set_xattr(f, b"user.one", b"", XattrSet::Any),
        libc::ENOSPC,
    );
    set(&w.fs, f, &name(3), b"an old one may change");
    w.fs.remove_xattr(f, name(9).as_bytes()).unwrap();
    set(&w.fs, f, "user.one", b"");
    assert_eq!(list(&w.fs, f).len(), 256);
}

#[test]
fn values_are_bounded() {
    let w = world();
    let f = file(&w.fs, "f");
    let value = vec![7; 65_536];
    for i in 0..256 {
        set(&w.fs, f, &format!("user.{i}"), &value);
    }
    errno(
        w.fs.set_xattr(f, b"user.more", b"x", XattrSet::Any),
        libc::ENOSPC,
    );
    set(&w.fs, f, "user.more", b"");
    set(&w.fs, f, "user.0", b"");
    set(&w.fs, f, "user.more", &value);
    // Reaping so much goes in steps.
    unlink(&w.fs, "f");
    w.fs.forget(f).unwrap();
    assert_eq!(w.inodes(), 1);
    w.check();
}

#[test]
fn access_acls() {
    let w = world();
    let f = file(&w.fs, "f");
    let put = |value: &[u8]| w.fs.set_xattr(f, ACCESS, value, XattrSet::Any);
    // One that says no more than a mode becomes the mode.
    put(&acl(&[(1, 6, NO), (4, 2, NO), (32, 1, NO)])).unwrap();
    assert_eq!(w.fs.attr(f).unwrap().mode, REG | 0o621);
    errno(w.fs.xattr(f, ACCESS), libc::ENODATA);
    // The mode shows the mask; special bits stay.
    w.fs.set_attr(
        f,
        &SetAttr {
            mode: Some(0o4644),
            ..SetAttr::default()
        },
        &ROOT,
    )
    .unwrap();
    let full = acl(&[
        (1, 7, NO),
        (2, 7, 5),
        (4, 1, NO),
        (8, 6, 9),
        (16, 5, NO),
        (32, 0, NO),
    ]);
    put(&full).unwrap();
    assert_eq!(w.fs.attr(f).unwrap().mode, REG | 0o4750);
    assert_eq!(w.fs.xattr(f, ACCESS).unwrap(), full);
    assert_eq!(list(&w.fs, f), ["system.posix_acl_access"]);
    // chmod goes into the ACL.
    let a =
        w.fs.set_attr(
            f,
            &SetAttr {
                mode: Some(0o640),
                ..SetAttr::default()
            },
            &ROOT,
        )
        .unwrap();
    assert_eq!(a.mode, REG | 0o640);
    let cut = acl(&[
        (1, 6, NO),
        (2, 7, 5),
        (4, 1, NO),
        (8, 6, 9),
        (16, 4, NO),
        (32, 0, NO),
    ]);
    assert_eq!(w.fs.xattr(f, ACCESS).unwrap(), cut);
    // A plain one removes it.
    put(&acl(&[(1, 7, NO), (4, 7, NO), (32, 7, NO)])).unwrap();
    errno(w.fs.xattr(f, ACCESS), libc::ENODATA);
    assert_eq!(w.fs.attr(f).unwrap().mode, REG | 0o777);
    put(&full).unwrap();
    w.fs.remove_xattr(f, ACCESS).unwrap();
    assert_eq!(w.fs.attr(f).unwrap().mode, REG | 0o750, "the mode stays");
    put(&full).unwrap();
    put(&acl(&[])).unwrap();
    errno(w.fs.xattr(f, ACCESS), libc::ENODATA);
    errno(put(b"nonsense"), libc::EOPNOTSUPP);
    errno(put(&acl(&[(1, 7, NO)])), libc::EINVAL);
    errno(
        w.fs.set_xattr(f, DEFAULT, &full, XattrSet::Any),
        libc::EACCES,
    );
    w.check();
}

#[test]
fn attributes_of_a_clone_are_its_own() {
    let w = world();
    let f = file(&w.fs, "f");
    set(&w.fs, f, "user.a", b"before");
    let c = w.clone_as("d", false);
    set(&c, f, "user.a", &[1; 10_000]);
    set(&w.fs, f, "user.b", b"");
    assert_eq!(w.fs.xattr(f, b"user.a").unwrap(), b"before");
    assert_eq!(list(&c, f), ["user.a"]);
    w.check();
}
