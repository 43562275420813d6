//! A model beside the real file system: random operations, snapshots, clones, removals, crashes and
//! reopens; equal at every step.
//!
//! `COWFS_SEED=n` runs one seed, `COWFS_OPS=n` sets how many steps each seed runs.

mod rig;

use cowfs::pool::{Format, Pool};
use rig::generate::{Generator, Scale};
use rig::judge::{Crash, judge};
use rig::world::{Step, Trouble, World, config, devices};
use std::sync::Arc;

fn format() -> Format {
    Format {
        name: "model".into(),
        size: 256 << 20,
        log_size: 1 << 20,
        ..Format::default()
    }
}

const SCALE: Scale = Scale {
    inodes: 60,
    file: 400_000,
    write: 150_000,
    giants: true,
};

fn fail(seed: u64, n: u64, world: &World, trouble: &dyn std::fmt::Display) -> ! {
    panic!(
        "seed {seed}, step {n} (COWFS_SEED={seed} repeats it): {trouble}\nlast steps:\n{}",
        world.last_steps()
    )
}

/// The machine dies here; what a new process finds is judged, and the world goes on from there.
fn crash(world: &mut World, kind: Crash, seed: u64) -> Result<(), String> {
    let answered = world.moments.len() - 1;
    let (machine, boot) = match kind {
        Crash::Power => (world.machine.power_cut(seed), world.boot.wrapping_add(1)),
        Crash::Process => (world.machine.restart(), world.boot),
    };
    world.abandon();
    let moments = std::mem::take(&mut world.moments);
    let pool = Pool::open(devices(&machine), config(boot))
        .map_err(|e| format!("open after {kind:?}: {e}"))?;
    let mut next = World::with(machine, pool, boot);
    let found = judge(&mut next, &moments, answered, kind)?;
    let open = std::mem::take(&mut next.open);
    next.found(found);
    next.open = open;
    *world = next;
    Ok(())
}

fn run(seed: u64, steps: u64, scale: Scale, crash_every: u64) {
    let mut g = Generator::new(seed, scale);
    let mut world = World::new(&format());
    for n in 0..steps {
        let step = world.random_step(&mut g, 12);
        match world.step(&step) {
            Ok(()) => {}
            Err(Trouble::Wrong(text)) => fail(seed, n, &world, &text),
            Err(Trouble::Refused(e)) => fail(seed, n, &world, &format!("{step:?} refused: {e}")),
        }
        if g.dice.below(97) == 0
            && let Err(t) = world.compare_all()
        {
            fail(seed, n, &world, &format!("{t:?}"));
        }
        if crash_every > 0 && g.dice.below(crash_every) == 0 {
            let kind = if g.dice.below(2) == 0 {
                Crash::Power
            } else {
                Crash::Process
            };
            let roll = g.dice.roll();
            let steps = world.last_steps();
            if let Err(text) = crash(&mut world, kind, roll) {
                panic!("seed {seed}, step {n}, {kind:?} crash: {text}\nlast steps:\n{steps}");
            }
        }
    }
    if let Err(t) = world.compare_all() {
        fail(seed, steps, &world, &format!("{t:?}"));
    }
    if let Err(t) = world.step(&Step::Reopen) {
        fail(seed, steps, &world, &format!("{t:?}"));
    }
    if let Err(t) = world.compare_all() {
        fail(
            seed,
            steps,
            &world,
            &format!("after the last reopen: {t:?}"),
        );
    }
}

#[test]
fn real_and_model_agree() {
    let steps = rig::number("COWFS_OPS", 1000);
    for seed in rig::seeds(1, 6) {
        eprintln!("seed {seed}");
        run(seed, steps, SCALE, 0);
    }
}

#[test]
fn real_and_model_agree_through_crashes() {
    let steps = rig::number("COWFS_OPS", 1000);
    for seed in rig::seeds(101, 8) {
        eprintln!("seed {seed}");
        run(
            seed,
            steps,
            Scale {
                inodes: 30,
                file: 200_000,
                write: 80_000,
                giants: true,
            },
            60,
        );
    }
}

/// The model itself, by its own rules: what the others rest on.
#[test]
fn the_model_keeps_its_own_rules() {
    use rig::ops::predict;
    use rig::state::{Body, State};
    let mut g = Generator::new(7, SCALE);
    let mut state = Arc::new(State::empty(0o755));
    let (mut ok, mut errors) = (0, 0);
    for n in 0..20_000u64 {
        let op = g.op(&state);
        let (next, reply, _) = predict(&state, &op, 10_000 + n);
        match reply {
            Ok(_) => ok += 1,
            Err(_) => errors += 1,
        }
        state = Arc::new(next);
        if n % 500 == 0 {
            for (ino, i) in &state.inodes {
                let names = state.inodes.values().filter_map(|d| match &d.body {
                    Body::Dir { names, .. } => Some(names.values().filter(|x| *x == ino).count()),
                    _ => None,
                });
                let names: usize = names.sum();
                match &i.body {
                    Body::Dir { names: inside, .. } if i.nlink > 0 => {
                        let dirs = inside.values().filter(|c| state.inodes[c].is_dir()).count();
                        assert_eq!(i.nlink as usize, 2 + dirs, "links of directory {ino}");
                        assert!(names == 1 || *ino == 1, "names of directory {ino}");
                    }
                    Body::Dir { .. } => assert_eq!(names, 0),
                    _ => assert_eq!(i.nlink as usize, names, "links of {ino}: {i:?}"),
                }
            }
        }
    }
    assert!(ok > 12_000 && errors > 1000, "{ok} {errors}");
}
