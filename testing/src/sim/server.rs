//! A server in one thread: the real rules (`decide`, `apply`, `search_for_earlier`) over the store in memory,
//! with sessions, events, marks and digests done in the plainest way.
//!
//! In: frames of connections. Out: frames for connections, and tasks that are to be done a little later.

use std::collections::{BTreeMap, BTreeSet};

use tidings_core::conversation::{ConversationKind, Member, MemberMap, Retention, State};
use tidings_core::log::{LogId, Seq};
use tidings_core::mark::{MarkKind, MarkValue};
use tidings_core::{ClientId, ConversationId, DeviceId, Entry, Generation, Time, UserId, digest};
use tidings_protocol::mark::{MarkUpdate, MemberMarks};
use tidings_protocol::presence::{Profile, TypingEvent, Users};
use tidings_protocol::problem::ErrorFrame;
use tidings_protocol::session::{Bye, Done, Hello, Pong, Welcome};
use tidings_protocol::{ClientFrame, Code, Problem, ServerFrame};
use tidings_store::memory::MemoryStore;
use tidings_store::{Direction, ReadLog, Store, StoreFuture, Want};

use super::short::Saying;
use crate::chance::Chance;

/// Time between heartbeats that the server tells.
pub(super) const HEARTBEAT_MS: u64 = 5_000;

/// The answer of a store whose futures are ready at once.
pub(super) fn ready<T>(mut future: StoreFuture<'_, T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the store in memory answers at once"),
    }
}

/// What the server does a little later.
#[allow(clippy::large_enum_variant, reason = "there are never many")]
pub(super) enum Task {
    /// Answer a request as things are then.
    Serve(u64, ClientFrame),
    /// Send an answer that was made before.
    Answer(u64, ServerFrame),
    Welcome(u64, Hello),
    TellMarks(ConversationId),
}

#[derive(Clone, Copy)]
pub(super) struct Caller {
    pub(super) user: UserId,
    pub(super) device: DeviceId,
}

/// A conversation in the server's memory.
pub(super) struct Hot {
    pub(super) state: State,
    pub(super) members: MemberMap,
    pub(super) marks: BTreeMap<UserId, UserMarks>,
    pub(super) trimmed: Seq,
    untold: BTreeSet<UserId>,
    pub(super) refused: BTreeMap<DeviceId, (ClientId, u64)>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct UserMarks {
    pub(super) delivered: Seq,
    pub(super) read: MarkValue,
    pub(super) shown: Seq,
    pub(super) told: MemberMarks,
}

pub(super) struct Server {
    pub(super) store: MemoryStore,
    pub(super) chance: Chance,
    /// The server's own time.
    pub(super) now: Time,
    /// Milliseconds by a clock that does not jump.
    pub(super) steady: u64,
    pub(super) users: BTreeMap<UserId, Vec<DeviceId>>,
    conversations: BTreeMap<ConversationId, Hot>,
    sessions: BTreeMap<u64, Caller>,
    /// Sessions that agreed on short forms.
    pub(super) short: BTreeSet<u64>,
    /// What is being said in the short form.
    pub(super) saying: Option<Saying>,
    /// The session that raises marks and knows where they will be.
    pub(super) knows: Option<u64>,
    /// Frames for connections, in order.
    pub(super) out: Vec<(u64, ServerFrame)>,
    pub(super) tasks: Vec<(u64, Task)>,
    /// Every entry that was ever committed, with its body.
    pub(super) committed: BTreeMap<ConversationId, Vec<Entry>>,
    /// Things go wrong.
    pub(super) trouble: bool,
}

impl Server {
    pub(super) fn new(chance: Chance, users: BTreeMap<UserId, Vec<DeviceId>>) -> Server {
        Server {
            store: MemoryStore::new(),
            chance,
            now: Time(0),
            steady: 0,
            users,
            conversations: BTreeMap::new(),
            sessions: BTreeMap::new(),
            short: BTreeSet::new(),
            saying: None,
            knows: None,
            out: Vec::new(),
            tasks: Vec::new(),
            committed: BTreeMap::new(),
            trouble: true,
        }
    }

