//! Short forms on the simulated server, for the connections that agreed on them.

use tidings_core::{ClientId, ConversationId, Kind, UserId, digest};
use tidings_protocol::entry::{Content, Entry};
use tidings_protocol::mark::{MarkStep, MarkUpdate};
use tidings_protocol::send::Send;
use tidings_protocol::short::{
    Handle, Message, Messages, Said, Say, Seen, ShortStep, ShortTime, Steps,
};
use tidings_protocol::{Code, Problem, ServerFrame};

use super::server::Server;

/// A text that is being said, and by whom.
pub(super) struct Saying {
    pub(super) connection: u64,
    pub(super) request: u64,
    pub(super) client_id: ClientId,
    /// It was answered in the place of its entry's event.
    pub(super) is_answered: bool,
}

impl Server {
    pub(super) fn send_of(&mut self, user: UserId, say: Say) -> Result<Send, Problem> {
        let id = self.meant(user, say.conversation)?;
        let generation = self.hot(id).state.generation;
        Ok(say.long(id, Some(generation)))
    }

    pub(super) fn mark_of(&mut self, user: UserId, seen: &Seen) -> Result<MarkUpdate, Problem> {
        let id = self.meant(user, seen.conversation)?;
        Ok(seen.long(id))
    }

    fn meant(&mut self, user: UserId, handle: Handle) -> Result<ConversationId, Problem> {
        let ids = self.conversations_of(user);
        let found = ids.into_iter().find(|id| self.handle_of(*id) == handle);
        found.ok_or_else(|| Problem::new(Code::UnknownHandle))
    }

    fn handle_of(&mut self, id: ConversationId) -> Handle {
        Handle(digest::handle(id, self.hot(id).state.generation))
    }

    /// What a session is told of an event, in the short form if it has one.
    pub(super) fn for_session(
        &mut self,
        connection: u64,
        frame: &ServerFrame,
    ) -> Option<ServerFrame> {
        if !self.short.contains(&connection) {
            return Some(frame.clone());
        }
        Some(match frame {
            ServerFrame::Entries(event) => match event.entries.as_slice() {
                [entry] if is_plain(entry) && self.says(connection, entry) => {
                    return self.said(entry);
                }
                [entry] if is_plain(entry) && entry.client_id.is_none() => {
                    let conversation = self.handle_of(event.conversation);
                    ServerFrame::Messages(Messages {
                        conversation,
                        from: entry.seq,
                        ordinal: entry.ordinal,
                        messages: vec![message(entry)],
                    })
                }
                _ => frame.clone(),
            },
            ServerFrame::Marks(event) if event.marks.iter().any(|step| step.read.is_some()) => {
                if self.knows == Some(connection) {
                    return None;
                }
                frame.clone()
            }
            ServerFrame::Marks(event) => {
                let step =
                    |step: &MarkStep| ShortStep::of(step, Handle(digest::user_handle(step.user)));
                let steps = event.marks.iter().map(step).collect();
                let conversation = self.handle_of(event.conversation);
                ServerFrame::Steps(Steps {
                    conversation,
                    steps,
                })
            }
            frame => frame.clone(),
        })
    }

    fn says(&self, connection: u64, entry: &Entry) -> bool {
        self.saying.as_ref().is_some_and(|saying| {
            saying.connection == connection && Some(saying.client_id) == entry.client_id
        })
    }

    fn said(&mut self, entry: &Entry) -> Option<ServerFrame> {
        let saying = self.saying.as_mut()?;
        saying.is_answered = true;
        Some(ServerFrame::Said(Said {
            id: saying.request,
            seq: entry.seq,
            at: entry.at.into(),
            ordinal: Some(entry.ordinal),
        }))
    }
}

fn is_plain(entry: &Entry) -> bool {
    let text = entry.content.as_ref().and_then(Content::text_alone);
    entry.kind.0 == Kind::Message
        && entry.counts
        && entry.expires.is_none()
        && entry.epoch == 0
        && text.is_some()
}

fn message(entry: &Entry) -> Message {
    let text = entry.content.as_ref().map(|content| content.text.clone());
    Message {
        author: Some(Handle(digest::user_handle(entry.author))),
        at: ShortTime::from(entry.at),
        text: text.unwrap_or_default(),
        reply_to: entry.target,
        user: None,
    }
}
