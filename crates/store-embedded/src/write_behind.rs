//! Body files are synced while they grow. Nothing depends on it, for the journal has what was committed: but all that a
//! layer wrote, synced at once when the layer is applied, is some milliseconds of the disk, and commits stand behind it.

use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::bodies::BodyWrite;
use crate::commit::failed;
use crate::priority;
use crate::stop::Stop;

/// So much is written before it is synced.
const BYTES: usize = 512 * 1024;

/// The committer's end.
pub(crate) struct WriteBehind {
    files: SyncSender<Vec<Arc<File>>>,
    /// Bytes since files were last handed over.
    bytes: usize,
}

impl WriteBehind {
    /// The two ends. The thread's ends when this one is dropped.
    pub(crate) fn begin() -> (WriteBehind, Unsynced) {
        let (files, waiting) = sync_channel(0);
        (WriteBehind { files, bytes: 0 }, Unsynced(waiting))
    }

    /// These bodies have been written; `unsynced` are the files that are not synced yet.
    pub(crate) fn wrote(
        &mut self,
        bodies: &[BodyWrite],
        unsynced: impl FnOnce() -> Vec<Arc<File>>,
    ) {
        self.bytes += bodies.iter().map(|body| body.bytes.len()).sum::<usize>();
        // If the thread is not through with the last ones it will do.
        if self.bytes >= BYTES && self.files.try_send(unsynced()).is_ok() {
            self.bytes = 0;
        }
    }
}

/// The thread's end.
pub(crate) struct Unsynced(Receiver<Vec<Arc<File>>>);

impl Unsynced {
    /// Syncs what is handed over, until there will be no more.
    pub(crate) fn run(&self, stop: &Stop) {
        priority::lower();
        for file in self.0.iter().flatten() {
            // The system tells of a failure once: whoever syncs next would not hear of it.
            if let Err(error) = file.sync_data() {
                return stop.fatal(&failed(&error).to_string());
            }
        }
    }
}
