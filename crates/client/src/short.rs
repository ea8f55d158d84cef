//! Short forms: what goes out and comes in by handles, and in long form everywhere else here.
//!
//! In: `say` and `seen` are made of wishes and marks, where a handle can say it; `said`, `messages` and `steps`
//! come in. Next: `sending`, `entries` and `answers`, as if it had been the long form.

use std::collections::BTreeSet;

use tidings_core::{ConversationId, Kind, UserId, digest};
use tidings_protocol::ClientFrame;
use tidings_protocol::entry::Entry;
use tidings_protocol::mark::{MarkStep, MarkUpdate, Marks, RaiseMarks};
use tidings_protocol::send::{Action, Send, Sent};
use tidings_protocol::short::{Handle, Message, Messages, Said, Say, Seen, Steps};
use tidings_protocol::sync::Entries;

use crate::client::Client;
use crate::conversation::Conversation;
use crate::requests::Request;

/// What names mean in short forms.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    /// Short forms are agreed on over this connection.
    pub(crate) agreed: bool,
    /// The server did not know a handle: the long forms do as well.
    pub(crate) refused: bool,
    /// Every conversation by the handle that it has, or had in another generation.
    conversations: BTreeSet<(u32, ConversationId)>,
    /// A frame named a conversation that was not known here.
    missed: bool,
}

impl Conversation {
    fn handle(&self) -> u32 {
        digest::handle(self.id, self.generation)
    }

    /// The member with this handle, if there is one and no other.
    fn member_of(&self, handle: Handle) -> Option<UserId> {
        let mut same = self
            .members
            .keys()
            .filter(|user| digest::user_handle(**user) == handle.0);
        let user = same.next().copied()?;
        same.next().is_none().then_some(user)
    }
}

impl Client {
    /// The generation of a conversation has become known.
    pub(crate) fn note_handle(&mut self, id: ConversationId) {
        if let Some(conversation) = self.conversations.get(&id).filter(|known| known.is_known()) {
            self.handles
                .conversations
                .insert((conversation.handle(), id));
        }
    }

    /// The one conversation that a handle means.
    fn conversation_of(&self, handle: Handle) -> Option<ConversationId> {
        let (low, high) = (ConversationId([0; 16]), ConversationId([0xff; 16]));
        let candidates = self
            .handles
            .conversations
            .range((handle.0, low)..=(handle.0, high));
        let mut meant = candidates.filter(|(_, id)| {
            self.conversations
                .get(id)
                .is_some_and(|known| known.is_in && known.is_known() && known.handle() == handle.0)
        });
        let (_, id) = meant.next()?;
        meant.next().is_none().then_some(*id)
    }

    /// The handle by which this device may name a conversation to the server now.
    fn handle_of(&self, id: ConversationId) -> Option<Handle> {
        if !self.handles.agreed || self.inbox.is_paging() {
            return None;
        }
        let handle = Handle(self.conversations.get(&id)?.handle());
        (self.conversation_of(handle) == Some(id)).then_some(handle)
    }

    /// A send in its short form, if it has one. Not for what was sent before: that a retry is settled does not
    /// hang on a handle.
    pub(crate) fn short_send(&self, send: Send) -> ClientFrame {
        match self.say_of(&send) {
            Some(say) => ClientFrame::Say(say),
            None => ClientFrame::Send(send),
        }
    }

    fn say_of(&self, send: &Send) -> Option<Say> {
        let id = send.conversation?;
        let generation = self.conversations.get(&id)?.generation;
        send.after.filter(|after| after.generation == generation)?;
        Say::of(send, self.handle_of(id)?)
    }

    /// Marks in their short form, if they have one.
    pub(crate) fn short_mark(&self, id: u64, marks: &[MarkUpdate]) -> ClientFrame {
        let seen = match marks {
            [update] => self.seen_of(id, update),
            _ => None,
        };
        seen.map_or_else(
            || {
                ClientFrame::Mark(RaiseMarks {
                    id: Some(id),
                    marks: marks.to_vec(),
                })
            },
            ClientFrame::Seen,
        )
    }

