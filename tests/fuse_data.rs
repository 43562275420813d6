//! Files' content through a real mount: what the kernel keeps back, and what reaches us when.

mod common;

use common::{Mounted, TempPool, need_fuse, need_program};
use cowfs::fuse::Request;
use rustix::fs::{FallocateFlags, SeekFrom, XattrFlags, fallocate, lsetxattr, seek};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed | 1;
    (0..len)
        .map(|_| {
            x = x
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (x >> 56) as u8
        })
        .collect()
}

#[test]
fn what_was_written_is_there_after_umount() {
    if !need_fuse() {
        return;
    }
    let mut pool = TempPool::new();
    let c = pool.container("c");
    let id = c.volume().id();
    let m = Mounted::new(c, "");
    let sizes = [
        0usize,
        1,
        100,
        4095,
        4096,
        4097,
        40_000,
        65_536,
        65_537,
        3 << 20,
    ];
    for (n, len) in sizes.iter().enumerate() {
        fs::write(m.join(format!("f{n}")), pattern(*len, n as u64)).unwrap();
    }
    // Not even closed: umount(2) itself sends what the kernel keeps, and waits for us to take it.
    let mut open = File::create(m.join("unclosed")).unwrap();
    open.write_all(&pattern(5 << 20, 99)).unwrap();
    drop(open);
    m.unmount();
    pool.check();
    pool.reopen();
    let m = Mounted::new(
        cowfs::fs::Fs::open(pool.pool.volume(id).unwrap()).unwrap(),
        "ro",
    );
    for (n, len) in sizes.iter().enumerate() {
        assert!(
            fs::read(m.join(format!("f{n}"))).unwrap() == pattern(*len, n as u64),
            "{len} bytes"
        );
    }
    assert!(fs::read(m.join("unclosed")).unwrap() == pattern(5 << 20, 99));
}

#[test]
fn truncation_on_open_is_not_lost() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let c = pool.container("c");
    let m = Mounted::new(c.clone(), "");
    let f = m.join("f");
    fs::write(&f, pattern(100_000, 1)).unwrap();
    fs::write(&f, "short").unwrap();
    assert_eq!(fs::read(&f).unwrap(), b"short");
    File::options().write(true).truncate(true).open(&f).unwrap();
    assert_eq!(fs::metadata(&f).unwrap().len(), 0);
    let ino = fs::metadata(&f).unwrap().ino();
    assert_eq!(c.attr(ino).unwrap().size, 0);
    let grown = File::options().write(true).open(&f).unwrap();
    grown.set_len(10_000).unwrap();
    grown.write_all_at(b"end", 9_997).unwrap();
    let read = fs::read(&f).unwrap();
    assert!(
        read.len() == 10_000 && read[..9_997].iter().all(|b| *b == 0) && read.ends_with(b"end")
    );
}

#[test]
fn writes_are_kept_back_until_close() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let c = pool.container("c");
    let m = Mounted::new(c.clone(), "");
    let mut f = File::create(m.join("f")).unwrap();
    let ino = f.metadata().unwrap().ino();
    for _ in 0..1000 {
        f.write_all(&[7; 100]).unwrap();
    }
    assert_eq!(
        m.connection.counters().get(Request::Write),
        0,
        "in the kernel's cache"
    );
    assert!(
        m.connection.counters().get(Request::Getxattr) <= 1,
        "killpriv v2: no look for capabilities at each write"
    );
    assert_eq!(
        fs::metadata(m.join("f")).unwrap().len(),
        100_000,
        "everybody on the mount sees it"
    );
    drop(f);
    assert_eq!(c.attr(ino).unwrap().size, 100_000, "closed: ours");
    assert_eq!(
        m.connection.counters().get(Request::Write),
        1,
        "in one request"
    );
}

#[test]
fn the_kernels_times_stand() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let c = pool.container("c");
    let m = Mounted::new(c.clone(), "");
    let f = m.join("f");
    let mut file = File::create(&f).unwrap();
    file.write_all(b"content").unwrap();
    // tar and rsync do so: write, set the time, close. The late WRITE must not set it to now.
    let then = std::time::UNIX_EPOCH + Duration::new(1_000_000_000, 5);
    file.set_modified(then).unwrap();
    drop(file);
    let ino = fs::metadata(&f).unwrap().ino();
    assert_eq!(fs::metadata(&f).unwrap().modified().unwrap(), then);
    assert_eq!(c.attr(ino).unwrap().mtime, then.into());
    m.unmount();
    assert_eq!(c.attr(ino).unwrap().mtime, then.into());
}

