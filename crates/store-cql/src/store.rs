//! The store itself: opening it, what runs in the background, and the trait.

use std::sync::Arc;
use std::time::Duration;

use scylla::value::CqlTimestamp;
use tidings_core::log::{LogId, Seq};
use tidings_core::mark::Mark;
use tidings_core::{ClientId, Time, UserId};
use tidings_store::{
    Alterations, Append, AppendError, ClientIdSearch, Document, DocumentKind, Durability, LogHead,
    MemberQuery, Page, PutDocument, PutError, ReadLog, StateSnapshot, Step, Store, StoreError,
    StoreFuture, StoredMember,
};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::cql::{self, Cql};
use crate::known::{Fronts, Hours, StepBuckets};
use crate::late::Late;
use crate::marks::LATE;
use crate::rows;
use crate::schema;
use crate::settings::{Replication, Settings};
use crate::tails::Tails;

/// How often envelopes that were kept long enough are looked for.
const FORGETTING: Duration = Duration::from_secs(3600);

/// A store on Apache Cassandra or ScyllaDB. Any number of programs may use one keyspace at the same time.
///
/// What its methods do is done in tasks of their own: a caller that goes away leaves nothing half done.
#[derive(Debug)]
pub struct CqlStore {
    inner: Arc<Inner>,
    runtime: Handle,
    background: [AbortHandle; 2],
}

pub(crate) struct Inner {
    pub(crate) cql: Cql,
    pub(crate) tails: Tails,
    pub(crate) late: Late,
    pub(crate) flushing: tokio::sync::Mutex<()>,
    pub(crate) fronts: Fronts,
    pub(crate) step_buckets: StepBuckets,
    pub(crate) hours: Hours,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("settings", &self.cql.settings)
            .finish_non_exhaustive()
    }
}

/// Marks of a log itself (`logs.kind`). On disk: the numbers never change their meaning.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum LogMark {
    /// Entries up to here are served no more.
    Trimmed = 1,
    /// A bucket that was opened.
    OpenBucket = 2,
    /// What belongs to entries up to here is deleted.
    Swept = 3,
    /// Envelopes up to here are gone.
    Forgotten = 4,
    /// A bucket in which there are steps.
    StepBucket = 5,
}

/// The marks of a log itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogMarks {
    pub(crate) trimmed: Seq,
    pub(crate) open_bucket: i64,
    pub(crate) swept: Seq,
    pub(crate) forgotten: Seq,
    pub(crate) step_bucket: i64,
}

/// Lists of partitions (`listed.list`). On disk: the numbers never change their meaning.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum List {
    /// Shards of the index of documents, by kind.
    DocumentShards = 1,
    /// Hours and shards in which entries expire.
    Hours = 2,
    /// Buckets to forget, by day.
    Forgetting = 3,
}

/// Makes the keyspace and the tables, or brings them up to date. May be repeated.
///
/// # Errors
/// When the cluster cannot be reached, refuses, or holds a newer format.
pub async fn migrate(settings: &Settings, replication: &Replication) -> Result<(), StoreError> {
    let session = cql::connect(settings).await?;
    schema::make_keyspace(&session, &settings.keyspace, replication).await?;
    cql::use_keyspace(&session, &settings.keyspace).await?;
    if let Some(found) = schema::format(&session).await?
        && found > schema::FORMAT
    {
        return Err(StoreError::Misuse(format!(
            "the keyspace {} is of format {found}, made by a newer version of Tidings",
            settings.keyspace
        )));
    }
    schema::make_tables(&session).await
}

impl CqlStore {
    /// Connects to the cluster. Must be called within a tokio runtime, which then does the work.
    ///
    /// # Errors
    /// When no node can be reached, or the tables are not there or of another version.
    pub async fn open(settings: Settings) -> Result<CqlStore, StoreError> {
        let inner = Arc::new(Inner {
            cql: Cql::open(settings).await?,
            tails: Tails::default(),
            late: Late::default(),
            flushing: tokio::sync::Mutex::default(),
            fronts: Fronts::default(),
            step_buckets: StepBuckets::default(),
            hours: Hours::default(),
        });
        let background = [
            tokio::spawn(write_late_marks(inner.clone())).abort_handle(),
            tokio::spawn(forget_envelopes(inner.clone())).abort_handle(),
        ];
        Ok(CqlStore {
            inner,
            runtime: Handle::current(),
            background,
        })
    }

