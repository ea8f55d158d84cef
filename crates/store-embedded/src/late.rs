//! The write-back cache of marks and steps: what was raised late, seen by every read at once and on
//! the disk with a commit soon after.
//!
//! Every read takes the cached values first and the stored ones second, and the higher wins; so a
//! value that moves from here to the disk in between is seen in one place or the other.
//!
//! Each value waits for about its own promised time, so that a mark which rises all the time is written
//! once for many steps, and leaves with whatever commit comes by then: the work is spread evenly over
//! the commits instead of coming all at once. The marks of a log wait together, since they are raised together.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, VecDeque, btree_map};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::HashMap;
use tidings_core::log::LogId;
use tidings_core::mark::Mark;
use tidings_core::{MarkValue, Time};
use tidings_store::Step;

use crate::keys::{self, InboxKey, OwnerKey, StepKey};
use crate::owner_marks::OwnerMarks;

/// So many marks of a log wait together, and leave together: the conversations that most marks belong to have fewer. In
/// a large one the others wait by their owners, so that no commit has to take thousands of them at once.
const TOGETHER_MAX: usize = 32;
/// What a quiet store keeps of its buffers.
const KEPT: usize = 64;

/// Marks and steps that are not on the disk yet.
#[derive(Debug)]
pub(crate) struct Late {
    /// They are on the disk at most this long after they were raised.
    within: Duration,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Raised since the last commit that took them.
    waiting: Values,
    /// What waits, in the order in which it came.
    order: VecDeque<(Instant, Key)>,
    /// In the commit that is under way.
    leaving: Arc<Values>,
}

#[derive(Clone, Copy, Debug)]
enum Key {
    Log(LogId),
    Owner(OwnerKey),
    Step(StepKey),
}

/// Marks and steps.
#[derive(Debug, Default)]
pub(crate) struct Values {
    /// Marks by their log.
    logs: HashMap<LogId, Marks>,
    /// Those for which there was no room among the others of their log, by owner. No mark is in both.
    owners: BTreeMap<OwnerKey, Marks>,
    /// Those that also belong in the inbox; there are few.
    inbox: BTreeMap<InboxKey, MarkValue>,
    pub(crate) steps: BTreeMap<StepKey, Time>,
}

/// Some marks of one log. Those of one owner lie next to each other.
#[derive(Debug, Default)]
struct Marks(Vec<Mark>);

/// What a commit takes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taking {
    /// A commit that is made anyway: what will soon be due.
    Passing,
    /// All of it: the store is asked to be level.
    All,
}

impl Marks {
    /// Raises a mark. Answers whether it could: if it is not there yet, there are less than `max`.
    fn raise(&mut self, mark: &Mark, max: usize) -> bool {
        let mut place = self.0.len();
        for (index, other) in self.0.iter_mut().enumerate() {
            if other.owner != mark.owner {
                continue;
            }
            if (other.kind, other.lane) == (mark.kind, mark.lane) {
                other.value = other.value.max(mark.value);
                return true;
            }
            place = index + 1;
        }
        if self.0.len() >= max {
            return false;
        }
        self.0.insert(place, *mark);
        true
    }

    /// The marks of each owner.
    fn by_owner(&self) -> impl Iterator<Item = &[Mark]> {
        self.0.chunk_by(|a, b| a.owner == b.owner)
    }
}

impl Values {
    /// Moves what belongs in the inbox of marks that are handed over.
    fn hand_over_inbox(&mut self, marks: &Marks, to: &mut Values) {
        for mark in marks.0.iter().filter(|mark| keys::is_in_inbox(mark.kind)) {
            to.inbox.extend(self.inbox.remove_entry(&inbox_key(mark)));
        }
    }

    /// About how many rows that will be: mostly two people with a device each.
    pub(crate) fn rows_about(&self) -> usize {
        4 * self.logs.len() + self.owners.len() + self.steps.len()
    }

