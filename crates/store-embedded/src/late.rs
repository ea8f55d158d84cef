//! The write-back cache of marks and steps: what was raised late, seen by every read at once and on
//! the disk with a commit soon after.
//!
//! Every read takes the cached values first and the stored ones second, and the higher wins; so a
//! value that moves from here to the disk in between is seen in one place or the other.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tidings_core::mark::Mark;
use tidings_core::{MarkValue, Time};
use tidings_store::Step;

use crate::keys::{self, MarkKey, StepKey};

/// Marks and steps that are not on the disk yet.
#[derive(Debug, Default)]
pub(crate) struct Late {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Raised since the last commit that took them.
    waiting: Values,
    /// In the commit that is under way.
    leaving: Values,
    /// When the first of `waiting` came.
    since: Option<Instant>,
}

/// Marks and steps by their keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    pub(crate) marks: BTreeMap<MarkKey, MarkValue>,
    pub(crate) steps: BTreeMap<StepKey, Time>,
}

impl Values {
    fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.steps.is_empty()
    }
}

impl Late {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises marks. Answers whether nothing waited before, so that the committer must be told.
    pub(crate) fn raise(&self, marks: &[Mark]) -> bool {
        self.change(|waiting| {
            for mark in marks {
                let key = keys::mark(mark.log, mark.owner, mark.kind, mark.lane);
                waiting
                    .marks
                    .entry(key)
                    .and_modify(|value| *value = value.max(mark.value))
                    .or_insert(mark.value);
            }
        })
    }

    /// Keeps steps; the first time of each stays. Answers as [`Late::raise`] does.
    pub(crate) fn keep(&self, steps: &[Step]) -> bool {
        self.change(|waiting| {
            for step in steps {
                waiting.steps.entry(keys::step(step)).or_insert(step.at);
            }
        })
    }

    fn change(&self, change: impl FnOnce(&mut Values)) -> bool {
        let mut inner = self.lock();
        change(&mut inner.waiting);
        if inner.since.is_some() || inner.waiting.is_empty() {
            return false;
        }
        inner.since = Some(Instant::now());
        true
    }

    /// When the first of what waits came, if anything waits.
    pub(crate) fn since(&self) -> Option<Instant> {
        self.lock().since
    }

    /// What is to be committed now. Reads see it here until [`Late::left`].
    pub(crate) fn take(&self) -> Values {
        let mut inner = self.lock();
        inner.since = None;
        inner.leaving = std::mem::take(&mut inner.waiting);
        inner.leaving.clone()
    }

    /// What was taken is on the disk.
    pub(crate) fn left(&self) {
        self.lock().leaving = Values::default();
    }

    /// Cached marks whose key is in a range.
    pub(crate) fn marks(&self, range: RangeInclusive<MarkKey>) -> BTreeMap<MarkKey, MarkValue> {
        let inner = self.lock();
        let mut found: BTreeMap<_, _> = inner
            .leaving
            .marks
            .range(range.clone())
            .map(|(k, v)| (*k, *v))
            .collect();
        for (key, value) in inner.waiting.marks.range(range) {
            found
                .entry(*key)
                .and_modify(|found| *found = found.max(*value))
                .or_insert(*value);
        }
        found
    }

    /// Cached marks of one owner that also belong in the inbox.
    pub(crate) fn inbox(&self, owner: [u8; 16]) -> BTreeMap<MarkKey, MarkValue> {
        let inner = self.lock();
        let mut found = BTreeMap::<MarkKey, MarkValue>::new();
        for (key, value) in inner.leaving.marks.iter().chain(&inner.waiting.marks) {
            if key[17..33] == owner && keys::is_in_inbox(key) {
                found
                    .entry(*key)
                    .and_modify(|found| *found = found.max(*value))
                    .or_insert(*value);
            }
        }
        found
    }

    /// Cached steps whose key is in a range.
    pub(crate) fn steps(&self, range: RangeInclusive<StepKey>) -> BTreeMap<StepKey, Time> {
        let inner = self.lock();
        let mut found: BTreeMap<_, _> = inner
            .waiting
            .steps
            .range(range.clone())
            .map(|(k, v)| (*k, *v))
            .collect();
        found.extend(inner.leaving.steps.range(range).map(|(k, v)| (*k, *v)));
        found
    }
}
