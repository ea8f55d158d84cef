//! `idle`: sessions that do nothing but their heartbeat, to see what each costs in memory and in CPU time.

use std::time::{Duration, Instant};

use tidings_protocol::ServerFrame;

use crate::Error;
use crate::accounts::{Account, sign_up};
use crate::args::{Common, IdleArgs, duration};
use crate::crew::{self, Part, Schedule, split};
use crate::engine::{Scenario, Step};
use crate::report::Report;
use crate::server::Server;
use crate::session::Sessions;

/// After starting, the server is left alone for so long before it is looked at.
const SETTLE: Duration = Duration::from_secs(1);

/// Plays the scenario. A server of our own is started afresh between signing up and opening, so that all
/// that a session needs is counted: also what the server keeps of its user and token.
///
/// # Errors
/// When it could not be played.
pub fn run(common: &Common, args: &IdleArgs, server: &mut Server) -> Result<Report, Error> {
    let accounts = sign_up(server.addresses()[0], args.sessions as usize)?;
    if server.restart()? {
        // What starting up itself needs is not to be taken for the sessions'.
        sign_up(server.addresses()[0], 1)?;
        std::thread::sleep(SETTLE);
    }
    let length = duration(args.seconds);
    let part = |range: std::ops::Range<usize>| Part::<Idle> {
        accounts: accounts
            .get(range)
            .map(<[Account]>::to_vec)
            .unwrap_or_default(),
        scenario: Idle {
            length,
            end: Instant::now(),
        },
    };
    let parts = split(accounts.len(), common.threads).into_iter().map(part);
    let schedule = Schedule {
        opens_first: true,
        window: Some((Duration::ZERO, length)),
        heartbeat_ms: args.heartbeat_ms,
    };
    let played = crew::play(common, server, parts.collect(), schedule)?;

    let mut report = Report::new("idle");
    report.put("encoding", format!("{:?}", common.encoding).to_lowercase());
    report.put("sessions", args.sessions);
    report.put("seconds", played.cost.seconds);
    report.put_some("server_resident_before_bytes", played.cost.resident_before);
    let grown = played.cost.resident_after.zip(played.cost.resident_before);
    report.put_some(
        "server_resident_bytes_per_session",
        grown.map(|(after, before)| {
            after.saturating_sub(before) as f64 / f64::from(args.sessions.max(1))
        }),
    );
    let heartbeats = played.heartbeats.count();
    report.put("heartbeats", heartbeats);
    played.heartbeats.report("ping_to_pong", &mut report);
    played.report_closed(&mut report);
    played.cost.report("heartbeat", heartbeats, &mut report);
    Ok(report)
}

#[derive(Debug)]
struct Idle {
    length: Duration,
    end: Instant,
}

impl Scenario for Idle {
    fn begin(&mut self, start: Instant, _: &mut Sessions) {
        self.end = start + self.length;
    }

    fn handle_frame(&mut self, _: Instant, _: usize, _: ServerFrame, _: &mut Sessions) {}

    fn poll(&mut self, now: Instant, _: &mut Sessions) -> Step {
        if now >= self.end {
            return Step::Done;
        }
        Step::WaitUntil(self.end)
    }
}
