//! What is known of an image: its configuration, layers and history.

use super::config::{History, ImageConfig, parse};
use super::digest::Digest;
use super::import::{BLOB_CONFIG, BLOB_LAYERS, BLOB_MANIFEST};
use crate::base::{Error, Result, VolumeId};
use crate::pool::{Pool, VolumeInfo};
use serde::{Deserialize, Serialize};

/// A layer of an image, as recorded beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// Of the blob as it was stored.
    pub digest: String,
    /// Of its tar.
    pub diff_id: String,
    /// Name of the layer's volume.
    pub chain_id: String,
    pub media_type: String,
    /// Bytes of the blob.
    pub size: u64,
    /// The step that made it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub history: Option<History>,
}

/// One step of an image's making, for `cowfs history`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HistoryLine {
    /// ChainID of the layer; none if the step made none.
    pub layer: Option<String>,
    pub created: Option<String>,
    pub created_by: String,
    pub comment: String,
    /// Bytes of the layer's blob.
    pub size: u64,
}

/// All there is to say, for `cowfs inspect`.
#[derive(Clone, Debug, Serialize)]
pub struct Inspect {
    pub volume: VolumeInfo,
    /// Image ID: digest of the configuration.
    pub id: Option<String>,
    /// Digest of the manifest.
    pub digest: Option<String>,
    pub config: Option<ImageConfig>,
    pub layers: Vec<LayerRecord>,
}

fn required(pool: &Pool, id: VolumeId, name: &str) -> Result<Vec<u8>> {
    match pool.blob(id, name)? {
        Some(bytes) => Ok(bytes),
        None => Err(Error::NotFound(format!(
            "{} has no image {name}: it is not made from an image",
            pool.info(id)?.name
        ))),
    }
}

/// How containers of this image are to run. Also for a container that was given its image's blobs.
pub fn config(pool: &Pool, id: VolumeId) -> Result<ImageConfig> {
    ImageConfig::parse(&required(pool, id, BLOB_CONFIG)?)
}

/// Lowest first.
pub fn layers(pool: &Pool, id: VolumeId) -> Result<Vec<LayerRecord>> {
    parse(&required(pool, id, BLOB_LAYERS)?, "the list of layers")
}

/// Newest first, as `docker history` has it.
pub fn history(pool: &Pool, id: VolumeId) -> Result<Vec<HistoryLine>> {
    Ok(lines(&config(pool, id)?, &layers(pool, id)?))
}

/// Steps and layers side by side; layers that no step tells of come with an empty one.
pub(super) fn lines(config: &ImageConfig, layers: &[LayerRecord]) -> Vec<HistoryLine> {
    let mut layers = layers.iter();
    let mut lines = Vec::new();
    for step in &config.history {
        let layer = if step.empty_layer {
            None
        } else {
            layers.next()
        };
        lines.push(line(Some(step), layer));
    }
    lines.extend(layers.map(|layer| line(None, Some(layer))));
    lines.reverse();
    lines
}

fn line(step: Option<&History>, layer: Option<&LayerRecord>) -> HistoryLine {
    let text = |get: fn(&History) -> &Option<String>| step.and_then(|s| get(s).clone());
    HistoryLine {
        layer: layer.map(|l| l.chain_id.clone()),
        created: text(|s| &s.created),
        created_by: text(|s| &s.created_by).unwrap_or_default(),
        comment: text(|s| &s.comment).unwrap_or_default(),
        size: layer.map_or(0, |l| l.size),
    }
}

pub fn inspect(pool: &Pool, id: VolumeId) -> Result<Inspect> {
    let bytes = pool.blob(id, BLOB_CONFIG)?;
    let manifest = pool.blob(id, BLOB_MANIFEST)?;
    Ok(Inspect {
        volume: pool.info(id)?,
        id: bytes.as_deref().map(|b| Digest::of(b).to_string()),
        digest: manifest.as_deref().map(|b| Digest::of(b).to_string()),
        config: bytes.as_deref().map(ImageConfig::parse).transpose()?,
        layers: match pool.blob(id, BLOB_LAYERS)? {
            Some(bytes) => parse(&bytes, "the list of layers")?,
            None => Vec::new(),
        },
    })
}

/// A container keeps its own copy of what its image says, for the image may go before it does.
pub fn copy_blobs(pool: &Pool, from: VolumeId, to: VolumeId) -> Result<()> {
    for name in [BLOB_CONFIG, BLOB_MANIFEST, BLOB_LAYERS] {
        if let Some(bytes) = pool.blob(from, name)? {
            pool.put_blob(to, name, &bytes)?;
        }
    }
    Ok(())
}
