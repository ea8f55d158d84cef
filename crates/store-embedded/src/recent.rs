//! A map that keeps what was used lately, and is bounded as often as its user says.

use std::collections::hash_map::Entry;
use std::hash::Hash;

use foldhash::HashMap;

/// Two halves: what is used moves to the newer one. When that is full the older one is forgotten, but only by
/// [`Recent::make_room`]: between two of those nothing that is used is ever read again.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    newer: HashMap<K, V>,
    older: HashMap<K, V>,
    half_max: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// A map of up to `max` values whenever room was made, and at least of the half of them that was used last.
    pub(crate) fn new(max: usize) -> Recent<K, V> {
        Recent {
            newer: HashMap::default(),
            older: HashMap::default(),
            half_max: max / 2,
        }
    }

    /// Sets the value of a key.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.newer.insert(key, value);
    }

    /// The value of a key that was asked for since room was made.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.newer.get_mut(key)
    }

    /// The value of a key, which is read if it is not remembered.
    pub(crate) fn get_or_read<E>(
        &mut self,
        key: K,
        read: impl FnOnce() -> Result<V, E>,
    ) -> Result<&mut V, E> {
        Ok(match self.newer.entry(key) {
            Entry::Occupied(place) => place.into_mut(),
            Entry::Vacant(place) => {
                let value = match self.older.remove(place.key()) {
                    Some(value) => value,
                    None => read()?,
                };
                place.insert(value)
            }
        })
    }

    /// Forgets a key; answers its value.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let older = self.older.remove(key);
        self.newer.remove(key).or(older)
    }

    /// Forgets the older half if the newer is full.
    pub(crate) fn make_room(&mut self) {
        if self.newer.len() >= self.half_max {
            self.older = std::mem::take(&mut self.newer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_lately_is_not_read_again() {
        let mut recent = Recent::<u32, u32>::new(16);
        let look = |recent: &mut Recent<u32, u32>, key| {
            let mut reads = 0;
            recent.make_room();
            let value = recent.get_or_read(key, || {
                reads += 1;
                Ok::<_, ()>(key * 10)
            });
            assert_eq!(value, Ok(&mut (key * 10)));
            assert!(recent.newer.len() + recent.older.len() <= 16);
            reads
        };
        for key in 1..100 {
            assert_eq!(look(&mut recent, key), 1);
            // One that is used all the time stays.
            assert_eq!(look(&mut recent, 0), u32::from(key == 1));
            assert_eq!(look(&mut recent, key.saturating_sub(2)), 0);
        }
        assert_eq!(look(&mut recent, 50), 1);
        assert_eq!(recent.remove(&50), Some(500));
        assert_eq!(recent.remove(&50), None);
        assert_eq!(look(&mut recent, 50), 1);
        recent.insert(51, 510);
        assert_eq!(look(&mut recent, 51), 0);
        assert_eq!(recent.get_or_read(52, || Err(())), Err(()));
        assert_eq!(look(&mut recent, 52), 1);
        // However many come before room is made, all stay.
        for key in 1_000..1_100 {
            assert_eq!(
                recent.get_or_read(key, || Ok::<_, ()>(key)),
                Ok(&mut key.clone())
            );
        }
        for key in 1_000..1_100 {
            assert_eq!(recent.get_or_read(key, || Err(())), Ok(&mut key.clone()));
        }
    }
}
