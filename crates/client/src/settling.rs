//! Sends of which the server cannot tell whether an earlier try succeeded: this device looks for itself.
//!
//! In: `unsettled` answers, and every step of coming level. Next: `sending`, with a newer `after`.

use tidings_core::{ClientId, ConversationId};
use tidings_protocol::send::Position;
use tidings_protocol::{Code, Problem};

use crate::client::Client;
use crate::outbox::Wish;

impl Client {
    /// Looks whether wishes whose earlier tries could not be told by the server can be told by now. Called
    /// whenever the conversation is level with a head that was told since.
    pub(crate) fn settle_unsettled(&mut self, id: ConversationId) {
        let generation = self.conversations.get(&id).map(|known| known.generation);
        // A position of another generation tells the server nothing: those are known to come back too.
        let foreign = |wish: &Wish| {
            wish.row.after.map(|after| after.generation) != generation && wish.row.after.is_some()
        };
        let waits = |wish: &&Wish| wish.waits() && !wish.in_flight;
        if !self
            .outbox
            .of(id)
            .any(|wish| wish.waits() && wish.unsettled)
        {
            return;
        }
        let unsettled: Vec<ClientId> = self
            .outbox
            .of(id)
            .filter(waits)
            .filter(|wish| wish.unsettled || foreign(wish))
            .map(|wish| wish.row.client_id)
            .collect();
        if unsettled.is_empty() {
            return;
        }
        let Some(conversation) = self.conversations.get(&id) else {
            return;
        };
        if conversation.summary_wanted || conversation.summary_asked {
            return;
        }
        if !conversation.is_in || !conversation.is_known() {
            // Nothing can be looked through, and those behind would be refused one by one.
            let lost = |wish: &&Wish| {
                wish.waits() && !wish.in_flight && (wish.unsettled || !wish.may_be_sent)
            };
            let lost: Vec<ClientId> = self
                .outbox
                .of(id)
                .filter(lost)
                .map(|wish| wish.row.client_id)
                .collect();
            for client_id in lost {
                self.fail_wish(client_id, Problem::new(Code::NotFound));
            }
            return;
        }
        if conversation.position < conversation.head || conversation.verify {
            return;
        }
        let (position, blind_to) = (conversation.position, conversation.blind_to);
        let here = Position {
            generation: conversation.generation,
            seq: position,
        };
        for client_id in unsettled {
            let Some(wish) = self.outbox.wishes.get_mut(&client_id) else {
                continue;
            };
            let after = wish.row.after.map_or(0, |after| after.seq);
            let Some(conversation) = self.conversations.get_mut(&id) else {
                return;
            };
            if after < position && !conversation.ranges.holds(after.saturating_add(1), position) {
                // Everything since the first try is looked through first.
                if conversation.range_from() > 1 {
                    conversation.owed_above = conversation.owed_above.min(after);
                    continue;
                }
            }
            if after < blind_to {
                self.fail_wish(client_id, Problem::new(Code::Unsettled));
                continue;
            }
            // The earlier tries are not in what there is, so if one of them still succeeds, it is above.
            wish.row.after = Some(here);
            wish.unsettled = false;
            self.store_wish(client_id);
            self.go_on(client_id);
        }
    }
}
