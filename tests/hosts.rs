//! Pools on other file systems and on block devices, and on a host whose disk is full.

mod commands;
mod common;

use commands::World;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

fn sh(line: &str) -> Result<String, String> {
    let out = Command::new("sh")
        .arg("-c")
        .arg(line)
        .output()
        .map_err(|e| e.to_string())?;
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned()),
        false => Err(format!(
            "{line}: {}",
            String::from_utf8_lossy(&out.stderr).trim()
        )),
    }
}

/// A file system of some kind in a sparse file, mounted; undone when dropped.
struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    /// `None`: this machine cannot.
    fn new(kind: &str, megabytes: u64) -> Option<Host> {
        let dir = tempfile::Builder::new()
            .prefix("cowfs-host-")
            .tempdir()
            .unwrap();
        let (image, at) = (dir.path().join("image"), dir.path().join("at"));
        fs::create_dir(&at).unwrap();
        let mounted = match kind {
            "tmpfs" => sh(&format!(
                "mount -t tmpfs -o size={megabytes}m none {}",
                at.display()
            )),
            _ => fs::File::create(&image)
                .and_then(|f| f.set_len(megabytes << 20))
                .map_err(|e| e.to_string())
                .and_then(|()| sh(&format!("mkfs.{kind} -q {}", image.display())))
                .and_then(|_| {
                    sh(&format!(
                        "mount -o loop {} {}",
                        image.display(),
                        at.display()
                    ))
                }),
        };
        match mounted {
            Ok(_) => Some(Host { dir }),
            Err(e) => {
                common::skip(&format!("{kind}: {e}"));
                None
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("at")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = sh(&format!("umount -l {}", self.path().display()));
    }
}

/// An image, a container, a mount, a snapshot, a rollback, a kill, a check: the whole road.
fn the_road(world: &World) {
    world.import_base();
    world.sh("create base c").ok();
    let at = world.mount_point("mnt");
    world.run(["mount", "c", &at]).ok();
    let file = Path::new(&at).join("data");
    let big = commands::big();
    fs::write(&file, &big).unwrap();
    fs::File::open(&file).unwrap().sync_all().unwrap();
    world.sh("snapshot c@one").ok();
    fs::write(&file, b"changed").unwrap();
    fs::write(Path::new(&at).join("more"), vec![7; 3 << 20]).unwrap();
    // Death and return.
    let daemon = world.daemon().expect("a daemon");
    commands::signal(daemon, libc::SIGKILL);
    commands::wait_for("the daemon's end", || !commands::alive(daemon));
    let _ = cowfs::fuse::unmount(Path::new(&at), cowfs::fuse::Unmount::Force);
    world.check();
    world.run(["mount", "c", &at]).ok();
    assert_eq!(fs::read(&file).unwrap(), b"changed");
    assert_eq!(
        fs::read(Path::new(&at).join("more")).unwrap(),
        vec![7; 3 << 20]
    );
    fs::remove_file(Path::new(&at).join("more")).unwrap();
    world.run(["umount", &at]).ok();
    world.sh("rollback c@one").ok();
    let read = world.run(["cat", "c:/data"]);
    assert_eq!((read.code, read.out == big), (Some(0), true));
    let diff = world.sh("diff c").ok();
    assert!(diff.contains("A /data"), "{diff}");
    world.sh("rm -f c c@one").ok();
    world.check();
}

fn on(kind: &str) {
    if !common::need_fuse() {
        return;
    }
    let Some(host) = Host::new(kind, 512) else {
        return;
    };
    let mut world = World::new();
    world.pool = host.path().join("pool");
    world.sh("pool create --size 300M").ok();
    the_road(&world);
    let status = world.sh("pool status").ok();
    assert!(
        status.contains(kind),
        "the backing file system is named: {status}"
    );
}

#[test]
fn on_ext4() {
    on("ext4");
}

#[test]
fn on_btrfs() {
    on("btrfs");
}

#[test]
fn on_xfs() {
    on("xfs");
}

#[test]
fn on_tmpfs() {
    on("tmpfs");
}

/// A loop device, detached when dropped.
struct Loop(String);

impl Loop {
    fn new(dir: &Path, name: &str, megabytes: u64) -> Option<Loop> {
        let file = dir.join(name);
        fs::File::create(&file)
            .unwrap()
            .set_len(megabytes << 20)
            .unwrap();
        match sh(&format!("losetup -f --show {}", file.display())) {
            Ok(device) => Some(Loop(device)),
            Err(e) => {
                common::skip(&e);
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = sh(&format!("losetup -d {}", self.0));
    }
}

#[test]
fn on_block_devices() {
    if !common::need_fuse() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let Some(data) = Loop::new(dir.path(), "data", 300) else {
        return;
    };
    let Some(metadata) = Loop::new(dir.path(), "metadata", 64) else {
        return;
    };
    // What lay there before must not matter.
    let garbage: Vec<u8> = commands::big();
    for device in [&data.0, &metadata.0] {
        fs::File::options()
            .write(true)
            .open(device)
            .unwrap()
            .write_all(&garbage)
            .unwrap();
    }
    let world = World::new();
    world
        .run([
            "pool",
            "create",
            "--data",
            &data.0,
            "--metadata",
            &metadata.0,
        ])
        .ok();
    the_road(&world);
}

/// The host's disk is full: writes fail with ENOSPC, what was there is readable, deleting works.
#[test]
fn a_full_host() {
    if !common::need_fuse() {
        return;
    }
    let Some(host) = Host::new("ext4", 256) else {
        return;
    };
    let mut world = World::new();
    world.pool = host.path().join("pool");
    world.sh("pool create --size 10G").ok();
    world.import_base();
    world.sh("create base c").ok();
    let at = world.mount_point("mnt");
    world.run(["mount", "c", &at]).ok();
    let at = PathBuf::from(at);
    let kept = vec![9u8; 10 << 20];
    fs::write(at.join("kept"), &kept).unwrap();
    fs::File::open(at.join("kept")).unwrap().sync_all().unwrap();
    let mut full = None;
    for n in 0..100 {
        let write = || -> std::io::Result<()> {
            let mut f = fs::File::create(at.join(format!("fill{n}")))?;
            f.write_all(&vec![n as u8; 8 << 20])?;
            f.sync_all()
        };
        if let Err(e) = write() {
            full = Some(e);
            break;
        }
    }
    let e = full.expect("a disk of 256 MiB takes no 800 MiB");
    assert_eq!(e.raw_os_error(), Some(libc::ENOSPC), "{e}");
    assert!(
        fs::read(at.join("kept")).unwrap() == kept,
        "what was there is as it was"
    );
    assert_eq!(fs::read(at.join("fill0")).unwrap(), vec![0; 8 << 20]);
    // Deleting works, and its space can be used again.
    for n in 0..100 {
        let _ = fs::remove_file(at.join(format!("fill{n}")));
    }
    let write = || -> std::io::Result<()> {
        let mut f = fs::File::create(at.join("again"))?;
        f.write_all(&vec![3; 20 << 20])?;
        f.sync_all()
    };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        match write() {
            Ok(()) => break,
            Err(e) if std::time::Instant::now() > end => panic!("no space after deleting: {e}"),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(500)),
        }
    }
    assert!(fs::read(at.join("kept")).unwrap() == kept);
    world.run(["umount", at.to_str().unwrap()]).ok();
    world.sh("rm c").ok();
    world.check();
}
