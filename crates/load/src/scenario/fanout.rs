//! `fanout`: a group whose members are all online; some write, all receive. Members acknowledge a little
//! later, for all that came meanwhile.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tidings_core::{ConversationId, UserId, digest};
use tidings_protocol::send::{Position, Sent};
use tidings_protocol::short::{Handle, Messages};
use tidings_protocol::{ServerFrame, sync};

use super::group::create_group;
use super::{Refusals, SETTLE_WITHIN, Window, marks_notice, seen_notice};
use crate::Error;
use crate::accounts::{Account, sign_up};
use crate::args::{Acknowledge, Common, EncodingArg, FanoutArgs, duration};
use crate::arrivals::{Arrivals, Faults};
use crate::crew::{self, Part, Schedule, split};
use crate::engine::{Scenario, Step, refusal};
use crate::latency::Latency;
use crate::letter::Letter;
use crate::outbox::{Destination, Outbox, Refused};
use crate::report::Report;
use crate::server::Server;
use crate::session::Sessions;

/// Plays the scenario.
///
/// # Errors
/// When it could not be played.
pub fn run(common: &Common, args: &FanoutArgs, server: &Server) -> Result<Report, Error> {
    let accounts = sign_up(server.addresses()[0], args.members as usize)?;
    let created = create_group(common, server, &accounts)?;
    let group = Group::of(common, &created);
    let writers = (args.senders as usize).min(accounts.len());
    // Spread over all members, and so over all threads.
    let places: Vec<usize> = (0..writers)
        .map(|number| number * accounts.len() / writers)
        .collect();
    let authors: HashMap<UserId, usize> = places
        .iter()
        .filter_map(|&place| accounts.get(place))
        .enumerate()
        .map(|(number, account)| (account.user, number))
        .collect();
    let handles = authors
        .iter()
        .map(|(user, number)| (Handle(digest::user_handle(*user)), *number))
        .collect();
    let ranges = split(accounts.len(), common.threads);
    let shared = Shared {
        threads: ranges.len(),
        threads_done: AtomicUsize::new(0),
        accepted: AtomicU64::new(0),
    };
    let part = |range: std::ops::Range<usize>| Part {
        scenario: Fanout::new(
            args,
            group,
            &accounts,
            range.clone(),
            (&authors, &handles),
            &shared,
        ),
        accounts: accounts
            .get(range)
            .map(<[Account]>::to_vec)
            .unwrap_or_default(),
    };
    let warm_up = duration(args.warm_up_seconds);
    let schedule = Schedule {
        opens_first: true,
        window: Some((warm_up, warm_up + duration(args.seconds))),
        heartbeat_ms: None,
    };
    let parts = ranges.into_iter().map(part).collect();
    let played = crew::play(common, server, parts, schedule)?;
    let sums = Sums::of(&played.scenarios, writers);

    let mut report = Report::new("fanout");
    let per_s = |count: u64| count as f64 / played.cost.seconds.max(1e-9);
    report.put("encoding", format!("{:?}", common.encoding).to_lowercase());
    report.put("members", args.members);
    report.put("senders", writers);
    report.put("pipeline", args.pipeline);
    report.put("text_bytes", args.text_bytes);
    report.put("seconds", played.cost.seconds);
    report.put("messages", sums.accepted_in_window);
    report.put("messages_per_s", per_s(sums.accepted_in_window));
    report.put("deliveries", sums.arrived_in_window);
    report.put("deliveries_per_s", per_s(sums.arrived_in_window));
    sums.to_sent.report("send_to_sent", &mut report);
    sums.to_arrival.report("send_to_arrival", &mut report);
    report.put_fault("lost", sums.faults.lost);
    report.put_fault("doubled", sums.faults.doubled);
    report.put_fault("reordered", sums.faults.reordered);
    report.put_fault("unanswered", sums.unanswered);
    sums.refusals.report(&mut report);
    played.report_closed(&mut report);
    played
        .cost
        .report("delivery", sums.arrived_in_window, &mut report);
    Ok(report)
}

/// What the threads tell each other at the end.
#[derive(Debug)]
struct Shared {
    threads: usize,
    /// Threads whose messages are all answered.
    threads_done: AtomicUsize,
    /// Messages of these threads.
    accepted: AtomicU64,
}

