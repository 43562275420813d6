//! /proc/self/mountinfo: what is mounted where, as the kernel tells (proc_pid_mountinfo(5)).

use crate::base::{Error, Result};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountInfo {
    pub id: u64,
    pub parent: u64,
    /// Device number of the file system, as st_dev: (major, minor).
    pub device: (u32, u32),
    /// Directory of the file system that forms the root of this mount: "/" unless it is a bind of a part.
    pub root: PathBuf,
    pub dir: PathBuf,
    /// Of the mount: `rw,nosuid,relatime`.
    pub options: String,
    /// `fuse.cowfs`.
    pub fs_type: String,
    pub source: OsString,
    /// Of the file system: `rw,user_id=0,group_id=0,default_permissions`.
    pub super_options: String,
}

impl MountInfo {
    pub fn is_cowfs(&self) -> bool {
        self.fs_type == super::FS_TYPE
    }

    /// The number under which /sys/fs/fuse/connections knows this connection.
    pub fn connection(&self) -> u32 {
        (self.device.0 << 20) | self.device.1
    }
}

/// All mounts this process sees, in the kernel's order: a later one on the same directory hides an earlier one.
pub fn mounts() -> Result<Vec<MountInfo>> {
    let path = "/proc/self/mountinfo";
    let bytes = std::fs::read(path).map_err(|e| Error::io(format!("cannot read {path}"), e))?;
    Ok(parse(&bytes))
}

/// The mount one would see on this directory (an absolute path as the kernel tells it), if it is a mount point.
pub fn mounted_on(dir: &Path) -> Result<Option<MountInfo>> {
    Ok(mounts()?.into_iter().rev().find(|m| m.dir == dir))
}

/// Lines that make no sense are passed over: the kernel may add what we do not know.
pub fn parse(bytes: &[u8]) -> Vec<MountInfo> {
    bytes
        .split(|&b| b == b'\n')
        .filter_map(parse_line)
        .collect()
}

fn parse_line(line: &[u8]) -> Option<MountInfo> {
    let mut words = line.split(|&b| b == b' ');
    let id = number(words.next()?)?;
    let parent = number(words.next()?)?;
    let device = std::str::from_utf8(words.next()?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let root = unescape(words.next()?);
    let dir = unescape(words.next()?);
    let options = text(words.next()?);
    // Optional fields (shared:1, master:2 ...) end with a lone hyphen.
    words.by_ref().find(|w| *w == b"-")?;
    let fs_type = text(unescape(words.next()?).as_bytes());
    let source = unescape(words.next()?);
    let super_options = text(words.next().unwrap_or_default());
    Some(MountInfo {
        id,
        parent,
        device,
        root: root.into(),
        dir: dir.into(),
        options,
        fs_type,
        source,
        super_options,
    })
}

fn number(word: &[u8]) -> Option<u64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn text(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

/// `\040` and its like stand for space, tab, newline, backslash and '#'.
pub fn unescape(word: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&byte, tail)) = rest.split_first() {
        if let (b'\\', Some(value)) = (byte, octal(tail)) {
            out.push(value);
            rest = tail.get(3..).unwrap_or_default();
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    OsString::from_vec(out)
}

fn octal(digits: &[u8]) -> Option<u8> {
    let digits = digits.get(..3)?;
    let mut value = 0u32;
    for &d in digits {
        if !(b'0'..=b'7').contains(&d) {
            return None;
        }
        value = value * 8 + u32::from(d - b'0');
    }
    u8::try_from(value).ok()
}

#[cfg(test)]
#[path = "mountinfo_tests.rs"]
mod tests;
