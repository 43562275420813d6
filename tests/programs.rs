//! Real programs in containers of a real Debian image, and in plain mounts of them, as root and as an
//! ordinary user: they check themselves (tests/programs.sh).

mod boxes;
mod common;

use boxes::{Pool, Setup, USER, setup, sh, text};
use std::path::{Path, PathBuf};

const PROGRAMS: &str = include_str!("programs.sh");
/// What the image has not got is installed in the container itself: dpkg and apt are tested so.
const INSTALL: &str = "set -e; export DEBIAN_FRONTEND=noninteractive; cd /tmp; apt-get update -q >/dev/null; \
    apt-get install -y -q --no-install-recommends git sqlite3 gcc libc6-dev rsync >/dev/null; \
    apt-get download -q hello >/dev/null; dpkg -i hello_*.deb >/dev/null; hello; dpkg --verify; \
    dpkg -r hello >/dev/null; ! command -v hello; dpkg --audit";

/// The image: debootstrap's smallest, kept between runs.
fn debian() -> Result<PathBuf, String> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tests");
    let tar = dir.join("debian.tar");
    let tour = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tour/root.tar");
    for there in [&tar, &tour] {
        // The tour makes a smaller image for ordinary users.
        if std::fs::metadata(there).is_ok_and(|m| m.len() > 50 << 20) {
            return Ok(there.clone());
        }
    }
    std::fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
    let root = tempfile::tempdir_in("/var/tmp").map_err(|e| e.to_string())?;
    let part = tar.with_extension("part");
    let line = format!(
        "set -e; suite=$(. /etc/os-release; echo ${{VERSION_CODENAME:-stable}}); \
         timeout 400 debootstrap --variant=minbase $suite {root}/r >&2; \
         tar --numeric-owner --xattrs -C {root}/r -cf {part} .; mv {part} {tar}",
        root = root.path().display(),
        part = part.display(),
        tar = tar.display()
    );
    match sh(&line) {
        out if out.status.success() => Ok(tar),
        out => Err(format!(
            "debootstrap: {}",
            text(&out.stderr).lines().last().unwrap_or_default()
        )),
    }
}

fn with_debian(user: Option<&'static str>, test: impl FnOnce(&Setup, &Pool)) {
    let Some(setup) = setup() else { return };
    if !common::need_program("debootstrap") && !Path::new("/usr/sbin/debootstrap").exists() {
        return;
    }
    let tar = match debian() {
        Ok(tar) => tar,
        Err(e) => return common::skip(&e),
    };
    let pool = Pool::new(setup, user, "{}");
    let done = sh(&format!(
        "cp {} {}; chmod 644 {1}",
        tar.display(),
        pool.at("debian.tar")
    ));
    assert!(done.status.success(), "{}", text(&done.stderr));
    let out = pool.cowfs(["import", &pool.at("debian.tar"), "debian"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let out = pool.cowfs(["create", "debian", "c"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let said = pool.run("c --", INSTALL, 0);
    assert!(said.contains("Hello, world!"), "{said}");
    test(setup, &pool);
    pool.check();
}

fn in_a_container(pool: &Pool) {
    let said = pool.run("c --", &format!("mkdir /work; set -- /work; {PROGRAMS}"), 0);
    assert!(said.trim_end().ends_with("all well"), "{said}");
    let diff = text(&pool.cowfs(["diff", "c"]).stdout);
    assert!(
        diff.lines().any(|l| l == "A /work/t.db") && diff.contains("A /usr/bin/gcc"),
        "{}",
        diff.len()
    );
}

/// The host's programs in the container's mounted root.
fn in_a_mount(pool: &Pool) {
    let at = pool.at("mnt");
    let user = pool.user.unwrap_or("root");
    assert!(
        sh(&format!("mkdir {at}; chown {user}: {at}"))
            .status
            .success()
    );
    let out = pool.cowfs(["create", "debian", "m"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let out = pool.cowfs(["mount", "m", &at]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let work = match pool.user {
        // Of all that a debootstrap root has, this is everybody's.
        Some(_) => format!("{at}/tmp/work"),
        None => format!("{at}/work"),
    };
    let script = pool.at("programs.sh");
    std::fs::write(&script, PROGRAMS).unwrap();
    let out = sh(&format!(
        "setpriv --reuid {user} --regid {user} --init-groups -- sh -c 'mkdir {work}; sh {script} {work}'"
    ));
    let said = text(&out.stdout);
    let undone = pool.cowfs(["umount", &at]);
    assert!(
        out.status.success() && said.trim_end().ends_with("all well"),
        "{said}{}",
        text(&out.stderr)
    );
    assert!(undone.status.success(), "{}", text(&undone.stderr));
}

#[test]
fn programs_of_root() {
    with_debian(None, |_, pool| {
        in_a_container(pool);
        in_a_mount(pool);
    });
}

#[test]
fn programs_of_an_ordinary_user() {
    with_debian(Some(USER), |_, pool| {
        in_a_container(pool);
        in_a_mount(pool);
    });
}
