//! The check of the index of client ids: what it says of a block, held against the entries.

use tidings_core::Envelope;
use tidings_core::log::LogId;
use tidings_store::StoreError;

use super::{Check, name};
use crate::client_ids::{Prints, block_of, first_of, last_of};
use crate::damaged_row;
use crate::keys;
use crate::rows::LogRow;

/// The entries of the block that is being read.
pub(super) struct Block {
    number: u64,
    prints: Prints,
}

impl Check<'_> {
    /// Takes an entry of a log in, of which entries come in their order.
    pub(super) fn print(
        &mut self,
        log: LogId,
        row: &LogRow,
        envelope: &Envelope,
        reading: &mut Option<Block>,
    ) -> Result<(), StoreError> {
        let number = block_of(envelope.seq);
        let mut block = match reading.take() {
            Some(block) if block.number == number => block,
            _ => Block {
                number,
                prints: Prints::default(),
            },
        };
        block.prints.take(number, envelope);
        if envelope.seq == last_of(number) {
            return self.whole(log, row, &block);
        }
        *reading = Some(block);
        Ok(())
    }

    /// A whole block is indexed, or will be.
    fn whole(&mut self, log: LogId, row: &LogRow, block: &Block) -> Result<(), StoreError> {
        let number = block.number;
        let stored = self.get(&self.tables.clients, &keys::block(log, number))?;
        let task = self.get(&self.tables.upkeep, &keys::index(log, number))?;
        let Some(stored) = stored else {
            self.check(task.is_some(), || {
                format!(
                    "the client ids of block {number} of {} are not indexed, and nobody will do it",
                    name(log)
                )
            });
            return Ok(());
        };
        let stored = Prints::decode(&stored).map_err(damaged_row)?;
        // Of those that were forgotten since the index may still tell.
        let first = first_of(number).max(row.forgotten + 1);
        let is_right = stored.from(number, first) == block.prints.from(number, first);
        self.check(is_right, || {
            format!(
                "the client ids of block {number} of {} are not those of its entries",
                name(log)
            )
        });
        Ok(())
    }
}
