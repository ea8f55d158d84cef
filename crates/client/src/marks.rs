//! Marks that this device raises: what it has received and what its user has read.
//!
//! In: entries are durable here, the user has seen some. Next: `mark` frames, gathered for a moment; what was
//! raised in the last minute goes into the next `hello` too, for a crash of the server may forget it.

use std::collections::{BTreeMap, BTreeSet};

use tidings_core::log::Seq;
use tidings_core::{ConversationId, Generation};
use tidings_protocol::mark::MarkUpdate;
use tidings_protocol::sync::ReadMark;
use tidings_protocol::{Problem, Retry};

use crate::client::Client;
use crate::clock::Tick;
use crate::conversation::Conversation;
use crate::output::Output;
use crate::requests::Request;

/// Marks in one frame.
const MARKS_PER_FRAME: usize = 100;
/// After a start it is not known when marks were raised: those of so many conversations are repeated.
const REPEATED_AFTER_START: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Marks {
    due: BTreeSet<ConversationId>,
    at: Option<Tick>,
    /// Entries received since marks were sent last.
    entries: u64,
    /// What was confirmed, and when it was raised.
    raised: BTreeMap<ConversationId, (MarkUpdate, Tick)>,
}

/// What the server is to be told of a conversation, `None` if it knows.
fn update_of(conversation: &Conversation) -> Option<MarkUpdate> {
    if !conversation.is_in || !conversation.is_known() {
        return None;
    }
    let delivered = conversation.acknowledgeable();
    let read = conversation.read_wanted.min(delivered);
    let (sent_delivered, sent_read) = conversation.sent_marks;
    let delivered =
        Some(delivered).filter(|seq| *seq > conversation.device_told.max(sent_delivered));
    let read = Some(read).filter(|seq| *seq > conversation.read_told.seq.max(sent_read));
    (delivered.is_some() || read.is_some()).then_some(MarkUpdate {
        conversation: conversation.id,
        delivered,
        read,
        generation: Some(conversation.generation),
    })
}

impl Client {
    /// The user has seen everything up to here.
    pub(crate) fn raise_read(&mut self, id: ConversationId, seq: Seq) {
        let me = self.config.user;
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        let seq = seq.min(conversation.position);
        if seq <= conversation.read_wanted {
            return;
        }
        conversation.read_wanted = seq;
        if seq > conversation.read_best.seq {
            // The badge changes at once if the counts at that place are known here; otherwise when the
            // server tells them.
            let counts = if seq >= conversation.head {
                Some((conversation.ordinal, conversation.own))
            } else {
                self.timelines
                    .iter()
                    .find(|timeline| timeline.id == id)
                    .and_then(|timeline| {
                        timeline.counts_at(seq, conversation.head, conversation.own, me)
                    })
            };
            if let Some((ordinal, own)) = counts {
                conversation.read_best = ReadMark { seq, ordinal, own };
            }
        }
        self.mark_dirty(id);
        self.touch(id);
        self.mark_due(id);
    }

    /// Entries up to here, and from here on without a gap, are durable.
    pub(crate) fn covered_durably(
        &mut self,
        id: ConversationId,
        generation: Generation,
        from: Seq,
        to: Seq,
    ) {
        if let Some(conversation) = self.conversations.get_mut(&id)
            && conversation.generation == generation
            && to >= conversation.stored
        {
            conversation.stored = to;
            conversation.stored_from = from;
            self.mark_due(id);
        }
    }

    /// Plans to send a conversation's marks, if there is something to be sent.
    pub(crate) fn mark_due(&mut self, id: ConversationId) {
        if self.conversations.get(&id).and_then(update_of).is_some() {
            self.marks.due.insert(id);
            let at = self.clock.tick() + self.config.limits.mark_delay_ms;
            self.marks.at.get_or_insert(at);
        }
    }

    pub(crate) fn count_received(&mut self, entries: u64) {
        self.marks.entries = self.marks.entries.saturating_add(entries);
    }

    pub(crate) fn pump_marks(&mut self) {
        let now = self.clock.tick();
        let due = self.marks.at.is_some_and(|at| at <= now)
            || self.marks.entries >= self.config.limits.mark_entries_max;
        if !due || !self.link.is_up() || self.marks.due.is_empty() {
            return;
        }
        self.marks.at = None;
        self.marks.entries = 0;
        let due: Vec<ConversationId> = std::mem::take(&mut self.marks.due).into_iter().collect();
        let mut updates = Vec::new();
        for id in due {
            if let Some(update) = self.conversations.get(&id).and_then(update_of) {
                self.note_sent(&update);
                updates.push(update);
            }
        }
        for chunk in updates.chunks(MARKS_PER_FRAME) {
            let id = self.requests.begin(Request::Mark(chunk.to_vec()), now);
            let frame = self.short_mark(id, chunk);
            self.outputs.push_back(Output::Send(frame));
        }
    }

