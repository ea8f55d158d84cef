//! The tables: fjall's keyspaces, few on purpose (opening one takes milliseconds, and a start-up
//! opens them all). Only this module and [`crate::commit`] know how fjall is told things.

use std::path::Path;
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::keys;
use crate::settings::Settings;

/// Journals are not let grow beyond this before what is in them is flushed; fjall's smallest.
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;
/// Small memtables: fjall looks whether to rotate the journal only when one is flushed.
const MEMTABLE_BYTES: u64 = 8 * 1024 * 1024;
/// Open files of tables, so that most of what the system allows is left to connections.
const FILES_MAX: usize = 256;
/// Padding that is written at a time.
const PADDING_BYTES: u64 = 8 * 1024 * 1024;

/// All tables, by what their rows are. Keys are described in [`keys`], values in [`crate::rows`].
#[derive(Clone)]
pub(crate) struct Tables {
    pub(crate) database: Database,
    /// log → where it ends, what is kept
    pub(crate) logs: Keyspace,
    /// log, seq → envelope, place of the body
    pub(crate) entries: Keyspace,
    /// log, author, client id, seq → time
    pub(crate) clients: Keyspace,
    /// log, target, seq → kind, author, for edits and deletions;
    /// log, target, author, emoji → seq, for reactions that stand
    pub(crate) targets: Keyspace,
    /// log, owner, kind, lane → value
    pub(crate) marks: Keyspace,
    /// user, log, kind, lane → value, for joined, left and head
    pub(crate) inbox: Keyspace,
    /// log, owner, kind, seq → time
    pub(crate) steps: Keyspace,
    /// log → seq, state
    pub(crate) states: Keyspace,
    /// log, user → member
    pub(crate) members: Keyspace,
    /// kind, key → version, value
    pub(crate) documents: Keyspace,
    /// time, log, seq → nothing
    pub(crate) expiry: Keyspace,
    /// What is still to be done on the disk, and the body files.
    pub(crate) upkeep: Keyspace,
    /// Nothing that is ever read: see [`Tables::seal_journal`].
    padding: Keyspace,
}

impl Tables {
    pub(crate) fn open(path: &Path, settings: &Settings) -> fjall::Result<Tables> {
        let database = Database::builder(path)
            .cache_size(settings.cache_bytes)
            .max_journaling_size(JOURNAL_BYTES)
            .manual_journal_persist(true)
            .worker_threads(2)
            .max_cached_files(Some(FILES_MAX))
            .open()?;
        let keyspace = |name: &str| {
            database.keyspace(name, || {
                KeyspaceCreateOptions::default()
                    .manual_journal_persist(true)
                    .max_memtable_size(MEMTABLE_BYTES)
            })
        };
        Ok(Tables {
            logs: keyspace("logs")?,
            entries: keyspace("entries")?,
            clients: keyspace("clients")?,
            targets: keyspace("targets")?,
            marks: keyspace("marks")?,
            inbox: keyspace("inbox")?,
            steps: keyspace("steps")?,
            states: keyspace("states")?,
            members: keyspace("members")?,
            documents: keyspace("documents")?,
            expiry: keyspace("expiry")?,
            upkeep: keyspace("upkeep")?,
            padding: keyspace("padding")?,
            database,
        })
    }

    /// Every table with its name.
    pub(crate) fn all(&self) -> [(&'static str, &Keyspace); 13] {
        [
            ("logs", &self.logs),
            ("entries", &self.entries),
            ("clients", &self.clients),
            ("targets", &self.targets),
            ("marks", &self.marks),
            ("inbox", &self.inbox),
            ("steps", &self.steps),
            ("states", &self.states),
            ("members", &self.members),
            ("documents", &self.documents),
            ("expiry", &self.expiry),
            ("upkeep", &self.upkeep),
            ("padding", &self.padding),
        ]
    }

    /// Has fjall begin a new journal, whatever the size of the present one.
    ///
    /// Replaying takes its time by row, and the rows of marks are small: a journal that is let grow to
    /// fjall's fixed size may hold a million. Nothing but size makes fjall begin a new one, so the journal
    /// is padded. The padding is never flushed to a table.
    pub(crate) fn seal_journal(&self) -> fjall::Result<()> {
        // Shorter than what fjall compresses, and shared by all rows of padding.
        let padding = fjall::UserValue::new(&[0; 4_000]);
        for _ in 0..JOURNAL_BYTES / PADDING_BYTES + 1 {
            let mut batch = self.database.batch().durability(Some(PersistMode::Buffer));
            for number in 0..PADDING_BYTES as u32 / 4_000 {
                batch.insert(&self.padding, number.to_be_bytes(), padding.clone());
            }
            batch.commit()?;
            self.padding.clear()?;
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
            batch.insert(table, keys::SENTINEL, []);
        }
        batch.commit()?;
        for (_, table) in self.all() {
            table.rotate_memtable()?;
        }
        Ok(())
    }
}
