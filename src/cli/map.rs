//! `cowfs map`.

use super::place::Place;
use super::{Context, Exit, Out, Table};
use crate::base::Result;
use crate::daemon::{Request, Response};

/// Show where a file lives
///
/// One line for each piece: offset in the file and length in bytes, block (4 KiB) in the volume, chunk
/// and byte offset in the pool's data, whether other volumes share it, and whose it is. Holes are left
/// out; a tiny file is 'inline', in the metadata itself.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(value_name = "NAME:/PATH")]
    file: Place,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let request = Request::Map {
        name: args.file.name,
        path: args.file.path,
    };
    let pieces = match cx.client()?.call(&request, &[])? {
        Response::Pieces(p) => p,
        other => return Err(super::context::unexpected(&other)),
    };
    let mut out = Out::new();
    if args.json {
        out.json(&pieces)?;
    } else {
        let mut table = Table::new(
            true,
            &[
                "OFFSET", "LENGTH", "BLOCK", "CHUNK", "PHYSICAL", "SHARING", "OWNER",
            ],
        );
        for p in &pieces.pieces {
            let place = |n: u64| {
                if p.inline {
                    "inline".to_owned()
                } else {
                    n.to_string()
                }
            };
            table.row(vec![
                p.file_offset.to_string(),
                p.length.to_string(),
                place(p.virtual_block),
                place(p.chunk),
                place(p.physical),
                if p.shared { "shared" } else { "private" }.to_owned(),
                p.owner.clone().unwrap_or_else(|| "-".into()),
            ]);
        }
        table.print(&mut out)?;
    }
    out.finish()?;
    Ok(0)
}
