//! The check of what lies beside the entries: indexes, marks, states, documents, tasks.

use tidings_core::Kind;
use tidings_core::codec::{decode_member, decode_state};
use tidings_core::log::{LogId, LogPart, Seq};
use tidings_core::mark::MarkKind;
use tidings_store::StoreError;

use fjall::Readable;

use super::{Check, name};
use crate::client_ids::{Prints, last_of};
use crate::damaged_row;
use crate::keys;
use crate::owner_marks::OwnerMarks;
use crate::rows::{self, BodyRow};
use crate::tables::pair;

impl Check<'_> {
    /// Entries of logs that are not there.
    pub(super) fn strays(&mut self) -> Result<(), StoreError> {
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
            .range(self.tables.entries.stored(), from..)
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

    pub(super) fn clients(&mut self) -> Result<(), StoreError> {
        for row in self.rows(&self.tables.clients) {
            let (key, value) = row?;
            let (log, block) = (keys::parse_log(&key)?, keys::parse_seq(&key)?);
            let (head, forgotten) = self
                .log(log)?
                .map_or((0, 0), |row| (row.head, row.forgotten));
            let is_whole = last_of(block) <= head && last_of(block) > forgotten;
            self.check(is_whole && Prints::decode(&value).is_ok(), || {
                format!(
                    "the client ids of block {block} of {} are indexed, and it has no such block, or they cannot be \
                     understood",
                    name(log)
                )
            });
        }
        Ok(())
    }

    pub(super) fn targets(&mut self) -> Result<(), StoreError> {
        for row in self.rows(&self.tables.targets) {
            let (key, value) = row?;
            let (log, target) = (keys::parse_log(&key)?, keys::parse_seq(&key)?);
            let (seq, reacting) = if keys::is_reaction(&key) {
                let seq = rows::decode_number(&value).map_err(damaged_row)?;
                (seq, Some(keys::parse_reaction_author(&key)?))
            } else {
                (u64::from_be_bytes(keys::bytes(&key, 25)?), None)
            };
            let is_right = self.entry(log, seq)?.is_some_and(|entry| {
                let envelope = &entry.envelope;
                let reacts = envelope.kind == Kind::Reaction && entry.body != BodyRow::Erased;
                envelope.target == Some(target)
                    && reacting.map_or(envelope.kind != Kind::Reaction, |author| {
                        reacts && envelope.author == author
                    })
            });
            self.check(is_right, || {
                format!(
                    "the index by target of {} says that {seq} alters {target}, and it does not",
                    name(log)
                )
            });
        }
        Ok(())
    }

    pub(super) fn marks(&mut self) -> Result<(), StoreError> {
        for row in self.rows(&self.tables.marks) {
            let (key, value) = row?;
            let owner = keys::bytes(&key, 0)?;
            let (log, _) = keys::parse_marks(&owner)?;
            let head = self.log(log)?.map_or(0, |row| row.head);
            let marks = OwnerMarks::decode(&value).map_err(damaged_row)?;
            for (kind, lane, value) in marks.iter() {
                let seq = value.seq;
                // In further lanes that of the head counts something else: the server's heads in many inboxes.
                let is_seq = kind != MarkKind::Head || lane == 0;
                self.check(seq <= head || !is_seq, || {
                    format!(
                        "a mark ({kind:?}) of {} is at {seq}, above the head {head}",
                        name(log)
                    )
                });
                if keys::is_in_inbox(kind) {
                    let inbox = self.get(&self.tables.inbox, &keys::inbox(&owner, kind, lane))?;
                    let is_same = inbox.is_some_and(|inbox| *inbox == rows::encode_mark(&value));
                    self.check(is_same, || {
                        format!(
                            "a mark ({kind:?}) of {} is not the same in the inbox",
                            name(log)
                        )
                    });
                }
            }
        }
        for row in self.rows(&self.tables.inbox) {
            let (key, _) = row?;
            let mark = keys::parse_inbox(&key)?;
            let marks = self.owner_marks(mark.log, mark.owner)?;
            let is_there = marks.get(mark.kind, mark.lane).is_some();
            self.check(is_there, || {
                "an inbox has a mark that is not there".to_owned()
            });
        }
        Ok(())
    }

    fn owner_marks(&self, log: LogId, owner: [u8; 16]) -> Result<OwnerMarks, StoreError> {
        let row = self.get(&self.tables.marks, &keys::marks(log, owner))?;
        let marks = row.map(|bytes| OwnerMarks::decode(&bytes).map_err(damaged_row));
        Ok(marks.transpose()?.unwrap_or_default())
    }

    pub(super) fn steps(&mut self) -> Result<(), StoreError> {
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

    pub(super) fn states(&mut self) -> Result<(), StoreError> {
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
            .prefix(self.tables.members.stored(), keys::log(log))
            .map(pair)
        {
            let (key, value) = row?;
            let user = keys::bytes(&key, keys::LOG)?;
            let Ok(member) = decode_member(&value) else {
                self.find(format!("a member of {name} cannot be understood"));
                continue;
            };
            inside += u32::from(member.is_in());
            let marks = self.owner_marks(log, user)?;
            let seq_of = |kind| marks.get(kind, 0).map_or(0, |value| value.seq);
            let (joined, left) = (seq_of(MarkKind::Joined), seq_of(MarkKind::Left));
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

    pub(super) fn documents(&mut self) -> Result<(), StoreError> {
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

    pub(super) fn expiry(&mut self) -> Result<(), StoreError> {
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

    pub(super) fn tasks(&mut self) -> Result<(), StoreError> {
        for row in self
            .snapshot
            .prefix(self.tables.upkeep.stored(), b"z")
            .map(pair)
        {
            let (key, value) = row?;
            let (file, _) = keys::parse_zero(&key)?;
            *self.used.entry(file).or_default() +=
                rows::decode_number(&value).map_err(damaged_row)?;
        }
        for row in self
            .snapshot
            .prefix(self.tables.upkeep.stored(), b"t")
            .map(pair)
        {
            let (key, _) = row?;
            let log = keys::parse_log(key.get(1..).unwrap_or_default())?;
            let is_there = self.log(log)?.is_some();
            self.check(is_there, || {
                format!("{} is to be swept but is not there", name(log))
            });
        }
        for row in self
            .snapshot
            .prefix(self.tables.upkeep.stored(), b"f")
            .map(pair)
        {
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
}
