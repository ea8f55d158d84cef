//! Committed entries go out: to every live session of every member, encoded once.
//!
//! In: entries that are durable. Next: each session's queue, and from there its transport. A live event
//! is only a hint: what a session misses it notices by the range or by the digest.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidings_core::conversation::Retention;
use tidings_core::entry::Entry;
use tidings_core::{ConversationId, Kind, UserId};
use tidings_protocol::ServerFrame;
use tidings_protocol::convert::entry_to_wire;
use tidings_protocol::sync::Entries;

use super::drive::changes_retention;
use super::loaded::{Loaded, content_bytes};
use super::{Chat, Conversation};
use crate::session::Event;

/// Bytes of content in one live event, about; one entry alone may have more.
const EVENT_BYTES_MAX: usize = 256 * 1024;

impl Chat {
    /// Moves the loaded state on over committed entries and tells everybody concerned.
    pub(super) fn publish(
        &self,
        conversation: &Conversation,
        loaded: &mut Loaded,
        entries: &[Entry],
    ) {
        // Whoever reads what others appended may have been faster.
        let known = entries.partition_point(|entry| entry.seq() <= loaded.state.seq);
        let entries = entries.get(known..).unwrap_or_default();
        let mut told = 0;
        let mut end = entries.len();
        for (index, entry) in entries.iter().enumerate() {
            let applies = if entry.envelope.kind.changes_members() {
                let before = entries.get(told..index).unwrap_or_default();
                self.push_entries(conversation.id, loaded, before);
                told = index + 1;
                self.publish_membership(conversation, loaded, entry)
            } else {
                advance(conversation, loaded, entry)
            };
            if !applies {
                end = index;
                break;
            }
        }
        let rest = entries.get(told..end).unwrap_or_default();
        self.push_entries(conversation.id, loaded, rest);
        if !entries.is_empty() {
            loaded.pushed = loaded.state.seq;
        }
    }

    /// An entry by which people come, go or change roles: those who stay get the entry, those who came
    /// the conversation, those who went are told so and nothing else. Answers whether it applies.
    fn publish_membership(
        &self,
        conversation: &Conversation,
        loaded: &mut Loaded,
        entry: &Entry,
    ) -> bool {
        let id = conversation.id;
        let before: BTreeSet<UserId> = loaded.present().map(|(user, _)| user).collect();
        let told_marks = loaded.tells_marks();
        if !advance(conversation, loaded, entry) {
            return false;
        }
        if loaded.tells_marks() && !told_marks {
            // From now on everybody is told everybody's marks: their digests say that there is news.
            loaded.tell_all();
        }
        loaded.sum_told(id);
        let after: BTreeSet<UserId> = loaded.present().map(|(user, _)| user).collect();
        self.push_to(
            id,
            loaded,
            std::slice::from_ref(entry),
            before.intersection(&after).copied(),
        );
        for user in after.difference(&before) {
            self.announce(id, loaded, *user, true);
        }
        for user in before.difference(&after) {
            self.see_off(id, loaded, *user);
        }
        true
    }

    pub(super) fn push_entries(&self, id: ConversationId, loaded: &Loaded, entries: &[Entry]) {
        if entries.len() > 1 && entries.iter().map(content_bytes).sum::<usize>() > EVENT_BYTES_MAX {
            // Halves, until an event is no larger than any client can take beside what else waits.
            let (first, second) = entries.split_at(entries.len() / 2);
            self.push_entries(id, loaded, first);
            return self.push_entries(id, loaded, second);
        }
        self.push_to(id, loaded, entries, loaded.present().map(|(user, _)| user));
    }

    /// Encodes at most once for the authors each and once for everybody else.
    fn push_to(
        &self,
        id: ConversationId,
        loaded: &Loaded,
        entries: &[Entry],
        users: impl Iterator<Item = UserId>,
    ) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
            return;
        };
        let event_for = |reader: Option<UserId>| {
            Event::new(ServerFrame::Entries(Entries {
                conversation: id,
                from: first.seq(),
                to: last.seq(),
                membership_seq: loaded.state.membership_seq,
                entries: entries
                    .iter()
                    .map(|entry| entry_to_wire(entry, reader == Some(entry.envelope.author)))
                    .collect(),
            }))
        };
        let authors: BTreeSet<UserId> = entries.iter().map(|entry| entry.envelope.author).collect();
        let mut for_others = None;
        let mut sessions = 0;
        for user in users {
            let Some(hub) = self.hub.user(user) else {
                continue;
            };
            let part = loaded.part(id, user);
            if authors.contains(&user) {
                sessions += hub.push_with_part(Some(&event_for(Some(user))), id, part);
            } else {
                sessions += hub.push_with_part(
                    Some(for_others.get_or_insert_with(|| event_for(None))),
                    id,
                    part,
                );
            }
        }
        self.metrics.delivered_to(sessions);
    }

    /// What a commit sets going besides: bookkeeping of retention.
    pub(super) fn after_commit(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        entries: &[Entry],
        retention_before: Retention,
    ) {
        let changed = changes_retention(entries, retention_before);
        let somebody_went = entries
            .iter()
            .any(|entry| matches!(entry.envelope.kind, Kind::Leave | Kind::Remove));
        if changed {
            let (chat, conversation) = (self.clone(), conversation.clone());
            tokio::spawn(async move { chat.retention_changed(&conversation).await });
        } else if somebody_went && retention_before == Retention::UntilDelivered {
            self.reconsider_trimming(conversation);
        }
    }
}

/// Moves the state on over a committed entry. Answers whether it applies: one of a later version does not, and one
/// that was decided here does, or the program is wrong.
fn advance(conversation: &Conversation, loaded: &mut Loaded, entry: &Entry) -> bool {
    let applied = loaded.apply(entry);
    if let Err(error) = &applied {
        tracing::error!(conversation = %conversation.id, %error, "a committed entry does not apply");
    }
    applied.is_ok()
}
