//! Bytes that are not what was written.

use super::*;

#[test]
fn any_flipped_byte_is_found() {
    let mut life = Life::new(5, false, 300);
    life.live(200);
    life.world.checkpoint();
    let root = life.trees[0].0.root;
    let mut targets = vec![root];
    if let Refers::Branch(children) = life.world.retry(|s| Tree::refers(s, root)) {
        targets.extend(children.first());
    }
    assert_eq!(targets.len(), 2);
    life.world
        .store
        .write_page(9_000, NodeKind::Counts, 3, &[1, 2, 3])
        .unwrap();
    targets.push(9_000);
    for addr in targets {
        for byte in 0..NODE as u64 {
            let at = addr * NODE as u64 + byte;
            let mut old = [0];
            life.world.device.read_at(at, &mut old).unwrap();
            life.world
                .device
                .write_at(at, &[old[0] ^ (1 + byte as u8 % 255)])
                .unwrap();
            let store = World::open(&life.world.device, &life.world.nodes, false, 99);
            let error = match addr {
                9_000 => store.read_page(addr, NodeKind::Counts).map(|_| ()),
                _ => store.load(addr),
            };
            assert!(matches!(error, Err(Error::Corrupt { .. })), "byte {byte}");
            life.world.device.write_at(at, &old).unwrap();
        }
    }
}

/// With a right checksum nothing but the checks of the content stands between a page and its use.
#[test]
fn crafted_pages_never_panic() {
    let mut life = Life::new(6, false, 300);
    life.live(200);
    life.world.checkpoint();
    let (tree, _) = &life.trees[0];
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..4000 {
        let device = Arc::new(life.world.device.copy());
        let mut addr = tree.root;
        if rng.random() {
            let Refers::Branch(children) = life.world.retry(|s| Tree::refers(s, tree.root)) else {
                panic!("a small tree");
            };
            addr = children[rng.random_range(0..children.len())];
        }
        let mut bytes = vec![0; NODE];
        device.read_at(addr * NODE as u64, &mut bytes).unwrap();
        for _ in 0..rng.random_range(1..6) {
            let at = if rng.random() {
                rng.random_range(0..200)
            } else {
                rng.random_range(0..NODE)
            };
            bytes[at] = rng.random();
        }
        bytes[8..12].fill(0);
        let crc = crc32fast::hash(&bytes);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        device.write_at(addr * NODE as u64, &bytes).unwrap();
        let nodes = Arc::new(Space::new(1 << 20));
        let chunks = Space::new(CHUNKS);
        for page in 0..4 {
            nodes
                .load_page(page, &life.world.nodes.page(page).unwrap_or_default())
                .unwrap();
        }
        for page in 0..=CHUNKS / Space::PER_PAGE {
            if let Some(bytes) = life.world.chunks.page(page) {
                chunks.load_page(page, &bytes).unwrap();
            }
        }
        let store = World::open(&device, &nodes, false, 1 << 20);
        match store.load(addr) {
            Ok(()) => good += 1,
            Err(_) => bad += 1,
        }
        let world = World {
            device,
            nodes,
            chunks,
            store,
        };
        let mut tree = *tree;
        'ops: for _ in 0..10 {
            let key = random_key(&mut rng, 300);
            let value = rng
                .random::<bool>()
                .then(|| random_value(&mut rng, &world, &key));
            let changes = Changes::from([(key, value)]);
            loop {
                let done = tree
                    .floor(&world.store, &key)
                    .and_then(|_| tree.apply(&world.store, &world.chunks, CHUNK_MIN, &changes));
                match done {
                    Err(Error::Miss(addr)) if world.store.load(addr).is_ok() => {}
                    Err(_) => break 'ops,
                    Ok(_) => break,
                }
            }
        }
        let _ = Tree::diff(tree, Tree::default(), &world.store, &mut |_, _, _| Ok(()));
    }
    assert!(good > 100 && bad > 100, "{good} {bad}");
}

#[test]
fn a_stale_or_misplaced_node_is_found() {
    let world = World::new(false);
    let mut tree = Tree::default();
    let key = |i| Key::new(i, kind::INODE, 0);
    world.apply(
        &mut tree,
        &(0..5000).map(|i| (key(i), Some(vec![0; 79]))).collect(),
    );
    world.checkpoint();
    let Refers::Branch(children) = Tree::refers(&world.store, tree.root).unwrap() else {
        panic!("one leaf");
    };
    let at = |addr: u64| addr * NODE as u64;
    let mut bytes = vec![0; NODE];
    // Another leaf's bytes.
    let device = Arc::new(world.device.copy());
    device.read_at(at(children[3]), &mut bytes).unwrap();
    device.write_at(at(children[4]), &bytes).unwrap();
    let store = World::open(&device, &world.nodes, false, 9);
    assert!(matches!(
        store.load(children[4]),
        Err(Error::Corrupt { .. })
    ));
    // The place's own bytes of an earlier time, as after a lost write.
    let device = Arc::new(world.device.copy());
    let mut page = node::Page::new(NodeKind::Leaf, 0, children[0], 0);
    leaf::insert(&mut page, 0, &key(0).encode(), b"old");
    page.seal(&mut bytes);
    device.write_at(at(children[0]), &bytes).unwrap();
    let store = World::open(&device, &world.nodes, false, 9);
    store.load(tree.root).unwrap();
    store.load(children[0]).unwrap();
    let error = tree.get(&store, &key(0)).unwrap_err();
    assert!(error.to_string().contains("stale"), "{error}");
    let mut copy = tree;
    let changes = Changes::from([(key(0), None)]);
    assert!(
        copy.apply(&store, &world.chunks, CHUNK_MIN, &changes)
            .is_err()
    );
    // Beyond the device, and the superblock's place.
    assert!(store.load(1 << 19).is_err());
    assert!(store.load(u64::MAX).is_err());
    assert!(store.load(0).is_err());
    assert!(store.read_page(tree.root, NodeKind::Branch).is_err());
}
