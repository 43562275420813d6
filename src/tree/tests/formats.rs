//! Bytes of pages, mappings and keys.

use super::*;

#[test]
fn pages_that_are_no_nodes() {
    let world = World::new(false);
    let body: Vec<u8> = (0..NodeStore::BODY).map(|i| i as u8).collect();
    world
        .store
        .write_page(7, NodeKind::Counts, 5, &body)
        .unwrap();
    world.store.write_page(8, NodeKind::Index, 5, &[]).unwrap();
    assert_eq!(world.store.read_page(7, NodeKind::Counts).unwrap(), body);
    assert_eq!(
        world.store.read_page(8, NodeKind::Index).unwrap(),
        Vec::<u8>::new()
    );
    assert!(world.store.read_page(7, NodeKind::Index).is_err());
    assert!(world.store.load(7).is_err(), "no tree node");
    assert!(world.store.write_page(7, NodeKind::Leaf, 5, &[]).is_err());
    assert!(
        world
            .store
            .write_page(7, NodeKind::Index, 5, &[0; NODE])
            .is_err()
    );
}

#[test]
fn bytes_of_a_leaf() {
    let mut page = node::Page::new(NodeKind::Leaf, 0, 0x1122, 0x33);
    leaf::insert(&mut page, 0, &Key::new(2, 0x10, 0).encode(), b"two");
    leaf::insert(&mut page, 0, &Key::new(1, 0x10, 5).encode(), b"one!");
    let mut bytes = vec![0; NODE];
    page.seal(&mut bytes);
    let mut wanted = vec![0; NODE];
    wanted[..8].copy_from_slice(b"cowN\x01\0\x01\0");
    wanted[8..12].copy_from_slice(&0x00a3_f358u32.to_le_bytes());
    wanted[12] = 2;
    wanted[16..18].copy_from_slice(&[0x22, 0x11]);
    wanted[24] = 0x33;
    // The heap starts at 16384 - 20 - 21 = 16343; 41 bytes are in use.
    wanted[32..36].copy_from_slice(&[0xd7, 0x3f, 41, 0]);
    wanted[64..72].copy_from_slice(&[0xd7, 0x3f, 4, 0, 0xec, 0x3f, 3, 0]);
    wanted[16343..16364].copy_from_slice(b"\0\0\0\0\0\0\0\x01\x10\0\0\0\0\0\0\0\x05one!");
    wanted[16364..].copy_from_slice(b"\0\0\0\0\0\0\0\x02\x10\0\0\0\0\0\0\0\0two");
    assert_eq!(bytes[..80], wanted[..80]);
    assert!(bytes == wanted);
}

#[test]
fn bytes_of_a_branch() {
    let mut page = node::Page::new(NodeKind::Branch, 1, 7, 9);
    let entry = |object, addr, birth| branch::Entry {
        key: Key::new(object, 0x20, 1).encode(),
        child: branch::Child { addr, birth },
    };
    branch::fill(&mut page, &[entry(1, 0x0102, 3), entry(2, 0x0304, 4)]);
    let mut bytes = vec![0; NODE];
    page.seal(&mut bytes);
    let mut wanted = vec![0; NODE];
    wanted[..8].copy_from_slice(b"cowN\x01\0\x02\x01");
    let crc = crc32fast::hash(&{
        let mut b = bytes.clone();
        b[8..12].fill(0);
        b
    });
    wanted[8..12].copy_from_slice(&crc.to_le_bytes());
    wanted[12] = 2;
    wanted[16] = 7;
    wanted[24] = 9;
    wanted[64..93]
        .copy_from_slice(b"\0\0\0\0\0\0\0\x01\x20\0\0\0\0\0\0\0\x01\x02\x01\0\0\0\0\0\0\x03\0\0\0");
    wanted[93..122]
        .copy_from_slice(b"\0\0\0\0\0\0\0\x02\x20\0\0\0\0\0\0\0\x01\x04\x03\0\0\0\0\0\0\x04\0\0\0");
    assert!(bytes == wanted);
}

#[test]
fn bytes_of_a_mapping() {
    let run = Mapping {
        chunk: 0x0102,
        count: 5,
        used: None,
    };
    assert_eq!(run.encode(CHUNK_MIN), [2, 1, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0]);
    assert_eq!(run.blocks(CHUNK_MIN), 80);
    let mut used = Bitmap::full(3);
    used.set(15, 1);
    let part = Mapping {
        chunk: 1,
        count: 1,
        used: Some(used),
    };
    let bytes = [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x07, 0x80];
    assert_eq!(part.encode(CHUNK_MIN), bytes);
    assert_eq!(part.blocks(CHUNK_MIN), 4);
    assert_eq!(Mapping::decode(&bytes), Some(part));
    assert_eq!(Mapping::decode(&run.encode(CHUNK_MIN)), Some(run));
    let whole = Mapping {
        chunk: 1,
        count: 1,
        used: Some(Bitmap::full(256)),
    };
    assert_eq!(whole.encode(1 << 20).len(), 44);
    assert_eq!(Mapping::decode(&whole.encode(1 << 20)), Some(whole));
    for bad in [&bytes[..11], &[0; 12], &[255; 12], &[1; 50]] {
        assert_eq!(Mapping::decode(bad), None);
    }
    const { assert!(CHUNK_MIN / BLOCK == 16) };
}

#[test]
fn keys_in_order() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..2000 {
        let mut key = || {
            Key::new(
                rng.random_range(0..3),
                rng.random_range(0..3),
                rng.random_range(0..3),
            )
        };
        let (a, b) = (key(), key());
        assert_eq!(a.cmp(&b), a.encode().cmp(&b.encode()));
        assert_eq!(a.cmp(&b), node::order(&a.encode(), &b.encode()));
        assert_eq!(Key::decode(&a.encode()), a);
    }
    assert_eq!(Key::MAX.successor(), None);
    let edge = Key::new(1, u8::MAX, u64::MAX);
    assert_eq!(edge.successor(), Some(Key::new(2, 0, 0)));
}
