//! The pool on devices in memory, driven by hand: no background thread.

use super::record::{self, Action};
use super::superblock::Superblock;
use super::*;
use crate::device::MemDevice;
use crate::tree::{Key, Mapping, kind};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

struct Disk {
    metadata: Arc<MemDevice>,
    data: Arc<MemDevice>,
    log: Arc<MemDevice>,
}

impl Disk {
    fn new(format: &Format) -> Disk {
        let mem = || Arc::new(MemDevice::new());
        let disk = Disk {
            metadata: mem(),
            data: mem(),
            log: mem(),
        };
        Pool::format(&disk.devices(), format).unwrap();
        disk
    }

    fn small() -> Disk {
        Disk::new(&Format {
            size: 1 << 30,
            log_size: 1 << 20,
            ..Format::default()
        })
    }

    fn devices(&self) -> Devices {
        Devices {
            metadata: self.metadata.clone(),
            data: self.data.clone(),
            log: self.log.clone(),
        }
    }

    /// The disk as it is now, as another one: what a crash of the process leaves.
    fn copy(&self) -> Disk {
        Disk {
            metadata: Arc::new(self.metadata.copy()),
            data: Arc::new(self.data.copy()),
            log: Arc::new(self.log.copy()),
        }
    }

    fn open(&self, boot: u8) -> Arc<Pool> {
        let config = Config {
            boot: [boot; 32],
            interval: std::time::Duration::ZERO,
            ..Config::default()
        };
        Pool::open(self.devices(), config).unwrap()
    }
}

fn new(name: &str, source: Option<VolumeId>) -> NewVolume {
    NewVolume {
        name: name.into(),
        kind: Kind::Container,
        source,
        limit: None,
        building: false,
        sealed: false,
    }
}

fn put(volume: &Volume, key: Key, value: &[u8]) {
    let g = volume.enter(Need::SMALL).unwrap();
    g.update(|op| {
        op.put(key, value.to_vec());
        Ok(())
    })
    .unwrap();
}

fn get(volume: &Volume, key: Key) -> Option<Vec<u8>> {
    volume
        .enter(Need::READ)
        .unwrap()
        .view(|r| r.get(&key))
        .unwrap()
}

fn k(n: u64) -> Key {
    Key::new(n, kind::INLINE, 0)
}

