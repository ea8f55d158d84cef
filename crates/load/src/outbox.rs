//! What one client has sent and not had answered, in order: the part of a client that makes sure that a
//! refusal for now is followed by the same message again, before those behind it.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidings_core::{ClientId, ConversationId, Time, UserId};
use tidings_protocol::entry::Content;
use tidings_protocol::send::{Action, MessageAction, Position, Send};
use tidings_protocol::short::{Handle, Say};
use tidings_protocol::{ClientFrame, Code, Problem, Retry};

use crate::engine::FIRST_REQUEST_ID;
use crate::letter::Letter;

/// The ids of requests for history; those of sends are smaller.
const HISTORY_IDS: u64 = 1 << 40;

/// How long after a refusal without a time of its own the message is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// Whom a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// One user; the server finds the conversation or makes it.
    User(UserId),
    /// A conversation.
    Conversation(ConversationId),
}

/// A message under way.
#[derive(Clone, Debug)]
pub struct Flight {
    /// Its number and time.
    pub letter: Letter,
    /// When its clock started.
    pub started: Instant,
    /// Whom it is for.
    pub destination: Destination,
    id: u64,
    client_id: ClientId,
    after: Option<Position>,
    is_refused: bool,
}

/// What an error was the answer to.
#[derive(Debug)]
pub enum Refused {
    /// A message that is sent again by [`Outbox::again`] at this time.
    Until(Instant),
    /// A message that was given up.
    ForGood(Flight),
    /// No message of this outbox.
    NotMine,
}

/// The messages under way of one client, all of them or those of one conversation.
#[derive(Debug)]
pub struct Outbox {
    flights: VecDeque<Flight>,
    id_next: u64,
    owner: u32,
    text_bytes: usize,
    /// Which of the client's outboxes it is, and how many it has: their ids take turns.
    number: u64,
    count: u64,
}

impl Outbox {
    /// An empty outbox of the client with this number, for texts of this size.
    #[must_use]
    pub fn new(owner: u32, text_bytes: usize) -> Outbox {
        Outbox::of_several(owner, text_bytes, 0, 1)
    }

    /// The same, if the client has `count` of them: that with this number, below `count`.
    #[must_use]
    pub fn of_several(owner: u32, text_bytes: usize, number: u64, count: u64) -> Outbox {
        Outbox {
            flights: VecDeque::new(),
            id_next: FIRST_REQUEST_ID + number,
            owner,
            text_bytes,
            number,
            count,
        }
    }

    /// The number of the outbox, one of `count`, that gave a request this id.
    #[must_use]
    pub fn number_of(id: u64, count: u64) -> u64 {
        match id.checked_sub(HISTORY_IDS) {
            Some(number) => number % count,
            None => id.saturating_sub(FIRST_REQUEST_ID) % count,
        }
    }

    /// The id of requests for the history of the conversation.
    #[must_use]
    pub fn history_id(&self) -> u64 {
        HISTORY_IDS + self.number
    }

    /// How many messages are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.flights.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// The messages under way.
    pub fn flights(&self) -> impl Iterator<Item = &Flight> {
        self.flights.iter()
    }

    /// A new message. In the short form, if a handle is given: then `after` is, too.
    pub fn send(
        &mut self,
        destination: Destination,
        letter: Letter,
        started: Instant,
        after: Option<Position>,
        handle: Option<Handle>,
    ) -> ClientFrame {
        let flight = Flight {
            letter,
            started,
            destination,
            id: self.id_next,
            client_id: client_id(self.owner, self.id_next),
            after,
            is_refused: false,
        };
        self.id_next += self.count;
        let frame = match (handle, after) {
            (Some(conversation), Some(after)) => ClientFrame::Say(Say {
                id: flight.id,
                conversation,
                client_id: flight.client_id,
                after: after.seq,
                text: letter.text(self.text_bytes),
                reply_to: None,
                first: false,
            }),
            _ => frame_of(&flight, self.text_bytes),
        };
        self.flights.push_back(flight);
        frame
    }

    /// A message was accepted; `None` if it is none of those under way.
    pub fn sent(&mut self, id: u64) -> Option<Flight> {
        let place = self.place(id)?;
        self.flights.remove(place)
    }

    /// A request was refused.
    pub fn refused(&mut self, now: Instant, id: Option<u64>, problem: &Problem) -> Refused {
        let Some(place) = id.and_then(|id| self.place(id)) else {
            return Refused::NotMine;
        };
        if problem.retry == Retry::Later && problem.code != Code::Internal {
            if let Some(flight) = self.flights.get_mut(place) {
                flight.is_refused = true;
            }
            let after = problem.retry_after_ms.map(Duration::from_millis);
            return Refused::Until(now + after.unwrap_or(RETRY_AFTER));
        }
        self.flights
            .remove(place)
            .map_or(Refused::NotMine, Refused::ForGood)
    }

