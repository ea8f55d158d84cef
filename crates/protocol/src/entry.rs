//! Entries, content and settings as they stand on the wire.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidings_core::{ClientId, DeviceId, Time, UserId};

use crate::blob::Blob;

/// One item of a conversation's log: the envelope's fields, then at most one body. An entry without the
/// body that its kind should have was erased.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Its number in the log.
    pub seq: u64,
    /// What kind it is. Kinds that a client does not know are kept and shown as "not supported here".
    pub kind: Kind,
    /// Who wrote it.
    pub author: UserId,
    /// With which device; absent in what came in a short form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// The server's time.
    pub at: Time,
    /// Entries that count up to and including this one.
    pub ordinal: u64,
    /// Whether it counts as unread.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub counts: bool,
    /// The sender's own id; told to the author's devices only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
    /// What a reply answers; what an edit, deletion or reaction alters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u64>,
    /// In which lane it is counted; absent for 0.
    #[serde(default, skip_serializing_if = "is_zero32")]
    pub lane: u32,
    /// When its body vanishes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Time>,
    /// The encryption epoch in which it was written; absent for 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u64,
    /// The version of the rules needed to apply it.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub rules: u8,
    /// Kinds `message` and `edit`: what it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// Kind `reaction`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaction: Option<Reaction>,
    /// Kind `create`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<Box<Create>>,
    /// Kind `join`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<Join>,
    /// Kinds `remove` and `role`: whom it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// Kind `role`: as what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// Kind `settings`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Box<SettingsChange>>,
    /// Kind `commit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<Box<OpaqueContent>>,
}

impl Entry {
    /// An entry of which no more is known than what every one has: it does not count, and has no body.
    #[must_use]
    pub fn bare(seq: u64, kind: tidings_core::Kind, author: UserId, at: Time) -> Entry {
        Entry {
            seq,
            kind: Kind(kind),
            author,
            device: None,
            at,
            ordinal: 0,
            counts: false,
            client_id: None,
            target: None,
            lane: 0,
            expires: None,
            epoch: 0,
            rules: one(),
            content: None,
            reaction: None,
            create: None,
            join: None,
            user: None,
            role: None,
            settings: None,
            commit: None,
        }
    }
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

fn is_zero32(value: &u32) -> bool {
    *value == 0
}

fn one() -> u8 {
    1
}

fn is_one(value: &u8) -> bool {
    *value == 1
}

/// What kind an entry is: a name in JSON, its number in CBOR. Unknown ones are kept as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub tidings_core::Kind);

/// What a message says: text and what belongs to it, or content that the server cannot read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Content {
    /// The text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// Who is mentioned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<UserId>,
    /// References to files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Attachment>,
    /// Encrypted or otherwise unknown content, passed on untouched; then the others are empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opaque: Option<OpaqueContent>,
}

impl Content {
    /// Text and nothing else.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Content {
        Content {
            text: text.into(),
            ..Content::default()
        }
    }

    /// The text, if there is nothing else.
    #[must_use]
    pub fn text_alone(&self) -> Option<&str> {
        let is_alone =
            self.mentions.is_empty() && self.attachments.is_empty() && self.opaque.is_none();
        is_alone.then_some(&self.text)
    }
}

/// A reference to a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Attachment {
    /// Where: a media id or a URL.
    pub reference: String,
    /// The file's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The media type as the sender gave it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// Size in bytes.
    #[serde(default)]
    pub bytes: u64,
}

/// Content that the server need not understand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpaqueContent {
    /// What it is, for the clients.
    pub content_type: String,
    /// The bytes.
    pub data: Blob,
}

/// A reaction put on or taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reaction {
    /// The emoji.
    pub emoji: String,
    /// Put on (true) or taken back.
    pub on: bool,
}

/// A conversation's beginning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Create {
    /// Direct or group.
    pub kind: ConversationKind,
    /// Who was in it from the start.
    pub members: Vec<CreateMember>,
    /// Name, policies, retention.
    pub settings: Settings,
}

/// A first member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CreateMember {
    /// Who.
    pub user: UserId,
    /// As what.
    pub role: Role,
}

/// People came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Join {
    /// Who.
    pub users: Vec<UserId>,
    /// The first seq that they may see.
    pub from: u64,
}

/// What kind a conversation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConversationKind {
    /// Two users.
    Direct,
    /// Invited members.
    Group,
}

/// What a member may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Takes part.
    Member,
    /// Also settings, removals, deletion of others' messages.
    Admin,
    /// Also roles.
    Owner,
}

/// Who may do something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Every member.
    #[default]
    Members,
    /// Admins and owners.
    Admins,
}

/// How long bodies are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Retention {
    /// Until deleted.
    #[default]
    Forever,
    /// This many days.
    Days(u16),
    /// Until every device it is owed to has it.
    UntilDelivered,
}

/// Who can read the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encryption {
    /// The server can.
    #[default]
    None,
    /// Only the members' devices can.
    Mls,
}

/// Name, picture, policies. Absent fields have their default.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Settings {
    /// The name; empty in direct conversations.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it is about.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// A reference to a picture.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub avatar: String,
    /// Who may post.
    pub post: Policy,
    /// Who may invite.
    pub invite: Policy,
    /// Who may change name, description and picture.
    pub describe: Policy,
    /// Whether newcomers see what was said before.
    pub share_history: bool,
    /// How long messages are kept.
    pub retention: Retention,
    /// Milliseconds after which messages vanish; absent for never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vanish_after_ms: Option<u64>,
    /// Fixed when the conversation is created.
    pub encryption: Encryption,
    /// The secret of the invite link, told to those who may invite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invite_link: Option<Blob>,
}

impl Default for Settings {
    fn default() -> Self {
        crate::convert::settings_to_wire(&tidings_core::conversation::Settings::default())
    }
}

/// A change of some of the settings; absent fields stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SettingsChange {
    /// The name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// A reference to a picture; empty for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<String>,
    /// Who may post.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post: Option<Policy>,
    /// Who may invite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<Policy>,
    /// Who may change name, description and picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub describe: Option<Policy>,
    /// Whether newcomers see what was said before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_history: Option<bool>,
    /// How long messages are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Milliseconds after which messages vanish; 0 for never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vanish_after_ms: Option<u64>,
    /// In a request: `true` makes a new invite link (an old one ends), `false` withdraws it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite_link: Option<bool>,
}
