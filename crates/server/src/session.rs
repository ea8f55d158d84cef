//! A session: one live connection of a device, as the rest of the server sees it. A bounded queue of
//! encoded frames that some transport (WebSocket, server-sent events, long polling) empties.
//!
//! In: frames from the hub and answers. Next: the transport that drains the queue (`gateway/ws`,
//! `gateway/polled.rs`).

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tidings_core::{DeviceId, UserId};
use tidings_protocol::{Code, Encoding, ServerFrame};

/// Who asks for something: a device of a user, perhaps over a live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub user: UserId,
    /// With which device.
    pub device: DeviceId,
}

/// What sessions are told, as the frames that say so.
pub trait News {
    /// In the form that everybody understands.
    fn long(&self) -> Cow<'_, ServerFrame>;

    /// In the short form, for those who agreed on it, if there is one.
    fn short(&self) -> Option<ServerFrame> {
        None
    }
}

impl News for ServerFrame {
    fn long(&self) -> Cow<'_, ServerFrame> {
        Cow::Borrowed(self)
    }
}

/// News that is encoded once in each form that somebody needs, however many sessions it goes to.
#[derive(Debug)]
pub struct Event<N = ServerFrame> {
    news: N,
    json: OnceCell<Bytes>,
    cbor: OnceCell<Bytes>,
    short: OnceCell<Bytes>,
}

impl<N: News> Event<N> {
    /// An event of this news.
    #[must_use]
    pub fn new(news: N) -> Event<N> {
        Event {
            news,
            json: OnceCell::new(),
            cbor: OnceCell::new(),
            short: OnceCell::new(),
        }
    }

    /// The bytes for a session. `is_clear`: the handles in a short form would mean one thing alone to it.
    #[must_use]
    pub fn bytes(&self, session: &Session, is_clear: bool) -> Bytes {
        let long = |cell: &OnceCell<Bytes>, encoding| {
            cell.get_or_init(|| encode(&self.news.long(), encoding))
                .clone()
        };
        match session.encoding {
            Encoding::Json => long(&self.json, Encoding::Json),
            Encoding::Cbor if session.short && is_clear => self
                .short
                .get_or_init(|| match self.news.short() {
                    Some(frame) => encode(&frame, Encoding::Cbor),
                    None => long(&self.cbor, Encoding::Cbor),
                })
                .clone(),
            Encoding::Cbor => long(&self.cbor, Encoding::Cbor),
        }
    }
}

/// The bytes of a frame that goes to one session.
#[must_use]
pub fn encode(frame: &ServerFrame, encoding: Encoding) -> Bytes {
    match encoding.encode_event(frame) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) => {
            // Frames are plain data; this cannot happen, and must not take a session's task down if it does.
            tracing::error!(%error, "a frame could not be encoded");
            Bytes::new()
        }
    }
}

/// How a session and its client talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// How frames are written.
    pub encoding: Encoding,
    /// Whether the client wishes for short forms.
    pub short: bool,
}

impl From<Encoding> for Manner {
    /// In the long form.
    fn from(encoding: Encoding) -> Manner {
        Manner {
            encoding,
            short: false,
        }
    }
}

/// Bounds of a session's queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Frames that may wait.
    pub frames_max: usize,
    /// Their bytes.
    pub bytes_max: usize,
}

/// One live connection of a device.
#[derive(Debug)]
pub struct Session {
    /// Unique in this process.
    pub id: u64,
    /// Whose.
    pub caller: Caller,
    /// How its frames are written.
    pub encoding: Encoding,
    /// Whether short forms are agreed on: only in CBOR.
    pub short: bool,
    limits: QueueLimits,
    queue: Mutex<Queue>,
    /// Sends that were accepted and not answered yet.
    sends_outstanding: AtomicUsize,
    /// Whether the transport waits for one of them to be answered.
    waits_for_answer: AtomicBool,
}

#[derive(Debug, Default)]
struct Queue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    closed: Option<Code>,
    /// Whether all that waits may wait for more.
    lingers: bool,
    /// Whether there may be something to drain that the transport has not looked at.
    is_woken: bool,
    /// The transport, if it waits.
    waiter: Option<Waker>,
}

/// What a transport finds in the queue.
#[derive(Debug, PartialEq, Eq)]
pub enum Drained {
    /// At least one frame was appended to the buffer.
    Frames,
    /// Nothing waits.
    Empty,
    /// Nothing waits, and nothing will: say this and close.
    Closed(Code),
}

impl Session {
    /// A session with an empty queue.
    #[must_use]
    pub fn new(id: u64, caller: Caller, manner: Manner, limits: QueueLimits) -> Session {
        Session {
            id,
            caller,
            encoding: manner.encoding,
            short: manner.short && manner.encoding == Encoding::Cbor,
            limits,
            queue: Mutex::default(),
            sends_outstanding: AtomicUsize::new(0),
            waits_for_answer: AtomicBool::new(false),
        }
    }

    /// Queues an event. `is_clear`: as for [`Event::bytes`].
    pub fn push_event(&self, event: &Event<impl News>, is_clear: bool) {
        self.push_bytes(event.bytes(self, is_clear));
    }

    /// Queues a frame for this session alone.
    pub fn push(&self, frame: &ServerFrame) {
        self.push_bytes(encode(frame, self.encoding));
    }

    /// Queues a frame before all that waits: the answer to `hello` comes first, also when events were
    /// quicker.
    pub fn push_first(&self, frame: &ServerFrame) {
        let bytes = encode(frame, self.encoding);
        let mut queue = self.lock();
        if queue.closed.is_none() {
            queue.bytes += bytes.len();
            queue.frames.push_front(bytes);
            queue.lingers = false;
        }
        wake(queue);
    }

