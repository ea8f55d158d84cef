//! Appending: bodies first, then one conditional batch, then what belongs to it.
//!
//! Came in: an [`Append`] from the server's lanes. Next: [`crate::settle`] does what is owed.
//!
//! The batch moves the bucket's head from the expected one and claims the client ids; the database applies
//! all of it or none. When it does not say which, the identical batch is repeated until it does: a repeat
//! that is refused because of our own earlier try is told by our nonce in the row of the client id.

use std::time::{Duration, Instant};

use scylla::statement::prepared::PreparedStatement;
use tidings_core::Time;
use tidings_core::codec::encode_body;
use tidings_core::conversation::Retention;
use tidings_core::entry::{Body, Entry};
use tidings_core::log::{Generation, LogId, SEQ_MAX, Seq};
use tidings_core::mark::MarkKind;
use tidings_store::{Append, AppendError, StoreError};

use crate::cql::{Conditional, Values, big, blob, log_value, seq_number, tiny};
use crate::rows::{self, CLIENT, Class, ClientRow, ENTRY, Nonce, OWED, Owed};
use crate::schema::{bucket_of, first_of};
use crate::store::Inner;

/// How many client ids are looked up in one request. ScyllaDB allows no more.
const CLIENT_IDS_AT_ONCE: usize = 100;

/// The end of a log as the store last saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) generation: Generation,
    pub(crate) head: Seq,
    pub(crate) ordinal: u64,
    pub(crate) at: Time,
}

impl Inner {
    /// [`tidings_store::Store::append`].
    pub(crate) async fn append(&self, append: Append) -> Result<(), AppendError> {
        check(&append)?;
        let tail = self.tail_for(append.log, append.expected_head).await?;
        check_follows(&append, tail)?;
        let nonce = nonce()?;
        let mut before = append.expected_head;
        // No batch crosses a bucket. Parts that are in stay in if a later one is refused: each entry is a
        // command of its own, and a retry finds it by its client id.
        for part in append
            .entries
            .chunk_by(|one, next| bucket_of(one.seq()) == bucket_of(next.seq()))
        {
            let is_first = before == append.expected_head;
            self.append_part(&append, part, before, nonce)
                .await
                .map_err(|error| match error {
                    // An earlier part is in: it is not as if nothing had changed.
                    AppendError::Store(error) if !is_first => AppendError::Unknown(error),
                    error => error,
                })?;
            before = part.last().map_or(before, Entry::seq);
        }
        self.settle_append(&append, nonce)
            .await
            .map_err(AppendError::Unknown)
    }

    /// The log's end, if it is at `expected` or nobody knows better; asks the store only when needed.
    async fn tail_for(&self, log: LogId, expected: Seq) -> Result<Option<Tail>, AppendError> {
        if let Some(tail) = self.tails.get(&log)
            && tail.head >= expected
            && expected > 0
        {
            return Ok(Some(tail));
        }
        Ok(self.tail(log).await?)
    }

    async fn append_part(
        &self,
        append: &Append,
        entries: &[Entry],
        before: Seq,
        nonce: Nonce,
    ) -> Result<(), AppendError> {
        let Some(last) = entries.last() else {
            return Ok(());
        };
        let bodies: Vec<(Class, Vec<u8>)> = entries
            .iter()
            .map(|entry| {
                let class = class_of(append.retention, entry);
                (class, encode_body(&entry.body))
            })
            .collect();
        self.write_bodies(append.log, entries, &bodies, nonce)
            .await?;
        let owed = owed(append, entries);
        let batch = self.batch(append, entries, &bodies, before, nonce, owed.as_ref());
        let outcome = self
            .settle_batch(append, entries, &batch, before, nonce)
            .await;
        match &outcome {
            Ok(()) => self.tails.put(
                append.log,
                Tail {
                    generation: append.generation,
                    head: last.seq(),
                    ordinal: last.envelope.ordinal,
                    at: last.envelope.at,
                },
            ),
            Err(AppendError::Conflict { .. } | AppendError::Repeated { .. }) => {
                self.tails.remove(&append.log);
                // They are nobody's: no entry names this nonce, and none ever will.
                self.drop_bodies(append.log, entries, &bodies, nonce).await;
            }
            // It may be in, and then they are its bodies.
            Err(_) => self.tails.remove(&append.log),
        }
        outcome
    }

