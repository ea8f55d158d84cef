//! What stands in the columns that hold bytes.

use tidings_core::codec::{DecodeError, Reader, Writer, decode_envelope, encode_envelope};
use tidings_core::entry::Envelope;
use tidings_core::log::{LogId, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{ClientId, Time, UserId};
use tidings_store::StoreError;

use crate::cql::damaged;

/// `log_rows.kind`: an entry, by its seq.
pub(crate) const ENTRY: u8 = 0;
/// `log_rows.kind`: a client id, by its author and itself.
pub(crate) const CLIENT: u8 = 1;
/// `log_rows.kind`: what an append still owes.
pub(crate) const OWED: u8 = 2;

/// A number of its own for each append: it tells a repeated append from another that looks the same.
pub(crate) type Nonce = i64;

/// Where a body lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// In `bodies_kept`.
    Kept,
    /// In `bodies_bounded`.
    Bounded,
}

/// `log_rows.data` of an entry.
#[derive(Clone, Debug)]
pub(crate) struct EntryRow {
    pub(crate) nonce: Nonce,
    pub(crate) class: Class,
    /// Bytes of the body.
    pub(crate) body_bytes: u64,
    pub(crate) envelope: Envelope,
    /// Bytes of the encoded envelope.
    pub(crate) envelope_bytes: usize,
}

/// `log_rows.key` of an entry.
pub(crate) fn entry_key(seq: Seq) -> [u8; 8] {
    seq.to_be_bytes()
}

pub(crate) fn encode_entry(
    nonce: Nonce,
    class: Class,
    body_bytes: u64,
    envelope: &Envelope,
) -> Vec<u8> {
    let envelope = encode_envelope(envelope);
    let mut writer = Writer::versioned(1, envelope.len() + 16);
    writer.number(nonce.cast_unsigned());
    writer.flag(class == Class::Bounded);
    writer.number(body_bytes);
    writer.blob(&envelope);
    writer.finish()
}

pub(crate) fn decode_entry(bytes: &[u8]) -> Result<EntryRow, StoreError> {
    let read = || -> Result<EntryRow, DecodeError> {
        let mut reader = Reader::versioned(1, bytes)?;
        let nonce = reader.number()?.cast_signed();
        let class = if reader.flag()? {
            Class::Bounded
        } else {
            Class::Kept
        };
        let body_bytes = reader.number()?;
        let envelope = reader.blob()?;
        let row = EntryRow {
            nonce,
            class,
            body_bytes,
            envelope: decode_envelope(envelope)?,
            envelope_bytes: envelope.len(),
        };
        reader.finish()?;
        Ok(row)
    };
    read().map_err(damaged)
}

/// `log_rows.key` of a client id.
pub(crate) fn client_key(author: UserId, client_id: ClientId) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&author.0);
    key[16..].copy_from_slice(&client_id.0);
    key
}

/// `log_rows.data` of a client id: the entry, its time, and of which append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientRow {
    pub(crate) seq: Seq,
    pub(crate) at: Time,
    pub(crate) nonce: Nonce,
}

pub(crate) fn encode_client(row: ClientRow) -> Vec<u8> {
    let mut writer = Writer::versioned(1, 20);
    writer.number(row.seq);
    writer.number(row.at.0);
    writer.number(row.nonce.cast_unsigned());
    writer.finish()
}

pub(crate) fn decode_client(bytes: &[u8]) -> Result<ClientRow, StoreError> {
    let read = || -> Result<ClientRow, DecodeError> {
        let mut reader = Reader::versioned(1, bytes)?;
        let row = ClientRow {
            seq: reader.number()?,
            at: Time(reader.number()?),
            nonce: reader.number()?.cast_signed(),
        };
        reader.finish()?;
        Ok(row)
    };
    read().map_err(damaged)
}

/// What an append owes after its entries are in: done at once by who appended, and again by whoever next asks
/// for the log's head if that one died in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Owed {
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    pub(crate) erase: Vec<Seq>,
    pub(crate) marks: Vec<Mark>,
}

/// `log_rows.key` of what is owed.
pub(crate) fn owed_key(first: Seq, nonce: Nonce) -> Vec<u8> {
    [first.to_be_bytes(), nonce.to_be_bytes()].concat()
}

pub(crate) fn encode_owed(owed: &Owed) -> Vec<u8> {
    let mut writer = Writer::versioned(1, 32 + 80 * owed.marks.len());
    writer.number(owed.first);
    writer.number(owed.last);
    writer.list(owed.erase.iter(), |writer, seq| writer.number(*seq));
    writer.list(owed.marks.iter(), |writer, mark| {
        writer.id(&mark.log.owner);
        writer.byte(mark.log.part as u8);
        writer.id(&mark.owner);
        writer.byte(mark.kind as u8);
        writer.number(u64::from(mark.lane));
        writer.blob(&encode_mark(mark.value));
    });
    writer.finish()
}

pub(crate) fn decode_owed(bytes: &[u8]) -> Result<Owed, StoreError> {
    let read = || -> Result<Owed, DecodeError> {
        let mut reader = Reader::versioned(1, bytes)?;
        let owed = Owed {
            first: reader.number()?,
            last: reader.number()?,
            erase: reader.list(Reader::number)?,
            marks: reader
                .list(|reader| {
                    let mut log = [0; 17];
                    log[..16].copy_from_slice(&reader.id()?);
                    log[16] = reader.byte()?;
                    let owner = reader.id()?;
                    let kind = reader.byte()?;
                    let lane = reader.number32()?;
                    let value = reader.blob()?;
                    Ok((log, owner, kind, lane, value.to_vec()))
                })?
                .into_iter()
                .filter_map(|(log, owner, kind, lane, value)| {
                    Some(Mark {
                        log: LogId::from_bytes(&log)?,
                        owner,
                        kind: MarkKind::from_number(kind)?,
                        lane,
                        value: decode_mark(&value).ok()?,
                    })
                })
                .collect(),
        };
        reader.finish()?;
        Ok(owed)
    };
    read().map_err(damaged)
}

