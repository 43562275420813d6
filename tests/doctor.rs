//! `cowfs doctor`: where things work it says so, where they do not it says what to do.

mod boxes;
mod common;

use boxes::{LONE, Pool, USER, setup, sh, text};
use serde_json::Value;
use std::process::Output;

fn report(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", text(&out.stdout), text(&out.stderr)))
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|c| c["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

#[test]
fn here_as_root_and_as_a_user() {
    let Some(setup) = setup() else { return };
    for (user, ids) in [(None, "ok"), (Some(USER), "ok"), (Some(LONE), "warn")] {
        let pool = Pool::new(setup, user, "{}");
        let out = pool.cowfs(["doctor", "--json"]);
        let it = report(&out);
        assert_eq!(out.status.code(), Some(0), "{it:#}");
        assert_eq!(
            (it["mount"].as_bool(), it["run"].as_bool()),
            (Some(true), Some(true)),
            "{it:#}"
        );
        for name in [
            "/dev/fuse",
            "kernel",
            "mount calls",
            "fuse in the kernel",
            "mounting",
            "fusermount3",
            "user namespaces",
            "pool",
            "free space",
        ] {
            assert_eq!(check(&it, name)["status"], "ok", "{:#}", check(&it, name));
        }
        for c in it["checks"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|c| c["status"] != "ok")
        {
            assert!(c["advice"].as_str().is_some_and(|a| !a.is_empty()), "{c:#}");
        }
        assert_eq!(check(&it, "subuid, subgid")["status"], ids);
        // In words: a line each, and an advice line for what is not well.
        let words = text(&pool.cowfs(["doctor"]).stdout);
        assert!(
            words.contains("mounting works, running containers works"),
            "{words}"
        );
        assert_eq!(
            words
                .lines()
                .filter(|l| l.trim_start().starts_with("-> "))
                .count(),
            words.lines().filter(|l| l.starts_with("warn")).count()
        );
        // Nothing is left over.
        assert!(
            !std::fs::read_to_string("/proc/mounts")
                .unwrap()
                .contains("cowfs-doctor")
        );
    }
}

#[test]
fn without_dev_fuse() {
    let Some(setup) = setup() else { return };
    let line = format!(
        "COWFS_POOL=/nowhere/pool {}/cowfs doctor --json",
        setup.bin.display()
    );
    let out = sh(&format!(
        "unshare -m sh -c 'mount -t tmpfs none /dev && {line}'"
    ));
    let it = report(&out);
    assert_eq!(
        (
            out.status.code(),
            it["mount"].as_bool(),
            it["run"].as_bool()
        ),
        (Some(1), Some(false), Some(false)),
        "{it:#}"
    );
    assert_eq!(check(&it, "/dev/fuse")["status"], "fail");
    assert!(
        check(&it, "/dev/fuse")["advice"]
            .as_str()
            .unwrap()
            .contains("modprobe fuse")
    );
    assert!(
        check(&it, "pool")["found"]
            .as_str()
            .unwrap()
            .contains("/nowhere/pool")
    );
}

#[test]
fn without_fusermount_and_without_namespaces() {
    let Some(setup) = setup() else { return };
    let pool = Pool::new(setup, Some(USER), "{}");
    let as_user = format!(
        "HOME=/home/{USER} COWFS_POOL={} setpriv --reuid {USER} --regid {USER} --init-groups {}/cowfs doctor --json",
        pool.path(),
        setup.bin.display()
    );
    // A fusermount3 that is not set-uid.
    let out = sh(&format!(
        "unshare -m sh -c 'cp /usr/bin/fusermount3 /run/f3; chmod 755 /run/f3; mount --bind /run/f3 /usr/bin/fusermount3; {as_user}; c=$?; rm /run/f3; exit $c'"
    ));
    let it = report(&out);
    assert_eq!(
        (
            out.status.code(),
            it["mount"].as_bool(),
            it["run"].as_bool()
        ),
        (Some(1), Some(false), Some(true)),
        "{it:#}"
    );
    assert!(
        check(&it, "fusermount3")["advice"]
            .as_str()
            .unwrap()
            .contains("chmod 4755"),
        "{it:#}"
    );
    // A machine that forbids user namespaces: here one of its namespaces does.
    let out = sh(&format!(
        "unshare -U --map-root-user -m sh -c 'echo 0 > /proc/sys/user/max_user_namespaces; exec {}/cowfs doctor --json'",
        setup.bin.display()
    ));
    let it = report(&out);
    assert_eq!(check(&it, "user namespaces")["status"], "fail", "{it:#}");
    assert!(
        check(&it, "user namespaces")["advice"]
            .as_str()
            .unwrap()
            .contains("sysctl user.max_user_namespaces")
    );
}

#[test]
fn a_pool_that_is_anothers_or_does_not_last() {
    let Some(setup) = setup() else { return };
    let theirs = Pool::new(setup, Some(USER), "{}");
    let line = |pool: &str| {
        format!(
            "COWFS_POOL={pool} {}/cowfs doctor --json",
            setup.bin.display()
        )
    };
    let it = report(&sh(&line(&theirs.path())));
    assert_eq!(check(&it, "pool")["status"], "fail");
    let it = report(&sh(&line("/dev/shm/cowfs-test-pool")));
    assert_eq!(check(&it, "pool")["status"], "warn");
    assert!(
        check(&it, "pool")["found"]
            .as_str()
            .unwrap()
            .contains("tmpfs"),
        "{it:#}"
    );
}
