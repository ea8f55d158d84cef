//! Which entry has a client id.
//!
//! Retries are rare, and those of the last messages are found in the conversation's state: so an entry has no row of an
//! index. The log is divided into blocks of [`BLOCK`] entries. Of a whole block, upkeep writes one row with a
//! fingerprint of each entry's client id; the entries behind the last whole block are read themselves. What a
//! fingerprint points to is held against the entry. Blocks that were looked through stay in memory for a while, so that
//! a sender who always has to be looked up costs little.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use tidings_core::codec::{DecodeError, Reader as Bytes, Writer};
use tidings_core::log::{LogId, Seq};
use tidings_core::{ClientId, Envelope, Time, UserId};
use tidings_store::StoreError;
use xxhash_rust::xxh3::xxh3_64;

use crate::damaged_row;
use crate::keys;
use crate::read::Reader;
use crate::rows::{EntryRow, LogRow};
use crate::tables::Pair;

/// Entries of a block.
pub(crate) const BLOCK: u64 = 1_024;
/// Fingerprints in memory, of 4 bytes, and blocks that they are of: the last one of a log is seldom whole.
const PRINTS_MAX: usize = 1_024 * 1_024;
const BLOCKS_MAX: usize = 16 * 1_024;
/// So few entries are read at once.
const NEAR: u64 = 64;
const VERSION: u8 = 1;

/// In which block an entry is.
pub(crate) fn block_of(seq: Seq) -> u64 {
    seq.saturating_sub(1) / BLOCK
}

/// The first entry of a block.
pub(crate) fn first_of(block: u64) -> Seq {
    block.saturating_mul(BLOCK).saturating_add(1)
}

/// The last entry of a block.
pub(crate) fn last_of(block: u64) -> Seq {
    block.saturating_add(1).saturating_mul(BLOCK)
}

/// The fingerprints of the entries of one block. 0 stands for an entry that is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prints(Vec<u32>);

fn print(author: UserId, client_id: ClientId) -> u32 {
    let mut both = [0; 32];
    both[..16].copy_from_slice(&author.0);
    both[16..].copy_from_slice(&client_id.0);
    (xxh3_64(&both) as u32).max(1)
}

impl Prints {
    /// Takes an entry of the block in.
    pub(crate) fn take(&mut self, block: u64, envelope: &Envelope) {
        let place = envelope.seq.saturating_sub(first_of(block)) as usize;
        if place < BLOCK as usize {
            if self.0.len() <= place {
                self.0.resize(place + 1, 0);
            }
            self.0[place] = print(envelope.author, envelope.client_id);
        }
    }

    /// Whether no entry was there.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The last entry that was taken in, or the one before the first of the block.
    fn last(&self, block: u64) -> Seq {
        first_of(block) - 1 + self.0.len() as u64
    }

    /// Those of the block that have this print, in their order.
    fn find(&self, block: u64, print: u32) -> impl Iterator<Item = Seq> {
        let prints = (first_of(block)..).zip(&self.0);
        prints
            .filter(move |(_, other)| **other == print)
            .map(|(seq, _)| seq)
    }

    /// The prints from an entry on: what is left of them when those before are gone.
    pub(crate) fn from(&self, block: u64, first: Seq) -> &[u32] {
        let place = first.saturating_sub(first_of(block)) as usize;
        self.0.get(place..).unwrap_or_default()
    }

    /// The value of a row: the prints, 4 bytes each, little endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::versioned(VERSION, 1 + 4 * self.0.len());
        for byte in self.0.iter().flat_map(|print| print.to_le_bytes()) {
            writer.byte(byte);
        }
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Prints, DecodeError> {
        let (prints, rest) = Bytes::versioned(VERSION, bytes)?.rest().as_chunks();
        if !rest.is_empty() || prints.len() as u64 > BLOCK {
            return Err(DecodeError::Malformed);
        }
        Ok(Prints(
            prints.iter().copied().map(u32::from_le_bytes).collect(),
        ))
    }
}

/// Blocks that were looked through.
#[derive(Debug, Default)]
pub(crate) struct Blocks(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    blocks: HashMap<(LogId, u64), Arc<Prints>>,
    /// Fingerprints of all of them.
    prints: usize,
}

impl Blocks {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, log: LogId, block: u64) -> Option<Arc<Prints>> {
        self.lock().blocks.get(&(log, block)).cloned()
    }

    fn put(&self, log: LogId, block: u64, prints: &Arc<Prints>) {
        let mut known = self.lock();
        known.remove((log, block));
        while known.prints + prints.0.len() > PRINTS_MAX || known.blocks.len() >= BLOCKS_MAX {
            // Any one: who is looked up all the time is soon back.
            let Some(one) = known.blocks.keys().next().copied() else {
                break;
            };
            known.remove(one);
        }
        known.prints += prints.0.len();
        known.blocks.insert((log, block), Arc::clone(prints));
    }
}

