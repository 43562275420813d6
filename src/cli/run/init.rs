//! --init: a small process 1 that passes signals on and reaps orphans. The program is its child, so
//! that signals it does not handle end it, as they would outside.

use super::signals;
use std::io;

/// Returns in the child. The parent stays here until the child ends, then ends with its code.
pub fn stay_if_parent() -> io::Result<()> {
    let all = signals::all();
    let mut old = signals::empty();
    // SAFETY: both point to live sets.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &all, &mut old) };
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    match child {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            // SAFETY: points to a live set that the kernel filled.
            unsafe { libc::sigprocmask(libc::SIG_SETMASK, &old, std::ptr::null_mut()) };
            Ok(())
        }
        child => {
            // Descriptors that would close at execution are ours to close: the command waits for that.
            // SAFETY: nothing in this process uses them any more.
            unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0) };
            serve(child, &all)
        }
    }
}

fn serve(child: libc::pid_t, all: &libc::sigset_t) -> ! {
    loop {
        // SAFETY: zero bytes are a valid siginfo_t; the call fills it.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: both point to live variables.
        let signal = unsafe { libc::sigwaitinfo(all, &mut info) };
        if signal == libc::SIGCHLD {
            while let Some((pid, code)) = reap() {
                if pid == child {
                    std::process::exit(code);
                }
            }
        } else if signal > 0 && info.si_code != signals::FROM_KERNEL {
            // What the terminal sends reaches the child by itself: it is in the same group.
            // SAFETY: the child is not reaped yet, so the number is still its own.
            unsafe { libc::kill(child, signal) };
        }
    }
}

/// One child that ended, if any: its number and exit code.
fn reap() -> Option<(libc::pid_t, i32)> {
    let mut status = 0;
    // SAFETY: points to a live integer.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    (pid > 0).then(|| {
        let code = if libc::WIFEXITED(status) {
            libc::WEXITSTATUS(status)
        } else {
            128 + libc::WTERMSIG(status)
        };
        (pid, code)
    })
}
