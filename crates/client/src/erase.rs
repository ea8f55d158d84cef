//! Contents that go: messages that were deleted for everyone, and those whose time is up.

use tidings_core::ConversationId;
use tidings_core::log::Seq;

use crate::client::Client;
use crate::clock::Tick;
use crate::rows::{self, EntryRow};
use crate::storage::LoadPurpose;
use crate::store::{Read, Row, Table};

/// Entries that are erased at a time.
const ERASED_AT_A_TIME: usize = 64;
/// Erasures that wait; past it, what is deleted is erased when it is read the next time.
const WAITING_MAX: usize = 10_000;

impl Client {
    /// The content of an entry is to leave the local store.
    pub(crate) fn erase_soon(&mut self, id: ConversationId, seq: Seq) {
        if self.erasures.len() < WAITING_MAX {
            self.erasures.insert((id, seq));
        }
    }

    /// Lets messages vanish whose time is up, and erases what is to be erased.
    pub(crate) fn pump_erasing(&mut self) {
        let now = self.clock.server_now();
        while let Some(&(expires, id, seq)) = self.expiries.first() {
            if expires > now {
                break;
            }
            self.expiries.pop_first();
            self.storage
                .delete(Table::Expiries, rows::expiry_key(expires, id, seq));
            self.erase_soon(id, seq);
            self.touch(id);
            let last = self
                .conversations
                .get_mut(&id)
                .and_then(|known| known.last.as_mut());
            if let Some(last) = last.filter(|last| last.seq == seq) {
                rows::erase_last(last);
                self.mark_dirty(id);
            }
        }
        if self.erasing || self.erasures.is_empty() {
            return;
        }
        self.erasing = true;
        let mut entries = Vec::new();
        while entries.len() < ERASED_AT_A_TIME
            && let Some(place) = self.erasures.pop_first()
        {
            entries.push(place);
        }
        let reads = entries.iter().flat_map(|&(id, seq)| {
            [Table::Entries, Table::Alterations].map(|table| Read {
                table,
                from: rows::seq_key(id, seq),
                to: rows::seq_key(id, seq.saturating_add(1)),
                limit: 1_000,
            })
        });
        self.load(reads.collect(), LoadPurpose::Erase(entries));
    }

    pub(crate) fn erase_loaded(&mut self, entries: &[(ConversationId, Seq)], ranges: &[Vec<Row>]) {
        self.erasing = false;
        for (&(id, seq), rows_of) in entries.iter().zip(ranges.chunks(2)) {
            for row in rows_of.first().into_iter().flatten() {
                let Some(mut entry) = rows::decode::<EntryRow>(&row.value) else {
                    continue;
                };
                entry.entry.content = None;
                if let Some(alteration) = &mut entry.alteration {
                    alteration.edit = None;
                }
                self.storage
                    .put(Table::Entries, row.key.clone(), rows::encode(&entry));
            }
            for row in rows_of.get(1).into_iter().flatten() {
                let Some(mut entry) = rows::decode::<tidings_protocol::entry::Entry>(&row.value)
                else {
                    continue;
                };
                if entry.content.take().is_some() {
                    self.storage
                        .put(Table::Alterations, row.key.clone(), rows::encode(&entry));
                }
            }
            self.timeline_erased(id, seq);
        }
    }

    pub(crate) fn erase_timeout(&self) -> Option<Tick> {
        self.expiries
            .first()
            .map(|(expires, ..)| self.clock.tick_of_server(*expires))
    }
}
