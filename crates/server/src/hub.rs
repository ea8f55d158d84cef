//! Who is connected here: the live sessions of every user, and each connected user's digest.
//!
//! A conversation pushes under its own lock and then the user's (always in this order), so that what a
//! session is sent and what its digest says never disagree.
//!
//! A digest is the sum of its conversations' `parts`.
//!
//! In: events from conversations (`chat/publish.rs`, `chat/marks.rs`). Next: each session's queue
//! (`session.rs`).

mod parts;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use foldhash::HashMap;
use tidings_core::{ConversationId, DeviceId, Time, UserId, digest};
use tidings_protocol::Code;
use tidings_protocol::short::Handle;

use self::parts::Parts;
pub use self::parts::{Part, Place};
use crate::session::{Caller, Drained, Event, Manner, News, QueueLimits, Session};
use crate::single_flight::SingleFlight;

const SHARDS: usize = 64;
/// How long an event may wait for others to be written with.
const LINGER: Duration = Duration::from_millis(200);

/// All live sessions of this process.
pub struct Hub {
    shards: Vec<Mutex<HashMap<UserId, Arc<UserHub>>>>,
    next_session: AtomicU64,
    queue_limits: QueueLimits,
    sessions_per_device_max: usize,
    /// Sessions in which something waits for more to be written with; not empty while a task will see to it.
    lingering: Mutex<Vec<Arc<Session>>>,
    /// Is told when a user's first session opens and when its last closes.
    watcher: OnceLock<Watcher>,
}

/// Who is told of a user whether it has sessions here. Called under a lock: it must be quick.
pub type Watcher = Box<dyn Fn(UserId, bool) + Send + Sync>;

/// The live sessions of one user and the digest of its inbox.
#[derive(Debug, Default)]
pub struct UserHub {
    inner: Mutex<Inner>,
    /// Whether the user is shown how far others have read.
    is_shown: AtomicBool,
    looks: OnceLock<Box<Looks>>,
}

/// The looks at a user's inbox in the store. Only where several servers share it there are any.
#[derive(Debug, Default)]
struct Looks {
    /// When the last was, in milliseconds; 0 if never.
    refreshed: AtomicU64,
    /// The conversations of which the inbox does not say how far they are, as of then.
    reading_logs: Mutex<Vec<ConversationId>>,
    looking: SingleFlight,
}

#[derive(Debug, Default)]
struct Inner {
    sessions: Vec<Arc<Session>>,
    parts: Parts,
}

impl Hub {
    /// A hub without sessions.
    #[must_use]
    pub fn new(queue_limits: QueueLimits, sessions_per_device_max: usize) -> Hub {
        Hub {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            next_session: AtomicU64::new(1),
            queue_limits,
            sessions_per_device_max,
            lingering: Mutex::default(),
            watcher: OnceLock::new(),
        }
    }

    /// Says once who is told which users have sessions here.
    pub fn set_watcher(&self, watcher: Watcher) {
        if self.watcher.set(watcher).is_err() {
            tracing::error!("the hub was told twice who watches it");
        }
    }

    /// Opens a session: from here on it is sent events. Past the bound of a device its oldest is closed.
    pub fn open(&self, caller: Caller, manner: impl Into<Manner>) -> Arc<Session> {
        let id = self.next_session.fetch_add(1, Ordering::Relaxed);
        let session = Arc::new(Session::new(id, caller, manner.into(), self.queue_limits));
        let mut shard = self.shard(caller.user);
        let hub = shard.entry(caller.user).or_default();
        let mut inner = hub.lock();
        let of_device = |other: &&Arc<Session>| other.caller.device == caller.device;
        if inner.sessions.iter().filter(of_device).count() >= self.sessions_per_device_max
            && let Some(oldest) = inner.sessions.iter().position(|other| of_device(&other))
        {
            inner.sessions.remove(oldest).close(Code::Replaced);
        }
        // Mostly it is the only one: no room for more.
        inner.sessions.reserve_exact(1);
        inner.sessions.push(session.clone());
        let is_first = inner.sessions.len() == 1;
        drop(inner);
        if is_first && let Some(watcher) = self.watcher.get() {
            watcher(caller.user, true);
        }
        session
    }

