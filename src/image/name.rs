//! Names of images: `NAME[:TAG]`, the tag `latest` when none is given. A colon before a slash
//! belongs to a host's port.

use super::digest::short;
use crate::base::{Error, Result};

/// Longest name with its tag, bytes.
const MOST: usize = 255;
/// Longest tag, bytes (OCI distribution).
const TAG: usize = 128;

/// `NAME:TAG`, checked.
pub fn full_name(text: &str) -> Result<String> {
    let (name, tag) = split(text);
    let tag = tag.unwrap_or("latest");
    let tag_ok = !tag.is_empty()
        && tag.len() <= TAG
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && !tag.starts_with(['.', '-']);
    let name_ok = !name.is_empty()
        && name.split('/').all(|part| {
            part.bytes()
                .next()
                .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
        })
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-' | b'/' | b':'));
    if !tag_ok || !name_ok || name.len() + 1 + tag.len() > MOST {
        return Err(Error::Invalid(format!(
            "'{}' is not an image name; use NAME or NAME:TAG of letters, digits, '.', '_', '-' and '/'",
            short(text)
        )));
    }
    Ok(format!("{name}:{tag}"))
}

/// The tag, if there is one.
pub fn split(text: &str) -> (&str, Option<&str>) {
    match text.rfind(':') {
        Some(at) if !text[at..].contains('/') => (&text[..at], Some(&text[at + 1..])),
        _ => (text, None),
    }
}

/// Do both name the same image? (`debian` is `debian:latest` is `docker.io/library/debian:latest`.)
pub fn same(a: &str, b: &str) -> bool {
    fn plain(text: &str) -> Option<String> {
        let full = full_name(text).ok()?;
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        Some(short.strip_prefix("library/").unwrap_or(short).to_string())
    }
    a == b || matches!((plain(a), plain(b)), (Some(a), Some(b)) if a == b)
}

/// A name made from a source's file name: `/srv/debian.tar.gz` gives `debian`.
pub fn from_file(display: &str) -> Option<String> {
    const ENDINGS: [&str; 12] = [
        ".gz",
        ".zst",
        ".tgz",
        ".tzst",
        ".tar",
        ".oci",
        ".oci-archive",
        ".docker",
        ".docker-archive",
        ".rootfs",
        ".layer",
        ".img",
    ];
    let base = display.trim_end_matches('/').rsplit('/').next()?;
    let mut stem = base;
    while let Some(cut) = ENDINGS.iter().find_map(|e| stem.strip_suffix(e)) {
        stem = cut;
    }
    let name: String = stem
        .chars()
        .take(TAG)
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') {
                c
            } else {
                '-'
            }
        })
        .collect();
    let name = name.trim_matches(['.', '-']).to_string();
    if name.is_empty() { None } else { Some(name) }
}
