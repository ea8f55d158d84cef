//! What becomes of messages that were sent: accepted, then delivered, then read.

use std::collections::VecDeque;
use std::time::Instant;

use tidings_core::digest;
use tidings_protocol::mark;
use tidings_protocol::send::Sent;
use tidings_protocol::short::{Handle, Said, Steps};

use super::Chat;
use crate::args::{Acknowledge, Until};
use crate::latency::Latency;
use crate::session::Sessions;

impl Chat {
    pub(super) fn handle_sent(
        &mut self,
        now: Instant,
        index: usize,
        sent: &Sent,
        sessions: &mut Sessions,
    ) {
        if let Some(peer) = self.peers.get_mut(index) {
            peer.note_seen(sent.generation, sent.seq);
        }
        self.handle_accepted(now, index, (sent.id, sent.seq), sessions);
    }

    /// An answer that may stand for the entry's event.
    pub(super) fn handle_said(
        &mut self,
        now: Instant,
        index: usize,
        said: &Said,
        sessions: &mut Sessions,
    ) {
        if said.ordinal.is_some() {
            self.cover(index, said.seq, said.seq, sessions);
        }
        self.handle_accepted(now, index, (said.id, said.seq), sessions);
    }

    /// The message with this request's id has become an entry.
    fn handle_accepted(
        &mut self,
        now: Instant,
        index: usize,
        (id, seq): (u64, u64),
        sessions: &mut Sessions,
    ) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let Some(flight) = peer.outbox.sent(id) else {
            return;
        };
        self.sums.accepted += 1;
        self.sums.accepted_in_window += u64::from(self.plan.window.holds(now));
        if self.plan.window.holds(flight.started) {
            let took = now.saturating_duration_since(flight.started);
            self.sums.to_sent.record(took);
        }
        if self.plan.acknowledge != Acknowledge::Nothing {
            self.open_ends += 1;
            peer.for_delivered.push_back((seq, flight.started));
            if self.plan.acknowledge == Acknowledge::Read {
                self.open_ends += 1;
                peer.for_read.push_back((seq, flight.started));
            }
        }
        if self.plan.until == Until::Sent {
            self.next_of(now, index, sessions);
        }
        // The partner may have been quicker than the answer.
        self.take_ticks(now, index, sessions);
    }

    fn take_ticks(&mut self, now: Instant, index: usize, sessions: &mut Sessions) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let window = self.plan.window;
        let pass = |queue: &mut VecDeque<(u64, Instant)>, mark: u64, latency: &mut Latency| {
            let mut passed = 0;
            while let Some((_, started)) = queue.pop_front_if(|(seq, _)| *seq <= mark) {
                passed += 1;
                if window.holds(started) {
                    latency.record(now.saturating_duration_since(started));
                }
            }
            passed
        };
        let delivered = pass(
            &mut peer.for_delivered,
            peer.delivered,
            &mut self.sums.to_delivered,
        );
        let read = pass(&mut peer.for_read, peer.shown, &mut self.sums.to_read);
        self.open_ends = self.open_ends.saturating_sub(delivered + read);
        let ended = match self.plan.until {
            Until::Sent => 0,
            Until::Delivered => delivered,
            Until::Read => read,
        };
        for _ in 0..ended {
            self.next_of(now, index, sessions);
        }
    }

    pub(super) fn handle_steps(
        &mut self,
        now: Instant,
        index: usize,
        event: &Steps,
        sessions: &mut Sessions,
    ) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        let partner = Handle(digest::user_handle(peer.partner));
        for step in event.steps.iter().filter(|step| step.user == partner) {
            peer.delivered = peer.delivered.max(step.delivered.unwrap_or(0));
            peer.shown = peer.shown.max(step.shown.unwrap_or(0));
        }
        self.take_ticks(now, index, sessions);
    }

    pub(super) fn handle_marks(
        &mut self,
        now: Instant,
        index: usize,
        marks: &mark::Marks,
        sessions: &mut Sessions,
    ) {
        let Some(peer) = self.peers.get_mut(index) else {
            return;
        };
        for step in marks.marks.iter().filter(|step| step.user == peer.partner) {
            peer.delivered = peer.delivered.max(step.delivered.unwrap_or(0));
            peer.shown = peer.shown.max(step.shown.unwrap_or(0));
        }
        self.take_ticks(now, index, sessions);
    }
}
