//! Marks and steps that are accepted and not yet written: a write-back cache that every read looks into.
//!
//! What a mark was raised to several times within a moment is written once. A crash forgets at most the last
//! moment, and devices repeat what they raised in their last minute.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidings_core::Time;
use tidings_core::log::{LogId, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_store::{Step, StoreError};

/// Marks and steps that may wait; past it the cluster has been away for long and the caller is told.
const WAITING_MAX: usize = 1_000_000;

type Owner = [u8; 16];
pub(crate) type StepKey = (LogId, Owner, MarkKind, Seq);

/// The place of a mark in its log, with its lane.
pub(crate) type OfLog = (Owner, MarkKind, u32);

/// The place of a mark in its owner's inbox, with its lane.
pub(crate) type OfInbox = (LogId, MarkKind, u32);

/// What waits to be written.
#[derive(Debug, Default)]
pub(crate) struct Late {
    inner: Mutex<Both>,
}

/// What came since the last writing, and what is being written.
#[derive(Debug, Default)]
struct Both {
    waiting: Batch,
    writing: Batch,
}

/// Marks by log, the inbox's also by owner, and steps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) marks: HashMap<LogId, BTreeMap<(Owner, MarkKind, u32), MarkValue>>,
    inbox: BTreeMap<(Owner, LogId, MarkKind, u32), MarkValue>,
    pub(crate) steps: BTreeMap<StepKey, Time>,
    count: usize,
}

impl Batch {
    fn raise(&mut self, mark: &Mark) {
        let place = (mark.owner, mark.kind, mark.lane);
        let marks = self.marks.entry(mark.log).or_default();
        if marks
            .insert(
                place,
                marks
                    .get(&place)
                    .map_or(mark.value, |before| before.max(mark.value)),
            )
            .is_none()
        {
            self.count += 1;
        }
        if is_in_inbox(mark.kind) {
            let place = (mark.owner, mark.log, mark.kind, mark.lane);
            let value = self
                .inbox
                .get(&place)
                .map_or(mark.value, |before| before.max(mark.value));
            self.inbox.insert(place, value);
        }
    }

