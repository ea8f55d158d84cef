//! Backups: a copy of the store as of one moment, made while it runs, and what has to be done to one
//! before it is used.
//!
//! The copy is a data directory like any other. Its rows are read from a snapshot and written anew, its
//! body files are copied as far as the snapshot knows them. What must not be in a backup is not in it:
//! bodies of logs that keep them only until delivered, and bodies that are erased or trimmed and merely
//! wait to be overwritten.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use fjall::{PersistMode, Readable, Snapshot};
use tidings_core::codec::{decode_state, encode_state};
use tidings_core::conversation::Retention;
use tidings_core::log::{Generation, LogId};
use tidings_store::StoreError;

use crate::apply;
use crate::bodies::{BodyFiles, sync_folder};
use crate::directory::{Directory, OpenError};
use crate::keys;
use crate::read::Reader;
use crate::rows::{self, BodyRow, EntryRow, FileRow, LogRow};
use crate::settings::Settings;
use crate::tables::{Tables, pair};
use crate::{damaged, damaged_row};

/// Rows of one commit when generations are changed.
const BATCH_ROWS: usize = 1_000;

/// Why a backup was not made.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is something where the backup should go.
    #[error("{0} is there already; choose another destination, or remove it first")]
    Exists(PathBuf),
    /// The destination cannot be written.
    #[error("the backup at {path} cannot be written: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// The destination cannot be set up as a data directory.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is in a backup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupReport {
    /// Logs.
    pub logs: u64,
    /// Entries, with or without body.
    pub entries: u64,
    /// Bodies left out because their logs keep them only until delivered.
    pub bodies_left_out: u64,
    /// Bytes of body files.
    pub body_bytes: u64,
}

/// Makes the copy. Upkeep must be paused, so that no body that the snapshot names is overwritten.
pub(crate) fn copy(reader: &Reader, destination: &Path) -> Result<BackupReport, BackupError> {
    let mut partial = destination.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    for path in [destination, &partial] {
        if path.exists() {
            return Err(BackupError::Exists(path.to_owned()));
        }
    }
    let failed = |error| BackupError::Io {
        path: destination.to_owned(),
        error,
    };
    let report = copy_to(reader, &partial).inspect_err(|_| {
        // What is there so far may hold bodies that must not be in a backup.
        let _ = std::fs::remove_dir_all(&partial);
    })?;
    std::fs::rename(&partial, destination).map_err(failed)?;
    if let Some(parent) = destination
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        sync_folder(parent).map_err(failed)?;
    }
    Ok(report)
}

fn copy_to(reader: &Reader, partial: &Path) -> Result<BackupReport, BackupError> {
    let failed = |error| BackupError::Io {
        path: partial.to_owned(),
        error,
    };
    let directory = Directory::open(partial)?;
    let to = Tables::open(&directory.rows(), &Settings::default());
    let mut copy = Copy {
        snapshot: reader.tables.database.snapshot(),
        from: &reader.tables,
        to: to.map_err(|error| failed(io::Error::other(error)))?,
        files: BodyFiles::new(directory.bodies()),
        file_rows: HashMap::new(),
        places: HashMap::new(),
        not_expiring: HashSet::new(),
        report: BackupReport::default(),
    };
    copy.body_files(&reader.files)
        .map_err(|error| error.at(partial))?;
    copy.entries().map_err(|error| error.at(partial))?;
    copy.erased_places()?;
    copy.overwrite().map_err(failed)?;
    copy.other_tables().map_err(|error| error.at(partial))?;
    copy.to
        .database
        .persist(PersistMode::SyncAll)
        .map_err(|error| failed(io::Error::other(error)))?;
    let report = copy.report;
    drop(copy);
    sync_folder(&directory.bodies()).map_err(failed)?;
    directory.finish()?;
    Ok(report)
}

struct Copy<'a> {
    snapshot: Snapshot,
    from: &'a Tables,
    to: Tables,
    files: BodyFiles,
    /// The body files in the copy.
    file_rows: HashMap<u32, FileRow>,
    /// Places in the copy's body files that must not hold what they hold.
    places: HashMap<u32, Vec<(u64, u64)>>,
    /// Rows of `expiry` whose entries have no body in the copy.
    not_expiring: HashSet<[u8; 33]>,
    report: BackupReport,
}

/// A failure on either side of the copying.
enum CopyError {
    Read(StoreError),
    Write(io::Error),
}

