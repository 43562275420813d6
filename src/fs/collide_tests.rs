//! Names, attributes and links whose hashes collide: the hash is made so narrow that they must.

use super::hash::{NameHash, SLOTS};
use super::{Cred, Fs, XattrSet, data};
use crate::base::{Ino, ROOT_INO};
use crate::device::MemDevice;
use crate::pool::{Config, Devices, Format, Kind, NewVolume, Pool};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A file system whose hash has `bits` bits.
fn narrow(bits: u32) -> Fs {
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
    let names = NameHash::narrow([9; 16], bits);
    Fs {
        volume,
        names,
        data: data::State::default(),
        read_only: false,
    }
}

fn file(fs: &Fs, dir: Ino, name: &str) -> Ino {
    fs.mknod(dir, name.as_bytes(), libc::S_IFREG | 0o644, 0, &Cred::ROOT)
        .unwrap()
        .ino
}

fn names(fs: &Fs, dir: Ino) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    let mut last = 0;
    fs.readdir(dir, 0, false, &mut |e, _| {
        assert!(e.cookie > last);
        last = e.cookie;
        assert!(out.insert(String::from_utf8_lossy(&e.name).into_owned()));
        true
    })
    .unwrap();
    out.remove(".");
    out.remove("..");
    out
}

#[test]
fn names_that_collide() {
    let fs = narrow(3);
    let mut expect = BTreeSet::new();
    for i in 0..700 {
        file(&fs, ROOT_INO, &format!("n{i}"));
        expect.insert(format!("n{i}"));
    }
    assert_eq!(names(&fs, ROOT_INO), expect);
    for i in (0..700).step_by(3) {
        fs.unlink(ROOT_INO, format!("n{i}").as_bytes()).unwrap();
        expect.remove(&format!("n{i}"));
    }
    for i in (1..700).step_by(3) {
        let (from, to) = (format!("n{i}"), format!("moved{i}"));
        fs.rename(
            ROOT_INO,
            from.as_bytes(),
            ROOT_INO,
            to.as_bytes(),
            Default::default(),
        )
        .unwrap();
        expect.remove(&from);
        expect.insert(to);
    }
    assert_eq!(names(&fs, ROOT_INO), expect);
    for name in &expect {
        fs.lookup(ROOT_INO, name.as_bytes()).unwrap();
    }
    assert!(fs.lookup(ROOT_INO, b"n0").is_err());
}

#[test]
fn all_slots_taken() {
    let fs = narrow(1);
    for i in 0..SLOTS {
        file(&fs, ROOT_INO, &format!("n{i}"));
    }
    let more = || fs.mknod(ROOT_INO, b"more", libc::S_IFREG, 0, &Cred::ROOT);
    assert_eq!(more().unwrap_err().errno(), libc::ENOSPC);
    // Renaming over an old name takes no new slot.
    fs.rename(ROOT_INO, b"n1", ROOT_INO, b"n2", Default::default())
        .unwrap();
    let made = more().unwrap();
    assert_eq!(fs.lookup(ROOT_INO, b"more").unwrap().ino, made.ino);
    assert_eq!(names(&fs, ROOT_INO).len() as u64, SLOTS);
}

/// A name taken out of the middle of a listing leaves the cookies of the others as they are.
#[test]
fn cookies_stay_when_a_slot_before_them_is_freed() {
    let fs = narrow(1);
    for i in 0..20 {
        file(&fs, ROOT_INO, &format!("n{i}"));
    }
    let mut seen = Vec::new();
    fs.readdir(ROOT_INO, 0, false, &mut |e, _| {
        seen.push(e.clone());
        seen.len() < 12
    })
    .unwrap();
    let (rest, cookie) = (seen[11].clone(), seen[10].cookie);
    fs.unlink(ROOT_INO, &seen[5].name).unwrap();
    fs.unlink(ROOT_INO, &seen[10].name).unwrap();
    let mut next = None;
    fs.readdir(ROOT_INO, cookie, false, &mut |e, _| {
        next = Some(e.clone());
        false
    })
    .unwrap();
    assert_eq!(next, Some(rest));
}

#[test]
fn attributes_that_collide() {
    let fs = narrow(1);
    let f = file(&fs, ROOT_INO, "f");
    let name = |i: u64| format!("user.{i}").into_bytes();
    let value = |i: u64| vec![i as u8; (i * 300) as usize % 65_536];
    for i in 0..SLOTS {
        fs.set_xattr(f, &name(i), &value(i), XattrSet::Create)
            .unwrap();
    }
    let full = fs
        .set_xattr(f, b"user.more", b"", XattrSet::Any)
        .unwrap_err();
    assert_eq!(full.errno(), libc::ENOSPC);
    for i in (0..SLOTS).step_by(2) {
        fs.remove_xattr(f, &name(i)).unwrap();
    }
    assert_eq!(fs.xattrs(f).unwrap().len() as u64, SLOTS / 2);
    for i in 0..SLOTS {
        match fs.xattr(f, &name(i)) {
            Ok(found) => assert!(i % 2 == 1 && found == value(i)),
            Err(e) => assert!(i % 2 == 0 && e.errno() == libc::ENODATA),
        }
    }
}

#[test]
fn links_that_collide() {
    let fs = narrow(1);
    let d = fs.mkdir(ROOT_INO, b"d", 0o755, &Cred::ROOT).unwrap().ino;
    let f = file(&fs, d, "0");
    for i in 1..200 {
        fs.link(f, d, i.to_string().as_bytes()).unwrap();
    }
    for i in (0..200).rev() {
        let name = i.to_string();
        fs.rename(
            d,
            name.as_bytes(),
            ROOT_INO,
            name.as_bytes(),
            Default::default(),
        )
        .unwrap();
    }
    for i in 0..200 {
        let left = fs.unlink(ROOT_INO, i.to_string().as_bytes()).unwrap().nlink;
        assert_eq!(left, 199 - i);
    }
}
