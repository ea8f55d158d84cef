//! Slowing down who guesses: so many failures at once, then one per interval (GCRA, the algorithm of
//! ATM's cells: one number per key, the time at which all its failures will be forgotten).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidings_core::Time;
use tidings_protocol::Problem;

/// The failures of each key.
#[derive(Debug)]
pub(super) struct Guesses<K> {
    /// Named in the refusal.
    limit: &'static str,
    burst: u64,
    interval_ms: u64,
    keys_max: usize,
    /// When the failures of a key are forgotten.
    until: Mutex<HashMap<K, Time>>,
}

impl<K: Clone + Eq + Hash> Guesses<K> {
    pub(super) fn new(
        limit: &'static str,
        burst: u64,
        interval_ms: u64,
        keys_max: usize,
    ) -> Guesses<K> {
        Guesses {
            limit,
            burst: burst.max(1),
            interval_ms,
            keys_max: keys_max.max(4),
            until: Mutex::default(),
        }
    }

    /// Counts a try, before it is made: of a hundred at the same moment none slips through.
    pub(super) fn charge(&self, key: &K, now: Time) -> Result<(), Problem> {
        if self.interval_ms == 0 {
            return Ok(());
        }
        let mut until = self.lock();
        let from = until.get(key).copied().unwrap_or(now).max(now);
        let room = self.interval_ms.saturating_mul(self.burst - 1);
        let ahead = from.millis_since(now);
        if ahead > room {
            return Err(Problem::rate_limited(self.limit, ahead - room));
        }
        if until.len() >= self.keys_max && !until.contains_key(key) {
            make_room(&mut until, self.keys_max, now);
        }
        until.insert(key.clone(), from.plus_millis(self.interval_ms));
        Ok(())
    }

    /// The try was none: takes it back.
    pub(super) fn refund(&self, key: &K) {
        if let Some(until) = self.lock().get_mut(key) {
            until.0 = until.0.saturating_sub(self.interval_ms);
        }
    }

    /// Forgets the failures of a key.
    pub(super) fn forget(&self, key: &K) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Time>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what is forgotten by now, and if that is little, the quarter with the fewest failures: a flood of
/// new keys does not wash away those that are under attack.
fn make_room<K: Eq + Hash>(until: &mut HashMap<K, Time>, keys_max: usize, now: Time) {
    until.retain(|_, until| *until > now);
    if until.len() < keys_max / 4 * 3 {
        return;
    }
    let mut times: Vec<Time> = until.values().copied().collect();
    let quarter = times.len() / 4;
    let (_, &mut bound, _) = times.select_nth_unstable(quarter);
    let mut dropped = 0;
    until.retain(|_, until| {
        let drop = *until <= bound && dropped <= quarter;
        dropped += usize::from(drop);
        !drop
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_per_interval() {
        let guesses = Guesses::new("burst_max", 3, 1_000, 100);
        let now = Time(1_000_000);
        for _ in 0..3 {
            assert_eq!(guesses.charge(&"ada", now), Ok(()));
        }
        assert_eq!(
            guesses.charge(&"ada", now),
            Err(Problem::rate_limited("burst_max", 1_000))
        );
        assert_eq!(guesses.charge(&"bob", now), Ok(()), "others are free");
        let later = now.plus_millis(1_000);
        assert_eq!(guesses.charge(&"ada", later), Ok(()));
        assert!(guesses.charge(&"ada", later).is_err());
        guesses.refund(&"ada");
        assert_eq!(guesses.charge(&"ada", later), Ok(()));
        guesses.forget(&"ada");
        assert_eq!(guesses.charge(&"ada", later), Ok(()));
    }

    #[test]
    fn a_flood_of_keys_is_bounded_and_washes_nobody_away() {
        let guesses = Guesses::new("burst_max", 3, 1_000, 100);
        let now = Time(1_000_000);
        for _ in 0..3 {
            guesses.charge(&0, now).unwrap();
        }
        for key in 1..10_000 {
            guesses.charge(&key, now).unwrap();
            assert!(guesses.lock().len() <= 100);
        }
        assert!(guesses.charge(&0, now).is_err());
    }
}
