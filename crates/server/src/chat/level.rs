//! Level with the store, where several servers share one: others append, raise marks and write states too.
//!
//! An append is always decided right, for it commits only at the head it was decided against. What is refused,
//! read or told from memory is not: before that the conversation is brought level ([`Chat::level`]), and each
//! connected user's inbox is looked at once in a heartbeat (`refresh`). What the other servers tell
//! (`heard`) makes it quicker and nothing more.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidings_core::entry::Entry;
use tidings_core::log::{LogId, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{ConversationId, Time, UserId};
use tidings_protocol::sync::{ConversationFrame, Gone};
use tidings_protocol::{Code, Problem, ServerFrame};
use tidings_store::{Direction, Durability, ReadLog, StoreError, Want};

use super::inbox::summary;
use super::loaded::{Loaded, Rows};
use super::{Chat, Conversation, problem_of_store};
use crate::hub::Part;
use crate::session::Event;

/// Entries that are read at a time …
pub(super) const PAGE: usize = 1_000;
/// … and their bytes.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The lane of the mark that says when something besides the head last moved; the head itself is in lane 0.
pub(super) const TOUCHED_LANE: u32 = 2;

/// The value of a mark that says when something last moved.
pub(super) fn touched_at(at: Time) -> MarkValue {
    MarkValue {
        seq: at.0,
        at,
        ..MarkValue::default()
    }
}

/// A page of what others appended.
pub(super) fn page_from(from: Seq) -> ReadLog {
    ReadLog {
        from,
        direction: Direction::Forwards,
        limit: PAGE,
        bytes_max: PAGE_BYTES_MAX,
        want: Want::Entries,
    }
}

impl Chat {
    /// Brings a conversation level with its log before something is read or refused by it. Where nobody else
    /// writes it always is.
    pub(super) async fn level(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
    ) -> Result<(), Problem> {
        match self.is_shared() {
            true => self.catch_up(conversation).await.map(|_| ()),
            false => Ok(()),
        }
    }

    /// Reads what is in the log and not in memory, tells it to the sessions here, and does what whoever appended it may
    /// have died before doing. Answers the entries.
    pub(super) async fn catch_up(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
    ) -> Result<Vec<Entry>, Problem> {
        self.load(conversation).await?;
        let work = self.catch_up_now(conversation);
        let caught = conversation.catching_up.run(work).await?;
        Ok(caught.unwrap_or_default())
    }

    /// As [`Chat::catch_up`], for who alone does it.
    async fn catch_up_now(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
    ) -> Result<Vec<Entry>, Problem> {
        let head = self.store.head(conversation.log()).await;
        let Some(head) = head.map_err(problem_of_store)? else {
            return Ok(Vec::new());
        };
        let mut caught = Vec::new();
        loop {
            let from = {
                let Some(mut loaded) = conversation.try_loaded() else {
                    return Ok(caught);
                };
                let state = &loaded.state;
                let is_another = state.generation != head.generation || state.seq == 0;
                if is_another || head.trimmed > state.seq {
                    None
                } else if state.seq >= head.seq {
                    loaded.trimmed = loaded.trimmed.max(head.trimmed);
                    break;
                } else {
                    Some(state.seq + 1)
                }
            };
            let Some(from) = from else {
                self.read_again(conversation).await?;
                return Ok(caught);
            };
            let page = self.store.read(conversation.log(), page_from(from)).await;
            let page = page.map_err(problem_of_store)?;
            if page.entries.first().map(Entry::seq) != Some(from) {
                // It was trimmed meanwhile.
                self.read_again(conversation).await?;
                return Ok(caught);
            }
            self.apply_committed(conversation, &page.entries);
            if conversation
                .try_loaded()
                .is_some_and(|loaded| loaded.state.seq < from)
            {
                // An entry of a later version: nothing behind it can be served here.
                return Err(Problem::new(Code::UpdateNeeded));
            }
            caught.extend(page.entries);
        }
        if !caught.is_empty() {
            self.metrics.caught_up(caught.len());
        }
        self.settle_rows(conversation, head.seq).await?;
        Ok(caught)
    }

    /// As [`Chat::catch_up`], and tells the other servers: whoever appended may have died before it did.
    pub(super) async fn catch_up_for_all(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
    ) -> Result<(), Problem> {
        let before = conversation.try_loaded().map_or(0, |loaded| loaded.settled);
        let entries = self.catch_up(conversation).await?;
        if let Some(loaded) = conversation.try_loaded() {
            let is_told = entries
                .first()
                .is_some_and(|first| first.seq() <= before + 1);
            if is_told {
                self.tell_entries(conversation, &loaded, &entries);
            } else if loaded.settled > before {
                // What was caught up with earlier could not be settled then, and was not told.
                self.tell_look(conversation, &loaded);
            }
        }
        Ok(())
    }

    /// Entries that are durable move the state on and are told to the sessions here, as far as they were not.
    pub(super) fn apply_committed(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        entries: &[Entry],
    ) {
        let retention_before = {
            let Some(mut loaded) = conversation.try_loaded() else {
                return;
            };
            let before = loaded.state.settings.retention;
            let members = |entry: &Entry| entry.envelope.kind.changes_members();
            loaded.diffusion_is_old |= entries.iter().any(members);
            self.publish(conversation, &mut loaded, entries, &mut []);
            before
        };
        self.after_commit(conversation, entries, retention_before);
    }

    /// Reads the conversation from the beginning: it is another one than in memory, or entries were trimmed
    /// that were never seen here.
    async fn read_again(&self, conversation: &Arc<Conversation>) -> Result<(), Problem> {
        let mut fresh = self.read(conversation.id).await.map_err(problem_of_store)?;
        let id = conversation.id;
        let Some(mut loaded) = conversation.try_loaded() else {
            return Ok(());
        };
        if fresh.state.generation == loaded.state.generation && fresh.state.seq < loaded.state.seq {
            return Ok(());
        }
        let before: BTreeSet<UserId> = loaded.present().map(|(user, _)| user).collect();
        fresh.take_over(&mut loaded);
        fresh.sum_told(id);
        *loaded = fresh;
        for user in loaded.present().map(|(user, _)| user) {
            self.announce(id, &loaded, user, !before.contains(&user));
        }
        for user in before {
            if loaded.member_in(user).is_none() {
                self.see_off(id, &mut loaded, user);
            }
        }
        Ok(())
    }

    /// Sets what the conversation contributes to a connected user's digest, and sends the whole conversation if
    /// the user does not know it.
    pub(super) fn announce(&self, id: ConversationId, loaded: &Loaded, user: UserId, is_new: bool) {
        let Some(hub) = self.hub.user(user) else {
            return;
        };
        let (place, part) = (loaded.place(id), loaded.part(id, user));
        let summary = summary(id, loaded, user, hub.is_shown()).filter(|_| is_new);
        let Some(conversation) = summary else {
            return hub.set_part(place, part);
        };
        let event = Event::new(ServerFrame::Conversation(Box::new(ConversationFrame {
            id: None,
            conversation,
        })));
        hub.push_with_part(&event, place, part);
    }

    /// Who is out from now on is told nothing more of it.
    pub(super) fn see_off(&self, id: ConversationId, loaded: &mut Loaded, user: UserId) {
        loaded
            .lookers
            .retain(|_, session| session.caller.user != user);
        self.announce_gone(id, loaded, user);
    }

    pub(super) fn announce_gone(&self, id: ConversationId, loaded: &Loaded, user: UserId) {
        if let Some(hub) = self.hub.user(user) {
            let event = Event::new(ServerFrame::Gone(Gone {
                conversation: id,
                seq: loaded.state.seq,
            }));
            hub.push_with_part(&event, loaded.place(id), Part::default());
        }
    }

    /// Reads a conversation from the store, and mends the rows of members' inboxes that somebody left behind who
    /// died between an append and them.
    pub(super) async fn read(&self, id: ConversationId) -> Result<Loaded, StoreError> {
        let mut tries = 0;
        let (mut loaded, rows) = loop {
            tries += 1;
            match Loaded::read(&*self.store, id, &self.clock).await {
                // Somebody else trimmed or wrote a state in between: what was read does not fit together.
                Err(StoreError::Damaged(_)) if self.is_shared() && tries < 4 => {}
                read => break read?,
            }
        };
        if self.is_shared() {
            let log = LogId::conversation(id);
            // Somebody else may write them at any time.
            loaded.diffusion.others_may_write();
            let owed = loaded.rows_owed(log, &rows, self.write_heads_members_max());
            if !owed.is_empty() {
                let owed = self.with_news(owed);
                self.store.raise_marks(owed, Durability::Now).await?;
            }
            loaded.settled = loaded.state.seq;
        }
        Ok(loaded)
    }

    /// As when loading, after entries that others appended up to `seq`: their heads are in the members' inboxes, which
    /// say that there is news.
    async fn settle_rows(&self, conversation: &Arc<Conversation>, seq: Seq) -> Result<(), Problem> {
        let is_settled = |loaded: &Loaded| loaded.settled >= seq;
        if conversation
            .try_loaded()
            .is_none_or(|loaded| is_settled(&loaded))
        {
            return Ok(());
        }
        self.learn_diffusion(conversation).await?;
        let heads = conversation
            .try_loaded()
            .map(|loaded| loaded.heads(conversation.log(), self.write_heads_members_max()));
        let heads = heads.unwrap_or_default();
        if !heads.is_empty() {
            // Durable before anybody is answered by what was read: the answer says that all is done.
            let raised = self
                .store
                .raise_marks(self.with_news(heads), Durability::Now)
                .await;
            raised.map_err(problem_of_store)?;
        }
        if let Some(mut loaded) = conversation.try_loaded() {
            loaded.settled = loaded.settled.max(seq);
        }
        Ok(())
    }

    /// Marks that are raised late, and with the heads among them that there is news now: the times of the heads are
    /// those of their entries.
    fn with_news(&self, mut marks: Vec<Mark>) -> Vec<Mark> {
        let now = self.clock.now();
        let heads = marks.iter().filter(|mark| mark.kind == MarkKind::Head);
        let news: Vec<Mark> = heads
            .map(|head| Mark {
                lane: TOUCHED_LANE,
                value: touched_at(now),
                ..*head
            })
            .collect();
        marks.extend(news);
        marks
    }
}

impl Loaded {
    /// Takes over from the conversation as it was in memory what no store has, and the higher of all marks.
    fn take_over(&mut self, before: &mut Loaded) {
        self.lookers = std::mem::take(&mut before.lookers);
        self.untold = std::mem::take(&mut before.untold);
        self.heard = std::mem::take(&mut before.heard);
        self.steps_due = std::mem::take(&mut before.steps_due);
        self.telling = before.telling;
        self.stepping = before.stepping;
        self.trimming = before.trimming;
        let head = self.state.seq;
        for (user, kept) in &before.marks {
            let marks = self.marks.entry(*user).or_default();
            marks.delivered = marks.delivered.max(kept.delivered.min(head));
            marks.shown = marks.shown.max(kept.shown.min(head));
            if kept.read.seq <= head {
                marks.read = marks.read.max(kept.read);
            }
            marks.delivered_step_at = kept.delivered_step_at;
            marks.shown_step_at = kept.shown_step_at;
            marks.told.delivered = marks.delivered;
            marks.told.shown = marks.shown;
        }
    }

    /// The joined and left marks that a member has by the log.
    pub(super) fn memberships_owed(&self, log: LogId, user: UserId) -> Vec<Mark> {
        let Some(member) = self.members.get(&user) else {
            return Vec::new();
        };
        let mark = |kind, value| Mark {
            log,
            owner: user.0,
            kind,
            lane: 0,
            value,
        };
        let left = member.spans.last().and_then(|span| span.left);
        let left = left.map(|seq| MarkValue {
            seq,
            at: self.state.at,
            ..MarkValue::default()
        });
        [mark(MarkKind::Joined, member.joined)]
            .into_iter()
            .chain(left.map(|left| mark(MarkKind::Left, left)))
            .collect()
    }

    /// The marks of members' inboxes that are behind the log.
    fn rows_owed(&self, log: LogId, rows: &Rows, heads_max: u32) -> Vec<Mark> {
        let is_behind = |owed: &Mark| {
            let row = rows.get(&(owed.owner, owed.kind));
            row.copied().unwrap_or(0) < owed.value.seq
        };
        let memberships = self
            .members
            .keys()
            .flat_map(|user| self.memberships_owed(log, *user));
        let owed = memberships.chain(self.heads(log, heads_max));
        owed.filter(is_behind).collect()
    }

    /// The heads of all who are in, if this conversation's heads are written.
    fn heads(&self, log: LogId, heads_max: u32) -> Vec<Mark> {
        if !self.diffusion.writes(self.state.member_count, heads_max) {
            return Vec::new();
        }
        let value = MarkValue {
            seq: self.state.seq,
            ordinal: self.state.ordinal,
            own: 0,
            at: self.state.at,
        };
        let present = self.present();
        present
            .map(|(user, _)| Mark {
                log,
                owner: user.0,
                kind: MarkKind::Head,
                lane: 0,
                value,
            })
            .collect()
    }
}
