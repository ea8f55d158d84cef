//! A bounded cache that never keeps what is no longer so.
//!
//! Whoever changed something calls [`Cache::forget`] after the store has it. Whoever reads notes how many
//! changes there were before it asks the store, and what it read is kept only if there were none since:
//! a slow reader cannot bring an old value back.

use std::future::Future;
use std::hash::{BuildHasher, Hash};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use foldhash::{HashMap, HashMapExt as _};

const SHARDS: usize = 16;

/// Values by key. Those not used for the longest time go first, roughly: each shard keeps a young and an
/// old half; what is used moves to the young one, and when that is full it becomes the old one.
#[derive(Debug)]
pub(super) struct Cache<K, V> {
    shards: Vec<Mutex<Shard<K, V>>>,
    hasher: RandomState,
    half_max: usize,
}

#[derive(Debug)]
struct Shard<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    changes: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> Cache<K, V> {
    pub(super) fn new(max: usize) -> Cache<K, V> {
        let shard = || {
            Mutex::new(Shard {
                young: HashMap::new(),
                old: HashMap::new(),
                changes: 0,
            })
        };
        Cache {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::default(),
            half_max: (max / SHARDS / 2).max(1),
        }
    }

    /// The value of a key, from the cache or else from `load`, which may find none.
    pub(super) async fn get_or_load<E>(
        &self,
        key: &K,
        load: impl Future<Output = Result<Option<V>, E>>,
    ) -> Result<Option<V>, E> {
        let changes = {
            let mut shard = self.shard(key);
            if let Some(value) = shard.get(key, self.half_max) {
                return Ok(Some(value));
            }
            shard.changes
        };
        let loaded = load.await?;
        if let Some(value) = &loaded {
            let mut shard = self.shard(key);
            if shard.changes == changes {
                shard.insert(key.clone(), value.clone(), self.half_max);
            }
        }
        Ok(loaded)
    }

    /// The store has another value now.
    pub(super) fn forget(&self, key: &K) {
        let mut shard = self.shard(key);
        shard.changes += 1;
        shard.young.remove(key);
        shard.old.remove(key);
    }

    /// The store has this value now. Only for who holds the lock under which the key is changed.
    pub(super) fn replace(&self, key: &K, value: V) {
        let mut shard = self.shard(key);
        shard.changes += 1;
        shard.old.remove(key);
        shard.insert(key.clone(), value, self.half_max);
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K, V>> {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Shard<K, V> {
    fn get(&mut self, key: &K, half_max: usize) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value.clone(), half_max);
        Some(value)
    }

    fn insert(&mut self, key: K, value: V, half_max: usize) {
        if self.young.len() >= half_max {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(value: Option<u32>) -> impl Future<Output = Result<Option<u32>, ()>> {
        std::future::ready(Ok(value))
    }

    #[tokio::test]
    async fn keeps_what_is_used_within_its_bound() {
        let cache: Cache<u32, u32> = Cache::new(64);
        for key in 0..1_000 {
            assert_eq!(
                cache.get_or_load(&key, load(Some(key))).await,
                Ok(Some(key))
            );
            // The first is used all the time.
            assert_eq!(cache.get_or_load(&0, load(Some(0))).await, Ok(Some(0)));
        }
        assert_eq!(
            cache.get_or_load(&0, load(Some(9))).await,
            Ok(Some(0)),
            "kept"
        );
        let kept: usize = cache
            .shards
            .iter()
            .map(|shard| shard.lock().unwrap())
            .map(|shard| shard.young.len() + shard.old.len())
            .sum();
        assert!(kept <= 64, "{kept}");
    }

    #[tokio::test]
    async fn a_slow_reader_does_not_bring_an_old_value_back() {
        let cache: Cache<u32, u32> = Cache::new(64);
        let slow = async {
            // While this value was on its way another one was written.
            cache.forget(&1);
            Ok::<_, ()>(Some(1))
        };
        assert_eq!(cache.get_or_load(&1, slow).await, Ok(Some(1)));
        assert_eq!(cache.get_or_load(&1, load(Some(2))).await, Ok(Some(2)));
        assert_eq!(cache.get_or_load(&1, load(Some(3))).await, Ok(Some(2)));
        assert_eq!(cache.get_or_load(&2, load(None)).await, Ok(None));
        cache.replace(&1, 4);
        assert_eq!(cache.get_or_load(&1, load(Some(5))).await, Ok(Some(4)));
    }
}
