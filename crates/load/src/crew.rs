//! Several event loops side by side, each with its own part of the clients, and the measuring around them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;
use crate::accounts::Account;
use crate::args::{Common, EncodingArg};
use crate::engine::{Engine, Opening, Scenario};
use crate::latency::Latency;
use crate::process::{Processes, Stolen, open_files_max};
use crate::report::Report;
use crate::server::Server;
use crate::session::Traffic;

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Files of a process that are not sessions.
const OTHER_FILES_MAX: u64 = 100;

/// The clients of one thread.
#[derive(Debug)]
pub struct Part<S> {
    /// Whose sessions, in the order in which the scenario knows them.
    pub accounts: Vec<Account>,
    /// What they do.
    pub scenario: S,
}

/// When what happens.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Whether all sessions are open before the start; otherwise opening them is part of it.
    pub opens_first: bool,
    /// What is measured, counted from the start; absent for everything until the scenario is done.
    pub window: Option<(Duration, Duration)>,
    /// The heartbeat to wish for.
    pub heartbeat_ms: Option<u64>,
}

/// What came of it.
#[derive(Debug)]
pub struct Played<S> {
    /// The scenarios, as they ended.
    pub scenarios: Vec<S>,
    /// What went over the wire, opening included.
    pub traffic: Traffic,
    /// From `ping` to `pong`.
    pub heartbeats: Latency,
    /// Sessions that the server closed, and the first reason.
    pub closed: (u64, Option<String>),
    /// What it cost.
    pub cost: Cost,
}

/// What was spent in the measured time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// How long it was.
    pub seconds: f64,
    /// CPU time of the server.
    pub server_cpu: Option<Duration>,
    /// CPU time of the generator.
    pub own_cpu: Duration,
    /// Time of the machine's processors that its host gave to others, in percent of all.
    pub stolen_percent: Option<f64>,
    /// The server's resident memory before the sessions were opened, in bytes.
    pub resident_before: Option<u64>,
    /// At the end, the sessions still open.
    pub resident_after: Option<u64>,
    /// The most that was seen.
    pub resident_max: Option<u64>,
}

/// Lets all parts play, each on its own thread.
///
/// # Errors
/// When a session cannot be opened.
pub fn play<S: Scenario + Send>(
    common: &Common,
    server: &Server,
    parts: Vec<Part<S>>,
    schedule: Schedule,
) -> Result<Played<S>, Error> {
    check_open_files(parts.iter().map(|part| part.accounts.len()).sum())?;
    let opening = Opening {
        addresses: server.addresses().to_vec(),
        encoding: common.encoding.into(),
        short: common.encoding == EncodingArg::Short,
        compresses: common.compress,
        at_once: (common.opening_at_once as usize / parts.len().max(1)).max(1),
        heartbeat_ms: schedule.heartbeat_ms,
        others: 0,
    };
    let gate = Barrier::new(parts.len() + 1);
    let start = OnceLock::<Instant>::new();
    let failed = AtomicUsize::new(0);
    let playing = AtomicUsize::new(parts.len());
    let processes = server.processes();
    let resident_before = processes.resident_bytes();
    let work = |part: Part<S>, others: usize| {
        let opening = Opening {
            others,
            ..opening.clone()
        };
        let opened = open(opening, part.accounts, schedule.opens_first);
        failed.fetch_add(usize::from(opened.is_err()), Ordering::Relaxed);
        gate.wait();
        gate.wait();
        let ended = opened.and_then(|mut engine| {
            let mut scenario = part.scenario;
            if let Some(&start) = start.get() {
                thread::sleep(start.saturating_duration_since(Instant::now()));
                engine.heartbeats.latency = Latency::default();
                scenario.begin(start, &mut engine.sessions);
                engine.run(&mut scenario)?;
            }
            Ok((scenario, engine))
        });
        playing.fetch_sub(1, Ordering::Release);
        // Sessions stay open until they have been measured.
        gate.wait();
        ended
    };
    let work = &work;
    thread::scope(|scope| {
        let mut others = 0;
        let mut threads = Vec::with_capacity(parts.len());
        for part in parts {
            let count = part.accounts.len();
            threads.push(scope.spawn(move || work(part, others)));
            others += count;
        }
        gate.wait();
        let begins = Instant::now() + LOOK_EVERY;
        if failed.load(Ordering::Relaxed) == 0 {
            let _ = start.set(begins);
        }
        gate.wait();
        let mut cost = measure(begins, schedule.window, &processes, &playing);
        cost.resident_before = resident_before;
        gate.wait();
        let mut played = Played {
            scenarios: Vec::new(),
            traffic: Traffic::default(),
            heartbeats: Latency::default(),
            closed: (0, None),
            cost,
        };
        for thread in threads {
            let panicked = |_| Err(Error::Server("a thread stopped short".to_owned()));
            let (scenario, engine) = thread.join().unwrap_or_else(panicked)?;
            played.add(scenario, engine);
        }
        Ok(played)
    })
}

