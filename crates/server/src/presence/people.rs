//! Until when each user is online: plain state without locks or clocks.

use std::collections::{BTreeSet, HashMap, HashSet};

use tidings_core::{Time, UserId};

use crate::cluster::{NodeId, Routes, Summary};

/// Times of going offline elsewhere that are remembered; the store has them all before long.
const SEEN_ELSEWHERE_MAX: usize = 100_000;

/// Everybody with a session, and those who lost theirs a moment ago.
#[derive(Debug, Default)]
pub(super) struct People {
    people: HashMap<UserId, Person>,
    /// When to look at whom. A heartbeat does not move an entry: who is found to be online still is looked
    /// at later again, so a heartbeat costs the same however many are online.
    looks: BTreeSet<(Time, UserId)>,
    /// At which other servers users are online.
    elsewhere: Routes,
    /// When users went offline at other servers.
    seen_elsewhere: HashMap<UserId, Time>,
}

#[derive(Debug, Default)]
struct Person {
    sessions: Vec<Alive>,
    /// Online until then though no session is.
    grace_ends: Time,
    /// As it was last told.
    online: bool,
    /// Where it stands in `looks`.
    look: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
struct Alive {
    session: u64,
    /// How long a heartbeat lasts.
    lasts_ms: u64,
    /// Without another one the session is alive until then.
    until: Time,
}

impl Person {
    fn until(&self) -> Time {
        let sessions = self.sessions.iter().map(|alive| alive.until).max();
        sessions.unwrap_or_default().max(self.grace_ends)
    }
}

impl People {
    /// A session was opened. Answers whether the user came online by it.
    pub(super) fn opened(&mut self, user: UserId, session: u64, lasts_ms: u64, now: Time) -> bool {
        let person = self.people.entry(user).or_default();
        // Mostly it is the only one: no room for more.
        person.sessions.reserve_exact(1);
        person.sessions.push(Alive {
            session,
            lasts_ms,
            until: now.plus_millis(lasts_ms),
        });
        self.settle(user)
    }

    /// A heartbeat came. Answers whether the user came online by it.
    pub(super) fn beat(&mut self, user: UserId, session: u64, now: Time) -> bool {
        let Some(person) = self.people.get_mut(&user) else {
            return false;
        };
        for alive in &mut person.sessions {
            if alive.session == session {
                alive.until = now.plus_millis(alive.lasts_ms);
            }
        }
        if person.online {
            return false;
        }
        self.settle(user)
    }

    /// A session ended. Its user stays online until `grace_ends`, but no longer than with the session.
    pub(super) fn closed(&mut self, user: UserId, session: u64, grace_ends: Time) {
        let Some(person) = self.people.get_mut(&user) else {
            return;
        };
        let Some(index) = person
            .sessions
            .iter()
            .position(|alive| alive.session == session)
        else {
            return;
        };
        let closed = person.sessions.swap_remove(index);
        person.grace_ends = person.grace_ends.max(grace_ends.min(closed.until));
        if person.online {
            self.settle(user);
        } else if person.sessions.is_empty() {
            self.people.remove(&user);
        }
    }

    /// Whether a session is open.
    pub(super) fn is_open(&self, user: UserId, session: u64) -> bool {
        self.people.get(&user).is_some_and(|person| {
            let mut sessions = person.sessions.iter();
            sessions.any(|alive| alive.session == session)
        })
    }

    /// Whether a user is online.
    pub(super) fn is_online(&self, user: UserId, now: Time) -> bool {
        self.elsewhere.has(user) || self.is_online_here(user, now)
    }

    /// Whether a user is online by a session at this server.
    pub(super) fn is_online_here(&self, user: UserId, now: Time) -> bool {
        self.people
            .get(&user)
            .is_some_and(|person| person.until() > now)
    }

    /// A user came online at another server or went offline there.
    pub(super) fn heard(&mut self, node: NodeId, user: UserId, on: bool, last_seen: Time) {
        if on {
            self.elsewhere.came(node, user);
        } else {
            self.elsewhere.went(node, user);
            if self.seen_elsewhere.len() >= SEEN_ELSEWHERE_MAX {
                self.seen_elsewhere.clear();
            }
            let seen = self.seen_elsewhere.entry(user).or_default();
            *seen = last_seen.max(*seen);
        }
    }

    /// When a user went offline at another server, if that is not long ago.
    pub(super) fn seen_elsewhere(&self, user: UserId) -> Option<Time> {
        self.seen_elsewhere.get(&user).copied()
    }

    /// A server is gone: nobody is online there.
    pub(super) fn lose(&mut self, node: NodeId, changed: &mut HashSet<UserId>) {
        changed.extend(self.elsewhere.clear(node));
    }

    /// Whether what is known of a server is what it says of those who are online there.
    pub(super) fn agrees(&self, node: NodeId, summary: Summary) -> bool {
        self.elsewhere.agrees(node, summary)
    }

    /// Adds those who went offline to `changed`.
    pub(super) fn expire(&mut self, now: Time, changed: &mut HashSet<UserId>) {
        while let Some(&(look, user)) = self.looks.first()
            && look <= now
        {
            self.looks.pop_first();
            let Some(person) = self.people.get_mut(&user) else {
                continue;
            };
            person.look = None;
            if person.until() > now {
                self.settle(user);
                continue;
            }
            person.online = false;
            changed.insert(user);
            if person.sessions.is_empty() {
                self.people.remove(&user);
            }
        }
    }

    /// Somebody is online: notes when to look again. Answers whether that is news.
    fn settle(&mut self, user: UserId) -> bool {
        let Some(person) = self.people.get_mut(&user) else {
            return false;
        };
        let until = person.until();
        if person.look.is_none_or(|look| until < look) {
            if let Some(look) = person.look {
                self.looks.remove(&(look, user));
            }
            self.looks.insert((until, user));
            person.look = Some(until);
        }
        !std::mem::replace(&mut person.online, true)
    }
}
