//! The list of conversations, and how lists change.

use tidings_core::{ConversationId, Time};
use tidings_protocol::entry::ConversationKind;
use tidings_protocol::send::Action;

use crate::client::Client;
use crate::conversation::Conversation;
use crate::output::{Change, ListChange};
use crate::rows;
use crate::view::{ConversationView, Item, ItemState, Preview};

/// Past so many insertions and removals at once a list is told anew.
const STEPS_MAX: usize = 64;

impl Client {
    /// Brings the list level with one conversation.
    pub(crate) fn refresh_listed(&mut self, id: ConversationId) {
        let view = self
            .conversations
            .get(&id)
            .and_then(|conversation| self.view_of(conversation));
        let old = self.listed.get(&id).and_then(|at| self.list_index(*at, id));
        let Some(view) = view else {
            if let Some(index) = old {
                self.list.remove(index);
                self.listed.remove(&id);
                self.changes
                    .push_back(Change::Conversations(ListChange::Remove(index)));
            }
            return;
        };
        let same_place = |index: usize| {
            self.list
                .get(index)
                .is_some_and(|before| before.at == view.at)
        };
        if let Some(index) = old.filter(|index| same_place(*index)) {
            if let Some(slot) = self.list.get_mut(index)
                && *slot != view
            {
                *slot = view.clone();
                self.changes
                    .push_back(Change::Conversations(ListChange::Set(index, view)));
            }
            return;
        }
        if let Some(index) = old {
            self.list.remove(index);
            self.changes
                .push_back(Change::Conversations(ListChange::Remove(index)));
        }
        let index = self
            .list
            .partition_point(|other| precedes(other, view.at, id));
        self.listed.insert(id, view.at);
        self.list.insert(index, view.clone());
        self.changes
            .push_back(Change::Conversations(ListChange::Insert(index, view)));
    }

    fn list_index(&self, at: Time, id: ConversationId) -> Option<usize> {
        let index = self.list.partition_point(|other| precedes(other, at, id));
        self.list
            .get(index)
            .is_some_and(|found| found.conversation == id)
            .then_some(index)
    }

    /// A conversation as it stands in the list; `None` if it does not belong there.
    pub(crate) fn view_of(&self, conversation: &Conversation) -> Option<ConversationView> {
        let outgoing = self
            .outbox
            .of(conversation.id)
            .rfind(|wish| wish.is_message());
        if !conversation.is_known() && outgoing.is_none() {
            return None;
        }
        let last = conversation.last.as_ref().map(|last| Preview {
            author: last.author,
            at: last.at,
            text: last.text.clone(),
            more: last.more,
            erased: last.erased,
            state: if last.author == self.config.user {
                self.tick(conversation, last.seq)
            } else {
                ItemState::Plain
            },
        });
        let waiting = outgoing.and_then(|wish| {
            let Action::Message(message) = &wish.row.action else {
                return None;
            };
            let (text, more) = rows::in_few_words(&message.content);
            let at = wish
                .row
                .sent
                .as_ref()
                .map_or(wish.row.created, |(_, at)| *at);
            let state = match &wish.row.failed {
                Some(problem) => ItemState::Failed(problem.clone()),
                None if wish.row.sent.is_some() => ItemState::Sent,
                None => ItemState::Pending,
            };
            Some(Preview {
                author: self.config.user,
                at,
                text,
                more,
                erased: false,
                state,
            })
        });
        let last = waiting.or(last);
        let profile = conversation
            .other
            .and_then(|other| self.people.profiles.get(&other))
            .map(|row| &row.profile);
        let name = match (conversation.kind, profile) {
            (ConversationKind::Direct, Some(profile)) if profile.display_name.is_empty() => {
                profile.username.clone()
            }
            (ConversationKind::Direct, Some(profile)) => profile.display_name.clone(),
            (ConversationKind::Direct, None) => String::new(),
            (ConversationKind::Group, _) => conversation.settings.name.clone(),
        };
        let presence = conversation
            .other
            .and_then(|other| self.people.presences.get(&other));
        Some(ConversationView {
            conversation: conversation.id,
            kind: conversation.kind,
            name,
            other: conversation.other,
            at: last.as_ref().map_or(conversation.at, |last| last.at),
            last,
            unread: if conversation.is_in {
                conversation.unread()
            } else {
                0
            },
            typing: self.people.typing_in(conversation.id),
            online: presence.map(|presence| presence.online),
            gone: conversation.is_known() && !conversation.is_in,
        })
    }
}

/// Newest first; those of one moment in the order of their ids.
fn precedes(view: &ConversationView, at: Time, id: ConversationId) -> bool {
    (std::cmp::Reverse(view.at), view.conversation) < (std::cmp::Reverse(at), id)
}

/// The steps that make `before` into `after`. Items that stay are told only if they changed.
pub(crate) fn steps(before: &[Item], after: &[Item]) -> Vec<ListChange<Item>> {
    let same_key = |pair: &(&Item, &Item)| pair.0.key == pair.1.key;
    let head = before.iter().zip(after).take_while(same_key).count();
    let rest = before.len().min(after.len()) - head;
    let tail = before
        .iter()
        .rev()
        .zip(after.iter().rev())
        .take(rest)
        .take_while(same_key)
        .count();
    let (removed, inserted) = (before.len() - head - tail, after.len() - head - tail);
    if removed + inserted > STEPS_MAX || before.is_empty() && !after.is_empty() {
        return vec![ListChange::Reset(after.to_vec())];
    }
    let mut steps = Vec::new();
    for index in (head..head + removed).rev() {
        steps.push(ListChange::Remove(index));
    }
    for (index, item) in after.iter().enumerate().skip(head).take(inserted) {
        steps.push(ListChange::Insert(index, item.clone()));
    }
    for (index, item) in after.iter().enumerate() {
        if (head..head + inserted).contains(&index) {
            continue;
        }
        // Those of the tail are counted from the end.
        let old = if index < head {
            before.get(index)
        } else {
            before.get(before.len() - (after.len() - index))
        };
        if old != Some(item) {
            steps.push(ListChange::Set(index, item.clone()));
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidings_core::{DeviceId, UserId};

    use super::*;
    use crate::view::{ItemBody, ItemKey};

    fn item(seq: u64, at: u64) -> Item {
        Item {
            key: ItemKey::Entry(seq),
            seq: Some(seq),
            author: UserId([1; 16]),
            device: Some(DeviceId([1; 16])),
            at: Time(at),
            body: ItemBody::Left,
            state: ItemState::Plain,
            reply: None,
            edited: None,
            reactions: Vec::new(),
            expires: None,
        }
    }

    proptest! {
        #[test]
        fn the_steps_lead_from_before_to_after(
            before in proptest::collection::vec((0..9u64, 0..2u64), 0..9),
            after in proptest::collection::vec((0..9u64, 0..2u64), 0..9),
        ) {
            let items = |list: &[(u64, u64)]| list.iter().map(|(seq, at)| item(*seq, *at)).collect::<Vec<_>>();
            let (mut list, after) = (items(&before), items(&after));
            for step in steps(&list.clone(), &after) {
                step.apply_to(&mut list);
            }
            prop_assert_eq!(list, after);
        }
    }
}
