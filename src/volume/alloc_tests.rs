use super::*;
use crate::tree::{Key, Read, kind};
use crate::volume::edit::{Edits, apply};
use crate::volume::map::{Run, map_key, probe};
use crate::volume::model::Model;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;

const G: Geometry = Geometry {
    chunk_size: 64 << 10,
    blocks: 16,
};

/// A volume on plain maps.
struct Earth {
    tree: RefCell<Model>,
    free: RefCell<BTreeSet<Chunk>>,
    next: Cell<VChunk>,
    released: Cell<u64>,
}

impl Earth {
    fn new(chunks: u64) -> Earth {
        Earth {
            tree: RefCell::default(),
            free: RefCell::new((0..chunks).collect()),
            next: Cell::new(0),
            released: Cell::new(0),
        }
    }

    /// What the update of an operation does.
    fn commit(&self, alloc: &Mutex<Alloc>, taken: &Taken, frees: Option<Range<VBlock>>) {
        let mut freeing = Vec::new();
        if let Some(range) = &frees {
            for v in G.vchunks(range) {
                let (place, n) = G.part(range, v);
                if n < G.blocks {
                    alloc.lock().freeing(v, place, n);
                    freeing.push(v);
                }
            }
        }
        let before: BTreeSet<Chunk> = self.chunks();
        let (uses, stale) = (taken.grants.clone(), taken.stale.clone());
        let edits = Edits {
            uses,
            frees: frees.into_iter().collect(),
            stale,
            ..Edits::default()
        };
        let was = self.tree.borrow().clone();
        let applied = apply(&mut *self.tree.borrow_mut(), &|c| was.refs(c), G, &edits);
        let applied = applied.unwrap().unwrap();
        let after = self.chunks();
        self.free.borrow_mut().extend(before.difference(&after));
        let mut alloc = alloc.lock();
        alloc.commit(&taken.grants);
        for v in freeing {
            alloc.freed(v, Some(self.released.get()));
        }
        for v in applied.emptied {
            alloc.emptied(v);
        }
    }

    fn chunks(&self) -> BTreeSet<Chunk> {
        self.tree
            .borrow()
            .blocks(G)
            .values()
            .map(|(c, _)| *c)
            .collect()
    }
}

impl Ground for Earth {
    fn probe(&self, v: VChunk) -> Result<Option<Probe>> {
        let tree = self.tree.borrow();
        probe(&*tree, &|c| tree.refs(c), G, v)
    }
    fn next_partial(&self, from: VChunk) -> Result<Option<VChunk>> {
        let next = self.tree.borrow().next(&Key::new(0, kind::PARTIAL, from))?;
        Ok(next
            .filter(|(k, _)| k.kind == kind::PARTIAL)
            .map(|(k, _)| k.offset))
    }
    fn new_chunks(&self, want: u64) -> Option<Range<Chunk>> {
        let mut free = self.free.borrow_mut();
        let first = *free.first()?;
        let end = (first..first + want)
            .take_while(|c| free.contains(c))
            .count() as u64
            + first;
        for c in first..end {
            free.remove(&c);
        }
        Some(first..end)
    }
    fn give_back(&self, chunks: Range<Chunk>) {
        for c in chunks {
            assert!(
                self.free.borrow_mut().insert(c),
                "chunk {c} given back twice"
            );
        }
    }
    fn new_vchunks(&self, n: u64) -> VChunk {
        self.next.replace(self.next.get() + n)
    }
    fn released(&self) -> u64 {
        self.released.get()
    }
}

fn want(blocks: u64, after: Option<VBlock>, large: bool) -> Want {
    Want {
        blocks,
        after,
        large,
    }
}

fn spans(taken: &Taken) -> Vec<(VBlock, u64, Chunk)> {
    taken
        .grants
        .iter()
        .map(|g| (g.at, g.len, g.chunk))
        .collect()
}

