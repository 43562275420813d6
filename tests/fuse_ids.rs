//! Whose files they are: a volume mounted inside a user namespace and served from outside it, and mounted for an
//! ordinary user by fusermount3.

mod common;

use common::{Mounted, OpenDevice, TempPool, need_fuse, need_program};
use cowfs::fuse::{
    How, MountOptions, Prepared, ServeOptions, Unmount, mount, prepare, serve, unmount,
};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use std::fs;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

fn send(socket: &UnixStream, fd: &OwnedFd) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(b"f")],
        &mut control,
        SendFlags::empty(),
    )
    .unwrap();
}

fn receive(socket: &UnixStream) -> OwnedFd {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::net::recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )
    .unwrap();
    let message = control.drain().next();
    match message {
        Some(RecvAncillaryMessage::ScmRights(mut fds)) => fds.next().unwrap(),
        _ => panic!("no descriptor came"),
    }
}

/// The other side of a test, in this program run again: mounts on DIR/mnt, sends the device away, waits for a word
/// that it is served, attaches, and answers what the shell says there.
fn inside(dir: &Path, how: How, line: &str) {
    let at = dir.join("mnt");
    let Prepared { device, pending } = prepare(how, "ids", &at, &MountOptions::default()).unwrap();
    let mut socket = UnixStream::connect(dir.join("socket")).unwrap();
    send(&socket, &device);
    drop(device);
    socket.read_exact(&mut [0]).unwrap();
    pending.attach().unwrap();
    let out = Command::new("sh")
        .args(["-c", line])
        .current_dir(&at)
        .output()
        .unwrap();
    socket.write_all(&out.stdout).unwrap();
    socket.write_all(&out.stderr).unwrap();
    unmount(&at, Unmount::Plain).unwrap();
}

