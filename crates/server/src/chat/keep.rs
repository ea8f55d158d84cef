//! What happens by itself: messages vanish, logs are trimmed, states are written.
//!
//! Under `until_delivered` an entry is owed to every device of every present member; the log is trimmed
//! up to the lowest of their marks. It is reconsidered whenever that can rise: an acknowledgement, a
//! revocation, a device silent for too long, a member gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::conversation::Retention;
use tidings_core::log::{LogId, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::time::DAY_MILLIS;
use tidings_core::{ConversationId, Time, UserId};
use tidings_protocol::Problem;
use tidings_store::{DocumentKind, Durability, PutDocument, PutError, StoreError, Want};

use super::drive::Decided;
use super::{Chat, Conversation, problem_of_store};
use crate::session::Caller;

/// Expired messages erased in one go.
const EXPIRED_MAX: usize = 1_000;
const DOCUMENTS_PAGE: usize = 1_000;
const MARKS_PAGE: usize = 1_000;

impl Chat {
    /// Looks for expired messages and bounded retentions, for ever.
    pub async fn keep(self: Arc<Self>) {
        while let Err(error) = self.come_back().await {
            tracing::error!(%error, "it could not be read how long the server was away");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let expiries = async {
            loop {
                tokio::time::sleep(Duration::from_millis(self.settings.expiry_every_ms)).await;
                if let Err(error) = self.erase_expired().await {
                    tracing::error!(%error, "expired messages could not be erased");
                }
            }
        };
        let retentions = async {
            loop {
                if let Err(problem) = self.keep_retentions().await {
                    tracing::error!(code = problem.code.name(), "retention could not be kept");
                }
                tokio::time::sleep(Duration::from_secs(self.settings.retention_every_s)).await;
            }
        };
        tokio::join!(expiries, retentions, self.stay_there());
    }

    /// Erases the bodies of what has expired. Clients see to it by themselves.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn erase_expired(&self) -> Result<(), StoreError> {
        if !self.is_mine(b"expiry") {
            return Ok(());
        }
        loop {
            let expired = self.store.expired(self.clock.now(), EXPIRED_MAX).await?;
            let all = expired.len() < EXPIRED_MAX;
            let mut by_log: HashMap<LogId, Vec<Seq>> = HashMap::new();
            for (log, seq) in expired {
                by_log.entry(log).or_default().push(seq);
            }
            for (log, seqs) in by_log {
                self.store.erase(log, seqs).await?;
            }
            if all {
                return Ok(());
            }
        }
    }

    /// Looks once at every conversation whose retention is bounded.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn keep_retentions(self: &Arc<Self>) -> Result<(), Problem> {
        let mut after = None;
        loop {
            let page = self
                .store
                .scan_documents(DocumentKind::Retention, Vec::new(), after, DOCUMENTS_PAGE)
                .await
                .map_err(problem_of_store)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = Some(last.key.clone());
            for document in &page {
                let Ok(id) = <[u8; 16]>::try_from(document.key.as_slice()) else {
                    continue;
                };
                if !self.is_mine(&id) {
                    continue;
                }
                // What is wrong with one must not keep the others.
                let looked = async {
                    let conversation = self.open(ConversationId(id)).await?;
                    self.trim(&conversation).await
                };
                if let Err(problem) = looked.await {
                    tracing::error!(
                        conversation = %ConversationId(id),
                        code = problem.code.name(),
                        "retention could not be kept"
                    );
                }
            }
        }
    }

    /// Before an append that bounds a conversation's retention: takes note of it, so that whatever happens
    /// next it is looked at again. The note stays when the retention is unbounded later; it costs one look.
    pub(super) async fn note_retention(
        &self,
        conversation: &Conversation,
        decided: &Decided,
    ) -> Result<(), Problem> {
        let before = conversation
            .try_loaded()
            .map_or(Retention::Forever, |loaded| loaded.state.settings.retention);
        let now = decided.state.settings.retention;
        if now == before || now == Retention::Forever {
            return Ok(());
        }
        let put = PutDocument {
            kind: DocumentKind::Retention,
            key: conversation.id.0.to_vec(),
            expected: None,
            value: Some(vec![1]),
        };
        match self.store.put_document(put).await {
            Ok(_) | Err(PutError::Conflict { .. }) => Ok(()),
            Err(PutError::Store(error)) => Err(problem_of_store(error)),
        }
    }

    /// The retention is another one now: from where devices are owed what is in the log.
    pub(super) async fn retention_changed(self: Arc<Self>, conversation: &Arc<Conversation>) {
        let retention = conversation
            .try_loaded()
            .map(|loaded| loaded.state.settings.retention);
        if retention == Some(Retention::UntilDelivered)
            && let Err(problem) = self.owe_to_devices(conversation).await
        {
            tracing::error!(
                code = problem.code.name(),
                "devices' marks could not be written"
            );
        }
    }

    /// Gives every device of every member a mark, at its user's delivered mark where it has none: from
    /// there on it is owed what comes.
    async fn owe_to_devices(&self, conversation: &Conversation) -> Result<(), Problem> {
        let (with_marks, _) = self.device_marks(conversation).await?;
        let users: Vec<(UserId, Seq)> = match conversation.try_loaded() {
            Some(loaded) => loaded
                .present()
                .map(|(user, member)| {
                    (
                        user,
                        loaded
                            .marks_of(user)
                            .delivered
                            .max(member.joined.seq.saturating_sub(1)),
                    )
                })
                .collect(),
            None => return Ok(()),
        };
        let mut marks = Vec::new();
        for (user, from) in users {
            for record in self.users.device_records_now(user).await? {
                if from > 0 && !with_marks.contains_key(&record.device.0) {
                    marks.push(device_mark(
                        conversation,
                        record.device.0,
                        from,
                        self.clock.now(),
                    ));
                }
            }
        }
        self.store
            .raise_marks(marks, Durability::Now)
            .await
            .map_err(problem_of_store)
    }

    /// A new device: in conversations that keep messages until they are delivered it starts at its user's
    /// delivered mark. What was held for a user without a device is still above that.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn device_added(self: &Arc<Self>, caller: Caller) -> Result<(), Problem> {
        let mut marks = Vec::new();
        for id in self.conversations_of(caller.user).await? {
            let conversation = self.open(id).await?;
            let Some(loaded) = conversation.try_loaded() else {
                continue;
            };
            if loaded.state.settings.retention != Retention::UntilDelivered {
                continue;
            }
            let Some(member) = loaded.member_in(caller.user) else {
                continue;
            };
            let from = loaded
                .marks_of(caller.user)
                .delivered
                .max(member.joined.seq.saturating_sub(1));
            if from > 0 {
                marks.push(device_mark(
                    &conversation,
                    caller.device.0,
                    from,
                    self.clock.now(),
                ));
            }
        }
        self.store
            .raise_marks(marks, Durability::Now)
            .await
            .map_err(problem_of_store)
    }

    /// A device is gone: nothing is owed to it any more.
    pub async fn device_removed(self: &Arc<Self>, caller: Caller) {
        let conversations = match self.conversations_of(caller.user).await {
            Ok(conversations) => conversations,
            Err(problem) => {
                // The hourly look at every bounded retention comes to the same.
                tracing::warn!(
                    code = problem.code.name(),
                    "trimming waits for the next round"
                );
                return;
            }
        };
        for id in conversations {
            if let Ok(conversation) = self.open(id).await {
                self.reconsider_trimming(&conversation);
            }
        }
    }

    /// Trims a little later, once for many reasons.
    pub(super) fn reconsider_trimming(self: &Arc<Self>, conversation: &Arc<Conversation>) {
        {
            let Some(mut loaded) = conversation.try_loaded() else {
                return;
            };
            if loaded.trimming || loaded.state.settings.retention != Retention::UntilDelivered {
                return;
            }
            loaded.trimming = true;
        }
        let (chat, conversation) = (self.clone(), conversation.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(chat.settings.trim_delay_ms)).await;
            if let Some(mut loaded) = conversation.try_loaded() {
                loaded.trimming = false;
            }
            if let Err(problem) = chat.trim(&conversation).await {
                tracing::warn!(
                    code = problem.code.name(),
                    "trimming waits for the next round"
                );
            }
        });
    }

    /// Trims a log as far as its retention lets it be.
    pub(super) async fn trim(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
    ) -> Result<(), Problem> {
        // Who joined elsewhere is owed too.
        self.level(conversation).await?;
        let Some((retention, trimmed, head)) = conversation.try_loaded().map(|loaded| {
            (
                loaded.state.settings.retention,
                loaded.trimmed,
                loaded.state.seq,
            )
        }) else {
            return Ok(());
        };
        let up_to = match retention {
            Retention::Forever => return Ok(()),
            Retention::UntilDelivered => self.lowest_owed(conversation).await?,
            Retention::Days(days) => {
                let before = self
                    .clock
                    .now()
                    .0
                    .saturating_sub(u64::from(days) * DAY_MILLIS);
                self.last_before(conversation, Time(before), trimmed, head)
                    .await?
            }
        };
        if up_to <= trimmed {
            return Ok(());
        }
        // Never past the durable state, nor on marks that are not durable.
        self.store.flush().await.map_err(problem_of_store)?;
        let Some(snapshot) = conversation.try_loaded().map(|loaded| loaded.snapshot()) else {
            return Ok(());
        };
        let written = snapshot.seq;
        self.store
            .write_state(conversation.log(), snapshot)
            .await
            .map_err(problem_of_store)?;
        let now_trimmed = self
            .store
            .trim(conversation.log(), up_to)
            .await
            .map_err(problem_of_store)?;
        if let Some(mut loaded) = conversation.try_loaded() {
            loaded.was_written(written);
            loaded.trimmed = loaded.trimmed.max(now_trimmed);
        }
        Ok(())
    }

    /// The lowest mark of all devices that are owed what is in the log.
    async fn lowest_owed(&self, conversation: &Conversation) -> Result<Seq, Problem> {
        let (device_marks, delivered_marks) = self.device_marks(conversation).await?;
        let Some((head, members)) = conversation.try_loaded().map(|loaded| {
            let members: Vec<(UserId, Seq, Seq)> = loaded
                .present()
                .map(|(user, member)| {
                    (
                        user,
                        // As it is in the store: what another server told of may not be durable.
                        delivered_marks.get(&user.0).copied().unwrap_or(0),
                        member.joined.seq.saturating_sub(1),
                    )
                })
                .collect();
            (loaded.state.seq, members)
        }) else {
            return Ok(0);
        };
        let silent_before = self.silent_before();
        let mut lowest = head;
        for (user, delivered, joined) in members {
            let devices = self.users.device_records_now(user).await?;
            if devices.is_empty() {
                // Held for the first device that comes.
                lowest = lowest.min(delivered.max(joined));
            }
            for record in devices {
                if record.last_seen < silent_before {
                    continue;
                }
                let mark = device_marks.get(&record.device.0).copied().unwrap_or(0);
                lowest = lowest.min(mark.max(joined));
            }
        }
        Ok(lowest)
    }

    /// The devices' marks, and the users' delivered ones, as the store has them.
    async fn device_marks(
        &self,
        conversation: &Conversation,
    ) -> Result<(HashMap<[u8; 16], Seq>, HashMap<[u8; 16], Seq>), Problem> {
        let (mut devices, mut users) = (HashMap::new(), HashMap::new());
        let mut after = None;
        loop {
            let page = self
                .store
                .marks_of_log(conversation.log(), after, MARKS_PAGE)
                .await
                .map_err(problem_of_store)?;
            let Some(last) = page.last() else {
                return Ok((devices, users));
            };
            after = Some(last.owner);
            for mark in page.iter().filter(|mark| mark.lane == 0) {
                match mark.kind {
                    MarkKind::Device => devices.insert(mark.owner, mark.value.seq),
                    MarkKind::Delivered => users.insert(mark.owner, mark.value.seq),
                    _ => None,
                };
            }
        }
    }

    /// The last entry before a time. Times never fall along a log, so halving finds it.
    async fn last_before(
        &self,
        conversation: &Conversation,
        before: Time,
        mut low: Seq,
        head: Seq,
    ) -> Result<Seq, Problem> {
        let mut high = head + 1;
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            let at = self
                .read_one(conversation, middle, Want::Envelopes)
                .await?
                .map(|entry| entry.envelope.at);
            if at.is_some_and(|at| at < before) {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

impl Chat {
    /// Whether this server looks after what belongs to nobody in particular under this key.
    fn is_mine(&self, key: &[u8]) -> bool {
        self.others.get().is_none_or(|others| others.is_mine(key))
    }
}

fn device_mark(conversation: &Conversation, device: [u8; 16], seq: Seq, at: Time) -> Mark {
    let value = MarkValue {
        seq,
        at,
        ..MarkValue::default()
    };
    Mark {
        log: conversation.log(),
        owner: device,
        kind: MarkKind::Device,
        lane: 0,
        value,
    }
}
