//! Running the server: puts the parts together, listens, and ends in order.
//!
//! Ending: no new connections, `/readyz` says so; the conversations answer what they took ([`Chat::drain`]);
//! sessions are told `bye draining`; what was kept back is written; then the process ends with 0. A second
//! signal ends it at once.

mod control;
mod files;
mod logging;
mod looks;
mod moving;
mod neighbours;
mod stores;

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use tidings_store::{Store, StoreError};
use tidings_store_embedded::OpenError;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use crate::chat::Chat;
use crate::clock::Clock;
use crate::cluster::Cluster;
use crate::config::{Settings, StoreKind, StoreSettings};
use crate::gateway::listener::{BoundedListener, Bounds};
use crate::gateway::{self, App, serving};
use crate::health::Health;
use crate::hub::Hub;
use crate::metrics::{self, Metrics};
use crate::moving::NotServed;
use crate::presence::Presence;
use crate::trace::Tracer;
use crate::users::Users;

pub use control::backup;
pub use moving::move_to;
pub(crate) use stores::cql_settings;
pub use stores::migrate;

use stores::Opened;

/// Connections that the system accepts before we come round to them: everybody may come back at once. (It
/// takes no more than `net.core.somaxconn`.)
const BACKLOG: u32 = 4_096;
/// Up to how many members heads are written to their inboxes, on a store that keeps an inbox in one place.
const WRITE_HEADS_MEMBERS_MAX: u32 = 256;

/// Why the server did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The data directory.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The cluster's store.
    #[error("Cassandra: {0}")]
    Cassandra(StoreError),
    /// What is in the store is not to be served, or the store cannot say.
    #[error(transparent)]
    NotServed(#[from] NotServed),
    /// A setting that says nothing sensible.
    #[error("{setting}: {why}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// An address.
    #[error("cannot listen on {address} (setting `{setting}`): {error}")]
    Listen {
        /// The setting that names it.
        setting: &'static str,
        /// The address.
        address: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// Anything else that the system refuses.
    #[error("cannot {what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        error: std::io::Error,
    },
}

/// Runs the server until a signal ends it.
///
/// # Errors
/// When it cannot start.
pub fn run(settings: Settings, in_memory: bool) -> Result<(), ServeError> {
    let metrics = Arc::new(Metrics::default());
    logging::start(&settings.log, metrics.clone());
    files::raise_limit();
    let system = |what| move |error| ServeError::System { what, error };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(system("start threads"))?;
    let served = runtime.block_on(serve(settings, metrics, in_memory));
    // Ends what runs in the background, and with it the last to hold the store, which then closes.
    drop(runtime);
    served
}

async fn serve(
    settings: Settings,
    metrics: Arc<Metrics>,
    in_memory: bool,
) -> Result<(), ServeError> {
    let mut signals = Signals::new().map_err(|error| ServeError::System {
        what: "wait for signals",
        error,
    })?;
    // Before anything is written: the address tells soonest that a server runs already.
    let listener = listen("server.listen", &settings.server.listen).await?;
    let mut opened = stores::open(&settings, in_memory).await?;
    let backlog = opened.backlog.take();
    let is_embedded = settings.store.kind == StoreKind::Embedded;
    let parts = Parts::new(opened, settings.clone(), metrics);
    let tracer = parts.trace(&settings)?;
    parts.metrics.sessions_max(settings.cluster.sessions_max);
    parts.be_looked_at(backlog, Path::new(&settings.server.data));
    let (drain, draining) = watch::channel(false);
    let bounds = Bounds {
        connections_max: settings.limits.connections_max,
        address_connections_max: (settings.server.proxies_in_front == 0)
            .then_some(settings.limits.address_connections_max),
    };
    let listener = BoundedListener::new(listener, bounds);
    let request_within = Duration::from_millis(settings.limits.request_within_ms);
    let served = tokio::spawn(serve_clients(
        listener,
        parts.app.clone(),
        request_within,
        draining,
    ));
    if !settings.server.metrics_listen.is_empty() {
        let listener = listen("server.metrics_listen", &settings.server.metrics_listen).await?;
        let router = beside(
            parts.metrics.clone(),
            parts.not_ready.clone(),
            parts.health.clone(),
        );
        spawn("metrics", async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "metrics are no longer served");
            }
        });
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = settings.server.listen,
        metrics_listen = settings.server.metrics_listen,
        data = settings.server.data,
        "Tidings is running"
    );

    let signal = signals.next().await;
    tracing::info!(signal, "shutting down");
    drain.send_replace(true);
    let limit = Duration::from_millis(settings.server.drain_ms_max);
    tokio::select! {
        ended = tokio::time::timeout(limit, parts.end(served, limit)) => {
            if ended.is_err() {
                tracing::warn!("not everything was finished in time (server.drain_ms_max)");
            }
        }
        signal = signals.next() => {
            tracing::warn!(signal, "ending at once");
            std::process::exit(1);
        }
    }
    if let Some(tracer) = tracer {
        tracer.flush().await;
    }
    // Also when time was up: what was acknowledged late reaches the disk.
    if let Err(error) = parts.store.flush().await {
        tracing::error!(%error, "the store could not be flushed");
    }
    if is_embedded {
        control::end(Path::new(&settings.server.data));
    }
    tracing::info!("ended");
    Ok(())
}

