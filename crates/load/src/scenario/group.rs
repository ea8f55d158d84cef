//! Before a group can be written to, somebody makes it.

use std::time::Instant;

use tidings_core::{ClientId, Time};
use tidings_protocol::send::{Action, CreateAction, Send, Sent};
use tidings_protocol::{ClientFrame, ServerFrame};

use super::SETTLE_WITHIN;
use crate::Error;
use crate::accounts::Account;
use crate::args::Common;
use crate::crew::{self, Part, Schedule};
use crate::engine::{FIRST_REQUEST_ID, Scenario, Step, refusal};
use crate::server::Server;
use crate::session::Sessions;

/// The first account makes a group of all. Answers how the server acknowledged it.
pub(super) fn create_group(
    common: &Common,
    server: &Server,
    accounts: &[Account],
) -> Result<Sent, Error> {
    let (owner, others) = accounts
        .split_first()
        .ok_or_else(|| Error::Arguments("a group needs members".to_owned()))?;
    let wish = ClientFrame::Send(Send {
        id: FIRST_REQUEST_ID,
        conversation: None,
        to: None,
        client_id: ClientId::new(Time(0), [1; 10]),
        after: None,
        if_epoch: None,
        action: Action::Create(CreateAction {
            users: others.iter().map(|account| account.user).collect(),
            ..CreateAction::default()
        }),
        first: false,
    });
    let part = Part {
        accounts: vec![owner.clone()],
        scenario: Ask { wish, answer: None },
    };
    let schedule = Schedule {
        opens_first: true,
        window: None,
        heartbeat_ms: None,
    };
    let played = crew::play(common, server, vec![part], schedule)?;
    match played
        .scenarios
        .into_iter()
        .next()
        .and_then(|ask| ask.answer)
    {
        Some(ServerFrame::Sent(sent)) => Ok(sent),
        Some(ServerFrame::Error(error)) => Err(Error::Server(format!(
            "the group was refused: {}",
            refusal(&error.problem)
        ))),
        _ => Err(Error::Server("the group was not made".to_owned())),
    }
}

/// Asks once and waits for the answer.
struct Ask {
    wish: ClientFrame,
    answer: Option<ServerFrame>,
}

impl Scenario for Ask {
    fn begin(&mut self, _: Instant, sessions: &mut Sessions) {
        sessions.send(0, &self.wish);
    }

    fn handle_frame(&mut self, _: Instant, _: usize, frame: ServerFrame, _: &mut Sessions) {
        if let ServerFrame::Sent(_) | ServerFrame::Error(_) = frame {
            self.answer.get_or_insert(frame);
        }
    }

    fn poll(&mut self, now: Instant, _: &mut Sessions) -> Step {
        match self.answer {
            Some(_) => Step::Done,
            None => Step::WaitUntil(now + SETTLE_WITHIN),
        }
    }
}
