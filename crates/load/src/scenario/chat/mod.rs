//! `chat`: pairs of people who write to each other. Each session sends to its partners in turn and acknowledges what
//! they sent, at once and for all that came together, as a client does that has the conversation on
//! the screen.

mod peer;
mod sums;
#[cfg(test)]
mod tests;
mod ticks;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use tidings_core::{ConversationId, UserId, digest};
use tidings_protocol::short::{Handle, Messages};
use tidings_protocol::{ServerFrame, entry as wire, problem, sync};

use self::peer::{Peer, history_after, partner_of};
use self::sums::Sums;
use super::{SETTLE_WITHIN, Window, marks_notice, seen_notice};
use crate::Error;
use crate::accounts::{Account, sign_up};
use crate::args::{Acknowledge, ChatArgs, Common, EncodingArg, Mode, Until, duration};
use crate::arrivals::Arrivals;
use crate::crew::{self, Part, Schedule, split};
use crate::engine::{Scenario, Step, refusal};
use crate::letter::Letter;
use crate::outbox::{Destination, Outbox, Refused};
use crate::report::Report;
use crate::server::Server;
use crate::session::Sessions;

/// Plays the scenario.
///
/// # Errors
/// When it could not be played.
pub fn run(common: &Common, args: &ChatArgs, server: &Server) -> Result<Report, Error> {
    // Who write to each other are played by one thread.
    let circle = 2 * args.partners as usize;
    let circles = args.circle_count()?;
    let accounts = sign_up(server.addresses()[0], circle * circles)?;
    let short = common.encoding == EncodingArg::Short;
    let ranges = split(circles, common.threads);
    let threads = ranges.len();
    let parts = ranges.into_iter().map(|range| {
        let part = accounts.get(circle * range.start..circle * range.end);
        let accounts = part.unwrap_or_default().to_vec();
        let scenario = Chat::new(args, short, &accounts, circle * range.start, threads);
        Part { accounts, scenario }
    });
    let warm_up = duration(args.warm_up_seconds);
    let schedule = Schedule {
        opens_first: true,
        window: Some((warm_up, warm_up + duration(args.seconds))),
        heartbeat_ms: None,
    };
    let disk_before = server.data_bytes();
    let mut played = crew::play(common, server, parts.collect(), schedule)?;
    let mut sums = Sums::default();
    for scenario in std::mem::take(&mut played.scenarios) {
        sums.add(scenario);
    }

    Ok(sums.report(common, args, &played, disk_before.zip(server.data_bytes())))
}

/// The pairs of one thread: see [`partner_of`].
#[derive(Debug)]
struct Chat {
    plan: Plan,
    /// The conversations of session 0, then those of session 1, and so on.
    peers: Vec<Peer>,
    /// By session: to which of its partners it writes next.
    turns: Vec<usize>,
    /// Mode `open`: the next appointed time, and whose turn it is.
    next: Instant,
    turn: usize,
    retries: VecDeque<(Instant, usize)>,
    /// Messages without their last tick.
    open_ends: u64,
    sums: Sums,
}

#[derive(Clone, Copy, Debug)]
struct Plan {
    beginning: Instant,
    window: Window,
    warm_up: Duration,
    length: Duration,
    mode: Mode,
    interval: Duration,
    pipeline: u32,
    until: Until,
    acknowledge: Acknowledge,
    /// Short forms are used.
    short: bool,
    /// How many partners each session has.
    partners: usize,
}

impl Chat {
    fn new(
        args: &ChatArgs,
        short: bool,
        accounts: &[Account],
        first: usize,
        threads: usize,
    ) -> Chat {
        let now = Instant::now();
        let partners = args.partners as usize;
        let peer = |index: usize| {
            let session = index / partners;
            let user = |session: usize| accounts.get(session).map_or(UserId([0; 16]), |a| a.user);
            Peer::new(
                user(session),
                user(partner_of(index, partners) / partners),
                Outbox::of_several(
                    (first + session) as u32,
                    args.text_bytes,
                    (index % partners) as u64,
                    partners as u64,
                ),
            )
        };
        Chat {
            plan: Plan {
                beginning: now,
                window: Window { from: now, to: now },
                warm_up: duration(args.warm_up_seconds),
                length: duration(args.seconds),
                mode: args.mode,
                interval: duration(threads as f64 / args.rate),
                pipeline: args.pipeline,
                until: match (args.until, args.acknowledge) {
                    (_, Acknowledge::Nothing) => Until::Sent,
                    (Until::Read, Acknowledge::Delivered) => Until::Delivered,
                    (until, _) => until,
                },
                acknowledge: args.acknowledge,
                short,
                partners,
            },
            peers: (0..accounts.len() * partners).map(peer).collect(),
            turns: vec![0; accounts.len()],
            next: now,
            turn: 0,
            retries: VecDeque::new(),
            open_ends: 0,
            sums: Sums::default(),
        }
    }