#[test]
fn small_pieces_side_by_side() {
    let earth = Earth::new(10);
    let alloc = Mutex::new(Alloc::new(G));
    let a = take(&alloc, &earth, &want(10, None, false)).unwrap();
    assert_eq!(spans(&a), [(0, 10, 0)]);
    // Room for six more, not for ten.
    let b = take(&alloc, &earth, &want(10, None, false)).unwrap();
    assert_eq!(spans(&b), [(16, 10, 1)]);
    let c = take(&alloc, &earth, &want(6, None, false)).unwrap();
    let d = take(&alloc, &earth, &want(6, None, false)).unwrap();
    let mut both = [spans(&c), spans(&d)].concat();
    both.sort_unstable();
    assert_eq!(both, [(10, 6, 0), (26, 6, 1)]);
    // What is not used after all is free again at once.
    alloc.lock().give_back(&a.grants, &earth);
    let e = take(&alloc, &earth, &want(10, None, false)).unwrap();
    assert_eq!(spans(&e), [(0, 10, 0)]);
    for taken in [b, c, d, e] {
        alloc.lock().give_back(&taken.grants, &earth);
    }
    assert_eq!(earth.free.borrow().len(), 10, "all chunks are back");
    assert!(alloc.lock().open.is_empty());
}

#[test]
fn large_pieces_take_whole_chunks() {
    let earth = Earth::new(100);
    let alloc = Mutex::new(Alloc::new(G));
    let a = take(&alloc, &earth, &want(33, None, false)).unwrap();
    assert_eq!(spans(&a), [(0, 32, 0), (32, 1, 2)], "the tail is packed");
    earth.commit(&alloc, &a, None);
    // A file that grows goes on in its chunk, then in chunks of its own, whose rest waits.
    let b = take(&alloc, &earth, &want(20, Some(33), true)).unwrap();
    assert_eq!(spans(&b)[0], (33, 15, 2));
    assert_eq!(spans(&b)[1].1, 5);
    earth.commit(&alloc, &b, None);
    let (at, _, chunk) = spans(&b)[1];
    let c = take(&alloc, &earth, &want(3, None, false)).unwrap();
    assert_ne!(spans(&c)[0].2, chunk, "its rest is not for others");
    let d = take(&alloc, &earth, &want(30, Some(at + 5), true)).unwrap();
    assert_eq!(spans(&d)[0], (at + 5, 11, chunk));
    assert_eq!(spans(&d)[1].0, at + 16, "virtual chunks go on");
}

#[test]
fn a_chunk_shared_meanwhile_is_left_alone() {
    let earth = Earth::new(10);
    let alloc = Mutex::new(Alloc::new(G));
    let a = take(&alloc, &earth, &want(4, None, false)).unwrap();
    earth.commit(&alloc, &a, None);
    earth.tree.borrow_mut().foreign.insert(0);
    let b = take(&alloc, &earth, &want(4, Some(4), false)).unwrap();
    assert_eq!(spans(&b), [(16, 4, 1)]);
    assert_eq!(b.stale, [0], "its PARTIAL item goes");
    earth.commit(&alloc, &b, None);
    assert_eq!(earth.tree.borrow().partials(), [1]);
    // Moved to a chunk of its own under the same number: found by its item again.
    let run = Run::one(G, 0, 7, Bitmap::full(4)).unwrap();
    earth
        .tree
        .borrow_mut()
        .items
        .insert(map_key(0), run.map.encode(G.chunk_size));
    let c = take(&alloc, &earth, &want(4, Some(4), false)).unwrap();
    assert_eq!(spans(&c), [(4, 4, 7)]);
}

#[test]
fn freed_blocks_wait() {
    let earth = Earth::new(10);
    let alloc = Mutex::new(Alloc::new(G));
    let a = take(&alloc, &earth, &want(12, None, false)).unwrap();
    earth.commit(&alloc, &a, None);
    earth.commit(&alloc, &Taken::default(), Some(0..8));
    let b = take(&alloc, &earth, &want(8, None, false)).unwrap();
    assert_eq!(spans(&b), [(16, 8, 1)]);
    earth.commit(&alloc, &b, None);
    // Nor may one who opens the chunk anew.
    alloc.lock().retire(0);
    let c = take(&alloc, &earth, &want(4, Some(2), false)).unwrap();
    assert_eq!(spans(&c).len(), 1);
    assert!(spans(&c)[0].0 >= 12);
    alloc.lock().give_back(&c.grants, &earth);
    alloc.lock().retire(0);
    alloc.lock().retire(1);
    earth.released.set(1);
    let d = take(&alloc, &earth, &want(8, Some(3), false)).unwrap();
    assert_eq!(spans(&d)[0], (3, 5, 0));
}

