//! One conversation as a device keeps it: entries, the ranges of seqs that it has covered, marks.

use std::collections::BTreeMap;

use tidings_core::{ConversationId, Generation, Time, UserId, digest};
use tidings_protocol::entry::{Entry, Role, Settings};
use tidings_protocol::mark::{MarkStep, MemberMarks};
use tidings_protocol::sync::{Conversation, HistoryPage, ReadMark};

/// In conversations of up to so many members everybody is told everybody's marks.
const TOLD_MEMBERS_MAX: usize = 32;

/// A conversation's log as far as this device has it.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// Which life of the log; unknown until the server told.
    pub generation: Option<Generation>,
    /// The highest head that the server told.
    pub head: u64,
    /// The time of its entry, as a summary told it last.
    head_at_told: Time,
    /// Everything up to here is covered.
    pub level: u64,
    /// What is covered above a gap.
    ahead: Vec<(u64, u64)>,
    /// The entries, by seq.
    pub entries: BTreeMap<u64, Entry>,
    /// Members with their marks as the server told them last; empty in a large group.
    pub told: BTreeMap<UserId, MemberMarks>,
    /// The highest marks that were ever told: what a screen shows.
    pub ticks: BTreeMap<UserId, MemberMarks>,
    /// My own read mark.
    pub read: ReadMark,
    /// Where I last came in.
    pub joined: u64,
    /// My unread messages as the server counted them last.
    pub unread_told: u64,
    /// My role.
    pub role: Option<Role>,
    /// Name, policies, retention.
    pub settings: Settings,
    /// The first entry that I may see.
    pub from: u64,
    /// Entries up to here are no longer kept by the server.
    pub trimmed: u64,
    /// I am no longer in it.
    pub out: bool,
    /// An event said so, and none that I am back.
    pub gone: bool,
    /// What the entries do not tell has changed: ask.
    pub stale: bool,
    /// The server's head may be below what I have: a page tells.
    pub suspect: bool,
    /// As far as this device has acknowledged.
    pub acknowledged: u64,
    /// How often the server said that my log is not its log.
    pub resets: u64,
}

impl Log {
    /// Whether nothing is missing as far as is known.
    #[must_use]
    pub fn is_level(&self) -> bool {
        self.out || !(self.lacks() || self.stale || self.generation.is_none())
    }

    /// Whether a page is to be asked for.
    #[must_use]
    pub fn lacks(&self) -> bool {
        self.level < self.head || self.suspect
    }

    /// The texts of the messages in order, deleted ones as `None`.
    #[must_use]
    pub fn texts(&self) -> Vec<Option<String>> {
        self.entries
            .values()
            .filter(|entry| entry.kind.0 == tidings_core::Kind::Message)
            .map(|entry| entry.content.as_ref().map(|content| content.text.clone()))
            .collect()
    }

    /// The texts of the messages that are not erased.
    #[must_use]
    pub fn said(&self) -> Vec<String> {
        self.texts().into_iter().flatten().collect()
    }

    /// Messages by others that I have not read, counted one by one.
    #[must_use]
    pub fn unread(&self, me: UserId) -> u64 {
        let base = self.read.seq.max(self.joined);
        let unread = self
            .entries
            .range(base + 1..)
            .filter(|(_, entry)| entry.counts && entry.author != me);
        unread.count() as u64
    }

    /// The time of the entry at the head: my own copy's, or as the server told.
    fn head_at(&self) -> Time {
        let entry = self.entries.get(&self.head);
        entry.map_or(self.head_at_told, |entry| entry.at)
    }

    /// What it contributes to the digest of `me`.
    #[must_use]
    pub fn digest(&self, id: ConversationId, me: UserId) -> u64 {
        let Some(generation) = self.generation.filter(|_| !self.out) else {
            return 0;
        };
        let mut sum = digest::add(
            digest::head(id, generation, self.head, self.head_at()),
            digest::read(id, me, self.read.seq),
        );
        for (&user, marks) in self.told.iter().filter(|(user, _)| **user != me) {
            sum = digest::add(sum, digest::delivered(id, user, marks.delivered));
            sum = digest::add(sum, digest::shown(id, user, marks.shown));
        }
        sum
    }

    /// Takes what the server says of the conversation. Answers whether the log is another one now.
    pub fn take_summary(&mut self, summary: &Conversation) -> bool {
        let other = self
            .generation
            .is_some_and(|generation| generation != summary.generation);
        if other {
            self.reset();
        }
        if self.joined > 0 && summary.joined.seq > self.joined {
            // I went and came back, perhaps to see more than before: page from the first that I may see.
            self.level = self.level.min(summary.from - 1);
            self.ahead.clear();
        }
        self.generation = Some(summary.generation);
        self.head = self.head.max(summary.head);
        self.head_at_told = summary.at;
        self.from = summary.from;
        self.trimmed = summary.trimmed;
        self.role = Some(summary.role);
        self.settings = summary.settings.clone();
        self.joined = summary.joined.seq;
        self.unread_told = summary.unread;
        self.read = summary.read;
        self.out = false;
        self.gone = false;
        self.stale = false;
        self.told = summary
            .members
            .iter()
            .map(|member| (member.user, member.marks))
            .collect();
        for member in &summary.members {
            let ticks = self.ticks.entry(member.user).or_default();
            ticks.delivered = ticks.delivered.max(member.marks.delivered);
            ticks.shown = ticks.shown.max(member.marks.shown);
        }
        other
    }

