//! Watermarks: numbers that only grow ("as far as"). Raising one is a max, so it can be repeated,
//! reordered, batched, delayed or merged and still be right.

use crate::log::{LogId, Seq};
use crate::time::Time;

/// Which watermark. The numbers are on disk and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MarkKind {
    /// As far as some device of the user has received.
    Delivered = 1,
    /// As far as the user has read.
    Read = 2,
    /// As far as the user's reading may be seen by others.
    Shown = 3,
    /// As far as one device has received; the owner is the device.
    Device = 4,
    /// The seq of the user's last joining.
    Joined = 5,
    /// The seq of the user's last leaving; in if joined > left.
    Left = 6,
    /// The log's head as written to this member's inbox (write diffusion).
    Head = 7,
}

impl MarkKind {
    /// The kind with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<MarkKind> {
        Some(match number {
            1 => MarkKind::Delivered,
            2 => MarkKind::Read,
            3 => MarkKind::Shown,
            4 => MarkKind::Device,
            5 => MarkKind::Joined,
            6 => MarkKind::Left,
            7 => MarkKind::Head,
            _ => return None,
        })
    }
}

/// A watermark and its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// In which log.
    pub log: LogId,
    /// Whose: a user's id, or a device's for [`MarkKind::Device`].
    pub owner: [u8; 16],
    /// Which.
    pub kind: MarkKind,
    /// In which lane; 0 is the whole log.
    pub lane: u32,
    /// As far as.
    pub value: MarkValue,
}

/// How far a watermark is, with the counts that go with that place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MarkValue {
    /// As far as, inclusive.
    pub seq: Seq,
    /// Entries that count up to there (for read, joined and head).
    pub ordinal: u64,
    /// How many of those are the owner's own (for read and joined).
    pub own: u64,
    /// When it came to stand there.
    pub at: Time,
}

impl MarkValue {
    /// The higher of two values of one mark; the earlier if they are at the same seq, so that the time
    /// of the first step stays whoever tells of it first.
    #[must_use]
    pub fn max(self, other: MarkValue) -> MarkValue {
        let is_later =
            (other.seq, std::cmp::Reverse(other.at)) > (self.seq, std::cmp::Reverse(self.at));
        if is_later { other } else { self }
    }
}

/// How many messages by others lie above `base`, given the head's ordinal and how many entries that
/// count are the reader's own in the whole log.
///
/// `base` is the later of the read mark and the last joining.
#[must_use]
pub fn unread(head_ordinal: u64, own_total: u64, base: MarkValue) -> u64 {
    let counted = head_ordinal.saturating_sub(base.ordinal);
    counted.saturating_sub(own_total.saturating_sub(base.own))
}
