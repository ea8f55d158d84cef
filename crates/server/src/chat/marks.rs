//! Marks rise: acknowledging, reading, ticks.
//!
//! In: `mark` frames (and the marks that a `hello` repeats). Next: the store, late; those concerned are told
//! (`telling`).

use std::sync::Arc;

use tidings_core::conversation::Retention;
use tidings_core::log::{Generation, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{Time, UserId};
use tidings_protocol::mark::MarkUpdate;
use tidings_protocol::{Code, Problem};
use tidings_store::{Durability, Step};

use super::counting::count_near;
use super::loaded::{KEEP_STEPS_MEMBERS_MAX, Loaded};
use super::{Chat, Conversation, problem_of_store};
use crate::session::Caller;

/// The times of a member's steps are kept at most this often.
pub(super) const STEP_MILLIS: u64 = 1_000;

/// Marks that somebody raises in one conversation.
#[derive(Clone, Copy)]
pub(super) struct Raising {
    pub caller: Caller,
    /// The session that knows where its user's read mark is then.
    pub knows: Option<u64>,
    delivered: Seq,
    read: Option<Seq>,
    /// Whether the user lets it be seen how far it has read.
    shown: bool,
    /// Entries that count up to the place of the read mark, and the user's own among them, if they had to be counted.
    counts: Option<(u64, u64)>,
}

/// What came of raising marks in memory.
enum Raised {
    /// To be kept by the store.
    Rose(Rise, Retention),
    /// They are of another life of the log.
    Ignored,
    Refused(Problem),
    /// What counts up to the read mark is not known in memory: from where it is counted, and to where.
    Uncounted(MarkValue, (Seq, u64, u64)),
}

impl Chat {
    /// Raises marks of the caller. Each by itself: those before and after a wrong one hold. The session that `knows`
    /// them need not be told where its user's read mark is then.
    ///
    /// # Errors
    /// That of the first wrong one: `not_found`, `above_head`.
    pub async fn mark(
        self: &Arc<Self>,
        caller: Caller,
        knows: Option<u64>,
        marks: &[MarkUpdate],
    ) -> Result<(), Problem> {
        let mut first_problem = Ok(());
        for update in marks {
            let raised = self.mark_one(caller, knows, update).await;
            first_problem = first_problem.and(raised);
        }
        first_problem
    }

    pub(super) async fn mark_one(
        self: &Arc<Self>,
        caller: Caller,
        knows: Option<u64>,
        update: &MarkUpdate,
    ) -> Result<(), Problem> {
        let conversation = self.open_hot_for(caller.user, update.conversation).await?;
        let mut raising = Raising {
            caller,
            knows,
            // Who has read something has received it.
            delivered: update.delivered.max(update.read).unwrap_or(0),
            read: update.read,
            shown: update.read.is_some() && self.users.is_shown(caller.user).await?,
            counts: None,
        };
        let mut is_level = false;
        loop {
            match self.raise(&conversation, raising, update.generation) {
                Raised::Rose(rise, retention) => {
                    return self.keep_rise(&conversation, rise, retention).await;
                }
                Raised::Ignored => return Ok(()),
                Raised::Refused(problem) if is_level => return Err(problem),
                Raised::Refused(_) => {
                    // Not by what may have changed elsewhere.
                    self.level(&conversation).await?;
                    is_level = true;
                }
                Raised::Uncounted(before, head) => {
                    let (user, seq) = (caller.user, raising.read.unwrap_or(0));
                    let counted = self.count_far(&conversation, user, seq, before, head);
                    raising.counts = Some(counted.await?);
                }
            }
        }
    }

    /// Raises marks in memory and tells of it, all in one moment.
    fn raise(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        raising: Raising,
        generation: Option<Generation>,
    ) -> Raised {
        let user = raising.caller.user;
        let Some(mut loaded) = conversation.try_loaded() else {
            return Raised::Refused(Problem::new(Code::Internal));
        };
        if loaded.member_in(user).is_none() {
            return Raised::Refused(Problem::new(Code::NotFound));
        }
        let is_here = |generation| generation == loaded.state.generation;
        if !generation.is_none_or(is_here) {
            return Raised::Ignored;
        }
        if raising.delivered > loaded.state.seq {
            return Raised::Refused(Problem::new(Code::AboveHead));
        }
        let now = self.clock.now();
        let read = match loaded.read_step(raising, now) {
            Ok(read) => read,
            Err(uncounted) => return uncounted,
        };
        let mut rise = loaded.rise(conversation, raising, read, now);
        let touches = self.touches(
            conversation,
            &loaded,
            user,
            rise.moved,
            rise.read.is_some(),
            now,
        );
        rise.raised.extend(touches);
        self.tell_rise(conversation, &mut loaded, raising, &rise, now);
        Raised::Rose(rise, loaded.state.settings.retention)
    }

    /// Hands what rose to the store.
    async fn keep_rise(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        rise: Rise,
        retention: Retention,
    ) -> Result<(), Problem> {
        if !rise.raised.is_empty() {
            self.store
                .raise_marks(rise.raised, Durability::Late)
                .await
                .map_err(problem_of_store)?;
        }
        if !rise.steps.is_empty() {
            self.store
                .keep_steps(rise.steps)
                .await
                .map_err(problem_of_store)?;
        }
        if retention == Retention::UntilDelivered {
            self.reconsider_trimming(conversation);
        }
        Ok(())
    }

    /// Keeps the steps whose second is over.
    pub(super) async fn keep_due_steps(&self, conversation: &Conversation) {
        let log = conversation.log();
        let due = {
            let Some(mut loaded) = conversation.try_loaded() else {
                return;
            };
            loaded.stepping = false;
            std::mem::take(&mut loaded.steps_due)
        };
        let steps: Vec<Step> = due
            .into_iter()
            .map(|((user, kind), (seq, at))| Step {
                log,
                owner: user.0,
                kind,
                seq,
                at,
            })
            .collect();
        if let Err(error) = self.store.keep_steps(steps).await {
            tracing::error!(%error, "the times of steps could not be kept");
        }
    }
}

/// What a rise of somebody's marks comes to.
pub(super) struct Rise {
    /// For the store.
    raised: Vec<Mark>,
    steps: Vec<Step>,
    /// Whether others have something to be told.
    pub moved: bool,
    /// The read mark, if it moved.
    pub read: Option<MarkValue>,
}

impl Loaded {
    /// The read mark, with the counts at its place; `None` if it does not rise. Otherwise what is lacking.
    fn read_step(&self, raising: Raising, at: Time) -> Result<Option<MarkValue>, Raised> {
        let user = raising.caller.user;
        let marks = self.marks_of(user);
        let rises = |seq: &Seq| *seq > marks.read.seq || (raising.shown && *seq > marks.shown);
        let Some(seq) = raising.read.filter(rises) else {
            return Ok(None);
        };
        let own_total = self.members.get(&user).map_or(0, |member| member.own);
        let near = || count_near(self, user, seq, own_total);
        match raising.counts.or_else(near) {
            Some((ordinal, own)) => Ok(Some(MarkValue {
                seq,
                ordinal,
                own,
                at,
            })),
            None => {
                let head = (self.state.seq, self.state.ordinal, own_total);
                Err(Raised::Uncounted(marks.read, head))
            }
        }
    }

    fn rise(
        &mut self,
        conversation: &Conversation,
        raising: Raising,
        read: Option<MarkValue>,
        now: Time,
    ) -> Rise {
        let (caller, delivered) = (raising.caller, raising.delivered);
        let log = conversation.log();
        let plain = |seq| MarkValue {
            seq,
            at: now,
            ..MarkValue::default()
        };
        let mark = |owner, kind, value| Mark {
            log,
            owner,
            kind,
            lane: 0,
            value,
        };
        let mut marks = self.marks_of(caller.user);
        let mut rise = Rise {
            raised: Vec::new(),
            steps: Vec::new(),
            moved: false,
            read: None,
        };
        if delivered > 0 {
            rise.raised
                .push(mark(caller.device.0, MarkKind::Device, plain(delivered)));
        }
        if delivered > marks.delivered {
            marks.delivered = delivered;
            rise.moved = true;
            rise.raised
                .push(mark(caller.user.0, MarkKind::Delivered, plain(delivered)));
            let last = &mut marks.delivered_step_at;
            rise.steps.extend(self.note_step(
                conversation,
                caller.user,
                MarkKind::Delivered,
                delivered,
                last,
                now,
            ));
        }
        if let Some(read) = read {
            let seq = read.seq;
            if seq > marks.read.seq {
                marks.read = read;
                marks.reckon_read(conversation.id, caller.user);
                rise.read = Some(read);
                rise.raised.push(mark(caller.user.0, MarkKind::Read, read));
            }
            if raising.shown && seq > marks.shown {
                marks.shown = seq;
                rise.moved = true;
                rise.raised
                    .push(mark(caller.user.0, MarkKind::Shown, plain(seq)));
                let last = &mut marks.shown_step_at;
                rise.steps.extend(self.note_step(
                    conversation,
                    caller.user,
                    MarkKind::Shown,
                    seq,
                    last,
                    now,
                ));
            }
        }
        self.marks.insert(caller.user, marks);
        rise
    }

    /// Keeps a step at once if the member's last one is a second ago, otherwise when that second is over.
    fn note_step(
        &mut self,
        conversation: &Conversation,
        user: UserId,
        kind: MarkKind,
        seq: Seq,
        last: &mut Time,
        now: Time,
    ) -> Option<Step> {
        if self.state.member_count > KEEP_STEPS_MEMBERS_MAX {
            return None;
        }
        if now.millis_since(*last) < STEP_MILLIS {
            self.steps_due.insert((user, kind), (seq, now));
            return None;
        }
        *last = now;
        Some(Step {
            log: conversation.log(),
            owner: user.0,
            kind,
            seq,
            at: now,
        })
    }
}
