//! The daemon's life: who starts it, who it listens to, when it leaves, and what it leaves behind.

mod commands;
mod common;

use commands::{SOMEBODY, World, alive, big, finish, signal, wait_for};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn leaves_when_nobody_needs_it() {
    let mut w = World::new();
    w.idle = "0.3";
    w.import_base();
    wait_for("the daemon's end", || w.daemon().is_none());
    assert!(!w.pool.join("socket").exists());
    assert!(w.log().contains("nobody uses"), "{}", w.log());
    // The next command starts the next one.
    assert_eq!(w.sh("images -q").ok().lines().count(), 1);
    w.check();
}

#[test]
fn many_starters_get_one_daemon() {
    let w = World::new();
    w.sh("pool create").ok();
    let starters: Vec<_> = (0..24)
        .map(|_| w.command(["daemon"]).spawn().unwrap())
        .collect();
    let pids: Vec<String> = starters.into_iter().map(|c| finish(c).ok()).collect();
    assert!(pids.iter().all(|p| *p == pids[0]), "{pids:?}");
    assert_eq!(w.started(), 1, "{}", w.log());
}

#[test]
fn many_first_users_make_one_pool() {
    let w = World::new();
    std::fs::write(w.path("base.tar"), commands::image_tar()).unwrap();
    let first: Vec<_> = (0..8)
        .map(|i| {
            w.command(["import", "base.tar", &format!("i{i}")])
                .spawn()
                .unwrap()
        })
        .collect();
    for c in first {
        finish(c).ok();
    }
    assert_eq!(w.sh("images -q").ok().lines().count(), 8);
    assert_eq!(
        w.sh("list -a --format {{.Kind}}")
            .ok()
            .matches("layer")
            .count(),
        1,
        "the same layer once"
    );
    w.check();
}

/// Commands all the time, while daemons leave all the time: none is ever lost.
#[test]
fn leaving_and_coming_meet() {
    let mut w = World::new();
    w.idle = "0";
    w.import_base();
    std::thread::scope(|s| {
        for t in 0..4 {
            let w = &w;
            s.spawn(move || {
                for i in 0..25 {
                    w.run(["create", "base", &format!("c{t}-{i}")]).ok();
                    if i % 5 == 0 {
                        std::thread::sleep(Duration::from_millis(120));
                    }
                }
            });
        }
    });
    assert_eq!(w.sh("containers -q").ok().lines().count(), 100);
    assert!(w.started() > 1, "it did leave in between");
    w.check();
}

#[test]
fn killed_and_started_again() {
    let w = World::with_image();
    w.sh("create base c").ok();
    let pid = w.daemon().unwrap();
    signal(pid, libc::SIGKILL);
    wait_for("its death", || !alive(pid));
    assert!(w.pool.join("socket").exists(), "a stale socket");
    w.sh("pool check").ok();
    assert_eq!(w.sh("containers -q").ok().lines().count(), 1);
    assert_ne!(w.daemon().unwrap(), pid);
}

#[test]
fn told_to_end() {
    let w = World::with_image();
    let pid = w.daemon().unwrap();
    // A client that waits for nothing does not keep it.
    let mut idle = connect(&w);
    signal(pid, libc::SIGTERM);
    wait_for("its end", || !alive(pid));
    assert_eq!(idle.0.read(&mut [0; 10]).unwrap(), 0);
    assert!(!w.pool.join("socket").exists());
    w.sh("daemon --stop").ok();
    let pid: i32 = w.sh("daemon").ok().trim().parse().unwrap();
    w.sh("daemon --stop").ok();
    wait_for("its end", || !alive(pid));
    // Who comes while it leaves gets the next one.
    for _ in 0..20 {
        w.sh("daemon --stop").ok();
        w.sh("rename base base").ok();
    }
    w.check();
}

