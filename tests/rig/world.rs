//! A pool on misbehaving disks beside its model: volumes, and every state they went through.

use super::generate::Generator;
use super::ops::{self, Op, Reply};
use super::state::{State, Touch};
use cowfs::base::{Error, Ino, Result, Time, VolumeId};
use cowfs::device::faulty::Machine;
use cowfs::fs::Fs;
use cowfs::pool::{Config, Devices, Format, Kind, NewVolume, Pool};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub const DISKS: usize = 3;
/// Which disk is which, in a machine.
pub const LOG: usize = 2;

pub fn devices(machine: &Arc<Machine>) -> Devices {
    Devices {
        metadata: machine.device(0, "metadata"),
        data: machine.device(1, "data"),
        log: machine.device(LOG, "log"),
    }
}

pub fn config(boot: u8) -> Config {
    // No thread of its own: the tests decide when checkpoints happen.
    Config {
        boot: [boot; 32],
        cache_bytes: 4 << 20,
        interval: Duration::ZERO,
        discard: true,
    }
}

/// A volume as the model knows it.
#[derive(Clone, Debug)]
pub struct Vol {
    pub name: String,
    pub kind: Kind,
    pub sealed: bool,
    pub building: bool,
    pub removing: bool,
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub state: Arc<State>,
}

pub type Volumes = BTreeMap<VolumeId, Vol>;

/// What a step made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durable {
    No,
    Volume(VolumeId),
    All,
}

/// The world after a step was answered.
#[derive(Clone)]
pub struct Moment {
    /// Length of the machine's journal then.
    pub events: usize,
    pub volumes: Volumes,
    pub durable: Durable,
    pub step: Arc<Step>,
}

#[derive(Clone, Debug)]
pub enum Step {
    Start,
    Fs(VolumeId, Op),
    Sync(VolumeId),
    SyncPool,
    Checkpoint,
    /// What the pool does beside: removed volumes are taken apart.
    Reclaim,
    Create {
        source: Option<VolumeId>,
        name: String,
        kind: Kind,
    },
    /// A volume filled without the log.
    Build {
        source: Option<VolumeId>,
        name: String,
    },
    Finish(VolumeId),
    Remove(VolumeId),
    Rename(VolumeId, String),
    Rollback(VolumeId, VolumeId),
    Blob(VolumeId, String, Vec<u8>),
    /// The last user of a volume goes.
    Close(VolumeId),
    /// The pool is closed in good order and opened again.
    Reopen,
}

/// Why a step did not go as the model says.
#[derive(Debug)]
pub enum Trouble {
    /// The real one and the model differ.
    Wrong(String),
    /// A device failed (as it was told to); the step was refused.
    Refused(Error),
}

pub type Stepped = std::result::Result<(), Trouble>;

fn wrong<T>(text: impl Into<String>) -> std::result::Result<T, Trouble> {
    Err(Trouble::Wrong(text.into()))
}

pub struct World {
    pub machine: Arc<Machine>,
    /// The machine as it was when its journal began.
    pub base: Arc<Machine>,
    pub pool: Option<Arc<Pool>>,
    pub open: BTreeMap<VolumeId, Arc<Fs>>,
    pub volumes: Volumes,
    pub moments: Vec<Moment>,
    /// Inode numbers that each volume ever gave.
    given: BTreeMap<VolumeId, BTreeSet<Ino>>,
    pub boot: u8,
    /// Refusals for want of space are no fault, the step just did not happen.
    pub full: bool,
    pub refused: u64,
    /// The last moment is a step that was refused: judged without its times and numbers.
    pub loose: bool,
    recent: VecDeque<String>,
    names: u64,
}

impl World {
    /// A new pool with one empty volume.
    pub fn new(format: &Format) -> World {
        let machine = Machine::new(DISKS);
        Pool::format(&devices(&machine), format).expect("format");
        assert_eq!(machine.pending(), 0, "a new pool is durable");
        let base = machine.restart();
        machine.record();
        let mut w = World::on(machine, 1);
        w.base = base;
        w.step(&Step::Create {
            source: None,
            name: "first".into(),
            kind: Kind::Container,
        })
        .expect("first volume");
        w.step(&Step::SyncPool).expect("sync");
        w
    }

