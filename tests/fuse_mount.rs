//! Mounts: made in two steps, named right, undone right; as root, as an ordinary user, inside a user namespace.

mod common;

use common::{OpenDevice, need_fuse, need_program};
use cowfs::base::Error;
use cowfs::fuse::{How, MountOptions, Prepared, Unmount, mount, mountinfo, prepare, unmount};
use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, INodeNo, ReplyAttr, ReplyEmpty, ReplyOpen,
    Request, Session, SessionACL,
};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

/// A root directory and nothing else: what mounting needs.
struct Empty;

impl Filesystem for Empty {
    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        if ino.0 != 1 {
            return reply.error(Errno::ENOENT);
        }
        let attr = FileAttr {
            ino,
            size: 0,
            blocks: 0,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::Directory,
            perm: 0o1777,
            nlink: 2,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        };
        reply.attr(&Duration::from_secs(1), &attr);
    }

    fn opendir(&self, _req: &Request, _ino: INodeNo, _flags: fuser::OpenFlags, reply: ReplyOpen) {
        reply.error(Errno::ENOSYS);
    }

    fn access(&self, _req: &Request, _ino: INodeNo, _mask: fuser::AccessFlags, reply: ReplyEmpty) {
        reply.error(Errno::ENOSYS);
    }
}

fn serve_empty(device: OwnedFd) -> std::thread::JoinHandle<std::io::Result<()>> {
    let session =
        Session::from_fd(Empty, device, SessionACL::All, fuser::Config::default()).unwrap();
    std::thread::spawn(move || session.run())
}

fn options(words: &str) -> MountOptions {
    MountOptions::parse(words).unwrap()
}

fn dir() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("cowfs-mnt-")
        .tempdir()
        .unwrap()
}

/// Unmounts at the end, come what may.
struct Undo<'a>(&'a Path);

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if mount::find(self.0).is_ok() {
            let _ = unmount(self.0, Unmount::Force);
        }
    }
}

