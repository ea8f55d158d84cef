//! Points in time and spans of it, in whole milliseconds.

/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds ignored (as POSIX does).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The largest time that the wire can carry (53 bits).
    pub const MAX: Time = Time((1 << 53) - 1);

    /// This time moved forward by `millis`; stays at the maximum rather than overflow.
    #[must_use]
    pub fn plus_millis(self, millis: u64) -> Time {
        Time(self.0.saturating_add(millis).min(Time::MAX.0))
    }

    /// Milliseconds from `earlier` to this time, 0 if `earlier` is later.
    #[must_use]
    pub fn millis_since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Milliseconds in a day.
pub const DAY_MILLIS: u64 = 24 * 60 * 60 * 1000;
