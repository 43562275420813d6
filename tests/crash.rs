//! A crash at every device call of a workload, and at every call of the recovery from a crash; each
//! call failing once; what was made durable is there, the rest old or new, never garbage.
//!
//! `COWFS_SEED=n` runs one seed, `COWFS_OPS=n` sets the length of the workload, `COWFS_CALL=n` runs
//! one crash point only.

mod rig;

use cowfs::device::faulty::{Dice, Event, Fault, Machine};
use cowfs::pool::{Format, Pool};
use rig::generate::{Generator, Scale};
use rig::judge::{Crash, judge};
use rig::world::{Moment, Step, Trouble, World, config, devices};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const SCALE: Scale = Scale {
    inodes: 20,
    file: 100_000,
    write: 40_000,
    giants: false,
};

fn format() -> Format {
    Format {
        name: "crash".into(),
        size: 64 << 20,
        log_size: 1 << 20,
        ..Format::default()
    }
}

/// A workload that ran without a fault, and all its device calls.
struct Recording {
    base: Arc<Machine>,
    moments: Vec<Moment>,
    journal: Vec<Event>,
}

fn workload(seed: u64, steps: u64) -> Vec<Step> {
    let mut steps_done = Vec::new();
    run_workload(seed, steps, |_, step| steps_done.push(step.clone()));
    steps_done
}

/// Runs the workload of a seed; `each` sees every step before it is done.
fn run_workload(seed: u64, steps: u64, mut each: impl FnMut(&World, &Step)) -> World {
    let mut g = Generator::new(seed, SCALE);
    let mut world = World::new(&format());
    for n in 0..steps {
        let step = world.random_step(&mut g, 20);
        each(&world, &step);
        if let Err(t) = world.step(&step) {
            panic!(
                "seed {seed}, step {n}: {t:?}\nlast steps:\n{}",
                world.last_steps()
            );
        }
    }
    world
}

fn record(seed: u64, steps: u64) -> Recording {
    let mut world = run_workload(seed, steps, |_, _| {});
    let journal = world.machine.take_journal();
    let (base, moments) = (world.base.clone(), std::mem::take(&mut world.moments));
    world.abandon();
    Recording {
        base,
        moments,
        journal,
    }
}

impl Recording {
    /// The last moment that was answered before call `n` was made.
    fn answered(&self, n: usize) -> usize {
        self.moments
            .partition_point(|m| m.events <= n)
            .saturating_sub(1)
    }

    /// A machine just before call `n`.
    fn before(&self, n: usize) -> Arc<Machine> {
        let machine = self.base.restart();
        self.journal[..n].iter().for_each(|e| machine.replay(e));
        machine
    }

    fn around(&self, n: usize) -> String {
        let a = self.answered(n);
        let calls = self
            .journal
            .iter()
            .enumerate()
            .take(n + 3)
            .skip(n.saturating_sub(12));
        let calls: Vec<_> = calls.map(|(i, e)| format!("  call {i}: {e:?}")).collect();
        let steps = self.moments[a.saturating_sub(6)..(a + 2).min(self.moments.len())].iter();
        let lines: Vec<_> = steps
            .map(|m| format!("  calls below {}: {}", m.events, rig::world::brief(&m.step)))
            .collect();
        [lines, calls].concat().join("\n")
    }
}

/// Opens what a crash left and judges it; then it must still be good for work.
fn verify(
    recording: &Recording,
    machine: Arc<Machine>,
    boot: u8,
    answered: usize,
    crash: Crash,
    work: bool,
) -> Result<(), String> {
    let pool = Pool::open(devices(&machine), config(boot)).map_err(|e| format!("open: {e}"))?;
    let mut world = World::with(machine, pool, boot);
    let found = judge(&mut world, &recording.moments, answered, crash)?;
    if work {
        let open = std::mem::take(&mut world.open);
        world.found(found);
        world.open = open;
        let mut g = Generator::new(answered as u64, SCALE);
        g.write = 1 << 30;
        for _ in 0..15 {
            let step = world.random_step(&mut g, 20);
            world
                .step(&step)
                .map_err(|t| format!("working on after it: {t:?}\n{}", world.last_steps()))?;
        }
        world.step(&Step::SyncPool).map_err(|t| format!("{t:?}"))?;
        world
            .compare_all()
            .map_err(|t| format!("after working on: {t:?}"))?;
    }
    Ok(())
}

