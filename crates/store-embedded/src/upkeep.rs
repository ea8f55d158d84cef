//! Upkeep: what is decided is carried out on the disk a little later, within the bound.
//!
//! Bodies that were erased or trimmed are overwritten; envelopes and client ids of what was trimmed go
//! thirty days later; body files in which nothing lives are deleted; journals are not let pile up.
//! Every step is: change the files (which may be repeated), then have the committer write down that it
//! was done. A crash in between repeats it.

mod trimmed;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tidings_core::Time;
use tidings_core::log::LogId;
use tidings_store::StoreError;

use crate::client_ids::{Prints, last_of};
use crate::damaged_row;
use crate::keys;
use crate::queue::{Queue, Request};
use crate::read::Reader;
use crate::rows;
use crate::settings::Settings;
use crate::stop::Stop;

/// Rows of one step: bounds the memory and the size of its commit.
const STEP_ROWS_MAX: usize = 4_000;
/// Blocks of entries that are indexed in one step.
const INDEXED_AT_ONCE: usize = 16;
/// How often journals are looked after.
const TICK: Duration = Duration::from_millis(250);

/// Memtables are asked to be flushed at most so often.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

pub(crate) use trimmed::{Forgotten, Swept};

/// What upkeep did, for the committer to write down.
#[derive(Debug)]
pub(crate) enum Done {
    /// Erased places (file, offset, length) were overwritten.
    Zeroed(Vec<(u32, u64, u64)>),
    /// The bodies of trimmed entries of some logs were overwritten.
    Swept(Vec<Swept>),
    /// The envelopes and client ids of trimmed entries of some logs may go.
    Forgotten(Vec<Forgotten>),
    /// Whole blocks of entries, with the fingerprints of their client ids; none if the entries are gone.
    Indexed(Vec<(LogId, u64, Option<Prints>)>),
    /// Nothing in particular: files may be sealed by the time.
    Tidied(Time),
}

/// Carries out upkeep, from its own thread and when asked.
pub(crate) struct Upkeep {
    pub(crate) reader: Reader,
    pub(crate) queue: Queue,
    pub(crate) stop: Arc<Stop>,
    pub(crate) settings: Settings,
    /// Held during a round, and by a backup, which must not see bodies vanish.
    rounds: Mutex<()>,
    journal_rows: Arc<AtomicU64>,
    /// The last of fjall's journals is padded, and there is no new one yet.
    is_sealing: AtomicBool,
    closing: Mutex<bool>,
    closed: Condvar,
}

impl Upkeep {
    pub(crate) fn new(
        reader: Reader,
        queue: Queue,
        stop: Arc<Stop>,
        settings: Settings,
        journal_rows: Arc<AtomicU64>,
    ) -> Upkeep {
        Upkeep {
            reader,
            queue,
            stop,
            settings,
            rounds: Mutex::default(),
            journal_rows,
            is_sealing: AtomicBool::new(false),
            closing: Mutex::default(),
            closed: Condvar::new(),
        }
    }

    /// Runs until the store closes.
    pub(crate) fn run(&self) {
        let every = (self.settings.erase_within / 4)
            .clamp(Duration::from_millis(50), Duration::from_secs(60));
        let (mut last, mut flushed) = (Instant::now(), None::<Instant>);
        loop {
            let closing = self.closing.lock().unwrap_or_else(PoisonError::into_inner);
            let (closing, _) = self
                .closed
                .wait_timeout_while(closing, TICK.min(every), |closing| !*closing)
                .unwrap_or_else(PoisonError::into_inner);
            if *closing || self.stop.reason().is_some() {
                return;
            }
            drop(closing);
            if flushed.is_none_or(|flushed| flushed.elapsed() >= FLUSH_EVERY) {
                match self.journals() {
                    Ok(true) => flushed = Some(Instant::now()),
                    Ok(false) => {}
                    Err(error) => {
                        return self
                            .stop
                            .fatal(&format!("journals could not be rotated: {error}"));
                    }
                }
            }
            if last.elapsed() >= every {
                last = Instant::now();
                if let Err(error) = self.round(now()) {
                    // The next round tries again; what is promised about erasing may be late.
                    tracing::error!(%error, "upkeep failed");
                }
            }
        }
    }

