//! `cowfs diff`.

use super::{Context, Exit, Out};
use crate::base::Result;
use crate::daemon::{Event, Part, Raw, Request, Response};
use serde::Serialize;

/// Show what differs: 'A /path' was added, 'C' changed, 'D' deleted
///
/// Compared with the image it was made from, or with BASE: any image, container or snapshot. Only what
/// differs is looked at. Sorted by path.
#[derive(clap::Args, Debug)]
pub struct Args {
    name: String,
    base: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Line {
    kind: String,
    path: Raw,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let mut out = Out::new();
    let mut lines = Vec::new();
    let request = Request::Diff {
        name: args.name,
        base: args.base,
    };
    let response = cx.client()?.call_with(&request, &[], &mut |event| {
        let Event::Part(Part::Change { kind, path }) = event else {
            return Ok(());
        };
        if args.json {
            lines.push(Line { kind, path });
            return Ok(());
        }
        out.bytes(kind.as_bytes())?;
        out.bytes(b" ")?;
        out.path(&path)?;
        out.bytes(b"\n")
    })?;
    if !matches!(response, Response::Done) {
        return Err(super::context::unexpected(&response));
    }
    if args.json {
        out.json(&lines)?;
    }
    out.finish()?;
    Ok(0)
}