fn findmnt(dir: &Path, column: &str) -> String {
    let out = Command::new("findmnt")
        .args(["-n", "-t", "fuse.cowfs", "-o", column])
        .arg(dir)
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_mount_is_seen_only_when_it_is_usable() {
    if !need_fuse() {
        return;
    }
    let dir = dir();
    let Prepared { device, pending } = prepare(
        How::Kernel,
        "my pool",
        dir.path(),
        &options("nosuid,noatime"),
    )
    .unwrap();
    let _undo = Undo(dir.path());
    assert_eq!(
        mountinfo::mounted_on(dir.path()).unwrap(),
        None,
        "prepared, not yet visible"
    );
    let served = serve_empty(device);
    let number = pending.connection().unwrap();
    pending.attach().unwrap();

    let there = mountinfo::mounted_on(dir.path())
        .unwrap()
        .expect("attached");
    assert_eq!(
        (there.fs_type.as_str(), there.source.to_str()),
        ("fuse.cowfs", Some("my pool"))
    );
    assert!(
        there.options.contains("nosuid") && there.options.contains("noatime"),
        "{}",
        there.options
    );
    assert!(
        there.super_options.contains("default_permissions")
            && there.super_options.contains("allow_other"),
        "{}",
        there.super_options
    );
    assert_eq!(there.connection(), number);
    assert_eq!(findmnt(dir.path(), "FSTYPE,SOURCE"), "fuse.cowfs my pool");
    assert!(dir.path().is_dir());

    // A second mount there is refused, and a mount in use is not taken away.
    let again = prepare(How::Kernel, "other", dir.path(), &options("")).unwrap_err();
    assert!(
        matches!(&again, Error::Busy(why) if why.contains("my pool")),
        "{again}"
    );
    let held = std::fs::File::open(dir.path()).unwrap();
    let busy = unmount(dir.path(), Unmount::Plain).unwrap_err();
    assert!(matches!(busy, Error::Busy(_)), "{busy}");
    drop(held);
    assert_eq!(
        unmount(dir.path(), Unmount::Plain).unwrap().connection(),
        number
    );
    served.join().unwrap().unwrap();
    let gone = unmount(dir.path(), Unmount::Plain).unwrap_err();
    assert!(
        matches!(&gone, Error::NotFound(why) if why.contains("nothing is mounted")),
        "{gone}"
    );
}

#[test]
fn options_reach_the_kernel() {
    if !need_fuse() {
        return;
    }
    for (words, shown, not_shown) in [
        (
            "ro,nodev,nosuid,noexec,nodiratime,fsname=n",
            &["ro", "nodev", "nosuid", "noexec", "nodiratime"][..],
            &["rw"][..],
        ),
        (
            "rw,dev,suid,exec",
            &["rw", "relatime"],
            &["ro", "nodev", "nosuid", "noexec"],
        ),
        ("user,exec", &["nodev", "nosuid"], &["noexec"]),
    ] {
        let dir = dir();
        let Prepared { device, pending } =
            prepare(How::Kernel, "s", dir.path(), &options(words)).unwrap();
        let _undo = Undo(dir.path());
        let served = serve_empty(device);
        pending.attach().unwrap();
        let there = mountinfo::mounted_on(dir.path()).unwrap().unwrap();
        let has = |w: &&str| there.options.split(',').any(|o| o == *w);
        assert!(
            shown.iter().all(has) && !not_shown.iter().any(has),
            "{words}: {}",
            there.options
        );
        assert_eq!(
            there.source.to_str(),
            Some(if words.contains("fsname") { "n" } else { "s" })
        );
        unmount(dir.path(), Unmount::Plain).unwrap();
        served.join().unwrap().unwrap();
    }
    let dir = dir();
    let Prepared { device, pending } =
        prepare(How::Kernel, "s", dir.path(), &options("noallow_other")).unwrap();
    let served = serve_empty(device);
    pending.attach().unwrap();
    let there = mountinfo::mounted_on(dir.path()).unwrap().unwrap();
    assert!(!there.super_options.contains("allow_other"));
    unmount(dir.path(), Unmount::Plain).unwrap();
    served.join().unwrap().unwrap();
}

#[test]
fn what_cannot_be_mounted_on() {
    if !need_fuse() {
        return;
    }
    let dir = dir();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let none = options("");
    let of = |p: &Path| prepare(How::Kernel, "s", p, &none).unwrap_err();
    assert!(matches!(of(&file), Error::Invalid(w) if w.contains("not a directory")));
    assert!(
        matches!(of(&dir.path().join("no")), Error::NotFound(w) if w.contains("does not exist"))
    );
    assert!(matches!(
        unmount(&file, Unmount::Plain),
        Err(Error::Invalid(_))
    ));
    assert!(matches!(
        unmount(&dir.path().join("no"), Unmount::Plain),
        Err(Error::NotFound(_))
    ));
    assert!(
        matches!(unmount(Path::new("/proc"), Unmount::Plain), Err(Error::Denied(w)) if w.contains("proc"))
    );
}

#[test]
fn a_mount_given_up_leaves_nothing() {
    if !need_fuse() {
        return;
    }
    let dir = dir();
    drop(prepare(How::Kernel, "s", dir.path(), &options("")).unwrap());
    assert_eq!(mountinfo::mounted_on(dir.path()).unwrap(), None);
    if need_program("fusermount3") {
        drop(prepare(How::Fusermount, "s", dir.path(), &options("")).unwrap());
        assert_eq!(mountinfo::mounted_on(dir.path()).unwrap(), None);
    }
}

#[test]
fn a_dead_mount_can_be_unmounted() {
    if !need_fuse() {
        return;
    }
    let dir = dir();
    let Prepared { device, pending } = prepare(How::Kernel, "s", dir.path(), &options("")).unwrap();
    let _undo = Undo(dir.path());
    let served = serve_empty(device);
    pending.attach().unwrap();
    mount::abort(mount::find(dir.path()).unwrap().connection()).unwrap();
    served.join().unwrap().unwrap();
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap_err().raw_os_error(),
        Some(libc::ENOTCONN)
    );
    unmount(dir.path(), Unmount::Plain).unwrap();
}

#[test]
fn force_ends_a_mount_in_use() {
    if !need_fuse() {
        return;
    }
    let dir = dir();
    let Prepared { device, pending } = prepare(How::Kernel, "s", dir.path(), &options("")).unwrap();
    let _undo = Undo(dir.path());
    let served = serve_empty(device);
    pending.attach().unwrap();
    let held = std::fs::File::open(dir.path()).unwrap();
    unmount(dir.path(), Unmount::Force).unwrap();
    served.join().unwrap().unwrap();
    assert_eq!(mountinfo::mounted_on(dir.path()).unwrap(), None);
    drop(held);
}

