//! Reads of marks and steps: what is stored and what waits in the cache, as one.

use std::collections::BTreeMap;
use std::ops::Bound;

use tidings_core::log::{LogId, Seq};
use tidings_core::mark::Mark;
use tidings_core::{Time, UserId};
use tidings_store::{Step, StoreError};

use super::Reader;
use crate::damaged_row;
use crate::keys::{self, InboxKey, OwnerKey};
use crate::owner_marks::OwnerMarks;
use crate::rows;
use crate::tables::{Pair, Rows};

impl Reader {
    pub(crate) fn marks(&self, log: LogId, owner: [u8; 16]) -> Result<Vec<Mark>, StoreError> {
        let key = keys::marks(log, owner);
        // The cache first: what leaves it in between is then found stored.
        let mut marks = self.late.marks(log, owner);
        if let Some(bytes) = self.tables.marks.get(&key)? {
            marks.merge(&OwnerMarks::decode(&bytes).map_err(damaged_row)?);
        }
        Ok(marks_of(log, owner, marks).collect())
    }

    pub(crate) fn marks_of_log(
        &self,
        log: LogId,
        after: Option<[u8; 16]>,
        limit: usize,
    ) -> Result<Vec<Mark>, StoreError> {
        let from = keys::marks(log, after.unwrap_or_default());
        let to = keys::marks(log, [0xff; 16]);
        let is_past = |key: &OwnerKey| after.is_none() || *key > from;
        let mut owners = self
            .late
            .marks_of_log(log, after.unwrap_or_default()..=[0xff; 16]);
        owners.retain(|key, _| is_past(key));
        let mut count = 0;
        for row in self.tables.marks.range(from..=to) {
            let (key, value) = row?;
            let key = keys::bytes(&key, 0)?;
            if !is_past(&key) {
                continue;
            }
            if count >= limit.max(1) {
                // Cached ones beyond belong to a later page, between stored ones.
                owners.split_off(&key);
                break;
            }
            let stored = OwnerMarks::decode(&value).map_err(damaged_row)?;
            count += stored.iter().count();
            owners.entry(key).or_default().merge(&stored);
        }
        let mut marks = Vec::new();
        for (key, of_owner) in owners {
            if marks.len() >= limit.max(1) {
                break;
            }
            let (log, owner) = keys::parse_marks(&key)?;
            marks.extend(marks_of(log, owner, of_owner));
        }
        Ok(marks)
    }

    pub(crate) fn memberships(
        &self,
        user: UserId,
        after: Option<LogId>,
        limit: usize,
    ) -> Result<Vec<Mark>, StoreError> {
        let mut prefix = user.0.to_vec();
        let from = match after {
            None => inbox_from(&prefix),
            Some(after) => {
                prefix.extend(after.to_bytes());
                inbox_above(&prefix)
            }
        };
        let range = from..=inbox_above(&user.0);
        let mut found = self.late.inbox(range.clone());
        let log = |key: &InboxKey| key[16..33].to_vec();
        let (stored, end) = whole_groups(self.tables.inbox.range(range), limit, log)?;
        found.retain(|key, _| end.as_ref().is_none_or(|end| log(key) <= *end));
        for (key, value) in stored {
            let value = rows::decode_mark(&value).map_err(damaged_row)?;
            found
                .entry(keys::bytes(&key, 0)?)
                .and_modify(|late| *late = value.max(*late))
                .or_insert(value);
        }
        let marks = found.into_iter().map(|(key, value)| {
            Ok::<_, StoreError>(Mark {
                value,
                ..keys::parse_inbox(&key)?
            })
        });
        Ok(cut(marks.collect::<Result<_, _>>()?, limit, |mark| {
            mark.log
        }))
    }

    pub(crate) fn steps_past(&self, log: LogId, seq: Seq) -> Result<Vec<Step>, StoreError> {
        // The cache first: what leaves it in between is then found stored.
        let late = self
            .late
            .steps(keys::steps_begin(log)..=keys::steps_end(log));
        let kept = seq.max(self.log(log)?.map_or(0, |row| row.trimmed) + 1);
        let mut past = BTreeMap::new();
        for (key, at) in late {
            let step = Step {
                at,
                ..keys::parse_step(&key)?
            };
            if step.seq >= kept {
                past.entry((step.owner, step.kind)).or_insert(step);
            }
        }
        for step in self.stored_steps_past(log, kept)? {
            let first = past.entry((step.owner, step.kind)).or_insert(step);
            // Of the same step the stored time is the earlier one.
            if step.seq <= first.seq {
                *first = step;
            }
        }
        Ok(past.into_values().collect())
    }

    /// The first step at or past `kept` of each owner and kind. It looks at two rows of each, not at the
    /// steps before and after.
    fn stored_steps_past(&self, log: LogId, kept: Seq) -> Result<Vec<Step>, StoreError> {
        let end = keys::steps_end(log);
        let mut past = Vec::new();
        let mut from = Bound::Included(keys::steps_begin(log));
        loop {
            let range = (from, Bound::Included(end));
            let Some((key, value)) = self.tables.steps.range(range).next().transpose()? else {
                return Ok(past);
            };
            let step = Step {
                at: Time(rows::decode_number(&value).map_err(damaged_row)?),
                ..keys::parse_step(&key)?
            };
            let seek = |seq| keys::step(&Step { seq, ..step });
            from = if step.seq < kept {
                Bound::Included(seek(kept))
            } else {
                past.push(step);
                Bound::Excluded(seek(Seq::MAX))
            };
        }
    }
}

fn marks_of(log: LogId, owner: [u8; 16], marks: OwnerMarks) -> impl Iterator<Item = Mark> {
    let mark = move |(kind, lane, value)| Mark {
        log,
        owner,
        kind,
        lane,
        value,
    };
    marks.sorted().into_iter().map(mark)
}

fn inbox_from(prefix: &[u8]) -> InboxKey {
    let mut key = [0; 38];
    key[..prefix.len()].copy_from_slice(prefix);
    key
}

/// A key above every mark whose key begins with `prefix`, and below all others above those.
fn inbox_above(prefix: &[u8]) -> InboxKey {
    let mut key = [0xff; 38];
    key[..prefix.len()].copy_from_slice(prefix);
    key
}

/// Rows up to `limit` and the rest of the group in which that falls; with the group they end with, if
/// there are further rows.
fn whole_groups(
    rows: Rows,
    limit: usize,
    group: impl Fn(&InboxKey) -> Vec<u8>,
) -> Result<(Vec<Pair>, Option<Vec<u8>>), StoreError> {
    let mut taken = Vec::new();
    let mut last = None;
    for row in rows {
        let (key, value) = row?;
        let this = Some(group(&keys::bytes(&key, 0)?));
        if taken.len() >= limit.max(1) && this != last {
            return Ok((taken, last));
        }
        last = this;
        taken.push((key, value));
    }
    Ok((taken, None))
}

/// Cached marks may have made a page longer than asked for: cuts it after a whole group.
fn cut<K: PartialEq>(mut marks: Vec<Mark>, limit: usize, group: impl Fn(&Mark) -> K) -> Vec<Mark> {
    let mut length = limit.max(1).min(marks.len());
    while length > 0 && length < marks.len() && group(&marks[length - 1]) == group(&marks[length]) {
        length += 1;
    }
    marks.truncate(length);
    marks
}
