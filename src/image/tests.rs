//! Everything that needs no pool: names, digests, streams, what a source is, which image it holds.

use super::config::ImageConfig;
use super::digest::{Algorithm, Digest, chain_id};
use super::members::Members;
use super::oci::{Choice, Platform};
use super::pump::{Compression, Pump, sniff};
use super::source::{Content, detect};
use super::tar::Feed;
use super::*;
use std::fs::File;
use std::io::{Cursor, Read, Seek, Write};
use std::sync::Arc;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// Bytes that do not compress away.
fn noise(len: usize) -> Vec<u8> {
    let mut x = 88_172_645_463_325_252u64;
    (0..len)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}

fn all(input: Vec<u8>, blob: Algorithm) -> crate::base::Result<(Vec<u8>, super::pump::Sums)> {
    let mut pump = Pump::start(Box::new(Cursor::new(input)), blob, Algorithm::Sha256)?;
    let mut out = Vec::new();
    loop {
        let piece = pump.fill()?;
        if piece.is_empty() {
            break;
        }
        out.extend_from_slice(piece);
        let n = piece.len();
        pump.consume(n);
    }
    Ok((out, pump.finish()?))
}

#[test]
fn digests() {
    let d = Digest::of(b"abc");
    assert_eq!(
        d.as_str(),
        "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(
        d.blob_path(),
        "blobs/sha256/ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    let long = Digest::like(Algorithm::Sha512, b"abc");
    assert_eq!(
        Digest::parse(long.as_str()).unwrap().algorithm(),
        Algorithm::Sha512
    );
    for bad in [
        "",
        "abc",
        "md5:00",
        "sha256:",
        "sha256:../../etc/passwd",
        &d.as_str().to_uppercase(),
        &d.as_str()[..70],
    ] {
        assert!(Digest::parse(bad).is_err(), "{bad}");
    }
    // The specification's rule: the lowest layer's ChainID is its DiffID, then sums of pairs.
    let below = chain_id(None, &d);
    assert_eq!(below, d);
    assert_eq!(
        chain_id(Some(&below), &d),
        Digest::of(format!("{d} {d}").as_bytes())
    );
}

#[test]
fn names() {
    assert_eq!(full_name("debian").unwrap(), "debian:latest");
    assert_eq!(
        full_name("localhost:5000/a/b").unwrap(),
        "localhost:5000/a/b:latest"
    );
    assert_eq!(
        full_name("localhost:5000/a/b:v1").unwrap(),
        "localhost:5000/a/b:v1"
    );
    for bad in [
        "",
        ":",
        "a:",
        ":a",
        "a@b",
        "a b",
        "-a",
        "/a",
        "a//b",
        "a/",
        "a:b/",
        "../a",
        "a:.b",
        "a\n",
        &"a".repeat(300),
    ] {
        assert!(full_name(bad).is_err(), "{bad:?}");
    }
    assert!(super::name::same(
        "debian",
        "docker.io/library/debian:latest"
    ));
    assert!(!super::name::same("debian:12", "debian"));
    for (file, name) in [
        ("/srv/debian.tar.gz", "debian"),
        ("debian-12.rootfs.tar.zst", "debian-12"),
        ("a b.tgz", "a-b"),
        ("dir/", "dir"),
        ("x.oci-archive", "x"),
    ] {
        assert_eq!(super::name::from_file(file).as_deref(), Some(name));
    }
    assert_eq!(super::name::from_file("-"), None);
    assert_eq!(super::name::from_file("/"), None);
}

#[test]
fn every_compression_comes_out_the_same() {
    let plain = noise(3_000_000);
    let half = plain.len() / 2;
    let members = [gzip(&plain[..half]), gzip(&plain[half..])].concat();
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    let frames = [
        zstd(&plain[..half]),
        skippable.to_vec(),
        zstd(&plain[half..]),
        skippable.to_vec(),
    ]
    .concat();
    let starts_skippable = [skippable.to_vec(), zstd(&plain)].concat();
    let cases = [
        (plain.clone(), Compression::None),
        (gzip(&plain), Compression::Gzip),
        (members, Compression::Gzip),
        (zstd(&plain), Compression::Zstd),
        (frames, Compression::Zstd),
        (starts_skippable, Compression::Zstd),
    ];
    for (stored, compression) in cases {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let (out, sums) = all(stored.clone(), algorithm).unwrap();
            assert!(out == plain);
            assert_eq!(sums.compression, compression);
            assert_eq!(sums.blob, Digest::like(algorithm, &stored));
            assert_eq!(sums.blob_size, stored.len() as u64);
            assert_eq!(sums.diff, Digest::of(&plain));
        }
    }
}