    /// Forgets a session. Answers whether it was the user's last.
    pub fn close(&self, session: &Session) -> bool {
        let mut shard = self.shard(session.caller.user);
        let Some(hub) = shard.get(&session.caller.user) else {
            return false;
        };
        let mut inner = hub.lock();
        inner.sessions.retain(|other| other.id != session.id);
        let last = inner.sessions.is_empty();
        drop(inner);
        if last {
            shard.remove(&session.caller.user);
            if let Some(watcher) = self.watcher.get() {
                watcher(session.caller.user, false);
            }
        }
        last
    }

    /// The live sessions of a user; `None` if there are none.
    #[must_use]
    pub fn user(&self, user: UserId) -> Option<Arc<UserHub>> {
        self.shard(user).get(&user).cloned()
    }

    /// Tells a user's sessions what one of its devices did, and sets the conversation's part of the digest in
    /// the same moment. To that device itself it goes with what comes next, or a moment later, and to the session
    /// that `knows` it not at all.
    pub fn push_own(
        self: &Arc<Self>,
        caller: Caller,
        knows: Option<u64>,
        event: &Event,
        place: Place,
        part: Part,
    ) {
        let Some(hub) = self.user(caller.user) else {
            return;
        };
        hub.push_each(place, part, |session, is_clear| {
            if Some(session.id) == knows {
                return;
            }
            if session.caller.device != caller.device {
                session.push_event(event, is_clear);
            } else if session.push_lingering(event) {
                self.linger(session.clone());
            }
        });
    }

