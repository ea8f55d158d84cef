//! Entries come in: kept, counted, shown, and acknowledged once they are durable.
//!
//! In: live `entries` and pages of history. Next: the local store; then `marks` acknowledges.

use tidings_core::log::{SEQ_MAX, Seq};
use tidings_core::{ConversationId, Kind, UserId};
use tidings_protocol::convert::entry_from_wire;
use tidings_protocol::entry::{Entry, SettingsChange};
use tidings_protocol::sync::{Alteration, Entries};

use crate::client::Client;
use crate::conversation::{ComesBack, Conversation, TOLD_MEMBERS_MAX};
use crate::output::Change;
use crate::rows::{self, EntryRow};
use crate::storage::AfterStore;
use crate::store::Table;

/// Entries that cover a range.
pub(crate) struct Batch {
    pub(crate) from: Seq,
    pub(crate) to: Seq,
    pub(crate) entries: Vec<Entry>,
    /// The head when the page was read; a live entry is as of itself.
    pub(crate) as_of: Option<Seq>,
    pub(crate) alterations: Vec<Alteration>,
    pub(crate) membership_seq: Option<Seq>,
}

/// Where a batch stands to the position.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The newest page of a conversation of which nothing was here.
    Newest,
    /// What follows the position, live or fetched.
    After,
    /// Somewhere else.
    Elsewhere,
}

impl Client {
    /// Live entries. They are only a hint: what does not follow on what is known is fetched.
    pub(crate) fn handle_entries(&mut self, event: Entries) {
        let id = event.conversation;
        if event.from == 0 || event.to < event.from || event.to > SEQ_MAX {
            return;
        }
        let Some(conversation) = self
            .conversations
            .get_mut(&id)
            .filter(|known| known.is_known() && known.is_in)
        else {
            return self.want_summary(id);
        };
        let (position, head) = (conversation.position, conversation.head);
        if let Some(entry) = event.entries.last() {
            self.clock.server_is_past(entry.at);
        }
        if let Some(hash) = conversation.hash
            && let Some(entry) = event.entries.iter().find(|entry| entry.seq == position)
            && entry_from_wire(entry).envelope.short_hash() != hash
        {
            // Another entry at a place that we know: the log is not the one that we saw.
            conversation.verify = true;
            return self.want_fetch(id);
        }
        if event.from > head.saturating_add(1) {
            self.want_summary(id);
        }
        let batch = Batch {
            from: event.from,
            to: event.to,
            entries: event.entries,
            as_of: None,
            alterations: Vec::new(),
            membership_seq: Some(event.membership_seq),
        };
        if position > 0 && batch.from <= position.saturating_add(1) {
            self.take_batch(id, batch, Origin::After);
            self.settle_unsettled(id);
        } else {
            self.advance_head(id, &batch);
        }
        self.want_fetch(id);
    }

    /// Takes what a range covers into the local store.
    pub(crate) fn take_batch(&mut self, id: ConversationId, mut batch: Batch, origin: Origin) {
        let (from, to) = (batch.from, batch.to);
        batch
            .entries
            .retain(|entry| (from..=to).contains(&entry.seq));
        batch.entries.sort_by_key(|entry| entry.seq);
        batch.entries.dedup_by_key(|entry| entry.seq);
        self.advance_head(id, &batch);
        let me = self.config.user;
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        conversation.note_coming_back(&batch.entries, me);
        let (before, covered, generation) = (
            conversation.position,
            conversation.ranges.clone(),
            conversation.generation,
        );
        let last_hash = batch
            .entries
            .last()
            .map(|entry| (entry.seq, entry_from_wire(entry).envelope.short_hash()));
        self.count_received(batch.entries.len() as u64);
        for entry in std::mem::take(&mut batch.entries) {
            if covered.around(entry.seq).is_some() {
                continue;
            }
            let told = origin == Origin::After && entry.seq > before;
            let alteration = batch
                .alterations
                .iter()
                .find(|one| one.target == entry.seq)
                .cloned();
            self.take_entry(id, entry, batch.as_of, alteration, told);
        }
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        let anchor = if origin == Origin::Newest { to } else { before };
        conversation.ranges.insert(from, to, anchor);
        Self::move_position(conversation, anchor);
        if conversation.position != before {
            let position = conversation.position;
            conversation.hash = last_hash
                .filter(|(seq, _)| *seq == position)
                .map(|(_, hash)| hash);
        }
        self.forget_hidden(id, before);
        let Some(conversation) = self.conversations.get(&id) else {
            return;
        };
        let (low, high) = (conversation.range_from(), conversation.position);
        self.mark_dirty(id);
        self.storage
            .then(AfterStore::Covered(id, generation, low, high));
        self.timeline_position_moved(id, to);
        self.forget_covered(id);
        self.touch(id);
    }

