//! Each thing the check looks for, made wrong.

use crate::base::{Ino, ROOT_INO};
use crate::device::MemDevice;
use crate::fs::inode::{inode_key, read_inode, write_inode};
use crate::fs::item::{DirentItem, InodeItem, LinkItem, OrphanItem};
use crate::fs::{Cred, Fs, XattrSet};
use crate::pool::{Config, Devices, Format, Kind, Need, NewVolume, Op, Pool};
use crate::tree::{Key, Read, kind};
use std::sync::Arc;
use std::time::Duration;

/// A little of everything.
fn example() -> (Arc<Fs>, Ino, Ino) {
    let devices = Devices {
        metadata: Arc::new(MemDevice::new()),
        data: Arc::new(MemDevice::new()),
        log: Arc::new(MemDevice::new()),
    };
    Pool::format(
        &devices,
        &Format {
            log_size: 8 << 20,
            ..Format::default()
        },
    )
    .unwrap();
    let config = Config {
        boot: [1; 32],
        cache_bytes: 32 << 20,
        interval: Duration::ZERO,
        discard: true,
    };
    let pool = Pool::open(devices, config).unwrap();
    let new = NewVolume {
        name: "c".into(),
        kind: Kind::Container,
        source: None,
        limit: None,
        building: false,
        sealed: false,
    };
    let id = pool.create(&new).unwrap().id;
    let volume = pool.volume(id).unwrap();
    Fs::format(&volume, 0o755).unwrap();
    let fs = Fs::open(volume).unwrap();
    let d = fs.mkdir(ROOT_INO, b"d", 0o755, &Cred::ROOT).unwrap().ino;
    fs.mkdir(d, b"e", 0o755, &Cred::ROOT).unwrap();
    let f = fs
        .mknod(d, b"f", libc::S_IFREG | 0o644, 0, &Cred::ROOT)
        .unwrap()
        .ino;
    fs.link(f, ROOT_INO, b"g").unwrap();
    fs.link(f, ROOT_INO, b"h").unwrap();
    fs.write(f, 0, &[1; 300_000], true, false).unwrap();
    fs.set_xattr(f, b"user.a", &[1; 9_000], XattrSet::Any)
        .unwrap();
    fs.symlink(ROOT_INO, b"s", b"target", &Cred::ROOT).unwrap();
    let small = fs
        .mknod(ROOT_INO, b"small", libc::S_IFREG, 0, &Cred::ROOT)
        .unwrap()
        .ino;
    fs.write(small, 0, b"small", true, false).unwrap();
    let gone = fs
        .mknod(ROOT_INO, b"gone", libc::S_IFREG, 0, &Cred::ROOT)
        .unwrap()
        .ino;
    fs.write(gone, 0, &[1; 5_000], true, false).unwrap();
    fs.unlink(ROOT_INO, b"gone").unwrap();
    (fs, d, f)
}

