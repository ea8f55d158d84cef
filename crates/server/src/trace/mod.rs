//! Traces of single messages, for OpenTelemetry: what became of one, step by step, from server to server.
//!
//! Off by default: nobody makes a [`Tracer`], and all that is done for a message is to see that there is none. A message
//! is traced because it was drawn (`telemetry.sample_ratio`) or because its client asked (`traceparent`, W3C Trace
//! Context). Spans carry ids and times, never content, names or tokens.
//!
//! In: [`Tracer::begin`] for a command that came. Next: spans as its steps are done (`chat/traced.rs`), then `export`.

mod context;
mod export;
mod span;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidings_core::log::Seq;
use tidings_core::{ClientId, ConversationId};
use tokio::sync::{mpsc, oneshot};
use xxhash_rust::xxh3::xxh3_64;

use crate::clock::random;
use crate::config::TelemetrySettings;

pub use context::Context;
pub use export::{ExportError, Exporter};
pub use span::Span;

/// Spans that wait to be told; past it they are dropped.
const WAITING_MAX: usize = 4_096;
/// Entries of which it is remembered who traces them, until the other servers are told.
const COMMITTED_MAX: usize = 4_096;

tokio::task_local! {
    /// What whoever asks for something says about the trace that it belongs to.
    static ASKED: Context;
}

/// Does something on behalf of a trace.
pub fn asked<T>(context: Option<Context>, does: impl FnOnce() -> T) -> T {
    match context {
        Some(context) => ASKED.sync_scope(context, does),
        None => does(),
    }
}

/// As [`asked`], for what takes its time.
pub async fn asked_in<T>(context: Option<Context>, does: impl Future<Output = T>) -> T {
    match context {
        Some(context) => ASKED.scope(context, does).await,
        None => does.await,
    }
}

/// What is told to the exporter.
enum Told {
    Span(Span),
    Flush(oneshot::Sender<()>),
}

/// Traces messages.
pub struct Tracer {
    /// A message is drawn if its hash is below this.
    drawn_below: u64,
    told: mpsc::Sender<Told>,
    /// The same moment by both clocks.
    origin: (Instant, SystemTime),
    /// Of entries that other servers are about to be told.
    committed: Mutex<HashMap<(ConversationId, Seq), Context>>,
    dropped: AtomicU64,
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer").finish_non_exhaustive()
    }
}

impl Tracer {
    /// A tracer, and what exports its spans: spawn [`Exporter::run`]. `None` if it is off. `node`: this server's name.
    ///
    /// # Errors
    /// When the address is none.
    pub fn new(
        settings: &TelemetrySettings,
        node: &str,
    ) -> Result<Option<(Arc<Tracer>, Exporter)>, ExportError> {
        if settings.otlp_url.is_empty() {
            return Ok(None);
        }
        let (told, waiting) = mpsc::channel(WAITING_MAX);
        let exporter = Exporter::new(&settings.otlp_url, node, waiting)?;
        let tracer = Tracer {
            drawn_below: (settings.sample_ratio * u64::MAX as f64) as u64,
            told,
            origin: (Instant::now(), SystemTime::now()),
            committed: Mutex::default(),
            dropped: AtomicU64::new(0),
        };
        Ok(Some((Arc::new(tracer), exporter)))
    }

    /// A command came. `None` if it is not traced: nobody asked, and it was not drawn.
    #[must_use]
    pub fn begin(self: &Arc<Self>, client_id: ClientId) -> Option<Box<Trace>> {
        let parent = ASKED.try_with(|context| *context).ok();
        if parent.is_none() && xxh3_64(&client_id.0) >= self.drawn_below {
            return None;
        }
        let context = match parent {
            Some(parent) => parent.child(random()),
            None => Context::new(random(), random()),
        };
        Some(Box::new(Trace {
            tracer: self.clone(),
            context,
            parent,
            began: Instant::now(),
            entry: None,
        }))
    }

