//! Edges of single operations.

use crate::support::*;
use cowfs::base::{ROOT_INO, Time};
use cowfs::fs::{Cred, Fallocate, Fs, Seek, SetAttr, XattrSet};
use cowfs::pool::{Format, NewVolume};
use std::sync::Arc;
use std::sync::atomic::Ordering;

fn fresh() -> (World, Arc<Fs>) {
    let w = world(&format());
    let fs = w.volume("v", None);
    (w, fs)
}

#[test]
fn only_files_have_data() {
    let (_w, fs) = fresh();
    let mode = libc::S_IFIFO | 0o600;
    let fifo = fs.mknod(ROOT_INO, b"p", mode, 0, &Cred::ROOT).unwrap().ino;
    let mut buf = [0; 10];
    for (ino, want) in [
        (ROOT_INO, libc::EISDIR),
        (fifo, libc::EINVAL),
        (999, libc::ENOENT),
    ] {
        assert_eq!(errno(fs.read(ino, 0, &mut buf)), want);
        assert_eq!(errno(fs.write(ino, 0, b"x", true, false)), want);
        assert_eq!(errno(fs.seek(ino, 0, Seek::Data)), want);
        assert_eq!(errno(fs.fallocate(ino, 0..5, Fallocate::PunchHole)), want);
        assert_eq!(errno(fs.copy_range(ino, 0, ino, 9, 9)), want);
        assert_eq!(errno(fs.pieces(ino, 0..9)), want);
    }
}

#[test]
fn sealed_is_read_only() {
    let (w, fs) = fresh();
    let ino = file(&fs, "f");
    write(&fs, ino, 0, &pattern(100 * KB, 1));
    let source = Some(fs.volume().id());
    let sealed = NewVolume {
        sealed: true,
        ..new_volume("s", source)
    };
    let snap = w.open(w.pool.create(&sealed).unwrap().id);
    assert_eq!(errno(snap.write(ino, 0, b"x", false, false)), libc::EROFS);
    assert_eq!(
        errno(snap.fallocate(ino, 0..5, Fallocate::PunchHole)),
        libc::EROFS
    );
    assert_eq!(errno(snap.copy_range(ino, 0, ino, 50, 5)), libc::EROFS);
    write(&fs, ino, 0, &pattern(100 * KB, 2));
    truncate(&fs, ino, 50 * KB);
    assert!(content(&snap, ino) == pattern(100 * KB, 1));
    w.check();
}

#[test]
fn as_large_as_files_get() {
    let (w, fs) = fresh();
    let ino = file(&fs, "f");
    let max = i64::MAX as u64;
    assert_eq!(errno(fs.write(ino, max, b"x", true, false)), libc::EFBIG);
    assert_eq!(
        errno(fs.write(ino, u64::MAX, b"xx", true, false)),
        libc::EFBIG
    );
    assert_eq!(
        errno(fs.fallocate(ino, 0..max + 1, Fallocate::PunchHole)),
        libc::EFBIG
    );
    let set = SetAttr {
        size: Some(max + 1),
        ..SetAttr::default()
    };
    assert_eq!(errno(fs.set_attr(ino, &set, &Cred::ROOT)), libc::EFBIG);
    write(&fs, ino, max - 3, b"end");
    let mut buf = [9; 20];
    assert_eq!(fs.read(ino, max - 5, &mut buf).unwrap(), 5);
    assert_eq!(buf[..6], [0, 0, b'e', b'n', b'd', 9]);
    assert_eq!(fs.read(ino, u64::MAX - 1, &mut buf).unwrap(), 0);
    assert_eq!(
        fs.seek(ino, 0, Seek::Data).unwrap(),
        (max - 3) / 4096 * 4096
    );
    assert_eq!(errno(fs.copy_range(ino, 0, ino, max - 1, max)), libc::EFBIG);
    let other = file(&fs, "g");
    assert_eq!(fs.copy_range(ino, max - 3, other, 1, 99).unwrap(), 3);
    assert_eq!(content(&fs, other), b"\0end");
    fs.fallocate(ino, 0..max, Fallocate::PunchHole).unwrap();
    balanced(&fs, &[ino, other]);
    truncate(&fs, ino, max);
    truncate(&fs, ino, 0);
    w.check();
}

