//! What happened, and how things are: a method for each.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidings_protocol::Code;

use super::process::{Space, memory_limit, open_files_max, usage};
use super::store_failed::store_failures;
use super::{Forwarded, Metrics, Transport};
use crate::health::Condition;

impl Metrics {
    /// A session was opened.
    pub fn session_opened(&self, transport: Transport) {
        let label = [("transport", transport.name())];
        self.all.sessions.get_or_create(&label).inc();
        self.all.sessions_opened.get_or_create(&label).inc();
        self.live_sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// The session is that of a device that was here in the last minutes.
    pub fn session_is_back(&self, transport: Transport) {
        let label = [("transport", transport.name())];
        self.all.sessions_reconnected.get_or_create(&label).inc();
    }

    /// Sessions that are open, over all transports.
    #[must_use]
    pub fn live_sessions(&self) -> u64 {
        self.live_sessions.load(Ordering::Relaxed)
    }

    /// A session was closed, with a reason of ours or by the client.
    pub fn session_closed(&self, transport: Transport, reason: Option<Code>) {
        self.all
            .sessions
            .get_or_create(&[("transport", transport.name())])
            .dec();
        self.live_sessions.fetch_sub(1, Ordering::Relaxed);
        self.all
            .sessions_closed
            .get_or_create(&[("reason", reason.map_or("client", Code::name))])
            .inc();
    }

    /// An entry is durable and its author knows.
    pub fn message_accepted(&self) {
        self.all.messages_accepted.inc();
    }

    /// Entries went into the queues of so many sessions.
    pub fn delivered_to(&self, sessions: u64) {
        self.all.deliveries.inc_by(sessions);
    }

    /// From handing entries to the store until they are durable.
    pub fn commit_took(&self, time: Duration) {
        self.all.commit.observe(time.as_secs_f64());
    }

    /// From a command's arrival until its entry is in the queues of the live sessions here.
    pub fn delivered_after(&self, time: Duration) {
        self.all.delivery.observe(time.as_secs_f64());
    }

    /// So many wait in a queue now.
    pub fn queue_depth(&self, queue: &'static str, depth: usize) {
        self.all
            .queue_depth
            .get_or_create(&[("queue", queue)])
            .set(i64::try_from(depth).unwrap_or(i64::MAX));
    }

    /// A client was told of a problem.
    pub fn problem(&self, code: Code) {
        self.all
            .problems
            .get_or_create(&[("code", code.name())])
            .inc();
    }

    /// Somebody signed up or logged in, or failed to.
    pub fn login(&self, outcome: &'static str) {
        self.all.logins.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// A password was hashed.
    pub fn password_hash_took(&self, time: Duration) {
        self.all.password_hash.observe(time.as_secs_f64());
    }

    /// A task panicked.
    pub fn panicked(&self) {
        self.all.panics.inc();
    }

    /// Entries acknowledged so far.
    #[must_use]
    pub fn messages_accepted_total(&self) -> u64 {
        self.all.messages_accepted.get()
    }

    /// The server takes new sessions, or does not.
    pub fn ready(&self, is_ready: bool) {
        self.all.ready.set(i64::from(is_ready));
    }

    /// How a part is.
    pub fn health(&self, part: &'static str, condition: Condition) {
        let gauge = self.all.health.get_or_create(&[("part", part)]);
        gauge.set(match condition {
            Condition::Well => 0,
            Condition::Degraded => 1,
            Condition::Unfit => 2,
        });
    }

    /// The server is made for so many sessions.
    pub fn sessions_max(&self, sessions: u64) {
        self.all.sessions_max.set(whole(sessions));
    }

    /// The oldest in a queue has waited so long.
    pub fn queue_age(&self, queue: &'static str, age: Duration) {
        self.all
            .queue_age
            .get_or_create(&[("queue", queue)])
            .set(age.as_secs_f64());
    }

    /// The fullest session's queue is so full, from 0 to 1.
    pub fn session_queue_fullest(&self, ratio: f64) {
        self.all.session_queue_fullest_ratio.set(ratio);
    }

    /// So many conversations are in memory.
    pub fn conversations_in_memory(&self, count: usize) {
        self.all.conversations_in_memory.set(whole(count as u64));
    }

    /// The disk under the data directory has so much space.
    pub fn disk(&self, space: Space) {
        let label = [("of", "data")];
        self.all
            .disk_free
            .get_or_create(&label)
            .set(whole(space.free));
        self.all
            .disk_size
            .get_or_create(&label)
            .set(whole(space.size));
    }

    /// There are so many other servers.
    pub fn peers(&self, count: usize) {
        self.cluster.peers.set(whole(count as u64));
    }

    /// The wire to the other servers is up, or down.
    pub fn wire_connected(&self, is_connected: bool) {
        let was_connected = self.cluster.wire_connected.set(i64::from(is_connected));
        if was_connected == 1 && !is_connected {
            self.cluster.wire_losses.inc();
        }
    }

    /// So many messages wait for the wire.
    pub fn wire_queue_depth(&self, depth: usize) {
        self.cluster.wire_queue_depth.set(whole(depth as u64));
    }

    /// So many messages went to other servers together.
    pub fn messages_sent(&self, count: usize) {
        self.messages_sent.inc_by(count as u64);
    }

    /// So many messages came from another server together.
    pub fn messages_received(&self, count: usize) {
        self.messages_received.inc_by(count as u64);
    }

    /// A message to another server was dropped, as too many wait.
    pub fn message_dropped(&self) {
        self.cluster.messages_dropped.inc();
    }

    /// So many sends were handed to another server, and ended so.
    pub fn forwarded(&self, outcome: Forwarded, sends: usize) {
        let label = [("outcome", outcome.name())];
        self.cluster
            .forwarded
            .get_or_create(&label)
            .inc_by(sends as u64);
    }

    /// So many entries by other servers were read from the store.
    pub fn caught_up(&self, entries: usize) {
        self.cluster.catch_ups.inc();
        self.cluster.caught_up_entries.inc_by(entries as u64);
    }

    /// An append met another server's.
    pub fn conflict(&self) {
        self.cluster.conflicts.inc();
    }

    /// This server's clock is so far ahead of the middle one.
    pub fn clock_ahead_ms(&self, ahead_ms: i64) {
        self.cluster.clock_ahead.set(ahead_ms as f64 / 1_000.0);
    }

    /// Takes over how often the store has failed.
    pub(super) fn look_at_store_errors(&self) {
        for (kind, total) in store_failures() {
            let counter = self.all.store_errors.get_or_create(&[("kind", kind)]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }

    /// Looks at the process. Whether the system says anything.
    pub(super) fn look_at_process(&self) -> bool {
        let Some(usage) = usage() else {
            return false;
        };
        let process = &self.process;
        let used = process.cpu.get();
        process.cpu.inc_by((usage.cpu_s - used).max(0.0));
        process.resident_memory.set(whole(usage.resident));
        process.threads.set(whole(usage.threads));
        process.open_fds.set(whole(usage.open_files));
        process
            .max_fds
            .set(whole(open_files_max().unwrap_or(u64::MAX)));
        if let Some(limit) = memory_limit() {
            process.memory_limit.set(whole(limit));
        }
        true
    }
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
