//! Making, renaming and removing volumes.

use super::lineage::{self, Lineage};
use super::names::{self, shown};
use super::proto::{Removed, Response};
use super::resolve;
use super::state::State;
use crate::base::{BLOCK, Error, Result, VolumeId};
use crate::pool::{Kind, NewVolume, VolumeInfo};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;

/// Tries at a made-up name before giving up.
const TRIES: usize = 64;

pub(super) fn create(
    state: &State,
    image: &str,
    name: Option<&str>,
    size: Option<u64>,
) -> Result<Response> {
    if let Some(name) = name {
        names::container(name)?;
    }
    if size.is_some_and(|s| s < BLOCK) {
        return Err(Error::Invalid(format!(
            "a size limit of less than {BLOCK} bytes leaves no room for a file"
        )));
    }
    state.naming(|| {
        let source = resolve::image(&state.pool, image)?;
        if source.kind == Kind::Container {
            return Err(Error::Invalid(format!(
                "{} is a container; copy it with 'cowfs clone {} NEW'",
                source.name, source.name
            )));
        }
        copy(state, &source, name, size.or(state.pool.container_size()))
    })
}

pub(super) fn clone(state: &State, source: &str, name: &str) -> Result<Response> {
    names::container(name)?;
    let found = resolve::any(&state.pool, source)?;
    state.mounts.flush(found.id);
    state.naming(|| {
        let source = resolve::any(&state.pool, source)?;
        copy(state, &source, Some(name), source.limit)
    })
}

/// A writable volume that begins as `source` is.
fn copy(
    state: &State,
    source: &VolumeInfo,
    name: Option<&str>,
    limit: Option<u64>,
) -> Result<Response> {
    let new = |name: String| NewVolume {
        name,
        kind: Kind::Container,
        source: Some(source.id),
        limit,
        building: false,
        sealed: false,
    };
    let made = match name {
        Some(name) => state
            .pool
            .create(&new(name.to_owned()))
            .map_err(|e| taken(e, name))?,
        None => {
            let mut tries = 0;
            loop {
                let name = if tries < 4 {
                    names::made_up()
                } else {
                    names::made_up_longer()
                };
                match state.pool.create(&new(name)) {
                    Err(Error::Exists(_)) if tries < TRIES => tries += 1,
                    r => break r?,
                }
            }
        }
    };
    remember_base(state, source, made.id)?;
    Ok(Response::Name(made.name))
}

pub(super) fn snapshot(state: &State, name: &str) -> Result<Response> {
    let (of, _) = names::snapshot(name)?;
    let found = resolve::any(&state.pool, of)?;
    // Before the names are held: the kernel answers this by writes that we serve.
    state.mounts.flush(found.id);
    state.naming(|| {
        let source = resolve::any(&state.pool, of)?;
        if source.kind != Kind::Container {
            return Err(Error::Invalid(format!("{} never changes, so it needs no snapshot; make containers of it with 'cowfs create' or 'cowfs clone'", source.name)));
        }
        // What was typed may be an id.
        let full = match name.split_once('@') {
            Some((_, own)) => format!("{}@{own}", source.name),
            None => name.to_owned(),
        };
        if full.len() > names::MAX {
            return Err(Error::Invalid(format!("'{}' is longer than {} bytes", shown(&full), names::MAX)));
        }
        let new = NewVolume {
            name: full.clone(),
            kind: Kind::Snapshot,
            source: Some(source.id),
            limit: source.limit,
            building: false,
            sealed: true,
        };
        let made = state.pool.create(&new).map_err(|e| taken(e, &full))?;
        remember_base(state, &source, made.id)?;
        Ok(Response::Name(made.name))
    })
}

/// Writes down the image where the line of sources may come to break: a container in it may go.
fn remember_base(state: &State, source: &VolumeInfo, id: VolumeId) -> Result<()> {
    let pool = &state.pool;
    let base = match source.kind {
        Kind::Image | Kind::Layer => None,
        Kind::Container | Kind::Snapshot => match lineage::base(pool, source.id)? {
            Some(base) => Some(base),
            None => {
                let mut next = source.source;
                let mut base = None;
                while let Some(up) = next {
                    match pool.info(up) {
                        Ok(v) if v.kind == Kind::Image => {
                            base = Some(v.id);
                            break;
                        }
                        Ok(v) => next = v.source,
                        Err(_) => break,
                    }
                }
                base
            }
        },
    };
    match base {
        Some(base) => pool.put_blob(id, lineage::BASE, base.to_string().as_bytes()),
        None => Ok(()),
    }
}

pub(super) fn rollback(state: &State, name: &str) -> Result<Response> {
    state.naming(|| {
        let snapshot = resolve::any(&state.pool, name)?;
        let of = match (snapshot.kind, snapshot.name.split_once('@')) {
            (Kind::Snapshot, Some((of, _))) => of,
            _ => {
                return Err(Error::Invalid(format!(
                    "{} is no snapshot; name one as CONTAINER@NAME",
                    snapshot.name
                )));
            }
        };
        let container = resolve::any(&state.pool, of)?;
        state.mounts.refuse_mounted(&container)?;
        state
            .pool
            .rollback(container.id, snapshot.id)
            .map_err(|e| match e {
                Error::Busy(_) => Error::Busy(format!(
                    "{} is being read by another command; try again",
                    container.name
                )),
                e => e,
            })?;
        Ok(Response::Done)
    })
}

