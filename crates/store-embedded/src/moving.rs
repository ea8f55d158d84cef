//! Moving a deployment out of and into this store.

use std::sync::Arc;

use fjall::Readable;
use tidings_core::Time;
use tidings_core::log::LogId;
use tidings_store::{Beginning, Movable, Step, Store, StoreError, StoreFuture};

use crate::damaged_row;
use crate::keys;
use crate::queue::Request;
use crate::read::Reader;
use crate::rows;
use crate::store::EmbeddedStore;
use crate::tables::pair;

impl Movable for EmbeddedStore {
    fn all_logs(&self) -> StoreFuture<'_, Result<Vec<LogId>, StoreError>> {
        Box::pin(async move {
            // The layers are not made to be read across logs: what is in them now goes down first.
            self.ask(Request::Apply).await?;
            self.far(|reader| reader.all_logs()).await
        })
    }

    fn all_steps(&self, log: LogId) -> StoreFuture<'_, Result<Vec<Step>, StoreError>> {
        self.far(move |reader| reader.all_steps(log))
    }

    fn begin_at(
        &self,
        log: LogId,
        beginning: Beginning,
    ) -> StoreFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            if let Some(head) = self.head(log).await?
                && head.seq < beginning.seq
            {
                self.trim(log, head.seq).await?;
                let upkeep = Arc::clone(&self.upkeep);
                self.far(move |_| upkeep.forget_now(log, head.seq)).await?;
            }
            self.ask(move |answer| Request::Begin(log, beginning, answer))
                .await
        })
    }
}

impl Reader {
    fn all_logs(&self) -> Result<Vec<LogId>, StoreError> {
        let snapshot = self.tables.database.snapshot();
        // The sentinel sorts before all others.
        let rows = snapshot
            .range(self.tables.logs.stored(), [0, 0]..)
            .map(pair);
        rows.map(|row| row.and_then(|(key, _)| keys::parse_log(&key)))
            .collect()
    }

    fn all_steps(&self, log: LogId) -> Result<Vec<Step>, StoreError> {
        // The cache first: what leaves it in between is then found stored.
        let range = keys::steps_begin(log)..=keys::steps_end(log);
        let mut times = self.late.steps(range);
        for row in self.tables.steps.prefix(keys::log(log)) {
            let (key, value) = row?;
            // Of the same step the stored time is the earlier one.
            let at = rows::decode_number(&value).map_err(damaged_row)?;
            times.insert(keys::bytes(&key, 0)?, Time(at));
        }
        let step = |(key, at): (keys::StepKey, Time)| {
            let step = keys::parse_step(&key)?;
            Ok(Step { at, ..step })
        };
        times.into_iter().map(step).collect()
    }
}
