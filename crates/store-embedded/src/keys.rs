//! The keys of the rows. Big endian throughout, so that rows sort by log and then by number.

use tidings_core::log::{LogId, Seq};
use tidings_core::mark::{Mark, MarkKind};
use tidings_core::{Time, UserId};
use tidings_store::{DocumentKind, Step, StoreError};

use crate::damaged;

/// A row that every table has and nobody reads: see [`crate::tables::Tables::rotate_all`].
pub(crate) const SENTINEL: [u8; 1] = [0];

/// Bytes of a log's id at the front of a key.
pub(crate) const LOG: usize = 17;

pub(crate) type EntryKey = [u8; 25];
pub(crate) type BlockKey = [u8; 25];
pub(crate) type TargetKey = [u8; 33];
pub(crate) type ReactionKey = [u8; 50];
pub(crate) type OwnerKey = [u8; 33];
pub(crate) type InboxKey = [u8; 38];
pub(crate) type StepKey = [u8; 42];
pub(crate) type StepKindKey = [u8; 34];

fn join<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut key = [0; N];
    let mut rest = key.as_mut_slice();
    for part in parts {
        let (front, back) = rest.split_at_mut(part.len());
        front.copy_from_slice(part);
        rest = back;
    }
    debug_assert!(rest.is_empty(), "the parts fill the key");
    key
}

/// `logs`, `states`: one row per log.
pub(crate) fn log(log: LogId) -> [u8; LOG] {
    log.to_bytes()
}

/// `entries`: log, seq.
pub(crate) fn entry(log: LogId, seq: Seq) -> EntryKey {
    join(&[&log.to_bytes(), &seq.to_be_bytes()])
}

/// `clients`: log, block of entries.
pub(crate) fn block(log: LogId, block: u64) -> BlockKey {
    join(&[&log.to_bytes(), &block.to_be_bytes()])
}

/// In `targets`, where a seq would begin: seqs end far below, so reactions sort behind edits and deletion.
const REACTION: u8 = 1;

/// `targets`: log, what is edited or deleted, by which entry.
pub(crate) fn target(log: LogId, target: Seq, seq: Seq) -> TargetKey {
    join(&[&log.to_bytes(), &target.to_be_bytes(), &seq.to_be_bytes()])
}

/// `targets`, what everything that alters one entry begins with.
pub(crate) fn altering(log: LogId, target: Seq) -> EntryKey {
    entry(log, target)
}

/// `targets`: log, what is reacted to, who, with which emoji; the value is by which entry. Of the emoji it
/// holds a hash: the text is in the body alone, where it can be erased.
pub(crate) fn reaction(log: LogId, target: Seq, author: UserId, emoji: &str) -> ReactionKey {
    let mut hash = [0; 8];
    hash.copy_from_slice(&blake3::hash(emoji.as_bytes()).as_bytes()[..8]);
    join(&[&reactions_of_author(log, target, author), &hash])
}

/// `targets`, what the reactions of one author to one entry begin with.
pub(crate) fn reactions_of_author(log: LogId, target: Seq, author: UserId) -> [u8; 42] {
    join(&[&altering(log, target), &[REACTION], &author.0])
}

/// The smallest key of a reaction that begins so.
pub(crate) fn first_with(prefix: [u8; 42]) -> ReactionKey {
    join(&[&prefix, &[0; 8]])
}

/// Whether a key of `targets` was made by [`reaction`].
pub(crate) fn is_reaction(key: &[u8]) -> bool {
    key.get(25) == Some(&REACTION)
}

/// Who reacted, of a key made by [`reaction`].
pub(crate) fn parse_reaction_author(key: &[u8]) -> Result<UserId, StoreError> {
    Ok(UserId(bytes(key, 26)?))
}

/// `marks`: log, owner.
pub(crate) fn marks(log: LogId, owner: [u8; 16]) -> OwnerKey {
    join(&[&log.to_bytes(), &owner])
}

/// The log and the owner of a key made by [`marks`].
pub(crate) fn parse_marks(key: &[u8]) -> Result<(LogId, [u8; 16]), StoreError> {
    Ok((parse_log(key)?, bytes(key, LOG)?))
}

/// `inbox`: owner, log, kind, lane; `owner` is a key made by [`marks`].
pub(crate) fn inbox(owner: &OwnerKey, kind: MarkKind, lane: u32) -> InboxKey {
    let (log, owner) = owner.split_at(LOG);
    join(&[owner, log, &[kind as u8], &lane.to_be_bytes()])
}

/// Whether a mark of this kind is also in `inbox`.
pub(crate) fn is_in_inbox(kind: MarkKind) -> bool {
    matches!(kind, MarkKind::Joined | MarkKind::Left | MarkKind::Head)
}

/// A mark of `inbox`, but for its value.
pub(crate) fn parse_inbox(key: &[u8]) -> Result<Mark, StoreError> {
    let number = key.get(33).copied().unwrap_or_default();
    Ok(Mark {
        log: parse_log(tail(key, 16)?)?,
        owner: bytes(key, 0)?,
        kind: MarkKind::from_number(number)
            .ok_or_else(|| damaged("a mark is of an unknown kind"))?,
        lane: u32::from_be_bytes(bytes(key, 34)?),
        value: Default::default(),
    })
}

/// `steps`: log, owner, kind, seq.
pub(crate) fn step(step: &Step) -> StepKey {
    join(&[
        &step.log.to_bytes(),
        &step.owner,
        &[step.kind as u8],
        &step.seq.to_be_bytes(),
    ])
}

