//! The pool alone, without files: keys and chunks of volumes, snapshots, removals and rollbacks, and a
//! crash at every device call.
//!
//! `COWFS_SEED=n` runs one seed, `COWFS_OPS=n` sets the steps, `COWFS_CALL=n` runs one crash point.

mod rig;

use cowfs::base::{Error, VolumeId};
use cowfs::device::faulty::{Dice, Event, Machine};
use cowfs::pool::{Format, Kind, Need, NewVolume, Pool};
use cowfs::tree::{Key, Mapping, kind};
use rig::data::pattern;
use rig::judge::Crash;
use rig::world::{config, devices};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A kind of items that no room uses.
const PLAIN: u8 = 0x77;
/// Bytes written at the head of each mapped chunk.
const BYTES: usize = 6000;

/// Value, and for a mapping which write its chunk holds.
type Items = BTreeMap<Key, (Vec<u8>, Option<u64>)>;

#[derive(Clone)]
struct Vol {
    name: String,
    kind: Kind,
    items: Arc<Items>,
}

type Volumes = BTreeMap<VolumeId, Vol>;

#[derive(Clone)]
struct Moment {
    events: usize,
    volumes: Volumes,
    /// All volumes, or these.
    durable: Option<Vec<VolumeId>>,
    all: bool,
    step: String,
}

struct World {
    machine: Arc<Machine>,
    base: Arc<Machine>,
    pool: Arc<Pool>,
    volumes: Volumes,
    moments: Vec<Moment>,
    dice: Dice,
    writes: u64,
}

/// Every other pool is so small that freed chunks are soon wanted again.
fn format(seed: u64) -> Format {
    let size = if seed.is_multiple_of(2) {
        32 << 20
    } else {
        40 << 16
    };
    Format {
        name: "store".into(),
        size,
        log_size: 1 << 20,
        ..Format::default()
    }
}

impl World {
    fn new(seed: u64) -> World {
        let machine = Machine::new(3);
        Pool::format(&devices(&machine), &format(seed)).expect("format");
        assert_eq!(machine.pending(), 0, "a new pool is durable");
        let base = machine.restart();
        machine.record();
        let pool = Pool::open(devices(&machine), config(1)).expect("open");
        let start = Moment {
            events: machine.events(),
            volumes: Volumes::new(),
            durable: None,
            all: true,
            step: String::new(),
        };
        World {
            machine,
            base,
            pool,
            volumes: Volumes::new(),
            moments: vec![start],
            dice: Dice(seed),
            writes: 0,
        }
    }

    fn pick(&mut self, ids: &[VolumeId]) -> Option<VolumeId> {
        ids.get(self.dice.below(ids.len() as u64) as usize).copied()
    }

    fn step(&mut self) {
        let all: Vec<VolumeId> = self.volumes.keys().copied().collect();
        let writable: Vec<VolumeId> = self
            .volumes
            .iter()
            .filter(|(_, v)| v.kind != Kind::Snapshot)
            .map(|(i, _)| *i)
            .collect();
        let (mut durable, mut everything) = (None, false);
        let some = self.pick(&writable);
        let roll = self.dice.below(100);
        let step = match (roll, some) {
            (0..=4, _) | (_, None) => {
                let source = self.pick(&all);
                self.create(source)
            }
            (5..=6, Some(_)) if all.len() > 3 => {
                let id = self.pick(&all).unwrap_or(VolumeId(1));
                self.pool.remove(id).expect("remove");
                self.volumes.remove(&id);
                format!("remove {id}")
            }
            (7, Some(id)) => {
                let snapshots: Vec<VolumeId> = all
                    .iter()
                    .copied()
                    .filter(|i| self.volumes[i].kind == Kind::Snapshot)
                    .collect();
                if let Some(s) = self.pick(&snapshots) {
                    self.pool.rollback(id, s).expect("rollback");
                    let items = self.volumes[&s].items.clone();
                    self.volumes.get_mut(&id).expect("volume").items = items;
                }
                format!("rollback {id}")
            }
            (8..=13, Some(id)) => {
                self.pool.volume(id).expect("volume").sync().expect("sync");
                durable = Some(vec![id]);
                format!("sync {id}")
            }
            (14, Some(_)) => {
                self.pool.sync().expect("sync");
                everything = true;
                "sync".into()
            }
            (15..=18, Some(_)) => {
                self.pool.checkpoint().expect("checkpoint");
                everything = true;
                "checkpoint".into()
            }
            (19..=22, Some(_)) => {
                self.pool.reclaim(20).expect("reclaim");
                "reclaim".into()
            }
            (23..=47, Some(id)) => self.map(id),
            (_, Some(id)) => self.put(id),
        };
        self.moments.push(Moment {
            events: self.machine.events(),
            volumes: self.volumes.clone(),
            durable,
            all: everything,
            step,
        });
    }

