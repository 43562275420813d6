//! `mount.cowfs` and `umount.fuse.cowfs`, which mount(8) and umount(8) call: they translate the words of
//! fstab(5) into those of `cowfs mount` and `cowfs umount`, and that program's exit code back. One program;
//! the name it is called by decides.
//!
//! Kept small: it starts in a millisecond and links nothing of the rest.

pub mod exit;
pub mod mount;
pub mod options;
pub mod program;
pub mod source;
pub mod umount;
pub mod whose;
pub mod words;

use exit::Exit;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// The name by which umount(8) calls us.
const UMOUNT: &str = "umount.";

pub fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let own = words.next().unwrap_or_default();
    let own = Path::new(&own)
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    let words: Vec<OsString> = words.collect();
    let done = if own.starts_with(UMOUNT) {
        umount::run(&words)
    } else {
        mount::run(&words)
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            if let Some(line) = &exit.line {
                eprintln!(
                    "{}: {line}",
                    if own.is_empty() { "mount.cowfs" } else { &own }
                );
            }
            ExitCode::from(exit.code)
        }
    }
}

/// Fails with mount(8)'s code for wrong words.
pub fn usage(line: impl Into<String>) -> Exit {
    Exit::new(exit::USAGE, line)
}
