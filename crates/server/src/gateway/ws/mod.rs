//! `GET /v1/connect`: sessions over WebSocket.
//!
//! In: frames of one client. Next: sends go to their conversation at once and in order
//! ([`dispatch::hand_over`]), other requests to their handler, one after the other
//! ([`dispatch::handle`]). All answers and events come back through the session's queue.

mod framing;
mod handshake;
mod hello;
mod socket;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use tidings_protocol::problem::ErrorFrame;
use tidings_protocol::session::{Bye, Ping};
use tidings_protocol::{ClientFrame, Code, DecodeError, Encoding, Problem, Retry, ServerFrame};
use tokio::time::{Instant, Sleep, sleep_until};

use super::admit::Refusal;
use super::live::Live;
use super::{App, dispatch};
use crate::clock::random;
use crate::session::{Drained, Session, encode};

use framing::Broken;
pub(super) use handshake::connect;
use socket::{Read, Socket};

/// Bytes that are taken from the queue and written in one go, about.
const WRITE_BYTES: usize = 64 * 1024;
/// Frames that are read in a row before answers are written.
const READ_FRAMES: usize = 64;
/// Heartbeats that wait for their answer before nothing more is read.
const PINGS_MAX: usize = 16;
/// How long a closing client may take to read why.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// A connection with a session.
struct Connection {
    app: Arc<App>,
    live: Live,
    address: IpAddr,
    /// The request that is being handled, other than a send or a heartbeat.
    pending: Option<Pin<Box<dyn Future<Output = Option<ServerFrame>> + Send>>>,
    /// The heartbeats that are being answered: others look at the store for it, and nothing else waits for that.
    pinging: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    /// Those that came meanwhile.
    pings: Vec<Ping>,
    last_frame: Instant,
    /// Not read from before this moment: it asked too often.
    paused: Option<Pin<Box<Sleep>>>,
    bad: BadFrames,
}

/// Why a connection ends.
enum End {
    /// The client went.
    Gone,
    /// We end it, and say why.
    Ours(Code),
    /// The client breaks the rules of WebSocket.
    Broken(Broken),
}

/// The whole life of a connection after the handshake.
async fn run(app: Arc<App>, mut socket: Socket, encoding: Encoding, offer: hello::Offer) {
    let address = offer.address;
    // In a box of its own: what only the beginning needs is not kept for as long as the connection.
    let live = match Box::pin(hello::receive(&app, &mut socket, encoding, offer)).await {
        Ok(live) => live,
        Err(hello::Refused::Gone) => return Box::pin(answer_close(socket)).await,
        Err(hello::Refused::Broken(broken)) => {
            app.metrics.problem(broken.code());
            let frames = vec![bye(broken.code(), encoding)];
            return Box::pin(close(socket, frames, broken.code(), broken.close_code())).await;
        }
        Err(hello::Refused::Told(id, problem)) => {
            app.metrics.problem(problem.code);
            let reason = problem.code;
            let error = ServerFrame::Error(ErrorFrame { id, problem });
            let frames = vec![encode(&error, encoding), bye(reason, encoding)];
            return Box::pin(close(socket, frames, reason, close_code(reason))).await;
        }
    };
    let mut connection = Connection {
        app,
        live,
        address,
        pending: None,
        pinging: None,
        pings: Vec::new(),
        last_frame: Instant::now(),
        paused: None,
        bad: BadFrames::default(),
    };
    let (reason, code) = match connection.serve(&mut socket).await {
        End::Gone => {
            drop(connection);
            return Box::pin(answer_close(socket)).await;
        }
        End::Ours(reason) => (reason, close_code(reason)),
        End::Broken(broken) => (broken.code(), broken.close_code()),
    };
    // For the metrics, if it was not the session's queue that said so. The session is live until the client
    // was told: shutting down waits for that.
    connection.live.session.close(reason);
    connection.pending = None;
    connection.pinging = None;
    Box::pin(close(socket, vec![bye(reason, encoding)], reason, code)).await;
}