#[test]
fn data_not_yet_sent_is_no_hole() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    let mut f = File::create_new(m.join("f")).unwrap();
    f.write_all(&pattern(64 << 10, 3)).unwrap();
    assert!(
        f.metadata().unwrap().blocks() > 0,
        "tar --sparse takes 0 for one great hole"
    );
    assert_eq!(seek(&f, SeekFrom::Data(0)), Ok(0));
    assert_eq!(seek(&f, SeekFrom::Hole(0)), Ok(64 << 10));
    assert_eq!(seek(&f, SeekFrom::Data(64 << 10)), Err(Errno::NXIO));
    // Through a mapping too: no write(2) at all.
    f.set_len(1 << 20).unwrap();
    // SAFETY: the file is this test's alone.
    let mut map = unsafe {
        memmap2::MmapMut::map_mut(
            &File::options()
                .read(true)
                .write(true)
                .open(m.join("f"))
                .unwrap(),
        )
        .unwrap()
    };
    map[512 << 10] = 1;
    assert_eq!(seek(&f, SeekFrom::Data(128 << 10)), Ok(512 << 10));
    assert_eq!(seek(&f, SeekFrom::Hole(512 << 10)), Ok((512 << 10) + 4096));
    drop(map);
    assert!(m.connection.counters().get(Request::Lseek) >= 4);
}

#[test]
fn holes_are_found_and_kept() {
    if !need_fuse() || !need_program("cp") || !need_program("tar") {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    let f = File::create_new(m.join("f")).unwrap();
    f.set_len(50 << 20).unwrap();
    f.write_all_at(&pattern(4096, 1), 10 << 20).unwrap();
    f.write_all_at(&pattern(100_000, 2), 40 << 20).unwrap();
    let run = |line: &str| {
        let out = Command::new("sh")
            .args(["-ec", line])
            .current_dir(m.path())
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
    };
    // Still open and not sent: cp and tar must get it all.
    run("cp --sparse=always f g && cmp f g && cp --sparse=auto f h && cmp f h");
    run("tar -S -cf t.tar f && mkdir x && tar -S -xf t.tar -C x && cmp f x/f");
    drop(f);
    for name in ["f", "g", "h", "x/f"] {
        let s = fs::metadata(m.join(name)).unwrap();
        assert!(
            s.blocks() * 512 < 1 << 20,
            "{name} takes {} blocks",
            s.blocks()
        );
    }
    m.unmount();
    pool.check();
}

#[test]
fn space_calls() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    let f = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(m.join("f"))
        .unwrap();
    f.write_all_at(&pattern(1 << 20, 4), 0).unwrap();
    fallocate(
        &f,
        FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
        256 << 10,
        512 << 10,
    )
    .unwrap();
    let mut read = vec![1; 1 << 20];
    f.read_exact_at(&mut read, 0).unwrap();
    let mut want = pattern(1 << 20, 4);
    want[256 << 10..768 << 10].fill(0);
    assert!(read == want);
    f.sync_all().unwrap();
    assert!(f.metadata().unwrap().blocks() * 512 <= 768 << 10);
    fallocate(&f, FallocateFlags::ZERO_RANGE, 0, 5000).unwrap();
    f.read_exact_at(&mut read[..8192], 0).unwrap();
    want[..5000].fill(0);
    assert!(read[..8192] == want[..8192]);
    fallocate(&f, FallocateFlags::empty(), 0, 2 << 20).unwrap();
    assert_eq!(f.metadata().unwrap().len(), 2 << 20);
    fallocate(&f, FallocateFlags::KEEP_SIZE, 2 << 20, 1 << 20).unwrap();
    assert_eq!(f.metadata().unwrap().len(), 2 << 20);
    assert_eq!(
        fallocate(&f, FallocateFlags::COLLAPSE_RANGE, 0, 4096),
        Err(Errno::OPNOTSUPP)
    );
    drop(f);
    m.unmount();
    pool.check();
}

