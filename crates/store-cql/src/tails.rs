//! Ends of logs as they were last seen: what spares an append the question where the log ends.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidings_core::log::LogId;

use crate::append::Tail;

/// Logs in each of the two generations of the cache; about 10 MB when both are full.
const LOGS_MAX: usize = 50_000;

/// A cache of log ends. What is in it was true once, and heads only grow: it may be too low, never too high.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    inner: Mutex<Generations>,
}

/// Looked up in both, written to the young one; when that is full it becomes the old one.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<LogId, Tail>,
    old: HashMap<LogId, Tail>,
}

impl Tails {
    pub(crate) fn get(&self, log: &LogId) -> Option<Tail> {
        let inner = self.lock();
        inner.young.get(log).or_else(|| inner.old.get(log)).copied()
    }

    pub(crate) fn put(&self, log: LogId, tail: Tail) {
        let mut inner = self.lock();
        if inner.young.len() >= LOGS_MAX {
            inner.old = std::mem::take(&mut inner.young);
        }
        inner.young.insert(log, tail);
    }

    pub(crate) fn remove(&self, log: &LogId) {
        let mut inner = self.lock();
        inner.young.remove(log);
        inner.old.remove(log);
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