/// Runs `job` for 0..count on all CPUs; each thread takes a stretch of neighbours.
fn parallel(count: usize, job: impl Fn(std::ops::Range<usize>) + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let stretch = 64;
    let next = AtomicUsize::new(0);
    std::thread::scope(|s| {
        for _ in 0..threads {
            s.spawn(|| {
                loop {
                    let from = next.fetch_add(stretch, Ordering::Relaxed);
                    if from >= count {
                        break;
                    }
                    job(from..(from + stretch).min(count));
                }
            });
        }
    });
}

fn chosen(n: usize) -> bool {
    let only = rig::number("COWFS_CALL", u64::MAX);
    only == u64::MAX || only == n as u64
}

#[test]
fn a_crash_at_every_call() {
    let steps = rig::number("COWFS_OPS", 350);
    for seed in rig::seeds(1, 2) {
        let recording = record(seed, steps);
        eprintln!(
            "seed {seed}: {steps} steps, {} changing calls",
            recording.journal.len()
        );
        parallel(recording.journal.len() + 1, |range| {
            let machine = recording.before(range.start);
            for n in range {
                if chosen(n) {
                    crash_here(&recording, &machine, seed, n);
                }
                recording
                    .journal
                    .get(n)
                    .into_iter()
                    .for_each(|e| machine.replay(e));
            }
        });
    }
}

fn crash_here(recording: &Recording, machine: &Arc<Machine>, seed: u64, n: usize) {
    let answered = recording.answered(n);
    let work = n.is_multiple_of(16);
    let fail = |what: &str, text: String| -> ! {
        let around = recording.around(n);
        panic!(
            "{what} at call {n} (COWFS_SEED={seed} COWFS_CALL={n} repeats it): {text}\naround it:\n{around}"
        )
    };
    // The power goes. Two different disks may remain.
    for variant in 0..2u64 {
        let after = machine.power_cut(seed << 32 ^ (n as u64) << 1 ^ variant);
        if let Err(text) = verify(recording, after, 2, answered, Crash::Power, work) {
            fail("power cut", text);
        }
    }
    // The process dies; a write may have got half-way.
    let after = machine.restart();
    if let Some(event) = recording.journal.get(n) {
        after.replay_part(event, Dice(seed ^ n as u64).below(5000) as usize);
    }
    if let Err(text) = verify(recording, after, 1, answered, Crash::Process, work) {
        fail("death of the process", text);
    }
}

/// Recovery is interrupted at each of its own calls: by the power, or by its own death.
#[test]
fn a_crash_at_every_call_of_the_recovery() {
    let steps = rig::number("COWFS_OPS", 150);
    for seed in rig::seeds(21, 2) {
        let recording = record(seed, steps);
        let total = recording.journal.len();
        let points: Vec<usize> = (0..24).map(|i| total - i * total / 40).collect();
        parallel(points.len(), |range| {
            for n in range.map(|i| points[i]).filter(|n| chosen(*n)) {
                crash_in_recovery(&recording, seed, n);
            }
        });
    }
}

fn crash_in_recovery(recording: &Recording, seed: u64, n: usize) {
    let answered = recording.answered(n);
    let before = recording.before(n);
    for (crash, boot) in [(Crash::Power, 2), (Crash::Process, 1)] {
        let left = match crash {
            Crash::Power => before.power_cut(seed ^ n as u64),
            Crash::Process => before.restart(),
        };
        let again = left.restart();
        left.record();
        let pool = match Pool::open(devices(&left), config(boot)) {
            Ok(pool) => pool,
            Err(e) => panic!("seed {seed}, call {n}, {crash:?}: open: {e}"),
        };
        let journal = left.take_journal();
        left.kill();
        drop(pool);
        for k in 0..=journal.len() {
            let power = again.power_cut(seed << 32 ^ (n << 12) as u64 ^ k as u64);
            let death = again.restart();
            // A power cut now: less may be left than after the death of a process, never less than was durable.
            for (what, machine, next, rule) in [
                ("power cut", power, 3, Crash::Power),
                // This process had seen the power cut; its own death makes nothing true that was lost.
                ("death", death, boot, crash),
            ] {
                if let Err(text) = verify(recording, machine, next, answered, rule, false) {
                    panic!(
                        "seed {seed}, {crash:?} at call {n}, then {what} at call {k} of {} of the recovery \
                         (COWFS_SEED={seed} COWFS_CALL={n} repeats it): {text}\naround it:\n{}",
                        journal.len(),
                        recording.around(n)
                    );
                }
            }
            journal.get(k).into_iter().for_each(|e| again.replay(e));
        }
    }
}

