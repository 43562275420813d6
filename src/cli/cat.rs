//! `cowfs cat`.

use super::place::Place;
use super::{Context, Exit};
use crate::base::{Error, Result};
use crate::daemon::{Client, Raw, Request};
use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use std::os::fd::{AsFd, BorrowedFd};

/// Write files of an image, container or snapshot to standard output; no mount needed
#[derive(clap::Args, Debug)]
pub struct Args {
    #[arg(required = true, value_name = "NAME:/PATH")]
    files: Vec<Place>,
}

pub fn run(args: Args, cx: &Context) -> Result<Exit> {
    let mut client = cx.client()?;
    for file in args.files {
        stream(
            &mut client,
            &file.name,
            &file.path,
            std::io::stdout().as_fd(),
        )?;
    }
    Ok(0)
}

/// A pipe of our own between the daemon and where the bytes go: when we die, the daemon notices.
pub fn stream(client: &mut Client, name: &str, path: &Raw, to: BorrowedFd<'_>) -> Result<()> {
    let fail = |e: rustix::io::Errno| Error::io("standard output", e.into());
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(fail)?;
    let _ = rustix::pipe::fcntl_setpipe_size(&write, 1 << 20);
    client.send(
        &Request::Read {
            name: name.to_owned(),
            path: path.clone(),
        },
        &[write.as_fd()],
    )?;
    drop(write);
    // splice(2) cannot append, and does not know every kind of file.
    let append = rustix::fs::fcntl_getfl(to).is_ok_and(|f| f.contains(OFlags::APPEND));
    let mut spliced = !append;
    let mut buf = vec![0; 256 << 10];
    loop {
        if spliced {
            match splice(&read, None, to, None, 1 << 20, SpliceFlags::empty()) {
                Ok(0) => break,
                Ok(_) | Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => spliced = false,
                Err(e) => return Err(fail(e)),
            }
        }
        match rustix::io::read(&read, &mut buf) {
            Ok(0) => break,
            Ok(n) => {
                let mut rest = buf.get(..n).unwrap_or(&[]);
                while !rest.is_empty() {
                    match rustix::io::write(to, rest) {
                        Ok(n) => rest = rest.get(n..).unwrap_or(&[]),
                        Err(rustix::io::Errno::INTR) => {}
                        Err(e) => return Err(fail(e)),
                    }
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(fail(e)),
        }
    }
    client.answer(&mut |_| Ok(()))?;
    Ok(())
}