    /// Who comes back may see what was hidden before: once the position has passed the joining, what this device
    /// had covered below is not known any more. It was not owed to this device, so it is asked for when somebody
    /// looks that far back.
    fn forget_hidden(&mut self, id: ConversationId, before: Seq) {
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        let passed = |back: &ComesBack| back.seq <= conversation.position;
        let Some(back) = conversation.comes_back.take_if(|back| passed(back)) else {
            return;
        };
        if back.from <= before {
            conversation.ranges.remove(back.from, before);
            conversation.owed_above = conversation.owed_above.max(before);
            self.timeline_reset(id);
        }
    }

    fn take_entry(
        &mut self,
        id: ConversationId,
        entry: Entry,
        as_of: Option<Seq>,
        alteration: Option<Alteration>,
        is_news: bool,
    ) {
        let (seq, kind, author) = (entry.seq, entry.kind.0, entry.author);
        if author == self.config.user
            && let Some(client_id) = entry.client_id
            && let Some(known) = self.conversations.get(&id)
        {
            self.settle_wish(client_id, id, known.generation, seq, entry.at);
        }
        if is_news && entry.counts && author != self.config.user {
            let read = self
                .conversations
                .get(&id)
                .map_or(0, |known| known.read_best.seq);
            if seq > read {
                self.changes.push_back(Change::Received {
                    conversation: id,
                    seq,
                });
            }
            self.stopped_typing(id, author);
        }
        if let (Kind::Edit | Kind::Delete | Kind::Reaction, Some(target)) = (kind, entry.target) {
            return self.take_alteration(id, target, entry);
        }
        if let Some(expires) = entry.expires.filter(|_| entry.content.is_some()) {
            self.expiries.insert((expires, id, seq));
            self.storage.put(
                Table::Expiries,
                rows::expiry_key(expires, id, seq),
                Vec::new(),
            );
        }
        let row = EntryRow {
            as_of: as_of.unwrap_or(seq),
            entry,
            alteration,
        };
        if kind == Kind::Message {
            self.update_last(id, &row);
        }
        self.storage
            .put(Table::Entries, rows::seq_key(id, seq), rows::encode(&row));
        self.timeline_entry(id, row);
    }

    /// An edit, deletion or reaction: kept beside its target, which may not be here.
    fn take_alteration(&mut self, id: ConversationId, target: Seq, entry: Entry) {
        let last = self
            .conversations
            .get_mut(&id)
            .and_then(|known| known.last.as_mut());
        if let Some(last) = last.filter(|last| last.seq == target) {
            match entry.kind.0 {
                Kind::Delete => rows::erase_last(last),
                Kind::Edit if entry.seq > last.edit && !last.erased => {
                    rows::edit_last(last, &entry)
                }
                _ => {}
            }
        }
        if entry.kind.0 == Kind::Delete {
            self.erase_soon(id, target);
        }
        self.storage.put(
            Table::Alterations,
            rows::alteration_key(id, target, entry.seq),
            rows::encode(&entry),
        );
        self.timeline_alteration(id, target, entry);
    }