impl<S> Played<S> {
    fn add(&mut self, scenario: S, engine: Engine) {
        self.scenarios.push(scenario);
        self.heartbeats.add(&engine.heartbeats.latency);
        self.closed.0 += engine.closed.0;
        self.closed.1 = self.closed.1.take().or(engine.closed.1);
        let (sum, more) = (&mut self.traffic, engine.sessions.traffic);
        sum.up_bytes += more.up_bytes;
        sum.down_bytes += more.down_bytes;
        sum.up_frames += more.up_frames;
        sum.down_frames += more.down_frames;
        sum.reads += more.reads;
    }

    /// Reports sessions that the server closed, a fault.
    pub fn report_closed(&self, report: &mut Report) {
        report.put_fault("sessions_closed_by_server", self.closed.0);
        if let Some(reason) = &self.closed.1 {
            report.fault(format!("the first session was closed because: {reason}"));
        }
    }
}

impl Cost {
    /// Reports what one of `count` (messages, heartbeats) cost, and how busy both sides were.
    pub fn report(&self, each: &str, count: u64, report: &mut Report) {
        let per = |cpu: Duration| cpu.as_secs_f64() * 1e6 / (count.max(1) as f64);
        let busy = |cpu: Duration| 100.0 * cpu.as_secs_f64() / self.seconds.max(1e-9);
        report.put_some(
            format!("server_cpu_us_per_{each}"),
            self.server_cpu.map(per),
        );
        report.put_some("server_cpu_percent", self.server_cpu.map(busy));
        report.put(format!("generator_cpu_us_per_{each}"), per(self.own_cpu));
        report.put("generator_cpu_percent", busy(self.own_cpu));
        report.put_some("machine_stolen_percent", self.stolen_percent);
        report.put_some("server_resident_bytes", self.resident_after);
        report.put_some("server_resident_max_bytes", self.resident_max);
    }
}

/// Splits a number of clients evenly over the threads: the ranges' bounds.
#[must_use]
pub fn split(count: usize, threads: u16) -> Vec<std::ops::Range<usize>> {
    let threads = usize::from(threads).clamp(1, count.max(1));
    (0..threads)
        .map(|thread| count * thread / threads..count * (thread + 1) / threads)
        .collect()
}

fn open(opening: Opening, accounts: Vec<Account>, opens_first: bool) -> Result<Engine, Error> {
    let tokens = accounts.into_iter().map(|account| account.token).collect();
    let mut engine = Engine::new(opening, tokens)?;
    if opens_first {
        engine.open_all()?;
    }
    Ok(engine)
}

fn measure(
    begins: Instant,
    window: Option<(Duration, Duration)>,
    server: &Processes,
    playing: &AtomicUsize,
) -> Cost {
    let (from, to) = window.map_or((begins, None), |(from, to)| {
        (begins + from, Some(begins + to))
    });
    let is_playing = || playing.load(Ordering::Acquire) > 0;
    sleep_until(from, &is_playing);
    let began = Instant::now();
    let (server_before, own_before) = (server.cpu(), Processes::own().cpu());
    let stolen_before = Stolen::now();
    let mut resident_max = server.resident_bytes();
    while is_playing() && to.is_none_or(|to| Instant::now() < to) {
        let look = Instant::now() + LOOK_EVERY;
        sleep_until(to.map_or(look, |to| to.min(look)), &is_playing);
        // Looking costs the server a lock on its memory map: not while somebody waits for its answers.
        if to.is_none() {
            resident_max = resident_max.max(server.resident_bytes());
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let own_cpu = Processes::own().cpu().unwrap_or_default();
    let server_cpu = server.cpu();
    let stolen = Stolen::now().zip(stolen_before);
    let resident_after = server.resident_bytes();
    while is_playing() {
        thread::sleep(LOOK_EVERY);
    }
    Cost {
        seconds,
        server_cpu: server_cpu
            .zip(server_before)
            .map(|(after, before)| after.saturating_sub(before)),
        own_cpu: own_cpu.saturating_sub(own_before.unwrap_or_default()),
        stolen_percent: stolen.map(|(after, before)| after.percent_since(before)),
        resident_before: None,
        resident_after,
        resident_max: resident_max.max(resident_after),
    }
}

fn sleep_until(time: Instant, is_playing: &impl Fn() -> bool) {
    while is_playing() {
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(LOOK_EVERY));
    }
}

fn check_open_files(sessions: usize) -> Result<(), Error> {
    match open_files_max() {
        Some(max) if (sessions as u64) + OTHER_FILES_MAX > max => Err(Error::Arguments(format!(
            "{sessions} sessions need as many open files, and the system allows {max}: raise `ulimit -n`"
        ))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_split_evenly() {
        assert_eq!(split(10, 3), [0..3, 3..6, 6..10]);
        assert_eq!(split(2, 8), [0..1, 1..2]);
        assert_eq!(split(0, 4).len(), 1);
    }
}
