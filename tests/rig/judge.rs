//! The judgement of what a crash left: which states may be found, and which never.
//!
//! After a power cut each volume must be as it was at one moment, not before the last one that was
//! made durable and not after the operation that was under way. Only bytes that were overwritten
//! later may already be the later ones; bytes of another file, volume or time never appear (each
//! write has a pattern of its own). After the death of the process alone, everything answered is there.

use super::data::{BLOCK, Data};
use super::ops;
use super::state::{Body, Inode, State};
use super::world::{Durable, Moment, Step, Vol, Volumes, World};
use cowfs::base::{Ino, VolumeId};
use cowfs::fs::Fs;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a crash may have taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    Power,
    Process,
}

/// Everything but the bytes of files.
fn same_but_data(a: &Inode, b: &Inode) -> bool {
    let plain = |i: &Inode| (i.mode, i.nlink, i.uid, i.gid, i.rdev, i.size, i.times);
    plain(a) == plain(b)
        && a.xattrs == b.xattrs
        && match (a.data(), b.data()) {
            (Some(_), Some(_)) => true,
            _ => a.body == b.body,
        }
}

/// The first difference of two states, in words.
pub fn difference(model: &State, real: &State) -> Option<String> {
    for ino in model.inodes.keys().chain(real.inodes.keys()) {
        match (model.inodes.get(ino), real.inodes.get(ino)) {
            (Some(m), Some(r)) if m == r => {}
            (Some(m), Some(r)) => {
                let bytes = match (m.data(), r.data()) {
                    (Some(m), Some(r)) if m != r => differing(m, r),
                    _ => String::new(),
                };
                return Some(format!(
                    "inode {ino} {bytes}\n   real: {r:?}\n  model: {m:?}"
                ));
            }
            (m, r) => return Some(format!("inode {ino}\n   real: {r:?}\n  model: {m:?}")),
        }
    }
    None
}

fn differing(a: &Data, b: &Data) -> String {
    let blocks: BTreeSet<u64> = a.0.keys().chain(b.0.keys()).copied().collect();
    for n in blocks {
        let (x, y) = (
            a.read(n * BLOCK, BLOCK as usize),
            b.read(n * BLOCK, BLOCK as usize),
        );
        if let Some(at) = (0..x.len()).find(|i| x[*i] != y[*i]) {
            let count = (0..x.len()).filter(|i| x[*i] != y[*i]).count();
            let at_file = n * BLOCK + at as u64;
            return format!(
                "byte {at_file}: real {:x?}, model {:x?}; {count} bytes of that block differ",
                &y[at..(at + 8).min(y.len())],
                &x[at..(at + 8).min(x.len())]
            );
        }
    }
    String::new()
}

/// `real` is `model`, but for bytes that one of the `later` states has instead. `Err`: what is wrong.
fn matches(model: &State, later: &[Arc<State>], real: &State) -> Result<(), String> {
    let text = || difference(model, real).unwrap_or_default();
    if model.inodes.len() != real.inodes.len() {
        return Err(text());
    }
    for (ino, m) in &model.inodes {
        let Some(r) = real.inodes.get(ino) else {
            return Err(text());
        };
        if Arc::ptr_eq(m, r) || m == r {
            continue;
        }
        if !same_but_data(m, r) {
            return Err(text());
        }
        if let (Some(a), Some(b)) = (m.data(), r.data()) {
            bytes_match(*ino, a, later, b)?;
        }
    }
    Ok(())
}

/// `real` lies between two states that follow each other: the content of one file was being changed.
/// A write, a copy or a truncation goes in steps, and only each step is whole.
fn between(a: &State, b: &State, later: &[Arc<State>], real: &State, loose: bool) -> bool {
    let mut changed = a
        .inodes
        .iter()
        .filter(|(ino, i)| b.inodes.get(ino) != Some(i));
    let (Some((ino, x)), None) = (changed.next(), changed.next()) else {
        return false;
    };
    let (Some(y), Some(r)) = (b.inodes.get(ino), real.inodes.get(ino)) else {
        return false;
    };
    let (Some(x_data), Some(_), Some(r_data)) = (x.data(), y.data(), r.data()) else {
        return false;
    };
    if a.inodes.len() != b.inodes.len() {
        return false;
    }
    // Each step sets its own time. The ctime is always a time that really was.
    let step = |t: &cowfs::base::Time| (x.times[2]..=y.times[2]).contains(t);
    let times = (0..4).all(|n| loose || r.times[n] == x.times[n] || step(&r.times[n]));
    let inode = times
        && (x.size.min(y.size)..=x.size.max(y.size)).contains(&r.size)
        && (r.mode == x.mode || r.mode == y.mode)
        && (r.xattrs == x.xattrs || r.xattrs == y.xattrs)
        && (r.uid, r.gid, r.nlink) == (x.uid, x.gid, x.nlink);
    // The rest must be as in the first of the two.
    let mut rest = real.clone();
    rest.inodes.insert(*ino, x.clone());
    inode && matches(a, later, &rest).is_ok() && bytes_match(*ino, x_data, later, r_data).is_ok()
}

