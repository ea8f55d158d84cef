//! The event loop of one thread. In come readiness of sockets and time, out go frames to a scenario: a
//! state machine that says what to send and when to ask it again.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::{Events, Poll};
use tidings_protocol::session::{Hello, Ping, Welcome};
use tidings_protocol::{ClientFrame, Encoding, ServerFrame};

use crate::Error;
use crate::latency::Latency;
use crate::session::{Input, Sessions, Stage};
use crate::websocket::{self, Frame, Inflater, Opcode};

/// Request ids from here on are the scenarios'; those below are the engine's own.
pub const FIRST_REQUEST_ID: u64 = 2;

const HELLO_ID: u64 = 0;
const PING_ID: u64 = 1;

const READ_BUFFER_BYTES: usize = 256 * 1024;

/// Sockets handled before the clock is looked at again: few, so that appointed times are kept.
const EVENTS_AT_ONCE_MAX: usize = 64;

/// How long opening one session may take before the run is given up.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// The longest sleep, should a scenario not say when to be asked again.
const SLEEP_MAX: Duration = Duration::from_millis(100);

/// What a scenario wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To be asked again at this time, or earlier if something came.
    WaitUntil(Instant),
    /// Nothing more.
    Done,
}

/// What the clients of one thread do.
pub trait Scenario {
    /// The measured time begins at `start`.
    fn begin(&mut self, start: Instant, sessions: &mut Sessions) {
        let _ = (start, sessions);
    }

    /// A session is open.
    fn handle_welcome(&mut self, now: Instant, index: usize, sessions: &mut Sessions) {
        let _ = (now, index, sessions);
    }

    /// A frame came (heartbeats are the engine's).
    fn handle_frame(
        &mut self,
        now: Instant,
        index: usize,
        frame: ServerFrame,
        sessions: &mut Sessions,
    );

    /// All frames that came together have been handled: the moment to acknowledge them at once.
    fn handle_pause(&mut self, now: Instant, index: usize, sessions: &mut Sessions) {
        let _ = (now, index, sessions);
    }

    /// Asked after everything that came, and at the time it wished for.
    fn poll(&mut self, now: Instant, sessions: &mut Sessions) -> Step;
}

/// How sessions are opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The servers: sessions go to them in turn.
    pub addresses: Vec<SocketAddr>,
    /// How frames are written.
    pub encoding: Encoding,
    /// Whether short forms are wished for.
    pub short: bool,
    /// Whether the server is to compress.
    pub compresses: bool,
    /// How many are opened at the same time.
    pub at_once: usize,
    /// The heartbeat to wish for.
    pub heartbeat_ms: Option<u64>,
    /// How many sessions other threads have.
    pub others: usize,
}

impl Opening {
    /// The server of a session.
    pub(crate) fn address(&self, index: usize) -> SocketAddr {
        self.addresses[(self.others + index) % self.addresses.len()]
    }
}

/// Heartbeats of all sessions.
#[derive(Debug, Default)]
pub struct Heartbeats {
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    sent: Vec<Option<Instant>>,
    interval: Duration,
    /// From `ping` to `pong`.
    pub latency: Latency,
}

/// The event loop.
#[derive(Debug)]
pub struct Engine {
    poll: Poll,
    buffer: Vec<u8>,
    inflater: Inflater,
    opening: Opening,
    began: Vec<Instant>,
    waiting: usize,
    under_way: usize,
    /// Sessions that are open.
    pub open: usize,
    /// Sessions that the server closed, and the first reason.
    pub closed: (u64, Option<String>),
    /// The heartbeats.
    pub heartbeats: Heartbeats,
    /// The sessions.
    pub sessions: Sessions,
}

/// A scenario that ends when all sessions are open.
struct UntilOpen(usize);

impl Scenario for UntilOpen {
    fn handle_welcome(&mut self, _: Instant, _: usize, _: &mut Sessions) {
        self.0 = self.0.saturating_sub(1);
    }

