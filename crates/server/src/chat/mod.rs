//! Conversations: decide, commit, fan out; and everything that is derived from their logs and marks.
//!
//! A command comes in through [`Chat::send`], waits in its conversation's queue (`queue`), is
//! decided (`drive`) and committed with those of other conversations (`lane`) and goes out to the live sessions
//! (`publish`). Reading (`inbox`, `history`) and marks (`marks`) work on the same loaded
//! conversation (`loaded`). `keep` is what happens by itself: expiry, trimming, summaries.

mod absence;
mod backlog;
mod counting;
mod deciding;
mod diffusion;
mod digests;
mod drive;
mod heard;
mod history;
mod inbox;
mod keep;
mod lane;
mod level;
mod loaded;
mod lookup;
mod marks;
mod news;
mod pace;
mod publish;
mod queue;
mod receipts;
mod refresh;
mod refused;
mod short;
mod telling;
#[cfg(test)]
pub(crate) mod tests;
mod traced;
mod turns;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use foldhash::HashMap;
use tidings_core::conversation::{ConversationKind, Limits};
use tidings_core::log::LogId;
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{ConversationId, Time, UserId};
use tidings_protocol::mark::MarkUpdate;
use tidings_protocol::presence::Typing;
use tidings_protocol::{Code, Problem, ServerFrame};
use tidings_store::{Store, StoreError};

use crate::clock::Clock;
use crate::config::ChatSettings;
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::session::{Caller, Session};
use crate::single_flight::SingleFlight;
use crate::trace::Tracer;
use crate::users::Users;

pub use backlog::Backlog;
pub use heard::{Forwarded, Handed, MarksNews, Others};
pub use queue::Reply;
pub(crate) use refused::BEHIND_MS;

use lane::Lane;
use loaded::Loaded;
use queue::Queue;

const SHARDS: usize = 64;
/// After a session has begun its inbox is looked at once more.
const LOOK_AGAIN: Duration = Duration::from_millis(1_500);
/// How many memberships are read from the store at a time.
const MEMBERSHIPS_PAGE: usize = 1_000;

/// All conversations of this process.
pub struct Chat {
    store: Arc<dyn Store>,
    hub: Arc<Hub>,
    users: Arc<Users>,
    clock: Clock,
    settings: ChatSettings,
    limits: Limits,
    metrics: Arc<Metrics>,
    shards: Vec<Mutex<HashMap<ConversationId, Arc<Conversation>>>>,
    lanes: Vec<Lane>,
    /// Which conversation each session has on its screen.
    watching: Mutex<HashMap<u64, Arc<Conversation>>>,
    draining: AtomicBool,
    /// Until this time no device is taken for silent: see `absence`.
    spared_until: AtomicU64,
    /// Commands that were accepted and not answered yet.
    outstanding: AtomicUsize,
    /// The other servers, where several share the store.
    others: OnceLock<Arc<dyn Others>>,
    /// Not set: nothing is traced.
    tracer: OnceLock<Arc<Tracer>>,
}

/// One conversation in memory: its queue of commands and, once needed, its state.
struct Conversation {
    id: ConversationId,
    queue: Mutex<Queue>,
    loaded: tokio::sync::OnceCell<Mutex<Loaded>>,
    /// Bringing it level with the store.
    catching_up: SingleFlight,
}

/// A user's row of one conversation.
struct Row {
    id: ConversationId,
    /// The head in it, if it holds there.
    head: Option<MarkValue>,
    /// When something besides the head last moved, where several servers share the store.
    touched: Time,
}

