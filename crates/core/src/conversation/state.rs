//! The state of a conversation: a small bounded head, and members addressed one by one.

use std::collections::BTreeMap;

use super::recent::{Recent, RecentIds};
use crate::entry::RULES;
use crate::id::{ClientId, UserId};
use crate::log::{Generation, Seq};
use crate::mark::MarkValue;
use crate::time::Time;

/// How many spans of membership a member keeps; older ones are forgotten, and with them the right to
/// see what was said in them.
pub const SPANS_MAX: usize = 16;

/// The bounded head of a conversation's state, as of `seq`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The version of the rules that it needs.
    pub rules: u8,
    /// Which life of the log this is the state of.
    pub generation: Generation,
    /// Direct or group.
    pub kind: ConversationKind,
    /// The last entry applied; 0 before the first.
    pub seq: Seq,
    /// The time of that entry.
    pub at: Time,
    /// Entries that count, in lane 0.
    pub ordinal: u64,
    /// The last entry that changed who is in.
    pub membership_seq: Seq,
    /// How many are in.
    pub member_count: u32,
    /// How many of them are owners.
    pub owner_count: u32,
    /// The encryption epoch.
    pub epoch: u64,
    /// Name, policies, retention.
    pub settings: Settings,
    /// The newest client ids.
    pub recent: RecentIds,
    /// Every entry above this seq has its client id in `recent`.
    pub recent_above: Seq,
}

impl State {
    /// The state of a conversation that has no entry yet.
    #[must_use]
    pub fn empty(generation: Generation) -> State {
        State {
            rules: RULES,
            generation,
            kind: ConversationKind::Group,
            seq: 0,
            at: Time(0),
            ordinal: 0,
            membership_seq: 0,
            member_count: 0,
            owner_count: 0,
            epoch: 0,
            settings: Settings::default(),
            recent: RecentIds::default(),
            recent_above: 0,
        }
    }

    /// The newest entry with this author and client id among those that the state remembers.
    #[must_use]
    pub fn find_recent(&self, author: UserId, client_id: ClientId) -> Option<&Recent> {
        self.recent.find(author, client_id)
    }
}

/// What kind a conversation is. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ConversationKind {
    /// Two users, one conversation per pair.
    Direct = 1,
    /// Invited members.
    Group = 2,
}

/// What a member may do. The numbers are on disk; higher may do more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// Takes part.
    Member = 1,
    /// May also change settings, remove members and delete messages of others.
    Admin = 2,
    /// May also make owners and admins, and unmake them. There is always one.
    Owner = 3,
}

/// One user's membership: in or out, and what it was over time. Bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// As what (the last role, if the member is out).
    pub role: Role,
    /// When the member was in, oldest first; [`SPANS_MAX`] at most.
    pub spans: Vec<Span>,
    /// Entries that count that the member wrote.
    pub own: u64,
    /// The place of the last joining, with the counts there: unread is counted from the later of
    /// this and the read mark.
    pub joined: MarkValue,
}

/// A time during which a user was a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The entry by which the member came in.
    pub joined: Seq,
    /// The first entry that the member may see.
    pub from: Seq,
    /// The entry by which the member went, `None` while in.
    pub left: Option<Seq>,
}

impl Member {
    /// Whether the member is in now.
    #[must_use]
    pub fn is_in(&self) -> bool {
        self.spans.last().is_some_and(|span| span.left.is_none())
    }

    /// Whether the member may see the entry `seq`: is in now, and was allowed to see it in one of
    /// the times in which it was in.
    #[must_use]
    pub fn may_see(&self, seq: Seq) -> bool {
        self.is_in()
            && self
                .spans
                .iter()
                .any(|span| span.from <= seq && span.left.is_none_or(|left| seq <= left))
    }

    /// The first seq that the member may see at all; `None` if out.
    #[must_use]
    pub fn first_visible(&self) -> Option<Seq> {
        if !self.is_in() {
            return None;
        }
        self.spans.iter().map(|span| span.from).min()
    }

    /// Whether the member counts as a recipient of the entry `seq`: had joined at it, and still is in.
    #[must_use]
    pub fn is_recipient(&self, seq: Seq) -> bool {
        self.spans
            .last()
            .is_some_and(|span| span.left.is_none() && span.joined <= seq)
    }
}

/// The members of a conversation that are loaded. In `decide` and `apply` those that the command or
/// entry names are; others need not be.
pub type MemberMap = BTreeMap<UserId, Member>;

