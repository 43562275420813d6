//! `cowfs mount`.

use super::{Context, Exit};
use crate::base::Result;
use crate::daemon::{self, Client, Raw, Request, Response};
use crate::fuse::{How, MountOptions, prepare};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Mount a container, image or snapshot
///
/// Returns when the mount is usable. Images and snapshots are mounted read-only. Root mounts by itself,
/// others by fusermount3.
#[derive(clap::Args, Debug)]
pub struct Args {
    name: String,
    dir: PathBuf,
    /// Mount options, with commas: ro, nodev, nosuid, noexec, noatime, allow_other, uid=, gid=, fsname= ...
    #[arg(short, value_name = "OPTIONS")]
    options: Vec<String>,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let options = MountOptions::parse(&args.options.join(","))?;
    let mut client = cx.client()?;
    mount(&mut client, &args.name, &args.dir, options, How::Auto)?;
    Ok(0)
}

/// Mounts; the daemon serves. The source shown in the mount table is the pool's directory.
pub fn mount(
    client: &mut Client,
    name: &str,
    dir: &Path,
    mut options: MountOptions,
    how: How,
) -> Result<daemon::Mount> {
    let inspect = match client.call(
        &Request::Inspect {
            name: name.to_owned(),
        },
        &[],
    )? {
        Response::Inspect(i) => i,
        other => return Err(super::context::unexpected(&other)),
    };
    options.read_only |= inspect.sealed;
    let source = client.pool().to_string_lossy().into_owned();
    let prepared = prepare(how, &source, dir, &options)?;
    let (device, pending) = (prepared.device, prepared.pending);
    let request = Request::Mount {
        name: inspect.row.id.to_string(),
        dir: Raw::from(pending.dir()),
        options: daemon::MountOptions::from(&options),
    };
    let mount = match client.call(&request, &[device.as_fd()])? {
        Response::Mounted(m) => m,
        other => return Err(super::context::unexpected(&other)),
    };
    // From here on only the daemon holds it.
    drop(device);
    if mount.connection.is_none() {
        let connection = pending.connection()?;
        client.call(
            &Request::Attached {
                mount: mount.id,
                connection,
            },
            &[],
        )?;
    }
    pending.attach()?;
    Ok(mount)
}
