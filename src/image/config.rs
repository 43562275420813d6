//! The OCI image configuration, read leniently: real images have `null` where the specification has
//! lists, strings where it has lists, and fields nobody knows. What we write ourselves is made with
//! the types of `oci-spec`.

use super::tar::bad;
use crate::base::Result;
use serde::de::{Deserializer, IgnoredAny};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest configuration, bytes (a blob beside a volume holds no more).
pub const CONFIG_MAX: u64 = 4 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    #[serde(deserialize_with = "or_default")]
    pub architecture: String,
    #[serde(deserialize_with = "or_default")]
    pub os: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// RFC 3339, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub config: RunConfig,
    #[serde(deserialize_with = "or_default")]
    pub rootfs: RootFs,
    #[serde(deserialize_with = "or_default")]
    pub history: Vec<History>,
}

/// How containers of the image are to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunConfig {
    /// `USER`, `UID`, `USER:GROUP`, `UID:GID`; empty: root.
    #[serde(rename = "User", deserialize_with = "or_default")]
    pub user: String,
    /// `NAME=VALUE`.
    #[serde(rename = "Env", deserialize_with = "strings")]
    pub env: Vec<String>,
    #[serde(rename = "Entrypoint", deserialize_with = "strings")]
    pub entrypoint: Vec<String>,
    #[serde(rename = "Cmd", deserialize_with = "strings")]
    pub cmd: Vec<String>,
    #[serde(rename = "WorkingDir", deserialize_with = "or_default")]
    pub working_dir: String,
    #[serde(rename = "StopSignal", skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    #[serde(rename = "Labels", deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    /// `80/tcp`.
    #[serde(rename = "ExposedPorts", deserialize_with = "keys")]
    pub exposed_ports: Vec<String>,
    #[serde(rename = "Volumes", deserialize_with = "keys")]
    pub volumes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: String,
    /// Digests of the layers' uncompressed tars, lowest first.
    #[serde(deserialize_with = "or_default")]
    pub diff_ids: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// This step has no layer.
    #[serde(
        deserialize_with = "or_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub empty_layer: bool,
}

impl ImageConfig {
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig> {
        parse(bytes, "the image configuration")
    }
}

/// JSON of a known shape, with an error that says which.
pub fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| {
        bad(format!(
            "{what} is not what it should be: {}",
            super::digest::short(&e.to_string())
        ))
    })
}

/// `null` means nothing.
pub fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    d: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// `null`, one string, or a list.
fn strings<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Strings {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::<Strings>::deserialize(d)? {
        None => Vec::new(),
        Some(Strings::One(one)) => vec![one],
        Some(Strings::Many(many)) => many,
    })
}

/// Go's sets are objects with empty values; ours are written back as lists.
fn keys<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Keys {
        Set(BTreeMap<String, IgnoredAny>),
        List(Vec<String>),
    }
    Ok(match Option::<Keys>::deserialize(d)? {
        None => Vec::new(),
        Some(Keys::Set(set)) => set.into_keys().collect(),
        Some(Keys::List(list)) => list,
    })
}
