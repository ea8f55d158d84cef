//! Committed entries go out: to every live session of every member, encoded once.
//!
//! In: entries that are durable. Next: each session's queue, and from there its transport. A live event
//! is only a hint: what a session misses it notices by the range or by the digest.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidings_core::conversation::Retention;
use tidings_core::entry::Entry;
use tidings_core::log::Seq;
use tidings_core::{ConversationId, Kind, UserId};

use super::drive::changes_retention;
use super::loaded::{Loaded, content_bytes};
use super::news::{NewEntries, plain_text};
use super::queue::Saying;
use super::{Chat, Conversation};
use crate::session::Event;

/// Bytes of content in one live event, about; one entry alone may have more.
const EVENT_BYTES_MAX: usize = 256 * 1024;

impl Chat {
    /// Moves the loaded state on over committed entries and tells everybody concerned: who said one of them in the
    /// short form by the answer to that.
    pub(super) fn publish(
        &self,
        conversation: &Conversation,
        loaded: &mut Loaded,
        entries: &[Entry],
        sayings: &mut [Saying],
    ) {
        // Whoever reads what others appended may have been faster.
        let known = entries.partition_point(|entry| entry.seq() <= loaded.state.seq);
        let entries = entries.get(known..).unwrap_or_default();
        let mut told = 0;
        let mut end = entries.len();
        for (index, entry) in entries.iter().enumerate() {
            let applies = if entry.envelope.kind.changes_members() {
                let before = entries.get(told..index).unwrap_or_default();
                self.push_entries(conversation.id, loaded, before, sayings);
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
        self.push_entries(conversation.id, loaded, rest, sayings);
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
            &mut [],
        );
        for user in after.difference(&before) {
            self.announce(id, loaded, *user, true);
        }
        for user in before.difference(&after) {
            self.see_off(id, loaded, *user);
        }
        true
    }

    pub(super) fn push_entries(
        &self,
        id: ConversationId,
        loaded: &Loaded,
        entries: &[Entry],
        sayings: &mut [Saying],
    ) {
        if entries.len() > 1 && entries.iter().map(content_bytes).sum::<usize>() > EVENT_BYTES_MAX {
            // Halves, until an event is no larger than any client can take beside what else waits.
            let (first, second) = entries.split_at(entries.len() / 2);
            self.push_entries(id, loaded, first, sayings);
            return self.push_entries(id, loaded, second, sayings);
        }
        let present = loaded.present().map(|(user, _)| user);
        self.push_to(id, loaded, entries, present, sayings);
    }

    /// Encodes at most once for the authors each and once for everybody else, in each form.
    fn push_to(
        &self,
        id: ConversationId,
        loaded: &Loaded,
        entries: &[Entry],
        users: impl Iterator<Item = UserId>,
        sayings: &mut [Saying],
    ) {
        if entries.is_empty() {
            return;
        }
        let place = loaded.place(id);
        let is_author =
            |entries: &[Entry], user| entries.iter().any(|entry| entry.envelope.author == user);
        let event_for = |entries, reader: Option<UserId>| {
            Event::new(NewEntries {
                place,
                loaded,
                entries,
                reader: reader.filter(|user| is_author(entries, *user)),
            })
        };
        let for_others = event_for(entries, None);
        let mut sessions = 0;
        for user in users {
            let Some(hub) = self.hub.user(user) else {
                continue;
            };
            let part = loaded.part(id, user);
            if !is_author(entries, user) {
                sessions += hub.push_with_part(&for_others, place, part);
                continue;
            }
            let for_author = event_for(entries, Some(user));
            sessions += hub.push_each(place, part, |session, is_clear| {
                let mut untold = entries;
                for saying in sayings
                    .iter_mut()
                    .filter(|saying| saying.session.id == session.id)
                {
                    let Some((before, said, after)) = split_at(untold, saying.sent.seq) else {
                        continue;
                    };
                    if !before.is_empty() {
                        session.push_event(&event_for(before, Some(user)), is_clear);
                    }
                    session.push(&saying.answer(said));
                    saying.is_answered = true;
                    untold = after;
                }
                if untold.len() == entries.len() {
                    session.push_event(&for_author, is_clear);
                } else if !untold.is_empty() {
                    session.push_event(&event_for(untold, Some(user)), is_clear);
                }
            });
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

/// The entries before one that its answer can stand for, that one, and those behind it.
fn split_at(entries: &[Entry], seq: Seq) -> Option<(&[Entry], &Entry, &[Entry])> {
    let index = entries.iter().position(|entry| entry.seq() == seq)?;
    let (before, rest) = entries.split_at_checked(index)?;
    let (said, after) = rest.split_first()?;
    plain_text(said).map(|_| (before, said, after))
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