#[test]
fn full_is_no_space_and_nothing_is_kept() {
    let earth = Earth::new(2);
    let alloc = Mutex::new(Alloc::new(G));
    assert!(matches!(
        take(&alloc, &earth, &want(33, None, false)),
        Err(Error::NoSpace)
    ));
    assert_eq!(earth.free.borrow().len(), 2);
    let a = take(&alloc, &earth, &want(31, None, true)).unwrap();
    earth.commit(&alloc, &a, None);
    // The last block, though it waits for another file.
    let b = take(&alloc, &earth, &want(1, None, false)).unwrap();
    assert_eq!((b.grants[0].chunk, b.grants[0].len), (1, 1));
    earth.commit(&alloc, &b, None);
    assert!(matches!(
        take(&alloc, &earth, &want(1, None, false)),
        Err(Error::NoSpace)
    ));
}

/// Random operations, several under way at once: no block is ever handed out that is in use, under
/// way, or freed too recently; what is given back comes back.
#[test]
fn nothing_twice() {
    for seed in 0..40 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let earth = Earth::new(60);
        let alloc = Mutex::new(Alloc::new(G));
        let mut under_way: Vec<Taken> = Vec::new();
        // Blocks freed since the last release: not even the chunk's other life may have them.
        let mut young: BTreeSet<(Chunk, u32)> = BTreeSet::new();
        for _ in 0..300 {
            match rng.random_range(0..10) {
                0..5 => {
                    let used = earth.tree.borrow().blocks(G);
                    let after = used.keys().nth(rng.random_range(0..used.len().max(1)));
                    let after = after.filter(|_| rng.random_range(0..2) == 0).map(|b| b + 1);
                    let most = if rng.random_range(0..5) == 0 { 70 } else { 12 };
                    let blocks = rng.random_range(1..most);
                    let wish = want(blocks, after, rng.random_range(0..3) == 0);
                    let Ok(taken) = take(&alloc, &earth, &wish) else {
                        continue;
                    };
                    assert_eq!(taken.grants.iter().map(|g| g.len).sum::<u64>(), blocks);
                    let mut all: BTreeSet<VBlock> = used.keys().copied().collect();
                    let others = under_way.iter().flat_map(|t| &t.grants);
                    for grant in others.chain(&taken.grants) {
                        for b in grant.at..grant.at + grant.len {
                            assert!(all.insert(b), "block {b} twice, seed {seed}");
                        }
                    }
                    for grant in &taken.grants {
                        for b in grant.at..grant.at + grant.len {
                            let v = G.vchunk(b);
                            let chunk = grant.chunk + (v - G.vchunk(grant.at));
                            if used.keys().any(|u| G.vchunk(*u) == v) {
                                assert!(!young.contains(&(chunk, G.place(b))), "too young");
                            }
                        }
                    }
                    under_way.push(taken);
                }
                5..8 if !under_way.is_empty() => {
                    let taken = under_way.swap_remove(rng.random_range(0..under_way.len()));
                    if rng.random_range(0..4) == 0 {
                        alloc.lock().give_back(&taken.grants, &earth);
                    } else {
                        earth.commit(&alloc, &taken, None);
                    }
                }
                8 => {
                    let used = earth.tree.borrow().blocks(G);
                    let Some((b, place)) = used.iter().nth(rng.random_range(0..used.len().max(1)))
                    else {
                        continue;
                    };
                    young.insert(*place);
                    earth.commit(&alloc, &Taken::default(), Some(*b..*b + 1));
                }
                _ if rng.random_range(0..5) == 0 => {
                    earth.released.set(earth.released.get() + 1);
                    young.clear();
                }
                _ => {}
            }
        }
        for taken in under_way {
            alloc.lock().give_back(&taken.grants, &earth);
        }
        let used = earth.chunks();
        assert_eq!(
            used.len() + earth.free.borrow().len(),
            60,
            "a chunk is lost, seed {seed}"
        );
    }
}
