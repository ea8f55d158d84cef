//! The write-back cache of marks and steps: what was raised late, seen by every read at once and on
//! the disk with a commit soon after.
//!
//! Every read takes the cached values first and the stored ones second, and the higher wins; so a
//! value that moves from here to the disk in between is seen in one place or the other.
//!
//! Each value waits for about its own promised time, so that a mark which rises all the time is written
//! once for many steps, and leaves with whatever commit comes by then: the work is spread evenly over
//! the commits instead of coming all at once.

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidings_core::mark::Mark;
use tidings_core::{MarkValue, Time};
use tidings_store::Step;

use crate::keys::{self, InboxKey, OwnerKey, StepKey};
use crate::owner_marks::OwnerMarks;

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
    Owner(OwnerKey),
    Step(StepKey),
}

/// Marks by their owners, and steps.
#[derive(Debug, Default)]
pub(crate) struct Values {
    pub(crate) marks: BTreeMap<OwnerKey, OwnerMarks>,
    /// Those that also belong in the inbox; there are few.
    inbox: BTreeMap<InboxKey, MarkValue>,
    pub(crate) steps: BTreeMap<StepKey, Time>,
}

/// What a commit takes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taking {
    /// A commit that is made anyway: what will soon be due.
    Passing,
    /// All of it: the store is asked to be level.
    All,
}

impl Values {
    /// Raises a mark. Answers the key of its owner if nothing of that owner was there.
    fn raise(&mut self, mark: &Mark) -> Option<OwnerKey> {
        let owner = keys::marks(mark.log, mark.owner);
        let marks = self.marks.entry(owner).or_default();
        let is_new = marks.is_empty();
        marks.raise(mark.kind, mark.lane, mark.value);
        if keys::is_in_inbox(mark.kind) {
            let key = keys::inbox(&owner, mark.kind, mark.lane);
            higher(&mut self.inbox, key, mark.value);
        }
        is_new.then_some(owner)
    }

    /// Moves the marks of an owner into another one.
    fn hand_over(&mut self, owner: &OwnerKey, to: &mut Values) {
        let Some(marks) = self.marks.remove(owner) else {
            return;
        };
        for (kind, lane, _) in marks.iter().filter(|(kind, ..)| keys::is_in_inbox(*kind)) {
            let key = keys::inbox(owner, kind, lane);
            to.inbox.extend(self.inbox.remove_entry(&key));
        }
        to.marks.insert(*owner, marks);
    }
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
        self.change(|inner, now| {
            for mark in marks {
                if let Some(owner) = inner.waiting.raise(mark) {
                    inner.order.push_back((now, Key::Owner(owner)));
                }
            }
        })
    }

    /// Keeps steps; the first time of each stays. Answers as [`Late::raise`] does.
    pub(crate) fn keep(&self, steps: &[Step]) -> bool {
        self.change(|inner, now| {
            for step in steps {
                let key = keys::step(step);
                if let std::collections::btree_map::Entry::Vacant(slot) =
                    inner.waiting.steps.entry(key)
                {
                    slot.insert(step.at);
                    inner.order.push_back((now, Key::Step(key)));
                }
            }
        })
    }

    fn change(&self, change: impl FnOnce(&mut Inner, Instant)) -> bool {
        let now = Instant::now();
        let mut inner = self.lock();
        let waited = !inner.order.is_empty();
        change(&mut inner, now);
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
        let now = Instant::now();
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
        let mut leaving = Values::default();
        while let Some((since, key)) = inner.order.front().copied()
            && now.saturating_duration_since(since) >= age
        {
            inner.order.pop_front();
            match key {
                Key::Owner(owner) => inner.waiting.hand_over(&owner, &mut leaving),
                Key::Step(step) => leaving
                    .steps
                    .extend(inner.waiting.steps.remove_entry(&step)),
            }
        }
        if inner.order.is_empty() {
            // A quiet store keeps no buffer.
            inner.order = VecDeque::new();
        }
        let leaving = Arc::new(leaving);
        inner.leaving = Arc::clone(&leaving);
        leaving
    }

    /// What was taken is on the disk.
    pub(crate) fn left(&self) {
        self.lock().leaving = Arc::default();
    }

    /// Cached marks of the owners in a range.
    pub(crate) fn marks(&self, range: RangeInclusive<OwnerKey>) -> BTreeMap<OwnerKey, OwnerMarks> {
        let inner = self.lock();
        let mut found = BTreeMap::<OwnerKey, OwnerMarks>::new();
        for values in [&inner.leaving, &inner.waiting] {
            for (owner, marks) in values.marks.range(range.clone()) {
                found.entry(*owner).or_default().merge(marks);
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
mod tests {
    use tidings_core::ConversationId;
    use tidings_core::log::LogId;
    use tidings_core::mark::MarkKind;

    use super::*;

    fn mark(owner: u8, seq: u64) -> Mark {
        Mark {
            log: LogId::conversation(ConversationId([1; 16])),
            owner: [owner; 16],
            kind: MarkKind::Delivered,
            lane: 0,
            value: MarkValue {
                seq,
                ..MarkValue::default()
            },
        }
    }

    fn taken(late: &Late, taking: Taking) -> Vec<u64> {
        let values = late.take(taking);
        let marks = values.marks.values().flat_map(OwnerMarks::iter);
        marks.map(|(_, _, value)| value.seq).collect()
    }

    #[test]
    fn a_mark_that_rises_again_leaves_once_with_its_highest_value() {
        let late = Late::new(Duration::from_secs(100));
        assert!(late.raise(&[mark(1, 5)]), "the first must be told");
        assert!(!late.raise(&[mark(1, 7), mark(1, 6)]));
        assert!(!late.raise(&[mark(2, 1)]));
        assert_eq!(taken(&late, Taking::Passing), [0; 0], "none of it is due");
        assert_eq!(taken(&late, Taking::All), [7, 1]);
        assert_eq!(late.due(), None);
        assert!(late.raise(&[mark(1, 8)]), "nothing waits any more");
        assert_eq!(cached(&late), [8]);
    }

    #[test]
    fn what_is_leaving_is_still_seen() {
        let late = Late::new(Duration::ZERO);
        late.raise(&[mark(1, 5)]);
        assert_eq!(taken(&late, Taking::Passing), [5]);
        assert_eq!(cached(&late), [5]);
        late.raise(&[mark(1, 4)]);
        assert_eq!(cached(&late), [5]);
        late.left();
        assert_eq!(cached(&late), [4]);
    }

    /// The marks of owner 1.
    fn cached(late: &Late) -> Vec<u64> {
        let owner = keys::marks(mark(1, 0).log, [1; 16]);
        let found = late.marks(owner..=owner);
        let marks = found.values().flat_map(OwnerMarks::iter);
        marks.map(|(_, _, value)| value.seq).collect()
    }

    #[test]
    fn what_belongs_in_the_inbox_is_found_there_until_it_has_left() {
        let late = Late::new(Duration::ZERO);
        let joined = Mark {
            kind: MarkKind::Joined,
            ..mark(1, 5)
        };
        late.raise(&[joined, mark(1, 7)]);
        let inbox = || late.inbox([0; 38]..=[0xff; 38]).into_values();
        assert_eq!(inbox().map(|value| value.seq).collect::<Vec<_>>(), [5]);
        late.take(Taking::All);
        assert_eq!(inbox().count(), 1);
        late.left();
        assert_eq!(inbox().count(), 0);
    }
}
