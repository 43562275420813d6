//! Which image of an archive, and what is refused as none.

use super::config::ImageConfig;
use super::digest::Digest;
use super::oci::{Choice, Platform};
use super::tests::members;
use super::{docker, oci};

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
