//! Measurements through the library, without a kernel between: run with
//! `cargo test --release --test fs_data speed -- --ignored --nocapture`.

use crate::support::*;
use cowfs::base::Ino;
use cowfs::fs::Fs;
use cowfs::pool::Format;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

fn rate(what: &str, count: u64, bytes: u64, mut f: impl FnMut(u64)) {
    let start = Instant::now();
    for i in 0..count {
        f(i);
    }
    let time = start.elapsed().as_secs_f64();
    let each = time * 1e6 / count as f64;
    let mb = (count * bytes) as f64 / MB as f64 / time;
    println!("{what:44} {each:9.2} us each {mb:9.0} MB/s");
}

/// The n-th of `count` places, all over and none twice.
fn scattered(i: u64, count: u64) -> u64 {
    (i * 7919 + 13) % count
}

fn small_files(fs: &Fs, name: &str, count: u64, bytes: u64) -> Vec<Ino> {
    let data = pattern(bytes, 5);
    let mut inos = Vec::new();
    rate(
        &format!("{count} files of {bytes} bytes"),
        count,
        bytes,
        |i| {
            let ino = file(fs, &format!("{name}{i}"));
            fs.write(ino, 0, &data, false, false).unwrap();
            inos.push(ino);
        },
    );
    inos
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let dir = std::env::var_os("COWFS_SPEED_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(dir).unwrap();
    let format = Format {
        log_size: 32 * MB,
        ..Format::default()
    };
    let w = on(files(dir.path()), &format);
    let fs = w.volume("v", None);
    let big = 512;
    let data = pattern(MB, 1);
    let block = pattern(4 * KB, 2);
    let ino = file(&fs, "big");
    let write = |fs: &Arc<Fs>, ino, at, data: &[u8]| {
        fs.write(ino, at, data, false, false).unwrap();
    };
    rate("write 1 MiB, new", big, MB, |i| {
        write(&fs, ino, i * MB, &data)
    });
    rate("write 1 MiB, over private", big, MB, |i| {
        write(&fs, ino, i * MB, &data)
    });
    let blocks = big * 256;
    rate(
        "write 4 KiB, over private, scattered",
        50_000,
        4 * KB,
        |i| {
            write(&fs, ino, scattered(i, blocks) * BLOCK, &block);
        },
    );
    rate("read 1 MiB, window", big, MB, |i| {
        fs.read_with(ino, i * MB, MB as usize, |b| b.len()).unwrap();
    });
    let mut buf = vec![0; MB as usize];
    rate("read 1 MiB, copied", big, MB, |i| {
        fs.read(ino, i * MB, &mut buf).unwrap();
    });
    rate("read 4 KiB, window, scattered", 100_000, 4 * KB, |i| {
        let at = scattered(i, blocks) * BLOCK;
        fs.read_with(ino, at, 4096, |b| b.len()).unwrap();
    });
    let log = file(&fs, "log");
    rate("append 4 KiB", 20_000, 4 * KB, |i| {
        write(&fs, log, i * BLOCK, &block)
    });
    rate("append 100 bytes", 20_000, 100, |i| {
        write(&fs, log, 20_000 * BLOCK + i * 100, &block[..100])
    });
    let inos = small_files(&fs, "t", 10_000, 1000);
    let packed = small_files(&fs, "p", 10_000, 10_000);
    rate("read a file of 1000 bytes", 10_000, 1000, |i| {
        fs.read_with(inos[i as usize], 0, 4096, |b| b.len())
            .unwrap();
    });
    rate("read a file of 10000 bytes", 10_000, 10_000, |i| {
        fs.read_with(packed[i as usize], 0, 16384, |b| b.len())
            .unwrap();
    });
    w.pool.checkpoint().unwrap();
    let clone = w.clone_of(&fs, "c");
    rate("write 4 KiB, over shared, scattered", 20_000, 4 * KB, |i| {
        write(&clone, ino, scattered(i, blocks) * BLOCK, &block);
    });
    let second = w.clone_of(&fs, "d");
    rate("write 4 KiB, over shared, in order", 20_000, 4 * KB, |i| {
        write(&second, ino, i * BLOCK, &block);
    });
    rate("write 1 MiB, over shared", big - 100, MB, |i| {
        write(&second, ino, (i + 100) * MB, &data)
    });
    rate("read 1 MiB of scattered pieces", big, MB, |i| {
        clone
            .read_with(ino, i * MB, MB as usize, |b| b.len())
            .unwrap();
    });
    w.pool.checkpoint().unwrap();
    rate("write 4 KiB over private and sync", 300, 4 * KB, |i| {
        write(&fs, ino, scattered(i, blocks) * BLOCK, &block);
        fs.fsync(ino).unwrap();
    });
    let third = w.clone_of(&fs, "e");
    rate("write 4 KiB over shared and sync", 300, 4 * KB, |i| {
        write(&third, ino, scattered(i, blocks) * BLOCK, &block);
        third.fsync(ino).unwrap();
    });
    rate("truncate 512 MiB to nothing", 1, big * MB, |_| {
        truncate(&fs, ino, 0)
    });
    rate("truncate it where it is scattered", 1, big * MB, |_| {
        truncate(&clone, ino, 0)
    });
    w.check();
}

#[test]
#[ignore = "a measurement"]
fn small() {
    for mem in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let w = if mem {
            world(&format())
        } else {
            on(files(dir.path()), &format())
        };
        let fs = w.volume("v", None);
        for round in 0..3 {
            small_files(&fs, &format!("p{round}-"), 10_000, 10_000);
            small_files(&fs, &format!("q{round}-"), 10_000, 4096);
        }
    }
}
