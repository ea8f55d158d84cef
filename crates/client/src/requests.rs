//! Requests that wait for their answers.

use std::collections::BTreeMap;

use tidings_core::{ClientId, ConversationId, UserId};
use tidings_protocol::mark::MarkUpdate;

use crate::clock::Tick;
use crate::conversation::Fetch;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    /// With the marks that it repeats.
    Hello(Vec<MarkUpdate>),
    Ping,
    Send(ClientId),
    Mark(Vec<MarkUpdate>),
    Inbox,
    Conversation(ConversationId),
    History(ConversationId, Fetch),
    Users(Vec<UserId>),
    LookUp(String),
}

#[derive(Debug, Default)]
pub(crate) struct Requests {
    waiting: BTreeMap<u64, (Request, Tick)>,
    last_id: u64,
}

impl Requests {
    /// A new id for a request. Ids are never used again, so a late answer finds nothing.
    pub(crate) fn begin(&mut self, request: Request, now: Tick) -> u64 {
        self.last_id += 1;
        self.waiting.insert(self.last_id, (request, now));
        self.last_id
    }

    pub(crate) fn end(&mut self, id: u64) -> Option<Request> {
        self.waiting.remove(&id).map(|(request, _)| request)
    }

    /// The request with this id, if it is of the kind that the frame answers.
    pub(crate) fn end_if(
        &mut self,
        id: u64,
        is_answered: impl FnOnce(&Request) -> bool,
    ) -> Option<Request> {
        self.waiting
            .get(&id)
            .filter(|(request, _)| is_answered(request))?;
        self.end(id)
    }

    pub(crate) fn clear(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.waiting)
            .into_values()
            .map(|(request, _)| request)
            .collect()
    }

    /// When the request that waits longest was made.
    pub(crate) fn oldest(&self) -> Option<Tick> {
        self.waiting.values().next().map(|(_, at)| *at)
    }

    pub(crate) fn count(&self, of: impl Fn(&Request) -> bool) -> usize {
        self.waiting
            .values()
            .filter(|(request, _)| of(request))
            .count()
    }
}