    /// Loss of power: memory and late marks are gone.
    pub(super) fn crash(&mut self) {
        self.store.crash();
        self.forget();
    }

    pub(super) fn forget(&mut self) {
        self.conversations.clear();
        self.sessions.clear();
        self.short.clear();
        self.out.clear();
        self.tasks.clear();
    }

    /// The data directory is an older copy: entries above these heads are gone, and it is known.
    pub(super) fn roll_back(&mut self, keep: impl Fn(ConversationId, usize) -> usize) {
        self.forget();
        let old = std::mem::replace(&mut self.store, MemoryStore::new());
        let committed = std::mem::take(&mut self.committed);
        for (id, entries) in committed {
            let kept: Vec<Entry> = entries
                .iter()
                .take(keep(id, entries.len()))
                .cloned()
                .collect();
            if let Some(head) = kept.last().map(Entry::seq) {
                self.copy_log(&old, id, &kept, head);
                self.committed.insert(id, kept);
            }
        }
    }

    fn copy_log(&mut self, old: &MemoryStore, id: ConversationId, kept: &[Entry], head: Seq) {
        let log = LogId::conversation(id);
        let generation = Generation::new(self.now, self.chance.bytes());
        let mut members = MemberMap::new();
        let mut state = State::empty(generation);
        for entry in kept {
            let before = state.seq;
            tidings_core::apply(&mut state, &mut members, entry)
                .expect("a committed entry applies");
            let append = self.append_of(id, &state, &members, before, entry.clone(), Vec::new());
            ready(self.store.append(append)).expect("the copy is appended");
        }
        let erased: Vec<Seq> = kept
            .iter()
            .filter(|entry| entry.envelope.kind == tidings_core::Kind::Delete)
            .filter_map(|entry| entry.envelope.target)
            .collect();
        ready(self.store.erase(log, erased)).expect("the copy is erased");
        let trimmed = ready(old.head(log))
            .expect("heads are read")
            .map_or(0, |head| head.trimmed);
        ready(self.store.trim(log, trimmed)).expect("the copy is trimmed");
        let mut marks = ready(old.marks_of_log(log, None, usize::MAX)).expect("marks are read");
        marks.retain(|mark| {
            !matches!(
                mark.kind,
                MarkKind::Joined | MarkKind::Left | MarkKind::Head
            )
        });
        for mark in &mut marks {
            if mark.value.seq > head {
                let own = members
                    .get(&UserId(mark.owner))
                    .map_or(0, |member| member.own);
                mark.value = MarkValue {
                    seq: head,
                    ordinal: state.ordinal,
                    own,
                    at: state.at,
                };
            }
        }
        ready(
            self.store
                .raise_marks(marks, tidings_store::Durability::Now),
        )
        .expect("marks are copied");
    }

    pub(super) fn disconnected(&mut self, connection: u64) {
        self.sessions.remove(&connection);
        self.short.remove(&connection);
    }

    pub(super) fn caller(&self, connection: u64) -> Option<Caller> {
        self.sessions.get(&connection).copied()
    }