    fn seen_of(&self, id: u64, update: &MarkUpdate) -> Option<Seen> {
        let conversation = self.conversations.get(&update.conversation)?;
        if update.generation != Some(conversation.generation) {
            return None;
        }
        let knows_counts = |read| conversation.read_best.seq == read;
        Some(Seen {
            id: Some(id),
            conversation: self.handle_of(update.conversation)?,
            delivered: update.delivered,
            read: update.read,
            tell: !update.read.is_none_or(knows_counts),
        })
    }

    pub(crate) fn handle_said(&mut self, said: &Said) {
        let Some(Request::Send(client_id)) = self
            .requests
            .end_if(said.id, |request| matches!(request, Request::Send(_)))
        else {
            return;
        };
        let Some(row) = self.outbox.get(client_id).map(|wish| wish.row.clone()) else {
            return;
        };
        let (Some(conversation), Some(after)) = (row.conversation, row.after) else {
            return;
        };
        let at = said.at.near(self.clock.server_now());
        let sent = Sent {
            id: said.id,
            client_id,
            conversation,
            seq: said.seq,
            at,
            generation: after.generation,
        };
        self.handle_sent(client_id, &sent);
        let is_here = |known: &Conversation| known.generation == after.generation;
        let (Some(ordinal), Action::Message(message)) = (said.ordinal, row.action) else {
            return;
        };
        if self.conversations.get(&conversation).is_some_and(is_here) {
            let entry = Entry {
                device: Some(self.config.device),
                client_id: Some(client_id),
                ordinal,
                counts: true,
                target: message.reply_to,
                content: Some(message.content),
                ..Entry::bare(said.seq, Kind::Message, self.config.user, at)
            };
            self.take_live(conversation, said.seq, vec![entry]);
        }
    }

    pub(crate) fn handle_messages(&mut self, event: Messages) {
        let Some(id) = self.conversation_of(event.conversation) else {
            return self.handle_missed();
        };
        let now = self.clock.server_now();
        let Some(conversation) = self.conversations.get(&id) else {
            return;
        };
        let entry = |(place, message): (u64, Message)| {
            let author = match message.author {
                Some(handle) => conversation.member_of(handle)?,
                None => message.user?,
            };
            let (seq, ordinal) = (
                event.from.checked_add(place)?,
                event.ordinal.checked_add(place)?,
            );
            Some(message.long(seq, author, ordinal, now))
        };
        let entries: Option<Vec<Entry>> = (0..).zip(event.messages).map(entry).collect();
        match entries {
            Some(entries) => self.take_live(id, event.from, entries),
            // Somebody has come whom this device does not know of.
            None => self.want_summary(id),
        }
    }

    fn take_live(&mut self, id: ConversationId, from: u64, entries: Vec<Entry>) {
        let (Some(last), Some(conversation)) = (entries.last(), self.conversations.get(&id)) else {
            return;
        };
        let event = Entries {
            conversation: id,
            from,
            to: last.seq,
            // What is said changes nothing of who is in.
            membership_seq: conversation.membership_seq,
            entries,
        };
        self.handle_entries(event);
    }

    pub(crate) fn handle_steps(&mut self, event: &Steps) {
        let Some(id) = self.conversation_of(event.conversation) else {
            return self.handle_missed();
        };
        let now = self.clock.server_now();
        let Some(conversation) = self.conversations.get(&id) else {
            return;
        };
        let steps: Option<Vec<MarkStep>> = event
            .steps
            .iter()
            .map(|step| {
                let user = conversation.member_of(step.user)?;
                Some(step.long(user, now))
            })
            .collect();
        match steps {
            Some(marks) => self.handle_marks(&Marks {
                conversation: id,
                marks,
            }),
            None => self.want_summary(id),
        }
    }

    /// Something was said in a conversation that the inbox has and this device does not.
    fn handle_missed(&mut self) {
        self.handles.missed = self.inbox.is_paging();
        self.begin_inbox();
    }

    /// A pass over the inbox has ended: it may have been read before what was missed meanwhile.
    pub(crate) fn look_for_missed(&mut self) {
        if std::mem::take(&mut self.handles.missed) {
            self.ping();
        }
    }
}
