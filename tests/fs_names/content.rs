//! Where names and data meet: sizes, privileges, reaping and differences of files with content.

use crate::diffs::lines;
use crate::support::*;
use cowfs::base::{Ino, ROOT_INO};
use cowfs::fs::{Fallocate, Fs, SetAttr, XattrSet};

const CAPS: &[u8] = b"security.capability";

fn size(fs: &Fs, ino: Ino, size: u64) {
    fs.set_attr(
        ino,
        &SetAttr {
            size: Some(size),
            ..SetAttr::default()
        },
        &ROOT,
    )
    .unwrap();
}

fn mode(fs: &Fs, ino: Ino, mode: u32) {
    fs.set_attr(
        ino,
        &SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        },
        &ROOT,
    )
    .unwrap();
}

#[test]
fn sizes() {
    let w = world();
    let f = file(&w.fs, "f");
    w.fs.write(f, 0, &[7; 10_000], true, false).unwrap();
    let t = tick();
    size(&w.fs, f, 5_000);
    let a = w.fs.attr(f).unwrap();
    assert_eq!((a.size, later(&a, t)), (5_000, (false, true, true)));
    // With other attributes: those given count.
    let s = SetAttr {
        size: Some(20_000),
        mtime: Some(t),
        mode: Some(0o600),
        ..SetAttr::default()
    };
    let a = w.fs.set_attr(f, &s, &ROOT).unwrap();
    assert_eq!((a.size, a.mtime, a.mode), (20_000, t, REG | 0o600));
    let mut buf = vec![1; 20_000];
    assert_eq!(w.fs.read(f, 0, &mut buf).unwrap(), 20_000);
    assert!(buf[..5_000].iter().all(|b| *b == 7) && buf[5_000..].iter().all(|b| *b == 0));
    w.check();
}

#[test]
fn a_write_takes_privileges() {
    let w = world();
    let f = file(&w.fs, "f");
    for len in [10, 100_000] {
        let data = vec![3; len];
        let caps = || w.fs.set_xattr(f, CAPS, b"x", XattrSet::Any).unwrap();
        mode(&w.fs, f, 0o6755);
        caps();
        w.fs.write(f, 0, &data, true, false).unwrap();
        errno(w.fs.xattr(f, CAPS), libc::ENODATA);
        assert_eq!(w.fs.attr(f).unwrap().mode, REG | 0o6755);
        w.fs.write(f, 0, &data, true, true).unwrap();
        assert_eq!(w.fs.attr(f).unwrap().mode, REG | 0o755);
        mode(&w.fs, f, 0o6745);
        caps();
        let s = SetAttr {
            size: Some(5),
            kill_suidgid: true,
            ..SetAttr::default()
        };
        assert_eq!(w.fs.set_attr(f, &s, &ROOT).unwrap().mode, REG | 0o2745);
        assert!(w.fs.xattrs(f).unwrap().is_empty());
    }
}

#[test]
fn content_goes_with_the_inode() {
    let w = world();
    let mut open = Vec::new();
    for (i, len) in [0, 100, 5_000, 100_000, 3 << 20].into_iter().enumerate() {
        let f = file(&w.fs, &format!("f{i}"));
        w.fs.write(f, 0, &vec![i as u8 + 1; len], true, false)
            .unwrap();
        w.fs.set_xattr(f, b"user.a", &[1; 9_000], XattrSet::Any)
            .unwrap();
        unlink(&w.fs, &format!("f{i}"));
        open.push((f, len));
    }
    for (f, len) in &open {
        let mut buf = vec![0; *len];
        assert_eq!(
            w.fs.read(*f, 0, &mut buf).unwrap(),
            *len,
            "usable until forgotten"
        );
        w.fs.write(*f, *len as u64, b"more", true, false).unwrap();
    }
    let half = open.split_off(2);
    for (f, _) in open {
        w.fs.forget(f).unwrap();
        errno(w.fs.read(f, 0, &mut [0; 8]), libc::ENOENT);
        errno(w.fs.write(f, 0, b"x", true, false), libc::ENOENT);
    }
    assert!(w.fs.volume().usage().0 > 3 << 20);
    let w = w.crash();
    for (f, _) in half {
        errno(w.fs.attr(f), libc::ENOENT);
    }
    assert_eq!(w.fs.volume().usage(), (0, 1));
    w.check();
}

