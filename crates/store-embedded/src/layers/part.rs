//! The rows of one part of a table in a layer: where they are in its arena, by key. Where many conversations are busy,
//! most parts have a row or four: those are listed in place. And a log's entries come in the order of their keys: a
//! list takes each with one comparison.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;

use fjall::{UserKey, UserValue};

use super::arena::{Arena, At, Full};
use super::{End, Merged, Range};

/// So many rows are listed in place.
const FEW: usize = 4;
/// With more rows than these, they lie in a tree as soon as one comes that is not the last.
const LISTED_MAX: usize = 32;

/// Rows by key.
#[derive(Debug)]
pub(super) enum Part {
    /// Behind the last one there is [`At::NONE`].
    Few([At; FEW]),
    Listed(Vec<At>),
    #[expect(
        clippy::box_collection,
        reason = "the many others would be a third larger"
    )]
    InTree(Box<BTreeMap<UserKey, At>>),
}

impl Default for Part {
    fn default() -> Part {
        Part::Few([At::NONE; FEW])
    }
}

/// Where a key is among others, or belongs.
fn find(rows: &[At], key: &[u8], arena: &Arena) -> Result<usize, usize> {
    let Some((&last, before)) = rows.split_last() else {
        return Err(0);
    };
    match arena.row(last).0.cmp(key) {
        Ordering::Less => Err(rows.len()),
        Ordering::Equal => Ok(before.len()),
        Ordering::Greater => before.binary_search_by(|at| arena.row(*at).0.cmp(key)),
    }
}

impl Part {
    /// Puts a row in. Answers how long the value was that stood there with its key, if one did.
    pub(super) fn insert(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        arena: &mut Arena,
    ) -> Result<Option<usize>, Full> {
        let place = match self {
            Part::InTree(rows) => match rows.get_mut(key) {
                Some(at) => return replace(at, key, value, arena).map(Some),
                None => {
                    rows.insert(key.into(), arena.push(key, value)?);
                    return Ok(None);
                }
            },
            _ => match find(self.list(), key, arena) {
                Ok(place) => {
                    return replace(&mut self.list_mut()[place], key, value, arena).map(Some);
                }
                Err(place) => place,
            },
        };
        self.insert_at(place, key, arena.push(key, value)?, arena);
        Ok(None)
    }

    /// Lists a row that is not there yet.
    fn insert_at(&mut self, place: usize, key: &[u8], at: At, arena: &Arena) {
        let count = self.len();
        match self {
            Part::Few(rows) if count < FEW => {
                rows[place..=count].rotate_right(1);
                rows[place] = at;
            }
            Part::Few(rows) => {
                let mut listed = Vec::with_capacity(2 * FEW);
                listed.extend_from_slice(rows);
                listed.insert(place, at);
                *self = Part::Listed(listed);
            }
            Part::Listed(rows) if rows.len() >= LISTED_MAX && place < rows.len() => {
                let listed = rows.iter().map(|at| (arena.row(*at).0.into(), *at));
                let rows = listed.chain([(key.into(), at)]).collect();
                *self = Part::InTree(Box::new(rows));
            }
            Part::Listed(rows) => rows.insert(place, at),
            Part::InTree(rows) => {
                rows.insert(key.into(), at);
            }
        }
    }

    /// The rows, if they are listed.
    fn list(&self) -> &[At] {
        match self {
            Part::Few(rows) => {
                let count = rows.iter().position(|at| *at == At::NONE);
                &rows[..count.unwrap_or(FEW)]
            }
            Part::Listed(rows) => rows,
            Part::InTree(_) => &[],
        }
    }

    fn list_mut(&mut self) -> &mut [At] {
        match self {
            Part::Few(rows) => rows,
            Part::Listed(rows) => rows,
            Part::InTree(_) => &mut [],
        }
    }

    pub(super) fn get(&self, key: &[u8], arena: &Arena) -> Option<At> {
        match self {
            Part::InTree(rows) => rows.get(key).copied(),
            _ => {
                let rows = self.list();
                rows.get(find(rows, key, arena).ok()?).copied()
            }
        }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Part::InTree(rows) => rows.len(),
            _ => self.list().len(),
        }
    }

    /// How many blocks of the heap it has, its rows' keys in a tree included.
    pub(super) fn blocks(&self) -> usize {
        match self {
            Part::Few(_) => 0,
            Part::Listed(_) => 1,
            Part::InTree(rows) => rows.len(),
        }
    }

    /// All rows, by key.
    pub(super) fn iter(&self) -> impl Iterator<Item = At> {
        let in_tree = match self {
            Part::InTree(rows) => Some(rows.values().copied()),
            _ => None,
        };
        let listed = self.list().iter().copied();
        listed.chain(in_tree.into_iter().flatten())
    }

    /// Copies the first or last `max` rows of a range, which does not end before it begins.
    pub(super) fn copy(
        &self,
        range: Range<'_>,
        end: End,
        max: usize,
        arena: &Arena,
        into: &mut Merged,
    ) {
        if let Part::InTree(rows) = self {
            let rows = rows.range::<[u8], _>(range).map(|(_, at)| *at);
            return copy(rows, end, max, arena, into);
        }
        let (from, to) = range;
        let rows = self.list();
        let first = rows.partition_point(|at| match from {
            Bound::Included(from) => arena.row(*at).0 < from,
            Bound::Excluded(from) => arena.row(*at).0 <= from,
            Bound::Unbounded => false,
        });
        let last = rows.partition_point(|at| match to {
            Bound::Included(to) => arena.row(*at).0 <= to,
            Bound::Excluded(to) => arena.row(*at).0 < to,
            Bound::Unbounded => true,
        });
        let rows = rows.get(first..last).unwrap_or_default();
        copy(rows.iter().copied(), end, max, arena, into);
    }
}

