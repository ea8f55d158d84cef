//! What goes into the store and what comes out.

use tidings_core::conversation::Retention;
use tidings_core::entry::Entry;
use tidings_core::log::{Generation, LogId, Seq};
use tidings_core::mark::{Mark, MarkKind};
use tidings_core::{Time, UserId};

/// One step of a log: entries at an expected head and what belongs to them.
#[derive(Clone, Debug)]
pub struct Append {
    /// Which log.
    pub log: LogId,
    /// The head it was decided against: 0 for a new log.
    pub expected_head: Seq,
    /// The log's generation. A new log is made with it; otherwise it must be the log's.
    pub generation: Generation,
    /// At least one, numbered from `expected_head + 1`.
    pub entries: Vec<Entry>,
    /// How long the bodies are kept: decides where they lie.
    pub retention: Retention,
    /// Bodies to erase in the same step (a deletion's target and its edits).
    pub erase: Vec<Seq>,
    /// Marks to raise in the same step: joined and left, and heads where the store needs them.
    pub marks: Vec<Mark>,
    /// The state after the last entry, if it is time to write one.
    pub state: Option<StateSnapshot>,
}

/// Why an append did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Somebody else appended first (or the generation is another one).
    #[error("the head is {head}")]
    Conflict {
        /// The head now.
        head: Seq,
    },
    /// An entry with this author and client id is there already: the append is a retry that nobody recognised.
    /// Nothing changed. Only a store that several programs write to looks for it.
    #[error("the client id is that of entry {seq}")]
    Repeated {
        /// Its number.
        seq: Seq,
    },
    /// It may have happened, may happen yet, or never will: the store lost touch before it knew. Whoever
    /// decides anew reads the head first; if it happened after all, that decision conflicts.
    #[error("nobody knows whether it happened: {0}")]
    Unknown(StoreError),
    /// The store failed. Nothing changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The store cannot do what is asked. Nothing can be concluded about writes in flight.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It stopped: a write failed or it is shutting down.
    #[error("the store has stopped: {0}")]
    Stopped(String),
    /// It did not answer in time, and may again later.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// What it read is damaged.
    #[error("the store's data is damaged: {0}")]
    Damaged(String),
    /// The call makes no sense (entries that do not follow on each other, for one).
    #[error("misuse of the store: {0}")]
    Misuse(String),
}

/// Where a log ends, and where what is kept of it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogHead {
    /// Which life of the log.
    pub generation: Generation,
    /// The last entry.
    pub seq: Seq,
    /// Entries that count.
    pub ordinal: u64,
    /// The time of the last entry.
    pub at: Time,
    /// Entries up to here are served no more; 0 if none was trimmed.
    pub trimmed: Seq,
}

/// Which entries to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLog {
    /// The first entry to read (inclusive); for backwards the highest.
    pub from: Seq,
    /// Which way.
    pub direction: Direction,
    /// At most so many entries.
    pub limit: usize,
    /// Stop after the entry that makes the stored bytes reach this. At least one entry is read.
    pub bytes_max: usize,
    /// Whether bodies are wanted; without, they come as erased.
    pub want: Want,
}

/// Which way to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards the head.
    Forwards,
    /// Towards the beginning.
    Backwards,
}

/// What of the entries is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Envelopes and bodies, of what is not trimmed.
    Entries,
    /// Envelopes alone (`Body::Erased`), also of trimmed entries as long as they are kept.
    Envelopes,
}

/// Entries in the order in which they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether the reading came to the log's end in its direction.
    pub complete: bool,
}

/// What alters one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alterations {
    /// The entry.
    pub target: Seq,
    /// Its edits, oldest first.
    pub edits: Vec<Seq>,
    /// Its deletion.
    pub deleted: Option<Seq>,
    /// The reactions that stand: emoji, who, by which entry; in the order of emoji and user.
    pub reactions: Vec<(String, UserId, Seq)>,
}

/// What a search for a client id found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientIdSearch {
    /// The entry.
    Found {
        /// Its number.
        seq: Seq,
        /// Its time.
        at: Time,
    },
    /// There is none above the seq that was asked for.
    Absent,
    /// There is none in what is kept, but less is kept than was asked for.
    Incomplete,
}

/// When a write must be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Before the call returns.
    Now,
    /// At most 100 ms later.
    Late,
}

/// The time at which a mark made a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// In which log.
    pub log: LogId,
    /// Whose mark.
    pub owner: [u8; 16],
    /// Delivered or shown.
    pub kind: MarkKind,
    /// As far as.
    pub seq: Seq,
    /// When.
    pub at: Time,
}

/// A member and its stored form ([`tidings_core::codec::encode_member`]).
pub type StoredMember = (UserId, Vec<u8>);

/// A conversation's state in its stored form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateSnapshot {
    /// The last entry that it includes.
    pub seq: Seq,
    /// The state ([`tidings_core::codec::encode_state`]).
    pub state: Vec<u8>,
    /// The members that changed since the last snapshot; empty when read.
    pub members: Vec<StoredMember>,
}

/// Which members to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberQuery {
    /// These, as far as they are there.
    Named(Vec<UserId>),
    /// From the first above `after`, at most `limit`.
    From {
        /// Exclusive; `None` for the beginning.
        after: Option<UserId>,
        /// At most so many.
        limit: usize,
    },
}

/// What a document is. The numbers are on disk and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DocumentKind {
    /// A user, by id.
    User = 1,
    /// A claim on a username (folded), to the user's id.
    Username = 2,
    /// A device, by user id and device id.
    Device = 3,
    /// A session token (hashed), to user and device.
    Token = 4,
    /// A block, by the blocking user's id and the blocked one's.
    Block = 5,
    /// A user's private map, by user id and key.
    Private = 6,
    /// Anything about the server itself (its node id, feature announcements).
    Server = 7,
    /// An invite link's secret, to its conversation.
    InviteLink = 8,
    /// A conversation whose retention is bounded, by its id.
    Retention = 9,
    /// What every server must hear of soon, by minute and time. Written once, and may be gone after a day.
    Notice = 10,
}

impl DocumentKind {
    /// Every kind.
    pub const ALL: [DocumentKind; 10] = [
        DocumentKind::User,
        DocumentKind::Username,
        DocumentKind::Device,
        DocumentKind::Token,
        DocumentKind::Block,
        DocumentKind::Private,
        DocumentKind::Server,
        DocumentKind::InviteLink,
        DocumentKind::Retention,
        DocumentKind::Notice,
    ];
}

/// A small value under a key, with a version that grows with each write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its key.
    pub key: Vec<u8>,
    /// Never 0. Grows with each write while the document is there.
    pub version: u64,
    /// Its value.
    pub value: Vec<u8>,
}

/// A write of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutDocument {
    /// What it is.
    pub kind: DocumentKind,
    /// Its key.
    pub key: Vec<u8>,
    /// The version it must have; 0 for "is not there". `None` writes whatever is there.
    pub expected: Option<u64>,
    /// The new value; `None` deletes.
    pub value: Option<Vec<u8>>,
}

/// Why a document was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    /// It has another version.
    #[error("the document's version is {version}")]
    Conflict {
        /// Its version now; 0 if it is not there.
        version: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
