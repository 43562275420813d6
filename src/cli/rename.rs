//! `cowfs rename`.

use super::{Context, Exit};
use crate::base::Result;
use crate::daemon::Request;

/// Give an image, container or snapshot another name
///
/// A container's snapshots come along. Mounts go on.
#[derive(clap::Args, Debug)]
pub struct Args {
    old: String,
    new: String,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    cx.client()?.call(
        &Request::Rename {
            old: args.old,
            new: args.new,
        },
        &[],
    )?;
    Ok(0)
}
