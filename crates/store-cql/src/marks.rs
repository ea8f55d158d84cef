//! Watermarks and steps.
//!
//! **Only the statements `raise_mark`, `raise_inbox` and `raise_log` may write where marks are**, and their
//! timestamp is the mark's seq: that is what makes "the last write wins" a maximum, on any number of nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tidings_core::log::{LogId, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{Time, UserId};
use tidings_store::{Durability, Step, StoreError};

use crate::cql::{big, blob, log_value, seq_number, tiny};
use crate::late::{self, Batch, is_in_inbox, lay_over};
use crate::rows;
use crate::schema::bucket_of;
use crate::store::{Inner, LogMark};

/// How often late marks are written; they may be this late and the time of a write.
pub(crate) const LATE: Duration = Duration::from_millis(50);

/// Partitions that are written at the same time.
const AT_ONCE: usize = 64;

/// How many buckets of steps are looked through for the first past a seq.
const STEP_BUCKETS_MAX: i64 = 32;

/// One row of `marks`: owner, kind, lane, value.
type MarkColumns = (Vec<u8>, i8, i64, Vec<u8>);

/// Marks of one log, in the order of owner, kind and lane.
type OfLog = BTreeMap<late::OfLog, MarkValue>;

impl Inner {
    /// [`tidings_store::Store::raise_marks`].
    pub(crate) async fn raise_marks(
        &self,
        marks: Vec<Mark>,
        durability: Durability,
    ) -> Result<(), StoreError> {
        match durability {
            Durability::Late => self.late.put(&marks, &[]),
            Durability::Now => self.write_marks(marks).await,
        }
    }

    /// Writes marks, those of one partition together.
    pub(crate) async fn write_marks(&self, marks: Vec<Mark>) -> Result<(), StoreError> {
        let mut of_log: BTreeMap<LogId, Vec<Mark>> = BTreeMap::new();
        let mut of_owner: BTreeMap<[u8; 16], Vec<Mark>> = BTreeMap::new();
        for mark in marks {
            if is_in_inbox(mark.kind) {
                of_owner.entry(mark.owner).or_default().push(mark);
            }
            of_log.entry(mark.log).or_default().push(mark);
        }
        let logs = of_log.into_values().map(|marks| (false, marks));
        let inboxes = of_owner.into_values().map(|marks| (true, marks));
        stream::iter(logs.chain(inboxes))
            .map(|(is_inbox, marks)| self.write_partition(is_inbox, marks))
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await
            .map(|_| ())
    }

    /// Writes marks of one log, or of one owner's inbox.
    async fn write_partition(&self, is_inbox: bool, marks: Vec<Mark>) -> Result<(), StoreError> {
        let statements = &self.cql.statements;
        let touch = marks
            .iter()
            .map(|mark| (mark.value.at, mark.owner))
            .max()
            .filter(|_| is_inbox);
        let touch = touch.map(|(at, owner)| {
            let at = big(seq_number(at.0));
            (&statements.touch, vec![at.clone(), at, blob(owner)])
        });
        let writes = marks.into_iter().map(|mark| {
            let (log, owner) = (log_value(mark.log), blob(mark.owner));
            let (first, second) = if is_inbox { (owner, log) } else { (log, owner) };
            vec![
                big(seq_number(mark.value.seq)),
                blob(rows::encode_mark(mark.value)),
                first,
                second,
                tiny(mark.kind as u8),
                big(i64::from(mark.lane)),
            ]
        });
        let statement = if is_inbox {
            &statements.raise_inbox
        } else {
            &statements.raise_mark
        };
        self.cql
            .write_all_and(statement, writes.collect(), touch)
            .await
    }

    /// [`tidings_store::Store::touched`].
    pub(crate) async fn touched(&self, user: UserId) -> Result<Time, StoreError> {
        let waiting = self.late.touched(user.0);
        let row = self
            .cql
            .first::<(Option<i64>,)>(&self.cql.statements.touched, (user.0,))
            .await?;
        let stored = row
            .and_then(|(touched,)| touched)
            .map_or(Time(0), |at| Time(rows::seq(at)));
        Ok(stored.max(waiting))
    }

    /// [`tidings_store::Store::marks`].
    pub(crate) async fn marks(&self, log: LogId, owner: [u8; 16]) -> Result<Vec<Mark>, StoreError> {
        let waiting = self.late.of_owner(log, owner);
        let mut found = self.stored_marks(log, owner).await?;
        lay_over(waiting, |_| true, &mut found);
        Ok(marks_of(log, found))
    }

    async fn stored_marks(&self, log: LogId, owner: [u8; 16]) -> Result<OfLog, StoreError> {
        let values = (log.to_bytes(), owner);
        let rows = self
            .cql
            .rows::<MarkColumns>(&self.cql.statements.marks_of_owner, values)
            .await?;
        rows.into_iter().map(mark_row).collect()
    }

