//! How often somebody may ask: one token bucket for each user and each address.
//!
//! A bucket is one number, the moment at which it will be full again (the "generic cell rate algorithm",
//! ITU-T I.371, annex A). A full bucket need not be remembered, so the table holds only who is busy.

use std::hash::{BuildHasher, Hash};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use foldhash::fast::RandomState;
use foldhash::{HashMap, HashMapExt as _};
use tidings_protocol::Problem;

const SHARDS: usize = 32;

/// The buckets of all users, or of all addresses.
#[derive(Debug)]
pub(super) struct Rates<K> {
    /// The setting's name, for whoever meets it.
    setting: &'static str,
    /// Between two requests, in nanoseconds; 0: no limit.
    interval_ns: u64,
    /// How far ahead of the average one may be, in nanoseconds.
    ahead_ns: u64,
    keys_per_shard_max: usize,
    began: Instant,
    /// Seeded by chance, and the tables are bounded: whoever chooses addresses cannot aim at one place in them.
    hasher: RandomState,
    shards: Vec<Mutex<Shard<K>>>,
}

#[derive(Debug)]
struct Shard<K> {
    full_at: HashMap<K, u64>,
    /// Shared by those for whom there is no room.
    others_full_at: u64,
}

impl<K: Eq + Hash + Clone> Rates<K> {
    /// So many a second on average, so many at once.
    pub(super) fn new(setting: &'static str, per_s: u32, burst: u32, keys_max: usize) -> Rates<K> {
        let interval_ns = 1_000_000_000_u64.checked_div(u64::from(per_s)).unwrap_or(0);
        let shard = || {
            Mutex::new(Shard {
                full_at: HashMap::new(),
                others_full_at: 0,
            })
        };
        Rates {
            setting,
            interval_ns,
            ahead_ns: interval_ns.saturating_mul(u64::from(burst.max(1) - 1)),
            keys_per_shard_max: keys_max.div_ceil(SHARDS),
            began: Instant::now(),
            hasher: RandomState::default(),
            shards: (0..SHARDS).map(|_| shard()).collect(),
        }
    }

    /// Counts one request.
    ///
    /// # Errors
    /// `rate_limited` when it is one too many: it was not counted.
    pub(super) fn charge(&self, key: &K) -> Result<(), Problem> {
        self.charge_at(key, Instant::now())
    }

    fn charge_at(&self, key: &K, now: Instant) -> Result<(), Problem> {
        if self.interval_ns == 0 {
            return Ok(());
        }
        let now = u64::try_from(now.duration_since(self.began).as_nanos()).unwrap_or(u64::MAX);
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        let mut shard = self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let full_at = shard.bucket(key, now, self.keys_per_shard_max);
        let ahead = full_at.saturating_sub(now);
        if ahead > self.ahead_ns {
            let wait_ms = (ahead - self.ahead_ns).div_ceil(1_000_000);
            return Err(Problem::rate_limited(self.setting, wait_ms));
        }
        *full_at = now.max(*full_at).saturating_add(self.interval_ns);
        Ok(())
    }
}

impl<K: Eq + Hash + Clone> Shard<K> {
    fn bucket(&mut self, key: &K, now: u64, keys_max: usize) -> &mut u64 {
        if self.full_at.len() >= keys_max && !self.full_at.contains_key(key) {
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= keys_max {
                return &mut self.others_full_at;
            }
        }
        self.full_at.entry(key.clone()).or_insert(0)
    }
}

/// The part of an address that is one customer's: an IPv6 network of 64 bits, or the IPv4 address.
pub(super) fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn passes(rates: &Rates<u8>, key: u8, at_ms: u64) -> bool {
        rates
            .charge_at(&key, rates.began + Duration::from_millis(at_ms))
            .is_ok()
    }

    #[test]
    fn a_burst_passes_then_the_average() {
        let rates = Rates::new("x", 10, 3, 1_000);
        assert!((0..3).all(|_| passes(&rates, 1, 0)));
        let problem = rates.charge_at(&1, rates.began).unwrap_err();
        assert_eq!(problem.retry_after_ms, Some(100));
        assert_eq!(problem.limit.as_deref(), Some("x"));
        assert!(passes(&rates, 2, 0), "somebody else");
        assert!(!passes(&rates, 1, 99));
        assert!(passes(&rates, 1, 100));
        assert!(!passes(&rates, 1, 100));
        assert!((0..3).all(|_| passes(&rates, 1, 1_000)));
        assert!(!passes(&rates, 1, 1_000));
    }

    #[test]
    fn without_room_the_others_share_one_bucket() {
        let rates: Rates<u64> = Rates::new("x", 1, 1, SHARDS);
        let now = rates.began;
        let passed = (0..10_000)
            .filter(|key| rates.charge_at(key, now).is_ok())
            .count();
        assert!(passed <= 2 * SHARDS, "{passed}");
        let held: usize = rates
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap().full_at.len())
            .sum();
        assert!(held <= SHARDS);
        assert!(
            rates
                .charge_at(&77_777, now + Duration::from_secs(2))
                .is_ok(),
            "room again"
        );
    }

    #[test]
    fn no_limit_is_none() {
        let rates = Rates::new("x", 0, 0, 0);
        assert!((0..1_000).all(|_| passes(&rates, 1, 0)));
    }

    #[test]
    fn an_ipv6_network_is_one_customer() {
        let one = customer("2001:db8:1:2:3::1".parse().unwrap());
        assert_eq!(one, customer("2001:db8:1:2:ffff::9".parse().unwrap()));
        assert_ne!(one, customer("2001:db8:1:3::1".parse().unwrap()));
        assert_eq!(
            customer("::ffff:10.0.0.1".parse().unwrap()),
            customer("10.0.0.1".parse().unwrap())
        );
    }
}