impl Connection {
    async fn serve(&mut self, socket: &mut Socket) -> End {
        let allowed = self.live.heartbeat
            + Duration::from_millis(self.app.settings.sessions.heartbeat_grace_ms);
        let silent = sleep_until(self.last_frame + allowed);
        tokio::pin!(silent);
        let session = self.live.session.clone();
        loop {
            if let Err(end) = write_waiting(socket, &session, allowed).await {
                return end;
            }
            let may_read = self.may_read();
            tokio::select! {
                // What comes with it (the tick and the entry, the marks of a batch) goes in the same write.
                () = session.wait() => tokio::task::yield_now().await,
                read = socket.read(), if may_read => {
                    if let Err(end) = self.take(socket, read) {
                        return end;
                    }
                }
                answer = pending(&mut self.pending) => {
                    self.pending = None;
                    if let Some(answer) = answer {
                        session.push(&answer);
                    }
                }
                () = happens(&mut self.pinging) => {
                    self.pinging = None;
                    self.answer_pings();
                }
                () = happens(&mut self.paused) => self.paused = None,
                () = &mut silent => {
                    let until = self.last_frame + allowed;
                    if until <= Instant::now() {
                        return End::Ours(Code::HeartbeatMissed);
                    }
                    silent.as_mut().reset(until);
                }
            }
        }
    }

    /// Requests are handled one after the other; of sends a bounded number waits for its answer. Past it
    /// the client is simply not read from.
    fn may_read(&self) -> bool {
        self.pending.is_none()
            && self.paused.is_none()
            && self.pings.len() < PINGS_MAX
            && self.live.session.sends_outstanding.load(Ordering::Relaxed)
                < self.app.settings.limits.sends_outstanding_max
    }

    /// Takes what was read, and what can be read without waiting.
    fn take(&mut self, socket: &mut Socket, first: Read) -> Result<(), End> {
        self.take_one(first)?;
        for _ in 1..READ_FRAMES {
            if !self.may_read() {
                break;
            }
            match socket.read_ready() {
                Some(read) => self.take_one(read)?,
                None => break,
            }
        }
        Ok(())
    }

    fn take_one(&mut self, read: Read) -> Result<(), End> {
        match read {
            Read::Frame(bytes) => {
                self.last_frame = Instant::now();
                match self.live.session.encoding.decode_request(&bytes) {
                    Ok(frame) => self.take_frame(frame),
                    Err(error) => self.refuse_bad(error.id, unreadable(error)),
                }
            }
            Read::OtherType => {
                self.last_frame = Instant::now();
                self.refuse_bad(None, wrong_type(self.live.session.encoding))
            }
            Read::Control => {
                self.last_frame = Instant::now();
                match self.app.charge(self.live.session.caller.user, self.address) {
                    Ok(()) => {}
                    // Nothing that could be answered: it is only read more slowly.
                    Err(problem) => self.pause(&problem),
                }
                Ok(())
            }
            Read::Broken(broken) => {
                self.app.metrics.problem(broken.code());
                Err(End::Broken(broken))
            }
            Read::Gone => Err(End::Gone),
        }
    }

    fn take_frame(&mut self, frame: ClientFrame) -> Result<(), End> {
        let session = self.live.session.clone();
        let id = frame.id();
        let is_say = matches!(frame, ClientFrame::Say(_));
        let mut knows = None;
        let long = match frame {
            ClientFrame::Say(say) => self.app.chat.send_of(&session, say).map(ClientFrame::Send),
            ClientFrame::Seen(seen) => self.app.chat.mark_of(&session, seen).map(|(raise, by)| {
                knows = by;
                ClientFrame::Mark(raise)
            }),
            frame => Ok(frame),
        };
        let frame = match long {
            Ok(frame) => frame,
            // What must not overtake a refused text is not known: all come again on a new connection, in order.
            Err(problem) if is_say => return self.refuse(id, Refusal::End(problem)),
            Err(problem) => return self.refuse_charged(id, problem),
        };
        if let Err(refusal) = self.app.admit(session.caller, self.address, &frame) {
            return self.refuse(id, refusal);
        }
        match frame {
            ClientFrame::Send(send) => dispatch::hand_over(&self.app, &session, send, is_say),
            ClientFrame::Mark(ask) => {
                match dispatch::mark_at_once(&self.app, session.caller, knows, &ask) {
                    Some(answer) => answer.iter().for_each(|answer| session.push(answer)),
                    None => self.begin(ClientFrame::Mark(ask)),
                }
            }
            ClientFrame::Ping(ping) => {
                self.pings.push(ping);
                if self.pinging.is_none() {
                    self.answer_pings();
                }
            }
            frame => self.begin(frame),
        }
        Ok(())
    }

