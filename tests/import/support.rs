//! A pool in memory, archives made by code, and a volume's whole tree as text.

use cowfs::base::{ROOT_INO, Result, VolumeId};
use cowfs::device::MemDevice;
use cowfs::fs::Fs;
use cowfs::image::{Digest, ImportOptions, Imported, Source, import};
use cowfs::pool::{Config, Devices, Format, Kind, NewVolume, Pool};
use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::sync::Arc;
use std::time::Duration;
use tar::{Builder, EntryType, Header};

pub fn pool() -> Arc<Pool> {
    let device = || Arc::new(MemDevice::new());
    let devices = Devices {
        metadata: device(),
        data: device(),
        log: device(),
    };
    Pool::format(
        &devices,
        &Format {
            log_size: 8 << 20,
            size: 4 << 30,
            ..Format::default()
        },
    )
    .unwrap();
    Pool::open(
        devices,
        Config {
            boot: [1; 32],
            cache_bytes: 64 << 20,
            interval: Duration::ZERO,
            discard: true,
        },
    )
    .unwrap()
}

pub fn assert_clean(pool: &Pool) {
    let report = pool.check(&|_, _| {}).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

/// What the pool shows of its volumes.
pub fn names(pool: &Pool) -> Vec<String> {
    let mut names: Vec<_> = pool
        .volumes()
        .unwrap()
        .into_iter()
        .map(|v| format!("{:?} {}", v.kind, v.name))
        .collect();
    names.sort();
    names
}

pub fn layers(pool: &Pool) -> usize {
    pool.volumes()
        .unwrap()
        .iter()
        .filter(|v| v.kind == Kind::Layer)
        .count()
}

pub fn source(bytes: &[u8], display: &str) -> Source {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    Source::from_fd(file.into(), display)
}

/// A pipe that gives these bytes.
pub fn pipe(bytes: Vec<u8>) -> Source {
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::thread::spawn(move || {
        let _ = writer.write_all(&bytes);
    });
    Source::from_fd(reader.into(), "-")
}

pub fn options(name: &str) -> ImportOptions {
    ImportOptions {
        name: Some(name.into()),
        ..ImportOptions::default()
    }
}

pub fn import_bytes(pool: &Arc<Pool>, bytes: &[u8], name: &str) -> Result<Imported> {
    import(pool, source(bytes, "test.tar"), &options(name), &())
}

/// An import that must fail: its line, and nothing of it left.
pub fn refused(pool: &Arc<Pool>, bytes: &[u8]) -> String {
    let before = names(pool);
    let error = import_bytes(pool, bytes, "refused")
        .expect_err("must be refused")
        .to_string();
    assert!(!error.contains('\n') && error.len() < 1000, "{error}");
    assert_eq!(names(pool), before, "after: {error}");
    assert_clean(pool);
    error
}

pub fn open(pool: &Arc<Pool>, id: VolumeId) -> Arc<Fs> {
    Fs::open(pool.volume(id).unwrap()).unwrap()
}

pub fn container(pool: &Arc<Pool>, image: VolumeId, name: &str) -> Arc<Fs> {
    let new = NewVolume {
        name: name.into(),
        kind: Kind::Container,
        source: Some(image),
        limit: None,
        building: false,
        sealed: false,
    };
    open(pool, pool.create(&new).unwrap().id)
}

/// A layer's tar, entry by entry.
pub struct Tar(pub Builder<Vec<u8>>);

impl Tar {
    pub fn new() -> Tar {
        Tar(Builder::new(Vec::new()))
    }

    pub fn header(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_600_000_000);
        header
    }

    /// Any header with any name, also those that the builder would refuse.
    pub fn raw(mut self, mut header: Header, name: &[u8], data: &[u8]) -> Tar {
        if name.len() > 100 {
            let mut long = Tar::header(EntryType::GNULongName, name.len() as u64 + 1);
            long.as_old_mut().name[..13].copy_from_slice(b"././@LongLink");
            long.set_cksum();
            self.0.append(&long, &[name, b"\0"].concat()[..]).unwrap();
        }
        let short = name.len().min(100);
        header.as_old_mut().name = [0; 100];
        header.as_old_mut().name[..short].copy_from_slice(&name[..short]);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub fn file(self, name: &str, data: &[u8]) -> Tar {
        self.raw(
            Tar::header(EntryType::Regular, data.len() as u64),
            name.as_bytes(),
            data,
        )
    }

    pub fn dir(self, name: &str) -> Tar {
        let mut header = Tar::header(EntryType::Directory, 0);
        header.set_mode(0o755);
        self.raw(header, name.as_bytes(), b"")
    }

    fn linked(self, kind: EntryType, name: &str, target: &str) -> Tar {
        let mut header = Tar::header(kind, 0);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.raw(header, name.as_bytes(), b"")
    }

    pub fn symlink(self, name: &str, target: &str) -> Tar {
        self.linked(EntryType::Symlink, name, target)
    }

    pub fn link(self, name: &str, target: &str) -> Tar {
        self.linked(EntryType::Link, name, target)
    }

    /// PAX records for the next entry.
    pub fn pax(mut self, records: &[(&str, &[u8])]) -> Tar {
        self.0
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        self
    }

    pub fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packed {
    Plain,
    Gzip,
    Members,
    Zstd,
    Frames,
}

pub const PACKINGS: [Packed; 5] = [
    Packed::Plain,
    Packed::Gzip,
    Packed::Members,
    Packed::Zstd,
    Packed::Frames,
];

pub fn packed(bytes: &[u8], how: Packed) -> Vec<u8> {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let (a, b) = bytes.split_at(bytes.len() / 2);
    match how {
        Packed::Plain => bytes.to_vec(),
        Packed::Gzip => gzip(bytes),
        Packed::Members => [gzip(a), gzip(b)].concat(),
        Packed::Zstd => zstd(bytes),
        Packed::Frames => [zstd(a), zstd(b)].concat(),
    }
}

/// Members of an image archive.
pub type Files = Vec<(String, Vec<u8>)>;

pub fn pack(files: &Files) -> Vec<u8> {
    files
        .iter()
        .fold(Tar::new(), |tar, (name, data)| tar.file(name, data))
        .bytes()
}

pub fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<_> = layers
        .iter()
        .map(|l| format!("\"{}\"", Digest::of(l)))
        .collect();
    let history: Vec<_> = (0..layers.len())
        .map(|n| format!(r#"{{"created_by":"step {n}"}}"#))
        .collect();
    let steps = [
        vec![r#"{"created_by":"nothing","empty_layer":true}"#.to_string()],
        history,
    ]
    .concat();
    format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["sh"],"Env":["A=b"]}},
            "rootfs":{{"type":"layers","diff_ids":[{}]}},
            "history":[{}]}}"#,
        ids.join(","),
        steps.join(",")
    )
    .into_bytes()
}