    async fn write_bodies(
        &self,
        log: LogId,
        entries: &[Entry],
        bodies: &[(Class, Vec<u8>)],
        nonce: Nonce,
    ) -> Result<(), StoreError> {
        let statements = &self.cql.statements;
        let of_class = |wanted: Class| -> Vec<Values> {
            let bodies = entries.iter().zip(bodies);
            // What is erased from the start has no body.
            let bodies =
                bodies.filter(|(entry, (class, _))| *class == wanted && entry.body != Body::Erased);
            bodies
                .map(|(entry, (_, body))| {
                    let mut values = place(log, entry.seq(), nonce);
                    values.push(blob(body.clone()));
                    values
                })
                .collect()
        };
        let kept = of_class(Class::Kept);
        let bounded = of_class(Class::Bounded);
        let (kept, bounded, expiries) = tokio::join!(
            self.cql.write_all(&statements.put_kept, kept),
            self.cql.write_all(&statements.put_bounded, bounded),
            self.write_expiries(log, entries, nonce)
        );
        kept.and(bounded).and(expiries)
    }

    async fn drop_bodies(
        &self,
        log: LogId,
        entries: &[Entry],
        bodies: &[(Class, Vec<u8>)],
        nonce: Nonce,
    ) {
        let statements = &self.cql.statements;
        let of_class = |wanted: Class| -> Vec<Values> {
            let bodies = entries.iter().zip(bodies);
            let bodies = bodies.filter(|(_, (class, _))| *class == wanted);
            bodies
                .map(|(entry, _)| place(log, entry.seq(), nonce))
                .collect()
        };
        let kept = of_class(Class::Kept);
        let bounded = of_class(Class::Bounded);
        let (kept, bounded, expiries) = tokio::join!(
            self.cql.write_all(&statements.drop_kept, kept),
            self.cql.write_all(&statements.drop_bounded, bounded),
            self.drop_expiries(log, entries, nonce)
        );
        if let Err(error) = kept.and(bounded).and(expiries) {
            tracing::warn!(%error, "bodies of an append that did not happen stay until the log is trimmed");
        }
    }