pub(super) fn rename(state: &State, old: &str, new: &str) -> Result<Response> {
    state.naming(|| {
        let pool = &state.pool;
        let v = resolve::any(pool, old)?;
        let free = |name: &str| match pool.find(name)? {
            Some(_) => Err(Error::Exists(format!("{name} exists already"))),
            None => Ok(()),
        };
        match v.kind {
            Kind::Layer => Err(Error::Invalid(
                "a layer's name is its chain ID, which does not change".into(),
            )),
            Kind::Image => {
                let full = names::image(new)?;
                if full != v.name {
                    free(&full)?;
                    pool.rename(v.id, &full)?;
                }
                Ok(Response::Name(full))
            }
            Kind::Snapshot => {
                let of = v.name.split_once('@').map_or("", |(of, _)| of);
                let full = if new.contains('@') {
                    new.to_owned()
                } else {
                    format!("{of}@{new}")
                };
                let (of_new, _) = names::snapshot(&full)?;
                if of_new != of {
                    return Err(Error::Invalid(format!(
                        "a snapshot of {of} stays one: rename it to {of}@NAME"
                    )));
                }
                if full != v.name {
                    free(&full)?;
                    pool.rename(v.id, &full)?;
                }
                Ok(Response::Name(full))
            }
            Kind::Container => {
                names::container(new)?;
                if new == v.name {
                    return Ok(Response::Name(v.name));
                }
                free(new)?;
                let line = Lineage::look(pool)?;
                let mut moves = Vec::new();
                for s in line.snapshots_of(&v) {
                    if let Some((_, own)) = s.name.split_once('@') {
                        let full = format!("{new}@{own}");
                        free(&full)?;
                        moves.push((s.id, full));
                    }
                }
                // The container last: cut short in between, the same command again does the rest.
                for (id, full) in moves {
                    pool.rename(id, &full)?;
                }
                pool.rename(v.id, new)?;
                Ok(Response::Name(new.to_owned()))
            }
        }
    })
}

pub(super) fn remove(state: &State, asked: &[String], force: bool) -> Result<Response> {
    state.naming(|| {
        let pool = &state.pool;
        let mut going: BTreeMap<VolumeId, VolumeInfo> = BTreeMap::new();
        for name in asked {
            match resolve::find(pool, name, false)? {
                Some(v) => {
                    going.insert(v.id, v);
                }
                // Deleted twice is success, where the user says so.
                None if force => {}
                None => {
                    return Err(Error::NotFound(format!(
                        "nothing here is called '{}'; nothing was removed",
                        shown(name)
                    )));
                }
            }
        }
        let line = Lineage::look(pool)?;
        // What goes along, or stands in the way. Dependants have dependants: until nothing is new.
        let mut queue: Vec<VolumeInfo> = going.values().cloned().collect();
        while let Some(v) = queue.pop() {
            let others: Vec<&VolumeInfo> = line
                .dependants(pool, &v)?
                .into_iter()
                .filter(|d| !going.contains_key(&d.id))
                .collect();
            if others.is_empty() {
                continue;
            }
            if !force || v.kind == Kind::Layer {
                return Err(in_the_way(&v, &others));
            }
            for d in others {
                going.insert(d.id, d.clone());
                queue.push(d.clone());
            }
        }
        // Newest first: what depends goes before what it depends on.
        let mut removed = Vec::new();
        for v in going.values().rev() {
            pool.remove(v.id)?;
            let deferred = pool.info(v.id).is_ok_and(|v| v.removing);
            removed.push(Removed {
                name: v.name.clone(),
                deferred,
            });
        }
        if going.values().any(|v| v.kind == Kind::Image) {
            drop_layers(state)?;
        }
        Ok(Response::Removed(removed))
    })
}

/// Layers that no image stands on go with the last that did. Not while something is being imported:
/// layers come before the image that wants them. Names are held by the caller.
pub(super) fn drop_layers(state: &State) -> Result<()> {
    if state.imports.load(Ordering::SeqCst) > 0 {
        return Ok(());
    }
    let line = Lineage::look(&state.pool)?;
    let mut wanted: HashSet<VolumeId> = HashSet::new();
    for v in line.all().filter(|v| v.kind != Kind::Layer && !v.removing) {
        wanted.extend(
            line.sources(v)
                .iter()
                .filter(|s| s.kind == Kind::Layer)
                .map(|s| s.id),
        );
    }
    let mut unwanted: Vec<_> = line
        .all()
        .filter(|v| v.kind == Kind::Layer && !v.removing && !v.building && !wanted.contains(&v.id))
        .map(|v| v.id)
        .collect();
    unwanted.sort();
    for id in unwanted.into_iter().rev() {
        state.pool.remove(id)?;
    }
    Ok(())
}

fn in_the_way(v: &VolumeInfo, others: &[&VolumeInfo]) -> Error {
    const NAMED: usize = 8;
    let mut names: Vec<&str> = others.iter().take(NAMED).map(|o| o.name.as_str()).collect();
    let more = format!("{} more", others.len().saturating_sub(NAMED));
    if others.len() > NAMED {
        names.push(&more);
    }
    let what = match v.kind {
        Kind::Image => "containers made of it",
        Kind::Container => "snapshots",
        _ => "images that stand on it",
    };
    let hint = if v.kind == Kind::Layer {
        "remove these; it goes with the last"
    } else {
        "remove these first, or all with -f"
    };
    Error::Busy(format!(
        "{} has {what}: {}; {hint}",
        v.name,
        names.join(", ")
    ))
}

fn taken(e: Error, name: &str) -> Error {
    match e {
        Error::Exists(_) => Error::Exists(format!("{name} exists already")),
        e => e,
    }
}
