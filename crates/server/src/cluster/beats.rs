//! Who else is there: heartbeats, and the lists of users that each server keeps of every other.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tidings_core::UserId;
use tidings_core::entry::RULES;
use tidings_core::log::Generation;

use super::Cluster;
use super::message::{Beat, List, Message, NodeId};
use super::wire::To;

/// How often a server says that it is there.
const BEAT: Duration = Duration::from_millis(1_000);
/// Users in one message.
const USERS_AT_ONCE: usize = 10_000;
/// How often the whole list of a server's users is asked for at most.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// How long a start waits for the clocks of others before it takes sends.
const CLOCKS_FIRST: Duration = Duration::from_millis(1_500);

impl Cluster {
    pub(super) async fn keep_beats(self: Arc<Self>) {
        let started = Instant::now();
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.say(To::All, &Message::Beat(self.beat()));
            let gone = self.peers().expire(Instant::now());
            for node in gone {
                tracing::info!(node = %Generation(node), "a server is silent");
                self.lose(node);
            }
            if started.elapsed() >= CLOCKS_FIRST {
                self.judge_clock();
                self.send_away();
            }
        }
    }

    pub(super) fn beat(&self) -> Beat {
        Beat {
            node: self.me,
            at: self.clock.now(),
            rules: RULES,
            address: self.settings.address.clone(),
            region: self.settings.region.clone(),
            sessions: self.metrics.live_sessions(),
            sessions_max: self.settings.sessions_max,
            takes_conversations: self.takes_conversations(),
            takes_clients: self.takes_clients(),
            connected: self.here().summary(),
            online: self.online().summary(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    pub(super) fn heard_beat(self: &Arc<Self>, beat: Beat) {
        let (node, connected, online) = (beat.node, beat.connected, beat.online);
        let is_new = self.peers().beat(beat, self.clock.now(), Instant::now());
        if is_new {
            tracing::info!(node = %Generation(node), "another server is there");
        }
        if !self.routes().agrees(node, connected) {
            self.ask(node, List::Connected, is_new);
        }
        let presence = self.presence();
        if presence.is_some_and(|presence| !presence.agrees(node, online)) {
            self.ask(node, List::Online, is_new);
        }
    }

    fn ask(&self, node: NodeId, list: List, is_new: bool) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let last = asked.get(&(node, list));
        if is_new || last.is_none_or(|at| at.elapsed() >= ASK_AGAIN) {
            asked.retain(|_, at| at.elapsed() < ASK_AGAIN);
            asked.insert((node, list), Instant::now());
            let ask = Message::Ask {
                node: self.me,
                list,
            };
            self.say(To::One(node), &ask);
        }
    }

    /// Tells another server a whole list. Under the list's lock, so that changes come before it or after it.
    pub(super) fn tell_users(&self, to: NodeId, list: List) {
        let listed = match list {
            List::Connected => self.here(),
            List::Online => self.online(),
        };
        let all: Vec<UserId> = listed.all().collect();
        let mut is_first = true;
        let parts = all.chunks(USERS_AT_ONCE).map(<[UserId]>::to_vec);
        for users in parts.chain(all.is_empty().then(Vec::new)) {
            let node = self.me;
            self.say(
                To::One(to),
                &Message::Users {
                    node,
                    list,
                    is_first,
                    users,
                },
            );
            is_first = false;
        }
    }

    /// A user has its first session here, or lost its last.
    pub(super) fn user_moved(&self, user: UserId, is_here: bool) {
        let mut here = self.here();
        let (mut came, mut went) = (Vec::new(), Vec::new());
        if is_here {
            here.insert(user);
            came.push(user);
        } else {
            here.remove(user);
            went.push(user);
        }
        // Under the lock: what is told is in the order in which it was.
        let node = self.me;
        self.say(To::All, &Message::Moved { node, came, went });
    }

    fn lose(&self, node: NodeId) {
        drop(self.routes().clear(node));
        self.forwarding.lose(node);
        if let Some(presence) = self.presence() {
            presence.lose(node);
        }
    }
}
