//! Lanes: the commands of many conversations, decided and committed together.
//!
//! In: conversations in which commands wait (`queue`). A lane takes all that are ready, decides their commands
//! (`drive`) and hands every append to the store in one go; once they are durable, everybody concerned is told
//! (`publish`). What came meanwhile is the next round, which does not wait for the one before: a conversation is only
//! ever in one. The more there is to do, the more is done at once. A conversation that has to wait for something, for
//! it is not in memory, say, holds nobody up: it goes its own way (`Chat::drive`).

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tidings_protocol::Problem;
use tidings_store::{Append, AppendError};
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::drive::Decided;
use super::pace::Pace;
use super::queue::Queued;
use super::{Chat, Conversation};

/// Conversations of one round.
const ROUND_MAX: usize = 128;
/// Bytes of the commands of one round, about.
const ROUND_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Conversations that are told without letting other tasks have their turn.
const TELL_MAX: usize = 32;
/// And bytes of their commands, about: far fewer than what may wait in one session.
const TELL_BYTES_MAX: usize = 256 * 1024;
/// Rounds of one lane that wait for a store of this server's own. When there are more, what comes gathers for the next.
pub(super) const ROUNDS_WAITING_MAX: usize = 4;
/// From one round to the next, when one follows on another: many rounds with little in each would cost far
/// more (wake-ups, syncs, system calls) than they make anybody wait less. A lone message never waits.
const ROUND_EVERY: Duration = Duration::from_millis(1);

/// Conversations in which commands wait.
pub(super) struct Lane {
    ready: Mutex<Ready>,
    /// Places for rounds that wait for the store.
    places: Arc<Semaphore>,
    /// Of the task that is at work.
    pace: AsyncMutex<Pace>,
}

#[derive(Default)]
struct Ready {
    conversations: VecDeque<Arc<Conversation>>,
    /// Whether a task is at work on them.
    running: bool,
}

/// A batch that is decided and to be appended.
struct Pending {
    conversation: Arc<Conversation>,
    batch: Vec<Queued>,
    decided: Box<Decided>,
}

impl Pending {
    fn bytes(&self) -> usize {
        self.batch.iter().map(|queued| queued.bytes).sum()
    }
}

impl Default for Lane {
    fn default() -> Lane {
        Lane {
            ready: Mutex::default(),
            places: Arc::new(Semaphore::new(ROUNDS_WAITING_MAX)),
            pace: AsyncMutex::default(),
        }
    }
}

impl Lane {
    fn lock(&self) -> MutexGuard<'_, Ready> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a round is made of; empty if nothing is ready, and then nobody is at work any more.
    fn next_round(&self) -> Vec<Arc<Conversation>> {
        let mut ready = self.lock();
        let count = ready.conversations.len().min(ROUND_MAX);
        ready.running = count > 0;
        if count == 0 {
            // A quiet lane keeps no buffer.
            ready.conversations = VecDeque::new();
        }
        ready.conversations.drain(..count).collect()
    }
}

impl Chat {
    /// Has the commands that wait in a conversation worked on. Whoever calls has marked its queue so.
    pub(super) fn ready(self: &Arc<Self>, conversation: Arc<Conversation>) {
        // Not the byte that chooses the shard, and as random.
        let index = usize::from(conversation.id.0[14]) % self.lanes.len();
        let mut ready = self.lanes[index].lock();
        ready.conversations.push_back(conversation);
        if !ready.running {
            ready.running = true;
            tokio::spawn(self.clone().run_lane(index));
        }
    }

    async fn run_lane(self: Arc<Self>, index: usize) {
        let mut pace = self.lanes[index].pace.lock().await;
        loop {
            // Sessions that have something to read are read first.
            tokio::task::yield_now().await;
            let Ok(place) = self.lanes[index].places.clone().acquire_owned().await else {
                // Nobody closes it.
                return;
            };
            let round = self.lanes[index].next_round();
            if round.is_empty() {
                return;
            }
            let begun = Instant::now();
            let (mut pending, mut bytes) = (Vec::new(), 0);
            for conversation in round {
                if bytes >= ROUND_BYTES_MAX {
                    self.ready(conversation);
                    continue;
                }
                let deciding = AssertUnwindSafe(|| self.decide_at_once(conversation));
                match catch_unwind(deciding) {
                    Ok(decided) => {
                        pending.extend(decided.inspect(|decided| bytes += decided.bytes()))
                    }
                    Err(_) => stuck(),
                }
            }
            if !pending.is_empty() {
                self.commit(pending, place);
            }
            pace.until(begun + ROUND_EVERY).await;
        }
    }

