//! A log that goes on behind entries of which nothing is kept.

use tidings_core::log::LogId;
use tidings_store::{Beginning, StoreError};

use super::Group;
use crate::misuse;
use crate::rows::LogRow;

impl Group<'_> {
    /// Moves the head of a log that holds no entry any more, or makes the log.
    pub(super) fn begin_at(
        &mut self,
        log: LogId,
        beginning: &Beginning,
    ) -> Result<Result<(), StoreError>, StoreError> {
        let mut row = match self.log(log)? {
            Some(row) => row,
            None => LogRow {
                state: self.state_of_no_log(log)?,
                ..LogRow::new(beginning.generation, beginning.retention)
            },
        };
        if row.head >= beginning.seq {
            return Ok(Ok(()));
        }
        if row.generation != beginning.generation {
            return Ok(Err(misuse("a log goes on in another generation")));
        }
        // Entries below would leave a gap.
        if row.forgotten != row.head || row.state < beginning.seq {
            return Ok(Err(misuse(
                "a log goes on behind entries that it holds, or past its state",
            )));
        }
        row.head = beginning.seq;
        row.ordinal = beginning.ordinal;
        row.at = beginning.at;
        row.retention = beginning.retention;
        row.trimmed = beginning.seq;
        row.swept = beginning.seq;
        row.forgotten = beginning.seq;
        self.put_log(log, row);
        Ok(Ok(()))
    }
}
