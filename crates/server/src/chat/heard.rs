//! What the other servers of a cluster tell, and what they are told. Hints, all of it: what is lost is found by
//! the next look at the store ([`Chat::refresh`]).
//!
//! In: messages from `cluster`. Next: the sessions here, as if it had happened here (`publish`, `marks`).

use std::sync::Arc;

use tidings_core::entry::Entry;
use tidings_core::log::{Generation, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{ConversationId, Time, UserId};
use tidings_protocol::ServerFrame;
use tidings_protocol::presence::TypingEvent;

use super::level::TOUCHED_LANE;
use super::loaded::{Loaded, UserMarks};
use super::{Chat, Conversation};
use crate::session::Event;

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

    /// Whether this server is the one to look after what belongs to nobody in particular under this key.
    fn is_mine(&self, key: &[u8]) -> bool;
}

impl Chat {
    /// Says once, before the first request, that other servers share the store.
    pub fn set_others(&self, others: Arc<dyn Others>) {
        if self.others.set(others).is_err() {
            tracing::error!("the conversations were told twice who the other servers are");
        }
    }

    /// Whether other servers write to the store too.
    pub(super) fn is_shared(&self) -> bool {
        self.others.get().is_some()
    }

    /// Up to how many members heads are written to inboxes.
    pub(super) fn write_heads_members_max(&self) -> u32 {
        self.settings.write_heads_members_max
    }

    /// Tells the others of entries that were committed here. `gone`: who is out by them.
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
                value: MarkValue {
                    seq: at.0,
                    at,
                    ..MarkValue::default()
                },
            })
            .collect()
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
            }
            chat.forget_if_empty(conversation);
        });
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
                .is_none_or(|hub| hub.part(id) == loaded.part(id, user));
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
                && hub.part(id) != crate::hub::Part::default()
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
                session.push_event(&event);
            }
        }
    }

    fn in_memory(&self, id: ConversationId) -> Option<Arc<Conversation>> {
        self.shard(id).get(&id).cloned()
    }
}
