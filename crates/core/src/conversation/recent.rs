//! The newest client ids of a log, by which a command that is sent again is known.

use std::sync::Arc;

use crate::id::{ClientId, UserId};
use crate::log::Seq;
use crate::time::Time;

/// How many of the newest client ids the state remembers.
pub const RECENT_MAX: usize = 64;
/// With so many that are not shared, they are.
const OWN_MAX: usize = 8;

/// A client id that the state remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recent {
    /// Who sent it.
    pub author: UserId,
    /// The sender's own id for it.
    pub client_id: ClientId,
    /// The entry it became.
    pub seq: Seq,
    /// That entry's time.
    pub at: Time,
}

/// The newest client ids, oldest first; [`RECENT_MAX`] at most.
///
/// A state is copied whenever something is decided: copies have most of these in common.
#[derive(Clone, Debug, Default)]
pub struct RecentIds {
    shared: Arc<Shared>,
    /// How many of the first of those are forgotten.
    forgotten: usize,
    /// What came after them.
    own: Vec<Recent>,
}

#[derive(Debug, Default)]
struct Shared {
    ids: Vec<Recent>,
    /// A part of each one's client id: most searches look at nothing else.
    tags: Vec<u32>,
}

impl RecentIds {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared().len() + self.own.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Recent> {
        self.shared().iter().chain(&self.own)
    }

    /// Adds the newest; answers the oldest, if that is forgotten for it.
    pub fn push(&mut self, recent: Recent) -> Option<Recent> {
        let oldest = (self.len() == RECENT_MAX).then(|| self.forget()).flatten();
        if self.own.len() == OWN_MAX {
            let ids: Vec<Recent> = self.iter().copied().collect();
            let tags = ids.iter().map(|recent| tag(recent.client_id)).collect();
            self.shared = Arc::new(Shared { ids, tags });
            self.forgotten = 0;
            self.own.clear();
        }
        self.own.push(recent);
        oldest
    }

    /// The newest with this author and client id.
    #[must_use]
    pub fn find(&self, author: UserId, client_id: ClientId) -> Option<&Recent> {
        let is_wanted = |recent: &&Recent| recent.client_id == client_id && recent.author == author;
        let wanted = tag(client_id);
        self.own.iter().rev().find(is_wanted).or_else(|| {
            let tags = self.shared.tags.get(self.forgotten..).unwrap_or_default();
            // Asked for every message, and nearly always in vain.
            if !tags.contains(&wanted) {
                return None;
            }
            self.shared().iter().rev().find(is_wanted)
        })
    }

    fn shared(&self) -> &[Recent] {
        self.shared.ids.get(self.forgotten..).unwrap_or_default()
    }

    fn forget(&mut self) -> Option<Recent> {
        let oldest = self.shared().first().copied();
        self.forgotten += 1;
        oldest
    }
}

fn tag(ClientId(bytes): ClientId) -> u32 {
    // Its random end, whatever kind of id the client makes.
    bytes.last_chunk().copied().map_or(0, u32::from_ne_bytes)
}

impl PartialEq for RecentIds {
    fn eq(&self, other: &RecentIds) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for RecentIds {}

impl FromIterator<Recent> for RecentIds {
    fn from_iter<I: IntoIterator<Item = Recent>>(all: I) -> RecentIds {
        let mut ids = RecentIds::default();
        for recent in all {
            ids.push(recent);
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is shared with whom: it is a list of the newest.
        #[test]
        fn it_is_a_list_of_the_newest(ids in prop::collection::vec((0..3_u8, 0..40_u8), 0..300)) {
            let (mut recent, mut plain) = (RecentIds::default(), VecDeque::new());
            let mut copies = Vec::new();
            for (index, (author, id)) in ids.into_iter().enumerate() {
                let (author, client_id) = (UserId([author; 16]), ClientId([id; 16]));
                let found = plain.iter().rev().find(|recent: &&Recent| {
                    (recent.author, recent.client_id) == (author, client_id)
                });
                prop_assert_eq!(recent.find(author, client_id), found);
                let next = Recent { author, client_id, seq: index as Seq, at: Time(7) };
                let forgotten = (plain.len() == RECENT_MAX).then(|| plain.pop_front()).flatten();
                plain.push_back(next);
                copies.push((recent.clone(), recent.iter().copied().collect::<Vec<_>>()));
                prop_assert_eq!(recent.push(next), forgotten);
                prop_assert!(recent.iter().eq(&plain));
                prop_assert_eq!((recent.len(), recent.iter().count()), (plain.len(), plain.len()));
                prop_assert_eq!(&recent, &plain.iter().copied().collect());
            }
            for (copy, was) in copies {
                prop_assert!(copy.iter().eq(&was));
            }
        }
    }
}
