//! Deciding and committing a batch of what waits in a conversation.
//!
//! In: a batch from a `lane`, which also runs most of this itself, for many conversations together. Each
//! round looks up what the commands name (`lookup`), decides them one after the other against the state
//! as the ones before leave it, and appends all that were accepted in one step. Next: `publish`. One
//! round of a conversation at a time, so an append never races with another of this process; where
//! other nodes append too, a conflict means: load and decide again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidings_core::conversation::{MemberMap, Retention, State};
use tidings_core::entry::{Body, Entry};
use tidings_core::log::Seq;
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{Time, UserId};
use tidings_protocol::send::Sent;
use tidings_protocol::{Code, Problem};
use tidings_store::{Append, AppendError, ClientIdSearch, StoreError};

use super::loaded::{Loaded, subjects};
use super::queue::{Queued, Reply, Saying};
use super::refused::Refused;
use super::{Chat, Conversation, problem_of_store};

/// How often a batch is decided again after somebody else's append before it is refused as busy.
const CONFLICTS_MAX: usize = 8;

/// A command that became an entry, now or earlier.
pub(super) struct Accepted {
    pub index: usize,
    pub seq: Seq,
    pub at: Time,
    /// It became one just now, and by this command.
    pub is_new: bool,
}

/// A batch as it was decided.
pub(super) struct Decided {
    /// What is refused for now, as the batch leaves it. The queue is told when the decision stands: one that is
    /// given up half-way must leave no trace.
    pub behind: Refused,
    pub entries: Vec<Entry>,
    pub erase: Vec<Seq>,
    pub accepted: Vec<Accepted>,
    pub refused: Vec<(usize, Problem)>,
    /// As far as what belongs to the entries is known to be done, when it was decided.
    pub settled: Seq,
    /// The state after the batch, and the members that it names.
    pub state: State,
    pub members: MemberMap,
}

impl Chat {
    /// Works on a batch in its own time; then the conversation is back in its lane. `is_stale`: somebody else
    /// has appended since the state was read.
    pub(super) async fn drive(
        self: Arc<Self>,
        conversation: Arc<Conversation>,
        batch: Vec<Queued>,
        is_stale: bool,
    ) {
        let level = match is_stale {
            true => self.catch_up_for_all(&conversation).await,
            false => Ok(()),
        };
        match level {
            Ok(()) => self.work(&conversation, batch, is_stale).await,
            Err(problem) => self.refuse_all(&conversation, batch, &problem),
        }
        self.ready_again(conversation);
    }

    /// What is to be worked on next; `None` if nothing waits, and then nobody is at work any more.
    pub(super) fn next_batch(&self, conversation: &Conversation) -> Option<Vec<Queued>> {
        let mut queue = conversation.queue();
        let batch = queue.take_batch(
            self.settings.batch_commands_max,
            self.settings.batch_bytes_max,
        );
        queue.working = !batch.is_empty();
        queue.working.then_some(batch)
    }

    /// Decides and commits one batch and answers every command in it.
    async fn work(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        mut batch: Vec<Queued>,
        mut is_level: bool,
    ) {
        for _ in 0..CONFLICTS_MAX {
            let decided = match self.decide_batch(conversation, &batch).await {
                Ok(decided) => decided,
                Err(problem) => return self.refuse_all(conversation, batch, &problem),
            };
            if !is_level && self.must_be_level(&decided) {
                is_level = true;
                match self.catch_up_for_all(conversation).await {
                    Ok(()) => continue,
                    Err(problem) => return self.refuse_all(conversation, batch, &problem),
                }
            }
            self.settle(conversation, &batch, &decided);
            if decided.entries.is_empty() {
                // Without an entry there is no event that an answer could stand for.
                self.answer_decided(conversation, batch, &decided);
                return;
            }
            if let Err(problem) = self.prepare(conversation, &decided).await {
                return self.refuse_all(conversation, batch, &problem);
            }
            let started = Instant::now();
            match self
                .store
                .append(self.append_of(conversation, &decided))
                .await
            {
                Ok(()) => {
                    let took = started.elapsed();
                    return self.appended(conversation, batch, decided, took).await;
                }
                Err(AppendError::Repeated { .. }) => {
                    batch = self.answer_repeated(conversation, batch).await;
                }
                Err(AppendError::Conflict { head }) => {
                    tracing::info!(conversation = %conversation.id, head, "somebody else appended: deciding again");
                    is_level = true;
                    self.metrics.conflict();
                    conversation.queue().turns.met();
                    if let Err(problem) = self.catch_up(conversation).await {
                        return self.refuse_all(conversation, batch, &problem);
                    }
                }
                Err(AppendError::Store(error) | AppendError::Unknown(error)) => {
                    return self.give_up(conversation, batch, error).await;
                }
            }
        }
        let problem = Problem::new(Code::Busy).detail("too many others write to this conversation");
        self.refuse_all(conversation, batch, &problem);
    }

