//! kill -9 of the real daemon at random moments, under load, through a real mount: what was closed,
//! fsynced or answered is there after the next mount, and the pool is clean.
//!
//! `COWFS_KILLS=n` sets how often, `COWFS_SEED=n` the dice.

mod commands;
mod common;

use commands::{World, alive, signal, wait_for};
use cowfs::device::faulty::Dice;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What one worker was promised. Paths are relative to the mount.
#[derive(Default, Clone)]
struct Promised {
    files: BTreeMap<String, Vec<u8>>,
    dirs: BTreeMap<String, u32>,
    links: BTreeMap<String, String>,
    /// Removed or renamed away: not there.
    gone: Vec<String>,
    /// A step that had no answer yet: these names may be in either state.
    uncertain: Vec<String>,
}

fn bytes(worker: u64, n: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice(worker << 32 | n);
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        out.extend_from_slice(&dice.roll().to_le_bytes());
    }
    out.truncate(len);
    out
}

/// Works in a directory of its own until the mount dies; notes what was answered.
fn work(root: &Path, worker: u64, round: u64, seed: u64, stop: &AtomicBool, p: &mut Promised) {
    let mut dice = Dice(seed ^ worker << 17);
    let dir = format!("w{worker}");
    let _ = fs::create_dir(root.join(&dir));
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let name = format!("{dir}/r{round}-{n}");
        p.uncertain = vec![name.clone()];
        if step(root, &name, worker, round * 100_000 + n, &mut dice, p).is_err() {
            return;
        }
        p.uncertain.clear();
    }
}

fn step(
    root: &Path,
    name: &str,
    worker: u64,
    n: u64,
    dice: &mut Dice,
    p: &mut Promised,
) -> std::io::Result<()> {
    let path = root.join(name);
    let existing: Vec<String> = p.files.keys().cloned().collect();
    let some = existing
        .get(dice.below(existing.len() as u64) as usize)
        .cloned();
    match (dice.below(12), some) {
        (0..=3, _) | (_, None) => {
            let len = [100, 5000, 70_000, 300_000][dice.below(4) as usize];
            let data = bytes(worker, n, dice.below(len) as usize + 1);
            let mut f = File::create(&path)?;
            f.write_all(&data)?;
            if dice.below(3) == 0 {
                f.sync_all()?;
            }
            // What was closed is promised, and close(2) says whether it went well.
            close(f)?;
            p.files.insert(name.into(), data);
        }
        (4, Some(old)) => {
            p.uncertain.push(old.clone());
            fs::rename(root.join(&old), &path)?;
            let data = p.files.remove(&old).unwrap_or_default();
            p.gone.push(old);
            p.files.insert(name.into(), data);
        }
        (5, Some(old)) => {
            p.uncertain.push(old.clone());
            fs::remove_file(root.join(&old))?;
            p.files.remove(&old);
            p.gone.push(old);
        }
        (6, Some(old)) => {
            // Overwrites a piece in place, then fsync.
            p.uncertain.push(old.clone());
            let mut data = p.files.get(&old).cloned().unwrap_or_default();
            let at = dice.below(data.len() as u64);
            let piece = bytes(worker, n, dice.below(20_000) as usize + 1);
            let f = File::options().write(true).open(root.join(&old))?;
            f.write_all_at(&piece, at)?;
            f.sync_data()?;
            close(f)?;
            data.resize(data.len().max(at as usize + piece.len()), 0);
            data[at as usize..at as usize + piece.len()].copy_from_slice(&piece);
            p.files.insert(old, data);
        }
        (7, Some(old)) => {
            p.uncertain.push(old.clone());
            let mut data = p.files.get(&old).cloned().unwrap_or_default();
            let size = dice.below(data.len() as u64 + 5000);
            let f = File::options().write(true).open(root.join(&old))?;
            f.set_len(size)?;
            close(f)?;
            data.resize(size as usize, 0);
            p.files.insert(old, data);
        }
        (8, _) => {
            fs::create_dir(&path)?;
            let mode = dice.below(0o1000) as u32 | 0o700;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            p.dirs.insert(name.into(), mode);
        }
        (9, _) => {
            symlink(format!("to {name}"), &path)?;
            p.links.insert(name.into(), format!("to {name}"));
        }
        (10, Some(old)) => {
            fs::hard_link(root.join(&old), &path)?;
            let data = p.files.get(&old).cloned().unwrap_or_default();
            // Two names of one file: later steps change only what is under one name, so both go.
            p.files.remove(&old);
            p.uncertain.push(old);
            let _ = data;
        }
        (_, Some(old)) => {
            let mut f = File::open(root.join(&old))?;
            let mut b = vec![0; 1000];
            f.seek(SeekFrom::Start(dice.below(5000)))?;
            let _ = f.read(&mut b)?;
        }
    }
    Ok(())
}

