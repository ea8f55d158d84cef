//! What the other servers of a cluster tell, and what they are told. Hints, all of it: what is lost is found by
//! the next look at the store ([`Chat::refresh`]).
//!
//! In: messages from `cluster`. Next: the sessions here, as if it had happened here (`publish`, `marks`).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_core::entry::Entry;
use tidings_core::log::{Generation, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{ConversationId, Time, UserId};
use tidings_protocol::presence::TypingEvent;
use tidings_protocol::send::Sent;
use tidings_protocol::{Code, Problem, ServerFrame};
use tokio::sync::oneshot;

use super::level::{TOUCHED_LANE, page_from, touched_at};
use super::loaded::{Loaded, UserMarks};
use super::queue::Queued;
use super::{Chat, Conversation};
use crate::cluster::encode_send;
use crate::metrics::Forwarded as Ended;
use crate::session::{Caller, Event};
use crate::trace::Context;

/// For so long the answer of another server is waited for.
const FORWARDED_FOR: Duration = Duration::from_millis(2_000);

/// How far somebody's marks are, as one server tells the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarksNews {
    /// In which conversation.
    pub conversation: ConversationId,
    /// In which life of it.
    pub generation: Generation,
    /// Whose.
    pub user: UserId,
    /// As far as the user has received.
    pub delivered: Seq,
    /// As far as others may see that the user has read.
    pub shown: Seq,
    /// As far as the user has read: told to the user's own sessions alone.
    pub read: Option<MarkValue>,
    /// When.
    pub at: Time,
}

/// A send that is handed to another server: whose, its frame as `cluster` encodes it, and the trace that it belongs to.
pub type Handed = (Caller, Vec<u8>, Option<Context>);

/// How another server answers sends, in their order. Nothing: it is not known what became of them.
pub type Forwarded = oneshot::Receiver<Vec<Result<Sent, Problem>>>;

/// The other servers that share the store.
pub trait Others: Send + Sync + 'static {
    /// Entries are committed: tells the servers at which these users have sessions.
    fn tell_entries(
        &self,
        conversation: ConversationId,
        generation: Generation,
        entries: &[Entry],
        users: &mut dyn Iterator<Item = UserId>,
    );

    /// Entries were committed that were not told: these users' servers should look at the log.
    fn tell_look(&self, conversation: ConversationId, users: &mut dyn Iterator<Item = UserId>);

    /// Marks rose.
    fn tell_marks(&self, news: MarksNews, users: &mut dyn Iterator<Item = UserId>);

    /// Somebody is typing, or no longer.
    fn tell_typing(
        &self,
        conversation: ConversationId,
        user: UserId,
        on: bool,
        users: &mut dyn Iterator<Item = UserId>,
    );

    /// Whether this server may take sends now.
    fn takes_sends(&self) -> bool;

    /// Whether it cannot be agreed now which server appends to a conversation.
    fn cannot_agree(&self) -> bool;

    /// Hands sends of a conversation to the server that has it in memory. `None`: it is this one, or `frames`
    /// gives none.
    fn forward(
        &self,
        conversation: ConversationId,
        frames: &dyn Fn() -> Option<Vec<Handed>>,
    ) -> Option<Forwarded>;

    /// Whether this server is the one to look after what belongs to nobody in particular under this key.
    fn is_mine(&self, key: &[u8]) -> bool;
}

/// The sends of a batch as they are handed over; none if one of them must stay.
///
/// What is refused for now is remembered here, where the device is connected, and nothing in the batch is behind
/// any of it. The other server may remember a refusal that was worked on here since: so the first send of each
/// device says that there is nothing before it.
fn frames_of(batch: &[Queued]) -> Option<Vec<Handed>> {
    let mut devices = HashSet::new();
    let frames = batch.iter().map(|queued| {
        let caller = Caller {
            user: queued.command.author,
            device: queued.command.device,
        };
        let mut frame = queued.frame.as_deref()?.clone();
        frame.first |= devices.insert(caller.device);
        let trace = queued.trace.as_ref().map(|trace| trace.context());
        Some((caller, encode_send(frame)?, trace))
    });
    frames.collect()
}

