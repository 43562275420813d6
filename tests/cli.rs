//! Every command as a user types it: what it prints, its exit code, what it says when it cannot.

mod commands;

use commands::{World, big, finish, linked};
use serde_json::Value;
use std::process::{Command, Stdio};

fn names(v: &Value) -> Vec<&str> {
    v.as_array()
        .unwrap()
        .iter()
        .map(|r| r["Name"].as_str().unwrap())
        .collect()
}

#[test]
fn a_pool_is_made_looked_at_and_checked() {
    let w = World::new();
    assert!(w.sh("list").ok().starts_with("ID "), "an empty table");
    assert!(!w.pool.exists(), "looking creates nothing");
    w.sh("pool status").fails(3, "cowfs pool create");
    w.sh("pool create --size 1.5G --chunk-size 128K --container-size 10M --name store")
        .ok();
    w.sh("pool create").fails(4, "holds a pool already");
    let status = w.sh("pool status --json").json();
    assert_eq!(status["Name"], "store");
    assert_eq!(status["ChunkSize"], 128 << 10);
    assert_eq!(status["Data"]["Total"], 3u64 << 29);
    assert_eq!(status["Level"], "ok");
    assert_eq!(status["DeferredRemovals"], 0);
    assert_eq!(
        w.sh("pool status --format {{.Name}}:{{.Data.Total}}").ok(),
        "store:1610612736\n"
    );
    let text = w.sh("pool status").ok();
    for line in [
        "UUID:",
        "Chunk size:         128 KiB",
        "Backing filesystem:",
        "Data used:",
        "Metadata real size:",
        "Transaction:",
        "Level:              ok",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    w.check();
    let report = w.sh("pool check --json").json();
    assert_eq!(report["problems"], Value::Array(vec![]));
    // A container's limit is the pool's, unless it is given one.
    w.import_base();
    w.sh("create base one").ok();
    w.sh("create base two --size 1G").ok();
    let rows = w.sh("containers --json").json();
    assert_eq!(rows[0]["Limit"], 10 << 20);
    assert_eq!(rows[1]["Limit"], 1 << 30);
    for wrong in [
        "--size 0",
        "--size 10X",
        "--size -1",
        "--chunk-size 100K",
        "--chunk-size 2M",
        "--container-size lots",
    ] {
        let ran = w.sh(&format!(
            "pool create {}/other {wrong}",
            w.dir.path().display()
        ));
        assert_eq!(ran.code, Some(2), "{wrong}: {}", ran.err);
        assert!(!w.path("other").exists(), "{wrong}");
    }
}

#[test]
fn the_whole_road() {
    let w = World::new();
    w.import_base();
    assert_eq!(w.sh("create base web").ok(), "web\n");
    let made_up = w.sh("create base").ok();
    assert!(made_up.trim().contains('_'), "{made_up}");

    let images = w.sh("images").ok();
    assert!(
        images
            .lines()
            .nth(1)
            .unwrap()
            .starts_with("base         latest   "),
        "{images}"
    );
    let rows = w.sh("images --json").json();
    assert_eq!(names(&rows), ["base:latest"]);
    assert!(rows[0]["Digest"].as_str().unwrap().starts_with("sha256:"));
    let id = w.sh("containers -q --noheading").ok();
    assert_eq!(id.lines().count(), 2);
    assert_eq!(
        w.sh("containers --format {{.Name}}/{{.Image}}")
            .ok()
            .lines()
            .filter(|l| *l == "web/base:latest")
            .count(),
        1
    );

    // Names and ids, images without their tag, beginnings of digests.
    let image = &rows[0];
    let digest = image["Digest"]
        .as_str()
        .unwrap()
        .strip_prefix("sha256:")
        .unwrap()
        .to_owned();
    for name in [
        "base",
        "base:latest",
        &image["ID"].to_string(),
        digest.get(..12).unwrap(),
        &format!("sha256:{digest}"),
    ] {
        assert_eq!(
            w.run(["inspect", "-f", "{{.Name}}", name]).ok(),
            "base:latest\n",
            "{name}"
        );
    }

    assert_eq!(w.sh("ls web:/").ok(), "big\nbin\netc\nlink\n");
    assert_eq!(w.sh("ls base:latest:/etc").ok(), "conf\nhostname\n");
    assert!(
        w.sh("ls -l web:/bin")
            .ok()
            .starts_with("-rwsr-xr-x   1   0   0   10   2020-09-13 12:26:40   tool")
    );
    assert_eq!(w.sh("cat web:/link web:/etc/conf").ok(), "base\na=1\n");
    assert_eq!(w.sh("cat web:/big").out, big());
    assert_eq!(w.sh("diff web").ok(), "");

    w.run_with_input(["cp", "-", "web:/etc/new"], b"standard input")
        .ok();
    assert_eq!(w.sh("cat web:/etc/new").ok(), "standard input");
    assert_eq!(w.sh("diff web").ok(), "C /etc\nA /etc/new\n");
    w.sh("snapshot web@one").ok();
    w.run_with_input(["cp", "-", "web:/etc/conf"], b"a=2\n")
        .ok();
    assert_eq!(w.sh("diff web web@one").ok(), "C /etc\nC /etc/conf\n");
    assert_eq!(w.sh("diff web base --json").json()[0]["Kind"], "C");
    w.sh("clone web@one copy").ok();
    w.sh("clone web other").ok();
    assert_eq!(w.sh("cat copy:/etc/conf").ok(), "a=1\n");
    assert_eq!(w.sh("cat other:/etc/conf").ok(), "a=2\n");
    w.sh("rollback web@one").ok();
    assert_eq!(w.sh("cat web:/etc/conf").ok(), "a=1\n");
    assert_eq!(w.sh("diff web web@one").ok(), "");

    // A clone of what is gone still knows its image.
    w.sh("rm -f web").ok();
    assert_eq!(w.sh("inspect other -f {{.Image}}").ok(), "base:latest\n");
    assert_eq!(w.sh("diff other").ok(), "C /etc\nC /etc/conf\nA /etc/new\n");

    let history = w.sh("history base --json").json();
    assert_eq!(history.as_array().unwrap().len(), 1);
    let layer = history[0]["ID"].as_str().unwrap();
    assert_eq!(w.sh("history -q base").ok().trim(), layer);
    assert_eq!(
        w.run(["ls", &format!("{layer}:/etc")]).ok(),
        "conf\nhostname\n",
        "a layer is a volume too"
    );
    assert!(w.sh("history base").ok().starts_with("ID "));

    // Importing the same again is no error, and makes nothing.
    assert_eq!(w.sh("import base.tar base").ok(), "base:latest\n");
    assert_eq!(
        w.sh("list -a -q").ok().lines().count(),
        5,
        "image, layer, three containers"
    );
    w.check();
}

#[test]
fn copies_both_ways() {
    let w = World::with_image();
    w.sh("create base c").ok();
    // Out: into a directory, under another name, recursively, to standard output.
    let out = w.mount_point("out");
    w.run(["cp", "c:/etc/hostname", &out]).ok();
    assert_eq!(std::fs::read(w.path("out/hostname")).unwrap(), b"base\n");
    w.run(["cp", "c:/big", "out/big2"]).ok();
    assert_eq!(std::fs::read(w.path("out/big2")).unwrap(), big());
    w.run(["cp", "-r", "c:/", "out/all"]).ok();
    assert_eq!(
        std::fs::read_link(w.path("out/all/link")).unwrap().to_str(),
        Some("/etc/hostname")
    );
    let mode = |p: &str| {
        std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(w.path(p)).unwrap().permissions(),
        )
    };
    assert_eq!(
        mode("out/all/bin/tool") & 0o7777,
        0o755,
        "no setuid bit comes out by accident"
    );
    let time = std::os::unix::fs::MetadataExt::mtime(
        &std::fs::metadata(w.path("out/all/etc/conf")).unwrap(),
    );
    assert_eq!(time, 1_600_000_000);
    assert_eq!(w.sh("cp c:/etc/conf -").ok(), "a=1\n");
    // In: a tree with a hole in it, and back again.
    std::fs::create_dir_all(w.path("in/sub")).unwrap();
    std::os::unix::fs::symlink("sub/file", w.path("in/link")).unwrap();
    let sparse = std::fs::File::create(w.path("in/sub/sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 10 << 20).unwrap();
    std::fs::write(w.path("in/sub/file"), b"one").unwrap();
    w.run(["cp", "-r", "in", "c:/"]).ok();
    assert_eq!(w.sh("ls c:/in").ok(), "link\nsub\n");
    assert_eq!(w.sh("cat c:/in/link").ok(), "one");
    let entries = w.sh("ls --json c:/in/sub/sparse").json();
    assert_eq!(entries[0]["Size"], (10 << 20) + 3);
    assert!(
        entries[0]["Blocks"].as_u64().unwrap() <= 16,
        "a hole stays one: {entries}"
    );
    w.run(["cp", "-r", "c:/in", "back"]).ok();
    let meta = std::fs::metadata(w.path("back/sub/sparse")).unwrap();
    assert_eq!(meta.len(), (10 << 20) + 3);
    assert!(
        std::os::unix::fs::MetadataExt::blocks(&meta) < 1024,
        "out, too"
    );
    // `dir/.` copies the content.
    w.run(["cp", "-r", "in/.", "c:/etc"]).ok();
    assert_eq!(w.sh("ls c:/etc").ok(), "conf\nhostname\nlink\nsub\n");
    // A file replaces a file, and follows a link.
    std::fs::write(w.path("f"), b"two").unwrap();
    w.run(["cp", "f", "c:/link"]).ok();
    assert_eq!(w.sh("cat c:/etc/hostname").ok(), "two");

    w.run(["cp", "in", "c:/x"]).fails(2, "use -r");
    w.run(["cp", "c:/etc", "x"]).fails(2, "use -r");
    w.run(["cp", "nothing", "c:/x"])
        .fails(3, "nothing does not exist");
    w.run(["cp", "c:/nothing", "x"])
        .fails(3, "c:/nothing does not exist");
    w.run(["cp", "f", "nobody:/x"])
        .fails(3, "nothing here is called 'nobody'");
    w.run(["cp", "f", "c:/no/such/dir"])
        .fails(3, "No such file");
    w.run(["cp", "f", "base:/etc/conf"])
        .fails(8, "never changes");
    w.run(["cp", "f", "g"]).fails(2, "neither is in the pool");
    w.run(["cp", "c:/a", "c:/b"])
        .fails(2, "both are in the pool");
    w.run_with_input(["cp", "-", "c:/etc"], b"x")
        .fails(2, "is a directory");
    w.run(["cat", "c:/etc"]).fails(1, "Is a directory");
    w.run(["ls", "c"])
        .code
        .filter(|c| *c == 2)
        .expect("not a place");
    // Nothing half-made is left anywhere.
    assert!(!w.sh("ls -a c:/etc").ok().contains(".cowfs-"));
    w.check();
}

#[test]
fn a_file_s_whereabouts() {
    let w = World::with_image();
    w.sh("create base c").ok();
    let map = w.sh("map c:/big --json").json();
    assert_eq!(map["Size"], 200_000);
    assert_eq!(map["ChunkSize"], 65_536);
    let pieces = map["Pieces"].as_array().unwrap();
    assert!(pieces.iter().all(|p| p["Shared"] == true), "{map}");
    assert!(
        pieces
            .iter()
            .all(|p| p["Owner"].as_str().unwrap().starts_with("sha256:")),
        "the layer wrote it: {map}"
    );
    let covered: u64 = pieces.iter().map(|p| p["Length"].as_u64().unwrap()).sum();
    assert!(covered >= 200_000, "{map}");
    // The data file has the bytes where the map says.
    let data = std::fs::read(w.pool.join("data")).unwrap();
    let mut file = Vec::new();
    for p in pieces {
        let at = p["Physical"].as_u64().unwrap() as usize;
        file.extend_from_slice(&data[at..at + p["Length"].as_u64().unwrap() as usize]);
    }
    file.truncate(200_000);
    assert_eq!(file, big());

    let fresh: Vec<u8> = big().into_iter().rev().collect();
    w.run_with_input(["cp", "-", "c:/mine"], &fresh).ok();
    let map = w.sh("map c:/mine --json").json();
    assert!(
        map["Pieces"]
            .as_array()
            .unwrap()
            .iter()
            .all(|p| p["Shared"] == false && p["Owner"] == "c"),
        "{map}"
    );
    w.sh("snapshot c@s").ok();
    let map = w.sh("map c@s:/mine --json").json();
    assert!(
        map["Pieces"]
            .as_array()
            .unwrap()
            .iter()
            .all(|p| p["Shared"] == true && p["Owner"] == "c"),
        "{map}"
    );
    let table = w.sh("map c:/etc/hostname").ok();
    assert!(table.contains("inline"), "{table}");
    w.sh("map c:/etc").fails(2, "not a regular file");
    w.sh("map c:/nothing").fails(3, "No such file");
}

#[test]
fn names_and_dependants() {
    let w = World::with_image();
    w.sh("create base web").ok();
    w.sh("create base web").fails(4, "web exists already");
    for wrong in ["-x", ".hidden", "a/b", "a:b", "a@b", "123", "", "naïve"] {
        let ran = w.run(["create", "base", "--", wrong]);
        assert_eq!(ran.code, Some(2), "{wrong}: {}", ran.err);
    }
    w.run(["create", "base", &"a".repeat(129)])
        .fails(2, "cannot name a container");
    w.sh("create nothing")
        .fails(3, "nothing here is called 'nothing'");
    w.sh("create web other").fails(2, "cowfs clone web");
    w.sh("snapshot web").fails(2, "write CONTAINER@NAME");
    w.sh("snapshot base@s").fails(2, "never changes");
    w.sh("snapshot nobody@s").fails(3, "nobody");
    w.sh("snapshot web@s").ok();
    w.sh("snapshot web@s").fails(4, "web@s exists already");
    w.sh("rollback web").fails(2, "no snapshot");
    w.sh("rollback web@none").fails(3, "web@none");

    w.sh("rename web db").ok();
    assert_eq!(
        w.sh("list --format {{.Name}}").ok(),
        "base:latest\ndb\ndb@s\n"
    );
    w.sh("rename db base:latest")
        .fails(2, "cannot name a container");
    w.sh("rename base base:1").ok();
    w.sh("rename db@s db@t").ok();
    w.sh("rename db@t other@t").fails(2, "rename it to db@NAME");

    let said = w
        .sh("rm base:1")
        .fails(5, "base:1 has containers made of it: db, db@t");
    assert!(said.contains("-f"));
    w.sh("rm db").fails(5, "db has snapshots: db@t");
    w.sh("rm db nothing").fails(3, "nothing was removed");
    assert_eq!(w.sh("rm db@t db").ok(), "db@t\ndb\n");
    w.sh("rm db").fails(3, "db");
    w.sh("rm -f db").ok();
    w.sh("create base:1 a").ok();
    w.sh("clone a b").ok();
    w.sh("snapshot b@s").ok();
    assert_eq!(
        w.sh("rm -f base:1").ok().lines().collect::<Vec<_>>(),
        ["b@s", "b", "a", "base:1"]
    );
    assert_eq!(w.sh("list -a -q").ok(), "", "its layers went with it");
    w.check();
}

#[test]
fn wrong_words() {
    let w = World::with_image();
    for line in [
        "frobnicate",
        "create",
        "list --nonsense",
        "import",
        "mount base",
        "ls nocolon",
        "list -q --json",
    ] {
        assert_eq!(w.sh(line).code, Some(2), "{line}");
    }
    assert_eq!(w.sh("--help").code, Some(0));
    assert!(w.sh("--help").ok().contains("Exit codes"));
    for verb in [
        "pool create",
        "pool status",
        "pool check",
        "import",
        "images",
        "containers",
        "list",
        "inspect",
        "history",
        "create",
        "mount",
        "umount",
        "run",
        "snapshot",
        "clone",
        "rollback",
        "rename",
        "diff",
        "map",
        "rm",
        "ls",
        "cat",
        "cp",
        "daemon",
        "doctor",
    ] {
        let help = w.sh(&format!("{verb} --help")).ok();
        assert!(help.contains("Usage: cowfs"), "{verb}: {help}");
    }
    w.run(["list", "--format", "{{.Nmae}}"])
        .fails(2, "there is no field .Nmae; there are Created, Digest");
    w.run(["list", "--format", "{{.Name"])
        .fails(2, "not closed");
    w.run(["list", "--format", "{{range .}}"])
        .fails(2, "not understood");
    w.sh("import nowhere.tar")
        .fails(3, "nowhere.tar does not exist");
    std::fs::write(w.path("junk.tar"), vec![7u8; 5000]).unwrap();
    let said = w.sh("import junk.tar").fails(2, "junk.tar");
    assert!(!said.contains("panick"), "{said}");
    w.run_with_input(["import", "-", "x"], b"")
        .code
        .filter(|c| *c != 0)
        .expect("nothing to import");
    w.sh("import base.tar Bad@Name")
        .fails(2, "is not an image name");
    w.sh("mount base nowhere")
        .fails(3, "nowhere does not exist");
    w.sh("mount base base.tar").fails(2, "not a directory");
    w.sh("umount nothing")
        .fails(3, "nothing here is called 'nothing'");
    w.sh("umount base").fails(3, "not mounted");
    w.sh("--pool /nowhere/at/all create x")
        .code
        .filter(|c| *c != 0)
        .expect("no pool can be there");
    assert_eq!(
        w.sh("list -q").ok().lines().count(),
        1,
        "none of this left anything"
    );
    w.check();
}

#[test]
fn what_is_no_pool() {
    let w = World::new();
    std::fs::create_dir(&w.pool).unwrap();
    w.sh("inspect x").fails(7, "is not a cowfs pool");
    assert_eq!(w.sh("pool check").code, Some(2));
    std::fs::write(w.pool.join("metadata"), vec![0; 100_000]).unwrap();
    std::fs::write(w.pool.join("data"), b"").unwrap();
    std::fs::write(w.pool.join("log"), b"").unwrap();
    let ran = w.sh("inspect x");
    assert_eq!(ran.code, Some(7), "{}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
    assert_ne!(w.sh("pool check").code, Some(0));
    assert!(!w.pool.join("socket").exists());
}

#[test]
fn damage_is_found() {
    let w = World::with_image();
    w.sh("daemon --stop").ok();
    commands::wait_for("the daemon's end", || w.daemon().is_none());
    w.check();
    // Somewhere in the nodes, past both superblocks.
    let metadata = std::fs::OpenOptions::new()
        .write(true)
        .read(true)
        .open(w.pool.join("metadata"))
        .unwrap();
    let mut hurt = 0;
    for node in 2..200u64 {
        let mut page = vec![0; 16 << 10];
        std::os::unix::fs::FileExt::read_at(&metadata, &mut page, node * (16 << 10)).unwrap();
        if page.iter().filter(|b| **b != 0).count() > 500 {
            page[3000..3016].fill(0xa5);
            std::os::unix::fs::FileExt::write_all_at(&metadata, &page, node * (16 << 10)).unwrap();
            hurt += 1;
        }
    }
    assert!(hurt > 0);
    let ran = w.sh("pool check");
    assert_eq!(ran.code, Some(1), "{}{}", ran.text(), ran.err);
    let mut fsck = Command::new(linked(w.dir.path(), "fsck.cowfs"));
    fsck.args(["-a", w.pool.to_str().unwrap()]);
    w.dress(&mut fsck);
    assert_eq!(finish(fsck.spawn().unwrap()).code, Some(4));
}

#[test]
fn other_names_of_the_program() {
    let w = World::new();
    let run = |name: &str, words: &[&str]| {
        let mut c = Command::new(linked(w.dir.path(), name));
        c.args(words);
        w.dress(&mut c);
        finish(c.spawn().unwrap())
    };
    let pool = w.pool.to_str().unwrap();
    assert_eq!(run("mkfs.cowfs", &["--size", "1G", pool]).code, Some(0));
    assert_eq!(run("mkfs.cowfs", &[pool]).code, Some(1));
    assert_eq!(run("mkfs.cowfs", &[]).code, Some(2));
    assert_eq!(run("fsck.cowfs", &[pool]).code, Some(0));
    assert_eq!(run("fsck.cowfs", &["-C0"]).code, Some(16));
    assert_eq!(run("fsck.cowfs", &["/nowhere"]).code, Some(8));
}

#[test]
fn output_that_nobody_reads() {
    let w = World::with_image();
    // A reader that leaves ends the command by SIGPIPE, silently.
    let mut child = w.command(["cat", "base:/big"]).spawn().unwrap();
    drop(child.stdout.take());
    let ran = finish(child);
    assert_eq!((ran.signal, ran.err.as_str()), (Some(libc::SIGPIPE), ""));
    let mut child = w.command(["ls", "--json", "base:/"]).spawn().unwrap();
    drop(child.stdout.take());
    let ran = finish(child);
    assert_eq!((ran.signal, ran.err.as_str()), (Some(libc::SIGPIPE), ""));
    // A full disk is an error.
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let ran = finish(
        w.command(["list"])
            .stdout(Stdio::from(full))
            .spawn()
            .unwrap(),
    );
    assert_eq!(ran.code, Some(6), "{}", ran.err);
    // Appending, as `>>` does.
    let to = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(w.path("appended"))
        .unwrap();
    for _ in 0..2 {
        let ran = finish(
            w.command(["cat", "base:/etc/conf"])
                .stdout(Stdio::from(to.try_clone().unwrap()))
                .spawn()
                .unwrap(),
        );
        assert_eq!(ran.code, Some(0), "{}", ran.err);
    }
    assert_eq!(std::fs::read(w.path("appended")).unwrap(), b"a=1\na=1\n");
    // The daemon has lived through all of it.
    assert_eq!(w.started(), 1);
}
