//! Bringing the rows of an older format up to date, once, before anything else is done with them. What a crash leaves
//! half done is done again.

use fjall::{PersistMode, Readable};
use tidings_core::MarkValue;
use tidings_core::mark::MarkKind;
use tidings_store::StoreError;

use crate::client_ids::{block_of, first_of};
use crate::keys::{self, LOG, OwnerKey};
use crate::owner_marks::OwnerMarks;
use crate::rows::{self, LogRow};
use crate::tables::{Tables, pair, unreadable};
use crate::{damaged, damaged_row};

/// Rows that are written together.
const ROWS_AT_ONCE: usize = 10_000;
/// Of a key of `marks` in formats 1 and 2: log, owner, kind, lane.
const MARK: usize = 38;

/// From formats 1 and 2, where each mark had a row of its own, and each client id.
pub(crate) fn to_format_3(tables: &Tables) -> Result<(), StoreError> {
    gather_marks(tables)?;
    index_blocks(tables)?;
    // Nothing but the old index is in there: blocks are indexed when the store runs.
    tables.clients.stored().clear().map_err(unreadable)
}

/// Puts the marks of one owner in one log into one row.
fn gather_marks(tables: &Tables) -> Result<(), StoreError> {
    let stored = tables.marks.stored();
    let snapshot = tables.database.snapshot();
    let mut batch = tables.database.batch();
    let mut gathering: Option<(OwnerKey, OwnerMarks)> = None;
    // The sentinel sorts before all others, and what has been gathered before those that it is made of.
    for row in snapshot.range(stored, [0, 0]..).map(pair) {
        let (key, value) = row?;
        let owner: OwnerKey = keys::bytes(&key, 0)?;
        if gathering.as_ref().is_some_and(|(other, _)| *other != owner) {
            put(tables, &mut batch, gathering.take());
            if batch.len() >= ROWS_AT_ONCE {
                commit(std::mem::replace(&mut batch, tables.database.batch()))?;
            }
        }
        let (_, marks) = gathering.get_or_insert_with(|| (owner, OwnerMarks::default()));
        if key.len() == MARK {
            let (kind, lane, value) = old_mark(&key, &value)?;
            marks.raise(kind, lane, value);
            batch.remove(stored, key);
        } else {
            marks.merge(&OwnerMarks::decode(&value).map_err(damaged_row)?);
        }
    }
    put(tables, &mut batch, gathering);
    commit(batch)
}

fn put(
    tables: &Tables,
    batch: &mut fjall::OwnedWriteBatch,
    gathered: Option<(OwnerKey, OwnerMarks)>,
) {
    if let Some((owner, marks)) = gathered {
        batch.insert(tables.marks.stored(), owner, marks.encode());
    }
}

fn old_mark(key: &[u8], value: &[u8]) -> Result<(MarkKind, u32, MarkValue), StoreError> {
    let [kind] = keys::bytes(key, LOG + 16)?;
    let kind = MarkKind::from_number(kind);
    Ok((
        kind.ok_or_else(|| damaged("a mark is of an unknown kind"))?,
        u32::from_be_bytes(keys::bytes(key, LOG + 17)?),
        rows::decode_mark(value).map_err(damaged_row)?,
    ))
}

/// Has the client ids of all whole blocks indexed before long.
fn index_blocks(tables: &Tables) -> Result<(), StoreError> {
    let mut batch = tables.database.batch();
    let snapshot = tables.database.snapshot();
    for row in snapshot.range(tables.logs.stored(), [0, 0]..).map(pair) {
        let (key, value) = row?;
        let log = keys::parse_log(&key)?;
        let row = LogRow::decode(&value).map_err(damaged_row)?;
        for block in block_of(row.forgotten + 1)..block_of(row.head + 1) {
            debug_assert!(first_of(block) <= row.head, "it is whole");
            batch.insert(tables.upkeep.stored(), keys::index(log, block), []);
        }
        if batch.len() >= ROWS_AT_ONCE {
            commit(std::mem::replace(&mut batch, tables.database.batch()))?;
        }
    }
    commit(batch)
}

fn commit(batch: fjall::OwnedWriteBatch) -> Result<(), StoreError> {
    let synced = batch.durability(Some(PersistMode::SyncAll));
    synced.commit().map_err(unreadable)
}
