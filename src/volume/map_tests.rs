use super::*;
use crate::volume::Model;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

const G: Geometry = Geometry {
    chunk_size: 64 << 10,
    blocks: 16,
};

#[test]
fn geometry() {
    assert_eq!(Geometry::new(1 << 20).blocks, 256);
    assert_eq!((G.vchunk(31), G.place(31), G.first(2)), (1, 15, 32));
    assert_eq!(G.byte(3, 2), 3 * 65536 + 8192);
    assert_eq!((G.vchunks(&(5..5)), G.vchunks(&(15..17))), (0..0, 0..2));
    assert_eq!(
        (
            G.part(&(5..40), 0),
            G.part(&(5..40), 1),
            G.part(&(5..40), 2)
        ),
        ((5, 11), (0, 16), (0, 8))
    );
}

#[test]
fn one_chunk() {
    assert_eq!(Run::one(G, 1, 2, Bitmap::default()), None);
    assert_eq!(Run::one(G, 1, 2, G.full()), Some(Run::new(1, 2, 1)));
    let some = Run::one(G, 1, 2, Bitmap::full(3)).unwrap();
    assert_eq!((some.used(G).count(), some.end(), some.chunk(1)), (3, 2, 2));
}

/// Replacing anywhere, by anything, beside a map of single chunks; runs are always joined as far
/// as they go, and no longer than they may be.
#[test]
fn replacing_beside_a_plain_map() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut tree = Model::default();
    let mut plain: BTreeMap<VChunk, (Chunk, Bitmap)> = BTreeMap::new();
    for _ in 0..4000 {
        let start = rng.random_range(0..60u64);
        let len = rng.random_range(1..12u64);
        let mut new: Vec<Run> = Vec::new();
        let mut v = start;
        while v < start + len {
            let n = rng.random_range(1..=(start + len - v)) as u32;
            // Often neighbours in the data device too.
            let chunk = if rng.random_range(0..3) > 0 {
                1000 + v
            } else {
                rng.random_range(0..500)
            };
            match rng.random_range(0..4) {
                0 => {}
                1 => new.extend(Run::one(
                    G,
                    v,
                    chunk,
                    Bitmap::full(rng.random_range(1..=16)),
                )),
                _ => new.push(Run::new(v, chunk, n)),
            }
            v += u64::from(n);
        }
        replace(&mut tree, G, start..start + len, &new).unwrap();
        for v in start..start + len {
            plain.remove(&v);
        }
        for run in new {
            for v in run.vchunk..run.end() {
                plain.insert(v, (run.chunk(v), run.used(G)));
            }
        }
        let mut have = BTreeMap::new();
        let runs = tree.runs();
        for run in &runs {
            for v in run.vchunk..run.end() {
                assert!(
                    have.insert(v, (run.chunk(v), run.used(G))).is_none(),
                    "overlap"
                );
            }
        }
        assert_eq!(have, plain);
        assert!(runs.windows(2).all(|w| !w[0].joins(&w[1])), "{runs:?}");
        for v in 0..75 {
            let found = run_at(&tree, v).unwrap().map(|r| (r.chunk(v), r.used(G)));
            assert_eq!(found, plain.get(&v).copied());
        }
    }
}

#[test]
fn runs_do_not_grow_for_ever() {
    let mut tree = Model::default();
    replace(&mut tree, G, 0..4096, &[Run::new(0, 100, 4096)]).unwrap();
    replace(&mut tree, G, 4096..4097, &[Run::new(4096, 4196, 1)]).unwrap();
    assert_eq!(tree.runs().len(), 2);
}

#[test]
fn located() {
    let mut tree = Model::default();
    let new = [Run::new(1, 10, 3), Run::new(4, 13, 1), Run::new(5, 40, 2)];
    replace(&mut tree, G, 1..7, &new).unwrap();
    assert_eq!(tree.runs().len(), 2);
    let find = |range, max| {
        let found = locate(&tree, &|c| if c == 11 { 2 } else { 1 }, G, range, max).unwrap();
        found
            .iter()
            .map(|l| (l.at, l.len, l.byte / BLOCK, l.private))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        find(20..112, 9),
        [
            (20, 12, 164, true),
            (32, 16, 176, false),
            (48, 32, 192, true),
            (80, 32, 640, true)
        ]
    );
    assert_eq!(find(33..34, 9), [(33, 1, 177, false)]);
    assert_eq!(find(20..112, 1).len(), 2, "about as many as asked for");
    let nowhere = locate(&tree, &|_| 1, G, 200..201, 9);
    assert!(matches!(nowhere, Err(Error::Corrupt { .. })));
}
