//! `cowfs rm`.

use super::{Context, Exit, Out};
use crate::base::Result;
use crate::daemon::{Request, Response};

/// Remove images, containers and snapshots
///
/// Takes no time; the space comes back soon after. An image with containers, or a container with
/// snapshots, is refused, by name: -f removes these too (and takes no offence at names that do not exist).
/// What is mounted or in use loses its name at once and goes when its last user does; listings show it as
/// 'removing'. Layers go with the last image that stands on them. One refusal, and nothing is removed.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[arg(short, long)]
    force: bool,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let removed = match cx.client()?.call(
        &Request::Remove {
            names: args.names,
            force: args.force,
        },
        &[],
    )? {
        Response::Removed(r) => r,
        other => return Err(super::context::unexpected(&other)),
    };
    let mut out = Out::new();
    for r in &removed {
        let later = if r.deferred {
            " (in use: goes with its last user)"
        } else {
            ""
        };
        out.line(&format!("{}{later}", r.name))?;
    }
    out.finish()?;
    Ok(0)
}
