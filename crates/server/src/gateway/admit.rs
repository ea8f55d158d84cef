//! Whether a request goes on: how often its user and address ask, and the order of one device's sends.

use std::net::IpAddr;

use tidings_core::id::direct_id;
use tidings_core::{ConversationId, UserId};
use tidings_protocol::send::Send;
use tidings_protocol::{ClientFrame, Code, Problem};

use super::ordered::Place;
use super::{App, rates};
use crate::session::Caller;

impl App {
    /// Counts one request of a user.
    ///
    /// # Errors
    /// `rate_limited`.
    pub(super) fn charge(&self, user: UserId, address: IpAddr) -> Result<(), Problem> {
        self.user_rates.charge(&user)?;
        self.address_rates.charge(&rates::customer(address))
    }

    /// Counts a request, and holds sends back that would overtake one that was refused. A send that is let
    /// through is to be handed to its conversation at once.
    ///
    /// # Errors
    /// `rate_limited`, `behind`.
    pub(super) fn admit(
        &self,
        caller: Caller,
        address: IpAddr,
        frame: &ClientFrame,
    ) -> Result<(), Refusal> {
        let charged = self.charge(caller.user, address);
        let place = match frame {
            ClientFrame::Send(send) => conversation_of(caller, send).map(|conversation| Place {
                device: caller.device,
                conversation,
                client_id: send.client_id,
                first: send.first,
            }),
            _ => None,
        };
        let Some(place) = place else {
            return charged.map_err(Refusal::Answer);
        };
        let now = self.clock.now();
        match charged {
            Ok(()) => self.ordered.pass(place, now).map_err(Refusal::Answer),
            Err(problem) => {
                let remembered = self.ordered.refused(place, now);
                Err(if remembered {
                    Refusal::Answer(problem)
                } else {
                    Refusal::End(Problem::new(Code::RateLimited))
                })
            }
        }
    }
}

/// Why a request does not go on.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Say so.
    Answer(Problem),
    /// Say so and end the session: it could not be remembered what must come first. On a new connection
    /// the device begins with its earliest send.
    End(Problem),
}

impl Refusal {
    pub(super) fn into_problem(self) -> Problem {
        match self {
            Refusal::Answer(problem) | Refusal::End(problem) => problem,
        }
    }
}

/// Where a send wants to go; `None` for one that begins a group, which nothing can be behind.
fn conversation_of(caller: Caller, send: &Send) -> Option<ConversationId> {
    match (send.conversation, send.to) {
        (Some(conversation), None) => Some(conversation),
        (None, Some(to)) => Some(direct_id(caller.user, to)),
        _ => None,
    }
}
