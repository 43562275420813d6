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

/// Each rule that access in place relies on, broken alone.
#[test]
fn broken_rules_have_names() {
    let mut leaf = node::Page::new(NodeKind::Leaf, 0, 5, 1);
    for i in 0..3 {
        leaf::insert(
            &mut leaf,
            i,
            &Key::new(i as u64, kind::MAP, 0).encode(),
            &[1; 12],
        );
    }
    let mut branch = node::Page::new(NodeKind::Branch, 1, 5, 1);
    let entries: Vec<branch::Entry> = (0..3)
        .map(|i| branch::Entry {
            key: Key::new(i, 1, 1).encode(),
            child: branch::Child {
                addr: 10 + i,
                birth: 1,
            },
        })
        .collect();
    branch::fill(&mut branch, &entries);
    let rule = |page: &node::Page, at: usize, bytes: &[u8]| {
        let mut page = page.clone();
        page.put(at, bytes);
        let mut sealed = Box::new([0; NODE]);
        page.seal(&mut sealed[..]);
        node::Page::verify(sealed, 5).err()
    };
    // Mappings with a count of 0x01010101 are none; with 1 chunk they are.
    assert_eq!(rule(&leaf, 0, b""), Some("impossible mapping"));
    for i in 0..3 {
        let value = Mapping {
            chunk: 9,
            count: 1,
            used: None,
        }
        .encode(CHUNK_MIN);
        assert!(leaf::overwrite(&mut leaf, i, &value));
    }
    assert_eq!(rule(&leaf, 0, b""), None);
    assert_eq!(rule(&branch, 0, b""), None);
    let slot = |at: u16, len: u16| [at.to_le_bytes(), len.to_le_bytes()].concat();
    let end = NODE as u16;
    for (page, at, bytes, wanted) in [
        (&leaf, 0, &b"mine"[..], "no node"),
        (&leaf, 4, &[2], "unknown version of a node"),
        (&leaf, 6, &[9], "unknown kind of node"),
        (&leaf, 7, &[1], "impossible level or size"),
        (&branch, 7, &[0], "impossible level or size"),
        (&branch, 7, &[16], "impossible level or size"),
        (&leaf, 16, &[6], "a node of another place"),
        (&leaf, 12, &[0], "impossible number of items"),
        (
            &leaf,
            12,
            &[255, 255, 255, 255],
            "impossible number of items",
        ),
        (&leaf, 32, &[1, 0], "impossible heap"),
        (&leaf, 32, &[255, 255], "impossible heap"),
        (&leaf, 34, &[1, 0], "wrong number of bytes in use"),
        (&leaf, 64, &slot(end - 10, 12), "an item outside its place"),
        (&leaf, 64, &slot(64, 12), "an item outside its place"),
        (
            &leaf,
            64,
            &slot(end - 29, 4097),
            "an item outside its place",
        ),
        (&leaf, 68, &slot(end - 29, 12), "keys out of order"),
        (&leaf, 72, &slot(end - 3 * 29, 11), "impossible mapping"),
        (&branch, 12, &[0], "impossible number of entries"),
        (&branch, 12, &[51, 2], "impossible number of entries"),
        (&branch, 64, &[9], "keys out of order"),
        (&branch, 64 + 17, &[0], "impossible address of a child"),
        (&branch, 64 + 17, &[5], "impossible address of a child"),
    ] {
        assert_eq!(rule(page, at, bytes), Some(wanted), "{wanted}: byte {at}");
    }
    let mut overlap = node::Page::new(NodeKind::Leaf, 0, 5, 1);
    leaf::insert(&mut overlap, 0, &Key::new(1, 1, 0).encode(), &[0; 40]);
    leaf::insert(&mut overlap, 0, &Key::new(0, 1, 0).encode(), &[0; 40]);
    // The first key's item as the second's, a byte further on.
    let mut shifted = overlap.clone();
    shifted.put(NODE - 2 * 57 + 1, &Key::new(1 << 8, 1, 0).encode());
    assert_eq!(
        rule(&shifted, 68, &slot(end - 2 * 57 + 1, 40)),
        Some("items overlap")
    );
}
