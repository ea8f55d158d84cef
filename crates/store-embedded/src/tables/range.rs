//! Rows of a range of a table, from either end: those of the layers, and of the table those that no layer
//! has changed.

use std::collections::VecDeque;
use std::ops::Bound;

use fjall::{Iter, UserKey, UserValue};
use tidings_store::StoreError;

use super::{Pair, bound, pair};
use crate::layers::{End, Place, Range, Stack};

/// Rows of the layers that are taken at a time: few at first, for often one is enough, then more and more.
const FRESH_ROWS: usize = 4;
const FRESH_ROWS_MAX: usize = 64;

/// What the layers say of the rows in a range, taken a few at a time from either end.
pub(super) struct Fresh {
    stack: Stack,
    place: Place,
    /// What is not taken yet.
    rest: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    /// How many are taken next.
    next: usize,
    front: VecDeque<Row>,
    back: VecDeque<Row>,
}

/// A row as the layers have it; `None`: it is deleted.
type Row = (UserKey, Option<UserValue>);

impl Fresh {
    pub(super) fn new(stack: Stack, place: Place, (from, to): Range<'_>) -> Fresh {
        Fresh {
            stack,
            place,
            rest: (from.map(<[u8]>::to_vec), to.map(<[u8]>::to_vec)),
            next: FRESH_ROWS,
            front: VecDeque::new(),
            back: VecDeque::new(),
        }
    }

    fn take(&mut self, end: End) -> VecDeque<Row> {
        let rest = (bound(&self.rest.0), bound(&self.rest.1));
        let rows = self.stack.range(self.place, rest, end, self.next);
        self.next = (4 * self.next).min(FRESH_ROWS_MAX);
        let excluded =
            |row: Option<(&UserKey, _)>| row.map(|(key, _)| Bound::Excluded(key.to_vec()));
        match end {
            End::Front => {
                if let Some(last) = excluded(rows.last_key_value()) {
                    self.rest.0 = last;
                }
            }
            End::Back => {
                if let Some(first) = excluded(rows.first_key_value()) {
                    self.rest.1 = first;
                }
            }
        }
        rows.into_iter().collect()
    }

    /// The deque whose front is the next row from the front.
    fn front(&mut self) -> &mut VecDeque<Row> {
        if self.front.is_empty() {
            self.front = self.take(End::Front);
        }
        match self.front.is_empty() {
            true => &mut self.back,
            false => &mut self.front,
        }
    }

    /// The deque whose back is the next row from the back.
    fn back(&mut self) -> &mut VecDeque<Row> {
        if self.back.is_empty() {
            self.back = self.take(End::Back);
        }
        match self.back.is_empty() {
            true => &mut self.front,
            false => &mut self.back,
        }
    }
}

/// Rows from either end: those of the layers, and of the tables those that no layer has changed.
pub(crate) struct Rows {
    fresh: Fresh,
    stored: Iter,
    /// The next rows of the tables from the front and from the back.
    front: Option<Pair>,
    back: Option<Pair>,
}

impl Rows {
    pub(super) fn new(fresh: Fresh, stored: Iter) -> Rows {
        Rows {
            fresh,
            stored,
            front: None,
            back: None,
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Pair, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.front.is_none() {
                self.front = match self.stored.next().map(pair) {
                    Some(Err(error)) => return Some(Err(error)),
                    next => next.and_then(Result::ok).or_else(|| self.back.take()),
                };
            }
            let fresh = self.fresh.front();
            let is_fresh = match (fresh.front(), &self.front) {
                (Some((fresh, _)), Some((stored, _))) if fresh > stored => false,
                (Some((fresh, _)), Some((stored, _))) => {
                    if fresh == stored {
                        self.front = None;
                    }
                    true
                }
                (fresh, _) => fresh.is_some(),
            };
            if !is_fresh {
                return self.front.take().map(Ok);
            }
            if let Some((key, Some(value))) = fresh.pop_front() {
                return Some(Ok((key, value)));
            }
        }
    }
}

