//! What must be refused: one clear line, and the pool as it was.

use crate::support::*;
use cowfs::base::ExitKind;
use cowfs::image::{Digest, ImportOptions, Source, import};
use tar::EntryType;

fn one(layer: Vec<u8>) -> Vec<u8> {
    pack(&oci(&[layer], Packed::Gzip))
}

#[test]
fn names_that_lead_out() {
    let pool = pool();
    for name in [&b"../x"[..], b"a/../../x", b"/../x", b"./.."] {
        let tar = Tar::new()
            .raw(Tar::header(EntryType::Regular, 0), name, b"")
            .bytes();
        let error = refused(&pool, &one(tar));
        assert!(
            error.contains("'..'") && error.contains(&*String::from_utf8_lossy(name)),
            "{error}"
        );
    }
    let tar = Tar::new().file("a", b"").link("b", "../a").bytes();
    assert!(refused(&pool, &one(tar)).contains("'..'"));
    // A leading slash is only a way of writing.
    let fs = image(
        &pool,
        &[Tar::new()
            .file("/etc/x", b"1")
            .file("//etc//y", b"1")
            .file("a/../z", b"1")
            .bytes()],
    );
    assert_eq!(paths(&fs), ["/", "/etc", "/etc/x", "/etc/y", "/z"]);
}

#[test]
fn names_that_are_too_long() {
    let pool = pool();
    let name = |name: &[u8]| {
        Tar::new()
            .raw(Tar::header(EntryType::Regular, 0), name, b"")
            .bytes()
    };
    assert!(refused(&pool, &one(name(&[b'n'; 256]))).contains("255"));
    assert!(refused(&pool, &one(name(&b"d/".repeat(10_000)))).contains("4096"));
    let target = "t".repeat(5000);
    let tar = Tar::new()
        .pax(&[("linkpath", target.as_bytes())])
        .symlink("l", "x")
        .bytes();
    assert!(refused(&pool, &one(tar)).contains("4095"));
    // As deep as a name can be.
    let fs = image(&pool, &[name(&[&b"d/".repeat(2047)[..], b"f"].concat())]);
    assert_eq!(paths(&fs).len(), 2049);
    drop(fs);
    // Deeper, by way of a symbolic link, and all of it taken away again.
    let deep = b"d/".repeat(1000);
    let mut tar = Tar::new().raw(Tar::header(EntryType::Directory, 0), &deep, b"");
    for n in 0..4 {
        let link = format!("link{n}");
        let from = if n == 0 {
            String::new()
        } else {
            format!("link{}/", n - 1)
        };
        let target = format!("{from}{}", "d/".repeat(1000));
        tar = tar
            .pax(&[("linkpath", target.as_bytes())])
            .symlink(&link, "x");
        tar = tar.raw(
            Tar::header(EntryType::Directory, 0),
            &[format!("{link}/").as_bytes(), &deep].concat(),
            b"",
        );
    }
    let layers = [tar.bytes(), Tar::new().file(".wh.d", b"").bytes()];
    let fs = image(&pool, &layers);
    assert_eq!(paths(&fs), ["/", "/link0", "/link1", "/link2", "/link3"]);
    assert_clean(&pool);
}

#[test]
fn links_to_nothing_and_entries_that_cannot_be() {
    let pool = pool();
    let cases: Vec<(Tar, &str)> = vec![
        (Tar::new().link("a", "nothing"), "not there"),
        (Tar::new().link("a", "no/thing"), "not there"),
        (Tar::new().link("a", "a"), "not there"),
        (Tar::new().dir("d").link("a", "d"), "a directory"),
        (Tar::new().link("a", "/"), "not there"),
        (Tar::new().symlink("a", ""), "to nothing"),
        (Tar::new().file("a", b"").file("a/b", b""), "is a file"),
        (
            Tar::new()
                .symlink("a", "b")
                .symlink("b", "a")
                .file("a/x", b""),
            "too many symbolic links",
        ),
        (Tar::new().file(".", b""), "root directory"),
        (Tar::new().file(".wh.", b""), "no name"),
        (Tar::new().file(".wh...", b""), "no name"),
        (Tar::new().file(".wh.x/y", b""), "below a whiteout"),
        (
            Tar::new().raw(Tar::header(EntryType::new(b'Z'), 0), b"z", b""),
            "type 'Z'",
        ),
        (
            Tar::new()
                .pax(&[("SCHILY.xattr.user.big", &vec![b'x'; 70_000])])
                .file("a", b""),
            "too long",
        ),
        (
            Tar::new().pax(&[("uid", b"4294967295")]).file("a", b""),
            "uid",
        ),
    ];
    for (tar, expect) in cases {
        let error = refused(&pool, &one(tar.bytes()));
        assert!(error.contains(expect), "{error}");
        assert!(
            error.starts_with("test.tar: layer 1 of 1 (sha256:"),
            "{error}"
        );
    }
    let aufs = Tar::new()
        .dir(".wh..wh.plnk")
        .file(".wh..wh.plnk/1", b"")
        .file(".wh..wh.aufs", b"")
        .file("a", b"")
        .bytes();
    assert_eq!(paths(&image(&pool, &[aufs])), ["/", "/a"]);
}

