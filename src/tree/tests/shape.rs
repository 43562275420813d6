//! What changes cost, and what they leave alone.

use super::*;

#[test]
fn what_fails_changes_nothing() {
    let world = World::new(false);
    let mut tree = Tree::default();
    world.apply(
        &mut tree,
        &Changes::from([(Key::new(1, kind::INODE, 0), Some(vec![1]))]),
    );
    let before = (
        tree,
        world.nodes.used(),
        world.nodes.free(),
        world.chunks.free(),
    );
    let good = (Key::new(1, kind::INODE, 0), Some(vec![2]));
    let mapping = |chunk, count| {
        let value = Mapping {
            chunk,
            count,
            used: None,
        }
        .encode(CHUNK_MIN);
        (Key::new(0, kind::MAP, 5), Some(value))
    };
    for bad in [
        (Key::new(2, kind::INODE, 0), Some(vec![0; VALUE_MAX + 1])),
        (Key::new(0, kind::MAP, 5), Some(vec![0; 3])),
        mapping(CHUNKS - 1, 2),
        mapping(0, RUN_MAX + 1),
    ] {
        let changes = Changes::from([good.clone(), bad]);
        let error = tree.apply(&world.store, &world.chunks, CHUNK_MIN, &changes);
        assert!(matches!(error, Err(Error::Invalid(_))));
    }
    // No free nodes: what needs none is still done in place.
    world.nodes.set_limit(world.nodes.used());
    let many = (0..200)
        .map(|i| (Key::new(i, kind::INODE, 0), Some(vec![7; 200])))
        .collect();
    let error = tree.apply(&world.store, &world.chunks, CHUNK_MIN, &many);
    assert!(matches!(error, Err(Error::NoSpace)));
    world.nodes.set_limit(1 << 20);
    let after = (
        tree,
        world.nodes.used(),
        world.nodes.free(),
        world.chunks.free(),
    );
    assert_eq!(before, after);
    assert_eq!(tree.get(&world.store, &good.0).unwrap(), Some(vec![1]));
    world.audit(&[tree]);
}

#[test]
fn what_changes_nothing_touches_nothing() {
    let world = World::new(false);
    let mut tree = Tree::default();
    world.apply(
        &mut tree,
        &Changes::from([(Key::new(1, kind::INODE, 0), Some(vec![1]))]),
    );
    world.checkpoint();
    let same = Changes::from([
        (Key::new(1, kind::INODE, 0), Some(vec![1])),
        (Key::new(2, kind::INODE, 0), None),
    ]);
    let before = tree;
    assert_eq!(world.apply(&mut tree, &same), Delta::default());
    assert_eq!((tree, world.store.dirty()), (before, 0));
    let mut empty = Tree::default();
    world.apply(&mut empty, &Changes::from([(Key::MIN, None)]));
    assert_eq!(empty.root, 0);
}

#[test]
fn a_clone_costs_a_path() {
    let world = World::new(false);
    let mut tree = Tree::default();
    for part in 0..100u64 {
        let keys = part * 1000..(part + 1) * 1000;
        let changes = keys.map(|i| {
            (
                Key::new(i * 7919 % 100_003, kind::INODE, 0),
                Some(vec![3; 90]),
            )
        });
        world.apply(&mut tree, &changes.collect());
    }
    world.checkpoint();
    let used = world.nodes.used();
    let mut copy = world.clone_of(tree);
    let key = Key::new(500, kind::INODE, 0);
    assert!(tree.shared(&world.store, &key).unwrap());
    world.apply(&mut copy, &Changes::from([(key, Some(vec![4; 90]))]));
    assert!(world.nodes.used() - used <= 4);
    assert!(!copy.shared(&world.store, &key).unwrap());
    assert!(
        copy.shared(&world.store, &Key::new(90_000, kind::INODE, 0))
            .unwrap()
    );
    let mut differ = Vec::new();
    Tree::diff(tree, copy, &world.store, &mut |k, _, _| {
        differ.push(*k);
        Ok(())
    })
    .unwrap();
    assert_eq!(differ, [key]);
    world.audit(&[tree, copy]);
}