/// More than fits: refused at once, before anything is allocated.
#[test]
fn petabytes_are_refused() {
    let (w, fs) = fresh();
    let ino = file(&fs, "f");
    let all = Fallocate::Allocate { keep_size: false };
    assert_eq!(errno(fs.fallocate(ino, 0..1 << 60, all)), libc::ENOSPC);
    assert_eq!((w.chunks(), fs.attr(ino).unwrap().size), (0, 0));
}

#[test]
fn what_writes_do_to_the_inode() {
    let (_w, fs) = fresh();
    let ino = file(&fs, "f");
    write(&fs, ino, 0, &pattern(100 * KB, 1));
    let old = Time { sec: 5, nsec: 6 };
    let set = SetAttr {
        mode: Some(0o6755),
        mtime: Some(old),
        ctime: Some(old),
        ..SetAttr::default()
    };
    let before = fs.set_attr(ino, &set, &Cred::ROOT).unwrap();
    assert_eq!(
        (before.mode & 0o7777, before.mtime, before.ctime),
        (0o6755, old, old)
    );
    // The kernel's write-back: nothing but bytes; growing keeps the times too.
    fs.write(ino, 10, b"x", false, false).unwrap();
    fs.write(ino, 200 * KB, b"x", false, false).unwrap();
    let after = fs.attr(ino).unwrap();
    assert_eq!(
        (after.mode, after.mtime, after.ctime),
        (before.mode, old, old)
    );
    fs.write(ino, 10, b"x", true, false).unwrap();
    let after = fs.attr(ino).unwrap();
    assert!(after.mode == before.mode && after.mtime > old && after.ctime > old);
    // Privileges go, even when the bytes alone would need no record.
    fs.write(ino, 10, b"x", false, true).unwrap();
    assert_eq!(fs.attr(ino).unwrap().mode & 0o7777, 0o755);
    let capability = b"security.capability";
    fs.set_xattr(ino, capability, &[1; 20], XattrSet::Any)
        .unwrap();
    fs.write(ino, 10, b"x", false, false).unwrap();
    assert_eq!(errno(fs.xattr(ino, capability)), libc::ENODATA);
    // As they do from a file in the tree.
    let tiny = file(&fs, "t");
    let set = SetAttr {
        mode: Some(0o4755),
        ..SetAttr::default()
    };
    fs.set_attr(tiny, &set, &Cred::ROOT).unwrap();
    fs.write(tiny, 0, b"x", false, true).unwrap();
    assert_eq!(fs.attr(tiny).unwrap().mode & 0o7777, 0o755);
    // An empty write is no write.
    fs.set_attr(tiny, &set, &Cred::ROOT).unwrap();
    fs.write(tiny, 0, b"", true, true).unwrap();
    assert_eq!(fs.attr(tiny).unwrap().mode & 0o7777, 0o4755);
}

/// What a shorter file had behind its end never comes back.
#[test]
fn growing_again_shows_zeros() {
    let (w, fs) = fresh();
    for size in [100, 3000, 5000, 70_000, 300_000u64] {
        for grow in 0..4 {
            let ino = file(&fs, &format!("f{size}-{grow}"));
            write(&fs, ino, 0, &vec![0xff; size as usize]);
            let keep = w.clone_of(&fs, &format!("c{size}-{grow}"));
            let cut = size - size / 3;
            truncate(&fs, ino, cut);
            let mut want = vec![0xff; cut as usize];
            match grow {
                0 => truncate(&fs, ino, size),
                1 => write(&fs, ino, size - 1, b"\0"),
                2 => {
                    let mode = Fallocate::Allocate { keep_size: false };
                    fs.fallocate(ino, size - 1..size, mode).unwrap();
                }
                _ => {
                    let empty = file(&fs, &format!("e{size}"));
                    truncate(&fs, empty, 50);
                    assert_eq!(fs.copy_range(empty, 0, ino, size - 50, 50).unwrap(), 50);
                    want.truncate(size as usize - 50);
                }
            }
            want.resize(size as usize, 0);
            assert!(content(&fs, ino) == want, "{size} {grow}");
            assert!(content(&keep, ino) == vec![0xff; size as usize]);
        }
    }
    w.check();
}

