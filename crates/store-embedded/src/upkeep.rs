//! Upkeep: what is decided is carried out on the disk a little later, within the bound.
//!
//! Bodies that were erased or trimmed are overwritten; envelopes and client ids of what was trimmed go
//! thirty days later; body files in which nothing lives are deleted; journals are not let pile up.
//! Every step is: change the files (which may be repeated), then have the committer write down that it
//! was done. A crash in between repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tidings_core::log::{LogId, Seq};
use tidings_core::{Kind, Time};
use tidings_store::StoreError;

use crate::client_ids::{Prints, block_of, last_of};
use crate::damaged_row;
use crate::keys::{self, BlockKey, EntryKey, ReactionKey, StepKey, TargetKey};
use crate::queue::{Queue, Request};
use crate::read::Reader;
use crate::rows::{self, BodyRow, EntryRow, LogRow};
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

/// What upkeep did, for the committer to write down.
#[derive(Debug)]
pub(crate) enum Done {
    /// Erased places (file, offset, length) were overwritten.
    Zeroed(Vec<(u32, u64, u64)>),
    /// The bodies of trimmed entries were overwritten.
    Swept(Swept),
    /// The envelopes and client ids of trimmed entries may go.
    Forgotten(Forgotten),
    /// Whole blocks of entries, with the fingerprints of their client ids; none if the entries are gone.
    Indexed(Vec<(LogId, u64, Option<Prints>)>),
    /// Nothing in particular: files may be sealed by the time.
    Tidied(Time),
}

/// Bodies of a log up to a seq are gone.
#[derive(Debug)]
pub(crate) struct Swept {
    pub(crate) log: LogId,
    pub(crate) up_to: Seq,
    /// Bytes overwritten by file.
    pub(crate) dead: Vec<(u32, u64)>,
    /// Rows that go with them.
    pub(crate) expiry: Vec<[u8; 33]>,
    pub(crate) steps: Vec<StepKey>,
    /// When the envelopes may go.
    pub(crate) forget_at: Time,
}

