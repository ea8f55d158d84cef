//! The store in memory: for tests and simulation, and the plainest statement of what a store does.
//!
//! Its futures are ready at once, unless appends are held ([`MemoryStore::hold`]). What is durable survives
//! [`MemoryStore::crash`]; what was raised [`Durability::Late`] is thrown away by it unless a flush, an append or a
//! durable raise came after.

mod log;
mod marks;
mod moving;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tidings_core::log::{LogId, Seq};
use tidings_core::mark::Mark;
use tidings_core::{ClientId, Time, UserId};

use self::log::Log;
use self::marks::Marks;
use crate::{
    Alterations, Append, AppendError, ClientIdSearch, Document, DocumentKind, Durability, LogHead,
    MemberQuery, Page, PutDocument, PutError, ReadLog, StateSnapshot, Step, Store, StoreError,
    StoreFuture, StoredMember,
};

/// A store in memory. Clones share what is in it.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    data: Arc<Mutex<Data>>,
}

/// How an append is to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFailure {
    /// Nothing happens, and an error is reported.
    NotDone,
    /// It happens durably, and an error is reported all the same: the answer was lost.
    AnswerLost,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Throws away what is not durable, as a loss of power would.
    pub fn crash(&self) {
        self.lock().crash();
    }

    /// Makes the next append go wrong. Called several times, the next several, in this order.
    pub fn fail_next(&self, failure: AppendFailure) {
        self.lock().failures.push_back(failure);
    }

    /// From now on appends wait, as for a slow disk, until [`MemoryStore::go_on`].
    pub fn hold(&self) {
        self.lock().held.get_or_insert_default();
    }

    /// How many appends wait, each of which was polled once; of those handed over together the first.
    #[must_use]
    pub fn holds(&self) -> usize {
        self.lock().held.as_ref().map_or(0, Vec::len)
    }

    /// Lets the appends go on that wait.
    pub fn go_on(&self) {
        let held = self.lock().held.take();
        held.into_iter().flatten().for_each(Waker::wake);
    }

    /// Ready while appends are not held.
    fn poll_held(&self, cx: &Context<'_>) -> Poll<()> {
        match &mut self.lock().held {
            None => Poll::Ready(()),
            Some(held) => {
                held.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Forgets the envelopes of entries up to `up_to`, as far as they are trimmed: what any store does
    /// once client ids have been kept for long enough.
    pub fn forget_envelopes(&self, log: LogId, up_to: Seq) {
        if let Some(log) = self.lock().logs.get_mut(&log) {
            log.forget_envelopes(up_to);
        }
    }

    /// A panic elsewhere while the lock was held changes nothing here: every change is checked before it
    /// begins.
    fn lock(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The work is done when the future is first polled: one that never is has no effect.
    fn when_polled<'a, T: 'a>(
        &'a self,
        work: impl FnOnce(&mut Data) -> T + Send + 'a,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move { work(&mut self.lock()) })
    }
}

impl Store for MemoryStore {
    fn append(&self, append: Append) -> StoreFuture<'_, Result<(), AppendError>> {
        Box::pin(async move {
            poll_fn(|cx| self.poll_held(cx)).await;
            self.lock().append(append)
        })
    }

    fn append_all(&self, appends: Vec<Append>) -> StoreFuture<'_, Vec<Result<(), AppendError>>> {
        Box::pin(async move {
            let mut answers = Vec::with_capacity(appends.len());
            for append in appends {
                answers.push(self.append(append).await);
            }
            answers
        })
    }

    fn head(&self, log: LogId) -> StoreFuture<'_, Result<Option<LogHead>, StoreError>> {
        self.when_polled(move |data| Ok(data.logs.get(&log).and_then(Log::head)))
    }

    fn read(&self, log: LogId, read: ReadLog) -> StoreFuture<'_, Result<Page, StoreError>> {
        self.when_polled(move |data| {
            let nothing = Page {
                entries: Vec::new(),
                complete: true,
            };
            Ok(data.logs.get(&log).map_or(nothing, |log| log.read(&read)))
        })
    }

    fn alterations(
        &self,
        log: LogId,
        targets: Vec<Seq>,
    ) -> StoreFuture<'_, Result<Vec<Alterations>, StoreError>> {
        self.when_polled(move |data| {
            Ok(data
                .logs
                .get(&log)
                .map_or_else(Vec::new, |log| log.alterations(&targets)))
        })
    }

    fn find_client_id(
        &self,
        log: LogId,
        author: UserId,
        client_id: ClientId,
        above: Seq,
    ) -> StoreFuture<'_, Result<ClientIdSearch, StoreError>> {
        self.when_polled(move |data| {
            let search = |log: &Log| log.find_client_id(author, client_id, above);
            Ok(data.logs.get(&log).map_or(ClientIdSearch::Absent, search))
        })
    }

    fn trim(&self, log: LogId, up_to: Seq) -> StoreFuture<'_, Result<Seq, StoreError>> {
        self.when_polled(move |data| Ok(data.logs.get_mut(&log).map_or(0, |log| log.trim(up_to))))
    }

    fn erase(&self, log: LogId, seqs: Vec<Seq>) -> StoreFuture<'_, Result<(), StoreError>> {
        self.when_polled(move |data| {
            if let Some(log) = data.logs.get_mut(&log) {
                seqs.into_iter().for_each(|seq| log.erase(seq));
            }
            Ok(())
        })
    }

    fn expired(
        &self,
        now: Time,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<(LogId, Seq)>, StoreError>> {
        self.when_polled(move |data| Ok(data.expired(now, limit)))
    }

    fn raise_marks(
        &self,
        marks: Vec<Mark>,
        durability: Durability,
    ) -> StoreFuture<'_, Result<(), StoreError>> {
        self.when_polled(move |data| {
            marks.into_iter().for_each(|mark| data.marks.raise(mark));
            if durability == Durability::Now {
                data.settle();
            }
            Ok(())
        })
    }

    fn marks(&self, log: LogId, owner: [u8; 16]) -> StoreFuture<'_, Result<Vec<Mark>, StoreError>> {
        self.when_polled(move |data| Ok(data.marks.of(log, owner).collect()))
    }

    fn marks_of_log(
        &self,
        log: LogId,
        after: Option<[u8; 16]>,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<Mark>, StoreError>> {
        self.when_polled(move |data| Ok(data.marks.of_log(log, after, limit)))
    }

    fn memberships(
        &self,
        user: UserId,
        after: Option<LogId>,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<Mark>, StoreError>> {
        self.when_polled(move |data| Ok(data.marks.memberships(user.0, after, limit)))
    }

    fn touched(&self, user: UserId) -> StoreFuture<'_, Result<Time, StoreError>> {
        self.when_polled(move |data| {
            let marks = data.marks.memberships(user.0, None, usize::MAX);
            Ok(marks
                .iter()
                .map(|mark| mark.value.at)
                .max()
                .unwrap_or_default())
        })
    }

    fn keep_steps(&self, steps: Vec<Step>) -> StoreFuture<'_, Result<(), StoreError>> {
        self.when_polled(move |data| {
            for step in steps {
                if data.logs.entry(step.log).or_default().keep_step(&step) {
                    data.late_steps.push(step);
                }
            }
            Ok(())
        })
    }

    fn steps_past(&self, log: LogId, seq: Seq) -> StoreFuture<'_, Result<Vec<Step>, StoreError>> {
        self.when_polled(move |data| {
            Ok(data
                .logs
                .get(&log)
                .map_or_else(Vec::new, |kept| kept.steps_past(log, seq)))
        })
    }

    fn write_state(
        &self,
        log: LogId,
        state: StateSnapshot,
    ) -> StoreFuture<'_, Result<(), StoreError>> {
        self.when_polled(move |data| {
            data.logs.entry(log).or_default().write_state(state);
            Ok(())
        })
    }

    fn read_state(&self, log: LogId) -> StoreFuture<'_, Result<Option<StateSnapshot>, StoreError>> {
        self.when_polled(move |data| Ok(data.logs.get(&log).and_then(Log::state)))
    }

    fn read_members(
        &self,
        log: LogId,
        query: MemberQuery,
    ) -> StoreFuture<'_, Result<Vec<StoredMember>, StoreError>> {
        self.when_polled(move |data| {
            Ok(data
                .logs
                .get(&log)
                .map_or_else(Vec::new, |log| log.members(query)))
        })
    }

    fn document(
        &self,
        kind: DocumentKind,
        key: Vec<u8>,
    ) -> StoreFuture<'_, Result<Option<Document>, StoreError>> {
        self.when_polled(move |data| {
            let place = (kind, key);
            let found = data.documents.get(&place);
            Ok(found.map(|(version, value)| Document {
                key: place.1.clone(),
                version: *version,
                value: value.clone(),
            }))
        })
    }

    fn put_document(&self, put: PutDocument) -> StoreFuture<'_, Result<u64, PutError>> {
        self.when_polled(|data| data.put_document(put))
    }

    fn scan_documents(
        &self,
        kind: DocumentKind,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<Document>, StoreError>> {
        self.when_polled(move |data| {
            let from = match after {
                Some(after) if after >= prefix => Bound::Excluded((kind, after)),
                _ => Bound::Included((kind, prefix.clone())),
            };
            Ok(data
                .documents
                .range((from, Bound::Unbounded))
                .take_while(|((found, key), _)| *found == kind && key.starts_with(&prefix))
                .take(limit)
                .map(|((_, key), (version, value))| Document {
                    key: key.clone(),
                    version: *version,
                    value: value.clone(),
                })
                .collect())
        })
    }

    fn flush(&self) -> StoreFuture<'_, Result<(), StoreError>> {
        self.when_polled(|data| {
            data.settle();
            Ok(())
        })
    }
}