/// Writes another value of a row. Answers how long the one before was.
fn replace(
    at: &mut At,
    key: &[u8],
    value: Option<&[u8]>,
    arena: &mut Arena,
) -> Result<usize, Full> {
    let before = arena.row(*at).1.map_or(0, <[u8]>::len);
    if !arena.set(*at, value) {
        *at = arena.push(key, value)?;
    }
    Ok(before)
}

fn copy(
    rows: impl DoubleEndedIterator<Item = At>,
    end: End,
    max: usize,
    arena: &Arena,
    into: &mut Merged,
) {
    let copy = |at: At| {
        let (key, value) = arena.row(at);
        (UserKey::from(key), value.map(UserValue::from))
    };
    match end {
        End::Front => into.extend(rows.take(max).map(copy)),
        End::Back => into.extend(rows.rev().take(max).map(copy)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Tree = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

    fn rows_of(part: &Part, arena: &Arena) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let rows = part.iter().map(|at| arena.row(at));
        rows.map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec)))
            .collect()
    }

    #[test]
    fn a_list_and_a_tree_say_the_same() {
        let key = |number: usize| (number as u16).to_be_bytes();
        let counts = [
            0,
            1,
            2,
            FEW,
            FEW + 1,
            LISTED_MAX,
            LISTED_MAX + 1,
            3 * LISTED_MAX,
        ];
        for count in counts {
            let (mut part, mut tree) = (Part::default(), Tree::new());
            let mut arena = Arena::default();
            for number in 0..count {
                // Out of order, and some of them twice; then sometimes longer than there is room for.
                let length = number;
                let number = number * 7 % (count - count / 5).max(1);
                let value = (!number.is_multiple_of(3)).then(|| vec![number as u8; length]);
                let before = part.insert(&key(number), value.as_deref(), &mut arena);
                let expected = tree.insert(key(number).to_vec(), value);
                assert_eq!(before, Ok(expected.map(|v| v.map_or(0, |v| v.len()))));
            }
            // In order, they stay in a list however many they are.
            let mut in_order = Part::default();
            for (key, value) in &tree {
                let before = in_order.insert(key, value.as_deref(), &mut arena);
                assert_eq!(before, Ok(None));
            }
            assert!(!matches!(in_order, Part::InTree(_)), "{count}");
            let is_in_tree = matches!(part, Part::InTree(_));
            assert_eq!(is_in_tree, tree.len() > LISTED_MAX + 1, "{count}");
            let expected: Vec<_> = tree.clone().into_iter().collect();
            for part in [&part, &in_order] {
                assert_eq!(rows_of(part, &arena), expected);
                assert_eq!(part.len(), expected.len());
            }
            for number in 0..count + 2 {
                let found = part.get(&key(number), &arena).map(|at| arena.row(at).1);
                let expected = tree.get(&key(number)[..]).map(|value| value.as_deref());
                assert_eq!(found, expected);
                let (from, to) = (key(number / 2), key(number));
                let (from, to) = (&from[..], &to[..]);
                let ranges: [Range<'_>; 4] = [
                    (Bound::Included(from), Bound::Included(to)),
                    (Bound::Excluded(from), Bound::Unbounded),
                    (Bound::Unbounded, Bound::Excluded(to)),
                    (Bound::Included(from), Bound::Excluded(to)),
                ];
                for range in ranges {
                    if range == (Bound::Included(from), Bound::Excluded(from)) {
                        continue;
                    }
                    for (end, max) in [(End::Front, 5), (End::Back, 5), (End::Back, 1_000)] {
                        let mut ours = Merged::new();
                        part.copy(range, end, max, &arena, &mut ours);
                        let rows = tree.range::<[u8], _>(range);
                        let rows: Vec<_> = match end {
                            End::Front => rows.take(max).collect(),
                            End::Back => rows.rev().take(max).collect(),
                        };
                        let theirs: Merged = rows
                            .into_iter()
                            .map(|(key, value)| (key.into(), value.as_ref().map(Into::into)))
                            .collect();
                        assert_eq!(ours, theirs, "{count} {range:?} {end:?} {max}");
                    }
                }
            }
        }
    }
}
