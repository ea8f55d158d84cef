//! Reading a log: its head, pages of entries, what alters them, the search for a client id.

use std::collections::{BTreeMap, HashMap};

use futures_util::future::{try_join, try_join_all};
use tidings_core::codec::decode_body;
use tidings_core::entry::{Body, Entry};
use tidings_core::log::{Generation, LogId, SEQ_MAX, Seq};
use tidings_core::{ClientId, Time, UserId};
use tidings_store::{
    Alterations, ClientIdSearch, Direction, LogHead, Page, ReadLog, StoreError, Want,
};

use crate::append::Tail;
use crate::cql::{ROWS_AT_ONCE, damaged, seq_number};
use crate::rows::{self, Altering, CLIENT, Class, ENTRY, EmojiHash, EntryRow, Nonce};
use crate::schema::{bucket_of, first_of, last_of};
use crate::store::{Inner, LogMarks};

/// How many buckets a search for a client id looks through: what a client may ask for, and one more.
const SEARCHED_MAX: i64 = 11;

/// Head, generation, ordinal, time; all null in a bucket that has rows but no head.
type HeadColumns = (Option<i64>, Option<Vec<u8>>, Option<i64>, Option<i64>);

impl Inner {
    /// [`tidings_store::Store::head`]. Does what earlier appends to the log still owe.
    pub(crate) async fn head(&self, log: LogId) -> Result<Option<LogHead>, StoreError> {
        let marks = self.log_marks(log).await?;
        let Some(tail) = self.tail_from(log, &marks).await? else {
            return Ok(None);
        };
        self.tails.put(log, tail);
        // An append settles before the next is decided by the same node; another node comes through here.
        let bucket = bucket_of(tail.head);
        try_join(
            self.settle_owed(log, (bucket - 1).max(0)..=bucket),
            self.sweep(log, marks.swept, marks.trimmed),
        )
        .await?;
        Ok(Some(LogHead {
            generation: tail.generation,
            seq: tail.head,
            ordinal: tail.ordinal,
            at: tail.at,
            trimmed: marks.trimmed.min(tail.head),
        }))
    }

    /// The log's end.
    pub(crate) async fn tail(&self, log: LogId) -> Result<Option<Tail>, StoreError> {
        let marks = self.log_marks(log).await?;
        let tail = self.tail_from(log, &marks).await?;
        if let Some(tail) = tail {
            self.tails.put(log, tail);
        }
        Ok(tail)
    }

    /// The log's end, looked for from the bucket that is known to have been opened.
    async fn tail_from(&self, log: LogId, marks: &LogMarks) -> Result<Option<Tail>, StoreError> {
        let mut bucket = marks.open_bucket;
        let mut tail = self.bucket_tail(log, bucket, false).await?;
        while let Some(found) = tail
            && found.head == last_of(bucket)
        {
            bucket += 1;
            match self.bucket_tail(log, bucket, false).await? {
                Some(next) => tail = Some(next),
                None => break,
            }
        }
        Ok(tail)
    }

    /// The end of one bucket, `None` if it was never opened.
    pub(crate) async fn bucket_tail(
        &self,
        log: LogId,
        bucket: i64,
        serial: bool,
    ) -> Result<Option<Tail>, StoreError> {
        let statement = &self.cql.statements.head;
        let values = (log.to_bytes(), bucket);
        let row: Option<HeadColumns> = if serial {
            self.cql.first_serial(statement, values).await?
        } else {
            self.cql.first(statement, values).await?
        };
        let Some((Some(head), Some(generation), Some(ordinal), Some(at))) = row else {
            return Ok(None);
        };
        Ok(Some(Tail {
            generation: Generation(rows::id(&generation)?),
            head: rows::seq(head),
            ordinal: rows::seq(ordinal),
            at: Time(rows::seq(at)),
        }))
    }

    /// [`tidings_store::Store::read`].
    pub(crate) async fn read(&self, log: LogId, read: ReadLog) -> Result<Page, StoreError> {
        let marks = self.log_marks(log).await?;
        let first = match read.want {
            Want::Entries => marks.trimmed.max(marks.forgotten) + 1,
            Want::Envelopes => marks.forgotten + 1,
        };
        // One more than wanted says whether there are more.
        let wanted = read.limit.saturating_add(1);
        let mut rows = match read.direction {
            Direction::Forwards => self.rows_up(log, read.from.max(first), wanted).await?,
            Direction::Backwards => {
                let head = match self.tail_from(log, &marks).await? {
                    Some(tail) if read.from >= first => tail.head,
                    _ => {
                        return Ok(Page {
                            entries: Vec::new(),
                            complete: true,
                        });
                    }
                };
                self.rows_down(log, first, read.from.min(head), wanted)
                    .await?
            }
        };
        let fits = fitting(&rows, &read);
        let complete = fits == rows.len();
        rows.truncate(fits);
        let entries = match read.want {
            Want::Envelopes => rows
                .into_iter()
                .map(|row| Entry {
                    envelope: row.envelope,
                    body: Body::Erased,
                })
                .collect(),
            Want::Entries => self.with_bodies(log, rows, marks.trimmed).await?,
        };
        Ok(Page { entries, complete })
    }

