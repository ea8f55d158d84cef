//! Coming level with the server: the inbox, newest first, then the entries that are lacking, oldest first.
//!
//! In: pages of the inbox, summaries of conversations. Next: `history` for each conversation whose head is
//! above its position.

use std::collections::BTreeSet;

use tidings_core::ConversationId;
use tidings_core::log::SEQ_MAX;
use tidings_protocol::entry::ConversationKind;
use tidings_protocol::sync::{
    Conversation as Summary, ConversationFrame, ConversationRequest, InboxPage, InboxRequest,
};
use tidings_protocol::{ClientFrame, Code, Problem, Retry};

use crate::client::Client;
use crate::clock::Tick;
use crate::conversation::Conversation;
use crate::output::Output;
use crate::requests::Request;
use crate::rows;
use crate::store::Table;

/// Summaries that are asked for at a time.
const SUMMARIES_IN_FLIGHT_MAX: usize = 8;

/// Passes over the inbox.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// A pass is under way.
    paging: bool,
    /// How many passes were begun.
    pass: u64,
    /// Not before this tick: the last try failed.
    again_at: Option<Tick>,
    /// How often the digest has differed, one time after the other.
    pub(crate) mismatches: u32,
}

impl Inbox {
    /// Whether a pass is under way.
    pub(crate) fn is_paging(&self) -> bool {
        self.paging
    }

    /// The connection is gone: if something is still lacking, the next one's digest will tell.
    pub(crate) fn interrupted(&mut self) {
        self.paging = false;
        self.again_at = None;
    }
}

impl Client {
    pub(crate) fn begin_inbox(&mut self) {
        if self.inbox.paging || !self.link.is_up() {
            return;
        }
        self.inbox.paging = true;
        self.inbox.again_at = None;
        self.inbox.pass += 1;
        self.ask_inbox(None);
    }

    fn ask_inbox(&mut self, cursor: Option<String>) {
        let id = self.requests.begin(Request::Inbox, self.clock.tick());
        let limit = Some(self.config.limits.inbox_page_conversations);
        self.outputs
            .push_back(Output::Send(ClientFrame::Inbox(InboxRequest {
                id,
                cursor,
                limit,
            })));
    }

    pub(crate) fn handle_inbox(&mut self, page: InboxPage) {
        if self
            .requests
            .end_if(page.id, |request| *request == Request::Inbox)
            .is_none()
        {
            return;
        }
        for summary in page.conversations {
            self.take_summary(summary);
        }
        match page.next {
            Some(cursor) => self.ask_inbox(Some(cursor)),
            None => self.end_inbox(),
        }
    }

    /// Whatever the whole inbox did not name, the user is no longer in.
    fn end_inbox(&mut self) {
        self.inbox.paging = false;
        let pass = self.inbox.pass;
        let missing =
            |known: &&Conversation| known.is_in && known.is_known() && known.seen_in_pass < pass;
        let gone: Vec<ConversationId> = self
            .conversations
            .values()
            .filter(missing)
            .map(|known| known.id)
            .collect();
        for id in gone {
            self.leave_conversation(id);
        }
        self.look_for_missed();
    }

    pub(crate) fn handle_inbox_refused(&mut self, problem: &Problem) {
        self.inbox.paging = false;
        let wait = problem
            .retry_after_ms
            .unwrap_or(0)
            .clamp(self.config.limits.retry_first_ms, 60_000);
        self.inbox.again_at = Some(self.clock.tick() + wait);
    }

    /// Asks for a conversation's summary, once.
    pub(crate) fn want_summary(&mut self, id: ConversationId) {
        let conversation = self
            .conversations
            .entry(id)
            .or_insert_with(|| Conversation::unknown(id));
        conversation.summary_wanted = true;
        self.wanted.insert(id);
    }

    pub(crate) fn want_fetch(&mut self, id: ConversationId) {
        self.wanted.insert(id);
    }

    pub(crate) fn handle_conversation(&mut self, frame: ConversationFrame) {
        if let Some(id) = frame.id {
            let asked = frame.conversation.conversation;
            let is_answer = |request: &Request| *request == Request::Conversation(asked);
            if self.requests.end_if(id, is_answer).is_none() {
                return;
            }
            if let Some(conversation) = self.conversations.get_mut(&asked) {
                conversation.summary_asked = false;
            }
        }
        self.take_summary(frame.conversation);
    }