    /// Has what waits in a session written before long.
    fn linger(self: &Arc<Self>, session: Arc<Session>) {
        let mut lingering = self.lingering();
        lingering.push(session);
        if lingering.len() == 1 {
            let hub = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(LINGER).await;
                let lingering = std::mem::take(&mut *hub.lingering());
                lingering
                    .iter()
                    .for_each(|session| session.linger_no_more());
            });
        }
    }

    fn lingering(&self) -> MutexGuard<'_, Vec<Arc<Session>>> {
        self.lingering
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes all sessions of a device.
    pub fn close_device(&self, user: UserId, device: DeviceId, reason: Code) {
        if let Some(hub) = self.user(user) {
            for session in hub.sessions() {
                if session.caller.device == device {
                    session.close(reason);
                }
            }
        }
    }

    /// Every live session, for draining.
    #[must_use]
    pub fn all_sessions(&self) -> Vec<Arc<Session>> {
        let mut all = Vec::new();
        for shard in &self.shards {
            for hub in shard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .values()
            {
                all.extend(hub.sessions());
            }
        }
        all
    }

    fn shard(&self, user: UserId) -> MutexGuard<'_, HashMap<UserId, Arc<UserHub>>> {
        // The last byte of an id is random.
        let index = usize::from(user.0[15]) % SHARDS;
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl UserHub {
    /// Whether the user is shown how far others have read, from now on. The digest says so at once: a session
    /// that was told otherwise finds that it differs, and reads the inbox.
    pub fn set_is_shown(&self, is_shown: bool) {
        let _inner = self.lock();
        self.is_shown.store(is_shown, Ordering::Relaxed);
    }

    /// Whether the user is shown how far others have read.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.is_shown.load(Ordering::Relaxed)
    }

    /// When the user's inbox was last looked at in the store.
    #[must_use]
    pub fn refreshed(&self) -> Time {
        Time(self.looks().refreshed.load(Ordering::Relaxed))
    }

    /// The user's inbox was looked at.
    pub fn set_refreshed(&self, at: Time) {
        self.looks().refreshed.fetch_max(at.0, Ordering::Relaxed);
    }

    /// Looking at it.
    pub(crate) fn looking(&self) -> &SingleFlight {
        &self.looks().looking
    }

    /// The conversations of which the inbox does not say how far they are.
    #[must_use]
    pub fn reading_logs(&self) -> Vec<ConversationId> {
        self.looks().reading_logs().clone()
    }

    /// Says which conversations those are, as of the last look.
    pub fn set_reading_logs(&self, conversations: Vec<ConversationId>) {
        *self.looks().reading_logs() = conversations;
    }

    /// The conversations that contribute to the digest.
    #[must_use]
    pub fn conversations(&self) -> Vec<ConversationId> {
        self.lock().parts.conversations()
    }

    /// What a conversation contributes to the digest.
    #[must_use]
    pub fn part(&self, place: Place) -> Part {
        self.lock().parts.get(place)
    }

    /// The one conversation that this handle means to the user: one that it is in, or was since it came.
    #[must_use]
    pub fn conversation_of(&self, handle: Handle) -> Option<ConversationId> {
        self.lock().parts.conversation_of(handle)
    }

    /// The user's live sessions.
    #[must_use]
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        self.lock().sessions.clone()
    }

    /// Sends an event to every session but those of one device.
    pub fn push(&self, event: &Event<impl News>, except: Option<DeviceId>) {
        for session in &self.lock().sessions {
            if Some(session.caller.device) != except {
                session.push_event(event, false);
            }
        }
    }

    /// Sets what the conversation contributes to the digest.
    pub fn set_part(&self, place: Place, part: Part) {
        self.lock().parts.set(place, part);
    }

    /// Sends an event and, in the same moment, sets what the conversation contributes to the digest.
    /// Answers to how many sessions it went.
    pub fn push_with_part(&self, event: &Event<impl News>, place: Place, part: Part) -> u64 {
        self.push_each(place, part, |session, is_clear| {
            session.push_event(event, is_clear);
        })
    }

    /// Has each session sent what it is to be told and, in the same moment, sets what the conversation contributes
    /// to the digest. `push` also hears whether the conversation's handle means it alone to this user. Answers how
    /// many sessions there are.
    pub fn push_each(
        &self,
        place: Place,
        part: Part,
        mut push: impl FnMut(&Arc<Session>, bool),
    ) -> u64 {
        let mut inner = self.lock();
        let is_clear = inner.parts.set(place, part);
        for session in &inner.sessions {
            push(session, is_clear);
        }
        inner.sessions.len() as u64
    }

    /// The digest now.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest_of(&self.lock())
    }

    /// Queues a frame made from the digest, at one moment with everything that is queued before it.
    pub fn push_digest(
        &self,
        session: &Session,
        frame: impl FnOnce(u64) -> tidings_protocol::ServerFrame,
    ) {
        let inner = self.lock();
        session.push(&frame(self.digest_of(&inner)));
    }

    /// Takes what waits for a session, and the digest after exactly that; none while more is waiting.
    pub fn drain_with_digest(
        &self,
        session: &Session,
        buffer: &mut VecDeque<Bytes>,
        bytes_max: usize,
    ) -> (Drained, Option<u64>) {
        let inner = self.lock();
        session.linger_no_more();
        let drained = session.drain(buffer, bytes_max);
        let digest = session.is_drained().then(|| self.digest_of(&inner));
        (drained, digest)
    }

    /// Queues a frame made from the digest before everything else that is queued. The digest may be ahead of
    /// what the client has by then: it is level once it has handled the frames behind.
    pub fn push_digest_first(
        &self,
        session: &Session,
        frame: impl FnOnce(u64) -> tidings_protocol::ServerFrame,
    ) {
        let inner = self.lock();
        session.push_first(&frame(self.digest_of(&inner)));
    }

    fn digest_of(&self, inner: &Inner) -> u64 {
        let Part { plain, shown } = inner.parts.sum();
        if self.is_shown() {
            digest::add(plain, shown)
        } else {
            plain
        }
    }

    fn looks(&self) -> &Looks {
        self.looks.get_or_init(Box::default)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Looks {
    fn reading_logs(&self) -> MutexGuard<'_, Vec<ConversationId>> {
        self.reading_logs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