#[test]
fn petabytes_that_never_come() {
    let pool = pool();
    let mut header = Tar::header(EntryType::Regular, 0);
    header.set_path("petabytes").unwrap();
    header.set_size(5 << 50);
    header.set_cksum();
    let mut tar = Tar::new().file("first", b"1").bytes();
    tar.truncate(1024);
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(&[7; 100_000]);
    assert!(refused(&pool, &one(tar.clone())).contains("cut off"));
    assert!(refused(&pool, &tar).contains("cut off"));
    // Sparse and of a size that the file system knows: only a number.
    let size = (1u64 << 60).to_string();
    let fs = image(
        &pool,
        &[Tar::new()
            .pax(&[
                ("GNU.sparse.size", size.as_bytes()),
                ("GNU.sparse.map", b"0,1"),
            ])
            .file("s", b"1")
            .bytes()],
    );
    assert_eq!(fs.attr(ino(&fs, "s")).unwrap().size, 1 << 60);
    // A bomb fills what it is given, and goes.
    let small = small_pool();
    let zeros = vec![0u8; 1 << 20];
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    let mut header = Tar::header(EntryType::Regular, 200 << 20);
    header.set_path("bomb").unwrap();
    header.set_cksum();
    std::io::Write::write_all(&mut encoder, header.as_bytes()).unwrap();
    for _ in 0..200 {
        std::io::Write::write_all(&mut encoder, &zeros).unwrap();
    }
    let error = import(
        &small,
        source(&encoder.finish().unwrap(), "bomb"),
        &options("bomb"),
        &(),
    )
    .unwrap_err();
    assert_eq!(error.exit_kind(), ExitKind::NoSpace, "{error}");
    assert_eq!(names(&small), Vec::<String>::new());
    import_bytes(
        &small,
        &one(Tar::new().file("a", &random_file(1 << 20)).bytes()),
        "fits",
    )
    .unwrap();
    assert_clean(&small);
}

fn small_pool() -> std::sync::Arc<cowfs::pool::Pool> {
    use cowfs::pool::{Config, Devices, Format, Pool};
    let device = || std::sync::Arc::new(cowfs::device::MemDevice::new());
    let devices = Devices {
        metadata: device(),
        data: device(),
        log: device(),
    };
    Pool::format(
        &devices,
        &Format {
            log_size: 8 << 20,
            size: 64 << 20,
            ..Format::default()
        },
    )
    .unwrap();
    let config = Config {
        boot: [1; 32],
        cache_bytes: 32 << 20,
        interval: std::time::Duration::ZERO,
        discard: true,
    };
    Pool::open(devices, config).unwrap()
}

#[test]
fn wrong_digests_missing_and_cut_blobs() {
    let pool = pool();
    let layers_in = vec![
        Tar::new().file("a", b"1").bytes(),
        Tar::new().file("b", &random_file(200_000)).bytes(),
    ];
    for how in PACKINGS {
        let files = oci(&layers_in, how);
        // Files: layout, two layers, configuration, manifest, index.
        let mut missing = files.clone();
        missing.remove(2);
        assert!(refused(&pool, &pack(&missing)).contains("is missing"));
        let mut short = files.clone();
        short[2].1.pop();
        assert!(refused(&pool, &pack(&short)).contains("were promised"));
        let mut flipped = files.clone();
        let middle = flipped[2].1.len() / 2;
        flipped[2].1[middle] ^= 1;
        let error = refused(&pool, &pack(&flipped));
        assert!(error.contains("layer 2 of 2"), "{error}");
        let archive = pack(&files);
        for keep in [archive.len() / 2, archive.len() - 3000, 100] {
            refused(&pool, &archive[..keep]);
            refused(&pool, &packed(&archive, Packed::Gzip)[..keep / 2]);
        }
    }
    // Nothing of those attempts was kept, so this one is whole.
    let wrong_diff = {
        let other = [layers_in[0].clone(), Tar::new().file("c", b"1").bytes()];
        let mut files = docker(&layers_in, Packed::Plain);
        files.retain(|(name, _)| name != "1/layer.tar");
        files.push(("1/layer.tar".into(), other[1].clone()));
        pack(&files)
    };
    let error = refused(&pool, &wrong_diff);
    assert!(
        error.contains("layer 2 of 2") && error.contains("the configuration says"),
        "{error}"
    );
    let mut files = oci(&layers_in, Packed::Gzip);
    let good = Digest::of(&layers_in[1]);
    let config = String::from_utf8(files[3].1.clone())
        .unwrap()
        .replace(good.as_str(), Digest::of(b"").as_str());
    files[3].1 = config.into_bytes();
    assert!(refused(&pool, &pack(&files)).contains("configuration"));
    assert_eq!(names(&pool), Vec::<String>::new());
}