impl Chat {
    /// Says once, before the first request, that other servers share the store.
    pub fn set_others(&self, others: Arc<dyn Others>) {
        if self.others.set(others).is_err() {
            tracing::error!("the conversations were told twice who the other servers are");
        }
    }

    /// Whether other servers write to the store too.
    pub(crate) fn is_shared(&self) -> bool {
        self.others.get().is_some()
    }

    /// Up to how many members heads are written to inboxes.
    pub(super) fn write_heads_members_max(&self) -> u32 {
        self.settings.write_heads_members_max
    }

    /// Tells the others of entries that are committed, also those who are out by them.
    pub(super) fn tell_entries(
        &self,
        conversation: &Conversation,
        loaded: &Loaded,
        entries: &[Entry],
    ) {
        let Some(others) = self.others.get() else {
            return;
        };
        let gone = entries.iter().flat_map(super::loaded::subjects);
        let mut users = loaded.present().map(|(user, _)| user).chain(gone);
        others.tell_entries(
            conversation.id,
            loaded.state.generation,
            entries,
            &mut users,
        );
    }

    /// Tells the others to look at the log.
    pub(super) fn tell_look(&self, conversation: &Conversation, loaded: &Loaded) {
        if let Some(others) = self.others.get() {
            let mut users = loaded.present().map(|(user, _)| user);
            others.tell_look(conversation.id, &mut users);
        }
    }

    /// Tells the others how far somebody is now.
    pub(super) fn tell_marks(
        &self,
        conversation: &Conversation,
        loaded: &Loaded,
        user: UserId,
        at: Time,
    ) {
        let Some(others) = self.others.get() else {
            return;
        };
        let marks = loaded.marks_of(user);
        let news = MarksNews {
            conversation: conversation.id,
            generation: loaded.state.generation,
            user,
            delivered: marks.delivered,
            shown: marks.shown,
            read: None,
            at,
        };
        let mut users = loaded.present().map(|(user, _)| user);
        others.tell_marks(news, &mut users);
    }

    /// Tells the user's own sessions elsewhere how far it has read.
    pub(super) fn tell_read(
        &self,
        conversation: &Conversation,
        loaded: &Loaded,
        user: UserId,
        read: MarkValue,
    ) {
        let Some(others) = self.others.get() else {
            return;
        };
        let news = MarksNews {
            conversation: conversation.id,
            generation: loaded.state.generation,
            user,
            delivered: 0,
            shown: 0,
            read: Some(read),
            at: read.at,
        };
        others.tell_marks(news, &mut std::iter::once(user));
    }

    /// The marks by which members' inboxes say that something besides the head moved: found by servers that
    /// were not told.
    pub(super) fn touches(
        &self,
        conversation: &Conversation,
        loaded: &Loaded,
        by: UserId,
        others_too: bool,
        own_too: bool,
        at: Time,
    ) -> Vec<Mark> {
        if !self.is_shared() || !loaded.tells_marks() {
            return Vec::new();
        }
        let concerned = loaded
            .present()
            .map(|(user, _)| user)
            .filter(|user| match *user == by {
                true => own_too,
                false => others_too,
            });
        concerned
            .map(|user| Mark {
                log: conversation.log(),
                owner: user.0,
                kind: MarkKind::Head,
                lane: TOUCHED_LANE,
                value: touched_at(at),
            })
            .collect()
    }