    /// Queues encoded bytes. Past the bound the session is closed: it is slow, and will resume by its
    /// marks.
    pub fn push_bytes(&self, bytes: Bytes) {
        let mut queue = self.lock();
        if !queue.push(bytes, self.limits) {
            return;
        }
        queue.lingers = false;
        wake(queue);
    }

    /// Queues an event that can wait a moment for others to be written with. Answers whether it is the first
    /// that waits so: then [`Session::linger_no_more`] is to be called before long.
    #[must_use]
    pub fn push_lingering(&self, event: &Event<impl News>) -> bool {
        let bytes = event.bytes(self, false);
        let mut queue = self.lock();
        let is_first = queue.frames.is_empty();
        if !queue.push(bytes, self.limits) {
            return false;
        }
        if queue.closed.is_some() {
            wake(queue);
            return false;
        }
        queue.lingers |= is_first;
        is_first
    }

    /// What waits for more is written now.
    pub fn linger_no_more(&self) {
        let mut queue = self.lock();
        if std::mem::take(&mut queue.lingers) {
            wake(queue);
        }
    }

    /// Ends the session: what waits is dropped, except for a reason that lets the client go on at once.
    pub fn close(&self, reason: Code) {
        let mut queue = self.lock();
        if queue.closed.is_none() {
            match reason {
                Code::Draining => queue.closed = Some(reason),
                _ => queue.close(reason),
            }
        }
        wake(queue);
    }

    /// Whether the session is closed, or about to be.
    #[must_use]
    pub fn closed(&self) -> Option<Code> {
        self.lock().closed
    }

    /// Moves what waits to the end of `buffer`, up to about `bytes_max`.
    pub fn drain(&self, buffer: &mut VecDeque<Bytes>, bytes_max: usize) -> Drained {
        let mut queue = self.lock();
        if queue.lingers && queue.closed.is_none() {
            return Drained::Empty;
        }
        if buffer.is_empty() && queue.bytes <= bytes_max && !queue.frames.is_empty() {
            // As it lies there: an idle session keeps no buffer.
            *buffer = std::mem::take(&mut queue.frames);
            queue.bytes = 0;
            queue.is_woken = queue.closed.is_some();
            return Drained::Frames;
        }
        let mut taken = 0;
        while taken < bytes_max
            && let Some(frame) = queue.frames.pop_front()
        {
            taken += frame.len();
            queue.bytes -= frame.len();
            buffer.push_back(frame);
        }
        if taken > 0 {
            queue.is_woken = !queue.frames.is_empty() || queue.closed.is_some();
            return Drained::Frames;
        }
        queue.closed.map_or(Drained::Empty, Drained::Closed)
    }

    /// Frames that wait, and how near the queue is to its bounds: from 0 to 1.
    #[must_use]
    pub fn fullness(&self) -> (usize, f64) {
        let queue = self.lock();
        let frames = queue.frames.len();
        let of_frames = frames as f64 / self.limits.frames_max.max(1) as f64;
        let of_bytes = queue.bytes as f64 / self.limits.bytes_max.max(1) as f64;
        (frames, of_frames.max(of_bytes).min(1.0))
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.lock().frames.is_empty()
    }

    /// Waits until there may be something to drain. Cancel-safe; one waiter at a time.
    pub async fn wait(&self) {
        let waiting = Waiting(self);
        poll_fn(|cx| waiting.0.poll_wait(cx)).await;
    }

    /// As [`Session::wait`]. Whoever asks is woken until somebody else asks.
    pub fn poll_wait(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.lock();
        if std::mem::take(&mut queue.is_woken) {
            return Poll::Ready(());
        }
        match &mut queue.waiter {
            Some(waiter) => waiter.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// A send was accepted.
    pub fn send_taken(&self) {
        self.sends_outstanding.fetch_add(1, Ordering::SeqCst);
    }

    /// A send was answered.
    pub fn send_settled(&self) {
        self.sends_outstanding.fetch_sub(1, Ordering::SeqCst);
        if self.waits_for_answer.load(Ordering::SeqCst) {
            self.waits_for_answer.store(false, Ordering::SeqCst);
            wake(self.lock());
        }
    }

    /// Whether fewer than `max` sends wait for their answer. If not, the next answer wakes the transport.
    pub fn may_take_send(&self, max: usize) -> bool {
        let are_fewer = || self.sends_outstanding.load(Ordering::SeqCst) < max;
        if are_fewer() {
            return true;
        }
        self.waits_for_answer.store(true, Ordering::SeqCst);
        // One that was answered meanwhile did not see that somebody waits.
        are_fewer()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who waits, until it is dropped: nobody is woken then, nor held in memory for it.
struct Waiting<'s>(&'s Session);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiter = None;
    }
}

/// There may be something to drain: says so to the transport, now or when it asks.
fn wake(mut queue: MutexGuard<'_, Queue>) {
    queue.is_woken = true;
    let waiter = queue.waiter.take();
    drop(queue);
    if let Some(waiter) = waiter {
        waiter.wake();
    }
}

impl Queue {
    /// Whether it wants a reader: it took the bytes, or is closed for being full.
    fn push(&mut self, bytes: Bytes, limits: QueueLimits) -> bool {
        if self.closed.is_some() {
            return false;
        }
        let too_much =
            self.frames.len() >= limits.frames_max || self.bytes + bytes.len() > limits.bytes_max;
        // One frame alone is no sign of slowness, however large it is.
        if too_much && !self.frames.is_empty() {
            self.close(Code::SlowConsumer);
        } else {
            self.bytes += bytes.len();
            self.frames.push_back(bytes);
        }
        true
    }

    fn close(&mut self, reason: Code) {
        self.frames = VecDeque::new();
        self.bytes = 0;
        self.closed = Some(reason);
    }
}

#[cfg(test)]
mod tests;