    /// Keeps what a start-up has to replay short. Answers whether there was anything to do.
    fn journals(&self) -> fjall::Result<bool> {
        let tables = &self.reader.tables;
        if tables.database.journal_count() > 1 {
            self.journal_rows.store(0, Ordering::Relaxed);
            self.is_sealing.store(false, Ordering::Relaxed);
            tables.rotate_all()?;
            return Ok(true);
        }
        let is_long = self.journal_rows.load(Ordering::Relaxed) > self.settings.journal_rows_max;
        if is_long && self.is_sealing.swap(true, Ordering::Relaxed) {
            // The thread that begins a new one may have been merging for long.
            tables.rotate_all()?;
        } else if is_long {
            tables.seal_journal()?;
        }
        Ok(is_long)
    }

    /// Ends [`Upkeep::run`].
    pub(crate) fn close(&self) {
        *self.closing.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.closed.notify_all();
    }

    /// Keeps rounds from beginning.
    pub(crate) fn pause(&self) -> MutexGuard<'_, ()> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does all that is to be done at this time.
    pub(crate) fn round(&self, now: Time) -> Result<(), StoreError> {
        let _alone = self.pause();
        self.zero()?;
        self.sweep(now)?;
        self.forget(now)?;
        self.index()?;
        self.done(Done::Tidied(now))
    }

    fn done(&self, done: Done) -> Result<(), StoreError> {
        self.queue
            .ask_blocking(|answer| Request::Upkeep(done, answer))
            .unwrap_or_else(|| Err(self.stop.unanswered()))
    }

    /// Up to a number of keys in the upkeep table with this first byte, above a key.
    fn tasks(
        &self,
        kind: u8,
        after: &[u8],
        max: usize,
    ) -> Result<Vec<crate::tables::Pair>, StoreError> {
        let from = after.to_vec();
        let rows = self
            .reader
            .tables
            .upkeep
            .range(from.max(vec![kind])..vec![kind + 1]);
        rows.filter(|row| !row.as_ref().is_ok_and(|(key, _)| key.as_ref() == after))
            .take(max)
            .collect()
    }

    fn zero(&self) -> Result<(), StoreError> {
        loop {
            let mut places = Vec::new();
            for (key, value) in self.tasks(b'z', &[], STEP_ROWS_MAX)? {
                let (file, offset) = keys::parse_zero(&key)?;
                places.push((
                    file,
                    offset,
                    rows::decode_number(&value).map_err(damaged_row)?,
                ));
            }
            if places.is_empty() {
                return Ok(());
            }
            let is_last = places.len() < STEP_ROWS_MAX;
            self.apply_journal()?;
            self.overwrite(&places)?;
            self.done(Done::Zeroed(places))?;
            if is_last {
                return Ok(());
            }
        }
    }

    fn overwrite(&self, places: &[(u32, u64, u64)]) -> Result<(), StoreError> {
        let mut by_file = BTreeMap::<u32, Vec<(u64, u64)>>::new();
        for &(file, offset, length) in places {
            by_file.entry(file).or_default().push((offset, length));
        }
        for (file, mut places) in by_file {
            self.reader
                .files
                .overwrite(file, &mut places)
                .map_err(|error| {
                    // The error of a sync is told once. Bodies that were just committed lie in the same file: it
                    // may have been theirs.
                    let reason = format!("erased bodies could not be overwritten: {error}");
                    self.stop.fatal(&reason);
                    StoreError::Stopped(reason)
                })?;
        }
        Ok(())
    }

    /// Brings what is committed by now into the tables. Before bodies are overwritten this must be done, for a
    /// crash would bring back those that the journal holds.
    pub(crate) fn apply_journal(&self) -> Result<(), StoreError> {
        self.queue
            .ask_blocking(Request::Apply)
            .unwrap_or_else(|| Err(self.stop.unanswered()))
    }

    /// Indexes the client ids of blocks that have become whole.
    fn index(&self) -> Result<(), StoreError> {
        loop {
            let tasks = self.tasks(b'c', &[], INDEXED_AT_ONCE)?;
            let is_last = tasks.len() < INDEXED_AT_ONCE;
            let mut blocks = Vec::new();
            for (key, _) in tasks {
                let (log, block) = keys::parse_index(&key)?;
                let none = Prints::default();
                let prints = self.reader.read_prints(log, block, none, last_of(block))?;
                blocks.push((log, block, Some(prints).filter(|prints| !prints.is_empty())));
            }
            if !blocks.is_empty() {
                self.done(Done::Indexed(blocks))?;
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

/// The time of this machine's clock.
pub(crate) fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
