use super::*;
use crate::volume::model::Model;
use std::collections::BTreeMap;

const G: Geometry = Geometry {
    chunk_size: 64 << 10,
    blocks: 16,
};

fn change(tree: &mut Model, edits: &Edits) -> Option<Applied> {
    let before = tree.clone();
    let done = apply(tree, &|c| before.refs(c), G, edits).unwrap();
    if done.is_none() {
        assert_eq!(*tree, before, "refused, but something changed");
    }
    done
}

fn grant(at: VBlock, len: u64, chunk: Chunk) -> Edits {
    Edits {
        uses: vec![Grant { at, len, chunk }],
        ..Edits::default()
    }
}

fn frees(range: Range<VBlock>) -> Edits {
    Edits {
        frees: vec![range],
        ..Edits::default()
    }
}

fn image(chunks: u64) -> Model {
    let mut tree = Model::default();
    change(&mut tree, &grant(0, chunks * 16, 100)).unwrap();
    assert_eq!((tree.runs().len(), tree.partials().len()), (1, 0));
    tree
}

#[test]
fn blocks_come_into_use() {
    let mut tree = Model::default();
    change(&mut tree, &grant(3, 4, 9)).unwrap();
    assert_eq!(tree.partials(), [0]);
    change(&mut tree, &grant(7, 9, 9)).unwrap();
    change(&mut tree, &grant(0, 3, 9)).unwrap();
    // Full: no longer to be looked at, and an ordinary run.
    assert_eq!(
        (tree.partials(), tree.runs()),
        (vec![], vec![Run::new(0, 9, 1)])
    );
    change(&mut tree, &grant(16, 20, 10)).unwrap();
    assert_eq!((tree.partials(), tree.runs().len()), (vec![2], 2));
    let want: BTreeMap<_, _> = (0..36)
        .map(|b| (b, (9 + b / 16, (b % 16) as u32)))
        .collect();
    assert_eq!(tree.blocks(G), want);
    // In use, or elsewhere: never.
    for bad in [grant(35, 1, 11), grant(36, 1, 12)] {
        let before = tree.clone();
        assert!(apply(&mut tree, &|c| before.refs(c), G, &bad).is_err());
    }
}

#[test]
fn blocks_are_freed() {
    let mut tree = image(100);
    let applied = change(&mut tree, &frees(20..70)).unwrap();
    assert!(applied.emptied.is_empty());
    assert_eq!(tree.partials(), [1, 4]);
    let used: Vec<VBlock> = tree.blocks(G).into_keys().collect();
    assert_eq!(used, (0..20).chain(70..1600).collect::<Vec<_>>());
    assert_eq!(tree.runs().len(), 4);
    // The rest of a chunk: its mapping goes, and its item.
    assert_eq!(change(&mut tree, &frees(16..20)).unwrap().emptied, [1]);
    assert_eq!(tree.partials(), [4]);
    // Again, or what never was: nothing happens.
    change(&mut tree, &frees(16..70)).unwrap();
    change(&mut tree, &frees(5000..6000)).unwrap();
    assert_eq!(tree.blocks(G).len(), 16 + 1530);
    change(&mut tree, &frees(0..16)).unwrap();
    change(&mut tree, &frees(70..1600)).unwrap();
    assert!(tree.items.is_empty(), "{tree:?}");
}

#[test]
fn a_shared_chunk_is_not_offered() {
    let mut tree = image(2);
    tree.foreign.insert(100);
    change(&mut tree, &frees(4..5)).unwrap();
    assert!(tree.partials().is_empty());
}

#[test]
fn chunks_move_only_while_they_are_shared() {
    let mut tree = image(10);
    let edits = |from, count| Edits {
        moves: vec![Move {
            vchunk: 3,
            count,
            from,
            to: 500,
        }],
        ..Edits::default()
    };
    assert!(
        change(&mut tree, &edits(103, 2)).is_none(),
        "private: somebody may have written it"
    );
    tree.foreign.extend(100..110);
    assert!(
        change(&mut tree, &edits(104, 2)).is_none(),
        "not where it was"
    );
    assert!(
        change(&mut tree, &edits(103, 8)).is_none(),
        "not all mapped"
    );
    change(&mut tree, &frees(50..51)).unwrap();
    change(&mut tree, &edits(103, 2)).unwrap();
    let chunk = |v| super::run_at(&tree, v).unwrap().unwrap().chunk(v);
    assert_eq!(
        [chunk(2), chunk(3), chunk(4), chunk(5)],
        [102, 500, 501, 105]
    );
    // The hole that this volume has in it is its own now.
    assert_eq!(tree.partials(), [3]);
    assert_eq!(tree.blocks(G).len(), 159);
}

#[test]
fn sharing_needs_whole_chunks() {
    let mut tree = image(10);
    let edits = |count| Edits {
        shares: vec![Share {
            source: 2,
            target: 50,
            count,
            chunk: 102,
        }],
        ..Edits::default()
    };
    change(&mut tree, &edits(3)).unwrap();
    assert_eq!(tree.refs(103), 2);
    assert_eq!(tree.blocks(G).len(), 13 * 16);
    change(&mut tree, &frees(70..71)).unwrap();
    assert!(change(&mut tree, &edits(3)).is_none(), "no longer whole");
}

#[test]
fn lying_hints_go() {
    let mut tree = image(2);
    change(&mut tree, &grant(64, 3, 300)).unwrap();
    tree.items.insert(partial_key(0), vec![]);
    tree.items.insert(partial_key(7), vec![]);
    let edits = Edits {
        stale: vec![0, 4, 7, 9],
        ..Edits::default()
    };
    change(&mut tree, &edits).unwrap();
    assert_eq!(tree.partials(), [4], "what is true stays");
}
