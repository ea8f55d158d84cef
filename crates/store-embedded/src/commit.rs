//! The committer: one thread that makes everything durable, many requests with one fsync.
//!
//! In come requests from the queue; out go bodies to the body files, bodies and rows in one record to the
//! journal, synced, then the rows to the newest layer, where reads see them, and then the answers.
//! Nothing is answered before it is durable, a refusal neither, since what it tells of may be part of
//! the same commit. Next: `apply`, which brings the layer into the tables.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_store::StoreError;

use crate::apply::{Applying, Closed, Task};
use crate::bodies::{BodyFiles, BodyWriter};
use crate::group::{Caches, Done, Finished, Group};
use crate::journal::Segment;
use crate::late::{Late, Taking};
use crate::layers::Layer;
use crate::queue::{Answer, Request, Waiting};
use crate::settings::Settings;
use crate::stop::Stop;
use crate::tables::{Tables, place};
use crate::write_behind::WriteBehind;

/// A layer is closed after this time, so that a start-up after a crash has little to replay. The longer it is open, the
/// fewer rows come into the tables, and the larger the sorted files are that are merged there.
const LAYER_FOR: Duration = Duration::from_secs(4);
/// When a layer could not be closed, because the one before was not applied, it is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// A layer with more in the journal is closed at once.
const LAYER_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// With more than this in the journal, commits wait for the tables.
const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// What the committer works with.
pub(crate) struct Committer {
    tables: Tables,
    files: Arc<BodyFiles>,
    bodies: BodyWriter,
    late: Arc<Late>,
    stop: Arc<Stop>,
    settings: Settings,
    caches: Caches,
    segment: Segment,
    layer: Arc<Layer>,
    /// When the layer is to be closed, if there are rows in it.
    close_at: Option<Instant>,
    /// Since when there are rows in it.
    opened: Option<Instant>,
    /// Who wants to know when everything up to now is in the tables, and waits for the layer to be closed.
    waiting: Vec<Answer<(), StoreError>>,
    applying: Applying,
    write_behind: WriteBehind,
}

impl Committer {
    pub(crate) fn new(
        (tables, files, bodies): (Tables, Arc<BodyFiles>, BodyWriter),
        late: Arc<Late>,
        stop: Arc<Stop>,
        settings: Settings,
        (segment, applying, write_behind): (Segment, Applying, WriteBehind),
    ) -> Committer {
        Committer {
            layer: tables.layers.push(),
            tables,
            files,
            bodies,
            late,
            stop,
            settings,
            caches: Caches::default(),
            segment,
            close_at: None,
            opened: None,
            waiting: Vec::new(),
            applying,
            write_behind,
        }
    }

    /// Commits until the store closes.
    pub(crate) fn run(mut self, waiting: &Waiting) {
        loop {
            let drained = waiting.drain(self.wakes_at(), self.settings.commit_requests_max);
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

    /// When there is something to do although nobody asks.
    fn wakes_at(&self) -> Option<Instant> {
        let times = [self.late.due(), self.close_at];
        let has_stopped = self.stop.reason().is_some();
        times.into_iter().flatten().min().filter(|_| !has_stopped)
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
                .any(|request| matches!(request, Request::Flush(_) | Request::Apply(_)));
        let late = self.late.take(if wants_late {
            Taking::All
        } else {
            Taking::Passing
        });

        let rows_about: usize = requests.iter().map(Request::rows_about).sum();
        let rows_about = rows_about + late.rows_about();
        let mut group = Group::new(&self.tables, &mut self.bodies, &mut self.caches, rows_about);
        let mut result = group.write_late(&late);
        for request in requests {
            result = result.and_then(|()| group.take(request));
        }
        let finished = result.and_then(|()| group.finish());
        match finished.and_then(|finished| self.make_durable(finished)) {
            Ok(done) => {
                self.late.left();
                for id in done.dead_files {
                    // The rows are gone: should this fail, the next start-up deletes the file.
                    if let Err(error) = self.files.delete(id) {
                        tracing::warn!(%error, id, "a body file could not be deleted");
                    }
                }
                done.answers.into_iter().for_each(|answer| answer());
                self.waiting.extend(done.applied);
                self.close_layer(closes);
            }
            Err(error) => self.stop.fatal(&error.to_string()),
        }
    }

    fn make_durable(&mut self, finished: Finished) -> Result<Done, StoreError> {
        let Some(changes) = finished.changes.bytes() else {
            return Err(failed(&"a row is too long"));
        };
        if !changes.is_empty() {
            self.segment
                .write(&finished.bodies, changes)
                .map_err(|error| failed(&error))?;
            let bodies = &self.bodies;
            self.write_behind
                .wrote(&finished.bodies, || bodies.unsynced());
            let taken = self.layer.take(changes, place);
            taken.map_err(|error| failed(&error))?;
            let opened = *self.opened.get_or_insert_with(Instant::now);
            self.close_at.get_or_insert(opened + LAYER_FOR);
        }
        Ok(finished.done)
    }

    /// Hands the layer over to be applied and begins another one: if it must be, or if it is time and the
    /// one before is done.
    fn close_layer(&mut self, must: bool) {
        if let Some(close_at) = self.close_at {
            let now = Instant::now();
            let bytes = self.segment.bytes();
            let is_time = now >= close_at || bytes >= LAYER_BYTES_MAX || !self.waiting.is_empty();
            let segment = if must || bytes >= JOURNAL_BYTES_MAX {
                self.applying.wait_for_segment()
            } else if is_time {
                self.applying.free_segment()
            } else {
                return;
            };
            let Some(segment) = segment else {
                // The layer before is not applied yet.
                self.close_at = Some(now + RETRY_AFTER);
                return;
            };
            self.close(segment);
        }
        if must || !self.waiting.is_empty() {
            self.applying.make_haste();
        }
        for answer in self.waiting.drain(..) {
            self.applying.hand_over(Task::Tell(answer));
        }
    }

    fn close(&mut self, segment: Segment) {
        self.close_at = None;
        let opened = self.opened.take();
        let closed = Closed {
            layer: std::mem::replace(&mut self.layer, self.tables.layers.push()),
            filled_in: opened.map_or(Duration::ZERO, |opened| opened.elapsed()),
            segment: std::mem::replace(&mut self.segment, segment),
            files: self.bodies.take_unsynced(),
        };
        self.applying.hand_over(Task::Apply(Box::new(closed)));
    }
}

/// A write that failed.
pub(crate) fn failed(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Stopped(format!("a write failed: {error}"))
}