#[test]
fn ascending_keys_fill_their_nodes() {
    let world = World::new(false);
    let mut tree = Tree::default();
    for i in 0..20_000 {
        let key = Key::new(i, kind::INODE, 0);
        world.apply(&mut tree, &Changes::from([(key, Some(vec![0; 79]))]));
    }
    let least = 20_000 * 100 / node::BODY as u64;
    assert!(
        world.nodes.used() < least + least / 20 + 4,
        "{} of {least}",
        world.nodes.used()
    );
    let all = (0..20_000)
        .map(|i| (Key::new(i, kind::INODE, 0), None))
        .collect();
    world.apply(&mut tree, &all);
    assert_eq!(tree.root, 0);
    world.audit(&[]);
}

#[test]
fn deleting_most_joins_nodes() {
    for world in [World::new(false), World::new(false).deep()] {
        delete_most(&world);
    }
}

fn delete_most(world: &World) {
    let mut tree = Tree::default();
    let key = |i| Key::new(i, kind::INODE, 0);
    world.apply(
        &mut tree,
        &(0..50_000).map(|i| (key(i), Some(vec![0; 79]))).collect(),
    );
    let before = world.nodes.used();
    for i in (0..50_000).filter(|i| i % 50 != 0) {
        world.apply(&mut tree, &Changes::from([(key(i), None)]));
    }
    assert!(
        world.nodes.used() * 15 < before,
        "{} of {before}",
        world.nodes.used()
    );
    world.audit(&[tree]);
    assert_eq!(world.items(tree).len(), 1000);
}

/// Threads change clones of one tree at once: shared nodes lose their owners in any order.
#[test]
fn clones_change_at_once() {
    for round in 0..6u64 {
        let world = Arc::new(World::new(false).deep());
        let mut base = Tree::default();
        let mut map = Map::new();
        let mut rng = ChaCha8Rng::seed_from_u64(round);
        for i in 0..3000 {
            let (key, value) = if i % 2 == 0 {
                let m = Mapping {
                    chunk: i * 4,
                    count: 3,
                    used: None,
                };
                (Key::new(0, kind::MAP, i), m.encode(CHUNK_MIN))
            } else {
                (Key::new(i, kind::INODE, 0), vec![rng.random(); 100])
            };
            map.insert(key, value);
        }
        let all = map.iter().map(|(k, v)| (*k, Some(v.clone()))).collect();
        world.apply(&mut base, &all);
        let trees: Vec<Tree> = (0..4).map(|_| world.clone_of(base)).collect();
        let threads: Vec<_> = (0u64..)
            .zip(trees)
            .map(|(t, mut tree)| {
                let (world, mut map) = (world.clone(), map.clone());
                std::thread::spawn(move || {
                    let mut rng = ChaCha8Rng::seed_from_u64(round * 10 + t);
                    if t == 3 {
                        world.remove(tree);
                        return (Tree::default(), Map::new());
                    }
                    for _ in 0..400 {
                        let i = rng.random_range(0..3000);
                        let (key, change) = if rng.random() {
                            (Key::new(i, kind::INODE, 0), Some(vec![t as u8; 90]))
                        } else {
                            (Key::new(0, kind::MAP, i), None)
                        };
                        match &change {
                            Some(v) => map.insert(key, v.clone()),
                            None => map.remove(&key),
                        };
                        world.apply(&mut tree, &Changes::from([(key, change)]));
                    }
                    (tree, map)
                })
            })
            .collect();
        world.remove(base);
        let ends: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        for (tree, map) in &ends {
            assert!(world.items(*tree) == *map);
        }
        let trees: Vec<Tree> = ends.iter().map(|(t, _)| *t).collect();
        world.audit(&trees);
    }
}

