#![allow(clippy::single_range_in_vec_init)]

use super::*;

const G: Geometry = Geometry {
    chunk_size: 64 << 10,
    blocks: 16,
};
const CHUNK: u64 = 64 << 10;

fn at(block: u64, len: u64, at: VBlock, private: bool, unwritten: bool) -> Part {
    Part {
        block,
        len,
        place: Place::At {
            at,
            byte: at * BLOCK,
            private,
            unwritten,
        },
    }
}

fn probes(list: &[(VChunk, u32)]) -> BTreeMap<VChunk, Probe> {
    let probe = |(v, n): &(VChunk, u32)| {
        (
            *v,
            Probe {
                chunk: 100 + *v,
                used: Bitmap::full(*n),
                private: false,
            },
        )
    };
    list.iter().map(probe).collect()
}

#[test]
fn the_cheaper_way() {
    let full = Bitmap::full(16);
    let decide = |used: &Bitmap, n| copies(16, used, &Bitmap::full(n));
    assert!(!decide(&full, 1) && !decide(&full, 8) && decide(&full, 9) && decide(&full, 16));
    // A chunk with little in it is not worth a chunk.
    assert!(!decide(&Bitmap::full(7), 7) && decide(&Bitmap::full(8), 5));
    // Blocks that are not in use do not count.
    let mut tail = Bitmap::default();
    tail.set(8, 8);
    assert!(!copies(16, &tail, &Bitmap::full(12)) && copies(16, &tail, &Bitmap::full(13)));
}

#[test]
fn private_is_written_in_place() {
    let part = at(0, 40, 160, true, false);
    let l = lay_out(G, &[part], &BTreeMap::new(), &(5..40 * BLOCK));
    assert_eq!(
        l,
        Layout {
            private: vec![part],
            ..Layout::default()
        }
    );
    let part = at(0, 2, 160, true, true);
    let l = lay_out(G, &[part], &BTreeMap::new(), &(5..40));
    let converted = vec![Extent {
        block: 0,
        at: 160,
        len: 2,
        unwritten: false,
    }];
    assert_eq!(
        l,
        Layout {
            private: vec![part],
            converted,
            ..Layout::default()
        }
    );
}

#[test]
fn holes_and_few_shared_blocks_get_new_ones() {
    let hole = Part {
        block: 2,
        len: 3,
        place: Place::Hole,
    };
    let parts = [at(0, 2, 14, false, false), hole, at(5, 2, 80, false, false)];
    let l = lay_out(G, &parts, &probes(&[(0, 16), (5, 16)]), &(0..7 * BLOCK));
    let want = Layout {
        fresh: vec![0..7],
        freed: vec![14..16, 80..82],
        ..Layout::default()
    };
    assert_eq!(l, want);
}

/// A write over three shared chunks: little of the first, all of the second, most of the third.
#[test]
fn each_chunk_on_its_own() {
    let parts = [at(12, 34, 12, false, false)];
    let bytes = 12 * BLOCK..46 * BLOCK - 100;
    let l = lay_out(G, &parts, &probes(&[(0, 16), (1, 16), (2, 16)]), &bytes);
    assert_eq!((l.fresh, l.freed), (vec![12..16], vec![12..16]));
    assert_eq!(
        l.copies,
        [CopyRun {
            vchunk: 1,
            from: 101,
            count: 2
        }]
    );
    let moved: Vec<_> = l.moved.iter().map(|p| (p.block, p.len)).collect();
    assert_eq!(moved, [(16, 16), (32, 14)]);
    assert_eq!(l.overwritten[&1], G.full());
    // The last block is written in part: it is copied first.
    assert_eq!(l.overwritten[&2], Bitmap::full(13));
    assert!(l.private.is_empty() && l.converted.is_empty());
    assert_eq!(G.chunk_size, CHUNK);
}

#[test]
fn two_parts_in_one_chunk_make_one_copy() {
    let parts = [at(0, 6, 32, false, false), at(6, 6, 40, false, true)];
    let l = lay_out(G, &parts, &probes(&[(2, 16)]), &(0..12 * BLOCK));
    assert_eq!(
        l.copies,
        [CopyRun {
            vchunk: 2,
            from: 102,
            count: 1
        }]
    );
    assert_eq!(l.overwritten[&2].count(), 12);
    assert_eq!(
        l.converted,
        [Extent {
            block: 6,
            at: 40,
            len: 6,
            unwritten: false
        }]
    );
    assert_eq!((l.moved.len(), l.fresh.len()), (2, 0));
}
