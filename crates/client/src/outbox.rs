//! The outbox: what the user wished and the server has not acknowledged yet. Durable before it is sent,
//! sent in order, tried for ever.
//!
//! In: wishes of the user, answers to sends, entries of the log (an own entry settles the wish whose client
//! id it bears). Next: `send` frames; once the entry is in the local store, the wish is forgotten.

use std::collections::{BTreeMap, VecDeque};

use tidings_core::log::Seq;
use tidings_core::{ClientId, ConversationId, Generation, Time, UserId};
use tidings_protocol::send::{Action, Position, Send, Sent};
use tidings_protocol::{ClientFrame, Code, Problem, Retry};

use crate::client::{CancelError, Client};
use crate::clock::Tick;
use crate::output::{Change, Output};
use crate::requests::Request;
use crate::rows::{self, OutboxRow};
use crate::storage::AfterStore;
use crate::store::Table;

/// What is sent in order: the wishes of one conversation, or one wish for a new group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum QueueKey {
    Conversation(ConversationId),
    Create(ClientId),
}

#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) number: u64,
    pub(crate) row: OutboxRow,
    /// The row as it is now is durable.
    stored: bool,
    in_flight: bool,
    /// A try was made whose answer was lost: it may have succeeded.
    may_be_sent: bool,
    /// The server cannot tell whether an earlier try succeeded: we must find out.
    unsettled: bool,
}

impl Wish {
    pub(crate) fn queue(&self) -> QueueKey {
        self.row
            .conversation
            .map_or(QueueKey::Create(self.row.client_id), QueueKey::Conversation)
    }

    pub(crate) fn is_message(&self) -> bool {
        matches!(self.row.action, Action::Message(_))
    }

    /// Still to be sent.
    pub(crate) fn waits(&self) -> bool {
        self.row.sent.is_none() && self.row.failed.is_none()
    }
}

#[derive(Debug, Default)]
struct Queue {
    /// In the order in which they were wished.
    wishes: VecDeque<ClientId>,
    failures: u32,
    not_before: Tick,
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    wishes: BTreeMap<ClientId, Wish>,
    queues: BTreeMap<QueueKey, Queue>,
    next_number: u64,
}

impl Outbox {
    pub(crate) fn restore(rows: Vec<(u64, OutboxRow)>) -> Outbox {
        let mut outbox = Outbox::default();
        let mut rows = rows;
        rows.sort_by_key(|(number, _)| *number);
        for (number, row) in rows {
            outbox.next_number = outbox.next_number.max(number + 1);
            let may_be_sent = row.tried;
            let wish = Wish {
                number,
                row,
                stored: true,
                in_flight: false,
                may_be_sent,
                unsettled: false,
            };
            outbox.insert(wish);
        }
        outbox
    }

    fn insert(&mut self, wish: Wish) {
        self.queues
            .entry(wish.queue())
            .or_default()
            .wishes
            .push_back(wish.row.client_id);
        self.wishes.insert(wish.row.client_id, wish);
    }

    fn remove(&mut self, client_id: ClientId) -> Option<Wish> {
        let wish = self.wishes.remove(&client_id)?;
        let key = wish.queue();
        if let Some(queue) = self.queues.get_mut(&key) {
            queue.wishes.retain(|other| *other != client_id);
            if queue.wishes.is_empty() {
                self.queues.remove(&key);
            }
        }
        Some(wish)
    }

    pub(crate) fn get(&self, client_id: ClientId) -> Option<&Wish> {
        self.wishes.get(&client_id)
    }

    pub(crate) fn stored(&mut self, client_id: ClientId) {
        if let Some(wish) = self.wishes.get_mut(&client_id) {
            wish.stored = true;
        }
    }

