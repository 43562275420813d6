//! `cowfs inspect`.

use super::list::value;
use super::template::Template;
use super::{Context, Exit, Out};
use crate::base::Result;
use crate::daemon::{Request, Response};
use serde_json::Value;

/// Tell everything about images, containers, snapshots or layers, as JSON
#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Print each by a template instead, such as '{{.Size}} {{json .OCI.Config.config.Env}}'
    #[arg(short, long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// As without (for uniformity)
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let template = args.format.as_deref().map(Template::parse).transpose()?;
    let mut client = cx.client()?;
    let mut all: Vec<Value> = Vec::new();
    for name in args.names {
        match client.call(&Request::Inspect { name }, &[])? {
            Response::Inspect(i) => all.push(value(&i)?),
            other => return Err(super::context::unexpected(&other)),
        }
    }
    let mut out = Out::new();
    match template {
        Some(t) => {
            for v in &all {
                out.line(&t.render(v)?)?;
            }
        }
        None => out.json(&all)?,
    }
    out.finish()?;
    Ok(0)
}
