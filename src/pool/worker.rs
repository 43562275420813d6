//! The pool's background thread: checkpoints, removals, reclaiming.

use super::Pool;
use crate::base::Error;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Steps of the reclaimer between looks at the clock.
const STEPS: usize = 256;
/// Dirty nodes that call for a checkpoint before its time.
const DIRTY_SOON: usize = 2048;

impl Pool {
    pub(super) fn start_worker(self: &Arc<Pool>) {
        if self.config.interval.is_zero() {
            return;
        }
        let pool = Arc::downgrade(self);
        let interval = self.config.interval;
        match std::thread::Builder::new()
            .name("cowfs-pool".into())
            .spawn(move || work(&pool, interval))
        {
            Ok(handle) => *self.worker.lock() = Some(handle),
            Err(e) => log::error!("starting the pool's background thread: {e}"),
        }
    }

    /// Asks the background thread to look around.
    pub(super) fn wake(&self) {
        *self.waker.0.lock() = true;
        self.waker.1.notify_one();
    }

    /// Waits for a call or the time; false when the pool is being closed.
    fn wait(&self, time: Duration) {
        let mut called = self.waker.0.lock();
        if !*called {
            self.waker.1.wait_for(&mut called, time);
        }
        *called = false;
    }

    fn needs_checkpoint(&self) -> bool {
        self.log.used() > self.log.size() / 2 || self.nodes.dirty() > DIRTY_SOON
    }
}

fn work(pool: &Weak<Pool>, interval: Duration) {
    let mut last = Instant::now();
    let mut more = true;
    loop {
        let Some(pool) = pool.upgrade() else { return };
        if pool.closing() {
            return;
        }
        let mut work = || -> Result<(), Error> {
            if last.elapsed() >= interval || pool.needs_checkpoint() {
                pool.checkpoint()?;
                last = Instant::now();
            }
            more = pool.reclaim_settled(STEPS)?;
            Ok(())
        };
        if let Err(e) = work() {
            more = false;
            log::error!("background work of the pool: {e}");
        }
        // The pool must be able to go while we sleep: a short sleep, then look again.
        let pause = if more {
            Duration::from_millis(2)
        } else {
            interval
                .saturating_sub(last.elapsed())
                .min(Duration::from_secs(1))
        };
        pool.wait(pause.max(Duration::from_millis(1)));
    }
}
