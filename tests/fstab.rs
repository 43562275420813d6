//! fstab(5), mount(8), umount(8), findmnt(8) with the helpers, as root and as ordinary users. In a mount
//! namespace of its own, where /etc/fstab and /sbin are ours.

mod boxes;
mod common;

use boxes::{LONE, Pool, Setup, USER, setup, sh, text};
use std::process::{Child, Command, Stdio};

/// A namespace that a sleeping process keeps.
struct Machine {
    keeper: Child,
}

impl Machine {
    fn new(setup: &Setup, pool: &Pool, fstab: &str) -> Machine {
        std::fs::write(pool.at("fstab"), fstab).unwrap();
        let sbin = pool.at("sbin");
        assert!(sh(&format!("cp -a /usr/sbin {sbin} && rm -f {sbin}/mount.cowfs {sbin}/umount.fuse.cowfs && ln -s {0}/mount.cowfs {0}/umount.fuse.cowfs {sbin}/", setup.bin.display())).status.success());
        let merged = std::fs::canonicalize("/sbin").unwrap();
        let keeper = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sleep", "600"])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let machine = Machine { keeper };
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        // It is not in its own namespace at once.
        let ns = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        while ns(&machine.keeper.id().to_string()) == ns("self") {
            assert!(std::time::Instant::now() < end);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        machine.ok(&format!(
            "mount --bind {sbin} {} && touch /etc/fstab && mount --bind {} /etc/fstab",
            merged.display(),
            pool.at("fstab")
        ));
        machine
    }

    /// Exit code, and all that was said.
    fn sh(&self, line: &str) -> (i32, String) {
        let out = Command::new("nsenter")
            .args([
                "-t",
                &self.keeper.id().to_string(),
                "-m",
                "--",
                "sh",
                "-c",
                line,
            ])
            .env_remove("COWFS_POOL")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (
            out.status.code().unwrap_or(-1),
            text(&out.stdout) + &text(&out.stderr),
        )
    }

    fn ok(&self, line: &str) -> String {
        let (code, said) = self.sh(line);
        assert_eq!(code, 0, "{line}: {said}");
        said
    }

    /// Fails with this code and one line that contains this.
    fn fails(&self, line: &str, code: i32, what: &str) {
        let (got, said) = self.sh(line);
        assert!(
            got == code && said.contains(what) && said.trim().lines().count() == 1,
            "{line}: {got}: {said}"
        );
    }

    fn user(&self, user: &str, line: &str) -> (i32, String) {
        // As a login has it: no inherited environment.
        self.sh(&format!("su - {user} -c '{line}'"))
    }

    fn mounted(&self, dir: &str) -> Option<String> {
        let (code, said) = self.sh(&format!(
            "findmnt -rno SOURCE,FSTYPE,OPTIONS --mountpoint {dir}"
        ));
        (code == 0).then(|| said.trim().to_owned())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // What a failed test left mounted would keep its daemon.
        self.sh("for m in $(findmnt -rno TARGET -t fuse.cowfs | grep /cowfs-box-); do umount -l $m; done");
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

fn prepared(setup: &Setup, user: Option<&'static str>, fstab: &str) -> (Pool, Machine) {
    let pool = Pool::new(setup, user, "{}");
    for words in [
        &["create", "bb", "web"][..],
        &["create", "bb", "db"],
        &["snapshot", "web@one"],
    ] {
        let out = pool.cowfs(words);
        assert!(out.status.success(), "{words:?}: {}", text(&out.stderr));
    }
    for dir in ["web", "img", "snap"] {
        std::fs::create_dir(pool.at(dir)).unwrap();
    }
    if let Some(user) = user {
        assert!(
            sh(&format!(
                "chown {user}: {} {}; chmod 755 {}",
                pool.at("web"),
                pool.at("img"),
                pool.dir.path().display()
            ))
            .status
            .success()
        );
    }
    let fstab = fstab
        .replace("POOL", &pool.path())
        .replace("AT", pool.dir.path().to_str().unwrap());
    let machine = Machine::new(setup, &pool, &fstab);
    (pool, machine)
}

#[test]
fn lines_of_root() {
    let Some(setup) = setup() else { return };
    let (pool, m) = prepared(
        setup,
        None,
        "container=web AT/web cowfs pool=POOL,user,exec,noauto 0 0\n\
         POOL AT/img cowfs image=bb,nofail,_netdev,x-systemd.automount,comment=x 0 0\n\
         snapshot=web@one AT/snap cowfs pool=POOL,ro,noatime 0 0\n",
    );
    let (web, img, snap) = (pool.at("web"), pool.at("img"), pool.at("snap"));
    m.ok("mount -a");
    assert_eq!(m.mounted(&web), None, "noauto");
    assert!(
        m.mounted(&img)
            .unwrap()
            .starts_with(&format!("{} fuse.cowfs ro,", pool.path()))
    );
    assert!(
        m.mounted(&snap)
            .unwrap()
            .starts_with("snapshot=web@one fuse.cowfs ro,noatime")
    );
    assert_eq!(
        m.ok(&format!("cat {img}/etc/plain {snap}/etc/plain")),
        "text\ntext\n"
    );
    // The second finds all there.
    let before = m.ok("cat /proc/self/mountinfo");
    assert_eq!(m.ok("mount -a"), "");
    assert_eq!(m.ok("cat /proc/self/mountinfo"), before);
    m.ok(&format!("mount {web}"));
    assert!(
        m.mounted(&web)
            .unwrap()
            .starts_with("container=web fuse.cowfs rw,nosuid,nodev,relatime"),
        "{:?}",
        m.mounted(&web)
    );
    m.ok(&format!("{web}/bin/true"));
    m.fails(&format!("mount {web}"), 32, "already mounted");
    // What was written is durable and there, however fast they follow each other.
    for n in 0..10 {
        m.ok(&format!(
            "echo {n} > {web}/n; umount {web} && mount {web} && test $(cat {web}/n) = {n}"
        ));
    }
    m.ok(&format!("mount -o remount,ro {web}; ! touch {web}/x 2>/dev/null; mount -o remount,rw {web}; touch {web}/x"));
    // Busy, then lazily.
    m.fails(&format!("cd {web} && umount {web}"), 32, "in use");
    m.ok(&format!("cd {web} && umount -l {web}"));
    assert_eq!(m.mounted(&web), None);
    m.ok("umount -a -t fuse.cowfs -O x-nothing; true");
    m.ok(&format!("umount {img} {snap}"));
    m.fails(&format!("umount {snap}"), 32, "not mounted");
    assert_eq!(text(&pool.cowfs(["cat", "web:/n"]).stdout), "9\n");
    // No word of what is gone.
    m.ok("! findmnt -rno TARGET -t fuse.cowfs | grep cowfs-box-");
}

#[test]
fn findmnt_verifies() {
    let Some(setup) = setup() else { return };
    let (pool, m) = prepared(
        setup,
        None,
        "POOL AT/web cowfs container=web,user,exec,noauto 0 0\nPOOL AT/snap cowfs snapshot=web@one,ro 0 0\n",
    );
    let said = m.ok("findmnt --verify");
    assert!(said.contains("0 parse errors, 0 errors"), "{said}");
    m.ok(&format!(
        "mount -a && mount {0} && mount -a && umount {0} && umount {1}",
        pool.at("web"),
        pool.at("snap")
    ));
    // The short form too, but for findmnt's own opinion of every NAME=value that is no disk's tag.
    std::fs::write(
        pool.at("fstab"),
        format!(
            "container=web {} cowfs pool={} 0 0\n",
            pool.at("web"),
            pool.path()
        ),
    )
    .unwrap();
    let (_, said) = m.sh("findmnt --verify");
    let errors: Vec<&str> = said.lines().filter(|l| l.contains("[E]")).collect();
    assert!(
        errors
            .iter()
            .all(|e| e.contains("unsupported source tag: container=web"))
            && said.contains("0 parse errors"),
        "{said}"
    );
}

#[test]
fn words_by_hand_and_what_is_refused() {
    let Some(setup) = setup() else { return };
    let (pool, m) = prepared(
        setup,
        None,
        "container=web AT/web cowfs pool=POOL,noauto 0 0\n",
    );
    let (web, img, p) = (pool.at("web"), pool.at("img"), pool.path());
    m.ok(&format!(
        "mount -t cowfs {p} {img} -o container=db,noexec,nodev"
    ));
    assert!(
        m.mounted(&img)
            .unwrap()
            .starts_with(&format!("{p} fuse.cowfs rw,nodev,noexec"))
    );
    m.fails(&format!("{img}/bin/true"), 126, "Permission denied");
    m.ok(&format!("umount {img}"));
    // The pool is remembered where the mount table cannot tell.
    m.ok(&format!("mount -t cowfs image=bb {img} -o pool={p} && umount {img} && mount -t cowfs image=bb {img} -o pool={p} && umount {img}"));
    m.ok(&format!("mount.cowfs -n -v container=web {web} -o pool={p},defaults,async,dev,suid,relatime && umount.fuse.cowfs -n {web}"));
    m.ok(&format!("mount -fv {web}"));
    assert_eq!(m.mounted(&web), None, "-f mounts nothing");
    m.fails(
        &format!("mount {web} -o bogus"),
        1,
        "unknown option 'bogus'",
    );
    m.ok(&format!("mount -s {web} -o bogus && umount {web}"));
    for (line, code, what) in [
        (
            format!("mount.cowfs container=web {web} -o pool={p},b=5"),
            1,
            "'b=5'",
        ),
        ("mount.cowfs container=web".to_string(), 1, "SOURCE DIR"),
        (format!("mount.cowfs web {web} -o pool={p}"), 1, "'web'"),
        (format!("mount.cowfs {p} {web}"), 1, "which volume"),
        (
            format!("mount.cowfs container=no {web} -o pool={p}"),
            32,
            "'no'",
        ),
        (
            format!("mount.cowfs container=bb:latest {web} -o pool={p}"),
            1,
            "no container",
        ),
        (
            format!("mount.cowfs snapshot=web@no {web} -o pool={p}"),
            32,
            "web@no",
        ),
        (
            format!("mount.cowfs container=web {web}/no -o pool={p}"),
            32,
            "does not exist",
        ),
        (
            format!("mount.cowfs container=web /etc/passwd -o pool={p}"),
            32,
            "not a directory",
        ),
        (
            format!("mount.cowfs container=web {web} -o pool={p}/no"),
            32,
            "no pool",
        ),
        (format!("umount.fuse.cowfs {web}"), 32, "not mounted"),
        ("umount.fuse.cowfs".to_string(), 1, "DIR"),
    ] {
        let (got, said) = m.sh(&line);
        let said_of_us: Vec<&str> = said.lines().collect();
        assert!(
            got == code && said_of_us.len() == 1,
            "{line}: {got}: {said}"
        );
        assert!(
            said.contains(what) || what == "not mounted" && said.contains("nothing is mounted"),
            "{line}: {said}"
        );
    }
}

#[test]
fn lines_of_ordinary_users() {
    let Some(setup) = setup() else { return };
    let fstab = "container=web AT/web cowfs pool=POOL,user,exec,noauto 0 0\ncontainer=db AT/img cowfs pool=POOL,users,noauto 0 0\n";
    let (pool, m) = prepared(setup, Some(USER), fstab);
    let (web, img) = (pool.at("web"), pool.at("img"));
    let said = m.user(
        USER,
        &format!("mount {web} && cat {web}/etc/plain && {web}/bin/true && echo executed"),
    );
    assert_eq!(said, (0, "text\nexecuted\n".into()));
    assert!(
        m.mounted(&web)
            .unwrap()
            .starts_with("container=web fuse.cowfs rw,nosuid,nodev,relatime"),
        "{:?}",
        m.mounted(&web)
    );
    for _ in 0..5 {
        assert_eq!(
            m.user(USER, &format!("umount {web} && mount {web}")),
            (0, String::new())
        );
    }
    // Another user may not end it; who made it may.
    let (code, said) = m.user(LONE, &format!("umount {web}"));
    assert!(
        code != 0 && !said.is_empty() && m.mounted(&web).is_some(),
        "{said}"
    );
    assert_eq!(m.user(USER, &format!("umount {web}")), (0, String::new()));
    // noexec is implied unless said otherwise.
    let (code, said) = m.user(USER, &format!("mount {img} && {img}/bin/true"));
    assert!(
        code == 126 && said.contains("Permission denied"),
        "{code}: {said}"
    );
    assert!(m.mounted(&img).unwrap().contains("noexec"));
    // Root may take away what a user mounted, but not open the user's pool.
    m.ok(&format!("umount {img}"));
    m.fails(&format!("mount {web}"), 32, "root does not open it");
    // Nor may others use the line for a pool that is not theirs.
    let (code, said) = m.user(LONE, &format!("mount {web}"));
    assert!(code == 32 && said.lines().count() == 1, "{code}: {said}");
    assert_eq!(m.mounted(&web), None);
}