    /// The conditional batch of one part.
    #[allow(clippy::too_many_arguments, reason = "they are the parts of one batch")]
    fn batch<'a>(
        &'a self,
        append: &Append,
        entries: &[Entry],
        bodies: &[(Class, Vec<u8>)],
        before: Seq,
        nonce: Nonce,
        owed: Option<&Owed>,
    ) -> Vec<(&'a PreparedStatement, Values)> {
        let statements = &self.cql.statements;
        let Some(last) = entries.last().map(|entry| &entry.envelope) else {
            return Vec::new();
        };
        let bucket = bucket_of(last.seq);
        let place = [log_value(append.log), big(bucket)];
        let mut batch = Vec::with_capacity(2 + 2 * entries.len());
        let ordinal = big(seq_number(last.ordinal));
        let at = big(seq_number(last.at.0));
        let head = big(seq_number(last.seq));
        // A bucket that was never written to has no head. That the one before it is full was seen in the store.
        batch.push(if before < first_of(bucket) {
            let values = vec![
                head,
                blob(append.generation.0),
                ordinal,
                at,
                place[0].clone(),
                place[1].clone(),
            ];
            (&statements.open_log, values)
        } else {
            let expected = big(seq_number(before));
            let generation = blob(append.generation.0);
            let values = vec![
                head,
                ordinal,
                at,
                place[0].clone(),
                place[1].clone(),
                expected,
                generation,
            ];
            (&statements.move_head, values)
        });
        let row = |kind, key: Vec<u8>, data: Vec<u8>| {
            vec![
                place[0].clone(),
                place[1].clone(),
                tiny(kind),
                blob(key),
                blob(data),
            ]
        };
        for (entry, (class, body)) in entries.iter().zip(bodies) {
            let envelope = &entry.envelope;
            let data = rows::encode_entry(nonce, *class, body.len() as u64, envelope);
            batch.push((
                &statements.put_row,
                row(ENTRY, rows::entry_key(envelope.seq).to_vec(), data),
            ));
            let data = rows::encode_client(ClientRow {
                seq: envelope.seq,
                at: envelope.at,
                nonce,
            });
            let key = rows::client_key(envelope.author, envelope.client_id).to_vec();
            batch.push((&statements.claim_row, row(CLIENT, key, data)));
        }
        if let Some(owed) = owed {
            let key = rows::owed_key(owed.first, nonce);
            batch.push((&statements.put_row, row(OWED, key, rows::encode_owed(owed))));
        }
        batch
    }

    /// Sends the batch until it is known what became of it.
    async fn settle_batch(
        &self,
        append: &Append,
        entries: &[Entry],
        batch: &[(&PreparedStatement, Values)],
        before: Seq,
        nonce: Nonce,
    ) -> Result<(), AppendError> {
        let end = Instant::now() + self.cql.settings.patience;
        let mut pause = Duration::from_millis(10);
        let mut tries = 0;
        // After the first try an error says nothing about the tries before it.
        let failed = |error, tries| match tries {
            0 => AppendError::Store(error),
            _ => AppendError::Unknown(error),
        };
        loop {
            let sent = self.cql.conditional(batch, tries).await;
            let why = match sent.map_err(|error| failed(error, tries))? {
                Conditional::Applied => return Ok(()),
                Conditional::Refused => {
                    let refusal = self.why_refused(append, entries, before, nonce).await;
                    match refusal.map_err(|error| failed(error, tries))? {
                        Refusal::OursIsIn => return Ok(()),
                        Refusal::Head(head) => return Err(AppendError::Conflict { head }),
                        Refusal::Repeated(seq) => return Err(AppendError::Repeated { seq }),
                        Refusal::NotNow => {
                            "it was refused, and then nothing stood in its way".to_owned()
                        }
                    }
                }
                Conditional::Unknown(why) => why,
            };
            tries += 1;
            if Instant::now() + pause >= end {
                return Err(AppendError::Unknown(StoreError::Unavailable(why)));
            }
            tracing::debug!(
                why,
                tries,
                "an append is repeated until it is known what became of it"
            );
            // Two that contend must not meet again at once.
            tokio::time::sleep(
                pause.mul_f64(0.5 + f64::from(nonce.rotate_left(tries) as u8) / 255.0),
            )
            .await;
            pause = (pause * 2).min(Duration::from_millis(300));
        }
    }

    /// Reads what stood in the way of an append that was refused. The refusal came after whatever caused it, so a
    /// serial read sees that.
    async fn why_refused(
        &self,
        append: &Append,
        entries: &[Entry],
        before: Seq,
        nonce: Nonce,
    ) -> Result<Refusal, StoreError> {
        let Some(bucket) = entries.first().map(|first| bucket_of(first.seq())) else {
            return Ok(Refusal::NotNow);
        };
        // Client ids first: one that is there stays, and a head that moved on then says nothing against it.
        let keys: Vec<Vec<u8>> = entries
            .iter()
            .map(|entry| rows::client_key(entry.envelope.author, entry.envelope.client_id).to_vec())
            .collect();
        for (index, keys) in keys.chunks(CLIENT_IDS_AT_ONCE).enumerate() {
            let values = (append.log.to_bytes(), bucket, CLIENT.cast_signed(), keys);
            let statement = &self.cql.statements.rows_of;
            // The first read settles the partition; those that follow see what it saw.
            let found: Vec<(Vec<u8>,)> = match index {
                0 => self.cql.rows_serial(statement, values).await?,
                _ => self.cql.rows(statement, values).await?,
            };
            if let Some((data,)) = found.first() {
                let row = rows::decode_client(data)?;
                return Ok(match row.nonce == nonce {
                    true => Refusal::OursIsIn,
                    false => Refusal::Repeated(row.seq),
                });
            }
        }
        self.tails.remove(&append.log);
        // The serial read has settled the partition.
        let tail = self.bucket_tail(append.log, bucket, false).await?;
        Ok(match tail {
            Some(tail) if tail.head == before && tail.generation == append.generation => {
                Refusal::NotNow
            }
            Some(tail) => Refusal::Head(tail.head),
            None if before < first_of(bucket) => Refusal::NotNow,
            None => Refusal::Head(self.tail(append.log).await?.map_or(0, |tail| tail.head)),
        })
    }
}