    /// Rows of entries from a seq on, at most `wanted`.
    async fn rows_up(
        &self,
        log: LogId,
        from: Seq,
        wanted: usize,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let mut found: Vec<EntryRow> = Vec::new();
        let mut next = from;
        while found.len() < wanted && next <= SEQ_MAX {
            let bucket = bucket_of(next);
            let limit = (wanted - found.len()).min(ROWS_AT_ONCE);
            let rows = self
                .bucket_rows(
                    log,
                    bucket,
                    next,
                    last_of(bucket),
                    limit,
                    Direction::Forwards,
                )
                .await?;
            let Some(last) = rows.last().map(|row| row.envelope.seq) else {
                break;
            };
            found.extend(rows);
            next = last + 1;
        }
        Ok(found)
    }

    /// Rows of entries from a seq that is there downwards to another, at most `wanted`.
    async fn rows_down(
        &self,
        log: LogId,
        first: Seq,
        from: Seq,
        wanted: usize,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let mut found: Vec<EntryRow> = Vec::new();
        let mut next = from;
        while found.len() < wanted && next >= first.max(1) {
            let bucket = bucket_of(next);
            let down_to = first_of(bucket).max(first);
            let limit = (wanted - found.len()).min(ROWS_AT_ONCE);
            let rows = self
                .bucket_rows(log, bucket, down_to, next, limit, Direction::Backwards)
                .await?;
            let Some(last) = rows.last().map(|row| row.envelope.seq) else {
                break;
            };
            found.extend(rows);
            next = last - 1;
        }
        Ok(found)
    }

    async fn bucket_rows(
        &self,
        log: LogId,
        bucket: i64,
        low: Seq,
        high: Seq,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let statement = match direction {
            Direction::Forwards => &self.cql.statements.rows_up,
            Direction::Backwards => &self.cql.statements.rows_down,
        };
        let values = (
            log.to_bytes(),
            bucket,
            ENTRY.cast_signed(),
            rows::entry_key(low),
            rows::entry_key(high),
            i32::try_from(limit).unwrap_or(i32::MAX),
        );
        let rows = self
            .cql
            .rows::<(Vec<u8>, Vec<u8>)>(statement, values)
            .await?;
        rows.iter()
            .map(|(_, data)| rows::decode_entry(data))
            .collect()
    }

    /// The row of one entry.
    pub(crate) async fn entry_row(
        &self,
        log: LogId,
        seq: Seq,
    ) -> Result<Option<EntryRow>, StoreError> {
        let values = (
            log.to_bytes(),
            bucket_of(seq),
            ENTRY.cast_signed(),
            rows::entry_key(seq),
        );
        let row = self
            .cql
            .first::<(Vec<u8>,)>(&self.cql.statements.row, values)
            .await?;
        row.map(|(data,)| rows::decode_entry(&data)).transpose()
    }

