//! The form of rows in the local store: keys that sort, values that begin with the version of their form.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidings_core::log::Seq;
use tidings_core::{ClientId, ConversationId, Generation, Time, UserId};
use tidings_protocol::Problem;
use tidings_protocol::cbor;
use tidings_protocol::entry::{ConversationKind, Entry, Role, Settings};
use tidings_protocol::mark::MemberMarks;
use tidings_protocol::presence::Profile;
use tidings_protocol::send::{Action, Position};
use tidings_protocol::sync::{Alteration, ReadMark};

use crate::ranges::Ranges;

/// The version that is written. Fields are only ever added at the end of a row.
const VERSION: u8 = 1;

pub(crate) fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    // Rows are plain data: there is nothing that could fail.
    let _ = cbor::extend(&mut bytes, row);
    bytes
}

/// `None` for what this version cannot read: such a row is as if it were not there.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => cbor::from_slice(rest).ok(),
        _ => None,
    }
}

/// A conversation and a seq, in the order of the log.
pub(crate) fn seq_key(conversation: ConversationId, seq: Seq) -> Vec<u8> {
    let mut key = conversation.0.to_vec();
    key.extend(seq.to_be_bytes());
    key
}

pub(crate) fn alteration_key(conversation: ConversationId, target: Seq, seq: Seq) -> Vec<u8> {
    let mut key = seq_key(conversation, target);
    key.extend(seq.to_be_bytes());
    key
}

pub(crate) fn expiry_key(expires: Time, conversation: ConversationId, seq: Seq) -> Vec<u8> {
    let mut key = expires.0.to_be_bytes().to_vec();
    key.extend(seq_key(conversation, seq));
    key
}

pub(crate) fn read_expiry_key(key: &[u8]) -> Option<(Time, ConversationId, Seq)> {
    let key: [u8; 32] = key.try_into().ok()?;
    let (expires, rest) = key.split_first_chunk::<8>()?;
    let (conversation, seq) = rest.split_first_chunk::<16>()?;
    let seq = seq.first_chunk::<8>()?;
    Some((
        Time(u64::from_be_bytes(*expires)),
        ConversationId(*conversation),
        u64::from_be_bytes(*seq),
    ))
}

pub(crate) fn read_id(key: &[u8]) -> Option<[u8; 16]> {
    key.try_into().ok()
}

/// Table `entries`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct EntryRow {
    pub(crate) entry: Entry,
    /// The head when it was fetched: `alteration` includes everything up to there.
    pub(crate) as_of: Seq,
    /// What had become of it by then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) alteration: Option<Alteration>,
}

/// Table `positions`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PositionRow {
    pub(crate) generation: Generation,
    pub(crate) position: Seq,
    #[serde(default)]
    pub(crate) hash: Option<u32>,
    pub(crate) ranges: Ranges,
    pub(crate) owed_above: Seq,
    pub(crate) blind_to: Seq,
    pub(crate) read_wanted: Seq,
    /// The device's time when marks were raised last.
    pub(crate) raised: Time,
}

/// Table `conversations`: what the server said last.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ConversationRow {
    pub(crate) kind: ConversationKind,
    pub(crate) generation: Generation,
    pub(crate) is_in: bool,
    pub(crate) head: Seq,
    pub(crate) ordinal: u64,
    pub(crate) at: Time,
    pub(crate) trimmed: Seq,
    pub(crate) from: Seq,
    pub(crate) membership_seq: Seq,
    pub(crate) epoch: u64,
    pub(crate) settings: Settings,
    pub(crate) member_count: u32,
    pub(crate) members: Vec<MemberRow>,
    pub(crate) role: Role,
    pub(crate) read_told: ReadMark,
    pub(crate) read_best: ReadMark,
    pub(crate) device_told: Seq,
    pub(crate) joined: ReadMark,
    pub(crate) own: u64,
    pub(crate) last: Option<LastRow>,
    pub(crate) other: Option<UserId>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct MemberRow {
    pub(crate) user: UserId,
    pub(crate) role: Role,
    pub(crate) joined: Seq,
    /// As the server said last: what the digest is made of.
    pub(crate) told: MemberMarks,
    /// The highest that it ever said: what is shown.
    pub(crate) best: MemberMarks,
}

/// The last message of a conversation, in a few words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LastRow {
    pub(crate) seq: Seq,
    pub(crate) author: UserId,
    pub(crate) at: Time,
    pub(crate) text: String,
    pub(crate) more: bool,
    pub(crate) erased: bool,
    pub(crate) expires: Option<Time>,
    /// The edit that the text is from; 0 for the message itself.
    pub(crate) edit: Seq,
}

/// Table `outbox`, by number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OutboxRow {
    pub(crate) client_id: ClientId,
    pub(crate) conversation: Option<ConversationId>,
    pub(crate) to: Option<UserId>,
    pub(crate) action: Action,
    pub(crate) created: Time,
    /// `after` is fixed: a try may have been made.
    pub(crate) tried: bool,
    pub(crate) after: Option<Position>,
    /// The entry that it became.
    pub(crate) sent: Option<(Position, Time)>,
    pub(crate) failed: Option<Problem>,
}

/// Table `profiles`, by user.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ProfileRow {
    pub(crate) profile: Profile,
    pub(crate) fetched: Time,
}

/// Characters of a preview.
const PREVIEW_CHARS: usize = 200;

/// A message in a few words, as it is after its last edit or deletion. `None` for other entries.
pub(crate) fn last_of(entry: &Entry, alteration: Option<&Alteration>) -> Option<LastRow> {
    if entry.kind.0 != tidings_core::Kind::Message {
        return None;
    }
    let mut last = LastRow {
        seq: entry.seq,
        author: entry.author,
        at: entry.at,
        text: String::new(),
        more: false,
        erased: false,
        expires: entry.expires,
        edit: 0,
    };
    match &entry.content {
        Some(content) => (last.text, last.more) = in_few_words(content),
        None => erase_last(&mut last),
    }
    if let Some(alteration) = alteration {
        if let Some(edit) = &alteration.edit {
            edit_last(&mut last, edit);
        }
        if alteration.deleted.is_some() {
            erase_last(&mut last);
        }
    }
    Some(last)
}

pub(crate) fn edit_last(last: &mut LastRow, edit: &Entry) {
    if let Some(content) = &edit.content {
        (last.text, last.more) = in_few_words(content);
    }
    last.edit = edit.seq;
}

pub(crate) fn erase_last(last: &mut LastRow) {
    last.text = String::new();
    last.more = false;
    last.erased = true;
}

/// The beginning of the text, and whether there is something besides.
pub(crate) fn in_few_words(content: &tidings_protocol::entry::Content) -> (String, bool) {
    let more = content.opaque.is_some() || !content.attachments.is_empty();
    (content.text.chars().take(PREVIEW_CHARS).collect(), more)
}
