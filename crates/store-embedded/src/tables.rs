//! The tables: fjall's keyspaces, few on purpose (opening one takes milliseconds, and a start-up
//! opens them all), each seen together with the [`layers`](crate::layers) above it. Only this module and
//! [`crate::apply`] know how fjall is told things.

mod range;

use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fjall::{
    Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot, UserKey, UserValue,
};
use tidings_store::StoreError;

use crate::changes::{Change, Changes};
use crate::damaged;
use crate::keys::{self, LOG};
use crate::layers::{Layers, Place, Range, Stack, TableRows};
use crate::pace::Pace;
use crate::settings::Settings;

/// fjall's journals are not let grow beyond this before what is in them is flushed; fjall's smallest.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;
/// Small memtables: fjall looks whether to rotate the journal only when one is flushed.
const MEMTABLE_BYTES: u64 = 8 * 1024 * 1024;
/// With so many files of a table that are not merged yet, more have to wait: reads look into each.
const UNMERGED_MAX: usize = 20;
/// How often is looked whether there are fewer, and how many times at most.
const UNMERGED_WAIT: Duration = Duration::from_millis(10);
const UNMERGED_WAITS_MAX: usize = 3_000;
/// Open files of tables, so that most of what the system allows is left to connections.
const FILES_MAX: usize = 256;
/// What a change mostly takes.
const CHANGE_BYTES: usize = 80;
/// Padding that is written at a time.
const PADDING_BYTES: u64 = 8 * 1024 * 1024;

/// The tables by number, which is what the journal calls them: never to be changed. Whether keys begin
/// with their log.
const TABLES: [(&str, bool); 13] = [
    ("logs", true),
    ("entries", true),
    ("clients", true),
    ("targets", true),
    ("marks", true),
    ("inbox", false),
    ("steps", true),
    ("states", true),
    ("members", true),
    ("documents", false),
    ("expiry", false),
    ("upkeep", false),
    ("padding", false),
];

use range::Fresh;
pub(crate) use range::Rows;

/// A row as it is.
pub(crate) type Pair = (UserKey, UserValue);

/// All tables, by what their rows are. Keys are described in [`keys`], values in [`crate::rows`].
#[derive(Clone)]
pub(crate) struct Tables {
    pub(crate) database: Database,
    /// See [`Settings::direct_bytes_min`].
    pub(crate) direct_bytes_min: usize,
    pub(crate) layers: Arc<Layers>,
    /// log → where it ends, what is kept
    pub(crate) logs: Table,
    /// log, seq → envelope, place of the body
    pub(crate) entries: Table,
    /// log, block of entries → fingerprints of their client ids
    pub(crate) clients: Table,
    /// log, target, seq → kind, author, for edits and deletions;
    /// log, target, author, emoji → seq, for reactions that stand
    pub(crate) targets: Table,
    /// log, owner → values by kind and lane
    pub(crate) marks: Table,
    /// user, log, kind, lane → value, for joined, left and head
    pub(crate) inbox: Table,
    /// log, owner, kind, seq → time
    pub(crate) steps: Table,
    /// log → seq, state
    pub(crate) states: Table,
    /// log, user → member
    pub(crate) members: Table,
    /// kind, key → version, value
    pub(crate) documents: Table,
    /// time, log, seq → nothing
    pub(crate) expiry: Table,
    /// What is still to be done on the disk, and the body files.
    pub(crate) upkeep: Table,
    /// Nothing that is ever read: see [`Tables::seal_journal`].
    padding: Table,
}

/// A table with the layers above it.
#[derive(Clone)]
pub(crate) struct Table {
    number: u8,
    layers: Arc<Layers>,
    stored: Keyspace,
}

impl Tables {
    pub(crate) fn open(path: &Path, settings: &Settings) -> fjall::Result<Tables> {
        let database = Database::builder(path)
            .cache_size(settings.cache_bytes)
            .max_journaling_size(JOURNAL_BYTES)
            .manual_journal_persist(true)
            // Of two, fjall has one merge and the other one spin while it does.
            .worker_threads(1)
            .max_cached_files(Some(FILES_MAX))
            .open()?;
        let layers = Arc::<Layers>::default();
        let table = |number: u8| -> fjall::Result<Table> {
            let (name, _) = TABLES[usize::from(number)];
            let stored = database.keyspace(name, || {
                KeyspaceCreateOptions::default()
                    .manual_journal_persist(true)
                    .max_memtable_size(MEMTABLE_BYTES)
            })?;
            Ok(Table {
                number,
                layers: Arc::clone(&layers),
                stored,
            })
        };
        Ok(Tables {
            logs: table(0)?,
            entries: table(1)?,
            clients: table(2)?,
            targets: table(3)?,
            marks: table(4)?,
            inbox: table(5)?,
            steps: table(6)?,
            states: table(7)?,
            members: table(8)?,
            documents: table(9)?,
            expiry: table(10)?,
            upkeep: table(11)?,
            padding: table(12)?,
            layers,
            direct_bytes_min: settings.direct_bytes_min,
            database,
        })
    }

