use crate::support::*;
use cowfs::base::{ROOT_INO, Time};
use cowfs::fs::{SetAttr, XattrSet};

fn set() -> SetAttr {
    SetAttr::default()
}

fn time(sec: i64, nsec: u32) -> Time {
    Time { sec, nsec }
}

#[test]
fn chmod() {
    let w = world();
    let f = file(&w.fs, "f");
    let t = tick();
    let a =
        w.fs.set_attr(
            f,
            &SetAttr {
                mode: Some(0o106_755),
                ..set()
            },
            &ROOT,
        )
        .unwrap();
    assert_eq!(a.mode, REG | 0o6755, "the type stays");
    assert_eq!(later(&a, t), (false, false, true));
    assert_eq!(w.fs.attr(f).unwrap(), a);
    errno(
        w.fs.set_attr(
            99,
            &SetAttr {
                mode: Some(0),
                ..set()
            },
            &ROOT,
        ),
        libc::ENOENT,
    );
    let a = w.fs.set_attr(f, &set(), &ROOT).unwrap();
    assert!(later(&a, t).2, "nothing to do");
}

#[test]
fn chown() {
    let w = world();
    let f = file(&w.fs, "f");
    let d = mkdir(&w.fs, "d");
    let mode = |ino, mode| {
        w.fs.set_attr(
            ino,
            &SetAttr {
                mode: Some(mode),
                ..set()
            },
            &ROOT,
        )
        .unwrap()
    };
    let table = [
        (0o6755, 0o755),
        (0o6745, 0o2745),
        (0o4644, 0o644),
        (0o1777, 0o1777),
        (0o2070, 0o070),
    ];
    for (before, after) in table {
        mode(f, before);
        let a =
            w.fs.set_attr(
                f,
                &SetAttr {
                    gid: Some(4),
                    ..set()
                },
                &ROOT,
            )
            .unwrap();
        assert_eq!((a.mode, a.uid, a.gid), (REG | after, 0, 4), "{before:o}");
    }
    // Together with a mode, the mode counts.
    let a =
        w.fs.set_attr(
            f,
            &SetAttr {
                uid: Some(3),
                mode: Some(0o4755),
                ..set()
            },
            &ROOT,
        )
        .unwrap();
    assert_eq!((a.mode, a.uid, a.gid), (REG | 0o4755, 3, 4));
    mode(d, 0o6755);
    let a =
        w.fs.set_attr(
            d,
            &SetAttr {
                uid: Some(3),
                ..set()
            },
            &ROOT,
        )
        .unwrap();
    assert_eq!((a.mode, a.uid), (DIR | 0o6755, 3), "a directory keeps them");
}

#[test]
fn capabilities_go_with_the_owner() {
    let w = world();
    let f = file(&w.fs, "f");
    let caps = b"security.capability";
    let put = || {
        w.fs.set_xattr(f, caps, b"12345678901234567890", XattrSet::Any)
            .unwrap()
    };
    put();
    w.fs.set_attr(
        f,
        &SetAttr {
            mode: Some(0o755),
            ..set()
        },
        &ROOT,
    )
    .unwrap();
    assert!(w.fs.xattr(f, caps).is_ok());
    w.fs.set_attr(
        f,
        &SetAttr {
            uid: Some(1),
            ..set()
        },
        &ROOT,
    )
    .unwrap();
    errno(w.fs.xattr(f, caps), libc::ENODATA);
    assert!(w.fs.xattrs(f).unwrap().is_empty());
    put();
    w.fs.set_attr(
        f,
        &SetAttr {
            mode: Some(0o6755),
            ..set()
        },
        &ROOT,
    )
    .unwrap();
    let a =
        w.fs.set_attr(
            f,
            &SetAttr {
                kill_suidgid: true,
                ..set()
            },
            &ROOT,
        )
        .unwrap();
    assert_eq!(a.mode, REG | 0o755);
    errno(w.fs.xattr(f, caps), libc::ENODATA);
    // A directory's are not touched.
    let d = mkdir(&w.fs, "d");
    w.fs.set_xattr(d, caps, b"x", XattrSet::Any).unwrap();
    w.fs.set_attr(
        d,
        &SetAttr {
            uid: Some(1),
            kill_suidgid: true,
            ..set()
        },
        &ROOT,
    )
    .unwrap();
    assert!(w.fs.xattr(d, caps).is_ok());
}

#[test]
fn times() {
    let w = world();
    let f = file(&w.fs, "f");
    let t = tick();
    let some = SetAttr {
        atime: Some(time(-5, 7)),
        mtime: Some(time(1 << 40, 999_999_999)),
        ..set()
    };
    let a = w.fs.set_attr(f, &some, &ROOT).unwrap();
    assert_eq!(
        (a.atime, a.mtime),
        (time(-5, 7), time(1 << 40, 999_999_999))
    );
    assert!(a.ctime >= t);
    let a =
        w.fs.set_attr(
            f,
            &SetAttr {
                ctime: Some(time(9, 9)),
                ..set()
            },
            &ROOT,
        )
        .unwrap();
    assert_eq!((a.atime, a.ctime), (time(-5, 7), time(9, 9)));
    errno(
        w.fs.set_attr(
            f,
            &SetAttr {
                mtime: Some(time(0, 1_000_000_000)),
                ..set()
            },
            &ROOT,
        ),
        libc::EINVAL,
    );
    let w = w.crash();
    assert_eq!(w.fs.attr(f).unwrap(), a);
}

#[test]
fn sizes_are_for_files() {
    let w = world();
    let d = mkdir(&w.fs, "d");
    let p =
        w.fs.mknod(ROOT_INO, b"p", libc::S_IFIFO, 0, &ROOT)
            .unwrap()
            .ino;
    errno(
        w.fs.set_attr(
            d,
            &SetAttr {
                size: Some(0),
                ..set()
            },
            &ROOT,
        ),
        libc::EISDIR,
    );
    errno(
        w.fs.set_attr(
            p,
            &SetAttr {
                size: Some(0),
                ..set()
            },
            &ROOT,
        ),
        libc::EINVAL,
    );
    errno(
        w.fs.set_attr(
            99,
            &SetAttr {
                size: Some(0),
                ..set()
            },
            &ROOT,
        ),
        libc::ENOENT,
    );
}

#[test]
fn relatime() {
    let w = world();
    let f = file(&w.fs, "f");
    let now = Time::now();
    let at = |atime, mtime, ctime| {
        let s = SetAttr {
            atime: Some(atime),
            mtime: Some(mtime),
            ctime: Some(ctime),
            ..set()
        };
        w.fs.set_attr(f, &s, &ROOT).unwrap();
        w.fs.touch_atime(f).unwrap();
        let a = w.fs.attr(f).unwrap();
        assert_eq!((a.mtime, a.ctime), (mtime, ctime), "nothing else changes");
        a.atime != atime
    };
    let ago = |s| time(now.sec - s, 5);
    assert!(at(ago(100), ago(50), ago(200)), "older than mtime");
    assert!(at(ago(100), ago(200), ago(50)), "older than ctime");
    assert!(at(ago(100), ago(100), ago(200)), "as old as mtime");
    assert!(!at(ago(100), ago(200), ago(200)), "read since");
    assert!(at(ago(86_401), ago(90_000), ago(90_000)), "a day old");
    assert!(
        !at(ago(86_000), ago(90_000), ago(90_000)),
        "not yet a day old"
    );
    errno(w.fs.touch_atime(99), libc::ENOENT);
}