impl Conversation {
    fn log(&self) -> LogId {
        LogId::conversation(self.id)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_idle(&self) -> bool {
        self.queue().is_idle()
    }

    /// The loaded state. `None` before the first load.
    fn try_loaded(&self) -> Option<MutexGuard<'_, Loaded>> {
        self.loaded
            .get()
            .map(|loaded| loaded.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Chat {
    /// The conversations of a store.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        hub: Arc<Hub>,
        users: Arc<Users>,
        clock: Clock,
        settings: ChatSettings,
        metrics: Arc<Metrics>,
    ) -> Arc<Chat> {
        Arc::new(Chat {
            store,
            hub,
            users,
            clock,
            limits: settings.core_limits(),
            settings,
            metrics,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            lanes: (0..lane_count()).map(|_| Lane::default()).collect(),
            watching: Mutex::default(),
            draining: AtomicBool::new(false),
            spared_until: AtomicU64::new(0),
            outstanding: AtomicUsize::new(0),
            others: OnceLock::new(),
            tracer: OnceLock::new(),
        })
    }

    /// Begins a session that is in the hub already: takes the marks of its hello, then computes the
    /// user's digest. Subscribed first, read second: what happens meanwhile reaches the session.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn attach(
        self: &Arc<Self>,
        session: &Arc<Session>,
        marks: Vec<MarkUpdate>,
    ) -> Result<(), Problem> {
        // What the hello repeats may be of another generation or above a head that was rolled back:
        // that is for the client to find out when it reads the heads.
        for update in marks {
            if let Err(problem) = self.mark_one(session.caller, None, &update).await
                && problem.status >= 500
            {
                return Err(problem);
            }
        }
        let user = session.caller.user;
        self.users.tell_hub(user).await?;
        if self.is_shared() {
            self.refresh(user).await?;
            // Others may not have known in that moment that the user is here: what they did not tell is found.
            let chat = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(LOOK_AGAIN).await;
                if let Err(problem) = chat.refresh(user).await {
                    tracing::debug!(
                        code = problem.code.name(),
                        "the second look waits for the next"
                    );
                }
            });
            return Ok(());
        }
        for conversation in self.conversations_of(user).await? {
            let conversation = self.open(conversation).await?;
            let Some(loaded) = conversation.try_loaded() else {
                continue;
            };
            if let Some(hub) = self.hub.user(user) {
                let id = conversation.id;
                hub.set_part(loaded.place(id), loaded.part(id, user));
            }
        }
        Ok(())
    }

    /// Forgets what a session had on its screen.
    pub fn detach(&self, session: &Session) {
        self.watch_conversation_id(session.id, None);
    }

    /// What the session has on its screen: it is told typing there, and summed ticks in a large group.
    ///
    /// # Errors
    /// When the user is not a member.
    pub async fn watch_conversation(
        self: &Arc<Self>,
        session: &Arc<Session>,
        conversation: Option<ConversationId>,
    ) -> Result<(), Problem> {
        let Some(id) = conversation else {
            self.watch_conversation_id(session.id, None);
            return Ok(());
        };
        let conversation = self.open_for(session.caller.user, id).await?;
        let is_shown = self.users.is_shown(session.caller.user).await?;
        {
            let Some(mut loaded) = conversation.try_loaded() else {
                return Err(Problem::new(Code::NotFound));
            };
            loaded
                .member_in(session.caller.user)
                .ok_or_else(|| Problem::new(Code::NotFound))?;
            loaded.lookers.insert(session.id, session.clone());
            if let Some(ticks) = loaded.ticks_for(id, session.caller.user, is_shown) {
                session.push(&ServerFrame::Ticks(ticks));
            }
        }
        self.watch_conversation_id(session.id, Some(conversation));
        if session.closed().is_some() {
            // It ended meanwhile; whoever ended it has cleaned up already.
            self.watch_conversation_id(session.id, None);
        }
        Ok(())
    }

    fn watch_conversation_id(&self, session: u64, conversation: Option<Arc<Conversation>>) {
        let mut watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &conversation {
            Some(conversation) => watching.insert(session, conversation.clone()),
            None => watching.remove(&session),
        };
        drop(watching);
        let Some(before) = before else { return };
        if conversation.is_some_and(|now| Arc::ptr_eq(&now, &before)) {
            return;
        }
        if let Some(mut loaded) = before.try_loaded() {
            loaded.lookers.remove(&session);
        }
    }

    /// Tells the others that somebody is typing.
    ///
    /// # Errors
    /// When the user is not a member.
    pub async fn typing(self: &Arc<Self>, caller: Caller, typing: Typing) -> Result<(), Problem> {
        let conversation = self.open_hot_for(caller.user, typing.conversation).await?;
        self.check_not_blocked(&conversation, caller.user).await?;
        let Some(loaded) = conversation.try_loaded() else {
            return Err(Problem::new(Code::NotFound));
        };
        loaded
            .member_in(caller.user)
            .ok_or_else(|| Problem::new(Code::NotFound))?;
        self.push_typing(conversation.id, &loaded, caller.user, typing.on);
        if let Some(others) = self.others.get() {
            let mut users = loaded.present().map(|(user, _)| user);
            others.tell_typing(conversation.id, caller.user, typing.on, &mut users);
        }
        Ok(())
    }

    /// Who is blocked in a direct conversation does not reach the other by typing either.
    async fn check_not_blocked(
        &self,
        conversation: &Conversation,
        user: UserId,
    ) -> Result<(), Problem> {
        let other = conversation.try_loaded().and_then(|loaded| {
            let direct = loaded.state.kind == ConversationKind::Direct;
            let other = loaded
                .members
                .keys()
                .copied()
                .find(|member| *member != user);
            other.filter(|_| direct)
        });
        if other.is_some() && self.users.facts(user, other).await?.blocked {
            return Err(Problem::new(Code::Blocked));
        }
        Ok(())
    }

    /// Whether two users are in one conversation.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn share_conversation(
        self: &Arc<Self>,
        one: UserId,
        other: UserId,
    ) -> Result<bool, Problem> {
        let direct = self.open(tidings_core::id::direct_id(one, other)).await?;
        if direct
            .try_loaded()
            .is_some_and(|loaded| loaded.state.seq > 0)
        {
            return Ok(true);
        }
        let (mine, theirs) = (
            self.conversations_of(one).await?,
            self.conversations_of(other).await?,
        );
        // Both in the order of their ids.
        Ok(mine.iter().any(|id| theirs.binary_search(id).is_ok()))
    }

    /// Takes no more commands, and returns when all that were accepted are answered and every mark is on
    /// the disk.
    pub async fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        while self.outstanding.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if let Err(error) = self.store.flush().await {
            tracing::error!(%error, "the last marks could not be written");
        }
    }

    /// The conversations that a user is in.
    async fn conversations_of(&self, user: UserId) -> Result<Vec<ConversationId>, Problem> {
        Ok(self
            .rows_of(user)
            .await?
            .into_iter()
            .map(|row| row.id)
            .collect())
    }

    /// The conversations that a user is in.
    async fn rows_of(&self, user: UserId) -> Result<Vec<Row>, Problem> {
        let mut rows = Vec::new();
        let mut after = None;
        loop {
            let marks = self
                .store
                .memberships(user, after, MEMBERSHIPS_PAGE)
                .await
                .map_err(problem_of_store)?;
            let Some(last) = marks.last() else {
                return Ok(rows);
            };
            after = Some(last.log);
            for row in marks.chunk_by(|a, b| a.log == b.log) {
                if is_in(row)
                    && let Some(id) = row.first().and_then(|mark| mark.log.as_conversation())
                {
                    let written = self.write_heads_members_max() > 0;
                    let touched = |mark: &&Mark| {
                        mark.kind == MarkKind::Head && mark.lane == level::TOUCHED_LANE
                    };
                    rows.push(Row {
                        id,
                        head: diffusion::head_in_row(row).filter(|_| written),
                        touched: row
                            .iter()
                            .find(touched)
                            .map_or(Time(0), |mark| mark.value.at),
                    });
                }
            }
        }
    }

    /// The conversation, loaded. One that has no entry yet is there too, with an empty state.
    async fn open(self: &Arc<Self>, id: ConversationId) -> Result<Arc<Conversation>, Problem> {
        let conversation = self.hot(id);
        self.load(&conversation).await?;
        let is_empty = conversation
            .try_loaded()
            .is_some_and(|loaded| loaded.state.seq == 0);
        if is_empty {
            // Somebody else may have begun it.
            self.level(&conversation).await?;
        }
        Ok(conversation)
    }

    /// The conversation, loaded and level with the store, for somebody who says to be a member.
    async fn open_for(
        self: &Arc<Self>,
        user: UserId,
        id: ConversationId,
    ) -> Result<Arc<Conversation>, Problem> {
        let conversation = self.open_hot_for(user, id).await?;
        self.level(&conversation).await?;
        Ok(conversation)
    }

    /// As [`Chat::open_for`], but as it is in memory: others may have written meanwhile. Ids are anybody's to
    /// guess: what is not in memory is only loaded for who is in it.
    async fn open_hot_for(
        self: &Arc<Self>,
        user: UserId,
        id: ConversationId,
    ) -> Result<Arc<Conversation>, Problem> {
        let begun = |conversation: &Arc<Conversation>| {
            let loaded = conversation.try_loaded();
            loaded.map(|loaded| loaded.state.seq > 0)
        };
        let in_memory = self.in_memory(id);
        let is_begun = in_memory.as_ref().and_then(begun);
        if let (Some(conversation), Some(true)) = (in_memory, is_begun) {
            return Ok(conversation);
        }
        if is_begun.is_none() || self.is_shared() {
            let marks = self
                .store
                .marks(LogId::conversation(id), user.0)
                .await
                .map_err(problem_of_store)?;
            if !is_in(&marks) {
                return Err(Problem::new(Code::NotFound));
            }
        }
        self.open(id).await
    }

    /// Loads in a task of its own: whoever asked may be slow to go on, or be gone, while others wait for
    /// the same conversation.
    async fn load(self: &Arc<Self>, conversation: &Arc<Conversation>) -> Result<(), Problem> {
        if conversation.loaded.get().is_some() {
            return Ok(());
        }
        let (chat, conversation) = (self.clone(), conversation.clone());
        let loading = tokio::spawn(async move {
            let read = || async { chat.read(conversation.id).await.map(Mutex::new) };
            conversation.loaded.get_or_try_init(read).await.map(|_| ())
        });
        match loading.await {
            Ok(loaded) => loaded.map_err(problem_of_store),
            Err(_) => Err(Problem::new(Code::Internal)),
        }
    }

    #[cfg(test)]
    fn is_in_memory(&self, id: ConversationId) -> bool {
        self.shard(id).contains_key(&id)
    }

    /// A conversation that turned out not to be there takes no room.
    fn forget_if_empty(&self, conversation: Arc<Conversation>) {
        let mut shard = self.shard(conversation.id);
        // The map's and ours: nobody else holds it, and nobody can get it while the shard is locked.
        if Arc::strong_count(&conversation) == 2
            && conversation.is_idle()
            && conversation
                .try_loaded()
                .is_none_or(|loaded| loaded.state.seq == 0)
        {
            shard.remove(&conversation.id);
        }
    }

    /// The conversation as it is in memory; perhaps not loaded.
    fn hot(&self, id: ConversationId) -> Arc<Conversation> {
        let mut shard = self.shard(id);
        if let Some(conversation) = shard.get(&id) {
            return conversation.clone();
        }
        if shard.len() >= self.settings.hot_conversations_max.div_ceil(SHARDS) {
            make_room(&mut shard);
        }
        let conversation = Arc::new(Conversation {
            id,
            queue: Mutex::default(),
            loaded: tokio::sync::OnceCell::new(),
            catching_up: SingleFlight::default(),
        });
        shard.insert(id, conversation.clone());
        conversation
    }

    /// The conversation if it is in memory.
    fn shard(
        &self,
        id: ConversationId,
    ) -> MutexGuard<'_, HashMap<ConversationId, Arc<Conversation>>> {
        let index = usize::from(id.0[15]) % SHARDS;
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One for two processors: deciding is a small part of the work, and each lane has commits of its own.
fn lane_count() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 16))
}

