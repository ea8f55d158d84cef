//! The steps of messages that are traced.
//!
//! In: a batch that was appended (`drive`), or handed to another server (`heard`). Next: `trace`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_core::ConversationId;
use tidings_core::log::Seq;

use super::drive::Decided;
use super::queue::Queued;
use super::{Chat, Conversation};
use crate::trace::{Context, Tracer};

/// Messages of an append that are traced; mostly none.
pub(super) struct Committed {
    tracer: Arc<Tracer>,
    conversation: ConversationId,
    entries: Vec<(Seq, Context)>,
    at: Instant,
}

impl Chat {
    /// Has messages traced, from the first request on.
    pub fn set_tracer(&self, tracer: Arc<Tracer>) {
        if self.tracer.set(tracer).is_err() {
            tracing::error!("the conversations were told twice who traces messages");
        }
    }

    /// Who traces messages, if they are traced at all.
    #[must_use]
    pub fn tracer(&self) -> Option<&Arc<Tracer>> {
        self.tracer.get()
    }

    /// A batch was appended, which took so long: its messages were decided and are committed. Nothing if none of them
    /// is traced.
    pub(super) fn trace_commit(
        &self,
        conversation: &Conversation,
        batch: &mut [Queued],
        decided: &Decided,
        took: Duration,
    ) -> Option<Committed> {
        let tracer = self.tracer()?;
        let at = Instant::now();
        let begun = at.checked_sub(took).unwrap_or(at);
        let mut entries = Vec::new();
        for accepted in &decided.accepted {
            let queued = batch.get_mut(accepted.index);
            let Some(trace) = queued.and_then(|queued| queued.trace.as_mut()) else {
                continue;
            };
            let (id, seq, context) = (conversation.id, accepted.seq, trace.context());
            trace.became(id, seq);
            let decide = tracer.step("decide", context, trace.began(), begun);
            tracer.span(decide.about(id, seq));
            tracer.span(tracer.step("commit", context, begun, at).about(id, seq));
            if self.is_shared() {
                tracer.note(id, seq, context);
            }
            entries.push((seq, context));
        }
        (!entries.is_empty()).then(|| Committed {
            tracer: tracer.clone(),
            conversation: conversation.id,
            entries,
            at,
        })
    }

    /// A batch was handed to another server at this time, and is answered or given back.
    pub(super) fn trace_forward(&self, batch: &[Queued], at: Instant) {
        let Some(tracer) = self.tracer() else { return };
        let now = Instant::now();
        for trace in batch.iter().filter_map(|queued| queued.trace.as_ref()) {
            tracer.span(tracer.step("forward", trace.context(), at, now));
        }
    }
}

impl Committed {
    /// The entries are in the queues of the live sessions here, and on their way to other servers.
    pub(super) fn told(self) {
        let now = Instant::now();
        for (seq, context) in self.entries {
            let tell = self.tracer.step("tell", context, self.at, now);
            self.tracer.span(tell.about(self.conversation, seq));
        }
    }
}
