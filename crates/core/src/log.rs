//! Logs: append-only lists of entries numbered 1, 2, 3, … without a gap.

use std::fmt;

use crate::id::{ConversationId, DeviceId, InvalidId};

/// The number of an entry in its log. The first is 1; 0 means "before the first".
pub type Seq = u64;

/// The largest number that the wire can carry (53 bits).
pub const SEQ_MAX: Seq = (1 << 53) - 1;

/// Which log: its owner's id and which of the owner's logs it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The id of the conversation or device it belongs to.
    pub owner: [u8; 16],
    /// Which of the owner's logs.
    pub part: LogPart,
}

/// Which of its owner's logs a log is. The numbers are on disk and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum LogPart {
    /// A conversation's entries.
    Conversation = 1,
    /// What is meant for one device alone (keys, welcomes), trimmed once acknowledged.
    Device = 2,
    /// A channel's joins and leaves, kept apart so that a raid wakes nobody.
    Membership = 3,
}

impl LogPart {
    /// The part with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<LogPart> {
        match number {
            1 => Some(LogPart::Conversation),
            2 => Some(LogPart::Device),
            3 => Some(LogPart::Membership),
            _ => None,
        }
    }
}

impl LogId {
    /// The log of a conversation.
    #[must_use]
    pub fn conversation(id: ConversationId) -> LogId {
        LogId {
            owner: id.0,
            part: LogPart::Conversation,
        }
    }

    /// A device's own log.
    #[must_use]
    pub fn device(id: DeviceId) -> LogId {
        LogId {
            owner: id.0,
            part: LogPart::Device,
        }
    }

    /// The conversation whose log this is; `None` for a device's log.
    #[must_use]
    pub fn as_conversation(&self) -> Option<ConversationId> {
        (self.part != LogPart::Device).then_some(ConversationId(self.owner))
    }

    /// 17 bytes that sort by owner and then part: what stores use as (the front of) a key.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 17] {
        let mut bytes = [0; 17];
        bytes[..16].copy_from_slice(&self.owner);
        bytes[16] = self.part as u8;
        bytes
    }

    /// The reverse of [`LogId::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 17]) -> Option<LogId> {
        let mut owner = [0; 16];
        owner.copy_from_slice(&bytes[..16]);
        Some(LogId {
            owner,
            part: LogPart::from_number(bytes[16])?,
        })
    }
}

/// Which life of a log: new when the log was made, restored or rebuilt. Compared for equality only.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation(pub [u8; 16]);

impl Generation {
    /// A new generation from the time and 10 random bytes (a ULID).
    #[must_use]
    pub fn new(now: crate::Time, random: [u8; 10]) -> Self {
        Self(ConversationId::new(now, random).0)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = [0; ulid::ULID_LEN];
        f.write_str(ulid::Ulid::from_bytes(self.0).array_to_str(&mut buffer))
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Generation {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        ulid::Ulid::from_string(text)
            .map(|ulid| Self(ulid.to_bytes()))
            .map_err(|_| InvalidId {
                expected: "a generation (26 characters)",
            })
    }
}

/// A place in a log: the one type of stream position from the store to the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Which life of the log.
    pub generation: Generation,
    /// As far as, inclusive.
    pub seq: Seq,
}
