//! The gateway: sessions, HTTP and WebSocket; authentication, rates, and errors as clients see them.
//!
//! A request comes in through `ws`, `http`, `poll` or `sse`, becomes a frame, passes the rates and
//! the order of sends (`admit`), and goes to its handler by the one table in `dispatch`. What is
//! pushed to a session waits in its queue until its transport takes it.

mod admit;
mod asyncapi;
mod credentials;
mod dispatch;
mod extract;
mod http;
pub(crate) mod listener;
mod live;
mod openapi;
mod ordered;
mod page;
mod poll;
mod polled;
mod problem;
mod rates;
mod routes;
pub(crate) mod serving;
mod sse;
#[cfg(test)]
mod tests;
mod ws;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use tidings_core::UserId;
use tidings_protocol::Code;
use tokio::task::JoinHandle;

use crate::chat::Chat;
use crate::clock::Clock;
use crate::config::Settings;
use crate::health::Health;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::users::Users;

use ordered::Ordered;
use polled::PolledSessions;
use rates::Rates;

/// How long a heartbeat waits for the store.
const REFRESH_MAX: Duration = Duration::from_secs(2);

/// What the gateway needs of the rest of the server, and what it keeps itself.
pub struct App {
    chat: Arc<Chat>,
    users: Arc<Users>,
    presence: Arc<Presence>,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    settings: Arc<Settings>,
    clock: Clock,
    user_rates: Rates<UserId>,
    address_rates: Rates<IpAddr>,
    ordered: Ordered,
    polled: PolledSessions,
    draining: AtomicBool,
    health: Arc<Health>,
    openapi: OnceLock<Bytes>,
    asyncapi: OnceLock<Bytes>,
}

impl App {
    /// A gateway to these.
    #[must_use]
    #[allow(clippy::too_many_arguments, reason = "these are the parts of a server")]
    pub fn new(
        chat: Arc<Chat>,
        users: Arc<Users>,
        presence: Arc<Presence>,
        hub: Arc<Hub>,
        metrics: Arc<Metrics>,
        settings: Arc<Settings>,
        clock: Clock,
        health: Arc<Health>,
    ) -> Arc<App> {
        let limits = &settings.limits;
        Arc::new(App {
            user_rates: Rates::new(
                "user_requests_per_s",
                limits.user_requests_per_s,
                limits.user_requests_burst_max,
                limits.rates_remembered_max,
            ),
            address_rates: Rates::new(
                "address_requests_per_s",
                limits.address_requests_per_s,
                limits.address_requests_burst_max,
                limits.rates_remembered_max,
            ),
            ordered: Ordered::new(limits.refused_devices_max),
            polled: PolledSessions::default(),
            draining: AtomicBool::new(false),
            openapi: OnceLock::new(),
            asyncapi: OnceLock::new(),
            chat,
            users,
            presence,
            hub,
            metrics,
            settings,
            clock,
            health,
        })
    }

    /// Begins shutting down: `/readyz` says so and new sessions are refused.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Ends every session with `draining`; what waits in their queues is still sent. Call it when the
    /// conversations have answered everything.
    pub fn close_sessions(&self) {
        for session in self.hub.all_sessions() {
            session.close(Code::Draining);
        }
    }

    /// Ends some of the sessions with `draining`: their clients go to another server.
    pub fn hand_over(&self, count: usize) {
        for session in self.hub.all_sessions().into_iter().take(count) {
            session.close(Code::Draining);
        }
    }

    /// Before a digest is told: where several servers share the store it must be as of this heartbeat. A store that
    /// does not answer keeps nobody waiting; the next heartbeat comes.
    async fn refresh(&self, user: UserId) {
        let refreshed = self.chat.refresh(user);
        match tokio::time::timeout(REFRESH_MAX, refreshed).await {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => {
                tracing::debug!(code = problem.code.name(), "an inbox was not looked at")
            }
            Err(_) => tracing::debug!("an inbox could not be looked at in time"),
        }
    }

    /// Begins to look at a user's inbox, if that is needed.
    fn look(self: &Arc<Self>, user: UserId) -> Option<JoinHandle<()>> {
        let app = self.clone();
        let look = async move { app.refresh(user).await };
        self.chat.is_shared().then(|| tokio::spawn(look))
    }

    /// Whether new sessions should go elsewhere.
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || !self.health.is_fit()
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App").finish_non_exhaustive()
    }
}

/// Everything that is served to clients. Serve it with
/// `into_make_service_with_connect_info::<SocketAddr>()`: rates need the address.
pub fn router(app: Arc<App>) -> Router {
    routes::router(app)
}
