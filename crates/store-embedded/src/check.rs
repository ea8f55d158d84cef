//! The check: every invariant of what is on the disk, each violation in words.
//!
//! It reads one snapshot, so it can run beside a store that is in use ([`crate::EmbeddedStore::check`])
//! as well as on a directory that is not ([`verify`]).

mod beside;
mod blocks;
mod reactions;

use std::collections::HashMap;
use std::path::Path;

use fjall::{Readable, Snapshot};
use tidings_core::codec::decode_body;
use tidings_core::log::{LogId, LogPart, Seq};
use tidings_core::{Body, Kind};
use tidings_store::StoreError;

use self::reactions::Reactions;
use crate::apply;
use crate::bodies::{BodyFiles, HEADER};
use crate::directory::{Directory, OpenError};
use crate::keys;
use crate::rows::{AlterationRow, BodyRow, EntryRow, FileRow, LogRow};
use crate::settings::Settings;
use crate::tables::{Pair, Table, Tables, pair, unreadable};
use crate::{damaged, damaged_row};

/// Further findings are not listed.
const FINDINGS_MAX: usize = 1_000;

/// Verifies the data directory of a store that is not running, after what a crash left in its journal was
/// brought into the tables as a start would do. Nothing is found if the list is empty.
///
/// # Errors
/// When the directory cannot be opened at all; what is wrong inside it is in the list.
pub fn verify(path: &Path) -> Result<Vec<String>, OpenError> {
    let directory = Directory::open_existing(path)?;
    let broken = |what: String| OpenError::Damaged {
        path: path.to_owned(),
        what,
    };
    let opened = apply::open(&directory, &Settings::default())?;
    check(&opened.tables, &opened.files).map_err(|error| broken(error.to_string()))
}

/// Verifies what the tables and body files hold. The journal must be applied and upkeep paused.
pub(crate) fn check(tables: &Tables, files: &BodyFiles) -> Result<Vec<String>, StoreError> {
    let snapshot = tables.database.snapshot();
    let mut check = Check {
        tables,
        files,
        snapshot,
        file_rows: HashMap::new(),
        used: HashMap::new(),
        log: None,
        findings: Vec::new(),
    };
    check.file_rows()?;
    check.logs()?;
    check.strays()?;
    check.clients()?;
    check.targets()?;
    check.marks()?;
    check.steps()?;
    check.states()?;
    check.documents()?;
    check.expiry()?;
    check.tasks()?;
    check.usage();
    Ok(check.findings)
}

struct Check<'a> {
    tables: &'a Tables,
    files: &'a BodyFiles,
    snapshot: Snapshot,
    file_rows: HashMap<u32, FileRow>,
    /// Bytes of each file that live or wait to be overwritten.
    used: HashMap<u32, u64>,
    /// The log looked up last: rows come sorted by log.
    log: Option<(LogId, Option<LogRow>)>,
    findings: Vec<String>,
}