fn close(f: File) -> std::io::Result<()> {
    use std::os::fd::IntoRawFd;
    // SAFETY: the descriptor was ours alone and is not used again.
    match unsafe { libc::close(f.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn verify(root: &Path, p: &Promised) -> Result<(), String> {
    for (name, data) in &p.files {
        if p.uncertain.contains(name) {
            continue;
        }
        let real = fs::read(root.join(name)).map_err(|e| format!("{name}: {e}"))?;
        if real != *data {
            let at = real.iter().zip(data).position(|(a, b)| a != b);
            return Err(format!(
                "{name}: {} bytes, {} promised, first difference {at:?}",
                real.len(),
                data.len()
            ));
        }
    }
    for (name, mode) in &p.dirs {
        let m = fs::metadata(root.join(name)).map_err(|e| format!("{name}: {e}"))?;
        if !m.is_dir() || m.permissions().mode() & 0o7777 != *mode {
            return Err(format!(
                "{name}: mode {:o}, {mode:o} promised",
                m.permissions().mode()
            ));
        }
    }
    for (name, target) in &p.links {
        let real = fs::read_link(root.join(name)).map_err(|e| format!("{name}: {e}"))?;
        if real != Path::new(target) {
            return Err(format!("{name} -> {}", real.display()));
        }
    }
    for name in &p.gone {
        let there = fs::symlink_metadata(root.join(name)).is_ok();
        if there && !p.uncertain.contains(name) {
            return Err(format!("{name} was removed and is there"));
        }
    }
    Ok(())
}

#[test]
fn nothing_promised_is_lost() {
    if !common::need_fuse() {
        return;
    }
    let kills = std::env::var("COWFS_KILLS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(50u64);
    let seed = std::env::var("COWFS_SEED")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1u64);
    let world = World::with_image();
    world.sh("create base c").ok();
    let mount = PathBuf::from(world.mount_point("mnt"));
    let mut promised: Vec<Promised> = vec![Promised::default(); 3];
    let mut snapshots: Vec<String> = Vec::new();
    let mut dice = Dice(seed);
    for round in 0..kills {
        world.run(["mount", "c", mount.to_str().unwrap()]).ok();
        for (w, p) in promised.iter().enumerate() {
            if let Err(e) = verify(&mount, p) {
                panic!(
                    "round {round} (COWFS_SEED={seed}), worker {w}: {e}\nunder way: {:?}",
                    p.uncertain
                );
            }
        }
        for p in &mut promised {
            settle(&mount, p);
        }
        let daemon = world.daemon().expect("a daemon");
        let stop = Arc::new(AtomicBool::new(false));
        std::thread::scope(|s| {
            let workers: Vec<_> = promised
                .iter_mut()
                .enumerate()
                .map(|(w, p)| {
                    let (mount, stop) = (&mount, stop.clone());
                    let seed = seed << 20 ^ round;
                    s.spawn(move || work(mount, w as u64, round, seed, &stop, p))
                })
                .collect();
            std::thread::sleep(Duration::from_millis(dice.below(350) + 5));
            if round % 7 == 3 {
                let name = format!("c@s{round}");
                if world.run(["snapshot", &name]).code == Some(0) {
                    snapshots.push(name);
                }
            }
            if round % 11 == 8 && snapshots.len() > 2 {
                let name = snapshots.remove(0);
                world.run(["rm", &name]).ok();
            }
            signal(daemon, libc::SIGKILL);
            wait_for("the daemon's end", || !alive(daemon));
            stop.store(true, Ordering::Relaxed);
            // The dead connection gives every waiting call its error.
            workers.into_iter().for_each(|w| w.join().unwrap());
        });
        // Whatever is left of the mount is in the way of the next one.
        let _ = cowfs::fuse::unmount(&mount, cowfs::fuse::Unmount::Force);
        let checked = world.sh("pool check");
        assert_eq!(
            checked.code,
            Some(0),
            "round {round} (COWFS_SEED={seed}): {}{}",
            checked.text(),
            checked.err
        );
        let list = world.sh("list -a --format {{.Name}}").ok();
        for s in &snapshots {
            assert!(
                list.lines().any(|l| l.trim() == s),
                "round {round}: {s} is lost:\n{list}"
            );
        }
    }
}

/// What was under way when the daemon died is decided now: as it is found.
fn settle(root: &Path, p: &mut Promised) {
    for name in std::mem::take(&mut p.uncertain) {
        p.gone.retain(|g| *g != name);
        p.dirs.remove(&name);
        p.links.remove(&name);
        p.files.remove(&name);
        if let Ok(m) = fs::symlink_metadata(root.join(&name))
            && m.is_file()
            && let Ok(data) = fs::read(root.join(&name))
        {
            p.files.insert(name, data);
        }
    }
}