#[test]
fn told_to_end_while_mounted() {
    if !common::need_fuse() {
        return;
    }
    let w = World::with_image();
    w.sh("create base c").ok();
    let (m, n) = (w.mount_point("m"), w.mount_point("n"));
    w.run(["mount", "c", &m]).ok();
    let pid = w.daemon().unwrap();
    w.sh("daemon --stop").fails(5, "c is mounted on");
    signal(pid, libc::SIGTERM);
    wait_for("it to hear", || w.log().contains("told to end"));
    std::fs::write(w.path("m/still"), b"served").unwrap();
    w.run(["mount", "base", &n]).fails(5, "takes no new work");
    w.sh("create base d").fails(5, "takes no new work");
    assert!(alive(pid));
    w.umount(&m);
    wait_for("its end", || !alive(pid));
    assert_eq!(w.sh("cat c:/still").ok(), "served");
    // Told twice, it cuts the mounts off.
    w.run(["mount", "c", &m]).ok();
    let pid = w.daemon().unwrap();
    let held = std::fs::File::open(w.path("m/still")).unwrap();
    signal(pid, libc::SIGTERM);
    wait_for("it to hear", || {
        w.log().matches("told to end;").count() == 2
    });
    signal(pid, libc::SIGTERM);
    wait_for("its end", || !alive(pid));
    drop(held);
    w.umount(&m);
    w.check();
}

#[test]
fn in_the_foreground_under_a_service_manager() {
    let w = World::new();
    for abstract_name in [false, true] {
        let socket = if abstract_name {
            use std::os::linux::net::SocketAddrExt;
            let name = format!("cowfs-test-{}", std::process::id());
            let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
            (
                UnixDatagram::bind_addr(&address).unwrap(),
                format!("@{name}"),
            )
        } else {
            let path = w.path("notify");
            (
                UnixDatagram::bind(&path).unwrap(),
                path.to_str().unwrap().to_owned(),
            )
        };
        socket
            .0
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let child = w
            .command(["daemon", "--foreground"])
            .env("NOTIFY_SOCKET", &socket.1)
            .spawn()
            .unwrap();
        let hear = || {
            let mut buf = [0; 1000];
            let n = socket.0.recv(&mut buf).unwrap();
            String::from_utf8_lossy(&buf[..n]).into_owned()
        };
        let said = hear();
        assert!(
            said.contains("READY=1") && said.contains(&format!("MAINPID={}", child.id())),
            "{said}"
        );
        assert_eq!(
            w.sh("daemon").ok().trim(),
            child.id().to_string(),
            "commands use it"
        );
        signal(child.id() as i32, libc::SIGINT);
        assert!(hear().contains("STOPPING=1"));
        let ran = finish(child);
        assert_eq!(ran.code, Some(0));
        assert!(
            ran.err.contains("serves"),
            "logs to standard error: {}",
            ran.err
        );
    }
    // A second one says who has the pool.
    let pid = w.sh("daemon").ok();
    let ran = w.sh("daemon --foreground");
    assert_eq!(ran.code, Some(5));
    assert!(
        ran.err.contains(&format!("(process {})", pid.trim())),
        "{}",
        ran.err
    );
}