/// What the check says after a change of (directory, file).
fn after(change: impl Fn(&Fs, &mut Op<'_>, Ino, Ino)) -> String {
    let (fs, d, f) = example();
    fs.volume
        .enter(Need {
            keys: 32,
            bytes: 64 << 10,
            frees: false,
        })
        .unwrap()
        .update(|op| {
            change(&fs, op, d, f);
            Ok(())
        })
        .unwrap();
    fs.check().unwrap().join("\n")
}

fn edit(op: &mut Op<'_>, ino: Ino, change: impl Fn(&mut InodeItem)) {
    let mut item = read_inode(op, ino).unwrap();
    change(&mut item);
    write_inode(op, ino, &item);
}

fn first(op: &Op<'_>, object: u64, kind: u8) -> (Key, Vec<u8>) {
    let found = op.next(&Key::new(object, kind, 0)).unwrap().unwrap();
    assert_eq!((found.0.object, found.0.kind), (object, kind));
    found
}

#[track_caller]
fn says(found: &str, what: &str) {
    assert!(found.contains(what), "{found:?} does not say {what:?}");
}

#[test]
fn whole() {
    assert_eq!(after(|_, _, _, _| {}), "");
}

#[test]
fn inodes() {
    says(
        &after(|_, op, _, f| op.put(inode_key(f), vec![1, 2])),
        "its item makes no sense",
    );
    says(
        &after(|_, op, _, f| op.delete(inode_key(f))),
        "which there is not",
    );
    says(
        &after(|_, op, _, f| edit(op, f, |i| i.nlink = 5)),
        "links 5, but there are 3",
    );
    says(
        &after(|_, op, d, _| edit(op, d, |i| i.nlink = 2)),
        "links 2, but there are 3",
    );
    says(
        &after(|_, op, d, _| edit(op, d, |i| i.size = 3)),
        "bytes of names 3, but there are 2",
    );
    says(
        &after(|_, op, _, f| edit(op, f, |i| i.blocks = 3)),
        "blocks 3, but there are",
    );
    says(
        &after(|_, op, _, f| edit(op, f, |i| i.cookie += 1)),
        "its first name is not in directory",
    );
    says(
        &after(|_, op, _, f| edit(op, f, |i| i.nlink = 0)),
        "has no name and no orphan item",
    );
    says(
        &after(|_, op, _, _| edit(op, ROOT_INO, |i| i.mode = libc::S_IFREG)),
        "the root directory: Not a dir",
    );
    says(
        &after(|_, op, _, _| edit(op, ROOT_INO, |i| i.cookie = 9)),
        "the root directory has a name",
    );
    says(
        &after(|_, op, _, f| edit(op, f, |i| i.flags |= 4)),
        "flags of attributes",
    );
}

#[test]
fn names() {
    let entry = |op: &Op<'_>, d| first(op, d, kind::DIRENT);
    says(
        &after(|_, op, d, _| op.put(entry(op, d).0, vec![1])),
        "an entry makes no sense",
    );
    let wrong = after(|_, op, d, _| {
        let (key, value) = entry(op, d);
        let e = DirentItem::decode(&value).unwrap();
        op.put(
            key,
            DirentItem {
                name: b"other".to_vec(),
                ..e
            }
            .encode(),
        );
    });
    says(&wrong, "'other' is where it does not belong");
    let wrong = after(|_, op, d, _| {
        let (key, value) = entry(op, d);
        let e = DirentItem::decode(&value).unwrap();
        op.put(
            key,
            DirentItem {
                kind: libc::S_IFSOCK,
                ..e
            }
            .encode(),
        );
    });
    says(&wrong, "has another type than its inode");
    // A name that its inode does not know.
    let wrong = after(|fs, op, d, f| {
        let name = b"extra".to_vec();
        let e = DirentItem {
            ino: f,
            kind: libc::S_IFREG,
            flags: 0,
            name,
        };
        op.put(
            Key::new(d, kind::DIRENT, fs.names.name(b"extra")),
            e.encode(),
        );
    });
    says(&wrong, "does not know its name 'extra'");
    let wrong = after(|_, op, _, f| op.delete(first(op, f, kind::LINK).0));
    says(&wrong, "does not know its name");
    says(&wrong, "links 3, but there are 2");
    let wrong = after(|_, op, _, f| {
        op.put(
            Key::new(f, kind::LINK, 77),
            LinkItem {
                dir: ROOT_INO,
                cookie: 4711,
            }
            .encode(),
        );
    });
    says(
        &wrong,
        "a link item for a name in directory 1 that is not there",
    );
}

#[test]
fn directories_in_a_circle() {
    let wrong = after(|fs, op, d, _| {
        // "d" moves below "d/e" behind everybody's back.
        let (old, _) = fs.entry(op, ROOT_INO, b"d").unwrap();
        let (_, e) = fs.entry(op, d, b"e").unwrap();
        op.delete(Key::new(ROOT_INO, kind::DIRENT, old));
        let moved = DirentItem {
            ino: d,
            kind: libc::S_IFDIR,
            flags: 0,
            name: b"d".to_vec(),
        };
        op.put(Key::new(e.ino, kind::DIRENT, old), moved.encode());
        edit(op, d, |i| i.parent = e.ino);
        edit(op, e.ino, |i| (i.nlink, i.size) = (3, 1));
        edit(op, ROOT_INO, |i| {
            (i.nlink, i.size) = (i.nlink - 1, i.size - 1)
        });
    });
    says(&wrong, "cannot be reached from the root");
}

#[test]
fn attributes() {
    let key = |op: &Op<'_>, f| first(op, f, kind::XATTR).0;
    let part = |op: &Op<'_>, f, n| Key {
        offset: key(op, f).offset + n,
        ..key(op, f)
    };
    says(
        &after(|_, op, _, f| op.delete(part(op, f, 2))),
        "an attribute's end is missing",
    );
    says(
        &after(|_, op, _, f| op.delete(part(op, f, 1))),
        "a part of no attribute",
    );
    says(
        &after(|_, op, _, f| op.put(part(op, f, 1), vec![1; 9])),
        "wrong length",
    );
    says(
        &after(|_, op, _, f| op.put(key(op, f), vec![1])),
        "an attribute makes no sense",
    );
    says(
        &after(|_, op, _, f| edit(op, f, |i| i.xattr_bytes = 1)),
        "bytes of attributes 1",
    );
    says(
        &after(|_, op, _, f| edit(op, f, |i| i.xattr_names = 1)),
        "bytes of attribute names 1",
    );
}

#[test]
fn orphans() {
    let put = |op: &mut Op<'_>, ino, bits| {
        op.put(
            Key::new(0, kind::ORPHAN, ino),
            OrphanItem { bits, size: 0 }.encode(),
        );
    };
    says(
        &after(|_, op, _, _| put(op, 999, 1)),
        "an orphan item for inode 999, which there is not",
    );
    says(
        &after(|_, op, _, f| put(op, f, 1)),
        "has 3 names and an orphan item",
    );
    says(
        &after(|_, op, _, f| op.put(Key::new(0, kind::ORPHAN, f), vec![])),
        "makes no sense",
    );
    says(
        &after(|_, op, _, _| op.delete(first(op, 0, kind::ORPHAN).0)),
        "has no name and no orphan item",
    );
}

#[test]
fn content() {
    let wrong = after(|_, op, _, f| op.delete(first(op, f, kind::EXTENT).0));
    says(&wrong, "are held for no file");
    says(&wrong, "blocks 74, but there are");
    let wrong = after(|_, op, _, f| {
        let (key, value) = first(op, f, kind::EXTENT);
        op.put(
            Key {
                offset: key.offset + 1000,
                ..key
            },
            value,
        );
    });
    says(&wrong, "is in two files");
    says(
        &after(|_, op, _, f| op.put(first(op, f, kind::EXTENT).0, vec![1])),
        "makes no sense",
    );
    let wrong = after(|fs, op, _, _| {
        let (_, s) = fs.entry(op, ROOT_INO, b"s").unwrap();
        op.delete(Key::new(s.ino, kind::INLINE, 0));
    });
    says(&wrong, "bytes of the target 6, but there are 0");
    let wrong = after(|fs, op, _, _| {
        let (_, s) = fs.entry(op, ROOT_INO, b"small").unwrap();
        op.delete(Key::new(s.ino, kind::INLINE, 0));
    });
    says(&wrong, "bytes kept in the tree 1, but there are 0");
    says(
        &after(|_, op, _, f| op.put(Key::new(f, 0x77, 0), vec![])),
        "an item of kind 0x77",
    );
}