    /// [`tidings_store::Store::marks_of_log`].
    pub(crate) async fn marks_of_log(
        &self,
        log: LogId,
        after: Option<[u8; 16]>,
        limit: usize,
    ) -> Result<Vec<Mark>, StoreError> {
        let waiting = self.late.of_log(log, after);
        let count = i32::try_from(limit.max(1)).unwrap_or(i32::MAX);
        let statements = &self.cql.statements;
        let rows = match after {
            Some(after) => {
                let values = (log.to_bytes(), after, count);
                self.cql
                    .rows::<MarkColumns>(&statements.marks_of_log, values)
                    .await?
            }
            None => {
                let values = (log.to_bytes(), count);
                self.cql
                    .rows::<MarkColumns>(&statements.marks_of_log_all, values)
                    .await?
            }
        };
        let is_cut = rows.len() >= limit.max(1);
        let mut found: BTreeMap<_, _> = rows.into_iter().map(mark_row).collect::<Result<_, _>>()?;
        let last = found
            .keys()
            .next_back()
            .map(|(owner, ..)| *owner)
            .filter(|_| is_cut);
        if let Some(last) = last {
            found.extend(self.stored_marks(log, last).await?);
        }
        let is_within = |(owner, ..): (_, _, _)| last.is_none_or(|last| owner <= last);
        lay_over(waiting, is_within, &mut found);
        let marks = marks_of(log, found);
        Ok(whole_groups(marks, limit, |mark| mark.owner))
    }

    /// [`tidings_store::Store::memberships`].
    pub(crate) async fn memberships(
        &self,
        user: UserId,
        after: Option<LogId>,
        limit: usize,
    ) -> Result<Vec<Mark>, StoreError> {
        let waiting = self.late.of_inbox(user.0, after);
        let count = i32::try_from(limit.max(1)).unwrap_or(i32::MAX);
        let from = after.map_or(Vec::new(), |after| after.to_bytes().to_vec());
        let statements = &self.cql.statements;
        let rows = self
            .cql
            .rows::<MarkColumns>(&statements.inbox, (user.0, from, count))
            .await?;
        let is_cut = rows.len() >= limit.max(1);
        let mut found: BTreeMap<_, _> =
            rows.into_iter().map(inbox_row).collect::<Result<_, _>>()?;
        let last = found
            .keys()
            .next_back()
            .map(|(log, ..)| *log)
            .filter(|_| is_cut);
        if let Some(last) = last {
            let values = (user.0, last.to_bytes());
            let rows = self
                .cql
                .rows::<MarkColumns>(&statements.inbox_of_log, values)
                .await?;
            for row in rows {
                let (place, value) = inbox_row(row)?;
                found.insert(place, value);
            }
        }
        let is_within = |(log, ..): (_, _, _)| last.is_none_or(|last| log <= last);
        lay_over(waiting, is_within, &mut found);
        let marks = found
            .into_iter()
            .map(|((log, kind, lane), value)| Mark {
                log,
                owner: user.0,
                kind,
                lane,
                value,
            })
            .collect();
        Ok(whole_groups(marks, limit, |mark| mark.log))
    }

    /// Raises a mark of the log itself.
    pub(crate) async fn raise_log(
        &self,
        log: LogId,
        kind: LogMark,
        value: i64,
    ) -> Result<(), StoreError> {
        let values = (value, value, log.to_bytes(), (kind as u8).cast_signed());
        self.cql.write(&self.cql.statements.raise_log, values).await
    }

    /// [`tidings_store::Store::steps_past`].
    pub(crate) async fn steps_past(&self, log: LogId, seq: Seq) -> Result<Vec<Step>, StoreError> {
        let waiting = self.late.steps(log);
        let marks = self.log_marks(log).await?;
        let mut first: BTreeMap<([u8; 16], MarkKind), (Seq, Time)> = BTreeMap::new();
        let mut keep = |step: Step| {
            let is_wanted = step.seq >= seq && step.seq > marks.trimmed;
            let place = (step.owner, step.kind);
            if is_wanted
                && first
                    .get(&place)
                    .is_none_or(|kept| (step.seq, step.at) < *kept)
            {
                first.insert(place, (step.seq, step.at));
            }
        };
        let from = bucket_of(seq);
        for bucket in from..=marks.step_bucket.min(from.saturating_add(STEP_BUCKETS_MAX)) {
            let values = (log.to_bytes(), bucket, seq_number(seq));
            let rows = self
                .cql
                .rows::<(i64, Vec<u8>, i8, i64)>(&self.cql.statements.steps, values)
                .await?;
            for (seq, owner, kind, at) in rows {
                keep(Step {
                    log,
                    owner: rows::id(&owner)?,
                    kind: rows::mark_kind(kind)?,
                    seq: rows::seq(seq),
                    at: Time(rows::seq(at)),
                });
            }
        }
        waiting.into_iter().for_each(&mut keep);
        Ok(first
            .into_iter()
            .map(|((owner, kind), (seq, at))| Step {
                log,
                owner,
                kind,
                seq,
                at,
            })
            .collect())
    }

