//! Every kind of archive in every compression gives the same image.

use crate::support::*;
use cowfs::image::{self, Digest, ImportOptions, Progress, Source, Step, import};
use cowfs::pool::Kind;
use parking_lot::Mutex;

fn three_layers() -> Vec<Vec<u8>> {
    vec![
        Tar::new()
            .dir("./")
            .dir("./etc/")
            .file("./etc/passwd", b"root")
            .file("./big", &random_file(3_000_000))
            .bytes(),
        Tar::new()
            .dir("etc")
            .file("etc/motd", b"hello")
            .file("etc/.wh.passwd", b"")
            .bytes(),
        Tar::new()
            .dir("usr")
            .symlink("usr/lib", "../lib")
            .file("etc/motd", b"changed")
            .bytes(),
    ]
}

#[test]
fn every_format_in_every_compression_gives_the_same() {
    let layers_in = three_layers();
    let mut seen: Option<(_, _)> = None;
    for files in [oci, docker] {
        for how in PACKINGS {
            let files = files(&layers_in, how);
            let archive = pack(&files);
            let dir = write_files(&files);
            let fd = std::fs::File::open(dir.path()).unwrap();
            let sources = [
                source(&archive, "a.tar"),
                source(&packed(&archive, Packed::Members), "a.tar.gz"),
                source(&packed(&archive, Packed::Frames), "a.tar.zst"),
                pipe(archive.clone()),
                pipe(packed(&archive, Packed::Gzip)),
                Source::open(dir.path()).unwrap(),
                Source::from_fd(fd.into(), "directory"),
            ];
            for source in sources {
                let pool = pool();
                let done = import(&pool, source, &options("it"), &()).unwrap();
                assert_eq!((done.layers, done.new_layers, done.existed), (3, 3, false));
                assert_eq!(
                    (done.image.name.as_str(), done.image.kind),
                    ("it:latest", Kind::Image)
                );
                assert!(done.image.sealed && !done.image.building);
                let found = tree(&open(&pool, done.image.id));
                let id = done.id.clone();
                match &seen {
                    None => seen = Some((found, id)),
                    Some((tree, first)) => assert_eq!((tree, first), (&found, &id)),
                }
                assert_clean(&pool);
            }
        }
    }
    let (tree, _) = seen.unwrap();
    let paths: Vec<_> = tree.keys().map(String::as_str).collect();
    assert_eq!(
        paths,
        ["/", "/big", "/etc", "/etc/motd", "/usr", "/usr/lib"]
    );
}

#[test]
fn what_is_known_of_an_image_afterwards() {
    let pool = pool();
    let layers_in = three_layers();
    for (files, how) in [
        (oci(&layers_in, Packed::Zstd), Packed::Zstd),
        (docker(&layers_in, Packed::Gzip), Packed::Gzip),
    ] {
        let name = format!("known-{how:?}");
        let done = import_bytes(&pool, &pack(&files), &name).unwrap();
        let id = done.image.id;
        let config = image::config(&pool, id).unwrap();
        assert_eq!(
            (config.config.cmd, config.config.env),
            (vec!["sh".to_string()], vec!["A=b".to_string()])
        );
        let records = image::layers(&pool, id).unwrap();
        assert_eq!(records.len(), 3);
        let mut chain: Option<Digest> = None;
        for (record, layer) in records.iter().zip(&layers_in) {
            assert_eq!(record.diff_id, Digest::of(layer).as_str());
            // The second import found the layers there: it knows their blobs all the same.
            assert_eq!(record.digest, Digest::of(&packed(layer, how)).as_str());
            assert_eq!(record.size, packed(layer, how).len() as u64);
            assert!(record.media_type.ends_with(if how == Packed::Zstd {
                "+zstd"
            } else {
                "+gzip"
            }));
            let expect = match &chain {
                None => record.diff_id.clone(),
                Some(below) => {
                    Digest::of(format!("{below} {}", record.diff_id).as_bytes()).to_string()
                }
            };
            assert_eq!(record.chain_id, expect);
            assert_eq!(pool.find(&expect).unwrap().unwrap().kind, Kind::Layer);
            chain = Some(Digest::parse(&expect).unwrap());
        }
        let history = image::history(&pool, id).unwrap();
        let steps: Vec<_> = history
            .iter()
            .map(|l| (l.created_by.as_str(), l.layer.is_some()))
            .collect();
        assert_eq!(
            steps,
            [
                ("step 2", true),
                ("step 1", true),
                ("step 0", true),
                ("nothing", false)
            ]
        );
        let inspect = image::inspect(&pool, id).unwrap();
        assert_eq!(inspect.id.as_deref(), Some(done.id.as_str()));
        let manifest = pool.blob(id, "manifest").unwrap().unwrap();
        assert_eq!(inspect.digest, Some(Digest::of(&manifest).to_string()));
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["config"]["digest"], done.id.as_str());
        assert_eq!(manifest["layers"][2]["digest"], records[2].digest.as_str());
        // A container keeps what its image says.
        let c = container(&pool, id, &format!("c-{how:?}"));
        image::copy_blobs(&pool, id, c.volume().id()).unwrap();
        pool.remove(id).unwrap();
        assert_eq!(
            image::config(&pool, c.volume().id()).unwrap().config.cmd,
            ["sh"]
        );
    }
}

