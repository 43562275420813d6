//! The tree beside a plain map.

use super::*;
use crate::base::{BLOCK, CHUNK_MIN, Chunk, Error, NODE, NodeAddr};
use crate::device::{Device, MemDevice};
use crate::space::Space;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

type Map = BTreeMap<Key, Vec<u8>>;
type Changes = BTreeMap<Key, Change>;

const CHUNKS: u64 = 1 << 20;

/// A device, its spaces and a store; what a pool would do with them.
struct World {
    device: Arc<MemDevice>,
    nodes: Arc<Space>,
    chunks: Space,
    store: NodeStore,
}

impl World {
    fn new(tiny: bool) -> World {
        let device = Arc::new(MemDevice::new());
        let nodes = Arc::new(Space::new(1 << 20));
        nodes.add(0, 1).unwrap();
        let store = World::open(&device, &nodes, tiny, 1);
        World {
            device,
            nodes,
            chunks: Space::new(CHUNKS),
            store,
        }
    }

    fn open(device: &Arc<MemDevice>, nodes: &Arc<Space>, tiny: bool, generation: u64) -> NodeStore {
        if tiny {
            NodeStore::tiny(device.clone(), nodes.clone(), generation)
        } else {
            NodeStore::new(device.clone(), nodes.clone(), 0, 64 << 20, generation)
        }
    }

    /// Runs `f` until nothing misses.
    fn retry<T>(&self, mut f: impl FnMut(&NodeStore) -> crate::base::Result<T>) -> T {
        for _ in 0..10_000 {
            match f(&self.store) {
                Err(Error::Miss(addr)) => self.store.load(addr).unwrap(),
                r => return r.unwrap(),
            }
        }
        panic!("no end of misses");
    }

    fn apply(&self, tree: &mut Tree, changes: &Changes) -> Delta {
        let mut root = *tree;
        let delta = self.retry(|s| root.apply(s, &self.chunks, CHUNK_MIN, changes));
        *tree = root;
        delta
    }

    fn clone_of(&self, tree: Tree) -> Tree {
        if tree.root != 0 {
            self.nodes.add(tree.root, 1).unwrap();
        }
        tree
    }

    /// What the reclaimer does.
    fn remove(&self, tree: Tree) {
        let mut dead = vec![tree.root];
        while let Some(addr) = dead.pop().filter(|a| *a != 0) {
            let refers = self.retry(|s| Tree::refers(s, addr));
            if self.nodes.drop_one(addr).unwrap() > 0 {
                continue;
            }
            self.store.discard(addr);
            match refers {
                Refers::Branch(children) => dead.extend(children),
                Refers::Leaf(runs) => {
                    for (chunk, n) in runs {
                        self.chunks.drop(chunk, n.into()).unwrap();
                    }
                }
            }
        }
    }

    fn checkpoint(&self) {
        let freed = (self.nodes.take_quarantine(), self.chunks.take_quarantine());
        let captured = self.store.capture();
        self.store.write(&captured).unwrap();
        self.store.written(&captured);
        self.nodes.release(&freed.0);
        self.chunks.release(&freed.1);
    }

    /// Walks all trees: shape, order, levels; counts found equal those kept.
    fn audit(&self, trees: &[Tree]) {
        let mut nodes: BTreeMap<NodeAddr, u32> = BTreeMap::from([(0, 1)]);
        let mut chunks: BTreeMap<Chunk, u32> = BTreeMap::new();
        for tree in trees.iter().filter(|t| t.root != 0) {
            self.walk(tree.root, None, &mut nodes, &mut chunks);
        }
        for (addr, refs) in &nodes {
            assert_eq!(self.nodes.refs(*addr), *refs, "node {addr}");
        }
        assert_eq!(self.nodes.used(), nodes.len() as u64);
        for (chunk, refs) in &chunks {
            assert_eq!(self.chunks.refs(*chunk), *refs, "chunk {chunk}");
        }
        assert_eq!(self.chunks.used(), chunks.len() as u64);
        // Nothing is held any more.
        let gone = self.nodes.used() + self.nodes.quarantined();
        assert_eq!(self.nodes.free(), self.nodes.limit() - gone);
    }