#[test]
fn broken_compression_is_told_apart() {
    let plain = noise(100_000);
    let text = |input: Vec<u8>| all(input, Algorithm::Sha256).unwrap_err().to_string();
    for stored in [gzip(&plain), zstd(&plain)] {
        assert!(text(stored[..stored.len() / 2].to_vec()).contains("cut off"));
        assert!(text(stored[..stored.len() - 1].to_vec()).contains("cut off"));
        let mut damaged = stored.clone();
        let last = damaged.len() - 3;
        damaged[last] ^= 1;
        if sniff(&stored).unwrap() == Compression::Gzip {
            assert!(text(damaged).contains("damaged"));
        }
        assert!(text([stored, b"garbage and more garbage".to_vec()].concat()).contains("data"));
    }
    assert!(text(b"\xfd7zXZ\0\0\0".to_vec()).contains("xz"));
    assert!(text(b"BZh91AY&SY".to_vec()).contains("bzip2"));
}

#[test]
fn a_pump_whose_listener_goes_away_ends() {
    struct Endless {
        _alive: Arc<()>,
    }
    impl Read for Endless {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            Ok(buf.len())
        }
    }
    let alive = Arc::new(());
    let mut pump = Pump::start(
        Box::new(Endless {
            _alive: alive.clone(),
        }),
        Algorithm::Sha256,
        Algorithm::Sha256,
    )
    .unwrap();
    pump.fill().unwrap();
    drop(pump);
    let started = std::time::Instant::now();
    while Arc::strong_count(&alive) > 1 {
        assert!(started.elapsed().as_secs() < 20, "the thread goes on");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// A tar of plain files.
fn tarball(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar_crate();
    for (name, bytes) in files {
        let mut header = ::tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn tar_crate() -> ::tar::Builder<Vec<u8>> {
    ::tar::Builder::new(Vec::new())
}

fn file_with(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn members(files: &[(&str, &[u8])]) -> Members {
    let bytes = tarball(files);
    let end = bytes.len() as u64;
    Members::index(&Arc::new(file_with(&bytes)), 0, end)
        .unwrap()
        .unwrap()
}

fn kind_of(source: Source) -> String {
    match detect(&source, None, &()) {
        Ok(Content::Oci(_)) => "oci".into(),
        Ok(Content::Docker(_)) => "docker".into(),
        Ok(Content::RootTar { .. }) => "root".into(),
        Ok(Content::RootDirectory(_)) => "directory".into(),
        Err(e) => e.to_string(),
    }
}

#[test]
fn sources_are_told_by_their_bytes() {
    let oci = tarball(&[
        ("oci-layout", b"{}"),
        ("blobs/sha256/x", b""),
        ("index.json", b"{}"),
    ]);
    let docker = tarball(&[
        ("0123.json", b"{}"),
        ("0123/layer.tar", b""),
        ("manifest.json", b"[]"),
    ]);
    let both = tarball(&[
        ("manifest.json", b"[]"),
        ("index.json", b"{}"),
        ("oci-layout", b"{}"),
    ]);
    let root = tarball(&[("manifest.json", b"[]"), ("./etc/passwd", b"x")]);
    let odd = tarball(&[("hello", b"x")]);
    let old = tarball(&[("repositories", b"{}"), ("0123/layer.tar", b"")]);
    for (bytes, expect) in [
        (oci, "oci"),
        (docker, "docker"),
        (both, "oci"),
        (root, "root"),
        (odd, "root"),
        (old, "before 1.10"),
    ] {
        for stored in [bytes.clone(), gzip(&bytes), zstd(&bytes)] {
            let kind = kind_of(Source::from_fd(file_with(&stored).into(), "x"));
            assert!(kind.contains(expect), "{kind} is not {expect}");
            // A pipe cannot be read twice.
            let (reader, mut writer) = std::io::pipe().unwrap();
            let feeder = std::thread::spawn(move || writer.write_all(&stored));
            let kind = kind_of(Source::from_fd(reader.into(), "-"));
            assert!(kind.contains(expect), "{kind} is not {expect}");
            let _ = feeder.join().unwrap();
        }
    }
    assert!(kind_of(Source::from_fd(file_with(b"").into(), "x")).contains("empty"));
    assert!(kind_of(Source::from_fd(file_with(&[0; 10240]).into(), "x")).contains("nothing"));
    assert!(kind_of(Source::from_fd(file_with(&noise(5000)).into(), "x")).contains("not a tar"));
    assert!(
        kind_of(Source::from_fd(file_with(&gzip(&noise(5000))).into(), "x")).contains("not a tar")
    );
    assert!(
        kind_of(Source::from_fd(
            File::open("/dev/null").unwrap().into(),
            "x"
        ))
        .contains("empty")
    );
}

#[test]
fn directories_are_told_by_what_is_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let kind = || kind_of(Source::open(dir.path()).unwrap());
    assert_eq!(kind(), "directory");
    std::fs::write(dir.path().join("manifest.json"), "[]").unwrap();
    assert_eq!(kind(), "docker");
    std::fs::create_dir(dir.path().join("etc")).unwrap();
    assert_eq!(kind(), "directory");
    std::fs::write(dir.path().join("index.json"), "{}").unwrap();
    std::fs::write(dir.path().join("oci-layout"), "{}").unwrap();
    assert_eq!(kind(), "oci");
    let missing = Source::open(&dir.path().join("none")).unwrap_err();
    assert_eq!(missing.exit_kind(), crate::base::ExitKind::NotFound);
}

#[test]
fn an_archive_is_read_from_where_its_descriptor_stands() {
    let bytes = [noise(700), tarball(&[("manifest.json", b"[1]")])].concat();
    let mut file = file_with(&bytes);
    file.seek(std::io::SeekFrom::Start(700)).unwrap();
    match detect(&Source::from_fd(file.into(), "x"), None, &()).unwrap() {
        Content::Docker(members) => {
            assert_eq!(members.read("manifest.json", 10).unwrap().unwrap(), b"[1]")
        }
        _ => panic!("not found"),
    }
}

#[test]
fn links_between_members() {
    let mut builder = tar_crate();
    let mut header = ::tar::Header::new_ustar();
    header.set_size(3);
    builder
        .append_data(&mut header.clone(), "./a/layer.tar", &b"abc"[..])
        .unwrap();
    header.set_size(0);
    header.set_entry_type(::tar::EntryType::Symlink);
    builder
        .append_link(&mut header.clone(), "b/layer.tar", "../a/layer.tar")
        .unwrap();
    builder
        .append_link(&mut header.clone(), "out", "../../../a/layer.tar")
        .unwrap();
    builder
        .append_link(&mut header.clone(), "loop", "loop")
        .unwrap();
    header.set_entry_type(::tar::EntryType::Link);
    builder
        .append_link(&mut header.clone(), "hard", "./a/layer.tar")
        .unwrap();
    let bytes = builder.into_inner().unwrap();
    let end = bytes.len() as u64;
    let members = Members::index(&Arc::new(file_with(&bytes)), 0, end)
        .unwrap()
        .unwrap();
    for name in ["a/layer.tar", "b/layer.tar", "hard", "out"] {
        assert_eq!(
            members.read(name, 100).unwrap().as_deref(),
            Some(&b"abc"[..]),
            "{name}"
        );
    }
    assert!(members.open("loop").is_err());
    assert!(members.open("c").unwrap().is_none());
    assert!(members.read("hard", 2).is_err());
}

#[test]
fn a_layout_directory_is_not_left() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "x").unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), dir.path().join("blob")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        dir.path().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    std::fs::write(dir.path().join("file"), "y").unwrap();
    let members = Members::Directory(File::open(dir.path()).unwrap().into());
    assert!(
        !members.has("blob")
            && !members.has("fifo")
            && !members.has("../secret")
            && members.has("file")
    );
}

