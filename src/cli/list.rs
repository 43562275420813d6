//! `cowfs images`, `cowfs containers`, `cowfs list`.

use super::template::Template;
use super::{Context, Exit, Out, Table, size};
use crate::base::{Error, Result};
use crate::daemon::{Event, Part, Request, Response, Row, parse_rfc3339};
use crate::pool::Kind;
use serde_json::Value;

#[derive(clap::Args, Debug)]
struct Show {
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Print as JSON
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    /// Print each by a template over the fields of --json, such as '{{.Name}} {{.ID}}'
    ///
    /// Before a field may stand json, lower, upper, len or join: '{{join ", " .Mounts}}'. Fields: ID, Name,
    /// Kind, Image, Created, Size, Limit, Inodes, Mounts, Status, Digest.
    #[arg(long, value_name = "TEMPLATE", conflicts_with_all = ["quiet", "json"])]
    format: Option<String>,
    /// Leave out the heading
    #[arg(long)]
    noheading: bool,
}

#[derive(clap::Args, Debug)]
pub struct Images {
    /// Layers too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    show: Show,
}

#[derive(clap::Args, Debug)]
pub struct Containers {
    /// Snapshots too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    show: Show,
}

#[derive(clap::Args, Debug)]
pub struct Args {
    /// Layers too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    show: Show,
}

pub fn images(args: Images, cx: &Context) -> Result<Exit> {
    let kinds = if args.all {
        vec![Kind::Image, Kind::Layer]
    } else {
        vec![Kind::Image]
    };
    print(args.show, rows(cx, kinds)?, |rows, heading| {
        let mut table = Table::new(
            heading,
            &["REPOSITORY", "TAG", "ID", "CREATED", "SIZE", "STATUS"],
        );
        for r in rows {
            let (repository, tag) = match r.kind {
                Kind::Image => r.name.rsplit_once(':').unwrap_or((&r.name, "<none>")),
                _ => ("<layer>", r.name.get(..19).unwrap_or(&r.name)),
            };
            table.row(vec![
                repository.to_owned(),
                tag.to_owned(),
                r.id.to_string(),
                created(r),
                size::human(r.size),
                status(r),
            ]);
        }
        table
    })
}

pub fn containers(args: Containers, cx: &Context) -> Result<Exit> {
    let kinds = if args.all {
        vec![Kind::Container, Kind::Snapshot]
    } else {
        vec![Kind::Container]
    };
    print(args.show, rows(cx, kinds)?, |rows, heading| {
        let mut table = Table::new(
            heading,
            &["ID", "NAME", "IMAGE", "CREATED", "SIZE", "LIMIT", "STATUS"],
        );
        for r in rows {
            table.row(vec![
                r.id.to_string(),
                r.name.clone(),
                image(r),
                created(r),
                size::human(r.size),
                r.limit.map_or("-".into(), size::human),
                status(r),
            ]);
        }
        table
    })
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let mut kinds = vec![Kind::Image, Kind::Container, Kind::Snapshot];
    if args.all {
        kinds.push(Kind::Layer);
    }
    print(args.show, rows(cx, kinds)?, |rows, heading| {
        let mut table = Table::new(
            heading,
            &["ID", "KIND", "NAME", "IMAGE", "CREATED", "SIZE", "STATUS"],
        );
        for r in rows {
            table.row(vec![
                r.id.to_string(),
                r.kind.word().to_owned(),
                r.name.clone(),
                image(r),
                created(r),
                size::human(r.size),
                status(r),
            ]);
        }
        table
    })
}

/// A pool that does not exist has nothing in it.
fn rows(cx: &Context, kinds: Vec<Kind>) -> Result<Vec<Row>> {
    if !cx.exists() && !cx.pool().exists() {
        return Ok(Vec::new());
    }
    let mut rows = Vec::new();
    let response = cx
        .client()?
        .call_with(&Request::List { kinds }, &[], &mut |event| {
            if let Event::Part(Part::Row(row)) = event {
                rows.push(*row);
            }
            Ok(())
        })?;
    match response {
        Response::Done => Ok(rows),
        other => Err(super::context::unexpected(&other)),
    }
}

fn print(show: Show, rows: Vec<Row>, table: impl FnOnce(&[Row], bool) -> Table) -> Result<Exit> {
    let template = show.format.as_deref().map(Template::parse).transpose()?;
    let mut out = Out::new();
    if let Some(template) = template {
        for row in &rows {
            out.line(&template.render(&value(row)?)?)?;
        }
    } else if show.json {
        out.json(&rows)?;
    } else if show.quiet {
        for row in &rows {
            out.line(&row.id.to_string())?;
        }
    } else {
        table(&rows, !show.noheading).print(&mut out)?;
    }
    out.finish()?;
    Ok(0)
}

pub fn value<T: serde::Serialize>(v: &T) -> Result<Value> {
    serde_json::to_value(v).map_err(|e| Error::Invalid(format!("cannot be shown as JSON: {e}")))
}

fn created(r: &Row) -> String {
    parse_rfc3339(&r.created).map_or_else(|| r.created.clone(), size::ago)
}

fn image(r: &Row) -> String {
    match (r.kind, &r.image) {
        (_, Some(i)) => i.clone(),
        (Kind::Container | Kind::Snapshot, None) => "<gone>".into(),
        _ => "-".into(),
    }
}

fn status(r: &Row) -> String {
    match r.mounts.as_slice() {
        [] => r.status.clone(),
        [one] if r.status == "mounted" => format!("mounted on {}", super::output::printable(one)),
        many => format!("{} at {} places", r.status, many.len()),
    }
}
