use super::*;
use crate::volume::Model;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

#[test]
fn pinned_bytes() {
    let e = Extent {
        block: 7,
        at: 0x0102_0304_0506_0708,
        len: 0x0a0b_0c0d,
        unwritten: true,
    };
    let bytes = [8, 7, 6, 5, 4, 3, 2, 1, 0x0d, 0x0c, 0x0b, 0x0a, 1, 0, 0, 0];
    assert_eq!(e.encode(), bytes);
    assert_eq!(Extent::decode(7, &bytes), Some(e));
    assert_eq!(bytes.len(), Extent::LEN);
    // Later versions may append.
    assert_eq!(Extent::decode(7, &[&bytes[..], &[9]].concat()), Some(e));
}

#[test]
fn nonsense_is_refused() {
    let good = Extent {
        block: 0,
        at: 5,
        len: 1,
        unwritten: false,
    };
    let bytes = good.encode();
    assert_eq!(Extent::decode(0, &bytes), Some(good));
    for n in 0..bytes.len() {
        assert_eq!(Extent::decode(0, &bytes[..n]), None);
    }
    let refused = |e: Extent| Extent::decode(e.block, &e.encode()).is_none();
    assert!(refused(Extent { len: 0, ..good }));
    assert!(refused(Extent {
        at: u64::MAX,
        ..good
    }));
    assert!(refused(Extent {
        block: FILE_BLOCKS,
        ..good
    }));
    assert!(refused(Extent {
        block: u64::MAX,
        ..good
    }));
    let mut unknown = bytes;
    unknown[12] = 2;
    assert_eq!(Extent::decode(0, &unknown), None);
}

/// Replacing anywhere beside a map of single blocks.
#[test]
fn splicing_beside_a_plain_map() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut tree = Model::default();
    let mut plain: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
    for _ in 0..4000 {
        let start = rng.random_range(0..80u64);
        let range = start..start + rng.random_range(1..30u64);
        let mut new = Vec::new();
        let mut block = range.start;
        while block < range.end {
            let len = rng.random_range(1..=(range.end - block)) as u32;
            let at = if rng.random_range(0..3) > 0 {
                1000 + block
            } else {
                rng.random_range(0..900)
            };
            if rng.random_range(0..4) > 0 {
                new.push(Extent {
                    block,
                    at,
                    len,
                    unwritten: rng.random_range(0..4) == 0,
                });
            }
            block += u64::from(len);
        }
        let before = plain.len() as i64;
        let delta = replace(&mut tree, 3, &range, &new).unwrap();
        plain.retain(|b, _| !range.contains(b));
        for e in new {
            for i in 0..u64::from(e.len) {
                plain.insert(e.block + i, (e.at + i, e.unwritten));
            }
        }
        assert_eq!(before + delta, plain.len() as i64);
        let list = extents(&tree, 3, &(0..FILE_BLOCKS), usize::MAX).unwrap();
        let mut have = BTreeMap::new();
        for e in &list {
            for i in 0..u64::from(e.len) {
                assert!(
                    have.insert(e.block + i, (e.at + i, e.unwritten)).is_none(),
                    "overlap"
                );
            }
        }
        assert_eq!(have, plain);
        assert!(list.windows(2).all(|w| !w[0].joins(&w[1])));
        let (a, b) = (rng.random_range(0..110), rng.random_range(0..110));
        let some = extents(&tree, 3, &(a..b), usize::MAX).unwrap();
        let want = list.iter().filter(|e| a < b && e.clip(&(a..b)).is_some());
        assert!(some.iter().eq(want));
    }
}

#[test]
fn other_items_are_not_extents() {
    let mut tree = Model::default();
    tree.put(Key::new(3, kind::INODE, 0), vec![1]);
    tree.put(
        extent_key(2, 5),
        Extent {
            block: 5,
            at: 1,
            len: 9,
            unwritten: false,
        }
        .encode(),
    );
    assert!(extents(&tree, 3, &(0..100), 9).unwrap().is_empty());
    assert_eq!(extent_below(&tree, 3, 100).unwrap(), None);
    tree.put(extent_key(3, 5), vec![0; 3]);
    assert!(extents(&tree, 3, &(0..100), 9).is_err());
    let two = [(1, 9), (4, 2)];
    for (block, len) in two {
        tree.put(
            extent_key(4, block),
            Extent {
                block,
                at: 1,
                len,
                unwritten: false,
            }
            .encode(),
        );
    }
    assert!(
        extents(&tree, 4, &(0..100), 9).is_err(),
        "overlapping extents"
    );
}
