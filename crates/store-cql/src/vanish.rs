//! What goes: erased bodies, trimmed logs, envelopes that were kept long enough.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::{try_join, try_join_all};
use tidings_core::codec::decode_body;
use tidings_core::entry::{Body, Kind};
use tidings_core::log::{LogId, SEQ_MAX, Seq};
use tidings_store::StoreError;

use crate::cql::{damaged, seq_number};
use crate::rows::{self, Altering, CLIENT, ENTRY, EntryRow};
use crate::schema::{bucket_of, first_of, last_of};
use crate::store::{Inner, List, LogMark};

pub(crate) const HOUR_MS: u64 = 3_600_000;
pub(crate) const DAY_MS: u64 = 24 * HOUR_MS;

/// Entries erased at the same time.
const ERASED_AT_ONCE: usize = 32;

impl Inner {
    /// [`tidings_store::Store::erase`].
    pub(crate) async fn erase(&self, log: LogId, seqs: Vec<Seq>) -> Result<(), StoreError> {
        let seqs: BTreeSet<Seq> = seqs
            .into_iter()
            .filter(|seq| (1..=SEQ_MAX).contains(seq))
            .collect();
        let seqs: Vec<Seq> = seqs.into_iter().collect();
        for some in seqs.chunks(ERASED_AT_ONCE) {
            try_join_all(some.iter().map(|seq| self.erase_one(log, *seq))).await?;
        }
        Ok(())
    }

    async fn erase_one(&self, log: LogId, seq: Seq) -> Result<(), StoreError> {
        let Some(row) = self.entry_row(log, seq).await? else {
            return Ok(());
        };
        if row.envelope.kind == Kind::Reaction
            && let Some(target) = row.envelope.target
        {
            self.hide_emoji(log, &row, target).await?;
        }
        self.drop_body(log, &row).await
    }

    /// The emoji of a reaction stands in the index too. First, for it is in the body that it is looked up.
    async fn hide_emoji(&self, log: LogId, row: &EntryRow, target: Seq) -> Result<(), StoreError> {
        let seq = row.envelope.seq;
        let bodies = self
            .bodies(log, bucket_of(seq), seq, seq, row.class)
            .await?;
        let body = bodies
            .into_iter()
            .find(|((_, nonce), _)| *nonce == row.nonce);
        let Some(body) = body.map(|(_, body)| decode_body(Kind::Reaction, &body)) else {
            return Ok(());
        };
        let Body::Reaction { emoji, .. } = body.map_err(damaged)? else {
            return Ok(());
        };
        let gone = Altering::Gone {
            author: row.envelope.author,
            emoji: rows::hash_emoji(&emoji),
        };
        let data = rows::encode_altering(&gone);
        let values = (
            data,
            log.to_bytes(),
            bucket_of(target),
            seq_number(target),
            seq_number(seq),
        );
        self.cql
            .write(&self.cql.statements.hide_target, values)
            .await
    }

    /// Also the copies of appends that died before their batch, most likely of the same message: a retry took the seq.
    /// They may be of the other class, if the retention was changed in between.
    async fn drop_body(&self, log: LogId, row: &EntryRow) -> Result<(), StoreError> {
        let seq = row.envelope.seq;
        let place = || (log.to_bytes(), bucket_of(seq), seq_number(seq));
        let statements = &self.cql.statements;
        try_join(
            self.cql.write(&statements.erase_kept, place()),
            self.cql.write(&statements.erase_bounded, place()),
        )
        .await
        .map(|_| ())
    }

    /// [`tidings_store::Store::trim`].
    pub(crate) async fn trim(&self, log: LogId, up_to: Seq) -> Result<Seq, StoreError> {
        let (marks, state) = try_join(self.log_marks(log), self.read_state(log)).await?;
        let Some(tail) = self.tail(log).await? else {
            return Ok(0);
        };
        let durable = state.map_or(0, |state| state.seq);
        let after = up_to.min(durable).min(tail.head).max(marks.trimmed);
        if after > marks.trimmed {
            // The mark first: what is served no more may go.
            self.raise_log(log, LogMark::Trimmed, seq_number(after))
                .await?;
        }
        self.sweep(log, marks.swept, after).await?;
        Ok(after)
    }

