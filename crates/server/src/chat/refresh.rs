//! Once in a heartbeat of each connected user: has anything moved in the user's inbox that nobody told this server?
//!
//! In: heartbeats (`gateway`), or a timer while there is no wire. Next: what moved is read (`level`) and told to the
//! sessions here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidings_core::{ConversationId, Time, UserId};
use tidings_protocol::Problem;
use tidings_store::Durability;

use super::level::PAGE;
use super::loaded::{Loaded, UserMarks};
use super::{Chat, Conversation, Row, problem_of_store};
use crate::cluster::CLOCK_APART_MS;
use crate::hub::UserHub;

/// How long a write to the store may take, its repetitions included.
const WRITES_TAKE_MS: u64 = 15_000;
/// What was touched so long before the last look may be news: the clocks of two servers differ (one that is further
/// off than this from the others' takes no sends), and a time is taken before it is written.
const CLOCKS_APART_MS: u64 = 2 * CLOCK_APART_MS + WRITES_TAKE_MS;

impl Chat {
    /// Looks whether anything moved in a connected user's inbox since it was last looked at, and if so brings
    /// the user's conversations and digest level. Once in a heartbeat for each user: sessions that ask at the same time
    /// share it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn refresh(self: &Arc<Self>, user: UserId) -> Result<(), Problem> {
        if !self.is_shared() {
            return Ok(());
        }
        let Some(hub) = self.hub.user(user) else {
            return Ok(());
        };
        hub.looking()
            .run(self.refresh_now(user, &hub))
            .await
            .map(|_| ())
    }

    async fn refresh_now(self: &Arc<Self>, user: UserId, hub: &UserHub) -> Result<(), Problem> {
        let now = self.clock.now();
        let touched = self.store.touched(user).await.map_err(problem_of_store)?;
        let refreshed = hub.refreshed();
        if touched.plus_millis(CLOCKS_APART_MS) < refreshed {
            // The inbox does not say what happens in large groups.
            return self.level_large(hub.reading_logs()).await;
        }
        let rows = self.rows_of(user).await?;
        let known: BTreeSet<ConversationId> = hub.conversations().into_iter().collect();
        // At first the digest alone is made: a client that comes asks for its inbox by itself.
        let is_first = refreshed == Time(0);
        for row in &rows {
            let is_new = !is_first && !known.contains(&row.id);
            self.refresh_one(user, row, is_new, refreshed).await?;
        }
        let large = rows.iter().filter(|row| row.head.is_none());
        hub.set_reading_logs(large.map(|row| row.id).collect());
        let rows: BTreeSet<ConversationId> = rows.iter().map(|row| row.id).collect();
        for id in known.difference(&rows) {
            // The user is out, or an append that takes it in is half done: the log knows.
            let conversation = self.open(*id).await?;
            self.catch_up(&conversation).await?;
            self.mend_row(&conversation, user, false).await?;
        }
        hub.set_refreshed(now);
        Ok(())
    }

    /// Brings conversations level whose heads are in no inbox; each once in a while, whoever asks.
    async fn level_large(
        self: &Arc<Self>,
        conversations: Vec<ConversationId>,
    ) -> Result<(), Problem> {
        for id in conversations {
            let conversation = self.open(id).await?;
            if conversation.queue().turns.may_look() {
                self.catch_up(&conversation).await?;
            }
        }
        Ok(())
    }

    async fn refresh_one(
        self: &Arc<Self>,
        user: UserId,
        row: &Row,
        is_new: bool,
        refreshed: Time,
    ) -> Result<(), Problem> {
        let conversation = self.open(row.id).await?;
        let is_level = conversation.try_loaded().is_some_and(|loaded| {
            row.head
                .is_some_and(|head| head.seq <= loaded.state.seq && loaded.state.seq > 0)
        });
        if !is_level {
            self.catch_up(&conversation).await?;
        }
        if row.touched.plus_millis(CLOCKS_APART_MS) >= refreshed {
            self.refresh_marks(&conversation).await?;
        }
        let is_in = {
            let Some(loaded) = conversation.try_loaded() else {
                return Ok(());
            };
            self.announce(row.id, &loaded, user, is_new);
            loaded.member_in(user).is_some()
        };
        if !is_in {
            self.catch_up(&conversation).await?;
            self.mend_row(&conversation, user, true).await?;
        }
        Ok(())
    }

    /// A user's row says in (or out), and the log may say otherwise: the log is right, and the row is raised to it.
    async fn mend_row(
        &self,
        conversation: &Arc<Conversation>,
        user: UserId,
        row_says_in: bool,
    ) -> Result<(), Problem> {
        let owed = {
            let Some(loaded) = conversation.try_loaded() else {
                return Ok(());
            };
            let is_in = loaded.member_in(user).is_some();
            if !is_in {
                self.announce_gone(conversation.id, &loaded, user);
            }
            match is_in == row_says_in {
                true => Vec::new(),
                false => loaded.memberships_owed(conversation.log(), user),
            }
        };
        if owed.is_empty() {
            return Ok(());
        }
        let raised = self.store.raise_marks(owed, Durability::Now).await;
        raised.map_err(problem_of_store)
    }

    /// Reads the marks of a conversation's members and tells those that rose elsewhere.
    pub(super) async fn refresh_marks(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
    ) -> Result<(), Problem> {
        let mut read: BTreeMap<UserId, UserMarks> = BTreeMap::new();
        let mut after = None;
        loop {
            let page = self
                .store
                .marks_of_log(conversation.log(), after, PAGE)
                .await;
            let page = page.map_err(problem_of_store)?;
            let Some(last) = page.last() else { break };
            after = Some(last.owner);
            for mark in page.iter().filter(|mark| mark.lane == 0) {
                read.entry(UserId(mark.owner)).or_default().take(mark);
            }
        }
        let now = self.clock.now();
        let Some(mut loaded) = conversation.try_loaded() else {
            return Ok(());
        };
        for (user, marks) in read {
            self.merge_marks(conversation, &mut loaded, user, marks, now);
        }
        Ok(())
    }

    /// Marks of one member as somebody else has them: what is news is told to the sessions here.
    pub(super) fn merge_marks(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        loaded: &mut Loaded,
        user: UserId,
        heard: UserMarks,
        now: Time,
    ) {
        // Devices have marks in the same log: they are no members.
        if !loaded.members.contains_key(&user) {
            return;
        }
        let head = loaded.state.seq;
        let mut marks = loaded.marks_of(user);
        let before = marks;
        marks.delivered = marks.delivered.max(heard.delivered.min(head));
        marks.shown = marks.shown.max(heard.shown.min(head));
        if heard.read.seq > marks.read.seq && heard.read.seq <= head {
            marks.read = heard.read;
        }
        loaded.marks.insert(user, marks);
        if loaded.member_in(user).is_none() {
            // Nobody is told of who is out, nor is it in anybody's digest.
            return;
        }
        let has_read = marks.read.seq > before.read.seq;
        if (marks.delivered, marks.shown) != (before.delivered, before.shown) {
            self.tell_heard(conversation, loaded, user, now);
        }
        if has_read {
            self.tell_own_read(conversation.id, loaded, user, marks.read, now);
        }
    }
}
