//! Moving a deployment from one store to another: everything is copied, and compared with where it came from.
//!
//! Came in: a source and a target, from [`crate::serve`]. A move is done in rounds. Each copies what the target
//! lacks and compares everything: in all but the last the servers of the source go on writing, so the last,
//! for which they are stopped, has little left to copy. Any round may break off and be repeated.
//!
//! Generations, numbers and client ids stay, so no client notices. What is left out on purpose: notices of a
//! cluster, which are good for some seconds.

mod compare;
mod copy;
mod documents;
mod note;
mod pages;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tidings_core::log::{LogId, Seq};
use tidings_store::{AppendError, Movable, StoreError};

pub use note::{NotServed, may_serve};

/// Differences that are told one by one.
const TOLD_MAX: usize = 50;
/// How often it is said how far it is.
const SAY_EVERY: Duration = Duration::from_secs(3);

/// Tells whoever waits how far it is. False: nobody waits any more.
pub type Say = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// A round of a move.
pub struct Move {
    /// Where everything is.
    pub source: Arc<dyn Movable>,
    /// Where it goes: empty, or filled by an earlier round of this move.
    pub target: Arc<dyn Movable>,
    /// Whether nobody writes to the source any more.
    pub is_last: bool,
    /// How many logs are copied side by side.
    pub logs_at_once: usize,
    /// Whom to tell how far it is.
    pub say: Say,
}

/// Why a round broke off. What was copied stays, and the next round goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// There is something else in the target.
    #[error("the target {0}; choose an empty one")]
    Occupied(&'static str),
    /// A log that was copied before has another life in the source now.
    #[error(
        "the source was restored from a backup since this move began ({log:?} has another generation); choose an \
         empty target and begin again"
    )]
    Restored {
        /// One of them.
        log: LogId,
    },
    /// A store.
    #[error("{0} store: {1}")]
    Store(&'static str, StoreError),
    /// Nobody waits for it.
    #[error("nobody waits for it any more")]
    Abandoned,
}

/// What a round did and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Logs that are in the target.
    pub logs: u64,
    /// Logs that keep messages only until they are delivered: they go with the last round.
    pub logs_for_the_last: u64,
    /// Entries that this round copied.
    pub copied: u64,
    /// Bodies erased in the target because they are by now in the source.
    pub erased: u64,
    /// Entries that were compared.
    pub compared: u64,
    /// Marks that were compared.
    pub marks: u64,
    /// Steps that were compared.
    pub steps: u64,
    /// Documents that were compared.
    pub documents: u64,
    /// Documents that this round wrote or deleted.
    pub documents_changed: u64,
    /// Entries that are in the source and not yet in the target.
    pub left: u64,
    /// A hash over all entries that are served, of the source and of the target.
    pub hashes: [[u8; 32]; 2],
    /// What differs, in words; not all, if it is much.
    pub differences: Vec<String>,
    /// How much differs.
    pub differences_count: u64,
}

impl Round {
    pub(super) fn differ(&mut self, what: impl FnOnce() -> String) {
        self.differences_count += 1;
        if self.differences.len() < TOLD_MAX {
            self.differences.push(what());
        }
    }

    fn add(&mut self, other: Round) {
        self.logs += other.logs;
        self.logs_for_the_last += other.logs_for_the_last;
        self.copied += other.copied;
        self.erased += other.erased;
        self.compared += other.compared;
        self.marks += other.marks;
        self.steps += other.steps;
        self.differences_count += other.differences_count;
        let room = TOLD_MAX.saturating_sub(self.differences.len());
        self.differences
            .extend(other.differences.into_iter().take(room));
    }

    /// What was done and compared, for people.
    #[must_use]
    pub fn told(&self) -> String {
        let [source, target] = self.hashes.map(blake3::Hash::from_bytes);
        let (source, target) = (source.to_hex(), target.to_hex());
        let mut text = format!(
            "copied {} entries, erased {} bodies, changed {} documents\n\
             compared {} logs: {} entries, {} marks, {} steps, {} documents\n\
             hash of all entries: {} in the source, {} in the target\n",
            self.copied,
            self.erased,
            self.documents_changed,
            self.logs,
            self.compared,
            self.marks,
            self.steps,
            self.documents,
            &source[..16],
            &target[..16],
        );
        for difference in &self.differences {
            text.push_str(&format!("differs: {difference}\n"));
        }
        if self.differences_count > self.differences.len() as u64 {
            text.push_str(&format!("{} differences in all\n", self.differences_count));
        }
        text
    }
}