/// `steps`, what the steps of one kind of one owner in one log begin with.
pub(crate) fn kind_of_step(key: &StepKey) -> StepKindKey {
    join(&[&key[..34]])
}

/// A step of a kind, by its seq.
pub(crate) fn step_of_kind(kind: &StepKindKey, seq: Seq) -> StepKey {
    join(&[kind, &seq.to_be_bytes()])
}

/// Not above any key of a log's steps.
pub(crate) fn steps_begin(log: LogId) -> StepKey {
    join(&[&log.to_bytes(), &[0; 25]])
}

/// Above every key of a log's steps.
pub(crate) fn steps_end(log: LogId) -> StepKey {
    join(&[&log.to_bytes(), &[0xff; 25]])
}

/// A step, but for its time.
pub(crate) fn parse_step(key: &[u8]) -> Result<Step, StoreError> {
    Ok(Step {
        log: parse_log(key)?,
        owner: bytes(key, 17)?,
        kind: key
            .get(33)
            .and_then(|&kind| MarkKind::from_number(kind))
            .ok_or_else(|| damaged("a step is of an unknown kind"))?,
        seq: u64::from_be_bytes(bytes(key, 34)?),
        at: Time(0),
    })
}

/// `members`: log, user.
pub(crate) fn member(log: LogId, user: UserId) -> [u8; 33] {
    join(&[&log.to_bytes(), &user.0])
}

/// `documents`: kind, key.
pub(crate) fn document(kind: DocumentKind, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + key.len());
    bytes.push(kind as u8);
    bytes.extend_from_slice(key);
    bytes
}

/// `expiry`: time, log, seq.
pub(crate) fn expiry(at: Time, log: LogId, seq: Seq) -> [u8; 33] {
    join(&[&at.0.to_be_bytes(), &log.to_bytes(), &seq.to_be_bytes()])
}

/// The parts of a key of `expiry`.
pub(crate) fn parse_expiry(key: &[u8]) -> Result<(Time, LogId, Seq), StoreError> {
    Ok((
        Time(u64::from_be_bytes(bytes(key, 0)?)),
        parse_log(tail(key, 8)?)?,
        u64::from_be_bytes(bytes(key, 25)?),
    ))
}

/// `upkeep`: the last version that a document was given.
pub(crate) const LAST_VERSION: [u8; 1] = *b"v";

/// `upkeep`: the last segment of the journal that is in the tables.
pub(crate) const LAST_SEGMENT: [u8; 1] = *b"j";

/// `upkeep`: bodies of this log are trimmed and not yet gone from the disk.
pub(crate) fn sweep(log: LogId) -> [u8; 18] {
    join(&[b"t", &log.to_bytes()])
}

/// `upkeep`: this place in a body file is erased and not yet overwritten. The value is its length.
pub(crate) fn zero(file: u32, offset: u64) -> [u8; 13] {
    join(&[b"z", &file.to_be_bytes(), &offset.to_be_bytes()])
}

/// The file and offset of a key made by [`zero`].
pub(crate) fn parse_zero(key: &[u8]) -> Result<(u32, u64), StoreError> {
    Ok((
        u32::from_be_bytes(bytes(key, 1)?),
        u64::from_be_bytes(bytes(key, 5)?),
    ))
}

/// `upkeep`: this block of entries is whole, and its client ids are to be indexed.
pub(crate) fn index(log: LogId, block: u64) -> [u8; 26] {
    join(&[b"c", &self::block(log, block)])
}

/// The parts of a key made by [`index`].
pub(crate) fn parse_index(key: &[u8]) -> Result<(LogId, u64), StoreError> {
    let block = tail(key, 1)?;
    Ok((parse_log(block)?, parse_seq(block)?))
}

/// `upkeep`: envelopes and client ids of this log up to a seq go at this time.
pub(crate) fn forget(due: Time, log: LogId, up_to: Seq) -> [u8; 34] {
    join(&[
        b"f",
        &due.0.to_be_bytes(),
        &log.to_bytes(),
        &up_to.to_be_bytes(),
    ])
}

/// The parts of a key made by [`forget`].
pub(crate) fn parse_forget(key: &[u8]) -> Result<(Time, LogId, Seq), StoreError> {
    parse_expiry(tail(key, 1)?)
}

/// `upkeep`: a body file.
pub(crate) fn file(id: u32) -> [u8; 5] {
    join(&[b"b", &id.to_be_bytes()])
}

/// The id of a key made by [`file`].
pub(crate) fn parse_file(key: &[u8]) -> Result<u32, StoreError> {
    Ok(u32::from_be_bytes(bytes(key, 1)?))
}

/// The log at the front of a key.
pub(crate) fn parse_log(key: &[u8]) -> Result<LogId, StoreError> {
    LogId::from_bytes(&bytes(key, 0)?).ok_or_else(|| damaged("a key names an unknown kind of log"))
}

/// The seq behind the log of a key of `entries`.
pub(crate) fn parse_seq(key: &[u8]) -> Result<Seq, StoreError> {
    Ok(u64::from_be_bytes(bytes(key, LOG)?))
}

/// `N` bytes of a key from an offset.
pub(crate) fn bytes<const N: usize>(key: &[u8], at: usize) -> Result<[u8; N], StoreError> {
    tail(key, at)?
        .first_chunk()
        .copied()
        .ok_or_else(|| damaged("a key is too short"))
}

fn tail(key: &[u8], at: usize) -> Result<&[u8], StoreError> {
    key.get(at..).ok_or_else(|| damaged("a key is too short"))
}
