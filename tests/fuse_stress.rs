//! Many at once through one mount, with snapshots taken meanwhile: what was closed before is whole in them.

mod common;

use common::{Mounted, TempPool, need_fuse};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const WRITERS: u64 = 4;

/// A file's content, told by its name.
fn content(writer: u64, n: u64) -> Vec<u8> {
    let mut x = writer << 32 | n | 1 << 60;
    let len = (x.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) % 200_000;
    (0..len)
        .map(|_| {
            x = x
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (x >> 56) as u8
        })
        .collect()
}

/// Creates, writes in pieces, renames into place, links, truncates, removes.
fn write(dir: &Path, writer: u64, stop: &AtomicBool) -> u64 {
    let mine = dir.join(format!("w{writer}"));
    fs::create_dir(&mine).unwrap();
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let data = content(writer, n);
        let part = mine.join("part");
        let mut file = File::create(&part).unwrap();
        for piece in data.chunks(7000) {
            file.write_all(piece).unwrap();
        }
        if n % 8 == 3 {
            file.sync_all().unwrap();
        }
        if n % 5 == 1 {
            // Too long, then cut.
            file.write_all(&[0xee; 5000]).unwrap();
            file.set_len(data.len() as u64).unwrap();
        }
        drop(file);
        fs::rename(&part, mine.join(format!("done-{n}"))).unwrap();
        if n % 3 == 0 {
            fs::hard_link(
                mine.join(format!("done-{n}")),
                mine.join(format!("link-{n}")),
            )
            .unwrap();
        }
        if n >= 20 {
            fs::remove_file(mine.join(format!("done-{}", n - 20))).unwrap();
            let _ = fs::remove_file(mine.join(format!("link-{}", n - 20)));
        }
        if n % 7 == 0 {
            let back = fs::read(mine.join(format!("done-{n}"))).unwrap();
            assert!(back == data, "w{writer}/done-{n}");
        }
        n += 1;
    }
    n
}

/// Everything there is what its name says; answers how many there were.
fn check(dir: &Path) -> usize {
    let mut checked = 0;
    for writer in 0..WRITERS {
        let Ok(list) = fs::read_dir(dir.join(format!("w{writer}"))) else {
            continue;
        };
        for entry in list {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let Some(n) = name.strip_prefix("done-").or(name.strip_prefix("link-")) else {
                continue;
            };
            let (want, got) = (
                content(writer, n.parse().unwrap()),
                fs::read(entry.path()).unwrap(),
            );
            assert!(
                got == want,
                "{:?}: {} bytes of {}",
                entry.path(),
                got.len(),
                want.len()
            );
            checked += 1;
        }
    }
    checked
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn snapshots_of_a_busy_mount() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let c = pool.container("c");
    let m = Mounted::new(c.clone(), "");
    let stop = AtomicBool::new(false);
    let seconds = std::env::var("COWFS_TEST_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(4);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut snapshots = 0;
    std::thread::scope(|s| {
        // However this ends, the others do.
        let stopping = Stop(&stop);
        let writers: Vec<_> = (0..WRITERS)
            .map(|w| (w, &stop))
            .map(|(w, stop)| {
                s.spawn({
                    let dir = m.path();
                    move || write(dir, w, stop)
                })
            })
            .collect();
        // One that writes a single file here and there, for ever dirty, through a mapping too.
        let mapped = s.spawn(|| {
            let file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(m.join("mapped"))
                .unwrap();
            file.set_len(4 << 20).unwrap();
            // SAFETY: the file is this thread's alone.
            let mut map = unsafe { memmap2::MmapMut::map_mut(&file).unwrap() };
            let mut x = 1usize;
            while !stop.load(Ordering::Relaxed) {
                x = x.wrapping_mul(1103515245).wrapping_add(12345) % (4 << 20);
                map[x] = x as u8;
                file.write_all_at(&[x as u8], (x as u64 / 2) | 1).unwrap();
            }
        });
        while Instant::now() < end && !writers.iter().any(|w| w.is_finished()) {
            cowfs::fuse::mount::flush(m.path()).unwrap();
            m.connection.flush_dirty();
            let snapshot = pool.clone_of(&c, &format!("c@{snapshots}"), true);
            let seen = Mounted::new(snapshot, "ro");
            check(seen.path());
            seen.unmount();
            // The last few stay, the others are taken apart beside the writers.
            if snapshots >= 3 {
                let old = pool
                    .pool
                    .find(&format!("c@{}", snapshots - 3))
                    .unwrap()
                    .unwrap();
                pool.pool.remove(old.id).unwrap();
            }
            snapshots += 1;
        }
        drop(stopping);
        let files: Vec<u64> = writers.into_iter().map(|w| w.join().unwrap()).collect();
        mapped.join().unwrap();
        println!("{snapshots} snapshots, {files:?} files");
        assert!(files.iter().all(|n| *n > 10), "{files:?}");
    });
    assert!(snapshots > 2);
    assert!(check(m.path()) > 0);
    m.unmount();
    pool.check();
    let again = Mounted::new(c, "ro");
    assert!(check(again.path()) > 0);
}