    fn update_last(&mut self, id: ConversationId, row: &EntryRow) {
        let now = self.clock.server_now();
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        let newest = conversation.last.as_ref().map_or(0, |last| last.seq);
        if row.entry.seq < newest {
            return;
        }
        if let Some(mut last) = rows::last_of(&row.entry, row.alteration.as_ref()) {
            if last.expires.is_some_and(|expires| expires <= now) {
                rows::erase_last(&mut last);
            }
            let author = last.author;
            conversation.last = Some(last);
            self.need_profile(author);
        }
    }

    /// Moves what is known of the head on over entries that follow on it.
    fn advance_head(&mut self, id: ConversationId, batch: &Batch) {
        let me = self.config.user;
        let Some(conversation) = self.conversations.get_mut(&id) else {
            return;
        };
        let head = conversation.head;
        if batch.from > head.saturating_add(1) || batch.to <= head {
            return;
        }
        let mut in_doubt = false;
        for entry in batch
            .entries
            .iter()
            .filter(|entry| entry.seq > head && entry.seq <= batch.to)
        {
            conversation.ordinal = conversation.ordinal.max(entry.ordinal);
            conversation.at = conversation.at.max(entry.at);
            if entry.counts && entry.author == me {
                conversation.own = conversation.own.saturating_add(1);
            }
            in_doubt |= apply_to_state(conversation, entry, me);
        }
        conversation.head = batch.to;
        if let Some(seq) = batch.membership_seq {
            conversation.membership_seq = seq;
        }
        self.mark_dirty(id);
        self.touch(id);
        if in_doubt {
            self.want_summary(id);
        }
    }
}

/// Applies what an entry changes of who is in and how it is set. Answers whether the server had better be
/// asked.
fn apply_to_state(conversation: &mut Conversation, entry: &Entry, me: UserId) -> bool {
    match entry.kind.0 {
        // Who comes back has marks that only the server knows; without a body nothing is known.
        Kind::Create | Kind::Join => true,
        Kind::Leave => remove_member(conversation, entry.author, me),
        Kind::Remove => entry
            .user
            .is_none_or(|user| remove_member(conversation, user, me)),
        Kind::Role => {
            let (Some(user), Some(role)) = (entry.user, entry.role) else {
                return true;
            };
            if let Some(member) = conversation.members.get_mut(&user) {
                member.role = role;
            }
            if user == me {
                conversation.role = role;
            }
            // Who may invite is told the link.
            user == me
        }
        Kind::Settings => match &entry.settings {
            Some(change) => apply_settings(conversation, change),
            None => true,
        },
        Kind::Commit => {
            conversation.epoch = conversation.epoch.saturating_add(1);
            false
        }
        _ => false,
    }
}

fn remove_member(conversation: &mut Conversation, user: UserId, me: UserId) -> bool {
    let were_told = conversation.tells_marks();
    conversation.member_count = conversation.member_count.saturating_sub(1);
    let was_there = conversation.members.remove(&user).is_some();
    // With one fewer, everybody's marks may be told from now on.
    user == me
        || were_told && !was_there
        || !were_told && conversation.member_count <= TOLD_MEMBERS_MAX
}

fn apply_settings(conversation: &mut Conversation, change: &SettingsChange) -> bool {
    let settings = &mut conversation.settings;
    fn set<T: Clone>(to: &mut T, from: &Option<T>) {
        if let Some(value) = from {
            to.clone_from(value);
        }
    }
    set(&mut settings.name, &change.name);
    set(&mut settings.description, &change.description);
    set(&mut settings.avatar, &change.avatar);
    set(&mut settings.post, &change.post);
    set(&mut settings.invite, &change.invite);
    set(&mut settings.describe, &change.describe);
    set(&mut settings.share_history, &change.share_history);
    set(&mut settings.retention, &change.retention);
    if let Some(millis) = change.vanish_after_ms {
        settings.vanish_after_ms = Some(millis).filter(|millis| *millis > 0);
    }
    // The link's secret does not travel in entries.
    settings.invite_link = settings
        .invite_link
        .take()
        .filter(|_| change.invite_link.is_none());
    change.invite_link == Some(true) || change.invite.is_some()
}