    fn walk(
        &self,
        addr: NodeAddr,
        above: Option<(u8, Key, Option<Key>)>,
        nodes: &mut BTreeMap<NodeAddr, u32>,
        chunks: &mut BTreeMap<Chunk, u32>,
    ) {
        let refs = nodes.entry(addr).or_default();
        *refs += 1;
        if *refs > 1 {
            return;
        }
        let node = self.store.fetch(addr).unwrap();
        let mut sealed = Box::new([0; NODE]);
        node.page.read().seal(&mut sealed[..]);
        let page = node::Page::verify(sealed, addr).unwrap();
        let (low, high) = match above {
            Some((level, low, high)) => {
                assert_eq!(node.level + 1, level);
                (low, high)
            }
            None => (Key::MIN, None),
        };
        let inside = |key: &Key| *key >= low && high.is_none_or(|h| *key < h);
        match node.kind {
            NodeKind::Leaf => {
                for i in 0..page.count() {
                    assert!(inside(&Key::decode(leaf::key(&page, i))));
                }
                for (chunk, n) in leaf::runs(&page) {
                    for c in chunk..chunk + u64::from(n) {
                        *chunks.entry(c).or_default() += 1;
                    }
                }
            }
            _ => {
                let keys: Vec<Key> = (0..page.count())
                    .map(|i| Key::decode(branch::key(&page, i)))
                    .collect();
                for (i, key) in keys.iter().enumerate() {
                    assert!(i == 0 || inside(key));
                    let from = if i == 0 { low } else { *key };
                    let to = keys.get(i + 1).copied().or(high);
                    let child = branch::child(&page, i);
                    let below = self.store.fetch(child.addr).unwrap();
                    assert_eq!(below.generation as u32, child.birth);
                    self.walk(child.addr, Some((node.level, from, to)), nodes, chunks);
                }
            }
        }
    }