#[test]
fn layers_are_shared_and_not_imported_again() {
    let pool = pool();
    let all = three_layers();
    let first = import_bytes(&pool, &pack(&oci(&all[..2], Packed::Gzip)), "first").unwrap();
    assert_eq!((first.layers, first.new_layers, layers(&pool)), (2, 2, 2));
    let used = pool.status().unwrap().data.used;

    let second = import_bytes(&pool, &pack(&docker(&all, Packed::Plain)), "second").unwrap();
    assert_eq!((second.layers, second.new_layers, layers(&pool)), (3, 1, 3));
    let again = import_bytes(&pool, &pack(&docker(&all, Packed::Plain)), "second").unwrap();
    assert!(again.existed);
    assert_eq!(again.image.id, second.image.id);
    let other = import_bytes(&pool, &pack(&oci(&all, Packed::Zstd)), "third").unwrap();
    assert_eq!((other.new_layers, layers(&pool)), (0, 3));
    assert!(
        pool.status().unwrap().data.used <= used + pool.chunk_size(),
        "three images take no more than one and a little"
    );
    assert_eq!(
        tree(&open(&pool, second.image.id)),
        tree(&open(&pool, other.image.id))
    );

    // The same content on other layers is another layer.
    let swapped = vec![all[1].clone(), all[0].clone()];
    let swapped = import_bytes(&pool, &pack(&oci(&swapped, Packed::Plain)), "swapped").unwrap();
    assert_eq!((swapped.new_layers, layers(&pool)), (2, 5));

    // A layer that is there needs none below it.
    let below = pool.find(Digest::of(&all[0]).as_str()).unwrap().unwrap();
    pool.remove(below.id).unwrap();
    let fourth = import_bytes(&pool, &pack(&oci(&all, Packed::Plain)), "fourth").unwrap();
    assert_eq!(fourth.new_layers, 0);
    assert_clean(&pool);
}

#[test]
fn a_taken_name_is_an_error_unless_it_is_the_same_image_or_to_be_replaced() {
    let pool = pool();
    let all = three_layers();
    let old = import_bytes(&pool, &pack(&oci(&all[..1], Packed::Plain)), "name").unwrap();
    let new = pack(&oci(&all, Packed::Plain));
    let error = refused_as(&pool, &new, "name");
    assert!(error.contains("name:latest exists"), "{error}");
    let replace = ImportOptions {
        replace: true,
        ..options("name")
    };
    let done = import(&pool, source(&new, "x"), &replace, &()).unwrap();
    assert_ne!(done.image.id, old.image.id);
    assert_eq!(pool.find("name:latest").unwrap().unwrap().id, done.image.id);
    assert!(pool.info(old.image.id).is_err());
    let c = container(&pool, done.image.id, "c:latest");
    drop(c);
    assert!(
        import(
            &pool,
            source(&new, "x"),
            &ImportOptions {
                replace: true,
                ..options("c")
            },
            &()
        )
        .is_err()
    );
    assert_clean(&pool);
}

fn refused_as(pool: &std::sync::Arc<cowfs::pool::Pool>, bytes: &[u8], name: &str) -> String {
    let before = names(pool);
    let error = import_bytes(pool, bytes, name).unwrap_err().to_string();
    assert_eq!(names(pool), before);
    assert_clean(pool);
    error
}

#[test]
fn names_come_from_the_option_the_archive_or_the_file() {
    let layers_in = &three_layers()[1..2];
    let name = |source: Source, name: Option<&str>| {
        let options = ImportOptions {
            name: name.map(str::to_string),
            ..ImportOptions::default()
        };
        import(&pool(), source, &options, &())
            .map(|i| i.image.name)
            .map_err(|e| e.to_string())
    };
    let docker = pack(&docker(layers_in, Packed::Plain));
    let oci = pack(&oci(layers_in, Packed::Plain));
    assert_eq!(
        name(source(&docker, "/x/y.tar"), None).unwrap(),
        "inside:tag"
    );
    assert_eq!(
        name(source(&docker, "/x/y.tar"), Some("mine:1")).unwrap(),
        "mine:1"
    );
    assert_eq!(name(source(&oci, "/x/y.tar.gz"), None).unwrap(), "y:latest");
    assert!(name(pipe(oci), None).unwrap_err().contains("give it one"));
    assert!(
        name(source(&docker, "y"), Some("no good"))
            .unwrap_err()
            .contains("not an image name")
    );
}