    /// Entries with their bodies. They are asked for after the rows: a body was written before its row.
    async fn with_bodies(
        &self,
        log: LogId,
        rows: Vec<EntryRow>,
        trimmed: Seq,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut spans: BTreeMap<(bool, i64), (Seq, Seq)> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.envelope.seq > trimmed) {
            let seq = row.envelope.seq;
            let span = spans
                .entry((row.class == Class::Bounded, bucket_of(seq)))
                .or_insert((seq, seq));
            *span = (span.0.min(seq), span.1.max(seq));
        }
        let reads = spans.into_iter().map(|((bounded, bucket), (low, high))| {
            let class = if bounded { Class::Bounded } else { Class::Kept };
            self.bodies(log, bucket, low, high, class)
        });
        let bodies: HashMap<(Seq, Nonce), Vec<u8>> =
            try_join_all(reads).await?.into_iter().flatten().collect();
        rows.into_iter()
            .map(|row| {
                let seq = row.envelope.seq;
                let body = match bodies.get(&(seq, row.nonce)) {
                    Some(body) => decode_body(row.envelope.kind, body).map_err(damaged)?,
                    None => Body::Erased,
                };
                Ok(Entry {
                    envelope: row.envelope,
                    body,
                })
            })
            .collect()
    }

    pub(crate) async fn bodies(
        &self,
        log: LogId,
        bucket: i64,
        low: Seq,
        high: Seq,
        class: Class,
    ) -> Result<Vec<((Seq, Nonce), Vec<u8>)>, StoreError> {
        let statement = match class {
            Class::Kept => &self.cql.statements.bodies_kept,
            Class::Bounded => &self.cql.statements.bodies_bounded,
        };
        let values = (log.to_bytes(), bucket, seq_number(low), seq_number(high));
        let rows = self
            .cql
            .rows::<(i64, i64, Vec<u8>)>(statement, values)
            .await?;
        Ok(rows
            .into_iter()
            .map(|(seq, nonce, body)| ((rows::seq(seq), nonce), body))
            .collect())
    }

    /// [`tidings_store::Store::alterations`].
    pub(crate) async fn alterations(
        &self,
        log: LogId,
        targets: Vec<Seq>,
    ) -> Result<Vec<Alterations>, StoreError> {
        let trimmed = self.log_marks(log).await?.trimmed;
        let reads = targets
            .into_iter()
            .filter(|target| *target > trimmed && *target <= SEQ_MAX)
            .map(|target| self.alterations_of(log, target));
        Ok(try_join_all(reads).await?.into_iter().flatten().collect())
    }

    async fn alterations_of(
        &self,
        log: LogId,
        target: Seq,
    ) -> Result<Option<Alterations>, StoreError> {
        let values = (log.to_bytes(), bucket_of(target), seq_number(target));
        let rows = self
            .cql
            .rows::<(i64, Vec<u8>)>(&self.cql.statements.targets, values)
            .await?;
        let mut all = Alterations {
            target,
            ..Alterations::default()
        };
        // In the order of their seqs, so that the last word of each counts.
        let mut reactions: HashMap<(EmojiHash, UserId), (String, Seq)> = HashMap::new();
        for (seq, data) in rows {
            let seq = rows::seq(seq);
            match rows::decode_altering(&data)? {
                Altering::Edit => all.edits.push(seq),
                Altering::Delete => all.deleted = all.deleted.or(Some(seq)),
                Altering::Reaction {
                    author,
                    emoji,
                    on: true,
                } => {
                    reactions.insert((rows::hash_emoji(&emoji), author), (emoji, seq));
                }
                Altering::Reaction {
                    author,
                    emoji,
                    on: false,
                } => {
                    reactions.remove(&(rows::hash_emoji(&emoji), author));
                }
                Altering::Gone { author, emoji } => {
                    reactions.remove(&(emoji, author));
                }
            }
        }
        all.reactions = reactions
            .into_iter()
            .map(|((_, author), (emoji, seq))| (emoji, author, seq))
            .collect();
        all.reactions.sort_unstable();
        let nothing = Alterations {
            target,
            ..Alterations::default()
        };
        Ok((all != nothing).then_some(all))
    }

    /// [`tidings_store::Store::find_client_id`]. A full bucket never accepts again, so a plain read of it is the
    /// last word; in the open one the append's own condition is.
    pub(crate) async fn find_client_id(
        &self,
        log: LogId,
        author: UserId,
        client_id: ClientId,
        above: Seq,
    ) -> Result<ClientIdSearch, StoreError> {
        let marks = self.log_marks(log).await?;
        let Some(tail) = self.tail_from(log, &marks).await? else {
            return Ok(ClientIdSearch::Absent);
        };
        if above >= tail.head {
            return Ok(ClientIdSearch::Absent);
        }
        let newest = bucket_of(tail.head);
        let oldest = bucket_of(above + 1).max(newest - SEARCHED_MAX + 1).max(0);
        let key = rows::client_key(author, client_id);
        let reads = (oldest..=newest).map(|bucket| {
            let values = (log.to_bytes(), bucket, CLIENT.cast_signed(), key);
            self.cql
                .first::<(Vec<u8>,)>(&self.cql.statements.row, values)
        });
        for (data,) in try_join_all(reads).await?.into_iter().flatten() {
            let row = rows::decode_client(&data)?;
            if row.seq > above {
                return Ok(ClientIdSearch::Found {
                    seq: row.seq,
                    at: row.at,
                });
            }
        }
        let searched_from = first_of(oldest).max(marks.forgotten + 1);
        Ok(if above + 1 < searched_from {
            ClientIdSearch::Incomplete
        } else {
            ClientIdSearch::Absent
        })
    }
}

/// How many of these rows are read: up to the limit, and up to the one that reaches the bytes.
fn fitting(rows: &[EntryRow], read: &ReadLog) -> usize {
    let mut bytes = 0_u64;
    let mut count = 0;
    let bytes_max = read.bytes_max as u64;
    for row in rows.iter().take(read.limit) {
        if count > 0 && bytes >= bytes_max {
            break;
        }
        let body = if read.want == Want::Entries {
            row.body_bytes
        } else {
            0
        };
        bytes += row.envelope_bytes as u64 + body;
        count += 1;
    }
    count
}