    pub(crate) fn handle_summary_refused(&mut self, id: ConversationId, problem: &Problem) {
        let now = self.clock.tick();
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        conversation.summary_asked = false;
        if problem.retry != Retry::Never {
            conversation.summary_wanted = true;
            conversation.fetch_at = now + problem.retry_after_ms.unwrap_or(0).clamp(1_000, 60_000);
            self.wanted.insert(id);
        } else if problem.code == Code::NotFound {
            self.leave_conversation(id);
        }
    }

    /// The user is not (or no longer) in a conversation. What was received stays.
    pub(crate) fn leave_conversation(&mut self, id: ConversationId) {
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        conversation.is_in = false;
        conversation.summary_wanted = false;
        if conversation.is_known() {
            self.mark_dirty(id);
        }
        self.forget_covered(id);
        self.settle_unsettled(id);
        self.touch(id);
        if self
            .conversations
            .get(&id)
            .is_some_and(|known| !known.is_known())
            && self.outbox.of(id).next().is_none()
        {
            self.conversations.remove(&id);
        }
    }

    /// What the server says of a conversation. It may be older than what its events have told since.
    fn take_summary(&mut self, summary: Summary) {
        let id = summary.conversation;
        if summary.head > SEQ_MAX || summary.head == 0 || summary.generation.0 == [0; 16] {
            return;
        }
        let pass = self.inbox.pass;
        let conversation = self
            .conversations
            .entry(id)
            .or_insert_with(|| Conversation::unknown(id));
        conversation.seen_in_pass = pass;
        if conversation.is_known() && conversation.generation != summary.generation {
            self.reset_conversation(id);
        }
        let me = self.config.user;
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        let is_first = !conversation.is_known();
        conversation.is_in = true;
        conversation.summary_wanted = false;
        if is_first {
            begin_with(conversation, &summary);
            self.note_handle(id);
        }
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        if summary.head == conversation.head && summary.at != conversation.at && !is_first {
            // The same number, but another entry: the answer to our position will tell.
            conversation.verify = true;
        }
        if summary.head >= conversation.head {
            take_head(conversation, &summary, me);
        } else {
            // Older than an event, or the log is not what it was: its answer to our position will tell.
            conversation.verify = true;
        }
        conversation.read_told = summary.read;
        if summary.read.seq > conversation.read_best.seq {
            conversation.read_best = summary.read;
        }
        conversation.read_wanted = conversation.read_wanted.max(summary.read.seq);
        conversation.device_told = summary.device;
        let newest = conversation.last.as_ref().map_or(0, |last| last.seq);
        if let Some(last) = summary.last.as_ref().filter(|last| last.seq > newest) {
            conversation.last = rows::last_of(last, None);
        }
        let (other, typists) = (
            conversation.other,
            conversation.last.as_ref().map(|last| last.author),
        );
        for user in other.into_iter().chain(typists) {
            self.need_profile(user);
        }
        self.mark_dirty(id);
        self.touch(id);
        self.want_fetch(id);
        self.mark_due(id);
        self.forget_covered(id);
        self.settle_unsettled(id);
    }

    /// The log is another one than this device saw: forget it and begin with a snapshot.
    pub(crate) fn reset_conversation(&mut self, id: ConversationId) {
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        conversation.reset();
        let prefix = id.0.to_vec();
        self.storage.delete_prefix(Table::Entries, prefix.clone());
        self.storage.delete_prefix(Table::Alterations, prefix);
        let expiring: BTreeSet<_> = self
            .expiries
            .iter()
            .filter(|(_, place, _)| *place == id)
            .copied()
            .collect();
        for place in expiring {
            self.expiries.remove(&place);
            self.storage
                .delete(Table::Expiries, rows::expiry_key(place.0, place.1, place.2));
        }
        self.mark_dirty(id);
        self.timeline_reset(id);
        self.touch(id);
    }

