//! A group: the requests that share one commit, turned into rows.
//!
//! Requests take effect in their order. What one of them changes the next one must see although
//! nothing is in the tables yet, hence the overlays.

mod begin;
mod marks;
mod upkeep;
mod values;

use std::collections::BTreeMap;

use fjall::UserValue;
use foldhash::{HashMap, HashMapExt as _};
use tidings_core::codec::encode_body;
use tidings_core::conversation::Retention;
use tidings_core::log::{LogId, SEQ_MAX, Seq};
use tidings_core::time::DAY_MILLIS;
use tidings_core::{Body, Entry, Envelope, Kind, Time};
use tidings_store::{Append, AppendError, StateSnapshot, StoreError};

use self::marks::CachedMarks;
use crate::bodies::{BodyWrite, BodyWriter};
use crate::changes::Changes;
use crate::client_ids::block_of;
use crate::commit::failed;
use crate::keys::{self, EntryKey, ReactionKey, StepKindKey};
use crate::queue::{Answer, Request};
use crate::recent::Recent;
use crate::rows::{self, AlterationRow, BodyRow, Class, EntryRow, LogRow};
use crate::tables::{Batch, Tables};
use crate::{damaged_row, misuse};

/// Rows that the committer remembers of logs (about 150 bytes each) and of steps (about 80).
const LOGS_CACHED_MAX: usize = 300_000;
const STEPS_CACHED_MAX: usize = 200_000;
/// Logs of which it remembers marks (about 150 bytes each, two users with a device each have four rows; and 70 for its
/// place), and rows of marks besides (about 120).
const LOGS_OF_MARKS_CACHED_MAX: usize = 300_000;
const FURTHER_MARKS_CACHED_MAX: usize = 100_000;

/// What the committer remembers from group to group, and of one group all of it: the tables do not have it yet. Nobody
/// else writes these rows.
#[derive(Debug)]
pub(crate) struct Caches {
    logs: Recent<LogId, Option<LogRow>>,
    marks: CachedMarks,
    /// The last step of each kind, owner and log.
    steps: Recent<StepKindKey, Option<Seq>>,
    last_version: Option<u64>,
}

impl Default for Caches {
    fn default() -> Caches {
        Caches {
            logs: Recent::new(LOGS_CACHED_MAX),
            marks: CachedMarks::new(LOGS_OF_MARKS_CACHED_MAX, FURTHER_MARKS_CACHED_MAX),
            steps: Recent::new(STEPS_CACHED_MAX),
            last_version: None,
        }
    }
}

impl Caches {
    fn make_room(&mut self) {
        self.logs.make_room();
        self.marks.make_room();
        self.steps.make_room();
    }
}

/// Requests on their way into one commit.
pub(crate) struct Group<'a> {
    tables: &'a Tables,
    bodies: &'a mut BodyWriter,
    caches: &'a mut Caches,
    batch: Batch,
    /// Entries that the batch writes or deletes, and how much of it was looked through for them. Only who erases asks.
    entries: HashMap<EntryKey, Option<UserValue>>,
    entries_sought: usize,
    documents: HashMap<Vec<u8>, u64>,
    reactions: BTreeMap<ReactionKey, Option<Seq>>,
    states: HashMap<LogId, Seq>,
    done: Done,
    /// Whether body files may have died.
    buries: bool,
}

/// Sends an answer, once it is true.
pub(crate) type SendAnswer = Box<dyn FnOnce() + Send>;

/// A group that is ready to be written to the journal.
pub(crate) struct Finished {
    pub(crate) bodies: Vec<BodyWrite>,
    pub(crate) changes: Changes,
    pub(crate) done: Done,
}

/// What follows when a group is durable.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) answers: Vec<SendAnswer>,
    /// Body files to delete.
    pub(crate) dead_files: Vec<u32>,
    /// To be answered when everything is in the tables.
    pub(crate) applied: Vec<Answer<(), StoreError>>,
}