fn clean(pool: &Pool) {
    let report = pool.check(&|_, _| {}).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

/// Maps one new chunk.
fn map(volume: &Volume) -> u64 {
    let chunk = volume.chunks().alloc(1).unwrap().start;
    let at = volume.new_vchunks(1);
    let value = Mapping {
        chunk,
        count: 1,
        used: None,
    }
    .encode(64 << 10);
    put(volume, Key::new(0, kind::MAP, at), &value);
    chunk
}

#[test]
fn superblock_bytes() {
    let s = Superblock {
        uuid: [1; 16],
        generation: 2,
        salt: 3,
        boot: [4; 32],
        hash_key: [5; 16],
        chunk_size: 65536,
        size: 1 << 30,
        nodes: 512,
        catalog: 7,
        log_size: 1 << 20,
        log_pos: 8,
        log_seq: 9,
        next_volume: 10,
        container_size: 11,
        clean: true,
        name: "p".into(),
        chunk_index: vec![12; super::superblock::CHUNK_INDEX],
        node_index: vec![13; super::superblock::NODE_INDEX],
    };
    let b = s.encode();
    assert_eq!(Superblock::decode(&b, "x").unwrap().unwrap(), s);
    assert_eq!(&b[..12], b"cowfspl\0\x01\0\0\0");
    let mut zeroed = b;
    zeroed[12..16].fill(0);
    assert_eq!(b[12..16], crc32fast::hash(&zeroed).to_le_bytes());
    for (at, len, first) in [
        (40, 16, 1),
        (56, 8, 2),
        (64, 8, 3),
        (72, 32, 4),
        (104, 16, 5),
        (144, 8, 7),
        (160, 8, 8),
        (168, 8, 9),
        (176, 8, 10),
        (184, 8, 11),
        (1024, 8, 12),
        (2560, 8, 13),
    ] {
        assert_eq!(b[at], first, "offset {at} of {len} bytes");
    }
    for i in (0..b.len()).step_by(7) {
        let mut bad = b;
        bad[i] ^= 0x40;
        assert!(
            !matches!(Superblock::decode(&bad, "x"), Ok(Some(_))),
            "byte {i}"
        );
    }
}

#[test]
fn records_round_trip_and_garbage_is_refused() {
    let mut changes = BTreeMap::new();
    changes.insert(k(1), Some(b"v".to_vec()));
    changes.insert(k(2), None);
    let actions = vec![
        Action::Clone {
            source: 1,
            target: 2,
        },
        Action::Replace {
            source: 3,
            target: 4,
        },
        Action::Drop { volume: 5 },
        Action::Mark(vec![(6, 7)]),
    ];
    let b = record::encode(9, &changes, &actions);
    let (owner, back) = record::decode(&b).unwrap();
    assert_eq!(owner, 9);
    assert_eq!(
        back[..2],
        [
            Action::Change(k(1), Some(b"v".to_vec())),
            Action::Change(k(2), None)
        ]
    );
    assert_eq!(back[2..], actions[..]);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for cut in 0..b.len() {
        let _ = record::decode(&b[..cut]);
        let mut bad = b.clone();
        bad[cut] = rng.random();
        let _ = record::decode(&bad);
    }
}

#[test]
fn volumes_are_made_found_renamed_and_removed() {
    let disk = Disk::small();
    let pool = disk.open(1);
    let a = pool.create(&new("a", None)).unwrap();
    assert!(matches!(
        pool.create(&new("a", None)),
        Err(crate::base::Error::Exists(_))
    ));
    let b = pool.create(&new("b", Some(a.id))).unwrap();
    assert_eq!(pool.volumes().unwrap().len(), 2);
    pool.rename(b.id, "c").unwrap();
    assert!(pool.find("b").unwrap().is_none());
    assert_eq!(pool.find("c").unwrap().unwrap().id, b.id);
    pool.remove(a.id).unwrap();
    pool.remove(a.id).unwrap();
    assert!(pool.find("a").unwrap().is_none());
    assert_eq!(pool.volumes().unwrap().len(), 1);
    let again = pool.create(&new("a", None)).unwrap();
    assert!(again.id > b.id, "ids are never used twice");
    for i in 0..600 {
        pool.create(&new(&format!("v{i}"), None)).unwrap();
    }
    assert_eq!(pool.volumes().unwrap().len(), 602);
    clean(&pool);
}

#[test]
fn clones_share_and_diverge_and_go() {
    let disk = Disk::small();
    let pool = disk.open(1);
    let a = pool.create(&new("a", None)).unwrap();
    let va = pool.volume(a.id).unwrap();
    for i in 1..2000 {
        put(&va, k(i), &[i as u8; 100]);
    }
    let chunk = map(&va);
    pool.checkpoint().unwrap();
    let nodes = pool.node_space.used();
    let b = pool.create(&new("b", Some(a.id))).unwrap();
    assert!(
        pool.node_space.used() <= nodes + 1,
        "a clone copies nothing"
    );
    let vb = pool.volume(b.id).unwrap();
    put(&vb, k(7), b"changed");
    put(&va, k(8), b"other");
    assert_eq!(get(&va, k(7)).unwrap(), [7; 100]);
    assert_eq!(get(&vb, k(8)).unwrap(), [8; 100]);
    assert_eq!(get(&vb, k(7)).unwrap(), b"changed");
    clean(&pool);
    drop(va);
    pool.remove(a.id).unwrap();
    // Nothing is taken apart before its death is durable.
    pool.checkpoint().unwrap();
    while pool.reclaim(1000).unwrap() {}
    clean(&pool);
    assert_eq!(get(&vb, k(8)).unwrap(), [8; 100]);
    assert_eq!(pool.chunks.refs(chunk), 1);
    drop(vb);
    pool.remove(b.id).unwrap();
    // Nothing is taken apart before its death is durable.
    pool.checkpoint().unwrap();
    while pool.reclaim(1000).unwrap() {}
    pool.checkpoint().unwrap();
    assert_eq!(pool.chunks.used(), 0);
    clean(&pool);
}

#[test]
fn removal_is_deferred_while_in_use() {
    let disk = Disk::small();
    let pool = disk.open(1);
    let a = pool.create(&new("a", None)).unwrap();
    let va = pool.volume(a.id).unwrap();
    put(&va, k(1), b"x");
    pool.remove(a.id).unwrap();
    assert!(pool.find("a").unwrap().is_none());
    assert_eq!(pool.status().unwrap().deferred_removals, 1);
    assert_eq!(get(&va, k(1)).unwrap(), b"x");
    put(&va, k(2), b"still written");
    assert!(pool.volume(a.id).is_err(), "nobody new may use it");
    drop(va);
    pool.reclaim(100).unwrap();
    assert_eq!(pool.volumes().unwrap().len(), 0);
    clean(&pool);
}

#[test]
fn the_death_of_the_process_loses_nothing() {
    let disk = Disk::small();
    let pool = disk.open(1);
    let a = pool.create(&new("a", None)).unwrap();
    let va = pool.volume(a.id).unwrap();
    put(&va, k(1), b"one");
    let b = pool.create(&new("b", Some(a.id))).unwrap();
    put(&va, k(2), b"two");
    let vb = pool.volume(b.id).unwrap();
    put(&vb, k(3), b"three");
    pool.put_blob(a.id, "config", &vec![7; 100_000]).unwrap();
    let ino = va.new_ino();
    put(&va, Key::new(ino, kind::INODE, 0), b"inode");

    let after = disk.copy();
    let pool = after.open(1);
    clean(&pool);
    let (va, vb) = (pool.volume(a.id).unwrap(), pool.volume(b.id).unwrap());
    assert_eq!(get(&va, k(2)).unwrap(), b"two");
    assert_eq!(get(&vb, k(2)), None);
    assert_eq!(get(&vb, k(1)).unwrap(), b"one");
    assert_eq!(get(&vb, k(3)).unwrap(), b"three");
    assert!(va.new_ino() > ino);
    assert_eq!(
        pool.blob(a.id, "config").unwrap().unwrap(),
        vec![7; 100_000]
    );
    assert!(pool.create(&new("c", None)).unwrap().id > b.id);
}

#[test]
fn a_power_cut_keeps_what_was_synced_volume_by_volume() {
    let disk = Disk::small();
    let pool = disk.open(1);
    let a = pool.create(&new("a", None)).unwrap();
    let b = pool.create(&new("b", None)).unwrap();
    pool.sync().unwrap();
    let (va, vb) = (pool.volume(a.id).unwrap(), pool.volume(b.id).unwrap());
    put(&va, k(1), b"one");
    put(&vb, k(1), b"one");
    va.sync().unwrap();
    put(&va, k(2), b"late");
    let c = pool.create(&new("c", Some(b.id))).unwrap();

    let cut = disk.copy().open(2);
    clean(&cut);
    assert_eq!(get(&cut.volume(a.id).unwrap(), k(1)).unwrap(), b"one");
    assert_eq!(get(&cut.volume(a.id).unwrap(), k(2)), None);
    assert_eq!(
        get(&cut.volume(b.id).unwrap(), k(1)),
        None,
        "b was never synced"
    );
    assert!(cut.find("c").unwrap().is_none());

    // A new volume's sync takes its making and its source along.
    let vc = pool.volume(c.id).unwrap();
    put(&vc, k(5), b"five");
    vc.sync().unwrap();
    let cut = disk.copy().open(2);
    clean(&cut);
    let vc = cut.volume(c.id).unwrap();
    assert_eq!(get(&vc, k(1)).unwrap(), b"one");
    assert_eq!(get(&vc, k(5)).unwrap(), b"five");
    let d = cut.create(&new("d", None)).unwrap();
    let vd = cut.volume(d.id).unwrap();
    put(&vd, k(1), b"d");
    vd.sync().unwrap();
}

#[test]
fn building_is_not_logged_and_vanishes_unless_finished() {
    let disk = Disk::small();
    let pool = disk.open(1);
    let building = |name: &str, source| NewVolume {
        building: true,
        ..new(name, source)
    };
    let a = pool.create(&building("a", None)).unwrap();
    let va = pool.volume(a.id).unwrap();
    let before = pool.log.used();
    for i in 1..500 {
        put(&va, k(i), &[1; 1000]);
    }
    assert_eq!(pool.log.used(), before);
    let b = pool.create(&building("b", Some(a.id))).unwrap();
    assert!(pool.create(&new("c", Some(a.id))).is_err());
    for boot in [1, 2] {
        let crashed = disk.copy().open(boot);
        assert!(crashed.volumes().unwrap().is_empty());
        clean(&crashed);
    }
    pool.finish(&[(a.id, true), (b.id, false)]).unwrap();
    for boot in [1, 2] {
        let crashed = disk.copy().open(boot);
        let info = crashed.find("a").unwrap().unwrap();
        assert!(info.sealed && !info.building);
        assert_eq!(
            get(&crashed.volume(b.id).unwrap(), k(499)).unwrap(),
            [1; 1000]
        );
        clean(&crashed);
    }
    assert!(va.sealed());
}

#[test]
fn rollback_brings_content_back_but_not_inode_numbers() {
    let disk = Disk::small();
    let pool = disk.open(1);
    let a = pool.create(&new("a", None)).unwrap();
    let va = pool.volume(a.id).unwrap();
    put(&va, k(1), b"old");
    let s = pool
        .create(&NewVolume {
            sealed: true,
            kind: Kind::Snapshot,
            ..new("a@s", Some(a.id))
        })
        .unwrap();
    put(&va, k(1), b"new");
    let ino = va.new_ino();
    assert!(matches!(
        pool.rollback(a.id, s.id),
        Err(crate::base::Error::Busy(_))
    ));
    drop(va);
    pool.rollback(a.id, s.id).unwrap();
    for pool in [pool.clone(), disk.copy().open(1), disk.copy().open(2)] {
        let va = pool.volume(a.id).unwrap();
        assert_eq!(get(&va, k(1)).unwrap(), b"old");
        assert!(va.new_ino() > ino);
        while pool.reclaim(100).unwrap() {}
        clean(&pool);
    }
}

#[test]
fn a_small_ring_is_emptied_by_checkpoints() {
    let disk = Disk::small();
    let pool = disk.open(1);
    let a = pool.create(&new("a", None)).unwrap();
    let va = pool.volume(a.id).unwrap();
    for i in 1..5000 {
        put(&va, k(i % 300 + 1), &[i as u8; 1000]);
    }
    assert!(pool.status().unwrap().transaction > 4);
    drop((va, pool));
    let pool = disk.open(1);
    let va = pool.volume(a.id).unwrap();
    assert_eq!(get(&va, k(4999 % 300 + 1)).unwrap(), [4999_u32 as u8; 1000]);
    clean(&pool);
}

#[test]
fn freed_chunks_are_not_used_again_before_their_checkpoint() {
    let disk = Disk::small();
    let pool = disk.open(1);
    let a = pool.create(&new("a", None)).unwrap();
    let va = pool.volume(a.id).unwrap();
    let chunk = map(&va);
    pool.checkpoint().unwrap();
    let seen = va.freed_at();
    let g = va.enter(Need::FREE).unwrap();
    g.update(|op| {
        op.delete(Key::new(0, kind::MAP, 0));
        Ok(())
    })
    .unwrap();
    drop(g);
    assert_eq!(pool.chunks.refs(chunk), 0);
    let all = pool.chunks.free();
    let mut held = Vec::new();
    while let Some(r) = pool.chunks.alloc(1 << 20) {
        assert!(!r.contains(&chunk));
        held.push(r);
    }
    assert_eq!(held.iter().map(|r| r.end - r.start).sum::<u64>(), all);
    assert!(va.released() <= seen);
    pool.checkpoint().unwrap();
    assert!(va.released() > seen);
    assert_eq!(pool.chunks.alloc(1).unwrap().start, chunk);
}

#[test]
fn random_life_with_crashes() {
    let seed = std::env::var("COWFS_SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(1);
    println!("COWFS_SEED={seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut disk = Disk::small();
    let mut pool = disk.open(1);
    type Model = BTreeMap<u64, Vec<u8>>;
    let mut model: BTreeMap<u64, Model> = BTreeMap::new();
    for step in 0..6000_u64 {
        let ids: Vec<u64> = model.keys().copied().collect();
        let any = (!ids.is_empty()).then(|| ids[rng.random_range(0..ids.len())]);
        match (rng.random_range(0..1000), any) {
            (0..20, _) | (_, None) if ids.len() < 12 => {
                let source = any.filter(|_| rng.random_bool(0.8));
                let info = pool
                    .create(&new(&format!("v{step}"), source.map(VolumeId)))
                    .unwrap();
                let content = source.map(|s| model[&s].clone()).unwrap_or_default();
                model.insert(info.id.0, content);
            }
            (20..35, Some(id)) => {
                pool.remove(VolumeId(id)).unwrap();
                model.remove(&id);
            }
            (35..45, _) => pool.checkpoint().unwrap(),
            (45..60, _) => drop(pool.reclaim(rng.random_range(0..50)).unwrap()),
            (60..70, _) => {
                disk = disk.copy();
                pool = disk.open(1);
            }
            (70..75, _) => {
                pool.sync().unwrap();
                disk = disk.copy();
                pool = disk.open(step as u8);
                // The boot changed for good: continue as this one.
                pool.close().unwrap();
                pool = disk.open(1);
            }
            (75..80, _) => clean(&pool),
            (80..85, Some(id)) => {
                let other = ids[rng.random_range(0..ids.len())];
                if other != id {
                    pool.rollback(VolumeId(id), VolumeId(other)).unwrap();
                    let content = model[&other].clone();
                    model.insert(id, content);
                }
            }
            (_, Some(id)) => {
                let volume = pool.volume(VolumeId(id)).unwrap();
                let content = model.get_mut(&id).unwrap();
                let g = volume
                    .enter(Need {
                        keys: 64,
                        bytes: 128 << 10,
                        frees: false,
                    })
                    .unwrap();
                let list: Vec<(u64, Option<Vec<u8>>)> = (0..rng.random_range(1..20))
                    .map(|_| {
                        let len = rng.random_range(0..3000);
                        let value = rng.random_bool(0.7).then(|| vec![rng.random(); len]);
                        (rng.random_range(1..400), value)
                    })
                    .collect();
                g.update(|op| {
                    for (n, v) in &list {
                        match v {
                            Some(v) => op.put(k(*n), v.clone()),
                            None => op.delete(k(*n)),
                        }
                    }
                    Ok(())
                })
                .unwrap();
                for (n, v) in list {
                    match v {
                        Some(v) => drop(content.insert(n, v)),
                        None => drop(content.remove(&n)),
                    }
                }
            }
            _ => {}
        }
        if step % 100 == 0 {
            for (id, content) in &model {
                let volume = pool.volume(VolumeId(*id)).unwrap();
                let mut found = Model::new();
                volume
                    .enter(Need::READ)
                    .unwrap()
                    .view(|r| {
                        found.clear();
                        r.scan(&Key::MIN, &Key::MAX, &mut |k, v| {
                            found.insert(k.object, v.to_vec());
                            Ok(std::ops::ControlFlow::Continue(()))
                        })
                    })
                    .unwrap();
                assert_eq!(&found, content, "step {step}, volume {id}");
            }
        }
    }
    clean(&pool);
    for id in model.keys() {
        pool.remove(VolumeId(*id)).unwrap();
    }
    // Nothing is taken apart before its death is durable.
    pool.checkpoint().unwrap();
    while pool.reclaim(1000).unwrap() {}
    pool.checkpoint().unwrap();
    clean(&pool);
    assert!(
        pool.node_space.used() < 24,
        "{} nodes are left",
        pool.node_space.used()
    );
}

#[test]
fn writers_checkpoints_and_snapshots_in_parallel() {
    let disk = Disk::small();
    let config = Config {
        interval: std::time::Duration::from_millis(5),
        ..Config::default()
    };
    let pool = Pool::open(disk.devices(), config).unwrap();
    let a = pool.create(&new("a", None)).unwrap();
    let va = pool.volume(a.id).unwrap();
    std::thread::scope(|s| {
        for t in 0..3_u64 {
            let va = &va;
            s.spawn(move || {
                for i in 0..1500_u64 {
                    // Both halves of a pair in one operation.
                    let g = va.enter(Need::SMALL).unwrap();
                    g.update(|op| {
                        op.put(k(2 + t * 2), i.to_le_bytes().to_vec());
                        op.put(k(1_000_000 + t), i.to_le_bytes().to_vec());
                        op.put(k(2000 + i), vec![t as u8; 500]);
                        Ok(())
                    })
                    .unwrap();
                    drop(g);
                    if i % 50 == 0 {
                        va.sync().unwrap();
                    }
                }
            });
        }
        let pool = &pool;
        s.spawn(move || {
            for i in 0..40 {
                let snap = pool
                    .create(&NewVolume {
                        sealed: true,
                        ..new(&format!("a@{i}"), Some(a.id))
                    })
                    .unwrap();
                let v = pool.volume(snap.id).unwrap();
                for t in 0..3 {
                    assert_eq!(get(&v, k(2 + t * 2)), get(&v, k(1_000_000 + t)));
                }
                if i % 2 == 0 {
                    drop(v);
                    pool.remove(snap.id).unwrap();
                }
                if i % 10 == 0 {
                    clean(pool);
                }
            }
        });
    });
    drop(va);
    pool.close().unwrap();
    drop(pool);
    let pool = disk.open(0);
    clean(&pool);
    assert_eq!(pool.volumes().unwrap().len(), 21);
}