    /// A frame of a connection whose device is known (its token says so).
    pub(super) fn handle(&mut self, connection: u64, caller: Caller, frame: ClientFrame) {
        if let ClientFrame::Hello(hello) = frame {
            // Subscribed first, then the heads are read.
            self.sessions.insert(connection, caller);
            let delay = self.chance.below(40);
            self.tasks.push((delay, Task::Welcome(connection, hello)));
            return;
        }
        if !self.sessions.contains_key(&connection) {
            return;
        }
        match frame {
            ClientFrame::Send(send) => self.send(connection, caller, send, false),
            ClientFrame::Say(say) => {
                let request = say.id;
                match self.send_of(caller.user, say) {
                    Ok(send) => self.send(connection, caller, send, true),
                    Err(problem) => self.end(connection, request, problem),
                }
            }
            ClientFrame::Ping(ping) => {
                let digest = self.digest(caller.user);
                self.push(
                    connection,
                    ServerFrame::Pong(Pong {
                        id: ping.id,
                        digest,
                    }),
                );
            }
            ClientFrame::Typing(typing) => {
                let event = TypingEvent {
                    conversation: typing.conversation,
                    user: caller.user,
                    on: typing.on,
                };
                for user in self.present(typing.conversation) {
                    if user != caller.user {
                        self.push_user(user, &ServerFrame::Typing(event));
                    }
                }
            }
            ClientFrame::Watch(_) => {}
            request if self.chance.percent(50) => {
                // Slow: served as things are later.
                let delay = self.chance.below(120);
                self.tasks.push((delay, Task::Serve(connection, request)));
            }
            request => self.serve(connection, request),
        }
    }

    pub(super) fn task(&mut self, task: Task) {
        match task {
            Task::Serve(connection, frame) => self.serve(connection, frame),
            Task::Answer(connection, frame) => self.push(connection, frame),
            Task::Welcome(connection, hello) => self.welcome(connection, hello),
            Task::TellMarks(id) => self.tell_gathered(id),
        }
    }

    fn welcome(&mut self, connection: u64, hello: Hello) {
        let Some(caller) = self.caller(connection) else {
            return;
        };
        for update in hello.marks {
            let _ = self.mark(caller, update);
        }
        let short = hello.short && self.chance.percent(50);
        if short {
            self.short.insert(connection);
        }
        let digest = self.digest(caller.user);
        let welcome = Welcome {
            id: hello.id,
            user: caller.user,
            device: caller.device,
            at: self.now,
            heartbeat_ms: HEARTBEAT_MS,
            digest,
            rules: tidings_core::entry::RULES,
            server: "simulated".to_owned(),
            short,
        };
        self.push(connection, ServerFrame::Welcome(welcome));
    }

    /// Answers a request; sometimes the answer is under way for a while, and events overtake it.
    fn serve(&mut self, connection: u64, frame: ClientFrame) {
        let Some(caller) = self.caller(connection) else {
            return;
        };
        let id = frame.id();
        let answer = if self.trouble && self.chance.percent(3) {
            Err(Problem::rate_limited(
                "requests_per_second_max",
                self.chance.below(800),
            ))
        } else {
            self.answer(connection, caller, frame)
        };
        let frame = match (answer, id) {
            (Ok(frame), _) => frame,
            (Err(problem), id) => ServerFrame::Error(ErrorFrame { id, problem }),
        };
        if self.chance.percent(30) {
            let delay = self.chance.below(100);
            self.tasks.push((delay, Task::Answer(connection, frame)));
        } else {
            self.push(connection, frame);
        }
    }

    fn answer(
        &mut self,
        connection: u64,
        caller: Caller,
        frame: ClientFrame,
    ) -> Result<ServerFrame, Problem> {
        match frame {
            ClientFrame::Seen(seen) => {
                let update = self.mark_of(caller.user, &seen)?;
                self.knows = (!seen.tell).then_some(connection);
                let marked = self.mark(caller, update);
                self.knows = None;
                let id = seen.id.unwrap_or(0);
                marked.map(|()| ServerFrame::Done(Done { id }))
            }
            ClientFrame::Mark(raise) => {
                let mut first = Ok(());
                for update in raise.marks {
                    first = first.and(self.mark(caller, update));
                }
                first.map(|()| {
                    ServerFrame::Done(Done {
                        id: raise.id.unwrap_or(0),
                    })
                })
            }
            ClientFrame::Inbox(request) => self.inbox(caller, &request).map(ServerFrame::Inbox),
            ClientFrame::Conversation(request) => self
                .conversation(caller, &request)
                .map(Box::new)
                .map(ServerFrame::Conversation),
            ClientFrame::History(request) => {
                self.history(caller, &request).map(ServerFrame::History)
            }
            ClientFrame::Users(request) => {
                let known = request
                    .users
                    .iter()
                    .filter(|user| self.users.contains_key(user));
                let profile = |user: &UserId| Profile {
                    user: *user,
                    username: format!("user-{}", user.0[15]),
                    display_name: String::new(),
                    avatar: String::new(),
                };
                let users = known.map(profile).collect();
                Ok(ServerFrame::Users(Users {
                    id: request.id,
                    users,
                }))
            }
            _ => Err(Problem::new(Code::UnknownFrame)),
        }
    }