    fn items(&self, tree: Tree) -> Map {
        self.retry(|s| {
            let mut items = Map::new();
            tree.scan(s, &Key::MIN, &Key::MAX, &mut |k, v| {
                assert!(items.insert(*k, v.to_vec()).is_none());
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(items)
        })
    }
}

fn random_key(rng: &mut ChaCha8Rng, wide: u64) -> Key {
    match rng.random_range(0..10) {
        0..3 => Key::new(0, kind::MAP, rng.random_range(0..wide)),
        3..6 => Key::new(rng.random_range(1..wide.max(2)), kind::INODE, 0),
        6 => Key::new(rng.random_range(1..4), kind::DIRENT, rng.random()),
        _ => Key::new(
            rng.random_range(1..wide.max(2)),
            kind::EXTENT,
            rng.random_range(0..8),
        ),
    }
}

/// Values of many lengths; a mapping's chunks are those that are in use, or new ones.
fn random_value(rng: &mut ChaCha8Rng, world: &World, key: &Key) -> Vec<u8> {
    if key.kind == kind::MAP {
        let count = rng.random_range(1..4u32);
        let mut used = Bitmap::default();
        used.set(rng.random_range(0..8), rng.random_range(1..8));
        let chunk = match rng.random_range(0..2) {
            0 => world
                .chunks
                .alloc(count.into())
                .filter(|r| r.end - r.start == u64::from(count)),
            _ => None,
        };
        let chunk = chunk.map_or_else(|| rng.random_range(0..CHUNKS - 10), |r| r.start);
        let used = (count == 1 && rng.random()).then_some(used);
        return Mapping { chunk, count, used }.encode(CHUNK_MIN);
    }
    let len = match rng.random_range(0..20) {
        0 => rng.random_range(0..=VALUE_MAX),
        1 => VALUE_MAX,
        2..5 => 500,
        _ => rng.random_range(0..120),
    };
    (0..len).map(|_| rng.random()).collect()
}

fn blocks(map: &Map) -> i64 {
    let maps = map.iter().filter(|(k, _)| k.kind == kind::MAP);
    maps.map(|(_, v)| Mapping::decode(v).unwrap().blocks(CHUNK_MIN) as i64)
        .sum()
}

fn inodes(map: &Map) -> i64 {
    map.keys().filter(|k| k.kind == kind::INODE).count() as i64
}

struct Life {
    world: World,
    rng: ChaCha8Rng,
    /// Trees and what they should hold.
    trees: Vec<(Tree, Map)>,
    wide: u64,
}

impl Life {
    fn new(seed: u64, tiny: bool, wide: u64) -> Life {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        let trees = vec![(Tree::default(), Map::new())];
        Life {
            world: World::new(tiny),
            rng,
            trees,
            wide,
        }
    }

    fn change(&mut self) {
        let rng = &mut self.rng;
        let at = rng.random_range(0..self.trees.len());
        let (tree, map) = &mut self.trees[at];
        let n = if rng.random_ratio(1, 20) {
            200
        } else {
            rng.random_range(1..12)
        };
        let deletes = rng.random_range(0..10);
        let mut changes = Changes::new();
        for _ in 0..n {
            let mut key = random_key(rng, self.wide);
            if rng.random_range(0..10) < deletes {
                // Mostly of what is there.
                if let Some((k, _)) = map.range(key..).next().filter(|_| rng.random_ratio(9, 10)) {
                    key = *k;
                }
                changes.insert(key, None);
            } else {
                let value = random_value(rng, &self.world, &key);
                changes.insert(key, Some(value));
            }
        }
        if rng.random_ratio(1, 30) {
            // A whole range of keys goes.
            let from = random_key(rng, self.wide);
            changes = map
                .range(from..)
                .take(600)
                .map(|(k, _)| (*k, None))
                .collect();
        }
        let before = (blocks(map), inodes(map));
        for (key, change) in &changes {
            match change {
                Some(value) => map.insert(*key, value.clone()),
                None => map.remove(key),
            };
        }
        let delta = self.world.apply(tree, &changes);
        assert_eq!(delta.blocks, blocks(map) - before.0);
        assert_eq!(delta.inodes, inodes(map) - before.1);
    }

    fn look(&mut self) {
        let at = self.rng.random_range(0..self.trees.len());
        let (tree, map) = &self.trees[at];
        for _ in 0..5 {
            let key = random_key(&mut self.rng, self.wide);
            let own = |(k, v): (&Key, &Vec<u8>)| (*k, v.clone());
            let w = &self.world;
            assert_eq!(w.retry(|s| tree.get(s, &key)), map.get(&key).cloned());
            let next = w.retry(|s| tree.next(s, &key));
            assert_eq!(next, map.range(key..).next().map(own));
            let floor = w.retry(|s| tree.floor(s, &key));
            assert_eq!(floor, map.range(..=key).next_back().map(own));
            if let Some((k, v)) = next {
                assert_eq!(w.retry(|s| tree.get(s, &k)), Some(v));
            }
        }
    }

    fn diff(&mut self) {
        let a = self.rng.random_range(0..self.trees.len());
        let b = self.rng.random_range(0..self.trees.len());
        let ((tree_a, map_a), (tree_b, map_b)) = (&self.trees[a], &self.trees[b]);
        let mut wanted = BTreeMap::new();
        for key in map_a.keys().chain(map_b.keys()) {
            let pair = (map_a.get(key).cloned(), map_b.get(key).cloned());
            if pair.0 != pair.1 {
                wanted.insert(*key, pair);
            }
        }
        let mut found = Vec::new();
        Tree::diff(*tree_a, *tree_b, &self.world.store, &mut |k, a, b| {
            found.push((*k, (a.map(|v| v.to_vec()), b.map(|v| v.to_vec()))));
            Ok(())
        })
        .unwrap();
        assert!(found == Vec::from_iter(wanted));
    }

    fn live(&mut self, steps: usize) {
        for step in 0..steps {
            match self.rng.random_range(0..40) {
                0 if self.trees.len() < 6 => {
                    let at = self.rng.random_range(0..self.trees.len());
                    let (tree, map) = self.trees[at].clone();
                    self.trees.push((self.world.clone_of(tree), map));
                }
                1 if self.trees.len() > 1 => {
                    let at = self.rng.random_range(0..self.trees.len());
                    let (tree, _) = self.trees.swap_remove(at);
                    self.world.remove(tree);
                }
                2..4 => self.world.checkpoint(),
                4..10 => self.look(),
                10 => self.diff(),
                _ => self.change(),
            }
            if step % 250 == 0 || step + 1 == steps {
                let trees: Vec<Tree> = self.trees.iter().map(|(t, _)| *t).collect();
                self.world.audit(&trees);
                if self.world.store.dirty() < 3000 {
                    for (tree, map) in &self.trees {
                        assert!(self.world.items(*tree) == *map);
                    }
                }
            }
        }
    }

    /// Everything again from what is on the device.
    fn reopen(&mut self) {
        self.world.checkpoint();
        let generation = self.world.store.generation();
        let device = Arc::new(self.world.device.copy());
        let nodes = Arc::new(Space::new(1 << 20));
        for page in self.world.nodes.dirty_pages() {
            let bytes = self.world.nodes.page(page).unwrap_or_default();
            nodes.load_page(page, &bytes).unwrap();
        }
        self.world.store = World::open(&device, &nodes, false, generation);
        self.world.device = device;
        self.world.nodes = nodes;
    }
}

#[test]
fn behaves_as_a_map() {
    for seed in 0..6 {
        let mut life = Life::new(seed, false, [30, 400, 5000][seed as usize % 3]);
        life.live(1500);
        life.reopen();
        life.live(300);
        for (tree, _) in std::mem::take(&mut life.trees) {
            life.world.remove(tree);
        }
        life.world.audit(&[]);
    }
}

#[test]
fn behaves_as_a_map_with_next_to_no_memory() {
    let mut life = Life::new(77, true, 20_000);
    for (tree, map) in &mut life.trees {
        let mut changes = Changes::new();
        for i in 0..6000 {
            let key = Key::new(i, kind::EXTENT, 3);
            changes.insert(key, Some(vec![i as u8; 400]));
            map.insert(key, vec![i as u8; 400]);
        }
        life.world.apply(tree, &changes);
    }
    life.world.checkpoint();
    assert_eq!(life.world.store.dirty(), 0);
    let tree = life.trees[0].0;
    let get = |i| tree.get(&life.world.store, &Key::new(i, kind::EXTENT, 3));
    let missed = (0..6000)
        .filter(|i| matches!(get(*i), Err(Error::Miss(_))))
        .count();
    assert!(missed > 3000, "{missed}");
    for _ in 0..200 {
        life.look();
        let (tree, map) = &mut life.trees[0];
        let key = Key::new(life.rng.random_range(0..6000), kind::EXTENT, 3);
        map.insert(key, vec![1]);
        life.world
            .apply(tree, &Changes::from([(key, Some(vec![1]))]));
        if life.rng.random_ratio(1, 5) {
            life.world.checkpoint();
        }
    }
    life.world.checkpoint();
    life.world.audit(&[life.trees[0].0]);
    life.reopen();
    assert!(life.world.items(life.trees[0].0) == life.trees[0].1);
}

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
    let world = World::new(false);
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
    assert_eq!(world.store.read_page(8, NodeKind::Index).unwrap(), Vec::<u8>::new());
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

/// Threads change clones of one tree at once: shared nodes lose their owners in any order.
#[test]
fn clones_change_at_once() {
    for round in 0..6u64 {
        let world = Arc::new(World::new(false));
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