    /// Hands a batch to the server that has the conversation; gives it back if that is this one, or if it must be
    /// worked on here: what came from there already, and what is behind a send that was refused here.
    pub(super) fn forward(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        batch: Vec<Queued>,
    ) -> Option<Vec<Queued>> {
        let Some(others) = self.others.get() else {
            return Some(batch);
        };
        let is_held_up = {
            let queue = conversation.queue();
            batch.iter().any(|queued| queue.refused.is_behind(queued))
        };
        if is_held_up {
            return Some(batch);
        }
        let Some(answered) = others.forward(conversation.id, &|| frames_of(&batch)) else {
            return Some(batch);
        };
        tokio::spawn(
            self.clone()
                .forwarded(conversation.clone(), batch, answered),
        );
        None
    }

    /// Waits for another server's answers to a batch. Without them the batch is worked on here.
    async fn forwarded(
        self: Arc<Self>,
        conversation: Arc<Conversation>,
        batch: Vec<Queued>,
        answered: Forwarded,
    ) {
        let handed_over = Instant::now();
        let answers = tokio::time::timeout(FORWARDED_FOR, answered).await;
        self.trace_forward(&batch, handed_over);
        // It is about to go, or of an earlier version: this server can do what that one cannot.
        let is_for_here = |answer: &Result<Sent, Problem>| {
            answer
                .as_ref()
                .is_err_and(|problem| matches!(problem.code, Code::Draining | Code::UpdateNeeded))
        };
        match answers {
            Ok(Ok(answers)) if answers.len() == batch.len() && !answers.iter().any(is_for_here) => {
                self.metrics.forwarded(Ended::Answered, batch.len());
                for (queued, answer) in batch.into_iter().zip(answers) {
                    let settled = answer.as_ref().map(|_| ());
                    conversation.queue().refused.settled(&queued, settled);
                    self.answer(queued.reply, queued.command.client_id, answer);
                }
                self.ready_again(conversation);
            }
            answers => {
                let ended = match answers {
                    Ok(Ok(_)) => Ended::GivenBack,
                    _ => Ended::Unanswered,
                };
                self.metrics.forwarded(ended, batch.len());
                self.drive(conversation, batch, true).await;
            }
        }
    }

    /// Another server committed something in a conversation that did not fit into a message.
    pub fn heard_of(self: &Arc<Self>, id: ConversationId) {
        if let Some(conversation) = self.in_memory(id) {
            let chat = self.clone();
            tokio::spawn(async move { chat.catch_up(&conversation).await.map(|_| ()) });
        }
    }

    /// Another server committed entries.
    pub fn heard_entries(
        self: &Arc<Self>,
        id: ConversationId,
        generation: Generation,
        entries: Vec<Entry>,
    ) {
        let Some(first) = entries.first().map(Entry::seq) else {
            return;
        };
        let conversation = self.hot(id);
        let follows = conversation.try_loaded().is_some_and(|loaded| {
            let state = &loaded.state;
            state.seq > 0 && state.generation == generation && first <= state.seq + 1
        });
        if follows {
            if let Some(mut loaded) = conversation.try_loaded() {
                let is_news = entries
                    .last()
                    .is_some_and(|last| last.seq() > loaded.state.seq);
                loaded.was_settled(&entries);
                drop(loaded);
                if is_news {
                    conversation.queue().turns.met();
                }
            }
            return self.apply_committed(&conversation, &entries);
        }
        let chat = self.clone();
        tokio::spawn(async move {
            let was_known = conversation
                .try_loaded()
                .is_some_and(|loaded| loaded.state.seq > 0);
            if let Err(problem) = chat.catch_up(&conversation).await {
                tracing::warn!(conversation = %id, code = problem.code.name(), "news wait for the next look");
            } else if !was_known {
                chat.announce_all(&conversation);
                chat.push_heard(&conversation, entries).await;
            }
            chat.forget_if_empty(conversation);
        });
    }

