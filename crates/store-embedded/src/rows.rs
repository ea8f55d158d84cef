//! The values of the rows. Each begins with a version.

use tidings_core::codec::{DecodeError, Reader, Writer, decode_envelope, encode_envelope};
use tidings_core::conversation::Retention;
use tidings_core::log::{Generation, Seq};
use tidings_core::{Envelope, Kind, MarkValue, Time, UserId};

const VERSION: u8 = 1;

/// A log: where it ends and what is kept of it. The one row that every append rewrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogRow {
    pub(crate) generation: Generation,
    /// The last entry, its ordinal and time.
    pub(crate) head: Seq,
    pub(crate) ordinal: u64,
    pub(crate) at: Time,
    /// What the last append said; backups leave out bodies of logs that keep them until delivered.
    pub(crate) retention: Retention,
    /// The last entry in the stored state; 0 without one.
    pub(crate) state: Seq,
    /// Three marks in descending order: served no more, bodies overwritten on disk, envelope and
    /// client id gone as well.
    pub(crate) trimmed: Seq,
    pub(crate) swept: Seq,
    pub(crate) forgotten: Seq,
}

impl LogRow {
    pub(crate) fn new(generation: Generation, retention: Retention) -> LogRow {
        LogRow {
            generation,
            head: 0,
            ordinal: 0,
            at: Time(0),
            retention,
            state: 0,
            trimmed: 0,
            swept: 0,
            forgotten: 0,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::versioned(VERSION, 48);
        writer.id(&self.generation.0);
        writer.number(self.head);
        writer.number(self.ordinal);
        writer.number(self.at.0);
        let (class, days) = retention_numbers(self.retention);
        writer.byte(class);
        writer.number(u64::from(days));
        writer.number(self.state);
        writer.number(self.trimmed);
        writer.number(self.swept);
        writer.number(self.forgotten);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<LogRow, DecodeError> {
        let mut reader = Reader::versioned(VERSION, bytes)?;
        let row = LogRow {
            generation: Generation(reader.id()?),
            head: reader.number()?,
            ordinal: reader.number()?,
            at: Time(reader.number()?),
            retention: read_retention(&mut reader)?,
            state: reader.number()?,
            trimmed: reader.number()?,
            swept: reader.number()?,
            forgotten: reader.number()?,
        };
        reader.finish()?;
        Ok(row)
    }
}

/// An entry: its envelope and where its body lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryRow {
    pub(crate) envelope: Envelope,
    pub(crate) body: BodyRow,
}

/// Where a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyRow {
    /// Erased.
    Erased,
    /// The kind says it all.
    Empty,
    /// In a body file.
    At(BodyPlace),
}

/// A place in a body file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyPlace {
    pub(crate) file: u32,
    pub(crate) offset: u64,
    pub(crate) length: u32,
    /// The first 8 bytes of the BLAKE3 hash of the body.
    pub(crate) hash: [u8; 8],
}

impl EntryRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        EntryRow::encode_of(&self.envelope, self.body)
    }

    /// The row of this envelope and body, without moving them together.
    pub(crate) fn encode_of(envelope: &Envelope, body: BodyRow) -> Vec<u8> {
        let mut writer = Writer::versioned(VERSION, 128);
        writer.blob(&encode_envelope(envelope));
        match body {
            BodyRow::Erased => writer.byte(0),
            BodyRow::Empty => writer.byte(1),
            BodyRow::At(place) => {
                writer.byte(2);
                writer.number(u64::from(place.file));
                writer.number(place.offset);
                writer.number(u64::from(place.length));
                place.hash.iter().for_each(|&byte| writer.byte(byte));
            }
        }
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<EntryRow, DecodeError> {
        let mut reader = Reader::versioned(VERSION, bytes)?;
        let envelope = decode_envelope(reader.blob()?)?;
        let body = match reader.byte()? {
            0 => BodyRow::Erased,
            1 => BodyRow::Empty,
            2 => {
                let (file, offset, length) =
                    (reader.number32()?, reader.number()?, reader.number32()?);
                let mut hash = [0; 8];
                for byte in &mut hash {
                    *byte = reader.byte()?;
                }
                BodyRow::At(BodyPlace {
                    file,
                    offset,
                    length,
                    hash,
                })
            }
            _ => return Err(DecodeError::Malformed),
        };
        reader.finish()?;
        Ok(EntryRow { envelope, body })
    }
}

