use crate::support::*;
use cowfs::base::{ROOT_INO, Result};
use cowfs::fs::{Attr, Fs, RenameFlags};

const PLAIN: RenameFlags = RenameFlags {
    noreplace: false,
    exchange: false,
    whiteout: false,
};
const NOREPLACE: RenameFlags = RenameFlags {
    noreplace: true,
    ..PLAIN
};
const EXCHANGE: RenameFlags = RenameFlags {
    exchange: true,
    ..PLAIN
};
const WHITEOUT: RenameFlags = RenameFlags {
    whiteout: true,
    ..PLAIN
};

fn mv(fs: &Fs, from: &str, to: &str, flags: RenameFlags) -> Result<Option<Attr>> {
    let ((dir, name), (new_dir, new_name)) = (split(fs, from), split(fs, to));
    fs.rename(dir, name, new_dir, new_name, flags)
}

#[test]
fn within_and_across_directories() {
    let w = world();
    let (f, d, e) = (file(&w.fs, "f"), mkdir(&w.fs, "d"), mkdir(&w.fs, "e"));
    let t = tick();
    assert_eq!(mv(&w.fs, "f", "a-longer-name", PLAIN).unwrap(), None);
    assert_eq!(at(&w.fs, "a-longer-name"), f);
    errno(try_at(&w.fs, "f"), libc::ENOENT);
    assert_eq!(later(&w.fs.attr(f).unwrap(), t), (false, false, true));
    assert_eq!(later(&w.fs.attr(ROOT_INO).unwrap(), t), (false, true, true));
    let t = tick();
    mv(&w.fs, "a-longer-name", "d/x", PLAIN).unwrap();
    assert_eq!(later(&w.fs.attr(ROOT_INO).unwrap(), t), (false, true, true));
    assert_eq!(later(&w.fs.attr(d).unwrap(), t), (false, true, true));
    consistent(&w.fs);
    mv(&w.fs, "d", "e/d", PLAIN).unwrap();
    assert_eq!((at(&w.fs, "e/d"), at(&w.fs, "e/d/x")), (d, f));
    assert_eq!(w.fs.parent(d).unwrap(), e);
    assert_eq!(w.fs.lookup(d, b"..").unwrap().ino, e);
    assert_eq!(
        (
            w.fs.attr(ROOT_INO).unwrap().nlink,
            w.fs.attr(e).unwrap().nlink
        ),
        (3, 3)
    );
    consistent(&w.fs);
    let w = w.crash();
    assert_eq!(at(&w.fs, "e/d/x"), f);
    consistent(&w.fs);
    w.check();
}

#[test]
fn over_others() {
    let w = world();
    let (a, b) = (file(&w.fs, "a"), file(&w.fs, "b"));
    let over = mv(&w.fs, "a", "b", PLAIN).unwrap().unwrap();
    assert_eq!((over.ino, over.nlink), (b, 0));
    assert_eq!(at(&w.fs, "b"), a);
    w.fs.forget(b).unwrap();
    errno(w.fs.attr(b), libc::ENOENT);

    let (d, e) = (mkdir(&w.fs, "d"), mkdir(&w.fs, "e"));
    mkdir(&w.fs, "e/sub");
    errno(mv(&w.fs, "d", "e", PLAIN), libc::ENOTEMPTY);
    errno(mv(&w.fs, "d", "b", PLAIN), libc::ENOTDIR);
    errno(mv(&w.fs, "b", "d", PLAIN), libc::EISDIR);
    errno(mv(&w.fs, "e/sub", "e", PLAIN), libc::ENOTEMPTY);
    let over = mv(&w.fs, "e", "d", PLAIN).unwrap().unwrap();
    assert_eq!((over.ino, over.nlink), (d, 0));
    assert_eq!(at(&w.fs, "d"), e);
    consistent(&w.fs);
    // One of several names is replaced: the inode stays.
    link(&w.fs, "b", "b2");
    file(&w.fs, "c");
    assert_eq!(mv(&w.fs, "c", "b", PLAIN).unwrap().unwrap().nlink, 1);
    assert_eq!(at(&w.fs, "b2"), a);
    consistent(&w.fs);
    // A directory over an empty one elsewhere.
    mkdir(&w.fs, "x");
    mkdir(&w.fs, "x/y");
    mv(&w.fs, "d/sub", "x/y", PLAIN).unwrap();
    consistent(&w.fs);
    w.check();
}

