//! The local store in SQLite: the client's rows, on a thread of their own.
//!
//! Every write is on the disk before it is answered (`synchronous = FULL`, not SQLite's faster `NORMAL` for
//! WAL): the outbox is the only copy of a message that is not sent yet, and what this device has
//! acknowledged the server may have deleted. What waits is written in one transaction, so the price is
//! one sync for many batches.

mod file;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use tidings_client::{LoadToken, Read, Row, Snapshot, StoreOp, StoreToken};
use tokio::sync::mpsc;

use file::File;

/// Requests that the thread is given at a time, and so answers that can wait; the rest wait in the driver.
const IN_FLIGHT_MAX: usize = 64;

/// What the store answers.
#[derive(Debug)]
pub(crate) enum StoreAnswer {
    /// This batch and all before it are durable.
    Stored(StoreToken),
    /// The rows of each range.
    Loaded(LoadToken, Vec<Vec<Row>>),
    /// It has failed, and does nothing more.
    Failed(StoreError),
}

/// Something is wrong with the local store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else has it open.
    #[error(
        "{} is in use by another tidings{}: one program at a time keeps the history of a device. \
         Close it, or be a second device with --profile NAME",
        .0.display(), .1.map(|id| format!(" (process {id})")).unwrap_or_default()
    )]
    Locked(PathBuf, Option<u32>),
    /// It was written by a newer version.
    #[error("{path} has format {1}, and this version knows formats up to {2}: a newer tidings is needed", path = .0.display())]
    TooNew(PathBuf, i64, i64),
    /// It is not ours.
    #[error("{} is not the history of tidings", .0.display())]
    Foreign(PathBuf),
    /// The file system refuses.
    #[error("{path}: {1}", path = .0.display())]
    Io(PathBuf, std::io::Error),
    /// SQLite refuses.
    #[error("{path}: {1}", path = .0.display())]
    Sqlite(PathBuf, rusqlite::Error),
}

enum Request {
    Write(Vec<StoreOp>, StoreToken),
    Load(Vec<Read>, LoadToken),
}

/// The store's handle: never waits for the disk.
pub(crate) struct Store {
    snapshot: Snapshot,
    waiting: VecDeque<Request>,
    in_flight: usize,
    requests: Option<SyncSender<Request>>,
    answers: mpsc::Receiver<StoreAnswer>,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl Store {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Store, StoreError> {
        let file = File::open(path)?;
        let snapshot = file.snapshot()?;
        let (requests, receiver) = sync_channel(IN_FLIGHT_MAX);
        // One more: the failure.
        let (sender, answers) = mpsc::channel(IN_FLIGHT_MAX + 1);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || run(file, &receiver, &sender))
            .map_err(|error| StoreError::Io(path.to_owned(), error))?;
        Ok(Store {
            snapshot,
            waiting: VecDeque::new(),
            in_flight: 0,
            requests: Some(requests),
            answers,
            thread: Some(thread),
            path: path.to_owned(),
        })
    }

    /// What it held when it was opened.
    pub(crate) fn take_snapshot(&mut self) -> Snapshot {
        std::mem::take(&mut self.snapshot)
    }

    pub(crate) fn write(&mut self, ops: Vec<StoreOp>, token: StoreToken) {
        self.waiting.push_back(Request::Write(ops, token));
        self.hand_over();
    }

    pub(crate) fn load(&mut self, reads: Vec<Read>, token: LoadToken) {
        self.waiting.push_back(Request::Load(reads, token));
        self.hand_over();
    }

    /// The next answer. May be dropped at any moment.
    pub(crate) async fn next_answer(&mut self) -> StoreAnswer {
        match self.answers.recv().await {
            Some(answer) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                self.hand_over();
                answer
            }
            None => StoreAnswer::Failed(self.stopped()),
        }
    }

    /// Waits until everything is written, and closes the file.
    pub(crate) async fn finish(mut self) -> Result<(), StoreError> {
        while self.in_flight > 0 {
            if let StoreAnswer::Failed(error) = self.next_answer().await {
                return Err(error);
            }
        }
        self.requests = None;
        // The receiver ends when the thread has closed the file.
        if let Some(StoreAnswer::Failed(error)) = self.answers.recv().await {
            return Err(error);
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(self.stopped()),
            _ => Ok(()),
        }
    }

    fn hand_over(&mut self) {
        let Some(requests) = &self.requests else {
            return;
        };
        while self.in_flight < IN_FLIGHT_MAX {
            let Some(request) = self.waiting.pop_front() else {
                return;
            };
            self.in_flight += 1;
            // Has room, for it holds as many as may be in flight. If the thread is gone its failure is waiting.
            let _ = requests.try_send(request);
        }
    }

    fn stopped(&self) -> StoreError {
        StoreError::Io(
            self.path.clone(),
            std::io::Error::other("the store has stopped"),
        )
    }
}

/// The thread: everything that waits is one transaction, up to the first reading.
fn run(mut file: File, requests: &Receiver<Request>, answers: &mpsc::Sender<StoreAnswer>) {
    let mut next = None;
    while let Some(request) = next.take().or_else(|| requests.recv().ok()) {
        let answer = match request {
            Request::Load(reads, token) => match file.load(&reads) {
                Ok(rows) => vec![StoreAnswer::Loaded(token, rows)],
                Err(error) => vec![StoreAnswer::Failed(error)],
            },
            Request::Write(ops, token) => {
                let (mut all, mut tokens) = (ops, vec![token]);
                while let Ok(request) = requests.try_recv() {
                    match request {
                        Request::Write(ops, token) => {
                            all.extend(ops);
                            tokens.push(token);
                        }
                        load @ Request::Load(..) => {
                            next = Some(load);
                            break;
                        }
                    }
                }
                match file.write(&all) {
                    Ok(()) => tokens.into_iter().map(StoreAnswer::Stored).collect(),
                    Err(error) => vec![StoreAnswer::Failed(error)],
                }
            }
        };
        for answer in answer {
            let failed = matches!(answer, StoreAnswer::Failed(_));
            // After a failed write nothing is known: better no store than one that carries on.
            if answers.blocking_send(answer).is_err() || failed {
                return;
            }
        }
    }
    file.close();
}
