use super::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// The same random calls on a device and on a plain vector.
fn against_vector(device: &dyn Device, seed: u64) {
    run_against_vector(device, seed, true);
}

/// A block device need not read as zeros after a discard.
fn against_vector_without_discard(device: &dyn Device, seed: u64) {
    run_against_vector(device, seed, false);
}

fn run_against_vector(device: &dyn Device, seed: u64, discard: bool) {
    const LEN: usize = 300_000;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut model = vec![0u8; LEN];
    for _ in 0..400 {
        let from = rng.random_range(0..LEN);
        let to = rng.random_range(from..LEN.min(from + 20_000) + 1);
        match rng.random_range(0..10) {
            0..4 => {
                let bytes: Vec<u8> = (from..to).map(|_| rng.random()).collect();
                device.write_at(from as u64, &bytes).unwrap();
                model[from..to].copy_from_slice(&bytes);
            }
            4 if discard => {
                device.discard(from as u64..to as u64).unwrap();
                model[from..to].fill(0);
            }
            5 => device
                .sync_ranges(&[from as u64..to as u64, 0..100])
                .unwrap(),
            6 => device.sync().unwrap(),
            _ => {
                let mut buf = vec![1; to - from];
                device.read_at(from as u64, &mut buf).unwrap();
                assert!(buf == model[from..to], "{from}..{to}");
            }
        }
    }
    let mut all = vec![1; LEN];
    device.read_at(0, &mut all).unwrap();
    assert!(all == model);
    assert!(device.write_at(u64::MAX - 1, b"xyz").is_err());
}

#[test]
fn memory_is_a_vector() {
    against_vector(&MemDevice::new(), 1);
}

#[test]
fn memory_copies_are_apart() {
    let a = MemDevice::new();
    a.write_at(5, b"one").unwrap();
    let b = a.copy();
    a.write_at(5, b"two").unwrap();
    let mut buf = [0; 3];
    b.read_at(5, &mut buf).unwrap();
    assert_eq!(&buf, b"one");
}

#[test]
fn file_is_a_vector() {
    let dir = tempfile::tempdir().unwrap();
    let device = FileDevice::create(&dir.path().join("data")).unwrap();
    against_vector(&device, 2);
}

#[test]
fn file_keeps_bytes_when_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    FileDevice::create(&path)
        .unwrap()
        .write_at(10_000, b"kept")
        .unwrap();
    assert!(FileDevice::create(&path).is_err(), "made twice");
    let device = FileDevice::open_read_only(&path).unwrap();
    let mut buf = [0; 4];
    device.read_at(10_000, &mut buf).unwrap();
    assert_eq!(&buf, b"kept");
    assert!(device.write_at(0, b"x").is_err());
    device.read_at(1 << 40, &mut buf).unwrap();
    assert_eq!(buf, [0; 4]);
    assert!(FileDevice::open(dir.path()).is_err(), "a directory");
    assert!(FileDevice::open(&dir.path().join("none")).is_err());
}

#[test]
fn file_is_sparse_and_discard_gives_back() {
    let dir = tempfile::tempdir().unwrap();
    let device = FileDevice::create(&dir.path().join("data")).unwrap();
    device.write_at(1 << 35, &vec![7; 1 << 20]).unwrap();
    device.sync().unwrap();
    let real = device.usage().unwrap().real;
    assert!((1 << 20..2 << 20).contains(&real), "{real}");
    device.discard(1 << 35..(1 << 35) + (1 << 20)).unwrap();
    device.discard(1 << 50..1 << 51).unwrap();
    assert!(device.usage().unwrap().real < 1 << 17);
    assert!(device.usage().unwrap().host_free > 0);
}

#[test]
fn reserve_takes_space_and_keeps_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let device = FileDevice::create(&dir.path().join("log")).unwrap();
    device.write_at(3 << 20, b"there").unwrap();
    device.reserve(8 << 20).unwrap();
    assert!(device.usage().unwrap().real >= 8 << 20);
    let mut buf = [0; 5];
    device.read_at(3 << 20, &mut buf).unwrap();
    assert_eq!(&buf, b"there");
    let error = device.reserve(1 << 55).unwrap_err();
    assert!(
        matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EFBIG)),
        "{error}"
    );
}

