//! Who is online, and who was last seen when.
//!
//! A user is online while one of its sessions is alive: from its opening until `offline_after_ms` after the
//! session's own heartbeat interval has passed without one. When a session closes, cleanly or not, the user
//! stays online for `drop_grace_ms`, so that a short drop does not flicker. All of it is soft state: it
//! begins anew with the process, and only the last-seen times are written, late ([`Users::touch`]).
//!
//! Sessions and heartbeats come in through the gateway; changes go out to the sessions that watch the
//! user, as far as both users' privacy lets them ([`Presence::watch`]). A state is read and queued under
//! one lock, so what a session was told last is how it is.

mod people;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tidings_core::{Time, UserId};
use tidings_protocol::account::Audience;
use tidings_protocol::presence;
use tidings_protocol::{Problem, ServerFrame};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::cluster::{Cluster, NodeId, Summary};
use crate::config::PresenceSettings;
use crate::hub::Hub;
use crate::session::Session;
use crate::users::Users;

use people::People;

/// Who is online, and who watches whom.
pub struct Presence {
    hub: Arc<Hub>,
    users: Arc<Users>,
    clock: Clock,
    settings: PresenceSettings,
    inner: Mutex<Inner>,
    /// Something is to be told.
    wake: Notify,
    /// The other servers, where several share the store.
    cluster: OnceLock<Arc<Cluster>>,
}

#[derive(Default)]
struct Inner {
    people: People,
    /// The open sessions that watch somebody.
    watching: HashMap<u64, Watching>,
    /// The sessions that watch a user.
    watchers: HashMap<UserId, BTreeSet<u64>>,
    /// Users whose watchers are to be told.
    changed_users: HashSet<UserId>,
    /// Sessions that are to be told about everybody they watch.
    changed_sessions: HashSet<u64>,
    /// Those of whom the other servers know that they are online here.
    told_online: HashSet<UserId>,
}

struct Watching {
    session: Arc<Session>,
    users: Vec<UserId>,
}

impl Presence {
    /// Nobody is online yet.
    #[must_use]
    pub fn new(
        hub: Arc<Hub>,
        users: Arc<Users>,
        clock: Clock,
        settings: PresenceSettings,
    ) -> Arc<Presence> {
        Arc::new(Presence {
            hub,
            users,
            clock,
            settings,
            inner: Mutex::default(),
            wake: Notify::new(),
            cluster: OnceLock::new(),
        })
    }

    /// Says once, before the first session, that there are other servers.
    pub fn set_cluster(&self, cluster: Arc<Cluster>) {
        if self.cluster.set(cluster).is_err() {
            tracing::error!("presence was told twice who the other servers are");
        }
    }

    /// A user came online at another server or went offline there.
    pub fn heard(&self, node: NodeId, user: UserId, on: bool, last_seen: Time) {
        let mut inner = self.lock();
        inner.people.heard(node, user, on, last_seen);
        inner.changed_users.insert(user);
        drop(inner);
        self.wake.notify_one();
    }

