//! Imports, watched: a client that goes away stops and undoes its own.

use super::proto::{Raw, Response};
use super::session::Talk;
use super::state::State;
use super::volumes;
use crate::base::{Error, Result};
use crate::image::{self, ImportOptions, Source, Step};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

pub(super) fn import(
    talk: &Talk<'_>,
    source: &Raw,
    name: Option<&str>,
    fd: OwnedFd,
) -> Result<Response> {
    let state = talk.state;
    let _counted = Counted::new(state);
    let watch = Watch {
        talk,
        what: Mutex::new("importing".into()),
        stop: AtomicBool::new(false),
    };
    let options = ImportOptions {
        name: name.map(str::to_owned),
        ..ImportOptions::default()
    };
    let display = source.to_string();
    let stat = rustix::fs::fstat(&fd).map_err(|e| Error::io("the import's source", e.into()))?;
    let imported = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => {
            image::import(&state.pool, Source::from_fd(fd, display), &options, &watch)
        }
        // A pipe may say nothing for long, and end because its writer died. A thread stands between,
        // which hears of the client's end first.
        _ => std::thread::scope(|threads| {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)
                .map_err(|e| Error::io("the import's source", e.into()))?;
            let _ = rustix::pipe::fcntl_setpipe_size(&write, 1 << 20);
            threads.spawn(|| relay(&watch, fd, write));
            let imported = image::import(
                &state.pool,
                Source::from_fd(read, display),
                &options,
                &watch,
            );
            watch.stop.store(true, Ordering::SeqCst);
            imported
        }),
    };
    talk.alive()?;
    let imported = imported?;
    log::info!(
        "imported {} ({} layers, {} new)",
        imported.image.name,
        imported.layers,
        imported.new_layers
    );
    Ok(Response::Name(imported.image.name))
}

/// Imports under way; their layers have no image yet.
struct Counted<'a>(&'a State);

impl Counted<'_> {
    fn new(state: &State) -> Counted<'_> {
        let _alone = state.naming.lock();
        state.imports.fetch_add(1, Ordering::SeqCst);
        Counted(state)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let _alone = self.0.naming.lock();
        if self.0.imports.fetch_sub(1, Ordering::SeqCst) == 1
            && let Err(e) = volumes::drop_layers(self.0)
        {
            log::warn!("layers that nobody needs are still there: {e}");
        }
    }
}

struct Watch<'a, 'b> {
    talk: &'a Talk<'b>,
    what: Mutex<String>,
    stop: AtomicBool,
}

impl image::Progress for Watch<'_, '_> {
    fn step(&self, step: &Step<'_>) {
        let what = match step {
            Step::Spooling => "reading".to_owned(),
            Step::Layer { number, of, .. } => format!("layer {number} of {of}"),
            Step::Present { number, of, .. } => format!("layer {number} of {of} is there"),
            Step::Finishing => "finishing".to_owned(),
        };
        *self.what.lock() = what;
    }

    fn read(&self, bytes: u64, total: Option<u64>) {
        let what = self.what.lock().clone();
        if self.talk.progress(&what, bytes, total, true).is_err() {
            self.stop.store(true, Ordering::SeqCst);
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst) || {
            let gone = self.talk.alive().is_err();
            if gone {
                self.stop.store(true, Ordering::SeqCst);
            }
            gone
        }
    }
}

/// From the client's descriptor into our pipe, until it ends, or the client does, or the import.
fn relay(watch: &Watch<'_, '_>, from: OwnedFd, to: OwnedFd) {
    let mut spliced = true;
    let mut buf = vec![0; 64 << 10];
    loop {
        let limit = Timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        if watch.stop.load(Ordering::SeqCst) {
            return;
        }
        match poll(&mut [PollFd::new(&from, PollFlags::IN)], Some(&limit)) {
            Ok(0) | Err(Errno::INTR) => {
                if watch.talk.alive().is_err() {
                    watch.stop.store(true, Ordering::SeqCst);
                    return;
                }
                continue;
            }
            _ => {}
        }
        let moved = if spliced {
            match splice(&from, None, &to, None, 1 << 20, SpliceFlags::empty()) {
                Err(Errno::INVAL | Errno::NOSYS) => {
                    spliced = false;
                    continue;
                }
                r => r,
            }
        } else {
            rustix::io::read(&from, &mut buf).and_then(|n| all(&to, buf.get(..n).unwrap_or(&[])))
        };
        match moved {
            Ok(0) => {
                // The end: of the archive, or of the one who wrote it together with the client?
                if watch.talk.alive().is_err() {
                    watch.stop.store(true, Ordering::SeqCst);
                }
                return;
            }
            Ok(_) | Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return,
        }
    }
}

fn all(to: &OwnedFd, bytes: &[u8]) -> rustix::io::Result<usize> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(n) => rest = rest.get(n..).unwrap_or(&[]),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(bytes.len())
}