/// Rows of a log up to a seq that go for good.
#[derive(Debug)]
pub(crate) struct Forgotten {
    pub(crate) log: LogId,
    pub(crate) up_to: Seq,
    pub(crate) entries: Vec<EntryKey>,
    pub(crate) blocks: Vec<BlockKey>,
    pub(crate) targets: Vec<TargetKey>,
    pub(crate) reactions: Vec<ReactionKey>,
    /// The task that is finished with this.
    pub(crate) finished: Option<[u8; 34]>,
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
            tables.rotate_all()?;
            return Ok(true);
        }
        let is_long = self.journal_rows.load(Ordering::Relaxed) > self.settings.journal_rows_max;
        if is_long {
            self.journal_rows.store(0, Ordering::Relaxed);
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

    fn sweep(&self, now: Time) -> Result<(), StoreError> {
        let mut after = Vec::new();
        loop {
            let tasks = self.tasks(b't', &after, STEP_ROWS_MAX)?;
            let Some((last, _)) = tasks.last() else {
                return Ok(());
            };
            after = last.to_vec();
            let mut trimmed = Vec::new();
            for (key, _) in &tasks {
                let log = keys::parse_log(key.get(1..).unwrap_or_default())?;
                trimmed.extend(self.reader.log(log)?.map(|row| (log, row.trimmed)));
            }
            self.apply_journal()?;
            for (log, trimmed) in trimmed {
                while let Some(row) = self.reader.log(log)?.filter(|row| row.swept < trimmed) {
                    self.sweep_step(log, &LogRow { trimmed, ..row }, now)?;
                }
            }
        }
    }

    /// Brings what is committed by now into the tables. Before bodies are overwritten this must be done, for a
    /// crash would bring back those that the journal holds.
    pub(crate) fn apply_journal(&self) -> Result<(), StoreError> {
        self.queue
            .ask_blocking(Request::Apply)
            .unwrap_or_else(|| Err(self.stop.unanswered()))
    }

    /// Overwrites the bodies of the next trimmed entries of a log.
    fn sweep_step(&self, log: LogId, row: &LogRow, now: Time) -> Result<(), StoreError> {
        let tables = &self.reader.tables;
        let (mut places, mut expiry, mut steps, mut up_to) =
            (Vec::new(), Vec::new(), Vec::new(), row.trimmed);
        let range = keys::entry(log, row.swept + 1)..=keys::entry(log, row.trimmed);
        for (index, entry) in tables.entries.range(range).enumerate() {
            let (key, value) = entry?;
            if index == STEP_ROWS_MAX {
                up_to = keys::parse_seq(&key)? - 1;
                break;
            }
            let EntryRow { envelope, body } = EntryRow::decode(&value).map_err(damaged_row)?;
            if let BodyRow::At(place) = body {
                places.push((place.file, place.offset, u64::from(place.length)));
            }
            expiry.extend(
                envelope
                    .expires
                    .map(|expires| keys::expiry(expires, log, envelope.seq)),
            );
        }
        for step in tables.steps.prefix(keys::log(log)) {
            let (key, _) = step?;
            if keys::parse_step(&key)?.seq <= up_to {
                steps.push(keys::bytes(&key, 0)?);
            }
        }
        self.overwrite(&places)?;
        let mut dead = BTreeMap::<u32, u64>::new();
        for (file, _, length) in places {
            *dead.entry(file).or_default() += length;
        }
        let forget_at = now.plus_millis(
            u64::try_from(self.settings.keep_envelopes.as_millis()).unwrap_or(u64::MAX),
        );
        self.done(Done::Swept(Swept {
            log,
            up_to,
            dead: dead.into_iter().collect(),
            expiry,
            steps,
            forget_at,
        }))
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

    fn forget(&self, now: Time) -> Result<(), StoreError> {
        loop {
            let Some((key, _)) = self.tasks(b'f', &[], 1)?.pop() else {
                return Ok(());
            };
            let (due, log, up_to) = keys::parse_forget(&key)?;
            if due > now {
                return Ok(());
            }
            self.forget_step(Some(keys::bytes(&key, 0)?), log, up_to)?;
        }
    }

    /// Forgets the envelopes of a log up to a seq, as far as they are trimmed, without waiting any longer.
    pub(crate) fn forget_now(&self, log: LogId, up_to: Seq) -> Result<(), StoreError> {
        let _alone = self.pause();
        self.sweep(now())?;
        while let Some(row) = self
            .reader
            .log(log)?
            .filter(|row| row.forgotten < up_to.min(row.swept))
        {
            self.forget_step(None, log, up_to.min(row.swept))?;
        }
        Ok(())
    }

    /// Has the next rows deleted up to a seq, and the task that says so if that was all.
    fn forget_step(
        &self,
        task: Option<[u8; 34]>,
        log: LogId,
        up_to: Seq,
    ) -> Result<(), StoreError> {
        let mut forgotten = Forgotten {
            log,
            up_to,
            entries: Vec::new(),
            blocks: Vec::new(),
            targets: Vec::new(),
            reactions: Vec::new(),
            finished: task,
        };
        let mut reacting = BTreeSet::new();
        let from = self.reader.log(log)?.map_or(0, |row| row.forgotten) + 1;
        if from <= up_to {
            let range = keys::entry(log, from)..=keys::entry(log, up_to);
            for (index, entry) in self.reader.tables.entries.range(range).enumerate() {
                let (key, value) = entry?;
                if index == STEP_ROWS_MAX {
                    forgotten.up_to = keys::parse_seq(&key)? - 1;
                    forgotten.finished = None;
                    break;
                }
                let envelope = EntryRow::decode(&value).map_err(damaged_row)?.envelope;
                forgotten.entries.push(keys::entry(log, envelope.seq));
                let target = envelope.target.filter(|_| envelope.alters_target());
                match target {
                    Some(target) if envelope.kind == Kind::Reaction => {
                        reacting.insert((target, envelope.author));
                    }
                    Some(target) => {
                        let key = keys::target(log, target, envelope.seq);
                        forgotten.targets.push(key);
                    }
                    None => {}
                }
            }
        }
        let blocks = block_of(from)..block_of(forgotten.up_to + 1);
        forgotten.blocks = blocks.map(|block| keys::block(log, block)).collect();
        for (target, author) in reacting {
            let prefix = keys::reactions_of_author(log, target, author);
            for row in self.reader.tables.targets.prefix(prefix) {
                let (key, value) = row?;
                if rows::decode_number(&value).map_err(damaged_row)? <= forgotten.up_to {
                    forgotten.reactions.push(keys::bytes(&key, 0)?);
                }
            }
        }
        self.done(Done::Forgotten(forgotten))
    }
}

/// The time of this machine's clock.
pub(crate) fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
