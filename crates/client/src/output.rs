//! What the client asks of its driver, and the changes that it tells the screen.

use tidings_core::{ClientId, ConversationId, UserId};
use tidings_protocol::{ClientFrame, Code, Problem};

use crate::store::{LoadToken, Read, StoreOp, StoreToken};
use crate::view::{ConversationView, Item};

/// What the driver is to do. In this order: a [`Output::Load`] sees what the [`Output::Store`]s before
/// it wrote.
#[allow(
    clippy::large_enum_variant,
    reason = "lives for the moment between two calls"
)]
#[derive(Clone, Debug)]
pub enum Output {
    /// Open a connection, then call `handle_connected`; if it fails, `handle_disconnected`.
    Connect,
    /// Close the connection. No `handle_disconnected` is expected.
    Disconnect,
    /// Send this over the connection; drop it if there is none any more.
    Send(ClientFrame),
    /// Write this as one transaction, after all before it, then call `handle_stored`.
    Store(Vec<StoreOp>, StoreToken),
    /// Read these ranges, then call `handle_loaded` with the rows of each.
    Load(Vec<Read>, LoadToken),
    /// Something on the screen changes.
    Changed(Change),
}

/// What changes on the screen.
#[allow(
    clippy::large_enum_variant,
    reason = "lives for the moment between two calls"
)]
#[derive(Clone, Debug)]
pub enum Change {
    /// The connection.
    Status(Status),
    /// The list of conversations.
    Conversations(ListChange<ConversationView>),
    /// The timeline of an open conversation.
    Timeline {
        /// Which.
        conversation: ConversationId,
        /// How.
        change: ListChange<Item>,
    },
    /// What is beyond the ends of a timeline, or whether it is being loaded: see `Client::timeline`.
    TimelineEnds(ConversationId),
    /// A conversation's settings, members or who is typing: see `Client::conversation`.
    Conversation(ConversationId),
    /// Somebody's profile.
    Profile(UserId),
    /// Somebody's presence.
    Presence(UserId),
    /// A message by somebody else has come that the user was not told of yet (for a notification).
    Received {
        /// In which conversation.
        conversation: ConversationId,
        /// Which entry.
        seq: u64,
    },
    /// A wish that was sent succeeded; for `create` this tells the new group's id.
    Sent {
        /// The wish.
        client_id: ClientId,
        /// In which conversation.
        conversation: ConversationId,
        /// The entry that it became.
        seq: u64,
    },
    /// A wish was refused for good. A message stays in its timeline as failed; other wishes are dropped.
    Refused {
        /// The wish.
        client_id: ClientId,
        /// In which conversation; `None` for a group that was to be created.
        conversation: Option<ConversationId>,
        /// Why.
        problem: Problem,
    },
    /// The answer to `Client::look_up`: those of the usernames that exist have a profile now.
    LookedUp {
        /// As asked.
        username: String,
        /// Who it is.
        user: Option<UserId>,
    },
}

/// How a list changes. Applied one after the other they make the list of before the list of now.
#[derive(Clone, Debug, PartialEq)]
pub enum ListChange<T> {
    /// It is this now.
    Reset(Vec<T>),
    /// One more, at this index.
    Insert(usize, T),
    /// The one at this index has changed.
    Set(usize, T),
    /// The one at this index is gone.
    Remove(usize),
}

impl<T: Clone> ListChange<T> {
    /// Applies the change to a copy of the list.
    pub fn apply_to(&self, list: &mut Vec<T>) {
        match self {
            ListChange::Reset(items) => list.clone_from(items),
            ListChange::Insert(index, item) => list.insert((*index).min(list.len()), item.clone()),
            ListChange::Set(index, item) => {
                if let Some(slot) = list.get_mut(*index) {
                    slot.clone_from(item);
                }
            }
            ListChange::Remove(index) => {
                if *index < list.len() {
                    list.remove(*index);
                }
            }
        }
    }
}

/// How the client stands to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// No connection; another one is tried when `poll_timeout` is reached.
    Offline,
    /// Asked for a connection, or waiting for `welcome`.
    Connecting,
    /// Connected and catching up.
    Syncing,
    /// Connected and level with the server.
    Online,
    /// Told to stay away: the user did it, or must do something (log in again, get a newer version).
    Stopped(Option<Code>),
}
