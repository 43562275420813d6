//! docker-archive: what `docker save`, `podman save` and many builders write.

use super::config::{CONFIG_MAX, or_default, parse};
use super::digest::{Digest, short};
use super::members::Members;
use super::name;
use super::oci::{Choice, Found, LAYERS, Layer, several};
use super::tar::bad;
use crate::base::Result;
use oci_spec::image::{DescriptorBuilder, ImageManifestBuilder, MediaType};
use serde::Deserialize;
use std::str::FromStr;

/// Longest manifest.json, bytes.
const JSON_MAX: u64 = 4 << 20;

#[derive(Deserialize)]
#[serde(default, rename_all = "PascalCase")]
#[derive(Default)]
struct Item {
    #[serde(deserialize_with = "or_default")]
    config: String,
    #[serde(deserialize_with = "or_default")]
    repo_tags: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    layers: Vec<String>,
}

pub fn find(members: &Members, choice: &Choice<'_>) -> Result<Found> {
    let manifest = members
        .read("manifest.json", JSON_MAX)?
        .ok_or_else(|| bad("has no manifest.json"))?;
    let items: Vec<Item> = parse(&manifest, "manifest.json")?;
    let (item, name) = choose(items, choice)?;
    if item.config.is_empty() {
        return Err(bad("manifest.json names no configuration"));
    }
    if item.layers.len() > LAYERS {
        return Err(bad(format!(
            "has {} layers; at most {LAYERS} are read",
            item.layers.len()
        )));
    }
    let config = members.read(&item.config, CONFIG_MAX)?.ok_or_else(|| {
        bad(format!(
            "configuration '{}' is missing from it",
            short(&item.config)
        ))
    })?;
    if let Some(said) = digest_in(&item.config) {
        let real = Digest::like(said.algorithm(), &config);
        if said != real {
            return Err(bad(format!(
                "configuration {said} is damaged: its digest is {real}"
            )));
        }
    }
    let mut layers = Vec::new();
    for member in item.layers {
        let stretch = members
            .open(&member)?
            .ok_or_else(|| bad(format!("layer '{}' is missing from it", short(&member))))?;
        layers.push(Layer {
            media_type: MediaType::ImageLayer.to_string(),
            digest: member
                .starts_with("blobs/")
                .then(|| digest_in(&member))
                .flatten(),
            size: stretch.len(),
            member,
        });
    }
    Ok(Found {
        name,
        manifest: Vec::new(),
        config,
        layers,
    })
}

/// `HEX.json`, `sha256:HEX`, `blobs/sha256/HEX` promise what the content's digest is.
fn digest_in(member: &str) -> Option<Digest> {
    let base = member.rsplit('/').next()?;
    let hex = base.strip_suffix(".json").unwrap_or(base);
    if let Ok(digest) = Digest::parse(hex) {
        return Some(digest);
    }
    let algorithm = if member.starts_with("blobs/sha512/") {
        "sha512"
    } else {
        "sha256"
    };
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}

fn choose(mut items: Vec<Item>, choice: &Choice<'_>) -> Result<(Item, Option<String>)> {
    let wanted = |item: &Item| {
        item.repo_tags
            .iter()
            .find(|tag| choice.name.is_some_and(|n| name::same(tag, n)))
            .cloned()
    };
    if let Some((at, tag)) = items
        .iter()
        .enumerate()
        .find_map(|(at, item)| wanted(item).map(|tag| (at, tag)))
    {
        return Ok((items.swap_remove(at), Some(tag)));
    }
    match items.len() {
        0 => Err(bad("manifest.json lists no image")),
        1 => {
            let item = items.swap_remove(0);
            let name = item.repo_tags.first().cloned();
            Ok((item, name))
        }
        _ => {
            let names: Vec<&str> = items
                .iter()
                .flat_map(|i| i.repo_tags.first())
                .map(String::as_str)
                .collect();
            if names.is_empty() {
                return Err(bad(
                    "holds several images without names; save them one by one",
                ));
            }
            Err(several(&names))
        }
    }
}

/// The OCI manifest of an image that came without one. `layers`: media type, digest, size.
pub fn make_manifest(config: &[u8], layers: &[(String, Digest, u64)]) -> Result<Vec<u8>> {
    let fail = |e: &dyn std::fmt::Display| bad(format!("cannot write a manifest: {e}"));
    let descriptor = |media_type: MediaType, digest: &Digest, size: u64| {
        let digest = oci_spec::image::Digest::from_str(digest.as_str()).map_err(|e| fail(&e))?;
        DescriptorBuilder::default()
            .media_type(media_type)
            .digest(digest)
            .size(size)
            .build()
            .map_err(|e| fail(&e))
    };
    let mut list = Vec::new();
    for (media_type, digest, size) in layers {
        list.push(descriptor(
            MediaType::from(media_type.as_str()),
            digest,
            *size,
        )?);
    }
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(
            MediaType::ImageConfig,
            &Digest::of(config),
            config.len() as u64,
        )?)
        .layers(list)
        .build()
        .map_err(|e| fail(&e))?;
    manifest
        .to_string()
        .map(String::into_bytes)
        .map_err(|e| fail(&e))
}
