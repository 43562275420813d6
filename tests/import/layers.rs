//! The rules of layers: overwriting, whiteouts, opaque directories, links across layers, attributes.

use crate::support::*;
use tar::EntryType;

#[test]
fn an_entry_replaces_what_is_in_its_way() {
    let pool = pool();
    let lower = Tar::new()
        .dir("dir")
        .file("dir/inside", b"1")
        .file("file", b"1")
        .symlink("symlink", "dir")
        .dir("merge")
        .file("merge/kept", b"1")
        .dir("deep")
        .dir("deep/er")
        .file("deep/er/x", b"1")
        .bytes();
    let upper = Tar::new()
        .file("dir", b"now a file")
        .dir("file")
        .file("file/inside", b"2")
        .dir("symlink")
        .file("symlink/inside", b"2")
        .dir("merge")
        .file("merge/new", b"2")
        .symlink("deep", "merge")
        .bytes();
    let fs = image(&pool, &[lower, upper]);
    assert_eq!(
        paths(&fs),
        [
            "/",
            "/deep",
            "/dir",
            "/file",
            "/file/inside",
            "/merge",
            "/merge/kept",
            "/merge/new",
            "/symlink",
            "/symlink/inside"
        ]
    );
    assert_eq!(text(&fs, "dir"), "now a file");
    assert_eq!(fs.readlink(ino(&fs, "deep")).unwrap(), b"merge");
    assert_clean(&pool);
}

#[test]
fn the_last_of_equal_names_counts() {
    let pool = pool();
    let fs = image(
        &pool,
        &[Tar::new()
            .file("a", b"first")
            .dir("a")
            .file("a/b", b"x")
            .file("a", b"last")
            .dir("d")
            .dir("d")
            .bytes()],
    );
    assert_eq!(paths(&fs), ["/", "/a", "/d"]);
    assert_eq!(text(&fs, "a"), "last");
    assert_clean(&pool);
}

#[test]
fn whiteouts_hide_what_lower_layers_have() {
    let pool = pool();
    let lower = Tar::new()
        .file("a", b"1")
        .dir("d")
        .file("d/x", b"1")
        .dir("d/e")
        .file("d/e/y", b"1")
        .file("keep", b"1")
        .bytes();
    let upper = Tar::new()
        .file(".wh.a", b"")
        .file(".wh.d", b"")
        .file(".wh.nothing", b"")
        .file("no/where/.wh.x", b"")
        .bytes();
    let fs = image(&pool, &[lower, upper]);
    assert_eq!(
        paths(&fs),
        ["/", "/keep"],
        "a whiteout of nothing makes nothing"
    );
    assert_clean(&pool);
}

#[test]
fn whiteouts_spare_their_own_layer_wherever_they_stand() {
    let pool = pool();
    let lower = || {
        Tar::new()
            .file("a", b"1")
            .dir("d")
            .file("d/x", b"1")
            .dir("d/e")
            .file("d/e/y", b"1")
            .bytes()
    };
    let ours = |tar: Tar| tar.file("a", b"2").dir("d").dir("d/e").file("d/e/z", b"2");
    let marks = |tar: Tar| tar.file(".wh.a", b"").file(".wh.d", b"");
    let before = image(&pool, &[lower(), ours(marks(Tar::new())).bytes()]);
    let after = image(&pool, &[lower(), marks(ours(Tar::new())).bytes()]);
    assert_eq!(paths(&before), ["/", "/a", "/d", "/d/e", "/d/e/z"]);
    assert_eq!(tree(&before), tree(&after));
    assert_eq!(text(&after, "a"), "2");
    assert_clean(&pool);
}