/// The parts that ending needs.
struct Parts {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    users: Arc<Users>,
    chat: Arc<Chat>,
    app: Arc<App>,
    metrics: Arc<Metrics>,
    not_ready: Arc<AtomicBool>,
    health: Arc<Health>,
    /// Other servers may share the store.
    cluster: Option<Arc<Cluster>>,
    drain_percent_per_s: u64,
}

impl Parts {
    fn new(opened: Opened, mut settings: Settings, metrics: Arc<Metrics>) -> Parts {
        let Opened { store, time, .. } = opened;
        let clock = Clock::System;
        let health = Arc::new(Health::default());
        health.well("store");
        let is_shared = time.is_some();
        if is_shared && settings.chat.write_heads_members_max == 0 {
            settings.chat.write_heads_members_max = WRITE_HEADS_MEMBERS_MAX;
        }
        let sessions = &settings.sessions;
        let hub = Arc::new(Hub::new(
            sessions.queue_limits(),
            sessions.sessions_per_device_max,
        ));
        let public_url = Some(settings.server.public_url.clone());
        let users = Users::new(
            store.clone(),
            hub.clone(),
            clock.clone(),
            settings.users.clone(),
            public_url
                .into_iter()
                .filter(|url| !url.is_empty())
                .collect(),
            metrics.clone(),
        );
        let chat = Chat::new(
            store.clone(),
            hub.clone(),
            users.clone(),
            clock.clone(),
            settings.chat.clone(),
            metrics.clone(),
        );
        let presence = Presence::new(
            hub.clone(),
            users.clone(),
            clock.clone(),
            settings.presence.clone(),
        );
        users.set_neighbours(neighbours::of(&chat, &presence));
        let cluster = is_shared.then(|| {
            let cluster = Cluster::new(
                settings.cluster.clone(),
                store.clone(),
                hub.clone(),
                clock.clone(),
                health.clone(),
                metrics.clone(),
            );
            cluster.set_services(&chat, &users, &presence);
            chat.set_others(cluster.clone());
            users.set_cluster(cluster.clone());
            presence.set_cluster(cluster.clone());
            spawn("cluster", cluster.clone().keep(settings.nats.clone(), time));
            cluster
        });
        let drain_percent_per_s = settings.cluster.drain_percent_per_s;
        let app = App::new(
            chat.clone(),
            users.clone(),
            presence.clone(),
            hub.clone(),
            metrics.clone(),
            Arc::new(settings),
            clock,
            health.clone(),
        );
        spawn("conversations", chat.clone().keep());
        spawn("accounts", users.clone().keep());
        spawn("presence", presence.keep());
        Parts {
            store,
            hub,
            users,
            chat,
            app,
            metrics,
            not_ready: Arc::default(),
            health,
            cluster,
            drain_percent_per_s,
        }
    }

    /// Has messages traced, if that is set.
    fn trace(&self, settings: &Settings) -> Result<Option<Arc<Tracer>>, ServeError> {
        let made = Tracer::new(&settings.telemetry, &settings.cluster.node);
        let made = made.map_err(|error| ServeError::Setting {
            setting: "telemetry.otlp_url",
            why: error.to_string(),
        })?;
        let Some((tracer, exporter)) = made else {
            return Ok(None);
        };
        spawn("traces", exporter.run());
        self.chat.set_tracer(tracer.clone());
        if let Some(cluster) = &self.cluster {
            cluster.set_tracer(tracer.clone());
        }
        Ok(Some(tracer))
    }

