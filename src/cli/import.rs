//! `cowfs import`.

use super::{Bar, Context, Exit};
use crate::base::{Error, Result};
use crate::daemon::{Event, Raw, Request, Response};
use rustix::fs::{Mode, OFlags, open};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Import an image
///
/// SOURCE is a docker-archive ('docker save', 'podman save'), an OCI archive, an OCI layout directory, a
/// tar of a root file system, or a directory with one; archives may be compressed with gzip or zstd. '-'
/// is standard input. Prints the image's name.
///
/// Layers that are there already are not imported again. Interrupted, nothing is left behind.
#[derive(clap::Args, Debug)]
pub struct Args {
    source: PathBuf,
    /// NAME[:TAG] [default: what the archive says, or the file's name]
    name: Option<String>,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    println!("{}", import(&args.source, args.name.as_deref(), cx)?);
    Ok(0)
}

/// Imports and answers the image's name. (`cowfs run ARCHIVE` does so too.)
pub fn import(source: &Path, name: Option<&str>, cx: &Context) -> Result<String> {
    let fd = source_fd(source)?;
    let mut client = cx.client_creating()?;
    let bar = Bar::new();
    let request = Request::Import {
        source: Raw::from(source),
        name: name.map(str::to_owned),
    };
    let response = client.call_with(&request, &[fd.as_fd()], &mut |event| {
        if let Event::Progress(p) = event {
            bar.show(&p);
        }
        Ok(())
    })?;
    match response {
        Response::Name(name) => Ok(name),
        other => Err(super::context::unexpected(&other)),
    }
}

fn source_fd(source: &Path) -> Result<OwnedFd> {
    let what = || source.display().to_string();
    if source.as_os_str() == "-" {
        if std::io::IsTerminal::is_terminal(&std::io::stdin()) {
            return Err(Error::Invalid(
                "standard input is a terminal; an archive is expected there".into(),
            ));
        }
        return std::io::stdin()
            .as_fd()
            .try_clone_to_owned()
            .map_err(|e| Error::io("standard input", e));
    }
    open(source, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| match e {
        rustix::io::Errno::NOENT => Error::NotFound(format!("{} does not exist", what())),
        e => Error::io(what(), e.into()),
    })
}
