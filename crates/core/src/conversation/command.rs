//! What `decide` is asked, what it is told besides the state, and how it says no.

use super::state::Role;
use super::state::{ConversationKind, MemberMap, Settings, SettingsChange};
use crate::entry::{Content, Opaque};
use crate::id::{ClientId, DeviceId, UserId};
use crate::log::{Position, Seq};
use crate::time::Time;

/// A wish of a device that becomes an entry if the rules allow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Who wishes it.
    pub author: UserId,
    /// With which device.
    pub device: DeviceId,
    /// The sender's own id for it: a retry has the same.
    pub client_id: ClientId,
    /// As far as this device had itself seen the conversation when it first tried.
    pub after: Option<Position>,
    /// Only in this encryption epoch.
    pub if_epoch: Option<u64>,
    /// What is wished.
    pub action: Action,
}

/// What is wished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin a conversation. The author becomes its owner (in a direct one both are plain members).
    Create {
        /// Direct or group.
        kind: ConversationKind,
        /// The others.
        users: Vec<UserId>,
        /// Name, policies, retention.
        settings: Settings,
    },
    /// Say something.
    Message {
        /// What.
        content: Content,
        /// Which message it answers.
        reply_to: Option<Seq>,
        /// True: it does not count as unread. For opaque content alone, where the server cannot tell
        /// a message from a reaction.
        silent: bool,
    },
    /// Put new content in the place of an own message's.
    Edit {
        /// Which message.
        target: Seq,
        /// What it says now.
        content: Content,
    },
    /// Delete a message for everyone.
    Delete {
        /// Which message.
        target: Seq,
    },
    /// Put a reaction on a message or take it back.
    React {
        /// Which message.
        target: Seq,
        /// The emoji.
        emoji: String,
        /// Put on (true) or take back (false).
        on: bool,
    },
    /// Bring people in.
    Invite {
        /// Whom.
        users: Vec<UserId>,
    },
    /// Come in by the invite link.
    Join {
        /// The link's secret.
        link: [u8; 16],
    },
    /// Go.
    Leave,
    /// Make a member go.
    Remove {
        /// Whom.
        user: UserId,
    },
    /// Give a member another role.
    SetRole {
        /// Whom.
        user: UserId,
        /// As what.
        role: Role,
    },
    /// Change settings.
    Configure(SettingsChange),
    /// Move the encryption epoch on.
    Commit(Opaque),
}

/// What the command names, as of the state's seq.
#[derive(Clone, Debug)]
pub struct Named<'a> {
    /// The author's and the subjects' memberships, as far as they have any. May hold others too.
    pub members: &'a MemberMap,
    /// The target, if the command has one and the log holds it.
    pub target: Option<Target>,
    /// What the search for an earlier try found (see [`super::search_for_earlier`]).
    pub earlier: Earlier,
}

/// What must be known of the entry that a command refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What kind of entry it is.
    pub kind: crate::entry::Kind,
    /// Who wrote it.
    pub author: UserId,
    /// When its body vanishes.
    pub expires: Option<Time>,
    /// Its body is gone (deleted, vanished, trimmed).
    pub erased: bool,
    /// How often it was edited.
    pub edits: usize,
    /// The author's own reactions that stand on it.
    pub reactions: Vec<String>,
}

/// Where to look for an earlier try of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// Nowhere: the state alone tells.
    NotNeeded,
    /// In the entries above this seq.
    Above(Seq),
    /// In the newest 10,000 entries.
    Newest,
    /// It cannot be complete: `after` is of another generation or above the head.
    Impossible,
}

/// What the search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// It was not needed.
    NotSearched,
    /// An entry with this author and client id.
    Found {
        /// The entry.
        seq: Seq,
        /// Its time.
        at: Time,
    },
    /// Looked through everything, there is none.
    Absent,
    /// There is none in what could be looked through, but that was not everything.
    Incomplete,
}

/// Facts from outside the log. They may be a second old across nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// One of the two of a direct conversation has blocked the other.
    pub blocked: bool,
    /// The author's account is suspended.
    pub suspended: bool,
}

/// Why a command did not become an entry. Nothing changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Whether an earlier try succeeded cannot be told any more. Catch up, look for the client id
    /// there, and try again with a newer `after`.
    Unsettled,
    /// There is no such conversation, or the author is not in it (the answer is the same).
    NotFound,
    /// There is such a conversation already.
    Exists,
    /// The author's role does not allow it.
    NotAllowed,
    /// One of the two blocked the other.
    Blocked,
    /// The author's account is suspended.
    Suspended,
    /// The log needs rules that this program does not know.
    UpdateNeeded,
    /// The epoch is another one now.
    EpochMoved {
        /// The epoch now.
        epoch: u64,
    },
    /// This conversation takes encrypted content only.
    MustBeEncrypted,
    /// The entry that the command refers to is not there, or the author may not see it.
    TargetNotFound,
    /// The entry that the command refers to is not a message.
    TargetNotMessage,
    /// The message was deleted or has vanished.
    TargetErased,
    /// It is so already: the reaction stands or does not, the user is in or out, the role is that.
    NoChange,
    /// The link is not (or no longer) valid.
    LinkInvalid,
    /// The user is not a member.
    NoSuchMember,
    /// The only owner cannot go, or cease to be owner, while others are there.
    LastOwner,
    /// The conversation's kind does not have that (leaving a direct conversation, for one).
    NotInThisKind,
    /// The content says nothing, or a field is malformed; the text says which.
    Invalid(&'static str),
    /// A bound is passed.
    TooMuch {
        /// The name of the limit, as in the configuration.
        limit: &'static str,
        /// Its value.
        max: u64,
    },
}
