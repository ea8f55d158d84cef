//! `offline`: devices that all come back at once to messages that wait for them. First some users write
//! them; then every device connects, reads its inbox and the pages it lacks, and acknowledges.

mod fill;

use std::time::{Duration, Instant};

use tidings_protocol::sync::{Conversation, HistoryPage, HistoryRequest, InboxPage, InboxRequest};
use tidings_protocol::{ClientFrame, ServerFrame};

use self::fill::fill;
use super::{Refusals, marks_notice};
use crate::Error;
use crate::accounts::{Account, sign_up};
use crate::args::{Acknowledge, Common, OfflineArgs};
use crate::arrivals::{Arrivals, Faults};
use crate::crew::{self, Part, Schedule, split};
use crate::engine::{FIRST_REQUEST_ID, Scenario, Step, refusal};
use crate::latency::Latency;
use crate::letter::Letter;
use crate::report::Report;
use crate::server::Server;
use crate::session::Sessions;

/// How long nothing may come before the devices are given up.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// Plays the scenario.
///
/// # Errors
/// When it could not be played.
pub fn run(common: &Common, args: &OfflineArgs, server: &Server) -> Result<Report, Error> {
    let devices = sign_up(server.addresses()[0], args.devices as usize)?;
    let filled = fill(common, args, server, &devices)?;

    let part = |range: std::ops::Range<usize>| {
        let accounts = devices
            .get(range)
            .map(<[Account]>::to_vec)
            .unwrap_or_default();
        let returning = Return {
            devices: accounts.iter().map(|_| Device::default()).collect(),
            waiting: args.waiting,
            page: args.page,
            start: Instant::now(),
            last_news: Instant::now(),
            level: 0,
            to_level: Latency::default(),
            refusals: Refusals::default(),
        };
        Part {
            accounts,
            scenario: returning,
        }
    };
    let parts = split(devices.len(), common.threads).into_iter().map(part);
    let schedule = Schedule {
        opens_first: false,
        window: None,
        heartbeat_ms: None,
    };
    let played = crew::play(common, server, parts.collect(), schedule)?;

    let mut report = Report::new("offline");
    let mut faults = Faults::default();
    let mut to_level = Latency::default();
    let mut refusals = filled.refusals;
    let (mut arrived, mut level, mut seconds) = (0, 0, 0f64);
    for scenario in &played.scenarios {
        to_level.add(&scenario.to_level);
        refusals.add(scenario.refusals.clone());
        level += scenario.level;
        let took = scenario.last_news.saturating_duration_since(scenario.start);
        seconds = seconds.max(took.as_secs_f64());
        for device in &scenario.devices {
            arrived += device.arrivals.count();
            faults.add(device.arrivals.faults(args.waiting, &Default::default()));
        }
    }
    report.put("encoding", format!("{:?}", common.encoding).to_lowercase());
    report.put("devices", args.devices);
    report.put("waiting_messages_per_device", args.waiting);
    report.put("text_bytes", args.text_bytes);
    report.put("fill_messages_per_s", filled.messages_per_s);
    report.put("seconds", seconds);
    report.put("messages", arrived);
    report.put("messages_per_s", arrived as f64 / seconds.max(1e-9));
    to_level.report("connect_to_level", &mut report);
    report.put("devices_level", level);
    report.put_fault("devices_not_level", devices.len() as u64 - level);
    report.put_fault("lost", faults.lost);
    report.put_fault("doubled", faults.doubled);
    report.put_fault("reordered", faults.reordered);
    refusals.report(&mut report);
    played.report_closed(&mut report);
    played.cost.report("message", arrived, &mut report);
    report.put(
        "wire_down_bytes_per_message",
        played.traffic.down_bytes as f64 / (arrived.max(1) as f64),
    );
    Ok(report)
}

/// The devices of one thread that come back.
#[derive(Debug)]
struct Return {
    devices: Vec<Device>,
    waiting: u32,
    page: Option<u32>,
    start: Instant,
    last_news: Instant,
    level: u64,
    to_level: Latency,
    refusals: Refusals,
}

#[derive(Debug, Default)]
struct Device {
    request: u64,
    /// Requests without an answer.
    under_way: u32,
    arrivals: Arrivals,
    is_level: bool,
}

