//! A volume beside a directory of the host: every name and everything about it.

use cowfs::base::ROOT_INO;
use cowfs::fs::Fs;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Everything that differs, one line each. Sockets are nothing an archive has.
pub fn differences(fs: &Fs, root: &Path, nanoseconds: bool) -> Vec<String> {
    let mut out = Vec::new();
    let mut links: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    let mut ahead = vec![(ROOT_INO, root.to_path_buf())];
    let mut count = 0;
    while let Some((dir, path)) = ahead.pop() {
        one(fs, dir, &path, nanoseconds, &mut links, &mut out);
        let mut ours: BTreeMap<Vec<u8>, (u64, u32)> = BTreeMap::new();
        fs.readdir(dir, 0, false, &mut |e, _| {
            if e.name != b"." && e.name != b".." {
                ours.insert(e.name.clone(), (e.ino, e.kind));
            }
            true
        })
        .unwrap();
        for entry in std::fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            if entry.metadata().unwrap().mode() & libc::S_IFMT == libc::S_IFSOCK {
                continue;
            }
            count += 1;
            let path = entry.path();
            match ours.remove(name.as_bytes()) {
                None => out.push(format!("{} is missing", path.display())),
                Some((ino, kind))
                    if kind == libc::S_IFDIR && entry.file_type().unwrap().is_dir() =>
                {
                    ahead.push((ino, path))
                }
                Some((ino, _)) => one(fs, ino, &path, nanoseconds, &mut links, &mut out),
            }
        }
        for name in ours.keys() {
            out.push(format!(
                "{} is too much",
                path.join(OsStr::from_bytes(name)).display()
            ));
        }
    }
    assert!(count > 0);
    out
}

fn one(
    fs: &Fs,
    ino: u64,
    path: &PathBuf,
    nanoseconds: bool,
    links: &mut BTreeMap<(u64, u64), u64>,
    out: &mut Vec<String>,
) {
    let meta = path.symlink_metadata().unwrap();
    let attr = fs.attr(ino).unwrap();
    let mut differ = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            out.push(format!(
                "{}: {what} is {ours}, should be {theirs}",
                path.display()
            ));
        }
    };
    differ(
        "mode",
        format!("{:o}", attr.mode),
        format!("{:o}", meta.mode()),
    );
    differ(
        "owner",
        format!("{}:{}", attr.uid, attr.gid),
        format!("{}:{}", meta.uid(), meta.gid()),
    );
    let nsec = |n: i64| if nanoseconds { n } else { 0 };
    differ(
        "time",
        format!("{}.{}", attr.mtime.sec, nsec(attr.mtime.nsec.into())),
        format!("{}.{}", meta.mtime(), nsec(meta.mtime_nsec())),
    );
    if !meta.is_dir() {
        differ("links", attr.nlink.to_string(), meta.nlink().to_string());
        let first = *links.entry((meta.dev(), meta.ino())).or_insert(ino);
        differ("inode", ino.to_string(), first.to_string());
    }
    match meta.mode() & libc::S_IFMT {
        libc::S_IFREG => {
            differ("size", attr.size.to_string(), meta.size().to_string());
            if attr.size == meta.size() {
                differ(
                    "content",
                    first_difference(fs, ino, path)
                        .map_or("the same".into(), |at| format!("another at {at}")),
                    "the same".into(),
                );
            }
        }
        libc::S_IFLNK => {
            let target = std::fs::read_link(path).unwrap();
            differ(
                "target",
                format!("{:?}", OsStr::from_bytes(&fs.readlink(ino).unwrap())),
                format!("{:?}", target.as_os_str()),
            );
        }
        libc::S_IFCHR | libc::S_IFBLK => {
            differ("device", attr.rdev.to_string(), meta.rdev().to_string())
        }
        _ => {}
    }
    let mut ours: Vec<_> = fs
        .xattrs(ino)
        .unwrap()
        .into_iter()
        .map(|n| (fs.xattr(ino, &n).unwrap(), n))
        .map(|(v, n)| (n, v))
        .collect();
    ours.sort();
    differ(
        "attributes",
        format!("{ours:?}"),
        format!("{:?}", xattrs(path)),
    );
}

/// Holes are long: where the host's file has one, only its two ends are looked at.
fn first_difference(fs: &Fs, ino: u64, path: &Path) -> Option<u64> {
    use rustix::fs::{SeekFrom, seek};
    const PIECE: usize = 1 << 20;
    let file = std::fs::File::open(path).unwrap();
    let size = file.metadata().unwrap().len();
    let (mut theirs, mut ours) = (vec![0; PIECE], vec![0; PIECE]);
    let mut check = |from: u64, to: u64| {
        let mut at = from;
        while at < to {
            let n = usize::try_from(to - at).unwrap().min(PIECE);
            file.read_exact_at(&mut theirs[..n], at).unwrap();
            let got = fs.read(ino, at, &mut ours[..n]).unwrap();
            if got == 0 || ours[..got] != theirs[..got] {
                return Some(at);
            }
            at += got as u64;
        }
        None
    };
    let mut at = 0;
    while at < size {
        let data = seek(&file, SeekFrom::Data(at)).unwrap_or(size).min(size);
        let hole = seek(&file, SeekFrom::Hole(data)).unwrap_or(size).min(size);
        let ends = (
            at.saturating_add(4096).min(data),
            data.saturating_sub(4096).max(at),
        );
        if let Some(at) = check(at, ends.0)
            .or_else(|| check(ends.1, data))
            .or_else(|| check(data, hole))
        {
            return Some(at);
        }
        at = hole.max(data);
    }
    None
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut list = vec![0u8; 65536];
    let n = rustix::fs::llistxattr(path, &mut list[..]).unwrap_or(0);
    let mut found = Vec::new();
    for name in list[..n].split(|&b| b == 0).filter(|n| !n.is_empty()) {
        let mut value = vec![0u8; 65536];
        let n = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(n);
        found.push((name.to_vec(), value));
    }
    found.sort();
    found
}
