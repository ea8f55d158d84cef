//! The store as its users see it: opening, closing, and the dispatch of every method.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use foldhash::HashMap;
use tidings_core::log::{LogId, Seq};
use tidings_core::mark::Mark;
use tidings_core::{ClientId, Time, UserId};
use tidings_store::{
    Alterations, Append, AppendError, ClientIdSearch, Document, DocumentKind, Durability, LogHead,
    MemberQuery, Page, PutDocument, PutError, ReadLog, StateSnapshot, Step, Store, StoreError,
    StoreFuture,
};

use crate::apply::{self, Applier, Applying};
use crate::backup::{self, BackupError, BackupReport};
use crate::bodies::BodyWriter;
use crate::commit::Committer;
use crate::directory::{Directory, OpenError};
use crate::keys;
use crate::late::Late;
use crate::queue::{Answer, Queue, Request, queue};
use crate::read::Reader;
use crate::readers::Readers;
use crate::rows::FileRow;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::tables::Tables;
use crate::upkeep::Upkeep;
use crate::write_behind::WriteBehind;
use crate::{damaged_row, misuse};

/// The embedded store over one data directory.
///
/// Its futures need no particular runtime. Dropping it commits what waits, joins its threads and
/// unlocks the directory.
pub struct EmbeddedStore {
    pub(crate) reader: Reader,
    readers: Option<Readers>,
    queue: Queue,
    pub(crate) upkeep: Arc<Upkeep>,
    stop: Arc<Stop>,
    threads: Vec<JoinHandle<()>>,
    /// Last, so that the directory is unlocked when everything else is closed.
    directory: Directory,
}

/// What waits in a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Requests that are not durable yet.
    pub commits: usize,
    /// The oldest of them has waited about so long.
    pub oldest_commit: Duration,
    /// Reads that wait for a thread or the disk.
    pub reads: usize,
}