    /// Opens the pool of a machine; knows nothing of its content.
    pub fn on(machine: Arc<Machine>, boot: u8) -> World {
        let pool = Pool::open(devices(&machine), config(boot)).expect("open");
        World::with(machine, pool, boot)
    }

    pub fn with(machine: Arc<Machine>, pool: Arc<Pool>, boot: u8) -> World {
        let start = Moment {
            events: machine.events(),
            volumes: Volumes::new(),
            durable: Durable::All,
            step: Arc::new(Step::Start),
        };
        World {
            base: machine.clone(),
            machine,
            pool: Some(pool),
            open: BTreeMap::new(),
            volumes: Volumes::new(),
            moments: vec![start],
            given: BTreeMap::new(),
            boot,
            full: false,
            refused: 0,
            loose: false,
            recent: VecDeque::new(),
            names: 0,
        }
    }

    pub fn pool(&self) -> &Arc<Pool> {
        self.pool.as_ref().expect("the pool is open")
    }

    /// The pool and all volumes are let go without a word, as when the process dies.
    pub fn abandon(&mut self) {
        self.machine.kill();
        self.open.clear();
        self.pool = None;
    }

    /// The file system of a volume, opened at need.
    pub fn fs(&mut self, id: VolumeId) -> Result<Arc<Fs>> {
        if let Some(fs) = self.open.get(&id) {
            return Ok(fs.clone());
        }
        let fs = Fs::open(self.pool().volume(id)?)?;
        self.open.insert(id, fs.clone());
        if let Some(v) = self.volumes.get_mut(&id)
            && !v.sealed
        {
            v.state = Arc::new(v.state.reaped());
        }
        Ok(fs)
    }

