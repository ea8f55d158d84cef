//! Short forms that a session sends, as the long ones that they stand for.
//!
//! In: `say` and `seen` of a session that agreed on short forms. Next: as any `send` and `mark`.

use tidings_core::ConversationId;
use tidings_protocol::mark::{MarkUpdate, RaiseMarks};
use tidings_protocol::send::{Action, MessageAction, Position, Send};
use tidings_protocol::short::{Handle, Say, Seen};
use tidings_protocol::{Code, Problem, entry};

use super::Chat;
use crate::session::Session;

impl Chat {
    /// What a `say` stands for.
    ///
    /// # Errors
    /// `unknown_handle`.
    pub fn send_of(&self, session: &Session, say: Say) -> Result<Send, Problem> {
        let conversation = self.conversation_of(session, say.conversation)?;
        // The handle stands for the generation that the log has. Where that is not in memory, the newest entries
        // are searched for the client id, as without `after`.
        let generation = self.in_memory(conversation).and_then(|conversation| {
            let state = &conversation.try_loaded()?.state;
            (state.seq > 0).then_some(state.generation)
        });
        Ok(Send {
            id: say.id,
            conversation: Some(conversation),
            to: None,
            client_id: say.client_id,
            after: generation.map(|generation| Position {
                generation,
                seq: say.after,
            }),
            if_epoch: None,
            action: Action::Message(MessageAction {
                content: entry::Content {
                    text: say.text,
                    ..entry::Content::default()
                },
                reply_to: say.reply_to,
                silent: false,
            }),
            first: say.first,
        })
    }

    /// What a `seen` stands for, and the session that knows where its user's read mark will be.
    ///
    /// # Errors
    /// `unknown_handle`.
    pub fn mark_of(
        &self,
        session: &Session,
        seen: Seen,
    ) -> Result<(RaiseMarks, Option<u64>), Problem> {
        let update = MarkUpdate {
            conversation: self.conversation_of(session, seen.conversation)?,
            delivered: seen.delivered,
            read: seen.read,
            generation: None,
        };
        let raise = RaiseMarks {
            id: seen.id,
            marks: vec![update],
        };
        Ok((raise, (!seen.tell).then_some(session.id)))
    }

    fn conversation_of(
        &self,
        session: &Session,
        handle: Handle,
    ) -> Result<ConversationId, Problem> {
        let hub = self.hub.user(session.caller.user).filter(|_| session.short);
        hub.and_then(|hub| hub.conversation_of(handle))
            .ok_or_else(|| Problem::new(Code::UnknownHandle))
    }
}
