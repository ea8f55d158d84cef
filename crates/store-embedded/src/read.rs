//! Reads. Each is right by itself: what has to fit together is read from one snapshot.

mod marks;

use std::ops::Bound;
use std::sync::Arc;

use tidings_core::codec::decode_body;
use tidings_core::log::{LogId, Seq};
use tidings_core::{Body, ClientId, Entry, Kind, Time, UserId};
use tidings_store::{
    Alterations, ClientIdSearch, Direction, Document, DocumentKind, LogHead, MemberQuery, Page,
    ReadLog, StateSnapshot, StoreError, Want,
};

use crate::bodies::BodyFiles;
use crate::client_ids::Blocks;
use crate::keys;
use crate::late::Late;
use crate::rows::{self, AlterationRow, BodyRow, EntryRow, LogRow};
use crate::tables::{Tables, View};
use crate::{damaged, damaged_row};

/// Reads from tables, body files and the cache of late marks.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) tables: Tables,
    pub(crate) files: Arc<BodyFiles>,
    pub(crate) late: Arc<Late>,
    pub(crate) blocks: Arc<Blocks>,
}

impl Reader {
    pub(crate) fn log(&self, log: LogId) -> Result<Option<LogRow>, StoreError> {
        let row = self.tables.logs.get(&keys::log(log))?;
        row.map(|bytes| LogRow::decode(&bytes).map_err(damaged_row))
            .transpose()
    }

    pub(crate) fn head(&self, log: LogId) -> Result<Option<LogHead>, StoreError> {
        Ok(self.log(log)?.map(|row| LogHead {
            generation: row.generation,
            seq: row.head,
            ordinal: row.ordinal,
            at: row.at,
            trimmed: row.trimmed,
        }))
    }

    pub(crate) fn read(&self, log: LogId, read: &ReadLog) -> Result<Page, StoreError> {
        let view = self.tables.view();
        let mut page = Page {
            entries: Vec::new(),
            complete: true,
        };
        let Some(row) = log_in(&view, &self.tables, log)? else {
            return Ok(page);
        };
        let kept = match read.want {
            Want::Entries => row.trimmed + 1,
            Want::Envelopes => row.forgotten + 1,
        };
        let (first, last) = match read.direction {
            Direction::Forwards => (kept.max(read.from), row.head),
            Direction::Backwards => (kept, row.head.min(read.from)),
        };
        if first > last {
            return Ok(page);
        }
        let range = keys::entry(log, first)..=keys::entry(log, last);
        let mut rows = view.range(&self.tables.entries, range);
        let mut bytes = 0;
        let mut at = None;
        while page.entries.len() < read.limit && (bytes < read.bytes_max || page.entries.is_empty())
        {
            let next = match read.direction {
                Direction::Forwards => rows.next(),
                Direction::Backwards => rows.next_back(),
            };
            let Some((key, value)) = next.transpose()? else {
                break;
            };
            let entry = EntryRow::decode(&value).map_err(damaged_row)?;
            at = Some(keys::parse_seq(&key)?);
            bytes += value.len();
            if read.want == Want::Envelopes {
                page.entries.push(Entry {
                    envelope: entry.envelope,
                    body: Body::Erased,
                });
                continue;
            }
            if let BodyRow::At(place) = entry.body {
                bytes += place.length as usize;
            }
            // `None`: it was trimmed since the snapshot was taken.
            if let Some(body) = self.body(log, &entry)? {
                page.entries.push(Entry {
                    envelope: entry.envelope,
                    body,
                });
            }
        }
        page.complete = match read.direction {
            Direction::Forwards => at == Some(last),
            Direction::Backwards => at == Some(first),
        };
        Ok(page)
    }

    /// The body of an entry; `None` if the entry has been trimmed in the meantime.
    fn body(&self, log: LogId, entry: &EntryRow) -> Result<Option<Body>, StoreError> {
        let kind = entry.envelope.kind;
        if let Some(body) = stored_body(&self.files, entry)? {
            return Ok(Some(body));
        }
        // The body was overwritten after the row was read: what does the row say now?
        let seq = entry.envelope.seq;
        if self.log(log)?.is_none_or(|row| seq <= row.trimmed) {
            return Ok(None);
        }
        match self.tables.entries.get(&keys::entry(log, seq))? {
            Some(bytes)
                if EntryRow::decode(&bytes).map_err(damaged_row)?.body == BodyRow::Erased =>
            {
                Ok(Some(Body::Erased))
            }
            _ => Err(damaged(format!(
                "the body of entry {seq} ({kind:?}) of {log:?} is not where it should be"
            ))),
        }
    }