impl CopyError {
    fn at(self, path: &Path) -> BackupError {
        match self {
            CopyError::Read(error) => BackupError::Store(error),
            CopyError::Write(error) => BackupError::Io {
                path: path.to_owned(),
                error,
            },
        }
    }
}

impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> CopyError {
        CopyError::Read(error)
    }
}

fn unwritten(error: fjall::Error) -> CopyError {
    CopyError::Write(io::Error::other(error))
}

impl Copy<'_> {
    fn body_files(&mut self, files: &BodyFiles) -> Result<(), CopyError> {
        for row in self
            .snapshot
            .prefix(self.from.upkeep.stored(), b"b")
            .map(pair)
        {
            let (key, value) = row?;
            let id = keys::parse_file(&key)?;
            let row = FileRow::decode(&value).map_err(damaged_row)?;
            if row.class.is_until_delivered() {
                continue;
            }
            let source = File::open(files.path(id)).map_err(|error| damaged(error.to_string()))?;
            let copied =
                copy_file(source, &self.files.path(id), row.end).map_err(CopyError::Write)?;
            if copied != row.end {
                return Err(damaged(format!(
                    "body file {id} is shorter than what was committed to it"
                ))
                .into());
            }
            self.report.body_bytes += copied;
            self.file_rows.insert(id, row);
        }
        Ok(())
    }

    fn entries(&mut self) -> Result<(), CopyError> {
        let to = self.to.entries.stored().clone();
        let mut ingestion = to.start_ingestion().map_err(unwritten)?;
        let mut log: Option<(LogId, LogRow)> = None;
        for row in self
            .snapshot
            .range(self.from.entries.stored(), [0, 0]..)
            .map(pair)
        {
            let (key, value) = row?;
            let id = keys::parse_log(&key)?;
            let log_row = match log {
                Some((last, row)) if last == id => row,
                _ => self.log(id)?,
            };
            log = Some((id, log_row));
            self.report.entries += 1;
            let mut entry = EntryRow::decode(&value).map_err(damaged_row)?;
            if self.leave_body_out(id, &log_row, &mut entry) {
                ingestion.write(key, entry.encode()).map_err(unwritten)?;
            } else {
                ingestion.write(key, value).map_err(unwritten)?;
            }
        }
        ingestion.finish().map_err(unwritten)
    }

    fn log(&self, id: LogId) -> Result<LogRow, StoreError> {
        let row = self
            .snapshot
            .get(self.from.logs.stored(), keys::log(id))
            .map_err(|error| damaged(error.to_string()))?;
        let row = row.ok_or_else(|| damaged("there are entries of a log that is not there"))?;
        LogRow::decode(&row).map_err(damaged_row)
    }

    /// Erases an entry's body in the copy, if it must not be there.
    fn leave_body_out(&mut self, id: LogId, log: &LogRow, entry: &mut EntryRow) -> bool {
        let seq = entry.envelope.seq;
        let BodyRow::At(place) = entry.body else {
            return false;
        };
        if seq <= log.swept {
            return false;
        }
        let is_copied = self.file_rows.contains_key(&place.file);
        let is_owed = seq > log.trimmed;
        if is_owed && is_copied && log.retention != Retention::UntilDelivered {
            return false;
        }
        if is_copied {
            self.places
                .entry(place.file)
                .or_default()
                .push((place.offset, u64::from(place.length)));
        }
        self.report.bodies_left_out += u64::from(is_owed);
        self.not_expiring.extend(
            entry
                .envelope
                .expires
                .map(|expires| keys::expiry(expires, id, seq)),
        );
        entry.body = BodyRow::Erased;
        true
    }

    /// Whether a reaction that stands has its body in the copy, whose entries are there already.
    fn is_kept(&self, key: &[u8], value: &[u8]) -> Result<bool, StoreError> {
        let seq = rows::decode_number(value).map_err(damaged_row)?;
        let row = self
            .to
            .entries
            .get(&keys::entry(keys::parse_log(key)?, seq))?;
        let entry = row
            .map(|bytes| EntryRow::decode(&bytes).map_err(damaged_row))
            .transpose()?;
        Ok(entry.is_some_and(|entry| entry.body != BodyRow::Erased))
    }

    /// Bodies that are erased and not yet overwritten.
    fn erased_places(&mut self) -> Result<(), StoreError> {
        for row in self
            .snapshot
            .prefix(self.from.upkeep.stored(), b"z")
            .map(pair)
        {
            let (key, value) = row?;
            let (file, offset) = keys::parse_zero(&key)?;
            if self.file_rows.contains_key(&file) {
                let length = rows::decode_number(&value).map_err(damaged_row)?;
                self.places.entry(file).or_default().push((offset, length));
            }
        }
        Ok(())
    }

    fn overwrite(&mut self) -> io::Result<()> {
        for (id, places) in &mut self.places {
            self.files.overwrite(*id, places)?;
            if let Some(row) = self.file_rows.get_mut(id) {
                row.dead += places.iter().map(|(_, length)| length).sum::<u64>();
            }
        }
        Ok(())
    }

    fn other_tables(&mut self) -> Result<(), CopyError> {
        let tables = self.from.all().into_iter().zip(self.to.all());
        for ((name, from), (_, to)) in tables.filter(|((name, _), _)| *name != "entries") {
            let mut ingestion = to.stored().start_ingestion().map_err(unwritten)?;
            for row in self.snapshot.range(from.stored(), [0, 0]..).map(pair) {
                let (key, value) = row?;
                let value = match (name, key.first()) {
                    // The copy has a journal of its own.
                    ("upkeep", Some(b'z' | b'j')) => continue,
                    ("upkeep", Some(b'b')) => match self.file_rows.get(&keys::parse_file(&key)?) {
                        Some(row) => row.encode().into(),
                        None => continue,
                    },
                    ("targets", _) if keys::is_reaction(&key) && !self.is_kept(&key, &value)? => {
                        continue;
                    }
                    ("expiry", _) if self.not_expiring.contains(key.as_ref()) => continue,
                    _ => value,
                };
                self.report.logs += u64::from(name == "logs");
                ingestion.write(key, value).map_err(unwritten)?;
            }
            ingestion.finish().map_err(unwritten)?;
        }
        Ok(())
    }
}

