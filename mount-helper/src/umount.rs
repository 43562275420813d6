//! `umount.fuse.cowfs DIR [-flnrv] [-N namespace] [-t type]`

use crate::exit::Exit;
use crate::mount::enter_namespace;
use crate::words::Words;
use crate::{program, usage, whose};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

pub fn run(words: &[OsString]) -> Result<(), Exit> {
    let words = Words::parse(words, b"flnrvic")?;
    let [dir] = words.plain.as_slice() else {
        return Err(usage("write: umount.fuse.cowfs DIR [-flnrv]"));
    };
    if let Some(ns) = &words.namespace {
        enter_namespace(ns)?;
    }
    // Absolute, so that it cannot be taken for a volume's name. Not resolved: what is mounted may be dead.
    let dir = std::path::absolute(dir).unwrap_or_else(|_| PathBuf::from(dir));
    let there = resolved(&dir).and_then(|d| whose::mounted_on(&d));
    let mut command: Vec<OsString> = vec![];
    if let Some(pool) = there.as_ref().and_then(whose::pool_of) {
        command.extend(["--pool".into(), pool]);
    }
    command.push("umount".into());
    if words.has(b'f') {
        command.push("--force".into());
    } else if words.has(b'l') {
        command.push("--lazy".into());
    }
    command.extend(["--".into(), dir.clone().into()]);
    let done = program::run(&command, words.has(b'v'));
    match (&done, &there) {
        (Ok(()), Some(there)) => whose::note(there, None),
        (Err(_), Some(_)) if words.has(b'r') => return read_only(dir.as_os_str(), done),
        _ => {}
    }
    done
}

/// -r: what cannot be unmounted becomes read-only.
fn read_only(dir: &OsStr, otherwise: Result<(), Exit>) -> Result<(), Exit> {
    let Ok(path) = CString::new(dir.as_bytes()) else {
        return otherwise;
    };
    let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
    // SAFETY: a terminated string; the other pointers may be null with these flags.
    let r = unsafe {
        libc::mount(
            std::ptr::null(),
            path.as_ptr(),
            std::ptr::null(),
            flags,
            std::ptr::null(),
        )
    };
    if r == 0 { Ok(()) } else { otherwise }
}

/// Without symbolic links, asking what is mounted there nothing.
fn resolved(dir: &Path) -> Option<PathBuf> {
    match (dir.parent(), dir.file_name()) {
        (Some(parent), Some(name)) => {
            let real = parent.canonicalize().ok()?.join(name);
            if std::fs::read_link(&real).is_ok() {
                real.canonicalize().ok()
            } else {
                Some(real)
            }
        }
        _ => Some(dir.to_path_buf()),
    }
}
