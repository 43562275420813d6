use crate::support::*;
use cowfs::base::ROOT_INO;

#[test]
fn hard_links() {
    let w = world();
    let f = file(&w.fs, "a");
    mkdir(&w.fs, "d");
    let t = tick();
    link(&w.fs, "a", "d/b");
    link(&w.fs, "d/b", "c");
    let a = w.fs.attr(f).unwrap();
    assert_eq!((a.nlink, later(&a, t)), (3, (false, false, true)));
    assert_eq!((at(&w.fs, "d/b"), at(&w.fs, "c")), (f, f));
    consistent(&w.fs);
    // The first name goes: another takes its place. Then the others, in any order.
    let t = tick();
    let left = unlink(&w.fs, "a");
    assert_eq!((left.nlink, later(&left, t)), (2, (false, false, true)));
    assert_eq!(unlink(&w.fs, "d/b").nlink, 1);
    consistent(&w.fs);
    assert_eq!(unlink(&w.fs, "c").nlink, 0);
    assert_eq!(w.fs.attr(f).unwrap().nlink, 0);
    errno(w.fs.link(f, ROOT_INO, b"again"), libc::ENOENT);
    w.fs.forget(f).unwrap();
    errno(w.fs.attr(f), libc::ENOENT);
    errno(w.fs.link(ROOT_INO, ROOT_INO, b"root"), libc::EPERM);
    errno(w.fs.link(at(&w.fs, "d"), ROOT_INO, b"dd"), libc::EPERM);
    assert_eq!(w.inodes(), 2);
    w.check();
}

#[test]
fn many_links_go_without_a_trace() {
    let w = world();
    let f = file(&w.fs, "0");
    for i in 1..600 {
        w.fs.link(f, ROOT_INO, i.to_string().as_bytes()).unwrap();
    }
    assert_eq!(w.fs.attr(f).unwrap().nlink, 600);
    consistent(&w.fs);
    for i in (0..600).step_by(2).chain((1..600).step_by(2)) {
        w.fs.unlink(ROOT_INO, i.to_string().as_bytes()).unwrap();
    }
    w.fs.forget(f).unwrap();
    assert_eq!(w.inodes(), 1);
    // An empty tree but for the root: a diff with a new volume sees nothing else.
    consistent(&w.fs);
    w.check();
}

#[test]
fn files_of_all_types_have_links() {
    let w = world();
    w.fs.symlink(ROOT_INO, b"s", b"t", &ROOT).unwrap();
    w.fs.mknod(ROOT_INO, b"p", libc::S_IFIFO | 0o600, 0, &ROOT)
        .unwrap();
    for name in ["s", "p"] {
        link(&w.fs, name, &format!("{name}2"));
        assert_eq!(attr(&w.fs, name).nlink, 2);
    }
    consistent(&w.fs);
}

#[test]
fn unlink_and_rmdir() {
    let w = world();
    mkdir(&w.fs, "d");
    let inner = mkdir(&w.fs, "d/e");
    file(&w.fs, "f");
    errno(w.fs.unlink(ROOT_INO, b"d"), libc::EISDIR);
    errno(w.fs.unlink(ROOT_INO, b"."), libc::EISDIR);
    errno(w.fs.unlink(ROOT_INO, b"x"), libc::ENOENT);
    errno(w.fs.unlink(ROOT_INO, b""), libc::ENOENT);
    errno(w.fs.unlink(at(&w.fs, "f"), b"x"), libc::ENOTDIR);
    errno(w.fs.unlink(ROOT_INO, &[b'x'; 256]), libc::ENAMETOOLONG);
    errno(w.fs.rmdir(ROOT_INO, b"f"), libc::ENOTDIR);
    errno(w.fs.rmdir(ROOT_INO, b"d"), libc::ENOTEMPTY);
    errno(w.fs.rmdir(ROOT_INO, b"."), libc::EINVAL);
    errno(w.fs.rmdir(ROOT_INO, b".."), libc::ENOTEMPTY);
    errno(w.fs.rmdir(ROOT_INO, b"x"), libc::ENOENT);
    assert_eq!(attr(&w.fs, "d").nlink, 3);
    let t = tick();
    let gone = rmdir(&w.fs, "d/e");
    assert_eq!((gone.ino, gone.nlink), (inner, 0));
    let d = attr(&w.fs, "d");
    assert_eq!((d.nlink, d.size, later(&d, t)), (2, 0, (false, true, true)));
    rmdir(&w.fs, "d");
    w.fs.forget(inner).unwrap();
    errno(w.fs.attr(inner), libc::ENOENT);
    consistent(&w.fs);
    w.check();
}

#[test]
fn the_files_a_name_is_given_to_again() {
    let w = world();
    let a = file(&w.fs, "f");
    unlink(&w.fs, "f");
    let b = file(&w.fs, "f");
    assert_ne!(a, b, "inode numbers are not used twice");
    w.fs.forget(a).unwrap();
    assert_eq!(at(&w.fs, "f"), b);
    let w = w.crash();
    assert_eq!(at(&w.fs, "f"), b);
    assert!(file(&w.fs, "g") > b);
    w.check();
}

#[test]
fn tmpfiles() {
    let w = world();
    let t = w.fs.tmpfile(ROOT_INO, 0o600, &ROOT).unwrap();
    assert_eq!((t.nlink, t.mode), (0, REG | 0o600));
    assert_eq!(names(&w.fs, ROOT_INO), Vec::<String>::new());
    let a = w.fs.link(t.ino, ROOT_INO, b"t").unwrap();
    assert_eq!(a.nlink, 1);
    w.fs.forget(t.ino).unwrap();
    assert_eq!(at(&w.fs, "t"), t.ino, "it has a name now");
    // Once it had a name it is like any file: unlinked, it takes none any more.
    unlink(&w.fs, "t");
    errno(w.fs.link(t.ino, ROOT_INO, b"t"), libc::ENOENT);
    w.fs.forget(t.ino).unwrap();
    let never = w.fs.tmpfile(ROOT_INO, 0o600, &ROOT).unwrap().ino;
    assert_eq!(w.inodes(), 2);
    w.fs.forget(never).unwrap();
    assert_eq!(w.inodes(), 1);
    w.check();
}
