//! Entries: what a log is a list of. Each is an envelope, which never changes, and a body, which
//! can be erased once.

use crate::conversation::{ConversationKind, Role, Settings, SettingsChange};
use crate::id::{ClientId, DeviceId, UserId};
use crate::log::Seq;
use crate::time::Time;

/// The version of the rules that this program knows. Entries and states name the version they
/// need; who does not know it does not decide.
pub const RULES: u8 = 1;

/// One item of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who, when, where in the log: never changes.
    pub envelope: Envelope,
    /// What: can be erased.
    pub body: Body,
}

impl Entry {
    /// Its number in its log.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.envelope.seq
    }

    /// The same entry with its body erased.
    #[must_use]
    pub fn erased(self) -> Entry {
        Entry {
            envelope: self.envelope,
            body: Body::Erased,
        }
    }
}

/// The part of an entry that never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Number in the log.
    pub seq: Seq,
    /// What kind of entry it is.
    pub kind: Kind,
    /// The version of the rules one must know to apply it.
    pub rules: u8,
    /// Who wrote it.
    pub author: UserId,
    /// With which device.
    pub device: DeviceId,
    /// The server's time, never before the previous entry's.
    pub at: Time,
    /// The sender's own id for it.
    pub client_id: ClientId,
    /// The entry it refers to: what a reply answers; what an edit, deletion or reaction alters.
    pub target: Option<Seq>,
    /// The part of the log in which it is counted; 0 is the whole log.
    pub lane: u32,
    /// When its body vanishes.
    pub expires: Option<Time>,
    /// The encryption epoch in which it was written.
    pub epoch: u64,
    /// Whether it counts as unread.
    pub counts: bool,
    /// How many entries that count there are up to and including this one, in its lane.
    pub ordinal: u64,
}

impl Envelope {
    /// A short hash by which a client that comes back proves that its last entry is the log's.
    ///
    /// 32 bits of [`crate::digest::hash`] with tag `entry` over seq, time and ordinal (8 bytes each,
    /// big endian), the kind's number (1 byte) and the author (16 bytes).
    #[must_use]
    pub fn short_hash(&self) -> u32 {
        let mut bytes = [0; 41];
        bytes[..8].copy_from_slice(&self.seq.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.at.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.ordinal.to_be_bytes());
        bytes[24] = self.kind.number();
        bytes[25..].copy_from_slice(&self.author.0);
        (crate::digest::hash(b"entry", &bytes) >> 32) as u32
    }

    /// Whether this entry changes how its target is shown.
    #[must_use]
    pub fn alters_target(&self) -> bool {
        matches!(self.kind, Kind::Edit | Kind::Delete | Kind::Reaction)
    }
}

/// What kind an entry is. The numbers are on disk and on the wire and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The first entry of a conversation.
    Create,
    /// Something said.
    Message,
    /// New content for an earlier message.
    Edit,
    /// An earlier message deleted for everyone.
    Delete,
    /// A reaction put on a message or taken back.
    Reaction,
    /// People came in.
    Join,
    /// Its author left.
    Leave,
    /// Somebody was removed.
    Remove,
    /// Somebody has another role.
    Role,
    /// Name, picture, policies changed.
    Settings,
    /// The encryption epoch moved on.
    Commit,
    /// A kind that this program does not know.
    Unknown(u8),
}

impl Kind {
    /// The kind's number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Kind::Create => 1,
            Kind::Message => 2,
            Kind::Edit => 3,
            Kind::Delete => 4,
            Kind::Reaction => 5,
            Kind::Join => 6,
            Kind::Leave => 7,
            Kind::Remove => 8,
            Kind::Role => 9,
            Kind::Settings => 10,
            Kind::Commit => 11,
            Kind::Unknown(number) => number,
        }
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Kind {
        match number {
            1 => Kind::Create,
            2 => Kind::Message,
            3 => Kind::Edit,
            4 => Kind::Delete,
            5 => Kind::Reaction,
            6 => Kind::Join,
            7 => Kind::Leave,
            8 => Kind::Remove,
            9 => Kind::Role,
            10 => Kind::Settings,
            11 => Kind::Commit,
            other => Kind::Unknown(other),
        }
    }

    /// Whether the entry changes who is in the conversation, or as what.
    #[must_use]
    pub fn changes_members(self) -> bool {
        matches!(
            self,
            Kind::Create | Kind::Join | Kind::Leave | Kind::Remove | Kind::Role
        )
    }
}

/// The part of an entry that can be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A conversation begins, with these people and settings.
    Create {
        /// Direct or group.
        kind: ConversationKind,
        /// Everybody in it from the start, the author included, with roles.
        members: Vec<(UserId, Role)>,
        /// Name, policies, retention.
        settings: Settings,
    },
    /// What was said.
    Message(Content),
    /// What is to stand in the target's place.
    Edit(Content),
    /// The target is deleted for everyone.
    Delete,
    /// An emoji put on the target, or taken back.
    Reaction {
        /// The emoji, or any short text.
        emoji: String,
        /// Put on (true) or taken back (false).
        on: bool,
    },
    /// These people came in.
    Join {
        /// Who.
        users: Vec<UserId>,
        /// The first seq that they may see. Fixed here: a later change of the setting does not move it.
        from: Seq,
    },
    /// The author left.
    Leave,
    /// This member was removed by the author.
    Remove {
        /// Who.
        user: UserId,
    },
    /// This member has another role.
    Role {
        /// Who.
        user: UserId,
        /// As what from now on.
        role: Role,
    },
    /// Settings changed.
    Settings(SettingsChange),
    /// The encryption epoch moved on; the bytes are for the members' devices.
    Commit(Opaque),
    /// The body was erased.
    Erased,
    /// The body of a kind that this program does not know, as it came.
    Unknown(Vec<u8>),
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text with what belongs to it.
    Text(TextContent),
    /// Encrypted or otherwise unknown to the server: passed on untouched.
    Opaque(Opaque),
}

/// Text, mentions and attachments. At least one of text and attachments is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextContent {
    /// The text, with a small markup subset.
    pub text: String,
    /// Who is mentioned.
    pub mentions: Vec<UserId>,
    /// References to files.
    pub attachments: Vec<Attachment>,
}

/// A reference to a file that lies elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Where: a media id or a URL.
    pub reference: String,
    /// The file's name, for people.
    pub name: String,
    /// The media type the sender gave (RFC 6838); never trusted.
    pub media_type: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// Content that the server cannot or need not understand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// What it is, for the clients.
    pub content_type: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}
