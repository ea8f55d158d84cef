//! What was trimmed: its bodies are overwritten, its envelopes forgotten thirty days later.
//!
//! The bodies of one log lie apart in the body files, between those of others, so many logs are swept at a
//! time: file by file, with one sync of each, and few commits.

use std::collections::{BTreeMap, BTreeSet};

use tidings_core::log::{LogId, Seq};
use tidings_core::{Kind, Time};
use tidings_store::StoreError;

use super::{Done, Upkeep, now};
use crate::client_ids::block_of;
use crate::damaged_row;
use crate::keys::{self, BlockKey, EntryKey, ReactionKey, StepKey, TargetKey};
use crate::rows::{self, BodyRow, EntryRow, LogRow};

/// Bodies that are overwritten between two syncs: bounds the memory.
const PLACES_MAX: usize = 200_000;
/// Logs that are looked at in one step.
const LOGS_MAX: usize = 20_000;
/// Rows that are read of one log in one step.
const READ_MAX: usize = 4_000;
/// Rows of one commit: other commits wait for it.
const COMMIT_ROWS_MAX: usize = 1_000;

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

impl Swept {
    /// Rows of its commit.
    fn rows(&self) -> usize {
        3 + self.expiry.len() + self.steps.len()
    }
}

impl Forgotten {
    /// Rows of its commit.
    fn rows(&self) -> usize {
        2 + self.entries.len() + self.blocks.len() + self.targets.len() + self.reactions.len()
    }
}

/// A place in a body file: file, offset, length.
type Place = (u32, u64, u64);

impl Upkeep {
    /// Overwrites the bodies of entries that are trimmed by now.
    pub(super) fn sweep(&self, now: Time) -> Result<(), StoreError> {
        let mut after = Vec::new();
        loop {
            let tasks = self.tasks(b't', &after, LOGS_MAX)?;
            let Some((last, _)) = tasks.last() else {
                return Ok(());
            };
            after = last.to_vec();
            let mut trimmed = Vec::new();
            for (key, _) in &tasks {
                let log = keys::parse_log(key.get(1..).unwrap_or_default())?;
                trimmed.extend(self.reader.log(log)?.map(|row| (log, row)));
            }
            self.apply_journal()?;
            self.sweep_logs(&trimmed, now)?;
        }
    }

    fn sweep_logs(&self, trimmed: &[(LogId, LogRow)], now: Time) -> Result<(), StoreError> {
        let (mut places, mut swept) = (Vec::new(), Vec::new());
        for (log, row) in trimmed {
            let mut up_to = row.swept;
            while up_to < row.trimmed {
                let step = self.sweep_step(*log, up_to, row.trimmed, now, &mut places)?;
                up_to = step.up_to;
                swept.push(step);
                if places.len() >= PLACES_MAX {
                    self.finish_sweeping(&mut places, &mut swept)?;
                }
            }
        }
        self.finish_sweeping(&mut places, &mut swept)
    }

    /// Looks up the bodies of the next trimmed entries of a log.
    fn sweep_step(
        &self,
        log: LogId,
        swept: Seq,
        trimmed: Seq,
        now: Time,
        places: &mut Vec<Place>,
    ) -> Result<Swept, StoreError> {
        let tables = &self.reader.tables;
        let mut step = Swept {
            log,
            up_to: trimmed,
            dead: Vec::new(),
            expiry: Vec::new(),
            steps: Vec::new(),
            forget_at: now.plus_millis(
                u64::try_from(self.settings.keep_envelopes.as_millis()).unwrap_or(u64::MAX),
            ),
        };
        let mut dead = BTreeMap::<u32, u64>::new();
        let range = keys::entry(log, swept + 1)..=keys::entry(log, trimmed);
        for (index, entry) in tables.entries.range(range).enumerate() {
            let (key, value) = entry?;
            if index == READ_MAX {
                step.up_to = keys::parse_seq(&key)? - 1;
                break;
            }
            let EntryRow { envelope, body } = EntryRow::decode(&value).map_err(damaged_row)?;
            if let BodyRow::At(place) = body {
                let length = u64::from(place.length);
                places.push((place.file, place.offset, length));
                *dead.entry(place.file).or_default() += length;
            }
            step.expiry.extend(
                envelope
                    .expires
                    .map(|expires| keys::expiry(expires, log, envelope.seq)),
            );
        }
        step.dead = dead.into_iter().collect();
        for row in tables.steps.prefix(keys::log(log)) {
            let (key, _) = row?;
            if keys::parse_step(&key)?.seq <= step.up_to {
                step.steps.push(keys::bytes(&key, 0)?);
            }
        }
        Ok(step)
    }

    /// Overwrites what was looked up and has it written down.
    fn finish_sweeping(
        &self,
        places: &mut Vec<Place>,
        swept: &mut Vec<Swept>,
    ) -> Result<(), StoreError> {
        self.overwrite(places)?;
        places.clear();
        let (mut commit, mut rows) = (Vec::new(), 0);
        for step in swept.drain(..) {
            rows += step.rows();
            commit.push(step);
            if rows >= COMMIT_ROWS_MAX {
                self.done(Done::Swept(std::mem::take(&mut commit)))?;
                rows = 0;
            }
        }
        match commit.is_empty() {
            true => Ok(()),
            false => self.done(Done::Swept(commit)),
        }
    }

    /// Forgets the envelopes whose time has come.
    pub(super) fn forget(&self, now: Time) -> Result<(), StoreError> {
        let mut after = Vec::new();
        loop {
            let (mut commit, mut rows) = (Vec::new(), 0);
            for (key, _) in self.tasks(b'f', &after, COMMIT_ROWS_MAX)? {
                let (due, log, up_to) = keys::parse_forget(&key)?;
                if due > now || rows >= COMMIT_ROWS_MAX {
                    break;
                }
                let step = self.forget_step(Some(keys::bytes(&key, 0)?), log, up_to)?;
                rows += step.rows();
                if step.finished.is_some() {
                    after = key.to_vec();
                } else {
                    // There is more of this one.
                    rows = COMMIT_ROWS_MAX;
                }
                commit.push(step);
            }
            if commit.is_empty() {
                return Ok(());
            }
            self.done(Done::Forgotten(commit))?;
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
            let step = self.forget_step(None, log, up_to.min(row.swept))?;
            self.done(Done::Forgotten(vec![step]))?;
        }
        Ok(())
    }

    /// The next rows up to a seq that may go, and the task that says so if they are all.
    fn forget_step(
        &self,
        task: Option<[u8; 34]>,
        log: LogId,
        up_to: Seq,
    ) -> Result<Forgotten, StoreError> {
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
                if index == COMMIT_ROWS_MAX {
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
        Ok(forgotten)
    }
}