    /// Targets that lie near each other, as those of a page do, are read in one go.
    pub(crate) fn alterations(
        &self,
        log: LogId,
        targets: &[Seq],
    ) -> Result<Vec<Alterations>, StoreError> {
        let view = self.tables.view();
        let Some(row) = log_in(&view, &self.tables, log)? else {
            return Ok(Vec::new());
        };
        let is_kept = |target: &Seq| *target > row.trimmed && *target <= row.head;
        let mut targets: Vec<Seq> = targets.iter().copied().filter(is_kept).collect();
        targets.sort_unstable();
        targets.dedup();
        let mut all = Vec::<Alterations>::new();
        for near in targets.chunk_by(|a, b| b - a <= NEAR_TARGETS) {
            let (Some(first), Some(last)) = (near.first(), near.last()) else {
                continue;
            };
            let range = keys::altering(log, *first)..keys::altering(log, last + 1);
            for altering in view.range(&self.tables.targets, range) {
                let (key, value) = altering?;
                let target = keys::parse_seq(&key)?;
                if near.binary_search(&target).is_err() {
                    continue;
                }
                let mut found = match all.pop_if(|last| last.target == target) {
                    Some(found) => found,
                    None => Alterations {
                        target,
                        ..Alterations::default()
                    },
                };
                self.add_alteration(&view, log, (&key, &value), &mut found)?;
                all.push(found);
            }
        }
        all.retain_mut(|found| {
            found.reactions.sort();
            found.deleted.is_some() || !found.edits.is_empty() || !found.reactions.is_empty()
        });
        Ok(all)
    }

    /// Adds what one row of the index by target says.
    fn add_alteration(
        &self,
        view: &View,
        log: LogId,
        (key, value): (&[u8], &[u8]),
        found: &mut Alterations,
    ) -> Result<(), StoreError> {
        if !keys::is_reaction(key) {
            let seq = u64::from_be_bytes(keys::bytes(key, 25)?);
            match AlterationRow::decode(value).map_err(damaged_row)?.kind {
                Kind::Edit => found.edits.push(seq),
                _ => found.deleted = found.deleted.or(Some(seq)),
            }
            return Ok(());
        }
        let seq = rows::decode_number(value).map_err(damaged_row)?;
        let entry = entry_in(view, &self.tables, log, seq)?;
        let body = entry
            .map(|entry| self.body(log, &entry))
            .transpose()?
            .flatten();
        // Otherwise it was erased since the snapshot was taken.
        if let Some(Body::Reaction { emoji, .. }) = body {
            let author = keys::parse_reaction_author(key)?;
            found.reactions.push((emoji, author, seq));
        }
        Ok(())
    }

    pub(crate) fn find_client_id(
        &self,
        log: LogId,
        author: UserId,
        client_id: ClientId,
        above: Seq,
    ) -> Result<ClientIdSearch, StoreError> {
        let Some(row) = self.log(log)? else {
            return Ok(ClientIdSearch::Absent);
        };
        let found = self.entry_of_client_id(log, (author, client_id), above, row)?;
        // What was forgotten in between was found missing, and is told as such.
        let forgotten = self.log(log)?.map_or(0, |row| row.forgotten);
        Ok(match found {
            Some((seq, at)) if seq > forgotten => ClientIdSearch::Found { seq, at },
            _ if above < forgotten => ClientIdSearch::Incomplete,
            _ => ClientIdSearch::Absent,
        })
    }

    pub(crate) fn expired(&self, now: Time, limit: usize) -> Result<Vec<(LogId, Seq)>, StoreError> {
        let mut found = Vec::new();
        let until = keys::expiry(Time(now.0.saturating_add(1)), FIRST_LOG, 0);
        for row in self
            .tables
            .expiry
            .range(keys::expiry(Time(0), FIRST_LOG, 0)..until)
        {
            if found.len() == limit {
                break;
            }
            let (key, _) = row?;
            let (_, log, seq) = keys::parse_expiry(&key)?;
            if self.log(log)?.is_some_and(|row| seq > row.trimmed) {
                found.push((log, seq));
            }
        }
        Ok(found)
    }

