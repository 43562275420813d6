//! `cowfs clone`.

use super::{Context, Exit};
use crate::base::Result;
use crate::daemon::Request;

/// Copy a container, snapshot or image to a new container, at no cost
#[derive(clap::Args, Debug)]
pub struct Args {
    source: String,
    new: String,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    cx.client()?.call(
        &Request::Clone {
            source: args.source,
            name: args.new,
        },
        &[],
    )?;
    Ok(0)
}
