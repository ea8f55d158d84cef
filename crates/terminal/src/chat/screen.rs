//! What the user has done to the screen: what is typed, chosen, scrolled, opened.

use std::collections::BTreeMap;

use tidings_client::{Item, ItemBody, ItemKey, ItemState};
use tidings_core::{ConversationId, Time};

use super::clock::Clock;
use super::editor::Editor;
use super::model::Model;

/// How long a notice stays.
const NOTICE_MS: u64 = 8_000;

#[derive(Clone, Debug)]
pub(crate) struct Screen {
    pub(crate) model: Model,
    pub(crate) clock: Clock,
    pub(crate) editor: Editor,
    pub(crate) composing: Composing,
    /// What was typed in other conversations and not sent.
    pub(crate) drafts: BTreeMap<ConversationId, String>,
    /// The message that is chosen.
    pub(crate) selected: Option<ItemKey>,
    /// Where the timeline is scrolled to; the newest end if nowhere.
    pub(crate) anchor: Option<Anchor>,
    /// Messages by others above this were new when the conversation was opened.
    pub(crate) new_above: Option<u64>,
    pub(crate) overlay: Option<Overlay>,
    pub(crate) notice: Option<Notice>,
    pub(crate) focused: bool,
}

/// What Enter does with the text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Composing {
    Message,
    Reply(u64),
    Edit(u64),
}

/// The last line of the window is so many lines above the end of this item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Anchor {
    pub(crate) key: ItemKey,
    pub(crate) above: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Overlay {
    Help {
        scroll: usize,
    },
    Text {
        title: String,
        text: String,
        scroll: usize,
    },
    Confirm {
        question: String,
        then: Confirmed,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Confirmed {
    Delete(ConversationId, u64),
    Leave(ConversationId),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    pub(crate) text: String,
    pub(crate) is_error: bool,
    pub(crate) until: Time,
}

impl Screen {
    pub(crate) fn new(model: Model, clock: Clock) -> Screen {
        Screen {
            model,
            clock,
            editor: Editor::default(),
            composing: Composing::Message,
            drafts: BTreeMap::new(),
            selected: None,
            anchor: None,
            new_above: None,
            overlay: None,
            notice: None,
            focused: true,
        }
    }

    pub(crate) fn say(&mut self, text: impl Into<String>) {
        self.tell(text.into(), false);
    }

    pub(crate) fn complain(&mut self, text: impl Into<String>) {
        self.tell(text.into(), true);
    }

    fn tell(&mut self, text: String, is_error: bool) {
        self.notice = Some(Notice {
            text,
            is_error,
            until: self.clock.now.plus_millis(NOTICE_MS),
        });
    }

    pub(crate) fn set_now(&mut self, now: Time) {
        self.clock.now = now;
        if self
            .notice
            .as_ref()
            .is_some_and(|notice| notice.until <= now)
        {
            self.notice = None;
        }
    }

    pub(crate) fn items(&self) -> &[Item] {
        self.model
            .current
            .as_ref()
            .map_or(&[], |current| &current.timeline.items)
    }

    pub(crate) fn item(&self, key: ItemKey) -> Option<&Item> {
        self.items().iter().find(|item| item.key == key)
    }

    pub(crate) fn selected_item(&self) -> Option<&Item> {
        self.item(self.selected?)
    }

    /// The chosen message, or the last that fits.
    pub(crate) fn target(&self, fits: impl Fn(&Item) -> bool) -> Option<&Item> {
        match self.selected_item() {
            Some(item) => Some(item).filter(|item| fits(item)),
            None => self.items().iter().rev().find(|item| fits(item)),
        }
    }

    pub(crate) fn is_own_message(&self, item: &Item) -> bool {
        item.author == self.model.me && is_message(item)
    }

    /// Chooses the message before or after the chosen one; none after the last.
    pub(crate) fn select_next(&mut self, back: bool) {
        let items = self.items();
        let at = self
            .selected
            .and_then(|key| items.iter().position(|item| item.key == key));
        let next = match (at, back) {
            (None, true) => items.iter().rposition(is_choosable),
            (None, false) => None,
            (Some(at), true) => {
                let before = items
                    .get(..at)
                    .and_then(|before| before.iter().rposition(is_choosable));
                before.or(Some(at))
            }
            (Some(at), false) => {
                let after = items
                    .get(at + 1..)
                    .and_then(|after| after.iter().position(is_choosable));
                after.map(|next| at + 1 + next)
            }
        };
        self.selected = next.and_then(|next| items.get(next)).map(|item| item.key);
    }
}

pub(crate) fn is_message(item: &Item) -> bool {
    matches!(item.body, ItemBody::Message(_))
}

fn is_choosable(item: &Item) -> bool {
    is_message(item) || matches!(item.state, ItemState::Failed(_))
}