    /// Where there are other servers, the sessions go to them a few at a time, and not all at once.
    async fn hand_over(&self, limit: Duration) {
        let Some(cluster) = &self.cluster else {
            return;
        };
        cluster.begin_drain();
        let all = self.hub.all_sessions().len() as u64;
        if cluster.peers_count() == 0 || all == 0 {
            return;
        }
        // In most of the time that shutting down may take, however slow it is set.
        let seconds = (limit.as_secs_f64() * 0.7).max(0.1);
        let percent = (self.drain_percent_per_s as f64).max(100.0 / seconds);
        const STEP: Duration = Duration::from_millis(100);
        let step = (all as f64 * percent / 100.0 * STEP.as_secs_f64()).ceil() as usize;
        while !self.hub.all_sessions().is_empty() {
            self.app.hand_over(step.max(1));
            tokio::time::sleep(STEP).await;
        }
    }

    /// Ends in order. New connections are refused already.
    async fn end(&self, served: tokio::task::JoinHandle<()>, limit: Duration) {
        self.not_ready.store(true, Ordering::Relaxed);
        self.app.begin_drain();
        self.hand_over(limit).await;
        self.chat.drain().await;
        self.app.close_sessions();
        // Now, for the clients that are waited for here may take all the time there is; and again afterwards.
        self.users.flush().await;
        while !self.hub.all_sessions().is_empty() {
            // One that opened while the others were closed is told, too.
            self.app.close_sessions();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.users.flush().await;
        if served.await.is_err() {
            tracing::error!("the listener did not end");
        }
    }
}

async fn serve_clients(
    listener: BoundedListener,
    app: Arc<App>,
    request_within: Duration,
    mut draining: watch::Receiver<bool>,
) {
    let drained = async move {
        // An error: the sender is gone, which is as good a reason to end.
        let _ = draining.wait_for(|draining| *draining).await;
    };
    serving::serve(listener, gateway::router(app), request_within, drained).await;
}

/// What is served beside: metrics and health.
fn beside(metrics: Arc<Metrics>, not_ready: Arc<AtomicBool>, health: Arc<Health>) -> Router {
    let of_ready = health.clone();
    let ready = move || {
        let report = of_ready.report();
        std::future::ready(if not_ready.load(Ordering::Relaxed) {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("draining\n{report}"),
            )
        } else if of_ready.is_fit() {
            (StatusCode::OK, format!("ready\n{report}"))
        } else {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not fit\n{report}"),
            )
        })
    };
    let alive = move || std::future::ready(format!("ok\n{}", health.report()));
    metrics::router(metrics)
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
}

async fn listen(setting: &'static str, address: &str) -> Result<TcpListener, ServeError> {
    let listening = async {
        let mut listener = Err(std::io::Error::other("it names no address"));
        for address in tokio::net::lookup_host(address).await? {
            listener = listen_at(address);
            if listener.is_ok() {
                break;
            }
        }
        listener
    };
    listening.await.map_err(|error| ServeError::Listen {
        setting,
        address: address.to_owned(),
        error,
    })
}

fn listen_at(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // A server that is started again need not wait for what is left of the connections before.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Runs work beside the rest, which is not meant to end.
fn spawn(name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
    let work = tokio::spawn(work);
    tokio::spawn(async move {
        match work.await {
            Ok(()) => tracing::debug!(name, "background work has ended"),
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(name, %error, "background work broke off"),
        }
    });
}

fn store_settings(settings: &StoreSettings) -> tidings_store_embedded::Settings {
    const DAY_S: u64 = 24 * 60 * 60;
    tidings_store_embedded::Settings {
        cache_bytes: settings.cache_bytes,
        erase_within: Duration::from_secs(settings.erase_within_s),
        keep_envelopes: Duration::from_secs(settings.keep_envelopes_days.saturating_mul(DAY_S)),
        body_file_bytes_max: settings.body_file_bytes_max,
        commit_requests_max: settings.commit_requests_max,
        queue_requests_max: settings.queue_requests_max,
        late_within: Duration::from_millis(settings.late_within_ms),
        read_threads: settings.read_threads,
        ..tidings_store_embedded::Settings::default()
    }
}

/// What ends the server: SIGTERM and SIGINT, elsewhere than on Unix Ctrl-C.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    #[cfg(unix)]
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    #[cfg(not(unix))]
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> &'static str {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        "Ctrl-C"
    }
}