impl DoubleEndedIterator for Rows {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            if self.back.is_none() {
                self.back = match self.stored.next_back().map(pair) {
                    Some(Err(error)) => return Some(Err(error)),
                    next => next.and_then(Result::ok).or_else(|| self.front.take()),
                };
            }
            let fresh = self.fresh.back();
            let is_fresh = match (fresh.back(), &self.back) {
                (Some((fresh, _)), Some((stored, _))) if fresh < stored => false,
                (Some((fresh, _)), Some((stored, _))) => {
                    if fresh == stored {
                        self.back = None;
                    }
                    true
                }
                (fresh, _) => fresh.is_some(),
            };
            if !is_fresh {
                return self.back.take().map(Ok);
            }
            if let Some((key, Some(value))) = fresh.pop_back() {
                return Some(Ok((key, value)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::ConversationId;
    use tidings_core::log::LogId;

    use super::super::{Tables, place};
    use super::*;
    use crate::changes::{Change, Changes};
    use crate::keys;
    use crate::settings::Settings;

    fn key(seq: u64) -> [u8; 25] {
        keys::entry(LogId::conversation(ConversationId([7; 16])), seq)
    }

    /// A layer of entries on top of the others.
    fn push_layer(tables: &Tables, rows: &[(u64, Option<&str>)]) {
        let mut changes = Changes::default();
        for (seq, value) in rows {
            changes.push(Change {
                table: tables.entries.number,
                key: &key(*seq),
                value: value.map(str::as_bytes),
            });
        }
        let layer = tables.layers.push();
        layer.take(changes.bytes().unwrap(), place).unwrap();
    }

    /// What is stored, what two layers say (a value, deleted, nothing) and what is then to be seen.
    #[test]
    fn a_range_is_the_tables_seen_through_the_layers_from_both_ends() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::open(folder.path(), &Settings::default()).unwrap();
        let entries = &tables.entries;
        for seq in [2, 4, 6, 8] {
            entries.stored().insert(key(seq), "stored").unwrap();
        }
        let layer = |rows: &[(u64, Option<&str>)]| push_layer(&tables, rows);
        let old = [(1, Some("old")), (4, None), (5, Some("old")), (6, None)];
        layer(&old);
        layer(&[(5, None), (6, Some("new")), (8, None), (9, Some("new"))]);
        let expected = [(1, "old"), (2, "stored"), (6, "new"), (9, "new")];

        let view = tables.view();
        for steps in 0..1 << expected.len() {
            let both = [
                entries.prefix(keys::log(LogId::conversation(ConversationId([7; 16])))),
                view.range(entries, key(0)..=key(99)),
            ];
            for mut rows in both {
                let (mut front, mut back) = (Vec::new(), Vec::new());
                for step in 0..expected.len() {
                    let (key, value) = if steps & (1 << step) == 0 {
                        front.push(rows.next().unwrap().unwrap());
                        front.last().unwrap()
                    } else {
                        back.push(rows.next_back().unwrap().unwrap());
                        back.last().unwrap()
                    };
                    let seen = entries.get(key).unwrap();
                    assert_eq!(seen.as_ref(), Some(value));
                    assert_eq!(view.get(entries, key).unwrap(), seen);
                }
                assert!(rows.next().is_none() && rows.next_back().is_none());
                front.extend(back.into_iter().rev());
                let seen: Vec<_> = front
                    .iter()
                    .map(|(key, value)| (keys::parse_seq(key).unwrap(), value.as_ref()))
                    .collect();
                let expected = expected.map(|(seq, value)| (seq, value.as_bytes()));
                assert_eq!(seen, expected, "{steps:b}");
            }
        }
        assert_eq!(entries.get(&key(8)).unwrap(), None);
        let none = entries.range::<[u8; 25], _>((Bound::Excluded(key(6)), Bound::Excluded(key(6))));
        assert_eq!(none.count(), 0);
    }

    #[test]
    fn many_fresh_rows_are_read_from_both_ends() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::open(folder.path(), &Settings::default()).unwrap();
        let entries = &tables.entries;
        for seq in (0..500).step_by(5) {
            entries.stored().insert(key(seq), "stored").unwrap();
        }
        for step in [3, 2] {
            let value = |seq: u64| (!seq.is_multiple_of(7)).then_some("fresh");
            let rows: Vec<_> = (0..500)
                .step_by(step)
                .map(|seq| (seq, value(seq)))
                .collect();
            push_layer(&tables, &rows);
        }
        let is_changed = |seq: u64| seq.is_multiple_of(3) || seq.is_multiple_of(2);
        let expected: Vec<u64> = (0..500)
            .filter(|seq| match is_changed(*seq) {
                true => !seq.is_multiple_of(7),
                false => seq.is_multiple_of(5),
            })
            .collect();
        for turn in [1, 2, 3, 10, 400] {
            let mut rows = entries.range(key(0)..=key(499));
            let (mut front, mut back) = (Vec::new(), Vec::new());
            for step in 0..=expected.len() {
                let (next, taken) = match step % turn {
                    0 => (rows.next(), &mut front),
                    _ => (rows.next_back(), &mut back),
                };
                let keys = next.map(|row| keys::parse_seq(&row.unwrap().0).unwrap());
                taken.extend(keys);
            }
            front.extend(back.into_iter().rev());
            assert_eq!(front, expected, "one in {turn} from the front");
        }
    }
}
