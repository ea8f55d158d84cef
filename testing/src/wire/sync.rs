//! What a device asks and how it takes what comes, on one connection. Subscribed first (by hello), then the
//! heads are read (the inbox), then pages until level with them.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use tidings_core::{ClientId, ConversationId, id::direct_id};
use tidings_protocol::mark::RaiseMarks;
use tidings_protocol::send::{Position, Send};
use tidings_protocol::session::Welcome;
use tidings_protocol::sync::{ConversationRequest, HistoryRequest, InboxRequest};
use tidings_protocol::{ClientFrame, Code, Problem, Retry, ServerFrame};

use super::memory::{Memory, Pending, Place, Settled};
use super::{answers, short};

/// Sends that wait for their answer at one time.
const IN_FLIGHT_MAX: usize = 16;
/// Entries in a page: small, so that coming level takes several.
const PAGE: u32 = 40;

/// What a request was for.
#[derive(Clone, Debug)]
enum Purpose {
    Inbox,
    Conversation(ConversationId),
    History(ConversationId),
    Send(ClientId),
    Other,
}

/// One connection's side of it.
pub(super) struct Sync {
    asked: HashMap<u64, Purpose>,
    /// The inbox is to be read, from this cursor.
    inbox_wanted: Option<Option<String>>,
    inbox_asked: bool,
    /// Conversations that the inbox told of since it was begun.
    seen: BTreeSet<ConversationId>,
    busy: HashSet<ConversationId>,
    /// Short forms are agreed on.
    short: bool,
    /// The connection is of no more use.
    pub(super) ends: bool,
}

impl Sync {
    /// After `welcome`: the inbox is read if its digest differs.
    pub(super) fn begin(memory: &mut Memory, welcome: &Welcome) -> Sync {
        let mut sync = Sync {
            asked: HashMap::new(),
            inbox_wanted: None,
            inbox_asked: false,
            seen: BTreeSet::new(),
            busy: HashSet::new(),
            short: welcome.short,
            ends: false,
        };
        sync.compare(memory, welcome.digest);
        sync
    }

    fn reads_inbox(&self) -> bool {
        self.inbox_wanted.is_some() || self.inbox_asked
    }

    fn compare(&mut self, memory: &mut Memory, digest: u64) {
        let behind = memory.logs.values().any(|log| !log.is_level());
        memory.digest_agrees = memory.digest() == digest;
        if !memory.digest_agrees && !behind && !self.reads_inbox() {
            memory.digest_differed += 1;
            self.inbox_wanted = Some(None);
            self.seen.clear();
        }
    }

    /// The next thing to ask, if there is one. The caller tells its id to [`Sync::was_asked`].
    pub(super) fn next_request(&mut self, memory: &mut Memory) -> Option<ClientFrame> {
        if let Some(cursor) = self.inbox_wanted.take() {
            self.inbox_asked = true;
            return Some(ClientFrame::Inbox(InboxRequest {
                id: 0,
                cursor,
                limit: Some(7),
            }));
        }
        if let Some(frame) = self.next_history(memory) {
            return Some(frame);
        }
        if let Some(send) = self.next_send(memory) {
            return Some(send);
        }
        let marks = memory.marks_due();
        if let ([mark], true) = (marks.as_slice(), self.short)
            && let Some(seen) = short::seen(memory, mark)
        {
            return Some(seen);
        }
        (!marks.is_empty()).then_some(ClientFrame::Mark(RaiseMarks { id: None, marks }))
    }

    fn next_history(&mut self, memory: &Memory) -> Option<ClientFrame> {
        for (&conversation, log) in &memory.logs {
            if log.out || self.busy.contains(&conversation) {
                continue;
            }
            if log.stale || log.generation.is_none() {
                self.busy.insert(conversation);
                let request = ConversationRequest {
                    id: 0,
                    conversation,
                };
                return Some(ClientFrame::Conversation(request));
            }
            if log.lacks() {
                self.busy.insert(conversation);
                return Some(history_after(conversation, log));
            }
        }
        None
    }

    fn next_send(&mut self, memory: &mut Memory) -> Option<ClientFrame> {
        let now = Instant::now();
        let mut blocked = HashSet::new();
        let in_flight = memory
            .outbox
            .iter()
            .filter(|pending| pending.in_flight)
            .count();
        if in_flight >= IN_FLIGHT_MAX {
            return None;
        }
        let levels: HashMap<ConversationId, (bool, Option<Position>)> = memory
            .logs
            .iter()
            .map(|(&id, log)| {
                let seq = log.level;
                let position = log
                    .generation
                    .map(|generation| Position { generation, seq });
                (id, (log.is_level(), position))
            })
            .collect();
        for pending in &mut memory.outbox {
            if pending.in_flight {
                continue;
            }
            let (level, position) = pending
                .conversation
                .and_then(|id| levels.get(&id).copied())
                .unwrap_or((true, None));
            let waits = pending.not_before.is_some_and(|moment| moment > now)
                || (pending.catch_up && !level);
            if waits || blocked.contains(&pending.conversation) {
                // Those behind it wait too.
                blocked.insert(pending.conversation);
                continue;
            }
            if !pending.tried || pending.catch_up {
                pending.after = position.filter(|position| position.seq > 0);
            }
            let is_first_try = !std::mem::replace(&mut pending.tried, true);
            pending.catch_up = false;
            pending.in_flight = true;
            let send = send_of(pending);
            let say = Some(&send).filter(|_| is_first_try && self.short && !self.reads_inbox());
            let say = say.and_then(|send| short::say(memory, send));
            return Some(say.unwrap_or(ClientFrame::Send(send)));
        }
        None
    }

