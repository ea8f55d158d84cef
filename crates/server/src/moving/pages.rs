//! Reading a whole log, trimmed entries included: they come as envelopes, for as long as those are kept.

use std::collections::VecDeque;

use tidings_core::entry::Entry;
use tidings_core::log::{LogId, Seq};
use tidings_store::{Direction, Movable, Page, ReadLog, StoreError, Want};

/// Entries read at once.
const ENTRIES_MAX: usize = 256;
/// Bytes read at once, about.
const BYTES_MAX: usize = 1024 * 1024;

/// The entries of a log from one on, up to its head.
pub(super) struct Pages<'s> {
    store: &'s dyn Movable,
    log: LogId,
    next: Seq,
    up_to: Seq,
    page: VecDeque<Entry>,
}

impl<'s> Pages<'s> {
    pub(super) fn of(store: &'s dyn Movable, log: LogId, from: Seq, up_to: Seq) -> Pages<'s> {
        Pages {
            store,
            log,
            next: from,
            up_to,
            page: VecDeque::new(),
        }
    }

    /// Entries that follow on each other. The first is later than where the last page ended if nothing is kept
    /// of what lies between; none when there are no more.
    pub(super) async fn page(&mut self) -> Result<Vec<Entry>, StoreError> {
        if self.next > self.up_to {
            return Ok(Vec::new());
        }
        let mut entries = self.read(Want::Entries).await?.entries;
        let first = entries.first().map(Entry::seq);
        if first != Some(self.next) {
            // What lies before is trimmed.
            let end = first.unwrap_or(self.up_to + 1);
            entries = self.read(Want::Envelopes).await?.entries;
            entries.retain(|entry| entry.seq() < end);
            if entries.is_empty() && first.is_some() {
                entries = self.read(Want::Entries).await?.entries;
            }
        }
        // One may have been trimmed while it was read: then it comes with the next page.
        let mut before = entries.first().map_or(0, |entry| entry.seq() - 1);
        let whole = entries.iter().take_while(|entry| {
            before += 1;
            entry.seq() == before && before <= self.up_to
        });
        let count = whole.count();
        entries.truncate(count);
        self.next = entries.last().map_or(self.up_to, Entry::seq) + 1;
        Ok(entries)
    }

    /// The next entry.
    pub(super) async fn next(&mut self) -> Result<Option<Entry>, StoreError> {
        if self.page.is_empty() {
            self.page = self.page().await?.into();
        }
        Ok(self.page.pop_front())
    }

    async fn read(&self, want: Want) -> Result<Page, StoreError> {
        let read = ReadLog {
            from: self.next,
            direction: Direction::Forwards,
            limit: ENTRIES_MAX,
            bytes_max: BYTES_MAX,
            want,
        };
        self.store.read(self.log, read).await
    }
}