/// Nothing but two owners of the same shared nodes, leaving them at the same moment.
#[test]
fn two_owners_leave_at_once() {
    let barrier = Arc::new(std::sync::Barrier::new(2));
    let world = Arc::new(World::new(false).deep());
    let map = |i: u64| (Key::new(0, kind::MAP, i), Some(mapping(i * 100, 90)));
    for _ in 0..60 {
        let mut tree = Tree::default();
        world.apply(&mut tree, &(0..2000).map(map).collect());
        let other = world.clone_of(tree);
        let threads = [tree, other].map(|mut tree| {
            let (world, barrier) = (world.clone(), barrier.clone());
            std::thread::spawn(move || {
                barrier.wait();
                for i in [0, 600, 1200, 1900] {
                    world.apply(&mut tree, &Changes::from([(map(i).0, None)]));
                }
                tree
            })
        });
        let trees = threads.map(|t| t.join().unwrap());
        world.audit(&trees);
        for tree in trees {
            world.remove(tree);
        }
        world.checkpoint();
    }
}

fn mapping(chunk: u64, count: u32) -> Vec<u8> {
    Mapping {
        chunk,
        count,
        used: None,
    }
    .encode(CHUNK_MIN)
}

/// Few items a node and few nodes a branch: splits and joins on all levels, all the time.
#[test]
fn large_values_in_a_deep_tree() {
    for seed in 0..2 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let world = World::new(false).fanout([7, 16][seed as usize % 2]);
        let (mut tree, mut map) = (Tree::default(), Map::new());
        let mut grow = true;
        for step in 0..4000 {
            if rng.random_ratio(1, 300) {
                grow = !grow;
            }
            let key = Key::new(rng.random_range(0..1500), kind::EXTENT, 0);
            let change = if rng.random_ratio(9, 10) == grow {
                Some(vec![step as u8; rng.random_range(2500..=VALUE_MAX)])
            } else {
                // All of a region, or one.
                None
            };
            let mut changes = Changes::from([(key, change.clone())]);
            if change.is_none() && rng.random_ratio(1, 4) {
                changes.extend(map.range(key..).take(12).map(|(k, _)| (*k, None)));
            }
            for (key, change) in &changes {
                match change {
                    Some(value) => map.insert(*key, value.clone()),
                    None => map.remove(key),
                };
            }
            world.apply(&mut tree, &changes);
            if step % 40 == 0 {
                world.audit(&[tree]);
            }
            if step % 200 == 0 {
                assert!(world.items(tree) == map);
                world.checkpoint();
            }
        }
    }
}

/// Also where nodes before the shared ones have been split, so that both trees come to them at
/// different places, and where one tree is higher than the other.
#[test]
fn diff_reads_only_what_differs() {
    let key = |i: u64| Key::new(i, kind::INODE, 0);
    for extra in [1u64, 50, 4000] {
        let world = World::new(false).deep();
        let mut tree = Tree::default();
        let all = (0..20_000).map(|i| (key(i * 1000), Some(vec![1; 200])));
        world.apply(&mut tree, &all.collect());
        let mut copy = world.clone_of(tree);
        let more = (0..extra).map(|i| (key(7_000_500 + i), Some(vec![2; 200])));
        world.apply(&mut copy, &more.collect());
        world.checkpoint();
        let changed = extra / 60 + 20;
        for (a, b) in [(tree, copy), (copy, tree)] {
            let store = World::open(&world.device, &world.nodes, false, 9);
            let mut differ = 0;
            Tree::diff(a, b, &store, &mut |_, _, _| {
                differ += 1;
                Ok(())
            })
            .unwrap();
            assert_eq!(differ, extra);
            assert!(
                (store.clean() as u64) < changed * 2,
                "{} of {extra}",
                store.clean()
            );
        }
    }
}

