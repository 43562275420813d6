//! Archives by other people's programs.

use crate::compare::differences;
use crate::roots::make_tree;
use crate::support::*;
use cowfs::image::{Source, import};
use cowfs::pool::{Config, Pool};
use std::path::Path;
use std::process::Command;

fn tar(dir: &Path, archive: &Path, options: &[&str]) {
    let done = Command::new("tar")
        .args(options)
        .arg("-C")
        .arg(dir)
        .arg("-cf")
        .arg(archive)
        .arg(".")
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn gnu_tar_in_all_its_formats() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    make_tree(&root);
    std::fs::create_dir_all(root.join("d".repeat(200)).join("e".repeat(200))).unwrap();
    std::fs::write(
        root.join("d".repeat(200)).join("e".repeat(200)).join("f"),
        "far",
    )
    .unwrap();
    std::os::unix::fs::symlink("t/".repeat(300), root.join("far link")).unwrap();
    let archive = dir.path().join("archive.tar");
    let cases: [(&[&str], bool); 6] = [
        (&["--format=gnu"], false),
        (&["--format=gnu", "--sparse"], false),
        (&["--format=posix", "--xattrs"], true),
        (
            &[
                "--format=posix",
                "--xattrs",
                "--sparse",
                "--sparse-version=0.0",
            ],
            true,
        ),
        (
            &[
                "--format=posix",
                "--xattrs",
                "--sparse",
                "--sparse-version=0.1",
            ],
            true,
        ),
        (
            &[
                "--format=posix",
                "--xattrs",
                "--sparse",
                "--sparse-version=1.0",
            ],
            true,
        ),
    ];
    for (flags, full) in cases {
        if !flags.contains(&"--sparse") {
            // Ten gigabytes of zeros otherwise.
            std::fs::File::options()
                .write(true)
                .open(root.join("sparse"))
                .unwrap()
                .set_len(1 << 20)
                .unwrap();
        } else {
            use std::os::unix::fs::FileExt;
            let sparse = std::fs::File::options()
                .write(true)
                .open(root.join("sparse"))
                .unwrap();
            sparse.set_len(10 << 30).unwrap();
            sparse.write_all_at(b"data", 5 << 30).unwrap();
        }
        tar(&root, &archive, flags);
        let pool = pool();
        let done = import(&pool, Source::open(&archive).unwrap(), &options("it"), &()).unwrap();
        let fs = open(&pool, done.image.id);
        let mut found = differences(&fs, &root, full);
        if !full {
            found.retain(|line| !line.contains(": attributes"));
        }
        assert_eq!(found, Vec::<String>::new(), "{flags:?}");
        assert_clean(&pool);
        pool.close().unwrap();
    }
}

/// Archives made elsewhere beside what they were made from: `COWFS_TEST_IMAGES=ARCHIVE=DIR:...`.
/// As root, for devices and owners. Without the variable there is nothing to do, so not by default.
#[test]
#[ignore = "needs COWFS_TEST_IMAGES=ARCHIVE=DIR[:ARCHIVE=DIR...]"]
fn given_images() {
    let list = std::env::var("COWFS_TEST_IMAGES").expect("COWFS_TEST_IMAGES is not set");
    for pair in list.split(':') {
        let (archive, dir) = pair.split_once('=').expect("ARCHIVE=DIR");
        let dir_of_pool = tempfile::tempdir().unwrap();
        let format = cowfs::pool::Format {
            size: 20 << 30,
            ..Default::default()
        };
        Pool::create_dir(dir_of_pool.path(), &format, None, None).unwrap();
        let opened = Pool::open_dir(dir_of_pool.path(), Config::default()).unwrap();
        let pool = opened.pool.clone();
        let started = std::time::Instant::now();
        let done = import(
            &pool,
            Source::open(Path::new(archive)).unwrap(),
            &options("it"),
            &(),
        )
        .unwrap();
        let status = pool.status().unwrap();
        println!(
            "{archive}: {} layers, {:?}, {} bytes",
            done.layers,
            started.elapsed(),
            status.data.used
        );
        let found = differences(&open(&pool, done.image.id), Path::new(dir), true);
        assert_eq!(found, Vec::<String>::new(), "{archive}");
        assert_clean(&pool);
        pool.close().unwrap();
    }
}
