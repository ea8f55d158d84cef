//! The rows of one part of a table in a layer. Where many conversations are busy, most parts have a row or two:
//! a list of them takes a tenth of the memory of a tree. And a log's entries come in the order of their keys: a list
//! takes each with one comparison.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use fjall::{UserKey, UserValue};

use super::{End, Merged, Range};

/// With more rows than these, they lie in a tree as soon as one comes that is not the last.
const LISTED_MAX: usize = 32;

/// Rows by key. `None`: the row is deleted.
#[derive(Debug)]
pub(crate) enum Part {
    Listed(Vec<(UserKey, Option<UserValue>)>),
    InTree(BTreeMap<UserKey, Option<UserValue>>),
}

impl Default for Part {
    fn default() -> Part {
        Part::Listed(Vec::new())
    }
}

impl Part {
    /// Puts a row in; answers what was there with its key.
    pub(super) fn insert(
        &mut self,
        key: UserKey,
        value: Option<UserValue>,
    ) -> Option<Option<UserValue>> {
        let rows = match self {
            Part::InTree(rows) => return rows.insert(key, value),
            Part::Listed(rows) => rows,
        };
        // Not by the order of `UserKey`, which looks at the first four bytes first: they are the log's.
        let (last, before) = match rows.split_last() {
            Some(((last, _), before)) => (last.as_ref().cmp(key.as_ref()), before),
            None => (Ordering::Less, rows.as_slice()),
        };
        let place = match last {
            Ordering::Less => Err(rows.len()),
            Ordering::Equal => Ok(before.len()),
            Ordering::Greater => {
                before.binary_search_by(|(other, _)| other.as_ref().cmp(key.as_ref()))
            }
        };
        match place {
            Ok(place) => {
                let row = rows.get_mut(place);
                return row.map(|row| std::mem::replace(&mut row.1, value));
            }
            Err(place) if rows.len() >= LISTED_MAX && place < rows.len() => {
                let rows = std::mem::take(rows).into_iter();
                *self = Part::InTree(rows.chain([(key, value)]).collect());
            }
            Err(place) => {
                if rows.len() == rows.capacity() {
                    rows.reserve_exact(rows.len().max(1));
                }
                rows.insert(place, (key, value));
            }
        }
        None
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Option<UserValue>> {
        match self {
            Part::InTree(rows) => rows.get(key),
            Part::Listed(rows) => {
                let place = rows.binary_search_by(|(other, _)| other.as_ref().cmp(key));
                rows.get(place.ok()?).map(|(_, value)| value)
            }
        }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Part::Listed(rows) => rows.len(),
            Part::InTree(rows) => rows.len(),
        }
    }

    /// All rows, by key.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&UserKey, Option<&UserValue>)> {
        let (listed, in_tree) = match self {
            Part::Listed(rows) => (Some(rows), None),
            Part::InTree(rows) => (None, Some(rows)),
        };
        let listed = listed.into_iter().flatten();
        let in_tree = in_tree.into_iter().flatten();
        listed
            .map(|(key, value)| (key, value.as_ref()))
            .chain(in_tree.map(|(key, value)| (key, value.as_ref())))
    }

    /// Copies the first or last `max` rows of a range, which does not end before it begins.
    pub(super) fn copy(&self, range: Range<'_>, end: End, max: usize, into: &mut Merged) {
        match self {
            Part::InTree(rows) => copy(rows.range::<[u8], _>(range), end, max, into),
            Part::Listed(rows) => {
                let (from, to) = range;
                let first = rows.partition_point(|(key, _)| match from {
                    Bound::Included(from) => key.as_ref() < from,
                    Bound::Excluded(from) => key.as_ref() <= from,
                    Bound::Unbounded => false,
                });
                let last = rows.partition_point(|(key, _)| match to {
                    Bound::Included(to) => key.as_ref() <= to,
                    Bound::Excluded(to) => key.as_ref() < to,
                    Bound::Unbounded => true,
                });
                let rows = rows.get(first..last).unwrap_or_default();
                copy(rows.iter().map(|(key, value)| (key, value)), end, max, into);
            }
        }
    }
}

fn copy<'a>(
    rows: impl DoubleEndedIterator<Item = (&'a UserKey, &'a Option<UserValue>)>,
    end: End,
    max: usize,
    into: &mut Merged,
) {
    let copy = |(key, value): (&UserKey, &Option<UserValue>)| (key.clone(), value.clone());
    match end {
        End::Front => into.extend(rows.take(max).map(copy)),
        End::Back => into.extend(rows.rev().take(max).map(copy)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_and_a_tree_say_the_same() {
        let key = |number: usize| UserKey::from((number as u16).to_be_bytes());
        for count in [0, 1, 2, LISTED_MAX, LISTED_MAX + 1, 3 * LISTED_MAX] {
            let (mut part, mut tree) = (Part::default(), BTreeMap::new());
            for number in 0..count {
                // Out of order, and some of them twice.
                let number = number * 7 % (count - count / 5).max(1);
                let value = (!number.is_multiple_of(3)).then(|| UserValue::from([number as u8]));
                let before = part.insert(key(number), value.clone());
                assert_eq!(before, tree.insert(key(number), value));
            }
            // In order, they stay in a list however many they are.
            let mut in_order = Part::default();
            for (key, value) in &tree {
                assert_eq!(in_order.insert(key.clone(), value.clone()), None);
            }
            assert!(matches!(in_order, Part::Listed(_)), "{count}");
            assert!(in_order.iter().eq(part.iter()));
            assert_eq!(
                matches!(part, Part::InTree(_)),
                tree.len() > LISTED_MAX + 1,
                "{count}"
            );
            let rows: Vec<_> = part.iter().collect();
            assert_eq!(part.len(), rows.len());
            let expected: Vec<_> = tree
                .iter()
                .map(|(key, value)| (key, value.as_ref()))
                .collect();
            assert_eq!(rows, expected);
            for number in 0..count + 2 {
                assert_eq!(part.get(&key(number)), tree.get(&key(number)));
                let (from, to) = (key(number / 2), key(number));
                let ranges: [Range<'_>; 4] = [
                    (Bound::Included(&from), Bound::Included(&to)),
                    (Bound::Excluded(&from), Bound::Unbounded),
                    (Bound::Unbounded, Bound::Excluded(&to)),
                    (Bound::Included(&from), Bound::Excluded(&to)),
                ];
                for range in ranges {
                    if range == (Bound::Included(&from), Bound::Excluded(&from)) {
                        continue;
                    }
                    for (end, max) in [(End::Front, 5), (End::Back, 5), (End::Back, 1_000)] {
                        let (mut ours, mut theirs) = (Merged::new(), Merged::new());
                        part.copy(range, end, max, &mut ours);
                        copy(tree.range::<[u8], _>(range), end, max, &mut theirs);
                        assert_eq!(ours, theirs, "{count} {range:?} {end:?} {max}");
                    }
                }
            }
        }
    }
}