    /// The messages that were refused for now, once more, in order.
    pub fn again(&mut self) -> Vec<ClientFrame> {
        let text_bytes = self.text_bytes;
        let refused = self.flights.iter_mut().filter(|flight| flight.is_refused);
        refused
            .map(|flight| {
                flight.is_refused = false;
                frame_of(flight, text_bytes)
            })
            .collect()
    }

    /// Answers come in order but for refusals, so this looks at the front first.
    fn place(&self, id: u64) -> Option<usize> {
        self.flights.iter().position(|flight| flight.id == id)
    }
}

fn frame_of(flight: &Flight, text_bytes: usize) -> ClientFrame {
    let (conversation, to) = match flight.destination {
        Destination::User(user) => (None, Some(user)),
        Destination::Conversation(conversation) => (Some(conversation), None),
    };
    ClientFrame::Send(Send {
        id: flight.id,
        conversation,
        to,
        client_id: flight.client_id,
        after: flight.after,
        if_epoch: None,
        action: Action::Message(MessageAction {
            content: Content {
                text: flight.letter.text(text_bytes),
                ..Content::default()
            },
            ..MessageAction::default()
        }),
        first: false,
    })
}

/// A UUIDv7 whose random part is the client's number and its message's: unique in a run, and every run has
/// new accounts.
fn client_id(owner: u32, id: u64) -> ClientId {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
    let mut random = [0; 10];
    // The first bits of bytes 0 and 2 are the version's and the variant's.
    let [_, owner @ ..] = owner.to_be_bytes();
    random[3..6].copy_from_slice(&owner);
    random[6..].copy_from_slice(&(id as u32).to_be_bytes());
    ClientId::new(Time(millis), random)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox_of(count: u32) -> (Outbox, Vec<ClientFrame>, Instant) {
        let now = Instant::now();
        let mut outbox = Outbox::new(1, 30);
        let frames = (0..count)
            .map(|number| {
                let letter = Letter::new(number, now, now);
                outbox.send(Destination::User(UserId([1; 16])), letter, now, None, None)
            })
            .collect();
        (outbox, frames, now)
    }

    #[test]
    fn answers_find_their_messages() {
        let (mut outbox, frames, _) = outbox_of(3);
        let ids: Vec<u64> = frames.iter().filter_map(ClientFrame::id).collect();
        assert_eq!(outbox.sent(ids[1]).unwrap().letter.number, 1);
        assert_eq!(outbox.sent(ids[0]).unwrap().letter.number, 0);
        assert!(outbox.sent(ids[0]).is_none());
        assert_eq!(outbox.len(), 1);
    }

    #[test]
    fn what_was_refused_for_now_is_sent_again_unchanged_and_in_order() {
        let (mut outbox, frames, now) = outbox_of(3);
        let mut busy = Problem::new(Code::Busy);
        busy.retry_after_ms = Some(7);
        let behind = Problem::new(Code::Behind);
        assert!(matches!(
            outbox.refused(now, frames[1].id(), &busy),
            Refused::Until(at) if at == now + Duration::from_millis(7)
        ));
        assert!(matches!(
            outbox.refused(now, frames[2].id(), &behind),
            Refused::Until(at) if at == now + RETRY_AFTER
        ));
        assert_eq!(outbox.again(), frames[1..]);
        assert!(outbox.again().is_empty());
    }

    #[test]
    fn what_was_refused_for_good_is_given_up() {
        let (mut outbox, frames, now) = outbox_of(1);
        let problem = Problem::new(Code::NotAllowed);
        assert!(matches!(
            outbox.refused(now, Some(999), &problem),
            Refused::NotMine
        ));
        assert!(matches!(
            outbox.refused(now, frames[0].id(), &problem),
            Refused::ForGood(flight) if flight.letter.number == 0
        ));
        assert!(outbox.is_empty());
    }

    #[test]
    fn ids_tell_which_outbox_they_are_of() {
        let now = Instant::now();
        let mut seen = Vec::new();
        for number in 0..3 {
            let mut outbox = Outbox::of_several(1, 30, number, 3);
            for letter in 0..4 {
                let letter = Letter::new(letter, now, now);
                let to = Destination::User(UserId([1; 16]));
                let frame = outbox.send(to, letter, now, None, None);
                seen.push((frame.id().unwrap(), number));
            }
            seen.push((outbox.history_id(), number));
        }
        for (id, number) in &seen {
            assert_eq!(Outbox::number_of(*id, 3), *number);
        }
        seen.sort_unstable();
        seen.dedup_by_key(|(id, _)| *id);
        assert_eq!(seen.len(), 15);
    }

    #[test]
    fn client_ids_differ() {
        let ids = [client_id(1, 2), client_id(1, 3), client_id(2, 2)];
        assert!(ids[0] != ids[1] && ids[0] != ids[2] && ids[1] != ids[2]);
    }
}
