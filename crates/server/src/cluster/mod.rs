//! Several servers over one store: who else is there, and what they tell each other.
//!
//! Correctness never depends on this: an append commits at its head or not at all, and each server looks at the
//! store once in a heartbeat for each of its users. What is told here makes it quick. Without NATS the servers
//! look at the store all the time instead ([`Cluster::keep`]), and say so in their health.
//!
//! In: commits, marks, typing, presence of this server (`Others`); messages of the others (`wire`). Next: the
//! servers at which the users concerned have sessions, and nobody else (`routes`).

mod forward;
mod message;
mod notices;
mod peers;
mod routes;
mod wire;

#[cfg(test)]
pub(crate) use forward::decode as decode_send;
pub(crate) use forward::encode as encode_send;
pub use notices::Notice;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use tidings_core::entry::{Entry, RULES};
use tidings_core::log::Generation;
use tidings_core::{ConversationId, DeviceId, Time, UserId};
use tidings_protocol::Code;
use tidings_store::Store;
use tokio::sync::mpsc;

use crate::chat::{Chat, Forwarded, Handed, MarksNews, Others};
use crate::clock::{Clock, random};
use crate::config::{ClusterSettings, NatsSettings};
use crate::health::Health;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::users::Users;

use forward::Forwarding;
pub use message::NodeId;
use message::{Beat, Message};
pub(crate) use peers::CLOCK_APART_MS;
use peers::Peers;
use routes::{Routes, UsersOf};
use wire::To;

/// How often a server says that it is there.
const BEAT: Duration = Duration::from_millis(1_000);
/// Users in one message.
const USERS_AT_ONCE: usize = 10_000;
/// How often the whole list of a server's users is asked for at most.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// Without NATS: how often the store is looked at for each user with a session here.
const LOOK: Duration = Duration::from_millis(1_000);
/// Users that are looked at together.
const LOOKS_AT_ONCE: usize = 16;
/// How often the clock is compared with the store's, and how long that may take.
const COMPARE: Duration = Duration::from_secs(5);
const COMPARE_MAX: Duration = Duration::from_secs(2);
/// How long a start waits for the clocks of others before it takes sends.
const CLOCKS_FIRST: Duration = Duration::from_millis(1_500);

/// One of so many sessions is sent away with each heartbeat, when all must go.
const SENT_AWAY: usize = 5;

/// Tells the time by the store's clock.
pub type StoreTime = Arc<dyn Fn() -> BoxFuture<'static, Option<Time>> + Send + Sync>;

/// The other servers.
pub struct Cluster {
    me: NodeId,
    settings: ClusterSettings,
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    clock: Clock,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    outgoing: mpsc::Sender<(To, Bytes)>,
    /// Taken when the wire is connected.
    to_send: Mutex<Option<mpsc::Receiver<(To, Bytes)>>>,
    /// Users with sessions here.
    here: Mutex<UsersOf>,
    routes: Mutex<Routes>,
    peers: Mutex<Peers>,
    asked: Mutex<HashMap<NodeId, Instant>>,
    forwarding: Forwarding,
    /// Whether there is a wire at all.
    is_wired: AtomicBool,
    /// Whether the wire is up.
    is_connected: AtomicBool,
    /// Sessions are handed over.
    is_draining: AtomicBool,
    /// The clock of this server is not to be trusted, or not known to be right yet.
    is_off: AtomicBool,
    /// How far the store's clock is ahead of this server's, once that is known.
    store_ahead_ms: Mutex<Option<i64>>,
    notices: notices::Seen,
    requests: AtomicU64,
    services: OnceLock<Services>,
}

/// The rest of the server. They hold the cluster, so it must not hold them.
struct Services {
    chat: Weak<Chat>,
    users: Weak<Users>,
    presence: Weak<Presence>,
}

impl Cluster {
    /// A cluster of which nobody else is known yet.
    #[must_use]
    pub fn new(
        settings: ClusterSettings,
        store: Arc<dyn Store>,
        hub: Arc<Hub>,
        clock: Clock,
        health: Arc<Health>,
        metrics: Arc<Metrics>,
    ) -> Arc<Cluster> {
        health.unfit("clock", "the clocks of the other servers are not known yet");
        let (outgoing, to_send) = mpsc::channel(wire::WAITING_MAX);
        let cluster = Arc::new(Cluster {
            me: Generation::new(clock.now(), random()).0,
            settings,
            store,
            hub,
            clock,
            health,
            metrics,
            outgoing,
            to_send: Mutex::new(Some(to_send)),
            here: Mutex::default(),
            routes: Mutex::default(),
            peers: Mutex::default(),
            asked: Mutex::default(),
            forwarding: Forwarding::default(),
            is_wired: AtomicBool::new(false),
            is_connected: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            is_off: AtomicBool::new(true),
            store_ahead_ms: Mutex::default(),
            notices: notices::Seen::default(),
            requests: AtomicU64::new(1),
            services: OnceLock::new(),
        });
        let weak = Arc::downgrade(&cluster);
        cluster.hub.set_watcher(Box::new(move |user, is_here| {
            if let Some(cluster) = weak.upgrade() {
                cluster.user_moved(user, is_here);
            }
        }));
        cluster
    }

