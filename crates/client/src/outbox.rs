//! The outbox: what the user wished and the server has not acknowledged yet. Durable before it is sent,
//! sent in order, tried for ever.
//!
//! This is what is kept of it; `sending` and `settling` move it on. An own entry that is found in the log settles
//! the wish whose client id it bears; once the entry is in the local store, the wish is forgotten.

use std::collections::{BTreeMap, VecDeque};

use tidings_core::{ClientId, ConversationId};
use tidings_protocol::send::Action;

use crate::clock::Tick;
use crate::rows::OutboxRow;

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
    pub(crate) stored: bool,
    pub(crate) in_flight: bool,
    /// A try was made.
    pub(crate) was_sent: bool,
    /// A try was made whose answer was lost: it may have succeeded.
    pub(crate) may_be_sent: bool,
    /// The server cannot tell whether an earlier try succeeded: we must find out.
    pub(crate) unsettled: bool,
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
pub(crate) struct Queue {
    /// In the order in which they were wished.
    pub(crate) wishes: VecDeque<ClientId>,
    pub(crate) failures: u32,
    pub(crate) not_before: Tick,
}

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) wishes: BTreeMap<ClientId, Wish>,
    pub(crate) queues: BTreeMap<QueueKey, Queue>,
    pub(crate) next_number: u64,
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
                was_sent: may_be_sent,
                may_be_sent,
                unsettled: false,
            };
            outbox.insert(wish);
        }
        outbox
    }

    pub(crate) fn insert(&mut self, wish: Wish) {
        self.queues
            .entry(wish.queue())
            .or_default()
            .wishes
            .push_back(wish.row.client_id);
        self.wishes.insert(wish.row.client_id, wish);
    }

    pub(crate) fn remove(&mut self, client_id: ClientId) -> Option<Wish> {
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

    pub(crate) fn queue_mut(&mut self, client_id: ClientId) -> Option<&mut Queue> {
        let key = self.wishes.get(&client_id)?.queue();
        self.queues.get_mut(&key)
    }
}