#[test]
fn names_of_the_same_inode() {
    let w = world();
    let f = file(&w.fs, "f");
    link(&w.fs, "f", "g");
    let before = w.fs.attr(f).unwrap();
    tick();
    assert_eq!(mv(&w.fs, "f", "g", PLAIN).unwrap(), None);
    assert_eq!(mv(&w.fs, "f", "f", PLAIN).unwrap(), None);
    assert_eq!(mv(&w.fs, "f", "g", EXCHANGE).unwrap(), None);
    errno(mv(&w.fs, "f", "g", NOREPLACE), libc::EEXIST);
    errno(mv(&w.fs, "f", "f", NOREPLACE), libc::EEXIST);
    assert_eq!(w.fs.attr(f).unwrap(), before);
    assert_eq!(names(&w.fs, ROOT_INO), ["f", "g"]);
    // A further name moves, then the first: the inode knows both still.
    mkdir(&w.fs, "d");
    mv(&w.fs, "g", "d/g", PLAIN).unwrap();
    mv(&w.fs, "f", "d/f", PLAIN).unwrap();
    unlink(&w.fs, "d/f");
    unlink(&w.fs, "d/g");
    w.fs.forget(f).unwrap();
    assert_eq!(w.inodes(), 2);
    w.check();
}

#[test]
fn bad_names() {
    let w = world();
    file(&w.fs, "f");
    let r = |from: &[u8], to: &[u8]| w.fs.rename(ROOT_INO, from, ROOT_INO, to, PLAIN);
    errno(r(b"x", b"y"), libc::ENOENT);
    errno(r(b"f", b""), libc::ENOENT);
    errno(r(b"f", b"."), libc::EBUSY);
    errno(r(b"..", b"y"), libc::EBUSY);
    errno(r(b"f", &[b'x'; 256]), libc::ENAMETOOLONG);
    errno(r(b"f", b"a/b"), libc::EINVAL);
    let f = at(&w.fs, "f");
    errno(w.fs.rename(ROOT_INO, b"f", f, b"x", PLAIN), libc::ENOTDIR);
    errno(w.fs.rename(f, b"x", ROOT_INO, b"x", PLAIN), libc::ENOTDIR);
    errno(w.fs.rename(ROOT_INO, b"f", 99, b"x", PLAIN), libc::ENOENT);
    for flags in [
        RenameFlags {
            noreplace: true,
            ..EXCHANGE
        },
        RenameFlags {
            whiteout: true,
            ..EXCHANGE
        },
    ] {
        errno(mv(&w.fs, "f", "g", flags), libc::EINVAL);
    }
}

#[test]
fn not_into_itself() {
    let w = world();
    for path in ["a", "a/b", "a/b/c", "x"] {
        mkdir(&w.fs, path);
    }
    errno(mv(&w.fs, "a", "a/z", PLAIN), libc::EINVAL);
    errno(mv(&w.fs, "a", "a/b/c/z", PLAIN), libc::EINVAL);
    errno(mv(&w.fs, "a", "a/b/c", PLAIN), libc::EINVAL);
    errno(mv(&w.fs, "a", "a/b", EXCHANGE), libc::EINVAL);
    errno(mv(&w.fs, "a/b/c", "a", EXCHANGE), libc::EINVAL);
    errno(mv(&w.fs, "a/b/c", "a", PLAIN), libc::ENOTEMPTY);
    file(&w.fs, "a/b/f");
    errno(mv(&w.fs, "a/b/f", "a", PLAIN), libc::ENOTEMPTY);
    errno(mv(&w.fs, "a/b/f", "a", EXCHANGE), libc::EINVAL);
    errno(mv(&w.fs, "a", "a/b/f", NOREPLACE), libc::EEXIST);
    errno(mv(&w.fs, "a", "a/b/none", EXCHANGE), libc::ENOENT);
    mv(&w.fs, "a/b", "x/b", PLAIN).unwrap();
    mv(&w.fs, "a", "x/b/c/a", PLAIN).unwrap();
    errno(mv(&w.fs, "x", "x/b/c/a/x", PLAIN), libc::EINVAL);
    consistent(&w.fs);
}

#[test]
fn noreplace() {
    let w = world();
    let (f, g) = (file(&w.fs, "f"), file(&w.fs, "g"));
    errno(mv(&w.fs, "f", "g", NOREPLACE), libc::EEXIST);
    mv(&w.fs, "f", "h", NOREPLACE).unwrap();
    assert_eq!((at(&w.fs, "h"), at(&w.fs, "g")), (f, g));
}

