//! The items of a timeline: entries as they are after their last edit, deletion and reactions, with ticks;
//! then what waits to be sent.

use tidings_core::log::Seq;
use tidings_core::{Kind, Time};
use tidings_protocol::entry::Content;
use tidings_protocol::send::Action;

use crate::client::Client;
use crate::conversation::Conversation;
use crate::outbox::Wish;
use crate::rows::{self, EntryRow};
use crate::timeline::Timeline;
use crate::view::{Item, ItemBody, ItemKey, ItemState, Preview, ReactionView, ReplyView};

/// What has become of a message.
struct Altered {
    content: Option<Content>,
    edited: Option<Time>,
    deleted: bool,
    reactions: Vec<ReactionView>,
}

impl Client {
    pub(crate) fn items_of(&self, timeline: &Timeline) -> Vec<Item> {
        let conversation = self.conversations.get(&timeline.id);
        let overlay: Vec<&Wish> = self
            .outbox
            .of(timeline.id)
            .filter(|wish| wish.row.failed.is_none())
            .collect();
        let mut items: Vec<Item> = timeline
            .entries
            .values()
            .map(|row| self.item_of(timeline, conversation, row, &overlay))
            .collect();
        if timeline.follows || conversation.is_none_or(|known| known.position == 0) {
            let outgoing = self.outbox.of(timeline.id).filter(|wish| wish.is_message());
            items.extend(outgoing.filter_map(|wish| self.item_of_wish(timeline, wish)));
        }
        items
    }

    fn item_of(
        &self,
        timeline: &Timeline,
        conversation: Option<&Conversation>,
        row: &EntryRow,
        overlay: &[&Wish],
    ) -> Item {
        let entry = &row.entry;
        let is_message = entry.kind.0 == Kind::Message;
        let expired = entry
            .expires
            .is_some_and(|expires| expires <= self.clock.server_now());
        let mut item = Item {
            key: match entry.client_id {
                Some(client_id) if is_message && entry.device == Some(self.config.device) => {
                    ItemKey::Outgoing(client_id)
                }
                _ => ItemKey::Entry(entry.seq),
            },
            seq: Some(entry.seq),
            author: entry.author,
            device: entry.device,
            at: entry.at,
            body: body_of(row),
            state: ItemState::Plain,
            reply: None,
            edited: None,
            reactions: Vec::new(),
            expires: entry.expires,
        };
        if !is_message {
            return item;
        }
        let altered = self.alter(timeline, row, overlay);
        item.body = match altered.content {
            _ if altered.deleted => ItemBody::Deleted,
            Some(content) if !expired => ItemBody::Message(content),
            _ => ItemBody::Vanished,
        };
        if matches!(item.body, ItemBody::Message(_)) {
            item.edited = altered.edited;
            item.reactions = altered.reactions;
        }
        item.reply = entry.target.map(|seq| self.reply_to(timeline, seq));
        if entry.author == self.config.user
            && let Some(conversation) = conversation
        {
            item.state = self.tick(conversation, entry.seq);
        }
        item
    }

    /// How far an own message is.
    pub(crate) fn tick(&self, conversation: &Conversation, seq: Seq) -> ItemState {
        match conversation.ticks_at(self.config.user, seq) {
            Some(marks) if marks.shown >= seq => ItemState::Read,
            Some(marks) if marks.delivered >= seq => ItemState::Delivered,
            _ => ItemState::Sent,
        }
    }

