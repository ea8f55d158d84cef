//! The SQLite file: its form, its lock, its rows. Only this module speaks SQL.

use std::fs::{self, TryLockError};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tidings_client::{Read, Row, Snapshot, StoreOp, Table};

use super::StoreError;
use crate::private;

/// The format that is written. Tables that a newer client adds are made when the file is opened; a change
/// of the form of the tables themselves is a new number.
const FORMAT: i64 = 1;
/// "tdng": so that `file` and others can tell what it is.
const APPLICATION_ID: i64 = 0x7464_6e67;

pub(super) struct File {
    connection: Connection,
    path: PathBuf,
    /// Held for as long as the file is open.
    _lock: fs::File,
}

impl File {
    pub(super) fn open(path: &Path) -> Result<File, StoreError> {
        let lock = lock(path)?;
        let failed = |error| StoreError::Sqlite(path.to_owned(), error);
        // Made here, for nobody else to read; the files beside it get the same permissions from SQLite.
        private::open(path).map_err(|error| StoreError::Io(path.to_owned(), error))?;
        let connection = Connection::open(path).map_err(failed)?;
        check_format(&connection, path)?;
        // What is deleted is overwritten: a message that vanished is not to be found in the file.
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA cache_size = -4096;",
            )
            .map_err(failed)?;
        let mut schema = String::from("BEGIN;");
        for table in Table::ALL {
            let name = table.name();
            schema += &format!(
                "CREATE TABLE IF NOT EXISTS {name} (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID, STRICT;"
            );
        }
        schema += &format!(
            "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FORMAT}; COMMIT;"
        );
        connection.execute_batch(&schema).map_err(failed)?;
        Ok(File {
            connection,
            path: path.to_owned(),
            _lock: lock,
        })
    }

    pub(super) fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let mut rows = Vec::new();
        for table in Table::ALL
            .into_iter()
            .filter(|table| table.is_in_snapshot())
        {
            let all = Read {
                table,
                from: Vec::new(),
                to: Vec::new(),
                limit: usize::MAX,
            };
            let found = self.rows("WHERE key >= ?1 AND ?2 = ?2", &all);
            rows.extend(
                found
                    .map_err(|error| self.failed(error))?
                    .into_iter()
                    .map(|row| (table, row)),
            );
        }
        Ok(Snapshot { rows })
    }

    pub(super) fn write(&mut self, ops: &[StoreOp]) -> Result<(), StoreError> {
        let path = &self.path;
        let failed = |error| StoreError::Sqlite(path.clone(), error);
        let transaction = self.connection.transaction().map_err(failed)?;
        for op in ops {
            apply(&transaction, op).map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    pub(super) fn load(&self, reads: &[Read]) -> Result<Vec<Vec<Row>>, StoreError> {
        let load = |read| self.rows("WHERE key >= ?1 AND key < ?2", read);
        reads
            .iter()
            .map(load)
            .collect::<Result<_, _>>()
            .map_err(|error| self.failed(error))
    }

    /// Leaves one file, not three. If it fails the log is simply read when it is opened again.
    pub(super) fn close(self) {
        let _ = self
            .connection
            .execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);");
    }

    fn rows(&self, condition: &str, read: &Read) -> rusqlite::Result<Vec<Row>> {
        let sql = format!(
            "SELECT key, value FROM {} {condition} ORDER BY key LIMIT ?3",
            read.table.name()
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let limit = i64::try_from(read.limit).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![read.from, read.to, limit], |row| {
            Ok(Row {
                key: row.get(0)?,
                value: row.get(1)?,
            })
        })?;
        rows.collect()
    }

    fn failed(&self, error: rusqlite::Error) -> StoreError {
        StoreError::Sqlite(self.path.clone(), error)
    }
}

fn apply(transaction: &Transaction<'_>, op: &StoreOp) -> rusqlite::Result<()> {
    match op {
        StoreOp::Put { table, key, value } => {
            let sql = format!(
                "INSERT OR REPLACE INTO {} (key, value) VALUES (?1, ?2)",
                table.name()
            );
            transaction
                .prepare_cached(&sql)?
                .execute(params![key, value])?;
        }
        StoreOp::Delete { table, key } => {
            let sql = format!("DELETE FROM {} WHERE key = ?1", table.name());
            transaction.prepare_cached(&sql)?.execute(params![key])?;
        }
        StoreOp::DeletePrefix { table, prefix } => {
            let table = table.name();
            match after_prefix(prefix) {
                Some(end) => transaction
                    .prepare_cached(&format!("DELETE FROM {table} WHERE key >= ?1 AND key < ?2"))?
                    .execute(params![prefix, end])?,
                None => transaction
                    .prepare_cached(&format!("DELETE FROM {table} WHERE key >= ?1"))?
                    .execute(params![prefix])?,
            };
        }
    }
    Ok(())
}

/// The first key after all that begin with this; `None` if there is none.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix.get(..=last)?.to_vec();
    if let Some(byte) = end.last_mut() {
        *byte += 1;
    }
    Some(end)
}

fn check_format(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let number =
        |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let read = || -> rusqlite::Result<(i64, i64, bool)> {
        let first = connection
            .query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(()))
            .optional()?;
        Ok((
            number("application_id")?,
            number("user_version")?,
            first.is_none(),
        ))
    };
    match read() {
        Ok((0, 0, true)) => Ok(()),
        Ok((APPLICATION_ID, FORMAT, _)) => Ok(()),
        Ok((APPLICATION_ID, format, _)) => Err(StoreError::TooNew(path.to_owned(), format, FORMAT)),
        Ok(_) => Err(StoreError::Foreign(path.to_owned())),
        Err(error) if error.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            Err(StoreError::Foreign(path.to_owned()))
        }
        Err(error) => Err(StoreError::Sqlite(path.to_owned(), error)),
    }
}

/// One program at a time: two would send the same outbox and fight over the marks.
fn lock(path: &Path) -> Result<fs::File, StoreError> {
    let lock_path = path.with_extension("lock");
    let failed = |error| StoreError::Io(lock_path.clone(), error);
    let mut file = private::open(&lock_path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Only to say who it is.
            let _ = file.read_to_string(&mut text);
            return Err(StoreError::Locked(
                path.to_owned(),
                text.trim().parse().ok(),
            ));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    file.set_len(0).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(file)
}
