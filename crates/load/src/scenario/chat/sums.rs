//! What all pairs saw, added up, and the report of it.

use std::time::Duration;

use super::Chat;
use super::peer::partner_of;
use crate::args::{Acknowledge, ChatArgs, Common, Mode};
use crate::arrivals::Faults;
use crate::crew::Played;
use crate::latency::Latency;
use crate::report::Report;
use crate::scenario::Refusals;

#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) accepted: u64,
    pub(super) accepted_in_window: u64,
    pub(super) to_sent: Latency,
    pub(super) to_arrival: Latency,
    pub(super) to_delivered: Latency,
    pub(super) to_read: Latency,
    pub(super) lag: Latency,
    /// For so long after the end there was something to wait for.
    pub(super) settled_after: Duration,
    pub(super) refusals: Refusals,
    pub(super) faults: Faults,
    pub(super) unanswered: u64,
    pub(super) ticks_missing: u64,
}

impl Sums {
    pub(super) fn add(&mut self, chat: Chat) {
        let other = chat.sums;
        self.accepted += other.accepted;
        self.accepted_in_window += other.accepted_in_window;
        self.to_sent.add(&other.to_sent);
        self.to_arrival.add(&other.to_arrival);
        self.to_delivered.add(&other.to_delivered);
        self.to_read.add(&other.to_read);
        self.lag.add(&other.lag);
        self.settled_after = self.settled_after.max(other.settled_after);
        self.refusals.add(other.refusals);
        for (index, peer) in chat.peers.iter().enumerate() {
            self.unanswered += peer.outbox.len() as u64;
            let missing = match chat.plan.acknowledge {
                Acknowledge::Nothing => 0,
                Acknowledge::Delivered => peer.for_delivered.len(),
                Acknowledge::Read => peer.for_delivered.len() + peer.for_read.len(),
            };
            self.ticks_missing += missing as u64;
            let mut unacknowledged = peer.given_up.clone();
            unacknowledged.extend(peer.outbox.flights().map(|flight| flight.letter.number));
            if let Some(partner) = chat.peers.get(partner_of(index, chat.plan.partners)) {
                let faults = partner.arrivals.faults(peer.number_next, &unacknowledged);
                self.faults.add(faults);
            }
        }
    }

    /// The report of the whole run; `disk` is what the server kept before and after.
    pub(super) fn report<S>(
        &self,
        common: &Common,
        args: &ChatArgs,
        played: &Played<S>,
        disk: Option<(u64, u64)>,
    ) -> Report {
        let mut report = Report::new("chat");
        report.put("encoding", format!("{:?}", common.encoding).to_lowercase());
        report.put("mode", format!("{:?}", args.mode).to_lowercase());
        report.put("connections", args.connection_count());
        report.put("partners", args.partners);
        match args.mode {
            Mode::Closed => {
                report.put("pipeline", args.pipeline);
                report.put("until", format!("{:?}", args.until).to_lowercase());
            }
            Mode::Open => report.put("rate_messages_per_s", args.rate),
        }
        report.put(
            "acknowledge",
            format!("{:?}", args.acknowledge).to_lowercase(),
        );
        report.put("text_bytes", args.text_bytes);
        report.put("seconds", played.cost.seconds);
        report.put("messages", self.accepted_in_window);
        report.put(
            "messages_per_s",
            self.accepted_in_window as f64 / played.cost.seconds.max(1e-9),
        );
        self.to_sent.report("send_to_sent", &mut report);
        self.to_arrival.report("send_to_arrival", &mut report);
        self.to_delivered.report("send_to_delivered", &mut report);
        self.to_read.report("send_to_read", &mut report);
        self.lag.report("generator_lag", &mut report);
        report.put("settled_after_s", self.settled_after.as_secs_f64());
        report.put_fault("lost", self.faults.lost);
        report.put_fault("doubled", self.faults.doubled);
        report.put_fault("reordered", self.faults.reordered);
        report.put_fault("unanswered", self.unanswered);
        report.put_fault("ticks_missing", self.ticks_missing);
        self.refusals.report(&mut report);
        played.report_closed(&mut report);
        played
            .cost
            .report("message", self.accepted_in_window, &mut report);
        let each = |bytes: u64| bytes as f64 / (self.accepted.max(1) as f64);
        let traffic = &played.traffic;
        report.put("wire_up_bytes_per_message", each(traffic.up_bytes));
        report.put("wire_down_bytes_per_message", each(traffic.down_bytes));
        report.put("wire_up_frames_per_message", each(traffic.up_frames));
        report.put("wire_down_frames_per_message", each(traffic.down_frames));
        report.put("wire_reads_per_message", each(traffic.reads));
        report.put_some(
            "disk_bytes_per_message",
            disk.map(|(before, after)| each(after.saturating_sub(before))),
        );
        report
    }
}