#[derive(Debug, Default)]
struct Data {
    logs: BTreeMap<LogId, Log>,
    marks: Marks,
    /// Steps that a crash would forget.
    late_steps: Vec<Step>,
    /// Expiries of entries; those of erased ones are dropped when they are met.
    expiring: BTreeSet<(Time, LogId, Seq)>,
    documents: BTreeMap<(DocumentKind, Vec<u8>), (u64, Vec<u8>)>,
    /// One counter for all documents, so that one deleted and made anew has another version.
    last_version: u64,
    failures: VecDeque<AppendFailure>,
    /// Those who wait to append, while appends are held.
    held: Option<Vec<Waker>>,
}

impl Data {
    fn append(&mut self, append: Append) -> Result<(), AppendError> {
        let failure = self.failures.pop_front();
        if failure == Some(AppendFailure::NotDone) {
            return Err(StoreError::Unavailable("the append was made to fail".to_owned()).into());
        }
        let id = append.log;
        match self.logs.get(&id) {
            Some(log) => log.check_append(&append)?,
            None => Log::default().check_append(&append)?,
        }
        let log = self.logs.entry(id).or_default();
        for entry in append.entries {
            if let Some(expires) = entry.envelope.expires {
                self.expiring.insert((expires, id, entry.envelope.seq));
            }
            log.push(append.generation, entry);
        }
        append.erase.into_iter().for_each(|seq| log.erase(seq));
        if let Some(state) = append.state {
            log.write_state(state);
        }
        append
            .marks
            .into_iter()
            .for_each(|mark| self.marks.raise(mark));
        self.settle();
        match failure {
            Some(_) => Err(AppendError::Unknown(StoreError::Unavailable(
                "the answer to the append was lost".to_owned(),
            ))),
            None => Ok(()),
        }
    }