    /// A session writes to the next of its partners; the message's clock started at `started`.
    fn write(&mut self, session: usize, started: Instant, sessions: &mut Sessions) {
        let Some(turn) = self.turns.get_mut(session) else {
            return;
        };
        let index = session * self.plan.partners + *turn;
        *turn = (*turn + 1) % self.plan.partners;
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let letter = Letter::new(peer.number_next, started, self.plan.beginning);
        let destination = match peer.seen {
            Some(_) => Destination::Conversation(peer.conversation),
            None => Destination::User(peer.partner),
        };
        let handle = peer.handle.filter(|_| self.plan.short);
        let frame = peer
            .outbox
            .send(destination, letter, started, peer.seen, handle);
        peer.number_next += 1;
        sessions.send(session, &frame);
    }

    /// Mode `closed`: a message has come to its end, the session's next one may go.
    fn next_of(&mut self, now: Instant, index: usize, sessions: &mut Sessions) {
        if self.plan.mode == Mode::Closed && now < self.plan.window.to {
            self.write(index / self.plan.partners, now, sessions);
        }
    }

    /// Which of a session's conversations it is.
    fn find(&self, session: usize, is_it: impl Fn(&Peer) -> bool) -> Option<usize> {
        let first = session * self.plan.partners;
        let peers = self.peers.get(first..first + self.plan.partners)?;
        Some(first + peers.iter().position(is_it)?)
    }

    fn with_id(&self, session: usize, conversation: ConversationId) -> Option<usize> {
        self.find(session, |peer| peer.conversation == conversation)
    }

    fn with_handle(&self, session: usize, handle: Handle) -> Option<usize> {
        self.find(session, |peer| peer.handle == Some(handle))
    }

    /// The one in which a request was sent.
    fn asked_in(&self, session: usize, id: u64) -> usize {
        session * self.plan.partners + Outbox::number_of(id, self.plan.partners as u64) as usize
    }

    fn handle_entries(
        &mut self,
        now: Instant,
        index: usize,
        entries: &sync::Entries,
        sessions: &mut Sessions,
    ) {
        self.cover(index, entries.from, entries.to, sessions);
        self.take_entries(now, index, &entries.entries, Arrivals::arrive);
    }

    fn handle_messages(
        &mut self,
        now: Instant,
        index: usize,
        event: &Messages,
        sessions: &mut Sessions,
    ) {
        let Some(peer) = self.peers.get(index) else {
            return;
        };
        let partner = Handle(digest::user_handle(peer.partner));
        let last = event.from + event.messages.len() as u64 - 1;
        self.cover(index, event.from, last, sessions);
        for (seq, message) in (event.from..).zip(&event.messages) {
            if message.author == Some(partner) {
                self.take_text(now, index, seq, &message.text, Arrivals::arrive);
            }
        }
    }

    /// An event covers these seqs.
    fn cover(&mut self, index: usize, from: u64, to: u64, sessions: &mut Sessions) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        if let Some(seen) = &mut peer.seen {
            seen.seq = seen.seq.max(to);
        }
        if from > peer.level + 1 {
            sessions.send(index / self.plan.partners, &history_after(peer));
        } else {
            peer.level = peer.level.max(to);
        }
    }

    /// A gap is filled from the history, as any client does.
    fn handle_history(
        &mut self,
        now: Instant,
        index: usize,
        page: &sync::HistoryPage,
        sessions: &mut Sessions,
    ) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        peer.level = peer.level.max(page.to);
        if page.more {
            sessions.send(index / self.plan.partners, &history_after(peer));
        }
        self.take_entries(now, index, &page.entries, Arrivals::find);
    }

    fn take_entries(
        &mut self,
        now: Instant,
        index: usize,
        entries: &[wire::Entry],
        take: fn(&mut Arrivals, u32) -> bool,
    ) {
        let Some(partner) = self.peers.get(index).map(|peer| peer.partner) else {
            return;
        };
        for entry in entries.iter().filter(|entry| entry.author == partner) {
            let text = entry.content.as_ref().map(|content| content.text.as_str());
            self.take_text(now, index, entry.seq, text.unwrap_or_default(), take);
        }
    }

    /// A message of the partner has come. (What oneself has sent needs no acknowledgement.)
    fn take_text(
        &mut self,
        now: Instant,
        index: usize,
        seq: u64,
        text: &str,
        take: fn(&mut Arrivals, u32) -> bool,
    ) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        peer.received = peer.received.max(seq);
        if let Some(letter) = Letter::parse(text)
            && take(&mut peer.arrivals, letter.number)
        {
            let started = self.plan.beginning + letter.started;
            if self.plan.window.holds(started) {
                let took = now.saturating_duration_since(started);
                self.sums.to_arrival.record(took);
            }
        }
    }

    fn handle_error(
        &mut self,
        now: Instant,
        index: usize,
        error: &problem::ErrorFrame,
        sessions: &mut Sessions,
    ) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let refusals = &mut self.sums.refusals;
        refusals
            .first
            .get_or_insert_with(|| refusal(&error.problem));
        match peer.outbox.refused(now, error.id, &error.problem) {
            Refused::Until(at) => {
                refusals.for_now += 1;
                self.retries.push_back((at, index));
            }
            Refused::ForGood(flight) => {
                refusals.for_good += 1;
                peer.given_up.insert(flight.letter.number);
                self.next_of(now, index, sessions);
            }
            Refused::NotMine => refusals.for_good += 1,
        }
    }

    /// Whether everything that was sent has all that belongs to it.
    fn is_settled(&self) -> bool {
        let arrived: u64 = self.peers.iter().map(|peer| peer.arrivals.count()).sum();
        self.open_ends == 0
            && arrived >= self.sums.accepted
            && self.peers.iter().all(|peer| peer.outbox.is_empty())
    }
}

