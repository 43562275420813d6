//! From what a user types to a volume: the rule is in [`super::names`].

use super::names;
use crate::base::{Error, Result, VolumeId};
use crate::pool::{Kind, Pool, VolumeInfo};

/// Any kind of volume.
pub(super) fn any(pool: &Pool, typed: &str) -> Result<VolumeInfo> {
    find(pool, typed, false)?.ok_or_else(|| missing(typed))
}

/// What a container is made of: an image's name comes first.
pub(super) fn image(pool: &Pool, typed: &str) -> Result<VolumeInfo> {
    find(pool, typed, true)?.ok_or_else(|| missing(typed))
}

/// `Some` when it exists.
pub(super) fn find(pool: &Pool, typed: &str, image_first: bool) -> Result<Option<VolumeInfo>> {
    if typed.is_empty() || typed.len() > names::MAX {
        return Ok(None);
    }
    let visible = |v: Option<VolumeInfo>| v.filter(|v| !v.removing && !v.building);
    let exact = || Ok::<_, Error>(visible(pool.find(typed)?));
    let latest = || match names::split_tag(typed) {
        (_, None) => Ok::<_, Error>(visible(pool.find(&format!("{typed}:latest"))?)),
        _ => Ok(None),
    };
    let by_name = if image_first {
        latest()?.map_or_else(exact, |v| Ok(Some(v)))?
    } else {
        exact()?.map_or_else(latest, |v| Ok(Some(v)))?
    };
    if by_name.is_some() {
        return Ok(by_name);
    }
    if let Ok(id) = typed.parse::<u64>()
        && id != 0
        && typed.len() < 20
    {
        match pool.info(VolumeId(id)) {
            Ok(v) if !v.removing && !v.building => return Ok(Some(v)),
            Ok(_) | Err(Error::NotFound(_)) => {}
            Err(e) => return Err(e),
        }
    }
    match names::digest_start(typed) {
        Some(digits) => by_digest(pool, typed, digits),
        None => Ok(None),
    }
}

/// The one layer or image whose digest begins so.
fn by_digest(pool: &Pool, typed: &str, digits: &str) -> Result<Option<VolumeInfo>> {
    let mut found: Option<VolumeInfo> = None;
    for v in pool.volumes()? {
        if v.removing || v.building {
            continue;
        }
        let matches = match v.kind {
            Kind::Layer => v
                .name
                .strip_prefix("sha256:")
                .is_some_and(|d| d.starts_with(digits)),
            Kind::Image => super::images::digest(pool, v.id)?.is_some_and(|d| {
                d.strip_prefix("sha256:")
                    .is_some_and(|d| d.starts_with(digits))
            }),
            _ => false,
        };
        if matches {
            if let Some(other) = found.filter(|o| o.kind == v.kind) {
                return Err(Error::Invalid(format!(
                    "'{}' is the beginning of more than one digest: {}, {}",
                    names::shown(typed),
                    other.name,
                    v.name
                )));
            }
            found = Some(v);
        }
    }
    Ok(found)
}

fn missing(typed: &str) -> Error {
    Error::NotFound(format!(
        "nothing here is called '{}'; 'cowfs list' shows what there is",
        names::shown(typed)
    ))
}