#[test]
fn copies_inside_the_file_system() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    let data = pattern(8 << 20, 5);
    fs::write(m.join("a"), &data).unwrap();
    pool.pool.sync().unwrap();
    let before = pool.pool.status().unwrap().data.used;
    let (a, b) = (
        File::open(m.join("a")).unwrap(),
        File::create_new(m.join("b")).unwrap(),
    );
    let (mut from, mut to) = (0, 0);
    while from < data.len() as u64 {
        let n =
            rustix::fs::copy_file_range(&a, Some(&mut from), &b, Some(&mut to), 64 << 20).unwrap();
        assert!(n > 0);
    }
    assert_eq!(
        rustix::fs::copy_file_range(&a, Some(&mut from), &b, Some(&mut to), 1),
        Ok(0)
    );
    assert!(fs::read(m.join("b")).unwrap() == data);
    assert!(m.connection.counters().get(Request::CopyFileRange) >= 1);
    pool.pool.sync().unwrap();
    assert!(
        pool.pool.status().unwrap().data.used < before + (1 << 20),
        "shared, not copied"
    );
    // The copy is one's own.
    File::options()
        .write(true)
        .open(m.join("b"))
        .unwrap()
        .write_all_at(b"changed", 100)
        .unwrap();
    assert!(fs::read(m.join("a")).unwrap() == data);
    drop((a, b));
    m.unmount();
    pool.check();
}

#[test]
fn direct_io_beside_the_cache() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    let data = pattern(1 << 20, 6);
    fs::write(m.join("f"), &data).unwrap();
    let direct = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(m.join("f"))
        .unwrap();
    let mut read = vec![0; 1 << 20];
    direct.read_exact_at(&mut read, 0).unwrap();
    assert!(read == data);
    let before = m.connection.counters().get(Request::Write);
    direct.write_all_at(&pattern(8192, 7), 4096).unwrap();
    assert!(
        m.connection.counters().get(Request::Write) > before,
        "at once"
    );
    let mut cached = vec![0; 8192];
    File::open(m.join("f"))
        .unwrap()
        .read_exact_at(&mut cached, 4096)
        .unwrap();
    assert!(cached == pattern(8192, 7));
}

