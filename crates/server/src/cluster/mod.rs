//! Several servers over one store: who else is there, and what they tell each other.
//!
//! Correctness never depends on this: an append commits at its head or not at all, and each server looks at the
//! store once in a heartbeat for each of its users. What is told here makes it quick. Without NATS the servers
//! look at the store all the time instead ([`Cluster::keep`]), and say so in their health.
//!
//! In: commits, marks, typing, presence of this server (`Others`); messages of the others (`wire`). Next: the
//! servers at which the users concerned have sessions, and nobody else (`routes`).

mod beats;
mod clocks;
mod forward;
mod message;
mod notices;
mod overhear;
mod peers;
mod routes;
mod tell;
mod wire;

pub use clocks::StoreTime;
#[cfg(test)]
pub(crate) use forward::decode as decode_send;
pub(crate) use forward::encode as encode_send;
pub use message::NodeId;
pub(crate) use message::Summary;
pub use notices::Notice;
pub use overhear::{Overheard, Server, overhear};
pub(crate) use peers::CLOCK_APART_MS;
pub(crate) use routes::Routes;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tidings_core::log::{Generation, Seq};
use tidings_core::{ConversationId, UserId};
use tidings_store::Store;
use tokio::sync::mpsc;

use crate::chat::Chat;
use crate::clock::{Clock, random};
use crate::config::{ClusterSettings, NatsSettings};
use crate::health::Health;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::trace::{Context, Tracer};
use crate::users::Users;

use forward::Forwarding;
use message::{List, Message};
use peers::Peers;
use routes::UsersOf;
use wire::To;

/// Without NATS: how often the store is looked at for each user with a session here.
const LOOK: Duration = Duration::from_millis(1_000);
/// Users that are looked at together.
const LOOKS_AT_ONCE: usize = 16;

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
    /// Those of whom the others were told that they are online here.
    online: Mutex<UsersOf>,
    routes: Mutex<Routes>,
    peers: Mutex<Peers>,
    asked: Mutex<HashMap<(NodeId, List), Instant>>,
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
    /// Not set: nothing is traced.
    tracer: OnceLock<Arc<Tracer>>,
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
        metrics.is_in_cluster();
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
            online: Mutex::default(),
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
            tracer: OnceLock::new(),
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

    /// Has what is said of messages traced.
    pub fn set_tracer(&self, tracer: Arc<Tracer>) {
        if self.tracer.set(tracer).is_err() {
            tracing::error!("the cluster was told twice who traces messages");
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
            wire::send(
                client.clone(),
                prefix.clone(),
                to_send,
                self.metrics.clone()
            ),
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
                self.metrics.wire_connected(is_connected);
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

    /// Messages that wait for the wire.
    #[must_use]
    pub fn waiting(&self) -> usize {
        wire::WAITING_MAX.saturating_sub(self.outgoing.capacity())
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
            Message::Ask { node, list } => self.tell_users(node, list),
            Message::Users {
                node,
                list: List::Connected,
                is_first,
                users,
            } => {
                let mut routes = self.routes();
                if is_first {
                    drop(routes.clear(node));
                }
                users.into_iter().for_each(|user| routes.came(node, user));
            }
            Message::Users {
                node,
                list: List::Online,
                is_first,
                users,
            } => {
                if let Some(presence) = services.presence.upgrade() {
                    presence.heard_all(node, is_first, users);
                }
            }
            Message::Entries {
                conversation,
                generation,
                entries,
                traces,
            } => {
                if let Some(chat) = services.chat.upgrade() {
                    let began = Instant::now();
                    chat.heard_entries(conversation, generation, entries);
                    self.trace_hearing(conversation, &traces, began);
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

    /// Entries by another server are in the queues of the live sessions here.
    fn trace_hearing(
        &self,
        conversation: ConversationId,
        traces: &[(Seq, Context)],
        began: Instant,
    ) {
        let Some(tracer) = self.tracer.get() else {
            return;
        };
        for (seq, context) in traces {
            let hear = tracer.step("hear", *context, began, Instant::now());
            tracer.span(hear.about(conversation, *seq));
        }
    }

    fn here(&self) -> MutexGuard<'_, UsersOf> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn online(&self) -> MutexGuard<'_, UsersOf> {
        self.online.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn presence(&self) -> Option<Arc<Presence>> {
        self.services.get()?.presence.upgrade()
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}