/// Each call fails once: the step is refused or done, the pool refuses writes or goes on; what a new
/// process finds is what was answered, with the refused step done or not done.
#[test]
fn every_call_fails_once() {
    let steps = rig::number("COWFS_OPS", 90);
    for seed in rig::seeds(41, 2) {
        let plan = workload(seed, steps);
        let (first, total) = count_calls(&plan);
        eprintln!("seed {seed}: {steps} steps, {} calls", total - first);
        let calls = (total - first) as usize;
        parallel(calls, |range| {
            for n in range.filter(|n| chosen(*n)) {
                if let Err(text) = fail_here(&plan, first + n as u64, seed) {
                    panic!("call {n} fails (COWFS_SEED={seed} COWFS_CALL={n} repeats it): {text}");
                }
            }
        });
    }
}

fn count_calls(plan: &[Step]) -> (u64, u64) {
    let mut world = World::new(&format());
    let first = world.machine.calls();
    for step in plan {
        world
            .step(step)
            .unwrap_or_else(|t| panic!("{step:?}: {t:?}"));
    }
    (first, world.machine.calls())
}

fn fail_here(plan: &[Step], call: u64, seed: u64) -> Result<(), String> {
    let mut world = World::new(&format());
    world.machine.fail(call, Fault::Error(libc::EIO));
    let mut refused = None;
    for step in plan {
        match world.step(step) {
            Ok(()) => {}
            Err(Trouble::Wrong(text)) => return Err(format!("{text}\n{}", world.last_steps())),
            Err(Trouble::Refused(e)) => {
                refused = Some((step.clone(), e));
                break;
            }
        }
    }
    if world.machine.fired() == 0 {
        // Random keys of hashes make a call more or less: this run had fewer.
        return Ok(());
    }
    let answered = world.moments.len() - 1;
    let mut moments = world.moments.clone();
    if let Some((step, e)) = &refused {
        // The step may have been done: what it would have made is one more moment that may be found.
        moments.push(world.done_anyway(step));
        let failed = world
            .pool
            .as_ref()
            .map(|p| p.status().map(|s| s.failed.is_some()));
        if let Some(Ok(true)) = failed {
            // It says that it refuses writes: then it does.
            let name = "after the failure".to_string();
            let create = Step::Create {
                source: None,
                name,
                kind: cowfs::pool::Kind::Container,
            };
            if let Ok(()) = world.step(&create) {
                return Err(format!("the pool failed ({e}) and yet makes a volume"));
            }
        }
    }
    for (crash, boot) in [(Crash::Process, 1), (Crash::Power, 2)] {
        let machine = match crash {
            Crash::Process => world.machine.restart(),
            Crash::Power => world.machine.power_cut(seed ^ call),
        };
        let pool = Pool::open(devices(&machine), config(boot))
            .map_err(|e| format!("{crash:?}: open: {e}"))?;
        let mut next = World::with(machine, pool, boot);
        next.loose = refused.is_some();
        judge(&mut next, &moments, answered, crash).map_err(|e| {
            format!(
                "{crash:?}, refused: {refused:?}: {e}\n{}",
                world.last_steps()
            )
        })?;
    }
    world.abandon();
    Ok(())
}

/// Reads that fail while a pool is opened: it is refused or opened, and whole the next time.
#[test]
fn every_call_of_the_recovery_fails_once() {
    let seed = rig::seeds(61, 1)[0];
    let recording = record(seed, rig::number("COWFS_OPS", 120));
    let total = recording.journal.len();
    let points: Vec<usize> = (0..6).map(|i| total - i * total / 10).collect();
    parallel(points.len() * 64, |range| {
        for i in range {
            let n = points[i / 64];
            for crash in [Crash::Power, Crash::Process] {
                let boot = if crash == Crash::Power { 2 } else { 1 };
                let before = recording.before(n);
                let left = match crash {
                    Crash::Power => before.power_cut(seed),
                    Crash::Process => before.restart(),
                };
                // 64 threads' worth of numbers a point; recoveries with more calls are sampled.
                let fresh = left.restart();
                drop(Pool::open(devices(&fresh), config(boot)));
                let calls = fresh.calls().max(1);
                for call in (0..calls).filter(|c| c % 64 == (i % 64) as u64) {
                    let machine = left.restart();
                    machine.fail(call, Fault::Error(libc::EIO));
                    drop(Pool::open(devices(&machine), config(boot)));
                    let machine = machine.restart();
                    if let Err(text) = verify(
                        &recording,
                        machine,
                        boot,
                        recording.answered(n),
                        crash,
                        false,
                    ) {
                        panic!(
                            "seed {seed}, {crash:?} at call {n}, call {call} of the recovery fails: {text}"
                        );
                    }
                }
            }
        }
    });
}