    /// A page's alterations include everything up to the head of when it was read; what came after is added.
    fn alter(&self, timeline: &Timeline, row: &EntryRow, overlay: &[&Wish]) -> Altered {
        let seq = row.entry.seq;
        let mut altered = Altered {
            content: row.entry.content.clone(),
            edited: None,
            deleted: false,
            reactions: Vec::new(),
        };
        if let Some(known) = &row.alteration {
            altered.deleted = known.deleted.is_some();
            if let Some(edit) = &known.edit {
                altered.edit(edit.content.as_ref(), edit.at);
            }
            altered.reactions = known
                .reactions
                .iter()
                .map(|sum| ReactionView {
                    emoji: sum.emoji.clone(),
                    count: sum.count,
                    mine: sum.mine,
                })
                .collect();
        }
        let later = timeline
            .alterations
            .range((seq, row.as_of.saturating_add(1))..=(seq, Seq::MAX));
        for (_, entry) in later {
            match entry.kind.0 {
                Kind::Edit => altered.edit(entry.content.as_ref(), entry.at),
                Kind::Delete => altered.deleted = true,
                Kind::Reaction => {
                    if let Some(reaction) = &entry.reaction {
                        altered.react(
                            &reaction.emoji,
                            reaction.on,
                            entry.author == self.config.user,
                        );
                    }
                }
                _ => {}
            }
        }
        for wish in overlay {
            match &wish.row.action {
                Action::Edit(edit) if edit.target == seq => {
                    altered.edit(Some(&edit.content), wish.row.created)
                }
                Action::Delete(delete) if delete.target == seq => altered.deleted = true,
                Action::React(react) if react.target == seq => {
                    let mine = altered
                        .reactions
                        .iter()
                        .any(|one| one.emoji == react.emoji && one.mine);
                    if mine != react.on {
                        altered.react(&react.emoji, react.on, true);
                    }
                }
                _ => {}
            }
        }
        altered.reactions.retain(|reaction| reaction.count > 0);
        altered
            .reactions
            .sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.emoji.cmp(&b.emoji)));
        altered
    }

    fn reply_to(&self, timeline: &Timeline, seq: Seq) -> ReplyView {
        let now = self.clock.server_now();
        let preview = timeline
            .entries
            .get(&seq)
            .filter(|row| row.entry.kind.0 == Kind::Message)
            .map(|row| {
                let altered = self.alter(timeline, row, &[]);
                let vanished = row.entry.expires.is_some_and(|expires| expires <= now);
                let content = altered.content.filter(|_| !altered.deleted && !vanished);
                let (text, more) = content.as_ref().map(rows::in_few_words).unwrap_or_default();
                Preview {
                    author: row.entry.author,
                    at: row.entry.at,
                    text,
                    more,
                    erased: content.is_none(),
                    state: ItemState::Plain,
                }
            });
        ReplyView { seq, preview }
    }

    fn item_of_wish(&self, timeline: &Timeline, wish: &Wish) -> Option<Item> {
        let Action::Message(message) = &wish.row.action else {
            return None;
        };
        let sent = wish.row.sent.as_ref();
        let state = match (&wish.row.failed, sent) {
            (Some(problem), _) => ItemState::Failed(problem.clone()),
            (None, Some(_)) => ItemState::Sent,
            (None, None) => ItemState::Pending,
        };
        Some(Item {
            key: ItemKey::Outgoing(wish.row.client_id),
            seq: sent.map(|(position, _)| position.seq),
            author: self.config.user,
            device: Some(self.config.device),
            at: sent.map_or(wish.row.created, |(_, at)| *at),
            body: ItemBody::Message(message.content.clone()),
            state,
            reply: message.reply_to.map(|seq| self.reply_to(timeline, seq)),
            edited: None,
            reactions: Vec::new(),
            expires: None,
        })
    }
}

impl Altered {
    fn edit(&mut self, content: Option<&Content>, at: Time) {
        // An edit without its content was erased with its message.
        if let Some(content) = content
            && self.content.is_some()
        {
            self.content = Some(content.clone());
            self.edited = Some(at);
        }
    }

    fn react(&mut self, emoji: &str, on: bool, mine: bool) {
        let index = self.reactions.iter().position(|one| one.emoji == emoji);
        match index.and_then(|index| self.reactions.get_mut(index)) {
            Some(reaction) => {
                reaction.count = if on {
                    reaction.count.saturating_add(1)
                } else {
                    reaction.count.saturating_sub(1)
                };
                if mine {
                    reaction.mine = on;
                }
            }
            None if on => self.reactions.push(ReactionView {
                emoji: emoji.to_owned(),
                count: 1,
                mine,
            }),
            None => {}
        }
    }
}

/// What an entry that is no message is.
fn body_of(row: &EntryRow) -> ItemBody {
    let entry = &row.entry;
    match entry.kind.0 {
        Kind::Message | Kind::Edit | Kind::Delete | Kind::Reaction => ItemBody::Vanished,
        Kind::Create => ItemBody::Created(entry.create.as_deref().cloned()),
        Kind::Join => ItemBody::Joined(entry.join.clone()),
        Kind::Leave => ItemBody::Left,
        Kind::Remove => ItemBody::Removed(entry.user),
        Kind::Role => ItemBody::RoleChanged(entry.user, entry.role),
        Kind::Settings => ItemBody::SettingsChanged(entry.settings.as_deref().cloned()),
        Kind::Commit => ItemBody::EpochMoved,
        Kind::Unknown(number) => ItemBody::Unsupported(number),
    }
}