#[test]
fn mounts_come_and_go() {
    if !common::need_fuse() {
        return;
    }
    let mut w = World::with_image();
    w.idle = "0.3";
    w.sh("daemon --stop").ok();
    w.sh("create base c").ok();
    let (m, n) = (w.mount_point("m"), w.mount_point("n"));
    w.run(["mount", "c", &m]).ok();
    let pid = w.daemon().unwrap();
    assert_eq!(std::fs::read(w.path("m/etc/hostname")).unwrap(), b"base\n");
    std::thread::sleep(Duration::from_secs(1));
    assert!(alive(pid), "stays as long as something is mounted");
    w.run(["mount", "c", &n])
        .fails(5, &format!("c is mounted on {m}"));
    w.run(["mount", "base", &m]).fails(5, "already mounted");
    // A sealed volume as often as one likes, and nobody writes to it.
    w.run(["mount", "base", &n]).ok();
    let o = w.mount_point("o");
    w.run(["mount", "base", &o]).ok();
    let refused = std::fs::write(w.path("o/x"), b"").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
    let row = &w.sh("list --json").json();
    let mounts: Vec<&Value> = row
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["Mounts"])
        .collect();
    assert_eq!(mounts, [&json!([n, o]), &json!([m])]);
    // By name: all its mounts.
    w.umount("base");
    assert_eq!(
        std::fs::read_dir(&n).unwrap().count() + std::fs::read_dir(&o).unwrap().count(),
        0
    );
    // umount followed at once by mount, again and again; and each time all is durable and there.
    for i in 0..20 {
        std::fs::write(w.path("m/count"), i.to_string()).unwrap();
        w.umount(&m);
        w.run(["mount", "c", &m]).ok();
        assert_eq!(
            std::fs::read_to_string(w.path("m/count")).unwrap(),
            i.to_string()
        );
    }
    // Busy is said, and what is asked for is done.
    let held = std::fs::File::open(w.path("m/count")).unwrap();
    w.run(["umount", &m]).fails(5, "in use");
    drop(held);
    w.umount(&m);
    w.run(["umount", &m]).fails(3, "nothing is mounted");
    wait_for("its end", || !alive(pid));
    w.check();
}

/// Seen from outside while mounted: what programs wrote is there for commands, what commands wrote is
/// there for programs.
#[test]
fn commands_and_a_mount_agree() {
    if !common::need_fuse() {
        return;
    }
    let w = World::with_image();
    w.sh("create base c").ok();
    let m = w.mount_point("m");
    w.run(["mount", "c", &m]).ok();
    // Written, and still open: the kernel keeps it until it is asked.
    let mut open = std::fs::File::create(w.path("m/open")).unwrap();
    open.write_all(b"half").unwrap();
    assert_eq!(w.sh("cat c:/open").ok(), "half");
    assert_eq!(w.sh("ls --json c:/open").json()[0]["Size"], 4);
    w.sh("snapshot c@s").ok();
    open.write_all(b" and half").unwrap();
    assert_eq!(w.sh("cat c@s:/open").ok(), "half");
    assert_eq!(w.sh("cat c:/open").ok(), "half and half");
    assert_eq!(w.sh("diff c c@s").ok(), "C /open\n");
    w.sh("clone c d").ok();
    assert_eq!(w.sh("cat d:/open").ok(), "half and half");
    // A name that was not there a moment ago; a file replaced, by name and through an old descriptor.
    assert!(!w.path("m/etc/new").exists());
    w.run_with_input(["cp", "-", "c:/etc/new"], b"new").ok();
    assert_eq!(std::fs::read(w.path("m/etc/new")).unwrap(), b"new");
    let mut old = std::fs::File::open(w.path("m/etc/conf")).unwrap();
    assert_eq!(std::fs::read_dir(w.path("m/etc")).unwrap().count(), 3);
    w.run_with_input(["cp", "-", "c:/etc/conf"], b"a=2\n").ok();
    assert_eq!(std::fs::read(w.path("m/etc/conf")).unwrap(), b"a=2\n");
    let mut text = String::new();
    old.read_to_string(&mut text).unwrap();
    assert_eq!(text, "a=1\n", "who has it open keeps the old one");
    drop(old);
    w.sh("rollback c@s")
        .fails(5, &format!("c is mounted on {m}"));
    w.sh("rename c e").ok();
    assert_eq!(std::fs::read(w.path("m/open")).unwrap(), b"half and half");
    // Removed while mounted: gone from sight, there for its users, gone for good with them.
    drop(open);
    w.sh("rm e@s").ok();
    assert_eq!(w.sh("rm e").ok(), "e (in use: goes with its last user)\n");
    assert_eq!(std::fs::read(w.path("m/open")).unwrap(), b"half and half");
    let rows = w.sh("list --json").json();
    let row = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|r| r["Name"] == "e")
        .expect("shown")
        .clone();
    assert_eq!(row["Status"], "removing");
    assert_eq!(
        w.sh("pool status --format {{.DeferredRemovals}}").ok(),
        "1\n"
    );
    w.sh("cat e:/open").fails(3, "nothing here is called 'e'");
    w.sh("create base e").ok();
    w.umount(&m);
    wait_for("it to go", || {
        w.sh("pool status --format {{.DeferredRemovals}}").ok() == "0\n"
    });
    w.check();
}

