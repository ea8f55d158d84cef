//! Marks rise: acknowledging, reading, ticks.
//!
//! In: `mark` frames (and the marks that a `hello` repeats). Next: the store, late; the author's sessions,
//! at once in a direct conversation, gathered for a moment in a group, summed once a second for those who
//! look at it in a large one.

use std::cell::LazyCell;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::conversation::Retention;
use tidings_core::log::{Generation, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{ConversationId, Time, UserId};
use tidings_protocol::mark::{MarkStep, MarkUpdate, Marks, Receipt, Receipts, ReceiptsRequest};
use tidings_protocol::{Code, Problem, ServerFrame};
use tidings_store::{Durability, Step, Want};

use super::counting::count_near;
use super::loaded::{KEEP_STEPS_MEMBERS_MAX, Loaded, UserMarks};
use super::news::MovedMarks;
use super::{Chat, Conversation, problem_of_store};
use crate::session::{Caller, Event};

/// The times of a member's steps are kept at most this often.
const STEP_MILLIS: u64 = 1_000;

/// Marks that somebody raises in one conversation.
#[derive(Clone, Copy)]
struct Raising {
    caller: Caller,
    /// The session that knows where its user's read mark is then.
    knows: Option<u64>,
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

    /// Tells those concerned that a member's marks moved: at once in a direct conversation, soon in a group.
    fn tell_rise(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        loaded: &mut Loaded,
        raising: Raising,
        rise: &Rise,
        now: Time,
    ) {
        let Raising { caller, knows, .. } = raising;
        let (id, user) = (conversation.id, caller.user);
        if rise.moved && loaded.tells_at_once() {
            let news = tell_one(loaded, id, user, now);
            self.push_steps(conversation, loaded, vec![news], Some(user));
            self.tell_marks(conversation, loaded, user, now);
        } else if rise.moved {
            loaded.untold.insert(user);
        }
        if let Some(read) = rise.read {
            let event = own_read_event(id, loaded, user, read, now);
            let (place, part) = (loaded.place(id), loaded.part(id, user));
            self.hub.push_own(caller, knows, &event, place, part);
            self.tell_read(conversation, loaded, user, read);
        }
        self.tell_soon(conversation, loaded);
        if !loaded.steps_due.is_empty() && !loaded.stepping {
            loaded.stepping = true;
            let (chat, conversation) = (self.clone(), conversation.clone());
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(STEP_MILLIS)).await;
                chat.keep_due_steps(&conversation).await;
            });
        }
    }

    /// What another server told or the store says of a member's marks is told to the sessions here.
    pub(super) fn tell_heard(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        loaded: &mut Loaded,
        user: UserId,
        now: Time,
    ) {
        if loaded.tells_marks() {
            let news = tell_one(loaded, conversation.id, user, now);
            self.push_steps(conversation, loaded, vec![news], Some(user));
        } else {
            loaded.heard.insert(user);
            self.tell_soon(conversation, loaded);
        }
    }

    /// Tells the user's sessions here how far it has read elsewhere.
    pub(super) fn tell_own_read(
        &self,
        id: ConversationId,
        loaded: &Loaded,
        user: UserId,
        read: MarkValue,
        now: Time,
    ) {
        if let Some(hub) = self.hub.user(user) {
            let event = own_read_event(id, loaded, user, read, now);
            hub.push_with_part(&event, loaded.place(id), loaded.part(id, user));
        }
    }

    /// Has what was gathered told before long.
    fn tell_soon(self: &Arc<Self>, conversation: &Arc<Conversation>, loaded: &mut Loaded) {
        if loaded.telling || (loaded.untold.is_empty() && loaded.heard.is_empty()) {
            return;
        }
        loaded.telling = true;
        let millis = if loaded.tells_marks() {
            self.settings.gather_marks_ms
        } else {
            STEP_MILLIS
        };
        let (chat, conversation) = (self.clone(), conversation.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(millis)).await;
            chat.tell_gathered(&conversation);
        });
    }

    /// Sends steps to all who are in but one, and in the same moment moves their digests. Who hides how far
    /// it has read is told what was delivered, and nothing where only reading moved.
    fn push_steps(
        &self,
        conversation: &Conversation,
        loaded: &Loaded,
        news: Vec<News>,
        except: Option<UserId>,
    ) {
        let id = conversation.id;
        let place = loaded.place(id);
        let event_of = |steps: Vec<MarkStep>| {
            (!steps.is_empty()).then(|| {
                Event::new(MovedMarks {
                    place,
                    loaded,
                    steps,
                })
            })
        };
        let event = event_of(news.iter().map(|news| news.step).collect());
        let without_shown = LazyCell::new(|| {
            let delivered = news.iter().filter(|news| news.delivered_moved);
            let step = |news: &News| MarkStep {
                shown: None,
                ..news.step
            };
            event_of(delivered.map(step).collect())
        });
        for (user, _) in loaded.present() {
            if Some(user) != except
                && let Some(hub) = self.hub.user(user)
            {
                let event = if hub.is_shown() {
                    &event
                } else {
                    &*without_shown
                };
                let part = loaded.part(id, user);
                match event {
                    Some(event) => {
                        hub.push_with_part(event, place, part);
                    }
                    None => hub.set_part(place, part),
                }
            }
        }
    }

    /// Tells the marks that were gathered: to everybody, or in a large group as a sum to those who look.
    fn tell_gathered(&self, conversation: &Conversation) {
        let Some(mut loaded) = conversation.try_loaded() else {
            return;
        };
        loaded.telling = false;
        let mut untold = std::mem::take(&mut loaded.untold);
        // Who went meanwhile is in nobody's digest any more.
        untold.retain(|user| loaded.member_in(*user).is_some());
        let now = self.clock.now();
        for user in &untold {
            self.tell_marks(conversation, &loaded, *user, now);
        }
        untold.extend(std::mem::take(&mut loaded.heard));
        untold.retain(|user| loaded.member_in(*user).is_some());
        if untold.is_empty() {
            return;
        }
        if loaded.tells_marks() {
            let news = untold
                .iter()
                .map(|user| tell_one(&mut loaded, conversation.id, *user, now))
                .collect();
            self.push_steps(conversation, &loaded, news, None);
        } else {
            for session in loaded.lookers.values() {
                let user = session.caller.user;
                let is_shown = self.hub.user(user).is_some_and(|hub| hub.is_shown());
                if let Some(ticks) = loaded.ticks_for(conversation.id, user, is_shown) {
                    session.push(&ServerFrame::Ticks(ticks));
                }
            }
        }
    }

    /// Keeps the steps whose second is over.
    async fn keep_due_steps(&self, conversation: &Conversation) {
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

    /// Who received and read one message, and when.
    ///
    /// # Errors
    /// `not_found` when the caller is not in the conversation or may not see the entry.
    pub async fn receipts(
        self: &Arc<Self>,
        caller: Caller,
        request: ReceiptsRequest,
    ) -> Result<Receipts, Problem> {
        let conversation = self.open_for(caller.user, request.conversation).await?;
        let entry = self
            .read_one(&conversation, request.seq, Want::Envelopes)
            .await?;
        let steps = self
            .store
            .steps_past(conversation.log(), request.seq)
            .await
            .map_err(problem_of_store)?;
        // Who hides how far it has read does not see it of others.
        let is_shown = self.users.is_shown(caller.user).await?;
        let Some(loaded) = conversation.try_loaded() else {
            return Err(Problem::new(Code::Internal));
        };
        let member = loaded
            .member_in(caller.user)
            .ok_or_else(|| Problem::new(Code::NotFound))?;
        let entry = entry
            .filter(|_| member.may_see(request.seq))
            .ok_or_else(|| Problem::new(Code::TargetNotFound))?;
        let time_of = |user: UserId, kind| {
            steps
                .iter()
                .find(|step| step.owner == user.0 && step.kind == kind)
                .map(|step| step.at)
        };
        let recipients = loaded
            .present()
            .filter(|(user, member)| {
                *user != entry.envelope.author && member.is_recipient(request.seq)
            })
            .map(|(user, _)| {
                let marks = loaded.marks_of(user);
                let delivered = marks.delivered >= request.seq;
                let shown = is_shown && marks.shown >= request.seq;
                Receipt {
                    user,
                    delivered,
                    shown,
                    delivered_at: time_of(user, MarkKind::Delivered).filter(|_| delivered),
                    shown_at: time_of(user, MarkKind::Shown).filter(|_| shown),
                }
            })
            .collect();
        Ok(Receipts {
            id: request.id,
            conversation: request.conversation,
            seq: request.seq,
            recipients,
        })
    }
}