    /// When something waits for a moment: that moment.
    pub(super) fn wakes_at(memory: &Memory) -> Option<Instant> {
        memory
            .outbox
            .iter()
            .filter_map(|pending| pending.not_before)
            .min()
    }

    /// A request goes out under this id.
    pub(super) fn was_asked(&mut self, memory: &mut Memory, id: u64, frame: &ClientFrame) {
        let sent = match frame {
            ClientFrame::Send(send) => Some(send.client_id),
            ClientFrame::Say(say) => Some(say.client_id),
            _ => None,
        };
        if let Some(pending) = memory
            .outbox
            .iter_mut()
            .find(|pending| Some(pending.client_id) == sent)
        {
            pending.request = id;
        }
        let purpose = match frame {
            ClientFrame::Inbox(_) => Purpose::Inbox,
            ClientFrame::Conversation(ask) => Purpose::Conversation(ask.conversation),
            ClientFrame::History(ask) => Purpose::History(ask.conversation),
            ClientFrame::Send(send) => Purpose::Send(send.client_id),
            ClientFrame::Say(say) => Purpose::Send(say.client_id),
            _ => Purpose::Other,
        };
        self.asked.insert(id, purpose);
    }

    /// Takes a frame.
    pub(super) fn handle(&mut self, memory: &mut Memory, frame: ServerFrame) {
        let asked = answers(&frame);
        if let (Some(id), ServerFrame::Pong(pong)) = (asked, &frame) {
            // Id 0 is the digest that comes with the events of a poll.
            if id != 0 && self.asked.remove(&id).is_none() {
                memory.violation(format!("a second answer: {frame:?}"));
            }
            self.compare(memory, pong.digest);
            return;
        }
        match asked {
            None => {
                if let Some(frame) = short::long_form(memory, frame) {
                    self.handle_event(memory, frame);
                }
            }
            Some(id) => match self.asked.remove(&id) {
                Some(purpose) => self.handle_answer(memory, purpose, frame),
                None => memory.violation(format!("answers nothing: {frame:?}")),
            },
        }
    }

    fn handle_event(&mut self, memory: &mut Memory, frame: ServerFrame) {
        match frame {
            ServerFrame::Entries(entries) => {
                memory.digest_agrees = false;
                let me = memory.user;
                let log = memory.logs.entry(entries.conversation).or_default();
                let wrong = entries
                    .entries
                    .iter()
                    .find(|entry| entry.client_id.is_some() != (entry.author == me));
                let outcome = match wrong {
                    Some(entry) => Err(format!("client id told to the wrong ones: {entry:?}")),
                    None => log.cover(entries.from, entries.to, &entries.entries),
                };
                if log.gone {
                    memory.violation(format!("served though out: {entries:?}"));
                } else if let Err(problem) = outcome {
                    memory.violation(problem);
                }
            }
            ServerFrame::Marks(marks) => {
                let me = memory.user;
                let log = memory.logs.entry(marks.conversation).or_default();
                // A log of which nothing is known yet has no head to compare with.
                if log.generation.is_none() {
                    log.stale = true;
                    return;
                }
                let problems: Vec<String> = marks
                    .marks
                    .iter()
                    .filter_map(|step| log.take_step(step, me).err())
                    .collect();
                memory.violations.extend(problems);
            }
            ServerFrame::Conversation(frame) => {
                memory.digest_agrees = false;
                let id = frame.conversation.conversation;
                self.seen.insert(id);
                memory
                    .logs
                    .entry(id)
                    .or_default()
                    .take_summary(&frame.conversation);
            }
            ServerFrame::Gone(gone) => {
                memory.digest_agrees = false;
                let log = memory.logs.entry(gone.conversation).or_default();
                log.out = true;
                log.gone = true;
            }
            ServerFrame::Error(error) => memory.problems.push(error.problem),
            _ => {}
        }
    }