#[test]
fn clients_that_die() {
    let w = World::with_image();
    w.sh("create base c").ok();
    let before = w.sh("list -a --json").json();
    // An import from a pipe whose writer says nothing more, and one that is cut short.
    for end in ["silent", "closed"] {
        let mut child = w
            .command(["import", "-", "dead"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        // More than is looked at before the work begins.
        let mut tar = Vec::new();
        while tar.len() < 6 << 20 {
            tar.extend_from_slice(commands::image_tar().strip_suffix(&[0; 1024]).unwrap());
        }
        tar.truncate(5_000_000);
        pipe.write_all(&tar).unwrap();
        wait_for("it to begin", || {
            w.sh("list -a --format {{.Status}}")
                .ok()
                .contains("building")
        });
        if end == "closed" {
            // The archive ends in the middle: an error, with its reason.
            drop(pipe);
            let ran = finish(child);
            assert_eq!(ran.code, Some(2), "{}", ran.err);
        } else {
            child.kill().unwrap();
            child.wait().unwrap();
            wait_for("it to be undone", || {
                w.sh("list -a --json").json() == before
            });
            drop(pipe);
        }
        assert_eq!(w.sh("list -a --json").json(), before, "{end}");
    }
    // A copy that is cut short does not appear, although its pipe ended like any other.
    let mut child = w
        .command(["cp", "-", "c:/never"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&big()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    child.kill().unwrap();
    child.wait().unwrap();
    drop(pipe);
    // A reader that dies in the middle of a file ends only itself.
    w.run_with_input(["cp", "-", "c:/long"], &vec![1; 8 << 20])
        .ok();
    let mut child = w.command(["cat", "c:/long"]).spawn().unwrap();
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut [0; 1000])
        .unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(w.sh("ls c:/").ok(), "big\nbin\netc\nlink\nlong\n");
    // None of them is still counted as a client: it ends at once when told.
    let pid = w.daemon().unwrap();
    signal(pid, libc::SIGTERM);
    let began = Instant::now();
    wait_for("its end", || !alive(pid));
    assert!(began.elapsed() < Duration::from_secs(10));
    w.check();
}

/// Commands killed at any moment: afterwards each volume is there wholly or not at all.
#[test]
fn commands_killed_at_any_moment() {
    let w = World::with_image();
    std::fs::write(w.path("two.tar"), commands::image_tar()).unwrap();
    for i in 0..60u64 {
        let verb: &[&str] = match i % 4 {
            0 => &["import", "two.tar", "again"],
            1 => &["create", "base", "killed"],
            2 => &["rm", "-f", "killed"],
            _ => &["clone", "base", "other"],
        };
        let mut child = w.command(verb).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(i * 150));
        let _ = child.kill();
        child.wait().unwrap();
        if i % 4 == 3 {
            w.sh("rm -f other again").ok();
        }
    }
    for row in w.sh("list -a --json").json().as_array().unwrap() {
        assert_ne!(row["Status"], "building", "{row}");
        if row["Kind"] != "layer" {
            w.run(["cat", &format!("{}:/big", row["Name"].as_str().unwrap())])
                .ok();
        }
    }
    w.check();
}

/// A pool whose creation is killed is no pool, and is made by the next who tries.
#[test]
fn creations_killed_at_any_moment() {
    let w = World::new();
    let mut cut_short = 0;
    for i in 0..40u64 {
        let dir = w.path(&format!("pool{i}"));
        let words = ["pool", "create", dir.to_str().unwrap(), "--size", "1G"];
        let mut child = w.command(words).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(500 + i * 400));
        let _ = child.kill();
        child.wait().unwrap();
        let again = w.run(words);
        match again.code {
            Some(0) => cut_short += 1,
            _ => {
                again.fails(4, "holds a pool already");
            }
        }
        assert!(!dir.join("creating").exists());
        let mut check = w.command(["pool", "check"]);
        check.env("COWFS_POOL", &dir);
        assert!(finish(check.spawn().unwrap()).ok().starts_with("clean"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
    assert!(cut_short > 0);
}

/// The daemon killed again and again while commands work on it: what was answered is there.
#[test]
fn the_daemon_killed_at_any_moment() {
    let w = World::with_image();
    let mut kept = Vec::new();
    for round in 0..12u64 {
        w.sh("daemon").ok();
        let pid = w.daemon().unwrap();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20 + round * 13));
            signal(pid, libc::SIGKILL);
        });
        for i in 0.. {
            let name = format!("c{round}-{i}");
            let ran = w.run(["create", "base", &name]);
            match ran.code {
                Some(0) => kept.push(name),
                _ => {
                    assert!(ran.err.contains("went away"), "{}", ran.err);
                    break;
                }
            }
            if !alive(pid) {
                break;
            }
        }
        killer.join().unwrap();
        wait_for("its death", || !alive(pid));
        let there = w.sh("containers --format {{.Name}}").ok();
        for name in &kept {
            assert!(there.lines().any(|l| l == name), "{name} was answered");
        }
        w.check();
    }
    assert!(!kept.is_empty());
}