    /// Refuses what others must not overtake, and ends the session.
    fn end(&mut self, connection: u64, request: u64, problem: Problem) {
        let reason = problem.code;
        let id = Some(request);
        self.push(connection, ServerFrame::Error(ErrorFrame { id, problem }));
        let bye = Bye {
            reason,
            reconnect_after_ms: Some(self.chance.below(2_000)),
        };
        self.push(connection, ServerFrame::Bye(bye));
        self.disconnected(connection);
    }

    pub(super) fn push(&mut self, connection: u64, frame: ServerFrame) {
        if self.sessions.contains_key(&connection) {
            self.out.push((connection, frame));
        }
    }

    pub(super) fn push_user(&mut self, user: UserId, frame: &ServerFrame) {
        let sessions: Vec<u64> = self
            .sessions
            .iter()
            .filter(|(_, caller)| caller.user == user)
            .map(|(session, _)| *session)
            .collect();
        for session in sessions {
            if let Some(frame) = self.for_session(session, frame) {
                self.push(session, frame);
            }
        }
    }

    /// The conversation, read from the store if it is not in memory.
    pub(super) fn hot(&mut self, id: ConversationId) -> &mut Hot {
        if !self.conversations.contains_key(&id) {
            let hot = self.read_hot(id);
            self.conversations.insert(id, hot);
        }
        self.conversations
            .get_mut(&id)
            .expect("it was just put there")
    }

    pub(super) fn drop_hot(&mut self, id: ConversationId) {
        if let Some(hot) = self.conversations.remove(&id) {
            // Who was refused is remembered beside the state.
            self.hot(id).refused = hot.refused;
        }
    }

    fn read_hot(&mut self, id: ConversationId) -> Hot {
        let log = LogId::conversation(id);
        let head = ready(self.store.head(log)).expect("heads are read");
        let generation = match head {
            Some(head) => head.generation,
            None => Generation::new(self.now, self.chance.bytes()),
        };
        let mut hot = Hot {
            state: State::empty(generation),
            members: MemberMap::new(),
            marks: BTreeMap::new(),
            trimmed: head.map_or(0, |head| head.trimmed),
            untold: BTreeSet::new(),
            refused: BTreeMap::new(),
        };
        let committed = self.committed.get(&id).map_or(&[][..], Vec::as_slice);
        for entry in committed {
            tidings_core::apply(&mut hot.state, &mut hot.members, entry)
                .expect("a committed entry applies");
        }
        for mark in ready(self.store.marks_of_log(log, None, usize::MAX)).expect("marks are read") {
            let user = UserId(mark.owner);
            if !hot.members.contains_key(&user) {
                continue;
            }
            let marks = hot.marks.entry(user).or_default();
            match mark.kind {
                MarkKind::Delivered => marks.delivered = mark.value.seq,
                MarkKind::Read => marks.read = mark.value,
                MarkKind::Shown => marks.shown = mark.value.seq,
                _ => {}
            }
            marks.told = MemberMarks {
                delivered: marks.delivered,
                shown: marks.shown,
            };
        }
        hot
    }

