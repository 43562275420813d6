//! `cowfs create`.

use super::{Context, Exit, size};
use crate::base::Result;
use crate::daemon::{Request, Response};

/// Make a container of an image (or of a snapshot), and print its name
///
/// Takes no time and no space worth mentioning, whatever the image's size.
#[derive(clap::Args, Debug)]
pub struct Args {
    image: String,
    /// [default: one is made up]
    name: Option<String>,
    /// Most bytes its files may take [default: the pool's --container-size]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    size: Option<u64>,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let request = Request::Create {
        image: args.image,
        name: args.name,
        size: args.size,
    };
    match cx.client_creating()?.call(&request, &[])? {
        Response::Name(name) => println!("{name}"),
        other => return Err(super::context::unexpected(&other)),
    }
    Ok(0)
}
