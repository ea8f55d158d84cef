//! What goes: erased bodies, trimmed logs, entries whose time has come, envelopes that were kept long enough.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::{try_join, try_join_all};
use tidings_core::Time;
use tidings_core::codec::decode_body;
use tidings_core::entry::{Body, Entry, Kind};
use tidings_core::log::{LogId, SEQ_MAX, Seq};
use tidings_store::StoreError;

use crate::cql::{big, blob, damaged, log_value, seq_number, tiny};
use crate::rows::{self, Altering, CLIENT, Class, ENTRY, EntryRow, Nonce};
use crate::schema::{bucket_of, first_of, last_of};
use crate::store::{Inner, List, LogMark};

/// Partitions over which the expiries of an hour are spread.
const SHARDS: u8 = 16;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

/// A row of `expiry` whose entry is not there: after so long it never will be.
const ORPHAN_MS: u64 = DAY_MS;

/// Entries erased at the same time.
const ERASED_AT_ONCE: usize = 32;

/// One row of `expiry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Expiry {
    at: Time,
    log: LogId,
    seq: Seq,
    nonce: Nonce,
}

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

    async fn drop_body(&self, log: LogId, row: &EntryRow) -> Result<(), StoreError> {
        let seq = row.envelope.seq;
        let statement = match row.class {
            Class::Kept => &self.cql.statements.drop_kept,
            Class::Bounded => &self.cql.statements.drop_bounded,
        };
        let values = (log.to_bytes(), bucket_of(seq), seq_number(seq), row.nonce);
        self.cql.write(statement, values).await
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
        if after > marks.swept {
            self.sweep(log, marks.swept, after).await?;
            self.raise_log(log, LogMark::Swept, seq_number(after))
                .await?;
        }
        Ok(after)
    }

    /// Deletes what belongs to entries above `from` and up to `up_to`.
    async fn sweep(&self, log: LogId, from: Seq, up_to: Seq) -> Result<(), StoreError> {
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
                self.list(List::Forgetting, (due / DAY_MS).cast_signed(), item, bucket)
                    .await?;
            }
        }
        Ok(())
    }

    /// Forgets envelopes and client ids of trimmed entries up to this one.
    pub(crate) async fn forget_envelopes(&self, log: LogId, up_to: Seq) -> Result<(), StoreError> {
        let marks = self.log_marks(log).await?;
        let up_to = up_to.min(marks.trimmed);
        if up_to <= marks.forgotten {
            return Ok(());
        }
        self.raise_log(log, LogMark::Forgotten, seq_number(up_to))
            .await?;
        for bucket in bucket_of(marks.forgotten + 1)..=bucket_of(up_to) {
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
                self.unlist(List::Forgetting, day, item, bucket).await?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    /// Notes when entries vanish; before they are appended, so that none is forgotten.
    pub(crate) async fn write_expiries(
        &self,
        log: LogId,
        entries: &[Entry],
        nonce: Nonce,
    ) -> Result<(), StoreError> {
        let expiring = entries
            .iter()
            .filter_map(|entry| Some((entry, entry.envelope.expires?)));
        let writes = expiring.map(|(entry, expires)| async move {
            let (hour, shard) = place_of(expires, log);
            let values = vec![
                big(hour),
                tiny(shard),
                big(seq_number(expires.0)),
                log_value(log),
                big(seq_number(entry.seq())),
                big(nonce),
            ];
            self.cql
                .write(&self.cql.statements.put_expiry, values)
                .await?;
            self.list_hour(hour, shard).await
        });
        try_join_all(writes).await.map(|_| ())
    }

    async fn list_hour(&self, hour: i64, shard: u8) -> Result<(), StoreError> {
        if self.hours.is_known(hour, shard) {
            return Ok(());
        }
        self.list(List::Hours, 0, hour.to_be_bytes().to_vec(), vec![shard])
            .await?;
        self.hours.note(hour, shard);
        Ok(())
    }

    /// [`tidings_store::Store::expired`].
    pub(crate) async fn expired(
        &self,
        now: Time,
        limit: usize,
    ) -> Result<Vec<(LogId, Seq)>, StoreError> {
        let mut found = Vec::new();
        let mut from = Vec::new();
        loop {
            let hours = self.listed(List::Hours, 0, from.clone(), 1_000).await?;
            let is_last = hours.len() < 1_000;
            let mut places: BTreeSet<(i64, u8)> = BTreeSet::new();
            for (hour, shard) in &hours {
                let hour = hour.as_slice().try_into().map_or(0, i64::from_be_bytes);
                places.insert((hour, shard.first().copied().unwrap_or(0)));
            }
            for of_hour in places
                .into_iter()
                .collect::<Vec<_>>()
                .chunk_by(|one, next| one.0 == next.0)
            {
                let hour = of_hour.first().map_or(0, |(hour, _)| *hour);
                if hour > place_of(now, NO_LOG).0 {
                    return Ok(found);
                }
                let wanted = limit - found.len();
                found.extend(self.expired_in(of_hour, now, wanted).await?);
                if found.len() >= limit {
                    return Ok(found);
                }
            }
            match hours.last() {
                Some((last, _)) if !is_last => from.clone_from(last),
                _ => return Ok(found),
            }
        }
    }

    /// The earliest expired entries of one hour that still have a body.
    async fn expired_in(
        &self,
        shards: &[(i64, u8)],
        now: Time,
        wanted: usize,
    ) -> Result<Vec<(LogId, Seq)>, StoreError> {
        let mut found = Vec::new();
        loop {
            let reads = shards.iter().map(|&(hour, shard)| async move {
                if self.hours.is_done(hour, shard, now) {
                    return Ok(Vec::new());
                }
                let limit = i32::try_from(wanted.max(100)).unwrap_or(i32::MAX);
                let values = (hour, shard.cast_signed(), seq_number(now.0), limit);
                let rows = self
                    .cql
                    .rows::<(i64, Vec<u8>, i64, i64)>(&self.cql.statements.expiry, values)
                    .await?;
                if rows.is_empty() {
                    self.hours.note_done(hour, shard, now);
                }
                rows.into_iter()
                    .map(|(at, log, seq, nonce)| {
                        let (at, log, seq) =
                            (Time(rows::seq(at)), rows::log_id(&log)?, rows::seq(seq));
                        Ok(Expiry {
                            at,
                            log,
                            seq,
                            nonce,
                        })
                    })
                    .collect::<Result<Vec<Expiry>, StoreError>>()
            });
            let mut rows: Vec<Expiry> = try_join_all(reads).await?.into_iter().flatten().collect();
            rows.sort_unstable();
            let mut dropped = 0;
            found.clear();
            for expiry in rows {
                if found.len() >= wanted {
                    return Ok(found);
                }
                match self.is_due(&expiry, now).await? {
                    Due::Yes => found.push((expiry.log, expiry.seq)),
                    Due::NotYet => {}
                    Due::Never => {
                        self.drop_expiry(&expiry).await?;
                        dropped += 1;
                    }
                }
            }
            // What was dropped may have hidden others behind the limit.
            if dropped == 0 || found.len() >= wanted {
                return Ok(found);
            }
        }
    }

    async fn is_due(&self, expiry: &Expiry, now: Time) -> Result<Due, StoreError> {
        let row = self.entry_row(expiry.log, expiry.seq).await?;
        let Some(row) = row.filter(|row| row.nonce == expiry.nonce) else {
            // An append that never happened, or one that is still under way.
            let is_old = expiry.at.0.saturating_add(ORPHAN_MS) < now.0;
            return Ok(if is_old { Due::Never } else { Due::NotYet });
        };
        let seq = row.envelope.seq;
        let bodies = self
            .bodies(expiry.log, bucket_of(seq), seq, seq, row.class)
            .await?;
        let has_body = bodies.iter().any(|((_, nonce), _)| *nonce == row.nonce);
        Ok(if has_body { Due::Yes } else { Due::Never })
    }

    async fn drop_expiry(&self, expiry: &Expiry) -> Result<(), StoreError> {
        let (hour, shard) = place_of(expiry.at, expiry.log);
        let values = vec![
            big(hour),
            tiny(shard),
            big(seq_number(expiry.at.0)),
            log_value(expiry.log),
            big(seq_number(expiry.seq)),
            big(expiry.nonce),
        ];
        self.cql
            .write(&self.cql.statements.drop_expiry, values)
            .await
    }

    /// Adds an item to a list.
    pub(crate) async fn list(
        &self,
        list: List,
        part: i64,
        item: Vec<u8>,
        data: Vec<u8>,
    ) -> Result<(), StoreError> {
        let values = vec![tiny(list as u8), big(part), blob(item), blob(data)];
        self.cql
            .write(&self.cql.statements.put_listed, values)
            .await
    }

    async fn unlist(
        &self,
        list: List,
        part: i64,
        item: Vec<u8>,
        data: Vec<u8>,
    ) -> Result<(), StoreError> {
        let values = vec![tiny(list as u8), big(part), blob(item), blob(data)];
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

/// Whether an entry must be erased now.
enum Due {
    Yes,
    NotYet,
    Never,
}

const NO_LOG: LogId = LogId {
    owner: [0; 16],
    part: tidings_core::log::LogPart::Conversation,
};

/// The hour and shard in which an expiry lies.
fn place_of(at: Time, log: LogId) -> (i64, u8) {
    let hour = i64::try_from(at.0 / HOUR_MS).unwrap_or(i64::MAX);
    let sum = log
        .owner
        .iter()
        .fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte));
    (hour, sum % SHARDS)
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_millis() as u64)
}
