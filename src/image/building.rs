//! Volumes of an import under way, and what becomes of them when it fails.

use super::digest::Digest;
use crate::base::{Result, VolumeId};
use crate::fs::Fs;
use crate::pool::{Kind, NewVolume, Pool};
use std::sync::Arc;

/// Volumes made so far; they go if this does.
pub struct Building<'a> {
    pub pool: &'a Arc<Pool>,
    /// With the names they shall have.
    pub layers: Vec<(VolumeId, Digest)>,
    pub image: Option<VolumeId>,
    pub prefix: String,
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        for id in self
            .image
            .iter()
            .chain(self.layers.iter().rev().map(|(id, _)| id))
        {
            if let Err(e) = self.pool.remove(*id) {
                log::warn!(
                    "volume {id} of a failed import is left for the next start to remove: {e}"
                );
            }
        }
    }
}

impl Building<'_> {
    /// An empty volume, or a clone.
    pub fn volume(&mut self, kind: Kind, source: Option<VolumeId>) -> Result<(VolumeId, Arc<Fs>)> {
        let number = self.layers.len();
        let name = format!("{}-{number}", self.prefix);
        let info = self.pool.create(&NewVolume {
            name,
            kind,
            source,
            limit: None,
            building: true,
            sealed: false,
        })?;
        if kind == Kind::Image {
            self.image = Some(info.id);
        } else {
            // The name comes when it is known; until then its place in the list is what counts.
            self.layers.push((info.id, Digest::of(b"")));
        }
        let volume = self.pool.volume(info.id)?;
        if source.is_none() {
            Fs::format(&volume, 0o755)?;
        }
        Ok((info.id, Fs::open(volume)?))
    }

    pub fn named(&mut self, id: VolumeId, chain: &Digest) {
        if let Some(layer) = self.layers.iter_mut().find(|(i, _)| *i == id) {
            layer.1 = chain.clone();
        }
    }
}
