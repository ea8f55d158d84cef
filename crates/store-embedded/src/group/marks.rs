//! The marks that the committer remembers, as the rows that they are: those of a log together, as far as their owners
//! are few, for they are raised together; those of further owners each by themselves.

use std::ops::Range;

use fjall::UserValue;
use tidings_core::log::LogId;
use tidings_store::StoreError;

use crate::damaged_row;
use crate::keys::{self, OwnerKey};
use crate::owner_marks::OwnerMarks;
use crate::recent::Recent;

/// So many owners of a log are remembered together: two users with two devices each are six.
const TOGETHER_MAX: usize = 6;
/// Bytes of a row's length, and of all that stands before a row: its owner and that.
const LENGTH: usize = 4;
const HEADER: usize = 16 + LENGTH;

/// Rows of marks by log and owner.
#[derive(Debug)]
pub(super) struct CachedMarks {
    logs: Recent<LogId, Packed>,
    /// Of owners who are not among those of their log. No row at all is an empty one.
    further: Recent<OwnerKey, Box<[u8]>>,
}

/// Rows one behind the other in one block of memory: owner (16), length of the row (u32), row.
#[derive(Debug, Default)]
struct Packed(Vec<u8>);

impl Packed {
    /// Where the row of an owner is; if it is not there, how many others are.
    fn find(&self, owner: [u8; 16]) -> Result<Range<usize>, usize> {
        let (mut at, mut count) = (0, 0);
        while let Some((&[header @ .., l0, l1, l2, l3], _)) = self
            .0
            .get(at..)
            .and_then(<[u8]>::split_first_chunk::<HEADER>)
        {
            let begin = at + HEADER;
            at = begin + u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            if header == owner {
                return Ok(begin..at);
            }
            count += 1;
        }
        Err(count)
    }

    fn push(&mut self, owner: [u8; 16], row: &[u8]) {
        self.0.reserve_exact(HEADER + row.len());
        self.0.extend_from_slice(&owner);
        self.0.extend_from_slice(&(row.len() as u32).to_le_bytes());
        self.0.extend_from_slice(row);
    }

    /// Puts another row in the place of one that was found.
    fn replace(&mut self, found: Range<usize>, row: &[u8]) {
        if found.len() == row.len() {
            self.0[found].copy_from_slice(row);
            return;
        }
        let length = found.start - LENGTH..found.start;
        self.0[length].copy_from_slice(&(row.len() as u32).to_le_bytes());
        // Exactly: there are hundreds of thousands of them.
        self.0.reserve_exact(row.len().saturating_sub(found.len()));
        self.0.splice(found, row.iter().copied());
    }
}

fn decode(row: &[u8]) -> Result<OwnerMarks, StoreError> {
    match row {
        [] => Ok(OwnerMarks::default()),
        row => OwnerMarks::decode(row).map_err(damaged_row),
    }
}

impl CachedMarks {
    /// Remembers so many logs, and so many further owners.
    pub(super) fn new(logs_max: usize, further_max: usize) -> CachedMarks {
        CachedMarks {
            logs: Recent::new(logs_max),
            further: Recent::new(further_max),
        }
    }

    /// Forgets what was not used lately, if it is much. What was written since may not be in the tables yet, where what
    /// is forgotten is read again: so never in the middle of a group.
    pub(super) fn make_room(&mut self) {
        self.logs.make_room();
        self.further.make_room();
    }

    /// The marks of an owner in a log, whose row is read if it is not remembered.
    pub(super) fn get_or_read(
        &mut self,
        log: LogId,
        owner: [u8; 16],
        read: impl FnOnce() -> Result<Option<UserValue>, StoreError>,
    ) -> Result<OwnerMarks, StoreError> {
        let read =
            || Ok::<_, StoreError>(read()?.map_or_else(Box::default, |row| Box::from(&*row)));
        let of_log = self
            .logs
            .get_or_read(log, || Ok::<_, StoreError>(Packed::default()))?;
        match of_log.find(owner) {
            Ok(place) => decode(&of_log.0[place]),
            Err(count) if count < TOGETHER_MAX => {
                // Remembered twice, one of them would grow old: who is here now may have been among the further ones
                // until the others of the log were forgotten.
                let row = match self.further.remove(&keys::marks(log, owner)) {
                    Some(row) => row,
                    None => read()?,
                };
                let marks = decode(&row)?;
                of_log.push(owner, &row);
                Ok(marks)
            }
            Err(_) => decode(self.further.get_or_read(keys::marks(log, owner), read)?),
        }
    }

    /// Remembers another row of an owner whose marks were just asked for.
    pub(super) fn set(&mut self, log: LogId, owner: [u8; 16], row: &[u8]) {
        let of_log = self.logs.get_mut(&log);
        match of_log.and_then(|all| Some((all.find(owner).ok()?, all))) {
            Some((place, all)) => all.replace(place, row),
            None => self.further.insert(keys::marks(log, owner), row.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use tidings_core::ConversationId;
    use tidings_core::mark::{MarkKind, MarkValue};

    use super::*;

    proptest! {
        #[test]
        fn what_is_remembered_is_what_was_last_written(
            groups in prop::collection::vec(
                prop::collection::vec((0..6_u8, 0..12_u8, 1..50_u64), 1..40),
                1..20,
            ),
        ) {
            // Few, so that much is forgotten.
            let mut cached = CachedMarks::new(4, 8);
            let mut stored = BTreeMap::<(u8, u8), OwnerMarks>::new();
            for group in groups {
                cached.make_room();
                // Within a group the tables are as they were before it.
                let mut written = stored.clone();
                for (log, owner, seq) in group {
                    let row = written.entry((log, owner)).or_default();
                    let read = || Ok(stored.get(&(log, owner)).map(|row| row.encode().into()));
                    let log = LogId::conversation(ConversationId([log; 16]));
                    let mut marks = cached.get_or_read(log, [owner; 16], read).unwrap();
                    prop_assert_eq!(&marks, &*row);
                    // Rows of different lengths.
                    let value = MarkValue { seq, ordinal: seq * seq * seq, ..MarkValue::default() };
                    for marks in [&mut marks, row] {
                        marks.raise(MarkKind::Read, (seq % 3) as u32, value);
                    }
                    cached.set(log, [owner; 16], &marks.encode());
                }
                stored = written;
            }
        }
    }
}
