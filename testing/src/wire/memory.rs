//! What a device keeps through cuts and restarts: its logs, its outbox, what became of what it sent.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use tidings_core::{ClientId, ConversationId, DeviceId, UserId, digest};
use tidings_protocol::mark::MarkUpdate;
use tidings_protocol::send::{Action, Position, Sent};
use tidings_protocol::{Code, Problem};

use super::log::Log;

/// Marks raised in so long are repeated in the next hello.
const REPEAT_MARKS: Duration = Duration::from_secs(60);

/// To whom something is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a conversation.
    In(ConversationId),
    /// To a user, directly.
    To(UserId),
    /// Nowhere yet: a group is begun.
    New,
}

/// Something in the outbox.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The sender's own id for it.
    pub client_id: ClientId,
    /// Where to.
    pub place: Place,
    /// Where to, as a conversation, if that is known.
    pub conversation: Option<ConversationId>,
    /// As far as the conversation was seen when it was first tried.
    pub after: Option<Position>,
    /// What.
    pub action: Action,
    /// It was tried once: `after` is fixed.
    pub tried: bool,
    /// An answer is waited for on the connection of now.
    pub in_flight: bool,
    /// The request by which it was last tried on the connection of now.
    pub request: u64,
    /// Not again before this moment.
    pub not_before: Option<Instant>,
    /// Not again before the conversation is level.
    pub catch_up: bool,
}

/// What became of something that was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Settled {
    /// It is an entry.
    Sent {
        /// Where.
        conversation: ConversationId,
        /// Which.
        seq: u64,
    },
    /// It was refused for good.
    Refused(Problem),
}

/// What a device keeps.
#[derive(Clone, Debug)]
pub struct Memory {
    /// Whose.
    pub user: UserId,
    /// Which device.
    pub device: DeviceId,
    /// Its conversations.
    pub logs: BTreeMap<ConversationId, Log>,
    /// What is not answered yet, oldest first.
    pub outbox: VecDeque<Pending>,
    /// What is.
    pub settled: HashMap<ClientId, Settled>,
    /// Everything that it sent, in this order.
    pub sent: Vec<(ClientId, Option<ConversationId>)>,
    /// Rules that the server broke.
    pub violations: Vec<String>,
    /// Problems that were answered to something else than a send.
    pub problems: Vec<Problem>,
    /// How far to read, by conversation; told by the test.
    pub read_wanted: BTreeMap<ConversationId, u64>,
    /// Reads whatever comes.
    pub reads_all: bool,
    raised: Vec<(Instant, MarkUpdate)>,
    /// The server told that this device is logged out.
    pub logged_out: Option<Code>,
    /// Why the last connection ended.
    pub lost: Option<super::Lost>,
    /// How often it connected.
    pub connections: u64,
    /// How often the digest told that something was missing.
    pub digest_differed: u64,
    /// What is pushed is lost.
    pub loses_events: bool,
    /// How many events were lost so.
    pub lost_events: u64,
    /// The digest agreed since the last thing that changed.
    pub digest_agrees: bool,
}

impl Memory {
    /// A device that knows nothing yet.
    #[must_use]
    pub fn new(user: UserId, device: DeviceId) -> Memory {
        Memory {
            user,
            device,
            logs: BTreeMap::new(),
            outbox: VecDeque::new(),
            settled: HashMap::new(),
            sent: Vec::new(),
            violations: Vec::new(),
            problems: Vec::new(),
            read_wanted: BTreeMap::new(),
            reads_all: false,
            raised: Vec::new(),
            logged_out: None,
            lost: None,
            connections: 0,
            digest_differed: 0,
            loses_events: false,
            lost_events: 0,
            digest_agrees: false,
        }
    }

    /// A conversation's log.
    #[must_use]
    pub fn log(&self, conversation: ConversationId) -> Log {
        self.logs.get(&conversation).cloned().unwrap_or_default()
    }

    /// The texts of a conversation's messages.
    #[must_use]
    pub fn said(&self, conversation: ConversationId) -> Vec<String> {
        self.log(conversation).said()
    }

    /// How far somebody else has received and shown, as this device's screen has it.
    #[must_use]
    pub fn ticks(&self, conversation: ConversationId, user: UserId) -> (u64, u64) {
        let log = self.log(conversation);
        let marks = log.ticks.get(&user).copied().unwrap_or_default();
        (marks.delivered, marks.shown)
    }

