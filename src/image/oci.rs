//! OCI layouts: from `index.json` to one image's manifest. Docker's media types count as OCI's.

use super::config::{CONFIG_MAX, or_default, parse};
use super::digest::{Digest, short};
use super::members::{Members, Stretch};
use super::name;
use super::pump::read_bounded;
use super::tar::bad;
use crate::base::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest index or manifest, bytes.
const JSON_MAX: u64 = 4 << 20;
/// Indexes inside indexes.
const DEPTH: usize = 4;
/// Most layers of an image.
pub const LAYERS: usize = 2000;

const ANNOTATION_NAME: [&str; 3] = [
    "io.containerd.image.name",
    "org.opencontainers.image.ref.name",
    "com.apple.containerization.image.name",
];

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(deserialize_with = "or_default")]
    pub media_type: String,
    #[serde(deserialize_with = "or_default")]
    pub digest: String,
    #[serde(deserialize_with = "or_default")]
    pub size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    #[serde(deserialize_with = "or_default")]
    pub os: String,
    #[serde(deserialize_with = "or_default")]
    pub architecture: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// This machine's, in Go's words (which OCI uses).
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(str::to_string),
        }
    }

    /// `OS/ARCHITECTURE[/VARIANT]`.
    pub fn parse(text: &str) -> Result<Platform> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(os), Some(architecture), variant, None)
                if !os.is_empty() && !architecture.is_empty() =>
            {
                Ok(Platform {
                    os: os.into(),
                    architecture: architecture.into(),
                    variant: variant.map(str::to_string),
                })
            }
            _ => Err(bad(format!(
                "'{}' is not a platform; write OS/ARCHITECTURE, as in linux/amd64",
                short(text)
            ))),
        }
    }

    fn fits(&self, wanted: &Platform) -> bool {
        self.os == wanted.os && self.architecture == wanted.architecture
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", short(&self.os), short(&self.architecture))?;
        match &self.variant {
            Some(variant) => write!(f, "/{}", short(variant)),
            None => Ok(()),
        }
    }
}

/// An index or a manifest: which of the two is told by what it has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default, deserialize_with = "or_default")]
    media_type: String,
    #[serde(default, deserialize_with = "or_default")]
    artifact_type: String,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// One image of an archive, found and its small parts read and checked.
#[derive(Debug)]
pub struct Found {
    /// Name it has in the archive, perhaps only a tag.
    pub name: Option<String>,
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    /// Lowest first.
    pub layers: Vec<Layer>,
}

/// A layer as a manifest has it.
#[derive(Clone, Debug)]
pub struct Layer {
    pub media_type: String,
    /// Of the blob; a docker-archive knows none.
    pub digest: Option<Digest>,
    pub size: u64,
    /// Where the archive has it.
    pub member: String,
}

/// Which image of an archive.
pub struct Choice<'a> {
    pub name: Option<&'a str>,
    pub platform: Option<&'a Platform>,
}

pub fn find(members: &Members, choice: &Choice<'_>) -> Result<Found> {
    if let Some(layout) = members.read("oci-layout", JSON_MAX)? {
        #[derive(Deserialize)]
        struct Layout {
            #[serde(
                rename = "imageLayoutVersion",
                default,
                deserialize_with = "or_default"
            )]
            version: String,
        }
        let layout: Layout = parse(&layout, "oci-layout")?;
        if !layout.version.starts_with("1.") {
            return Err(bad(format!(
                "has OCI layout version '{}'; only 1.x is read",
                short(&layout.version)
            )));
        }
    }
    let index = members
        .read("index.json", JSON_MAX)?
        .ok_or_else(|| bad("has no index.json"))?;
    let index: Document = parse(&index, "index.json")?;
    let mut list = index
        .manifests
        .ok_or_else(|| bad("index.json lists no manifests"))?;
    let mut descriptor = choose_named(&mut list, choice)?;
    let mut name = name_of(&descriptor).map(str::to_string);
    for _ in 0..DEPTH {
        refuse_type(&descriptor.media_type)?;
        let (digest, bytes) = small(members, &descriptor, JSON_MAX, "manifest")?;
        let document: Document = parse(&bytes, &format!("manifest {digest}"))?;
        refuse_type(&document.media_type)?;
        match document {
            Document {
                manifests: Some(list),
                ..
            } => {
                descriptor = choose_platform(list, choice.platform)?;
                name = name.or_else(|| name_of(&descriptor).map(str::to_string));
            }
            Document {
                config: Some(config),
                layers: Some(layers),
                artifact_type,
                ..
            } => {
                return image(members, name, bytes, &config, &layers, &artifact_type);
            }
            _ => {
                return Err(bad(format!(
                    "manifest {digest} is neither an image manifest nor an index"
                )));
            }
        }
    }
    Err(bad(format!("has indexes nested more than {DEPTH} deep")))
}

