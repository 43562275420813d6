//! Random operations beside plain byte vectors: several files in several cloned volumes.

use crate::support::*;
use cowfs::base::{Ino, VolumeId};
use cowfs::fs::{Fallocate, Fs, Seek};
use cowfs::pool::{Format, Pool};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

#[derive(Clone)]
struct File {
    ino: Ino,
    bytes: Vec<u8>,
}

struct Volume {
    id: VolumeId,
    fs: Arc<Fs>,
    files: Vec<File>,
}

struct Test {
    world: World,
    rng: ChaCha8Rng,
    volumes: Vec<Volume>,
    named: u64,
    max: u64,
    seed: u64,
}

impl Test {
    fn new(seed: u64, format: &Format, max: u64) -> Test {
        Test::on(world(format), seed, max)
    }

    fn on(world: World, seed: u64, max: u64) -> Test {
        let fs = world.volume("v", None);
        let files = (0..4).map(|i| File {
            ino: file(&fs, &format!("f{i}")),
            bytes: vec![],
        });
        let files = files.collect();
        let volumes = vec![Volume {
            id: fs.volume().id(),
            fs,
            files,
        }];
        Test {
            world,
            rng: ChaCha8Rng::seed_from_u64(seed),
            volumes,
            named: 0,
            max,
            seed,
        }
    }

    /// An offset or a length: often aligned, often small.
    fn number(&mut self, max: u64) -> u64 {
        let n = match self.rng.random_range(0..4) {
            0 => self.rng.random_range(0..=max),
            1 => self.rng.random_range(0..=max.min(10_000)),
            _ => self.rng.random_range(0..=max / BLOCK) * BLOCK,
        };
        if self.rng.random_range(0..4) == 0 {
            n / (64 * KB) * (64 * KB)
        } else {
            n
        }
    }

    fn step(&mut self) {
        let v = self.rng.random_range(0..self.volumes.len());
        let f = self.rng.random_range(0..4);
        let (offset, len) = (self.number(self.max), self.number(200 * KB) + 1);
        let end = offset + len;
        let what = self.rng.random_range(0..100);
        let seed = self.rng.next_u64();
        let other = (f + self.rng.random_range(0..4)) % 4;
        let target = self.number(self.max);
        let volume = &mut self.volumes[v];
        let fs = volume.fs.clone();
        let File { ino, bytes } = &mut volume.files[f];
        let ino = *ino;
        let fill = |bytes: &mut Vec<u8>, size: u64| {
            if (bytes.len() as u64) < size {
                bytes.resize(size as usize, 0);
            }
        };
        match what {
            0..40 => {
                let data = pattern(len, seed);
                fs.write(ino, offset, &data, seed.is_multiple_of(2), false)
                    .unwrap();
                fill(bytes, end);
                bytes[offset as usize..end as usize].copy_from_slice(&data);
            }
            40..50 => {
                // Appends.
                let data = pattern(len % 9000, seed);
                fs.write(ino, bytes.len() as u64, &data, false, false)
                    .unwrap();
                bytes.extend_from_slice(&data);
            }
            50..58 => {
                truncate(&fs, ino, offset);
                bytes.resize(offset as usize, 0);
            }
            58..66 => {
                fs.fallocate(ino, offset..end, Fallocate::PunchHole)
                    .unwrap();
                let end = (end as usize).min(bytes.len());
                if (offset as usize) < end {
                    bytes[offset as usize..end].fill(0);
                }
            }
            66..71 => {
                let keep_size = seed.is_multiple_of(2);
                fs.fallocate(ino, offset..end, Fallocate::ZeroRange { keep_size })
                    .unwrap();
                if !keep_size {
                    fill(bytes, end);
                }
                let end = (end as usize).min(bytes.len());
                if (offset as usize) < end {
                    bytes[offset as usize..end].fill(0);
                }
            }
            71..77 => {
                let keep_size = seed.is_multiple_of(2);
                fs.fallocate(ino, offset..end, Fallocate::Allocate { keep_size })
                    .unwrap();
                if !keep_size {
                    fill(bytes, end);
                }
            }
            77..87 => {
                let len = len * 2;
                let source = volume.files[other].clone();
                let want = len.min((source.bytes.len() as u64).saturating_sub(offset));
                if other == f && offset < target + want && target < offset + want {
                    let r = fs.copy_range(source.ino, offset, ino, target, len);
                    assert_eq!(errno(r), libc::EINVAL);
                    return;
                }
                let n = fs.copy_range(source.ino, offset, ino, target, len).unwrap();
                assert_eq!(n, want);
                if n > 0 {
                    let bytes = &mut volume.files[f].bytes;
                    fill(bytes, target + n);
                    let from = &source.bytes[offset as usize..(offset + n) as usize];
                    bytes[target as usize..(target + n) as usize].copy_from_slice(from);
                }
            }
            87..92 if self.volumes.len() < 5 => {
                self.named += 1;
                let fs = self.world.clone_of(&fs, &format!("c{}", self.named));
                let files = self.volumes[v].files.clone();
                self.volumes.push(Volume {
                    id: fs.volume().id(),
                    fs,
                    files,
                });
            }
            92..94 if self.volumes.len() > 2 => {
                let gone = self.volumes.swap_remove(v);
                drop(fs);
                drop(gone.fs);
                self.world.pool.remove(gone.id).unwrap();
            }
            94..97 => self.world.pool.checkpoint().unwrap(),
            97 => fs.fsync(ino).unwrap(),
            _ => self.look(v, f, offset, len),
        }
    }