    /// Deletes what belongs to entries above `from`, the swept mark, and up to `up_to`, the trimmed one.
    pub(crate) async fn sweep(&self, log: LogId, from: Seq, up_to: Seq) -> Result<(), StoreError> {
        if up_to <= from {
            return Ok(());
        }
        let statements = &self.cql.statements;
        for bucket in bucket_of(from + 1)..=bucket_of(up_to) {
            let end = up_to.min(last_of(bucket));
            let values = (log.to_bytes(), bucket, seq_number(end));
            let trims = [
                &statements.trim_kept,
                &statements.trim_bounded,
                &statements.trim_targets,
                &statements.trim_steps,
            ];
            try_join_all(trims.map(|statement| self.cql.write(statement, values))).await?;
            if end == last_of(bucket) {
                let due = now().saturating_add(self.cql.settings.envelopes_kept.as_millis() as u64);
                let bucket = bucket.to_be_bytes().to_vec();
                let item = log.to_bytes().to_vec();
                let day = (due / DAY_MS).cast_signed();
                self.list(List::Forgetting, day, item, bucket, 1).await?;
            }
        }
        self.raise_log(log, LogMark::Swept, seq_number(up_to)).await
    }

    /// Forgets envelopes and client ids of trimmed entries up to this one.
    pub(crate) async fn forget_envelopes(&self, log: LogId, up_to: Seq) -> Result<(), StoreError> {
        let marks = self.log_marks(log).await?;
        let up_to = up_to.min(marks.trimmed);
        if up_to == 0 {
            return Ok(());
        }
        // The mark first: who reads begins behind it, and sees no gap.
        self.raise_log(log, LogMark::Forgotten, seq_number(up_to))
            .await?;
        // The last bucket in any case: whoever raised the mark before may have died before its rows went.
        let last = bucket_of(up_to);
        for bucket in bucket_of(marks.forgotten + 1).min(last)..=last {
            let (low, high) = (rows::entry_key(0).to_vec(), rows::entry_key(up_to).to_vec());
            if up_to >= last_of(bucket) {
                let all = vec![0xff; 32];
                self.forget_rows(log, bucket, CLIENT, Vec::new(), all)
                    .await?;
            } else {
                self.forget_client_ids(log, bucket, up_to).await?;
            }
            self.forget_rows(log, bucket, ENTRY, low, high).await?;
        }
        Ok(())
    }

    /// Forgets the client ids of the first entries of a bucket that is still open.
    async fn forget_client_ids(
        &self,
        log: LogId,
        bucket: i64,
        up_to: Seq,
    ) -> Result<(), StoreError> {
        for seq in first_of(bucket)..=up_to {
            if let Some(row) = self.entry_row(log, seq).await? {
                let key = rows::client_key(row.envelope.author, row.envelope.client_id).to_vec();
                self.forget_rows(log, bucket, CLIENT, key.clone(), key)
                    .await?;
            }
        }
        Ok(())
    }

    /// Forgets what has been kept for long enough. Answers how many buckets went.
    pub(crate) async fn forget_due(&self) -> Result<usize, StoreError> {
        let today = (now() / DAY_MS).cast_signed();
        let mut forgotten = 0;
        // A month back is as far as a cluster may have stood still without somebody noticing.
        for day in today - 31..=today {
            for (item, bucket) in self
                .listed(List::Forgetting, day, Vec::new(), 10_000)
                .await?
            {
                let log = rows::log_id(&item)?;
                let number = bucket.as_slice().try_into().map_or(0, i64::from_be_bytes);
                self.forget_envelopes(log, last_of(number)).await?;
                self.unlist(List::Forgetting, day, item, bucket, 2).await?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    /// Adds an item to a list.
    pub(crate) async fn list(
        &self,
        list: List,
        part: i64,
        item: Vec<u8>,
        data: Vec<u8>,
        timestamp: i64,
    ) -> Result<(), StoreError> {
        let list = (list as u8).cast_signed();
        let values = (list, part, item, data, timestamp);
        self.cql
            .write(&self.cql.statements.put_listed, values)
            .await
    }

    pub(crate) async fn unlist(
        &self,
        list: List,
        part: i64,
        item: Vec<u8>,
        data: Vec<u8>,
        timestamp: i64,
    ) -> Result<(), StoreError> {
        let list = (list as u8).cast_signed();
        let values = (timestamp, list, part, item, data);
        self.cql
            .write(&self.cql.statements.drop_listed, values)
            .await
    }

    /// Items of a list from one on, in their order.
    pub(crate) async fn listed(
        &self,
        list: List,
        part: i64,
        from: Vec<u8>,
        limit: i32,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let values = ((list as u8).cast_signed(), part, from, limit);
        self.cql.rows(&self.cql.statements.listed, values).await
    }
}

/// The timestamp that the database gives to a write at this time (milliseconds to microseconds).
pub(crate) fn clock_stamp(at: u64) -> i64 {
    i64::try_from(at.saturating_mul(1_000)).unwrap_or(i64::MAX)
}

pub(crate) fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_millis() as u64)
}
