//! Pauses between the rounds of a lane, exact to some tens of microseconds. The runtime's own timer counts whole
//! milliseconds and rounds up: a pause of one would be of one to two, longer than all else that a message waits for.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What is shorter is not waited for.
const SHORTEST: Duration = Duration::from_micros(50);

/// What a lane pauses with.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Made at the first pause.
    #[cfg(target_os = "linux")]
    timer: Option<exact::Timer>,
}

impl Pace {
    /// Waits until a moment that is near. Where the system has no exact timers for us, or no more of them, that is
    /// the runtime's next tick.
    pub(super) async fn until(&mut self, at: Instant) {
        // Looked at once: it may be over by the time of a second look.
        let rest = at.saturating_duration_since(Instant::now());
        if rest < SHORTEST {
            return;
        }
        #[cfg(target_os = "linux")]
        match self.wait(rest).await {
            Ok(()) => return,
            Err(error) => tracing::debug!(%error, "a lane pauses without an exact timer"),
        }
        sleep_until(at).await;
    }

    #[cfg(target_os = "linux")]
    async fn wait(&mut self, rest: Duration) -> std::io::Result<()> {
        let timer = match &mut self.timer {
            Some(timer) => timer,
            none => none.insert(exact::Timer::new()?),
        };
        timer.wait(rest).await
    }
}

/// `timerfd_create(2)`, watched by the runtime as it watches sockets.
#[cfg(target_os = "linux")]
mod exact {
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    #[derive(Debug)]
    pub(super) struct Timer(AsyncFd<OwnedFd>);

    impl Timer {
        #[expect(
            deprecated,
            reason = "its successor is unsafe, for types that may swap their descriptor: an OwnedFd does not"
        )]
        pub(super) fn new() -> io::Result<Timer> {
            let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
            let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            AsyncFd::with_interest(fd, Interest::READABLE).map(Timer)
        }

        /// Waits for a time.
        pub(super) async fn wait(&self, time: Duration) -> io::Result<()> {
            // To the system zero means never.
            if time.is_zero() {
                return Ok(());
            }
            let once = Itimerspec {
                it_interval: Timespec::default(),
                it_value: Timespec::try_from(time).map_err(io::Error::other)?,
            };
            timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
            loop {
                let mut expired = self.0.readable().await?;
                // How often it expired. It would block if what was seen was the time before.
                let mut times = [0; 8];
                let read = expired.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut times)?));
                if let Ok(read) = read {
                    return read.map(|_| ());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn no_pause_ends_early_and_one_timer_serves_for_many() {
        let mut pace = Pace::default();
        for micros in [0, 200, 1_000, 3_000, 0, 700] {
            let until = Instant::now() + Duration::from_micros(micros);
            pace.until(until).await;
            let early = until.saturating_duration_since(Instant::now());
            assert!(early < SHORTEST, "{micros} µs: {early:?} too early");
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn no_time_at_all_ends_at_once() {
        let timer = exact::Timer::new().unwrap();
        for time in [0, 1, 0] {
            let waiting = timer.wait(Duration::from_nanos(time));
            let ended = tokio::time::timeout(Duration::from_secs(60), waiting).await;
            ended.expect("it ends").unwrap();
        }
    }

    #[tokio::test]
    async fn a_pause_that_was_given_up_does_not_shorten_the_next() {
        let mut pace = Pace::default();
        let soon = Instant::now() + Duration::from_millis(20);
        let _given_up = pace.until(soon).now_or_never();
        std::thread::sleep(Duration::from_millis(30));
        let until = Instant::now() + Duration::from_millis(5);
        pace.until(until).await;
        assert!(until.saturating_duration_since(Instant::now()) < SHORTEST);
    }
}
