//! `cowfs ls`.

use super::place::Place;
use super::{Context, Exit, Out, Table, size};
use crate::base::Result;
use crate::daemon::{Entry, Event, Part, Request, Response, rfc3339};

/// List a directory of an image, container or snapshot; no mount needed
#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(value_name = "NAME:/PATH")]
    place: Place,
    /// Mode, links, owner, size, time and target too
    #[arg(short, long)]
    long: bool,
    /// Names that begin with a dot too
    #[arg(short, long)]
    all: bool,
    /// Sizes for people, with -l
    #[arg(short = 'H', long)]
    human: bool,
    /// Print as JSON (with all names)
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let mut entries = Vec::new();
    let request = Request::Ls {
        name: args.place.name,
        path: args.place.path,
    };
    let response = cx.client()?.call_with(&request, &[], &mut |event| {
        if let Event::Part(Part::Entries(some)) = event {
            entries.extend(some);
        }
        Ok(())
    })?;
    if !matches!(response, Response::Done) {
        return Err(super::context::unexpected(&response));
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut out = Out::new();
    if args.json {
        out.json(&entries)?;
        out.finish()?;
        return Ok(0);
    }
    if !args.all && entries.len() > 1 {
        entries.retain(|e| !e.name.as_bytes().starts_with(b"."));
    }
    if args.long {
        let mut table = Table::new(false, &[]);
        for e in &entries {
            table.row(row(e, args.human));
        }
        table.print(&mut out)?;
    } else {
        for e in &entries {
            out.path(&e.name)?;
            out.bytes(b"\n")?;
        }
    }
    out.finish()?;
    Ok(0)
}

fn row(e: &Entry, human: bool) -> Vec<String> {
    let kind = e.mode & libc::S_IFMT;
    let size = match kind {
        libc::S_IFCHR | libc::S_IFBLK => {
            let dev = u64::from(e.rdev);
            format!(
                "{},{}",
                (dev >> 8) & 0xfff,
                (dev & 0xff) | ((dev >> 12) & 0xf_ff00)
            )
        }
        _ if human => size::human(e.size),
        _ => e.size.to_string(),
    };
    let mut name = super::output::printable(&e.name);
    if let Some(target) = &e.target {
        name = format!("{name} -> {}", super::output::printable(target));
    }
    let time = rfc3339(e.mtime).replace('T', " ").replace('Z', "");
    vec![
        mode(e.mode),
        e.nlink.to_string(),
        e.uid.to_string(),
        e.gid.to_string(),
        size,
        time,
        name,
    ]
}

/// As ls -l: `drwxr-sr-t`.
pub fn mode(mode: u32) -> String {
    let kind = match mode & libc::S_IFMT {
        libc::S_IFDIR => 'd',
        libc::S_IFLNK => 'l',
        libc::S_IFIFO => 'p',
        libc::S_IFSOCK => 's',
        libc::S_IFCHR => 'c',
        libc::S_IFBLK => 'b',
        _ => '-',
    };
    let mut s = String::from(kind);
    for (shift, special, with, without) in [
        (6, 0o4000, 's', 'S'),
        (3, 0o2000, 's', 'S'),
        (0, 0o1000, 't', 'T'),
    ] {
        let bits = mode >> shift;
        s.push(if bits & 4 != 0 { 'r' } else { '-' });
        s.push(if bits & 2 != 0 { 'w' } else { '-' });
        s.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => with,
            (false, true) => without,
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    s
}
