//! Before the devices come back: some users write the messages that wait for them.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use tidings_core::UserId;
use tidings_protocol::ServerFrame;
use tidings_protocol::send::Position;

use crate::Error;
use crate::accounts::{Account, sign_up};
use crate::args::{Common, OfflineArgs};
use crate::crew::{self, Part, Schedule, split};
use crate::engine::{Scenario, Step, refusal};
use crate::letter::Letter;
use crate::outbox::{Destination, Outbox, Refused};
use crate::scenario::{Refusals, SETTLE_WITHIN};
use crate::server::Server;
use crate::session::Sessions;

/// Messages that one writer has under way.
const PIPELINE: usize = 64;

/// How it went.
pub(super) struct Filled {
    pub(super) messages_per_s: f64,
    pub(super) refusals: Refusals,
}

/// Has the messages written.
pub(super) fn fill(
    common: &Common,
    args: &OfflineArgs,
    server: &Server,
    devices: &[Account],
) -> Result<Filled, Error> {
    let count = (args.senders as usize).min(devices.len());
    let accounts = sign_up(server.addresses()[0], count)?;
    let part = |range: std::ops::Range<usize>| {
        let writer = |number: usize| Writer {
            recipients: devices
                .iter()
                .skip(number)
                .step_by(count)
                .map(|to| to.user)
                .collect(),
            seen: HashMap::new(),
            outbox: Outbox::new(number as u32, args.text_bytes),
            next: 0,
        };
        Part {
            scenario: Fill {
                writers: range.clone().map(writer).collect(),
                waiting: args.waiting,
                beginning: Instant::now(),
                last_news: Instant::now(),
                accepted: 0,
                retries: VecDeque::new(),
                refusals: Refusals::default(),
            },
            accounts: accounts
                .get(range)
                .map(<[Account]>::to_vec)
                .unwrap_or_default(),
        }
    };
    let parts = split(count, common.threads).into_iter().map(part).collect();
    let schedule = Schedule {
        opens_first: true,
        window: None,
        heartbeat_ms: None,
    };
    let played = crew::play(common, server, parts, schedule)?;
    let mut refusals = Refusals::default();
    let mut accepted = 0;
    for scenario in played.scenarios {
        refusals.add(scenario.refusals);
        accepted += scenario.accepted;
    }
    let wanted = devices.len() as u64 * u64::from(args.waiting);
    if accepted < wanted {
        return Err(Error::Server(format!(
            "only {accepted} of {wanted} messages were accepted: {}",
            refusals.first.as_deref().unwrap_or("no answer")
        )));
    }
    Ok(Filled {
        messages_per_s: accepted as f64 / played.cost.seconds.max(1e-9),
        refusals,
    })
}

/// The writers of one thread.
#[derive(Debug)]
struct Fill {
    writers: Vec<Writer>,
    waiting: u32,
    beginning: Instant,
    last_news: Instant,
    accepted: u64,
    retries: VecDeque<(Instant, usize)>,
    refusals: Refusals,
}

/// Writes to all its recipients in turn.
#[derive(Debug)]
struct Writer {
    recipients: Vec<UserId>,
    /// How far it has seen the conversation with each: its own last message there.
    seen: HashMap<UserId, Position>,
    outbox: Outbox,
    next: usize,
}

impl Fill {
    fn write(&mut self, now: Instant, index: usize, sessions: &mut Sessions) {
        let Some(writer) = self.writers.get_mut(index) else {
            return;
        };
        let recipients = writer.recipients.len().max(1);
        let number = (writer.next / recipients) as u32;
        let Some(&to) = writer.recipients.get(writer.next % recipients) else {
            return;
        };
        if number < self.waiting {
            writer.next += 1;
            let letter = Letter::new(number, now, self.beginning);
            let seen = writer.seen.get(&to).copied();
            let frame = writer
                .outbox
                .send(Destination::User(to), letter, now, seen, None);
            sessions.send(index, &frame);
        }
    }
}

impl Scenario for Fill {
    fn begin(&mut self, start: Instant, sessions: &mut Sessions) {
        self.beginning = start;
        self.last_news = start;
        for index in 0..self.writers.len() {
            for _ in 0..PIPELINE {
                self.write(start, index, sessions);
            }
        }
    }

    fn handle_frame(
        &mut self,
        now: Instant,
        index: usize,
        frame: ServerFrame,
        sessions: &mut Sessions,
    ) {
        let Some(writer) = self.writers.get_mut(index) else {
            return;
        };
        match frame {
            ServerFrame::Sent(sent) => {
                let Some(flight) = writer.outbox.sent(sent.id) else {
                    return;
                };
                if let Destination::User(to) = flight.destination {
                    let position = Position {
                        generation: sent.generation,
                        seq: sent.seq,
                    };
                    writer.seen.insert(to, position);
                }
                self.last_news = now;
                self.accepted += 1;
                self.write(now, index, sessions);
            }
            ServerFrame::Error(error) => {
                self.refusals
                    .first
                    .get_or_insert_with(|| refusal(&error.problem));
                match writer.outbox.refused(now, error.id, &error.problem) {
                    Refused::Until(at) => {
                        self.refusals.for_now += 1;
                        self.retries.push_back((at, index));
                    }
                    _ => self.refusals.for_good += 1,
                }
            }
            _ => {}
        }
    }

    fn poll(&mut self, now: Instant, sessions: &mut Sessions) -> Step {
        while let Some((_, index)) = self.retries.pop_front_if(|(at, _)| *at <= now) {
            let frames = self
                .writers
                .get_mut(index)
                .map(|writer| writer.outbox.again());
            for frame in frames.into_iter().flatten() {
                sessions.send(index, &frame);
            }
        }
        let is_done = self.writers.iter().all(|writer| writer.outbox.is_empty());
        if is_done || now > self.last_news + SETTLE_WITHIN {
            return Step::Done;
        }
        Step::WaitUntil(
            self.retries
                .front()
                .map_or(now + SETTLE_WITHIN, |(at, _)| *at),
        )
    }
}
