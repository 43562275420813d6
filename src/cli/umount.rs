//! `cowfs umount`.

use super::{Context, Exit, complain};
use crate::base::{Error, Result};
use crate::daemon::{Client, Ended, Event, Mount, Part, Request, Response};
use crate::fuse::{MountInfo, Unmount, mountinfo, unmount};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Unmount, and make everything durable
///
/// DIR is a mount point, NAME a volume: then all its mounts go. Returns when what was written is on the
/// disk.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(required = true, value_name = "DIR|NAME")]
    targets: Vec<PathBuf>,
    /// Out of sight at once, for good when its last user leaves
    #[arg(short, long)]
    lazy: bool,
    /// Cut off whoever uses it; what was not written is lost
    #[arg(short, long, conflicts_with = "lazy")]
    force: bool,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let how = match (args.lazy, args.force) {
        (true, _) => Unmount::Lazy,
        (_, true) => Unmount::Force,
        _ => Unmount::Plain,
    };
    for target in &args.targets {
        one(target, how, cx)?;
    }
    Ok(0)
}

fn one(target: &Path, how: Unmount, cx: &Context) -> Result<()> {
    // What looks like a path is one; a word may be a name.
    let word = target
        .to_str()
        .filter(|s| !s.contains('/') && !matches!(*s, "." | ".."));
    if let Some(name) = word
        && !is_mounted(target)
    {
        return by_name(name, target, how, cx);
    }
    let there = unmount(target, how)?;
    settle(&there, how, cx)
}

fn is_mounted(dir: &Path) -> bool {
    crate::fuse::mount::find(dir).is_ok()
}

fn by_name(name: &str, target: &Path, how: Unmount, cx: &Context) -> Result<()> {
    let none = |what: String| Error::NotFound(what);
    let mut client = match Client::running(cx.pool()) {
        Ok(Some(c)) => c,
        Ok(None) | Err(Error::NotFound(_)) => {
            // No daemon, no mounts; what is dead may still be in the way as a directory.
            return unmount(target, how).map(|_| ());
        }
        Err(e) => return Err(e),
    };
    let mine: Vec<Mount> = mounts(&mut client)?;
    let id = match client.call(
        &Request::Inspect {
            name: name.to_owned(),
        },
        &[],
    ) {
        Ok(Response::Inspect(i)) => i.row.id,
        Ok(other) => return Err(super::context::unexpected(&other)),
        // Removed while mounted: its name is gone, the mount has it still.
        Err(e @ Error::Told { .. }) => match mine.iter().find(|m| m.name == name) {
            Some(m) => m.volume,
            None if target.exists() => {
                return Err(none(format!("nothing is mounted on {}", target.display())));
            }
            None => return Err(e),
        },
        Err(e) => return Err(e),
    };
    let table = mountinfo::mounts()?;
    let mut found = false;
    for mount in mine.iter().filter(|m| m.volume == id) {
        // Where it is now, in the order in which they can be taken away.
        let places = table
            .iter()
            .rev()
            .filter(|i| i.is_cowfs() && Some(i.connection()) == mount.connection);
        for place in places {
            found = true;
            unmount(&place.dir, how)?;
        }
        ended(&mut client, mount, how)?;
    }
    if !found {
        return Err(match mine.iter().find(|m| m.volume == id) {
            Some(m) => Error::NotFound(format!(
                "{name} is mounted on {}, which cannot be seen from here (another mount namespace)",
                m.dir
            )),
            None => none(format!("{name} is not mounted")),
        });
    }
    Ok(())
}

/// After an unmount: the daemon of the pool it belongs to makes everything durable.
fn settle(there: &MountInfo, how: Unmount, cx: &Context) -> Result<()> {
    // The pool: what the mount table says, unless it was told to say otherwise (fsname=).
    for pool in [Path::new(&there.source), cx.pool()] {
        if !pool.is_absolute() || pool.join("metadata").symlink_metadata().is_err() {
            continue;
        }
        let mut client = match Client::running(pool) {
            Ok(Some(c)) => c,
            // It made everything durable before it left; or is not ours to ask.
            Ok(None) | Err(Error::NotFound(_) | Error::Denied(_)) => continue,
            Err(e) => return Err(e),
        };
        let mine = mounts(&mut client)?;
        if let Some(mount) = mine
            .iter()
            .find(|m| m.connection == Some(there.connection()))
        {
            return ended(&mut client, mount, how);
        }
        // Ended already: the daemon makes it durable by itself when it notices.
        if OsStr::new(&there.source) == pool.as_os_str() {
            client.call(&Request::Unmounted { mount: 0 }, &[])?;
            return Ok(());
        }
    }
    Ok(())
}

fn ended(client: &mut Client, mount: &Mount, how: Unmount) -> Result<()> {
    match client.call(&Request::Unmounted { mount: mount.id }, &[])? {
        Response::Ended(Ended { ended: false }) if how == Unmount::Plain => {
            complain(&format!(
                "{} is unmounted here, but still in use elsewhere (a bind mount, another namespace)",
                mount.dir
            ));
            Ok(())
        }
        Response::Ended(_) => Ok(()),
        other => Err(super::context::unexpected(&other)),
    }
}

fn mounts(client: &mut Client) -> Result<Vec<Mount>> {
    let mut mine = Vec::new();
    client.call_with(&Request::Mounts, &[], &mut |event| {
        if let Event::Part(Part::Mount(m)) = event {
            mine.push(m);
        }
        Ok(())
    })?;
    Ok(mine)
}