/// The group that is written to.
#[derive(Clone, Copy, Debug)]
struct Group {
    id: ConversationId,
    /// Where it began.
    created: Position,
    /// Its handle, if short forms are used.
    handle: Option<Handle>,
}

impl Group {
    fn of(common: &Common, created: &Sent) -> Group {
        let (id, generation) = (created.conversation, created.generation);
        let handle = Handle(digest::handle(id, generation));
        Group {
            id,
            created: Position {
                generation,
                seq: created.seq,
            },
            handle: (common.encoding == EncodingArg::Short).then_some(handle),
        }
    }
}

/// The members of one thread.
#[derive(Debug)]
struct Fanout<'a> {
    group: Group,
    members: Vec<Member>,
    /// The writers by their users' ids, and by their handles.
    authors: &'a HashMap<UserId, usize>,
    handles: &'a HashMap<Handle, usize>,
    shared: &'a Shared,
    is_done: bool,
    beginning: Instant,
    window: Window,
    warm_up: Duration,
    length: Duration,
    pipeline: u32,
    acknowledge: Acknowledge,
    acknowledge_after: Duration,
    marks_due: VecDeque<(Instant, usize)>,
    retries: VecDeque<(Instant, usize)>,
    arrived: u64,
    accepted: u64,
    accepted_in_window: u64,
    arrived_in_window: u64,
    to_sent: Latency,
    to_arrival: Latency,
    refusals: Refusals,
}

#[derive(Debug)]
struct Member {
    arrivals: Vec<Arrivals>,
    received: u64,
    is_marking: bool,
    writer: Option<Writer>,
}

#[derive(Debug)]
struct Writer {
    number: usize,
    outbox: Outbox,
    number_next: u32,
    accepted: u64,
    given_up: BTreeSet<u32>,
    seen: Position,
}

