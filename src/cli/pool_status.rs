//! `cowfs pool status`.

use super::template::Template;
use super::{Context, Exit, Out, size};
use crate::base::{Error, Result};
use crate::daemon::{Request, Response};
use crate::pool::{Level, SpaceStatus, Status};
use rustix::fs::FileType;
use serde_json::{Value, json};
use std::path::Path;

/// Tell how a pool is: space, volumes, level
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    /// Print by a template, such as '{{.Level}} {{.Data.Used}}'
    #[arg(long, value_name = "TEMPLATE", conflicts_with = "json")]
    format: Option<String>,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let template = args.format.as_deref().map(Template::parse).transpose()?;
    if !cx.exists() {
        return Err(Error::NotFound(format!(
            "no pool at {}; make one with 'cowfs pool create'",
            cx.pool().display()
        )));
    }
    let mut client = cx.client()?;
    let status = match client.call(&Request::Status, &[])? {
        Response::Status(s) => *s,
        other => return Err(super::context::unexpected(&other)),
    };
    let backing = backing(&cx.pool().join("data"));
    let mut out = Out::new();
    if args.json || template.is_some() {
        let object = object(&status, cx.pool(), &backing, client.pid());
        match template {
            Some(t) => out.line(&t.render(&object)?)?,
            None => out.json(&object)?,
        }
    } else {
        text(&mut out, &status, cx.pool(), &backing, client.pid())?;
    }
    out.finish()?;
    Ok(0)
}

fn space(s: &SpaceStatus) -> Value {
    json!({ "Used": s.used, "Total": s.total, "Available": s.available, "Real": s.real, "HostFree": s.host_free })
}

fn object(s: &Status, dir: &Path, backing: &str, daemon: u32) -> Value {
    json!({
        "Name": s.name,
        "UUID": s.uuid,
        "Directory": crate::daemon::Raw::from(dir),
        "ChunkSize": s.chunk_size,
        "BackingFilesystem": backing,
        "Data": space(&s.data),
        "Metadata": space(&s.metadata),
        "Log": { "Used": s.log_used, "Total": s.log_size },
        "Transaction": s.transaction,
        "Volumes": s.volumes,
        "DeferredRemovals": s.deferred_removals,
        "Reclaiming": s.reclaiming,
        "Level": s.level,
        "Failed": s.failed,
        "DaemonPID": daemon,
    })
}

fn text(out: &mut Out, s: &Status, dir: &Path, backing: &str, daemon: u32) -> Result<()> {
    let mut line =
        |name: &str, value: &str| out.line(&format!("{:<20}{value}", format!("{name}:")));
    line("Name", &s.name)?;
    line("UUID", &s.uuid)?;
    line("Directory", &dir.display().to_string())?;
    line("Chunk size", &size::human(s.chunk_size))?;
    line("Backing filesystem", backing)?;
    for (name, space) in [("Data", &s.data), ("Metadata", &s.metadata)] {
        line(&format!("{name} used"), &size::human(space.used))?;
        line(&format!("{name} total"), &size::human(space.total))?;
        line(&format!("{name} available"), &size::human(space.available))?;
        line(&format!("{name} real size"), &size::human(space.real))?;
    }
    line(
        "Log used",
        &format!("{} of {}", size::human(s.log_used), size::human(s.log_size)),
    )?;
    line("Transaction", &s.transaction.to_string())?;
    line("Volumes", &s.volumes.to_string())?;
    line("Deferred removals", &s.deferred_removals.to_string())?;
    line("Reclaiming", &s.reclaiming.to_string())?;
    line("Level", level(s.level))?;
    if let Some(why) = &s.failed {
        line("Failed", why)?;
    }
    line("Daemon", &format!("process {daemon}"))
}

fn level(l: Level) -> &'static str {
    match l {
        Level::Ok => "ok",
        Level::Low => "low",
        Level::Critical => "critical",
        Level::Full => "full",
    }
}

/// What the data lies on: a file system's name, or a block device.
fn backing(data: &Path) -> String {
    let Ok(stat) = rustix::fs::stat(data) else {
        return "unknown".into();
    };
    if FileType::from_raw_mode(stat.st_mode) == FileType::BlockDevice {
        let real = data.canonicalize().unwrap_or_else(|_| data.to_path_buf());
        return format!("block device {}", real.display());
    }
    let device = (
        rustix::fs::major(stat.st_dev),
        rustix::fs::minor(stat.st_dev),
    );
    let known = crate::fuse::mountinfo::mounts()
        .unwrap_or_default()
        .into_iter()
        .rev()
        .find(|m| m.device == device);
    if let Some(m) = known {
        return m.fs_type;
    }
    // btrfs gives its subvolumes device numbers that the table does not show.
    match rustix::fs::statfs(data).map(|s| s.f_type) {
        Ok(0x9123_683e) => "btrfs".into(),
        Ok(0xef53) => "ext4".into(),
        Ok(0x5846_5342) => "xfs".into(),
        Ok(0x0102_1994) => "tmpfs".into(),
        Ok(0x794c_7630) => "overlayfs".into(),
        Ok(other) => format!("{other:#x}"),
        Err(_) => "unknown".into(),
    }
}