impl Known {
    fn remove(&mut self, block: (LogId, u64)) {
        if let Some(prints) = self.blocks.remove(&block) {
            self.prints -= prints.0.len();
        }
    }
}

impl Reader {
    /// The first entry above `above` with this author and client id. `row` says where the log begins and ends.
    pub(crate) fn entry_of_client_id(
        &self,
        log: LogId,
        (author, client_id): (UserId, ClientId),
        above: Seq,
        row: LogRow,
    ) -> Result<Option<(Seq, Time)>, StoreError> {
        let (above, head) = (above.max(row.forgotten), row.head);
        if above >= head {
            return Ok(None);
        }
        let print = print(author, client_id);
        for block in block_of(above + 1)..=block_of(head) {
            let prints = self.prints(log, block, head)?;
            for seq in prints.find(block, print).filter(|seq| *seq > above) {
                let Some(row) = self.tables.entries.get(&keys::entry(log, seq))? else {
                    continue;
                };
                let envelope = EntryRow::decode(&row).map_err(damaged_row)?.envelope;
                if (envelope.author, envelope.client_id) == (author, client_id) {
                    return Ok(Some((seq, envelope.at)));
                }
            }
        }
        Ok(None)
    }

    /// Whether a search above `above` reads next to nothing.
    pub(crate) fn knows_client_ids(&self, log: LogId, above: Seq) -> Result<bool, StoreError> {
        let Some(row) = self.log(log)?.filter(|row| above < row.head) else {
            return Ok(true);
        };
        let above = above.max(row.forgotten);
        if row.head - above <= NEAR {
            return Ok(true);
        }
        let known = |block| {
            let prints = self.blocks.get(log, block);
            prints.is_some_and(|prints| prints.last(block) + NEAR >= row.head.min(last_of(block)))
        };
        Ok((block_of(above + 1)..=block_of(row.head)).all(known))
    }

    /// The prints of a block, at least up to `head`.
    fn prints(&self, log: LogId, block: u64, head: Seq) -> Result<Arc<Prints>, StoreError> {
        let wanted = head.min(last_of(block));
        let known = self.blocks.get(log, block);
        if let Some(prints) = known.as_ref().filter(|prints| prints.last(block) >= wanted) {
            return Ok(Arc::clone(prints));
        }
        let stored = match wanted == last_of(block) {
            true => self.tables.clients.get(&keys::block(log, block))?,
            false => None,
        };
        let prints = match stored {
            Some(bytes) => Prints::decode(&bytes).map_err(damaged_row)?,
            None => {
                let known = known.map(|known| (*known).clone()).unwrap_or_default();
                self.read_prints(log, block, known, wanted)?
            }
        };
        let prints = Arc::new(prints);
        self.blocks.put(log, block, &prints);
        Ok(prints)
    }

    /// Reads the entries of a block behind those that are known, up to `last`.
    pub(crate) fn read_prints(
        &self,
        log: LogId,
        block: u64,
        known: Prints,
        last: Seq,
    ) -> Result<Prints, StoreError> {
        let mut prints = known;
        let from = prints.last(block) + 1;
        let range = keys::entry(log, from)..=keys::entry(log, last.max(from));
        for row in self.tables.entries.range(range) {
            let (_, value): Pair = row?;
            let envelope = EntryRow::decode(&value).map_err(damaged_row)?.envelope;
            prints.take(block, &envelope);
        }
        Ok(prints)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_in_one_block() {
        assert_eq!(
            (block_of(1), block_of(BLOCK), block_of(BLOCK + 1)),
            (0, 0, 1)
        );
        assert_eq!(
            (first_of(0), last_of(0), first_of(1)),
            (1, BLOCK, BLOCK + 1)
        );
        assert_eq!(block_of(Seq::MAX), block_of(last_of(block_of(Seq::MAX))));
    }

    #[test]
    fn prints_come_back_from_their_row() {
        let prints = Prints(vec![7, 0, 9, 7]);
        assert_eq!(Prints::decode(&prints.encode()), Ok(prints.clone()));
        assert_eq!(prints.find(2, 7).collect::<Vec<_>>(), [2_049, 2_052]);
        assert_eq!(prints.from(2, 2_051), [9, 7]);
        let bytes = prints.encode();
        assert!(Prints::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(Prints::decode(&[2]).is_err());
        assert!(Prints::decode(&[]).is_err());
    }
}