#[test]
fn writing_takes_privileges() {
    if !need_fuse() || !need_program("setpriv") {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    let f = m.join("f");
    let fresh = |mode| {
        let _ = fs::remove_file(&f);
        fs::write(&f, "#!").unwrap();
        fs::set_permissions(&f, fs::Permissions::from_mode(mode)).unwrap();
    };
    let mode = || fs::metadata(&f).unwrap().mode() & 0o7777;
    let nobody = |line: &str| {
        let mut c = Command::new("setpriv");
        c.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "sh",
            "-ec",
            line,
        ])
        .current_dir(m.path());
        assert!(c.status().unwrap().success(), "{line}");
    };
    for line in ["echo more >> f", "echo less > f", "truncate -s 1 f"] {
        fresh(0o6777);
        nobody(line);
        assert_eq!(mode(), 0o777, "{line}, by one without CAP_FSETID");
        fresh(0o6777);
        assert!(
            Command::new("sh")
                .args(["-ec", line])
                .current_dir(m.path())
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(mode(), 0o6777, "{line}, by root");
    }
    fresh(0o2767);
    nobody("echo more >> f");
    assert_eq!(
        mode(),
        0o2767,
        "setgid without group execution is no privilege"
    );
    fresh(0o6755);
    std::os::unix::fs::chown(&f, Some(1), None).unwrap();
    assert_eq!(mode(), 0o755, "a new owner, by root too");
    // Capabilities go whoever writes. VFS_CAP_REVISION_2, cap_net_raw+p.
    let capability = [
        1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    let has = || rustix::fs::lgetxattr(&f, "security.capability", &mut [0u8; 64]);
    for line in [
        "echo more >> f",
        "echo less > f",
        "truncate -s 1 f",
        "chown 5 f",
    ] {
        fresh(0o755);
        lsetxattr(&f, "security.capability", &capability, XattrFlags::empty()).unwrap();
        assert_eq!(has(), Ok(20));
        assert!(
            Command::new("sh")
                .args(["-ec", line])
                .current_dir(m.path())
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(has(), Err(Errno::NODATA), "{line}");
    }
}

#[test]
fn access_times() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let c = pool.container("c");
    let m = Mounted::new(c.clone(), "");
    let f = m.join("f");
    fs::write(&f, "content").unwrap();
    let old = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let set = |at| {
        File::options()
            .write(true)
            .open(&f)
            .unwrap()
            .set_times(fs::FileTimes::new().set_accessed(at).set_modified(at))
            .unwrap()
    };
    set(old);
    m.unmount();
    let m = Mounted::new(c.clone(), "");
    let f = m.join("f");
    fs::read(&f).unwrap();
    let first = fs::metadata(&f).unwrap().accessed().unwrap();
    assert!(first > old + Duration::from_secs(1000), "read: now");
    m.unmount();
    let m = Mounted::new(c.clone(), "");
    fs::read(m.join("f")).unwrap();
    assert_eq!(
        fs::metadata(m.join("f")).unwrap().accessed().unwrap(),
        first,
        "relatime: not again before it changes"
    );
    fs::read_dir(m.path()).unwrap().for_each(drop);
    m.unmount();
    let m = Mounted::new(c, "ro");
    fs::read(m.join("f")).unwrap();
    assert_eq!(
        fs::metadata(m.join("f")).unwrap().accessed().unwrap(),
        first
    );
}

#[test]
fn fsync_pins_no_thread() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    std::thread::scope(|s| {
        // More at a time than threads take requests.
        for n in 0..24 {
            let path = m.join(format!("f{n}"));
            s.spawn(move || {
                let mut f = File::create_new(path).unwrap();
                for _ in 0..5 {
                    f.write_all(&pattern(10_000, n)).unwrap();
                    f.sync_all().unwrap();
                }
            });
        }
    });
    assert_eq!(m.connection.counters().get(Request::Fsync), 120);
    File::open(m.path()).unwrap().sync_all().unwrap();
    assert_eq!(m.connection.counters().get(Request::Fsyncdir), 1);
    m.unmount();
    pool.check();
}

#[test]
fn a_snapshot_holds_what_the_kernel_kept() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let c = pool.container("c");
    let m = Mounted::new(c.clone(), "");
    let mut open = File::create_new(m.join("open")).unwrap();
    open.write_all(&pattern(3 << 20, 8)).unwrap();
    // SAFETY: the file is this test's alone.
    let mut map = unsafe {
        let f = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(m.join("mapped"))
            .unwrap();
        f.set_len(1 << 20).unwrap();
        memmap2::MmapMut::map_mut(&f).unwrap()
    };
    map[..1000].copy_from_slice(&pattern(1000, 9));
    assert_eq!(m.connection.counters().get(Request::Write), 0);
    cowfs::fuse::mount::flush(m.path()).unwrap();
    m.connection.flush_dirty();
    let snapshot = pool.clone_of(&c, "c@s", true);
    open.write_all(b"later").unwrap();
    drop(open);
    let s = Mounted::new(snapshot, "");
    assert!(fs::read(s.join("open")).unwrap() == pattern(3 << 20, 8));
    let mut head = vec![0; 1000];
    File::open(s.join("mapped"))
        .unwrap()
        .read_exact(&mut head)
        .unwrap();
    assert!(head == pattern(1000, 9));
    drop(map);
    assert_eq!(fs::metadata(m.join("open")).unwrap().len(), (3 << 20) + 5);
    s.unmount();
    m.unmount();
    pool.check();
}

