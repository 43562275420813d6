//! `cowfs rollback`.

use super::{Context, Exit};
use crate::base::Result;
use crate::daemon::Request;

/// Make a container what it was when NAME@SNAP was taken
///
/// What changed since is gone. Later snapshots stay. The container must not be mounted.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(value_name = "NAME@SNAP")]
    name: String,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    cx.client()?
        .call(&Request::Rollback { name: args.name }, &[])?;
    Ok(0)
}