#[test]
fn what_is_no_archive() {
    let pool = pool();
    assert!(refused(&pool, b"").contains("empty"));
    assert!(refused(&pool, &[0; 10_240]).contains("holds nothing"));
    assert!(
        refused(&pool, b"#!/bin/sh\necho hello\n").contains("cut off")
            || refused(&pool, &[b'#'; 4096]).contains("not a tar")
    );
    assert!(refused(&pool, &[b'#'; 4096]).contains("not a tar"));
    assert!(refused(&pool, &packed(&[b'#'; 4096], Packed::Zstd)).contains("not a tar"));
    assert!(refused(&pool, b"\xfd7zXZ\0\0\0\0").contains("xz"));
    let missing = Source::open(std::path::Path::new("/nonexistent")).unwrap_err();
    assert_eq!(missing.exit_kind(), ExitKind::NotFound);
    let fifo = std::fs::File::open("/dev/zero").unwrap();
    let error = import(
        &pool,
        Source::from_fd(fifo.into(), "zero"),
        &options("x"),
        &(),
    )
    .unwrap_err();
    assert!(error.to_string().contains("zero: "), "{error}");
}

#[test]
fn a_root_tar_without_its_end_is_refused() {
    let pool = pool();
    let tar = Tar::new().dir("etc").file("etc/x", &[1; 512]).bytes();
    assert_eq!(tar.len(), 512 + 1024 + 1024);
    assert!(refused(&pool, &tar[..tar.len() - 1024]).contains("end marker"));
    // Inside an image the digest tells that all is there.
    let fs = image(&pool, &[tar[..tar.len() - 1024].to_vec()]);
    assert_eq!(paths(&fs), ["/", "/etc", "/etc/x"]);
}

#[test]
fn several_images_to_choose_from() {
    let pool = pool();
    let (a, b) = (
        vec![Tar::new().file("a", b"").bytes()],
        vec![Tar::new().file("b", b"").bytes()],
    );
    let (mut files, first) = docker_item(&a, Packed::Plain, "a:1", "a");
    let (other, second) = docker_item(&b, Packed::Plain, "b:1", "b");
    files.extend(other);
    files.push((
        "manifest.json".into(),
        format!("[{first},{second}]").into_bytes(),
    ));
    let archive = pack(&files);
    let error = refused(&pool, &archive);
    assert!(error.contains("a:1, b:1"), "{error}");
    let choose = ImportOptions {
        image: Some("b:1".into()),
        ..ImportOptions::default()
    };
    let done = import(&pool, source(&archive, "x.tar"), &choose, &()).unwrap();
    assert_eq!(done.image.name, "b:1");
    assert_eq!(paths(&open(&pool, done.image.id)), ["/", "/b"]);
}

#[test]
fn a_power_cut_in_the_middle_of_an_import_leaves_nothing() {
    use cowfs::image::{Progress, Step};
    use cowfs::pool::{Config, Devices, Format, Pool};
    let device = || std::sync::Arc::new(cowfs::device::MemDevice::new());
    let devices = Devices {
        metadata: device(),
        data: device(),
        log: device(),
    };
    let config = || Config {
        boot: [1; 32],
        cache_bytes: 32 << 20,
        interval: std::time::Duration::ZERO,
        discard: true,
    };
    Pool::format(
        &devices,
        &Format {
            log_size: 8 << 20,
            size: 1 << 30,
            ..Format::default()
        },
    )
    .unwrap();
    let pool = Pool::open(devices.clone(), config()).unwrap();
    /// The process is gone at the last step: nothing is cleaned up.
    struct Die(std::sync::Arc<Pool>);
    impl Progress for Die {
        fn step(&self, step: &Step<'_>) {
            if matches!(step, Step::Finishing) {
                self.0.checkpoint().unwrap();
                panic!("gone");
            }
        }
    }
    let archive = pack(&oci(
        &[Tar::new().file("a", &random_file(100_000)).bytes()],
        Packed::Plain,
    ));
    let kept = import_bytes(&pool, &archive, "kept").unwrap();
    let more = pack(&oci(
        &[Tar::new().file("b", &random_file(100_000)).bytes()],
        Packed::Plain,
    ));
    let dying = pool.clone();
    let run = std::thread::spawn(move || {
        let die = Die(dying.clone());
        // Leaked, as a killed process has it: no destructor runs.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            import(&dying, source(&more, "x"), &options("gone"), &die)
        }));
        assert!(result.is_err());
    });
    run.join().unwrap();
    drop(pool);
    let pool = Pool::open(devices, config()).unwrap();
    assert_eq!(names(&pool).len(), 2, "{:?}", names(&pool));
    assert_eq!(paths(&open(&pool, kept.image.id)), ["/", "/a"]);
    assert_clean(&pool);
}