    /// Another server is gone.
    pub fn lose(&self, node: NodeId) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.people.lose(node, &mut inner.changed_users);
        drop(guard);
        self.wake.notify_one();
    }

    /// Part of those who are online at another server, if it was asked for all of them; the first part begins anew.
    pub(crate) fn heard_all(&self, node: NodeId, is_first: bool, users: Vec<UserId>) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if is_first {
            inner.people.lose(node, &mut inner.changed_users);
        }
        for user in users {
            inner.people.heard(node, user, true, Time(0));
            inner.changed_users.insert(user);
        }
        drop(guard);
        self.wake.notify_one();
    }

    /// Whether what is known of a server is what it says of those who are online there.
    pub(crate) fn agrees(&self, node: NodeId, summary: Summary) -> bool {
        self.lock().people.agrees(node, summary)
    }

    /// A session was opened; its client was told to send a heartbeat every `heartbeat_ms`.
    pub fn session_opened(&self, session: &Arc<Session>, heartbeat_ms: u64) {
        let user = session.caller.user;
        let lasts_ms = heartbeat_ms.saturating_add(self.settings.offline_after_ms);
        let mut inner = self.lock();
        if inner
            .people
            .opened(user, session.id, lasts_ms, self.clock.now())
        {
            inner.changed_users.insert(user);
            self.wake.notify_one();
        }
        drop(inner);
        self.users.touch(session.caller);
    }

    /// A heartbeat came over a session.
    pub fn heartbeat(&self, session: &Session) {
        let user = session.caller.user;
        let mut inner = self.lock();
        if inner.people.beat(user, session.id, self.clock.now()) {
            inner.changed_users.insert(user);
            self.wake.notify_one();
        }
        drop(inner);
        self.users.touch(session.caller);
    }

    /// A session has ended, cleanly or not.
    pub fn session_closed(&self, session: &Session) {
        let now = self.clock.now();
        let grace_ends = now.plus_millis(self.settings.drop_grace_ms);
        let mut inner = self.lock();
        inner.unwatch(session.id);
        inner
            .people
            .closed(session.caller.user, session.id, grace_ends);
        drop(inner);
        // A session that is closed because its device was logged out says nothing about its user.
        if session.closed() != Some(tidings_protocol::Code::Revoked) {
            self.users.touch(session.caller);
        }
    }

    /// From now on a session watches these users, and nobody else: it is told how each is, and then
    /// whenever that changes.
    ///
    /// # Errors
    /// `too_much`.
    pub async fn watch(
        self: &Arc<Self>,
        session: &Arc<Session>,
        mut users: Vec<UserId>,
    ) -> Result<(), Problem> {
        let max = self.settings.watched_users_max;
        if users.len() > max {
            return Err(Problem::too_much("watched_users_max", max as u64));
        }
        users.sort_unstable();
        users.dedup();
        {
            let mut inner = self.lock();
            if !inner.people.is_open(session.caller.user, session.id) {
                // It has closed meanwhile.
                return Ok(());
            }
            inner.unwatch(session.id);
            for user in &users {
                inner.watchers.entry(*user).or_default().insert(session.id);
            }
            if !users.is_empty() {
                let watching = Watching {
                    session: session.clone(),
                    users: users.clone(),
                };
                inner.watching.insert(session.id, watching);
            }
        }
        for user in users {
            self.tell(session, user).await;
        }
        Ok(())
    }

    /// How these users are, as far as `reader` may know.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn of(
        &self,
        reader: UserId,
        users: &[UserId],
    ) -> Result<Vec<presence::Presence>, Problem> {
        let mut answers = Vec::with_capacity(users.len());
        for user in users {
            let visible = self.is_visible(reader, *user).await?;
            let last_seen = if visible {
                let stored = self.users.last_seen(*user).await?;
                stored.max(stored.and(self.lock().people.seen_elsewhere(*user)))
            } else {
                None
            };
            let online = visible && self.lock().people.is_online(*user, self.clock.now());
            answers.push(presence::Presence {
                user: *user,
                online,
                last_seen: last_seen.filter(|_| !online),
            });
        }
        Ok(answers)
    }

    /// A user changed who may see it: its watchers are told, and its own sessions, which may see more or
    /// less of others now.
    pub fn visibility_changed(&self, user: UserId) {
        let sessions = self.hub.user(user).map(|hub| hub.sessions());
        let mut inner = self.lock();
        inner.changed_users.insert(user);
        let sessions = sessions.into_iter().flatten();
        inner
            .changed_sessions
            .extend(sessions.map(|session| session.id));
        drop(inner);
        self.wake.notify_one();
    }

    /// Tells what changes, for as long as the server runs. Spawn it once.
    pub async fn keep(self: Arc<Self>) {
        let mut look = tokio::time::interval(Duration::from_millis(self.settings.look_ms.max(1)));
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = self.wake.notified() => {}
            }
            self.tell_changes().await;
        }
    }

    /// Looks who went offline and tells everybody concerned.
    async fn tell_changes(&self) {
        let (users, sessions) = {
            let mut guard = self.lock();
            let inner = &mut *guard;
            inner
                .people
                .expire(self.clock.now(), &mut inner.changed_users);
            (
                std::mem::take(&mut inner.changed_users),
                std::mem::take(&mut inner.changed_sessions),
            )
        };
        for user in users {
            if let Some(cluster) = self.cluster.get() {
                self.tell_elsewhere(cluster, user).await;
            }
            let watchers = self.lock().watchers_of(user);
            for session in watchers {
                self.tell(&session, user).await;
            }
        }
        for id in sessions {
            let watching = self.lock().watching.get(&id).map(Watching::both);
            let Some((session, users)) = watching else {
                continue;
            };
            for user in users {
                self.tell(&session, user).await;
            }
        }
    }

    /// Tells the other servers how a user is here, if that is news.
    async fn tell_elsewhere(&self, cluster: &Cluster, user: UserId) {
        let on = {
            let mut guard = self.lock();
            let inner = &mut *guard;
            let on = inner.people.is_online_here(user, self.clock.now());
            let is_news = match on {
                true => inner.told_online.insert(user),
                false => inner.told_online.remove(&user),
            };
            if !is_news {
                return;
            }
            on
        };
        let last_seen = match self.users.last_seen(user).await {
            Ok(Some(last_seen)) => last_seen,
            _ => Time(0),
        };
        cluster.tell_online(user, on, last_seen);
    }

    /// Queues how a user is to a session, if it (still) watches the user.
    async fn tell(&self, session: &Arc<Session>, user: UserId) {
        let mut known = self.of(session.caller.user, &[user]).await;
        let Ok(Some(mut presence)) = known.as_mut().map(Vec::pop) else {
            // The store failed, which was logged; whoever watches anew is told anew.
            return;
        };
        let visible = presence.online || presence.last_seen.is_some();
        let inner = self.lock();
        let watched = inner
            .watchers
            .get(&user)
            .is_some_and(|watchers| watchers.contains(&session.id));
        if !watched {
            return;
        }
        presence.online = visible && inner.people.is_online(user, self.clock.now());
        if presence.online {
            presence.last_seen = None;
        }
        session.push(&ServerFrame::Presence(presence));
    }

    /// Whether `reader` may know whether `user` is online. Reciprocal: who hides from another does not see
    /// the other either.
    async fn is_visible(&self, reader: UserId, user: UserId) -> Result<bool, Problem> {
        if reader == user {
            return Ok(true);
        }
        if self.users.either_blocked(reader, user).await? {
            return Ok(false);
        }
        let audiences = [
            self.users.privacy(user).await?.last_seen,
            self.users.privacy(reader).await?.last_seen,
        ];
        if audiences.contains(&Audience::Nobody) {
            return Ok(false);
        }
        if audiences.contains(&Audience::Contacts) {
            return self.users.are_contacts(reader, user).await;
        }
        Ok(true)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn unwatch(&mut self, session: u64) {
        let watching = self.watching.remove(&session);
        for user in watching.iter().flat_map(|watching| &watching.users) {
            if let Some(watchers) = self.watchers.get_mut(user) {
                watchers.remove(&session);
                if watchers.is_empty() {
                    self.watchers.remove(user);
                }
            }
        }
    }

    fn watchers_of(&self, user: UserId) -> Vec<Arc<Session>> {
        let ids = self.watchers.get(&user).into_iter().flatten();
        ids.filter_map(|id| self.watching.get(id))
            .map(|watching| watching.session.clone())
            .collect()
    }
}

impl Watching {
    fn both(&self) -> (Arc<Session>, Vec<UserId>) {
        (self.session.clone(), self.users.clone())
    }
}

impl std::fmt::Debug for Presence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Presence").finish_non_exhaustive()
    }
}