#[test]
fn tiny_files_move_out_of_the_tree() {
    let (w, fs) = fresh();
    let ino = file(&fs, "f");
    let mut model = Vec::new();
    for i in 0..60 {
        let data = pattern(97, i);
        write(&fs, ino, model.len() as u64, &data);
        model.extend_from_slice(&data);
        assert!(content(&fs, ino) == model);
        assert!(fs.attr(ino).unwrap().blocks > 0);
    }
    assert_eq!((w.chunks(), fs.attr(ino).unwrap().blocks), (1, 16));
    // And stay out.
    truncate(&fs, ino, 10);
    assert_eq!(content(&fs, ino), model[..10]);
    // A tiny one may be stretched, and its hole filled.
    let ino = file(&fs, "g");
    write(&fs, ino, 3, b"abc");
    truncate(&fs, ino, 100_000);
    write(&fs, ino, 50, b"def");
    assert_eq!(fs.attr(ino).unwrap().blocks, 1);
    let mut want = vec![0; 100_000];
    want[3..6].copy_from_slice(b"abc");
    want[50..53].copy_from_slice(b"def");
    assert!(content(&fs, ino) == want);
    write(&fs, ino, 90_000, b"ghi");
    want[90_000..90_003].copy_from_slice(b"ghi");
    assert!(content(&fs, ino) == want);
    fs.fallocate(ino, 4..51, Fallocate::PunchHole).unwrap();
    want[4..51].fill(0);
    assert!(content(&fs, ino) == want);
}

#[test]
fn seeking() {
    let (_w, fs) = fresh();
    let ino = file(&fs, "f");
    let seek = |offset, what| fs.seek(ino, offset, what).ok();
    assert_eq!((seek(0, Seek::Data), seek(0, Seek::Hole)), (None, None));
    truncate(&fs, ino, MB);
    assert_eq!((seek(5, Seek::Data), seek(5, Seek::Hole)), (None, Some(5)));
    write(&fs, ino, 100 * KB, &pattern(100 * KB, 1));
    write(&fs, ino, 300 * KB + 1, b"x");
    fs.fallocate(ino, 0..50 * KB, Fallocate::Allocate { keep_size: true })
        .unwrap();
    assert_eq!(seek(0, Seek::Data), Some(100 * KB));
    assert_eq!(seek(0, Seek::Hole), Some(0));
    assert_eq!(seek(100 * KB + 7, Seek::Data), Some(100 * KB + 7));
    assert_eq!(seek(100 * KB + 7, Seek::Hole), Some(200 * KB));
    assert_eq!(seek(200 * KB, Seek::Data), Some(300 * KB));
    assert_eq!(seek(300 * KB + 5, Seek::Hole), Some(304 * KB));
    assert_eq!(
        (seek(304 * KB, Seek::Data), seek(304 * KB, Seek::Hole)),
        (None, Some(304 * KB))
    );
    assert_eq!((seek(MB, Seek::Data), seek(MB, Seek::Hole)), (None, None));
    // The end is a hole; more extents than one look takes.
    let ino = file(&fs, "g");
    for i in (0..3000).rev() {
        write(&fs, ino, i * 8 * KB, &[1; 4096]);
    }
    for i in (0..3000).rev() {
        write(&fs, ino, (i * 8 + 4) * KB, &[1; 4096]);
    }
    assert_eq!(fs.seek(ino, 5, Seek::Hole).unwrap(), 24_000 * KB);
    let tiny = file(&fs, "t");
    write(&fs, tiny, 0, b"hello");
    assert_eq!(fs.seek(tiny, 1, Seek::Data).unwrap(), 1);
    assert_eq!(fs.seek(tiny, 1, Seek::Hole).unwrap(), 5);
}