    /// Every table with its name, by number.
    pub(crate) fn all(&self) -> [(&'static str, &Table); 13] {
        let tables = [
            &self.logs,
            &self.entries,
            &self.clients,
            &self.targets,
            &self.marks,
            &self.inbox,
            &self.steps,
            &self.states,
            &self.members,
            &self.documents,
            &self.expiry,
            &self.upkeep,
            &self.padding,
        ];
        tables.map(|table| (TABLES[usize::from(table.number)].0, table))
    }

    /// What is in the tables at this moment, under the layers. The newest layer goes on taking commits: what is
    /// read later may be newer, never older.
    pub(crate) fn view(&self) -> View {
        // In this order: what moves down in between is found in the tables.
        let stack = self.layers.stack();
        View {
            stack,
            snapshot: self.database.snapshot(),
        }
    }

    /// Has fjall begin a new journal as soon as its thread comes to it, whatever the size of the present one.
    ///
    /// Replaying takes its time by row, and the rows of marks are small: a journal that is let grow to
    /// fjall's fixed size may hold a million. Nothing but size makes fjall begin a new one, so the journal
    /// is padded. The padding is never flushed to a table.
    pub(crate) fn seal_journal(&self) -> fjall::Result<()> {
        // Shorter than what fjall compresses, and shared by all rows of padding.
        let padding = UserValue::new(&[0; 4_000]);
        for _ in 0..JOURNAL_BYTES / PADDING_BYTES + 1 {
            let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
            for number in 0..PADDING_BYTES as u32 / 4_000 {
                batch.insert(self.padding.stored(), number.to_be_bytes(), padding.clone());
            }
            batch.commit()?;
            self.padding.stored().clear()?;
            self.rotate_all()?;
            // The journal is looked at by the thread that flushes.
            std::thread::sleep(Duration::from_millis(50));
            if self.database.journal_count() > 1 {
                break;
            }
        }
        Ok(())
    }

    /// Asks for all memtables to be flushed, so that sealed journals can go.
    ///
    /// fjall deletes a journal once every table holds a row at least as new as the journal's last. A
    /// table whose newest rows were deleted and compacted away would keep the journal for ever, so each
    /// gets a row that stays.
    pub(crate) fn rotate_all(&self) -> fjall::Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
        for (_, table) in self.all() {
            batch.insert(table.stored(), keys::SENTINEL, []);
        }
        batch.commit()?;
        for (_, table) in self.all() {
            table.stored().rotate_memtable()?;
        }
        Ok(())
    }
}

/// Where a row of a table lies in a layer.
pub(crate) fn place(table: u8, key: &[u8]) -> Place {
    let by_log = TABLES
        .get(usize::from(table))
        .is_some_and(|(_, by_log)| *by_log);
    let log = key.first_chunk::<LOG>().filter(|_| by_log);
    Place {
        table,
        log: log.copied().unwrap_or([0; LOG]),
    }
}

/// Whether the journal may name a table by this number.
pub(crate) fn is_table(number: u8) -> bool {
    usize::from(number) < TABLES.len()
}

impl Table {
    /// The table without its layers.
    pub(crate) fn stored(&self) -> &Keyspace {
        &self.stored
    }

    /// Writes rows into sorted files, past fjall's journal and memtable. They are durable when this returns.
    ///
    /// What fjall's journal holds of older rows is not replayed over them, as long as one row of this moment stays:
    /// so each time writes one.
    pub(crate) fn write_directly(
        &self,
        rows: &TableRows<'_>,
        pace: &mut Pace,
    ) -> fjall::Result<()> {
        for _ in 0..UNMERGED_WAITS_MAX {
            if self.stored.l0_table_count() < UNMERGED_MAX {
                break;
            }
            std::thread::sleep(UNMERGED_WAIT);
        }
        let mut files = self.stored.start_ingestion()?;
        files.write(keys::SENTINEL, [])?;
        for (key, value) in rows.iter() {
            match value {
                Some(value) => files.write(key, value)?,
                None => files.write_tombstone(key)?,
            }
            pace.step(1);
        }
        files.finish()
    }