    /// Answers the commands of a batch whose client ids are entries already, wherever in the log: the store says so
    /// of a client id that its sender looked for only above that entry. Gives back the others.
    async fn answer_repeated(
        &self,
        conversation: &Conversation,
        batch: Vec<Queued>,
    ) -> Vec<Queued> {
        let generation = conversation
            .try_loaded()
            .map(|loaded| loaded.state.generation);
        let mut others = Vec::new();
        for queued in batch {
            let command = &queued.command;
            let log = conversation.log();
            let search = self
                .store
                .find_client_id(log, command.author, command.client_id, 0);
            match (search.await, generation) {
                (Ok(ClientIdSearch::Found { seq, at }), Some(generation)) => {
                    let client_id = command.client_id;
                    conversation.queue().refused.settled(&queued, Ok(()));
                    let sent = Sent {
                        id: 0,
                        client_id,
                        conversation: conversation.id,
                        seq,
                        at,
                        generation,
                    };
                    self.answer(queued.reply, client_id, Ok(sent));
                }
                _ => others.push(queued),
            }
        }
        others
    }

    /// What must be there before the append.
    pub(super) async fn prepare(
        &self,
        conversation: &Arc<Conversation>,
        decided: &Decided,
    ) -> Result<(), Problem> {
        self.note_retention(conversation, decided).await?;
        self.before_append(conversation, decided).await
    }

    /// The append is durable, after so long.
    pub(super) async fn appended(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        mut batch: Vec<Queued>,
        decided: Box<Decided>,
        took: Duration,
    ) {
        self.metrics.commit_took(took);
        let traced = self.trace_commit(conversation, &mut batch, &decided, took);
        if self.after_append(conversation, &decided).await.is_err() {
            tracing::warn!(conversation = %conversation.id, "inboxes go on reading the log");
        }
        self.committed(conversation, batch, decided);
        if let Some(traced) = traced {
            traced.told();
        }
        self.give_way(conversation, took).await;
    }

    /// The store failed. Whether the append happened is not known: what is in memory may be behind.
    pub(super) async fn give_up(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        batch: Vec<Queued>,
        error: StoreError,
    ) {
        let problem = problem_of_store(error);
        // If it did happen, those who have it before its sender's retry finds it are told here and elsewhere.
        let _ = self.catch_up_for_all(conversation).await;
        self.refuse_all(conversation, batch, &problem);
    }

    /// Whether a decision must not stand unless the state is level with the store: what is accepted commits only
    /// if it is, what is refused is not checked by anybody else. And a retry that found its entry beyond what is
    /// known to be settled is answered only when what belongs to that entry is done, whoever died over it.
    pub(super) fn must_be_level(&self, decided: &Decided) -> bool {
        let is_refused = |(_, problem): &(usize, Problem)| problem.code != Code::Behind;
        let is_beyond = |accepted: &Accepted| accepted.seq > decided.settled;
        self.is_shared()
            && (decided.refused.iter().any(is_refused)
                || (decided.entries.is_empty() && decided.accepted.iter().any(is_beyond)))
    }

    /// Remembers how the commands of a batch were decided, now that the decision stands: what is behind one that
    /// was refused for now must wait.
    pub(super) fn settle(&self, conversation: &Conversation, batch: &[Queued], decided: &Decided) {
        let mut queue = conversation.queue();
        if decided.refused.is_empty() && queue.refused.is_empty() {
            return;
        }
        let mut answers = vec![Ok(()); batch.len()];
        for (index, problem) in &decided.refused {
            if let Some(answer) = answers.get_mut(*index) {
                *answer = Err(problem);
            }
        }
        for (queued, answer) in batch.iter().zip(answers) {
            queue.refused.settled(queued, answer);
        }
    }

    pub(super) fn append_of(&self, conversation: &Conversation, decided: &Decided) -> Append {
        let first = decided.entries.first().map_or(0, Entry::seq);
        let state = conversation.try_loaded().and_then(|loaded| {
            let due = decided.state.seq.saturating_sub(loaded.written)
                >= self.settings.state_every_entries;
            due.then(|| snapshot_after(&loaded, decided))
        });
        Append {
            log: conversation.log(),
            expected_head: first.saturating_sub(1),
            generation: decided.state.generation,
            entries: decided.entries.clone(),
            retention: decided.state.settings.retention,
            erase: decided.erase.clone(),
            marks: self.marks_of_append(conversation, decided),
            state,
        }
    }

