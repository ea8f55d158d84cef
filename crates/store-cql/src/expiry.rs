//! Entries that vanish: noted by the hour before they are appended, found when their time has come.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use tidings_core::Time;
use tidings_core::entry::{Body, Entry};
use tidings_core::log::{LogId, Seq};
use tidings_store::StoreError;

use crate::cql::{big, log_value, seq_number, tiny};
use crate::rows::{self, Nonce};
use crate::schema::bucket_of;
use crate::store::{Inner, List};
use crate::vanish::{DAY_MS, HOUR_MS, clock_stamp, now};

/// Partitions over which the expiries of an hour are spread.
const SHARDS: u8 = 16;

/// A row of `expiry` whose entry is not there: after so long it never will be.
const ORPHAN_MS: u64 = DAY_MS;

/// An hour that was over so long ago, and in which nothing is left, leaves the list of hours.
const UNLISTED_MS: u64 = 2 * DAY_MS;

/// One row of `expiry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Expiry {
    at: Time,
    log: LogId,
    seq: Seq,
    nonce: Nonce,
}

impl Inner {
    /// Notes when entries vanish; before they are appended, so that none is forgotten.
    pub(crate) async fn write_expiries(
        &self,
        log: LogId,
        entries: &[Entry],
        nonce: Nonce,
    ) -> Result<(), StoreError> {
        // What is erased from the start has nothing that could vanish.
        let expiring = entries
            .iter()
            .filter(|entry| entry.body != Body::Erased)
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
        let item = hour.to_be_bytes().to_vec();
        self.list(List::Hours, 0, item, vec![shard], clock_stamp(now()))
            .await?;
        self.hours.note(hour, shard);
        Ok(())
    }

    /// Takes an hour off the list that was over long ago. What was listed within the last day stays.
    async fn unlist_hour(&self, hour: i64, shard: u8) -> Result<(), StoreError> {
        self.hours.forget(hour, shard);
        let item = hour.to_be_bytes().to_vec();
        let stamp = clock_stamp(now().saturating_sub(DAY_MS));
        self.unlist(List::Hours, 0, item, vec![shard], stamp).await
    }

    /// [`tidings_store::Store::expired`].
    pub(crate) async fn expired(
        &self,
        now: Time,
        limit: usize,
    ) -> Result<Vec<(LogId, Seq)>, StoreError> {
        let mut found = Vec::new();
        let first = self.hours.first(now);
        let mut from = first.to_be_bytes().to_vec();
        let mut is_beginning = first == 0;
        loop {
            let hours = self.listed(List::Hours, 0, from.clone(), 1_000).await?;
            let is_last = hours.len() < 1_000;
            let mut places: BTreeSet<(i64, u8)> = BTreeSet::new();
            for (hour, shard) in &hours {
                let hour = hour.as_slice().try_into().map_or(0, i64::from_be_bytes);
                places.insert((hour, shard.first().copied().unwrap_or(0)));
            }
            if std::mem::take(&mut is_beginning) {
                let first = places.first().map_or(i64::MAX, |(hour, _)| *hour);
                self.hours.note_first(now, first);
            }
            if let Some((last, _)) = places.last().copied().filter(|_| !is_last) {
                // Of the last hour there may be more: the next page begins with it.
                places.retain(|(hour, _)| *hour != last);
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
        let mut limit = wanted.max(100);
        loop {
            let reads = shards
                .iter()
                .map(|&(hour, shard)| self.expiries(hour, shard, now, limit));
            let read = try_join_all(reads).await?;
            let is_cut = read.iter().any(|rows| rows.len() >= limit);
            let mut rows: Vec<Expiry> = read.into_iter().flatten().collect();
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
            // What was dropped, or is not to be erased yet, may have hidden others behind the limit.
            if found.len() >= wanted || !is_cut && dropped == 0 {
                return Ok(found);
            }
            if dropped == 0 {
                limit *= 2;
            }
        }
    }

    /// The earliest rows of one hour and shard that are due.
    async fn expiries(
        &self,
        hour: i64,
        shard: u8,
        now: Time,
        limit: usize,
    ) -> Result<Vec<Expiry>, StoreError> {
        if self.hours.is_done(hour, shard, now) {
            return Ok(Vec::new());
        }
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let values = (hour, shard.cast_signed(), seq_number(now.0), limit);
        let rows = self
            .cql
            .rows::<(i64, Vec<u8>, i64, i64)>(&self.cql.statements.expiry, values)
            .await?;
        if rows.is_empty() {
            let is_long_over = place_of(Time(now.0.saturating_sub(UNLISTED_MS)), NO_LOG).0 > hour;
            if is_long_over {
                self.unlist_hour(hour, shard).await?;
            } else {
                self.hours.note_done(hour, shard, now);
            }
        }
        rows.into_iter()
            .map(|(at, log, seq, nonce)| {
                Ok(Expiry {
                    at: Time(rows::seq(at)),
                    log: rows::log_id(&log)?,
                    seq: rows::seq(seq),
                    nonce,
                })
            })
            .collect()
    }

    async fn is_due(&self, expiry: &Expiry, now: Time) -> Result<Due, StoreError> {
        let row = match self.entry_row(expiry.log, expiry.seq).await? {
            Some(row) if row.nonce == expiry.nonce => row,
            // Another append came first: that of this one never happens.
            Some(_) => return Ok(Due::Never),
            // An append that never happened, or one that is still under way.
            None => {
                let is_old = expiry.at.0.saturating_add(ORPHAN_MS) < now.0;
                return Ok(if is_old { Due::Never } else { Due::NotYet });
            }
        };
        let seq = row.envelope.seq;
        let bodies = self
            .bodies(expiry.log, bucket_of(seq), seq, seq, row.class)
            .await?;
        let has_body = bodies.iter().any(|((_, nonce), _)| *nonce == row.nonce);
        Ok(if has_body { Due::Yes } else { Due::Never })
    }

    /// Takes back what [`Inner::write_expiries`] noted.
    pub(crate) async fn drop_expiries(
        &self,
        log: LogId,
        entries: &[Entry],
        nonce: Nonce,
    ) -> Result<(), StoreError> {
        let noted = entries.iter().filter_map(|entry| {
            Some(Expiry {
                at: entry.envelope.expires?,
                log,
                seq: entry.seq(),
                nonce,
            })
        });
        let drops = noted.map(|expiry| async move { self.drop_expiry(&expiry).await });
        try_join_all(drops).await.map(|_| ())
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
