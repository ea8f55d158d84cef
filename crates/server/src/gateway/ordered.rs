//! One device's sends in a conversation keep their order (rule 2): while one is refused for now, those
//! behind it are refused with `behind`, until the refused one comes again, or one that is said to be `first`.
//!
//! This is for what the gateway refuses, before the conversation sees it (rates). What a conversation
//! refuses for now it remembers itself, in the same way. A send that is let through here is handed over in
//! the same moment, so between the two nothing is forgotten.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tidings_core::{ClientId, ConversationId, DeviceId, Time};
use tidings_protocol::{Code, Problem};

use crate::chat::BEHIND_MS;

/// Conversations of one device in which a send may be refused for now.
const CONVERSATIONS_MAX: usize = 64;

/// The refused sends of all devices.
#[derive(Debug)]
pub(super) struct Ordered {
    devices: Mutex<HashMap<DeviceId, Refused>>,
    devices_max: usize,
    /// How many devices there are, so that nobody waits for the lock while there are none.
    count: AtomicUsize,
}

/// By conversation the earliest refused send of a device, and when it was refused last.
#[derive(Debug, Default)]
struct Refused(HashMap<ConversationId, (ClientId, Time)>);

/// One send, by what its order goes by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) device: DeviceId,
    pub(super) conversation: ConversationId,
    pub(super) client_id: ClientId,
    /// Its device wants to send nothing before it.
    pub(super) first: bool,
}

impl Ordered {
    /// Nothing is refused yet.
    pub(super) fn new(devices_max: usize) -> Ordered {
        Ordered {
            devices: Mutex::default(),
            devices_max,
            count: AtomicUsize::new(0),
        }
    }

