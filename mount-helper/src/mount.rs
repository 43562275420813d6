//! `mount.cowfs SOURCE DIR [-sfnv] [-o options]`

use crate::exit::{Exit, FAILED};
use crate::options::Options;
use crate::source::Source;
use crate::words::{Words, text};
use crate::{program, usage, whose};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub fn run(words: &[OsString]) -> Result<(), Exit> {
    let words = Words::parse(words, b"sfnvw")?;
    let [source_word, dir] = words.plain.as_slice() else {
        return Err(usage(
            "write: mount.cowfs SOURCE DIR [-sfnv] [-o options]; SOURCE is container=NAME, image=NAME, snapshot=NAME@SNAP or a pool's directory",
        ));
    };
    let options = Options::parse(&words.options, words.has(b's'))?;
    if let Some(ns) = &words.namespace {
        enter_namespace(ns)?;
    }
    if options.remount {
        return if words.has(b'f') {
            Ok(())
        } else {
            remount(dir, &options)
        };
    }
    if let Ok(m) = Path::new(dir).metadata()
        && !m.is_dir()
    {
        return Err(Exit::new(
            FAILED,
            format!("mount point {} is not a directory", dir.to_string_lossy()),
        ));
    }
    let source_word = text(source_word)?;
    let source = Source::parse(source_word, &options)?;
    let command = command(source_word, &source, dir, &options);
    if words.has(b'f') {
        // All but the mount itself.
        return program::find().map(drop);
    }
    program::run(&command, words.has(b'v'))?;
    if let Some(there) = Path::new(dir)
        .canonicalize()
        .ok()
        .and_then(|d| whose::mounted_on(&d))
    {
        whose::note(
            &there,
            source
                .pool
                .as_ref()
                .map(OsStr::new)
                .filter(|_| !source_word.starts_with('/')),
        );
    }
    Ok(())
}

/// mount(8) finds its own mounts again by the source it gave, so the mount table shows that.
fn command(word: &str, source: &Source, dir: &OsStr, options: &Options) -> Vec<OsString> {
    let mut command: Vec<OsString> = vec![];
    if let Some(pool) = &source.pool {
        command.extend(["--pool".into(), pool.into()]);
    }
    let mut list = options.words.clone();
    if !list.iter().any(|w| w.starts_with("fsname=")) {
        list.push(format!("fsname={word}"));
    }
    command.extend([
        "mount".into(),
        "-o".into(),
        list.join(",").into(),
        "--".into(),
        source.name.clone().into(),
        dir.into(),
    ]);
    command
}

/// A volume's own flags stay; those of the mount change.
fn remount(dir: &OsStr, options: &Options) -> Result<(), Exit> {
    let flags = [
        ("ro", "rw", libc::MS_RDONLY),
        ("nodev", "dev", libc::MS_NODEV),
        ("nosuid", "suid", libc::MS_NOSUID),
        ("noexec", "exec", libc::MS_NOEXEC),
        ("noatime", "atime", libc::MS_NOATIME),
        ("nodiratime", "diratime", libc::MS_NODIRATIME),
    ];
    let flags = flags
        .iter()
        .filter(|(yes, no, _)| options.is(yes, no))
        .fold(libc::MS_REMOUNT | libc::MS_BIND, |all, f| all | f.2);
    let path = CString::new(dir.as_bytes()).map_err(|_| usage("the directory has a zero byte"))?;
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
    if r == 0 {
        return Ok(());
    }
    let e = std::io::Error::last_os_error();
    Err(Exit::new(
        FAILED,
        format!("cannot remount {}: {e}", dir.to_string_lossy()),
    ))
}

/// -N: a process number or a file.
pub fn enter_namespace(ns: &OsStr) -> Result<(), Exit> {
    let path = match ns.to_str().and_then(|n| n.parse::<u32>().ok()) {
        Some(pid) => format!("/proc/{pid}/ns/mnt").into(),
        None => ns.to_owned(),
    };
    let fail =
        |e: std::io::Error| Exit::new(FAILED, format!("namespace {}: {e}", path.to_string_lossy()));
    let file = std::fs::File::open(&path).map_err(fail)?;
    use std::os::fd::AsRawFd;
    // SAFETY: an open descriptor; this process has one thread.
    if unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNS) } < 0 {
        return Err(fail(std::io::Error::last_os_error()));
    }
    Ok(())
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