    pub(crate) fn state(&self, log: LogId) -> Result<Option<StateSnapshot>, StoreError> {
        let Some(bytes) = self.tables.states.get(&keys::log(log))? else {
            return Ok(None);
        };
        let (seq, state) = rows::decode_numbered(&bytes).map_err(damaged_row)?;
        Ok(Some(StateSnapshot {
            seq,
            state,
            members: Vec::new(),
        }))
    }

    pub(crate) fn members(
        &self,
        log: LogId,
        query: MemberQuery,
    ) -> Result<Vec<(UserId, Vec<u8>)>, StoreError> {
        let view = self.tables.view();
        let member =
            |key: &[u8], value: &[u8]| Ok((UserId(keys::bytes(key, keys::LOG)?), value.to_vec()));
        match query {
            MemberQuery::Named(mut users) => {
                users.sort_unstable();
                users.dedup();
                let mut members = Vec::new();
                for user in users {
                    let found = view.get(&self.tables.members, keys::member(log, user))?;
                    members.extend(found.map(|value| (user, value.to_vec())));
                }
                Ok(members)
            }
            MemberQuery::From { after, limit } => {
                let from = match after {
                    None => Bound::Included(keys::member(log, UserId([0; 16]))),
                    Some(after) => Bound::Excluded(keys::member(log, after)),
                };
                let to = Bound::Included(keys::member(log, UserId([0xff; 16])));
                let rows = view.range(&self.tables.members, (from, to));
                rows.take(limit)
                    .map(|row| row.and_then(|(key, value)| member(&key, &value)))
                    .collect()
            }
        }
    }

    pub(crate) fn document(
        &self,
        kind: DocumentKind,
        key: Vec<u8>,
    ) -> Result<Option<Document>, StoreError> {
        let Some(bytes) = self.tables.documents.get(&keys::document(kind, &key))? else {
            return Ok(None);
        };
        let (version, value) = rows::decode_numbered(&bytes).map_err(damaged_row)?;
        Ok(Some(Document {
            key,
            version,
            value,
        }))
    }

    pub(crate) fn scan_documents(
        &self,
        kind: DocumentKind,
        prefix: &[u8],
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Vec<Document>, StoreError> {
        let from = match after {
            Some(after) if after.as_slice() >= prefix => {
                Bound::Excluded(keys::document(kind, &after))
            }
            _ => Bound::Included(keys::document(kind, prefix)),
        };
        let begins = keys::document(kind, prefix);
        let mut documents = Vec::new();
        for row in self.tables.documents.range((from, Bound::Unbounded)) {
            if documents.len() == limit {
                break;
            }
            let (key, value) = row?;
            if !key.starts_with(&begins) {
                break;
            }
            let (version, value) = rows::decode_numbered(&value).map_err(damaged_row)?;
            documents.push(Document {
                key: key.get(1..).unwrap_or_default().to_vec(),
                version,
                value,
            });
        }
        Ok(documents)
    }
}

/// Targets not further apart than this are read together, with what alters the entries between them.
const NEAR_TARGETS: u64 = 16;

/// The smallest id that a log can have.
const FIRST_LOG: LogId = LogId {
    owner: [0; 16],
    part: tidings_core::log::LogPart::Conversation,
};

/// The body that a row points to; `None` if it is not (or no longer) there.
fn stored_body(files: &BodyFiles, entry: &EntryRow) -> Result<Option<Body>, StoreError> {
    let kind = entry.envelope.kind;
    match entry.body {
        BodyRow::Erased => Ok(Some(Body::Erased)),
        BodyRow::Empty if kind == Kind::Delete => Ok(Some(Body::Delete)),
        BodyRow::Empty => Ok(Some(Body::Leave)),
        BodyRow::At(place) => {
            let bytes = files
                .read(&place)
                .map_err(|error| damaged(format!("a body could not be read: {error}")))?;
            bytes
                .map(|bytes| decode_body(kind, &bytes).map_err(damaged_row))
                .transpose()
        }
    }
}

fn log_in(view: &View, tables: &Tables, log: LogId) -> Result<Option<LogRow>, StoreError> {
    let row = view.get(&tables.logs, keys::log(log))?;
    row.map(|bytes| LogRow::decode(&bytes).map_err(damaged_row))
        .transpose()
}

fn entry_in(
    view: &View,
    tables: &Tables,
    log: LogId,
    seq: Seq,
) -> Result<Option<EntryRow>, StoreError> {
    let row = view.get(&tables.entries, keys::entry(log, seq))?;
    row.map(|bytes| EntryRow::decode(&bytes).map_err(damaged_row))
        .transpose()
}
