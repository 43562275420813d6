use super::*;
use crate::base::ROOT_INO;
use crate::device::MemDevice;
use crate::fs::{Cred, Fallocate};
use crate::pool::{Config, Devices, Format, Kind, NewVolume, Pool, Volume};
use std::sync::Arc;
use std::time::Duration;

fn pool(devices: &Devices) -> Arc<Pool> {
    let config = Config {
        interval: Duration::ZERO,
        boot: [1; 32],
        ..Config::default()
    };
    Pool::open(devices.clone(), config).unwrap()
}

fn devices() -> Devices {
    let mem = || Arc::new(MemDevice::new());
    let devices = Devices {
        metadata: mem(),
        data: mem(),
        log: mem(),
    };
    let format = Format {
        log_size: 8 << 20,
        ..Format::default()
    };
    Pool::format(&devices, &format).unwrap();
    devices
}

fn volume(pool: &Arc<Pool>, name: &str, source: Option<&Volume>) -> Arc<Volume> {
    let new = NewVolume {
        name: name.into(),
        kind: Kind::Container,
        source: source.map(Volume::id),
        limit: None,
        building: false,
        sealed: false,
    };
    let id = pool.create(&new).unwrap().id;
    pool.volume(id).unwrap()
}

const PIECES_OF_FILE: u64 = 100;

/// A file of many pieces, whose truncation has made its first step and no more.
fn half_way(fs: &Fs) -> Ino {
    let new = |name: &str| {
        fs.mknod(ROOT_INO, name.as_bytes(), libc::S_IFREG, 0, &Cred::ROOT)
            .unwrap()
            .ino
    };
    let (a, b) = (new("a"), new("b"));
    for i in 0..PIECES_OF_FILE {
        for ino in [a, b] {
            fs.write(ino, i * 2 * BLOCK, &[7; BLOCK as usize], true, false)
                .unwrap();
        }
    }
    let gate = fs.volume.enter(Need::FREE).unwrap();
    let item = gate.view(|r| read_file(r, a)).unwrap();
    assert!(!fs.resize(&gate, a, &item, BLOCK + 5, false).unwrap());
    drop(gate);
    assert_eq!(fs.attr(a).unwrap().size, BLOCK + 5);
    assert!(fs.attr(a).unwrap().blocks > 8 * 50, "most is still there");
    a
}

fn assert_finished(fs: &Fs, ino: Ino, size: u64) {
    let attr = fs.attr(ino).unwrap();
    assert_eq!((attr.size, attr.blocks), (size, 8));
    let gate = fs.volume.enter(Need::READ).unwrap();
    let (flags, orphan) = gate
        .view(|r| Ok((read_inode(r, ino)?.flags, r.get(&orphan_key(ino))?)))
        .unwrap();
    assert_eq!((flags & TRUNCATING, orphan), (0, None));
}

#[test]
fn a_crash_in_the_middle_is_finished() {
    let devices = devices();
    let pool_before = pool(&devices);
    let volume = volume(&pool_before, "v", None);
    let id = volume.id();
    Fs::format(&volume, 0o755).unwrap();
    let fs = Fs::open(volume).unwrap();
    let ino = half_way(&fs);
    drop(fs);
    drop(pool_before);
    let pool = pool(&devices);
    let fs = Fs::open(pool.volume(id).unwrap()).unwrap();
    assert_finished(&fs, ino, BLOCK + 5);
    assert!(pool.check(&|_, _| ()).unwrap().problems.is_empty());
}

/// A clone taken in the middle, and each way of making the file longer: what was cut off is gone.
#[test]
fn nobody_sees_what_was_cut_off() {
    let devices = devices();
    let pool = pool(&devices);
    let first = volume(&pool, "v", None);
    Fs::format(&first, 0o755).unwrap();
    let fs = Fs::open(first.clone()).unwrap();
    let ino = half_way(&fs);
    let end = 150 * BLOCK;
    for way in 0..5 {
        let clone = volume(&pool, &format!("c{way}"), Some(&first));
        // Without what opening does about it.
        let names = fs.names;
        let fs = Fs {
            volume: clone,
            names,
            read_only: false,
            data: Default::default(),
        };
        match way {
            0 => fs.write(ino, end - 1, b"\0", true, false).unwrap(),
            1 => fs.set_size(ino, end, false).unwrap(),
            2 => {
                let mode = Fallocate::Allocate { keep_size: false };
                fs.fallocate(ino, end - 1..end, mode).unwrap();
            }
            3 => {
                fs.copy_range(ino, 0, ino, end - 5, 5).unwrap();
                fs.write(ino, end - 5, &[0; 5], true, false).unwrap();
            }
            _ => {
                assert_finished(&Fs::open(fs.volume.clone()).unwrap(), ino, BLOCK + 5);
                continue;
            }
        }
        let mut bytes = vec![1; end as usize + 1];
        assert_eq!(fs.read(ino, 0, &mut bytes).unwrap() as u64, end);
        let (head, tail) = bytes.split_at(BLOCK as usize);
        assert!(head.iter().all(|b| *b == 7));
        assert!(
            tail[..(end - BLOCK) as usize].iter().all(|b| *b == 0),
            "way {way}"
        );
    }
    fs.finish_truncate(ino, 0).unwrap();
    assert_finished(&fs, ino, BLOCK + 5);
    assert!(pool.check(&|_, _| ()).unwrap().problems.is_empty());
}

#[test]
fn orphans_without_an_inode_are_forgotten() {
    let devices = devices();
    let pool = pool(&devices);
    let volume = volume(&pool, "v", None);
    Fs::format(&volume, 0o755).unwrap();
    let fs = Fs::open(volume).unwrap();
    fs.volume
        .enter(Need::SMALL)
        .unwrap()
        .update(|op| set_orphan(op, 77, orphan::TRUNCATE, Some(5)))
        .unwrap();
    fs.finish_truncate(77, 5).unwrap();
    let gate = fs.volume.enter(Need::READ).unwrap();
    assert_eq!(gate.view(|r| r.get(&orphan_key(77))).unwrap(), None);
}