/// What stood in the way of an append.
enum Refusal {
    /// Its own earlier try.
    OursIsIn,
    /// The head is another one.
    Head(Seq),
    /// A client id of its is there already.
    Repeated(Seq),
    /// Nothing that is still to be seen.
    NotNow,
}

/// The class of an entry's body, by what its log keeps and whether it vanishes by itself.
fn class_of(retention: Retention, entry: &Entry) -> Class {
    match (retention, entry.envelope.expires) {
        (Retention::Forever, None) => Class::Kept,
        _ => Class::Bounded,
    }
}

/// Where a body lies within its class.
fn place(log: LogId, seq: Seq, nonce: Nonce) -> Values {
    vec![
        log_value(log),
        big(bucket_of(seq)),
        big(seq_number(seq)),
        big(nonce),
    ]
}

/// What must happen after these entries are in, whoever does it; heads are raised by whoever loads the log.
///
/// The entries may be a part of the append, and the other part may be refused. So a mark belongs to the part
/// with its entry; of the bodies, those that the part's deletions name are found again when it is paid.
pub(crate) fn owed(append: &Append, entries: &[Entry]) -> Option<Owed> {
    let (first, last) = (entries.first()?.seq(), entries.last()?.seq());
    let is_first = append.entries.first()?.seq() == first;
    let is_last = append.entries.last()?.seq() == last;
    let marks: Vec<_> = append
        .marks
        .iter()
        .filter(|mark| mark.kind != MarkKind::Head)
        .filter(|mark| is_first || mark.value.seq >= first)
        .filter(|mark| is_last || mark.value.seq <= last)
        .copied()
        .collect();
    let erase = if is_last {
        append.erase.clone()
    } else {
        Vec::new()
    };
    let alters = entries.iter().any(|entry| entry.envelope.alters_target());
    (alters || !marks.is_empty() || !erase.is_empty()).then_some(Owed {
        first,
        last,
        erase,
        marks,
    })
}

fn misuse(what: &str) -> AppendError {
    AppendError::Store(StoreError::Misuse(what.to_owned()))
}

/// What can be told from the append alone.
fn check(append: &Append) -> Result<(), AppendError> {
    let Some(last) = append.entries.last() else {
        return Err(misuse("an append without entries"));
    };
    let mut before = Some(append.expected_head);
    let follows = append.entries.iter().all(|entry| {
        before = before.and_then(|before| before.checked_add(1));
        before == Some(entry.seq())
    });
    if !follows || last.seq() > SEQ_MAX {
        return Err(misuse(
            "entries that do not follow on each other from the expected head",
        ));
    }
    if append
        .state
        .as_ref()
        .is_some_and(|state| state.seq != last.seq())
    {
        return Err(misuse("a state that is not the one after the last entry"));
    }
    Ok(())
}

/// What can be told from the log's end.
fn check_follows(append: &Append, tail: Option<Tail>) -> Result<(), AppendError> {
    let head = tail.map_or(0, |tail| tail.head);
    let generation = tail.map_or(append.generation, |tail| tail.generation);
    if append.expected_head != head || append.generation != generation {
        return Err(AppendError::Conflict { head });
    }
    let mut before = tail.map_or((0, Time(0)), |tail| (tail.ordinal, tail.at));
    for entry in &append.entries {
        let (ordinal, at) = (entry.envelope.ordinal, entry.envelope.at);
        if ordinal < before.0 || at < before.1 {
            return Err(misuse(
                "an ordinal or a time below that of the entry before",
            ));
        }
        before = (ordinal, at);
    }
    Ok(())
}

/// A random number for one append.
pub(crate) fn nonce() -> Result<Nonce, StoreError> {
    getrandom::u64()
        .map(u64::cast_signed)
        .map_err(|error| StoreError::Unavailable(format!("no randomness: {error}")))
}