#[test]
fn killed_under_a_mount() {
    if !common::need_fuse() {
        return;
    }
    let w = World::with_image();
    w.sh("create base c").ok();
    let m = w.mount_point("m");
    for round in 0..5 {
        w.run(["mount", "c", &m]).ok();
        let pid = w.daemon().unwrap();
        std::fs::write(w.path(&format!("m/closed{round}")), big()).unwrap();
        std::fs::rename(w.path("m/big"), w.path("m/bigger"))
            .or_else(|_| std::fs::rename(w.path("m/bigger"), w.path("m/big")))
            .unwrap();
        signal(pid, libc::SIGKILL);
        wait_for("its death", || !alive(pid));
        let dead = std::fs::read_dir(&m).map(|_| ()).unwrap_err();
        // The second: it died while we asked.
        assert!(
            matches!(
                dead.raw_os_error(),
                Some(libc::ENOTCONN | libc::ECONNABORTED)
            ),
            "{dead}"
        );
        // The corpse is in the way, and can be taken away.
        w.umount(&m);
        assert_eq!(w.run(["cat", &format!("c:/closed{round}")]).out, big());
        w.check();
    }
}

/// A connection as any program could make it.
struct Raw(UnixStream);

fn connect(w: &World) -> Raw {
    let mut s = UnixStream::connect(w.pool.join("socket")).unwrap();
    s.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut line = Vec::new();
    // Byte by byte: nothing that follows may be lost in a buffer.
    while line.last() != Some(&b'\n') {
        let mut b = [0];
        s.read_exact(&mut b).unwrap();
        line.push(b[0]);
    }
    let hello: Value = serde_json::from_slice(&line).unwrap();
    assert_eq!(hello["version"], 1);
    Raw(s)
}

impl Raw {
    fn ask(&mut self, line: &[u8]) -> Option<Value> {
        self.0.write_all(line).ok()?;
        self.0.write_all(b"\n").ok()?;
        let mut answer = String::new();
        BufReader::new(&self.0).read_line(&mut answer).ok()?;
        serde_json::from_str(&answer).ok()
    }
}