#[test]
fn opaque_directories_in_every_order() {
    let pool = pool();
    let lower = || {
        Tar::new()
            .dir("o")
            .file("o/old", b"1")
            .dir("o/sub")
            .file("o/sub/old", b"1")
            .dir("o/gone")
            .file("o/gone/old", b"1")
            .file("o/linked", b"lower")
            .file("beside", b"1")
            .bytes()
    };
    let parts: [fn(Tar) -> Tar; 3] = [
        |tar| tar.dir("o").file("o/new", b"2"),
        |tar| {
            tar.dir("o/sub")
                .file("o/sub/new", b"2")
                .file("o/old", b"again")
        },
        |tar| tar.file("o/.wh..wh..opq", b""),
    ];
    let mut seen = None;
    for order in [[0, 1, 2], [0, 2, 1], [2, 0, 1]] {
        let upper = order.iter().fold(Tar::new(), |tar, &n| parts[n](tar));
        let fs = image(&pool, &[lower(), upper.bytes()]);
        assert_eq!(
            paths(&fs),
            [
                "/",
                "/beside",
                "/o",
                "/o/new",
                "/o/old",
                "/o/sub",
                "/o/sub/new"
            ]
        );
        assert_eq!(text(&fs, "o/old"), "again");
        let tree = tree(&fs);
        assert_eq!(*seen.get_or_insert(tree.clone()), tree);
    }
    // In a layer of its own, at the root, and where there is nothing.
    let fs = image(
        &pool,
        &[
            lower(),
            Tar::new()
                .file(".wh..wh..opq", b"")
                .file("none/.wh..wh..opq", b"")
                .bytes(),
        ],
    );
    assert_eq!(paths(&fs), ["/"]);
    assert_clean(&pool);
}

#[test]
fn a_link_to_a_lower_file_is_its_own_layers_entry() {
    let pool = pool();
    let lower = Tar::new()
        .dir("d")
        .file("target", b"shared")
        .file("d/other", b"1")
        .bytes();
    let upper = Tar::new()
        .dir("d")
        .link("d/link", "target")
        .file("d/.wh..wh..opq", b"")
        .bytes();
    let fs = image(&pool, &[lower, upper]);
    assert_eq!(paths(&fs), ["/", "/d", "/d/link", "/target"]);
    assert_eq!(ino(&fs, "d/link"), ino(&fs, "target"));
    assert_eq!(fs.attr(ino(&fs, "target")).unwrap().nlink, 2);
    assert_clean(&pool);
}

#[test]
fn hard_links() {
    let pool = pool();
    let lower = Tar::new()
        .file("a", b"1")
        .link("b", "/a")
        .link("c", "./b")
        .symlink("s", "a")
        .link("t", "s")
        .bytes();
    let upper = Tar::new()
        .link("d", "a")
        // Over itself, over another, and replaced: the others stay.
        .link("a", "a")
        .file("x", b"9")
        .link("x", "b")
        .file("b", b"new")
        .bytes();
    let fs = image(&pool, &[lower, upper]);
    let a = ino(&fs, "a");
    for name in ["c", "d", "x"] {
        assert_eq!(ino(&fs, name), a, "{name}");
    }
    assert_eq!(fs.attr(a).unwrap().nlink, 4);
    assert_eq!((text(&fs, "a"), text(&fs, "b")), ("1".into(), "new".into()));
    assert_eq!(
        ino(&fs, "s"),
        ino(&fs, "t"),
        "a link to a symbolic link is one to itself"
    );
    assert_clean(&pool);
}

#[test]
fn every_attribute_arrives() {
    let pool = pool();
    let node = |kind: EntryType, mode: u32, uid: u64, gid: u64| {
        let mut header = Tar::header(kind, 0);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(gid);
        header
    };
    let mut device = node(EntryType::Char, 0o660, 0, 5);
    device.set_device_major(259).unwrap();
    device.set_device_minor(70_000).unwrap();
    let mut disk = node(EntryType::Block, 0o600, 0, 6);
    disk.set_device_major(8).unwrap();
    disk.set_device_minor(1).unwrap();
    let setgid_parent = node(EntryType::Directory, 0o2775, 10, 20);
    let capability: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let tar = Tar::new()
        .raw(node(EntryType::Directory, 0o1777, 1, 2), b"./", b"")
        .raw(setgid_parent, b"shared", b"")
        .raw(
            node(EntryType::Directory, 0o700, 11, 12),
            b"shared/plain",
            b"",
        )
        .pax(&[
            ("mtime", b"-1.5"),
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"two\nlines"),
        ])
        .raw(
            node(EntryType::Regular, 0o6755, 3_000_000_000, 4_000_000_000),
            b"shared/suid",
            b"",
        )
        .raw(device, b"char", b"")
        .raw(disk, b"disk", b"")
        .raw(node(EntryType::Fifo, 0o622, 7, 8), b"fifo", b"")
        .pax(&[
            ("mtime", b"1700000000.123456789"),
            ("LIBARCHIVE.xattr.user.b", b"aGVsbG8"),
        ])
        .dir("timed")
        .file("timed/a", b"x")
        .file("timed/b", b"x")
        .bytes();
    let fs = image(&pool, &[tar]);
    let found = tree(&fs);
    let expect = [
        ("/", "041777 1:2 1600000000.000000000"),
        ("/char", "020660 0:5 1600000000.000000000 dev 11110370"),
        ("/disk", "060600 0:6 1600000000.000000000 dev 801"),
        ("/fifo", "010622 7:8 1600000000.000000000"),
        ("/shared", "042775 10:20 1600000000.000000000"),
        ("/shared/plain", "040700 11:12 1600000000.000000000"),
        ("/timed", "040755 0:0 1700000000.123456789 user.b=hello"),
    ];
    for (path, line) in expect {
        assert_eq!(found[path], line, "{path}");
    }
    assert!(
        found["/shared/suid"].starts_with("106755 3000000000:4000000000 -2.500000000 0 "),
        "{}",
        found["/shared/suid"]
    );
    assert!(found["/shared/suid"].ends_with("user.note=two\\nlines"));
    assert_eq!(
        fs.xattr(ino(&fs, "shared/suid"), b"security.capability")
            .unwrap(),
        capability
    );
    assert_clean(&pool);
}

