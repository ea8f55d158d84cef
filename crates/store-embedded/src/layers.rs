//! Rows that are durable in the journal and not yet in the tables.
//!
//! The newest layer grows with each commit. Every few seconds it is closed and applied to the tables, where a
//! row that was written a hundred times in that time is written once. Reads look
//! into the layers first and into the tables second: a row that moves down in between is seen in one
//! place or the other.

mod arena;
mod part;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use fjall::{UserKey, UserValue};
use foldhash::{HashMap, HashMapExt as _};

pub(crate) use self::arena::Full;
use self::arena::{Arena, Row};
use self::part::Part;
use crate::changes::{self, Change};

/// Giving back a piece of the arena takes about as long as so many rows.
const ROWS_OF_PIECE: usize = 32;

/// Rows of several layers. `None`: the row is deleted.
pub(crate) type Merged = BTreeMap<UserKey, Option<UserValue>>;

/// The keys of a range.
pub(crate) type Range<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// From which end a range is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Front,
    Back,
}

/// Where a row lies in a layer: small maps are quick, and no read goes across logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) table: u8,
    /// What its key begins with, if keys of this table begin with their log; zeros otherwise.
    pub(crate) log: [u8; 17],
}

impl Place {
    /// Its order among places, nearly always by the first of these alone.
    fn order(&self) -> (u128, &Place) {
        let mut front = [self.table; 16];
        front[1..].copy_from_slice(&self.log[..15]);
        (u128::from_be_bytes(front), self)
    }
}

impl Hash for Place {
    /// Two numbers are hashed with less ado than a list of bytes.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let [owner @ .., part] = &self.log;
        state.write_u128(u128::from_ne_bytes(*owner));
        state.write_u16(u16::from_ne_bytes([*part, self.table]));
    }
}

/// The changes of some commits.
#[derive(Debug, Default)]
pub(crate) struct Layer {
    parts: RwLock<Parts>,
}

#[derive(Debug, Default)]
struct Parts {
    by_place: HashMap<Place, Part>,
    arena: Arena,
    /// How much there is of each table, by number.
    sizes: Vec<Size>,
}

/// How much some rows are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    /// Of keys and values.
    pub(crate) bytes: usize,
}

/// The rows of one table in a layer.
pub(crate) struct TableRows<'a> {
    parts: &'a [(&'a Place, &'a Part)],
    arena: &'a Arena,
    pub(crate) size: Size,
}

impl TableRows<'_> {
    /// By key, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        let rows = self.parts.iter().flat_map(|(_, part)| part.iter());
        rows.map(|at| self.arena.row(at))
    }
}

impl Parts {
    fn take(&mut self, changes: &[u8], place: impl Fn(u8, &[u8]) -> Place) -> Result<(), Full> {
        let mut last: Option<(Place, &mut Part)> = None;
        for Change { table, key, value } in changes::read(changes) {
            let place = place(table, key);
            let part = match last {
                // Changes of one place often follow on each other: it is looked for once.
                Some((last, part)) if last == place => part,
                _ => self.by_place.entry(place).or_default(),
            };
            let index = usize::from(table);
            if index >= self.sizes.len() {
                self.sizes.resize(index + 1, Size::default());
            }
            let size = &mut self.sizes[index];
            match part.insert(key, value, &mut self.arena)? {
                Some(before) => size.bytes -= before,
                None => {
                    size.rows += 1;
                    size.bytes += key.len();
                }
            }
            size.bytes += value.map_or(0, <[u8]>::len);
            last = Some((place, part));
        }
        Ok(())
    }
}

impl Layer {
    /// An empty one, that will have rows in about so many places.
    fn for_about(places: usize) -> Layer {
        let parts = Parts {
            by_place: HashMap::with_capacity(places),
            ..Parts::default()
        };
        Layer {
            parts: RwLock::new(parts),
        }
    }

    fn places(&self) -> usize {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        parts.by_place.len()
    }

    /// Takes changes in, all at one moment.
    ///
    /// # Errors
    /// When there are 64 GiB of rows: they are not all in.
    pub(crate) fn take(
        &self,
        changes: &[u8],
        place: impl Fn(u8, &[u8]) -> Place,
    ) -> Result<(), Full> {
        let mut parts = self.parts.write().unwrap_or_else(PoisonError::into_inner);
        parts.take(changes, place)
    }