    fn create(&mut self, source: Option<VolumeId>) -> String {
        let kind = if source.is_some() && self.dice.below(2) == 0 {
            Kind::Snapshot
        } else {
            Kind::Container
        };
        let name = format!("v{}", self.moments.len());
        let new = NewVolume {
            name: name.clone(),
            kind,
            source,
            limit: None,
            building: false,
            sealed: kind == Kind::Snapshot,
        };
        let info = self.pool.create(&new).expect("create");
        let items = source
            .map(|s| self.volumes[&s].items.clone())
            .unwrap_or_default();
        assert!(
            self.volumes
                .insert(info.id, Vol { name, kind, items })
                .is_none()
        );
        format!("create {} {kind:?} from {source:?}", info.id)
    }

    fn put(&mut self, id: VolumeId) -> String {
        let mut changes: BTreeMap<Key, Option<Vec<u8>>> = BTreeMap::new();
        for _ in 0..self.dice.below(8) + 1 {
            let key = Key::new(self.dice.below(30) + 1, PLAIN, self.dice.below(40));
            let len = [10, 100, 1500][self.dice.below(3) as usize];
            self.writes += 1;
            let value = pattern(self.writes, 0, self.dice.below(len) as usize + 1);
            changes.insert(key, (self.dice.below(4) > 0).then_some(value));
        }
        let volume = self.pool.volume(id).expect("volume");
        let entered = volume
            .enter(Need {
                keys: 10,
                bytes: 16 << 10,
                frees: false,
            })
            .expect("enter");
        let before = self.volumes[&id].items.clone();
        entered
            .update(|op| {
                use cowfs::tree::Read;
                for (key, change) in &changes {
                    assert_eq!(
                        op.get(key)?,
                        before.get(key).map(|v| v.0.clone()),
                        "{key:?} before"
                    );
                    match change {
                        Some(v) => op.put(*key, v.clone()),
                        None => op.delete(*key),
                    }
                    assert_eq!(op.get(key)?, *change, "{key:?} within");
                }
                Ok(())
            })
            .expect("update");
        let items = Arc::make_mut(&mut self.volumes.get_mut(&id).expect("volume").items);
        let n = changes.len();
        for (key, change) in changes {
            match change {
                Some(v) => items.insert(key, (v, None)),
                None => items.remove(&key),
            };
        }
        format!("put {n} in {id}")
    }

    /// Maps a virtual chunk to a new chunk with bytes in it, or unmaps one.
    fn map(&mut self, id: VolumeId) -> String {
        let key = Key::new(0, kind::MAP, self.dice.below(25));
        let volume = self.pool.volume(id).expect("volume");
        let entered = volume.enter(Need::SMALL).expect("enter");
        if self.dice.below(3) == 0 {
            entered
                .update(|op| {
                    op.delete(key);
                    Ok(())
                })
                .expect("unmap");
            Arc::make_mut(&mut self.volumes.get_mut(&id).expect("volume").items).remove(&key);
            return format!("unmap {key:?} in {id}");
        }
        self.writes += 1;
        let Some(range) = volume.chunks().alloc(1) else {
            return "no chunk".into();
        };
        let at = range.start * self.pool.chunk_size();
        volume
            .data()
            .write_at(at, &pattern(self.writes, at, BYTES))
            .expect("write");
        volume.dirtied(at..at + BYTES as u64);
        let value = Mapping {
            chunk: range.start,
            count: 1,
            used: None,
        }
        .encode(self.pool.chunk_size());
        entered
            .update(|op| {
                op.put(key, value.clone());
                Ok(())
            })
            .expect("map");
        let items = Arc::make_mut(&mut self.volumes.get_mut(&id).expect("volume").items);
        items.insert(key, (value, Some(self.writes)));
        format!("map {key:?} to {} in {id}", range.start)
    }
}

