//! What belongs to an append and cannot be in its batch: the index by target, erased bodies, marks, the state.
//!
//! Came in: an append whose entries are in. Next: the answer to whoever appended. Everything here may be
//! repeated by anybody: an append that died in between left a row that says what it owes, and the next
//! who asks for the log's head does it.

use std::ops::RangeInclusive;

use futures_util::future::try_join_all;
use tidings_core::entry::{Body, Entry, Kind};
use tidings_core::log::{LogId, Seq};
use tidings_store::{Append, Direction, ReadLog, StoreError, Want};

use crate::cql::{big, blob, log_value, seq_number};
use crate::rows::{self, Altering, Nonce, OWED, Owed};
use crate::schema::bucket_of;
use crate::store::{Inner, LogMark};
use crate::vanish::{DAY_MS, clock_stamp, now};

/// A row that says what is owed: its key and data.
type OwedRow = (Vec<u8>, Vec<u8>);

impl Inner {
    /// Does what an append owes.
    pub(crate) async fn settle_append(
        &self,
        append: &Append,
        nonce: Nonce,
    ) -> Result<(), StoreError> {
        let log = append.log;
        let (targets, erase, marks, state, bucket) = tokio::join!(
            self.index_targets(log, &append.entries),
            self.erase(log, append.erase.clone()),
            self.write_marks(append.marks.clone()),
            async {
                match &append.state {
                    Some(state) => self.write_state(log, state.clone()).await,
                    None => Ok(()),
                }
            },
            self.note_open_bucket(append),
        );
        targets.and(erase).and(marks).and(state).and(bucket)?;
        for part in append
            .entries
            .chunk_by(|one, next| bucket_of(one.seq()) == bucket_of(next.seq()))
        {
            if let Some(owed) = crate::append::owed(append, part) {
                self.forgive(log, owed.first, nonce).await?;
            }
        }
        Ok(())
    }

    /// The log's open bucket, when an append began one: where a search for the head begins.
    async fn note_open_bucket(&self, append: &Append) -> Result<(), StoreError> {
        let opened = append
            .entries
            .last()
            .map_or(0, |last| bucket_of(last.seq()));
        if opened == bucket_of(append.expected_head) {
            return Ok(());
        }
        self.raise_log(append.log, LogMark::OpenBucket, opened)
            .await
    }

    async fn index_targets(&self, log: LogId, entries: &[Entry]) -> Result<(), StoreError> {
        let writes = entries.iter().filter_map(|entry| {
            let envelope = &entry.envelope;
            let target = envelope.target.filter(|_| envelope.alters_target())?;
            let altering = match (envelope.kind, &entry.body) {
                (Kind::Edit, _) => Altering::Edit,
                (Kind::Delete, _) => Altering::Delete,
                (_, Body::Reaction { emoji, on }) => Altering::Reaction {
                    author: envelope.author,
                    emoji: emoji.clone(),
                    on: *on,
                },
                _ => return None,
            };
            let values = vec![
                log_value(log),
                big(bucket_of(target)),
                big(seq_number(target)),
                big(seq_number(envelope.seq)),
                blob(rows::encode_altering(&altering)),
            ];
            Some(async move {
                self.cql
                    .write(&self.cql.statements.put_target, values)
                    .await
            })
        });
        try_join_all(writes).await.map(|_| ())
    }

    /// The row that says what is owed has done its work.
    async fn forgive(&self, log: LogId, first: Seq, nonce: Nonce) -> Result<(), StoreError> {
        let key = rows::owed_key(first, nonce);
        self.forget_rows(log, bucket_of(first), OWED, key.clone(), key)
            .await
    }

    /// Does what earlier appends to these buckets still owe, the oldest first: what is erased by one may have been
    /// indexed by another.
    pub(crate) async fn settle_owed(
        &self,
        log: LogId,
        buckets: RangeInclusive<i64>,
    ) -> Result<(), StoreError> {
        let reads = buckets.map(|bucket| async move {
            let values = (
                log.to_bytes(),
                bucket,
                OWED.cast_signed(),
                Vec::<u8>::new(),
                vec![0xff_u8; 16],
                1_000_i32,
            );
            let rows = self.cql.rows(&self.cql.statements.rows_up, values).await?;
            Ok((bucket, rows))
        });
        let found: Vec<(i64, Vec<OwedRow>)> = try_join_all(reads).await?;
        for (bucket, rows) in found {
            for (key, data) in rows {
                let owed = rows::decode_owed(&data)?;
                tracing::info!(
                    first = owed.first,
                    "finishing an append that somebody left half settled"
                );
                self.pay(log, &owed).await?;
                self.forget_rows(log, bucket, OWED, key.clone(), key)
                    .await?;
            }
        }
        Ok(())
    }

    async fn pay(&self, log: LogId, owed: &Owed) -> Result<(), StoreError> {
        let count = owed.last.saturating_sub(owed.first) + 1;
        let read = ReadLog {
            from: owed.first,
            direction: Direction::Forwards,
            limit: usize::try_from(count).unwrap_or(usize::MAX),
            bytes_max: usize::MAX,
            want: Want::Entries,
        };
        let page = self.read(log, read).await?;
        let entries: Vec<Entry> = page
            .entries
            .into_iter()
            .filter(|entry| entry.seq() <= owed.last)
            .collect();
        self.index_targets(log, &entries).await?;
        let erase = self.deleted_by(log, &entries).await?;
        self.erase(log, [owed.erase.as_slice(), &erase].concat())
            .await?;
        self.write_marks(owed.marks.clone()).await
    }

    /// The bodies that go with the deletions among these entries: their targets', and those of their edits. The
    /// append named them, but not by deletion, and not all of its deletions may have come to be.
    async fn deleted_by(&self, log: LogId, entries: &[Entry]) -> Result<Vec<Seq>, StoreError> {
        let deletions = entries
            .iter()
            .filter(|entry| entry.envelope.kind == Kind::Delete);
        let targets: Vec<Seq> = deletions
            .filter_map(|entry| entry.envelope.target)
            .collect();
        let altered = self.alterations(log, targets.clone()).await?;
        let edits = altered.into_iter().flat_map(|altered| altered.edits);
        Ok(targets.iter().copied().chain(edits).collect())
    }

    /// Deletes rows of a log that nobody will ever write again. They have the timestamps of the clocks of
    /// coordinators, so that of the deletion is a day later; ScyllaDB refuses one of more than three days.
    pub(crate) async fn forget_rows(
        &self,
        log: LogId,
        bucket: i64,
        kind: u8,
        from: Vec<u8>,
        to: Vec<u8>,
    ) -> Result<(), StoreError> {
        let values = (
            clock_stamp(now() + DAY_MS),
            log.to_bytes(),
            bucket,
            kind.cast_signed(),
            from,
            to,
        );
        self.cql
            .write(&self.cql.statements.forget_rows, values)
            .await
    }
}
