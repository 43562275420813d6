//! What an image says of itself.

use super::lineage::Lineage;
use super::proto::{ImageDetails, Layer};
use crate::base::{Result, VolumeId};
use crate::image;
use crate::pool::{Kind, Pool, VolumeInfo};
use serde_json::Value;

/// The image's ID: the digest of its configuration. None for what was not imported.
pub(super) fn digest(pool: &Pool, id: VolumeId) -> Result<Option<String>> {
    Ok(pool
        .blob(id, image::BLOB_CONFIG)?
        .map(|b| image::Digest::of(&b).to_string()))
}

pub(super) fn details(pool: &Pool, line: &Lineage, of: &VolumeInfo) -> Result<ImageDetails> {
    let json = |name: &str| -> Result<Option<Value>> {
        Ok(pool
            .blob(of.id, name)?
            .and_then(|b| serde_json::from_slice(&b).ok()))
    };
    let mut layers: Vec<String> = line
        .sources(of)
        .into_iter()
        .filter(|s| s.kind == Kind::Layer)
        .map(|s| s.name.clone())
        .collect();
    layers.reverse();
    Ok(ImageDetails {
        config: json(image::BLOB_CONFIG)?,
        manifest: json(image::BLOB_MANIFEST)?,
        layers,
    })
}

/// Newest first.
pub(super) fn history(pool: &Pool, of: &VolumeInfo) -> Result<Vec<Layer>> {
    let steps = image::history(pool, of.id)?;
    Ok(steps
        .into_iter()
        .map(|s| Layer {
            id: s.layer,
            created: s.created.unwrap_or_default(),
            created_by: s.created_by,
            size: s.size,
            comment: s.comment,
        })
        .collect())
}