impl<'a> Group<'a> {
    /// An empty one, that will have about so many rows.
    pub(crate) fn new(
        tables: &'a Tables,
        bodies: &'a mut BodyWriter,
        caches: &'a mut Caches,
        rows_about: usize,
    ) -> Group<'a> {
        caches.make_room();
        Group {
            batch: Batch::for_about(rows_about),
            tables,
            bodies,
            caches,
            entries: HashMap::new(),
            entries_sought: 0,
            documents: HashMap::new(),
            reactions: BTreeMap::new(),
            states: HashMap::new(),
            done: Done::default(),
            buries: false,
        }
    }

    /// Takes a request in. An error is not the request's: the store cannot go on.
    pub(crate) fn take(&mut self, request: Request) -> Result<(), StoreError> {
        match request {
            Request::Append(append, answer) => {
                let result = self.append(*append)?;
                self.answer(move || answer.send(result).is_ok());
            }
            Request::AppendAll(appends, answer) => {
                let results = appends
                    .into_iter()
                    .map(|append| self.append(append))
                    .collect::<Result<Vec<_>, _>>()?;
                self.answer(move || answer.send(Ok(results)).is_ok());
            }
            Request::Trim(log, up_to, answer) => {
                let result = self.trim(log, up_to)?;
                self.answer(move || answer.send(Ok(result)).is_ok());
            }
            Request::Erase(log, seqs, answer) => {
                self.erase(log, &seqs)?;
                self.answer(move || answer.send(Ok(())).is_ok());
            }
            Request::RaiseMarks(marks, answer) => {
                self.raise_marks(&marks)?;
                self.answer(move || answer.send(Ok(())).is_ok());
            }
            Request::WriteState(log, state, answer) => {
                self.write_state_of(log, state)?;
                self.answer(move || answer.send(Ok(())).is_ok());
            }
            Request::PutDocument(put, answer) => {
                let result = self.put_document(put)?;
                self.answer(move || answer.send(result).is_ok());
            }
            Request::Begin(log, beginning, answer) => {
                let result = self.begin_at(log, &beginning)?;
                self.answer(move || answer.send(result).is_ok());
            }
            Request::Upkeep(done, answer) => {
                self.upkeep(done)?;
                self.answer(move || answer.send(Ok(())).is_ok());
            }
            Request::Flush(answer) => self.answer(move || answer.send(Ok(())).is_ok()),
            Request::Apply(answer) => self.done.applied.push(answer),
            Request::Late | Request::Close => {}
        }
        Ok(())
    }

    fn answer(&mut self, send: impl FnOnce() -> bool + Send + 'static) {
        self.done.answers.push(Box::new(move || {
            // Who asked may have gone away; what was asked is done all the same.
            let _ = send();
        }));
    }

    /// Writes the bodies and hands over what is to be made durable.
    pub(crate) fn finish(mut self) -> Result<Finished, StoreError> {
        if self.buries {
            self.done.dead_files = self.bodies.take_dead();
        }
        for &id in &self.done.dead_files {
            self.batch.remove(&self.tables.upkeep, keys::file(id));
        }
        let written = self.bodies.write().map_err(|error| failed(&error))?;
        for (id, row) in written.rows {
            self.batch
                .insert(&self.tables.upkeep, keys::file(id), row.encode());
        }
        Ok(Finished {
            bodies: written.bodies,
            changes: self.batch.into_changes(),
            done: self.done,
        })
    }

    fn log(&mut self, log: LogId) -> Result<Option<LogRow>, StoreError> {
        let tables = self.tables;
        let row =
            self.caches
                .logs
                .get_or_read(log, || match tables.logs.get(&keys::log(log))? {
                    Some(bytes) => LogRow::decode(&bytes).map(Some).map_err(damaged_row),
                    None => Ok(None),
                })?;
        Ok(*row)
    }

    fn put_log(&mut self, log: LogId, row: LogRow) {
        self.batch
            .insert(&self.tables.logs, keys::log(log), row.encode());
        self.caches.logs.insert(log, Some(row));
    }

    fn append(&mut self, append: Append) -> Result<Result<(), AppendError>, StoreError> {
        let Append {
            log,
            expected_head,
            generation,
            entries,
            retention,
            erase,
            marks,
            state,
        } = append;
        if let Err(error) = check_numbers(expected_head, &entries, state.as_ref()) {
            return Ok(Err(error.into()));
        }
        let mut row = match self.log(log)? {
            Some(row) => row,
            None => LogRow {
                state: self.state_of_no_log(log)?,
                ..LogRow::new(generation, retention)
            },
        };
        if row.head != expected_head || row.generation != generation {
            return Ok(Err(AppendError::Conflict { head: row.head }));
        }
        if let Err(error) = check_order(&row, &entries) {
            return Ok(Err(error.into()));
        }
        row.retention = retention;
        for entry in &entries {
            row.head = entry.envelope.seq;
            row.ordinal = entry.envelope.ordinal;
            row.at = entry.envelope.at;
            self.put_entry(log, retention, entry)?;
        }
        if let Some(state) = state {
            self.write_state(log, &mut row, state);
        }
        self.put_log(log, row);
        self.index_whole_blocks(log, expected_head, row.head);
        self.erase(log, &erase)?;
        self.raise_marks(&marks)?;
        Ok(Ok(()))
    }

    fn put_entry(
        &mut self,
        log: LogId,
        retention: Retention,
        entry: &Entry,
    ) -> Result<(), StoreError> {
        self.index_by_target(log, entry);
        let Entry { envelope, body } = entry;
        let body = match body {
            Body::Erased => BodyRow::Erased,
            Body::Delete | Body::Leave => BodyRow::Empty,
            body => {
                let bytes = encode_body(body);
                let class = body_class(retention, envelope);
                let place = self
                    .bodies
                    .put(class, envelope.at, &bytes)
                    .map_err(|error| failed(&error))?;
                BodyRow::At(place)
            }
        };
        let tables = self.tables;
        if let Some(expires) = envelope.expires.filter(|_| body != BodyRow::Erased) {
            self.batch
                .insert(&tables.expiry, keys::expiry(expires, log, envelope.seq), []);
        }
        self.put_entry_row(log, envelope, body);
        Ok(())
    }

    /// Has upkeep index the client ids of the blocks that are whole now.
    fn index_whole_blocks(&mut self, log: LogId, before: Seq, head: Seq) {
        for block in block_of(before + 1)..block_of(head + 1) {
            self.batch
                .insert(&self.tables.upkeep, keys::index(log, block), []);
        }
    }

    /// Nothing is read for it: this runs for every reaction, however many there were before.
    fn index_by_target(&mut self, log: LogId, entry: &Entry) {
        let envelope = &entry.envelope;
        let Some(target) = envelope.target.filter(|_| envelope.alters_target()) else {
            return;
        };
        if envelope.kind == Kind::Reaction {
            // An erased one does not say what it put on or took back.
            if let Body::Reaction { emoji, on } = &entry.body {
                let key = keys::reaction(log, target, envelope.author, emoji);
                self.put_reaction(key, on.then_some(envelope.seq));
            }
            return;
        }
        let row = AlterationRow {
            kind: envelope.kind,
            author: envelope.author,
        };
        self.batch.insert(
            &self.tables.targets,
            keys::target(log, target, envelope.seq),
            row.encode(),
        );
    }

    /// Has a reaction stand by an entry, or no more.
    fn put_reaction(&mut self, key: ReactionKey, seq: Option<Seq>) {
        match seq {
            Some(seq) => self
                .batch
                .insert(&self.tables.targets, key, rows::encode_number(seq)),
            None => self.batch.remove(&self.tables.targets, key),
        }
        self.reactions.insert(key, seq);
    }

    /// Has the reaction of an entry stand no more, if it does.
    fn remove_reaction(&mut self, log: LogId, envelope: &Envelope) -> Result<(), StoreError> {
        let Some(target) = envelope.target else {
            return Ok(());
        };
        let prefix = keys::reactions_of_author(log, target, envelope.author);
        let mut standing = BTreeMap::new();
        for row in self.tables.targets.prefix(prefix) {
            let (key, value) = row?;
            let seq = rows::decode_number(&value).map_err(damaged_row)?;
            standing.insert(keys::bytes(&key, 0)?, Some(seq));
        }
        let here = self.reactions.range(keys::first_with(prefix)..);
        standing.extend(here.take_while(|(key, _)| key.starts_with(&prefix)));
        let key = standing
            .into_iter()
            .find(|(_, seq)| *seq == Some(envelope.seq));
        if let Some((key, _)) = key {
            self.put_reaction(key, None);
        }
        Ok(())
    }

    fn put_entry_row(&mut self, log: LogId, envelope: &Envelope, body: BodyRow) {
        let key = keys::entry(log, envelope.seq);
        let row = EntryRow::encode_of(envelope, body);
        self.batch.insert(&self.tables.entries, key, row);
    }

    fn entry_row(&mut self, log: LogId, seq: Seq) -> Result<Option<EntryRow>, StoreError> {
        let table = &self.tables.entries;
        for (key, value) in self.batch.rows_of(table, self.entries_sought) {
            let value = value.map(UserValue::from);
            self.entries.insert(keys::bytes(key, 0)?, value);
        }
        self.entries_sought = self.batch.len();
        let key = keys::entry(log, seq);
        let row = match self.entries.get(&key) {
            Some(row) => row.clone(),
            None => self.tables.entries.get(&key)?,
        };
        row.map(|bytes| EntryRow::decode(&bytes).map_err(damaged_row))
            .transpose()
    }

    fn erase(&mut self, log: LogId, seqs: &[Seq]) -> Result<(), StoreError> {
        if seqs.is_empty() {
            return Ok(());
        }
        let Some(row) = self.log(log)? else {
            return Ok(());
        };
        for &seq in seqs {
            // The bodies of trimmed entries are on their way out already.
            if seq <= row.trimmed || seq > row.head {
                continue;
            }
            let Some(entry) = self.entry_row(log, seq)? else {
                continue;
            };
            if let BodyRow::At(place) = entry.body {
                let length = rows::encode_number(u64::from(place.length));
                self.batch.insert(
                    &self.tables.upkeep,
                    keys::zero(place.file, place.offset),
                    length,
                );
            }
            if entry.envelope.kind == Kind::Reaction {
                self.remove_reaction(log, &entry.envelope)?;
            }
            if let Some(expires) = entry.envelope.expires {
                self.batch
                    .remove(&self.tables.expiry, keys::expiry(expires, log, seq));
            }
            if entry.body != BodyRow::Erased {
                self.put_entry_row(log, &entry.envelope, BodyRow::Erased);
            }
        }
        Ok(())
    }

    fn trim(&mut self, log: LogId, up_to: Seq) -> Result<Seq, StoreError> {
        let Some(mut row) = self.log(log)? else {
            return Ok(0);
        };
        let up_to = up_to.min(row.state).min(row.head);
        if up_to > row.trimmed {
            row.trimmed = up_to;
            self.put_log(log, row);
            self.batch.insert(&self.tables.upkeep, keys::sweep(log), []);
        }
        Ok(row.trimmed)
    }
}

