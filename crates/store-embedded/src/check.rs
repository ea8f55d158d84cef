//! The check: every invariant of what is on the disk, each violation in words.
//!
//! It reads one snapshot, so it can run beside a store that is in use ([`crate::EmbeddedStore::check`])
//! as well as on a directory that is not ([`verify`]).

use std::collections::HashMap;
use std::path::Path;

use fjall::{Readable, Snapshot};
use tidings_core::Kind;
use tidings_core::codec::{decode_body, decode_member, decode_state};
use tidings_core::log::{LogId, LogPart, Seq};
use tidings_core::mark::MarkKind;
use tidings_store::StoreError;

use crate::bodies::{BodyFiles, HEADER};
use crate::directory::{Directory, OpenError};
use crate::keys;
use crate::read::{Pair, pair};
use crate::rows::{self, AlterationRow, BodyRow, EntryRow, FileRow, LogRow};
use crate::settings::Settings;
use crate::tables::Tables;
use crate::{damaged, damaged_row};

/// Further findings are not listed.
const FINDINGS_MAX: usize = 1_000;

/// Verifies the data directory of a store that is not running. Nothing is found if the list is empty.
///
/// # Errors
/// When the directory cannot be opened at all; what is wrong inside it is in the list.
pub fn verify(path: &Path) -> Result<Vec<String>, OpenError> {
    let directory = Directory::open_existing(path)?;
    let broken = |what: String| OpenError::Damaged {
        path: path.to_owned(),
        what,
    };
    let tables = Tables::open(&directory.rows(), &Settings::default())
        .map_err(|error| broken(error.to_string()))?;
    let files = BodyFiles::new(directory.bodies());
    check(&tables, &files).map_err(|error| broken(error.to_string()))
}

