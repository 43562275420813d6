//! Who comes from whom, among all volumes at one moment.

use crate::base::{Result, VolumeId};
use crate::pool::{Kind, Pool, VolumeInfo};
use std::collections::HashMap;

/// Blob of containers and snapshots: the image they come from, as a decimal id. Their sources tell the
/// same, as long as all of these exist.
pub(super) const BASE: &str = "cowfs.base";
/// No line of sources is longer (ids only grow, so there are no circles; a damaged catalog may lie).
const DEEP: usize = 4096;

/// A look at the catalog.
pub(super) struct Lineage {
    all: HashMap<VolumeId, VolumeInfo>,
}

impl Lineage {
    pub fn look(pool: &Pool) -> Result<Lineage> {
        Ok(Lineage {
            all: pool.volumes()?.into_iter().map(|v| (v.id, v)).collect(),
        })
    }

    pub fn get(&self, id: VolumeId) -> Option<&VolumeInfo> {
        self.all.get(&id)
    }

    pub fn all(&self) -> impl Iterator<Item = &VolumeInfo> {
        self.all.values()
    }

    /// The volumes it was cloned from, nearest first, as far as they exist.
    pub fn sources(&self, v: &VolumeInfo) -> Vec<&VolumeInfo> {
        let mut line: Vec<&VolumeInfo> = Vec::new();
        let mut next = v.source;
        while let Some(source) = next.and_then(|id| self.get(id)) {
            line.push(source);
            if line.len() >= DEEP {
                break;
            }
            next = source.source;
        }
        line
    }

    /// The image a container or snapshot comes from, while that exists.
    pub fn image_of(&self, pool: &Pool, v: &VolumeInfo) -> Result<Option<&VolumeInfo>> {
        if matches!(v.kind, Kind::Image | Kind::Layer) {
            return Ok(None);
        }
        if let Some(image) = self.sources(v).into_iter().find(|s| s.kind == Kind::Image) {
            return Ok(Some(image));
        }
        Ok(base(pool, v.id)?
            .and_then(|id| self.get(id))
            .filter(|i| i.kind == Kind::Image))
    }

    /// Snapshots of a container.
    pub fn snapshots_of<'a>(&'a self, v: &'a VolumeInfo) -> impl Iterator<Item = &'a VolumeInfo> {
        let start = format!("{}@", v.name);
        self.all.values().filter(move |s| {
            v.kind == Kind::Container
                && s.kind == Kind::Snapshot
                && !s.removing
                && s.name.starts_with(&start)
        })
    }

    /// What keeps `v` from being removed, sorted: a container's snapshots; an image's containers, and
    /// snapshots whose container is another's or gone; a layer's images and layers.
    pub fn dependants<'a>(&'a self, pool: &Pool, v: &'a VolumeInfo) -> Result<Vec<&'a VolumeInfo>> {
        let mut found: Vec<&VolumeInfo> =
            match v.kind {
                Kind::Snapshot => Vec::new(),
                Kind::Container => self.snapshots_of(v).collect(),
                Kind::Layer => self
                    .all
                    .values()
                    .filter(|o| o.source == Some(v.id) && !o.removing)
                    .collect(),
                Kind::Image => {
                    let mut of = Vec::new();
                    for o in self.all.values().filter(|o| {
                        !o.removing && matches!(o.kind, Kind::Container | Kind::Snapshot)
                    }) {
                        if self.image_of(pool, o)?.is_some_and(|i| i.id == v.id) {
                            of.push(o);
                        }
                    }
                    of
                }
            };
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }
}

/// What the blob says.
pub(super) fn base(pool: &Pool, id: VolumeId) -> Result<Option<VolumeId>> {
    let Some(bytes) = pool.blob(id, BASE)? else {
        return Ok(None);
    };
    Ok(std::str::from_utf8(&bytes)
        .ok()
        .and_then(|s| s.parse().ok())
        .map(VolumeId))
}
