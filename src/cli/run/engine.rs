//! The command's side of a container: makes the process with its namespaces, maps its ids, follows it
//! to its end.

use super::Failure;
use super::chan::{Chan, Message};
use super::idmap::IdMap;
use super::inside::{self, Inside};
use super::signals::{self, Attitude, Change, Signals, Terminal};
use crate::base::{Error, ExitKind};
use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::os::fd::OwnedFd;

/// How a run ended.
pub struct Outcome {
    /// The program's exit code, or 128 and the signal that ended it; or why it never started.
    pub end: Result<u8, Failure>,
    /// The program was executed.
    pub started: bool,
    /// The root directory of its mount: the mount lives until this is closed.
    pub root: Option<OwnedFd>,
}

/// Hands the device of a mount to the daemon; the number is the connection's.
pub type Serve<'a> = &'a mut dyn FnMut(OwnedFd, u32) -> Result<(), Error>;

/// Runs it to its end. This process must have one thread only.
pub fn go(
    inside: &Inside,
    ids: Option<&mut IdMap>,
    serve: Serve<'_>,
    warn: &dyn Fn(&str),
) -> Outcome {
    let mut follow = Follow {
        started: false,
        root: None,
        told: None,
        interrupted: None,
        watched: vec![],
        warn,
    };
    let terminal = Terminal::save();
    let end = follow.run(inside, ids, serve);
    if let Some(t) = &terminal {
        // A group that is not in front may not touch its terminal, unless it ignores what that sends it.
        let blocked = Signals::take();
        t.restore();
        drop(blocked);
    }
    Outcome {
        end,
        started: follow.started,
        root: follow.root,
    }
}

struct Follow<'a> {
    started: bool,
    root: Option<OwnedFd>,
    told: Option<Failure>,
    /// A signal that ended it, by our hand.
    interrupted: Option<i32>,
    /// Signals passed on, of which it is not known yet what the program does about them; and how often
    /// that was looked at.
    watched: Vec<(i32, u32)>,
    warn: &'a dyn Fn(&str),
}