/// Gives what was guessed (times, the number of one new inode) the values that were found.
fn assume(model: &mut State, real: &State) {
    let only_in = |a: &State, b: &State| -> Vec<Ino> {
        a.inodes
            .keys()
            .filter(|i| !b.inodes.contains_key(i))
            .copied()
            .collect()
    };
    if let ([guess], [found]) = (&only_in(model, real)[..], &only_in(real, model)[..]) {
        let inode = model.inodes.remove(guess).expect("it is there");
        model.inodes.insert(*found, inode);
        for i in model.inodes.values_mut() {
            if let Body::Dir { names, parent } = &mut Arc::make_mut(i).body {
                names
                    .values_mut()
                    .filter(|c| *c == guess)
                    .for_each(|c| *c = *found);
                if parent == guess {
                    *parent = *found;
                }
            }
        }
    }
    for (ino, i) in &mut model.inodes {
        if let Some(r) = real.inodes.get(ino) {
            Arc::make_mut(i).times = r.times;
        }
    }
}

fn bytes_match(ino: Ino, model: &Data, later: &[Arc<State>], real: &Data) -> Result<(), String> {
    let blocks: BTreeSet<u64> = model.0.keys().chain(real.0.keys()).copied().collect();
    for n in blocks {
        if model.0.get(&n) == real.0.get(&n) {
            continue;
        }
        let read = |d: &Data| d.read(n * BLOCK, BLOCK as usize);
        let (found, mut allowed) = (read(real), vec![read(model)]);
        for s in later {
            if let Ok(Some(d)) = s.get(ino).map(Inode::data) {
                let b = read(d);
                if allowed.last() != Some(&b) {
                    allowed.push(b);
                }
            }
        }
        if let Some(at) = (0..found.len()).find(|i| allowed.iter().all(|a| a[*i] != found[*i])) {
            let text = differing(model, real);
            return Err(format!(
                "inode {ino}: byte {} was never written there: {text}",
                n * BLOCK + at as u64
            ));
        }
    }
    Ok(())
}

/// Judges what a new process finds after a crash.
///
/// `answered`: the last moment whose step was answered; `moments` after it, at most one counts: the
/// step under way. Answers what was found, so that the test can go on from there.
pub fn judge(
    world: &mut World,
    moments: &[Moment],
    answered: usize,
    crash: Crash,
) -> Result<Volumes, String> {
    let last = (answered + 1).min(moments.len() - 1);
    let since = match crash {
        Crash::Process => answered,
        Crash::Power => (0..=answered)
            .rev()
            .find(|i| moments[*i].durable == Durable::All)
            .unwrap_or(0),
    };
    let catalog = catalog_found(world, moments, since, last)?;
    let mut found = Volumes::new();
    for (id, vol) in &catalog {
        // The last moment at which this volume was made durable, or where it was born.
        let from = match crash {
            Crash::Process => answered,
            Crash::Power => (since..=answered)
                .rev()
                .find(|i| moments[*i].durable == Durable::Volume(*id))
                .unwrap_or(since),
        };
        let fs = open(world, *id)?;
        let real = ops::walk(&fs).map_err(|e| format!("walking volume {id}: {e}"))?;
        let states = states_of(moments, *id, from, last);
        let mut reasons = Vec::new();
        let loose = world.loose;
        let fits = states.iter().enumerate().any(|(n, s)| {
            let (mut model, later) = (s.reaped(), &states[n + 1..]);
            if loose && later.is_empty() {
                assume(&mut model, &real);
            }
            matches(&model, later, &real)
                .map_err(|e| reasons.push(e))
                .is_ok()
                || later
                    .first()
                    .is_some_and(|next| between(&model, &next.reaped(), later, &real, loose))
        });
        if !fits {
            let n = states.len();
            let first = reasons.first().cloned().unwrap_or_default();
            let newest = reasons.last().cloned().unwrap_or_default();
            return Err(format!(
                "volume {id} ({}) is as at none of {n} moments {from}..={last} (answered {answered}):\n\
                 against the oldest: {first}\nagainst the newest: {newest}",
                vol.name
            ));
        }
        let inodes = fs.volume().usage().1;
        if !vol.sealed && inodes != real.inodes.len() as u64 {
            return Err(format!(
                "volume {id} counts {inodes} inodes and has {}",
                real.inodes.len()
            ));
        }
        found.insert(
            *id,
            Vol {
                state: Arc::new(real),
                ..vol.clone()
            },
        );
    }
    let report = world
        .pool()
        .check(&|_, _| {})
        .map_err(|e| format!("check: {e}"))?;
    if !report.problems.is_empty() {
        return Err(format!("check: {:#?}", report.problems));
    }
    Ok(found)
}