/// An OCI layout of one image.
pub fn oci(layers: &[Vec<u8>], how: Packed) -> Files {
    let mut files = vec![(
        "oci-layout".to_string(),
        br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
    )];
    let mut blob = |media_type: &str, bytes: Vec<u8>| {
        let digest = Digest::of(&bytes);
        let text = format!(
            r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#,
            bytes.len()
        );
        files.push((format!("blobs/sha256/{}", &digest.as_str()[7..]), bytes));
        text
    };
    let suffix = match how {
        Packed::Plain => "",
        Packed::Gzip | Packed::Members => "+gzip",
        Packed::Zstd | Packed::Frames => "+zstd",
    };
    let list: Vec<_> = layers
        .iter()
        .map(|l| {
            blob(
                &format!("application/vnd.oci.image.layer.v1.tar{suffix}"),
                packed(l, how),
            )
        })
        .collect();
    let config = blob("application/vnd.oci.image.config.v1+json", config(layers));
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#,
        list.join(",")
    );
    let manifest = blob(
        "application/vnd.oci.image.manifest.v1+json",
        manifest.into_bytes(),
    );
    files.push((
        "index.json".to_string(),
        format!(r#"{{"schemaVersion":2,"manifests":[{manifest}]}}"#).into_bytes(),
    ));
    files
}

/// A docker-archive of one image, its order as unhelpful as can be.
pub fn docker(layers: &[Vec<u8>], how: Packed) -> Files {
    let (mut files, item) = docker_item(layers, how, "inside:tag", "");
    files.push(("manifest.json".into(), format!("[{item}]").into_bytes()));
    files
}

/// One image's members and its item of manifest.json.
pub fn docker_item(layers: &[Vec<u8>], how: Packed, tag: &str, prefix: &str) -> (Files, String) {
    let config = config(layers);
    let name = format!("{}.json", &Digest::of(&config).as_str()[7..]);
    let member = |n: usize| format!("{prefix}{n}/layer.tar");
    let list: Vec<_> = (0..layers.len())
        .map(|n| format!("\"{}\"", member(n)))
        .collect();
    let item = format!(
        r#"{{"Config":"{name}","RepoTags":["{tag}"],"Layers":[{}]}}"#,
        list.join(",")
    );
    let mut files: Files = layers
        .iter()
        .enumerate()
        .map(|(n, l)| (member(n), packed(l, how)))
        .rev()
        .collect();
    files.push((name, config));
    (files, item)
}