impl<'a> Fanout<'a> {
    fn new(
        args: &FanoutArgs,
        group: Group,
        accounts: &[Account],
        range: std::ops::Range<usize>,
        (authors, handles): (&'a HashMap<UserId, usize>, &'a HashMap<Handle, usize>),
        shared: &'a Shared,
    ) -> Fanout<'a> {
        let now = Instant::now();
        let writer = |account: &Account| {
            let &number = authors.get(&account.user)?;
            Some(Writer {
                number,
                outbox: Outbox::new(number as u32, args.text_bytes),
                number_next: 0,
                accepted: 0,
                given_up: BTreeSet::new(),
                seen: group.created,
            })
        };
        let member = |account: &Account| Member {
            arrivals: vec![Arrivals::default(); authors.len()],
            received: 0,
            is_marking: false,
            writer: writer(account),
        };
        let accounts = accounts.get(range).unwrap_or_default();
        Fanout {
            group,
            members: accounts.iter().map(member).collect(),
            authors,
            handles,
            shared,
            is_done: false,
            beginning: now,
            window: Window { from: now, to: now },
            warm_up: duration(args.warm_up_seconds),
            length: duration(args.seconds),
            pipeline: args.pipeline,
            acknowledge: args.acknowledge,
            acknowledge_after: Duration::from_millis(args.acknowledge_after_ms),
            marks_due: VecDeque::new(),
            retries: VecDeque::new(),
            arrived: 0,
            accepted: 0,
            accepted_in_window: 0,
            arrived_in_window: 0,
            to_sent: Latency::default(),
            to_arrival: Latency::default(),
            refusals: Refusals::default(),
        }
    }

    fn writer(&mut self, index: usize) -> Option<&mut Writer> {
        self.members.get_mut(index)?.writer.as_mut()
    }

    fn write(&mut self, index: usize, now: Instant, sessions: &mut Sessions) {
        let (group, beginning) = (self.group, self.beginning);
        if let Some(writer) = self.writer(index) {
            let letter = Letter::new(writer.number_next, now, beginning);
            let destination = Destination::Conversation(group.id);
            let seen = Some(writer.seen);
            let outbox = &mut writer.outbox;
            let frame = outbox.send(destination, letter, now, seen, group.handle);
            writer.number_next += 1;
            sessions.send(index, &frame);
        }
    }

    fn next_of(&mut self, now: Instant, index: usize, sessions: &mut Sessions) {
        if now < self.window.to {
            self.write(index, now, sessions);
        }
    }

    /// The message with this request's id has become an entry.
    fn handle_sent(
        &mut self,
        now: Instant,
        index: usize,
        (id, seq): (u64, u64),
        sessions: &mut Sessions,
    ) {
        let Some(writer) = self.writer(index) else {
            return;
        };
        let Some(flight) = writer.outbox.sent(id) else {
            return;
        };
        writer.accepted += 1;
        writer.seen.seq = writer.seen.seq.max(seq);
        self.accepted += 1;
        self.accepted_in_window += u64::from(self.window.holds(now));
        if self.window.holds(flight.started) {
            self.to_sent
                .record(now.saturating_duration_since(flight.started));
        }
        self.next_of(now, index, sessions);
    }

    fn handle_entries(&mut self, now: Instant, index: usize, entries: &sync::Entries) {
        if entries.conversation != self.group.id {
            return;
        }
        let authors = self.authors;
        let texts = entries.entries.iter().map(|entry| {
            let text = entry.content.as_ref().map(|content| content.text.as_str());
            (
                authors.get(&entry.author).copied(),
                text.unwrap_or_default(),
            )
        });
        self.take(now, index, entries.to, texts);
    }

    fn handle_messages(&mut self, now: Instant, index: usize, event: &Messages) {
        if Some(event.conversation) != self.group.handle {
            return;
        }
        let (authors, handles) = (self.authors, self.handles);
        let texts = event.messages.iter().map(|message| {
            let author = match (message.author, message.user) {
                (Some(handle), _) => handles.get(&handle),
                (None, Some(user)) => authors.get(&user),
                (None, None) => None,
            };
            (author.copied(), message.text.as_str())
        });
        let last = event.from + event.messages.len() as u64 - 1;
        self.take(now, index, last, texts);
    }

    /// Messages have come, up to this seq: by which writer, and what they say.
    fn take<'t>(
        &mut self,
        now: Instant,
        index: usize,
        last: u64,
        texts: impl Iterator<Item = (Option<usize>, &'t str)>,
    ) {
        let Some(member) = self.members.get_mut(index) else {
            return;
        };
        let own = member.writer.as_ref().map(|writer| writer.number);
        let mut is_news = false;
        for (author, text) in texts {
            // What oneself has sent needs no acknowledgement.
            is_news |= author != own;
            let (Some(letter), Some(author)) = (Letter::parse(text), author) else {
                continue;
            };
            let Some(arrivals) = member
                .arrivals
                .get_mut(author)
                .filter(|_| Some(author) != own)
            else {
                continue;
            };
            if arrivals.arrive(letter.number) {
                self.arrived += 1;
                self.arrived_in_window += u64::from(self.window.holds(now));
                let started = self.beginning + letter.started;
                if self.window.holds(started) {
                    self.to_arrival
                        .record(now.saturating_duration_since(started));
                }
            }
        }
        if is_news {
            member.received = member.received.max(last);
        }
        if is_news && self.acknowledge != Acknowledge::Nothing && !member.is_marking {
            member.is_marking = true;
            self.marks_due
                .push_back((now + self.acknowledge_after, index));
        }
    }

    fn send_marks(&mut self, now: Instant, sessions: &mut Sessions) {
        while let Some((_, index)) = self.marks_due.pop_front_if(|(at, _)| *at <= now) {
            if let Some(member) = self.members.get_mut(index) {
                member.is_marking = false;
                let notice = match self.group.handle {
                    Some(handle) => seen_notice(handle, member.received, self.acknowledge),
                    None => marks_notice([(self.group.id, member.received)], self.acknowledge),
                };
                sessions.send(index, &notice);
            }
        }
    }

    /// Whether all threads' messages are answered and have arrived at all members of this one.
    fn is_settled(&mut self) -> bool {
        let mut writers = self
            .members
            .iter()
            .filter_map(|member| member.writer.as_ref());
        if !self.is_done && writers.all(|writer| writer.outbox.is_empty()) {
            self.is_done = true;
            self.shared
                .accepted
                .fetch_add(self.accepted, Ordering::Relaxed);
            self.shared.threads_done.fetch_add(1, Ordering::Release);
        }
        if self.shared.threads_done.load(Ordering::Acquire) < self.shared.threads {
            return false;
        }
        // Nobody is sent what they wrote themselves.
        let all = self.shared.accepted.load(Ordering::Relaxed) * self.members.len() as u64;
        self.arrived >= all - self.accepted.min(all)
    }
}