/// One log of a round.
pub(super) struct LogRound {
    pub(super) round: Round,
    /// As far as it is in the target; `None` if it waits for the last round.
    pub(super) copied_to: Option<Seq>,
    pub(super) hashes: [[u8; 32]; 2],
}

/// Counts for saying how far it is.
struct Progress {
    began: Instant,
    logs: u64,
    entries: AtomicU64,
}

impl Move {
    /// Copies what the target lacks, and compares everything.
    ///
    /// # Errors
    /// When the target is not for this move, or a store fails for longer than it is patient.
    pub async fn round(&self) -> Result<Round, MoveError> {
        self.begin().await?;
        let logs = self.source.all_logs().await.map_err(source)?;
        let progress = Progress {
            began: Instant::now(),
            logs: logs.len() as u64,
            entries: AtomicU64::new(0),
        };
        let mut round = self.documents().await?;
        let mut copied_to: BTreeMap<LogId, Option<Seq>> = BTreeMap::new();
        let mut hashes: BTreeMap<LogId, [[u8; 32]; 2]> = BTreeMap::new();
        let mut all = stream::iter(logs)
            .map(|log| {
                let entries = &progress.entries;
                async move { self.log(log, entries).await.map(|done| (log, done)) }
            })
            .buffer_unordered(self.logs_at_once.max(1));
        let mut ticks = tokio::time::interval(SAY_EVERY);
        ticks.tick().await;
        loop {
            tokio::select! {
                done = all.try_next() => {
                    let Some((log, done)) = done? else { break };
                    round.add(done.round);
                    copied_to.insert(log, done.copied_to);
                    hashes.insert(log, done.hashes);
                }
                _ = ticks.tick() => {
                    let done = copied_to.len() as u64;
                    if !(self.say)(&progress.told(done)) {
                        return Err(MoveError::Abandoned);
                    }
                }
            }
        }
        drop(all);
        for (side, hash) in round.hashes.iter_mut().enumerate() {
            let mut hasher = blake3::Hasher::new();
            for (log, of_log) in &hashes {
                hasher.update(&log.to_bytes());
                hasher.update(&of_log[side]);
            }
            *hash = *hasher.finalize().as_bytes();
        }
        if self.is_last {
            self.all_there(&copied_to, &mut round).await?;
        }
        self.target.flush().await.map_err(target)?;
        round.left = self.left(&copied_to).await?;
        if self.is_last && round.differences_count == 0 && round.left == 0 {
            self.finish().await?;
        }
        Ok(round)
    }

    /// Whether the target has logs that the source does not have.
    async fn all_there(
        &self,
        copied_to: &BTreeMap<LogId, Option<Seq>>,
        round: &mut Round,
    ) -> Result<(), MoveError> {
        for log in self.target.all_logs().await.map_err(target)? {
            if !copied_to.contains_key(&log) {
                round.differ(|| format!("{log:?} is in the target alone"));
            }
        }
        Ok(())
    }

    /// Entries that came to the source since they were copied, or wait for the last round.
    async fn left(&self, copied_to: &BTreeMap<LogId, Option<Seq>>) -> Result<u64, MoveError> {
        let logs = self.source.all_logs().await.map_err(source)?;
        stream::iter(logs)
            .map(|log| async move {
                let head = self.source.head(log).await.map_err(source)?;
                let (head, trimmed) = head.map_or((0, 0), |head| (head.seq, head.trimmed));
                let copied = copied_to.get(&log).copied().flatten();
                Ok(head.saturating_sub(copied.unwrap_or(trimmed)))
            })
            .buffer_unordered(self.logs_at_once.max(1))
            .try_fold(0, |sum, left| std::future::ready(Ok(sum + left)))
            .await
    }
}

impl Progress {
    fn told(&self, logs: u64) -> String {
        let entries = self.entries.load(Ordering::Relaxed);
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        format!(
            "{logs} of {} logs, {entries} entries copied, {:.0} a second",
            self.logs,
            entries as f64 / seconds
        )
    }
}

fn source(error: StoreError) -> MoveError {
    MoveError::Store("the source's", error)
}

fn target(error: StoreError) -> MoveError {
    MoveError::Store("the target's", error)
}

fn of_append(error: AppendError) -> StoreError {
    match error {
        AppendError::Store(error) | AppendError::Unknown(error) => error,
        other => StoreError::Misuse(other.to_string()),
    }
}