fn image(
    members: &Members,
    name: Option<String>,
    manifest: Vec<u8>,
    config: &Descriptor,
    layers: &[Descriptor],
    artifact: &str,
) -> Result<Found> {
    const CONFIGS: [&str; 2] = [
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    ];
    if !CONFIGS.contains(&config.media_type.as_str()) {
        let kind = if artifact.is_empty() {
            &config.media_type
        } else {
            artifact
        };
        return Err(bad(format!(
            "holds an artifact of type '{}', not a container image",
            short(kind)
        )));
    }
    if layers.len() > LAYERS {
        return Err(bad(format!(
            "has {} layers; at most {LAYERS} are read",
            layers.len()
        )));
    }
    let (_, config) = small(members, config, CONFIG_MAX, "configuration")?;
    let mut found = Vec::with_capacity(layers.len());
    for layer in layers {
        layer_type(&layer.media_type)?;
        let digest = Digest::parse(&layer.digest)?;
        found.push(Layer {
            media_type: layer.media_type.clone(),
            size: layer.size,
            member: digest.blob_path(),
            digest: Some(digest),
        });
    }
    Ok(Found {
        name,
        manifest,
        config,
        layers: found,
    })
}

/// Image, container registry and attestation media types that are certainly none of ours.
fn refuse_type(media_type: &str) -> Result<()> {
    match media_type {
        ""
        | "application/vnd.oci.image.index.v1+json"
        | "application/vnd.oci.image.manifest.v1+json"
        | "application/vnd.docker.distribution.manifest.v2+json"
        | "application/vnd.docker.distribution.manifest.list.v2+json" => Ok(()),
        t if t.starts_with("application/vnd.docker.distribution.manifest.v1") => Err(bad(
            "has a Docker schema 1 manifest; convert it, for example with 'skopeo copy --format oci'",
        )),
        t => Err(bad(format!(
            "has a manifest of unknown media type '{}'",
            short(t)
        ))),
    }
}

/// Is this a layer we can apply? Its compression is told by its bytes.
fn layer_type(media_type: &str) -> Result<()> {
    let base = media_type
        .strip_suffix("+gzip")
        .or_else(|| media_type.strip_suffix("+zstd"))
        .unwrap_or(media_type);
    match base {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Ok(()),
        t if t.ends_with("+encrypted") => Err(bad(
            "has encrypted layers; decrypt it first, for example with 'skopeo copy --decryption-key'",
        )),
        t => Err(bad(format!(
            "has a layer of unknown media type '{}'",
            short(t)
        ))),
    }
}

/// A blob that must be there, short, as long as said, and of the right digest.
fn small(
    members: &Members,
    descriptor: &Descriptor,
    most: u64,
    what: &str,
) -> Result<(Digest, Vec<u8>)> {
    let digest = Digest::parse(&descriptor.digest)?;
    let mut blob = blob(members, &digest, descriptor.size, what)?;
    let bytes = read_bounded(&mut blob, most, &format!("{what} {digest}"))?;
    let real = Digest::like(digest.algorithm(), &bytes);
    if real != digest {
        return Err(bad(format!(
            "{what} {digest} is damaged: its digest is {real}"
        )));
    }
    Ok((digest, bytes))
}

