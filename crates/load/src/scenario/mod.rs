//! The scenarios: what the clients do, and what is made of what they saw. One file each.

pub mod chat;
pub mod fanout;
mod group;
pub mod idle;
pub mod offline;

use std::time::{Duration, Instant};

use tidings_core::ConversationId;
use tidings_protocol::ClientFrame;
use tidings_protocol::mark::{MarkUpdate, RaiseMarks};
use tidings_protocol::short::{Handle, Seen};

use crate::args::Acknowledge;
use crate::report::Report;

/// How long after the last message its answers are waited for.
const SETTLE_WITHIN: Duration = Duration::from_secs(20);

/// The measured time.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: Instant,
    to: Instant,
}

impl Window {
    fn holds(&self, time: Instant) -> bool {
        (self.from..self.to).contains(&time)
    }
}

/// What the server refused.
#[derive(Clone, Debug, Default)]
struct Refusals {
    for_now: u64,
    for_good: u64,
    first: Option<String>,
}

impl Refusals {
    fn add(&mut self, other: Refusals) {
        self.for_now += other.for_now;
        self.for_good += other.for_good;
        self.first = self.first.take().or(other.first);
    }

    /// A message that was refused for now is sent again, so that is no fault.
    fn report(&self, report: &mut Report) {
        report.put("refused_for_now", self.for_now);
        report.put_fault("refused", self.for_good);
        if let Some(first) = &self.first {
            report.put("first_refusal", first.as_str());
        }
    }
}

/// The notice by which a client acknowledges: no answer is wanted.
fn marks_notice(
    marks: impl IntoIterator<Item = (ConversationId, u64)>,
    acknowledge: Acknowledge,
) -> ClientFrame {
    let update = |(conversation, seq)| MarkUpdate {
        conversation,
        delivered: Some(seq),
        read: (acknowledge == Acknowledge::Read).then_some(seq),
        generation: None,
    };
    ClientFrame::Mark(RaiseMarks {
        id: None,
        marks: marks.into_iter().map(update).collect(),
    })
}

/// The same in the short form.
fn seen_notice(conversation: Handle, seq: u64, acknowledge: Acknowledge) -> ClientFrame {
    ClientFrame::Seen(Seen {
        id: None,
        conversation,
        delivered: Some(seq),
        read: (acknowledge == Acknowledge::Read).then_some(seq),
        tell: false,
    })
}
