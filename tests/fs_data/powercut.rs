//! What a power cut brings back was not overwritten meanwhile: data written in place goes to the
//! device at once, the record that made its block private may be lost.

use crate::support::*;
use cowfs::base::Ino;
use cowfs::fs::Fs;
use cowfs::pool::{Config, NewVolume, Pool};
use std::sync::Arc;

/// The pool as a power cut leaves it now: all data is on the disk, records only up to the last mark.
fn cut(w: &World) -> Arc<Pool> {
    let boot = [2; 32];
    Pool::open(w.devices.clone(), Config { boot, ..config() }).unwrap()
}

fn start() -> (World, Arc<Fs>, Ino) {
    let w = world(&format());
    let fs = w.volume("v", None);
    let ino = file(&fs, "f");
    write(&fs, ino, 0, &pattern(256 * KB, 1));
    // Enough items for a tree of several levels.
    for i in 0..300 {
        write(&fs, file(&fs, &format!("other{i}")), 0, &pattern(1000, i));
    }
    (w, fs, ino)
}

#[test]
fn a_removed_snapshot_that_comes_back_is_whole() {
    // Between the removal and the write: nothing, a change elsewhere, many changes.
    for changes in [0, 1, 200] {
        let (w, fs, ino) = start();
        let source = Some(fs.volume().id());
        let snapshot = NewVolume {
            sealed: true,
            ..new_volume("s", source)
        };
        let id = w.pool.create(&snapshot).unwrap().id;
        w.pool.checkpoint().unwrap();
        w.pool.remove(id).unwrap();
        while w.pool.reclaim(100).unwrap() {}
        for i in 0..changes {
            write(&fs, file(&fs, &format!("new{i}")), 0, &pattern(1000, i));
        }
        write(&fs, ino, 0, &pattern(256 * KB, 2));
        fs.write(ino, 0, &pattern(256 * KB, 3), false, false)
            .unwrap();
        drop(fs);
        let pool = cut(&w);
        if pool.info(id).is_ok() {
            let snap = Fs::open(pool.volume(id).unwrap()).unwrap();
            assert!(content(&snap, ino) == pattern(256 * KB, 1), "{changes}");
        }
        assert!(pool.check(&|_, _| ()).unwrap().problems.is_empty());
    }
}

#[test]
fn a_clone_whose_write_is_lost_has_its_old_bytes() {
    for len in [4 * KB, 64 * KB, 256 * KB] {
        for changes in [0, 1, 200] {
            let (w, fs, ino) = start();
            let clone = w.clone_of(&fs, "c");
            let id = clone.volume().id();
            w.pool.checkpoint().unwrap();
            write(&clone, ino, 0, &pattern(len, 4));
            truncate(&clone, ino, 0);
            for i in 0..changes {
                write(&fs, file(&fs, &format!("new{i}")), 0, &pattern(1000, i));
            }
            write(&fs, ino, 0, &pattern(len, 5));
            fs.write(ino, 0, &pattern(len, 6), false, false).unwrap();
            drop((fs, clone));
            let pool = cut(&w);
            let clone = Fs::open(pool.volume(id).unwrap()).unwrap();
            assert!(
                content(&clone, ino) == pattern(256 * KB, 1),
                "{len} {changes}"
            );
            assert!(pool.check(&|_, _| ()).unwrap().problems.is_empty());
        }
    }
}

/// The same inside one volume, where copying shares chunks.
#[test]
fn a_copy_whose_write_is_lost_has_its_old_bytes() {
    let (w, fs, ino) = start();
    let copy = file(&fs, "copy");
    fs.copy_range(ino, 0, copy, 0, MB).unwrap();
    w.pool.checkpoint().unwrap();
    truncate(&fs, copy, 0);
    write(&fs, ino, 0, &pattern(256 * KB, 2));
    fs.write(ino, 0, &pattern(256 * KB, 3), false, false)
        .unwrap();
    let id = fs.volume().id();
    drop(fs);
    let pool = cut(&w);
    let fs = Fs::open(pool.volume(id).unwrap()).unwrap();
    assert!(content(&fs, copy) == pattern(256 * KB, 1));
}

/// Blocks freed and not yet durably so are not used again.
#[test]
fn a_truncation_that_is_lost_has_its_bytes() {
    let (w, fs, _) = start();
    let inos: Vec<Ino> = (0..64).map(|i| file(&fs, &format!("p{i}"))).collect();
    for ino in &inos {
        write(&fs, *ino, 0, &pattern(4 * KB, *ino));
    }
    w.pool.checkpoint().unwrap();
    for ino in inos.iter().step_by(2) {
        truncate(&fs, *ino, 0);
    }
    for i in 0..64 {
        write(&fs, file(&fs, &format!("q{i}")), 0, &pattern(4 * KB, 99));
    }
    let id = fs.volume().id();
    drop(fs);
    let pool = cut(&w);
    let fs = Fs::open(pool.volume(id).unwrap()).unwrap();
    for ino in &inos {
        assert!(content(&fs, *ino) == pattern(4 * KB, *ino));
    }
}
