use crate::support::*;
use cowfs::base::ROOT_INO;
use cowfs::fs::XattrSet;

#[test]
fn usable_until_forgotten() {
    let w = world();
    let f = file(&w.fs, "f");
    w.fs.set_xattr(f, b"user.a", b"1", XattrSet::Any).unwrap();
    unlink(&w.fs, "f");
    assert_eq!(w.fs.attr(f).unwrap().nlink, 0);
    assert_eq!(w.fs.xattr(f, b"user.a").unwrap(), b"1");
    w.fs.set_xattr(f, b"user.b", b"2", XattrSet::Any).unwrap();
    w.fs.forget(f).unwrap();
    errno(w.fs.attr(f), libc::ENOENT);
    w.fs.forget(f).unwrap();
    w.fs.forget(12345).unwrap();
    w.fs.forget(ROOT_INO).unwrap();
    assert_eq!(w.inodes(), 1);
    w.check();
}

#[test]
fn reaped_after_a_crash() {
    let w = world();
    let mut gone = Vec::new();
    for i in 0..700 {
        let name = format!("f{i}");
        let ino = file(&w.fs, &name);
        if i % 7 == 0 {
            w.fs.set_xattr(ino, b"user.a", &[1; 20_000], XattrSet::Any)
                .unwrap();
        }
        unlink(&w.fs, &name);
        gone.push(ino);
    }
    mkdir(&w.fs, "d");
    gone.push(rmdir(&w.fs, "d").ino);
    gone.push(w.fs.tmpfile(ROOT_INO, 0o600, &ROOT).unwrap().ino);
    w.fs.symlink(ROOT_INO, b"s", b"target", &ROOT).unwrap();
    gone.push(unlink(&w.fs, "s").ino);
    let kept = w.fs.tmpfile(ROOT_INO, 0o600, &ROOT).unwrap().ino;
    w.fs.link(kept, ROOT_INO, b"kept").unwrap();
    assert_eq!(w.inodes(), 705);
    let w = w.crash();
    assert_eq!(w.inodes(), 2);
    for ino in gone {
        errno(w.fs.attr(ino), libc::ENOENT);
    }
    assert_eq!(at(&w.fs, "kept"), kept);
    w.check();
}

#[test]
fn a_snapshot_keeps_its_own() {
    let w = world();
    let f = file(&w.fs, "f");
    unlink(&w.fs, "f");
    // Not reaped in the snapshot, which nobody changes; reaped in a clone, where nobody has it open.
    let s = w.clone_as("c@s", true);
    assert_eq!(s.attr(f).unwrap().nlink, 0);
    let c = w.clone_as("d", false);
    errno(c.attr(f), libc::ENOENT);
    assert_eq!(w.fs.attr(f).unwrap().nlink, 0);
    // A second opening is the same file system: it does not reap what the first has open.
    let again = cowfs::fs::Fs::open(w.pool.volume(w.id).unwrap()).unwrap();
    assert_eq!(again.attr(f).unwrap().nlink, 0);
    w.check();
}
