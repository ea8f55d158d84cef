//! One conversation as one of its two sessions sees it, and who writes to whom.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use tidings_core::id::direct_id;
use tidings_core::{ConversationId, Generation, UserId, digest};
use tidings_protocol::send::Position;
use tidings_protocol::short::Handle;
use tidings_protocol::{ClientFrame, sync};

use crate::arrivals::Arrivals;
use crate::outbox::Outbox;

/// A conversation as one session sees it.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) partner: UserId,
    pub(super) conversation: ConversationId,
    pub(super) outbox: Outbox,
    pub(super) number_next: u32,
    /// Numbers that were given up, so that their absence is no loss.
    pub(super) given_up: BTreeSet<u32>,
    /// What waits for a tick: seq and when its clock started.
    pub(super) for_delivered: VecDeque<(u64, Instant)>,
    pub(super) for_read: VecDeque<(u64, Instant)>,
    /// How far the partner is, as we were told.
    pub(super) delivered: u64,
    pub(super) shown: u64,
    pub(super) seen: Option<Position>,
    /// The conversation's handle, once its generation is known.
    pub(super) handle: Option<Handle>,
    /// As far as entries came without a gap.
    pub(super) level: u64,
    pub(super) received: u64,
    pub(super) acknowledged: u64,
    pub(super) arrivals: Arrivals,
}

/// The other end of a conversation; both are numbered session × `partners` + the how-manieth of the session's.
///
/// In each circle of 2 × `partners` sessions, those with even numbers are partners of those with odd ones, each of all.
pub(super) fn partner_of(index: usize, partners: usize) -> usize {
    let (session, turn) = (index / partners, index % partners);
    let circle = session / (2 * partners) * 2 * partners;
    let place = session % (2 * partners) / 2;
    let other = match session % 2 {
        0 => 2 * ((place + turn) % partners) + 1,
        _ => 2 * ((place + partners - turn) % partners),
    };
    (circle + other) * partners + turn
}

impl Peer {
    /// The conversation of a user with another one, before anything was written.
    pub(super) fn new(user: UserId, partner: UserId, outbox: Outbox) -> Peer {
        Peer {
            partner,
            conversation: direct_id(user, partner),
            outbox,
            number_next: 0,
            given_up: BTreeSet::new(),
            for_delivered: VecDeque::new(),
            for_read: VecDeque::new(),
            delivered: 0,
            shown: 0,
            seen: None,
            handle: None,
            level: 0,
            received: 0,
            acknowledged: 0,
            arrivals: Arrivals::default(),
        }
    }

    /// How far the log is known to be.
    pub(super) fn note_seen(&mut self, generation: Generation, seq: u64) {
        if self.seen.is_none_or(|seen| seen.seq < seq) {
            self.seen = Some(Position { generation, seq });
        }
        self.handle = Some(Handle(digest::handle(self.conversation, generation)));
    }
}

/// Asks for what a session lacks.
pub(super) fn history_after(peer: &Peer) -> ClientFrame {
    ClientFrame::History(sync::HistoryRequest {
        id: peer.outbox.history_id(),
        conversation: peer.conversation,
        after: Some(peer.level),
        before: None,
        around: None,
        limit: None,
        generation: None,
        hash: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partners_are_partners_of_each_other_and_all_different() {
        for partners in 1..5 {
            let sessions = 3 * 2 * partners;
            for session in 0..sessions {
                let own = session * partners..(session + 1) * partners;
                let others: BTreeSet<usize> = own
                    .map(|index| {
                        let other = partner_of(index, partners);
                        assert_eq!(partner_of(other, partners), index);
                        other / partners
                    })
                    .collect();
                assert_eq!(others.len(), partners);
                assert!(others.iter().all(|other| (other + session) % 2 == 1));
                assert!(others.iter().all(|other| *other < sessions));
            }
        }
        assert_eq!([0, 1, 2, 3].map(|index| partner_of(index, 1)), [1, 0, 3, 2]);
    }
}
