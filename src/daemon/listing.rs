//! What there is: listings, inspection, history.

use super::images;
use super::lineage::Lineage;
use super::proto::{Inspect, Mount, Part, Raw, Response, Row};
use super::resolve;
use super::session::Talk;
use super::state::State;
use super::time::rfc3339;
use crate::base::Result;
use crate::pool::{Kind, VolumeInfo};

pub(super) fn list(talk: &Talk<'_>, kinds: &[Kind]) -> Result<Response> {
    let state = talk.state;
    let line = Lineage::look(&state.pool)?;
    let wanted = |v: &&VolumeInfo| match kinds {
        // What is being imported or removed is shown to those who look at everything.
        [] => v.kind != Kind::Layer,
        kinds => kinds.contains(&v.kind),
    };
    let mut all: Vec<&VolumeInfo> = line.all().filter(wanted).collect();
    all.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.0.cmp(&b.id.0)));
    for v in all {
        let row = row(state, &line, v)?;
        talk.part(Part::Row(Box::new(row)))?;
    }
    Ok(Response::Done)
}

fn row(state: &State, line: &Lineage, v: &VolumeInfo) -> Result<Row> {
    let mounts: Vec<Raw> = state.mounts.of(v.id).into_iter().map(|m| m.dir).collect();
    let status = if v.removing {
        "removing"
    } else if v.building {
        "building"
    } else if !mounts.is_empty() {
        "mounted"
    } else if v.sealed {
        "sealed"
    } else {
        "ready"
    };
    let digest = if v.kind == Kind::Image {
        images::digest(&state.pool, v.id)?
    } else {
        None
    };
    Ok(Row {
        id: v.id,
        name: v.name.clone(),
        kind: v.kind,
        image: line.image_of(&state.pool, v)?.map(|i| i.name.clone()),
        created: rfc3339(v.created),
        size: v.used,
        limit: v.limit,
        inodes: v.inodes,
        mounts,
        status: status.into(),
        digest,
    })
}

pub(super) fn inspect(state: &State, name: &str) -> Result<Response> {
    let found = resolve::any(&state.pool, name)?;
    let line = Lineage::look(&state.pool)?;
    let v = line.get(found.id).unwrap_or(&found);
    let image = match v.kind {
        Kind::Image => Some(v),
        _ => line.image_of(&state.pool, v)?,
    };
    let oci = match image {
        Some(image) => Some(images::details(&state.pool, &line, image)?),
        None => None,
    };
    let mounted: Vec<Mount> = state.mounts.of(v.id);
    Ok(Response::Inspect(Box::new(Inspect {
        row: row(state, &line, v)?,
        sealed: v.sealed,
        source: v.source.and_then(|s| line.get(s)).map(|s| s.name.clone()),
        source_id: v.source,
        dependants: line
            .dependants(&state.pool, v)?
            .iter()
            .map(|d| d.name.clone())
            .collect(),
        pool: Raw::from(state.dir.as_path()),
        mounted,
        oci,
    })))
}

pub(super) fn history(talk: &Talk<'_>, name: &str) -> Result<Response> {
    let state = talk.state;
    let found = resolve::image(&state.pool, name)?;
    let line = Lineage::look(&state.pool)?;
    let image = match found.kind {
        Kind::Image => &found,
        // A container's is its image's.
        _ => line.image_of(&state.pool, &found)?.unwrap_or(&found),
    };
    for layer in images::history(&state.pool, image)? {
        talk.part(Part::Layer(layer))?;
    }
    Ok(Response::Done)
}