#[test]
fn locks_stay_in_the_kernel() {
    if !need_fuse() || !need_program("flock") {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    fs::write(m.join("f"), "x").unwrap();
    let f = File::options()
        .read(true)
        .write(true)
        .open(m.join("f"))
        .unwrap();
    rustix::fs::flock(&f, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let taken = Command::new("flock")
        .args(["-n", "-x"])
        .arg(m.join("f"))
        .arg("true")
        .status()
        .unwrap();
    assert!(!taken.success(), "held by us");
    rustix::fs::fcntl_lock(&f, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    drop(f);
    assert!(
        Command::new("flock")
            .args(["-n", "-x"])
            .arg(m.join("f"))
            .arg("true")
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(
        m.connection.counters().get(Request::Setlk) + m.connection.counters().get(Request::Getlk),
        0
    );
}

#[test]
fn full_says_so_at_close_and_fsync() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let c = pool.container("c");
    pool.pool.set_limit(c.volume().id(), Some(8 << 20)).unwrap();
    let m = Mounted::new(c, "");
    let mut f = File::create_new(m.join("f")).unwrap();
    let piece = vec![1u8; 1 << 20];
    let failed = (0..64)
        .find_map(|_| f.write_all(&piece).and_then(|()| f.sync_data()).err())
        .expect("there is no room for 64 MiB");
    assert!(
        matches!(failed.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)),
        "{failed}"
    );
    drop(f);
    fs::remove_file(m.join("f")).unwrap();
    let again = || {
        fs::write(m.join("g"), pattern(1 << 20, 1))
            .and_then(|()| File::open(m.join("g"))?.sync_all())
    };
    let end = Instant::now() + Duration::from_secs(10);
    while let Err(e) = again() {
        assert!(Instant::now() < end, "room again after deleting: {e}");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(fs::read(m.join("g")).unwrap() == pattern(1 << 20, 1));
    let s = rustix::fs::statvfs(m.path()).unwrap();
    assert_eq!((s.f_bsize, s.f_namemax), (4096, 255));
    assert!(
        s.f_blocks * s.f_frsize <= 8 << 20,
        "statfs tells the volume's limit, {} blocks",
        s.f_blocks
    );
    m.unmount();
    pool.check();
}

#[test]
fn fstrim() {
    if !need_fuse() || !need_program("fstrim") {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    fs::write(m.join("f"), pattern(20 << 20, 1)).unwrap();
    File::open(m.path()).unwrap().sync_all().unwrap();
    fs::remove_file(m.join("f")).unwrap();
    let out = Command::new("fstrim")
        .arg("-v")
        .arg(m.path())
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert_eq!(m.connection.counters().get(Request::Ioctl), 1);
    // Others are refused as any file system without them does.
    let attributes = Command::new("lsattr").arg("-d").arg(m.path()).output();
    assert!(attributes.is_err() || !attributes.unwrap().status.success());
}

#[test]
fn anonymous_reads_and_seeks() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    let data = pattern(700_000, 11);
    fs::write(m.join("f"), &data).unwrap();
    m.connection
        .flush_file(fs::metadata(m.join("f")).unwrap().ino());
    let mut f = File::open(m.join("f")).unwrap();
    f.seek(std::io::SeekFrom::Start(123_456)).unwrap();
    let mut rest = Vec::new();
    f.read_to_end(&mut rest).unwrap();
    assert!(rest == data[123_456..]);
    assert_eq!(f.read_at(&mut [0; 10], 700_000).unwrap(), 0);
    assert_eq!(f.seek(std::io::SeekFrom::End(-1)).unwrap(), 699_999);
}

#[test]
fn a_cold_read_waits_elsewhere() {
    if !need_fuse() {
        return;
    }
    let mut pool = TempPool::new();
    let c = pool.container("c");
    let m = Mounted::new(c.clone(), "");
    let data = pattern(8 << 20, 12);
    fs::write(m.join("f"), &data).unwrap();
    m.unmount();
    pool.pool.sync().unwrap();
    let m = Mounted::new(c.clone(), "ro");
    assert!(fs::read(m.join("f")).unwrap() == data);
    assert_eq!(
        m.connection.counters().cold_reads(),
        0,
        "just written: in memory"
    );
    m.unmount();
    // What is mapped stays in memory, whatever is asked.
    let id = c.volume().id();
    drop(c);
    let device = File::open(pool.path().join("data")).unwrap();
    pool.reopen();
    let c = cowfs::fs::Fs::open(pool.pool.volume(id).unwrap()).unwrap();
    device.sync_all().unwrap();
    rustix::fs::fadvise(&device, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let m = Mounted::new(c, "ro");
    assert!(fs::read(m.join("f")).unwrap() == data);
    let temp = rustix::fs::statfs(pool.path()).unwrap().f_type;
    if temp as i64 != libc::TMPFS_MAGIC {
        assert!(m.connection.counters().cold_reads() > 0);
    }
}