/// A branch whose first node went, and which then got keys below its own first one, is joined to
/// the branch on its left: those keys must still be found.
#[test]
fn joined_branches_keep_their_lowest_keys() {
    let world = World::new(false).fanout(16);
    let mut tree = Tree::default();
    let key = |i: u64| Key::new(i, kind::EXTENT, 0);
    let delete = |tree: &mut Tree, keys: std::ops::Range<u64>| {
        world.apply(tree, &keys.map(|i| (key(i * 10), None)).collect());
    };
    // Four items a leaf, sixteen leaves a branch.
    for i in 0..200 {
        world.apply(
            &mut tree,
            &Changes::from([(key(i * 10), Some(vec![1; 4000]))]),
        );
    }
    delete(&mut tree, 84..128);
    delete(&mut tree, 64..68);
    world.apply(&mut tree, &Changes::from([(key(650), Some(vec![2; 100]))]));
    let before = world.nodes.used();
    delete(&mut tree, 16..64);
    assert_eq!(
        before - world.nodes.used(),
        12 + 1,
        "twelve leaves, and a branch by joining"
    );
    assert_eq!(
        tree.get(&world.store, &key(650)).unwrap(),
        Some(vec![2; 100])
    );
    world.audit(&[tree]);
}

/// Writers of clones go on while checkpoints write what they captured; addresses come back into
/// use; hardly anything stays in memory.
#[test]
fn checkpoints_beside_writers() {
    let gate = Arc::new(parking_lot::RwLock::new(()));
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let written = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let world = World::new(true).deep();
    let mut base = Tree::default();
    let value = |i: u64, n: u64| (Key::new(i * 11, kind::EXTENT, 0), Some(vec![n as u8; 300]));
    world.apply(&mut base, &(0..4000).map(|i| value(i, 1)).collect());
    world.checkpoint();
    let trees: Vec<Tree> = (0..3).map(|_| world.clone_of(base)).collect();
    world.remove(base);
    let world = Arc::new(world);
    let writers: Vec<_> = (0u64..)
        .zip(trees)
        .map(|(t, mut tree)| {
            let (world, gate, written) = (world.clone(), gate.clone(), written.clone());
            std::thread::spawn(move || {
                let mut rng = ChaCha8Rng::seed_from_u64(t);
                let mut map: Map = (0..4000)
                    .map(|i| value(i, 1))
                    .map(|(k, v)| (k, v.unwrap()))
                    .collect();
                let mut n = 0;
                // On a busy machine the checkpoints may come late.
                while n < 1500 || written.load(std::sync::atomic::Ordering::Acquire) < 8 {
                    n += 1;
                    let (key, change) = value(rng.random_range(0..4500), n);
                    let change = change.filter(|_| rng.random_ratio(2, 3));
                    match &change {
                        Some(v) => map.insert(key, v.clone()),
                        None => map.remove(&key),
                    };
                    let _inside = gate.read();
                    world.apply(&mut tree, &Changes::from([(key, change)]));
                }
                (tree, map)
            })
        })
        .collect();
    let checkpoints = {
        let (world, gate, done) = (world.clone(), gate.clone(), done.clone());
        std::thread::spawn(move || {
            while !done.load(std::sync::atomic::Ordering::Acquire) {
                let (captured, freed) = {
                    let _alone = gate.write();
                    (world.store.capture(), world.nodes.take_quarantine())
                };
                world.store.write(&captured).unwrap();
                world.store.written(&captured);
                drop(gate.write());
                world.nodes.release(&freed);
                written.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
            }
        })
    };
    let ends: Vec<_> = writers.into_iter().map(|t| t.join().unwrap()).collect();
    done.store(true, std::sync::atomic::Ordering::Release);
    checkpoints.join().unwrap();
    world.checkpoint();
    let trees: Vec<Tree> = ends.iter().map(|(tree, _)| *tree).collect();
    world.audit(&trees);
    // And what is on the device is the same.
    let device = Arc::new(world.device.copy());
    let store = World::open(&device, &world.nodes, false, world.store.generation());
    for (tree, map) in ends {
        for store in [&store, &world.store] {
            let mut found = Map::new();
            Tree::diff(Tree::default(), tree, store, &mut |k, _, v| {
                found.insert(*k, v.unwrap().to_vec());
                Ok(())
            })
            .unwrap();
            assert!(found == map);
        }
    }
}
