//! `cowfs run`: a way into a container. Resolves what is named, has it mounted inside namespaces of its
//! own, enters, and follows the program to its end.
//!
//! ```text
//! this process                       its child, in new namespaces
//! engine: makes the child   ------>  inside: waits until its ids are mapped
//! idmap: newuidmap, newgidmap        mounts: a private place
//! daemon: Mount  <---- device -----  inside: opens /dev/fuse, makes the mount
//!                ----- go -------->  mounts: /proc, /dev, /sys, files; pivot_root
//! signals: passes on, follows        process: user, capabilities, execve
//! flush, daemon: Unmounted           (or bundle: crun does the last two)
//! ```

mod bundle;
mod caps;
mod chan;
mod engine;
pub(crate) mod idmap;
mod init;
mod inroot;
mod inside;
mod mounts;
mod process;
pub(crate) mod runtime;
mod signals;
mod spec;
mod user;

use super::{Context, Exit};
use crate::base::{Error, ExitKind, Result};
use crate::daemon::{Client, Ended, Inspect, MountOptions, Raw, Request, Response};
use crate::pool::Kind;
use clap::builder::NonEmptyStringValueParser;
use inside::{Inside, Root};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Exit code of cowfs' own failures, as podman's.
const OWN_FAILURE: u8 = 125;

/// Runs a program in a container: of an image (a new one), an existing one, or an archive (imported).
///
/// The container's root is mounted in namespaces of its own, with the host's network. Exit codes are the
/// program's; 128 and a signal's number; 127: not found; 126: not executable; 125: cowfs failed.
#[derive(clap::Args, Debug)]
#[command(override_usage = "cowfs run [OPTIONS] IMAGE|CONTAINER|ARCHIVE [--] [CMD]...")]
pub struct Args {
    /// Remove the container afterwards
    #[arg(long)]
    rm: bool,
    /// Name of the new container
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// Size limit of the new container, such as 10G
    #[arg(long, value_parser = super::size::parse)]
    size: Option<u64>,
    /// Set a variable; NAME alone takes it over from here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// Set the variables that a file lists
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Working directory in the container, made if it is missing
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// User in the container: name or number, with :group if wanted
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Host name in the container
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Program to run in place of the image's entrypoint ("" for none)
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Show a host directory or file in the container
    #[arg(short, long, value_name = "HOST-PATH:PATH[:ro]")]
    volume: Vec<String>,
    /// The container's root cannot be written
    #[arg(long)]
    read_only: bool,
    /// Give a capability that containers do not have by default
    #[arg(long, value_name = "CAP")]
    cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAP")]
    cap_drop: Vec<String>,
    /// Run a small init as process 1, which reaps orphans; the program then ends on signals as usual
    #[arg(long)]
    init: bool,
    /// auto (crun or runc where they work), crun, runc, none, or a path
    #[arg(
        long,
        value_name = "RUNTIME",
        default_value = "auto",
        env = "COWFS_RUNTIME"
    )]
    runtime: String,
    /// Accepted: standard input is always the caller's
    #[arg(short, long)]
    interactive: bool,
    /// Accepted: the terminal is always the caller's
    #[arg(short, long)]
    tty: bool,
    /// Container, image, or path of an archive or root directory; then the program and its words (none: the
    /// image's). Everything after the first word is the program's
    #[arg(value_name = "IMAGE|CONTAINER|ARCHIVE [--] [CMD...]", required = true, num_args = 1.., trailing_var_arg = true)]
    words: Vec<OsString>,
}

impl Args {
    /// What to run it in.
    fn word(&self) -> &OsStr {
        self.words
            .first()
            .map(OsString::as_os_str)
            .unwrap_or_default()
    }

    /// What to run; nothing: what the image says.
    fn command(&self) -> &[OsString] {
        match self.words.get(1..) {
            Some([dashes, rest @ ..]) if dashes == "--" => rest,
            rest => rest.unwrap_or_default(),
        }
    }
}

/// Why the program never ran: what to say, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub code: u8,
    pub error: Error,
}