struct Layout {
    files: Vec<(String, Vec<u8>)>,
}

impl Layout {
    fn blob(&mut self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.files.push((digest.blob_path(), bytes.to_vec()));
        digest
    }

    fn descriptor(&mut self, media_type: &str, bytes: &[u8], more: &str) -> String {
        let digest = self.blob(bytes);
        format!(
            r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}{more}}}"#,
            bytes.len()
        )
    }

    fn image(&mut self, comment: &str, more: &str) -> String {
        let config =
            format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[]}},"author":"{comment}"}}"#);
        let config = self.descriptor(
            "application/vnd.oci.image.config.v1+json",
            config.as_bytes(),
            "",
        );
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        self.descriptor(
            "application/vnd.oci.image.manifest.v1+json",
            manifest.as_bytes(),
            more,
        )
    }

    fn find(mut self, index: &str, choice: &Choice<'_>) -> crate::base::Result<String> {
        self.files.push((
            "index.json".into(),
            format!(r#"{{"schemaVersion":2,"manifests":[{index}]}}"#).into_bytes(),
        ));
        let files: Vec<_> = self
            .files
            .iter()
            .map(|(n, b)| (n.as_str(), &b[..]))
            .collect();
        let found = oci::find(&members(&files), choice)?;
        Ok(ImageConfig::parse(&found.config)?
            .author
            .unwrap_or_default())
    }
}