impl Scenario for Chat {
    fn begin(&mut self, start: Instant, sessions: &mut Sessions) {
        let from = start + self.plan.warm_up;
        self.plan.beginning = start;
        self.plan.window = Window {
            from,
            to: from + self.plan.length,
        };
        self.next = start;
        if self.plan.mode == Mode::Closed {
            for session in 0..self.turns.len() {
                for _ in 0..self.plan.pipeline {
                    self.write(session, Instant::now(), sessions);
                }
            }
        }
    }

    fn handle_frame(
        &mut self,
        now: Instant,
        session: usize,
        frame: ServerFrame,
        sessions: &mut Sessions,
    ) {
        match frame {
            ServerFrame::Sent(sent) => {
                if let Some(index) = self.with_id(session, sent.conversation) {
                    self.handle_sent(now, index, &sent, sessions);
                }
            }
            ServerFrame::Said(said) => {
                let index = self.asked_in(session, said.id);
                self.handle_said(now, index, &said, sessions);
            }
            ServerFrame::Entries(entries) => {
                if let Some(index) = self.with_id(session, entries.conversation) {
                    self.handle_entries(now, index, &entries, sessions);
                }
            }
            ServerFrame::Messages(event) => {
                if let Some(index) = self.with_handle(session, event.conversation) {
                    self.handle_messages(now, index, &event, sessions);
                }
            }
            ServerFrame::Conversation(event) => {
                let index = self.with_id(session, event.conversation.conversation);
                if let Some(peer) = index.and_then(|index| self.peers.get_mut(index)) {
                    peer.note_seen(event.conversation.generation, 0);
                    sessions.send(session, &history_after(peer));
                }
            }
            ServerFrame::History(page) => {
                let index = self.asked_in(session, page.id);
                self.handle_history(now, index, &page, sessions);
            }
            ServerFrame::Steps(event) => {
                if let Some(index) = self.with_handle(session, event.conversation) {
                    self.handle_steps(now, index, &event, sessions);
                }
            }
            ServerFrame::Marks(marks) => {
                if let Some(index) = self.with_id(session, marks.conversation) {
                    self.handle_marks(now, index, &marks, sessions);
                }
            }
            ServerFrame::Error(error) => {
                let index = self.asked_in(session, error.id.unwrap_or(0));
                self.handle_error(now, index, &error, sessions);
            }
            _ => {}
        }
    }

    fn handle_pause(&mut self, _: Instant, session: usize, sessions: &mut Sessions) {
        let Plan {
            acknowledge,
            short,
            partners,
            ..
        } = self.plan;
        let peers = self
            .peers
            .get_mut(session * partners..(session + 1) * partners);
        for peer in peers.into_iter().flatten() {
            if acknowledge != Acknowledge::Nothing && peer.received > peer.acknowledged {
                peer.acknowledged = peer.received;
                let notice = match peer.handle.filter(|_| short) {
                    Some(handle) => seen_notice(handle, peer.received, acknowledge),
                    None => marks_notice([(peer.conversation, peer.received)], acknowledge),
                };
                sessions.send(session, &notice);
            }
        }
    }

    fn poll(&mut self, now: Instant, sessions: &mut Sessions) -> Step {
        while let Some((_, index)) = self.retries.pop_front_if(|(at, _)| *at <= now) {
            let frames = self.peers.get_mut(index).map(|peer| peer.outbox.again());
            for frame in frames.into_iter().flatten() {
                sessions.send(index / self.plan.partners, &frame);
            }
        }
        let end = self.plan.window.to;
        if self.plan.mode == Mode::Open {
            while self.next <= now && self.next < end {
                let session = self.turn;
                self.turn = (self.turn + 1) % self.turns.len().max(1);
                if self.plan.window.holds(self.next) {
                    let lag = Instant::now().saturating_duration_since(self.next);
                    self.sums.lag.record(lag);
                }
                self.write(session, self.next, sessions);
                self.next += self.plan.interval;
            }
        }
        if now >= end {
            if now >= end + SETTLE_WITHIN || self.is_settled() {
                self.sums.settled_after = now.saturating_duration_since(end);
                return Step::Done;
            }
            return Step::WaitUntil(now + Duration::from_millis(10));
        }
        let wake = match self.plan.mode {
            Mode::Open => self.next.min(end),
            Mode::Closed => end,
        };
        Step::WaitUntil(match self.retries.front() {
            Some((at, _)) => wake.min(*at),
            None => wake,
        })
    }
}