#[test]
fn what_the_socket_may_say() {
    let w = World::with_image();
    let pid = w.daemon().unwrap();
    let mode = std::fs::metadata(w.pool.join("socket"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut c = connect(&w);
    assert_eq!(
        c.ask(br#"{"do":"ping","version":1,"what":"is unknown is passed over"}"#)
            .unwrap(),
        json!({"done": "done"})
    );
    // A request without its descriptor, or for nothing that exists, is refused; the connection goes on.
    for line in [
        r#"{"do":"import","source":"x"}"#,
        r#"{"do":"mount","name":"base","dir":"/x"}"#,
        r#"{"do":"read","name":"base","path":"/etc/conf"}"#,
        r#"{"do":"commit"}"#,
        r#"{"do":"unmounted","mount":77}"#,
        r#"{"do":"attached","mount":77,"connection":1}"#,
        r#"{"do":"create","image":"","name":"x"}"#,
        r#"{"do":"stat","name":"base","path":""}"#,
        r#"{"do":"ls","name":"base","path":"/etc/conf/x"}"#,
    ] {
        let answer = c.ask(line.as_bytes()).unwrap_or_else(|| panic!("{line}"));
        assert!(
            answer.get("error").is_some() || answer.get("done").is_some(),
            "{line}: {answer}"
        );
    }
    let long = format!(r#"{{"do":"inspect","name":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(c.ask(long.as_bytes()).unwrap()["error"]["exit"], 3);
    let deep = format!(
        r#"{{"do":"stat","name":"base","path":"{}"}}"#,
        "/x".repeat(100_000)
    );
    assert_eq!(
        c.ask(deep.as_bytes()).unwrap()["error"]["errno"],
        libc::ENAMETOOLONG
    );
    // What makes no sense is answered, and ends the connection.
    for garbage in [
        &b"hello"[..],
        b"",
        b"{\"do\":\"fly\"}",
        b"\xff\xfe",
        b"[1,2",
        br#"{"do":"ls","name":"base","path":"\\q"}"#,
        &b"[".repeat(100_000),
    ] {
        let mut c = connect(&w);
        let answer = c.ask(garbage).unwrap();
        assert_eq!(answer["error"]["exit"], 2, "{answer}");
    }
    // A line without an end is not read for ever.
    let mut c = connect(&w);
    let endless = vec![b'x'; 1 << 20];
    let mut sent = 0;
    while sent < 64 && c.0.write_all(&endless).is_ok() {
        sent += 1;
    }
    assert!(sent < 64, "the daemon hangs up");
    assert!(alive(pid));
    assert_eq!(w.started(), 1);
    assert!(!w.log().contains("panic"), "{}", w.log());
}

#[test]
fn many_clients_at_once() {
    let w = World::with_image();
    let mut held: Vec<Raw> = Vec::new();
    for _ in 0..255 {
        held.push(connect(&w));
    }
    // One too many is told so, and not hung up on silently.
    let _last = connect(&w);
    let ran = w.sh("list");
    assert_eq!(ran.code, Some(8));
    assert!(ran.err.contains("256 clients"), "{}", ran.err);
    held.truncate(200);
    wait_for("room", || w.sh("list").code == Some(0));
}

#[test]
fn whose_pool_it_is() {
    if !common::need_root() {
        return;
    }
    let theirs = World::of(SOMEBODY);
    theirs.import_base();
    theirs.sh("create base c").ok();
    let pid = theirs.daemon().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains(&format!("Uid:\t{SOMEBODY}")), "{status}");
    // Root does not open it, running or not, and says what to do.
    let mut root = theirs.command(["list"]);
    root.uid_gid(0);
    let said = finish(root.spawn().unwrap()).fails(8, &format!("belongs to user {SOMEBODY}"));
    assert!(said.contains("setpriv"), "{said}");
    let mut root = theirs.command(["daemon", "--foreground"]);
    root.uid_gid(0);
    finish(root.spawn().unwrap()).fails(8, "root does not open it");
    // Another user gets nowhere: not into the directory, and were the doors open, not past the daemon.
    let stranger = |words: &[&str]| {
        let mut c = theirs.command(words);
        c.uid_gid(SOMEBODY + 1);
        finish(c.spawn().unwrap())
    };
    stranger(&["list"]).fails(8, "belongs to user");
    for (path, mode) in [
        (theirs.pool.clone(), 0o777),
        (theirs.pool.join("socket"), 0o666),
    ] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    if common::need_program("perl") {
        let script = "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die $!; print <$s>;";
        let mut probe = Command::new("perl");
        probe.args(["-e", script]).arg(theirs.pool.join("socket"));
        theirs.dress(&mut probe);
        probe.uid_gid(SOMEBODY + 1);
        let said: Value = finish(probe.spawn().unwrap()).json();
        let why = said["refusal"].as_str().expect("refused");
        assert!(why.contains(&format!("user {SOMEBODY}'s")), "{said}");
    }
    // And nobody uses root's.
    let ours = World::with_image();
    let mut c = ours.command(["list"]);
    c.uid_gid(SOMEBODY);
    let ran = finish(c.spawn().unwrap());
    assert_eq!(ran.code, Some(8), "{}", ran.err);
    theirs.check();
}

#[test]
fn an_ordinary_user_mounts() {
    if !common::need_fuse() || !common::need_program("fusermount3") {
        return;
    }
    let _open = common::OpenDevice::new();
    // fusermount3 wants an account: Debian's number 1 always exists.
    const ACCOUNT: u32 = 1;
    let w = World::of(ACCOUNT);
    w.import_base();
    w.sh("create base c").ok();
    let m = w.mount_point("m");
    w.run([
        "mount",
        "c",
        &m,
        "-o",
        &format!("uid={ACCOUNT},gid={ACCOUNT}"),
    ])
    .ok();
    let sh = |script: &str| {
        let mut c = Command::new("sh");
        c.args(["-c", script]);
        w.dress(&mut c);
        finish(c.spawn().unwrap())
    };
    assert_eq!(
        sh("cat m/etc/hostname; echo mine > m/etc/mine; cat m/etc/mine").ok(),
        "base\nmine\n"
    );
    assert!(
        w.sh("ls -l c:/etc/mine").ok().contains("   0   0   "),
        "stored as the image's root"
    );
    w.umount("c");
    w.run(["mount", "c", &m]).ok();
    w.umount(&m);
    w.check();
}

/// Numbers for a command.
trait As {
    fn uid_gid(&mut self, id: u32);
}

impl As for Command {
    fn uid_gid(&mut self, id: u32) {
        use std::os::unix::process::CommandExt;
        self.uid(id).gid(id);
    }
}

#[test]
fn the_daemon_is_on_its_own() {
    let w = World::new();
    w.sh("pool create").ok();
    let pid: i32 = w.sh("daemon").ok().trim().parse().unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(fields[2], fields[3], "a process group of its session");
    // SAFETY: getsid(2) takes a number.
    let ours = unsafe { libc::getsid(0) };
    assert_ne!(
        fields[3].parse::<i32>().unwrap(),
        ours,
        "a session of its own"
    );
    assert_eq!(
        std::fs::read_link(format!("/proc/{pid}/cwd"))
            .unwrap()
            .to_str(),
        Some("/")
    );
    // It keeps nothing of ours open.
    for fd in std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap() {
        let to = std::fs::read_link(fd.unwrap().path()).unwrap_or_default();
        let to = to.to_string_lossy().into_owned();
        let own = to.starts_with(w.pool.to_str().unwrap())
            || to.starts_with("anon_inode:")
            || to.starts_with("socket:")
            || to == "/dev/null";
        assert!(own, "{to}");
    }
}

/// The log does not grow without bound.
#[test]
fn the_log_is_bounded() {
    let w = World::new();
    w.sh("pool create").ok();
    std::fs::write(w.pool.join("daemon.log"), vec![b'x'; (1 << 20) - 10]).unwrap();
    w.sh("daemon").ok();
    wait_for("the turn", || w.pool.join("daemon.log.1").exists());
    assert!(w.log().len() < 1000);
}