    /// Whether this send may go on. One that may is handed over now: it is remembered no longer.
    ///
    /// # Errors
    /// `behind` if an earlier one must come first.
    pub(super) fn pass(&self, place: Place, now: Time) -> Result<(), Problem> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let mut devices = self.lock();
        let Some(refused) = devices.get_mut(&place.device) else {
            return Ok(());
        };
        if refused.is_behind(place, now) {
            return Err(Problem::new(Code::Behind));
        }
        refused.0.remove(&place.conversation);
        if refused.0.is_empty() {
            devices.remove(&place.device);
        }
        self.counted(&devices);
        Ok(())
    }

    /// Remembers that this send was refused for now, unless an earlier one was. Answers `false` if there is
    /// no room to remember it: then nothing more of this session may be taken.
    #[must_use]
    pub(super) fn refused(&self, place: Place, now: Time) -> bool {
        let mut devices = self.lock();
        if devices.len() >= self.devices_max && !devices.contains_key(&place.device) {
            devices.retain(|_, refused| refused.still(now));
            if devices.len() >= self.devices_max {
                self.counted(&devices);
                return false;
            }
        }
        let refused = devices.entry(place.device).or_default();
        let remembered = refused.remember(place, now);
        self.counted(&devices);
        remembered
    }

    fn counted(&self, devices: &HashMap<DeviceId, Refused>) {
        self.count.store(devices.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<DeviceId, Refused>> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refused {
    fn is_behind(&self, place: Place, now: Time) -> bool {
        let earliest = self.0.get(&place.conversation);
        !place.first
            && earliest.is_some_and(|(earliest, at)| {
                *earliest != place.client_id && now.millis_since(*at) < BEHIND_MS
            })
    }

    fn remember(&mut self, place: Place, now: Time) -> bool {
        if self.is_behind(place, now) {
            return true;
        }
        if self.0.len() >= CONVERSATIONS_MAX && !self.0.contains_key(&place.conversation) {
            self.still(now);
            if self.0.len() >= CONVERSATIONS_MAX {
                return false;
            }
        }
        self.0.insert(place.conversation, (place.client_id, now));
        true
    }

    /// Forgets what was given up. Whether anything is left.
    fn still(&mut self, now: Time) -> bool {
        self.0
            .retain(|_, (_, at)| now.millis_since(*at) < BEHIND_MS);
        !self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: DeviceId = DeviceId([1; 16]);
    const HERE: ConversationId = ConversationId([2; 16]);
    const A: ClientId = ClientId([0xa; 16]);
    const B: ClientId = ClientId([0xb; 16]);
    const C: ClientId = ClientId([0xc; 16]);

    fn place(device: DeviceId, conversation: ConversationId, client_id: ClientId) -> Place {
        Place {
            device,
            conversation,
            client_id,
            first: false,
        }
    }

    fn code(answer: Result<(), Problem>) -> Option<Code> {
        answer.err().map(|problem| problem.code)
    }

    #[test]
    fn those_behind_a_refused_one_wait_until_it_came_again() {
        let ordered = Ordered::new(10);
        assert_eq!(code(ordered.pass(place(DEVICE, HERE, A), Time(0))), None);
        assert!(ordered.refused(place(DEVICE, HERE, A), Time(0)));
        assert_eq!(
            code(ordered.pass(place(DEVICE, HERE, B), Time(1))),
            Some(Code::Behind)
        );
        assert!(
            ordered.refused(place(DEVICE, HERE, C), Time(2)),
            "for its rate, but A stays the earliest"
        );
        let elsewhere = ConversationId([3; 16]);
        assert_eq!(
            code(ordered.pass(place(DEVICE, elsewhere, B), Time(1))),
            None
        );
        assert_eq!(
            code(ordered.pass(place(DeviceId([9; 16]), HERE, B), Time(1))),
            None
        );
        assert_eq!(code(ordered.pass(place(DEVICE, HERE, A), Time(3))), None);
        assert_eq!(code(ordered.pass(place(DEVICE, HERE, B), Time(4))), None);
        assert_eq!(code(ordered.pass(place(DEVICE, HERE, C), Time(5))), None);
        assert!(ordered.lock().is_empty());
    }

    #[test]
    fn one_that_is_first_takes_the_place_of_one_that_was_given_up() {
        let ordered = Ordered::new(10);
        let first = Place {
            first: true,
            ..place(DEVICE, HERE, B)
        };
        assert!(ordered.refused(place(DEVICE, HERE, A), Time(0)));
        assert_eq!(code(ordered.pass(first, Time(1))), None);
        assert_eq!(code(ordered.pass(place(DEVICE, HERE, C), Time(2))), None);

        assert!(ordered.refused(place(DEVICE, HERE, A), Time(3)));
        assert!(ordered.refused(first, Time(4)), "for its rate");
        for behind in [A, C] {
            let answer = ordered.pass(place(DEVICE, HERE, behind), Time(5));
            assert_eq!(code(answer), Some(Code::Behind), "it is the earliest now");
        }
        assert_eq!(code(ordered.pass(place(DEVICE, HERE, B), Time(6))), None);
        assert!(ordered.lock().is_empty());
    }

    #[test]
    fn a_refused_one_that_never_comes_again_is_given_up() {
        let ordered = Ordered::new(10);
        assert!(ordered.refused(place(DEVICE, HERE, A), Time(0)));
        assert!(
            ordered.refused(place(DEVICE, HERE, A), Time(20_000)),
            "again"
        );
        assert_eq!(
            code(ordered.pass(place(DEVICE, HERE, B), Time(20_000 + BEHIND_MS - 1))),
            Some(Code::Behind)
        );
        assert_eq!(
            code(ordered.pass(place(DEVICE, HERE, B), Time(20_000 + BEHIND_MS))),
            None
        );
    }

    #[test]
    fn the_table_is_bounded_and_makes_room_for_the_living() {
        let ordered = Ordered::new(2);
        for device in 1..=2 {
            assert!(ordered.refused(place(DeviceId([device; 16]), HERE, A), Time(0)));
        }
        assert!(!ordered.refused(place(DeviceId([3; 16]), HERE, A), Time(1)));
        assert!(ordered.refused(place(DeviceId([3; 16]), HERE, A), Time(BEHIND_MS)));
        assert_eq!(ordered.lock().len(), 1);

        let ordered = Ordered::new(2);
        for conversation in 0..CONVERSATIONS_MAX {
            let conversation = ConversationId([conversation as u8; 16]);
            assert!(ordered.refused(place(DEVICE, conversation, A), Time(0)));
        }
        let one_more = ConversationId([0xff; 16]);
        assert!(!ordered.refused(place(DEVICE, one_more, A), Time(1)));
        assert!(ordered.refused(place(DEVICE, one_more, A), Time(BEHIND_MS)));
    }
}
