//! The committer: one thread that makes everything durable, many requests with one fsync.
//!
//! In come requests from the queue; out go, in this order, bodies to the body files (synced), rows to
//! the tables in one atomic batch (synced), and then the answers. Nothing is answered before it is
//! durable, a refusal neither, since what it tells of may be part of the same commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fjall::PersistMode;
use tidings_store::StoreError;

use crate::bodies::{BodyFiles, BodyWriter};
use crate::group::{Caches, Group};
use crate::late::Late;
use crate::queue::{Request, Waiting, late_at};
use crate::settings::Settings;
use crate::stop::Stop;
use crate::tables::Tables;

/// What the committer works with.
pub(crate) struct Committer {
    pub(crate) tables: Tables,
    pub(crate) files: Arc<BodyFiles>,
    pub(crate) bodies: BodyWriter,
    pub(crate) late: Arc<Late>,
    pub(crate) stop: Arc<Stop>,
    pub(crate) settings: Settings,
    pub(crate) caches: Caches,
    /// Rows committed since the last journal began: upkeep begins a new one.
    pub(crate) journal_rows: Arc<AtomicU64>,
}

impl Committer {
    /// Commits until the store closes.
    pub(crate) fn run(mut self, waiting: &Waiting) {
        loop {
            let late_at = self
                .late
                .since()
                .map(|since| late_at(since, self.settings.late_within));
            let drained = waiting.drain(late_at, self.settings.commit_requests_max);
            let (mut requests, mut places) = (Vec::with_capacity(drained.len()), Vec::new());
            for (request, place) in drained {
                requests.push(request);
                places.push(place);
            }
            let closes = requests
                .iter()
                .any(|request| matches!(request, Request::Close));
            self.commit(requests, closes);
            drop(places);
            if closes {
                return;
            }
        }
    }

    fn commit(&mut self, requests: Vec<Request>, closes: bool) {
        if let Some(reason) = self.stop.reason() {
            // Dropping the requests answers them.
            tracing::debug!(reason, "requests dropped, the store has stopped");
            return;
        }
        let wants_late = closes
            || requests
                .iter()
                .any(|request| matches!(request, Request::Flush(_)));
        let is_late = |since| late_at(since, self.settings.late_within) <= Instant::now();
        let late = (wants_late || self.late.since().is_some_and(is_late)).then(|| self.late.take());

        let mut group = Group::new(&self.tables, &mut self.bodies, &mut self.caches);
        let mut result = Ok(());
        if let Some(late) = late {
            result = group.write_late(late);
        }
        for request in requests {
            result = result.and_then(|()| group.take(request));
        }
        let finished = result.and_then(|()| group.finish());
        let outcome = finished.and_then(|finished| {
            if !finished.batch.is_empty() {
                self.journal_rows
                    .fetch_add(finished.batch.len() as u64, Ordering::Relaxed);
                finished
                    .batch
                    .durability(Some(PersistMode::SyncData))
                    .commit()
                    .map_err(|error| failed(&error))?;
            }
            Ok((finished.answers, finished.dead_files))
        });
        match outcome {
            Ok((answers, dead_files)) => {
                self.late.left();
                for id in dead_files {
                    // The rows are gone: should this fail, the next start-up deletes the file.
                    if let Err(error) = self.files.delete(id) {
                        tracing::warn!(%error, id, "a body file could not be deleted");
                    }
                }
                answers.into_iter().for_each(|answer| answer());
            }
            Err(error) => self.stop.fatal(&error.to_string()),
        }
    }
}

/// A write that failed.
pub(crate) fn failed(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Stopped(format!("a write failed: {error}"))
}
