//! Everything that is measured: each metric once, with its name, kind and meaning.
//!
//! The registries that are served and the table in docs/operations/metrics.md are both made from this.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry, Unit};

/// One label and its value.
pub(super) type Label = [(&'static str, &'static str); 1];
pub(super) type Counters = Family<Label, Counter<u64, AtomicU64>>;
pub(super) type Gauges = Family<Label, Gauge<i64, AtomicI64>>;
pub(super) type FloatGauge = Gauge<f64, AtomicU64>;
pub(super) type FloatGauges = Family<Label, FloatGauge>;
pub(super) type FloatCounter = Counter<f64, AtomicU64>;

/// What a metric is, for whoever reads about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// As it is served: with prefix, unit and suffix.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What it says.
    pub help: String,
}

/// From 100 µs, each 2.5 or 2 times the one before, to 10 s.
const LATENCIES_S: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Something that can be registered.
pub(super) trait Measure: Metric + Clone {
    const KIND: &'static str;
    fn empty() -> Self;
}

macro_rules! kinds {
    ($($measure:ty: $kind:literal = $empty:expr;)*) => {
        $(impl Measure for $measure {
            const KIND: &'static str = $kind;
            fn empty() -> Self {
                $empty
            }
        })*
    };
}

kinds! {
    Counter: "counter" = Counter::default();
    FloatCounter: "counter" = Counter::default();
    Counters: "counter" = Counters::default();
    Gauge: "gauge" = Gauge::default();
    Gauges: "gauge" = Gauges::default();
    FloatGauge: "gauge" = Gauge::default();
    FloatGauges: "gauge" = FloatGauges::default();
    Histogram: "histogram" = Histogram::new(LATENCIES_S);
}

/// Registers a metric, and says what it is.
fn register<M: Measure>(
    registry: &mut Registry,
    (prefix, name, unit): (&str, &str, Option<Unit>),
    help: &str,
    measure: &M,
) -> Fact {
    let suffix = if M::KIND == "counter" { "_total" } else { "" };
    let unit_name = unit
        .as_ref()
        .map_or(String::new(), |unit| format!("_{}", unit.as_str()));
    let full = format!("{prefix}_{name}");
    // The registry ends the help with a stop.
    match unit {
        Some(unit) => registry.register_with_unit(full.clone(), help, unit, measure.clone()),
        None => registry.register(full.clone(), help, measure.clone()),
    }
    Fact {
        name: format!("{full}{unit_name}{suffix}"),
        kind: M::KIND,
        help: help.to_owned(),
    }
}

/// A group of metrics: prefix; then meaning, name, unit if it has one, and type of each.
macro_rules! measures {
    ($(#[doc = $about:literal])+ $group:ident: $prefix:literal {
        $($(#[doc = $doc:literal])+ $field:ident: $type:ty $([$unit:ident])?,)*
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub(super) struct $group {
            $($(#[doc = $doc])+ pub(super) $field: $type,)*
        }

        impl $group {
            /// All of them, with a registry that serves them, and what each is.
            pub(super) fn registered() -> ($group, Registry, Vec<Fact>) {
                let group = $group { $($field: <$type as Measure>::empty(),)* };
                let mut registry = Registry::default();
                let facts = vec![$(register(
                    &mut registry,
                    ($prefix, stringify!($field), measures!(@unit $($unit)?)),
                    [$($doc),+].concat().trim(),
                    &group.$field,
                )),*];
                (group, registry, facts)
            }
        }
    };
    (@unit) => { None };
    (@unit $unit:ident) => { Some(Unit::$unit) };
}

measures! {
    /// What every server measures.
    Everywhere: "tidings" {
        /// 1, with the version of the program
        build_info: Gauges,
        /// 1 while it takes new sessions; 0 while it shuts down or is not fit to serve
        ready: Gauge,
        /// How a part is (`store`, `clock`, `nats`): 0 well, 1 degraded, 2 so that nobody should be sent here
        health: Gauges,
        /// Live sessions by transport
        sessions: Gauges,
        /// Sessions that the server is made for (`cluster.sessions_max`)
        sessions_max: Gauge,
        /// Sessions opened by transport (reconnects included)
        sessions_opened: Counters,
        /// Sessions opened, by transport, by a device that was here in the last minutes
        sessions_reconnected: Counters,
        /// Sessions closed by reason (the problem code, or client)
        sessions_closed: Counters,
        /// Entries made durable and acknowledged
        messages_accepted: Counter,
        /// Entries queued to live sessions
        deliveries: Counter,
        /// From handing entries to the store until they are durable
        commit: Histogram [Seconds],
        /// From a command's arrival until its entry is in the queues of the live sessions here
        delivery: Histogram [Seconds],
        /// What waits, by queue: `commands` (accepted and not answered), `commit` (for the store's committer), `reads`
        /// (for the store's reading threads), `sessions` (frames for clients), `passwords` (hashes)
        queue_depth: Gauges,
        /// How long the oldest has waited, by queue: `commands` in a conversation, `commit` for the disk
        queue_age: FloatGauges [Seconds],
        /// How full the fullest session's queue is; at 1 the session is closed as slow
        session_queue_fullest_ratio: FloatGauge,
        /// Conversations in memory
        conversations_in_memory: Gauge,
        /// Errors told to clients by code
        problems: Counters,
        /// Failures of the store by kind: `unavailable` (no answer in time), `stopped`, `damaged`, `misuse`
        store_errors: Counters,
        /// Logins and sign-ups by outcome
        logins: Counters,
        /// Computing one password hash
        password_hash: Histogram [Seconds],
        /// Panics of tasks: each is a bug
        panics: Counter,
        /// Free space of the file system in which the data directory is; not with Cassandra
        disk_free: Gauges [Bytes],
        /// Size of that file system
        disk_size: Gauges [Bytes],
    }
}

measures! {
    /// What a server of a cluster measures besides.
    InCluster: "tidings_cluster" {
        /// Other servers that are alive
        peers: Gauge,
        /// 1 while the connection to NATS is up
        wire_connected: Gauge,
        /// Times that the connection to NATS was lost
        wire_losses: Counter,
        /// Messages that wait to be sent to other servers
        wire_queue_depth: Gauge,
        /// Messages between servers, by direction (`sent`, `received`)
        messages: Counters,
        /// Messages to other servers that were dropped because too many waited
        messages_dropped: Counter,
        /// Sends handed to the server that has the conversation, by outcome: `answered`; `given_back` and `unanswered`,
        /// which were then worked on here
        forwarded: Counters,
        /// Times that entries by other servers were read from the store
        catch_ups: Counter,
        /// Those entries
        caught_up_entries: Counter,
        /// Appends that met another server's, and were decided again
        conflicts: Counter,
        /// How far this server's clock is ahead of the middle one of all servers' and Cassandra's
        clock_ahead: FloatGauge [Seconds],
    }
}

measures! {
    /// What the system knows of the process (Linux).
    OfProcess: "process" {
        /// Processor time used
        cpu: FloatCounter [Seconds],
        /// Memory in use
        resident_memory: Gauge [Bytes],
        /// Memory that the process may use: its control group's limit, or the machine's memory
        memory_limit: Gauge [Bytes],
        /// Open files, connections included
        open_fds: Gauge,
        /// How many files may be open
        max_fds: Gauge,
        /// Threads
        threads: Gauge,
        /// When the process was started, since 1970
        start_time: FloatGauge [Seconds],
    }
}