/// Copies the first `length` bytes of a file and syncs them. Answers how many there were.
fn copy_file(source: File, destination: &Path, length: u64) -> io::Result<u64> {
    let mut file = File::create_new(destination)?;
    let copied = io::copy(&mut source.take(length), &mut file)?;
    file.flush()?;
    file.sync_all()?;
    Ok(copied)
}

/// Gives every log of a restored data directory a new generation, so that no client takes positions in
/// what was lost for positions in what is there now. The store must not be running. Answers the new
/// generation; if it fails in between, it is to be repeated.
///
/// # Errors
/// When the directory cannot be opened or written.
pub fn new_generation(path: &Path) -> Result<Generation, BackupError> {
    let failed = |error: fjall::Error| BackupError::Io {
        path: path.to_owned(),
        error: io::Error::other(error),
    };
    let directory = Directory::open_existing(path)?;
    let tables = apply::open(&directory, &Settings::default())?.tables;
    let mut random = [0; 10];
    getrandom::fill(&mut random).map_err(|error| BackupError::Io {
        path: path.to_owned(),
        error: io::Error::other(error),
    })?;
    let generation = Generation::new(crate::upkeep::now(), random);
    let snapshot = tables.database.snapshot();
    let mut batch = tables.database.batch();
    for row in snapshot.range(tables.logs.stored(), [0, 0]..).map(pair) {
        let (key, value) = row?;
        let row = LogRow::decode(&value).map_err(damaged_row)?;
        batch.insert(
            tables.logs.stored(),
            key.clone(),
            LogRow { generation, ..row }.encode(),
        );
        // States that say nothing (of a device's log) name no generation.
        let state = snapshot
            .get(tables.states.stored(), &key)
            .map_err(|error| damaged(error.to_string()))?;
        if let Some((seq, bytes)) = state
            .map(|state| rows::decode_numbered(&state).map_err(damaged_row))
            .transpose()?
            && let Ok(state) = decode_state(&bytes)
        {
            let state = encode_state(&tidings_core::conversation::State {
                generation,
                ..state
            });
            batch.insert(
                tables.states.stored(),
                key,
                rows::encode_numbered(seq, &state),
            );
        }
        if batch.len() >= BATCH_ROWS {
            let full = std::mem::replace(&mut batch, tables.database.batch());
            full.durability(Some(PersistMode::SyncData))
                .commit()
                .map_err(failed)?;
        }
    }
    batch
        .durability(Some(PersistMode::SyncData))
        .commit()
        .map_err(failed)?;
    Ok(generation)
}