    /// Those who are in.
    pub(super) fn present(&mut self, id: ConversationId) -> Vec<UserId> {
        let hot = self.hot(id);
        hot.members
            .iter()
            .filter(|(_, member)| member.is_in())
            .map(|(user, _)| *user)
            .collect()
    }

    pub(super) fn conversations_of(&mut self, user: UserId) -> Vec<ConversationId> {
        let all: Vec<ConversationId> = self.committed.keys().copied().collect();
        all.into_iter()
            .filter(|id| self.hot(*id).member_in(user).is_some())
            .collect()
    }

    pub(super) fn digest(&mut self, user: UserId) -> u64 {
        let ids = self.conversations_of(user);
        ids.into_iter()
            .fold(0, |sum, id| digest::add(sum, self.hot(id).part(id, user)))
    }

    /// Tells of the marks that have been gathered.
    fn tell_gathered(&mut self, id: ConversationId) {
        let untold: Vec<UserId> = std::mem::take(&mut self.hot(id).untold)
            .into_iter()
            .collect();
        if !untold.is_empty() {
            self.tell_marks(id, &untold, None);
        }
    }

    /// Gathers somebody's marks for a moment.
    pub(super) fn tell_soon(&mut self, id: ConversationId, user: UserId) {
        if self.hot(id).untold.insert(user) {
            self.tasks.push((50, Task::TellMarks(id)));
        }
    }

    /// Reads committed entries from the store.
    pub(super) fn read(
        &self,
        id: ConversationId,
        from: Seq,
        direction: Direction,
        limit: usize,
        want: Want,
    ) -> Vec<Entry> {
        let read = ReadLog {
            from,
            direction,
            limit,
            bytes_max: usize::MAX,
            want,
        };
        ready(self.store.read(LogId::conversation(id), read))
            .expect("entries are read")
            .entries
    }

    /// Under `until_delivered`: trims up to what every device of every member has.
    pub(super) fn trim(&mut self, id: ConversationId) {
        if self.hot(id).state.settings.retention != Retention::UntilDelivered {
            return;
        }
        let log = LogId::conversation(id);
        let mut lowest = Seq::MAX;
        for user in self.present(id) {
            for device in self.users.get(&user).cloned().unwrap_or_default() {
                let marks = ready(self.store.marks(log, device.0)).expect("marks are read");
                let mark = marks.iter().find(|mark| mark.kind == MarkKind::Device);
                lowest = lowest.min(mark.map_or(0, |mark| mark.value.seq));
            }
        }
        // Never on marks that are not durable.
        ready(self.store.flush()).expect("marks are flushed");
        let trimmed = ready(self.store.trim(log, lowest)).expect("the log is trimmed");
        self.hot(id).trimmed = trimmed;
    }

    pub(super) fn mark(&mut self, caller: Caller, update: MarkUpdate) -> Result<(), Problem> {
        super::marks::raise(self, caller, update)
    }
}

impl Hot {
    pub(super) fn member_in(&self, user: UserId) -> Option<&Member> {
        self.members.get(&user).filter(|member| member.is_in())
    }

    pub(super) fn marks_of(&self, user: UserId) -> UserMarks {
        self.marks.get(&user).copied().unwrap_or_default()
    }

    pub(super) fn tells_at_once(&self) -> bool {
        self.state.kind == ConversationKind::Direct
    }

    /// What it contributes to a user's digest.
    fn part(&self, id: ConversationId, user: UserId) -> u64 {
        let mut sum = digest::add(
            digest::head(id, self.state.generation, self.state.seq, self.state.at),
            digest::read(id, user, self.marks_of(user).read.seq),
        );
        for (other, _) in self
            .members
            .iter()
            .filter(|(other, member)| **other != user && member.is_in())
        {
            let told = self.marks_of(*other).told;
            sum = digest::add(sum, digest::delivered(id, *other, told.delivered));
            sum = digest::add(sum, digest::shown(id, *other, told.shown));
        }
        sum
    }
}
