//! `GET /v1/connect`: sessions over WebSocket.
//!
//! In: frames of one client. Next: sends go to their conversation at once and in order
//! ([`dispatch::hand_over`]), other requests to their handler, one after the other
//! ([`dispatch::handle`]). All answers and events come back through the session's queue.

mod busy;
mod deflate;
mod ending;
mod extensions;
mod framing;
mod handshake;
mod hello;
mod socket;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt as _;
use tidings_protocol::problem::ErrorFrame;
use tidings_protocol::{ClientFrame, Code, Encoding, Problem, ServerFrame};
use tokio::task::coop::{consume_budget, unconstrained};
use tokio::time::{Instant, Sleep, sleep_until};

use super::admit::Refusal;
use super::live::Live;
use super::{App, dispatch};
use crate::session::{Drained, encode};

use busy::{Busy, poll_slot};
pub(super) use ending::bye;
use ending::{BadFrames, CLOSE_WITHIN, answer_close, close, close_code, unreadable, wrong_type};
use framing::Broken;
pub(super) use handshake::connect;
use socket::{Read, Socket};

/// Bytes that are taken from the queue and written in one go, about.
const WRITE_BYTES: usize = 64 * 1024;
/// Frames that are read in a row before answers are written.
const READ_FRAMES: usize = 64;
/// Who goes on reading may take so many times as long for one batch as it may take nothing.
const SLOWNESS_MAX: u32 = 8;

/// A connection with a session. Most of the time it waits, and there are many: what is needed only now and then
/// is kept in boxes.
struct Connection {
    live: Live,
    socket: Socket,
    address: IpAddr,
    busy: Option<Box<Busy>>,
    last_frame: Instant,
    /// Whether the timer of its silence will wake it.
    awaits_silence: bool,
    /// Whether something was written just now: then it is its client's turn.
    has_written: bool,
    bad: Option<Box<BadFrames>>,
}

/// How much of what waited was written.
enum Wrote {
    Nothing,
    All,
    Part,
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

/// A connection after the handshake: waits for `hello`. With a session it lives on in a task of its own, so that
/// what only the beginning needs is not kept for as long as the connection.
async fn begin(app: Arc<App>, mut socket: Socket, encoding: Encoding, offer: hello::Offer) {
    let address = offer.address;
    match hello::receive(&app, &mut socket, encoding, offer).await {
        Ok(live) => {
            let connection = Connection {
                live,
                socket,
                address,
                busy: None,
                last_frame: Instant::now(),
                awaits_silence: false,
                has_written: false,
                bad: None,
            };
            tokio::spawn(live_on(connection));
        }
        Err(hello::Refused::Gone) => answer_close(socket).await,
        Err(hello::Refused::Broken(broken)) => {
            app.metrics.problem(broken.code());
            let frames = VecDeque::from([bye(broken.code(), encoding)]);
            close(socket, frames, broken.code(), broken.close_code()).await;
        }
        Err(hello::Refused::Told(id, problem)) => {
            app.metrics.problem(problem.code);
            let reason = problem.code;
            let error = ServerFrame::Error(ErrorFrame { id, problem });
            let frames = VecDeque::from([encode(&error, encoding), bye(reason, encoding)]);
            close(socket, frames, reason, close_code(reason)).await;
        }
    }
}

/// The rest of a connection's life. (Not an `async fn`, which would keep room for its argument twice.)
#[expect(
    clippy::manual_async_fn,
    reason = "an async fn holds its arguments twice"
)]
fn live_on(mut connection: Connection) -> impl Future<Output = ()> + Send {
    async move {
        let end = connection.serve().await;
        Box::pin(connection.end(end)).await;
    }
}

impl Connection {
    async fn serve(&mut self) -> End {
        let mut silent = pin!(sleep_until(self.last_frame + self.allowed()));
        loop {
            if let Err(end) = self.write_waiting().await {
                return end;
            }
            if let Err(end) = poll_fn(|cx| self.poll_next(cx, silent.as_mut())).await {
                return end;
            }
            // Others have their turn too, however much comes for this one.
            consume_budget().await;
        }
    }

    async fn end(mut self, end: End) {
        let (reason, code) = match end {
            End::Gone => {
                drop(self.live);
                return answer_close(self.socket).await;
            }
            End::Ours(reason) => (reason, close_code(reason)),
            End::Broken(broken) => (broken.code(), broken.close_code()),
        };
        // What was answered already is told before the end, up to a batch of it. (Of a session that others ended
        // nothing waits.)
        let mut frames = VecDeque::new();
        self.live.session.drain(&mut frames, WRITE_BYTES);
        // For the metrics, if it was not the session's queue that said so. The session is live until the client
        // was told: shutting down waits for that.
        self.live.session.close(reason);
        self.busy = None;
        frames.push_back(bye(reason, self.live.session.encoding));
        close(self.socket, frames, reason, code).await;
    }

