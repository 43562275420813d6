//! The process that becomes the container: from its birth in new namespaces to the execution of the
//! program, or of a runtime that does the rest.

use super::chan::{Chan, Message};
use super::inroot::InRoot;
use super::mounts::{self, Base};
use super::runtime::Runtime;
use super::spec::Spec;
use super::{Failure, bundle, process};
use crate::base::{Error, Result};
use crate::fuse::{How, MountOptions, Prepared, prepare};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Uid};
use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};

/// What becomes the container's root.
#[derive(Clone, Debug)]
pub enum Root {
    /// A volume, served by the pool's daemon. `source` is shown in the mount table.
    Volume {
        source: String,
        options: Box<MountOptions>,
    },
    /// Nothing but what is mounted in it: to try things out.
    Empty,
}

/// Everything the process needs, in memory before it is born.
pub struct Inside {
    pub spec: Spec,
    pub root: Root,
    /// None: it enters the container by itself.
    pub runtime: Option<Runtime>,
    /// In a user namespace of its own.
    pub user_namespace: bool,
}

/// Never returns: executes the program, or says why not and ends.
pub fn main(inside: &Inside, chan: &Chan, mask: &libc::sigset_t) -> ! {
    let failure = match steps(inside, chan, mask) {
        Ok(never) => match never {},
        Err(f) => f,
    };
    let mut message = failure.error.to_string();
    message.truncate(message.floor_char_boundary(4096));
    // When nobody listens any more there is nobody to tell.
    let _ = chan.send(
        &Message::Failed {
            code: failure.code,
            message,
        },
        None,
    );
    // SAFETY: ends this process without running what the command set up for its own end.
    unsafe { libc::_exit(failure.code.into()) }
}

fn steps(inside: &Inside, chan: &Chan, mask: &libc::sigset_t) -> Result<Infallible, Failure> {
    let own = Failure::own;
    let spec = &inside.spec;
    let mut single = false;
    if inside.user_namespace {
        single = go(chan)?;
        become_root(single)?;
    }
    let base = Base::make(spec).map_err(own)?;
    let root = attach(inside, &base, chan)?;
    let at = InRoot(root.as_fd());
    let user = process::user(spec, at).map_err(own)?;
    process::workdir(spec, &user, at).map_err(own)?;
    if let Some(runtime) = &inside.runtime {
        let program = process::find_program(spec, &process::env(spec, &user), at)?;
        let bundle = bundle::Bundle {
            spec,
            user: &user,
            program,
            base: &base,
            user_namespace: inside.user_namespace,
            single,
        };
        bundle.write().map_err(own)?;
        return bundle.enter(runtime, mask, chan);
    }
    for warning in mounts::all(at, &base, spec, !single).map_err(own)? {
        let _ = chan.send(&Message::Warning(warning), None);
    }
    rustix::system::sethostname(spec.hostname.as_bytes()).map_err(|e| {
        own(Error::io(
            format!("host name '{}'", spec.hostname),
            e.into(),
        ))
    })?;
    drop(root);
    mounts::pivot(&base.root()).map_err(own)?;
    drop(base);
    process::become_program(spec, &user, single, mask, chan)
}

/// Waits for the command. Without an answer there is nothing left to do.
fn go(chan: &Chan) -> Result<bool, Failure> {
    match chan.receive() {
        Ok(Some((Message::Go { single }, _))) => Ok(single),
        Ok(_) => Err(Failure::own(Error::Denied(
            "the command that started the container gave up".into(),
        ))),
        Err(e) => Err(Failure::own(Error::io("cannot hear the command", e))),
    }
}

fn become_root(single: bool) -> Result<(), Failure> {
    let own = |e: rustix::io::Errno| {
        Failure::own(Error::io(
            "cannot become root of the user namespace",
            e.into(),
        ))
    };
    if !single {
        rustix::thread::set_thread_groups(&[]).map_err(own)?;
    }
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).map_err(own)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).map_err(own)
}

/// Mounts the root, and opens it. The command gets the device, for the daemon, and the root directory,
/// by which it flushes what is left at the end.
fn attach(inside: &Inside, base: &Base, chan: &Chan) -> Result<OwnedFd, Failure> {
    let own = Failure::own;
    let dir = base.root();
    let said = |e: std::io::Error| own(Error::io("cannot talk to the command", e));
    match &inside.root {
        Root::Empty => rustix::mount::mount_bind(&dir, &dir)
            .map_err(|e| own(Error::io("an empty root", e.into())))?,
        Root::Volume { source, options } => {
            let Prepared { device, pending } =
                prepare(How::Kernel, source, &dir, options).map_err(own)?;
            let connection = pending.connection().map_err(own)?;
            chan.send(&Message::Device { connection }, Some(device.as_fd()))
                .map_err(said)?;
            drop(device);
            go(chan)?;
            pending.attach().map_err(own)?;
        }
    }
    let root = rustix::fs::open(
        &dir,
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|e| own(Error::io("the container's root", e.into())))?;
    if matches!(inside.root, Root::Volume { .. }) {
        chan.send(&Message::Root, Some(root.as_fd()))
            .map_err(said)?;
    }
    Ok(root)
}
