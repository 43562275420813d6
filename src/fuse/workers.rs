//! Threads for what takes long: fsync, waiting for the kernel, giving back much space. Shared by all connections of
//! the daemon, started when needed, gone when idle, so that a thread that takes requests is never held up by one.

use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::LazyLock;
use std::time::Duration;

/// Many, because they mostly wait: fsyncs that wait together share one flush.
const MOST: usize = 64;
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

#[derive(Default)]
struct Workers {
    state: Mutex<State>,
    wake: Condvar,
}

static WORKERS: LazyLock<Workers> = LazyLock::new(Workers::default);

/// Does it soon, on another thread. Jobs may overtake each other.
pub(super) fn later(job: impl FnOnce() + Send + 'static) {
    let mut state = WORKERS.state.lock();
    state.jobs.push_back(Box::new(job));
    if state.idle >= state.jobs.len() || state.threads >= MOST {
        WORKERS.wake.notify_one();
        return;
    }
    match std::thread::Builder::new()
        .name("fuse-worker".into())
        .spawn(work)
    {
        Ok(_) => state.threads += 1,
        Err(e) if state.threads > 0 => log::warn!("cannot start another worker thread: {e}"),
        // Nobody else would ever do it.
        Err(e) => {
            log::warn!("cannot start a worker thread: {e}");
            let job = state.jobs.pop_back();
            drop(state);
            if let Some(job) = job {
                job();
            }
        }
    }
}

fn work() {
    let mut state = WORKERS.state.lock();
    loop {
        if let Some(job) = state.jobs.pop_front() {
            drop(state);
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                log::error!("a worker's job panicked; its request was answered with an I/O error");
            }
            state = WORKERS.state.lock();
            continue;
        }
        state.idle += 1;
        let late = WORKERS.wake.wait_for(&mut state, IDLE).timed_out();
        state.idle -= 1;
        if late && state.jobs.is_empty() {
            state.threads -= 1;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn jobs_that_wait_do_not_hold_up_others() {
        let (release, wait) = channel::<()>();
        let (tell, told) = channel();
        let first = tell.clone();
        later(move || {
            wait.recv().unwrap();
            first.send(1).unwrap();
        });
        later(|| panic!("a job that panics takes nobody with it"));
        for n in 2..30 {
            let tell = tell.clone();
            later(move || tell.send(n).unwrap());
        }
        let mut seen: Vec<i32> = (0..28)
            .map(|_| told.recv_timeout(Duration::from_secs(10)).unwrap())
            .collect();
        seen.sort();
        assert_eq!(seen, (2..30).collect::<Vec<_>>());
        release.send(()).unwrap();
        assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(1));
    }
}
