//! Which seqs of a log this device has: ranges that do not touch. What is inside one is either here or not
//! meant for this device; what is between two is not known.

use serde::{Deserialize, Serialize};
use tidings_core::log::Seq;

/// More pieces than this are not remembered: the smallest is forgotten, and fetched again when needed.
const RANGES_MAX: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ranges {
    /// First and last seq of each, both included, in their order.
    ranges: Vec<(Seq, Seq)>,
}

impl Ranges {
    /// Adds the seqs from `from` to `to`, both included. `position` is never forgotten.
    pub(crate) fn insert(&mut self, from: Seq, to: Seq, position: Seq) {
        if from == 0 || to < from {
            return;
        }
        let touches = |range: &&(Seq, Seq)| {
            range.0 <= to.saturating_add(1) && from <= range.1.saturating_add(1)
        };
        let (mut low, mut high) = (from, to);
        for range in self.ranges.iter().filter(touches) {
            low = low.min(range.0);
            high = high.max(range.1);
        }
        self.ranges.retain(|range| !touches(&range));
        let index = self.ranges.partition_point(|range| range.0 < low);
        self.ranges.insert(index, (low, high));
        if self.ranges.len() > RANGES_MAX {
            let forgettable = self.ranges.iter().enumerate().filter(|(_, range)| {
                !(range.0..=range.1).contains(&position) && **range != (low, high)
            });
            if let Some((index, _)) = forgettable.min_by_key(|(_, range)| range.1 - range.0) {
                self.ranges.remove(index);
            }
        }
    }

    /// Takes the seqs from `from` to `to`, both included, out again.
    pub(crate) fn remove(&mut self, from: Seq, to: Seq) {
        if to < from {
            return;
        }
        let rest = |&(low, high): &(Seq, Seq)| {
            let below = (low, high.min(from.saturating_sub(1)));
            let above = (low.max(to.saturating_add(1)), high);
            [below, above].into_iter().filter(|(low, high)| low <= high)
        };
        self.ranges = self.ranges.iter().flat_map(rest).collect();
    }

    /// The range that holds this seq.
    pub(crate) fn around(&self, seq: Seq) -> Option<(Seq, Seq)> {
        self.ranges
            .iter()
            .copied()
            .find(|range| (range.0..=range.1).contains(&seq))
    }

    /// Whether the seqs from `from` to `to` are all in.
    pub(crate) fn holds(&self, from: Seq, to: Seq) -> bool {
        from > to || self.around(from).is_some_and(|range| range.1 >= to)
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.ranges
            .iter()
            .all(|range| range.0 > 0 && range.0 <= range.1)
            && self
                .ranges
                .windows(2)
                .all(|pair| pair[0].1.saturating_add(1) < pair[1].0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_are_a_set_of_seqs(pieces in proptest::collection::vec((1..60u64, 0..9u64), 0..20)) {
            let mut ranges = Ranges::default();
            let mut set = std::collections::BTreeSet::new();
            for (from, length) in pieces {
                ranges.insert(from, from + length, 0);
                set.extend(from..=from + length);
                prop_assert!(ranges.is_sound());
                for seq in 1..80 {
                    prop_assert_eq!(ranges.around(seq).is_some(), set.contains(&seq));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_out_is_in_no_more(
            pieces in proptest::collection::vec((1..60u64, 0..9u64), 0..20),
            (from, length) in (0..70u64, 0..30u64),
        ) {
            let mut ranges = Ranges::default();
            let mut set = std::collections::BTreeSet::new();
            for (from, length) in pieces {
                ranges.insert(from, from + length, 0);
                set.extend(from..=from + length);
            }
            ranges.remove(from, from + length);
            set.retain(|seq| !(from..=from + length).contains(seq));
            prop_assert!(ranges.is_sound());
            for seq in 1..80 {
                prop_assert_eq!(ranges.around(seq).is_some(), set.contains(&seq));
            }
        }
    }

    #[test]
    fn pieces_are_bounded_and_the_position_stays() {
        let mut ranges = Ranges::default();
        for piece in 1..=1_000 {
            ranges.insert(piece * 10, piece * 10, 10);
        }
        assert!(
            ranges.ranges.len() <= RANGES_MAX
                && ranges.around(10).is_some()
                && ranges.around(10_000).is_some()
        );
    }
}
