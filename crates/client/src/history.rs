//! Pages of entries: asked for, checked, and taken into the local store.
//!
//! In: `history` answers. Next: `entries`, which takes them one by one.

use tidings_core::ConversationId;
use tidings_core::log::{SEQ_MAX, Seq};
use tidings_protocol::sync::{HistoryPage, HistoryRequest};
use tidings_protocol::{ClientFrame, Code, Problem, Retry};

use crate::client::Client;
use crate::conversation::{Conversation, Fetch};
use crate::entries::{Batch, Origin};
use crate::output::Output;
use crate::requests::Request;

/// A conversation whose pages bring nothing is left alone for so long.
const STALL_MS: u64 = 5_000;

impl Client {
    /// What of the log is to be fetched next.
    pub(crate) fn next_fetch(&self, conversation: &Conversation) -> Option<Fetch> {
        if !conversation.is_in || !conversation.is_known() {
            return None;
        }
        let on_screen = self
            .timelines
            .iter()
            .find(|timeline| timeline.id == conversation.id);
        if let Some(fetch) = on_screen
            .and_then(|timeline| timeline.fetch)
            .filter(|_| conversation.position > 0)
        {
            return Some(fetch);
        }
        if conversation.position == 0 {
            return (conversation.head > 0).then_some(Fetch::Newest);
        }
        if conversation.position < conversation.head || conversation.verify {
            return Some(Fetch::After(conversation.position));
        }
        let from = conversation.range_from();
        (from > conversation.owed_above.saturating_add(1)).then_some(Fetch::Owed(from))
    }

    pub(crate) fn ask_history(&mut self, id: ConversationId, fetch: Fetch) {
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        conversation.fetching = Some(fetch);
        let mut request = HistoryRequest {
            id: self
                .requests
                .begin(Request::History(id, fetch), self.clock.tick()),
            conversation: id,
            after: None,
            before: None,
            around: None,
            limit: Some(self.config.limits.history_page_entries),
            generation: None,
            hash: None,
        };
        match fetch {
            Fetch::Newest => request.before = Some(conversation.head.saturating_add(1)),
            Fetch::After(seq) => {
                request.after = Some(seq);
                request.generation = Some(conversation.generation);
                request.hash = conversation.hash;
            }
            Fetch::Later(seq) => request.after = Some(seq),
            Fetch::Owed(seq) | Fetch::Before(seq) => request.before = Some(seq),
            Fetch::Around(seq) => request.around = Some(seq),
        }
        self.outputs
            .push_back(Output::Send(ClientFrame::History(request)));
    }

    pub(crate) fn handle_history(&mut self, page: HistoryPage) {
        let id = page.conversation;
        let is_answer =
            |request: &Request| matches!(request, Request::History(asked, _) if *asked == id);
        let Some(Request::History(_, fetch)) = self.requests.end_if(page.id, is_answer) else {
            return;
        };
        let now = self.clock.tick();
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        if conversation.fetching == Some(fetch) {
            conversation.fetching = None;
        }
        self.wanted.insert(id);
        if !conversation.is_in || !conversation.is_known() {
            return;
        }
        if page.generation != conversation.generation {
            self.reset_conversation(id);
            return self.want_summary(id);
        }
        if page.from == 0
            || page.to > SEQ_MAX
            || page.to.saturating_add(1) < page.from
            || page.head < page.to
        {
            conversation.fetch_at = now + STALL_MS;
            return;
        }
        conversation.trimmed = conversation.trimmed.max(page.trimmed.min(page.head));
        let before = (conversation.position, conversation.ranges.clone());
        self.take_page(page, fetch);
        self.timeline_fetched(id, fetch);
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        if let Fetch::After(_) = fetch {
            conversation.verify = false;
        }
        let lacks = conversation.position < conversation.head
            || conversation.range_from() > conversation.owed_above.saturating_add(1);
        if lacks && before == (conversation.position, conversation.ranges.clone()) {
            conversation.fetch_at = now + STALL_MS;
        }
        self.settle_unsettled(id);
        self.want_fetch(id);
    }

    fn take_page(&mut self, page: HistoryPage, fetch: Fetch) {
        let id = page.conversation;
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        // Entries that were trimmed before this device saw them: nobody here knows what they were.
        let trimmed_to = page.trimmed.min(page.to);
        if trimmed_to >= page.from && !conversation.ranges.holds(page.from, trimmed_to) {
            conversation.blind_to = conversation.blind_to.max(trimmed_to);
        }
        let origin = match fetch {
            Fetch::Newest => Origin::Newest,
            Fetch::After(_) => Origin::After,
            _ => Origin::Elsewhere,
        };
        let batch = Batch {
            from: page.from,
            to: page.to,
            entries: page.entries,
            as_of: Some(page.head),
            alterations: page.alterations,
            membership_seq: None,
        };
        self.take_batch(id, batch, origin);
    }

    pub(crate) fn handle_history_refused(
        &mut self,
        id: ConversationId,
        fetch: Fetch,
        problem: &Problem,
    ) {
        let now = self.clock.tick();
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        conversation.fetching = None;
        match (problem.code, problem.retry) {
            // The position has moved on since, and what was asked for may have been acknowledged and trimmed
            // meanwhile: where we are now decides.
            (Code::Reset, _) if matches!(fetch, Fetch::After(seq) if seq < conversation.position) =>
            {
                conversation.verify = true;
            }
            (Code::Reset, _) => {
                self.reset_conversation(id);
                self.want_summary(id);
            }
            (Code::NotFound, _) => self.leave_conversation(id),
            (_, Retry::Never) => {
                conversation.fetch_at = now + 60_000;
                self.timeline_fetched(id, fetch);
            }
            _ => {
                conversation.fetch_at =
                    now + problem.retry_after_ms.unwrap_or(0).clamp(1_000, 60_000);
            }
        }
        self.wanted.insert(id);
    }

    /// Moves the position on to the end of the range that it is in.
    pub(crate) fn move_position(conversation: &mut Conversation, at_least: Seq) {
        let start = conversation.position.max(at_least);
        conversation.position = conversation
            .ranges
            .around(start)
            .map_or(start, |range| range.1);
    }
}