    /// Joined and left marks of those who came and went; heads for all, where the store needs them.
    fn marks_of_append(&self, conversation: &Conversation, decided: &Decided) -> Vec<Mark> {
        let log = conversation.log();
        let mark = |user: UserId, kind, value| Mark {
            log,
            owner: user.0,
            kind,
            lane: 0,
            value,
        };
        let mut marks = Vec::new();
        for entry in decided
            .entries
            .iter()
            .filter(|entry| entry.envelope.kind.changes_members())
        {
            for user in subjects(entry) {
                let Some(member) = decided.members.get(&user) else {
                    continue;
                };
                let left = member.spans.last().and_then(|span| span.left);
                marks.push(mark(user, MarkKind::Joined, member.joined));
                if let Some(seq) = left {
                    let value = MarkValue {
                        seq,
                        at: entry.envelope.at,
                        ..MarkValue::default()
                    };
                    marks.push(mark(user, MarkKind::Left, value));
                }
            }
        }
        if let Some(loaded) = conversation.try_loaded() {
            marks.extend(self.head_marks(conversation, &loaded, decided));
        }
        marks
    }

    /// The entries are durable: the state moves on, the senders have their tick, the others the entries.
    fn committed(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        batch: Vec<Queued>,
        decided: Box<Decided>,
    ) {
        let retention_before;
        {
            let Some(mut loaded) = conversation.try_loaded() else {
                return;
            };
            retention_before = loaded.state.settings.retention;
            let wrote_state = decided.state.seq.saturating_sub(loaded.written)
                >= self.settings.state_every_entries;
            let received = batch.iter().map(|queued| queued.received).min();
            let mut sayings = self.answer_decided(conversation, batch, &decided);
            self.publish(conversation, &mut loaded, &decided.entries, &mut sayings);
            for saying in sayings {
                self.answer_saying(saying);
            }
            loaded.was_settled(&decided.entries);
            self.tell_entries(conversation, &loaded, &decided.entries);
            if wrote_state {
                // Others may have appended since, and that is in no snapshot of ours.
                loaded.was_written(decided.state.seq);
            }
            if let Some(received) = received {
                self.metrics.delivered_after(received.elapsed());
            }
        }
        self.after_commit(conversation, &decided.entries, retention_before);
    }

    /// Answers the commands of a batch, but for those whose answer stands for the entry's event.
    pub(super) fn answer_decided(
        &self,
        conversation: &Conversation,
        batch: Vec<Queued>,
        decided: &Decided,
    ) -> Vec<Saying> {
        let mut answers: Vec<Option<(Result<Sent, Problem>, bool)>> =
            batch.iter().map(|_| None).collect();
        for accepted in &decided.accepted {
            if let (Some(slot), Some(queued)) =
                (answers.get_mut(accepted.index), batch.get(accepted.index))
            {
                let sent = Sent {
                    id: 0,
                    client_id: queued.command.client_id,
                    conversation: conversation.id,
                    seq: accepted.seq,
                    at: accepted.at,
                    generation: decided.state.generation,
                };
                *slot = Some((Ok(sent), accepted.is_new));
            }
        }
        for (index, problem) in &decided.refused {
            if let Some(slot) = answers.get_mut(*index) {
                *slot = Some((Err(problem.clone()), false));
            }
        }
        let mut sayings = Vec::new();
        for (queued, answer) in batch.into_iter().zip(answers) {
            let unanswered = || (Err(Problem::new(Code::Internal)), false);
            let (answer, is_new) = answer.unwrap_or_else(unanswered);
            if answer.is_ok() {
                self.metrics.message_accepted();
            }
            match (queued.reply, answer) {
                (Reply::Short(session, id), Ok(sent)) if is_new => sayings.push(Saying {
                    session,
                    id,
                    sent,
                    is_answered: false,
                }),
                (reply, answer) => self.answer(reply, queued.command.client_id, answer),
            }
        }
        sayings
    }

    pub(super) fn refuse_all(
        &self,
        conversation: &Conversation,
        batch: Vec<Queued>,
        problem: &Problem,
    ) {
        for queued in batch {
            conversation.queue().refused.settled(&queued, Err(problem));
            self.answer(queued.reply, queued.command.client_id, Err(problem.clone()));
        }
    }
}

/// The state to be written with an append: as it will be, with all members that changed.
fn snapshot_after(loaded: &Loaded, decided: &Decided) -> tidings_store::StateSnapshot {
    use tidings_core::codec::{encode_member, encode_state};
    let mut members: std::collections::BTreeMap<UserId, Vec<u8>> = loaded
        .changed
        .iter()
        .filter_map(|user| {
            loaded
                .members
                .get(user)
                .map(|member| (*user, encode_member(member)))
        })
        .collect();
    members.extend(
        decided
            .members
            .iter()
            .map(|(user, member)| (*user, encode_member(member))),
    );
    tidings_store::StateSnapshot {
        seq: decided.state.seq,
        state: encode_state(&decided.state),
        members: members.into_iter().collect(),
    }
}

/// Whether the entries change how long bodies are kept.
pub(super) fn changes_retention(entries: &[Entry], before: Retention) -> bool {
    entries.iter().any(|entry| match &entry.body {
        Body::Create { settings, .. } => settings.retention != Retention::Forever,
        Body::Settings(change) => change
            .retention
            .is_some_and(|retention| retention != before),
        _ => false,
    })
}