    /// What was heard of a conversation that was not in memory, and what came while it was read: it is announced, and
    /// need not be asked for.
    async fn push_heard(&self, conversation: &Conversation, mut entries: Vec<Entry>) {
        let last = entries.last().map_or(0, Entry::seq);
        let is_behind = |loaded: &Loaded| last < loaded.state.seq;
        if conversation
            .try_loaded()
            .is_some_and(|loaded| is_behind(&loaded))
        {
            let page = self
                .store
                .read(conversation.log(), page_from(last + 1))
                .await;
            // A hint, like all that is told: who misses it finds it by its heartbeat.
            entries.extend(page.into_iter().flat_map(|page| page.entries));
        }
        let Some(mut loaded) = conversation.try_loaded() else {
            return;
        };
        // Nobody is told what was before they came, nor anything twice.
        let told = loaded.pushed.max(loaded.state.membership_seq);
        entries.retain(|entry| (told + 1..=loaded.state.seq).contains(&entry.seq()));
        self.push_entries(conversation.id, &loaded, &entries, &mut []);
        loaded.pushed = loaded.state.seq;
    }

    /// A conversation that was not in memory is there: the sessions here may not know of it.
    fn announce_all(&self, conversation: &Conversation) {
        let Some(loaded) = conversation.try_loaded() else {
            return;
        };
        let id = conversation.id;
        for (user, _) in loaded.present() {
            let is_known = self
                .hub
                .user(user)
                .is_none_or(|hub| hub.part(loaded.place(id)) == loaded.part(id, user));
            if !is_known {
                self.announce(id, &loaded, user, true);
            }
        }
        for hub_user in loaded
            .members
            .keys()
            .filter(|user| loaded.member_in(**user).is_none())
        {
            if let Some(hub) = self.hub.user(*hub_user)
                && hub.part(loaded.place(id)) != crate::hub::Part::default()
            {
                self.announce_gone(id, &loaded, *hub_user);
            }
        }
    }

    /// Another server was told how far somebody is.
    pub fn heard_marks(self: &Arc<Self>, news: MarksNews) {
        let Some(conversation) = self.in_memory(news.conversation) else {
            return;
        };
        let marks = UserMarks {
            delivered: news.delivered,
            shown: news.shown,
            read: news.read.unwrap_or_default(),
            ..UserMarks::default()
        };
        let highest = marks.delivered.max(marks.shown).max(marks.read.seq);
        let is_level = {
            let Some(mut loaded) = conversation.try_loaded() else {
                return;
            };
            if loaded.state.generation != news.generation {
                return;
            }
            let is_level = highest <= loaded.state.seq;
            if is_level {
                self.merge_marks(&conversation, &mut loaded, news.user, marks, news.at);
            }
            is_level
        };
        if !is_level {
            // Of an entry that has not come yet.
            let chat = self.clone();
            tokio::spawn(async move {
                if chat.catch_up(&conversation).await.is_ok()
                    && let Some(mut loaded) = conversation.try_loaded()
                {
                    chat.merge_marks(&conversation, &mut loaded, news.user, marks, news.at);
                }
            });
        }
    }

    /// Somebody is typing at another server.
    pub fn heard_typing(&self, id: ConversationId, user: UserId, on: bool) {
        let Some(conversation) = self.in_memory(id) else {
            return;
        };
        if let Some(loaded) = conversation.try_loaded()
            && loaded.member_in(user).is_some()
        {
            self.push_typing(id, &loaded, user, on);
        }
    }

    /// Tells the sessions here that somebody is typing.
    pub(super) fn push_typing(&self, id: ConversationId, loaded: &Loaded, by: UserId, on: bool) {
        let event = Event::new(ServerFrame::Typing(TypingEvent {
            conversation: id,
            user: by,
            on,
        }));
        if loaded.tells_marks() {
            for (user, _) in loaded.present() {
                if user != by
                    && let Some(hub) = self.hub.user(user)
                {
                    hub.push(&event, None);
                }
            }
        } else {
            for session in loaded
                .lookers
                .values()
                .filter(|session| session.caller.user != by)
            {
                session.push_event(&event, false);
            }
        }
    }

    pub(super) fn in_memory(&self, id: ConversationId) -> Option<Arc<Conversation>> {
        self.shard(id).get(&id).cloned()
    }
}