    /// The entry that something sent has become.
    #[must_use]
    pub fn seq_of(&self, client_id: ClientId) -> Option<u64> {
        match self.settled.get(&client_id) {
            Some(Settled::Sent { seq, .. }) => Some(*seq),
            _ => None,
        }
    }

    /// The digest of the inbox as this device has it.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.logs
            .iter()
            .map(|(&id, log)| log.digest(id, self.user))
            .fold(0, digest::add)
    }

    /// Whether nothing is under way and nothing is known to be missing.
    #[must_use]
    pub fn is_level(&self) -> bool {
        self.outbox.is_empty()
            && self.digest_agrees
            && self
                .logs
                .values()
                .all(|log| log.is_level() && (log.out || log.acknowledged == log.level))
    }

    pub(super) fn violation(&mut self, text: String) {
        // The first tell what happened, the others only what came of it.
        if self.violations.len() >= 5 {
            return;
        }
        self.violations.push(text);
    }

    /// A send was answered.
    pub(super) fn take_sent(&mut self, client_id: ClientId, sent: &Sent) {
        if sent.client_id != client_id {
            self.violation(format!("{client_id} was answered by {sent:?}"));
        }
        let settled = Settled::Sent {
            conversation: sent.conversation,
            seq: sent.seq,
        };
        self.settle(client_id, settled);
        if let Some(entry) = self
            .logs
            .get(&sent.conversation)
            .and_then(|log| log.entries.get(&sent.seq))
            && entry.client_id != Some(client_id)
        {
            self.violation(format!("{client_id} is not what its entry says: {entry:?}"));
        }
    }

    pub(super) fn settle(&mut self, client_id: ClientId, settled: Settled) {
        self.outbox.retain(|pending| pending.client_id != client_id);
        if let Some(before) = self.settled.insert(client_id, settled.clone())
            && before != settled
        {
            self.violation(format!("{client_id} was {before:?} and is now {settled:?}"));
        }
    }

    /// The connection is gone: what had no answer must be tried again.
    pub(super) fn unanswered(&mut self) {
        for pending in &mut self.outbox {
            pending.in_flight = false;
        }
        // Who was made to go may have come back meanwhile.
        for log in self.logs.values_mut() {
            log.gone = false;
        }
        self.digest_agrees = false;
    }

    /// The log is another one now.
    pub(super) fn reset(&mut self, conversation: ConversationId) {
        self.logs.entry(conversation).or_default().reset();
        self.raised
            .retain(|(_, mark)| mark.conversation != conversation);
    }

    /// Marks that are to be raised now.
    pub(super) fn marks_due(&mut self) -> Vec<MarkUpdate> {
        let mut due = Vec::new();
        for (&conversation, log) in &mut self.logs {
            if log.out || log.generation.is_none() {
                continue;
            }
            let wanted = match self.reads_all {
                true => log.level,
                false => self.read_wanted.get(&conversation).copied().unwrap_or(0),
            };
            let read = wanted.min(log.level);
            let reads = read > log.read.seq
                && !self
                    .raised
                    .iter()
                    .any(|(_, mark)| mark.conversation == conversation && mark.read >= Some(read));
            if log.level > log.acknowledged || reads {
                log.acknowledged = log.level;
                due.push(MarkUpdate {
                    conversation,
                    delivered: Some(log.level),
                    read: reads.then_some(read),
                    generation: log.generation,
                });
            }
        }
        self.raised.retain(|(at, _)| at.elapsed() < REPEAT_MARKS);
        self.raised
            .extend(due.iter().map(|mark| (Instant::now(), *mark)));
        due
    }

    /// The marks that this device raised in its last minute, one per conversation.
    pub(super) fn marks_to_repeat(&self) -> Vec<MarkUpdate> {
        let mut marks: BTreeMap<ConversationId, MarkUpdate> = BTreeMap::new();
        for (at, mark) in &self.raised {
            let current = self.logs.get(&mark.conversation);
            if at.elapsed() >= REPEAT_MARKS
                || current.is_none_or(|log| log.out || log.generation != mark.generation)
            {
                continue;
            }
            let one = marks.entry(mark.conversation).or_insert(*mark);
            one.delivered = one.delivered.max(mark.delivered);
            one.read = one.read.max(mark.read);
        }
        marks.into_values().collect()
    }
}