    fn handle_answer(&mut self, memory: &mut Memory, purpose: Purpose, frame: ServerFrame) {
        let asked_id = answers(&frame);
        match (purpose, frame) {
            (Purpose::Inbox, ServerFrame::Inbox(page)) => {
                self.inbox_asked = false;
                for summary in &page.conversations {
                    self.seen.insert(summary.conversation);
                    let log = memory.logs.entry(summary.conversation).or_default();
                    log.take_summary(summary);
                    // It was rolled back, perhaps: a page after my position tells.
                    log.suspect = summary.head < log.level;
                }
                match page.next {
                    Some(next) => self.inbox_wanted = Some(Some(next)),
                    None => self.forget_unseen(memory),
                }
            }
            (Purpose::Conversation(id), ServerFrame::Conversation(frame)) => {
                self.busy.remove(&id);
                memory
                    .logs
                    .entry(id)
                    .or_default()
                    .take_summary(&frame.conversation);
            }
            (Purpose::History(id), ServerFrame::History(page)) => {
                self.busy.remove(&id);
                let log = memory.logs.entry(id).or_default();
                if page.to >= page.from && page.to > log.level && page.from > log.level + 1 {
                    let text = format!("asked after {}, got {page:?}", log.level);
                    memory.violation(text);
                    return;
                }
                if let Err(problem) = log.take_page(&page) {
                    memory.violation(problem);
                }
            }
            (Purpose::Send(client_id), ServerFrame::Sent(sent)) => {
                memory.take_sent(client_id, &sent);
            }
            (Purpose::Send(client_id), ServerFrame::Said(said)) => {
                let Some((sent, event)) = short::said(memory, client_id, &said) else {
                    return memory.violation(format!("{client_id} was not said: {said:?}"));
                };
                memory.take_sent(client_id, &sent);
                if let Some(event) = event {
                    self.handle_event(memory, ServerFrame::Entries(event));
                }
            }
            (Purpose::Send(client_id), ServerFrame::Error(error)) => {
                let id = asked_id.unwrap_or(0);
                self.refused(memory, client_id, id, error.problem);
            }
            (Purpose::Conversation(id) | Purpose::History(id), ServerFrame::Error(error)) => {
                self.busy.remove(&id);
                match error.problem.code {
                    Code::Reset => memory.reset(id),
                    Code::NotFound => memory.logs.entry(id).or_default().out = true,
                    _ => self.ends = true,
                }
                memory.problems.push(error.problem);
            }
            (Purpose::Inbox, ServerFrame::Error(error)) => {
                memory.problems.push(error.problem);
                self.ends = true;
            }
            (Purpose::Other, ServerFrame::Error(error)) => memory.problems.push(error.problem),
            (Purpose::Other, ServerFrame::Done(_)) => {}
            (purpose, frame) => {
                memory.violation(format!("{purpose:?} was answered by {frame:?}"));
            }
        }
    }

    /// The whole inbox was read: what it does not hold, I am no longer in.
    fn forget_unseen(&mut self, memory: &mut Memory) {
        for (id, log) in &mut memory.logs {
            if !self.seen.contains(id) && log.generation.is_some() {
                log.out = true;
            }
        }
    }

    fn refused(
        &mut self,
        memory: &mut Memory,
        client_id: ClientId,
        request: u64,
        problem: Problem,
    ) {
        let retry = problem.retry;
        if matches!(retry, Retry::Never) {
            memory.settle(client_id, Settled::Refused(problem));
            return;
        }
        let asked_last =
            |pending: &Pending| pending.client_id == client_id && pending.request == request;
        let Some(first) = memory.outbox.iter().position(asked_last) else {
            // It was tried again since.
            return;
        };
        let conversation = memory.outbox[first].conversation;
        let wait = Duration::from_millis(problem.retry_after_ms.unwrap_or(20));
        memory.outbox[first].not_before = Some(Instant::now() + wait);
        memory.outbox[first].catch_up = matches!(retry, Retry::CatchUp);
        // It starts again from here: those behind it were refused too, or will be.
        for pending in memory.outbox.iter_mut().skip(first) {
            if pending.conversation == conversation {
                pending.in_flight = false;
                pending.request = 0;
            }
        }
        match retry {
            Retry::CatchUp => {
                if let Some(log) = conversation.and_then(|id| memory.logs.get_mut(&id)) {
                    log.stale = true;
                }
            }
            Retry::Reconnect | Retry::LogIn => self.ends = true,
            _ => {}
        }
        memory.problems.push(problem);
    }
}

fn history_after(conversation: ConversationId, log: &super::log::Log) -> ClientFrame {
    let hash = log.entries.get(&log.level).map(|entry| {
        tidings_protocol::convert::entry_from_wire(entry)
            .envelope
            .short_hash()
    });
    ClientFrame::History(HistoryRequest {
        id: 0,
        conversation,
        after: Some(log.level),
        before: None,
        around: None,
        limit: Some(PAGE),
        generation: log.generation,
        hash,
    })
}

fn send_of(pending: &Pending) -> Send {
    let (conversation, to) = match pending.place {
        Place::In(conversation) => (Some(conversation), None),
        Place::To(user) => (None, Some(user)),
        Place::New => (None, None),
    };
    Send {
        id: 0,
        conversation,
        to,
        client_id: pending.client_id,
        after: pending.after,
        if_epoch: None,
        action: pending.action.clone(),
        first: false,
    }
}

/// The conversation of a place, if it has one already.
pub(super) fn conversation_of(me: tidings_core::UserId, place: Place) -> Option<ConversationId> {
    match place {
        Place::In(conversation) => Some(conversation),
        Place::To(user) => Some(direct_id(me, user)),
        Place::New => None,
    }
}