    /// The marks of each owner in each log; seldom those of one owner in two parts.
    pub(crate) fn marks(&self) -> impl Iterator<Item = &[Mark]> {
        let all = self.logs.values().chain(self.owners.values());
        all.flat_map(Marks::by_owner)
    }

    /// The same of a log, of the owners in a range.
    fn marks_of(
        &self,
        log: LogId,
        owners: &RangeInclusive<[u8; 16]>,
    ) -> impl Iterator<Item = &[Mark]> {
        let keys = keys::marks(log, *owners.start())..=keys::marks(log, *owners.end());
        let by_owner = self.owners.range(keys).map(|(_, marks)| marks);
        let all = self.logs.get(&log).into_iter().chain(by_owner);
        all.flat_map(Marks::by_owner)
            .filter(|marks| marks.iter().all(|mark| owners.contains(&mark.owner)))
    }
}

impl Inner {
    /// Raises marks that are all of one log.
    fn raise(&mut self, log: LogId, marks: &[Mark], now: Instant) {
        let waiting = &mut self.waiting;
        let together = match waiting.logs.entry(log) {
            Entry::Occupied(place) => place.into_mut(),
            Entry::Vacant(place) => {
                self.order.push_back((now, Key::Log(log)));
                place.insert(Marks(Vec::with_capacity(marks.len().min(TOGETHER_MAX))))
            }
        };
        for mark in marks {
            if keys::is_in_inbox(mark.kind) {
                higher(&mut waiting.inbox, inbox_key(mark), mark.value);
            }
            // Nearly always nobody waits alone, and there is room.
            let alone = (!waiting.owners.is_empty())
                .then(|| waiting.owners.get_mut(&keys::marks(log, mark.owner)))
                .flatten();
            let max = if alone.is_some() { 0 } else { TOGETHER_MAX };
            if together.raise(mark, max) {
                continue;
            }
            if let Some(alone) = alone {
                alone.raise(mark, usize::MAX);
                continue;
            }
            let owner = keys::marks(log, mark.owner);
            self.order.push_back((now, Key::Owner(owner)));
            waiting.owners.insert(owner, Marks(vec![*mark]));
        }
    }

    fn keep(&mut self, step: &Step, now: Instant) {
        let key = keys::step(step);
        if let btree_map::Entry::Vacant(place) = self.waiting.steps.entry(key) {
            place.insert(step.at);
            self.order.push_back((now, Key::Step(key)));
        }
    }

    /// Moves what waits under a key to what is leaving.
    fn hand_over(&mut self, key: Key, leaving: &mut Values) {
        let waiting = &mut self.waiting;
        match key {
            Key::Log(log) => {
                if let Some(marks) = waiting.logs.remove(&log) {
                    waiting.hand_over_inbox(&marks, leaving);
                    leaving.logs.insert(log, marks);
                }
            }
            Key::Owner(owner) => {
                if let Some(marks) = waiting.owners.remove(&owner) {
                    waiting.hand_over_inbox(&marks, leaving);
                    leaving.owners.insert(owner, marks);
                }
            }
            Key::Step(step) => leaving.steps.extend(waiting.steps.remove_entry(&step)),
        }
    }
}

fn inbox_key(mark: &Mark) -> InboxKey {
    keys::inbox(&keys::marks(mark.log, mark.owner), mark.kind, mark.lane)
}

/// Of two values of a mark the higher one counts.
fn higher<K: Ord>(marks: &mut BTreeMap<K, MarkValue>, key: K, value: MarkValue) {
    marks
        .entry(key)
        .and_modify(|found| *found = found.max(value))
        .or_insert(value);
}

