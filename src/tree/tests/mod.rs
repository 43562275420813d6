//! The tree beside a plain map, and what the other tests of the tree need.

mod damage;
mod formats;
mod shape;
mod speed;

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
        let store = NodeStore::new(device.clone(), nodes.clone(), 0, 64 << 20, generation);
        if tiny { store.tiny() } else { store }
    }

    /// Trees become deep with few items.
    fn deep(self) -> World {
        self.fanout(7)
    }

    fn fanout(self, fanout: usize) -> World {
        World {
            store: self.store.fanout(fanout),
            ..self
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
        let height = self.world.retry(|s| tree.height(s));
        let at_most = Tree::nodes_at_most(height, changes.len() as u64);
        let free = self.world.nodes.free();
        let delta = self.world.apply(tree, &changes);
        assert!(free - self.world.nodes.free() <= at_most);
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
        let fanout = self.world.store.fanout;
        self.world.store = World::open(&device, &nodes, false, generation).fanout(fanout);
        self.world.device = device;
        self.world.nodes = nodes;
    }
}

#[test]
fn behaves_as_a_map() {
    for seed in 0..6 {
        let mut life = Life::new(seed, false, [30, 400, 5000][seed as usize % 3]);
        if seed >= 3 {
            life.world = life.world.deep();
        }
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