    /// Forgets envelopes and client ids of trimmed entries up to this one now, and not when their time comes.
    ///
    /// # Errors
    /// When the cluster does not do it.
    pub fn forget_envelopes(
        &self,
        log: LogId,
        up_to: Seq,
    ) -> StoreFuture<'_, Result<(), StoreError>> {
        self.run(move |inner| async move { inner.forget_envelopes(log, up_to).await })
    }

    /// The time by the clock of a node of the cluster.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub fn time(&self) -> StoreFuture<'_, Result<Time, StoreError>> {
        self.run(move |inner| async move {
            let row = inner
                .cql
                .first::<(CqlTimestamp,)>(&inner.cql.statements.time, ())
                .await?;
            let (CqlTimestamp(millis),) = row.ok_or_else(|| cql::damaged("no time of day"))?;
            Ok(Time(rows::seq(millis)))
        })
    }

    /// Does the work in a task of the runtime, whoever polls what comes back.
    pub(crate) fn run<T, E, F>(
        &self,
        work: impl FnOnce(Arc<Inner>) -> F,
    ) -> StoreFuture<'_, Result<T, E>>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let task = self.runtime.spawn(work(self.inner.clone()));
        Box::pin(async move {
            task.await
                .unwrap_or_else(|error| Err(StoreError::Stopped(error.to_string()).into()))
        })
    }
}

impl Drop for CqlStore {
    fn drop(&mut self) {
        self.background.iter().for_each(AbortHandle::abort);
    }
}

async fn write_late_marks(inner: Arc<Inner>) {
    let mut ticks = tokio::time::interval(LATE);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = inner.flush().await {
            tracing::warn!(%error, "marks could not be written and wait on");
        }
    }
}

async fn forget_envelopes(inner: Arc<Inner>) {
    let mut ticks = tokio::time::interval(FORGETTING);
    loop {
        ticks.tick().await;
        match inner.forget_due().await {
            Ok(0) => {}
            Ok(buckets) => tracing::info!(buckets, "envelopes of trimmed entries were forgotten"),
            Err(error) => tracing::warn!(%error, "old envelopes could not be forgotten"),
        }
    }
}

impl Inner {
    /// The marks of a log itself.
    pub(crate) async fn log_marks(&self, log: LogId) -> Result<LogMarks, StoreError> {
        let rows = self
            .cql
            .rows::<(i8, i64)>(&self.cql.statements.log_marks, (log.to_bytes(),))
            .await?;
        let mut marks = LogMarks::default();
        for (kind, value) in rows {
            match kind.cast_unsigned() {
                kind if kind == LogMark::Trimmed as u8 => marks.trimmed = rows::seq(value),
                kind if kind == LogMark::OpenBucket as u8 => marks.open_bucket = value,
                kind if kind == LogMark::Swept as u8 => marks.swept = rows::seq(value),
                kind if kind == LogMark::Forgotten as u8 => marks.forgotten = rows::seq(value),
                kind if kind == LogMark::StepBucket as u8 => marks.step_bucket = value,
                _ => {}
            }
        }
        Ok(marks)
    }
}