#[test]
fn windows_see_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let device = FileDevice::create(&dir.path().join("data")).unwrap();
    let boundary = 1u64 << 30;
    assert!(device.window(boundary - 1..boundary + 1).is_none());
    assert!(device.window(5..5).is_none());
    device.write_at(boundary + 4096, b"mapped").unwrap();
    let w = device.window(boundary + 4096..boundary + 4102).unwrap();
    assert_eq!(w.len, 6);
    // SAFETY: six bytes of a live mapping, inside the file; nobody writes to it now.
    let bytes = unsafe { std::slice::from_raw_parts(w.ptr, w.len) };
    assert_eq!(bytes, b"mapped");
    // Past the end of the file: it is extended, so that the kernel finds zeros there.
    let w = device.window(boundary * 7 - 10..boundary * 7).unwrap();
    // SAFETY: as above.
    let bytes = unsafe { std::slice::from_raw_parts(w.ptr, w.len) };
    assert_eq!(bytes, [0; 10]);
    assert!(device.usage().unwrap().real < 1 << 20);
}

#[test]
fn growing_by_many_threads_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let device = Arc::new(FileDevice::create(&dir.path().join("data")).unwrap());
    let threads: Vec<_> = (0..4u64)
        .map(|t| {
            let device = device.clone();
            std::thread::spawn(move || {
                for i in 0..50u64 {
                    let at = (i * 4 + t) * (700 << 10);
                    device.write_at(at, &at.to_le_bytes()).unwrap();
                    device.window(at..at + 8).unwrap();
                }
            })
        })
        .collect();
    for t in threads {
        t.join().unwrap();
    }
    for i in 0..200u64 {
        let mut buf = [0; 8];
        device.read_at(i * (700 << 10), &mut buf).unwrap();
        assert_eq!(u64::from_le_bytes(buf), i * (700 << 10));
    }
}

/// A loop device over a file, for tests that need a block device; root only.
struct Loop(std::path::PathBuf);

impl Loop {
    fn new(file: &std::path::Path) -> Loop {
        let mut command = std::process::Command::new("losetup");
        let out = command
            .arg("--find")
            .arg("--show")
            .arg(file)
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
        Loop(String::from_utf8(out.stdout).unwrap().trim().into())
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = std::process::Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
    }
}

#[test]
#[ignore = "needs root and loop devices"]
fn a_block_device() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    FileDevice::create(&path)
        .unwrap()
        .write_at((8 << 20) - 1, &[0])
        .unwrap();
    let disk = Loop::new(&path);
    let device = FileDevice::create(&disk.0).unwrap();
    assert_eq!(device.capacity(), 8 << 20);
    assert!(FileDevice::open(&disk.0).is_err(), "opened twice");
    against_vector_without_discard(&device, 3);
    device.write_at(1 << 20, &[7; 8192]).unwrap();
    device
        .sync_ranges(&[0..512, 1 << 20..(1 << 20) + 8192])
        .unwrap();
    device.discard(1 << 20..(1 << 20) + 4096).unwrap();
    device.zero((1 << 20) + 4096..(1 << 20) + 8192).unwrap();
    let mut buf = [1; 4096];
    device.read_at((1 << 20) + 4096, &mut buf).unwrap();
    assert_eq!(buf, [0; 4096]);
    assert!(device.window(0..4096).is_some());
    assert!(device.window(8 << 20..(8 << 20) + 1).is_none());
    device.reserve(8 << 20).unwrap();
    assert!(device.reserve((8 << 20) + 1).is_err());
    let error = device.write_at((8 << 20) - 1, &[1, 2]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
    device.read_at((8 << 20) - 1, &mut buf).unwrap();
    assert_eq!(device.usage().unwrap().real, 8 << 20);
}

/// What others have written and not yet synced is not our business.
#[test]
#[ignore = "a measurement"]
fn ranged_sync() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let device = FileDevice::create(&dir.path().join("data")).unwrap();
    let time = |sync: &dyn Fn()| {
        let start = std::time::Instant::now();
        sync();
        start.elapsed()
    };
    device.write_at(1 << 30, &vec![1; 300 << 20]).unwrap();
    device.write_at(0, &[1; 4096]).unwrap();
    let ranged = time(&|| device.sync_ranges(&[0..4096, 8192..8193]).unwrap());
    let whole = time(&|| device.sync().unwrap());
    println!("4 KiB beside 300 MiB of others: ranged {ranged:?}, then whole {whole:?}");
}