impl Device {
    fn ask(&mut self, make: impl FnOnce(u64) -> ClientFrame) -> ClientFrame {
        self.request += 1;
        self.under_way += 1;
        make(FIRST_REQUEST_ID + self.request)
    }

    fn ask_inbox(&mut self, cursor: Option<String>) -> ClientFrame {
        self.ask(|id| {
            ClientFrame::Inbox(InboxRequest {
                id,
                cursor,
                limit: None,
            })
        })
    }
}

impl Return {
    fn handle_inbox(&mut self, index: usize, page: InboxPage, sessions: &mut Sessions) {
        let Some(device) = self.devices.get_mut(index) else {
            return;
        };
        if page.next.is_some() {
            sessions.send(index, &device.ask_inbox(page.next));
        }
        for conversation in &page.conversations {
            if let Some(request) = behind(conversation, self.page, device) {
                sessions.send(index, &request);
            }
        }
    }

    fn handle_history(&mut self, index: usize, page: &HistoryPage, sessions: &mut Sessions) {
        let Some(device) = self.devices.get_mut(index) else {
            return;
        };
        for entry in &page.entries {
            let text = entry.content.as_ref().map(|content| content.text.as_str());
            if let Some(letter) = text.and_then(Letter::parse) {
                device.arrivals.arrive(letter.number);
            }
        }
        if page.more {
            let limit = self.page;
            let frame = device.ask(|id| {
                ClientFrame::History(HistoryRequest {
                    id,
                    conversation: page.conversation,
                    after: Some(page.to),
                    before: None,
                    around: None,
                    limit,
                    generation: Some(page.generation),
                    hash: None,
                })
            });
            sessions.send(index, &frame);
        }
        let mark = [(page.conversation, page.to)];
        sessions.send(index, &marks_notice(mark, Acknowledge::Delivered));
    }

    fn answered(&mut self, now: Instant, index: usize) {
        self.last_news = now;
        let Some(device) = self.devices.get_mut(index) else {
            return;
        };
        device.under_way = device.under_way.saturating_sub(1);
        let has_all = device.arrivals.count() >= u64::from(self.waiting);
        if device.under_way == 0 && has_all && !device.is_level {
            device.is_level = true;
            self.level += 1;
            self.to_level
                .record(now.saturating_duration_since(self.start));
        }
    }
}

/// The request for the first page that a device lacks.
fn behind(
    conversation: &Conversation,
    limit: Option<u32>,
    device: &mut Device,
) -> Option<ClientFrame> {
    (conversation.head > conversation.device).then(|| {
        device.ask(|id| {
            ClientFrame::History(HistoryRequest {
                id,
                conversation: conversation.conversation,
                after: Some(conversation.device),
                before: None,
                around: None,
                limit,
                generation: Some(conversation.generation),
                hash: None,
            })
        })
    })
}

impl Scenario for Return {
    fn begin(&mut self, start: Instant, _: &mut Sessions) {
        self.start = start;
        self.last_news = start;
    }

    fn handle_welcome(&mut self, _: Instant, index: usize, sessions: &mut Sessions) {
        if let Some(device) = self.devices.get_mut(index) {
            sessions.send(index, &device.ask_inbox(None));
        }
    }

    fn handle_frame(
        &mut self,
        now: Instant,
        index: usize,
        frame: ServerFrame,
        sessions: &mut Sessions,
    ) {
        match frame {
            ServerFrame::Inbox(page) => self.handle_inbox(index, page, sessions),
            ServerFrame::History(page) => self.handle_history(index, &page, sessions),
            ServerFrame::Error(error) => {
                self.refusals.for_good += 1;
                self.refusals
                    .first
                    .get_or_insert_with(|| refusal(&error.problem));
            }
            _ => return,
        }
        self.answered(now, index);
    }

    fn poll(&mut self, now: Instant, _: &mut Sessions) -> Step {
        let all = self.level == self.devices.len() as u64;
        if all || now > self.last_news + STALLED_AFTER {
            return Step::Done;
        }
        Step::WaitUntil(now + STALLED_AFTER)
    }
}