#[test]
fn exchange() {
    let w = world();
    let f = file(&w.fs, "f");
    let (d, e) = (mkdir(&w.fs, "d"), mkdir(&w.fs, "e"));
    let inner = mkdir(&w.fs, "d/inner");
    errno(mv(&w.fs, "f", "x", EXCHANGE), libc::ENOENT);
    errno(mv(&w.fs, "x", "f", EXCHANGE), libc::ENOENT);
    let t = tick();
    assert_eq!(mv(&w.fs, "f", "d/inner", EXCHANGE).unwrap(), None);
    assert_eq!((at(&w.fs, "f"), at(&w.fs, "d/inner")), (inner, f));
    assert_eq!(w.fs.parent(inner).unwrap(), ROOT_INO);
    for ino in [f, inner] {
        assert_eq!(later(&w.fs.attr(ino).unwrap(), t), (false, false, true));
    }
    for ino in [ROOT_INO, d] {
        assert_eq!(later(&w.fs.attr(ino).unwrap(), t), (false, true, true));
    }
    consistent(&w.fs);
    // Full directories, and names in one directory.
    file(&w.fs, "e/y");
    mv(&w.fs, "d", "e", EXCHANGE).unwrap();
    assert_eq!((at(&w.fs, "d"), at(&w.fs, "e")), (e, d));
    assert_eq!(names(&w.fs, d), ["inner"]);
    consistent(&w.fs);
    // A further name of a file.
    link(&w.fs, "e/inner", "other");
    file(&w.fs, "z");
    mv(&w.fs, "other", "z", EXCHANGE).unwrap();
    assert_eq!(at(&w.fs, "z"), f);
    consistent(&w.fs);
    unlink(&w.fs, "z");
    unlink(&w.fs, "e/inner");
    w.fs.forget(f).unwrap();
    w.check();
}

#[test]
fn whiteouts() {
    let w = world();
    let f = file(&w.fs, "f");
    mkdir(&w.fs, "d");
    mv(&w.fs, "f", "d/f", WHITEOUT).unwrap();
    let white = attr(&w.fs, "f");
    assert_eq!((white.mode, white.rdev, white.nlink), (libc::S_IFCHR, 0, 1));
    assert_eq!(at(&w.fs, "d/f"), f);
    consistent(&w.fs);
    mv(&w.fs, "d", "e", WHITEOUT).unwrap();
    assert_eq!(attr(&w.fs, "d").mode, libc::S_IFCHR);
    consistent(&w.fs);
    unlink(&w.fs, "d");
    unlink(&w.fs, "f");
    w.check();
}

#[test]
fn deep_trees_move() {
    let w = world();
    let mut dir = ROOT_INO;
    for _ in 0..2000 {
        dir = w.fs.mkdir(dir, b"d", 0o755, &ROOT).unwrap().ino;
    }
    mkdir(&w.fs, "top");
    errno(w.fs.rename(ROOT_INO, b"d", dir, b"x", PLAIN), libc::EINVAL);
    w.fs.rename(ROOT_INO, b"top", dir, b"top", PLAIN).unwrap();
    assert_eq!(
        w.fs.parent(w.fs.lookup(dir, b"top").unwrap().ino).unwrap(),
        dir
    );
    w.check();
}

/// Random renames beside a map of names: whatever is refused or done, both agree.
#[test]
fn cycles_of_renames_stay_whole() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    let mut w = world();
    let mut dirs = vec![ROOT_INO];
    for i in 0..6 {
        dirs.push(mkdir(&w.fs, &format!("d{i}")));
    }
    for i in 0..6 {
        file(&w.fs, &format!("f{i}"));
        link(&w.fs, &format!("f{i}"), &format!("d{i}/l"));
    }
    let all = w.inodes();
    let (mut done, mut replaced) = (0, 0);
    for step in 0..1500 {
        let pick = |rng: &mut rand_chacha::ChaCha8Rng| {
            let dir = dirs[rng.random_range(0..dirs.len())];
            let name = format!(
                "{}{}",
                ["d", "f", "l"][rng.random_range(0..3)],
                rng.random_range(0..7)
            );
            (
                dir,
                if name.starts_with('l') {
                    "l".into()
                } else {
                    name
                },
            )
        };
        let ((a, an), (b, bn)) = (pick(&mut rng), pick(&mut rng));
        let flags = [PLAIN, PLAIN, NOREPLACE, EXCHANGE][rng.random_range(0..4)];
        match w.fs.rename(a, an.as_bytes(), b, bn.as_bytes(), flags) {
            Ok(over) => {
                done += 1;
                if let Some(over) = over.filter(|o| o.nlink == 0) {
                    replaced += 1;
                    dirs.retain(|d| *d != over.ino);
                    w.fs.forget(over.ino).unwrap();
                }
            }
            Err(e) => assert!(
                matches!(
                    e.errno(),
                    libc::ENOENT
                        | libc::EEXIST
                        | libc::EINVAL
                        | libc::ENOTEMPTY
                        | libc::ENOTDIR
                        | libc::EISDIR
                ),
                "{e}"
            ),
        }
        assert_eq!(w.inodes(), all - replaced);
        if step % 250 == 0 {
            w = w.crash();
            consistent(&w.fs);
        }
    }
    assert!(done > 100, "{done}");
    consistent(&w.fs);
    w.check();
}
