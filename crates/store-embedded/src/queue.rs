//! What waits for the committer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tidings_core::log::{LogId, Seq};
use tidings_core::mark::Mark;
use tidings_store::{
    Append, AppendError, Beginning, PutDocument, PutError, StateSnapshot, StoreError,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::upkeep::Done;

/// Something to be committed, with where the answer goes.
#[derive(Debug)]
pub(crate) enum Request {
    Append(Box<Append>, Answer<(), AppendError>),
    AppendAll(
        Vec<Append>,
        Answer<Vec<Result<(), AppendError>>, StoreError>,
    ),
    Trim(LogId, Seq, Answer<Seq, StoreError>),
    Erase(LogId, Vec<Seq>, Answer<(), StoreError>),
    RaiseMarks(Vec<Mark>, Answer<(), StoreError>),
    WriteState(LogId, StateSnapshot, Answer<(), StoreError>),
    PutDocument(PutDocument, Answer<u64, PutError>),
    /// A log goes on behind entries that are not kept.
    Begin(LogId, Beginning, Answer<(), StoreError>),
    Flush(Answer<(), StoreError>),
    /// To be told when everything before it is in the tables and body files, and the journal empty of it.
    Apply(Answer<(), StoreError>),
    /// What upkeep did to the files, to be written down.
    Upkeep(Done, Answer<(), StoreError>),
    /// Something was raised late and wants to be written in a while.
    Late,
    /// The store closes.
    Close,
}

impl Request {
    /// About how many rows it takes: of an append, the entry and the log's.
    pub(crate) fn rows_about(&self) -> usize {
        match self {
            Request::AppendAll(appends, _) => 2 * appends.len(),
            _ => 2,
        }
    }
}

/// Where an answer goes.
pub(crate) type Answer<T, E> = oneshot::Sender<Result<T, E>>;

/// A request holds its place in the queue until it is answered.
type Queued = (Request, Option<OwnedSemaphorePermit>);

/// The end of the queue that takes requests.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    sender: SyncSender<Queued>,
    places: Arc<Semaphore>,
    requests_max: usize,
    taken: Arc<Taken>,
}

/// The end of the queue that the committer has.
pub(crate) struct Waiting {
    receiver: Receiver<Queued>,
    taken: Arc<Taken>,
}

/// When the committer took what it is working on: whatever waits came later.
#[derive(Debug)]
struct Taken {
    began: Instant,
    /// Since `began`, in milliseconds, and one more; 0 while there is nothing to do.
    after_ms: AtomicU64,
}

pub(crate) fn queue(requests_max: usize) -> (Queue, Waiting) {
    // Room for the requests that need no place, so that sending never blocks a task.
    let (sender, receiver) = sync_channel(requests_max + 64);
    let taken = Arc::new(Taken {
        began: Instant::now(),
        after_ms: AtomicU64::new(0),
    });
    (
        Queue {
            sender,
            places: Arc::new(Semaphore::new(requests_max)),
            requests_max,
            taken: Arc::clone(&taken),
        },
        Waiting { receiver, taken },
    )
}

impl Queue {
    /// Waits for a place in the queue and then for the answer; `None` if the committer is gone.
    pub(crate) async fn ask<T, E>(
        &self,
        request: impl FnOnce(Answer<T, E>) -> Request,
    ) -> Option<Result<T, E>> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        let (answer, answered) = oneshot::channel();
        self.sender.send((request(answer), Some(place))).ok()?;
        answered.await.ok()
    }

    /// The same for a thread.
    pub(crate) fn ask_blocking<T, E>(
        &self,
        request: impl FnOnce(Answer<T, E>) -> Request,
    ) -> Option<Result<T, E>> {
        let (answer, answered) = oneshot::channel();
        self.sender.send((request(answer), None)).ok()?;
        answered.blocking_recv().ok()
    }

    /// Tells the committer something that has no answer. If the queue is full it is awake anyway.
    pub(crate) fn tell(&self, request: Request) {
        let _ = self.sender.try_send((request, None));
    }

    /// Requests that are not answered yet, and how long the committer has been at what it took last.
    pub(crate) fn backlog(&self) -> (usize, Duration) {
        let waiting = self
            .requests_max
            .saturating_sub(self.places.available_permits());
        let busy = match self.taken.after_ms.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            after_ms => {
                let taken = Duration::from_millis(after_ms - 1);
                self.taken.began.elapsed().saturating_sub(taken)
            }
        };
        (waiting, busy)
    }

    /// Tells the committer to close, after what waits before.
    pub(crate) fn close(&self) {
        let _ = self.sender.send((Request::Close, None));
    }
}

impl Waiting {
    /// Waits for a request, but not past `until`; then takes whatever else waits, up to `max`. Empty when
    /// the time is over.
    pub(crate) fn drain(&self, until: Option<Instant>, max: usize) -> Vec<Queued> {
        self.taken.after_ms.store(0, Ordering::Relaxed);
        let first = match until {
            None => self
                .receiver
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => self
                .receiver
                .recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        let mut drained = match first {
            Ok(first) => vec![first],
            Err(RecvTimeoutError::Timeout) => return Vec::new(),
            Err(RecvTimeoutError::Disconnected) => return vec![(Request::Close, None)],
        };
        drained.extend(
            std::iter::from_fn(|| self.receiver.try_recv().ok()).take(max.saturating_sub(1)),
        );
        let after = self.taken.began.elapsed().as_millis();
        let after_ms = u64::try_from(after).unwrap_or(u64::MAX - 1) + 1;
        self.taken.after_ms.store(after_ms, Ordering::Relaxed);
        drained
    }
}
