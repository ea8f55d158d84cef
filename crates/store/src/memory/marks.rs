//! The watermarks of the store in memory.

use std::collections::{BTreeMap, BTreeSet};

use tidings_core::log::{LogId, LogPart};
use tidings_core::mark::{Mark, MarkKind, MarkValue};

type Owner = [u8; 16];
type MarkKey = (LogId, Owner, MarkKind, u32);

/// All watermarks, by log and by owner.
#[derive(Debug, Default)]
pub(super) struct Marks {
    values: BTreeMap<MarkKey, MarkValue>,
    /// The same marks in the order of their owners.
    by_owner: BTreeSet<(Owner, LogId, MarkKind, u32)>,
    /// Marks that were raised late, with the value that a crash would leave them at.
    late: BTreeMap<MarkKey, Option<MarkValue>>,
}

impl Marks {
    /// Raises one, late: durable with the next [`Marks::settle`].
    pub(super) fn raise(&mut self, mark: Mark) {
        let key = (mark.log, mark.owner, mark.kind, mark.lane);
        let before = self.values.get(&key).copied();
        let after = before.map_or(mark.value, |before| before.max(mark.value));
        if before != Some(after) {
            self.late.entry(key).or_insert(before);
            self.put(key, Some(after));
        }
    }

    /// Those that were raised late are durable from here on.
    pub(super) fn settle(&mut self) {
        self.late.clear();
    }

    /// Those that were raised late are as they were before.
    pub(super) fn crash(&mut self) {
        for (key, before) in std::mem::take(&mut self.late) {
            self.put(key, before);
        }
    }

    fn put(&mut self, key: MarkKey, value: Option<MarkValue>) {
        let (log, owner, kind, lane) = key;
        if let Some(value) = value {
            self.values.insert(key, value);
            self.by_owner.insert((owner, log, kind, lane));
        } else {
            self.values.remove(&key);
            self.by_owner.remove(&(owner, log, kind, lane));
        }
    }

    /// Those of one owner in a log.
    pub(super) fn of(&self, log: LogId, owner: Owner) -> impl Iterator<Item = Mark> {
        self.values
            .range((log, owner, MarkKind::Delivered, 0)..)
            .take_while(move |((of, by, ..), _)| (*of, *by) == (log, owner))
            .map(mark_of)
    }

    /// Those of a log whose owners come after one, about `limit`: never some of an owner without the others.
    pub(super) fn of_log(&self, log: LogId, after: Option<Owner>, limit: usize) -> Vec<Mark> {
        let marks = self
            .values
            .range((log, after.unwrap_or_default(), MarkKind::Delivered, 0)..)
            .take_while(|((of, ..), _)| *of == log)
            .map(mark_of)
            .filter(|mark| after.is_none_or(|after| mark.owner > after));
        whole_groups(marks, limit, |mark| mark.owner)
    }

    /// What a user joined, left or owns, in logs that come after one, about `limit` in the same way.
    pub(super) fn memberships(&self, user: Owner, after: Option<LogId>, limit: usize) -> Vec<Mark> {
        let marks = self
            .by_owner
            .range((user, after.unwrap_or(FIRST_LOG), MarkKind::Delivered, 0)..)
            .take_while(|(owner, ..)| *owner == user)
            .filter(|(_, log, kind, _)| {
                matches!(kind, MarkKind::Joined | MarkKind::Left | MarkKind::Head)
                    && after.is_none_or(|after| *log > after)
            })
            .filter_map(|&(owner, log, kind, lane)| {
                self.values
                    .get_key_value(&(log, owner, kind, lane))
                    .map(mark_of)
            });
        whole_groups(marks, limit, |mark| mark.log)
    }
}

/// The smallest id that a log can have.
const FIRST_LOG: LogId = LogId {
    owner: [0; 16],
    part: LogPart::Conversation,
};

fn mark_of((&(log, owner, kind, lane), &value): (&MarkKey, &MarkValue)) -> Mark {
    Mark {
        log,
        owner,
        kind,
        lane,
        value,
    }
}

/// Marks up to `limit`, and the rest of the group in which that falls.
fn whole_groups<K: PartialEq>(
    marks: impl Iterator<Item = Mark>,
    limit: usize,
    group: impl Fn(&Mark) -> K,
) -> Vec<Mark> {
    let mut page: Vec<Mark> = Vec::new();
    for mark in marks {
        if page.len() >= limit && page.last().is_some_and(|last| group(last) != group(&mark)) {
            break;
        }
        page.push(mark);
    }
    page
}
