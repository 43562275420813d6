//! `cowfs history`.

use super::list::value;
use super::template::Template;
use super::{Context, Exit, Out, Table, size};
use crate::base::Result;
use crate::daemon::{Event, Layer, Part, Request, Response, parse_rfc3339};

/// Show the steps that made an image, newest first
#[derive(clap::Args, Debug)]
pub struct Args {
    image: String,
    /// Print the layers' ids only
    #[arg(short, long)]
    quiet: bool,
    /// Print as JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print each by a template; fields: ID, Created, CreatedBy, Size, Comment
    #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["quiet", "json"])]
    format: Option<String>,
    /// Do not cut long commands and ids short
    #[arg(long)]
    no_trunc: bool,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let template = args.format.as_deref().map(Template::parse).transpose()?;
    let mut layers: Vec<Layer> = Vec::new();
    let response =
        cx.client()?
            .call_with(&Request::History { name: args.image }, &[], &mut |event| {
                if let Event::Part(Part::Layer(layer)) = event {
                    layers.push(layer);
                }
                Ok(())
            })?;
    if !matches!(response, Response::Done) {
        return Err(super::context::unexpected(&response));
    }
    let mut out = Out::new();
    if let Some(t) = template {
        for l in &layers {
            out.line(&t.render(&value(l)?)?)?;
        }
    } else if args.json {
        out.json(&layers)?;
    } else if args.quiet {
        for id in layers.iter().filter_map(|l| l.id.as_deref()) {
            out.line(id)?;
        }
    } else {
        let mut table = Table::new(true, &["ID", "CREATED", "CREATED BY", "SIZE", "COMMENT"]);
        for l in &layers {
            table.row(row(l, args.no_trunc));
        }
        table.print(&mut out)?;
    }
    out.finish()?;
    Ok(0)
}

fn row(l: &Layer, whole: bool) -> Vec<String> {
    let one_line = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut = |s: String, most: usize| {
        if whole || s.chars().count() <= most {
            s
        } else {
            s.chars().take(most - 1).chain(['…']).collect()
        }
    };
    let id = match &l.id {
        Some(id) if whole => id.clone(),
        Some(id) => id
            .strip_prefix("sha256:")
            .unwrap_or(id)
            .chars()
            .take(12)
            .collect(),
        None => "<missing>".into(),
    };
    vec![
        id,
        parse_rfc3339(&l.created).map_or_else(|| l.created.clone(), size::ago),
        cut(one_line(&l.created_by), 45),
        size::human(l.size),
        one_line(&l.comment),
    ]
}
