//! Short forms that a session sends, as the long ones that they stand for.
//!
//! In: `say` and `seen` of a session that agreed on short forms. Next: as any `send` and `mark`.

use tidings_core::ConversationId;
use tidings_protocol::mark::RaiseMarks;
use tidings_protocol::send::Send;
use tidings_protocol::short::{Handle, Say, Seen};
use tidings_protocol::{Code, Problem};

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
        Ok(say.long(conversation, generation))
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
        let update = seen.long(self.conversation_of(session, seen.conversation)?);
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
