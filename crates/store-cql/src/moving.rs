//! Moving a deployment out of and into this store.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tidings_core::Time;
use tidings_core::log::LogId;
use tidings_store::{Beginning, Movable, Step, StoreError, StoreFuture};

use crate::append::Tail;
use crate::cql::{Conditional, big, blob, log_value, seq_number};
use crate::rows;
use crate::schema::bucket_of;
use crate::store::{CqlStore, Inner, LogMark};

impl Movable for CqlStore {
    fn all_logs(&self) -> StoreFuture<'_, Result<Vec<LogId>, StoreError>> {
        self.run(|inner| async move {
            let buckets = inner
                .cql
                .all_rows::<(Vec<u8>, i64)>(&inner.cql.statements.all_buckets)
                .await?;
            let logs: BTreeSet<LogId> = buckets
                .into_iter()
                .map(|(log, _)| rows::log_id(&log))
                .collect::<Result<_, _>>()?;
            Ok(logs.into_iter().collect())
        })
    }

    fn all_steps(&self, log: LogId) -> StoreFuture<'_, Result<Vec<Step>, StoreError>> {
        self.run(move |inner| async move { inner.all_steps(log).await })
    }

    fn begin_at(
        &self,
        log: LogId,
        beginning: Beginning,
    ) -> StoreFuture<'_, Result<(), StoreError>> {
        self.run(move |inner| async move { inner.begin_at(log, beginning).await })
    }
}

impl Inner {
    async fn all_steps(&self, log: LogId) -> Result<Vec<Step>, StoreError> {
        let marks = self.log_marks(log).await?;
        let mut steps = self.late.steps(log);
        for bucket in bucket_of(marks.trimmed + 1)..=marks.step_bucket {
            let values = (log.to_bytes(), bucket, 0_i64);
            let rows = self
                .cql
                .rows::<(i64, Vec<u8>, i8, i64)>(&self.cql.statements.steps, values)
                .await?;
            for (seq, owner, kind, at) in rows {
                steps.push(Step {
                    log,
                    owner: rows::id(&owner)?,
                    kind: rows::mark_kind(kind)?,
                    seq: rows::seq(seq),
                    at: Time(rows::seq(at)),
                });
            }
        }
        steps.retain(|step| step.seq > marks.trimmed);
        Ok(steps)
    }

    /// The marks first and the head last: whoever repeats it after a crash finds the head where it was, and
    /// does all of it again.
    async fn begin_at(&self, log: LogId, beginning: Beginning) -> Result<(), StoreError> {
        self.tails.remove(&log);
        let before = self.tail(log).await?;
        if let Some(tail) = before {
            if tail.generation != beginning.generation {
                return Err(StoreError::Misuse(
                    "a log goes on in another generation".to_owned(),
                ));
            }
            if tail.head >= beginning.seq {
                return Ok(());
            }
        }
        let seq = seq_number(beginning.seq);
        let swept = self.log_marks(log).await?.swept;
        if let Some(tail) = before {
            self.raise_log(log, LogMark::Trimmed, seq_number(tail.head))
                .await?;
            self.sweep(log, swept, tail.head).await?;
            self.forget_envelopes(log, tail.head).await?;
        }
        // There is nothing to sweep between here and there.
        self.raise_log(log, LogMark::Swept, seq).await?;
        self.raise_log(log, LogMark::Forgotten, seq).await?;
        self.raise_log(log, LogMark::Trimmed, seq).await?;
        self.move_to(log, &beginning, before).await?;
        self.raise_log(log, LogMark::OpenBucket, bucket_of(beginning.seq))
            .await
    }

    /// Puts the head of a bucket where the log goes on. Nobody else writes to the log meanwhile.
    async fn move_to(
        &self,
        log: LogId,
        beginning: &Beginning,
        before: Option<Tail>,
    ) -> Result<(), StoreError> {
        let bucket = bucket_of(beginning.seq);
        let place = [log_value(log), big(bucket)];
        let generation = blob(beginning.generation.0);
        let head = [
            big(seq_number(beginning.ordinal)),
            big(seq_number(beginning.at.0)),
        ];
        let seq = big(seq_number(beginning.seq));
        let same = before.filter(|tail| bucket_of(tail.head) == bucket);
        let statements = &self.cql.statements;
        let statement = match same {
            Some(tail) => {
                let condition = [big(seq_number(tail.head)), generation];
                let values = [&[seq], head.as_slice(), &place, &condition].concat();
                (&statements.move_head, values)
            }
            None => {
                let values = [&[seq, generation], head.as_slice(), &place].concat();
                (&statements.open_log, values)
            }
        };
        let end = Instant::now() + self.cql.settings.patience;
        let mut tries = 0;
        loop {
            let outcome = self
                .cql
                .conditional(std::slice::from_ref(&statement), tries)
                .await?;
            let why = match outcome {
                Conditional::Applied => return Ok(()),
                Conditional::Refused => {
                    let tail = self.bucket_tail(log, bucket, true).await?;
                    if tail.is_some_and(|tail| tail.head == beginning.seq) {
                        return Ok(());
                    }
                    "somebody else writes to the log".to_owned()
                }
                Conditional::Unknown(why) => why,
            };
            tries += 1;
            if Instant::now() >= end {
                return Err(StoreError::Unavailable(why));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
