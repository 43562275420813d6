//! Finding and running `cowfs`.

use crate::exit::{Exit, SYSTEM};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;

/// Beside this program (what a symbolic link to it leads to), in PATH, where it is usually installed.
pub fn find() -> Result<PathBuf, Exit> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|p| p.parent().map(PathBuf::from));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = [
        "/usr/local/bin",
        "/usr/bin",
        "/usr/local/sbin",
        "/usr/sbin",
        "/sbin",
        "/bin",
    ]
    .map(PathBuf::from);
    beside
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(usual)
        .filter(|d| d.is_absolute())
        .map(|d| d.join("cowfs"))
        .find(|p| p.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
        .ok_or_else(|| Exit::new(SYSTEM, "the program cowfs is not installed (looked beside this one, in PATH, in /usr/local/bin and /usr/bin)"))
}

/// Runs it to its end; it says itself what goes wrong.
pub fn run(words: &[OsString], verbose: bool) -> Result<(), Exit> {
    let program = find()?;
    if verbose {
        let words: Vec<_> = words.iter().map(|w| w.to_string_lossy()).collect();
        println!("{} {}", program.display(), words.join(" "));
    }
    let status = Command::new(&program)
        .args(words)
        .status()
        .map_err(|e| Exit::new(SYSTEM, format!("cannot run {}: {e}", program.display())))?;
    Exit::of_cowfs(status.code(), status.signal())
}