#[test]
fn a_volume_has_its_limit() {
    let w = world(&format());
    let fs = w.volume("v", Some(MB));
    let ino = file(&fs, "f");
    let stat = fs.statfs().unwrap();
    assert_eq!((stat.blocks, stat.free), (256, 256));
    write(&fs, ino, 0, &pattern(MB, 1));
    assert_eq!(fs.statfs().unwrap().free, 0);
    assert_eq!(
        errno(fs.write(ino, MB, &pattern(4 * KB, 1), true, false)),
        libc::EDQUOT
    );
    assert_eq!(errno(fs.copy_range(ino, 0, ino, MB, 64 * KB)), libc::EDQUOT);
    let mode = Fallocate::Allocate { keep_size: true };
    assert_eq!(errno(fs.fallocate(ino, 0..2 * MB, mode)), libc::EDQUOT);
    // What it has may be overwritten, in a clone too, where that takes new blocks.
    write(&fs, ino, 0, &pattern(MB, 2));
    let clone = w.clone_of(&fs, "c");
    w.pool.set_limit(clone.volume().id(), Some(MB)).unwrap();
    for i in 0..200 {
        write(&clone, ino, i * 5000, &pattern(5000, i));
    }
    truncate(&fs, ino, MB / 2);
    write(&fs, ino, MB, &pattern(MB / 2, 3));
    assert_eq!(errno(fs.write(ino, 0, b"x", true, false)), 0);
    assert_eq!(
        errno(fs.write(ino, 700 * KB, b"x", true, false)),
        libc::EDQUOT
    );
    w.check();
}

/// What df promises can be written, and a full pool can be emptied and filled again.
#[test]
fn df_is_true() {
    let w = world(&Format {
        size: 8 * MB,
        ..format()
    });
    let fs = w.volume("v", None);
    for round in 0..5 {
        let free = fs.statfs().unwrap().free * BLOCK;
        assert_eq!(free, 8 * MB, "round {round}");
        let ino = file(&fs, &format!("f{round}"));
        let mut at = 0;
        while at < free {
            let n = (free - at).min(100 * KB);
            write(&fs, ino, at, &pattern(n, at));
            at += n;
        }
        assert_eq!(fs.statfs().unwrap().free, 0);
        assert_eq!(
            errno(fs.write(ino, at, &pattern(4 * KB, 1), true, false)),
            libc::ENOSPC
        );
        let clone = w.clone_of(&fs, &format!("c{round}"));
        assert_eq!(
            errno(clone.write(ino, 0, &pattern(4 * KB, 1), true, false)),
            libc::ENOSPC
        );
        let id = clone.volume().id();
        drop(clone);
        w.pool.remove(id).unwrap();
        // In place, once the removed clone is taken apart; and freeing works on a full pool.
        write(&fs, ino, 0, &pattern(MB, 9));
        fs.fallocate(ino, 0..MB, Fallocate::PunchHole).unwrap();
        // The freed chunks are found by the checkpoint that want of space forces.
        let forced = stats(&fs).forced_checkpoints.load(Ordering::Relaxed);
        write(&fs, ino, 0, &pattern(MB, 9));
        assert!(stats(&fs).forced_checkpoints.load(Ordering::Relaxed) > forced);
        fs.unlink(ROOT_INO, format!("f{round}").as_bytes()).unwrap();
        fs.forget(ino).unwrap();
        w.pool.checkpoint().unwrap();
    }
    w.check();
}

/// A file of very many pieces goes in steps.
#[test]
fn fragmented_files() {
    let (w, fs) = fresh();
    let (a, b) = (file(&fs, "a"), file(&fs, "b"));
    for i in 0..3000 {
        write(&fs, a, i * 8 * KB, &pattern(4 * KB, i));
        write(&fs, b, i * 8 * KB, &pattern(4 * KB, i + 1));
    }
    let clone = w.clone_of(&fs, "c");
    // One write over many pieces.
    write(&clone, a, 1, &pattern(10 * MB, 5));
    assert!(content(&clone, a)[1..][..10 * MB as usize] == pattern(10 * MB, 5));
    clone
        .fallocate(a, 3 * KB..20 * MB, Fallocate::ZeroRange { keep_size: true })
        .unwrap();
    assert!(
        content(&clone, a)[3 * KB as usize..][..17 * MB as usize]
            .iter()
            .all(|b| *b == 0)
    );
    let mode = Fallocate::Allocate { keep_size: false };
    clone.fallocate(b, 0..30 * MB, mode).unwrap();
    assert_eq!(clone.attr(b).unwrap().blocks, 30 * 2048);
    balanced(&clone, &[a, b]);
    truncate(&clone, a, 5);
    truncate(&clone, b, 0);
    balanced(&clone, &[a, b]);
    balanced(&fs, &[a, b]);
    w.check();
}
