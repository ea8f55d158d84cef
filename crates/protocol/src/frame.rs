//! Everything that travels over a connection: `{"send": {"id": 1, …}}`, one name and what belongs to it.
//!
//! A request carries an `id` and gets exactly one answer with the same `id`: the frame named in its
//! description, or `error`. A notice carries none and gets none, but for an `error` if it is wrong.
//! Everything else that the server sends is an event.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{mark, presence, problem, send, session, short, sync};

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientFrame {
    /// The first frame of a connection. Answered by `welcome`.
    Hello(session::Hello),
    /// The heartbeat. Answered by `pong`.
    Ping(session::Ping),
    /// A wish that becomes an entry. Answered by `sent`.
    Send(send::Send),
    /// Raises marks. Answered by `done` if it has an id.
    Mark(mark::RaiseMarks),
    /// A page of my conversations. Answered by `inbox`.
    Inbox(sync::InboxRequest),
    /// One conversation. Answered by `conversation`.
    Conversation(sync::ConversationRequest),
    /// A page of entries. Answered by `history`.
    History(sync::HistoryRequest),
    /// A page of a conversation's members. Answered by `members`.
    Members(sync::MembersRequest),
    /// Who received and read one message, and when. Answered by `receipts`.
    Receipts(mark::ReceiptsRequest),
    /// Profiles of users. Answered by `users`.
    Users(presence::UsersRequest),
    /// What is on the screen: whose presence and which conversation's ticks to tell. Answered by `done`
    /// if it has an id.
    Watch(presence::Watch),
    /// I am typing (or no longer). A notice.
    Typing(presence::Typing),
    /// Puts a value into my private map. Answered by `done`.
    PutPrivate(session::PutPrivate),
    /// My private map. Answered by `private`.
    Private(session::PrivateRequest),
    /// A text that becomes an entry, in the short form of `send`. Answered by `said`.
    Say(short::Say),
    /// Raises marks, in the short form of `mark`. Answered by `done` if it has an id.
    Seen(short::Seen),
}

impl ClientFrame {
    /// The request's id; `None` for a notice.
    #[must_use]
    pub fn id(&self) -> Option<u64> {
        match self {
            ClientFrame::Hello(frame) => Some(frame.id),
            ClientFrame::Ping(frame) => Some(frame.id),
            ClientFrame::Send(frame) => Some(frame.id),
            ClientFrame::Mark(frame) => frame.id,
            ClientFrame::Inbox(frame) => Some(frame.id),
            ClientFrame::Conversation(frame) => Some(frame.id),
            ClientFrame::History(frame) => Some(frame.id),
            ClientFrame::Members(frame) => Some(frame.id),
            ClientFrame::Receipts(frame) => Some(frame.id),
            ClientFrame::Users(frame) => Some(frame.id),
            ClientFrame::Watch(frame) => frame.id,
            ClientFrame::Typing(_) => None,
            ClientFrame::PutPrivate(frame) => Some(frame.id),
            ClientFrame::Private(frame) => Some(frame.id),
            ClientFrame::Say(frame) => Some(frame.id),
            ClientFrame::Seen(frame) => frame.id,
        }
    }
}

/// What the server sends.
// Frames live for the moment of their encoding; boxes would cost more than the space.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerFrame {
    /// Answers `hello`.
    Welcome(session::Welcome),
    /// Answers `ping`.
    Pong(session::Pong),
    /// Answers `send`: the entry is durable.
    Sent(send::Sent),
    /// Answers what has nothing more to say.
    Done(session::Done),
    /// Answers `inbox`.
    Inbox(sync::InboxPage),
    /// Answers `conversation`; as an event (without an id): this conversation is new to you, or has
    /// changed in a way that the entries alone do not tell.
    Conversation(Box<sync::ConversationFrame>),
    /// Answers `history`.
    History(sync::HistoryPage),
    /// Answers `members`.
    Members(sync::MembersPage),
    /// Answers `receipts`.
    Receipts(mark::Receipts),
    /// Answers `users`.
    Users(presence::Users),
    /// Answers `private`; as an event: these values of my private map changed on another device.
    Private(session::Private),
    /// Answers a request that failed, or says what was wrong with a notice.
    Error(problem::ErrorFrame),
    /// Event: new entries of a conversation.
    Entries(sync::Entries),
    /// Event: marks of members of a conversation have moved (mine included).
    Marks(mark::Marks),
    /// Event: in a conversation of more than 32 members that is on the screen: how far everybody is.
    Ticks(mark::Ticks),
    /// Event: you are no longer in this conversation.
    Gone(sync::Gone),
    /// Event: presence of somebody on the screen.
    Presence(presence::Presence),
    /// Event: somebody is typing.
    Typing(presence::TypingEvent),
    /// The last frame before the server closes the connection.
    Bye(session::Bye),
    /// Answers `say`: the entry is durable.
    Said(short::Said),
    /// Event: new messages of a conversation, in the short form of `entries`.
    Messages(short::Messages),
    /// Event: marks of members have moved, in the short form of `marks`.
    Steps(short::Steps),
}