/// A crash at any record of a reaping: the next opening finishes it.
#[test]
fn reaping_goes_on_where_it_stopped() {
    let w = world();
    let f = file(&w.fs, "f");
    for i in 0..40u64 {
        w.fs.write(f, i * 200_000, &[9; 70_000], true, false)
            .unwrap();
    }
    for i in 0..20 {
        w.fs.set_xattr(
            f,
            format!("user.{i}").as_bytes(),
            &[1; 30_000],
            XattrSet::Any,
        )
        .unwrap();
    }
    unlink(&w.fs, "f");
    let s = w.clone_as("c@s", true);
    assert_eq!(s.attr(f).unwrap().nlink, 0);
    let c = w.clone_as("d", false);
    errno(c.attr(f), libc::ENOENT);
    assert_eq!(c.volume().usage(), (0, 1));
    assert!(w.fs.volume().usage().0 > 0, "the source keeps its own");
    w.fs.forget(f).unwrap();
    assert_eq!(w.fs.volume().usage(), (0, 1));
    w.check();
}

#[test]
fn content_differs() {
    type Change = &'static dyn Fn(&Fs, Ino);
    let changes: [(&str, Change); 9] = [
        ("write", &|fs, f| fs.write(f, 5, b"x", true, false).unwrap()),
        ("write back", &|fs, f| {
            fs.write(f, 5, b"x", false, false).unwrap()
        }),
        ("append", &|fs, f| {
            fs.write(f, fs.attr(f).unwrap().size, b"x", false, false)
                .unwrap()
        }),
        ("a lot", &|fs, f| {
            fs.write(f, 0, &[1; 300_000], false, false).unwrap()
        }),
        ("shorter", &|fs, f| size(fs, f, 1)),
        ("longer", &|fs, f| size(fs, f, 1 << 30)),
        ("hole", &|fs, f| {
            fs.fallocate(f, 0..4096, Fallocate::PunchHole).unwrap()
        }),
        ("zero", &|fs, f| {
            fs.fallocate(f, 0..4096, Fallocate::ZeroRange { keep_size: true })
                .unwrap()
        }),
        ("time set back", &|fs, f| {
            let (mtime, ctime) = (fs.attr(f).unwrap().mtime, fs.attr(f).unwrap().ctime);
            fs.write(f, 9, b"y", true, false).unwrap();
            let s = SetAttr {
                mtime: Some(mtime),
                ctime: Some(ctime),
                ..SetAttr::default()
            };
            fs.set_attr(f, &s, &ROOT).unwrap();
        }),
    ];
    for len in [100, 5_000, 200_000] {
        for (what, change) in &changes {
            let w = world();
            let f = file(&w.fs, "f");
            file(&w.fs, "other");
            w.fs.write(f, 0, &vec![7; len], true, false).unwrap();
            let base = w.clone_as("c@base", true);
            assert_eq!(lines(&base, &w.fs), Vec::<String>::new());
            change(&w.fs, f);
            assert_eq!(lines(&base, &w.fs), ["C /f"], "{what}, {len} bytes");
        }
    }
}

#[test]
fn reading_is_no_change() {
    let w = world();
    let f = file(&w.fs, "f");
    w.fs.write(f, 0, &[7; 100_000], true, false).unwrap();
    let base = w.clone_as("c@base", true);
    tick();
    w.fs.read(f, 0, &mut [0; 4096]).unwrap();
    w.fs.touch_atime(f).unwrap();
    w.fs.fsync(f).unwrap();
    assert_eq!(lines(&base, &w.fs), Vec::<String>::new());
    assert_eq!(lines(&base, &base), Vec::<String>::new());
    assert_eq!(at(&base, "f"), f);
    assert_eq!(w.fs.attr(ROOT_INO).unwrap().nlink, 2);
}