impl Store for CqlStore {
    fn append(&self, append: Append) -> StoreFuture<'_, Result<(), AppendError>> {
        self.run(move |inner| async move { inner.append(append).await })
    }

    fn append_all(&self, appends: Vec<Append>) -> StoreFuture<'_, Vec<Result<(), AppendError>>> {
        let count = appends.len();
        // Those of one log one after the other, the logs side by side.
        let mut logs: Vec<(LogId, Vec<(usize, Append)>)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        for (index, append) in appends.into_iter().enumerate() {
            let log = append.log;
            let place = *places.entry(log).or_insert_with(|| {
                logs.push((log, Vec::new()));
                logs.len() - 1
            });
            logs[place].1.push((index, append));
        }
        let tasks: Vec<_> = logs
            .into_iter()
            .map(|(_, appends)| {
                let inner = self.inner.clone();
                self.runtime.spawn(async move {
                    let mut answers = Vec::with_capacity(appends.len());
                    for (index, append) in appends {
                        answers.push((index, inner.append(append).await));
                    }
                    answers
                })
            })
            .collect();
        Box::pin(async move {
            let stopped = || {
                Err(AppendError::Unknown(StoreError::Stopped(
                    "the task ended".to_owned(),
                )))
            };
            let mut all: Vec<Result<(), AppendError>> = (0..count).map(|_| stopped()).collect();
            for task in tasks {
                for (index, answer) in task.await.unwrap_or_default() {
                    all[index] = answer;
                }
            }
            all
        })
    }

    fn head(&self, log: LogId) -> StoreFuture<'_, Result<Option<LogHead>, StoreError>> {
        self.run(move |inner| async move { inner.head(log).await })
    }

    fn read(&self, log: LogId, read: ReadLog) -> StoreFuture<'_, Result<Page, StoreError>> {
        self.run(move |inner| async move { inner.read(log, read).await })
    }

    fn alterations(
        &self,
        log: LogId,
        targets: Vec<Seq>,
    ) -> StoreFuture<'_, Result<Vec<Alterations>, StoreError>> {
        self.run(move |inner| async move { inner.alterations(log, targets).await })
    }

    fn find_client_id(
        &self,
        log: LogId,
        author: UserId,
        client_id: ClientId,
        above: Seq,
    ) -> StoreFuture<'_, Result<ClientIdSearch, StoreError>> {
        self.run(
            move |inner| async move { inner.find_client_id(log, author, client_id, above).await },
        )
    }

    fn trim(&self, log: LogId, up_to: Seq) -> StoreFuture<'_, Result<Seq, StoreError>> {
        self.run(move |inner| async move { inner.trim(log, up_to).await })
    }

    fn erase(&self, log: LogId, seqs: Vec<Seq>) -> StoreFuture<'_, Result<(), StoreError>> {
        self.run(move |inner| async move { inner.erase(log, seqs).await })
    }

    fn expired(
        &self,
        now: Time,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<(LogId, Seq)>, StoreError>> {
        self.run(move |inner| async move { inner.expired(now, limit).await })
    }

    fn raise_marks(
        &self,
        marks: Vec<Mark>,
        durability: Durability,
    ) -> StoreFuture<'_, Result<(), StoreError>> {
        if durability == Durability::Late {
            // Nothing to wait for, so no task for it.
            let put = self.inner.late.put(&marks, &[]);
            return Box::pin(std::future::ready(put));
        }
        self.run(move |inner| async move { inner.raise_marks(marks, durability).await })
    }

    fn marks(&self, log: LogId, owner: [u8; 16]) -> StoreFuture<'_, Result<Vec<Mark>, StoreError>> {
        self.run(move |inner| async move { inner.marks(log, owner).await })
    }

    fn marks_of_log(
        &self,
        log: LogId,
        after: Option<[u8; 16]>,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<Mark>, StoreError>> {
        self.run(move |inner| async move { inner.marks_of_log(log, after, limit).await })
    }

    fn memberships(
        &self,
        user: UserId,
        after: Option<LogId>,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<Mark>, StoreError>> {
        self.run(move |inner| async move { inner.memberships(user, after, limit).await })
    }

    fn touched(&self, user: UserId) -> StoreFuture<'_, Result<Time, StoreError>> {
        self.run(move |inner| async move { inner.touched(user).await })
    }

    fn keep_steps(&self, steps: Vec<Step>) -> StoreFuture<'_, Result<(), StoreError>> {
        let put = self.inner.late.put(&[], &steps);
        Box::pin(std::future::ready(put))
    }

    fn steps_past(&self, log: LogId, seq: Seq) -> StoreFuture<'_, Result<Vec<Step>, StoreError>> {
        self.run(move |inner| async move { inner.steps_past(log, seq).await })
    }

    fn write_state(
        &self,
        log: LogId,
        state: StateSnapshot,
    ) -> StoreFuture<'_, Result<(), StoreError>> {
        self.run(move |inner| async move { inner.write_state(log, state).await })
    }

    fn read_state(&self, log: LogId) -> StoreFuture<'_, Result<Option<StateSnapshot>, StoreError>> {
        self.run(move |inner| async move { inner.read_state(log).await })
    }

    fn read_members(
        &self,
        log: LogId,
        query: MemberQuery,
    ) -> StoreFuture<'_, Result<Vec<StoredMember>, StoreError>> {
        self.run(move |inner| async move { inner.read_members(log, query).await })
    }

    fn document(
        &self,
        kind: DocumentKind,
        key: Vec<u8>,
    ) -> StoreFuture<'_, Result<Option<Document>, StoreError>> {
        self.run(move |inner| async move { inner.document(kind, key).await })
    }

    fn put_document(&self, put: PutDocument) -> StoreFuture<'_, Result<u64, PutError>> {
        self.run(move |inner| async move { inner.put_document(put).await })
    }

    fn scan_documents(
        &self,
        kind: DocumentKind,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<Document>, StoreError>> {
        self.run(move |inner| async move { inner.scan_documents(kind, prefix, after, limit).await })
    }

    fn flush(&self) -> StoreFuture<'_, Result<(), StoreError>> {
        self.run(move |inner| async move { inner.flush().await })
    }
}