/// What a rise of somebody's marks comes to.
struct Rise {
    /// For the store.
    raised: Vec<Mark>,
    steps: Vec<Step>,
    /// Whether others have something to be told.
    moved: bool,
    /// The read mark, if it moved.
    read: Option<MarkValue>,
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

/// A step that is to be told.
struct News {
    step: MarkStep,
    delivered_moved: bool,
}

fn tell_one(loaded: &mut Loaded, id: ConversationId, user: UserId, now: Time) -> News {
    let delivered_moved = loaded.tell(id, user);
    News {
        step: step_of(user, &loaded.marks_of(user), now),
        delivered_moved,
    }
}

/// What a user's own sessions are told when it has read further.
fn own_read_event(
    id: ConversationId,
    loaded: &Loaded,
    user: UserId,
    read: MarkValue,
    now: Time,
) -> Event {
    let step = MarkStep {
        read: Some(read.into()),
        ..step_of(user, &loaded.marks_of(user), now)
    };
    Event::new(ServerFrame::Marks(Marks {
        conversation: id,
        marks: vec![step],
    }))
}

fn step_of(user: UserId, marks: &UserMarks, at: Time) -> MarkStep {
    let some = |seq: Seq| Some(seq).filter(|seq| *seq > 0);
    MarkStep {
        user,
        at,
        delivered: some(marks.delivered),
        shown: some(marks.shown),
        read: None,
    }
}