impl Follow<'_> {
    fn run(
        &mut self,
        inside: &Inside,
        ids: Option<&mut IdMap>,
        serve: Serve<'_>,
    ) -> Result<u8, Failure> {
        let own = |what: &'static str| move |e: io::Error| Failure::own(Error::io(what, e));
        let mut signals = Signals::take().map_err(own("cannot take signals"))?;
        let (ours, theirs) = Chan::pair().map_err(own("cannot make a socket"))?;
        let pid = match birth(inside.user_namespace).map_err(refused)? {
            Some(pid) => pid,
            None => {
                drop(ours);
                inside::main(inside, &theirs, &signals.old)
            }
        };
        drop(theirs);
        let result = self.talk(pid, ids, serve, &ours, &mut signals);
        if result.is_err() {
            signals::send(pid, libc::SIGKILL);
            // Only to reap it: why it must end is known.
            let _ = ended(pid);
        }
        result
    }

    fn talk(
        &mut self,
        pid: i32,
        ids: Option<&mut IdMap>,
        serve: Serve<'_>,
        chan: &Chan,
        signals: &mut Signals,
    ) -> Result<u8, Failure> {
        if let Some(ids) = ids {
            ids.enter(pid as u32).map_err(Failure::own)?;
            if let Some(w) = &ids.warning {
                (self.warn)(w);
            }
            self.say(chan, ids.is_single());
        }
        let mut open = true;
        loop {
            let mut fds = vec![PollFd::new(&*signals, PollFlags::IN)];
            if open {
                fds.push(PollFd::new(chan, PollFlags::IN));
            }
            match poll(
                &mut fds,
                if self.watched.is_empty() {
                    None
                } else {
                    Some(&LOOK)
                },
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => {
                    return Err(Failure::own(Error::io(
                        "waiting for the container",
                        e.into(),
                    )));
                }
            }
            let heard = fds.get(1).is_some_and(|f| !f.revents().is_empty());
            drop(fds);
            self.watch(pid);
            if heard {
                open = self.hear(chan, serve)?;
            }
            while let Some(a) = signals
                .next()
                .map_err(|e| Failure::own(Error::io("waiting for signals", e)))?
            {
                if a.signal == libc::SIGCHLD {
                    if let Some(end) = self.child(pid)? {
                        // What it said last may still be unread.
                        while open {
                            open = self.hear(chan, serve)?;
                        }
                        return self.told.take().map_or(Ok(end), Err);
                    }
                } else {
                    // Whether the program runs by now decides what becomes of a signal.
                    while open && readable(chan) {
                        open = self.hear(chan, serve)?;
                    }
                    self.pass_on(pid, a);
                }
            }
        }
    }

    fn say(&self, chan: &Chan, single: bool) {
        // When it is gone already, its end tells more than this failure would.
        let _ = chan.send(&Message::Go { single }, None);
    }

    /// False: it has no more to say.
    fn hear(&mut self, chan: &Chan, serve: Serve<'_>) -> Result<bool, Failure> {
        let heard = chan
            .receive()
            .map_err(|e| Failure::own(Error::io("cannot hear the container", e)))?;
        match heard {
            None => {
                self.started = self.told.is_none() && self.interrupted.is_none();
                return Ok(false);
            }
            Some((Message::Device { connection }, Some(device))) => {
                serve(device, connection).map_err(Failure::own)?;
                self.say(chan, false);
            }
            Some((Message::Root, fd)) => self.root = fd,
            Some((Message::Warning(w), _)) => (self.warn)(&w),
            Some((Message::Failed { code, message }, _)) => {
                let error = Error::Told {
                    message,
                    kind: ExitKind::Failure,
                    errno: libc::EIO,
                };
                self.told = Some(Failure { code, error });
            }
            Some(_) => {}
        }
        Ok(true)
    }

    /// The child changed: its exit code when that was its end.
    fn child(&self, pid: i32) -> Result<Option<u8>, Failure> {
        loop {
            let change = signals::wait(pid, false)
                .map_err(|e| Failure::own(Error::io("waiting for the container", e)))?;
            match change {
                None => return Ok(None),
                // More may have come with the same signal.
                Some(Change::Continued) => {}
                Some(Change::Exited(code)) => return Ok(Some(code)),
                Some(Change::Killed(signal)) => {
                    let signal = self.interrupted.unwrap_or(signal);
                    return Ok(Some(128u8.wrapping_add(signal as u8)));
                }
                // As if the program itself stood here: the shell that started us sees it stop.
                Some(Change::Stopped) => signals::send(std::process::id() as i32, libc::SIGSTOP),
            }
        }
    }

    /// Process 1 of a namespace survives what it does nothing about; here it ends of it, as it would
    /// outside. What it blocks is looked at again: taken in its own way, or let go by later.
    fn watch(&mut self, pid: i32) {
        let mut ends = None;
        self.watched
            .retain_mut(|(signal, looks)| match signals::attitude(pid, *signal) {
                Attitude::Handles => false,
                Attitude::Blocks { pending } => {
                    *looks += 1;
                    // Not the very first time: it may be on its way there.
                    (pending || *looks < 3) && *looks < LOOKS
                }
                Attitude::Default => {
                    ends = Some(*signal);
                    false
                }
            });
        if let Some(signal) = ends {
            self.end_of(pid, signal);
        }
    }

    /// Ends it as this signal would have.
    fn end_of(&mut self, pid: i32, signal: i32) {
        self.interrupted = Some(signal);
        signals::send(pid, libc::SIGKILL);
    }

    fn pass_on(&mut self, pid: i32, a: signals::Arrived) {
        match a.signal {
            signal if !self.started && ends_by_default(signal) => self.end_of(pid, signal),
            // Process 1 of a namespace never stops by default; the user means all of us.
            libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU
                if signals::attitude(pid, a.signal) == Attitude::Default =>
            {
                signals::send(pid, libc::SIGSTOP);
            }
            // What the kernel tells of us alone.
            libc::SIGSEGV
            | libc::SIGBUS
            | libc::SIGFPE
            | libc::SIGILL
            | libc::SIGTRAP
            | libc::SIGSYS
            | libc::SIGPIPE => {}
            libc::SIGALRM | libc::SIGVTALRM | libc::SIGPROF | libc::SIGXCPU | libc::SIGXFSZ
                if a.from_kernel => {}
            signal if self.started && ends_by_default(signal) => {
                // Asked before it is sent: a handler may change what it does from then on.
                let before = signals::attitude(pid, signal);
                if before == Attitude::Default {
                    self.end_of(pid, signal);
                    return;
                }
                if !a.from_kernel {
                    signals::send(pid, signal);
                }
                if before != Attitude::Handles {
                    self.watched.push((signal, 0));
                }
            }
            // The terminal sent it to the whole group, the program among it.
            _ if a.from_kernel && a.signal != libc::SIGCONT => {}
            signal => signals::send(pid, signal),
        }
    }
}

fn readable(chan: &Chan) -> bool {
    let now = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    matches!(
        poll(&mut [PollFd::new(chan, PollFlags::IN)], Some(&now)),
        Ok(1..)
    )
}

/// How often, and at what distance, a signal that is blocked is looked at again.
const LOOKS: u32 = 100;
const LOOK: rustix::event::Timespec = rustix::event::Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};

/// Signals that others send, and that end a process which does nothing about them.
fn ends_by_default(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGHUP
            | libc::SIGINT
            | libc::SIGQUIT
            | libc::SIGTERM
            | libc::SIGUSR1
            | libc::SIGUSR2
            | libc::SIGALRM
            | libc::SIGVTALRM
            | libc::SIGPROF
            | libc::SIGIO
            | libc::SIGPWR
    ) || signal >= libc::SIGRTMIN()
}

fn ended(pid: i32) -> io::Result<()> {
    loop {
        match signals::wait(pid, true)? {
            Some(Change::Exited(_) | Change::Killed(_)) => return Ok(()),
            _ => continue,
        }
    }
}

/// A new process in new namespaces. `None` in the child.
fn birth(user_namespace: bool) -> io::Result<Option<i32>> {
    let mut flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::SIGCHLD;
    if user_namespace {
        flags |= libc::CLONE_NEWUSER;
    }
    // SAFETY: no new stack, no shared memory: as fork(2). This process has one thread, so the child's
    // copy of its memory is whole. All other arguments are null (their order differs by machine).
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            flags as libc::c_ulong,
            0usize,
            0usize,
            0usize,
            0usize,
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid as i32)),
    }
}

fn refused(e: io::Error) -> Failure {
    Failure::own(match e.raw_os_error() {
        Some(libc::EPERM | libc::EACCES | libc::ENOSPC | libc::EUSERS) => Error::Denied(format!(
            "namespaces are refused here ({e}); 'cowfs doctor' says why and what to do"
        )),
        _ => Error::io("cannot make namespaces", e),
    })
}
