//! Work of seconds' worth of rows at once gives way: it is done a little at a time, over the time that there is for it.
//!
//! A lower priority is not enough. Where all processors are busy, a thread that is at work keeps its processor for
//! some milliseconds before one of a higher priority has it, and every commit and every session would stand behind
//! that, again and again, for as long as the work takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// So much is done between two looks at the clock; about as many microseconds.
const LOOK_AFTER: usize = 32;
/// Pauses are at least so long: after each one the processor's caches have to be filled again.
const PAUSE_MIN: Duration = Duration::from_millis(4);
/// And at most so long, to be there when there is hurry.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// Whether somebody waits for the work to be done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hurry(Arc<AtomicBool>);

impl Hurry {
    pub(crate) fn set(&self, hurry: bool) {
        self.0.store(hurry, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The pace of some work, which is counted in rows.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Nothing: there are no pauses.
    plan: Option<Plan>,
    done: usize,
    looked: usize,
}

#[derive(Debug)]
struct Plan {
    hurry: Hurry,
    begun: Instant,
    /// What there is to do, and the time for it.
    total: usize,
    time: Duration,
}

impl Pace {
    /// `total` rows are done over so much time, unless there is hurry.
    pub(crate) fn over(time: Duration, total: usize, hurry: &Hurry) -> Pace {
        Pace {
            plan: Some(Plan {
                hurry: hurry.clone(),
                begun: Instant::now(),
                total: total.max(1),
                time,
            }),
            done: 0,
            looked: 0,
        }
    }

    /// Everything at once.
    pub(crate) fn full() -> Pace {
        Pace {
            plan: None,
            done: 0,
            looked: 0,
        }
    }

    /// So many rows more have been done: pauses, if that is more than should be by now.
    pub(crate) fn step(&mut self, rows: usize) {
        self.done += rows;
        let Some(plan) = &self.plan else {
            return;
        };
        if self.done - self.looked < LOOK_AFTER {
            return;
        }
        self.looked = self.done;
        if !plan.hurry.is_set() {
            let pause = plan.due(self.done).saturating_sub(plan.begun.elapsed());
            if pause >= PAUSE_MIN {
                std::thread::sleep(pause.min(PAUSE_MAX));
            }
        }
    }
}

impl Plan {
    /// When so much is to be done, from the beginning on.
    fn due(&self, done: usize) -> Duration {
        self.time.mul_f64(done as f64 / self.total as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_the_time_that_there_is_unless_somebody_waits() {
        let hurry = Hurry::default();
        let work = |mut pace: Pace| {
            let begun = Instant::now();
            (0..100).for_each(|_| pace.step(10));
            begun.elapsed()
        };
        let time = Duration::from_millis(100);
        let least = time - PAUSE_MIN - time.mul_f64(2.0 * LOOK_AFTER as f64 / 1_000.0);
        assert!(work(Pace::over(time, 1_000, &hurry)) >= least);
        // Whatever else the machine does: an hour would be another thing.
        let hour = Duration::from_secs(3_600);
        hurry.set(true);
        assert!(work(Pace::over(hour, 1_000, &hurry)) < hour / 60);
        assert!(work(Pace::full()) < hour / 60);
    }
}