    /// Says who the rest of the server is, once, before the first request.
    pub fn set_services(&self, chat: &Arc<Chat>, users: &Arc<Users>, presence: &Arc<Presence>) {
        let services = Services {
            chat: Arc::downgrade(chat),
            users: Arc::downgrade(users),
            presence: Arc::downgrade(presence),
        };
        if self.services.set(services).is_err() {
            tracing::error!("the cluster was told twice who the rest of the server is");
        }
    }

    /// Runs for as long as the server does. Spawn it once.
    pub async fn keep(self: Arc<Self>, nats: NatsSettings, store_time: Option<StoreTime>) {
        let (wired, beats) = (self.clone(), self.clone());
        tokio::join!(
            wired.keep_wire(nats),
            beats.keep_beats(),
            self.keep_comparing(store_time),
            self.keep_notices(),
            self.keep_looking(),
        );
    }

    async fn keep_wire(self: Arc<Self>, nats: NatsSettings) {
        if nats.urls.is_empty() {
            self.health.degraded(
                "nats",
                "no NATS is set (nats.urls): what happens at other servers is found by looking at the store",
            );
            return;
        }
        let prefix = format!("tidings.{}", self.settings.name);
        let client = match wire::connect(&nats, self.settings.node.clone()).await {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(error, "the settings of NATS are wrong");
                self.health.degraded("nats", &error);
                return;
            }
        };
        self.is_wired.store(true, Ordering::Relaxed);
        let to_send = self
            .to_send
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(to_send) = to_send else { return };
        tokio::join!(
            wire::send(client.clone(), prefix.clone(), to_send),
            wire::receive(client.clone(), prefix, self.clone()),
            self.keep_watching(client),
        );
    }

    /// Notes whether the wire is up.
    async fn keep_watching(&self, client: async_nats::Client) {
        loop {
            let state = client.connection_state();
            let is_connected = state == async_nats::connection::State::Connected;
            if self.is_connected.swap(is_connected, Ordering::Relaxed) != is_connected {
                tracing::info!(is_connected, "the wire to the other servers");
            }
            if is_connected {
                self.health.well("nats");
            } else {
                self.health.degraded(
                    "nats",
                    "not connected: what happens at other servers is found by looking at the store",
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn keep_beats(self: Arc<Self>) {
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

    /// Compares this server's clock with the store's. Beside the heartbeat: a store may take its time.
    async fn keep_comparing(&self, store_time: Option<StoreTime>) {
        let Some(store_time) = store_time else {
            return;
        };
        loop {
            let before = self.clock.now();
            let asked = tokio::time::timeout(COMPARE_MAX, store_time()).await;
            let after = self.clock.now();
            if let Ok(Some(theirs)) = asked {
                let ours = before.0 + after.0.saturating_sub(before.0) / 2;
                let ahead = i64::try_from(theirs.0).unwrap_or(0) - i64::try_from(ours).unwrap_or(0);
                *self.store_ahead_ms() = Some(ahead);
            }
            tokio::time::sleep(COMPARE).await;
        }
    }

    /// A server whose clock is far from the others' steps aside, and says why.
    fn judge_clock(&self) {
        let store = *self.store_ahead_ms();
        let ahead_ms = self.peers().clock_ahead_ms(store);
        let is_off = ahead_ms.unsigned_abs() > CLOCK_APART_MS;
        if is_off {
            let words = if ahead_ms > 0 { "ahead of" } else { "behind" };
            self.health.unfit(
                "clock",
                &format!(
                    "this server's clock is {} s {words} the others': it takes no sends until that is mended",
                    ahead_ms.unsigned_abs() / 1_000
                ),
            );
        } else {
            self.health.well("clock");
        }
        if self.is_off.swap(is_off, Ordering::Relaxed) != is_off && is_off {
            tracing::error!(ahead_ms, "the clock is wrong: stepping aside");
        }
    }

    /// While the clock is wrong the sessions go elsewhere, a few at a time.
    fn send_away(&self) {
        if !self.is_off.load(Ordering::Relaxed) {
            return;
        }
        let sessions = self.hub.all_sessions();
        let some = sessions.len().div_ceil(SENT_AWAY);
        for session in sessions.into_iter().take(some) {
            session.close(Code::Draining);
        }
    }

    /// Without the wire the store is looked at all the time.
    async fn keep_looking(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.is_connected.load(Ordering::Relaxed) {
                continue;
            }
            let Some(chat) = self
                .services
                .get()
                .and_then(|services| services.chat.upgrade())
            else {
                continue;
            };
            let users: Vec<UserId> = self.here().all().collect();
            stream::iter(users)
                .for_each_concurrent(LOOKS_AT_ONCE, |user| {
                    let chat = chat.clone();
                    async move {
                        if let Err(problem) = chat.refresh(user).await {
                            tracing::debug!(
                                code = problem.code.name(),
                                "the store was not looked at"
                            );
                        }
                    }
                })
                .await;
        }
    }

    fn beat(&self) -> Beat {
        let (users, users_sum) = self.here().summary();
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
            users,
            users_sum,
        }
    }

    fn takes_conversations(&self) -> bool {
        self.settings.has_role("chat") && !self.is_leaving()
    }

    fn takes_clients(&self) -> bool {
        self.settings.has_role("gateway") && !self.is_leaving()
    }

    fn is_leaving(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed) || self.is_off.load(Ordering::Relaxed)
    }

    /// Whether this server may take sends. Not while its clock is wrong.
    #[must_use]
    pub fn takes_sends(&self) -> bool {
        !self.is_off.load(Ordering::Relaxed)
    }

    /// From now on others take the conversations and the clients.
    pub fn begin_drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
        self.say(To::All, &Message::Beat(self.beat()));
    }

    /// How many other servers there are.
    #[must_use]
    pub fn peers_count(&self) -> usize {
        self.peers().count()
    }

    /// Where clients may connect, best first.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let others = self.peers().addresses(&self.settings.region);
        let is_open = self.takes_clients() && !self.settings.address.is_empty();
        let me = is_open.then(|| self.settings.address.clone());
        let mut addresses: Vec<String> = others.into_iter().chain(me).collect();
        // Whoever asks here has reached this server: it is near, and goes first unless it is full.
        let is_full = self.metrics.live_sessions() >= self.settings.sessions_max;
        if !is_full {
            addresses.rotate_right(usize::from(is_open));
        }
        addresses
    }

    fn lose(&self, node: NodeId) {
        self.routes().clear(node);
        self.forwarding.lose(node);
        if let Some(presence) = self
            .services
            .get()
            .and_then(|services| services.presence.upgrade())
        {
            presence.lose(node);
        }
    }

    /// A user has its first session here, or lost its last.
    fn user_moved(&self, user: UserId, is_here: bool) {
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

    /// Sends a message, or drops it if too many wait.
    fn say(&self, to: To, message: &Message) {
        self.say_bytes(to, Bytes::from(message.encode()));
    }

    fn say_bytes(&self, to: To, bytes: Bytes) {
        if self.is_connected.load(Ordering::Relaxed) && self.outgoing.try_send((to, bytes)).is_err()
        {
            tracing::debug!("news were dropped: too many wait");
        }
    }

    fn say_to_users(
        &self,
        users: &mut dyn Iterator<Item = UserId>,
        message: impl FnOnce() -> Message,
    ) {
        let nodes = self.routes().nodes_of(users);
        if nodes.is_empty() {
            return;
        }
        let bytes = Bytes::from(message().encode());
        for node in nodes {
            self.say_bytes(To::One(node), bytes.clone());
        }
    }

    /// Another server said something. In the order in which it was said; never waits.
    fn heard(self: &Arc<Self>, message: Message) {
        let Some(services) = self.services.get() else {
            return;
        };
        match message {
            Message::Beat(beat) => self.heard_beat(beat),
            Message::Moved { node, came, went } => {
                let mut routes = self.routes();
                came.into_iter().for_each(|user| routes.came(node, user));
                went.into_iter().for_each(|user| routes.went(node, user));
            }
            Message::Ask { node } => self.tell_users(node),
            Message::Users {
                node,
                is_first,
                users,
            } => {
                let mut routes = self.routes();
                if is_first {
                    routes.clear(node);
                }
                users.into_iter().for_each(|user| routes.came(node, user));
            }
            Message::Entries {
                conversation,
                generation,
                entries,
            } => {
                if let Some(chat) = services.chat.upgrade() {
                    chat.heard_entries(conversation, generation, entries);
                }
            }
            Message::Look { conversation } => {
                if let Some(chat) = services.chat.upgrade() {
                    chat.heard_of(conversation);
                }
            }
            Message::Marks(news) => {
                if let Some(chat) = services.chat.upgrade() {
                    chat.heard_marks(news);
                }
            }
            Message::Typing {
                conversation,
                user,
                on,
            } => {
                if let Some(chat) = services.chat.upgrade() {
                    chat.heard_typing(conversation, user, on);
                }
            }
            Message::Online {
                node,
                user,
                on,
                last_seen,
            } => {
                if let Some(presence) = services.presence.upgrade() {
                    presence.heard(node, user, on, last_seen);
                }
            }
            Message::Notice => self.notices.look_now(),
            Message::Private { user, key, except } => {
                if let Some(users) = services.users.upgrade() {
                    tokio::spawn(async move { users.heard_private(user, key, except).await });
                }
            }
            Message::Forward(forward) => self.heard_forward(services, forward),
            Message::Answers { request, answers } => self.forwarding.answered(request, &answers),
        }
    }

    fn heard_beat(self: &Arc<Self>, beat: Beat) {
        let node = beat.node;
        let summary = (beat.users, beat.users_sum);
        let is_new = self.peers().beat(beat, self.clock.now(), Instant::now());
        if is_new {
            tracing::info!(node = %Generation(node), "another server is there");
            if let Some(presence) = self
                .services
                .get()
                .and_then(|services| services.presence.upgrade())
            {
                for (user, last_seen) in presence.online_here() {
                    let on = Message::Online {
                        node: self.me,
                        user,
                        on: true,
                        last_seen,
                    };
                    self.say(To::One(node), &on);
                }
            }
        }
        if self.routes().agrees(node, summary) {
            return;
        }
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = asked.get(&node).is_none_or(|at| at.elapsed() >= ASK_AGAIN);
        if is_new || is_due {
            asked.retain(|_, at| at.elapsed() < ASK_AGAIN);
            asked.insert(node, Instant::now());
            self.say(To::One(node), &Message::Ask { node: self.me });
        }
    }

    /// Tells another server all users that have sessions here.
    fn tell_users(&self, to: NodeId) {
        let here = self.here();
        let all: Vec<UserId> = here.all().collect();
        let mut is_first = true;
        let parts = all.chunks(USERS_AT_ONCE).map(<[UserId]>::to_vec);
        for users in parts.chain(all.is_empty().then(Vec::new)) {
            let node = self.me;
            self.say(
                To::One(to),
                &Message::Users {
                    node,
                    is_first,
                    users,
                },
            );
            is_first = false;
        }
    }

    /// A user came online here or went offline.
    pub fn tell_online(&self, user: UserId, on: bool, last_seen: Time) {
        let node = self.me;
        self.say(
            To::All,
            &Message::Online {
                node,
                user,
                on,
                last_seen,
            },
        );
    }

    /// A key of a user's private map changed here.
    pub fn tell_private(&self, user: UserId, key: &str, except: DeviceId) {
        self.say_to_users(&mut std::iter::once(user), || Message::Private {
            user,
            key: key.to_owned(),
            except,
        });
    }

    fn store_ahead_ms(&self) -> MutexGuard<'_, Option<i64>> {
        let locked = self.store_ahead_ms.lock();
        locked.unwrap_or_else(PoisonError::into_inner)
    }

    fn here(&self) -> MutexGuard<'_, UsersOf> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Others for Cluster {
    fn tell_entries(
        &self,
        conversation: ConversationId,
        generation: Generation,
        entries: &[Entry],
        users: &mut dyn Iterator<Item = UserId>,
    ) {
        self.say_to_users(users, || {
            let entries = Message::Entries {
                conversation,
                generation,
                entries: entries.to_vec(),
            };
            match wire::fits(&entries.encode()) {
                true => entries,
                false => Message::Look { conversation },
            }
        });
    }

    fn tell_look(&self, conversation: ConversationId, users: &mut dyn Iterator<Item = UserId>) {
        self.say_to_users(users, || Message::Look { conversation });
    }

    fn tell_marks(&self, news: MarksNews, users: &mut dyn Iterator<Item = UserId>) {
        self.say_to_users(users, || Message::Marks(news));
    }

    fn tell_typing(
        &self,
        conversation: ConversationId,
        user: UserId,
        on: bool,
        users: &mut dyn Iterator<Item = UserId>,
    ) {
        self.say_to_users(users, || Message::Typing {
            conversation,
            user,
            on,
        });
    }

    fn is_mine(&self, key: &[u8]) -> bool {
        self.peers()
            .holder(self.me, !self.takes_conversations(), key)
            .is_none()
    }

    fn takes_sends(&self) -> bool {
        Cluster::takes_sends(self)
    }

    fn cannot_agree(&self) -> bool {
        self.is_wired.load(Ordering::Relaxed) && !self.is_connected.load(Ordering::Relaxed)
    }

    fn forward(
        &self,
        conversation: ConversationId,
        frames: &dyn Fn() -> Option<Vec<Handed>>,
    ) -> Option<Forwarded> {
        Cluster::forward(self, conversation, frames)
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}