    /// Asks for what is lacking, as far as requests may be under way.
    pub(crate) fn pump_sync(&mut self) {
        if !self.link.is_up() {
            return;
        }
        let now = self.clock.tick();
        if self.inbox.again_at.is_some_and(|at| at <= now) {
            self.begin_inbox();
        }
        let mut fetching = self
            .requests
            .count(|request| matches!(request, Request::History(..)));
        let mut asking = self
            .requests
            .count(|request| matches!(request, Request::Conversation(_)));
        let mut candidates: Vec<ConversationId> = self.wanted.iter().copied().collect();
        // What is on the screen first, then the newest.
        candidates.sort_by_cached_key(|id| {
            let at = self.conversations.get(id).map(|known| known.at);
            (self.focus != Some(*id), std::cmp::Reverse(at))
        });
        for id in candidates {
            let Some(conversation) = self.conversations.get_mut(&id) else {
                self.wanted.remove(&id);
                continue;
            };
            if conversation.fetch_at > now {
                continue;
            }
            if conversation.summary_wanted
                && !conversation.summary_asked
                && asking < SUMMARIES_IN_FLIGHT_MAX
            {
                conversation.summary_wanted = false;
                conversation.summary_asked = true;
                asking += 1;
                let request = self.requests.begin(Request::Conversation(id), now);
                let frame = ConversationRequest {
                    id: request,
                    conversation: id,
                };
                self.outputs
                    .push_back(Output::Send(ClientFrame::Conversation(frame)));
            }
            let Some(conversation) = self.conversations.get(&id) else {
                continue;
            };
            if conversation.fetching.is_some() || conversation.summary_wanted {
                continue;
            }
            match self.next_fetch(conversation) {
                Some(fetch) if fetching < self.config.limits.history_in_flight_max => {
                    fetching += 1;
                    self.ask_history(id, fetch);
                }
                Some(_) => {}
                None => {
                    self.wanted.remove(&id);
                }
            }
        }
    }

    pub(crate) fn sync_timeout(&self) -> Option<Tick> {
        if !self.link.is_up() {
            return None;
        }
        let now = self.clock.tick();
        let waits = self
            .wanted
            .iter()
            .filter_map(|id| self.conversations.get(id))
            .map(|known| known.fetch_at);
        waits
            .filter(|at| *at > now)
            .chain(self.inbox.again_at)
            .min()
    }

    /// Whether nothing is known to be lacking.
    pub(crate) fn is_level(&self) -> bool {
        let lacks = |id: &ConversationId| {
            self.conversations.get(id).is_some_and(|known| {
                known.summary_wanted
                    || known.summary_asked
                    || known.is_in && known.position < known.head
            })
        };
        !self.inbox.paging && self.inbox.again_at.is_none() && !self.wanted.iter().any(lacks)
    }
}

/// The first that this device hears of a conversation, or hears of it again after a reset.
fn begin_with(conversation: &mut Conversation, summary: &Summary) {
    conversation.generation = summary.generation;
    // What no device of the user's has is owed to this one; under `until_delivered`, what this one has not.
    let acknowledged = match summary.settings.retention {
        tidings_protocol::entry::Retention::UntilDelivered => summary.device,
        _ => summary.delivered,
    };
    let before_joining = summary.joined.seq.saturating_sub(1);
    conversation.owed_above = acknowledged
        .max(before_joining)
        .max(summary.trimmed)
        .max(summary.from.saturating_sub(1))
        .min(summary.head);
    conversation.read_wanted = summary.read.seq;
    conversation.read_best = summary.read;
}

fn take_head(conversation: &mut Conversation, summary: &Summary, me: tidings_core::UserId) {
    conversation.kind = summary.kind;
    conversation.head = summary.head;
    conversation.ordinal = summary.ordinal;
    conversation.at = summary.at;
    conversation.trimmed = conversation.trimmed.max(summary.trimmed);
    conversation.from = summary.from;
    conversation.membership_seq = summary.membership_seq;
    conversation.epoch = summary.epoch;
    conversation.settings = summary.settings.clone();
    conversation.member_count = summary.member_count;
    conversation.role = summary.role;
    conversation.joined = summary.joined;
    conversation.own = summary.own;
    conversation.set_members(&summary.members);
    if summary.kind == ConversationKind::Direct {
        let other = summary
            .members
            .iter()
            .map(|member| member.user)
            .find(|user| *user != me);
        conversation.other = other.or(conversation.other);
    }
}