impl std::fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedStore")
            .field("path", &self.directory.path)
            .finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens the store in a directory, which is made if it is not there.
    ///
    /// # Errors
    /// When the directory is in use, foreign, of a newer format, damaged, or cannot be read and written.
    pub fn open(path: &Path, settings: Settings) -> Result<EmbeddedStore, OpenError> {
        let directory = Directory::open(path)?;
        let failed = |error: std::io::Error| OpenError::Io {
            path: path.to_owned(),
            error,
        };
        let broken = |what: String| OpenError::Damaged {
            path: path.to_owned(),
            what,
        };
        let opened = apply::open(&directory, &settings)?;
        let (tables, files) = (opened.tables, opened.files);
        let rows = file_rows(&tables).map_err(|error| broken(error.to_string()))?;
        let bodies = BodyWriter::open(Arc::clone(&files), rows, settings.body_file_bytes_max)
            .map_err(|error| broken(error.to_string()))?;
        let (segment, applying, inbox) =
            Applying::begin(directory.journal(), opened.next_segment).map_err(failed)?;
        if directory.is_new {
            directory.finish()?;
        }

        let late = Arc::new(Late::new(settings.late_within));
        let stop = Arc::new(Stop::new(Arc::clone(&settings.on_fatal)));
        let reader = Reader {
            tables: tables.clone(),
            files: Arc::clone(&files),
            late: Arc::clone(&late),
            blocks: Arc::default(),
        };
        let (readers, mut threads) =
            Readers::start(&reader, settings.read_threads).map_err(failed)?;
        let (queue, waiting) = queue(settings.queue_requests_max);
        // What was replayed is still in the journal; no row takes less than this.
        let replayed =
            tables.database.journal_disk_space().unwrap_or_default() / JOURNAL_ROW_BYTES_MIN;
        let journal_rows = Arc::new(AtomicU64::new(if directory.is_new { 0 } else { replayed }));
        let applier = Applier {
            inbox,
            tables: tables.clone(),
            journal_rows: Arc::clone(&journal_rows),
            stop: Arc::clone(&stop),
        };
        let (write_behind, unsynced) = WriteBehind::begin();
        let committer = Committer::new(
            (tables, files, bodies),
            late,
            Arc::clone(&stop),
            settings.clone(),
            (segment, applying, write_behind),
        );
        let upkeep = Arc::new(Upkeep::new(
            reader.clone(),
            queue.clone(),
            Arc::clone(&stop),
            settings,
            journal_rows,
        ));
        let (on_panic, apply_on_panic) = (stop.on_panic(), stop.on_panic());
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        threads.push(
            thread("store-commit")
                .spawn(move || {
                    let _guard = on_panic;
                    committer.run(&waiting);
                })
                .map_err(failed)?,
        );
        threads.push(
            thread("store-apply")
                .spawn(move || {
                    let _guard = apply_on_panic;
                    applier.run();
                })
                .map_err(failed)?,
        );
        let syncing = Arc::clone(&stop);
        threads.push(
            thread("store-sync")
                .spawn(move || {
                    let _guard = syncing.on_panic();
                    unsynced.run(&syncing);
                })
                .map_err(failed)?,
        );
        let background = Arc::clone(&upkeep);
        threads.push(
            thread("store-upkeep")
                .spawn(move || background.run())
                .map_err(failed)?,
        );
        Ok(EmbeddedStore {
            reader,
            readers: Some(readers),
            queue,
            upkeep,
            stop,
            threads,
            directory,
        })
    }

    /// Its data directory.
    #[must_use]
    pub fn path(&self) -> &PathBuf {
        &self.directory.path
    }

    /// What waits.
    #[must_use]
    pub fn backlog(&self) -> Backlog {
        let (commits, oldest_commit) = self.queue.backlog();
        Backlog {
            commits,
            oldest_commit,
            reads: self.readers.as_ref().map_or(0, Readers::waiting),
        }
    }

    /// Why it has stopped, if it has: a write failed.
    #[must_use]
    pub fn stopped(&self) -> Option<String> {
        self.stop.reason().map(str::to_owned)
    }

    /// Does now what upkeep would do in the background: overwrites what was erased and trimmed, and
    /// forgets envelopes that are due at `now`. Blocks.
    ///
    /// # Errors
    /// When the disk fails or the store has stopped.
    pub fn run_upkeep(&self, now: Time) -> Result<(), StoreError> {
        self.upkeep.round(now)
    }

    /// Forgets the envelopes and client ids of a log's entries up to a seq, as far as they are trimmed,
    /// without waiting for their thirty days. Blocks.
    ///
    /// # Errors
    /// When the disk fails or the store has stopped.
    pub fn forget_envelopes(&self, log: LogId, up_to: Seq) -> Result<(), StoreError> {
        self.upkeep.forget_now(log, up_to)
    }

    /// Verifies every invariant on the disk while the store runs: each violation in words. Blocks, and
    /// keeps upkeep waiting.
    ///
    /// # Errors
    /// When the store cannot be read or has stopped.
    pub fn check(&self) -> Result<Vec<String>, StoreError> {
        let _paused = self.upkeep.pause();
        self.upkeep.apply_journal()?;
        crate::check::check(&self.reader.tables, &self.reader.files)
    }

    /// Copies the store, as of one moment, into a directory that must not be there yet, while it runs.
    /// The copy is a data directory; call [`crate::new_generation`] on it before it is used in the place of
    /// the original. Bodies that are kept only until delivered are left out. Blocks.
    ///
    /// # Errors
    /// When the destination is there, cannot be written, or the store cannot be read.
    pub fn backup(&self, destination: &Path) -> Result<BackupReport, BackupError> {
        // No body may vanish between the moment of the snapshot and its copying.
        let _paused = self.upkeep.pause();
        self.upkeep.apply_journal()?;
        backup::copy(&self.reader, destination)
    }

    pub(crate) async fn ask<T, E: From<StoreError>>(
        &self,
        request: impl FnOnce(Answer<T, E>) -> Request,
    ) -> Result<T, E> {
        self.stop.check()?;
        self.queue
            .ask(request)
            .await
            .unwrap_or_else(|| Err(self.stop.unanswered().into()))
    }

    /// Reads on a thread that may wait for the disk.
    pub(crate) fn far<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> StoreFuture<'_, Result<T, StoreError>> {
        Box::pin(async move {
            match &self.readers {
                Some(readers) => readers.read(read).await,
                None => Err(self.stop.unanswered()),
            }
        })
    }

    /// Reads a single row at once: that is mostly in memory.
    fn near<'a, T: 'a>(
        &'a self,
        read: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'a,
    ) -> StoreFuture<'a, Result<T, StoreError>> {
        Box::pin(async move { read(&self.reader) })
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.upkeep.close();
        self.queue.close();
        self.readers = None;
        for thread in self.threads.drain(..) {
            // A thread that panicked has nothing more to say.
            let _ = thread.join();
        }
        self.stop.close();
    }
}