    fn keep(&mut self, step: &Step) {
        let key = (step.log, step.owner, step.kind, step.seq);
        let at = self
            .steps
            .get(&key)
            .map_or(step.at, |before| (*before).min(step.at));
        if self.steps.insert(key, at).is_none() {
            self.count += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn marks(&self) -> impl Iterator<Item = Mark> {
        self.marks.iter().flat_map(|(&log, marks)| {
            marks
                .iter()
                .map(move |(&(owner, kind, lane), &value)| Mark {
                    log,
                    owner,
                    kind,
                    lane,
                    value,
                })
        })
    }
}

/// Whether a mark of this kind is also in its owner's inbox.
pub(crate) fn is_in_inbox(kind: MarkKind) -> bool {
    matches!(kind, MarkKind::Joined | MarkKind::Left | MarkKind::Head)
}

impl Late {
    /// Takes marks and steps in.
    ///
    /// # Errors
    /// When too much waits already.
    pub(crate) fn put(&self, marks: &[Mark], steps: &[Step]) -> Result<(), StoreError> {
        let mut inner = self.lock();
        if inner.waiting.count >= WAITING_MAX {
            return Err(StoreError::Unavailable(format!(
                "{WAITING_MAX} marks wait to be written already"
            )));
        }
        marks.iter().for_each(|mark| inner.waiting.raise(mark));
        steps.iter().for_each(|step| inner.waiting.keep(step));
        Ok(())
    }

    /// What is to be written now. [`Late::written`] or [`Late::failed`] must follow.
    pub(crate) fn take(&self) -> Batch {
        let mut inner = self.lock();
        inner.writing = std::mem::take(&mut inner.waiting);
        inner.writing.clone()
    }

    pub(crate) fn written(&self) {
        self.lock().writing = Batch::default();
    }

    /// What could not be written waits on.
    pub(crate) fn failed(&self) {
        let mut inner = self.lock();
        let failed = std::mem::take(&mut inner.writing);
        failed.marks().for_each(|mark| inner.waiting.raise(&mark));
        for ((log, owner, kind, seq), at) in failed.steps {
            inner.waiting.keep(&Step {
                log,
                owner,
                kind,
                seq,
                at,
            });
        }
    }

    /// Marks of a log that wait, of owners above `after`.
    ///
    /// To be asked *before* the store is read, as all of these: what is not here any more is there by then.
    /// Asked afterwards, what was written in between would be in neither.
    pub(crate) fn of_log(&self, log: LogId, after: Option<Owner>) -> Vec<(OfLog, MarkValue)> {
        let inner = self.lock();
        let marks = [&inner.writing, &inner.waiting]
            .into_iter()
            .filter_map(|batch| batch.marks.get(&log));
        let from = (after.unwrap_or_default(), MarkKind::Delivered, 0);
        marks
            .flat_map(|marks| marks.range(from..))
            .filter(|((owner, ..), _)| after.is_none_or(|after| *owner > after))
            .map(|(&place, &value)| (place, value))
            .collect()
    }

    /// As [`Late::of_log`] for one owner.
    pub(crate) fn of_owner(&self, log: LogId, owner: Owner) -> Vec<(OfLog, MarkValue)> {
        let inner = self.lock();
        let marks = [&inner.writing, &inner.waiting]
            .into_iter()
            .filter_map(|batch| batch.marks.get(&log));
        let from = (owner, MarkKind::Delivered, 0);
        marks
            .flat_map(|marks| {
                let of_owner = marks.range(from..);
                of_owner.take_while(|((of, ..), _)| *of == owner)
            })
            .map(|(&place, &value)| (place, value))
            .collect()
    }

    /// As [`Late::of_log`] for a user's inbox, of logs above `after`.
    pub(crate) fn of_inbox(&self, owner: Owner, after: Option<LogId>) -> Vec<(OfInbox, MarkValue)> {
        let inner = self.lock();
        let first = LogId {
            owner: [0; 16],
            part: tidings_core::log::LogPart::Conversation,
        };
        let from = (owner, after.unwrap_or(first), MarkKind::Delivered, 0);
        [&inner.writing, &inner.waiting]
            .into_iter()
            .flat_map(|batch| {
                let of_owner = batch.inbox.range(from..);
                of_owner.take_while(|((of, ..), _)| *of == owner)
            })
            .filter(|((_, log, ..), _)| after.is_none_or(|after| *log > after))
            .map(|(&(_, log, kind, lane), &value)| ((log, kind, lane), value))
            .collect()
    }

    /// The highest time of an owner's marks of the inbox that wait. As [`Late::of_log`].
    pub(crate) fn touched(&self, owner: Owner) -> Time {
        let waiting = self.of_inbox(owner, None).into_iter();
        waiting.map(|(_, value)| value.at).max().unwrap_or_default()
    }

    /// Steps of a log that wait. As [`Late::of_log`].
    pub(crate) fn steps(&self, log: LogId) -> Vec<Step> {
        let inner = self.lock();
        let from = (log, [0; 16], MarkKind::Delivered, 0);
        [&inner.writing, &inner.waiting]
            .into_iter()
            .flat_map(|batch| {
                batch
                    .steps
                    .range(from..)
                    .take_while(|((of, ..), _)| *of == log)
            })
            .map(|(&(log, owner, kind, seq), &at)| Step {
                log,
                owner,
                kind,
                seq,
                at,
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Both> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Raises marks of a page to those that wait, of the places up to the page's end, and adds those that only wait.
pub(crate) fn lay_over<K: Ord + Copy>(
    waiting: Vec<(K, MarkValue)>,
    is_within: impl Fn(K) -> bool,
    page: &mut BTreeMap<K, MarkValue>,
) {
    for (place, value) in waiting {
        if is_within(place) {
            page.entry(place)
                .and_modify(|before| *before = before.max(value))
                .or_insert(value);
        }
    }
}
