//! Which pool a mounted directory belongs to. The mount table shows the source as fstab writes it, so that
//! mount(8) knows its own again; the pool is in fstab's options, or was noted when mount.cowfs was called
//! by hand.

use crate::options::Options;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// A line of /proc/self/mountinfo: what is mounted where.
#[derive(Debug, PartialEq, Eq)]
pub struct Mounted {
    /// `major:minor`
    pub device: String,
    pub dir: PathBuf,
    pub kind: String,
    pub source: OsString,
}

/// The topmost mount on `dir`, which must be absolute and without symbolic links.
pub fn mounted_on(dir: &Path) -> Option<Mounted> {
    let table = fs::read("/proc/self/mountinfo").ok()?;
    table
        .split(|b| *b == b'\n')
        .filter_map(line)
        .rfind(|m| m.dir == dir)
}

/// `36 35 98:0 /mnt1 /mnt/parent rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn line(line: &[u8]) -> Option<Mounted> {
    let mut fields = line.split(|b| *b == b' ');
    let device = String::from_utf8_lossy(fields.nth(2)?).into_owned();
    let dir = PathBuf::from(unescaped(fields.nth(1)?));
    let mut after = fields.skip_while(|f| *f != b"-").skip(1);
    let kind = String::from_utf8_lossy(after.next()?).into_owned();
    let source = unescaped(after.next()?);
    Some(Mounted {
        device,
        dir,
        kind,
        source,
    })
}

/// `\040` for a space, and so on.
fn unescaped(field: &[u8]) -> OsString {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&b, after)) = rest.split_first() {
        rest = after;
        let octal = after
            .get(..3)
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        match (b, octal) {
            (b'\\', Some(byte)) => {
                out.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => out.push(b),
        }
    }
    OsString::from_vec(out)
}

/// The pool of what is mounted there, where the mount table does not tell.
pub fn pool_of(there: &Mounted) -> Option<OsString> {
    if there.source.as_bytes().starts_with(b"/") {
        return Some(there.source.clone());
    }
    noted(&there.device).or_else(|| {
        let fstab =
            fs::read(std::env::var_os("LIBMOUNT_FSTAB").unwrap_or("/etc/fstab".into())).ok()?;
        in_fstab(&fstab, there)
    })
}

fn in_fstab(fstab: &[u8], there: &Mounted) -> Option<OsString> {
    fstab.split(|b| *b == b'\n').find_map(|line| {
        let mut fields = line
            .split(|b| matches!(b, b' ' | b'\t'))
            .filter(|f| !f.is_empty());
        let source = fields.next().filter(|f| !f.starts_with(b"#"))?;
        let dir = PathBuf::from(unescaped(fields.next()?));
        if unescaped(source) != there.source || !matches!(fields.next()?, b"cowfs" | b"fuse.cowfs")
        {
            return None;
        }
        if dir.canonicalize().unwrap_or(dir) != there.dir {
            return None;
        }
        let options = Options::parse(std::str::from_utf8(fields.next()?).ok()?, true).ok()?;
        options.pool.map(OsString::from)
    })
}

/// Where notes are kept: they need not outlive the machine's run.
fn notes() -> Option<PathBuf> {
    // SAFETY: only tells a number.
    if unsafe { libc::geteuid() } == 0 {
        return Some("/run/cowfs/mounts".into());
    }
    let dir = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|d| d.is_absolute())?;
    Some(dir.join("cowfs/mounts"))
}

fn note_file(device: &str) -> Option<PathBuf> {
    Some(notes()?.join(device.replace(':', "-")))
}

fn noted(device: &str) -> Option<OsString> {
    fs::read(note_file(device)?).ok().map(OsString::from_vec)
}

/// Notes (or forgets) which pool a mount belongs to. When that fails the unmount still works: the daemon
/// makes things durable by itself a moment later.
pub fn note(there: &Mounted, pool: Option<&OsStr>) {
    let Some(file) = note_file(&there.device) else {
        return;
    };
    match pool {
        Some(pool) => {
            use std::os::unix::fs::DirBuilderExt;
            if let Some(dir) = file.parent() {
                let _ = fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(dir);
            }
            let _ = fs::write(file, pool.as_bytes());
        }
        None => {
            let _ = fs::remove_file(file);
        }
    }
}

#[cfg(test)]
#[path = "whose_tests.rs"]
mod tests;