    /// Answers the heartbeats that wait, all by one look at the store.
    fn answer_pings(&mut self) {
        if self.pings.is_empty() {
            return;
        }
        let pings = std::mem::take(&mut self.pings);
        let (app, session) = (self.app.clone(), self.live.session.clone());
        let mut pinging: Pin<Box<dyn Future<Output = ()> + Send>> =
            Box::pin(async move { dispatch::answer_pings(&app, &session, &pings).await });
        // Where nobody shares the store it does not wait for anything.
        if (&mut pinging).now_or_never().is_none() {
            self.pinging = Some(pinging);
        }
    }

    /// Begins to handle a request that may have to wait. The next is read when it is done.
    fn begin(&mut self, frame: ClientFrame) {
        let (app, session) = (self.app.clone(), self.live.session.clone());
        self.pending = Some(Box::pin(async move {
            dispatch::handle(&app, session.caller, Some(&session), frame).await
        }));
    }

    /// A request that was asked too often: refused, and the next one is read when it may pass.
    fn refuse(&mut self, id: Option<u64>, refusal: Refusal) -> Result<(), End> {
        let (problem, ends) = match refusal {
            Refusal::Answer(problem) => (problem, false),
            Refusal::End(problem) => (problem, true),
        };
        self.pause(&problem);
        let code = problem.code;
        self.say(id, problem);
        if ends { Err(End::Ours(code)) } else { Ok(()) }
    }

    /// A request that makes no sense, and counts as one.
    fn refuse_charged(&mut self, id: Option<u64>, problem: Problem) -> Result<(), End> {
        match self.app.charge(self.live.session.caller.user, self.address) {
            Ok(()) => self.say(id, problem),
            Err(problem) => return self.refuse(id, Refusal::Answer(problem)),
        }
        Ok(())
    }

    fn pause(&mut self, problem: &Problem) {
        if let Some(wait_ms) = problem.retry_after_ms {
            let until = Instant::now() + Duration::from_millis(wait_ms);
            self.paused = Some(Box::pin(sleep_until(until)));
        }
    }

    /// A frame that cannot be read. A few are forgiven.
    fn refuse_bad(&mut self, id: Option<u64>, problem: Problem) -> Result<(), End> {
        let code = problem.code;
        self.say(id, problem);
        let max = self.app.settings.limits.bad_frames_per_minute_max;
        if self.bad.one_more(Instant::now()) > max {
            return Err(End::Ours(code));
        }
        Ok(())
    }

    fn say(&self, id: Option<u64>, problem: Problem) {
        self.app.metrics.problem(problem.code);
        self.live
            .session
            .push(&ServerFrame::Error(ErrorFrame { id, problem }));
    }
}

/// Writes what waits in the queue, until nothing does.
async fn write_waiting(
    socket: &mut Socket,
    session: &Session,
    within: Duration,
) -> Result<(), End> {
    loop {
        let mut frames = Vec::new();
        match session.drain(&mut frames, WRITE_BYTES) {
            Drained::Empty if socket.owes_pong() => write(socket, session, frames, within).await?,
            Drained::Empty => return Ok(()),
            Drained::Closed(reason) => return Err(End::Ours(reason)),
            Drained::Frames => write(socket, session, frames, within).await?,
        }
    }
}

