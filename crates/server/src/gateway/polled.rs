//! Sessions without a connection of their own: their events are numbered, and kept until the client has
//! confirmed them, so that a lost answer loses nothing.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use schemars::JsonSchema;
use tidings_protocol::{Code, Problem, ServerFrame};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::live::Live;
use super::{App, ws};
use crate::clock::random;
use crate::session::{Caller, Drained, Session};

/// How often it is looked whether a session is still polled.
const LOOK: Duration = Duration::from_secs(5);

/// All polling sessions by name.
#[derive(Default)]
pub(super) struct PolledSessions {
    sessions: Mutex<HashMap<String, Arc<Polled>>>,
}

/// One polling session.
pub(super) struct Polled {
    name: String,
    live: Live,
    kept: Mutex<Kept>,
    /// Counts polls: a new one takes the place of the one before.
    turn: AtomicU64,
    superseded: Notify,
    /// Held by the poll that is being answered.
    reading: tokio::sync::Mutex<()>,
    last_poll: Mutex<Instant>,
}

/// The events that are not confirmed yet.
#[derive(Default)]
struct Kept {
    /// How many came before the first of them.
    confirmed: u64,
    events: VecDeque<Bytes>,
    bytes: usize,
    /// The last of them is `bye`.
    ended: bool,
}

/// Events in the answer to one poll.
pub(super) struct Batch {
    /// The number of the first.
    pub(super) first: u64,
    pub(super) events: Vec<Bytes>,
    /// The digest of the inbox after these, unless more is waiting.
    pub(super) digest: Option<u64>,
    /// The last of them is `bye`: the session is over.
    pub(super) ended: bool,
}

/// Events since the last poll.
#[derive(JsonSchema)]
#[allow(
    dead_code,
    reason = "describes what is written from bytes that are encoded already"
)]
pub(super) struct PollAnswer {
    /// The session: name it in the next poll. Its first event is `welcome`.
    session: String,
    /// The number of the first event.
    first: u64,
    /// The events.
    events: Vec<ServerFrame>,
    /// The number of the last event; that of the one before if there are none. Give it as `after` in the
    /// next poll: by that you confirm that you have them.
    last: u64,
    /// The digest of your inbox after these events: if yours differs, ask for your conversations. Absent
    /// if more events are waiting.
    digest: Option<u64>,
}