fn layout() -> Layout {
    Layout {
        files: vec![(
            "oci-layout".into(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        )],
    }
}

const ANY: Choice<'static> = Choice {
    name: None,
    platform: None,
};

fn named(name: &str) -> String {
    format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#)
}

fn platform(text: &str) -> String {
    let p = Platform::parse(text).unwrap();
    format!(
        r#","platform":{{"os":"{}","architecture":"{}"}}"#,
        p.os, p.architecture
    )
}

#[test]
fn images_are_chosen_by_name() {
    let pick = |choice: &Choice<'_>| {
        let mut layout = layout();
        let index = [
            layout.image("one", &named("debian:12")),
            layout.image("two", &named("v2")),
        ]
        .join(",");
        layout.find(&index, choice).map_err(|e| e.to_string())
    };
    assert!(pick(&ANY).unwrap_err().contains("debian:12, v2"));
    assert_eq!(
        pick(&Choice {
            name: Some("docker.io/library/debian:12"),
            ..ANY
        })
        .unwrap(),
        "one"
    );
    assert_eq!(
        pick(&Choice {
            name: Some("whatever:v2"),
            ..ANY
        })
        .unwrap(),
        "two"
    );
    assert!(
        pick(&Choice {
            name: Some("debian:13"),
            ..ANY
        })
        .is_err()
    );
    let mut only = layout();
    let index = only.image("only", &named("a:b"));
    assert_eq!(
        only.find(
            &index,
            &Choice {
                name: Some("mine"),
                ..ANY
            }
        )
        .unwrap(),
        "only",
        "the only one can be renamed"
    );
}

#[test]
fn images_are_chosen_by_platform_also_in_nested_indexes() {
    let host = Platform::host().to_string();
    let pick = |choice: &Choice<'_>, other: &str| {
        let mut layout = layout();
        let attestation = layout.image("attestation", &platform("unknown/unknown"));
        let list = [
            layout.image("other", &platform(other)),
            attestation,
            layout.image("mine", &platform(&host)),
        ]
        .join(",");
        let nested = format!(r#"{{"schemaVersion":2,"manifests":[{list}]}}"#);
        let nested = layout.descriptor(
            "application/vnd.oci.image.index.v1+json",
            nested.as_bytes(),
            &named("x"),
        );
        layout.find(&nested, choice).map_err(|e| e.to_string())
    };
    assert_eq!(pick(&ANY, "linux/s390x").unwrap(), "mine");
    let s390x = Platform::parse("linux/s390x").unwrap();
    assert_eq!(
        pick(
            &Choice {
                platform: Some(&s390x),
                ..ANY
            },
            "linux/s390x"
        )
        .unwrap(),
        "other"
    );
    let missing = pick(
        &Choice {
            platform: Some(&s390x),
            ..ANY
        },
        "linux/mips",
    )
    .unwrap_err();
    assert!(
        missing.contains("linux/s390x") && missing.contains("linux/mips"),
        "{missing}"
    );
    let mut only = layout();
    let index = [
        only.image("only", &platform("linux/s390x")),
        only.image("no", &platform("unknown/unknown")),
    ]
    .join(",");
    assert_eq!(
        only.find(&index, &ANY).unwrap(),
        "only",
        "the only one is taken, whatever it is made for"
    );
}

