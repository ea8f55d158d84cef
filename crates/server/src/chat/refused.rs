//! One device's sends in a conversation keep their order (rule 2 of the design): while one is refused for
//! now, those that came behind it are refused too, until it has come again or was given up.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tidings_core::{ClientId, DeviceId};
use tidings_protocol::{Code, Problem, Retry};

use super::queue::Queued;

/// A send that was refused for now holds up those behind it for so long after its last refusal: a device that
/// does not come again with it has given it up.
pub(crate) const BEHIND_MS: u64 = 30_000;
/// More devices than this are not remembered as refused: a bound, not a number that is ever reached.
const DEVICES_MAX: usize = 4_096;
/// Refused sends of one device: those behind them are refused anyway, so the earliest will do.
const OF_DEVICE_MAX: usize = 16;

/// The sends that were refused for now, by device.
#[derive(Clone, Default)]
pub(super) struct Refused {
    devices: HashMap<DeviceId, Vec<Refusal>>,
}

#[derive(Clone, Copy)]
struct Refusal {
    client_id: ClientId,
    /// When it first came, as the queue numbers what comes.
    arrival: u64,
    /// By a clock that nobody sets.
    last: Instant,
}

impl Refusal {
    fn holds(&self) -> bool {
        self.last.elapsed() < Duration::from_millis(BEHIND_MS)
    }
}

impl Refused {
    /// Whether somebody must come again first.
    pub(super) fn holds_up(&self) -> bool {
        self.devices.values().flatten().any(Refusal::holds)
    }

    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Whether this send came behind one of its device that must come again first.
    pub(super) fn is_behind(&self, queued: &Queued) -> bool {
        let refusals = self.devices.get(&queued.command.device);
        !queued.first
            && refusals.into_iter().flatten().any(|refusal| {
                refusal.client_id != queued.command.client_id
                    && refusal.arrival < queued.arrival
                    && refusal.holds()
            })
    }

    /// Remembers how a send was answered.
    pub(super) fn settled(&mut self, queued: &Queued, answer: Result<(), &Problem>) {
        let (device, client_id) = (queued.command.device, queued.command.client_id);
        let for_now = answer.is_err_and(|problem| {
            problem.code != Code::Behind && matches!(problem.retry, Retry::Later | Retry::CatchUp)
        });
        if for_now && self.devices.len() >= DEVICES_MAX {
            self.devices
                .retain(|_, refusals| refusals.iter().any(Refusal::holds));
        }
        if !for_now && !self.devices.contains_key(&device) {
            return;
        }
        let refusals = self.devices.entry(device).or_default();
        let is_behind = answer.is_err_and(|problem| problem.code == Code::Behind);
        refusals.retain(|refusal| match refusal.client_id == client_id {
            true => for_now || is_behind,
            // What came before one that is first was given up.
            false => refusal.holds() && !(queued.first && refusal.arrival < queued.arrival),
        });
        if for_now {
            let now = Instant::now();
            let again = refusals
                .iter_mut()
                .find(|refusal| refusal.client_id == client_id);
            if let Some(refusal) = again {
                refusal.last = now;
            } else if refusals.len() < OF_DEVICE_MAX {
                refusals.push(Refusal {
                    client_id,
                    arrival: queued.arrival,
                    last: now,
                });
            }
        }
        if refusals.is_empty() {
            self.devices.remove(&device);
        }
    }
}

#[cfg(test)]
mod tests {
    use tidings_core::UserId;
    use tidings_core::conversation::{Action, Command};
    use tokio::sync::oneshot;

    use super::*;
    use crate::chat::queue::Reply;

    fn send(client: u8, arrival: u64) -> Queued {
        let command = Command {
            author: UserId([1; 16]),
            device: DeviceId([2; 16]),
            client_id: ClientId([client; 16]),
            after: None,
            if_epoch: None,
            action: Action::Leave,
        };
        Queued {
            command,
            direct_with: None,
            reply: Reply::Once(oneshot::channel().0),
            received: Instant::now(),
            first: false,
            arrival,
            bytes: 0,
            frame: None,
            trace: None,
        }
    }

    fn first(client: u8, arrival: u64) -> Queued {
        Queued {
            first: true,
            ..send(client, arrival)
        }
    }

    fn busy(refused: &mut Refused, queued: &Queued) {
        refused.settled(queued, Err(&Problem::new(Code::Busy)));
    }

    #[test]
    fn what_came_before_a_refused_send_is_not_behind_it() {
        let mut refused = Refused::default();
        // The fourth finds the queue full while the first three wait in it.
        busy(&mut refused, &send(4, 4));
        for earlier in [first(1, 1), send(2, 2), send(3, 3)] {
            assert!(!refused.is_behind(&earlier));
            refused.settled(&earlier, Ok(()));
        }
        assert!(refused.is_behind(&send(5, 5)), "the fourth must come first");
        let again = send(4, 6);
        assert!(!refused.is_behind(&again));
        refused.settled(&again, Ok(()));
        assert!(!refused.is_behind(&send(5, 7)));
        assert!(!refused.holds_up());
    }

    #[test]
    fn of_several_refused_each_must_come_again() {
        let mut refused = Refused::default();
        busy(&mut refused, &send(4, 4));
        busy(&mut refused, &send(5, 5));
        refused.settled(&send(6, 6), Err(&Problem::new(Code::Behind)));
        assert!(refused.is_behind(&send(5, 7)), "4 is still missing");
        refused.settled(&send(4, 8), Ok(()));
        assert!(refused.is_behind(&send(6, 9)), "5 is still missing");
        refused.settled(&send(5, 10), Err(&Problem::new(Code::NotFound)));
        assert!(!refused.is_behind(&send(6, 11)), "refused for good");
    }

    #[test]
    fn one_that_is_first_gives_up_what_came_before_it() {
        let mut refused = Refused::default();
        busy(&mut refused, &send(4, 4));
        assert!(!refused.is_behind(&first(5, 5)));
        busy(&mut refused, &first(5, 5));
        assert!(refused.is_behind(&send(6, 6)), "behind 5, not behind 4");
        refused.settled(&send(5, 7), Ok(()));
        assert!(!refused.holds_up());
    }
}