    /// A step was done. Never waits.
    pub fn span(&self, span: Span) {
        if self.told.try_send(Told::Span(span)).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "spans were dropped: too many wait");
            }
        }
    }

    /// A step of a trace, from one time to another.
    #[must_use]
    pub fn step(&self, name: &'static str, parent: Context, from: Instant, to: Instant) -> Span {
        Span {
            name,
            context: parent.child(random()),
            parent: Some(parent),
            is_asked: false,
            from_ns: self.nanos(from),
            to_ns: self.nanos(to),
            entry: None,
        }
    }

    /// An entry was committed that other servers are about to be told of.
    pub fn note(&self, conversation: ConversationId, seq: Seq, context: Context) {
        let mut committed = self.committed();
        if committed.len() < COMMITTED_MAX {
            committed.insert((conversation, seq), context);
        }
    }

    /// The traces of these entries, as far as there are any; they are forgotten.
    pub fn take_noted(
        &self,
        conversation: ConversationId,
        seqs: impl Iterator<Item = Seq>,
    ) -> Vec<(Seq, Context)> {
        let mut committed = self.committed();
        if committed.is_empty() {
            return Vec::new();
        }
        let noted = |seq| Some((seq, committed.remove(&(conversation, seq))?));
        seqs.filter_map(noted).collect()
    }

    /// Waits until what was told is exported, but not for long.
    pub async fn flush(&self) {
        const WITHIN: Duration = Duration::from_secs(2);
        let (done, is_done) = oneshot::channel();
        if self.told.try_send(Told::Flush(done)).is_ok() {
            // Whoever collects spans may be away: ending does not wait for that.
            let _ = tokio::time::timeout(WITHIN, is_done).await;
        }
    }

    fn committed(&self) -> MutexGuard<'_, HashMap<(ConversationId, Seq), Context>> {
        self.committed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A moment in nanoseconds since 1970.
    fn nanos(&self, at: Instant) -> u64 {
        let (instant, time) = self.origin;
        let origin = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let after = at.saturating_duration_since(instant);
        let before = instant.saturating_duration_since(at);
        u64::try_from((origin + after).saturating_sub(before).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A command that is traced, from its arrival to its answer: then this is dropped.
#[derive(Debug)]
pub struct Trace {
    tracer: Arc<Tracer>,
    context: Context,
    parent: Option<Context>,
    began: Instant,
    entry: Option<(ConversationId, Seq)>,
}

impl Trace {
    /// Where its steps belong.
    #[must_use]
    pub fn context(&self) -> Context {
        self.context
    }

    /// It became this entry.
    pub fn became(&mut self, conversation: ConversationId, seq: Seq) {
        self.entry = Some((conversation, seq));
    }

    /// When it came.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        self.tracer.span(Span {
            name: "send",
            context: self.context,
            parent: self.parent,
            is_asked: true,
            from_ns: self.tracer.nanos(self.began),
            to_ns: self.tracer.nanos(Instant::now()),
            entry: self.entry,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(ratio: f64) -> (Arc<Tracer>, Exporter) {
        let settings = TelemetrySettings {
            otlp_url: "http://127.0.0.1:1".to_owned(),
            sample_ratio: ratio,
        };
        Tracer::new(&settings, "here").unwrap().unwrap()
    }

    #[test]
    fn without_an_address_nothing_is_traced_and_a_wrong_one_is_refused() {
        let off = Tracer::new(&TelemetrySettings::default(), "here").unwrap();
        assert!(off.is_none());
        let wrong = TelemetrySettings {
            otlp_url: "ftp://x".to_owned(),
            ..TelemetrySettings::default()
        };
        assert!(Tracer::new(&wrong, "here").is_err());
    }

    #[test]
    fn messages_are_drawn_as_often_as_is_set_and_each_time_alike() {
        let (some, _kept) = tracer(0.25);
        let id = |number: u32| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            ClientId(id)
        };
        let drawn = (0..4_000).filter(|number| some.begin(id(*number)).is_some());
        let drawn: Vec<u32> = drawn.collect();
        assert!((800..1_200).contains(&drawn.len()), "{}", drawn.len());
        assert!(drawn.iter().all(|number| some.begin(id(*number)).is_some()));
        let (none, _kept) = tracer(0.0);
        assert!((0..4_000).all(|number| none.begin(id(number)).is_none()));
    }

    #[test]
    fn who_asks_is_traced_within_the_trace_that_it_names() {
        let (tracer, _kept) = tracer(0.0);
        let parent = Context::new([7; 16], [8; 8]);
        let trace = asked(Some(parent), || tracer.begin(ClientId([1; 16]))).unwrap();
        assert_eq!(trace.context().trace, [7; 16]);
        assert_eq!(trace.parent, Some(parent));
        assert_ne!(trace.context().span, [8; 8]);
        assert!(asked(None, || tracer.begin(ClientId([1; 16]))).is_none());
    }

    #[test]
    fn entries_are_noted_until_the_others_are_told() {
        let (tracer, _kept) = tracer(0.0);
        let (talk, context) = (ConversationId([1; 16]), Context::new([7; 16], [8; 8]));
        tracer.note(talk, 5, context);
        assert_eq!(tracer.take_noted(talk, 1..=4), []);
        assert_eq!(tracer.take_noted(talk, 4..=6), [(5, context)]);
        assert_eq!(tracer.take_noted(talk, 4..=6), []);
    }
}
