//! Watermarks on the wire: acknowledging, reading, ticks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidings_core::{ConversationId, Generation, Time, UserId};

use crate::sync::ReadMark;

/// Raises marks of this device and user. Lower values than before are no error and change nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RaiseMarks {
    /// The request's id; absent: no answer is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// The marks.
    pub marks: Vec<MarkUpdate>,
}

/// How far this device and user are in one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MarkUpdate {
    /// In which conversation.
    pub conversation: ConversationId,
    /// This device has received, and keeps, everything up to here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<u64>,
    /// The user has been shown everything up to here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<u64>,
    /// The generation in which these were seen; marks of another one are ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
}

/// How far a member is, as others see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MemberMarks {
    /// Received by some device: two ticks up to here.
    pub delivered: u64,
    /// Read, as far as the member lets others see it: blue up to here.
    pub shown: u64,
}

/// Marks of members have moved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Marks {
    /// In which conversation.
    pub conversation: ConversationId,
    /// Whose, and where they are now.
    pub marks: Vec<MarkStep>,
}

/// Where the marks of one member are now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MarkStep {
    /// Whose.
    pub user: UserId,
    /// When the step was made.
    pub at: Time,
    /// The delivered mark, if it moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<u64>,
    /// The shown mark, if it moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<u64>,
    /// My own read mark, if it moved; told to my sessions only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<ReadMark>,
}

/// How far everybody is, in a conversation of more than 32 members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ticks {
    /// In which conversation.
    pub conversation: ConversationId,
    /// Every other member has received up to here.
    pub delivered: u64,
    /// Every other member lets it be seen that it has read up to here.
    pub shown: u64,
}

/// Asks who received and read one message, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ReceiptsRequest {
    /// The request's id.
    pub id: u64,
    /// In which conversation.
    pub conversation: ConversationId,
    /// Which entry.
    pub seq: u64,
}

/// Who received and read one message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Receipts {
    /// The request's id.
    pub id: u64,
    /// In which conversation.
    pub conversation: ConversationId,
    /// Which entry.
    pub seq: u64,
    /// Its recipients: the others who had joined at it and still are members.
    pub recipients: Vec<Receipt>,
}

/// How one recipient stands to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// Who.
    pub user: UserId,
    /// Whether some device of theirs has it.
    pub delivered: bool,
    /// Whether they have read it and let it be seen.
    pub shown: bool,
    /// When it was delivered, if the time was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Time>,
    /// When it was read, if the time was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_at: Option<Time>,
}
