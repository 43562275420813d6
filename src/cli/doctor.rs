//! `cowfs doctor`: what works on this machine, found out by really trying where that is possible, and what
//! to do about what does not.

mod disk;
mod fuse;
mod kernel;
mod users;

use super::{Context, Exit};
use crate::base::{Error, Result};
use serde::Serialize;
use std::io::Write;

/// Tell what works on this machine, and what to do about what does not
///
/// Each line says ok, warn or fail. The exit code is 0 when a mount would work, else 1.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    /// Something is missing or slower without it.
    Warn,
    /// Mounting or running does not work because of this.
    Fail,
}

/// One thing looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do about it; empty when nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Check {
    pub fn ok(name: &'static str, found: impl Into<String>) -> Check {
        Check {
            name,
            status: Status::Ok,
            found: found.into(),
            advice: String::new(),
        }
    }
    pub fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
        Check {
            name,
            status: Status::Warn,
            found: found.into(),
            advice: advice.into(),
        }
    }
    pub fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Check {
        Check {
            name,
            status: Status::Fail,
            found: found.into(),
            advice: advice.into(),
        }
    }
}

/// All of it.
#[derive(Debug, Serialize)]
struct Report {
    /// `cowfs mount` would work.
    mount: bool,
    /// `cowfs run` would work.
    run: bool,
    checks: Vec<Check>,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let root = rustix::process::geteuid().is_root();
    let mut checks = kernel::checks();
    checks.push(fuse::device());
    let mount = fuse::mounting(&mut checks, root);
    checks.push(fuse::conf(root));
    checks.push(fuse::mount_max(root));
    checks.extend(users::namespaces());
    checks.push(users::ids(root));
    let run = users::running(&mut checks);
    checks.push(users::runtimes());
    checks.extend(disk::checks(cx.pool()));
    checks.push(fuse::helpers());
    let report = Report { mount, run, checks };
    let mut text = if args.json {
        serde_json::to_string_pretty(&report).map_err(|e| Error::io("the report", e.into()))?
    } else {
        words(&report)
    };
    text.push('\n');
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(if report.mount { 0 } else { 1 })
}

fn words(report: &Report) -> String {
    let width = report
        .checks
        .iter()
        .map(|c| c.name.len())
        .max()
        .unwrap_or(0);
    let mut lines = vec![];
    for c in &report.checks {
        let status = match c.status {
            Status::Ok => "ok  ",
            Status::Warn => "warn",
            Status::Fail => "fail",
        };
        lines.push(format!("{status}  {:width$}  {}", c.name, c.found));
        if !c.advice.is_empty() {
            lines.push(format!("{:1$}-> {2}", "", width + 8, c.advice));
        }
    }
    let can = |yes: bool| if yes { "works" } else { "does not work" };
    lines.push(format!(
        "\nmounting {}, running containers {}",
        can(report.mount),
        can(report.run)
    ));
    lines.join("\n")
}