    /// Calls `each` with the rows of every table, in the order of their keys.
    pub(crate) fn for_each_table<E>(
        &self,
        mut each: impl FnMut(u8, TableRows<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let all = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        let parts = all.by_place.iter();
        let mut sorted: Vec<_> = parts.map(|(place, part)| (place.order(), part)).collect();
        // What lies in one place begins with the same log: in the order of places keys are in theirs.
        sorted.sort_unstable_by_key(|(order, _)| *order);
        let sorted = sorted.into_iter();
        let parts: Vec<_> = sorted.map(|((_, place), part)| (place, part)).collect();
        parts
            .chunk_by(|(a, _), (b, _)| a.table == b.table)
            .filter_map(|parts| Some((parts.first()?.0.table, parts)))
            .try_for_each(|(table, parts)| {
                let size = all.sizes.get(usize::from(table));
                let size = size.copied().unwrap_or_default();
                let arena = &all.arena;
                each(table, TableRows { parts, arena, size })
            })
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        parts.sizes.iter().map(|size| size.rows).sum()
    }

    /// As how many rows it counts to give its memory back.
    pub(crate) fn rows_to_give_back(&self) -> usize {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        let blocks: usize = parts.by_place.values().map(Part::blocks).sum();
        parts.arena.pieces() * ROWS_OF_PIECE + blocks
    }

    /// Gives its memory back little by little, `each` time saying as how many rows that counts; if nobody else reads
    /// it any more.
    pub(crate) fn give_back(self: Arc<Layer>, mut each: impl FnMut(usize)) {
        let Some(layer) = Arc::into_inner(self) else {
            return;
        };
        let parts = layer.parts.into_inner();
        let parts = parts.unwrap_or_else(PoisonError::into_inner);
        for piece in parts.arena.into_pieces() {
            drop(piece);
            each(ROWS_OF_PIECE);
        }
        for (_, part) in parts.by_place {
            let blocks = part.blocks();
            drop(part);
            each(blocks);
        }
    }

    fn get(&self, place: Place, key: &[u8]) -> Option<Option<UserValue>> {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        let at = parts.by_place.get(&place)?.get(key, &parts.arena)?;
        Some(parts.arena.row(at).1.map(UserValue::from))
    }

    fn range(&self, place: Place, range: Range<'_>, end: End, max: usize, into: &mut Merged) {
        let parts = self.parts.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = parts.by_place.get(&place) {
            part.copy(range, end, max, &parts.arena, into);
        }
    }
}

/// The layers at one moment, the newest last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stack(Vec<Arc<Layer>>);

impl Stack {
    /// The row as the layers have it; `None` if none of them says anything about it.
    pub(crate) fn get(&self, place: Place, key: &[u8]) -> Option<Option<UserValue>> {
        self.0.iter().rev().find_map(|layer| layer.get(place, key))
    }

    /// What the layers say of the rows in a range: the first or last `max` of them.
    pub(crate) fn range(&self, place: Place, range: Range<'_>, end: End, max: usize) -> Merged {
        let mut rows = Merged::new();
        if !is_empty(range) {
            // What is among the first of all is among the first of its layer.
            for layer in &self.0 {
                layer.range(place, range, end, max, &mut rows);
            }
        }
        while rows.len() > max {
            match end {
                End::Front => rows.pop_last(),
                End::Back => rows.pop_first(),
            };
        }
        rows
    }
}

/// A range that ends before it begins has no rows.
fn is_empty(range: Range<'_>) -> bool {
    match range {
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (
            Bound::Included(from) | Bound::Excluded(from),
            Bound::Included(to) | Bound::Excluded(to),
        ) => from >= to,
        _ => false,
    }
}

/// The layers of a store.
#[derive(Debug, Default)]
pub(crate) struct Layers {
    stack: RwLock<Stack>,
}

impl Layers {
    /// The layers now. To be taken before anything is read from the tables.
    pub(crate) fn stack(&self) -> Stack {
        self.stack
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The row as the layers have it now.
    pub(crate) fn get(&self, place: Place, key: &[u8]) -> Option<Option<UserValue>> {
        let stack = self.stack.read().unwrap_or_else(PoisonError::into_inner);
        stack.get(place, key)
    }

    /// Puts a new layer on top.
    pub(crate) fn push(&self) -> Arc<Layer> {
        // Most likely there is as much to do as in the seconds before: then it need not be moved about as it grows.
        let before = self.stack().0.last().map_or(0, |layer| layer.places());
        let layer = Arc::new(Layer::for_about(before));
        let mut stack = self.stack.write().unwrap_or_else(PoisonError::into_inner);
        stack.0.push(Arc::clone(&layer));
        layer
    }

    /// Takes a layer away whose rows are in the tables.
    pub(crate) fn remove(&self, layer: &Arc<Layer>) {
        let mut stack = self.stack.write().unwrap_or_else(PoisonError::into_inner);
        stack.0.retain(|other| !Arc::ptr_eq(other, layer));
    }
}

#[cfg(test)]
mod tests;
