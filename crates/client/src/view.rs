//! What a screen shows: plain values, made new whenever they change.

use tidings_core::{ClientId, ConversationId, DeviceId, Time, UserId};
use tidings_protocol::Problem;
use tidings_protocol::entry::{
    Content, ConversationKind, Create, Join, Role, Settings, SettingsChange,
};

/// A conversation in the list.
#[derive(Clone, Debug, PartialEq)]
pub struct ConversationView {
    /// Its id.
    pub conversation: ConversationId,
    /// Direct or group.
    pub kind: ConversationKind,
    /// The group's name, or the other's display name.
    pub name: String,
    /// The other user of a direct conversation.
    pub other: Option<UserId>,
    /// The last message, what waits to be sent included.
    pub last: Option<Preview>,
    /// When something happened last: the list is sorted by it, newest first.
    pub at: Time,
    /// Messages by others that the user has not read. Above 999 show "999+".
    pub unread: u64,
    /// Who is typing.
    pub typing: Vec<UserId>,
    /// Whether the other of a direct conversation is online; `None` if that is not known.
    pub online: Option<bool>,
    /// The user is no longer in it; what was received before is kept.
    pub gone: bool,
}

/// A message in a few words.
#[derive(Clone, Debug, PartialEq)]
pub struct Preview {
    /// Who wrote it.
    pub author: UserId,
    /// When.
    pub at: Time,
    /// What it says, shortened; empty if there is no text.
    pub text: String,
    /// Whether there is something besides the text (attachments, or content that is not supported here).
    pub more: bool,
    /// Deleted or vanished.
    pub erased: bool,
    /// How far it is, if it is one's own.
    pub state: ItemState,
}

/// What else is known of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub struct ConversationDetails {
    /// What stands in the list.
    pub view: ConversationView,
    /// Name, policies, retention.
    pub settings: Settings,
    /// The user's role.
    pub role: Role,
    /// How many are in.
    pub member_count: u32,
    /// Who they are, where that is told (up to 32 members), the user included.
    pub members: Vec<MemberView>,
    /// The last entry that this device knows of.
    pub head: u64,
    /// As far as this device has it.
    pub position: u64,
    /// As far as the user has read, on any device.
    pub read: u64,
}

/// A member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// Who.
    pub user: UserId,
    /// As what.
    pub role: Role,
    /// Has received up to here.
    pub delivered: u64,
    /// Lets others see that it has read up to here.
    pub shown: u64,
}

/// An open timeline: a run of the log without a gap, then what waits to be sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TimelineView {
    /// The items, oldest first.
    pub items: Vec<Item>,
    /// Whether there is something before the first item: `Client::load_older`.
    pub older: bool,
    /// Whether there is something between the last item and the present: `Client::load_newer`.
    pub newer: bool,
    /// Whether either is being loaded.
    pub loading: bool,
}

/// What names an item for as long as it is shown. A message keeps its key when it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKey {
    /// An entry of the log.
    Entry(u64),
    /// A message of this device that waits in its outbox, or was sent a moment ago.
    Outgoing(ClientId),
}

/// One item of a timeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its name in the list.
    pub key: ItemKey,
    /// Its number in the log, once it has one.
    pub seq: Option<u64>,
    /// Who wrote it.
    pub author: UserId,
    /// With which device, if that was told.
    pub device: Option<DeviceId>,
    /// When: the server's time, or this device's until it is sent.
    pub at: Time,
    /// What it is.
    pub body: ItemBody,
    /// How far it is.
    pub state: ItemState,
    /// What it answers.
    pub reply: Option<ReplyView>,
    /// When it was edited last.
    pub edited: Option<Time>,
    /// The reactions, most first.
    pub reactions: Vec<ReactionView>,
    /// When it vanishes.
    pub expires: Option<Time>,
}

/// What an item is.
#[derive(Clone, Debug, PartialEq)]
pub enum ItemBody {
    /// A message.
    Message(Content),
    /// A message that was deleted for everyone.
    Deleted,
    /// A message whose time is up, or that is no longer kept.
    Vanished,
    /// The conversation began.
    Created(Option<Create>),
    /// People came in.
    Joined(Option<Join>),
    /// The author left.
    Left,
    /// The author removed somebody.
    Removed(Option<UserId>),
    /// The author gave somebody another role.
    RoleChanged(Option<UserId>, Option<Role>),
    /// The author changed settings.
    SettingsChanged(Option<SettingsChange>),
    /// The encryption epoch moved on.
    EpochMoved,
    /// "Not supported here": an entry of a kind (its number) that this program does not know.
    Unsupported(u8),
}

/// How far an item is. Ticks are for one's own messages.
#[derive(Clone, Debug, PartialEq)]
pub enum ItemState {
    /// Not one's own, or not a message.
    Plain,
    /// Waits to be sent.
    Pending,
    /// ✓ durable on the server.
    Sent,
    /// ✓✓ every recipient has it.
    Delivered,
    /// ✓✓ blue: every recipient lets it be seen that it has read it.
    Read,
    /// Refused for good: `Client::cancel` it, or send it anew.
    Failed(Problem),
}

/// What a message answers.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplyView {
    /// The entry.
    pub seq: u64,
    /// It in a few words, if it is loaded.
    pub preview: Option<Preview>,
}

/// How many put one emoji on a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReactionView {
    /// The emoji.
    pub emoji: String,
    /// How many, the user's own included.
    pub count: u64,
    /// Whether the user is one of them.
    pub mine: bool,
}

/// Whether somebody is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceView {
    /// Has a live session.
    pub online: bool,
    /// If not: when it last had one, as far as one may know.
    pub last_seen: Option<Time>,
}
