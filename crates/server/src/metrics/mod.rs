//! What is measured, in Prometheus' (OpenMetrics') text format, on a listener of its own.
//!
//! In: calls named after what happened, none of which waits; and, when somebody asks, looks at what only has a state
//! (queues, health, the process). Which metrics there are, and what they mean: `measures`.

mod counted;
mod measures;
mod process;
mod store_failed;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tidings_protocol::Code;

use measures::{Everywhere, InCluster, Label, OfProcess};

pub use measures::Fact;
pub use process::{Space, memory_limit, open_files_max, space_of};
pub use store_failed::store_failed;

/// How a session is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A WebSocket.
    WebSocket,
    /// Long polling.
    LongPolling,
    /// Server-sent events.
    ServerSentEvents,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 3] = [
        Transport::WebSocket,
        Transport::LongPolling,
        Transport::ServerSentEvents,
    ];

    /// As in the label `transport`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Transport::WebSocket => "websocket",
            Transport::LongPolling => "long_polling",
            Transport::ServerSentEvents => "server_sent_events",
        }
    }
}

/// How sends ended that were handed to another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarded {
    /// It answered them.
    Answered,
    /// It cannot take them.
    GivenBack,
    /// No answer came.
    Unanswered,
}

impl Forwarded {
    /// All of them.
    pub const ALL: [Forwarded; 3] = [
        Forwarded::Answered,
        Forwarded::GivenBack,
        Forwarded::Unanswered,
    ];

    /// As in the label `outcome`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Forwarded::Answered => "answered",
            Forwarded::GivenBack => "given_back",
            Forwarded::Unanswered => "unanswered",
        }
    }
}

/// A part of the server whose queue, or whose health, is looked at when somebody asks.
pub type Look = Box<dyn Fn(&Metrics) + Send + Sync>;

/// Everything that is measured.
pub struct Metrics {
    all: Everywhere,
    cluster: InCluster,
    process: OfProcess,
    registries: [(Registry, Vec<Fact>); 3],
    /// Of `cluster.messages`, at hand: there may be many.
    messages_sent: Counter,
    messages_received: Counter,
    /// The sum of `sessions`.
    live_sessions: AtomicU64,
    /// Whether there is a cluster to tell of.
    in_cluster: AtomicBool,
    looks: OnceLock<Vec<Look>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let (all, of_all, all_facts) = Everywhere::registered();
        let (cluster, of_cluster, cluster_facts) = InCluster::registered();
        let (process, of_process, process_facts) = OfProcess::registered();
        all.build_info
            .get_or_create(&[("version", env!("CARGO_PKG_VERSION"))])
            .set(1);
        // What alerts ask for is there from the beginning: what is born with 1 has never risen.
        let transports = Transport::ALL.map(Transport::name);
        begin(&all.sessions, "transport", &transports);
        begin(&all.sessions_opened, "transport", &transports);
        begin(&all.sessions_reconnected, "transport", &transports);
        begin(&all.problems, "code", &[Code::Internal.name()]);
        let slow = [Code::SlowConsumer.name()];
        begin(&all.sessions_closed, "reason", &slow);
        let logins = ["logged_in", "refused", "signed_up"];
        begin(&all.logins, "outcome", &logins);
        let outcomes = Forwarded::ALL.map(Forwarded::name);
        begin(&cluster.forwarded, "outcome", &outcomes);
        let messages = |direction| {
            let counter = cluster.messages.get_or_create(&[("direction", direction)]);
            counter.clone()
        };
        let (messages_sent, messages_received) = (messages("sent"), messages("received"));
        let started = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let started = started.unwrap_or_default().as_secs_f64();
        process.start_time.set(started);
        Metrics {
            messages_sent,
            messages_received,
            all,
            cluster,
            process,
            registries: [
                (of_all, all_facts),
                (of_cluster, cluster_facts),
                (of_process, process_facts),
            ],
            live_sessions: AtomicU64::new(0),
            in_cluster: AtomicBool::new(false),
            looks: OnceLock::new(),
        }
    }
}

/// Makes series with these values of the label, which say 0.
fn begin<M: Clone + Default>(
    family: &Family<Label, M>,
    label: &'static str,
    values: &[&'static str],
) {
    for value in values {
        drop(family.get_or_create(&[(label, value)]));
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Every metric and what it says.
    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.registries.iter().flat_map(|(_, facts)| facts)
    }

    /// Says once what is to be looked at when somebody asks. The looks must not hold what holds the metrics.
    pub fn set_looks(&self, looks: Vec<Look>) {
        if self.looks.set(looks).is_err() {
            tracing::error!("the metrics were told twice what to look at");
        }
    }

    /// There is a cluster: its metrics are served too.
    pub fn is_in_cluster(&self) {
        self.in_cluster.store(true, Ordering::Relaxed);
    }

    /// Everything as text (OpenMetrics 1.0), as it is now.
    #[must_use]
    pub fn encode(&self) -> String {
        for look in self.looks.get().into_iter().flatten() {
            look(self);
        }
        self.look_at_store_errors();
        let has_process = self.look_at_process();
        let is_told = [true, self.in_cluster.load(Ordering::Relaxed), has_process];
        let mut text = String::new();
        let told = self.registries.iter().zip(is_told);
        let written = told
            .filter(|(_, is_told)| *is_told)
            .try_for_each(|((registry, _), _)| text::encode_registry(&mut text, registry))
            .and_then(|()| text::encode_eof(&mut text));
        if let Err(error) = written {
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }
}

/// `GET /metrics`, for the listener of its own.
pub fn router(metrics: Arc<Metrics>) -> Router {
    Router::new()
        .route("/metrics", get(show))
        .with_state(metrics)
}

/// On a thread that may block: there may be many queues to look at.
async fn show(State(metrics): State<Arc<Metrics>>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match tokio::task::spawn_blocking(move || metrics.encode()).await {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics could not be collected");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
