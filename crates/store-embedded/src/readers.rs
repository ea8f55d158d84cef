//! Threads for reads that may have to wait for the disk, so that no task of the server does.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tidings_store::StoreError;
use tokio::sync::{Semaphore, oneshot};

use crate::read::Reader;

/// Reads that wait for a thread; further ones wait before they are taken.
const WAITING_MAX: usize = 1_024;

type Job = Box<dyn FnOnce(&Reader) + Send>;

/// The way to the reading threads, which end when it is dropped.
#[derive(Clone)]
pub(crate) struct Readers {
    jobs: SyncSender<Job>,
    places: Arc<Semaphore>,
}

impl Readers {
    pub(crate) fn start(
        reader: &Reader,
        threads: usize,
    ) -> std::io::Result<(Readers, Vec<JoinHandle<()>>)> {
        let (jobs, waiting) = sync_channel::<Job>(WAITING_MAX);
        let waiting = Arc::new(Mutex::new(waiting));
        let start = |number| {
            let (reader, waiting) = (reader.clone(), Arc::clone(&waiting));
            std::thread::Builder::new()
                .name(format!("store-read-{number}"))
                .spawn(move || run(&reader, &waiting))
        };
        let threads = (0..threads.max(1))
            .map(start)
            .collect::<std::io::Result<_>>()?;
        Ok((
            Readers {
                jobs,
                places: Arc::new(Semaphore::new(WAITING_MAX)),
            },
            threads,
        ))
    }

    /// Reads that are not answered yet.
    pub(crate) fn waiting(&self) -> usize {
        WAITING_MAX.saturating_sub(self.places.available_permits())
    }

    /// Has something read.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let stopped = || StoreError::Stopped("no thread reads any more".to_owned());
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .map_err(|_| stopped())?;
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move |reader: &Reader| {
            // Who asked may have gone away.
            let _ = answer.send(job(reader));
            drop(place);
        });
        self.jobs.send(job).map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?
    }
}

fn run(reader: &Reader, waiting: &Mutex<Receiver<Job>>) {
    loop {
        let job = waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        match job {
            Ok(job) => job(reader),
            Err(_) => return,
        }
    }
}