    /// The wishes of a conversation, in order.
    pub(crate) fn of(
        &self,
        conversation: ConversationId,
    ) -> impl DoubleEndedIterator<Item = &Wish> {
        let queue = self.queues.get(&QueueKey::Conversation(conversation));
        queue
            .into_iter()
            .flat_map(|queue| &queue.wishes)
            .filter_map(|client_id| self.wishes.get(client_id))
    }

    /// How many wait to be sent.
    pub(crate) fn waiting(&self) -> usize {
        self.wishes.values().filter(|wish| wish.waits()).count()
    }

    pub(crate) fn conversations(&self) -> Vec<ConversationId> {
        let of = |key: &QueueKey| match key {
            QueueKey::Conversation(id) => Some(*id),
            QueueKey::Create(_) => None,
        };
        self.queues.keys().filter_map(of).collect()
    }

    /// The connection is gone: the answers to what is in flight will never be known.
    pub(crate) fn disconnected(&mut self) {
        for wish in self.wishes.values_mut().filter(|wish| wish.in_flight) {
            wish.in_flight = false;
            wish.may_be_sent = true;
        }
    }

    pub(crate) fn timeout(&self, now: Tick) -> Option<Tick> {
        let waits = |queue: &&Queue| queue.not_before > now;
        self.queues
            .values()
            .filter(waits)
            .map(|queue| queue.not_before)
            .min()
    }

    fn queue_mut(&mut self, client_id: ClientId) -> Option<&mut Queue> {
        let key = self.wishes.get(&client_id)?.queue();
        self.queues.get_mut(&key)
    }
}

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

    fn store_wish(&mut self, client_id: ClientId) {
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
        for client_id in window {
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
                self.send_wish(client_id);
            }
        }
    }

    fn send_wish(&mut self, client_id: ClientId) {
        let id = self
            .requests
            .begin(Request::Send(client_id), self.clock.tick());
        let Some(wish) = self.outbox.wishes.get_mut(&client_id) else {
            return;
        };
        wish.in_flight = true;
        let row = &wish.row;
        let frame = Send {
            id,
            conversation: row.conversation.filter(|_| row.to.is_none()),
            to: row.to,
            client_id,
            after: row.after,
            if_epoch: None,
            action: row.action.clone(),
        };
        self.outputs
            .push_back(Output::Send(ClientFrame::Send(frame)));
    }

    /// The server has it: one tick.
    pub(crate) fn handle_sent(&mut self, client_id: ClientId, sent: &Sent) {
        if let Some(queue) = self.outbox.queue_mut(client_id) {
            queue.failures = 0;
            queue.not_before = 0;
        }
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
            (Code::UpdateNeeded, _)
            | (_, Retry::Later | Retry::CatchUp | Retry::Reconnect | Retry::LogIn) => {
                let (first, max) = (limits.retry_first_ms, limits.retry_max_ms);
                let failures = self
                    .outbox
                    .queue_mut(client_id)
                    .map_or(0, |queue| queue.failures);
                // Those behind one that was refused are refused too: that is one failure, not many.
                let behind = problem.code == Code::Behind;
                let wait = self
                    .random
                    .back_off(failures, first, max)
                    .max(problem.retry_after_ms.unwrap_or(0).min(max));
                if let Some(queue) = self.outbox.queue_mut(client_id)
                    && (!behind || queue.not_before <= now)
                {
                    queue.failures = failures.saturating_add(1);
                    queue.not_before = queue.not_before.max(now.saturating_add(wait));
                }
            }
            (_, Retry::Never) => self.fail_wish(client_id, problem),
        }
    }

    fn fail_wish(&mut self, client_id: ClientId, problem: Problem) {
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

    /// Looks whether wishes whose earlier tries could not be told by the server can be told by now. Called
    /// whenever the conversation is level with a head that was told since.
    pub(crate) fn settle_unsettled(&mut self, id: ConversationId) {
        let unsettled: Vec<ClientId> = self
            .outbox
            .of(id)
            .filter(|wish| wish.unsettled && wish.waits())
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
        }
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
