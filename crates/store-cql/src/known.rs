//! Small memories of what was written already, so that it is not written again.
//!
//! All of them may forget at any time: what they spare is a write that changes nothing.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidings_core::Time;
use tidings_core::log::LogId;
use tidings_store::DocumentKind;

/// Items in one memory.
const ITEMS_MAX: usize = 50_000;

/// A set that empties itself when it is full.
#[derive(Debug)]
struct Seen<T>(Mutex<HashSet<T>>);

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Seen(Mutex::default())
    }
}

impl<T: Hash + Eq> Seen<T> {
    fn has(&self, item: &T) -> bool {
        lock(&self.0).contains(item)
    }

    fn remove(&self, item: &T) {
        lock(&self.0).remove(item);
    }

    fn put(&self, item: T) {
        let mut items = lock(&self.0);
        if items.len() >= ITEMS_MAX {
            items.clear();
        }
        items.insert(item);
    }
}

/// Fronts of documents that are in the index.
#[derive(Debug, Default)]
pub(crate) struct Fronts(Seen<(DocumentKind, Vec<u8>)>);

impl Fronts {
    pub(crate) fn is_known(&self, kind: DocumentKind, front: &[u8]) -> bool {
        self.0.has(&(kind, front.to_vec()))
    }

    pub(crate) fn note(&self, kind: DocumentKind, front: Vec<u8>) {
        self.0.put((kind, front));
    }
}

/// Buckets of steps that their log names.
#[derive(Debug, Default)]
pub(crate) struct StepBuckets(Seen<(LogId, i64)>);

impl StepBuckets {
    pub(crate) fn is_known(&self, log: LogId, bucket: i64) -> bool {
        self.0.has(&(log, bucket))
    }

    pub(crate) fn note(&self, log: LogId, bucket: i64) {
        self.0.put((log, bucket));
    }
}

/// Hours of expiry that are listed, and those in which nothing is left.
#[derive(Debug, Default)]
pub(crate) struct Hours {
    listed: Seen<(i64, u8)>,
    /// When an hour that is over was last found empty.
    done: Mutex<HashMap<(i64, u8), Time>>,
    /// The first hour on the list, and when the list was read from its beginning.
    first: Mutex<Option<(Time, i64)>>,
}

/// An hour that is over and empty is looked at again after so long: an append may have been under way.
const LOOKED_AT_AGAIN_MS: u64 = 3_600_000;

impl Hours {
    pub(crate) fn is_known(&self, hour: i64, shard: u8) -> bool {
        self.listed.has(&(hour, shard))
    }

    pub(crate) fn note(&self, hour: i64, shard: u8) {
        self.listed.put((hour, shard));
        lock(&self.done).remove(&(hour, shard));
    }

    /// From which hour on the list is to be read: now and then all of it, otherwise not the graves of those that
    /// have left it. An entry is never noted for an hour that was over before the last.
    pub(crate) fn first(&self, now: Time) -> i64 {
        let last = (now.0 / LOOKED_AT_AGAIN_MS).saturating_sub(1);
        let last = i64::try_from(last).unwrap_or(i64::MAX);
        match *lock(&self.first) {
            Some((at, first)) if is_fresh(at, now) => first.min(last),
            _ => 0,
        }
    }

    /// The list was read from its beginning.
    pub(crate) fn note_first(&self, now: Time, first: i64) {
        *lock(&self.first) = Some((now, first));
    }

    /// The hour is not listed any more.
    pub(crate) fn forget(&self, hour: i64, shard: u8) {
        self.listed.remove(&(hour, shard));
        lock(&self.done).remove(&(hour, shard));
    }

    pub(crate) fn is_done(&self, hour: i64, shard: u8, now: Time) -> bool {
        let done = lock(&self.done).get(&(hour, shard)).copied();
        done.is_some_and(|at| is_fresh(at, now))
    }

    pub(crate) fn note_done(&self, hour: i64, shard: u8, now: Time) {
        let is_over = now.0 / LOOKED_AT_AGAIN_MS > hour.max(0).cast_unsigned();
        if is_over {
            lock(&self.done).insert((hour, shard), now);
        }
    }
}

fn is_fresh(at: Time, now: Time) -> bool {
    now >= at && now.0 - at.0 < LOOKED_AT_AGAIN_MS
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