    /// How long it may be silent, or take nothing of what is written to it.
    fn allowed(&self) -> Duration {
        self.live.heartbeat
            + Duration::from_millis(self.live.app.settings.sessions.heartbeat_grace_ms)
    }

    /// Waits for what comes next and handles it: what is to be written, or after that was written once what is to
    /// be read, so that neither holds the other up. What keeps the client from being read goes before reading.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        mut silent: Pin<&mut Sleep>,
    ) -> Poll<Result<(), End>> {
        let reads_first = std::mem::take(&mut self.has_written);
        if !reads_first && self.live.session.poll_wait(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if self.poll_busy(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        if self.may_read()
            && let Poll::Ready(read) = self.socket.poll_read(cx)
        {
            return Poll::Ready(self.take(read));
        }
        if reads_first && self.live.session.poll_wait(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        // A timer that was asked once wakes this task, whatever else it is woken for before. Asked without a budget:
        // with one that is used up it would say that it waits, and not have been asked.
        if !self.awaits_silence || silent.is_elapsed() {
            let asked = pin!(unconstrained(silent.as_mut()));
            self.awaits_silence = asked.poll(cx).is_pending();
        }
        if self.awaits_silence {
            return Poll::Pending;
        }
        let until = self.last_frame + self.allowed();
        silent.reset(until);
        Poll::Ready(if until <= Instant::now() {
            Err(End::Ours(Code::HeartbeatMissed))
        } else {
            Ok(())
        })
    }

    fn poll_busy(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(busy) = &mut self.busy else {
            return Poll::Pending;
        };
        if let Poll::Ready(answer) = poll_slot(&mut busy.pending, cx) {
            if let Some(answer) = answer {
                self.live.session.push(&answer);
            }
        } else if poll_slot(&mut busy.pinging, cx).is_ready() {
            self.answer_pings();
        } else if poll_slot(&mut busy.paused, cx).is_pending() {
            return Poll::Pending;
        }
        self.busy.take_if(|busy| busy.is_over());
        Poll::Ready(())
    }

    /// Requests are handled one after the other; of sends a bounded number waits for its answer. Past it
    /// the client is simply not read from.
    fn may_read(&self) -> bool {
        self.busy.as_ref().is_none_or(|busy| busy.may_read())
            && self
                .live
                .session
                .may_take_send(self.live.app.settings.limits.sends_outstanding_max)
    }

    fn busy(&mut self) -> &mut Busy {
        self.busy.get_or_insert_default()
    }

    /// Writes what waits in the queue; of much of it a part, and what is left at the next turn.
    async fn write_waiting(&mut self) -> Result<(), End> {
        match self.write_some()? {
            Wrote::Nothing => return Ok(()),
            Wrote::All => {}
            // Seldom: what it takes to wait for a client that does not read is not kept ready.
            Wrote::Part => Box::pin(self.flush_slowly()).await?,
        }
        self.has_written = true;
        Ok(())
    }

    /// Takes what waits in the queue and writes as much of it as can be written without waiting.
    fn write_some(&mut self) -> Result<Wrote, End> {
        let mut frames = VecDeque::new();
        match self.live.session.drain(&mut frames, WRITE_BYTES) {
            Drained::Empty if !self.socket.owes_pong() => return Ok(Wrote::Nothing),
            Drained::Closed(reason) => return Err(End::Ours(reason)),
            Drained::Empty | Drained::Frames => {}
        }
        match self.socket.write_now(frames) {
            Some(written) => written.map(|()| Wrote::All).map_err(|_| End::Gone),
            None => Ok(Wrote::Part),
        }
    }

    /// Writes the rest, unless the session ends meanwhile or the client takes nothing for too long. Who takes a little
    /// now and then has [`SLOWNESS_MAX`] times as long for all of it, and a moment when the server shuts down.
    async fn flush_slowly(&mut self) -> Result<(), End> {
        let allowed = self.allowed();
        let mut last = Instant::now() + allowed * SLOWNESS_MAX;
        let mut stalled = pin!(tokio::time::sleep(allowed));
        loop {
            if self.live.session.closed() == Some(Code::Draining) {
                // What waits is still sent, but all of it soon.
                let soon = || Instant::now() + CLOSE_WITHIN;
                last = *self.busy().ends_by.get_or_insert_with(soon);
                let until = stalled.deadline().min(last);
                stalled.as_mut().reset(until);
            }
            let session = &self.live.session;
            tokio::select! {
                biased;
                written = self.socket.write_more() => match written {
                    Ok(true) => return Ok(()),
                    Ok(false) => stalled.as_mut().reset(last.min(Instant::now() + allowed)),
                    Err(_) => return Err(End::Gone),
                },
                () = &mut stalled => {
                    return Err(End::Ours(session.closed().unwrap_or(Code::SlowConsumer)));
                }
                () = session.wait() => match session.closed() {
                    None | Some(Code::Draining) => {}
                    Some(reason) => return Err(End::Ours(reason)),
                },
            }
        }
    }

    /// Takes what was read, and what can be read without waiting.
    fn take(&mut self, first: Read) -> Result<(), End> {
        self.take_one(first)?;
        for _ in 1..READ_FRAMES {
            if !self.may_read() {
                break;
            }
            match self.socket.read_ready() {
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
                match self
                    .live
                    .app
                    .charge(self.live.session.caller.user, self.address)
                {
                    Ok(()) => {}
                    // Nothing that could be answered: it is only read more slowly.
                    Err(problem) => self.pause(&problem),
                }
                Ok(())
            }
            Read::Broken(broken) => {
                self.live.app.metrics.problem(broken.code());
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
            ClientFrame::Say(say) => self
                .live
                .app
                .chat
                .send_of(&session, say)
                .map(ClientFrame::Send),
            ClientFrame::Seen(seen) => {
                self.live
                    .app
                    .chat
                    .mark_of(&session, seen)
                    .map(|(raise, by)| {
                        knows = by;
                        ClientFrame::Mark(raise)
                    })
            }
            frame => Ok(frame),
        };
        let frame = match long {
            Ok(frame) => frame,
            // What must not overtake a refused text is not known: all come again on a new connection, in order.
            Err(problem) if is_say => return self.refuse(id, Refusal::End(problem)),
            Err(problem) => return self.refuse_charged(id, problem),
        };
        if let Err(refusal) = self.live.app.admit(session.caller, self.address, &frame) {
            return self.refuse(id, refusal);
        }
        match frame {
            ClientFrame::Send(send) => dispatch::hand_over(&self.live.app, &session, send, is_say),
            ClientFrame::Mark(ask) => {
                match dispatch::mark_at_once(&self.live.app, session.caller, knows, &ask) {
                    Some(answer) => answer.iter().for_each(|answer| session.push(answer)),
                    None => self.begin(ClientFrame::Mark(ask)),
                }
            }
            ClientFrame::Ping(ping) => {
                let busy = self.busy();
                busy.pings.push(ping);
                if busy.pinging.is_none() {
                    self.answer_pings();
                }
            }
            frame => self.begin(frame),
        }
        Ok(())
    }

    /// Answers the heartbeats that wait, all by one look at the store.
    fn answer_pings(&mut self) {
        let Some(busy) = &mut self.busy else {
            return;
        };
        if !busy.pings.is_empty() {
            let pings = std::mem::take(&mut busy.pings);
            let (app, session) = (self.live.app.clone(), self.live.session.clone());
            let mut pinging: Pin<Box<dyn Future<Output = ()> + Send>> =
                Box::pin(async move { dispatch::answer_pings(&app, &session, &pings).await });
            // Where nobody shares the store it does not wait for anything.
            if (&mut pinging).now_or_never().is_none() {
                busy.pinging = Some(pinging);
            }
        }
        self.busy.take_if(|busy| busy.is_over());
    }

    /// Begins to handle a request that may have to wait. The next is read when it is done.
    fn begin(&mut self, frame: ClientFrame) {
        let (app, session) = (self.live.app.clone(), self.live.session.clone());
        self.busy().pending = Some(Box::pin(async move {
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
        match self
            .live
            .app
            .charge(self.live.session.caller.user, self.address)
        {
            Ok(()) => self.say(id, problem),
            Err(problem) => return self.refuse(id, Refusal::Answer(problem)),
        }
        Ok(())
    }

    fn pause(&mut self, problem: &Problem) {
        if let Some(wait_ms) = problem.retry_after_ms {
            let until = Instant::now() + Duration::from_millis(wait_ms);
            self.busy().paused = Some(Box::pin(sleep_until(until)));
        }
    }

    /// A frame that cannot be read. A few are forgiven.
    fn refuse_bad(&mut self, id: Option<u64>, problem: Problem) -> Result<(), End> {
        let code = problem.code;
        self.say(id, problem);
        let max = self.live.app.settings.limits.bad_frames_per_minute_max;
        let bad = self.bad.get_or_insert_default();
        if bad.one_more(Instant::now()) > max {
            return Err(End::Ours(code));
        }
        Ok(())
    }

    fn say(&self, id: Option<u64>, problem: Problem) {
        self.live.app.metrics.problem(problem.code);
        self.live
            .session
            .push(&ServerFrame::Error(ErrorFrame { id, problem }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_of_a_connection_is_small() {
        fn bytes<F>(_: impl Fn(Connection) -> F) -> usize {
            size_of::<F>()
        }
        // With what the runtime adds it is 512 bytes, which the allocator gives without a remainder.
        assert!(bytes(live_on) <= 408, "{}", bytes(live_on));
    }
}