/// Verifies what the tables and body files hold now. Upkeep must be paused.
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

    fn rows(
        &self,
        table: &fjall::Keyspace,
    ) -> impl Iterator<Item = Result<Pair, StoreError>> + use<> {
        // The sentinel sorts before all others.
        self.snapshot.range(table, [0, 0]..).map(pair)
    }

    fn get(
        &self,
        table: &fjall::Keyspace,
        key: &[u8],
    ) -> Result<Option<fjall::UserValue>, StoreError> {
        self.snapshot
            .get(table, key)
            .map_err(|error| damaged(format!("a read failed: {error}")))
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
        for row in self.snapshot.prefix(&self.tables.upkeep, b"b").map(pair) {
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
        for entry in self
            .snapshot
            .prefix(&self.tables.entries, keys::log(id))
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
            self.body(id, row, &entry)?;
            last = seq;
            before = Some(entry);
        }
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
        let client = keys::client(id, envelope.author, envelope.client_id, seq);
        let client = self.get(&self.tables.clients, &client)?;
        let at = client
            .map(|value| rows::decode_number(&value).map_err(damaged_row))
            .transpose()?;
        self.check(at == Some(envelope.at.0), || {
            format!("the client id of entry {seq} of {name} is not indexed, or with another time")
        });
        if let Some(target) = envelope.target.filter(|_| envelope.alters_target()) {
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

    fn body(&mut self, id: LogId, row: &LogRow, entry: &EntryRow) -> Result<(), StoreError> {
        let (name, seq, kind) = (name(id), entry.envelope.seq, entry.envelope.kind);
        let BodyRow::At(place) = entry.body else {
            let needs_none = matches!(kind, Kind::Delete | Kind::Leave);
            self.check(needs_none || entry.body == BodyRow::Erased, || {
                format!("entry {seq} of {name} has no body and is not erased")
            });
            return Ok(());
        };
        if seq <= row.swept {
            return Ok(());
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
            return Ok(());
        }
        match self
            .files
            .read(&place)
            .map_err(|error| damaged(error.to_string()))?
        {
            None => self.find(format!(
                "the body of entry {seq} of {name} is not what was written"
            )),
            Some(bytes) => {
                let body = decode_body(kind, &bytes);
                self.check(body.is_ok(), || {
                    format!("the body of entry {seq} of {name} cannot be understood")
                });
            }
        }
        Ok(())
    }

    /// Entries of logs that are not there.
    fn strays(&mut self) -> Result<(), StoreError> {
        let mut from = keys::entry(
            LogId {
                owner: [0; 16],
                part: LogPart::Conversation,
            },
            0,
        )
        .to_vec();
        while let Some(row) = self
            .snapshot
            .range(&self.tables.entries, from..)
            .map(pair)
            .next()
        {
            let (key, _) = row?;
            let log = keys::parse_log(&key)?;
            let is_there = self.log(log)?.is_some();
            self.check(is_there, || {
                format!("{} has entries but is not there", name(log))
            });
            from = keys::entry(log, Seq::MAX).to_vec();
        }
        Ok(())
    }

    fn clients(&mut self) -> Result<(), StoreError> {
        for row in self.rows(&self.tables.clients) {
            let (key, _) = row?;
            let log = keys::parse_log(&key)?;
            let seq = u64::from_be_bytes(keys::bytes(&key, 49)?);
            let (author, client_id) = (keys::bytes::<16>(&key, 17)?, keys::bytes::<16>(&key, 33)?);
            let is_right = self.entry(log, seq)?.is_some_and(|entry| {
                entry.envelope.author.0 == author && entry.envelope.client_id.0 == client_id
            });
            self.check(is_right, || {
                format!(
                    "a client id of {} points to entry {seq}, which is another",
                    name(log)
                )
            });
        }
        Ok(())
    }

    fn targets(&mut self) -> Result<(), StoreError> {
        for row in self.rows(&self.tables.targets) {
            let (key, _) = row?;
            let log = keys::parse_log(&key)?;
            let (target, seq) = (
                keys::parse_seq(&key)?,
                u64::from_be_bytes(keys::bytes(&key, 25)?),
            );
            let is_right = self
                .entry(log, seq)?
                .is_some_and(|entry| entry.envelope.target == Some(target));
            self.check(is_right, || {
                format!(
                    "the index by target of {} says that {seq} alters {target}, and it does not",
                    name(log)
                )
            });
        }
        Ok(())
    }

    fn marks(&mut self) -> Result<(), StoreError> {
        for row in self.rows(&self.tables.marks) {
            let (key, value) = row?;
            let key = keys::bytes(&key, 0)?;
            let mark = keys::parse_mark(&key)?;
            let seq = rows::decode_mark(&value).map_err(damaged_row)?.seq;
            let head = self.log(mark.log)?.map_or(0, |row| row.head);
            self.check(seq <= head, || {
                format!(
                    "a mark ({:?}) of {} is at {seq}, above the head {head}",
                    mark.kind,
                    name(mark.log)
                )
            });
            if keys::is_in_inbox(&key) {
                let inbox = self.get(&self.tables.inbox, &keys::inbox_of_mark(&key))?;
                self.check(inbox.as_ref() == Some(&value), || {
                    format!(
                        "a mark ({:?}) of {} is not the same in the inbox",
                        mark.kind,
                        name(mark.log)
                    )
                });
            }
        }
        for row in self.rows(&self.tables.inbox) {
            let (key, _) = row?;
            let key = keys::mark_of_inbox(&keys::bytes(&key, 0)?);
            let is_there = self.get(&self.tables.marks, &key)?.is_some();
            self.check(is_there, || {
                "an inbox has a mark that is not there".to_owned()
            });
        }
        Ok(())
    }

    fn steps(&mut self) -> Result<(), StoreError> {
        for row in self.rows(&self.tables.steps) {
            let (key, _) = row?;
            let step = keys::parse_step(&key)?;
            let head = self.log(step.log)?.map_or(0, |row| row.head);
            self.check(step.seq <= head, || {
                format!(
                    "a step of {} is at {}, above the head {head}",
                    name(step.log),
                    step.seq
                )
            });
        }
        Ok(())
    }

    fn states(&mut self) -> Result<(), StoreError> {
        for row in self.rows(&self.tables.states) {
            let (key, value) = row?;
            let log = keys::parse_log(&key)?;
            let name = name(log);
            let (seq, bytes) = rows::decode_numbered(&value).map_err(damaged_row)?;
            let Some(row) = self.log(log)? else {
                self.find(format!("{name} has a state but is not there"));
                continue;
            };
            self.check(row.state == seq, || {
                format!(
                    "{name} names a state as of {}, it is as of {seq}",
                    row.state
                )
            });
            // The logs of devices have states that say nothing but how far they may be trimmed.
            if log.part == LogPart::Conversation && !bytes.is_empty() {
                match decode_state(&bytes) {
                    Err(error) => {
                        self.find(format!("the state of {name} cannot be understood: {error}"))
                    }
                    Ok(state) => {
                        self.check(state.seq == seq && state.generation == row.generation, || {
                            format!("the state of {name} is of another seq or generation than the log says")
                        });
                        self.members(log, seq, state.member_count)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The members of a state as of `seq` are as many as it says, and in or out as their marks say.
    fn members(&mut self, log: LogId, seq: Seq, count: u32) -> Result<(), StoreError> {
        let (mut inside, name) = (0, name(log));
        for row in self
            .snapshot
            .prefix(&self.tables.members, keys::log(log))
            .map(pair)
        {
            let (key, value) = row?;
            let user = keys::bytes(&key, keys::LOG)?;
            let Ok(member) = decode_member(&value) else {
                self.find(format!("a member of {name} cannot be understood"));
                continue;
            };
            inside += u32::from(member.is_in());
            let mark = |kind| match self.get(&self.tables.marks, &keys::mark(log, user, kind, 0))? {
                Some(bytes) => {
                    Ok::<_, StoreError>(rows::decode_mark(&bytes).map_err(damaged_row)?.seq)
                }
                None => Ok(0),
            };
            let (joined, left) = (mark(MarkKind::Joined)?, mark(MarkKind::Left)?);
            // The state may be older than the marks.
            self.check(
                joined > seq || left > seq || member.is_in() == (joined > left),
                || {
                    let user = tidings_core::UserId(user);
                    format!(
                        "{user} in {name}: the state says in: {}, joined {joined}, left {left}",
                        member.is_in()
                    )
                },
            );
        }
        self.check(inside == count, || {
            format!("{name} counts {count} members, {inside} are in")
        });
        Ok(())
    }

    fn documents(&mut self) -> Result<(), StoreError> {
        let last = match self.get(&self.tables.upkeep, &keys::LAST_VERSION)? {
            Some(bytes) => rows::decode_number(&bytes).map_err(damaged_row)?,
            None => 0,
        };
        for row in self.rows(&self.tables.documents) {
            let (key, value) = row?;
            let kind = key.first().copied().unwrap_or_default();
            match rows::decode_numbered(&value) {
                Err(error) => self.find(format!(
                    "a document of kind {kind} cannot be understood: {error}"
                )),
                Ok((version, _)) => self.check((1..=last).contains(&version), || {
                    format!(
                        "a document of kind {kind} has version {version}, the last given was {last}"
                    )
                }),
            }
        }
        Ok(())
    }

    fn expiry(&mut self) -> Result<(), StoreError> {
        for row in self.rows(&self.tables.expiry) {
            let (key, _) = row?;
            let (at, log, seq) = keys::parse_expiry(&key)?;
            let is_right = self.entry(log, seq)?.is_some_and(|entry| {
                entry.envelope.expires == Some(at) && entry.body != BodyRow::Erased
            });
            self.check(is_right, || {
                format!(
                    "entry {seq} of {} is listed to expire, and does not",
                    name(log)
                )
            });
        }
        Ok(())
    }

    fn tasks(&mut self) -> Result<(), StoreError> {
        for row in self.snapshot.prefix(&self.tables.upkeep, b"z").map(pair) {
            let (key, value) = row?;
            let (file, _) = keys::parse_zero(&key)?;
            *self.used.entry(file).or_default() +=
                rows::decode_number(&value).map_err(damaged_row)?;
        }
        for row in self.snapshot.prefix(&self.tables.upkeep, b"t").map(pair) {
            let (key, _) = row?;
            let log = keys::parse_log(key.get(1..).unwrap_or_default())?;
            let is_there = self.log(log)?.is_some();
            self.check(is_there, || {
                format!("{} is to be swept but is not there", name(log))
            });
        }
        for row in self.snapshot.prefix(&self.tables.upkeep, b"f").map(pair) {
            let (key, _) = row?;
            let (_, log, up_to) = keys::parse_forget(&key)?;
            let swept = self.log(log)?.map_or(0, |row| row.swept);
            self.check(up_to <= swept, || {
                format!(
                    "{} is to be forgotten up to {up_to}, its bodies only went up to {swept}",
                    name(log)
                )
            });
        }
        Ok(())
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