impl Late {
    /// A cache without values, whose values are written within this time.
    pub(crate) fn new(within: Duration) -> Late {
        Late {
            within,
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises marks. Answers whether nothing waited before, so that the committer must be told.
    pub(crate) fn raise(&self, marks: &[Mark]) -> bool {
        self.raise_at(marks, Instant::now())
    }

    fn raise_at(&self, marks: &[Mark], now: Instant) -> bool {
        self.change(|inner| {
            // What is raised together is mostly of one log.
            for marks in marks.chunk_by(|a, b| a.log == b.log) {
                if let Some(first) = marks.first() {
                    inner.raise(first.log, marks, now);
                }
            }
        })
    }

    /// Keeps steps; the first time of each stays. Answers as [`Late::raise`] does.
    pub(crate) fn keep(&self, steps: &[Step]) -> bool {
        let now = Instant::now();
        self.change(|inner| steps.iter().for_each(|step| inner.keep(step, now)))
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) -> bool {
        let mut inner = self.lock();
        let waited = !inner.order.is_empty();
        change(&mut inner);
        !waited && !inner.order.is_empty()
    }

    /// When a commit must begin for the sake of what waits, if anything waits: that leaves the commit
    /// itself a fifth of the time.
    pub(crate) fn due(&self) -> Option<Instant> {
        let first = self.lock().order.front().map(|(since, _)| *since);
        first.map(|since| since + self.within * 4 / 5)
    }

    /// What the commit that begins now takes along. Reads see it here until [`Late::left`].
    pub(crate) fn take(&self, taking: Taking) -> Arc<Values> {
        self.take_at(taking, Instant::now())
    }

    fn take_at(&self, taking: Taking, now: Instant) -> Arc<Values> {
        let mut inner = self.lock();
        let is_due = |age| {
            let first = inner.order.front();
            first.is_some_and(|(since, _)| now.saturating_duration_since(*since) >= age)
        };
        let age = match taking {
            Taking::All => Duration::ZERO,
            // If it is made for this alone, it should be worth it.
            Taking::Passing if is_due(self.within * 4 / 5) => self.within * 2 / 5,
            Taking::Passing => self.within * 3 / 5,
        };
        let is_due = |(since, _): &(Instant, Key)| now.saturating_duration_since(*since) >= age;
        let mut leaving = Values::default();
        leaving.logs.reserve(inner.order.partition_point(is_due));
        while let Some((_, key)) = inner.order.front().copied().filter(is_due) {
            inner.order.pop_front();
            inner.hand_over(key, &mut leaving);
        }
        if inner.order.is_empty() {
            inner.order.shrink_to(KEPT);
            inner.waiting.logs.shrink_to(KEPT);
        }
        let leaving = Arc::new(leaving);
        inner.leaving = Arc::clone(&leaving);
        leaving
    }

    /// What was taken is on the disk.
    pub(crate) fn left(&self) {
        self.lock().leaving = Arc::default();
    }

    /// Cached marks of one owner in a log.
    pub(crate) fn marks(&self, log: LogId, owner: [u8; 16]) -> OwnerMarks {
        let mut found = self.marks_of_log(log, owner..=owner);
        found
            .pop_first()
            .map_or_else(OwnerMarks::default, |(_, marks)| marks)
    }

    /// Cached marks of a log, of the owners in a range.
    pub(crate) fn marks_of_log(
        &self,
        log: LogId,
        owners: RangeInclusive<[u8; 16]>,
    ) -> BTreeMap<OwnerKey, OwnerMarks> {
        let inner = self.lock();
        let mut found = BTreeMap::<OwnerKey, OwnerMarks>::new();
        for values in [&*inner.leaving, &inner.waiting] {
            for mark in values.marks_of(log, &owners).flatten() {
                let of_owner = found.entry(keys::marks(log, mark.owner)).or_default();
                of_owner.raise(mark.kind, mark.lane, mark.value);
            }
        }
        found
    }

    /// Cached marks of the inbox whose key is in a range.
    pub(crate) fn inbox(&self, range: RangeInclusive<InboxKey>) -> BTreeMap<InboxKey, MarkValue> {
        let inner = self.lock();
        let mut found = BTreeMap::new();
        for values in [&inner.leaving, &inner.waiting] {
            for (key, value) in values.inbox.range(range.clone()) {
                higher(&mut found, *key, *value);
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

#[cfg(test)]
mod tests;
