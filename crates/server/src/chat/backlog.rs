//! What there is to do, for the metrics.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Chat;

/// What there is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Conversations in memory.
    pub conversations: usize,
    /// Commands that were accepted and not answered yet.
    pub commands: usize,
    /// How long the oldest of them has waited.
    pub oldest: Duration,
}

impl Chat {
    /// What there is to do. Looks at every conversation in memory.
    #[must_use]
    pub fn backlog(&self, now: Instant) -> Backlog {
        let mut backlog = Backlog {
            commands: self.outstanding.load(Ordering::Relaxed),
            ..Backlog::default()
        };
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            backlog.conversations += shard.len();
            let oldest = shard.values().filter_map(|of| of.queue().oldest());
            let age = oldest.map(|at| now.saturating_duration_since(at)).max();
            backlog.oldest = backlog.oldest.max(age.unwrap_or_default());
        }
        backlog
    }
}