    fn handle_frame(&mut self, _: Instant, _: usize, _: ServerFrame, _: &mut Sessions) {}

    fn poll(&mut self, now: Instant, _: &mut Sessions) -> Step {
        match self.0 {
            0 => Step::Done,
            _ => Step::WaitUntil(now + SLEEP_MAX),
        }
    }
}

impl Engine {
    /// An event loop for sessions with these tokens; none is opened yet.
    ///
    /// # Errors
    /// When the system has no event queue left.
    pub fn new(opening: Opening, tokens: Vec<String>) -> Result<Engine, Error> {
        let poll = Poll::new().map_err(Error::doing("making an event queue"))?;
        Ok(Engine {
            poll,
            buffer: vec![0; READ_BUFFER_BYTES],
            inflater: Inflater::default(),
            began: Vec::with_capacity(tokens.len()),
            waiting: tokens.len(),
            under_way: 0,
            open: 0,
            closed: (0, None),
            heartbeats: Heartbeats {
                sent: vec![None; tokens.len()],
                ..Heartbeats::default()
            },
            sessions: Sessions::new(tokens, opening.encoding),
            opening,
        })
    }

    /// Opens all sessions.
    ///
    /// # Errors
    /// When the server refuses one.
    pub fn open_all(&mut self) -> Result<(), Error> {
        self.run(&mut UntilOpen(self.sessions.len()))
    }

    /// Lets a scenario play until it is done. Sessions that are not open yet are opened meanwhile.
    ///
    /// # Errors
    /// When a session cannot be opened. One that is closed later is counted.
    pub fn run<S: Scenario>(&mut self, scenario: &mut S) -> Result<(), Error> {
        let mut events = Events::with_capacity(EVENTS_AT_ONCE_MAX);
        loop {
            let now = Instant::now();
            let Step::WaitUntil(wake) = scenario.poll(now, &mut self.sessions) else {
                self.flush()?;
                return Ok(());
            };
            self.open_some(now)?;
            let wake = self.beat(now).map_or(wake, |beat| wake.min(beat));
            self.flush()?;
            let sleep = wake
                .saturating_duration_since(Instant::now())
                .min(SLEEP_MAX);
            match self.poll.poll(&mut events, Some(sleep)) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other.map_err(Error::doing("waiting for sockets"))?,
            }
            for event in &events {
                let index = event.token().0;
                if event.is_writable()
                    && self.sessions.get(index).is_some_and(|s| s.is_writing())
                    && let Err(error) = self.sessions.write(index)
                {
                    self.lost(index, &error.to_string())?;
                }
                if event.is_readable() || event.is_error() {
                    self.read(index, event.is_read_closed(), scenario)?;
                }
                self.flush()?;
            }
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        for (index, error) in self.sessions.flush() {
            self.lost(index, &error.to_string())?;
        }
        Ok(())
    }

    fn open_some(&mut self, now: Instant) -> Result<(), Error> {
        while self.waiting > 0 && self.under_way < self.opening.at_once {
            let index = self.sessions.len() - self.waiting;
            let Some(session) = self.sessions.get(index) else {
                break;
            };
            session
                .connect(index, &self.opening, self.poll.registry())
                .map_err(Error::doing(format!(
                    "connecting to {}",
                    self.opening.address(index)
                )))?;
            let host = self.opening.address(index).to_string();
            let subprotocol = self.opening.encoding.subprotocol();
            let request = websocket::upgrade_request(&host, subprotocol, self.opening.compresses);
            self.sessions.put_raw(index, request.as_bytes());
            self.began.push(now);
            self.waiting -= 1;
            self.under_way += 1;
        }
        // They begin in order, so the oldest that is under way is near the first that is not open.
        let oldest = self.open + self.closed.0 as usize;
        match self.began.get(oldest) {
            Some(began) if self.under_way > 0 && now.duration_since(*began) > OPEN_WITHIN => {
                Err(Error::Server(format!(
                    "{} sessions did not open within {} s",
                    self.under_way,
                    OPEN_WITHIN.as_secs()
                )))
            }
            _ => Ok(()),
        }
    }