impl PolledSessions {
    /// Keeps a session until it is not polled for a while.
    pub(super) fn begin(&self, app: &Arc<App>, live: Live) -> Arc<Polled> {
        let name = format!("s_{}", URL_SAFE_NO_PAD.encode(random::<16>()));
        let polled = Arc::new(Polled {
            name: name.clone(),
            live,
            kept: Mutex::default(),
            turn: AtomicU64::new(0),
            superseded: Notify::new(),
            reading: tokio::sync::Mutex::new(()),
            last_poll: Mutex::new(Instant::now()),
        });
        self.lock().insert(name.clone(), polled.clone());
        let (app, weak) = (app.clone(), Arc::downgrade(&polled));
        let idle_max = Duration::from_millis(app.settings.sessions.poll_idle_ms_max);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK.min(idle_max)).await;
                let Some(polled) = weak.upgrade() else { return };
                if polled.is_abandoned(idle_max) {
                    polled.live.session.close(Code::SessionGone);
                    app.polled.end(&name);
                    return;
                }
            }
        });
        polled
    }

    /// A device's own session.
    ///
    /// # Errors
    /// `session_gone`, also for the sessions of others.
    pub(super) fn find(&self, name: &str, caller: Caller) -> Result<Arc<Polled>, Problem> {
        self.lock()
            .get(name)
            .filter(|polled| polled.live.session.caller == caller)
            .cloned()
            .ok_or_else(|| Problem::new(Code::SessionGone))
    }

    /// Forgets a session.
    pub(super) fn end(&self, name: &str) {
        // Dropped outside the lock.
        let _ended = self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Polled>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Polled {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        &self.live.session
    }

    pub(super) fn live(&self) -> &Live {
        &self.live
    }

    /// Begins a poll, which ends the one before.
    pub(super) async fn begin_poll(&self) -> Turn<'_> {
        let number = self.turn.fetch_add(1, Ordering::SeqCst) + 1;
        self.superseded.notify_waiters();
        let guard = self.reading.lock().await;
        self.was_polled();
        self.live.heartbeat();
        Turn {
            polled: self,
            number,
            _guard: guard,
        }
    }

    /// Forgets the events that the client has: those up to `after`.
    ///
    /// # Errors
    /// `invalid` if there are not that many.
    pub(super) fn confirm(&self, after: u64) -> Result<(), Problem> {
        let mut kept = self.kept();
        if after > kept.last() {
            return Err(Problem::new(Code::Invalid)
                .detail(format!("after: the last event was {}", kept.last())));
        }
        while kept.confirmed < after {
            kept.forget_first();
        }
        Ok(())
    }

    /// Forgets the oldest events up to `sent` beyond so many bytes: what a stream keeps for resuming.
    pub(super) fn forget_beyond(&self, sent: u64, bytes_max: usize) {
        let mut kept = self.kept();
        while kept.bytes > bytes_max && kept.confirmed < sent {
            kept.forget_first();
        }
    }

    /// Whether the events above `after` are all still kept.
    pub(super) fn can_resume(&self, after: u64) -> bool {
        let kept = self.kept();
        kept.confirmed <= after && after <= kept.last()
    }

    /// The events above `after`, with what waits in the session's queue.
    pub(super) fn take(&self, app: &App, after: u64, bytes_max: usize) -> Batch {
        let session = &self.live.session;
        let mut kept = self.kept();
        let mut digest = None;
        let room = bytes_max.saturating_sub(kept.bytes);
        if room > 0 && !kept.ended {
            let mut fresh = VecDeque::new();
            let drained = match app.hub.user(session.caller.user) {
                Some(user) => {
                    let (drained, now) = user.drain_with_digest(session, &mut fresh, room);
                    digest = now;
                    drained
                }
                None => session.drain(&mut fresh, room),
            };
            if let Drained::Closed(reason) = drained {
                fresh.push_back(ws::bye(reason, session.encoding));
                kept.ended = true;
                digest = None;
            }
            for event in fresh {
                kept.bytes += event.len();
                kept.events.push_back(event);
            }
        }
        let first = after.max(kept.confirmed) + 1;
        let skipped = usize::try_from(first - kept.confirmed - 1).unwrap_or(usize::MAX);
        Batch {
            first,
            events: kept.events.iter().skip(skipped).cloned().collect(),
            digest,
            ended: kept.ended,
        }
    }

    fn was_polled(&self) {
        *self
            .last_poll
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_abandoned(&self, idle_max: Duration) -> bool {
        let last = *self
            .last_poll
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let idle_max = match self.live.session.closed() {
            None => idle_max,
            Some(_) => LOOK.min(idle_max),
        };
        last.elapsed() >= idle_max && self.reading.try_lock().is_ok()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn last(&self) -> u64 {
        self.confirmed + self.events.len() as u64
    }

    fn forget_first(&mut self) {
        if let Some(event) = self.events.pop_front() {
            self.bytes -= event.len();
            self.confirmed += 1;
        }
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
    }
}

/// One poll of a session, the only one at this time.
pub(super) struct Turn<'p> {
    polled: &'p Polled,
    number: u64,
    _guard: tokio::sync::MutexGuard<'p, ()>,
}

impl Turn<'_> {
    /// Waits until there may be events, or until a moment. Answers `false` if a newer poll wants the turn.
    pub(super) async fn wait(&self, until: Instant) -> bool {
        tokio::select! {
            biased;
            () = self.superseded() => false,
            () = self.polled.live.session.wait() => true,
            () = tokio::time::sleep_until(until) => true,
        }
    }

    /// Waits until a newer poll wants the turn.
    pub(super) async fn superseded(&self) {
        let superseded = self.polled.superseded.notified();
        tokio::pin!(superseded);
        superseded.as_mut().enable();
        if self.polled.turn.load(Ordering::SeqCst) == self.number {
            superseded.await;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.polled.was_polled();
    }
}