#[test]
fn an_image_may_have_no_layer_and_a_layer_nothing_in_it() {
    let pool = pool();
    let none = import_bytes(&pool, &pack(&oci(&[], Packed::Plain)), "none").unwrap();
    assert_eq!(paths(&open(&pool, none.image.id)), ["/"]);
    let empty = vec![
        vec![0; 1024],
        Vec::new(),
        Tar::new().file("a", b"1").bytes(),
    ];
    let empty = import_bytes(&pool, &pack(&docker(&empty, Packed::Plain)), "empty").unwrap();
    assert_eq!(empty.new_layers, 3);
    assert_eq!(paths(&open(&pool, empty.image.id)), ["/", "/a"]);
    assert_clean(&pool);
}

#[test]
fn an_old_docker_archive_links_equal_layers() {
    let pool = pool();
    let layer = Tar::new().file("a", b"1").bytes();
    let both = vec![layer.clone(), layer.clone()];
    let files = docker(&both, Packed::Plain);
    let mut tar = Tar::new();
    for (name, data) in &files {
        tar = if name == "1/layer.tar" {
            tar.symlink(name, "../0/layer.tar")
        } else {
            tar.file(name, data)
        };
    }
    let done = import_bytes(&pool, &tar.bytes(), "linked").unwrap();
    assert_eq!((done.layers, done.new_layers), (2, 2));
}

#[test]
fn two_hundred_layers() {
    let pool = pool();
    let all: Vec<_> = (0..200)
        .map(|n| {
            Tar::new()
                .file(&format!("d/{n}"), &[n as u8])
                .file("last", &[n as u8])
                .bytes()
        })
        .collect();
    let done = import_bytes(&pool, &pack(&oci(&all, Packed::Plain)), "many").unwrap();
    assert_eq!((done.layers, done.new_layers), (200, 200));
    let fs = open(&pool, done.image.id);
    assert_eq!(paths(&fs).len(), 203);
    assert_eq!(content(&fs, ino(&fs, "/last")), [199]);
    assert_clean(&pool);
}

#[test]
fn progress_is_told_and_can_stop_everything() {
    #[derive(Default)]
    struct Watch {
        steps: Mutex<Vec<String>>,
        stop_at: Option<usize>,
        most: Mutex<u64>,
    }
    impl Progress for Watch {
        fn step(&self, step: &Step<'_>) {
            self.steps.lock().push(match step {
                Step::Spooling => "spool".into(),
                Step::Layer { number, of, .. } => format!("{number}/{of}"),
                Step::Present { number, of, .. } => format!("({number}/{of})"),
                Step::Finishing => "finish".into(),
            });
        }
        fn read(&self, bytes: u64, total: Option<u64>) {
            assert!(total.is_none_or(|t| bytes <= t));
            let mut most = self.most.lock();
            *most = (*most).max(bytes);
        }
        fn stopped(&self) -> bool {
            self.stop_at.is_some_and(|n| self.steps.lock().len() >= n)
        }
    }
    let pool = pool();
    let all = three_layers();
    let archive = pack(&oci(&all, Packed::Plain));
    let empty = names(&pool);
    for stop_at in 1..=5 {
        let watch = Watch {
            stop_at: Some(stop_at),
            ..Watch::default()
        };
        let stopped = import(&pool, pipe(archive.clone()), &options("x"), &watch).unwrap_err();
        assert!(stopped.to_string().contains("stopped"), "{stopped}");
        assert_eq!(names(&pool), empty);
        assert_clean(&pool);
    }
    import_bytes(&pool, &pack(&oci(&all[..1], Packed::Plain)), "one").unwrap();
    let watch = Watch::default();
    import(&pool, pipe(archive), &options("x"), &watch).unwrap();
    assert_eq!(
        *watch.steps.lock(),
        ["spool", "(1/3)", "2/3", "3/3", "finish"]
    );
    assert!(*watch.most.lock() > 2_000_000);
}

#[test]
fn two_imports_of_the_same_image_at_once() {
    let pool = pool();
    let all = three_layers();
    let archive = pack(&oci(&all, Packed::Gzip));
    std::thread::scope(|scope| {
        let run = |name: &'static str| {
            let (pool, archive) = (&pool, &archive);
            scope.spawn(move || import_bytes(pool, archive, name).unwrap())
        };
        let (a, b) = (run("a"), run("b"));
        let (a, b) = (a.join().unwrap(), b.join().unwrap());
        assert_eq!(
            tree(&open(&pool, a.image.id)),
            tree(&open(&pool, b.image.id))
        );
    });
    assert_eq!(layers(&pool), 3, "{:?}", names(&pool));
    assert_clean(&pool);
}