/// A blob that must be there, and as long as said.
pub fn blob(members: &Members, digest: &Digest, size: u64, what: &str) -> Result<Stretch> {
    let blob = members
        .open(&digest.blob_path())?
        .ok_or_else(|| Error::Invalid(format!("{what} {digest} is missing from it")))?;
    if blob.len() != size {
        return Err(bad(format!(
            "{what} {digest} has {} bytes, {size} were promised",
            blob.len()
        )));
    }
    Ok(blob)
}

fn name_of(descriptor: &Descriptor) -> Option<&str> {
    ANNOTATION_NAME
        .iter()
        .find_map(|key| descriptor.annotations.get(*key))
        .map(String::as_str)
        .filter(|n| !n.is_empty())
}

fn answers_to(descriptor: &Descriptor, wanted: &str) -> bool {
    ANNOTATION_NAME
        .iter()
        .filter_map(|key| descriptor.annotations.get(*key))
        .any(|have| {
            // A bare tag is all that many layouts give.
            name::same(have, wanted)
                || (!have.contains(['/', ':']) && name::split(wanted).1 == Some(have))
        })
        || descriptor.digest == wanted
}

/// Attestations and the like ride along in indexes.
fn is_image(descriptor: &Descriptor) -> bool {
    let foreign = descriptor
        .platform
        .as_ref()
        .is_some_and(|p| p.os == "unknown");
    !foreign
        && !descriptor
            .annotations
            .contains_key("vnd.docker.reference.type")
}

fn choose_named(list: &mut Vec<Descriptor>, choice: &Choice<'_>) -> Result<Descriptor> {
    if list.iter().any(is_image) {
        list.retain(is_image);
    }
    if list.len() > 1 {
        let named: Vec<_> = list
            .iter()
            .filter(|d| choice.name.is_some_and(|n| answers_to(d, n)))
            .cloned()
            .collect();
        if !named.is_empty() {
            *list = named;
        } else {
            let mut names: Vec<_> = list.iter().filter_map(name_of).collect();
            names.sort_unstable();
            names.dedup();
            if names.len() > 1 {
                return Err(several(&names));
            }
        }
    }
    choose_platform(std::mem::take(list), choice.platform)
}

/// "Which of these?"
pub fn several(names: &[&str]) -> Error {
    let shown: Vec<_> = names.iter().take(20).map(|n| short(n)).collect();
    let more = if names.len() > 20 { ", ..." } else { "" };
    bad(format!(
        "holds several images; choose one by its name: {}{more}",
        shown.join(", ")
    ))
}

/// The wanted platform, or this machine's; the only one if there is but one.
fn choose_platform(mut list: Vec<Descriptor>, wanted: Option<&Platform>) -> Result<Descriptor> {
    if list.iter().any(is_image) {
        list.retain(is_image);
    }
    list.dedup_by(|a, b| a.digest == b.digest);
    if let (1, None) = (list.len(), wanted) {
        return list.pop().ok_or_else(|| bad("holds no image"));
    }
    let host = Platform::host();
    let target = wanted.unwrap_or(&host);
    let fits = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.fits(target));
    let exact = list.iter().filter(fits).find(|d| {
        d.platform
            .as_ref()
            .is_some_and(|p| p.variant == target.variant)
    });
    if let Some(found) = exact.or_else(|| list.iter().find(fits)) {
        return Ok(found.clone());
    }
    // Asked for by name, but the archive does not say what platform it is.
    if let [only] = &list[..]
        && only.platform.is_none()
    {
        return Ok(only.clone());
    }
    let mut have: Vec<_> = list
        .iter()
        .filter_map(|d| d.platform.as_ref())
        .map(Platform::to_string)
        .collect();
    have.truncate(20);
    Err(match (list.is_empty(), have.is_empty()) {
        (true, _) => bad("holds no image"),
        (false, true) => bad("holds several images without names; choose one by its digest"),
        (false, false) => bad(format!(
            "has no image for {target}; it has {}",
            have.join(", ")
        )),
    })
}
