//! Short forms: what most frames are about, in few bytes. A session agrees on them in `hello`; a conversation or
//! user is then named by a [`Handle`], which both sides reckon from ids that they know, and a time by its lowest
//! bits ([`ShortTime`]).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidings_core::{ClientId, ConversationId, Generation, Kind, Time, UserId};

use crate::entry::{Content, Entry};
use crate::mark::{MarkStep, MarkUpdate};
use crate::send::{Action, MessageAction, Position, Send};

/// A conversation of the inbox, or a member of one, in 32 bits. Whoever writes one makes sure that it means one
/// thing alone to the reader; what is ambiguous is told in the long form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Handle(pub u32);

/// The lowest 32 bits of a time in milliseconds since 1970. It means the moment nearest to now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShortTime(pub u32);

impl ShortTime {
    /// The time that it means to who reads it at about `now` (24 days sooner or later do no harm).
    #[must_use]
    pub fn near(self, now: Time) -> Time {
        let ahead = self.0.wrapping_sub(now.0 as u32) as i32;
        Time(now.0.saturating_add_signed(i64::from(ahead)))
    }
}

impl From<Time> for ShortTime {
    fn from(time: Time) -> ShortTime {
        ShortTime(time.0 as u32)
    }
}

/// Text is said in a conversation that this device and the server both know: as a `send` with `conversation`,
/// `after` and the action `message`. For a first try: what is sent again is sent in the long form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Say {
    /// The request's id.
    pub id: u64,
    /// In which conversation.
    pub conversation: Handle,
    /// The sender's own id for it.
    pub client_id: ClientId,
    /// As far as this device has itself seen the conversation, in the generation that the handle stands for.
    pub after: u64,
    /// The text.
    pub text: String,
    /// Which message it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<u64>,
    /// As in `send`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first: bool,
}

impl Say {
    /// The short form of a send in a conversation with this handle, of the generation of its `after`. `None` if it has
    /// none: without `after`, or where there is more to say.
    #[must_use]
    pub fn of(send: &Send, conversation: Handle) -> Option<Say> {
        let Action::Message(message) = &send.action else {
            return None;
        };
        let is_plain = !message.silent && send.if_epoch.is_none();
        Some(Say {
            id: send.id,
            conversation,
            client_id: send.client_id,
            after: send.after?.seq,
            text: message
                .content
                .text_alone()
                .filter(|_| is_plain)?
                .to_owned(),
            reply_to: message.reply_to,
            first: send.first,
        })
    }

    /// The send that it stands for; without `after` where the generation is not known.
    #[must_use]
    pub fn long(self, conversation: ConversationId, generation: Option<Generation>) -> Send {
        let seq = self.after;
        Send {
            id: self.id,
            conversation: Some(conversation),
            to: None,
            client_id: self.client_id,
            after: generation.map(|generation| Position { generation, seq }),
            if_epoch: None,
            action: Action::Message(MessageAction {
                content: Content::text(self.text),
                reply_to: self.reply_to,
                silent: false,
            }),
            first: self.first,
        }
    }
}

/// Answers `say`: the entry is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Said {
    /// The request's id.
    pub id: u64,
    /// Which entry it became.
    pub seq: u64,
    /// The entry's time.
    pub at: ShortTime,
    /// Entries that count up to and including this one. If it is here, this answer stands for the entry's event
    /// too: there comes none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordinal: Option<u64>,
}

/// Raises marks in one conversation: as a `mark`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// The request's id; absent: no answer is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// In which conversation.
    pub conversation: Handle,
    /// This device has received, and keeps, everything up to here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<u64>,
    /// The user has been shown everything up to here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<u64>,
    /// This session wants to be told, as the others are, where its user's read mark is then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tell: bool,
}

impl Seen {
    /// The marks that it stands for.
    #[must_use]
    pub fn long(&self, conversation: ConversationId) -> MarkUpdate {
        MarkUpdate {
            conversation,
            delivered: self.delivered,
            read: self.read,
            generation: None,
        }
    }
}

/// Event: new messages of a conversation, one entry after the other, all of kind `message` with nothing but what
/// stands here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Messages {
    /// In which conversation.
    pub conversation: Handle,
    /// The seq of the first; each that follows has the next.
    pub from: u64,
    /// Entries that count up to and including the first; all of these count.
    pub ordinal: u64,
    /// The messages.
    pub messages: Vec<Message>,
}

/// One of the messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// Who wrote it, if a handle says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Handle>,
    /// The server's time.
    pub at: ShortTime,
    /// The text.
    pub text: String,
    /// Which message it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<u64>,
    /// Who wrote it, if no handle says so: in a conversation of more than 32 members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
}

impl Message {
    /// The entry that it stands for, as of about `now`.
    #[must_use]
    pub fn long(self, seq: u64, author: UserId, ordinal: u64, now: Time) -> Entry {
        Entry {
            ordinal,
            counts: true,
            target: self.reply_to,
            content: Some(Content::text(self.text)),
            ..Entry::bare(seq, Kind::Message, author, self.at.near(now))
        }
    }
}

/// Event: marks of members of a conversation have moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Steps {
    /// In which conversation.
    pub conversation: Handle,
    /// Whose, and where they are now.
    pub steps: Vec<ShortStep>,
}

/// Where the marks of one member are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShortStep {
    /// Whose.
    pub user: Handle,
    /// When the step was made.
    pub at: ShortTime,
    /// The delivered mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<u64>,
    /// The shown mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<u64>,
}

impl ShortStep {
    /// The short form of a step of a member with this handle.
    #[must_use]
    pub fn of(step: &MarkStep, user: Handle) -> ShortStep {
        ShortStep {
            user,
            at: step.at.into(),
            delivered: step.delivered,
            shown: step.shown,
        }
    }

    /// The step that it stands for, as of about `now`.
    #[must_use]
    pub fn long(&self, user: UserId, now: Time) -> MarkStep {
        MarkStep {
            user,
            at: self.at.near(now),
            delivered: self.delivered,
            shown: self.shown,
            read: None,
        }
    }
}

macro_rules! number {
    ($name:ident, $description:literal) => {
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "integer", "minimum": 0, "maximum": u32::MAX, "description": $description
                })
            }
        }
    };
}

number!(Handle, "a handle: 32 bits");
number!(
    ShortTime,
    "the lowest 32 bits of a time in milliseconds since 1970"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_time_means_the_nearest_moment() {
        let day = 86_400_000;
        for now in [1_795_262_400_007, u64::from(u32::MAX), 420 * (1 << 32)] {
            for shift in [-24 * day, -1, 0, 1, 24 * day] {
                let meant = Time(now.saturating_add_signed(shift));
                assert_eq!(
                    ShortTime::from(meant).near(Time(now)),
                    meant,
                    "{now} {shift}"
                );
            }
        }
    }
}
