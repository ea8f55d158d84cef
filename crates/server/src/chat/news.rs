//! What a conversation tells its sessions, in the long form and in the short one
//! (`tidings_protocol::short`).
//!
//! In: committed entries, marks that moved (`publish`, `marks`). Next: encoded once in each form (`session`).

use std::borrow::Cow;

use tidings_core::entry::{Body, Content, Entry};
use tidings_core::{ConversationId, Kind, UserId, digest};
use tidings_protocol::ServerFrame;
use tidings_protocol::convert::entry_to_wire;
use tidings_protocol::mark::{MarkStep, Marks};
use tidings_protocol::short::{Handle, Message, Messages, ShortStep, Steps};
use tidings_protocol::sync::Entries;

use super::loaded::Loaded;
use crate::hub::Place;
use crate::session::News;

/// Entries that follow one another, for one reader or for everybody who wrote none of them.
pub(super) struct NewEntries<'a> {
    pub place: Place,
    pub loaded: &'a Loaded,
    pub entries: &'a [Entry],
    pub reader: Option<UserId>,
}

impl News for NewEntries<'_> {
    fn long(&self) -> Cow<'_, ServerFrame> {
        let seq = |entry: Option<&Entry>| entry.map_or(0, Entry::seq);
        Cow::Owned(ServerFrame::Entries(Entries {
            conversation: self.place.conversation,
            from: seq(self.entries.first()),
            to: seq(self.entries.last()),
            membership_seq: self.loaded.state.membership_seq,
            entries: self
                .entries
                .iter()
                .map(|entry| entry_to_wire(entry, self.reader == Some(entry.envelope.author)))
                .collect(),
        }))
    }

    /// An author's other devices are told the client ids too, which have no short form.
    fn short(&self) -> Option<ServerFrame> {
        let first = self.entries.first().filter(|_| self.reader.is_none())?;
        let messages = self.entries.iter().map(|entry| self.short_of(entry));
        Some(ServerFrame::Messages(Messages {
            conversation: Handle(self.place.handle),
            from: first.seq(),
            ordinal: first.envelope.ordinal,
            messages: messages.collect::<Option<_>>()?,
        }))
    }
}

impl NewEntries<'_> {
    fn short_of(&self, entry: &Entry) -> Option<Message> {
        let text = plain_text(entry)?;
        let envelope = &entry.envelope;
        let author = self.loaded.handle_of(envelope.author);
        Some(Message {
            author,
            at: envelope.at.into(),
            text: text.to_owned(),
            reply_to: envelope.target,
            user: author.is_none().then_some(envelope.author),
        })
    }
}

/// The text of a message that has nothing which a short form does not say.
pub(super) fn plain_text(entry: &Entry) -> Option<&str> {
    let envelope = &entry.envelope;
    let is_plain = envelope.kind == Kind::Message
        && envelope.counts
        && (envelope.rules, envelope.lane, envelope.epoch) == (1, 0, 0)
        && envelope.expires.is_none();
    match &entry.body {
        Body::Message(Content::Text(content)) if is_plain => {
            let is_text_alone = content.mentions.is_empty() && content.attachments.is_empty();
            is_text_alone.then_some(&content.text)
        }
        _ => None,
    }
}

/// How far members are now.
pub(super) struct MovedMarks<'a> {
    pub place: Place,
    pub loaded: &'a Loaded,
    pub steps: Vec<MarkStep>,
}

impl News for MovedMarks<'_> {
    fn long(&self) -> Cow<'_, ServerFrame> {
        Cow::Owned(ServerFrame::Marks(Marks {
            conversation: self.place.conversation,
            marks: self.steps.clone(),
        }))
    }

    fn short(&self) -> Option<ServerFrame> {
        let step = |step: &MarkStep| {
            let user = self.loaded.handle_of(step.user)?;
            Some(ShortStep::of(step, user))
        };
        Some(ServerFrame::Steps(Steps {
            conversation: Handle(self.place.handle),
            steps: self.steps.iter().map(step).collect::<Option<_>>()?,
        }))
    }
}

impl Loaded {
    /// The conversation as sessions name it.
    pub(super) fn place(&self, conversation: ConversationId) -> Place {
        let generation = self.state.generation;
        let handle = match self.handle.get() {
            Some((of, handle)) if of == generation => handle,
            _ => {
                let handle = digest::handle(conversation, generation);
                self.handle.set(Some((generation, handle)));
                handle
            }
        };
        Place {
            handle,
            conversation,
        }
    }

    /// A member by its handle, where every member knows the others and no two have the same.
    fn handle_of(&self, user: UserId) -> Option<Handle> {
        if !self.tells_marks() {
            return None;
        }
        let handle = digest::user_handle(user);
        let mut same = self
            .present()
            .filter(|(other, _)| digest::user_handle(*other) == handle);
        let is_only = same.next().map(|(other, _)| other) == Some(user) && same.next().is_none();
        is_only.then_some(Handle(handle))
    }
}
