//! Moving out of and into the store in memory.

use tidings_core::log::LogId;

use super::MemoryStore;
use super::log::Log;
use crate::{Beginning, Movable, Step, StoreError, StoreFuture};

impl Movable for MemoryStore {
    fn all_logs(&self) -> StoreFuture<'_, Result<Vec<LogId>, StoreError>> {
        self.when_polled(|data| {
            let logs = data.logs.iter().filter(|(_, log)| log.head().is_some());
            Ok(logs.map(|(id, _)| *id).collect())
        })
    }

    fn all_steps(&self, log: LogId) -> StoreFuture<'_, Result<Vec<Step>, StoreError>> {
        self.when_polled(move |data| {
            let kept = data.logs.get(&log);
            Ok(kept.map_or_else(Vec::new, |kept: &Log| kept.all_steps(log)))
        })
    }

    fn begin_at(
        &self,
        log: LogId,
        beginning: Beginning,
    ) -> StoreFuture<'_, Result<(), StoreError>> {
        self.when_polled(move |data| data.logs.entry(log).or_default().begin_at(&beginning))
    }
}
