//! Who is there: profiles, online, last seen, typing.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidings_core::{ConversationId, Time, UserId};

/// What is on the screen now; replaces what was before.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Watch {
    /// The request's id; absent: no answer is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Whose presence to tell: now, and whenever it changes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserId>,
    /// Of which conversation to tell typing and summed ticks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
}

/// Whether somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Presence {
    /// Who.
    pub user: UserId,
    /// Has a live session.
    pub online: bool,
    /// If not: when it last had one, as far as its privacy setting lets you see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Time>,
}

/// I am typing (or no longer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Typing {
    /// Where.
    pub conversation: ConversationId,
    /// Typing (repeat every few seconds) or stopped.
    pub on: bool,
}

/// Somebody is typing (or no longer). Forget it after 6 seconds without a repetition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TypingEvent {
    /// Where.
    pub conversation: ConversationId,
    /// Who.
    pub user: UserId,
    /// Typing or stopped.
    pub on: bool,
}

/// Asks for profiles. By id, by username, or both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UsersRequest {
    /// The request's id.
    pub id: u64,
    /// By id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserId>,
    /// By username (exact, any case).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usernames: Vec<String>,
}

/// Profiles; who does not exist is left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Users {
    /// The request's id.
    pub id: u64,
    /// The profiles.
    pub users: Vec<Profile>,
}

/// What everybody may know of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Profile {
    /// Who.
    pub user: UserId,
    /// The unique name.
    pub username: String,
    /// The name to show; the username if empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub display_name: String,
    /// A reference to a picture.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub avatar: String,
}