    /// Sends the heartbeats that are due; says when the next one is.
    fn beat(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let &Reverse((due, index)) = self.heartbeats.due.peek()?;
            if due > now {
                return Some(due);
            }
            self.heartbeats.due.pop();
            if self
                .sessions
                .get(index)
                .is_some_and(|session| session.stage == Stage::Open)
            {
                let next = due + self.heartbeats.interval;
                self.heartbeats.due.push(Reverse((next, index)));
                self.sessions
                    .send(index, &ClientFrame::Ping(Ping { id: PING_ID }));
                if let Some(sent) = self.heartbeats.sent.get_mut(index) {
                    *sent = Some(now);
                }
            }
        }
    }

    fn read<S: Scenario>(
        &mut self,
        index: usize,
        to_the_end: bool,
        scenario: &mut S,
    ) -> Result<(), Error> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut ended = Ok(());
        while let Some(session) = self.sessions.get(index) {
            let (count, is_last) = match session.read(&mut buffer) {
                Ok(Input::More(count)) => (count, false),
                Ok(Input::Last(count)) => (count, !to_the_end),
                Ok(Input::Nothing) => break,
                Ok(Input::End) => {
                    ended = self.lost(index, "the server hung up");
                    break;
                }
                Err(error) => {
                    ended = self.lost(index, &error.to_string());
                    break;
                }
            };
            self.sessions.traffic.down_bytes += count as u64;
            self.sessions.traffic.reads += 1;
            ended = self.take_in(index, buffer.get(..count).unwrap_or_default(), scenario);
            if is_last || ended.is_err() {
                break;
            }
        }
        self.buffer = buffer;
        scenario.handle_pause(Instant::now(), index, &mut self.sessions);
        ended
    }

    /// Handles all whole frames and keeps the rest.
    fn take_in<S: Scenario>(
        &mut self,
        index: usize,
        bytes: &[u8],
        scenario: &mut S,
    ) -> Result<(), Error> {
        let now = Instant::now();
        let Some(session) = self.sessions.get(index) else {
            return Ok(());
        };
        let mut joined = std::mem::take(&mut session.rest);
        let mut input = bytes;
        if !joined.is_empty() {
            joined.extend_from_slice(bytes);
            input = &joined;
        }
        let stage = session.stage;
        if stage == Stage::Upgrading {
            match websocket::parse_upgrade(input) {
                Ok(Some(taken)) => {
                    let head = input.get(..taken).unwrap_or_default();
                    if self.opening.compresses && !websocket::agrees_to_compress(head) {
                        let hint = "the server does not compress: see sessions.compress_from_bytes";
                        return Err(Error::Server(hint.to_owned()));
                    }
                    input = input.get(taken..).unwrap_or_default();
                    self.say_hello(index);
                }
                Ok(None) => {}
                Err(answer) => {
                    return Err(Error::Server(format!("no WebSocket: {answer}")));
                }
            }
        }
        while self
            .sessions
            .get(index)
            .is_some_and(|s| matches!(s.stage, Stage::Greeting | Stage::Open))
        {
            match websocket::parse(input) {
                Ok(Some((frame, taken))) => {
                    self.handle(now, index, frame, scenario)?;
                    input = input.get(taken..).unwrap_or_default();
                }
                Ok(None) => break,
                Err(error) => {
                    self.lost(index, &error.to_string())?;
                }
            }
        }
        if !input.is_empty()
            && let Some(session) = self.sessions.get(index)
            && session.stage != Stage::Closed
        {
            session.rest = input.to_vec();
        }
        Ok(())
    }

    fn say_hello(&mut self, index: usize) {
        let Some(session) = self.sessions.get(index) else {
            return;
        };
        session.stage = Stage::Greeting;
        let hello = Hello {
            id: HELLO_ID,
            token: Some(session.token.clone()),
            client: concat!("tidings-load/", env!("CARGO_PKG_VERSION")).to_owned(),
            rules: 1,
            marks: Vec::new(),
            heartbeat_ms: self.opening.heartbeat_ms,
            short: self.opening.short,
        };
        self.sessions.send(index, &ClientFrame::Hello(hello));
    }

    fn handle<S: Scenario>(
        &mut self,
        now: Instant,
        index: usize,
        frame: Frame<'_>,
        scenario: &mut S,
    ) -> Result<(), Error> {
        let decoded = match frame {
            Frame::Data(payload) => self.opening.encoding.decode(payload),
            Frame::Compressed(payload) if self.opening.compresses => {
                match self.inflater.inflate(payload) {
                    Ok(message) => self.opening.encoding.decode(message),
                    Err(error) => return self.lost(index, &error.to_string()),
                }
            }
            Frame::Compressed(_) => {
                return self.lost(index, "it compresses, which was not agreed on");
            }
            Frame::Ping(payload) => {
                self.sessions.put(index, Opcode::Pong, payload);
                return Ok(());
            }
            Frame::Pong => return Ok(()),
            Frame::Close => return self.lost(index, "the server closed the connection"),
        };
        self.sessions.traffic.down_frames += 1;
        let frame = match decoded {
            Ok(frame) => frame,
            Err(error) => return self.lost(index, &format!("a frame that is none: {error}")),
        };
        match frame {
            ServerFrame::Welcome(welcome) if welcome.short != self.opening.short => {
                let hint = "it does not agree on short forms: use --encoding cbor";
                return self.lost(index, hint);
            }
            ServerFrame::Welcome(welcome) => {
                self.welcome(now, index, &welcome);
                scenario.handle_welcome(now, index, &mut self.sessions);
            }
            ServerFrame::Pong(_) => {
                let sent = self.heartbeats.sent.get_mut(index).and_then(Option::take);
                if let Some(sent) = sent {
                    self.heartbeats
                        .latency
                        .record(now.saturating_duration_since(sent));
                }
            }
            ServerFrame::Bye(bye) => return self.lost(index, bye.reason.name()),
            ServerFrame::Error(error) if error.id == Some(HELLO_ID) => {
                return self.lost(index, &refusal(&error.problem));
            }
            frame => scenario.handle_frame(now, index, frame, &mut self.sessions),
        }
        Ok(())
    }

    fn welcome(&mut self, now: Instant, index: usize, welcome: &Welcome) {
        let Some(session) = self.sessions.get(index) else {
            return;
        };
        if session.stage != Stage::Greeting {
            return;
        }
        session.stage = Stage::Open;
        self.under_way -= 1;
        self.open += 1;
        let interval = Duration::from_millis(welcome.heartbeat_ms.max(1));
        self.heartbeats.interval = interval;
        // Spread over the interval, as those of people are who came at different times.
        let part = index as f64 / self.sessions.len().max(1) as f64;
        let first = now + interval.mul_f64(part);
        self.heartbeats.due.push(Reverse((first, index)));
    }

    /// A session is gone. That ends the run if it was not even open.
    fn lost(&mut self, index: usize, why: &str) -> Result<(), Error> {
        let Some(session) = self.sessions.get(index) else {
            return Ok(());
        };
        let was = session.stage;
        session.close();
        match was {
            Stage::Closed => Ok(()),
            Stage::Open => {
                self.open -= 1;
                self.closed.0 += 1;
                self.closed.1.get_or_insert_with(|| why.to_owned());
                Ok(())
            }
            _ => Err(Error::Server(format!(
                "a session could not be opened: {why}"
            ))),
        }
    }
}

/// What a problem says, in one line.
#[must_use]
pub fn refusal(problem: &tidings_protocol::Problem) -> String {
    let detail = problem.detail.as_deref().or(problem.limit.as_deref());
    match detail {
        Some(detail) => format!("{} ({detail})", problem.code.name()),
        None => problem.code.name().to_owned(),
    }
}