#[test]
fn by_fusermount() {
    if !need_fuse() || !need_program("fusermount3") {
        return;
    }
    let dir = dir();
    let Prepared { device, pending } = prepare(
        How::Fusermount,
        "a,b \\c",
        dir.path(),
        &options("ro,noexec"),
    )
    .unwrap();
    let _undo = Undo(dir.path());
    let served = serve_empty(device);
    pending.attach().unwrap();
    let there = mountinfo::mounted_on(dir.path())
        .unwrap()
        .expect("mounted at once");
    assert_eq!(
        (there.fs_type.as_str(), there.source.to_str()),
        ("fuse.cowfs", Some("a,b \\c"))
    );
    assert!(there.options.contains("ro") && there.options.contains("noexec"));
    unmount(dir.path(), Unmount::Plain).unwrap();
    served.join().unwrap().unwrap();
}

/// Runs the named test of this very program again under other circumstances; it finds itself by an environment word.
fn again(test: &str, through: &[&str], dir: &Path) {
    let me = std::env::current_exe().unwrap();
    // Others must be able to read it: the build directory may be root's alone.
    let copy = dir.join("program");
    std::fs::copy(me, &copy).unwrap();
    let mut command = Command::new(through[0]);
    command.args(&through[1..]).arg(&copy).args([
        "--exact",
        test,
        "--nocapture",
        "--test-threads=1",
    ]);
    let out = command
        .env("COWFS_TEST_AGAIN", dir)
        .env("TMPDIR", dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn as_an_ordinary_user() {
    if let Some(dir) = std::env::var_os("COWFS_TEST_AGAIN") {
        let dir = Path::new(&dir).join("mnt");
        assert!(!rustix::process::geteuid().is_root());
        std::fs::create_dir(&dir).unwrap();
        let refused = prepare(How::Kernel, "s", &dir, &options("")).unwrap_err();
        assert!(matches!(refused, Error::Denied(_)), "{refused}");
        let Prepared { device, pending } = prepare(How::Auto, "mine", &dir, &options("")).unwrap();
        let _undo = Undo(&dir);
        let served = serve_empty(device);
        pending.attach().unwrap();
        let there = mountinfo::mounted_on(&dir).unwrap().unwrap();
        assert_eq!(
            (there.fs_type.as_str(), there.source.to_str()),
            ("fuse.cowfs", Some("mine"))
        );
        assert!(there.options.contains("nosuid") && there.options.contains("nodev"));
        assert!(!there.super_options.contains("allow_other"));
        let held = std::fs::File::open(&dir).unwrap();
        assert!(matches!(unmount(&dir, Unmount::Plain), Err(Error::Busy(_))));
        drop(held);
        unmount(&dir, Unmount::Plain).unwrap();
        served.join().unwrap().unwrap();
        // Not allowed for users unless root says so; the error says that.
        match prepare(How::Auto, "mine", &dir, &options("allow_other")) {
            Err(e) => assert!(e.to_string().contains("user_allow_other"), "{e}"),
            Ok(_) => assert!(
                std::fs::read_to_string("/etc/fuse.conf")
                    .unwrap()
                    .lines()
                    .any(|l| l.trim() == "user_allow_other")
            ),
        }
        // Nor on a directory of another.
        assert!(matches!(
            prepare(How::Auto, "mine", Path::new("/mnt"), &options("")),
            Err(Error::Denied(_))
        ));
        return;
    }
    if !need_fuse() || !need_program("fusermount3") || !need_program("setpriv") {
        return;
    }
    let dir = dir();
    rustix::fs::chown(dir.path(), Some(rustix::fs::Uid::from_raw(65534)), None).unwrap();
    let _open = OpenDevice::new();
    again(
        "as_an_ordinary_user",
        &[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ],
        dir.path(),
    );
}

#[test]
fn inside_a_user_namespace() {
    if let Some(dir) = std::env::var_os("COWFS_TEST_AGAIN") {
        let dir = Path::new(&dir).join("mnt");
        std::fs::create_dir(&dir).unwrap();
        let Prepared { device, pending } =
            prepare(How::Kernel, "inside", &dir, &options("")).unwrap();
        let served = serve_empty(device);
        pending.attach().unwrap();
        let there = mountinfo::mounted_on(&dir).unwrap().unwrap();
        assert_eq!(
            (there.fs_type.as_str(), there.source.to_str()),
            ("fuse.cowfs", Some("inside"))
        );
        assert!(dir.is_dir());
        unmount(&dir, Unmount::Plain).unwrap();
        served.join().unwrap().unwrap();
        return;
    }
    if !need_fuse() || !need_program("unshare") || !need_program("setpriv") {
        return;
    }
    let dir = dir();
    rustix::fs::chown(dir.path(), Some(rustix::fs::Uid::from_raw(65534)), None).unwrap();
    let through = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
    ];
    let _open = OpenDevice::new();
    again("inside_a_user_namespace", &through, dir.path());
}