#[test]
fn default_acls_are_not_inherited_by_what_says_nothing_of_them() {
    let pool = pool();
    // POSIX ACL, version 2: owner rwx, user 1000 rwx, group r-x, mask rwx, others none.
    let mut acl = vec![2, 0, 0, 0];
    for (tag, perm, id) in [
        (1u16, 7u16, u32::MAX),
        (2, 7, 1000),
        (4, 5, u32::MAX),
        (16, 7, u32::MAX),
        (32, 0, u32::MAX),
    ] {
        acl.extend(tag.to_le_bytes());
        acl.extend(perm.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    let lower = Tar::new()
        .pax(&[("SCHILY.xattr.system.posix_acl_default", &acl)])
        .dir("d")
        .file("d/a", b"1")
        .dir("d/e")
        .bytes();
    let upper = Tar::new().file("d/b", b"2").bytes();
    let fs = image(&pool, &[lower, upper]);
    assert_eq!(
        fs.xattr(ino(&fs, "d"), b"system.posix_acl_default")
            .unwrap(),
        acl
    );
    for name in ["d/a", "d/b", "d/e"] {
        assert!(fs.xattrs(ino(&fs, name)).unwrap().is_empty(), "{name}");
        let mode = fs.attr(ino(&fs, name)).unwrap().mode & 0o7777;
        assert_eq!(mode, if name == "d/e" { 0o755 } else { 0o644 }, "{name}");
    }
    assert_clean(&pool);
}

#[test]
fn a_directory_takes_its_attributes_anew_and_keeps_its_time_if_unnamed() {
    let pool = pool();
    let header = |mode: u32, mtime: u64| {
        let mut header = Tar::header(EntryType::Directory, 0);
        header.set_mode(mode);
        header.set_mtime(mtime);
        header
    };
    let lower = Tar::new()
        .pax(&[("SCHILY.xattr.user.old", b"1")])
        .raw(header(0o700, 100), b"named", b"")
        .raw(header(0o711, 200), b"unnamed", b"")
        .file("unnamed/old", b"1")
        .bytes();
    let upper = Tar::new()
        .raw(header(0o2750, 300), b"named", b"")
        .file("named/x", b"2")
        .file("unnamed/y", b"2")
        .file("unnamed/.wh.old", b"")
        .bytes();
    let found = tree(&image(&pool, &[lower, upper]));
    assert_eq!(
        found["/named"], "042750 0:0 300.000000000",
        "its attributes are the upper layer's"
    );
    assert_eq!(found["/unnamed"], "040711 0:0 200.000000000", "as it was");
    assert!(!found.contains_key("/unnamed/old"));
}

#[test]
fn missing_parents_are_made() {
    let pool = pool();
    let found = tree(&image(&pool, &[Tar::new().file("a/b/c", b"1").bytes()]));
    assert_eq!(found["/a/b"], "040755 0:0 1600000000.000000000");
    assert_eq!(found["/"], "040755 0:0 1600000000.000000000");
    // Named afterwards, they take what their entry says.
    let mut late = Tar::header(EntryType::Directory, 0);
    late.set_mode(0o700);
    late.set_mtime(5);
    let found = tree(&image(
        &pool,
        &[Tar::new().file("a/b/c", b"1").raw(late, b"a", b"").bytes()],
    ));
    assert_eq!(found["/a"], "040700 0:0 5.000000000");
}

#[test]
fn ways_through_symbolic_links_stay_inside() {
    let pool = pool();
    let lower = Tar::new()
        .dir("usr")
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr/lib")
        .symlink("out", "../../../../usr/lib")
        .symlink("new", "made/by/link")
        .symlink("two", "lib")
        .bytes();
    let upper = Tar::new()
        .file("lib/a", b"1")
        .file("abs/b", b"1")
        .file("out/c", b"1")
        .file("new/d", b"1")
        .file("two/e", b"1")
        .link("hard", "abs/a")
        .file("lib/.wh.none", b"")
        .bytes();
    let fs = image(&pool, &[lower, upper]);
    for name in [
        "usr/lib/a",
        "usr/lib/b",
        "usr/lib/c",
        "usr/lib/e",
        "made/by/link/d",
    ] {
        assert_eq!(text(&fs, name), "1", "{name}");
    }
    assert_eq!(ino(&fs, "hard"), ino(&fs, "usr/lib/a"));
    assert_eq!(
        fs.readlink(ino(&fs, "lib")).unwrap(),
        b"usr/lib",
        "the link itself stays"
    );
    // A link that changes its meaning in the middle of an archive.
    let turn = Tar::new()
        .dir("a")
        .dir("b")
        .symlink("l", "a")
        .file("l/1", b"")
        .symlink("l", "b")
        .file("l/2", b"")
        .bytes();
    let fs = image(&pool, &[turn]);
    assert_eq!(paths(&fs), ["/", "/a", "/a/1", "/b", "/b/2", "/l"]);
    assert_clean(&pool);
}

#[test]
fn sparse_files_stay_sparse() {
    let pool = pool();
    let size = 5u64 << 40;
    let far = size - 4096 - 3;
    let map = format!("0,3,{far},3");
    let tar = Tar::new()
        .pax(&[
            ("GNU.sparse.size", size.to_string().as_bytes()),
            ("GNU.sparse.name", b"sparse"),
            ("GNU.sparse.map", map.as_bytes()),
        ])
        .file("GNUSparseFile.0/sparse", b"abcxyz")
        .bytes();
    let fs = image(&pool, &[tar]);
    let ino = ino(&fs, "sparse");
    let attr = fs.attr(ino).unwrap();
    assert_eq!(attr.size, size);
    assert!(attr.blocks < 1000, "{} blocks", attr.blocks);
    let mut bytes = [1; 8];
    assert_eq!(fs.read(ino, far - 2, &mut bytes).unwrap(), 8);
    assert_eq!(&bytes, b"\0\0xyz\0\0\0");
    assert_eq!(fs.read(ino, 0, &mut bytes).unwrap(), 8);
    assert_eq!(&bytes, b"abc\0\0\0\0\0");
    assert_clean(&pool);
}

#[test]
fn names_and_sizes_of_all_kinds() {
    let pool = pool();
    let long = format!("{}/{}", "d".repeat(255), "f".repeat(255));
    let mut tar = Tar::new().file(&long, b"long").raw(
        Tar::header(EntryType::Regular, 1),
        b"\xff\xfe\x01",
        b"1",
    );
    let mut sizes = Vec::new();
    for size in [
        0usize,
        1,
        511,
        512,
        513,
        4095,
        4096,
        4097,
        65_536,
        100_000,
        1 << 20,
        (1 << 20) + 1,
        3_333_333,
    ] {
        tar = tar.file(&format!("size/{size}"), &random_file(size));
        sizes.push(size);
    }
    let fs = image(&pool, &[tar.bytes()]);
    assert_eq!(text(&fs, &long), "long");
    assert!(fs.lookup(1, b"\xff\xfe\x01").is_ok());
    for size in sizes {
        assert!(
            content(&fs, ino(&fs, &format!("size/{size}"))) == random_file(size),
            "{size}"
        );
    }
    assert_clean(&pool);
}

#[test]
fn files_of_other_layers_are_untouched_by_an_image_above() {
    let pool = pool();
    let lower = Tar::new().file("a", b"lower").file("b", b"lower").bytes();
    let below = image(&pool, std::slice::from_ref(&lower));
    let before = tree(&below);
    image(
        &pool,
        &[
            lower,
            Tar::new().file("a", b"upper").file(".wh.b", b"").bytes(),
        ],
    );
    assert_eq!(tree(&below), before);
}
