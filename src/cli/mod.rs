//! Words in, words out: one file a verb. Each verb is `pub struct Args` (clap) and
//! `pub fn run(args: Args, cx: &Context) -> Result<Exit>`.

mod cat;
mod clone;
mod context;
mod cp;
mod create;
mod daemon;
mod diff;
pub mod doctor;
mod history;
mod import;
mod inspect;
mod list;
mod ls;
mod map;
mod mount;
mod output;
mod place;
mod pool;
mod pool_check;
mod pool_create;
mod pool_status;
mod progress;
mod rename;
mod rm;
mod rollback;
pub mod run;
mod size;
mod snapshot;
mod template;
mod umount;

#[cfg(test)]
mod tests;

pub use context::{Context, Exit};
pub use output::{Out, Table};
pub use progress::Bar;

use crate::base::Result;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed (I/O, a fault); 'pool check': the pool is damaged
  2  the command makes no sense; 'pool check': could not check
  3  something named does not exist
  4  something exists already
  5  in use
  6  no space left, or a size limit reached
  7  a pool or an archive is damaged, or none at all
  8  not allowed, or not possible on this machine
  'cowfs run' returns what the program in the container returned.

Names: a container is NAME, an image NAME[:TAG], a snapshot CONTAINER@NAME, a layer sha256:...; ids
and beginnings of digests will do. A path inside is NAME:/PATH.

Environment: COWFS_POOL (the pool's directory), COWFS_LOG or RUST_LOG (what is logged).";

#[derive(Parser, Debug)]
#[command(
    name = "cowfs",
    version,
    about = "Copy-on-write volumes for container images and containers, through FUSE",
    after_help = EXIT_CODES,
    max_term_width = 100,
    disable_help_subcommand = true
)]
struct Cli {
    /// The pool's directory [default: /var/lib/cowfs for root, $XDG_DATA_HOME/cowfs for others]
    #[arg(
        long,
        global = true,
        env = "COWFS_POOL",
        value_name = "DIR",
        hide_env_values = true
    )]
    pool: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Make, look at and check pools
    #[command(subcommand)]
    Pool(pool::Verb),
    Import(import::Args),
    /// List images
    Images(list::Images),
    /// List containers
    Containers(list::Containers),
    /// List images, containers and snapshots
    #[command(visible_alias = "ps")]
    List(list::Args),
    Inspect(inspect::Args),
    History(history::Args),
    Create(create::Args),
    Mount(mount::Args),
    #[command(visible_alias = "unmount")]
    Umount(umount::Args),
    /// Run a program in a container
    Run(run::Args),
    Snapshot(snapshot::Args),
    Clone(clone::Args),
    Rollback(rollback::Args),
    Rename(rename::Args),
    Diff(diff::Args),
    Map(map::Args),
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    Ls(ls::Args),
    Cat(cat::Args),
    Cp(cp::Args),
    Daemon(daemon::Args),
    /// Tell what works on this machine, and what to do about what does not
    Doctor(doctor::Args),
}

/// The program: `cowfs`, or under another name `mkfs.cowfs` and `fsck.cowfs`.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let own = words
        .first()
        .map(Path::new)
        .and_then(Path::file_name)
        .and_then(|n| n.to_str())
        .unwrap_or("cowfs");
    let exit = match own {
        "mkfs.cowfs" => pool_create::mkfs(words),
        "fsck.cowfs" => pool_check::fsck(words),
        _ => cowfs(words),
    };
    ExitCode::from(exit)
}

fn cowfs(words: Vec<OsString>) -> Exit {
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    let daemon = matches!(cli.verb, Verb::Daemon(_));
    if !daemon {
        like_other_tools();
    }
    match Context::new(cli.pool).and_then(|cx| cli.verb.run(&cx)) {
        Ok(exit) => exit,
        Err(e) => {
            complain(&e.to_string());
            e.exit_kind() as Exit
        }
    }
}

/// What clap says of wrong words, or the help that was asked for.
fn usage(e: &clap::Error) -> Exit {
    like_other_tools();
    let _ = e.print();
    u8::try_from(e.exit_code()).unwrap_or(2)
}

/// One line on standard error.
pub fn complain(message: &str) {
    use std::io::Write;
    let line = format!("cowfs: {}\n", message.replace('\n', " "));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// A command whose reader has gone ends silently, by SIGPIPE; logging goes to standard error.
fn like_other_tools() {
    // SAFETY: sets a signal's disposition to its default, before any other thread runs.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
    let filter = std::env::var("COWFS_LOG")
        .or_else(|_| std::env::var("RUST_LOG"))
        .unwrap_or_else(|_| "error".into());
    let _ = env_logger::Builder::new().parse_filters(&filter).try_init();
}

impl Verb {
    fn run(self, cx: &Context) -> Result<Exit> {
        match self {
            Verb::Pool(v) => v.run(cx),
            Verb::Import(a) => import::run(a, cx),
            Verb::Images(a) => list::images(a, cx),
            Verb::Containers(a) => list::containers(a, cx),
            Verb::List(a) => list::run(a, cx),
            Verb::Inspect(a) => inspect::run(a, cx),
            Verb::History(a) => history::run(a, cx),
            Verb::Create(a) => create::run(a, cx),
            Verb::Mount(a) => mount::run(a, cx),
            Verb::Umount(a) => umount::run(a, cx),
            Verb::Run(a) => run::run(a, cx),
            Verb::Snapshot(a) => snapshot::run(a, cx),
            Verb::Clone(a) => clone::run(a, cx),
            Verb::Rollback(a) => rollback::run(a, cx),
            Verb::Rename(a) => rename::run(a, cx),
            Verb::Diff(a) => diff::run(a, cx),
            Verb::Map(a) => map::run(a, cx),
            Verb::Rm(a) => rm::run(a, cx),
            Verb::Ls(a) => ls::run(a, cx),
            Verb::Cat(a) => cat::run(a, cx),
            Verb::Cp(a) => cp::run(a, cx),
            Verb::Daemon(a) => daemon::run(a, cx),
            Verb::Doctor(a) => doctor::run(a, cx),
        }
    }
}