    /// Takes a step of somebody's marks.
    ///
    /// # Errors
    /// When it tells what is not for me.
    pub fn take_step(&mut self, step: &MarkStep, me: UserId) -> Result<(), String> {
        // Somebody has what I have not heard of yet: there is more.
        let highest = step.delivered.max(step.shown).unwrap_or(0);
        self.head = self.head.max(highest);
        if let Some(read) = step.read {
            if step.user != me {
                return Err(format!("somebody else's read mark was told: {step:?}"));
            }
            if read.seq > self.read.seq {
                self.read = read;
            }
        }
        if self.told.contains_key(&step.user) || self.told.len() < TOLD_MEMBERS_MAX {
            let told = self.told.entry(step.user).or_default();
            told.delivered = step.delivered.unwrap_or(told.delivered);
            told.shown = step.shown.unwrap_or(told.shown);
        }
        let ticks = self.ticks.entry(step.user).or_default();
        ticks.delivered = ticks.delivered.max(step.delivered.unwrap_or(0));
        ticks.shown = ticks.shown.max(step.shown.unwrap_or(0));
        Ok(())
    }

    /// Takes entries that cover a range.
    ///
    /// # Errors
    /// When they break a rule: out of the range, out of order, or not what was told before.
    pub fn cover(&mut self, from: u64, to: u64, entries: &[Entry]) -> Result<(), String> {
        if from == 0 || to + 1 < from {
            return Err(format!("covers {from} to {to}"));
        }
        let mut before = from.saturating_sub(1);
        for entry in entries {
            if entry.seq <= before || entry.seq > to {
                return Err(format!(
                    "seq {} after {before} in a range of {from} to {to}",
                    entry.seq
                ));
            }
            before = entry.seq;
            self.take_entry(entry)?;
        }
        self.head = self.head.max(to);
        self.ahead.push((from, to));
        self.ahead.sort_unstable();
        for &(from, to) in &self.ahead {
            if from <= self.level + 1 {
                self.level = self.level.max(to);
            }
        }
        let level = self.level;
        self.ahead.retain(|&(_, to)| to > level);
        Ok(())
    }

    /// Takes a page of history, with what has become of its entries.
    ///
    /// # Errors
    /// When it breaks a rule.
    pub fn take_page(&mut self, page: &HistoryPage) -> Result<(), String> {
        self.generation.get_or_insert(page.generation);
        self.cover(page.from, page.to, &page.entries)?;
        if std::mem::take(&mut self.suspect) {
            let ahead = self.ahead.iter().map(|(_, to)| *to).max().unwrap_or(0);
            self.head = page.head.max(self.level).max(ahead);
        }
        self.head = self.head.max(page.head);
        self.trimmed = self.trimmed.max(page.trimmed);
        for alteration in &page.alterations {
            if !page
                .entries
                .iter()
                .any(|entry| entry.seq == alteration.target)
            {
                return Err(format!("alters what is not in the page: {alteration:?}"));
            }
            if alteration.deleted.is_some() {
                self.erase(alteration.target);
            }
        }
        Ok(())
    }

    fn take_entry(&mut self, entry: &Entry) -> Result<(), String> {
        if let Some(had) = self.entries.get(&entry.seq) {
            if !is_same(had, entry) {
                let (before, now) = (without_body(had), without_body(entry));
                return Err(format!("was {before:?}, is now {now:?}"));
            }
            let erased = is_erased(had) || is_erased(entry);
            if !erased && had.content != entry.content {
                return Err(format!("another body: {had:?}, {entry:?}"));
            }
        }
        if entry.kind.0.changes_members() {
            self.stale = true;
        }
        if entry.kind.0 == tidings_core::Kind::Delete
            && let Some(target) = entry.target
        {
            self.erase(target);
        }
        self.entries.insert(entry.seq, entry.clone());
        Ok(())
    }

    fn erase(&mut self, target: u64) {
        for (seq, entry) in &mut self.entries {
            if *seq == target
                || (entry.kind.0 == tidings_core::Kind::Edit && entry.target == Some(target))
            {
                *entry = without_body(entry);
            }
        }
    }

    /// Forgets everything that was received: it was of another log.
    pub fn reset(&mut self) {
        self.generation = None;
        self.head = 0;
        self.level = 0;
        self.ahead.clear();
        self.entries.clear();
        self.acknowledged = 0;
        self.ticks.clear();
        self.stale = true;
        self.suspect = false;
        self.resets += 1;
    }
}

/// The envelope of an entry.
#[must_use]
pub fn without_body(entry: &Entry) -> Entry {
    Entry {
        content: None,
        reaction: None,
        ..entry.clone()
    }
}

/// Whether two envelopes are the same entry's. With which device it was written is not always told.
#[must_use]
pub fn is_same(one: &Entry, other: &Entry) -> bool {
    let device = one.device.and(other.device);
    let of = |entry: &Entry| Entry {
        device: device.and(entry.device),
        ..without_body(entry)
    };
    of(one) == of(other)
}

/// Whether a message's body is gone.
#[must_use]
pub fn is_erased(entry: &Entry) -> bool {
    use tidings_core::Kind;
    matches!(entry.kind.0, Kind::Message | Kind::Edit) && entry.content.is_none()
}
