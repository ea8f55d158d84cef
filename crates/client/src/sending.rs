//! Wishes are sent, in order, and sent again until they are answered for good.
//!
//! In: wishes of the user, answers to sends, own entries found in the log. Next: `send` frames; what cannot be
//! told goes to `settling`.

use tidings_core::log::Seq;
use tidings_core::{ClientId, ConversationId, Generation, Time, UserId};
use tidings_protocol::send::{Action, Position, Send, Sent};
use tidings_protocol::{ClientFrame, Code, Problem, Retry};

use crate::client::{CancelError, Client};
use crate::outbox::{Queue, QueueKey, Wish};
use crate::output::{Change, Output};
use crate::requests::Request;
use crate::rows::{self, OutboxRow};
use crate::storage::AfterStore;
use crate::store::Table;

impl Client {
    /// Takes a wish into the outbox: it is stored, shown, and then sent.
    pub(crate) fn wish(
        &mut self,
        conversation: Option<ConversationId>,
        to: Option<UserId>,
        action: Action,
    ) -> ClientId {
        let created = self.clock.server_now();
        let client_id = ClientId::new(created, self.random.ten_bytes());
        let number = self.outbox.next_number;
        self.outbox.next_number += 1;
        let row = OutboxRow {
            client_id,
            conversation,
            to,
            action,
            created,
            tried: false,
            after: None,
            sent: None,
            failed: None,
        };
        let mut wish = Wish {
            number,
            row,
            stored: false,
            in_flight: false,
            was_sent: false,
            may_be_sent: false,
            unsettled: false,
        };
        if self.link.is_up() {
            // It is about to be tried: one write instead of two.
            wish.row.tried = true;
            wish.row.after = self.after_of(conversation);
        }
        self.outbox.insert(wish);
        self.store_wish(client_id);
        if let Some(id) = conversation {
            self.touch(id);
        }
        client_id
    }

    /// Where this device is in a conversation: an entry that is yet to come lies above.
    fn after_of(&self, conversation: Option<ConversationId>) -> Option<Position> {
        let conversation = self
            .conversations
            .get(&conversation?)
            .filter(|known| known.is_known() && known.position > 0)?;
        Some(Position {
            generation: conversation.generation,
            seq: conversation.position,
        })
    }

    pub(crate) fn store_wish(&mut self, client_id: ClientId) {
        let Some(wish) = self.outbox.wishes.get_mut(&client_id) else {
            return;
        };
        wish.stored = false;
        let key = wish.number.to_be_bytes().to_vec();
        let value = rows::encode(&wish.row);
        self.storage.put(Table::Outbox, key, value);
        self.storage.then(AfterStore::Wish(client_id));
    }

    fn drop_wish(&mut self, client_id: ClientId) -> Option<Wish> {
        let wish = self.outbox.remove(client_id)?;
        self.storage
            .delete(Table::Outbox, wish.number.to_be_bytes().to_vec());
        if let Some(id) = wish.row.conversation {
            self.touch(id);
        }
        Some(wish)
    }

    /// Sends what may be sent now.
    pub(crate) fn pump_outbox(&mut self) {
        if !self.link.is_up() {
            return;
        }
        let now = self.clock.tick();
        let ready = |queue: &Queue| queue.not_before <= now;
        let keys: Vec<QueueKey> = self
            .outbox
            .queues
            .iter()
            .filter(|(_, queue)| ready(queue))
            .map(|(key, _)| *key)
            .collect();
        for key in keys {
            self.pump_queue(key);
        }
    }

    fn pump_queue(&mut self, key: QueueKey) {
        let Some(queue) = self.outbox.queues.get(&key) else {
            return;
        };
        let waits = |client_id: &&ClientId| self.outbox.get(**client_id).is_some_and(Wish::waits);
        let window: Vec<ClientId> = queue
            .wishes
            .iter()
            .filter(waits)
            .take(self.config.limits.sends_in_flight_max)
            .copied()
            .collect();
        let mut blocked = false;
        // After a refusal, everything from the earliest that was refused goes again, in order: only once all
        // that were in flight behind it have been answered.
        let mut gap = false;
        for client_id in &window {
            let Some(wish) = self.outbox.get(*client_id) else {
                continue;
            };
            if wish.in_flight && gap {
                return;
            }
            gap |= !wish.in_flight;
        }
        for (place, client_id) in window.into_iter().enumerate() {
            let Some(wish) = self.outbox.get(client_id) else {
                continue;
            };
            if wish.in_flight {
                continue;
            }
            if !wish.row.tried {
                let after = self.after_of(wish.row.conversation);
                if let Some(wish) = self.outbox.wishes.get_mut(&client_id) {
                    wish.row.tried = true;
                    wish.row.after = after;
                }
                self.store_wish(client_id);
            }
            let Some(wish) = self.outbox.get(client_id) else {
                continue;
            };
            blocked |= !wish.stored || wish.unsettled;
            if !blocked {
                self.send_wish(client_id, place == 0);
            }
        }
    }

    /// `first`: nothing waits before it. The server may still remember one that was refused for now and taken
    /// out since, and must not hold up for it those that are left.
    fn send_wish(&mut self, client_id: ClientId, first: bool) {
        let id = self
            .requests
            .begin(Request::Send(client_id), self.clock.tick());
        let Some(wish) = self.outbox.wishes.get_mut(&client_id) else {
            return;
        };
        wish.in_flight = true;
        let is_again = std::mem::replace(&mut wish.was_sent, true);
        let row = &wish.row;
        let send = Send {
            id,
            conversation: row.conversation.filter(|_| row.to.is_none()),
            to: row.to,
            client_id,
            after: row.after,
            if_epoch: None,
            action: row.action.clone(),
            first,
        };
        let frame = match is_again {
            true => ClientFrame::Send(send),
            false => self.short_send(send),
        };
        self.outputs.push_back(Output::Send(frame));
    }

