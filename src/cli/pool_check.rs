//! `cowfs pool check`, and `fsck.cowfs`.

use super::{Bar, Context, Exit, Out, complain, usage};
use crate::base::{Error, ExitKind, Result};
use crate::daemon::{Client, Event, Progress, Request, Response};
use crate::pool::{CheckReport, Config, Pool};
use clap::Parser;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Prove that a pool is whole
///
/// Walks every volume and counts every reference, while the pool is in use or not. Exit code 0: clean;
/// 1: damaged, with a line for each problem; 2: could not check.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

const DAMAGED: Exit = 1;
const NOT_CHECKED: Exit = 2;

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let report = match report(cx) {
        Ok(r) => r,
        Err(e) => {
            complain(&e.to_string());
            return Ok(if damaged(&e) { DAMAGED } else { NOT_CHECKED });
        }
    };
    let mut out = Out::new();
    if args.json {
        out.json(&report)?;
    } else {
        for p in &report.problems {
            out.line(p)?;
        }
        out.line(&match report.problems.len() {
            0 => format!(
                "clean: {} volumes, {} nodes, {} chunks",
                report.volumes, report.nodes, report.chunks
            ),
            n => format!("damaged: {n} problems in {} volumes", report.volumes),
        })?;
    }
    out.finish()?;
    Ok(if report.problems.is_empty() {
        0
    } else {
        DAMAGED
    })
}

/// Something is wrong with the bytes, as opposed to the circumstances.
fn damaged(e: &Error) -> bool {
    matches!(e, Error::Corrupt { .. })
        || matches!(
            e,
            Error::Told {
                kind: ExitKind::Damaged,
                ..
            }
        )
}

/// How long a pool that changes hands (a daemon that leaves, or starts) is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Through the daemon where one runs, else by opening the pool here (which starts none).
fn report(cx: &Context) -> Result<CheckReport> {
    let bar = Bar::new();
    let began = Instant::now();
    loop {
        match Client::running(cx.pool()) {
            Ok(Some(client)) => return online(client, &bar),
            Ok(None) => {}
            Err(Error::NotFound(_)) => {
                return Err(Error::NotAPool(cx.pool().display().to_string()));
            }
            Err(e) => return Err(e),
        }
        if !cx.exists() {
            return Err(Error::NotAPool(cx.pool().display().to_string()));
        }
        match Pool::open_dir(cx.pool(), Config::default()) {
            Ok(opened) => return offline(&opened.pool, &bar),
            Err(Error::Locked { .. }) if began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(50))
            }
            Err(e) => return Err(e),
        }
    }
}

fn online(mut client: Client, bar: &Bar) -> Result<CheckReport> {
    let response = client.call_with(&Request::Check, &[], &mut |event| {
        if let Event::Progress(p) = event {
            bar.show(&p);
        }
        Ok(())
    })?;
    match response {
        Response::Checked(r) => Ok(r),
        other => Err(super::context::unexpected(&other)),
    }
}

fn offline(pool: &Pool, bar: &Bar) -> Result<CheckReport> {
    let report = pool.check(&|done, total| {
        bar.show(&Progress {
            what: "checking".into(),
            done,
            total: Some(total),
            bytes: false,
        });
    });
    let closed = pool.close();
    let report = report?;
    closed?;
    Ok(report)
}

/// Checks a cowfs pool, as fsck(8) expects it
///
/// Exit code 0: clean; 4: damaged; 8: could not check; 16: wrong usage.
#[derive(Parser, Debug)]
#[command(name = "fsck.cowfs")]
struct Fsck {
    /// The pool's directory
    dir: PathBuf,
    /// Understood for fsck(8)'s sake: repairs are never made, questions never asked
    #[arg(short = 'a')]
    _auto: bool,
    #[arg(short = 'p', hide = true)]
    _preen: bool,
    #[arg(short = 'n', hide = true)]
    _no: bool,
    #[arg(short = 'y', hide = true)]
    _yes: bool,
    #[arg(short = 'f', hide = true)]
    _force: bool,
    #[arg(short = 'V', hide = true)]
    _verbose: bool,
}

pub fn fsck(words: Vec<OsString>) -> Exit {
    // -C, with a descriptor for progress or without, is not for us.
    let words = words
        .into_iter()
        .filter(|w| !w.as_encoded_bytes().starts_with(b"-C"));
    let parsed = match Fsck::try_parse_from(words) {
        Ok(p) => p,
        Err(e) => {
            return match usage(&e) {
                0 => 0,
                _ => 16,
            };
        }
    };
    super::like_other_tools();
    match Context::new(Some(parsed.dir)).and_then(|cx| run(Args { json: false }, &cx)) {
        Ok(0) => 0,
        Ok(DAMAGED) => 4,
        Ok(_) => 8,
        Err(e) => {
            complain(&e.to_string());
            8
        }
    }
}