    fn note_sent(&mut self, update: &MarkUpdate) {
        let wall = self.clock.wall();
        let Some(conversation) = self.conversations.get_mut(&update.conversation) else {
            return;
        };
        let (delivered, read) = conversation.sent_marks;
        conversation.sent_marks = (
            delivered.max(update.delivered.unwrap_or(0)),
            read.max(update.read.unwrap_or(0)),
        );
        conversation.raised = wall;
        self.mark_dirty(update.conversation);
    }

    pub(crate) fn marks_timeout(&self) -> Option<Tick> {
        if self.link.is_up() {
            self.marks.at
        } else {
            None
        }
    }

    /// The server has taken these: a read mark is where this device has said. Where the counts at that place are not
    /// known here, what the server tells of them is still to come, or the digest will miss it.
    pub(crate) fn marks_done(&mut self, updates: &[MarkUpdate]) {
        for update in updates {
            let known = self.conversations.get_mut(&update.conversation);
            if let Some(conversation) =
                known.filter(|known| update.generation == Some(known.generation))
                && let Some(read) = update
                    .read
                    .filter(|read| *read > conversation.read_told.seq)
                && conversation.read_best.seq >= read
            {
                conversation.read_told.seq = read;
            }
        }
        self.marks_confirmed(updates);
    }

    /// The server has taken these. It may still forget them in a crash within the next moment.
    pub(crate) fn marks_confirmed(&mut self, updates: &[MarkUpdate]) {
        let now = self.clock.tick();
        for update in updates {
            let Some(conversation) = self.conversations.get_mut(&update.conversation) else {
                continue;
            };
            if update.generation != Some(conversation.generation) {
                continue;
            }
            conversation.device_told = conversation.device_told.max(update.delivered.unwrap_or(0));
            let slot = self
                .marks
                .raised
                .entry(update.conversation)
                .or_insert((*update, now));
            let newer = |before: Option<Seq>, after: Option<Seq>| before.max(after);
            let same = slot.0.generation == update.generation;
            let merged = MarkUpdate {
                delivered: if same {
                    newer(slot.0.delivered, update.delivered)
                } else {
                    update.delivered
                },
                read: if same {
                    newer(slot.0.read, update.read)
                } else {
                    update.read
                },
                ..*update
            };
            *slot = (merged, now);
        }
    }

    pub(crate) fn marks_refused(&mut self, updates: &[MarkUpdate], problem: &Problem) {
        if problem.retry == Retry::Never {
            // Each stands by itself: the good ones among them hold, and a wrong one is not to be repeated.
            return;
        }
        for update in updates {
            if let Some(conversation) = self.conversations.get_mut(&update.conversation) {
                conversation.sent_marks = (0, 0);
                self.marks.due.insert(update.conversation);
            }
        }
        let wait = problem
            .retry_after_ms
            .unwrap_or(0)
            .clamp(self.config.limits.retry_first_ms, 60_000);
        self.marks.at = Some(self.clock.tick() + wait);
    }

    /// The marks that a new connection begins with: those of the last minute, and what was never confirmed.
    pub(crate) fn marks_for_hello(&mut self) -> Vec<MarkUpdate> {
        let (now, repeat) = (self.clock.tick(), self.config.limits.marks_repeat_ms);
        self.marks
            .raised
            .retain(|_, (_, at)| now.saturating_sub(*at) <= repeat);
        let mut updates: BTreeMap<ConversationId, MarkUpdate> = self
            .marks
            .raised
            .iter()
            .map(|(id, (update, _))| (*id, *update))
            .collect();
        updates.retain(|id, update| {
            self.conversations
                .get(id)
                .is_some_and(|known| known.is_in && Some(known.generation) == update.generation)
        });
        for conversation in self.conversations.values() {
            if updates.len() >= MARKS_PER_FRAME * 2 {
                break;
            }
            if let Some(update) = update_of(conversation) {
                let slot = updates.entry(conversation.id).or_insert(update);
                slot.delivered = slot.delivered.max(update.delivered);
                slot.read = slot.read.max(update.read);
            }
        }
        let updates: Vec<MarkUpdate> = updates.into_values().collect();
        for update in &updates {
            self.note_sent(update);
        }
        updates
    }

    /// After a start, the marks that may have been raised a moment ago count as raised now.
    pub(crate) fn remember_raised(&mut self) {
        let mut recent: Vec<&Conversation> = self
            .conversations
            .values()
            .filter(|known| known.is_in && known.raised.0 > 0)
            .collect();
        recent.sort_by_key(|known| std::cmp::Reverse(known.raised));
        let now = self.clock.tick();
        let raised = recent
            .into_iter()
            .take(REPEATED_AFTER_START)
            .filter_map(|known| {
                let delivered = known.acknowledgeable();
                let update = MarkUpdate {
                    conversation: known.id,
                    delivered: Some(delivered).filter(|seq| *seq > 0),
                    read: Some(known.read_wanted.min(delivered)).filter(|seq| *seq > 0),
                    generation: Some(known.generation),
                };
                update
                    .delivered
                    .is_some()
                    .then_some((known.id, (update, now)))
            });
        self.marks.raised = raised.collect();
    }
}