/// A body file: see [`crate::bodies`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileRow {
    pub(crate) class: Class,
    /// The number of the span of time whose bodies it takes; 0 where there are none.
    pub(crate) window: u64,
    /// Where its committed bodies end.
    pub(crate) end: u64,
    /// Bytes of them that have been overwritten.
    pub(crate) dead: u64,
    /// Takes no more bodies.
    pub(crate) sealed: bool,
}

/// Which bodies lie together: those that are likely to go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Class {
    /// 1 for ever, 2 for days, 3 until delivered.
    pub(crate) kind: u8,
    pub(crate) days: u16,
}

impl Class {
    pub(crate) fn of(retention: Retention) -> Class {
        let (kind, days) = retention_numbers(retention);
        Class { kind, days }
    }

    pub(crate) fn is_until_delivered(self) -> bool {
        self.kind == 3
    }
}

impl FileRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::versioned(VERSION, 24);
        writer.byte(self.class.kind);
        writer.number(u64::from(self.class.days));
        writer.number(self.window);
        writer.number(self.end);
        writer.number(self.dead);
        writer.flag(self.sealed);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<FileRow, DecodeError> {
        let mut reader = Reader::versioned(VERSION, bytes)?;
        let row = FileRow {
            class: Class::of(read_retention(&mut reader)?),
            window: reader.number()?,
            end: reader.number()?,
            dead: reader.number()?,
            sealed: reader.flag()?,
        };
        reader.finish()?;
        Ok(row)
    }
}

/// In the index by target: what an edit or a deletion is, without its content, which is erased with its
/// body. Reactions that stand have a number instead, their seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AlterationRow {
    pub(crate) kind: Kind,
    pub(crate) author: UserId,
}

impl AlterationRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::versioned(VERSION, 24);
        writer.byte(self.kind.number());
        writer.id(&self.author.0);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<AlterationRow, DecodeError> {
        let mut reader = Reader::versioned(VERSION, bytes)?;
        let row = AlterationRow {
            kind: Kind::from_number(reader.byte()?),
            author: UserId(reader.id()?),
        };
        reader.finish()?;
        Ok(row)
    }
}

pub(crate) fn encode_mark(value: &MarkValue) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION, 24);
    writer.number(value.seq);
    writer.number(value.ordinal);
    writer.number(value.own);
    writer.number(value.at.0);
    writer.finish()
}

pub(crate) fn decode_mark(bytes: &[u8]) -> Result<MarkValue, DecodeError> {
    let mut reader = Reader::versioned(VERSION, bytes)?;
    let value = MarkValue {
        seq: reader.number()?,
        ordinal: reader.number()?,
        own: reader.number()?,
        at: Time(reader.number()?),
    };
    reader.finish()?;
    Ok(value)
}

/// One number with a version: the time of a client id's entry or of a step, the entry of a reaction that
/// stands, the length of an erased place.
pub(crate) fn encode_number(number: u64) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION, 10);
    writer.number(number);
    writer.finish()
}

pub(crate) fn decode_number(bytes: &[u8]) -> Result<u64, DecodeError> {
    let mut reader = Reader::versioned(VERSION, bytes)?;
    let number = reader.number()?;
    reader.finish()?;
    Ok(number)
}

/// A number and bytes: a state with its seq, a document with its version.
pub(crate) fn encode_numbered(number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION, 16 + bytes.len());
    writer.number(number);
    writer.blob(bytes);
    writer.finish()
}

pub(crate) fn decode_numbered(bytes: &[u8]) -> Result<(u64, Vec<u8>), DecodeError> {
    let mut reader = Reader::versioned(VERSION, bytes)?;
    let numbered = (reader.number()?, reader.blob()?.to_vec());
    reader.finish()?;
    Ok(numbered)
}

fn retention_numbers(retention: Retention) -> (u8, u16) {
    match retention {
        Retention::Forever => (1, 0),
        Retention::Days(days) => (2, days),
        Retention::UntilDelivered => (3, 0),
    }
}

fn read_retention(reader: &mut Reader<'_>) -> Result<Retention, DecodeError> {
    let (class, days) = (reader.byte()?, reader.number32()?);
    match class {
        1 => Ok(Retention::Forever),
        2 => u16::try_from(days)
            .map(Retention::Days)
            .map_err(|_| DecodeError::Malformed),
        3 => Ok(Retention::UntilDelivered),
        _ => Err(DecodeError::Malformed),
    }
}