/// `marks.value`. Of two values written with one timestamp the database keeps the one whose bytes are higher:
/// with the time turned over that is the earlier, as [`MarkValue::max`] has it.
pub(crate) fn encode_mark(value: MarkValue) -> Vec<u8> {
    [value.seq, !value.at.0, value.ordinal, value.own]
        .map(u64::to_be_bytes)
        .concat()
}

pub(crate) fn decode_mark(bytes: &[u8]) -> Result<MarkValue, StoreError> {
    let number = |index: usize| -> Result<u64, StoreError> {
        let part = bytes.get(index * 8..).and_then(<[u8]>::first_chunk);
        part.map(|part| u64::from_be_bytes(*part))
            .ok_or_else(|| damaged("a mark is too short"))
    };
    Ok(MarkValue {
        seq: number(0)?,
        at: Time(!number(1)?),
        ordinal: number(2)?,
        own: number(3)?,
    })
}

/// `targets.data`: how an entry alters its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Altering {
    Edit,
    Delete,
    Reaction {
        author: UserId,
        emoji: String,
        on: bool,
    },
    /// A reaction, or the taking back of one, whose body was erased. Of the emoji a hash is left, so that what
    /// it replaced does not come back.
    Gone {
        author: UserId,
        emoji: EmojiHash,
    },
}

/// A short hash of an emoji.
pub(crate) type EmojiHash = [u8; 8];

pub(crate) fn hash_emoji(emoji: &str) -> EmojiHash {
    let mut hash = [0; 8];
    hash.copy_from_slice(&blake3::hash(emoji.as_bytes()).as_bytes()[..8]);
    hash
}

pub(crate) fn encode_altering(altering: &Altering) -> Vec<u8> {
    let mut writer = Writer::versioned(1, 32);
    match altering {
        Altering::Edit => writer.byte(1),
        Altering::Delete => writer.byte(2),
        Altering::Reaction { author, emoji, on } => {
            writer.byte(3);
            writer.id(&author.0);
            writer.text(emoji);
            writer.flag(*on);
        }
        Altering::Gone { author, emoji } => {
            writer.byte(4);
            writer.id(&author.0);
            writer.blob(emoji);
        }
    }
    writer.finish()
}

pub(crate) fn decode_altering(bytes: &[u8]) -> Result<Altering, StoreError> {
    let read = || -> Result<Option<Altering>, DecodeError> {
        let mut reader = Reader::versioned(1, bytes)?;
        Ok(match reader.byte()? {
            1 => Some(Altering::Edit),
            2 => Some(Altering::Delete),
            3 => Some(Altering::Reaction {
                author: UserId(reader.id()?),
                emoji: reader.text()?,
                on: reader.flag()?,
            }),
            4 => Some(Altering::Gone {
                author: UserId(reader.id()?),
                emoji: reader
                    .blob()?
                    .try_into()
                    .map_err(|_| DecodeError::Malformed)?,
            }),
            _ => None,
        })
    };
    read()
        .map_err(damaged)?
        .ok_or_else(|| damaged("an entry alters another in an unknown way"))
}

/// An id of 16 bytes from a column.
pub(crate) fn id(bytes: &[u8]) -> Result<[u8; 16], StoreError> {
    bytes
        .try_into()
        .map_err(|_| damaged("an id is not 16 bytes long"))
}

/// A log's id from a column.
pub(crate) fn log_id(bytes: &[u8]) -> Result<LogId, StoreError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| damaged("a log's id is not 17 bytes long"))?;
    LogId::from_bytes(bytes).ok_or_else(|| damaged("a log is of an unknown kind"))
}

/// A kind of mark from a column.
pub(crate) fn mark_kind(number: i8) -> Result<MarkKind, StoreError> {
    MarkKind::from_number(number.cast_unsigned())
        .ok_or_else(|| damaged("a mark is of an unknown kind"))
}

/// A seq from a column.
pub(crate) fn seq(number: i64) -> Seq {
    number.max(0).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_marks_at_one_seq_the_earlier_has_the_higher_bytes() {
        let at = |time| MarkValue {
            seq: 5,
            ordinal: 3,
            own: 1,
            at: Time(time),
        };
        assert!(encode_mark(at(10)) > encode_mark(at(11)));
        assert_eq!(decode_mark(&encode_mark(at(10))), Ok(at(10)));
    }

    #[test]
    fn what_is_owed_comes_back() {
        let owed = Owed {
            first: 7,
            last: 9,
            erase: vec![1, 2],
            marks: vec![Mark {
                log: LogId {
                    owner: [3; 16],
                    part: tidings_core::log::LogPart::Conversation,
                },
                owner: [4; 16],
                kind: MarkKind::Joined,
                lane: 5,
                value: MarkValue {
                    seq: 7,
                    ordinal: 6,
                    own: 0,
                    at: Time(8),
                },
            }],
        };
        assert_eq!(decode_owed(&encode_owed(&owed)), Ok(owed));
        assert!(decode_owed(&[9]).is_err());
    }
}
