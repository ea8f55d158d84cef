//! What can be set about the store, with the defaults.

use std::sync::Arc;
use std::time::Duration;

/// Called with the reason when the store must not go on: a write or an fsync failed.
pub type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// Settings of the embedded store.
#[derive(Clone)]
pub struct Settings {
    /// Memory for blocks of tables, in bytes.
    pub cache_bytes: u64,
    /// Within this time after an erasure or a trim the bytes are gone from every file.
    pub erase_within: Duration,
    /// How long envelopes and client ids are kept after their bodies went.
    pub keep_envelopes: Duration,
    /// A body file that has grown to this takes no more, in bytes.
    pub body_file_bytes_max: u64,
    /// Requests that share one commit.
    pub commit_requests_max: usize,
    /// Requests that wait for the committer; further ones wait before they are taken.
    pub queue_requests_max: usize,
    /// Rows in fjall's journals, which a start-up after a crash has to replay, about 2 µs each; what is in our own
    /// comes on top, some seconds' worth.
    pub journal_rows_max: u64,
    /// With so many bytes for one table at a time they are written into sorted files at once, and not through fjall's
    /// journal and memtable. Fewer are better gathered there: each four files are merged with all that lies below.
    pub direct_bytes_min: usize,
    /// Late marks reach the disk at most this long after they were raised.
    pub late_within: Duration,
    /// Threads for reads that may have to wait for the disk.
    pub read_threads: usize,
    /// What to do when a write failed. Nothing that was not yet acknowledged will be, and no further
    /// write is taken; the default logs the reason and aborts the process.
    pub on_fatal: OnFatal,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            cache_bytes: 64 * 1024 * 1024,
            erase_within: Duration::from_secs(60 * 60),
            keep_envelopes: Duration::from_secs(30 * 24 * 60 * 60),
            body_file_bytes_max: 256 * 1024 * 1024,
            commit_requests_max: 1_024,
            queue_requests_max: 4_096,
            journal_rows_max: 700_000,
            direct_bytes_min: 4 * 1024 * 1024,
            late_within: Duration::from_millis(100),
            read_threads: 4,
            on_fatal: Arc::new(|reason| {
                tracing::error!(reason, "the store cannot go on, stopping the process");
                std::process::abort();
            }),
        }
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("cache_bytes", &self.cache_bytes)
            .field("erase_within", &self.erase_within)
            .field("keep_envelopes", &self.keep_envelopes)
            .field("body_file_bytes_max", &self.body_file_bytes_max)
            .finish_non_exhaustive()
    }
}