impl Scenario for Fanout<'_> {
    fn begin(&mut self, start: Instant, sessions: &mut Sessions) {
        self.beginning = start;
        self.window.from = start + self.warm_up;
        self.window.to = self.window.from + self.length;
        for index in 0..self.members.len() {
            for _ in 0..self.pipeline {
                self.write(index, Instant::now(), sessions);
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
        match frame {
            ServerFrame::Sent(sent) => {
                self.handle_sent(now, index, (sent.id, sent.seq), sessions);
            }
            ServerFrame::Said(said) => {
                self.handle_sent(now, index, (said.id, said.seq), sessions);
            }
            ServerFrame::Entries(entries) => self.handle_entries(now, index, &entries),
            ServerFrame::Messages(messages) => self.handle_messages(now, index, &messages),
            ServerFrame::Error(error) => {
                self.refusals
                    .first
                    .get_or_insert_with(|| refusal(&error.problem));
                let Some(writer) = self.writer(index) else {
                    self.refusals.for_good += 1;
                    return;
                };
                match writer.outbox.refused(now, error.id, &error.problem) {
                    Refused::Until(at) => {
                        self.refusals.for_now += 1;
                        self.retries.push_back((at, index));
                    }
                    Refused::ForGood(flight) => {
                        writer.given_up.insert(flight.letter.number);
                        self.refusals.for_good += 1;
                        self.next_of(now, index, sessions);
                    }
                    Refused::NotMine => self.refusals.for_good += 1,
                }
            }
            _ => {}
        }
    }

    fn poll(&mut self, now: Instant, sessions: &mut Sessions) -> Step {
        self.send_marks(now, sessions);
        while let Some((_, index)) = self.retries.pop_front_if(|(at, _)| *at <= now) {
            let frames = self.writer(index).map(|writer| writer.outbox.again());
            for frame in frames.into_iter().flatten() {
                sessions.send(index, &frame);
            }
        }
        let end = self.window.to;
        if now >= end {
            if self.is_settled() || now >= end + SETTLE_WITHIN {
                return Step::Done;
            }
            return Step::WaitUntil(now + Duration::from_millis(10));
        }
        let dues = [self.marks_due.front(), self.retries.front()];
        let wake = dues.into_iter().flatten().map(|(at, _)| *at).min();
        Step::WaitUntil(wake.map_or(end, |at| at.min(end)))
    }
}

#[derive(Debug, Default)]
struct Sums {
    accepted_in_window: u64,
    arrived_in_window: u64,
    to_sent: Latency,
    to_arrival: Latency,
    refusals: Refusals,
    faults: Faults,
    unanswered: u64,
}

impl Sums {
    fn of(scenarios: &[Fanout<'_>], writers: usize) -> Sums {
        let mut sums = Sums::default();
        // By writer: how many it sent, and which of them were never acknowledged.
        let mut sent = vec![(0, BTreeSet::new()); writers];
        let members = || scenarios.iter().flat_map(|fanout| &fanout.members);
        for writer in members().filter_map(|member| member.writer.as_ref()) {
            let mut unacknowledged = writer.given_up.clone();
            unacknowledged.extend(writer.outbox.flights().map(|flight| flight.letter.number));
            sums.unanswered += writer.outbox.len() as u64;
            if let Some(slot) = sent.get_mut(writer.number) {
                *slot = (writer.number_next, unacknowledged);
            }
        }
        for member in members() {
            let own = member.writer.as_ref().map(|writer| writer.number);
            for (author, arrivals) in member.arrivals.iter().enumerate() {
                if let Some((count, unacknowledged)) = sent.get(author)
                    && Some(author) != own
                {
                    sums.faults.add(arrivals.faults(*count, unacknowledged));
                }
            }
        }
        for fanout in scenarios {
            sums.accepted_in_window += fanout.accepted_in_window;
            sums.arrived_in_window += fanout.arrived_in_window;
            sums.to_sent.add(&fanout.to_sent);
            sums.to_arrival.add(&fanout.to_arrival);
            sums.refusals.add(fanout.refusals.clone());
        }
        sums
    }
}