impl Failure {
    pub fn own(error: Error) -> Failure {
        Failure {
            code: OWN_FAILURE,
            error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::own(error)
    }
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    Ok(attempt(&args, cx).unwrap_or_else(|failure| {
        warn(&failure.error.to_string());
        failure.code
    }))
}

fn warn(line: &str) {
    eprintln!("cowfs: {line}");
}

fn attempt(args: &Args, cx: &Context) -> Result<Exit, Failure> {
    // Before anything is made: what cannot work here is said at once.
    usable_device()?;
    let runtime = runtime::choose(&args.runtime)?;
    let mut found = find(args, cx)?;
    let result = enter(args, cx, &mut found, runtime);
    // Nothing ran in it: nobody misses it.
    let unused = found.created && !found.started;
    if args.rm || unused {
        let removed = found.call(
            cx,
            &Request::Remove {
                names: vec![found.name.clone()],
                force: false,
            },
        );
        if let Err(e) = removed.map(drop).or_else(gone_is_gone) {
            warn(&format!("container {} is not removed: {e}", found.name));
        }
    }
    result
}

fn gone_is_gone(e: Error) -> Result<()> {
    if e.exit_kind() == ExitKind::NotFound {
        Ok(())
    } else {
        Err(e)
    }
}

/// /dev/fuse is there and this user may open it.
fn usable_device() -> Result<()> {
    use rustix::fs::{Mode, OFlags};
    match rustix::fs::open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(_) => Ok(()),
        Err(e) => {
            let why = match e {
                rustix::io::Errno::NOENT => {
                    "there is no /dev/fuse here; load it with 'modprobe fuse', or give the outer container that device (--device /dev/fuse)"
                }
                rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => {
                    "this user may not open /dev/fuse; as root: 'chmod 0666 /dev/fuse', or give the outer container that device"
                }
                _ => "load it with 'modprobe fuse'",
            };
            let e = std::io::Error::from(e);
            Err(Error::Denied(format!(
                "cannot run containers without /dev/fuse ({e}): {why}; import, diff, cp and export work without"
            )))
        }
    }
}

/// A container to enter.
struct Found {
    client: Client,
    name: String,
    config: Option<serde_json::Value>,
    /// By this command.
    created: bool,
    started: bool,
}

impl Found {
    /// Asks the daemon; another one, should this one have gone meanwhile.
    fn call(&mut self, cx: &Context, request: &Request) -> Result<Response> {
        match self.client.call(request, &[]) {
            Err(Error::Io { source, .. })
                if source.kind() == std::io::ErrorKind::ConnectionAborted =>
            {
                self.client = cx.client()?;
                self.client.call(request, &[])
            }
            r => r,
        }
    }
}