fn items_of(pool: &Arc<Pool>, id: VolumeId) -> Result<BTreeMap<Key, Vec<u8>>, Error> {
    let volume = pool.volume(id)?;
    let entered = volume.enter(Need::READ)?;
    entered.view(|r| {
        let mut items = BTreeMap::new();
        r.scan(&Key::MIN, &Key::MAX, &mut |k, v| {
            items.insert(*k, v.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(items)
    })
}

/// The volume is exactly so: keys, values, and the bytes of its chunks.
fn is(
    pool: &Arc<Pool>,
    id: VolumeId,
    real: &BTreeMap<Key, Vec<u8>>,
    model: &Items,
) -> Result<(), String> {
    if !real.iter().eq(model.iter().map(|(k, v)| (k, &v.0))) {
        let k = real
            .keys()
            .chain(model.keys())
            .find(|k| real.get(k) != model.get(k).map(|v| &v.0));
        return Err(format!("key {k:?}"));
    }
    let volume = pool.volume(id).map_err(|e| e.to_string())?;
    for (key, (value, write)) in model {
        if let (Some(write), Some(m)) = (write, Mapping::decode(value)) {
            let at = m.chunk * pool.chunk_size();
            let mut b = vec![0; BYTES];
            volume
                .data()
                .read_at(at, &mut b)
                .map_err(|e| e.to_string())?;
            if b != pattern(*write, at, BYTES) {
                return Err(format!("bytes of {key:?} in chunk {}", m.chunk));
            }
        }
    }
    Ok(())
}

fn judge(
    machine: Arc<Machine>,
    moments: &[Moment],
    answered: usize,
    crash: Crash,
) -> Result<(), String> {
    let boot = if crash == Crash::Power { 2 } else { 1 };
    let pool = Pool::open(devices(&machine), config(boot)).map_err(|e| format!("open: {e}"))?;
    let last = (answered + 1).min(moments.len() - 1);
    let since = match crash {
        Crash::Process => answered,
        Crash::Power => (0..=answered).rev().find(|i| moments[*i].all).unwrap_or(0),
    };
    let listed: BTreeMap<VolumeId, String> = pool
        .volumes()
        .map_err(|e| e.to_string())?
        .into_iter()
        .map(|v| (v.id, v.name))
        .collect();
    let ids: std::collections::BTreeSet<VolumeId> = listed
        .keys()
        .copied()
        .chain(
            moments[since..=last]
                .iter()
                .flat_map(|m| m.volumes.keys().copied()),
        )
        .collect();
    for id in ids {
        let from = (since..=answered)
            .rev()
            .find(|i| {
                moments[*i]
                    .durable
                    .as_ref()
                    .is_some_and(|d| d.contains(&id))
            })
            .unwrap_or(since);
        let mut reasons = Vec::new();
        let fits = match listed.get(&id) {
            None => moments[from..=last]
                .iter()
                .any(|m| !m.volumes.contains_key(&id)),
            Some(name) => {
                let real = items_of(&pool, id).map_err(|e| format!("volume {id}: {e}"))?;
                let states = moments[from..=last]
                    .iter()
                    .filter_map(|m| m.volumes.get(&id));
                states.filter(|v| v.name == *name).any(|v| {
                    is(&pool, id, &real, &v.items)
                        .map_err(|e| {
                            if reasons.last() != Some(&e) {
                                reasons.push(e);
                            }
                        })
                        .is_ok()
                })
            }
        };
        if !fits {
            let real = listed.contains_key(&id).then(|| items_of(&pool, id));
            let older =
                (0..moments.len())
                    .rev()
                    .find(|i| match (&real, moments[*i].volumes.get(&id)) {
                        (Some(Ok(real)), Some(v)) => is(&pool, id, real, &v.items).is_ok(),
                        (None, None) => true,
                        _ => false,
                    });
            reasons.push(format!("the newest moment that fits is {older:?}"));
            return Err(format!(
                "volume {id} is as at none of the moments {from}..={last} (answered {answered}); there: {}; \
                 reasons, oldest moment first: {reasons:?}",
                listed.contains_key(&id)
            ));
        }
    }
    let report = pool.check(&|_, _| {}).map_err(|e| format!("check: {e}"))?;
    match report.problems.is_empty() {
        true => Ok(()),
        false => Err(format!("check: {:#?}", report.problems)),
    }
}

fn record(seed: u64, steps: u64) -> (Arc<Machine>, Vec<Moment>, Vec<Event>) {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    for (id, v) in &world.volumes {
        let real = items_of(&world.pool, *id).expect("items");
        is(&world.pool, *id, &real, &v.items)
            .unwrap_or_else(|e| panic!("seed {seed}: volume {id}: {e}"));
    }
    let report = world.pool.check(&|_, _| {}).expect("check");
    assert!(
        report.problems.is_empty(),
        "seed {seed}: {:#?}",
        report.problems
    );
    let journal = world.machine.take_journal();
    world.machine.kill();
    (world.base, world.moments, journal)
}

#[test]
fn a_crash_at_every_call() {
    let steps = rig::number("COWFS_OPS", 400);
    let only = rig::number("COWFS_CALL", u64::MAX);
    let around = rig::number("COWFS_AROUND", 8) as usize;
    for seed in rig::seeds(1, 4) {
        let (machine, moments, journal) = record(seed, steps);
        eprintln!(
            "seed {seed}: {steps} steps, {} changing calls",
            journal.len()
        );
        for n in 0..=journal.len() {
            if only == u64::MAX || only == n as u64 {
                let answered = moments.partition_point(|m| m.events <= n).saturating_sub(1);
                let power = machine.power_cut(seed << 32 ^ n as u64);
                let death = machine.restart();
                if let Some(event) = journal.get(n) {
                    death.replay_part(event, Dice(n as u64).below(5000) as usize);
                }
                for (crash, after) in [(Crash::Power, power), (Crash::Process, death)] {
                    if let Err(text) = judge(after, &moments, answered, crash) {
                        let around: Vec<_> = moments[answered.saturating_sub(around)..]
                            .iter()
                            .take(around + 2)
                            .map(|m| format!("calls below {}: {}", m.events, m.step))
                            .collect();
                        panic!(
                            "{crash:?} at call {n} (COWFS_SEED={seed} COWFS_CALL={n} repeats it): {text}\n{}",
                            around.join("\n")
                        );
                    }
                }
            }
            journal.get(n).into_iter().for_each(|e| machine.replay(e));
        }
    }
}