    pub fn last_steps(&self) -> String {
        self.recent.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// Does a step on both; notes the moment after it.
    pub fn step(&mut self, step: &Step) -> Stepped {
        if std::env::var_os("COWFS_TRACE").is_some() {
            eprintln!("step {}: {}", self.moments.len(), brief(step));
        }
        if self.recent.len() == 12 {
            self.recent.pop_front();
        }
        self.recent.push_back(brief(step));
        let durable = match self.perform(step) {
            Ok(durable) => durable,
            Err(Trouble::Refused(Error::NoSpace | Error::Quota)) if self.full => {
                self.refused += 1;
                Durable::No
            }
            Err(other) => return Err(other),
        };
        self.moments.push(Moment {
            events: self.machine.events(),
            volumes: self.volumes.clone(),
            durable,
            step: Arc::new(step.clone()),
        });
        Ok(())
    }

    fn perform(&mut self, step: &Step) -> std::result::Result<Durable, Trouble> {
        let refused = Trouble::Refused;
        match step {
            Step::Start => Ok(Durable::No),
            Step::Fs(id, op) => self.fs_op(*id, op),
            Step::Sync(id) => {
                let fs = self.fs(*id).map_err(refused)?;
                fs.volume().sync().map_err(refused)?;
                Ok(Durable::Volume(*id))
            }
            Step::SyncPool => {
                self.pool().sync().map_err(refused)?;
                Ok(Durable::All)
            }
            Step::Checkpoint => {
                self.pool().checkpoint().map_err(refused)?;
                Ok(Durable::All)
            }
            Step::Reclaim => {
                self.pool().reclaim(30).map_err(refused)?;
                Ok(Durable::No)
            }
            Step::Create { source, name, kind } => {
                let id = self.create(*source, name, *kind, false).map_err(refused)?;
                Ok(if source.is_none() {
                    Durable::Volume(id)
                } else {
                    Durable::No
                })
            }
            Step::Build { source, name } => {
                self.create(*source, name, Kind::Image, true)
                    .map_err(refused)?;
                Ok(Durable::No)
            }
            Step::Finish(id) => {
                self.open.remove(id);
                self.pool().finish(&[(*id, true)]).map_err(refused)?;
                if let Some(v) = self.volumes.get_mut(id) {
                    v.building = false;
                    v.sealed = true;
                    v.state = Arc::new(v.state.reaped());
                }
                Ok(Durable::Volume(*id))
            }
            Step::Remove(id) => {
                self.pool().remove(*id).map_err(refused)?;
                match self.open.contains_key(id) {
                    true => {
                        if let Some(v) = self.volumes.get_mut(id) {
                            v.removing = true;
                        }
                    }
                    false => {
                        self.volumes.remove(id);
                    }
                }
                Ok(Durable::No)
            }
            Step::Rename(id, name) => {
                self.pool().rename(*id, name).map_err(refused)?;
                if let Some(v) = self.volumes.get_mut(id) {
                    v.name = name.clone();
                }
                Ok(Durable::No)
            }
            Step::Rollback(id, snapshot) => {
                if self.open.contains_key(id) {
                    match self.pool().rollback(*id, *snapshot) {
                        Err(Error::Busy(_)) => {}
                        Err(e) if self.machine.fired() > 0 => return Err(Trouble::Refused(e)),
                        other => return wrong(format!("rollback of a volume in use: {other:?}")),
                    }
                    self.open.remove(id);
                }
                self.pool().rollback(*id, *snapshot).map_err(refused)?;
                let state = self
                    .volumes
                    .get(snapshot)
                    .map(|s| Arc::new(s.state.reaped()));
                if let (Some(v), Some(state)) = (self.volumes.get_mut(id), state) {
                    v.state = state;
                }
                Ok(Durable::No)
            }
            Step::Blob(id, name, bytes) => {
                self.pool().put_blob(*id, name, bytes).map_err(refused)?;
                if let Some(v) = self.volumes.get_mut(id) {
                    v.blobs.insert(name.clone(), bytes.clone());
                }
                Ok(Durable::No)
            }
            Step::Close(id) => {
                self.open.remove(id);
                if self.volumes.get(id).is_some_and(|v| v.removing) {
                    self.volumes.remove(id);
                }
                Ok(Durable::No)
            }
            Step::Reopen => {
                self.open.clear();
                self.volumes.retain(|_, v| !v.removing && !v.building);
                let pool = self.pool.take().expect("open");
                pool.close().map_err(refused)?;
                drop(pool);
                let pool =
                    Pool::open(devices(&self.machine), config(self.boot)).map_err(refused)?;
                self.pool = Some(pool);
                Ok(Durable::All)
            }
        }
    }

    fn create(
        &mut self,
        source: Option<VolumeId>,
        name: &str,
        kind: Kind,
        building: bool,
    ) -> Result<VolumeId> {
        let sealed = kind == Kind::Snapshot;
        // An empty volume without a root directory must not be found after a crash.
        let empty = source.is_none();
        let new = NewVolume {
            name: name.into(),
            kind,
            source,
            limit: None,
            building: building || empty,
            sealed,
        };
        let info = self.pool().create(&new)?;
        assert!(
            !self.given.contains_key(&info.id),
            "volume id {} given twice",
            info.id
        );
        let state = match source.and_then(|s| self.volumes.get(&s)) {
            // A sealed clone keeps what has no name, out of sight.
            Some(s) => s.state.clone(),
            None => Arc::new(State::empty(0o755)),
        };
        let given = state.inodes.keys().copied().collect();
        self.given.insert(info.id, given);
        let vol = Vol {
            name: name.into(),
            kind,
            sealed,
            building: building || empty,
            removing: false,
            blobs: BTreeMap::new(),
            state,
        };
        self.volumes.insert(info.id, vol);
        if empty {
            let volume = self.pool().volume(info.id)?;
            Fs::format(&volume, 0o755)?;
            drop(volume);
            self.take_times(info.id)?;
            if !building {
                self.open.remove(&info.id);
                self.pool().finish(&[(info.id, false)])?;
                self.volumes.get_mut(&info.id).expect("just made").building = false;
            }
        }
        Ok(info.id)
    }

    /// The moment after a refused step, had it been done; times and new numbers are guesses.
    pub fn done_anyway(&self, step: &Step) -> Moment {
        let mut volumes = self.moments.last().expect("a moment").volumes.clone();
        let next_id = VolumeId(self.given.keys().map(|id| id.0).max().unwrap_or(0) + 1);
        let blank = |source: &Option<VolumeId>, volumes: &Volumes| match source {
            Some(s) => volumes[s].state.clone(),
            None => Arc::new(State::empty(0o755)),
        };
        match step {
            Step::Fs(id, op) => {
                let before = volumes[id].state.clone();
                let ino = before.inodes.keys().max().map_or(2, |i| i + 1);
                let (next, _, _) = ops::predict(&before, op, ino);
                volumes.get_mut(id).expect("a volume").state = Arc::new(next);
            }
            Step::Create { source, name, kind } => {
                // If the model had it already (making it is several steps), it has its number.
                let id = self
                    .volumes
                    .iter()
                    .find(|(_, v)| v.name == *name)
                    .map_or(next_id, |(id, _)| *id);
                let state = blank(source, &volumes);
                let vol = Vol {
                    name: name.clone(),
                    kind: *kind,
                    sealed: *kind == Kind::Snapshot,
                    building: false,
                    removing: false,
                    blobs: BTreeMap::new(),
                    state,
                };
                volumes.insert(id, vol);
            }
            Step::Finish(id) => {
                let v = volumes.get_mut(id).expect("a volume");
                (v.building, v.sealed) = (false, true);
            }
            Step::Remove(id) => {
                volumes.remove(id);
            }
            Step::Rename(id, name) => volumes.get_mut(id).expect("a volume").name = name.clone(),
            Step::Rollback(id, snapshot) => {
                let state = Arc::new(volumes[snapshot].state.reaped());
                volumes.get_mut(id).expect("a volume").state = state;
            }
            Step::Blob(id, name, bytes) => {
                volumes
                    .get_mut(id)
                    .expect("a volume")
                    .blobs
                    .insert(name.clone(), bytes.clone());
            }
            Step::Start | Step::Sync(_) | Step::SyncPool | Step::Checkpoint | Step::Reclaim => {}
            Step::Build { .. } | Step::Close(_) | Step::Reopen => {}
        }
        Moment {
            events: self.machine.events(),
            volumes,
            durable: Durable::No,
            step: Arc::new(step.clone()),
        }
    }

    /// A fresh root directory's times are whatever they are.
    fn take_times(&mut self, id: VolumeId) -> Result<()> {
        let fs = self.fs(id)?;
        let real = ops::walk(&fs)?;
        let v = self.volumes.get_mut(&id).expect("a volume");
        let root = &real.inodes[&cowfs::base::ROOT_INO];
        let mut state = State::clone(&v.state);
        Arc::make_mut(state.inodes.get_mut(&cowfs::base::ROOT_INO).expect("root")).times =
            root.times;
        assert_eq!(state, real, "a formatted volume");
        v.state = Arc::new(state);
        Ok(())
    }

    fn fs_op(&mut self, id: VolumeId, op: &Op) -> std::result::Result<Durable, Trouble> {
        let fs = self.fs(id).map_err(Trouble::Refused)?;
        let vol = &self.volumes[&id];
        let (sealed, before) = (vol.sealed, vol.state.clone());
        let since = Time::now();
        let real = op.perform(&fs);
        let until = Time::now();
        if let Err(e) = &real
            && (self.machine.fired() > 0 && matches!(e, Error::Io { .. } | Error::Failed(_))
                || matches!(e, Error::NoSpace | Error::Quota))
        {
            return Err(Trouble::Refused(real.unwrap_err()));
        }
        if sealed {
            return match (&real, op) {
                (Ok(_), Op::Forget { .. } | Op::TouchAtime { .. }) => Ok(Durable::No),
                (_, op) if op.reads_only() => {
                    // What has no name is not reaped in a sealed volume, and nobody can see it.
                    let (_, model, _) = ops::predict(&before, op, 0);
                    match ops::compare(op, &before, &real, &model) {
                        Ok(()) => Ok(Durable::No),
                        Err(e) => wrong(e),
                    }
                }
                (Err(e), _) if e.errno() == libc::EROFS => Ok(Durable::No),
                (Err(e), op) if ops::predict(&before, op, 0).1.err() == Some(e.errno()) => {
                    Ok(Durable::No)
                }
                (Err(e), op) if before.also_wrong(op, e.errno()) => Ok(Durable::No),
                _ => wrong(format!("{op:?} on a sealed volume: {real:?}")),
            };
        }
        let new_ino = match (&real, op) {
            (Ok(Reply::Inode(ino)), op) if op.creates() => *ino,
            (
                Ok(_),
                Op::Rename {
                    dir, name, flags, ..
                },
            ) if flags.whiteout => fs.lookup(*dir, name).map_or(0, |a| a.ino),
            _ => 0,
        };
        let (mut next, model, touched) = ops::predict(&before, op, new_ino);
        if let Err(e) = ops::compare(op, &before, &real, &model) {
            return wrong(e);
        }
        if new_ino != 0
            && next.inodes.contains_key(&new_ino)
            && !before.inodes.contains_key(&new_ino)
        {
            let given = self.given.entry(id).or_default();
            if !given.insert(new_ino) {
                return wrong(format!("{op:?}: inode number {new_ino} was given before"));
            }
        }
        // What the operation was about, changed or not.
        let mut seen = touched.clone();
        if let Ok(Reply::Inode(ino)) = &real {
            seen.entry(*ino).or_insert(Touch::default());
        }
        for (ino, touch) in seen {
            match (fs.attr(ino), next.inodes.get_mut(&ino)) {
                (Ok(a), Some(model)) => {
                    ops::compare_attr(Arc::make_mut(model), &a, touch, since, until)
                        .map_err(|e| Trouble::Wrong(format!("{op:?}: {e}")))?;
                }
                (Err(e), _) if self.machine.fired() > 0 => return Err(Trouble::Refused(e)),
                (real, model) => return wrong(format!("{op:?}: inode {ino}: {real:?} {model:?}")),
            }
        }
        if let Op::Forget { ino } = op
            && before.inodes.contains_key(ino)
            && !next.inodes.contains_key(ino)
            && !matches!(fs.attr(*ino), Err(ref e) if e.errno() == libc::ENOENT)
        {
            return wrong(format!("{op:?}: still there"));
        }
        if next != *before {
            self.volumes.get_mut(&id).expect("a volume").state = Arc::new(next);
        }
        Ok(match op {
            Op::Fsync { .. } if real.is_ok() => Durable::Volume(id),
            _ => Durable::No,
        })
    }

    /// Walks every volume and compares it whole; compares the catalog; checks the pool.
    pub fn compare_all(&mut self) -> Stepped {
        let ids: Vec<VolumeId> = self.volumes.keys().copied().collect();
        for id in ids {
            let fs = match self.fs(id) {
                Ok(fs) => fs,
                Err(e) => return wrong(format!("opening volume {id}: {e}")),
            };
            let real =
                ops::walk(&fs).map_err(|e| Trouble::Wrong(format!("walking volume {id}: {e}")))?;
            let vol = &self.volumes[&id];
            if let Some(text) = super::judge::difference(&vol.state.reaped(), &real) {
                return wrong(format!("volume {id} ({}): {text}", vol.name));
            }
            let inodes = fs.volume().usage().1;
            if !vol.sealed && inodes != vol.state.inodes.len() as u64 {
                return wrong(format!(
                    "volume {id}: {inodes} inodes, the model has {}",
                    vol.state.inodes.len()
                ));
            }
        }
        self.compare_catalog()?;
        self.check()
    }

    pub fn compare_catalog(&self) -> Stepped {
        let listed = self.pool().volumes().map_err(Trouble::Refused)?;
        let real: Vec<_> = listed
            .iter()
            .filter(|v| !v.removing)
            .map(|v| (v.id, v.name.as_str(), v.kind, v.sealed, v.building))
            .collect();
        let model: Vec<_> = self
            .volumes
            .iter()
            .filter(|(_, v)| !v.removing)
            .map(|(id, v)| (*id, v.name.as_str(), v.kind, v.sealed, v.building))
            .collect();
        let sorted = |mut v: Vec<(VolumeId, &str, Kind, bool, bool)>| {
            v.sort_by_key(|x| x.0);
            format!("{v:?}")
        };
        let (real, model) = (sorted(real), sorted(model));
        if real != model {
            return wrong(format!("catalog\n   real: {real}\n  model: {model}"));
        }
        for (id, v) in self.volumes.iter().filter(|(_, v)| !v.removing) {
            for (name, bytes) in &v.blobs {
                match self.pool().blob(*id, name) {
                    Ok(Some(real)) if real == *bytes => {}
                    other => {
                        return wrong(format!(
                            "blob {name} of {id}: {:?}",
                            other.map(|b| b.map(|b| b.len()))
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    pub fn check(&self) -> Stepped {
        match self.pool().check(&|_, _| {}) {
            Ok(report) if report.problems.is_empty() => Ok(()),
            Ok(report) => wrong(format!("check: {:#?}", report.problems)),
            Err(e) => wrong(format!("check: {e}")),
        }
    }

    /// The next step: mostly an operation on some volume, sometimes one on the pool.
    pub fn random_step(&mut self, g: &mut Generator, pool_percent: u64) -> Step {
        let ids: Vec<VolumeId> = self
            .volumes
            .iter()
            .filter(|(_, v)| !v.removing)
            .map(|(id, _)| *id)
            .collect();
        let writable: Vec<VolumeId> = self
            .volumes
            .iter()
            .filter(|(_, v)| !v.sealed && !v.building && !v.removing)
            .map(|(id, _)| *id)
            .collect();
        let building = self
            .volumes
            .iter()
            .find(|(_, v)| v.building)
            .map(|(id, _)| *id);
        self.names += 1;
        let name = format!("v{}-{}", self.names, g.dice.below(1000));
        let sources: Vec<VolumeId> = ids
            .iter()
            .copied()
            .filter(|id| !self.volumes[id].building)
            .collect();
        let Some(some) = g.pick(&writable) else {
            return Step::Create {
                source: g.pick(&sources),
                name,
                kind: Kind::Container,
            };
        };
        if g.dice.below(100) >= pool_percent {
            // Volumes that are being removed or built are worked on too, sealed ones now and then.
            let any: Vec<VolumeId> = self.volumes.keys().copied().collect();
            let id = if g.dice.below(10) == 0 {
                g.pick(&any).unwrap_or(some)
            } else {
                some
            };
            // What opening it reaps is not there to be worked on; a failure to open shows in the step.
            let _ = self.fs(id);
            let op = g.op(&self.volumes[&id].state);
            // A volume that is being built is made durable by its end alone.
            return match op {
                Op::Fsync { .. } if self.volumes[&id].building => Step::Checkpoint,
                op => Step::Fs(id, op),
            };
        }
        let crowded = ids.len() > 7;
        match g.dice.below(100) {
            0..=19 => Step::Sync(some),
            20..=27 => Step::SyncPool,
            28..=35 => Step::Checkpoint,
            36..=41 => Step::Reclaim,
            42..=64 if !crowded => {
                let kind =
                    [Kind::Snapshot, Kind::Container, Kind::Container][g.dice.below(3) as usize];
                Step::Create {
                    source: g.pick(&sources),
                    name,
                    kind,
                }
            }
            65..=67 if !crowded && building.is_none() => {
                let images: Vec<_> = sources
                    .iter()
                    .copied()
                    .filter(|id| self.volumes[id].sealed)
                    .collect();
                Step::Build {
                    source: g.pick(&images),
                    name,
                }
            }
            68..=69 if building.is_some() => Step::Finish(building.unwrap_or(some)),
            42..=80 => match g.pick(&sources) {
                // The first steps of a world need something to work on.
                Some(id) if ids.len() > 2 => Step::Remove(id),
                _ => Step::Sync(some),
            },
            81..=84 => Step::Rename(some, name),
            85..=89 => {
                let snapshots: Vec<_> = sources
                    .iter()
                    .copied()
                    .filter(|id| self.volumes[id].kind == Kind::Snapshot)
                    .collect();
                match g.pick(&snapshots) {
                    Some(s) => Step::Rollback(some, s),
                    None => Step::Sync(some),
                }
            }
            90..=92 => {
                g.write += 1;
                let len = g.dice.below(12000) as usize;
                Step::Blob(
                    some,
                    format!("blob{}", g.dice.below(3)),
                    super::data::pattern(g.write, 0, len),
                )
            }
            93 if building.is_none() => Step::Reopen,
            _ => {
                let open: Vec<VolumeId> = self
                    .open
                    .keys()
                    .copied()
                    .filter(|id| self.volumes.get(id).is_some_and(|v| !v.building))
                    .collect();
                Step::Close(g.pick(&open).unwrap_or(some))
            }
        }
    }

    /// After a crash: goes on from what was found.
    pub fn found(&mut self, volumes: Volumes) {
        self.given = volumes
            .iter()
            .map(|(id, v)| (*id, v.state.inodes.keys().copied().collect()))
            .collect();
        self.volumes = volumes.clone();
        let (events, step) = (self.machine.events(), Arc::new(Step::Start));
        self.moments = vec![Moment {
            events,
            volumes,
            durable: Durable::All,
            step,
        }];
    }
}

/// A step in one line.
pub fn brief(step: &Step) -> String {
    ops::short(step)
}