/// Writes frames, unless the session ends meanwhile or the client takes nothing for too long.
async fn write(
    socket: &mut Socket,
    session: &Session,
    frames: Vec<Bytes>,
    within: Duration,
) -> Result<(), End> {
    let writing = socket.write(frames);
    tokio::pin!(writing);
    let stalled = tokio::time::sleep(within);
    tokio::pin!(stalled);
    loop {
        tokio::select! {
            biased;
            written = &mut writing => return written.map_err(|_| End::Gone),
            () = &mut stalled => return Err(End::Ours(Code::SlowConsumer)),
            () = session.wait() => match session.closed() {
                // What waits is still sent.
                None | Some(Code::Draining) => {}
                Some(reason) => return Err(End::Ours(reason)),
            },
        }
    }
}

/// The answer of the request that is being handled; never, if there is none.
async fn pending(
    pending: &mut Option<Pin<Box<dyn Future<Output = Option<ServerFrame>> + Send>>>,
) -> Option<ServerFrame> {
    match pending {
        Some(pending) => pending.await,
        None => std::future::pending().await,
    }
}

/// What is waited for; never, if there is nothing.
async fn happens(what: &mut Option<impl Future<Output = ()> + Unpin>) {
    match what {
        Some(what) => what.await,
        None => std::future::pending().await,
    }
}

/// Says why, and closes. The client's last word is not waited for longer than a moment.
async fn close(socket: Socket, frames: Vec<Bytes>, reason: Code, code: u16) {
    // Whether it read the reason is its own affair.
    let _ = tokio::time::timeout(CLOSE_WITHIN, socket.close(frames, code, reason.name())).await;
}

async fn answer_close(socket: Socket) {
    let _ = tokio::time::timeout(CLOSE_WITHIN, socket.answer_close()).await;
}

/// The last frame of a connection.
pub(super) fn bye(reason: Code, encoding: Encoding) -> Bytes {
    let spread = u64::from(u16::from_le_bytes(random()));
    let reconnect_after_ms = match Problem::new(reason).retry {
        Retry::Never | Retry::LogIn => None,
        // Spread over two seconds, so that those who were cut off together do not come back together.
        Retry::Reconnect | Retry::Later | Retry::CatchUp => Some(spread % 2_000),
    };
    encode(
        &ServerFrame::Bye(Bye {
            reason,
            reconnect_after_ms,
        }),
        encoding,
    )
}

/// The WebSocket's own close code (RFC 6455, section 7.4; those from 4000 on are ours: 4000 and the HTTP
/// status).
fn close_code(reason: Code) -> u16 {
    match reason {
        Code::Draining => 1012,
        Code::SlowConsumer | Code::Busy => 1013,
        Code::FrameTooLarge => 1009,
        Code::Internal => 1011,
        reason => 4_000 + Problem::new(reason).status,
    }
}

/// What is told about a frame that cannot be read.
fn unreadable(error: DecodeError) -> Problem {
    let code = if error.unknown_frame {
        Code::UnknownFrame
    } else {
        Code::MalformedFrame
    };
    Problem::new(code).detail(error.message)
}

fn wrong_type(encoding: Encoding) -> Problem {
    Problem::new(Code::MalformedFrame).detail(match encoding {
        Encoding::Json => "frames of tidings.v1.json are text messages",
        Encoding::Cbor => "frames of tidings.v1.cbor are binary messages",
    })
}

/// Frames that could not be read in this minute.
#[derive(Default)]
struct BadFrames {
    since: Option<Instant>,
    count: u32,
}

impl BadFrames {
    fn one_more(&mut self, now: Instant) -> u32 {
        match self.since {
            Some(since) if now.duration_since(since) < Duration::from_secs(60) => {}
            _ => {
                self.since = Some(now);
                self.count = 0;
            }
        }
        self.count = self.count.saturating_add(1);
        self.count
    }
}
