//! A tree and its chunks' reference counts as plain maps, for tests.

use super::map::{Edit, Geometry, Run, runs};
use crate::base::{Chunk, Result, VBlock, VChunk};
use crate::tree::{Key, Read, kind};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub items: BTreeMap<Key, Vec<u8>>,
    /// Physical chunks that somebody else refers to as well.
    pub foreign: BTreeSet<Chunk>,
}

impl Model {
    pub fn runs(&self) -> Vec<Run> {
        runs(self, 0..VChunk::MAX, usize::MAX).unwrap()
    }

    /// References of a chunk: the mapping's, and one if somebody else has it.
    pub fn refs(&self, chunk: Chunk) -> u32 {
        let mine = self
            .runs()
            .into_iter()
            .filter(|r| (r.map.chunk..r.map.chunk + u64::from(r.map.count)).contains(&chunk));
        mine.count() as u32 + u32::from(self.foreign.contains(&chunk))
    }

    /// Every virtual block in use, and where it is: chunk and place.
    pub fn blocks(&self, g: Geometry) -> BTreeMap<VBlock, (Chunk, u32)> {
        let mut out = BTreeMap::new();
        for run in self.runs() {
            for v in run.vchunk..run.end() {
                for place in (0..g.blocks).filter(|i| run.used(g).get(*i)) {
                    out.insert(g.first(v) + u64::from(place), (run.chunk(v), place));
                }
            }
        }
        out
    }

    pub fn partials(&self) -> Vec<VChunk> {
        let list = self.items.keys().filter(|k| k.kind == kind::PARTIAL);
        list.map(|k| k.offset).collect()
    }
}

impl Read for Model {
    fn get(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        Ok(self.items.get(key).cloned())
    }
    fn floor(&self, key: &Key) -> Result<Option<(Key, Vec<u8>)>> {
        Ok(self
            .items
            .range(..=*key)
            .next_back()
            .map(|(k, v)| (*k, v.clone())))
    }
    fn next(&self, key: &Key) -> Result<Option<(Key, Vec<u8>)>> {
        Ok(self
            .items
            .range(*key..)
            .next()
            .map(|(k, v)| (*k, v.clone())))
    }
    fn scan(
        &self,
        from: &Key,
        to: &Key,
        each: &mut dyn FnMut(&Key, &[u8]) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        for (k, v) in self.items.range(*from..*to) {
            if each(k, v)?.is_break() {
                break;
            }
        }
        Ok(())
    }
    fn shared(&self, _key: &Key) -> Result<bool> {
        Ok(false)
    }
}

impl Edit for Model {
    fn put(&mut self, key: Key, value: Vec<u8>) {
        self.items.insert(key, value);
    }
    fn delete(&mut self, key: Key) {
        assert!(
            self.items.remove(&key).is_some(),
            "deleting {key:?}, which is not there"
        );
    }
}