fn open(world: &mut World, id: VolumeId) -> Result<Arc<Fs>, String> {
    world
        .fs(id)
        .map_err(|e| format!("opening volume {id}: {e}"))
}

/// The different states of a volume between two moments, oldest first.
fn states_of(moments: &[Moment], id: VolumeId, from: usize, last: usize) -> Vec<Arc<State>> {
    let mut states: Vec<Arc<State>> = Vec::new();
    for m in &moments[from..=last] {
        if let Some(v) = m.volumes.get(&id)
            && !states.last().is_some_and(|s| Arc::ptr_eq(s, &v.state))
        {
            states.push(v.state.clone());
        }
    }
    states
}

type Entry = (String, cowfs::pool::Kind, bool);

fn entries(volumes: &Volumes) -> BTreeMap<VolumeId, Entry> {
    let lasting = volumes.iter().filter(|(_, v)| !v.removing && !v.building);
    lasting
        .map(|(id, v)| (*id, (v.name.clone(), v.kind, v.sealed)))
        .collect()
}

/// The catalog must be as at one of these moments, and have what was made durable by itself.
fn catalog_found(
    world: &World,
    moments: &[Moment],
    since: usize,
    last: usize,
) -> Result<Volumes, String> {
    let listed = world
        .pool()
        .volumes()
        .map_err(|e| format!("listing: {e}"))?;
    let real: BTreeMap<VolumeId, Entry> = listed
        .iter()
        .map(|v| (v.id, (v.name.clone(), v.kind, v.sealed)))
        .collect();
    if let Some(v) = listed.iter().find(|v| v.removing || v.building) {
        return Err(format!(
            "volume {} was to be gone after a crash: {v:?}",
            v.id
        ));
    }
    // A volume made durable alone may run ahead of the rest of the catalog, so each entry is judged for itself.
    let mut found = Volumes::new();
    let all: BTreeSet<VolumeId> = real
        .keys()
        .copied()
        .chain(
            moments[since..=last]
                .iter()
                .flat_map(|m| m.volumes.keys().copied()),
        )
        .collect();
    for id in all {
        let here = real.get(&id).cloned();
        let entry = |m: &Moment| entries(&m.volumes).remove(&id);
        // A volume's own sync makes sure that it exists, not what the catalog says of it later.
        let from = match here {
            Some(_) => since,
            None => (since..=last)
                .rev()
                .find(|i| *i < last && moments[*i].durable == Durable::Volume(id))
                .unwrap_or(since),
        };
        if !moments[from..=last].iter().any(|m| entry(m) == here) {
            let had: Vec<_> = moments[from..=last].iter().map(entry).collect();
            return Err(format!(
                "volume {id} in the catalog: {here:?}; at moments {from}..={last}: {had:?}"
            ));
        }
        if let Some((name, kind, sealed)) = here {
            let newest = moments[from..=last]
                .iter()
                .rev()
                .find_map(|m| m.volumes.get(&id));
            let blobs = newest.map(|v| v.blobs.clone()).unwrap_or_default();
            let blobs = found_blobs(world, id, &blobs, &moments[from..=last])?;
            let state = Arc::default();
            found.insert(
                id,
                Vol {
                    name,
                    kind,
                    sealed,
                    building: false,
                    removing: false,
                    blobs,
                    state,
                },
            );
        }
    }
    Ok(found)
}

fn found_blobs(
    world: &World,
    id: VolumeId,
    newest: &BTreeMap<String, Vec<u8>>,
    moments: &[Moment],
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut found = BTreeMap::new();
    for name in newest.keys() {
        let real = world
            .pool()
            .blob(id, name)
            .map_err(|e| format!("blob {name} of {id}: {e}"))?;
        let fits = moments
            .iter()
            .any(|m| m.volumes.get(&id).and_then(|v| v.blobs.get(name)) == real.as_ref());
        // Replaced in steps: while that is under way there may be none.
        let replaced = moments
            .iter()
            .any(|m| matches!(&*m.step, Step::Blob(v, n, _) if *v == id && n == name));
        if !(fits || real.is_none() && replaced) {
            return Err(format!(
                "blob {name} of {id} ({:?} bytes) was never so",
                real.map(|r| r.len())
            ));
        }
        if let Some(bytes) = real {
            found.insert(name.clone(), bytes);
        }
    }
    Ok(found)
}
