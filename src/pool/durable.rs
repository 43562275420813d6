//! Durability: marks in the log, and what happens when a flush fails.

use super::Pool;
use super::core::Core;
use super::record::{Action, encode};
use crate::base::{Error, Result, VolumeId};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::SeqCst;

impl Pool {
    /// Everything answered so far on this volume becomes durable: its data first, then a mark that
    /// names it. Other volumes' data does not have to be: after a power cut a volume's records count
    /// only up to its own mark.
    pub(super) fn sync_volume(&self, core: &Core) -> Result<()> {
        if core.building() {
            return self.checkpoint();
        }
        self.refuse_if_failed()?;
        if core.born_seq()
            > self
                .checkpointed
                .load(SeqCst)
                .max(self.catalog.marked.lock().0)
        {
            // The record that made the volume belongs to the catalog, and needs its source as well.
            return self.sync();
        }
        match self.mark(core)? {
            Some(pos) => self.log.sync(pos).map_err(|e| self.fail(e)),
            None => self.checkpoint(),
        }
    }

    /// Flushes the volume's data and appends its mark; the log position to make durable, or none
    /// when the log has no room for a mark.
    fn mark(&self, core: &Core) -> Result<Option<u64>> {
        let mut marked = core.marked.lock();
        let seq = self.mark_data(core, &marked)?;
        self.append_mark(&mut marked, core.id, seq)
    }

    /// Flushes the volume's data; answers the sequence number up to which that serves. The lock on
    /// `marked` keeps others from marking what is being flushed here.
    pub(super) fn mark_data(&self, core: &Core, _marked: &(u64, u64)) -> Result<u64> {
        super::op::outside();
        // Whoever held the lock before may have failed to flush: a second flush proves nothing.
        self.refuse_if_failed()?;
        let (ranges, seq) = {
            // No operation is between its data and its record now.
            let _whole = self.gate.read();
            let _writers = core.gate.write();
            (core.take_dirty(), core.last_seq())
        };
        if !ranges.is_empty() {
            let data = &self.devices.data;
            data.sync_ranges(&ranges)
                .map_err(|e| self.fail(Error::io(format!("flushing {}", data.name()), e)))?;
        }
        Ok(seq)
    }

    fn append_mark(&self, marked: &mut (u64, u64), id: VolumeId, seq: u64) -> Result<Option<u64>> {
        self.refuse_if_failed()?;
        if seq > marked.0.max(self.checkpointed.load(SeqCst)) {
            let payload = encode(id.0, &BTreeMap::new(), &[Action::Mark(vec![(id.0, seq)])]);
            match self.log.append_unreserved(&payload) {
                Some(pos) => *marked = (seq, pos),
                None => return Ok(None),
            }
        }
        Ok(Some(marked.1))
    }

    /// Everything answered so far becomes durable.
    pub fn sync(&self) -> Result<()> {
        self.refuse_if_failed()?;
        let mut marked = self.catalog.marked.lock();
        // The catalog's records name volumes as they were then: those must be durable at least so far.
        let seq = {
            let _whole = self.gate.read();
            let _tree = self.catalog.tree.read();
            self.catalog.last_seq()
        };
        let mut last = 0;
        let dropped = self.dropped.lock().clone();
        for core in self.cores().into_iter().chain(dropped) {
            if core.building() {
                continue;
            }
            match self.mark(&core)? {
                Some(pos) => last = last.max(pos),
                None => {
                    drop(marked);
                    return self.checkpoint();
                }
            }
        }
        match self.append_mark(&mut marked, VolumeId::CATALOG, seq)? {
            Some(pos) => self.log.sync(last.max(pos)).map_err(|e| self.fail(e)),
            None => {
                drop(marked);
                self.checkpoint()
            }
        }
    }

    /// After a failed flush nobody knows what the disk holds: no more writes until reopened.
    pub(super) fn fail(&self, e: Error) -> Error {
        let mut failed = self.failed.lock();
        if failed.is_none() {
            log::error!("the pool refuses writes from now on: {e}");
            *failed = Some(e.to_string());
        }
        e
    }

    pub(super) fn refuse_if_failed(&self) -> Result<()> {
        match &*self.failed.lock() {
            Some(why) => Err(Error::Failed(why.clone())),
            None => Ok(()),
        }
    }
}