    fn expired(&mut self, now: Time, limit: usize) -> Vec<(LogId, Seq)> {
        let mut found = Vec::new();
        let mut gone = Vec::new();
        for &(at, id, seq) in self.expiring.iter().take_while(|(at, ..)| *at <= now) {
            if found.len() == limit {
                break;
            }
            if self.logs.get(&id).is_some_and(|log| log.has_body(seq)) {
                found.push((id, seq));
            } else {
                gone.push((at, id, seq));
            }
        }
        for place in gone {
            self.expiring.remove(&place);
        }
        found
    }

    fn put_document(&mut self, put: PutDocument) -> Result<u64, PutError> {
        let place = (put.kind, put.key);
        let version = self
            .documents
            .get(&place)
            .map_or(0, |(version, _)| *version);
        if put.expected.is_some_and(|expected| expected != version) {
            return Err(PutError::Conflict { version });
        }
        let Some(value) = put.value else {
            self.documents.remove(&place);
            return Ok(0);
        };
        self.last_version += 1;
        self.documents.insert(place, (self.last_version, value));
        Ok(self.last_version)
    }

    /// What was late is durable from here on.
    fn settle(&mut self) {
        self.marks.settle();
        self.late_steps.clear();
    }

    fn crash(&mut self) {
        self.marks.crash();
        for step in std::mem::take(&mut self.late_steps) {
            if let Some(log) = self.logs.get_mut(&step.log) {
                log.forget_step(&step);
            }
        }
    }
}