    /// [`tidings_store::Store::flush`]: writes what waits. One at a time, so that nothing is half flushed.
    pub(crate) async fn flush(&self) -> Result<(), StoreError> {
        let _one = self.flushing.lock().await;
        let batch = self.late.take();
        if batch.is_empty() {
            self.late.written();
            return Ok(());
        }
        let written = self.write_late(&batch).await;
        match &written {
            Ok(()) => self.late.written(),
            Err(_) => self.late.failed(),
        }
        written
    }

    async fn write_late(&self, batch: &Batch) -> Result<(), StoreError> {
        let marks = batch.marks.iter().flat_map(|(&log, marks)| {
            marks
                .iter()
                .map(move |(&(owner, kind, lane), &value)| Mark {
                    log,
                    owner,
                    kind,
                    lane,
                    value,
                })
        });
        let steps = batch
            .steps
            .iter()
            .map(|(&(log, owner, kind, seq), &at)| Step {
                log,
                owner,
                kind,
                seq,
                at,
            });
        let (marks, steps) = (marks.collect(), steps.collect());
        let (marks, steps) = tokio::join!(self.write_marks(marks), self.write_steps(steps));
        marks.and(steps)
    }

    async fn write_steps(&self, steps: Vec<Step>) -> Result<(), StoreError> {
        let mut partitions: BTreeMap<(LogId, i64), Vec<Step>> = BTreeMap::new();
        for step in steps {
            partitions
                .entry((step.log, bucket_of(step.seq)))
                .or_default()
                .push(step);
        }
        stream::iter(partitions)
            .map(|((log, bucket), steps)| self.write_steps_of(log, bucket, steps))
            .buffer_unordered(AT_ONCE)
            .try_collect::<Vec<()>>()
            .await
            .map(|_| ())
    }

    async fn write_steps_of(
        &self,
        log: LogId,
        bucket: i64,
        steps: Vec<Step>,
    ) -> Result<(), StoreError> {
        self.note_step_bucket(log, bucket).await?;
        let writes = steps.into_iter().map(|step| {
            let at = seq_number(step.at.0);
            vec![
                log_value(log),
                big(bucket),
                big(seq_number(step.seq)),
                blob(step.owner),
                tiny(step.kind as u8),
                big(at),
                // The earlier wins.
                big(-at),
            ]
        });
        self.cql
            .write_all(&self.cql.statements.keep_step, writes.collect())
            .await
    }

    async fn note_step_bucket(&self, log: LogId, bucket: i64) -> Result<(), StoreError> {
        if bucket == 0 || self.step_buckets.is_known(log, bucket) {
            return Ok(());
        }
        self.raise_log(log, LogMark::StepBucket, bucket).await?;
        self.step_buckets.note(log, bucket);
        Ok(())
    }
}

fn mark_row(
    (owner, kind, lane, value): MarkColumns,
) -> Result<(late::OfLog, MarkValue), StoreError> {
    let lane = u32::try_from(lane).unwrap_or(0);
    Ok((
        (rows::id(&owner)?, rows::mark_kind(kind)?, lane),
        rows::decode_mark(&value)?,
    ))
}

fn inbox_row(
    (log, kind, lane, value): MarkColumns,
) -> Result<(late::OfInbox, MarkValue), StoreError> {
    let lane = u32::try_from(lane).unwrap_or(0);
    Ok((
        (rows::log_id(&log)?, rows::mark_kind(kind)?, lane),
        rows::decode_mark(&value)?,
    ))
}

fn marks_of(log: LogId, found: OfLog) -> Vec<Mark> {
    found
        .into_iter()
        .map(|((owner, kind, lane), value)| Mark {
            log,
            owner,
            kind,
            lane,
            value,
        })
        .collect()
}

/// Marks up to `limit`, and the rest of the group in which that falls.
fn whole_groups<K: PartialEq>(
    mut marks: Vec<Mark>,
    limit: usize,
    group: impl Fn(&Mark) -> K,
) -> Vec<Mark> {
    let end = (limit.max(1)..marks.len())
        .find(|&index| group(&marks[index]) != group(&marks[index - 1]))
        .unwrap_or(marks.len());
    marks.truncate(end);
    marks
}
