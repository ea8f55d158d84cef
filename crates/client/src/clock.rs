//! Time as the client reckons it: the device's clock may be wrong and may jump, the reckoning never
//! goes back.

use tidings_core::Time;

/// Milliseconds since the client was made. Never goes back.
pub(crate) type Tick = u64;

/// A step forward by more is no time that passed on a connection: heartbeats are at most an hour apart. The device's
/// clock was set, or it slept, and then the next connection tells the server's time.
const STEP_MS_MAX: u64 = 2 * 3_600_000;

#[derive(Debug)]
pub(crate) struct Clock {
    wall: Time,
    tick: Tick,
    /// The server's time at some tick.
    server: Option<(Time, Tick)>,
}

impl Clock {
    pub(crate) fn new(now: Time) -> Clock {
        Clock {
            wall: now,
            tick: 0,
            server: None,
        }
    }

    /// Takes note of the device's time. A jump back counts as no time at all; one forward only makes
    /// waits end early, and tells nothing of the server's time.
    pub(crate) fn advance(&mut self, now: Time) {
        let step = now.millis_since(self.wall);
        self.tick = self.tick.saturating_add(step);
        self.wall = now;
        if let Some((_, tick)) = self.server.as_mut().filter(|_| step > STEP_MS_MAX) {
            *tick = tick.saturating_add(step);
        }
    }

    pub(crate) fn tick(&self) -> Tick {
        self.tick
    }

    /// The device's own time.
    pub(crate) fn wall(&self) -> Time {
        self.wall
    }

    /// When the device's clock will show a tick, if it does not jump.
    pub(crate) fn wall_at(&self, tick: Tick) -> Time {
        self.wall.plus_millis(tick.saturating_sub(self.tick))
    }

    pub(crate) fn set_server(&mut self, at: Time) {
        self.server = Some((at, self.tick));
    }

    /// The server has lived to see this time.
    pub(crate) fn server_is_past(&mut self, at: Time) {
        if self.server.is_some() && at > self.server_now() {
            self.set_server(at);
        }
    }

    /// The server's time, as far as it can be told; the device's own before the first `welcome`.
    pub(crate) fn server_now(&self) -> Time {
        match self.server {
            Some((at, tick)) => at.plus_millis(self.tick.saturating_sub(tick)),
            None => self.wall,
        }
    }

    /// The tick at which the server's clock will show `at`.
    pub(crate) fn tick_of_server(&self, at: Time) -> Tick {
        self.tick.saturating_add(at.millis_since(self.server_now()))
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough for waits and client ids.
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn ten_bytes(&mut self) -> [u8; 10] {
        let (high, low) = (self.next().to_be_bytes(), self.next().to_be_bytes());
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&high);
        bytes[8..].copy_from_slice(&low[..2]);
        bytes
    }

    /// The wait before try number `failures` + 1: doubled with each failure up to a bound, and anywhere
    /// in its second half, so that not all come back at once.
    pub(crate) fn back_off(&mut self, failures: u32, first_ms: u64, max_ms: u64) -> u64 {
        let full = first_ms
            .saturating_mul(1 << failures.min(20))
            .min(max_ms)
            .max(2);
        full / 2 + self.next() % (full / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_back_does_not_lengthen_waits() {
        let mut clock = Clock::new(Time(1_000));
        clock.advance(Time(1_500));
        clock.advance(Time(200));
        assert_eq!((clock.tick(), clock.wall_at(600)), (500, Time(300)));
        clock.advance(Time(300));
        assert_eq!(clock.tick(), 600);
    }

    #[test]
    fn the_servers_time_does_not_jump_with_the_devices() {
        // A device without a battery for its clock is set once it has a connection.
        let mut clock = Clock::new(Time(5_000));
        let now = Time(1_795_262_400_000);
        clock.set_server(now);
        clock.advance(Time(6_000));
        assert_eq!(clock.server_now(), now.plus_millis(1_000));
        clock.advance(Time(1_795_262_401_000));
        assert_eq!(clock.server_now(), now.plus_millis(1_000));
        clock.advance(Time(1_795_262_402_000));
        assert_eq!(clock.server_now(), now.plus_millis(2_000));
    }

    #[test]
    fn waits_double_up_to_the_bound() {
        let mut random = Random(7);
        for (failures, low, high) in [(0, 250, 500), (1, 500, 1_000), (30, 15_000, 30_000)] {
            let wait = random.back_off(failures, 500, 30_000);
            assert!((low..high).contains(&wait), "{failures}: {wait}");
        }
    }
}