    /// Reads a part, and seeks.
    fn look(&self, v: usize, f: usize, offset: u64, len: u64) {
        let Volume { fs, files, .. } = &self.volumes[v];
        let File { ino, bytes } = &files[f];
        let size = bytes.len() as u64;
        let end = (offset + len).min(size).max(offset.min(size)) as usize;
        let want = &bytes[offset.min(size) as usize..end];
        assert!(
            fs.read_with(*ino, offset, len as usize, |b| b == want)
                .unwrap()
        );
        let data = fs.seek(*ino, offset, Seek::Data);
        let hole = fs.seek(*ino, offset, Seek::Hole);
        if offset >= size {
            assert_eq!((errno(data), errno(hole)), (libc::ENXIO, libc::ENXIO));
            return;
        }
        let zero = |from: u64, to: u64| bytes[from as usize..to as usize].iter().all(|b| *b == 0);
        match data {
            Ok(data) => assert!(data >= offset && data < size && zero(offset, data)),
            Err(e) => assert!(e.errno() == libc::ENXIO && zero(offset, size)),
        }
        let hole = hole.unwrap();
        assert!(hole >= offset && hole <= size);
    }

    fn compare(&self) {
        for (n, v) in self.volumes.iter().enumerate() {
            for (i, f) in v.files.iter().enumerate() {
                let have = content(&v.fs, f.ino);
                if have != f.bytes {
                    let at = have.iter().zip(&f.bytes).position(|(a, b)| a != b);
                    panic!(
                        "seed {} volume {n} file {i}: {} bytes, want {}; first difference {at:?}",
                        self.seed,
                        have.len(),
                        f.bytes.len(),
                    );
                }
            }
            balanced(&v.fs, &v.files.iter().map(|f| f.ino).collect::<Vec<_>>());
        }
        self.world.check();
    }

    /// Closes, or just lets go as a crash of the process would, and opens again.
    fn reopen(&mut self, close: bool) {
        let kept: Vec<_> = self.volumes.drain(..).map(|v| (v.id, v.files)).collect();
        if close {
            self.world.pool.close().unwrap();
        }
        self.world.pool = Pool::open(self.world.devices.clone(), config()).unwrap();
        for (id, files) in kept {
            self.volumes.push(Volume {
                id,
                fs: self.world.open(id),
                files,
            });
        }
    }

    /// Files whose every block is somewhere else.
    fn fragment(&mut self) {
        for i in 0..1000 {
            for v in &mut self.volumes {
                for f in &mut v.files[..2] {
                    let at = (i * 7919 % 1000) * BLOCK;
                    let data = pattern(BLOCK, at ^ f.ino);
                    v.fs.write(f.ino, at, &data, false, false).unwrap();
                    let end = (at + BLOCK) as usize;
                    if f.bytes.len() < end {
                        f.bytes.resize(end, 0);
                    }
                    f.bytes[at as usize..end].copy_from_slice(&data);
                }
            }
        }
    }

    fn run(&mut self, batches: usize, steps: usize) {
        self.run_batches(batches, steps);
        self.delete_all();
    }

    fn run_batches(&mut self, batches: usize, steps: usize) {
        for batch in 0..batches {
            for _ in 0..steps {
                self.step();
            }
            self.compare();
            if batch % 2 == 1 {
                self.reopen(batch % 4 == 1);
                self.compare();
            }
        }
    }

