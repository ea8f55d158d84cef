//! Sending: a wish that becomes an entry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidings_core::{ClientId, ConversationId, Generation, Time, UserId};

use crate::blob::Blob;
use crate::entry::{Content, ConversationKind, OpaqueContent, Role, Settings, SettingsChange};

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Position {
    /// Which life of the log.
    pub generation: Generation,
    /// As far as, inclusive.
    pub seq: u64,
}

/// A wish that becomes an entry if the rules allow it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Send {
    /// The request's id.
    pub id: u64,
    /// In which conversation. Absent with `to`, and with the action `create` (the server derives the new
    /// conversation's id from author and client id, so that a retry makes no second one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation: Option<ConversationId>,
    /// Instead of `conversation`: the direct conversation with this user, made if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<UserId>,
    /// The sender's own id for it: the same in every retry.
    pub client_id: ClientId,
    /// As far as this device had itself seen the conversation when it first tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Position>,
    /// Only in this encryption epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_epoch: Option<u64>,
    /// What is wished.
    pub action: Action,
    /// Nothing that this device still wants to send in this conversation comes before this one: an earlier
    /// send that was refused for now was settled or given up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first: bool,
}

/// What is wished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Say something.
    Message(MessageAction),
    /// Put new content in the place of an own message's.
    Edit(EditAction),
    /// Delete a message for everyone.
    Delete(TargetAction),
    /// Put a reaction on a message or take it back.
    React(ReactAction),
    /// Begin a group.
    Create(CreateAction),
    /// Bring people in.
    Invite(InviteAction),
    /// Come in by the invite link.
    Join(JoinAction),
    /// Go.
    Leave(NoDetail),
    /// Make a member go.
    Remove(MemberAction),
    /// Give a member another role.
    SetRole(RoleAction),
    /// Change settings.
    Configure(SettingsChange),
    /// Move the encryption epoch on.
    Commit(OpaqueContent),
}

/// Nothing more to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NoDetail {}

/// Say something.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MessageAction {
    /// What.
    pub content: Content,
    /// Which message it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<u64>,
    /// It does not count as unread (opaque content alone).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub silent: bool,
}

/// New content for an own message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EditAction {
    /// The message's seq.
    pub target: u64,
    /// What it says now.
    pub content: Content,
}

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetAction {
    /// The message's seq.
    pub target: u64,
}

/// A reaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReactAction {
    /// The message's seq.
    pub target: u64,
    /// The emoji, or any short text.
    pub emoji: String,
    /// Put on (true, the default) or take back (false).
    #[serde(default = "yes")]
    pub on: bool,
}

fn yes() -> bool {
    true
}

/// A new group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CreateAction {
    /// The others that are in it from the start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<UserId>,
    /// Name, policies, retention.
    #[serde(default)]
    pub settings: Settings,
    /// Which kind; a group if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ConversationKind>,
}

/// Whom to bring in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InviteAction {
    /// Them.
    pub users: Vec<UserId>,
}

/// An invite link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JoinAction {
    /// The link's secret, 16 bytes.
    pub link: Blob,
}

/// A member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberAction {
    /// Whom.
    pub user: UserId,
}

/// A member's new role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoleAction {
    /// Whom.
    pub user: UserId,
    /// As what.
    pub role: Role,
}

/// Answers `send`: the entry is durable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sent {
    /// The request's id.
    pub id: u64,
    /// The sender's own id for it.
    pub client_id: ClientId,
    /// In which conversation.
    pub conversation: ConversationId,
    /// Which entry it became, now or in an earlier try.
    pub seq: u64,
    /// The entry's time.
    pub at: Time,
    /// The log's generation.
    pub generation: Generation,
}
