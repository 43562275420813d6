//! Many threads in one volume, with checkpoints and snapshots beside them.

use crate::support::*;
use cowfs::base::ROOT_INO;
use cowfs::fs::RenameFlags;
use rand::{RngExt, SeedableRng};
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn names_change_from_many_sides() {
    let w = world();
    let dirs: Vec<_> = (0..4).map(|i| mkdir(&w.fs, &format!("d{i}"))).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|s| {
        let mut writers = Vec::new();
        for t in 0..4u64 {
            let (fs, dirs) = (&w.fs, &dirs);
            writers.push(s.spawn(move || {
                let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(t);
                for _ in 0..1500 {
                    let mut dir = || dirs[rng.random_range(0..dirs.len())];
                    let (a, b) = (dir(), dir());
                    let (n, m) = (rng.random_range(0..12), rng.random_range(0..12));
                    let (n, m) = (format!("n{n}"), format!("n{m}"));
                    let gone = match rng.random_range(0..8) {
                        0..=2 => fs
                            .mknod(a, n.as_bytes(), REG | 0o644, 0, &ROOT)
                            .err()
                            .map(|_| 0),
                        3 => fs.mkdir(a, n.as_bytes(), 0o755, &ROOT).err().map(|_| 0),
                        4 => fs
                            .unlink(a, n.as_bytes())
                            .ok()
                            .filter(|g| g.nlink == 0)
                            .map(|g| g.ino),
                        5 => fs.rmdir(a, n.as_bytes()).ok().map(|g| g.ino),
                        6 => match fs.lookup(a, n.as_bytes()) {
                            Ok(found) => fs.link(found.ino, b, m.as_bytes()).err().map(|_| 0),
                            Err(_) => None,
                        },
                        _ => {
                            let flags = RenameFlags {
                                exchange: rng.random(),
                                ..Default::default()
                            };
                            let over = fs.rename(a, n.as_bytes(), b, m.as_bytes(), flags);
                            over.ok().flatten().filter(|g| g.nlink == 0).map(|g| g.ino)
                        }
                    };
                    if let Some(ino) = gone.filter(|ino| *ino != 0) {
                        fs.forget(ino).unwrap();
                    }
                }
            }));
        }
        let (w, stop, dirs) = (&w, &stop, &dirs);
        s.spawn(move || {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                w.pool.checkpoint().unwrap();
                // Whole operations only, whenever it is taken.
                consistent(&w.clone_as(&format!("c@{n}"), true));
                n += 1;
            }
        });
        s.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                for dir in dirs {
                    w.fs.readdir(*dir, 0, true, &mut |_, _| true).unwrap();
                }
            }
        });
        for writer in writers {
            writer.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    consistent(&w.fs);
    w.check();
    let w = w.crash();
    consistent(&w.fs);
    w.check();
    assert_eq!(w.fs.attr(ROOT_INO).unwrap().nlink, 6);
}

/// Only one of two who make the same name does it.
#[test]
fn one_wins() {
    let w = world();
    for round in 0..50 {
        let name = format!("n{round}");
        let made: usize = std::thread::scope(|s| {
            let each = || w.fs.mknod(ROOT_INO, name.as_bytes(), REG, 0, &ROOT).is_ok() as usize;
            let threads: Vec<_> = (0..4).map(|_| s.spawn(each)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(made, 1);
    }
    assert_eq!(w.inodes(), 51);
}