    /// The server has it: one tick.
    pub(crate) fn handle_sent(&mut self, client_id: ClientId, sent: &Sent) {
        self.go_on(client_id);
        self.settle_wish(
            client_id,
            sent.conversation,
            sent.generation,
            sent.seq,
            sent.at,
        );
        let other_generation = self
            .conversations
            .get(&sent.conversation)
            .is_none_or(|known| known.generation != sent.generation);
        if other_generation {
            self.want_summary(sent.conversation);
        }
    }

    /// A wish became an entry: by the server's answer, or found in the log.
    pub(crate) fn settle_wish(
        &mut self,
        client_id: ClientId,
        conversation: ConversationId,
        generation: Generation,
        seq: Seq,
        at: Time,
    ) {
        let Some(wish) = self.outbox.wishes.get_mut(&client_id) else {
            return;
        };
        if wish.row.sent.is_some() {
            return;
        }
        wish.in_flight = false;
        wish.unsettled = false;
        wish.row.failed = None;
        wish.row.sent = Some((Position { generation, seq }, at));
        let keep = wish.row.conversation.is_some() && !matches!(wish.row.action, Action::Leave(_));
        if keep {
            self.store_wish(client_id);
        } else {
            self.drop_wish(client_id);
        }
        self.changes.push_back(Change::Sent {
            client_id,
            conversation,
            seq,
        });
        self.touch(conversation);
        self.forget_covered(conversation);
    }

    /// Forgets the wishes whose entries this device has by now (or never will: it is no longer in).
    pub(crate) fn forget_covered(&mut self, id: ConversationId) {
        let Some(conversation) = self.conversations.get(&id) else {
            return;
        };
        let here = |(sent, _): &(Position, Time)| {
            conversation.is_known()
                && (!conversation.is_in
                    || sent.generation != conversation.generation
                    || sent.seq <= conversation.position)
        };
        let covered: Vec<ClientId> = self
            .outbox
            .of(id)
            .filter(|wish| wish.row.sent.as_ref().is_some_and(here))
            .map(|wish| wish.row.client_id)
            .collect();
        for client_id in covered {
            self.drop_wish(client_id);
        }
    }

    /// A send was refused.
    pub(crate) fn handle_send_refused(&mut self, client_id: ClientId, problem: Problem) {
        let now = self.clock.tick();
        let limits = &self.config.limits;
        let Some(wish) = self.outbox.wishes.get_mut(&client_id) else {
            return;
        };
        wish.in_flight = false;
        if !wish.waits() {
            return;
        }
        match (problem.code, problem.retry) {
            (Code::NoChange, _) if !wish.is_message() => {
                // What was wished for is so already.
                self.drop_wish(client_id);
            }
            (Code::Unsettled | Code::Reset, _) => {
                wish.unsettled = true;
                let conversation = wish.row.conversation;
                if let Some(id) = conversation {
                    self.want_summary(id);
                }
            }
            (Code::EpochMoved, _) => self.fail_wish(client_id, problem),
            (Code::Behind, _) => {
                // What it is behind of has its own wait; if that was taken out, the next is the first.
                let wait = self
                    .random
                    .back_off(1, limits.retry_first_ms, limits.retry_max_ms);
                if let Some(queue) = self
                    .outbox
                    .queue_mut(client_id)
                    .filter(|queue| queue.not_before <= now)
                {
                    queue.not_before = now.saturating_add(wait);
                }
            }
            (Code::UpdateNeeded, _)
            | (_, Retry::Later | Retry::CatchUp | Retry::Reconnect | Retry::LogIn) => {
                let (first, max) = (limits.retry_first_ms, limits.retry_max_ms);
                let failures = self
                    .outbox
                    .queue_mut(client_id)
                    .map_or(0, |queue| queue.failures);
                let asked = problem.retry_after_ms.unwrap_or(0).min(max);
                let wait = self.random.back_off(failures, first, max).max(asked);
                if let Some(queue) = self.outbox.queue_mut(client_id) {
                    queue.failures = failures.saturating_add(1);
                    queue.not_before = queue.not_before.max(now.saturating_add(wait));
                }
            }
            (_, Retry::Never) => self.fail_wish(client_id, problem),
        }
    }

    /// There is nothing to wait for in the queue of this wish.
    pub(crate) fn go_on(&mut self, client_id: ClientId) {
        if let Some(queue) = self.outbox.queue_mut(client_id) {
            queue.failures = 0;
            queue.not_before = 0;
        }
    }

    pub(crate) fn fail_wish(&mut self, client_id: ClientId, problem: Problem) {
        self.go_on(client_id);
        let Some(wish) = self.outbox.wishes.get_mut(&client_id) else {
            return;
        };
        let conversation = wish.row.conversation;
        wish.in_flight = false;
        if wish.is_message() {
            wish.row.failed = Some(problem.clone());
            self.store_wish(client_id);
        } else {
            self.drop_wish(client_id);
        }
        if let Some(id) = conversation {
            self.touch(id);
        }
        self.changes.push_back(Change::Refused {
            client_id,
            conversation,
            problem,
        });
    }

    /// Takes a wish out that waits or failed.
    pub(crate) fn cancel_wish(&mut self, client_id: ClientId) -> Result<(), CancelError> {
        let wish = self
            .outbox
            .get(client_id)
            .filter(|wish| wish.row.sent.is_none())
            .ok_or(CancelError::NotFound)?;
        if wish.row.failed.is_none() && (wish.in_flight || wish.may_be_sent) {
            return Err(CancelError::MayBeSent);
        }
        self.drop_wish(client_id);
        Ok(())
    }
}