/// Entries are numbered from the expected head, and a state is the one after the last of them.
fn check_numbers(
    expected_head: Seq,
    entries: &[Entry],
    state: Option<&StateSnapshot>,
) -> Result<(), StoreError> {
    let mut last = expected_head;
    for entry in entries {
        if last.checked_add(1) != Some(entry.seq()) || entry.seq() > SEQ_MAX {
            return Err(misuse(
                "entries that do not follow on each other from the expected head",
            ));
        }
        last = entry.seq();
    }
    if entries.is_empty() {
        return Err(misuse("an append without entries"));
    }
    if state.is_some_and(|state| state.seq != last) {
        return Err(misuse("a state that is not the one after the last entry"));
    }
    Ok(())
}

/// Ordinals and times do not go back.
fn check_order(row: &LogRow, entries: &[Entry]) -> Result<(), StoreError> {
    let mut before: (u64, Time) = (row.ordinal, row.at);
    for entry in entries {
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

/// Bodies that expire lie with those that are kept as long, so that their file can go as a whole.
fn body_class(retention: Retention, envelope: &Envelope) -> Class {
    let vanishes = envelope
        .expires
        .map(|expires| expires.millis_since(envelope.at).div_ceil(DAY_MILLIS));
    match (
        retention,
        vanishes.and_then(|days| u16::try_from(days).ok()),
    ) {
        (Retention::Forever, Some(days)) => Class::of(Retention::Days(days)),
        (Retention::Days(kept), Some(days)) => Class::of(Retention::Days(kept.min(days))),
        (retention, _) => Class::of(retention),
    }
}
