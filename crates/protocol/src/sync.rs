//! Coming level: the inbox, pages of entries, live entries.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidings_core::{ConversationId, Generation, Time, UserId};

use crate::entry::{ConversationKind, Entry, Role, Settings};
use crate::mark::MemberMarks;

/// Asks for my conversations, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InboxRequest {
    /// The request's id.
    pub id: u64,
    /// The `next` of the page before; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// At most so many; the server's bound if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of my conversations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InboxPage {
    /// The request's id.
    pub id: u64,
    /// The conversations, newest first.
    pub conversations: Vec<Conversation>,
    /// The cursor of the next page; absent on the last. A conversation that moves while you page may
    /// come twice (the later counts), never not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Asks for one conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConversationRequest {
    /// The request's id.
    pub id: u64,
    /// Which.
    pub conversation: ConversationId,
}

/// One conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConversationFrame {
    /// The request's id; absent in an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The conversation.
    pub conversation: Conversation,
}

/// A conversation as one of its members has it: its head, settings and marks as of one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Conversation {
    /// Its id.
    pub conversation: ConversationId,
    /// Direct or group.
    pub kind: ConversationKind,
    /// Which life of the log.
    pub generation: Generation,
    /// The head: the last entry.
    pub head: u64,
    /// Entries that count up to the head.
    pub ordinal: u64,
    /// The time of the last entry.
    pub at: Time,
    /// Entries up to here are no longer kept.
    #[serde(default)]
    pub trimmed: u64,
    /// The first entry that I may see.
    pub from: u64,
    /// The last entry that changed who is in.
    pub membership_seq: u64,
    /// The encryption epoch.
    #[serde(default)]
    pub epoch: u64,
    /// Name, policies, retention.
    pub settings: Settings,
    /// How many are in.
    pub member_count: u32,
    /// Those who are in, with their marks, where they are 32 at most (me included); otherwise empty:
    /// ask for `members`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<Member>,
    /// My role.
    pub role: Role,
    /// As far as I have read.
    pub read: ReadMark,
    /// As far as some device of mine has received.
    pub delivered: u64,
    /// As far as this device has received.
    pub device: u64,
    /// Where I (last) came in: unread is counted from the later of this and `read`.
    pub joined: ReadMark,
    /// Entries that count that I wrote.
    pub own: u64,
    /// Messages by others that I have not read.
    pub unread: u64,
    /// The last message that is not erased, if it is among the newest entries: for the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Entry>,
}

/// A read mark with the counts at its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReadMark {
    /// As far as.
    pub seq: u64,
    /// Entries that count up to there.
    pub ordinal: u64,
    /// How many of those are my own.
    pub own: u64,
}

/// A member of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Member {
    /// Who.
    pub user: UserId,
    /// As what.
    pub role: Role,
    /// The entry by which the member (last) came in: no recipient of entries before it.
    pub joined: u64,
    /// As far as it has received and lets others see that it has read.
    pub marks: MemberMarks,
}

/// Asks for members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MembersRequest {
    /// The request's id.
    pub id: u64,
    /// Of which conversation.
    pub conversation: ConversationId,
    /// From the first above this user; absent for the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<UserId>,
    /// At most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of members, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MembersPage {
    /// The request's id.
    pub id: u64,
    /// Of which conversation.
    pub conversation: ConversationId,
    /// The members.
    pub members: Vec<Member>,
    /// Whether there are more: ask again with `after` = the last.
    pub more: bool,
}

/// Asks for a page of entries: after, before or around a seq (exactly one of the three).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryRequest {
    /// The request's id.
    pub id: u64,
    /// Of which conversation.
    pub conversation: ConversationId,
    /// Entries above this seq, oldest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Entries below this seq: the newest of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Entries on both sides of this seq, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub around: Option<u64>,
    /// At most so many entries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// With `after`: the generation in which that seq was seen. Another one now: the answer is `reset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    /// With `after`: the short hash of the entry with that seq, if this device has it. Another one: `reset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<u32>,
}

/// A page of entries, in the order of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryPage {
    /// The request's id.
    pub id: u64,
    /// Of which conversation.
    pub conversation: ConversationId,
    /// Which life of the log.
    pub generation: Generation,
    /// The page covers the seqs from here …
    pub from: u64,
    /// … to here, both included: what is missing inside is not for you, and is not to be asked for.
    /// `to` = `from` - 1: covers nothing.
    pub to: u64,
    /// The entries.
    pub entries: Vec<Entry>,
    /// What alters the page's entries, as of `head`, also from outside the page.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alterations: Vec<Alteration>,
    /// The head when the page was read.
    pub head: u64,
    /// Entries up to here are no longer kept.
    #[serde(default)]
    pub trimmed: u64,
    /// Whether there is more in the direction that was asked for (`around`: on either side).
    pub more: bool,
}

/// What has become of an entry: by this a page is right by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alteration {
    /// The entry.
    pub target: u64,
    /// Its last edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit: Option<Box<Entry>>,
    /// The seq of its deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<u64>,
    /// The sums of its reactions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<ReactionSum>,
}

/// How many put this emoji on an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReactionSum {
    /// The emoji.
    pub emoji: String,
    /// How many.
    pub count: u64,
    /// Whether I am one of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mine: bool,
}

/// New entries of a conversation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entries {
    /// In which conversation.
    pub conversation: ConversationId,
    /// Covers the seqs from here …
    pub from: u64,
    /// … to here, both included.
    pub to: u64,
    /// The last change of who is in, as of `to`.
    pub membership_seq: u64,
    /// The entries.
    pub entries: Vec<Entry>,
}

/// You are no longer in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gone {
    /// Which.
    pub conversation: ConversationId,
    /// By which entry.
    pub seq: u64,
}