/// Name, picture, policies. Changed by [`SettingsChange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name; empty in direct conversations.
    pub name: String,
    /// What it is about.
    pub description: String,
    /// A reference to a picture; empty for none.
    pub avatar: String,
    /// Who may post messages.
    pub post: Policy,
    /// Who may invite.
    pub invite: Policy,
    /// Who may change name, description and picture.
    pub describe: Policy,
    /// Whether newcomers see what was said before.
    pub share_history: bool,
    /// How long messages are kept.
    pub retention: Retention,
    /// Milliseconds after which messages vanish; `None` for never.
    pub vanish_after: Option<u64>,
    /// Fixed when the conversation is created.
    pub encryption: Encryption,
    /// The secret of the invite link; `None` if there is none.
    pub invite_link: Option<[u8; 16]>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: String::new(),
            description: String::new(),
            avatar: String::new(),
            post: Policy::Members,
            invite: Policy::Members,
            describe: Policy::Admins,
            share_history: false,
            retention: Retention::Forever,
            vanish_after: None,
            encryption: Encryption::None,
            invite_link: None,
        }
    }
}

/// Who may do something. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Policy {
    /// Every member.
    Members = 1,
    /// Admins and owners.
    Admins = 2,
}

impl Policy {
    /// Whether the policy lets this role do it.
    #[must_use]
    pub fn allows(self, role: Role) -> bool {
        match self {
            Policy::Members => true,
            Policy::Admins => role >= Role::Admin,
        }
    }
}

/// How long the bodies of entries are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Until deleted.
    Forever,
    /// This many days.
    Days(u16),
    /// Until every device it is owed to has it.
    UntilDelivered,
}

/// Who can read the messages. The numbers are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Encryption {
    /// The server can (searchable).
    None = 1,
    /// Only the members' devices can (MLS, RFC 9420).
    Mls = 2,
}

/// A change of some of the settings; `None` leaves a setting as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// The name.
    pub name: Option<String>,
    /// What it is about.
    pub description: Option<String>,
    /// A reference to a picture; empty for none.
    pub avatar: Option<String>,
    /// Who may post messages.
    pub post: Option<Policy>,
    /// Who may invite.
    pub invite: Option<Policy>,
    /// Who may change name, description and picture.
    pub describe: Option<Policy>,
    /// Whether newcomers see what was said before.
    pub share_history: Option<bool>,
    /// How long messages are kept.
    pub retention: Option<Retention>,
    /// Milliseconds after which messages vanish; `Some(None)` for never.
    pub vanish_after: Option<Option<u64>>,
    /// The secret of the invite link; `Some(None)` withdraws it.
    pub invite_link: Option<Option<[u8; 16]>>,
}

impl SettingsChange {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == SettingsChange::default()
    }

    /// Whether it changes nothing but name, description and picture.
    #[must_use]
    pub fn only_describes(&self) -> bool {
        SettingsChange {
            name: None,
            description: None,
            avatar: None,
            ..self.clone()
        }
        .is_empty()
    }

    /// Writes the change into `settings`.
    pub fn apply_to(&self, settings: &mut Settings) {
        fn set<T: Clone>(to: &mut T, from: &Option<T>) {
            if let Some(value) = from {
                to.clone_from(value);
            }
        }
        set(&mut settings.name, &self.name);
        set(&mut settings.description, &self.description);
        set(&mut settings.avatar, &self.avatar);
        set(&mut settings.post, &self.post);
        set(&mut settings.invite, &self.invite);
        set(&mut settings.describe, &self.describe);
        set(&mut settings.share_history, &self.share_history);
        set(&mut settings.retention, &self.retention);
        set(&mut settings.vanish_after, &self.vanish_after);
        set(&mut settings.invite_link, &self.invite_link);
    }
}

/// Bounds on what a conversation takes. Named settings of the server; the defaults are the documented ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Unicode scalar values of a message's text.
    pub text_chars_max: usize,
    /// Bytes of opaque content.
    pub opaque_bytes_max: usize,
    /// Attachments of one message.
    pub attachments_max: usize,
    /// Mentions in one message.
    pub mentions_max: usize,
    /// Members of a group.
    pub group_members_max: u32,
    /// Unicode scalar values of a name.
    pub name_chars_max: usize,
    /// Unicode scalar values of a description.
    pub description_chars_max: usize,
    /// Bytes of a reference (attachment, avatar), file name or media type.
    pub reference_bytes_max: usize,
    /// Bytes of a reaction's emoji.
    pub emoji_bytes_max: usize,
    /// Reactions of one member on one message.
    pub reactions_per_member_max: usize,
    /// Edits of one message.
    pub edits_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            text_chars_max: 100_000,
            opaque_bytes_max: 400_000,
            attachments_max: 32,
            mentions_max: 100,
            group_members_max: 1_000,
            name_chars_max: 200,
            description_chars_max: 2_000,
            reference_bytes_max: 1_024,
            emoji_bytes_max: 64,
            reactions_per_member_max: 8,
            edits_max: 100,
        }
    }
}
