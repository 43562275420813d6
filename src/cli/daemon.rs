//! `cowfs daemon`.

use super::{Context, Exit};
use crate::base::{Error, Result};
use crate::daemon::{self, Client, Ready, Request, Start};

/// Serve a pool; other commands start this when they need it
///
/// Without options: makes sure that a daemon runs, and prints its process id. It leaves by itself a few
/// seconds (COWFS_IDLE_SECS) after its last client and its last mount.
///
/// SIGTERM or SIGINT: no new work, everything made durable; it leaves when nothing is mounted any more. A
/// second one cuts the mounts off. The log is daemon.log in the pool's directory (COWFS_LOG, RUST_LOG).
///
/// As a systemd service: Type=notify, ExecStart=cowfs daemon --foreground, KillMode=process,
/// TimeoutStopSec=infinity.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Stay in the foreground until told to end, log to standard error, tell systemd when ready
    #[arg(long)]
    foreground: bool,
    /// With --foreground: leave after so many seconds without use
    #[arg(long, value_name = "SECONDS", requires = "foreground")]
    idle: Option<f64>,
    /// End a running daemon, if nothing is mounted
    #[arg(long, conflicts_with = "foreground")]
    stop: bool,
    /// Where to tell that it serves (of the command that starts it)
    #[arg(long, hide = true, value_name = "FD", conflicts_with_all = ["foreground", "stop"])]
    ready_fd: Option<i32>,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    if args.stop {
        return match Client::connect(cx.pool(), Start::Never) {
            Ok(mut client) => client.call(&Request::Stop, &[]).map(|_| 0),
            Err(Error::NotFound(_)) if cx.exists() => Ok(0),
            Err(e) => Err(e),
        };
    }
    if let Some(number) = args.ready_fd {
        daemon::log_to(Some(&cx.pool().join(daemon::LOG)));
        let ready = Ready::from_number(number);
        let idle = Some(daemon::Options::usual_idle());
        let options = daemon::Options {
            pool: cx.pool().to_path_buf(),
            ready,
            idle,
        };
        // Whoever started us is told why we cannot serve; the log too, unless another was faster.
        return Ok(match daemon::serve(options) {
            Ok(()) => 0,
            Err(e) => {
                let level = if matches!(e, Error::Locked { .. }) {
                    log::Level::Debug
                } else {
                    log::Level::Error
                };
                log::log!(level, "{e}");
                e.exit_kind() as Exit
            }
        });
    }
    if args.foreground {
        daemon::log_to(None);
        if !cx.exists() {
            cx.create()?;
        }
        let idle = match args.idle {
            Some(s) => Some(
                std::time::Duration::try_from_secs_f64(s)
                    .map_err(|_| Error::Invalid(format!("--idle {s}: not a number of seconds")))?,
            ),
            None => None,
        };
        daemon::serve(daemon::Options {
            pool: cx.pool().to_path_buf(),
            ready: None,
            idle,
        })?;
        return Ok(0);
    }
    println!("{}", cx.client_creating()?.pid());
    Ok(0)
}