/// What the word means: a container, an image, or a path, in this order.
fn find(args: &Args, cx: &Context) -> Result<Found> {
    let word = args.word().to_str();
    // These cannot be names.
    let path_alone = word.is_none_or(|w| w == "-" || w.starts_with(['/', '.']));
    if let (Some(word), false) = (word, path_alone)
        && cx.exists()
    {
        let mut client = cx.client()?;
        match inspect(&mut client, word) {
            Ok(it) => return found(args, client, it),
            Err(e) if e.exit_kind() == ExitKind::NotFound && !Path::new(word).exists() => {
                return Err(Error::NotFound(format!(
                    "{e}; nor is there a file of that name to import"
                )));
            }
            Err(e) if e.exit_kind() == ExitKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    let path = Path::new(args.word());
    if path != Path::new("-") && !path.exists() {
        let what = if path_alone {
            "file or directory"
        } else {
            "container, image or file"
        };
        return Err(Error::NotFound(format!(
            "there is no {what} '{}'",
            path.display()
        )));
    }
    // What comes through a pipe has no file's name to go by.
    let own_name = (path == Path::new("-")).then(|| args.name.as_deref().unwrap_or("stdin"));
    let image = super::import::import(path, own_name, cx)?;
    let mut client = cx.client()?;
    let it = inspect(&mut client, &image)?;
    found(args, client, it)
}

fn inspect(client: &mut Client, name: &str) -> Result<Inspect> {
    match client.call(
        &Request::Inspect {
            name: name.to_owned(),
        },
        &[],
    )? {
        Response::Inspect(it) => Ok(*it),
        _ => Err(unexpected()),
    }
}

fn unexpected() -> Error {
    Error::Invalid("the daemon gave an answer to another question".into())
}

fn found(args: &Args, mut client: Client, it: Inspect) -> Result<Found> {
    let config = it.oci.and_then(|o| o.config);
    if it.row.kind == Kind::Container {
        if args.name.is_some() || args.size.is_some() {
            return Err(Error::Invalid(format!(
                "'{}' is an existing container: --name and --size are for new ones",
                it.row.name
            )));
        }
        if let Some(m) = it.mounted.first() {
            return Err(Error::Busy(format!(
                "container {} is in use at {}; a volume has one mount: end that first, or 'cowfs clone' it",
                it.row.name, m.dir
            )));
        }
        return Ok(Found {
            client,
            name: it.row.name,
            config,
            created: false,
            started: false,
        });
    }
    let request = Request::Create {
        image: it.row.name,
        name: args.name.clone(),
        size: args.size,
    };
    match client.call(&request, &[])? {
        Response::Name(name) => Ok(Found {
            client,
            name,
            config,
            created: true,
            started: false,
        }),
        _ => Err(unexpected()),
    }
}

/// Runs the program in the container, and ends the mount.
fn enter(
    args: &Args,
    cx: &Context,
    found: &mut Found,
    runtime: Option<runtime::Runtime>,
) -> Result<Exit, Failure> {
    let spec = spec::spec(args, args.command(), found.config.as_ref(), &found.name)?;
    let user_namespace =
        !idmap::may_unshare().map_err(|e| Error::io("capabilities of this process", e))?;
    let mut ids = user_namespace.then(idmap::IdMap::of_caller);
    // Devices in an image are data: only those of /dev are real.
    let options = crate::fuse::MountOptions {
        nodev: true,
        ..Default::default()
    };
    let root = Root::Volume {
        source: format!("container={}", found.name),
        options: Box::new(options),
    };
    let inside = Inside {
        spec,
        root,
        runtime,
        user_namespace,
    };
    let mut mount = None;
    // In listings: it is nowhere that others could see.
    let place = format!("(cowfs run, process {})", std::process::id());
    let client = &mut found.client;
    let mut serve = |device: OwnedFd, connection: u32| -> Result<()> {
        let request = Request::Mount {
            name: found.name.clone(),
            dir: Raw::from(place.as_str()),
            options: MountOptions {
                pid: std::process::id(),
                ..Default::default()
            },
        };
        let Response::Mounted(it) = client.call(&request, &[device.as_fd()])? else {
            return Err(unexpected());
        };
        mount = Some(it.id);
        client.call(
            &Request::Attached {
                mount: it.id,
                connection,
            },
            &[],
        )?;
        Ok(())
    };
    let outcome = engine::go(&inside, ids.as_mut(), &mut serve, &warn);
    found.started = outcome.started;
    let lost = leave(cx, found, outcome.root, mount, args.rm);
    match (outcome.end, lost) {
        (Ok(0), Err(e)) => Err(Failure::own(e)),
        (end, Err(e)) => {
            warn(&e.to_string());
            end
        }
        (end, Ok(())) => end,
    }
}

/// All processes of the container are gone. What they wrote goes to the daemon and becomes durable.
fn leave(
    cx: &Context,
    found: &mut Found,
    root: Option<OwnedFd>,
    mount: Option<u64>,
    forget: bool,
) -> Result<()> {
    let flushed = match &root {
        Some(root) if !forget => rustix::fs::syncfs(root).map_err(|e| {
            Error::io(
                format!(
                    "container {}: not all that was written could be kept",
                    found.name
                ),
                e.into(),
            )
        }),
        _ => Ok(()),
    };
    // With its last user the kernel's mount goes, before the daemon is asked about it.
    drop(root);
    if let Some(mount) = mount {
        match found.call(cx, &Request::Unmounted { mount }) {
            Ok(Response::Ended(Ended { ended: false })) => {
                warn(&format!(
                    "container {} is still in use by something",
                    found.name
                ));
            }
            Ok(_) => {}
            Err(_) if forget => {}
            Err(e) => return Err(e),
        }
    }
    flushed
}

/// As far as a run goes without a pool: namespaces, ids, and a mount inside. Answers with what the user
/// would be warned of.
pub(crate) fn try_mount() -> Result<Option<String>, String> {
    let spec = spec::Spec::bare(vec!["true".into()]);
    let user_namespace = !idmap::may_unshare().map_err(|e| e.to_string())?;
    let mut ids = user_namespace.then(idmap::IdMap::of_caller);
    let root = Root::Volume {
        source: "cowfs-doctor".into(),
        options: Box::default(),
    };
    let inside = Inside {
        spec,
        root,
        runtime: None,
        user_namespace,
    };
    let mut mounted = false;
    // Nobody serves it: that it was made is enough, and the end.
    let mut serve = |_: OwnedFd, _: u32| -> Result<()> {
        mounted = true;
        Err(Error::Denied("enough".into()))
    };
    let warning = std::cell::RefCell::new(None);
    let outcome = engine::go(&inside, ids.as_mut(), &mut serve, &|w| {
        *warning.borrow_mut() = Some(w.to_owned())
    });
    match outcome.end {
        _ if mounted => Ok(warning.into_inner()),
        Err(f) => Err(f.error.to_string()),
        Ok(code) => Err(format!("ended with {code}")),
    }
}
