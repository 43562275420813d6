//! `cowfs pool create`, and `mkfs.cowfs`.

use super::{Context, Exit, complain, size, usage};
use crate::base::{CHUNK_MAX, CHUNK_MIN, Error, Result};
use crate::pool::{Format, Pool};
use clap::Parser;
use std::ffi::OsString;
use std::path::PathBuf;

/// Make a pool
///
/// A pool is a directory with three sparse files, data, metadata and log: it takes space as it is
/// filled, up to its size. Data and metadata may be block devices.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The pool's directory; made if it does not exist [default: --pool]
    dir: Option<PathBuf>,
    /// Most bytes of data the pool may hold
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "100G")]
    size: u64,
    /// Unit of allocation and sharing: a power of two from 64K to 1M; stays as it is
    #[arg(long, value_name = "SIZE", value_parser = size::parse, default_value = "64K")]
    chunk_size: u64,
    /// Size limit of containers that are given none [default: none]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    container_size: Option<u64>,
    /// Keep the data here: a block device, or a file elsewhere
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Keep the metadata here
    #[arg(long, value_name = "PATH")]
    metadata: Option<PathBuf>,
    /// What to call the pool [default: the directory's name]
    #[arg(long)]
    name: Option<String>,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    if !args.chunk_size.is_power_of_two() || !(CHUNK_MIN..=CHUNK_MAX).contains(&args.chunk_size) {
        return Err(Error::Invalid(format!(
            "--chunk-size {}: use 64K, 128K, 256K, 512K or 1M",
            size::human(args.chunk_size)
        )));
    }
    if args.size < args.chunk_size {
        return Err(Error::Invalid("--size is less than a chunk".into()));
    }
    let cx = match args.dir {
        Some(dir) => Context::new(Some(dir))?,
        None => cx.clone(),
    };
    let dir = cx.pool();
    let name = args.name.unwrap_or_else(|| {
        dir.file_name()
            .and_then(|n| n.to_str())
            .filter(|n| !n.is_empty())
            .unwrap_or("cowfs")
            .to_owned()
    });
    let format = Format {
        name,
        size: args.size,
        chunk_size: args.chunk_size,
        container_size: args.container_size,
        ..Format::default()
    };
    Pool::create_dir(dir, &format, args.data.as_deref(), args.metadata.as_deref())?;
    println!("{}", dir.display());
    Ok(0)
}

/// Makes a cowfs pool, as 'cowfs pool create' does
#[derive(Parser, Debug)]
#[command(name = "mkfs.cowfs", version)]
struct Mkfs {
    #[command(flatten)]
    args: Args,
}

pub fn mkfs(words: Vec<OsString>) -> Exit {
    let parsed = match Mkfs::try_parse_from(words) {
        Ok(p) => p,
        Err(e) => return usage(&e),
    };
    super::like_other_tools();
    if parsed.args.dir.is_none() {
        complain("name the pool's directory: mkfs.cowfs DIR");
        return 2;
    }
    match Context::new(None).and_then(|cx| run(parsed.args, &cx)) {
        Ok(exit) => exit,
        Err(e) => {
            complain(&e.to_string());
            1
        }
    }
}