/// Whether a user's marks in one log say that the user is in: joined after it last left.
fn is_in(marks: &[Mark]) -> bool {
    let seq_of = |kind| {
        let mark = marks.iter().find(|mark| mark.kind == kind);
        mark.map_or(0, |mark| mark.value.seq)
    };
    seq_of(MarkKind::Joined) > seq_of(MarkKind::Left)
}

/// Forgets a quarter of the conversations that nobody uses at this moment. Everything of them is in the
/// store; they are loaded again when needed. Never two of one id: nobody else holds those that go.
fn make_room(shard: &mut HashMap<ConversationId, Arc<Conversation>>) {
    let mut room = shard.len() / 4 + 1;
    shard.retain(|_, conversation| {
        let in_use = room == 0
            || Arc::strong_count(conversation) > 1
            || !conversation.is_idle()
            || conversation
                .try_loaded()
                .is_some_and(|loaded| loaded.has_unfinished());
        if !in_use {
            room -= 1;
        }
        in_use
    });
}

/// A store's failure as a client sees it: not its fault, and worth another try.
fn problem_of_store(error: StoreError) -> Problem {
    crate::metrics::store_failed(&error);
    if let StoreError::Unavailable(_) = error {
        tracing::warn!(%error, "the store does not answer now");
        return Problem::new(Code::Busy).detail("the store does not answer now");
    }
    tracing::error!(%error, "the store failed");
    Problem::new(Code::Internal)
}