    /// In the end nothing is left.
    fn delete_all(&mut self) {
        for v in &self.volumes {
            for i in 0..4 {
                v.fs.unlink(cowfs::base::ROOT_INO, format!("f{i}").as_bytes())
                    .unwrap();
                v.fs.forget(v.files[i].ino).unwrap();
            }
            assert_eq!(v.fs.volume().usage().0, 0);
        }
        for _ in 0..200 {
            self.world.pool.checkpoint().unwrap();
            if self.world.pool.status().unwrap().reclaiming == 0 {
                break;
            }
        }
        self.world.check();
        // Containers removed meanwhile may still wait for the reclaimer.
        if self.world.pool.status().unwrap().reclaiming == 0 {
            assert_eq!(self.world.chunks(), 0);
        }
    }
}

#[test]
fn files_equal_byte_vectors() {
    for seed in seeds(0, 6) {
        Test::new(seed, &format(), 700 * KB).run(8, 60);
    }
}

#[test]
fn with_large_chunks() {
    for seed in seeds(100, 3) {
        let format = Format {
            chunk_size: 512 << 10,
            ..format()
        };
        Test::new(seed, &format, 3 * MB).run(4, 60);
    }
}

/// The ring is full again and again, in the middle of operations of many steps.
#[test]
fn with_a_small_ring() {
    for seed in seeds(500, 2) {
        let format = Format {
            log_size: MB,
            ..format()
        };
        let mut test = Test::new(seed, &format, 4 * MB);
        for _ in 0..3 {
            test.fragment();
            test.run_batches(2, 20);
        }
        test.delete_all();
    }
}

/// On files, where reads are answered from mapped windows and freed chunks are punched.
#[test]
fn on_files() {
    for seed in seeds(400, 2) {
        let dir = tempfile::tempdir().unwrap();
        let world = on(files(dir.path()), &format());
        Test::on(world, seed, 700 * KB).run(6, 60);
    }
}

#[test]
fn small_files() {
    for seed in seeds(200, 6) {
        Test::new(seed, &format(), 20 * KB).run(6, 100);
    }
}

/// In a pool that is nearly full operations fail with ENOSPC and change nothing else.
#[test]
fn nearly_full() {
    for seed in seeds(300, 3) {
        let world = world(&Format {
            size: 2 * MB,
            ..format()
        });
        let fs = world.volume("v", None);
        let inos: Vec<Ino> = (0..6).map(|i| file(&fs, &format!("f{i}"))).collect();
        let mut bytes: Vec<Vec<u8>> = vec![vec![]; 6];
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut refused = 0;
        for _ in 0..400 {
            let i = rng.random_range(0..6);
            let offset = rng.random_range(0..MB) / BLOCK * BLOCK;
            let len = rng.random_range(1..20u64) * BLOCK;
            if rng.random_range(0..12) == 0 {
                truncate(&fs, inos[i], offset / 4);
                bytes[i].resize(offset as usize / 4, 0);
                continue;
            }
            let data = pattern(len, rng.next_u64());
            match fs.write(inos[i], offset, &data, true, false) {
                Ok(()) => {
                    let end = (offset + len) as usize;
                    if bytes[i].len() < end {
                        bytes[i].resize(end, 0);
                    }
                    bytes[i][offset as usize..end].copy_from_slice(&data);
                }
                Err(e) => {
                    assert_eq!(e.errno(), libc::ENOSPC);
                    refused += 1;
                    // Whatever was written before it failed is the file now.
                    bytes[i] = content(&fs, inos[i]);
                }
            }
        }
        assert!(refused > 0);
        for (ino, bytes) in inos.iter().zip(&bytes) {
            assert!(content(&fs, *ino) == *bytes);
        }
        balanced(&fs, &inos);
        world.check();
        for ino in &inos {
            truncate(&fs, *ino, 0);
        }
        world.pool.checkpoint().unwrap();
        world.pool.checkpoint().unwrap();
        assert_eq!(world.chunks(), 0);
        write(&fs, inos[0], 0, &pattern(2 * MB, 1));
        world.check();
    }
}

/// The seeds of a test: a few, or as many times more as COWFS_TEST_SEEDS says.
fn seeds(first: u64, count: u64) -> impl Iterator<Item = u64> {
    let times = std::env::var("COWFS_TEST_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1);
    (0..count * times).map(move |i| {
        if i < count {
            first + i
        } else {
            1000 * (first + 1) + i
        }
    })
}
