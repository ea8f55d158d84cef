//! Who is there: profiles, presence, typing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidings_core::{ConversationId, UserId};
use tidings_protocol::ClientFrame;
use tidings_protocol::presence::{Presence, Profile, Typing, TypingEvent, Users, UsersRequest};

use crate::client::Client;
use crate::clock::Tick;
use crate::output::{Change, Output};
use crate::requests::Request;
use crate::rows::{self, ProfileRow};
use crate::store::Table;
use crate::view::PresenceView;

/// Somebody is typing in so many places at most, as far as we care.
const TYPING_MAX: usize = 1_000;
/// Profiles that are wanted at a time.
const WANTED_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub(crate) struct People {
    pub(crate) profiles: BTreeMap<UserId, ProfileRow>,
    /// To be asked for.
    pub(crate) wanted: BTreeSet<UserId>,
    /// Asked for since the connection was made.
    asked: BTreeSet<UserId>,
    pub(crate) lookups: VecDeque<String>,
    pub(crate) watched: Vec<UserId>,
    pub(crate) presences: BTreeMap<UserId, PresenceView>,
    typing: BTreeMap<(ConversationId, UserId), Tick>,
    /// When the server was told last that the user is typing there.
    told_typing: Option<(ConversationId, Tick)>,
}

impl People {
    pub(crate) fn disconnected(&mut self) {
        self.asked.clear();
        self.presences.clear();
        self.typing.clear();
        self.told_typing = None;
    }

    pub(crate) fn typing_in(&self, id: ConversationId) -> Vec<UserId> {
        let from = (id, UserId([0; 16]));
        let here = self
            .typing
            .range(from..)
            .take_while(|((place, _), _)| *place == id);
        here.map(|((_, user), _)| *user).collect()
    }
}

impl Client {
    /// Somebody's profile is shown: it is asked for if it is not known, or old.
    pub(crate) fn need_profile(&mut self, user: UserId) {
        let (now, fresh) = (self.clock.wall(), self.config.limits.profile_fresh_ms);
        let people = &mut self.people;
        let known = people.profiles.get(&user);
        let is_fresh = known.is_some_and(|known| now.millis_since(known.fetched) < fresh);
        if !is_fresh && people.wanted.len() < WANTED_MAX && !people.asked.contains(&user) {
            people.wanted.insert(user);
        }
    }

    pub(crate) fn pump_people(&mut self) {
        let now = self.clock.tick();
        let over: Vec<(ConversationId, UserId)> = self
            .people
            .typing
            .iter()
            .filter(|(_, until)| **until <= now)
            .map(|(place, _)| *place)
            .collect();
        for place in over {
            self.people.typing.remove(&place);
            self.touch(place.0);
        }
        if !self.link.is_up() {
            return;
        }
        while let Some(username) = self.people.lookups.pop_front() {
            let id = self.requests.begin(Request::LookUp(username.clone()), now);
            let request = UsersRequest {
                id,
                users: Vec::new(),
                usernames: vec![username],
            };
            self.outputs
                .push_back(Output::Send(ClientFrame::Users(request)));
        }
        if self.people.wanted.is_empty()
            || self
                .requests
                .count(|request| matches!(request, Request::Users(_)))
                > 0
        {
            return;
        }
        let users: Vec<UserId> = self
            .people
            .wanted
            .iter()
            .take(self.config.limits.profiles_request_max)
            .copied()
            .collect();
        for user in &users {
            self.people.wanted.remove(user);
            self.people.asked.insert(*user);
        }
        let id = self.requests.begin(Request::Users(users.clone()), now);
        let request = UsersRequest {
            id,
            users,
            usernames: Vec::new(),
        };
        self.outputs
            .push_back(Output::Send(ClientFrame::Users(request)));
    }

    pub(crate) fn handle_users(&mut self, answer: Users) {
        let is_users =
            |request: &Request| matches!(request, Request::Users(_) | Request::LookUp(_));
        let Some(request) = self.requests.end_if(answer.id, is_users) else {
            return;
        };
        let found = answer.users.first().map(|profile| profile.user);
        for profile in answer
            .users
            .into_iter()
            .take(self.config.limits.profiles_request_max)
        {
            self.take_profile(profile);
        }
        if let Request::LookUp(username) = request {
            self.changes.push_back(Change::LookedUp {
                username,
                user: found,
            });
        }
    }

    fn take_profile(&mut self, profile: Profile) {
        let user = profile.user;
        let row = ProfileRow {
            profile,
            fetched: self.clock.wall(),
        };
        self.storage
            .put(Table::Profiles, user.0.to_vec(), rows::encode(&row));
        let before = self.people.profiles.insert(user, row.clone());
        if before.is_some_and(|before| before.profile == row.profile) {
            return;
        }
        self.changes.push_back(Change::Profile(user));
        let named: Vec<ConversationId> = self
            .conversations
            .values()
            .filter(|known| known.other == Some(user))
            .map(|known| known.id)
            .collect();
        for id in named {
            self.touch(id);
        }
    }

    pub(crate) fn handle_presence(&mut self, presence: &Presence) {
        if !self.people.watched.contains(&presence.user) {
            return;
        }
        let view = PresenceView {
            online: presence.online,
            last_seen: presence.last_seen,
        };
        self.people.presences.insert(presence.user, view);
        self.changes.push_back(Change::Presence(presence.user));
        let direct = tidings_core::id::direct_id(self.config.user, presence.user);
        self.touch(direct);
    }

    pub(crate) fn handle_typing(&mut self, event: &TypingEvent) {
        let place = (event.conversation, event.user);
        if event.on && event.user != self.config.user && self.people.typing.len() < TYPING_MAX {
            let until = self.clock.tick() + self.config.limits.typing_ms;
            self.people.typing.insert(place, until);
            self.need_profile(event.user);
        } else {
            self.people.typing.remove(&place);
        }
        self.touch(event.conversation);
    }

    /// Who has said something has stopped typing.
    pub(crate) fn stopped_typing(&mut self, id: ConversationId, user: UserId) {
        if self.people.typing.remove(&(id, user)).is_some() {
            self.touch(id);
        }
    }

    pub(crate) fn tell_typing(&mut self, id: ConversationId, on: bool) {
        let now = self.clock.tick();
        let told = self.people.told_typing;
        let is_told = told.is_some_and(|(place, at)| {
            place == id && now.saturating_sub(at) < self.config.limits.typing_repeat_ms
        });
        let wanted = if on {
            !is_told
        } else {
            told.is_some_and(|(place, _)| place == id)
        };
        let known = self.conversations.get(&id).is_some_and(|known| known.is_in);
        if !wanted || !self.link.is_up() || !known {
            return;
        }
        self.people.told_typing = on.then_some((id, now));
        self.outputs
            .push_back(Output::Send(ClientFrame::Typing(Typing {
                conversation: id,
                on,
            })));
    }

    pub(crate) fn people_timeout(&self) -> Option<Tick> {
        self.people.typing.values().copied().min()
    }
}