/// Runs `test` of this program again `through` a program that changes who and where it is, serves the volume it mounts,
/// and answers what it said.
fn outside(test: &str, through: &[&str], fs_: std::sync::Arc<cowfs::fs::Fs>) -> String {
    let _open = OpenDevice::new();
    let dir = tempfile::Builder::new()
        .prefix("cowfs-ids-")
        .tempdir()
        .unwrap();
    fs::create_dir(dir.path().join("mnt")).unwrap();
    fs::copy(std::env::current_exe().unwrap(), dir.path().join("program")).unwrap();
    let listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    for path in [dir.path().to_owned(), dir.path().join("socket")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let all = Command::new("chown")
        .arg("-R")
        .arg("65534:65534")
        .arg(dir.path())
        .status()
        .unwrap();
    assert!(all.success());
    let mut command = Command::new(through[0]);
    command
        .args(&through[1..])
        .arg(dir.path().join("program"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"]);
    let command = command.env("COWFS_TEST_AGAIN", dir.path());
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.unwrap();
    let answer = (|| {
        listener.set_nonblocking(true).unwrap();
        let socket = (0..1000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            listener.accept().ok()
        });
        let mut socket = socket?.0;
        socket.set_nonblocking(false).unwrap();
        let connection = serve(fs_, receive(&socket), ServeOptions::default()).unwrap();
        socket.write_all(b"s").unwrap();
        let mut said = String::new();
        socket.read_to_string(&mut said).unwrap();
        assert!(
            connection.wait(Duration::from_secs(20)),
            "ends with the mount in the other namespace"
        );
        Some(said)
    })();
    let out = child.wait_with_output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(out.status.success() && text.contains("1 passed"), "{text}");
    answer.expect("a mount was made")
}

/// Gives a process that waits in a new user namespace 65536 ids, as newuidmap does for an ordinary user.
fn map_ids(pid: u32) {
    let ours = fs::read_link("/proc/self/ns/user").unwrap();
    let theirs = || fs::read_link(format!("/proc/{pid}/ns/user")).unwrap();
    while theirs() == ours {
        std::thread::sleep(Duration::from_millis(5));
    }
    for map in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{pid}/{map}"), "0 100000 65536").unwrap();
    }
}

/// A container with a file each of root and of 5:7, and a setuid one.
fn filled(pool: &TempPool) -> std::sync::Arc<cowfs::fs::Fs> {
    let c = pool.container("c");
    let m = Mounted::new(c.clone(), "");
    fs::write(m.join("root"), "r").unwrap();
    fs::write(m.join("five"), "5").unwrap();
    std::os::unix::fs::chown(m.join("five"), Some(5), Some(7)).unwrap();
    fs::write(m.join("suid"), "s").unwrap();
    fs::set_permissions(m.join("suid"), fs::Permissions::from_mode(0o4755)).unwrap();
    m.unmount();
    c
}

const USER: [&str; 4] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

#[test]
fn a_namespace_with_one_id() {
    if let Some(dir) = std::env::var_os("COWFS_TEST_AGAIN") {
        let line = "stat -c '%u %g %a' root five suid; echo mine > new; mkdir d; stat -c '%u %g' new; chown 5 new 2>/dev/null || echo no; id -u";
        return inside(Path::new(&dir), How::Kernel, line);
    }
    if !need_fuse() || !need_program("setpriv") || !need_program("unshare") {
        return;
    }
    let pool = TempPool::new();
    let c = filled(&pool);
    let through = [
        &USER[..],
        &["unshare", "--user", "--map-root-user", "--mount"],
    ]
    .concat();
    let said = outside("a_namespace_with_one_id", &through, c.clone());
    // Root inside is root in the volume, whoever he is outside; whom the namespace does not know shows as nobody.
    assert_eq!(said, "0 0 644\n65534 65534 644\n0 0 4755\n0 0\nno\n0\n");
    let new = c.lookup(1, b"new").unwrap();
    assert_eq!((new.uid, new.gid, new.size), (0, 0, 5));
    assert_eq!(c.lookup(1, b"five").unwrap().uid, 5, "kept as it is");
    pool.check();
}

#[test]
fn a_namespace_with_many_ids() {
    if let Some(dir) = std::env::var_os("COWFS_TEST_AGAIN") {
        let line = "stat -c '%u %g %a' root five suid; echo mine > new; chown 1000:1001 new; stat -c '%u %g' new; \
                    setpriv --reuid=5 --regid=7 --clear-groups sh -c 'echo more >> five && cat five'; \
                    setpriv --reuid=6 --regid=7 --clear-groups sh -c 'echo more >> five' 2>/dev/null || echo refused";
        return inside(Path::new(&dir), How::Kernel, line);
    }
    if !need_fuse() || !need_program("setpriv") || !need_program("unshare") {
        return;
    }
    let pool = TempPool::new();
    let c = filled(&pool);
    let mut holder = Command::new("unshare")
        .args(["--user", "--mount", "cat"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    map_ids(holder.id());
    let target = holder.id().to_string();
    let through = [
        "nsenter", "--target", &target, "--user", "--mount", "--setuid", "0", "--setgid", "0",
    ];
    let said = outside("a_namespace_with_many_ids", &through, c.clone());
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(
        said,
        "0 0 644\n5 7 644\n0 0 4755\n1000 1001\n5more\nrefused\n"
    );
    let new = c.lookup(1, b"new").unwrap();
    assert_eq!(
        (new.uid, new.gid),
        (1000, 1001),
        "the image's ids, not those of outside"
    );
    pool.check();
}

#[test]
fn an_ordinary_users_mount() {
    if let Some(dir) = std::env::var_os("COWFS_TEST_AGAIN") {
        let line = "stat -c '%u %g %a' root five; (echo x > new) 2>/dev/null || echo refused; cat root; grep -c nosuid /proc/self/mountinfo >/dev/null && echo nosuid";
        return inside(Path::new(&dir), How::Auto, line);
    }
    if !need_fuse() || !need_program("setpriv") || !need_program("fusermount3") {
        return;
    }
    let pool = TempPool::new();
    let said = outside("an_ordinary_users_mount", &USER, filled(&pool));
    // Foreign ids as they are; modes decide.
    assert_eq!(said, "0 0 644\n5 7 644\nrefused\nrnosuid\n");
    pool.check();
}

#[test]
fn the_connections_number() {
    if !need_fuse() {
        return;
    }
    let pool = TempPool::new();
    let m = Mounted::new(pool.container("c"), "");
    let there = mount::find(m.path()).unwrap().connection();
    match m.connection.number() {
        Some(number) => assert_eq!(number, there),
        None => common::skip("this kernel does not tell a connection's number (before Linux 6.15)"),
    }
    m.connection.abort().unwrap();
    assert!(m.connection.wait(Duration::from_secs(10)));
    assert_eq!(
        fs::metadata(m.path()).unwrap_err().raw_os_error(),
        Some(libc::ENOTCONN)
    );
}
