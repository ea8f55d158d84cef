//! What conversations contribute to a user's digest, and what their handles mean to the user.

use tidings_core::{ConversationId, digest};
use tidings_protocol::short::Handle;

/// A conversation, as sessions name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its handle: [`digest::handle`].
    pub handle: u32,
    /// Its id.
    pub conversation: ConversationId,
}

/// What a conversation contributes to a user's digest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Its head, the user's read mark, the others' delivered marks.
    pub plain: u64,
    /// The others' shown marks, for those to whom they are told.
    pub shown: u64,
}

impl Part {
    /// The sum of two.
    #[must_use]
    pub fn with(self, other: Part) -> Part {
        Part {
            plain: digest::add(self.plain, other.plain),
            shown: digest::add(self.shown, other.shown),
        }
    }

    /// Without another that was in it.
    #[must_use]
    pub fn without(self, other: Part) -> Part {
        Part {
            plain: digest::remove(self.plain, other.plain),
            shown: digest::remove(self.shown, other.shown),
        }
    }
}

/// The parts of all of a user's conversations.
#[derive(Debug, Default)]
pub(super) struct Parts {
    /// In the order of their handles and ids.
    parts: Vec<(Place, Part)>,
    sum: Part,
}

impl Parts {
    /// What all of them come to.
    pub(super) fn sum(&self) -> Part {
        self.sum
    }

    /// The conversations that contribute something.
    pub(super) fn conversations(&self) -> Vec<ConversationId> {
        let parts = self.parts.iter();
        let parts = parts.filter(|(_, part)| *part != Part::default());
        parts.map(|(place, _)| place.conversation).collect()
    }

    /// The part of a conversation.
    pub(super) fn get(&self, place: Place) -> Part {
        let found = self.parts.binary_search_by_key(&place, |(place, _)| *place);
        let part = found.ok().and_then(|index| self.parts.get(index));
        part.map_or(Part::default(), |(_, part)| *part)
    }

    /// The one conversation that has this handle.
    pub(super) fn conversation_of(&self, handle: Handle) -> Option<ConversationId> {
        let first = self
            .parts
            .partition_point(|(place, _)| place.handle < handle.0);
        let (place, _) = self.parts.get(first)?;
        (place.handle == handle.0 && self.is_clear(first)).then_some(place.conversation)
    }

    /// Sets the part of a conversation; one that the user is no longer in contributes nothing. Answers whether its
    /// handle is nobody else's.
    pub(super) fn set(&mut self, place: Place, part: Part) -> bool {
        let index = self.put(place, part);
        self.is_clear(index)
    }

    /// Answers where it stands.
    fn put(&mut self, place: Place, part: Part) -> usize {
        match self.parts.binary_search_by_key(&place, |(place, _)| *place) {
            Ok(index) => {
                if let Some((_, slot)) = self.parts.get_mut(index) {
                    self.sum = self.sum.without(*slot).with(part);
                    *slot = part;
                }
                index
            }
            Err(_) => {
                // The log's generation is in the handle, and it may be another one than it was.
                if let Some(index) = self
                    .parts
                    .iter()
                    .position(|(known, _)| known.conversation == place.conversation)
                {
                    let (_, before) = self.parts.remove(index);
                    self.sum = self.sum.without(before);
                }
                self.sum = self.sum.with(part);
                let index = self.parts.partition_point(|(known, _)| *known < place);
                self.parts.insert(index, (place, part));
                index
            }
        }
    }

    /// Whether the handle of the conversation that stands there is nobody else's.
    fn is_clear(&self, index: usize) -> bool {
        let handle = |index: usize| self.parts.get(index).map(|(place, _)| place.handle);
        let is_same = |other| handle(other) == handle(index);
        !(index.checked_sub(1).is_some_and(is_same) || is_same(index + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(handle: u32, id: u8) -> Place {
        Place {
            handle,
            conversation: ConversationId([id; 16]),
        }
    }

    fn part(plain: u64) -> Part {
        Part { plain, shown: 0 }
    }

    #[test]
    fn a_handle_of_two_conversations_means_neither() {
        let mut parts = Parts::default();
        let all = [(7, 1), (9, 2), (7, 3), (8, 4)];
        let clear = all.map(|(handle, id)| {
            parts.set(place(handle, id), part(5));
            parts.set(place(handle, id), part(1))
        });
        assert_eq!(clear, [true, true, false, true]);
        let meant = |handle| parts.conversation_of(Handle(handle));
        assert_eq!(meant(7), None);
        assert_eq!(meant(8), Some(ConversationId([4; 16])));
        assert_eq!(meant(9), Some(ConversationId([2; 16])));
        assert_eq!(meant(10), None);
        assert_eq!(parts.sum(), part(4));
    }

    #[test]
    fn a_log_of_another_generation_takes_the_place_of_the_old_one() {
        let mut parts = Parts::default();
        parts.set(place(7, 1), part(5));
        parts.set(place(3, 1), part(2));
        assert_eq!(parts.sum(), part(2));
        assert_eq!(parts.conversation_of(Handle(7)), None);
        assert_eq!(parts.get(place(3, 1)), part(2));
        assert_eq!(parts.conversations(), [ConversationId([1; 16])]);
    }
}