pub fn write_files(files: &Files) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, data) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, data).unwrap();
    }
    dir
}

/// Imports layers as an OCI archive and gives the file system of the image.
pub fn image(pool: &Arc<Pool>, layers: &[Vec<u8>]) -> Arc<Fs> {
    let name = Digest::of(&layers.concat()).as_str()[7..20].to_string();
    let done = import_bytes(pool, &pack(&oci(layers, Packed::Plain)), &name).unwrap();
    open(pool, done.image.id)
}

/// Everything in a volume: path, and what it is in one line.
pub fn tree(fs: &Fs) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut names: BTreeMap<u64, String> = BTreeMap::new();
    let mut ahead = vec![(ROOT_INO, String::new())];
    while let Some((dir, path)) = ahead.pop() {
        let mut entries = Vec::new();
        fs.readdir(dir, 0, false, &mut |e, _| {
            entries.push(e.clone());
            true
        })
        .unwrap();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        for entry in entries {
            if entry.name == b"." || entry.name == b".." {
                continue;
            }
            let path = format!("{path}/{}", String::from_utf8_lossy(&entry.name));
            found.insert(path.clone(), describe(fs, entry.ino, &path, &mut names));
            if entry.kind == libc::S_IFDIR {
                ahead.push((entry.ino, path));
            }
        }
    }
    found.insert("/".into(), describe(fs, ROOT_INO, "/", &mut names));
    found
}

fn describe(fs: &Fs, ino: u64, path: &str, names: &mut BTreeMap<u64, String>) -> String {
    let attr = fs.attr(ino).unwrap();
    let mut line = format!(
        "{:06o} {}:{} {}.{:09}",
        attr.mode, attr.uid, attr.gid, attr.mtime.sec, attr.mtime.nsec
    );
    match attr.mode & libc::S_IFMT {
        libc::S_IFREG => {
            let bytes = content(fs, ino);
            assert_eq!(bytes.len() as u64, attr.size);
            line += &format!(" {} {}", attr.size, &Digest::of(&bytes).as_str()[7..15]);
        }
        libc::S_IFLNK => {
            line += &format!(
                " -> {}",
                String::from_utf8_lossy(&fs.readlink(ino).unwrap())
            )
        }
        libc::S_IFCHR | libc::S_IFBLK => line += &format!(" dev {:x}", attr.rdev),
        _ => {}
    }
    if attr.mode & libc::S_IFMT != libc::S_IFDIR && attr.nlink > 1 {
        line += &format!(
            " links {} first {}",
            attr.nlink,
            names.entry(ino).or_insert_with(|| path.to_string())
        );
    }
    let mut xattrs = fs.xattrs(ino).unwrap();
    xattrs.sort();
    for name in xattrs {
        let value = fs.xattr(ino, &name).unwrap();
        line += &format!(
            " {}={}",
            String::from_utf8_lossy(&name),
            String::from_utf8_lossy(&value).escape_default()
        );
    }
    line
}

pub fn content(fs: &Fs, ino: u64) -> Vec<u8> {
    let size = fs.attr(ino).unwrap().size;
    let mut bytes = vec![0; usize::try_from(size).unwrap()];
    let mut at = 0;
    while at < bytes.len() {
        let n = fs.read(ino, at as u64, &mut bytes[at..]).unwrap();
        assert!(n > 0);
        at += n;
    }
    bytes
}

/// Just the paths.
pub fn paths(fs: &Fs) -> Vec<String> {
    tree(fs).into_keys().collect()
}

pub fn ino(fs: &Fs, path: &str) -> u64 {
    path.split('/')
        .filter(|p| !p.is_empty())
        .fold(ROOT_INO, |dir, name| {
            fs.lookup(dir, name.as_bytes()).unwrap().ino
        })
}

pub fn text(fs: &Fs, path: &str) -> String {
    String::from_utf8(content(fs, ino(fs, path))).unwrap()
}

pub fn random_file(len: usize) -> Vec<u8> {
    use rand::{RngExt, SeedableRng};
    let mut bytes = vec![0; len];
    rand_chacha::ChaCha8Rng::seed_from_u64(len as u64).fill(&mut bytes[..]);
    bytes
}
