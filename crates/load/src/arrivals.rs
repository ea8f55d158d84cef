//! What arrived of one sender's messages in one conversation, told by their numbers.

use std::collections::BTreeSet;

/// The numbers that arrived, and the faults in their order.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    next: u32,
    missing: BTreeSet<u32>,
    doubled: u64,
    reordered: u64,
}

/// What went wrong, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Acknowledged to the sender, never arrived.
    pub lost: u64,
    /// Arrived again.
    pub doubled: u64,
    /// Arrived after one that was sent later.
    pub reordered: u64,
}

impl Faults {
    /// Adds others.
    pub fn add(&mut self, other: Faults) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
    }
}

impl Arrivals {
    /// Number `number` arrived. Says whether for the first time.
    pub fn arrive(&mut self, number: u32) -> bool {
        if number == self.next {
            self.next += 1;
        } else if number > self.next {
            self.missing.extend(self.next..number);
            self.next = number.saturating_add(1);
        } else if self.missing.remove(&number) {
            self.reordered += 1;
        } else {
            self.doubled += 1;
            return false;
        }
        true
    }

    /// Number `number` was found in the history. Says whether it had not arrived.
    pub fn find(&mut self, number: u32) -> bool {
        if number < self.next {
            return self.missing.remove(&number);
        }
        self.arrive(number)
    }

    /// How many different ones arrived.
    #[must_use]
    pub fn count(&self) -> u64 {
        u64::from(self.next) - self.missing.len() as u64
    }

    /// The faults, if the numbers below `sent` were sent and all of them acknowledged but `unacknowledged`.
    #[must_use]
    pub fn faults(&self, sent: u32, unacknowledged: &BTreeSet<u32>) -> Faults {
        let lost = self
            .missing
            .iter()
            .copied()
            .chain(self.next..sent)
            .filter(|number| !unacknowledged.contains(number))
            .count();
        Faults {
            lost: lost as u64,
            doubled: self.doubled,
            reordered: self.reordered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(numbers: &[u32], sent: u32, unacknowledged: &[u32]) -> (u64, u64, u64) {
        let mut arrivals = Arrivals::default();
        for &number in numbers {
            arrivals.arrive(number);
        }
        let faults = arrivals.faults(sent, &unacknowledged.iter().copied().collect());
        (faults.lost, faults.doubled, faults.reordered)
    }

    #[test]
    fn what_is_found_in_the_history_is_neither_doubled_nor_out_of_order() {
        let mut arrivals = Arrivals::default();
        arrivals.arrive(2);
        assert!(arrivals.find(0) && arrivals.find(1) && arrivals.find(3));
        assert!(!arrivals.find(2) && !arrivals.find(0));
        let faults = arrivals.faults(4, &BTreeSet::new());
        assert_eq!((faults.lost, faults.doubled, faults.reordered), (0, 0, 0));
    }

    #[test]
    fn order_gaps_and_repetitions_are_told_apart() {
        assert_eq!(faults(&[0, 1, 2], 3, &[]), (0, 0, 0));
        assert_eq!(faults(&[0, 2], 3, &[]), (1, 0, 0));
        assert_eq!(faults(&[0, 1], 3, &[]), (1, 0, 0));
        assert_eq!(faults(&[0, 2, 1], 3, &[]), (0, 0, 1));
        assert_eq!(faults(&[0, 1, 1, 0, 2], 3, &[]), (0, 2, 0));
        assert_eq!(faults(&[0, 2, 1, 1], 3, &[]), (0, 1, 1));
        assert_eq!(faults(&[], 2, &[]), (2, 0, 0));
    }

    #[test]
    fn what_was_never_acknowledged_is_not_lost() {
        assert_eq!(faults(&[0, 3], 5, &[1, 4]), (1, 0, 0));
        assert_eq!(
            faults(&[0, 1], 2, &[1]),
            (0, 0, 0),
            "it may arrive all the same"
        );
    }

    #[test]
    fn arrivals_are_counted_once() {
        let mut arrivals = Arrivals::default();
        let firsts = [0, 5, 3, 3, 0].map(|number| arrivals.arrive(number));
        assert_eq!(firsts, [true, true, true, false, false]);
        assert_eq!(arrivals.count(), 3);
    }
}