    /// The row with this key.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<UserValue>, StoreError> {
        match self.layers.get(place(self.number, key), key) {
            Some(row) => Ok(row),
            None => self.stored.get(key).map_err(unreadable),
        }
    }

    /// The rows in a range; if keys of this table begin with their log, it begins with a whole log's id
    /// and stays within that log.
    pub(crate) fn range<K: AsRef<[u8]>, R: RangeBounds<K>>(&self, range: R) -> Rows {
        let range = bounds(&range);
        let fresh = Fresh::new(self.layers.stack(), self.place(range), range);
        Rows::new(fresh, self.stored.range::<&[u8], _>(range))
    }

    /// The rows whose keys begin so.
    pub(crate) fn prefix(&self, prefix: impl AsRef<[u8]>) -> Rows {
        let end = above(prefix.as_ref());
        self.range::<&[u8], _>((Bound::Included(prefix.as_ref()), bound(&end)))
    }

    fn place(&self, (from, _): Range<'_>) -> Place {
        match from {
            Bound::Included(key) | Bound::Excluded(key) => place(self.number, key),
            Bound::Unbounded => place(self.number, &[]),
        }
    }
}

/// See [`Tables::view`].
pub(crate) struct View {
    stack: Stack,
    snapshot: Snapshot,
}

impl View {
    /// As [`Table::get`].
    pub(crate) fn get(
        &self,
        table: &Table,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<UserValue>, StoreError> {
        let key = key.as_ref();
        match self.stack.get(place(table.number, key), key) {
            Some(row) => Ok(row),
            None => self.snapshot.get(&table.stored, key).map_err(unreadable),
        }
    }

    /// As [`Table::range`].
    pub(crate) fn range<K: AsRef<[u8]>, R: RangeBounds<K>>(&self, table: &Table, range: R) -> Rows {
        let range = bounds(&range);
        let fresh = Fresh::new(self.stack.clone(), table.place(range), range);
        Rows::new(fresh, self.snapshot.range::<&[u8], _>(&table.stored, range))
    }
}

fn bounds<'a, K: AsRef<[u8]> + 'a, R: RangeBounds<K>>(range: &'a R) -> Range<'a> {
    (
        range.start_bound().map(AsRef::as_ref),
        range.end_bound().map(AsRef::as_ref),
    )
}

/// The end of the keys that begin so.
fn above(prefix: &[u8]) -> Bound<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return Bound::Excluded(end);
        }
    }
    Bound::Unbounded
}

fn bound(end: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    end.as_ref().map(Vec::as_slice)
}

/// The changes of a commit that is being put together.
#[derive(Debug)]
pub(crate) struct Batch {
    changes: Changes,
}

impl Batch {
    /// An empty one, with room for about so many changes.
    pub(crate) fn for_about(changes: usize) -> Batch {
        Batch {
            changes: Changes::with_capacity(changes * CHANGE_BYTES),
        }
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Keys and values of the changes of a table, but for those in the first `before` bytes. `None`: the row is
    /// deleted.
    pub(crate) fn rows_of(
        &self,
        table: &Table,
        before: usize,
    ) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        let number = table.number;
        let changes = self.changes.since(before);
        let changes = changes.filter(move |change| change.table == number);
        changes.map(|change| (change.key, change.value))
    }

    /// Writes a row.
    pub(crate) fn insert(&mut self, table: &Table, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.changes.push(Change {
            table: table.number,
            key: key.as_ref(),
            value: Some(value.as_ref()),
        });
    }

    /// Deletes a row.
    pub(crate) fn remove(&mut self, table: &Table, key: impl AsRef<[u8]>) {
        self.changes.push(Change {
            table: table.number,
            key: key.as_ref(),
            value: None,
        });
    }

    /// The changes in their order; of two of one row the later counts.
    pub(crate) fn into_changes(self) -> Changes {
        self.changes
    }
}

/// A row of fjall's.
pub(crate) fn pair(row: fjall::Guard) -> Result<Pair, StoreError> {
    row.into_inner().map_err(unreadable)
}

pub(crate) fn unreadable(error: fjall::Error) -> StoreError {
    damaged(format!("a read failed: {error}"))
}
