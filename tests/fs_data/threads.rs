//! Many at once: files packed into the same chunks, snapshots and checkpoints meanwhile.

use crate::support::*;
use cowfs::fs::{Fallocate, Fs};
use cowfs::pool::Format;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const FILES: usize = 12;

/// One thread's files beside their models; nobody else touches them.
fn worker(fs: &Fs, name: &str, seed: u64, steps: usize) -> Vec<u64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let inos: Vec<_> = (0..FILES)
        .map(|i| file(fs, &format!("{name}{i}")))
        .collect();
    let mut models: Vec<Vec<u8>> = vec![vec![]; FILES];
    for step in 0..steps {
        let i = rng.random_range(0..FILES);
        let (ino, model) = (inos[i], &mut models[i]);
        match rng.random_range(0..10) {
            0..6 => {
                let offset = rng.random_range(0..60_000u64) / 512 * 512;
                let len = rng.random_range(1..20_000u64);
                let data = pattern(len, rng.next_u64());
                fs.write(ino, offset, &data, step % 2 == 0, false).unwrap();
                let end = (offset + len) as usize;
                if model.len() < end {
                    model.resize(end, 0);
                }
                model[offset as usize..end].copy_from_slice(&data);
            }
            6 => {
                let size = rng.random_range(0..50_000u64);
                truncate(fs, ino, size);
                model.resize(size as usize, 0);
            }
            7 => {
                let from = rng.random_range(0..40_000u64);
                fs.fallocate(ino, from..from + 9000, Fallocate::PunchHole)
                    .unwrap();
                let end = model.len().min(from as usize + 9000);
                if (from as usize) < end {
                    model[from as usize..end].fill(0);
                }
            }
            8 => {
                let source = rng.random_range(0..FILES);
                if source != i {
                    let n = fs.copy_range(inos[source], 0, ino, 0, 1 << 20).unwrap() as usize;
                    let copy = models[source].clone();
                    assert_eq!(n, copy.len());
                    let model = &mut models[i];
                    if model.len() < n {
                        model.resize(n, 0);
                    }
                    model[..n].copy_from_slice(&copy);
                }
            }
            _ => assert!(content(fs, ino) == *model, "{name}{i} at step {step}"),
        }
    }
    for (ino, model) in inos.iter().zip(&models) {
        assert!(content(fs, *ino) == *model, "{name}: {ino} at the end");
    }
    inos
}

fn run(seed: u64, chunk_size: u64) {
    let w = world(&Format {
        chunk_size,
        ..format()
    });
    let first = w.volume("a", None);
    // The second begins as a clone, so that the two share chunks.
    for i in 0..50 {
        write(
            &first,
            file(&first, &format!("base{i}")),
            0,
            &pattern(9000, i),
        );
    }
    let second = w.clone_of(&first, "b");
    let stop = AtomicBool::new(false);
    let inos: Vec<(Arc<Fs>, Vec<u64>)> = std::thread::scope(|scope| {
        let workers: Vec<_> = [(&first, "p"), (&first, "q"), (&first, "r"), (&second, "s")]
            .into_iter()
            .enumerate()
            .map(|(n, (fs, name))| {
                let fs = fs.clone();
                scope.spawn(move || (fs.clone(), worker(&fs, name, seed * 10 + n as u64, 800)))
            })
            .collect();
        scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                let source = if n % 2 == 0 { &first } else { &second };
                let clone = w.clone_of(source, &format!("clone{n}"));
                let id = clone.volume().id();
                let base = content(&clone, 2);
                assert!(base == pattern(9000, 0));
                drop(clone);
                w.pool.checkpoint().unwrap();
                w.pool.remove(id).unwrap();
                if n % 3 == 0 {
                    w.pool.checkpoint().unwrap();
                }
            }
        });
        let done = workers.into_iter().map(|h| h.join()).collect::<Vec<_>>();
        stop.store(true, Ordering::Relaxed);
        done.into_iter().map(|r| r.unwrap()).collect()
    });
    for fs in [&first, &second] {
        let mine = inos
            .iter()
            .filter(|(f, _)| Arc::ptr_eq(f, fs))
            .flat_map(|(_, i)| i.clone());
        let base = 2..52;
        balanced(fs, &base.chain(mine).collect::<Vec<_>>());
    }
    w.check();
}

#[test]
fn side_by_side() {
    for seed in 0..4 {
        run(seed, 64 << 10);
    }
}

#[test]
fn side_by_side_in_large_chunks() {
    run(77, 1 << 20);
}