impl Store for EmbeddedStore {
    fn append(&self, append: Append) -> StoreFuture<'_, Result<(), AppendError>> {
        Box::pin(self.ask(move |answer| Request::Append(Box::new(append), answer)))
    }

    fn append_all(&self, appends: Vec<Append>) -> StoreFuture<'_, Vec<Result<(), AppendError>>> {
        Box::pin(async move {
            let count = appends.len();
            let answers: Result<_, StoreError> = self
                .ask(move |answer| Request::AppendAll(appends, answer))
                .await;
            answers.unwrap_or_else(|error| vec![Err(error.into()); count])
        })
    }

    fn head(&self, log: LogId) -> StoreFuture<'_, Result<Option<LogHead>, StoreError>> {
        self.near(move |reader| reader.head(log))
    }

    fn read(&self, log: LogId, read: ReadLog) -> StoreFuture<'_, Result<Page, StoreError>> {
        self.far(move |reader| reader.read(log, &read))
    }

    fn alterations(
        &self,
        log: LogId,
        targets: Vec<Seq>,
    ) -> StoreFuture<'_, Result<Vec<Alterations>, StoreError>> {
        self.far(move |reader| reader.alterations(log, &targets))
    }

    fn find_client_id(
        &self,
        log: LogId,
        author: UserId,
        client_id: ClientId,
        above: Seq,
    ) -> StoreFuture<'_, Result<ClientIdSearch, StoreError>> {
        let find = move |reader: &Reader| reader.find_client_id(log, author, client_id, above);
        match self.reader.knows_client_ids(log, above) {
            Ok(false) => self.far(find),
            _ => self.near(find),
        }
    }

    fn trim(&self, log: LogId, up_to: Seq) -> StoreFuture<'_, Result<Seq, StoreError>> {
        Box::pin(self.ask(move |answer| Request::Trim(log, up_to, answer)))
    }

    fn erase(&self, log: LogId, seqs: Vec<Seq>) -> StoreFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(move |answer| Request::Erase(log, seqs, answer)))
    }

    fn expired(
        &self,
        now: Time,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<(LogId, Seq)>, StoreError>> {
        self.far(move |reader| reader.expired(now, limit))
    }

    fn raise_marks(
        &self,
        marks: Vec<Mark>,
        durability: Durability,
    ) -> StoreFuture<'_, Result<(), StoreError>> {
        // Two futures: the one that nearly all are is small.
        match durability {
            Durability::Now => Box::pin(self.ask(|answer| Request::RaiseMarks(marks, answer))),
            Durability::Late => Box::pin(async move {
                self.stop.check()?;
                if self.reader.late.raise(&marks) {
                    self.queue.tell(Request::Late);
                }
                Ok(())
            }),
        }
    }

    fn marks(&self, log: LogId, owner: [u8; 16]) -> StoreFuture<'_, Result<Vec<Mark>, StoreError>> {
        self.near(move |reader| reader.marks(log, owner))
    }

    fn marks_of_log(
        &self,
        log: LogId,
        after: Option<[u8; 16]>,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<Mark>, StoreError>> {
        self.far(move |reader| reader.marks_of_log(log, after, limit))
    }

    fn memberships(
        &self,
        user: UserId,
        after: Option<LogId>,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<Mark>, StoreError>> {
        self.far(move |reader| reader.memberships(user, after, limit))
    }

    fn touched(&self, user: UserId) -> StoreFuture<'_, Result<Time, StoreError>> {
        // Asked for only where several programs share a store, so it need not be cheap here.
        self.far(move |reader| {
            let marks = reader.memberships(user, None, usize::MAX)?;
            Ok(marks
                .iter()
                .map(|mark| mark.value.at)
                .max()
                .unwrap_or_default())
        })
    }

    fn keep_steps(&self, steps: Vec<Step>) -> StoreFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.stop.check()?;
            if self.reader.late.keep(&steps) {
                self.queue.tell(Request::Late);
            }
            Ok(())
        })
    }

    fn steps_past(&self, log: LogId, seq: Seq) -> StoreFuture<'_, Result<Vec<Step>, StoreError>> {
        self.far(move |reader| reader.steps_past(log, seq))
    }

    fn write_state(
        &self,
        log: LogId,
        state: StateSnapshot,
    ) -> StoreFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(move |answer| Request::WriteState(log, state, answer)))
    }

    fn read_state(&self, log: LogId) -> StoreFuture<'_, Result<Option<StateSnapshot>, StoreError>> {
        self.near(move |reader| reader.state(log))
    }

    fn read_members(
        &self,
        log: LogId,
        query: MemberQuery,
    ) -> StoreFuture<'_, Result<Vec<(UserId, Vec<u8>)>, StoreError>> {
        self.far(move |reader| reader.members(log, query))
    }

    fn document(
        &self,
        kind: DocumentKind,
        key: Vec<u8>,
    ) -> StoreFuture<'_, Result<Option<Document>, StoreError>> {
        self.near(move |reader| reader.document(kind, key))
    }

    fn put_document(&self, put: PutDocument) -> StoreFuture<'_, Result<u64, PutError>> {
        Box::pin(async move {
            if put.key.len() > DOCUMENT_KEY_BYTES_MAX {
                return Err(misuse("a document's key is too long").into());
            }
            self.ask(move |answer| Request::PutDocument(put, answer))
                .await
        })
    }

    fn scan_documents(
        &self,
        kind: DocumentKind,
        prefix: Vec<u8>,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> StoreFuture<'_, Result<Vec<Document>, StoreError>> {
        self.far(move |reader| reader.scan_documents(kind, &prefix, after, limit))
    }

    fn flush(&self) -> StoreFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(Request::Flush))
    }
}

/// Bytes that a row takes in a journal, at least: for estimating how many there are.
const JOURNAL_ROW_BYTES_MIN: u64 = 64;

/// The tables take keys of up to 65,535 bytes, the kind included.
const DOCUMENT_KEY_BYTES_MAX: usize = 60_000;

/// The body files that the tables know.
pub(crate) fn file_rows(tables: &Tables) -> Result<HashMap<u32, FileRow>, StoreError> {
    let mut rows = HashMap::default();
    for row in tables.upkeep.prefix(b"b") {
        let (key, value) = row?;
        rows.insert(
            keys::parse_file(&key)?,
            FileRow::decode(&value).map_err(damaged_row)?,
        );
    }
    Ok(rows)
}
