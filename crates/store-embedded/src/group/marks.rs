//! The marks that the committer remembers: those of a log together, as far as their owners are few, for they are raised
//! together; those of further owners each by themselves.

use tidings_core::log::LogId;

use crate::keys::{self, OwnerKey};
use crate::owner_marks::OwnerMarks;
use crate::recent::Recent;

/// So many owners of a log are remembered together: two users with two devices each are six.
const TOGETHER_MAX: usize = 6;

/// Marks by log and owner.
#[derive(Debug)]
pub(super) struct CachedMarks {
    logs: Recent<LogId, Vec<([u8; 16], OwnerMarks)>>,
    /// Of owners who are not among those of their log.
    further: Recent<OwnerKey, OwnerMarks>,
}

impl CachedMarks {
    /// Remembers so many logs, and so many further owners.
    pub(super) fn new(logs_max: usize, further_max: usize) -> CachedMarks {
        CachedMarks {
            logs: Recent::new(logs_max),
            further: Recent::new(further_max),
        }
    }

    /// Forgets what was not used lately, if it is much. What was written since may not be in the tables yet, where what is
    /// forgotten is read again: so never in the middle of a group.
    pub(super) fn make_room(&mut self) {
        self.logs.make_room();
        self.further.make_room();
    }

    /// The marks of an owner in a log, which are read if they are not remembered.
    pub(super) fn get_or_read<E>(
        &mut self,
        log: LogId,
        owner: [u8; 16],
        read: impl FnOnce() -> Result<OwnerMarks, E>,
    ) -> Result<&mut OwnerMarks, E> {
        let of_log = self.logs.get_or_read(log, || Ok(Vec::new()))?;
        let place = match of_log.iter().position(|(other, _)| *other == owner) {
            Some(place) => place,
            None if of_log.len() < TOGETHER_MAX => {
                // Remembered twice, one of them would grow old: who is here now may have been among the further ones
                // until the others of the log were forgotten.
                let marks = match self.further.remove(&keys::marks(log, owner)) {
                    Some(marks) => marks,
                    None => read()?,
                };
                of_log.push((owner, marks));
                of_log.len() - 1
            }
            None => return self.further.get_or_read(keys::marks(log, owner), read),
        };
        Ok(&mut of_log[place].1)
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
                    let read = || Ok::<_, ()>(stored.get(&(log, owner)).cloned().unwrap_or_default());
                    let log = LogId::conversation(ConversationId([log; 16]));
                    let marks = cached.get_or_read(log, [owner; 16], read).unwrap();
                    prop_assert_eq!(&*marks, &*row);
                    let value = MarkValue { seq, ..MarkValue::default() };
                    marks.raise(MarkKind::Read, 0, value);
                    row.raise(MarkKind::Read, 0, value);
                }
                stored = written;
            }
        }
    }
}