#[test]
fn indexes_that_never_end() {
    let mut layout = layout();
    let mut nested = layout.image("deep", "");
    for _ in 0..10 {
        let index = format!(r#"{{"manifests":[{nested}]}}"#);
        nested = layout.descriptor(
            "application/vnd.oci.image.index.v1+json",
            index.as_bytes(),
            "",
        );
    }
    assert!(
        layout
            .find(&nested, &ANY)
            .unwrap_err()
            .to_string()
            .contains("nested")
    );
}

#[test]
fn what_is_no_image_is_refused_by_its_type() {
    let refused = |manifest: &str, media_type: &str| {
        let mut layout = layout();
        let config = layout.descriptor("application/vnd.oci.image.config.v1+json", b"{}", "");
        let manifest = manifest.replace("CONFIG", &config);
        let index = layout.descriptor(media_type, manifest.as_bytes(), "");
        layout.find(&index, &ANY).unwrap_err().to_string()
    };
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    assert!(refused("{}", "application/x-cake").contains("x-cake"));
    assert!(
        refused(
            "{}",
            "application/vnd.docker.distribution.manifest.v1+prettyjws"
        )
        .contains("schema 1")
    );
    assert!(refused("{}", manifest).contains("neither"));
    let artifact = r#"{"artifactType":"application/x-chart","config":{"mediaType":"application/vnd.oci.empty.v1+json"},"layers":[]}"#;
    assert!(refused(artifact, manifest).contains("x-chart"));
    let sum = Digest::of(b"");
    let layer = |media_type: &str| {
        format!(
            r#"{{"config":CONFIG,"layers":[{{"mediaType":"{media_type}","digest":"{sum}","size":0}}]}}"#
        )
    };
    assert!(refused(&layer("application/x-wasm"), manifest).contains("x-wasm"));
    assert!(
        refused(
            &layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
            manifest
        )
        .contains("encrypted")
    );
    assert!(
        refused(
            &layer("application/vnd.oci.image.layer.v1.tar").replace("sha256", "md5"),
            manifest
        )
        .contains("md5")
    );
    assert!(refused("[", manifest).contains("not what it should be"));
    assert!(
        refused(&"[".repeat(100_000), manifest).contains("not what it should be"),
        "depth is bounded"
    );
}

#[test]
fn small_blobs_are_checked() {
    let broken = |change: fn(&mut Layout)| {
        let mut layout = layout();
        let index = layout.image("x", "");
        change(&mut layout);
        layout.find(&index, &ANY).unwrap_err().to_string()
    };
    // The configuration is the second file, the manifest the third.
    assert!(broken(|l| l.files[1].1[0] = b' ').contains("damaged"));
    assert!(broken(|l| l.files[1].1.push(b' ')).contains("promised"));
    assert!(broken(|l| drop(l.files.remove(1))).contains("missing"));
    assert!(broken(|l| drop(l.files.remove(2))).contains("missing"));
    assert!(broken(|l| l.files[0].1 = b"{}".to_vec()).contains("version"));
}

#[test]
fn docker_archives() {
    let config = br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let name = format!("{}.json", &Digest::of(config).as_str()[7..]);
    let find = |manifest: &str, choice: &Choice<'_>| {
        let manifest = manifest.replace("CONFIG", &name);
        let members = members(&[
            (&name, config),
            ("wrong/layer.tar", b"x"),
            ("manifest.json", manifest.as_bytes()),
        ]);
        docker::find(&members, choice)
            .map(|f| (f.name, f.layers.len()))
            .map_err(|e| e.to_string())
    };
    let one = r#"{"Config":"CONFIG","RepoTags":["a:1","b:2"],"Layers":["wrong/layer.tar"]}"#;
    let two = r#"{"Config":"CONFIG","RepoTags":["c:3"],"Layers":null}"#;
    let none = r#"{"Config":"CONFIG","RepoTags":null,"Layers":["wrong/layer.tar"]}"#;
    assert_eq!(
        find(&format!("[{one}]"), &ANY).unwrap(),
        (Some("a:1".into()), 1)
    );
    assert_eq!(find(&format!("[{none}]"), &ANY).unwrap(), (None, 1));
    let both = format!("[{one},{two}]");
    assert!(find(&both, &ANY).unwrap_err().contains("a:1, c:3"));
    assert_eq!(
        find(
            &both,
            &Choice {
                name: Some("b:2"),
                ..ANY
            }
        )
        .unwrap(),
        (Some("b:2".into()), 1)
    );
    assert_eq!(
        find(
            &both,
            &Choice {
                name: Some("c:3"),
                ..ANY
            }
        )
        .unwrap(),
        (Some("c:3".into()), 0)
    );
    assert!(find("[]", &ANY).unwrap_err().contains("no image"));
    assert!(find("{}", &ANY).unwrap_err().contains("manifest.json"));
    assert!(
        find(r#"[{"Config":"none.json"}]"#, &ANY)
            .unwrap_err()
            .contains("missing")
    );
    assert!(
        find(r#"[{"Config":"CONFIG","Layers":["none"]}]"#, &ANY)
            .unwrap_err()
            .contains("missing")
    );
    let wrong = [
        (name.as_str(), &b"{}"[..]),
        ("manifest.json", br#"[{"Config":"NAME"}]"#),
    ];
    let manifest = String::from_utf8_lossy(wrong[1].1).replace("NAME", &name);
    let members = members(&[wrong[0], ("manifest.json", manifest.as_bytes())]);
    assert!(
        docker::find(&members, &ANY)
            .unwrap_err()
            .to_string()
            .contains("damaged")
    );
}

#[test]
fn configurations_are_read_leniently() {
    let config = ImageConfig::parse(
        br#"{"architecture":null,"created":null,"config":{"Env":null,"Cmd":"one","Entrypoint":["a","b"],"Labels":null,
            "ExposedPorts":{"80/tcp":{}},"Volumes":null,"User":null,"Healthcheck":{"Test":[]},"OnBuild":null},
            "rootfs":{"diff_ids":null},"history":null,"container_config":{"x":[1,2]},"nobody.knows":1.5}"#,
    )
    .unwrap();
    assert_eq!(config.config.cmd, ["one"]);
    assert_eq!(config.config.entrypoint, ["a", "b"]);
    assert_eq!(config.config.exposed_ports, ["80/tcp"]);
    assert!(config.config.env.is_empty() && config.rootfs.diff_ids.is_empty());
    let again = ImageConfig::parse(&serde_json::to_vec(&config).unwrap()).unwrap();
    assert_eq!(again, config, "what we write we read");
    assert!(ImageConfig::parse(b"7").is_err());
    assert!(ImageConfig::parse(b"{\"config\":7}").is_err());
}

#[test]
fn history_and_layers_side_by_side() {
    let step = |by: &str, empty| History {
        created_by: Some(by.into()),
        empty_layer: empty,
        ..History::default()
    };
    let record = |id: &str| LayerRecord {
        digest: String::new(),
        diff_id: String::new(),
        chain_id: id.into(),
        media_type: String::new(),
        size: 7,
        history: None,
    };
    let config = ImageConfig {
        history: vec![step("base", false), step("env", true), step("run", false)],
        ..ImageConfig::default()
    };
    let lines = listing::lines(&config, &[record("1"), record("2"), record("3")]);
    let shown: Vec<_> = lines
        .iter()
        .map(|l| (l.layer.as_deref(), l.created_by.as_str(), l.size))
        .collect();
    assert_eq!(
        shown,
        [
            (Some("3"), "", 7),
            (Some("2"), "run", 7),
            (None, "env", 0),
            (Some("1"), "base", 7)
        ]
    );
}
