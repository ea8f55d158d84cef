//! What is counted, in Prometheus' (OpenMetrics') text format, on a listener of its own. Methods are named
//! after what happened; none of them waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tidings_protocol::Code;

/// One label and its value.
type Label = [(&'static str, &'static str); 1];
type Counters = Family<Label, Counter<u64, AtomicU64>>;
type Gauges = Family<Label, Gauge<i64, AtomicI64>>;

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

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    sessions: Gauges,
    sessions_opened: Counters,
    sessions_closed: Counters,
    /// The sum of `sessions`.
    live_sessions: AtomicU64,
    messages_accepted: Counter,
    deliveries: Counter,
    commit: Histogram,
    delivery: Histogram,
    queues: Gauges,
    problems: Counters,
    logins: Counters,
    password_hash: Histogram,
    panics: Counter,
}

/// From 100 µs, each 2.5 or 2 times the one before, to 10 s.
const LATENCIES_S: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("tidings"),
            sessions: Gauges::default(),
            sessions_opened: Counters::default(),
            sessions_closed: Counters::default(),
            live_sessions: AtomicU64::new(0),
            messages_accepted: Counter::default(),
            deliveries: Counter::default(),
            commit: Histogram::new(LATENCIES_S),
            delivery: Histogram::new(LATENCIES_S),
            queues: Gauges::default(),
            problems: Counters::default(),
            logins: Counters::default(),
            password_hash: Histogram::new(LATENCIES_S),
            panics: Counter::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "sessions",
            "Live sessions by transport",
            self.sessions.clone(),
        );
        registry.register(
            "sessions_opened",
            "Sessions opened by transport (reconnects included)",
            self.sessions_opened.clone(),
        );
        registry.register(
            "sessions_closed",
            "Sessions closed by reason (the problem code, or client)",
            self.sessions_closed.clone(),
        );
        registry.register(
            "messages_accepted",
            "Entries made durable and acknowledged",
            self.messages_accepted.clone(),
        );
        registry.register(
            "deliveries",
            "Entries queued to live sessions",
            self.deliveries.clone(),
        );
        registry.register_with_unit(
            "commit",
            "From a command to its durable entry",
            Unit::Seconds,
            self.commit.clone(),
        );
        registry.register_with_unit(
            "delivery",
            "From an entry's time to the first acknowledgement by a recipient's device",
            Unit::Seconds,
            self.delivery.clone(),
        );
        registry.register("queue_depth", "What waits, by queue", self.queues.clone());
        registry.register(
            "problems",
            "Errors told to clients by code",
            self.problems.clone(),
        );
        registry.register(
            "logins",
            "Logins and sign-ups by outcome",
            self.logins.clone(),
        );
        registry.register_with_unit(
            "password_hash",
            "Computing one password hash",
            Unit::Seconds,
            self.password_hash.clone(),
        );
        registry.register(
            "panics",
            "Panics of tasks: each is a bug",
            self.panics.clone(),
        );
    }

    /// A session was opened.
    pub fn session_opened(&self, transport: Transport) {
        let label = [("transport", transport.name())];
        self.sessions.get_or_create(&label).inc();
        self.sessions_opened.get_or_create(&label).inc();
        self.live_sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// Sessions that are open, over all transports.
    #[must_use]
    pub fn live_sessions(&self) -> u64 {
        self.live_sessions.load(Ordering::Relaxed)
    }

    /// A session was closed, with a reason of ours or by the client.
    pub fn session_closed(&self, transport: Transport, reason: Option<Code>) {
        self.sessions
            .get_or_create(&[("transport", transport.name())])
            .dec();
        self.live_sessions.fetch_sub(1, Ordering::Relaxed);
        self.sessions_closed
            .get_or_create(&[("reason", reason.map_or("client", Code::name))])
            .inc();
    }

    /// An entry is durable and its author knows.
    pub fn message_accepted(&self) {
        self.messages_accepted.inc();
    }

    /// Entries went into the queues of so many sessions.
    pub fn delivered_to(&self, sessions: u64) {
        self.deliveries.inc_by(sessions);
    }

    /// From a command to its durable entry.
    pub fn commit_took(&self, time: Duration) {
        self.commit.observe(time.as_secs_f64());
    }

    /// From an entry's time to the first acknowledgement by a recipient's device.
    pub fn delivered_after(&self, time: Duration) {
        self.delivery.observe(time.as_secs_f64());
    }

    /// So many wait in a queue now.
    pub fn queue_depth(&self, queue: &'static str, depth: usize) {
        self.queues
            .get_or_create(&[("queue", queue)])
            .set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// A client was told of a problem.
    pub fn problem(&self, code: Code) {
        self.problems.get_or_create(&[("code", code.name())]).inc();
    }

    /// Somebody signed up or logged in, or failed to.
    pub fn login(&self, outcome: &'static str) {
        self.logins.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// A password was hashed.
    pub fn password_hash_took(&self, time: Duration) {
        self.password_hash.observe(time.as_secs_f64());
    }

    /// A task panicked.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Entries acknowledged so far.
    #[must_use]
    pub fn messages_accepted_total(&self) -> u64 {
        self.messages_accepted.get()
    }

    /// Everything as text (OpenMetrics 1.0).
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        if let Err(error) = text::encode(&mut text, &self.registry) {
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

async fn show(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    (
        [(
            CONTENT_TYPE,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
        )],
        metrics.encode(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_counted() {
        let metrics = Metrics::default();
        metrics.session_opened(Transport::WebSocket);
        metrics.session_opened(Transport::LongPolling);
        metrics.session_closed(Transport::LongPolling, Some(Code::SlowConsumer));
        metrics.message_accepted();
        metrics.delivered_to(3);
        metrics.commit_took(Duration::from_millis(2));
        metrics.queue_depth("commit", 7);
        metrics.problem(Code::NotFound);
        let text = metrics.encode();
        for line in [
            r#"tidings_sessions{transport="websocket"} 1"#,
            r#"tidings_sessions{transport="long_polling"} 0"#,
            r#"tidings_sessions_closed_total{reason="slow_consumer"} 1"#,
            "tidings_messages_accepted_total 1",
            "tidings_deliveries_total 3",
            r#"tidings_commit_seconds_bucket{le="0.0025"} 1"#,
            r#"tidings_commit_seconds_bucket{le="0.001"} 0"#,
            r#"tidings_queue_depth{queue="commit"} 7"#,
            r#"tidings_problems_total{code="not_found"} 1"#,
            "# EOF",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
