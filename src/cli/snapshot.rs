//! `cowfs snapshot`.

use super::{Context, Exit};
use crate::base::Result;
use crate::daemon::Request;

/// Keep a container as it is now, under NAME@SNAP
///
/// Mounted or not, in use or not: the snapshot holds all that was closed or synced before. It never
/// changes; 'rollback' returns to it, 'create' and 'clone' make containers of it.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(value_name = "NAME@SNAP")]
    name: String,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    cx.client()?
        .call(&Request::Snapshot { name: args.name }, &[])?;
    Ok(0)
}