impl Check<'_> {
    fn find(&mut self, finding: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else if self.findings.len() == FINDINGS_MAX {
            self.findings.push("there is more".to_owned());
        }
    }

    fn check(&mut self, holds: bool, finding: impl FnOnce() -> String) {
        if !holds {
            self.find(finding());
        }
    }

    fn rows(&self, table: &Table) -> impl Iterator<Item = Result<Pair, StoreError>> + use<> {
        // The sentinel sorts before all others.
        self.snapshot.range(table.stored(), [0, 0]..).map(pair)
    }

    fn get(&self, table: &Table, key: &[u8]) -> Result<Option<fjall::UserValue>, StoreError> {
        self.snapshot.get(table.stored(), key).map_err(unreadable)
    }

    fn log(&mut self, log: LogId) -> Result<Option<LogRow>, StoreError> {
        if let Some((_, row)) = self.log.filter(|(id, _)| *id == log) {
            return Ok(row);
        }
        let row = self.get(&self.tables.logs, &keys::log(log))?;
        let row = row
            .map(|bytes| LogRow::decode(&bytes).map_err(damaged_row))
            .transpose()?;
        self.log = Some((log, row));
        Ok(row)
    }

    fn entry(&self, log: LogId, seq: Seq) -> Result<Option<EntryRow>, StoreError> {
        let row = self.get(&self.tables.entries, &keys::entry(log, seq))?;
        row.map(|bytes| EntryRow::decode(&bytes).map_err(damaged_row))
            .transpose()
    }

    fn file_rows(&mut self) -> Result<(), StoreError> {
        for row in self
            .snapshot
            .prefix(self.tables.upkeep.stored(), b"b")
            .map(pair)
        {
            let (key, value) = row?;
            let id = keys::parse_file(&key)?;
            let row = FileRow::decode(&value).map_err(damaged_row)?;
            self.file_rows.insert(id, row);
            let is_there = self
                .files
                .has_header(id)
                .map_err(|error| damaged(error.to_string()))?;
            self.check(is_there, || {
                format!("body file {id} is missing or does not begin as one")
            });
        }
        Ok(())
    }

    /// Each log with its entries.
    fn logs(&mut self) -> Result<(), StoreError> {
        for row in self.rows(&self.tables.logs) {
            let (key, value) = row?;
            let id = keys::parse_log(&key)?;
            let name = name(id);
            let row = LogRow::decode(&value).map_err(damaged_row)?;
            self.check(row.generation.0 != [0; 16], || {
                format!("{name} has no generation")
            });
            self.check(row.head > 0, || format!("{name} is there but has no entry"));
            self.check(row.state <= row.head, || {
                format!(
                    "{name} has a state as of {} above its head {}",
                    row.state, row.head
                )
            });
            self.check(row.trimmed <= row.state && row.trimmed <= row.head, || {
                format!(
                    "{name} is trimmed to {} past its durable state {} or head {}",
                    row.trimmed, row.state, row.head
                )
            });
            self.check(
                row.forgotten <= row.swept && row.swept <= row.trimmed,
                || {
                    format!(
                        "{name} has its marks out of order: forgotten {}, swept {}, trimmed {}",
                        row.forgotten, row.swept, row.trimmed
                    )
                },
            );
            let has_state = self.get(&self.tables.states, &keys::log(id))?.is_some();
            self.check(has_state == (row.state > 0), || {
                format!(
                    "{name} names a state as of {}, which is not there",
                    row.state
                )
            });
            let is_swept = self.get(&self.tables.upkeep, &keys::sweep(id))?.is_none();
            self.check(is_swept == (row.swept == row.trimmed), || {
                format!(
                    "{name} is swept to {} of {} trimmed, and the task says otherwise",
                    row.swept, row.trimmed
                )
            });
            self.entries(id, &row)?;
        }
        Ok(())
    }

    fn entries(&mut self, id: LogId, row: &LogRow) -> Result<(), StoreError> {
        let name = name(id);
        let mut last = row.forgotten;
        let mut before: Option<EntryRow> = None;
        let mut reactions = Reactions::of(id, row.trimmed);
        let mut prints = None;
        for entry in self
            .snapshot
            .prefix(self.tables.entries.stored(), keys::log(id))
            .map(pair)
        {
            let (key, value) = entry?;
            let seq = keys::parse_seq(&key)?;
            let entry = match EntryRow::decode(&value) {
                Ok(entry) => entry,
                Err(error) => {
                    self.find(format!(
                        "entry {seq} of {name} cannot be understood: {error}"
                    ));
                    last = seq;
                    continue;
                }
            };
            self.check(seq == last + 1, || {
                format!("{name} has entry {seq} where {} is next", last + 1)
            });
            self.check(entry.envelope.seq == seq, || {
                format!("entry {seq} of {name} calls itself {}", entry.envelope.seq)
            });
            if let Some(before) = &before {
                let (before, this) = (&before.envelope, &entry.envelope);
                self.check(before.at <= this.at, || {
                    format!("time goes back at entry {seq} of {name}")
                });
                self.check(before.ordinal <= this.ordinal, || {
                    format!("the ordinal falls at entry {seq} of {name}")
                });
            }
            self.indexes_of(id, row, &entry)?;
            self.print(id, row, &entry.envelope, &mut prints)?;
            let body = self.body(id, row, &entry)?;
            reactions.take(&entry.envelope, body.as_ref());
            last = seq;
            before = Some(entry);
        }
        self.reactions(reactions)?;
        self.check(last == row.head, || {
            format!("{name} ends with entry {last}, its head is {}", row.head)
        });
        if let Some(EntryRow { envelope, .. }) = before {
            self.check(
                envelope.ordinal == row.ordinal && envelope.at == row.at,
                || format!("the head of {name} has another ordinal or time than its last entry"),
            );
        }
        Ok(())
    }

    fn indexes_of(&mut self, id: LogId, row: &LogRow, entry: &EntryRow) -> Result<(), StoreError> {
        let (name, envelope) = (name(id), &entry.envelope);
        let seq = envelope.seq;
        // Of reactions those that stand are indexed: that is held against the log as a whole.
        let target = envelope.target.filter(|_| envelope.alters_target());
        if let Some(target) = target.filter(|_| envelope.kind != Kind::Reaction) {
            let altered = self.get(&self.tables.targets, &keys::target(id, target, seq))?;
            let altered = altered
                .map(|value| AlterationRow::decode(&value).map_err(damaged_row))
                .transpose()?;
            let is_right = altered
                .is_some_and(|row| row.kind == envelope.kind && row.author == envelope.author);
            self.check(is_right, || {
                format!("entry {seq} of {name} alters entry {target}, and the index by target does not say so")
            });
        }
        if let Some(expires) = envelope
            .expires
            .filter(|_| entry.body != BodyRow::Erased && seq > row.trimmed)
        {
            let expiry = self.get(&self.tables.expiry, &keys::expiry(expires, id, seq))?;
            self.check(expiry.is_some(), || {
                format!("entry {seq} of {name} expires, and nobody will notice")
            });
        }
        Ok(())
    }

    /// Checks an entry's body. Answers it, if it must be there and can be read.
    fn body(
        &mut self,
        id: LogId,
        row: &LogRow,
        entry: &EntryRow,
    ) -> Result<Option<Body>, StoreError> {
        let (name, seq, kind) = (name(id), entry.envelope.seq, entry.envelope.kind);
        let BodyRow::At(place) = entry.body else {
            let needs_none = matches!(kind, Kind::Delete | Kind::Leave);
            self.check(needs_none || entry.body == BodyRow::Erased, || {
                format!("entry {seq} of {name} has no body and is not erased")
            });
            return Ok(None);
        };
        if seq <= row.swept {
            return Ok(None);
        }
        *self.used.entry(place.file).or_default() += u64::from(place.length);
        let end = place.offset + u64::from(place.length);
        let is_inside = self
            .file_rows
            .get(&place.file)
            .is_some_and(|file| place.offset >= HEADER && end <= file.end);
        self.check(is_inside, || {
            format!("the body of entry {seq} of {name} lies outside the body files")
        });
        if seq <= row.trimmed || !is_inside {
            // A trimmed one may be overwritten already.
            return Ok(None);
        }
        let body = match self
            .files
            .read(&place)
            .map_err(|error| damaged(error.to_string()))?
        {
            None => {
                self.find(format!(
                    "the body of entry {seq} of {name} is not what was written"
                ));
                None
            }
            Some(bytes) => {
                let body = decode_body(kind, &bytes);
                self.check(body.is_ok(), || {
                    format!("the body of entry {seq} of {name} cannot be understood")
                });
                body.ok()
            }
        };
        Ok(body)
    }

    /// Every byte of a body file lives, is dead, or waits to be overwritten.
    fn usage(&mut self) {
        let mut files: Vec<_> = self.file_rows.iter().map(|(&id, &row)| (id, row)).collect();
        files.sort_unstable_by_key(|(id, _)| *id);
        for (id, row) in files {
            let used = self.used.get(&id).copied().unwrap_or_default();
            self.check(HEADER + used + row.dead == row.end, || {
                format!(
                    "body file {id} ends at {}, but {used} bytes are used and {} are dead",
                    row.end, row.dead
                )
            });
        }
    }
}

fn name(log: LogId) -> String {
    match log.part {
        LogPart::Conversation => format!("log {}", tidings_core::ConversationId(log.owner)),
        LogPart::Membership => {
            format!("membership log {}", tidings_core::ConversationId(log.owner))
        }
        LogPart::Device => format!("device log {}", tidings_core::DeviceId(log.owner)),
    }
}
