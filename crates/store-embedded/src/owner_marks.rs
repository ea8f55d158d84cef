//! The marks of one owner in one log: a row of `marks`, and a value of the caches above it. They are raised together
//! and read together, so they lie together.

use tidings_core::Time;
use tidings_core::codec::{DecodeError, Reader, Writer};
use tidings_core::mark::{MarkKind, MarkValue};

const VERSION: u8 = 1;

/// Values by kind and lane; few, and in no order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnerMarks(Vec<(MarkKind, u32, MarkValue)>);

impl OwnerMarks {
    /// Raises one. Answers whether it was lower, or not there.
    pub(crate) fn raise(&mut self, kind: MarkKind, lane: u32, value: MarkValue) -> bool {
        let place = self.0.iter_mut().find(|(k, l, _)| (*k, *l) == (kind, lane));
        let Some((_, _, stored)) = place else {
            self.0.push((kind, lane, value));
            return true;
        };
        let before = std::mem::replace(stored, stored.max(value));
        *stored != before
    }

    /// Raises all that another one holds.
    pub(crate) fn merge(&mut self, other: &OwnerMarks) {
        for (kind, lane, value) in other.iter() {
            self.raise(kind, lane, value);
        }
    }

    /// One of them.
    pub(crate) fn get(&self, kind: MarkKind, lane: u32) -> Option<MarkValue> {
        self.iter()
            .find(|(k, l, _)| (*k, *l) == (kind, lane))
            .map(|(_, _, value)| value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (MarkKind, u32, MarkValue)> {
        self.0.iter().copied()
    }

    /// By kind and lane.
    pub(crate) fn sorted(mut self) -> Vec<(MarkKind, u32, MarkValue)> {
        self.0
            .sort_unstable_by_key(|(kind, lane, _)| (*kind, *lane));
        self.0
    }

    /// The value of a row: each mark's kind, lane, seq, ordinal, own and time.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::versioned(VERSION, 2 + 20 * self.0.len());
        writer.list(self.0.iter(), |writer, (kind, lane, value)| {
            writer.byte(*kind as u8);
            writer.number(u64::from(*lane));
            writer.number(value.seq);
            writer.number(value.ordinal);
            writer.number(value.own);
            writer.number(value.at.0);
        });
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<OwnerMarks, DecodeError> {
        let mut reader = Reader::versioned(VERSION, bytes)?;
        let marks = reader.list(|reader| {
            let kind = MarkKind::from_number(reader.byte()?).ok_or(DecodeError::Malformed)?;
            let lane = reader.number32()?;
            let value = MarkValue {
                seq: reader.number()?,
                ordinal: reader.number()?,
                own: reader.number()?,
                at: Time(reader.number()?),
            };
            Ok((kind, lane, value))
        })?;
        reader.finish()?;
        Ok(OwnerMarks(marks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(seq: u64) -> MarkValue {
        MarkValue {
            seq,
            ordinal: seq / 2,
            own: 1,
            at: Time(1_700_000_000_000),
        }
    }

    #[test]
    fn marks_rise_by_kind_and_lane_and_come_back_from_their_row() {
        let mut marks = OwnerMarks::default();
        assert!(marks.raise(MarkKind::Read, 0, value(5)));
        assert!(marks.raise(MarkKind::Read, 2, value(900)));
        assert!(marks.raise(MarkKind::Delivered, 0, value(7)));
        assert!(!marks.raise(MarkKind::Read, 0, value(4)));
        assert!(marks.raise(MarkKind::Read, 0, value(6)));
        assert_eq!(marks.get(MarkKind::Read, 0), Some(value(6)));
        assert_eq!(marks.get(MarkKind::Shown, 0), None);
        let again = OwnerMarks::decode(&marks.encode()).unwrap();
        assert_eq!(again, marks);
        let seqs: Vec<u64> = again
            .sorted()
            .iter()
            .map(|(_, _, value)| value.seq)
            .collect();
        assert_eq!(seqs, [7, 6, 900]);
        let bytes = marks.encode();
        for cut in 0..bytes.len() {
            assert!(OwnerMarks::decode(&bytes[..cut]).is_err(), "{cut}");
        }
    }
}