    /// Decides what waits, if that can be done without waiting for anything.
    fn decide_at_once(self: &Arc<Self>, conversation: Arc<Conversation>) -> Option<Pending> {
        let Some(batch) = self.next_batch(&conversation) else {
            self.forget_if_empty(conversation);
            return None;
        };
        let batch = self.forward(&conversation, batch)?;
        let decided = {
            let deciding = std::pin::pin!(async {
                let decided = self.decide_batch(&conversation, &batch).await?;
                if !decided.entries.is_empty() {
                    self.prepare(&conversation, &decided).await?;
                }
                Ok::<_, Problem>(decided)
            });
            deciding.now_or_never()
        };
        if let Some(Ok(decided)) = &decided
            && self.must_be_level(decided)
        {
            tokio::spawn(self.clone().drive(conversation, batch, true));
            return None;
        }
        if let Some(Ok(decided)) = &decided {
            self.settle(&conversation, &batch, decided);
        }
        match decided {
            None => {
                tokio::spawn(self.clone().drive(conversation, batch, false));
                return None;
            }
            Some(Err(problem)) => self.refuse_all(&conversation, batch, &problem),
            Some(Ok(decided)) if decided.entries.is_empty() => {
                self.answer_decided(&conversation, batch, &decided);
            }
            Some(Ok(decided)) => {
                return Some(Pending {
                    conversation,
                    batch,
                    decided,
                });
            }
        }
        // It has its turn again, behind the others, or is found to be idle.
        self.ready_again(conversation);
        None
    }

    fn commit(self: &Arc<Self>, round: Vec<Pending>, place: OwnedSemaphorePermit) {
        let (mut appends, mut appended) = (Vec::new(), Vec::new());
        for pending in round {
            let putting =
                AssertUnwindSafe(|| self.append_of(&pending.conversation, &pending.decided));
            match catch_unwind(putting) {
                Ok(append) => {
                    appends.push(append);
                    appended.push(pending);
                }
                Err(_) => stuck(),
            }
        }
        if self.is_shared() {
            // One that others write to at the same time may take long: the rest of the lane does not wait for it.
            for (append, pending) in appends.into_iter().zip(appended) {
                tokio::spawn(self.clone().commit_one(append, pending));
            }
            return;
        }
        // The lane goes on: what comes meanwhile is decided, and waits in the store's queue for its next sync.
        tokio::spawn(self.clone().settle_round(appends, appended, place));
    }

    async fn settle_round(
        self: Arc<Self>,
        appends: Vec<Append>,
        appended: Vec<Pending>,
        place: OwnedSemaphorePermit,
    ) {
        let started = Instant::now();
        let appending = AssertUnwindSafe(self.store.append_all(appends));
        let Ok(results) = appending.catch_unwind().await else {
            return stuck();
        };
        let took = started.elapsed();
        drop(place);
        let (mut told, mut bytes) = (0, 0);
        for (pending, result) in appended.into_iter().zip(results) {
            if told == TELL_MAX || bytes >= TELL_BYTES_MAX {
                // What has been told is written meanwhile, and others have their turn.
                tokio::task::yield_now().await;
                (told, bytes) = (0, 0);
            }
            told += 1;
            bytes += pending.bytes();
            let finishing = AssertUnwindSafe(self.finish(pending, result, took));
            if finishing.catch_unwind().await.is_err() {
                stuck();
            }
        }
    }

    async fn commit_one(self: Arc<Self>, append: Append, pending: Pending) {
        let started = Instant::now();
        let result = self.store.append(append).await;
        let finishing = AssertUnwindSafe(self.finish(pending, result, started.elapsed()));
        if finishing.catch_unwind().await.is_err() {
            stuck();
        }
    }

    async fn finish(
        self: &Arc<Self>,
        pending: Pending,
        result: Result<(), AppendError>,
        took: Duration,
    ) {
        let Pending {
            conversation,
            batch,
            decided,
        } = pending;
        match result {
            Ok(()) => self.appended(&conversation, batch, decided, took).await,
            Err(error @ (AppendError::Conflict { .. } | AppendError::Repeated { .. })) => {
                tracing::info!(conversation = %conversation.id, %error, "somebody else appended: deciding again");
                if matches!(error, AppendError::Conflict { .. }) {
                    self.metrics.conflict();
                    conversation.queue().turns.met();
                }
                tokio::spawn(self.clone().drive(conversation, batch, true));
                return;
            }
            Err(AppendError::Store(error) | AppendError::Unknown(error)) => {
                self.give_up(&conversation, batch, error).await;
            }
        }
        self.ready_again(conversation);
    }

    /// Puts a conversation back in line if there is more to do; the queue goes on being marked so.
    pub(super) fn ready_again(self: &Arc<Self>, conversation: Arc<Conversation>) {
        let more = {
            let mut queue = conversation.queue();
            queue.working = queue.has_waiting();
            queue.working
        };
        if more {
            self.ready(conversation);
        } else {
            self.forget_if_empty(conversation);
        }
    }
}

/// A conversation whose rules or fan-out panicked, which is a fault of the program, stands still; the others
/// of its lane do not.
fn stuck() {
    tracing::error!(
        "a conversation stands still until the next start: deciding or telling panicked"
    );
}
