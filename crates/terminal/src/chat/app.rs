//! What happens to the screen and the client when the user wants something, and when something changes.

use std::collections::BTreeSet;

use tidings_client::{Change, Client, Recipient};
use tidings_core::id::direct_id;
use tidings_core::{ClientId, ConversationId, Time, UserId};
use tidings_protocol::entry::Content;

use super::clock::Clock;
use super::keys::{Typing, Wish};
use super::lookup::Lookups;
use super::model::{Current, Model};
use super::screen::{Composing, Confirmed, Overlay, Screen};
use super::view::{self, Shown};
use crate::driver::http::explain;

pub(crate) struct App {
    pub(crate) screen: Screen,
    pub(super) lookups: Lookups,
    /// Groups that are being made: the screen goes there.
    pub(super) awaited: BTreeSet<ClientId>,
    /// Whom the client watches.
    watched: Vec<UserId>,
    /// As far as was marked as read.
    marked: Option<(ConversationId, u64)>,
    /// The list of devices is wanted; somebody else asks the server.
    pub(crate) wants_devices: bool,
    pub(crate) quits: bool,
    pub(crate) repaints: bool,
    pub(crate) bell: bool,
}

impl App {
    pub(crate) fn new(model: Model, clock: Clock) -> App {
        App {
            screen: Screen::new(model, clock),
            lookups: Lookups::default(),
            awaited: BTreeSet::new(),
            watched: Vec::new(),
            marked: None,
            wants_devices: false,
            quits: false,
            repaints: false,
            bell: false,
        }
    }

    /// Takes over what the client says. What the screen shows needs others to be watched now.
    pub(crate) fn refresh(&mut self, client: &mut Client, now: Time, why_offline: Option<&str>) {
        self.screen.set_now(now);
        self.screen.model.why_offline = why_offline.map(str::to_owned);
        self.screen.model.refresh(client);
        let model = &self.screen.model;
        let mut users: Vec<UserId> = model
            .conversations
            .iter()
            .take(100)
            .filter_map(|view| view.other)
            .collect();
        users.extend(model.current.as_ref().and_then(Current::other));
        users.sort_unstable();
        users.dedup();
        if users != self.watched {
            self.watched.clone_from(&users);
            client.watch(now, users);
        }
    }

    /// What the client says has changed.
    pub(crate) fn handle_change(&mut self, client: &mut Client, change: Change, now: Time) {
        match change {
            Change::Received { .. } => self.bell = !self.screen.focused,
            Change::Sent {
                client_id,
                conversation,
                ..
            } if self.awaited.remove(&client_id) => {
                self.open(
                    client,
                    now,
                    conversation,
                    Recipient::Conversation(conversation),
                );
            }
            Change::Refused {
                problem, client_id, ..
            } => {
                self.awaited.remove(&client_id);
                self.screen.complain(explain(&problem));
            }
            Change::LookedUp { username, user } => self.looked_up(client, &username, user, now),
            _ => {}
        }
    }

    /// After drawing: what was seen is read, and what comes next is loaded.
    pub(crate) fn shown(&mut self, client: &mut Client, shown: &Shown, now: Time) {
        let Some(current) = &self.screen.model.current else {
            return;
        };
        let (id, timeline) = (current.conversation, &current.timeline);
        if shown.near_start && timeline.older && !timeline.loading {
            client.load_older(now, id);
        }
        if shown.at_end || self.screen.anchor.is_some() {
            let last = timeline.items.last().map(|item| item.key);
            if timeline.newer && !timeline.loading && shown.items.last().copied() == last {
                client.load_newer(now, id);
            }
        }
        if !self.screen.focused || self.screen.overlay.is_some() {
            return;
        }
        let Some(details) = &current.details else {
            return;
        };
        // At the end also what is no item: edits, reactions.
        let seq = if shown.at_end {
            Some(details.position).max(shown.last_seq)
        } else {
            shown.last_seq
        };
        let Some(seq) = seq.filter(|seq| *seq > details.read) else {
            return;
        };
        if self.marked != Some((id, seq)) {
            self.marked = Some((id, seq));
            client.mark_read(now, id, seq);
        }
    }

    pub(crate) fn handle_wish(
        &mut self,
        client: &mut Client,
        wish: Wish,
        shown: &Shown,
        now: Time,
    ) {
        match wish {
            Wish::Quit => self.quits = true,
            Wish::Repaint => self.repaints = true,
            Wish::Send => self.enter(client, now),
            Wish::Type(typing) => self.handle_typing(client, typing, now),
            Wish::Switch(up) => self.switch(client, up, now),
            Wish::Go(index) => self.go(client, index, now),
            Wish::NextUnread => {
                let unread = self
                    .screen
                    .model
                    .conversations
                    .iter()
                    .position(|view| view.unread > 0);
                if let Some(index) = unread {
                    self.go(client, index, now);
                }
            }
            Wish::Scroll(lines) => self.screen.anchor = view::scroll(&self.screen, shown, lines),
            Wish::Page(pages) => {
                let page = isize::try_from(shown.height.saturating_sub(2).max(1)).unwrap_or(1);
                self.screen.anchor = view::scroll(&self.screen, shown, pages * page);
            }
            Wish::ToEnd => self.go_to_end(client, now),
            Wish::ToStart => {
                self.screen.anchor = view::scroll(&self.screen, shown, 1_000_000);
            }
            Wish::Choose(back) => {
                self.screen.select_next(back);
                if let Some(key) = self.screen.selected {
                    self.screen.anchor = view::reveal(&self.screen, shown, key);
                } else {
                    self.screen.anchor = None;
                }
            }
            Wish::ReplyTo => self.begin_reply(),
            Wish::Edit => self.begin_edit(),
            Wish::Delete => self.ask_delete(),
            Wish::React(emoji) => self.react(client, &emoji, now),
            Wish::ReadAll => self.read_all(),
            Wish::Retry => self.retry(client, now),
            Wish::Cancel => self.cancel(client, now),
            Wish::Help => self.screen.overlay = Some(Overlay::Help { scroll: 0 }),
            Wish::ScrollOverlay(lines) => self.scroll_overlay(lines),
            Wish::Confirm(yes) => self.confirm(client, yes, now),
            Wish::Back => self.back(),
        }
    }

    fn handle_typing(&mut self, client: &mut Client, typing: Typing, now: Time) {
        self.screen.selected = None;
        self.screen.notice = None;
        let editor = &mut self.screen.editor;
        match typing {
            Typing::Insert(text) => editor.insert(&text),
            Typing::Left => editor.left(),
            Typing::Right => editor.right(),
            Typing::WordLeft => editor.word_left(),
            Typing::WordRight => editor.word_right(),
            Typing::Home => editor.home(),
            Typing::End => editor.end(),
            Typing::Up => {
                editor.up();
            }
            Typing::Down => {
                editor.down();
            }
            Typing::Backspace => editor.backspace(),
            Typing::Delete => editor.delete(),
            Typing::DeleteWord => editor.delete_word(),
            Typing::DeleteToStart => editor.delete_to_start(),
            Typing::DeleteToEnd => editor.delete_to_end(),
        }
        if let Some(current) = &self.screen.model.current {
            let text = self.screen.editor.text();
            // A command is nobody's business.
            client.typing(
                now,
                current.conversation,
                !text.is_empty() && !text.starts_with('/'),
            );
        }
    }

    /// Sends what was typed, or does what it commands.
    fn enter(&mut self, client: &mut Client, now: Time) {
        let text = self.screen.editor.text().to_owned();
        if text.trim().is_empty() {
            return;
        }
        if text.starts_with('/')
            && !text.starts_with("//")
            && self.screen.composing == Composing::Message
        {
            match super::command::parse(&text) {
                Ok(command) => {
                    self.screen.editor.take();
                    self.command(client, command, now);
                }
                Err(why) => self.screen.complain(why),
            }
            return;
        }
        let text = text
            .strip_prefix("//")
            .map_or(text.clone(), |rest| format!("/{rest}"));
        let composing = self.screen.composing;
        if self.say(client, text, composing, now) {
            self.screen.editor.take();
            self.screen.composing = Composing::Message;
        }
    }

    /// False if there is nobody to say it to.
    pub(super) fn say(
        &mut self,
        client: &mut Client,
        text: String,
        composing: Composing,
        now: Time,
    ) -> bool {
        let Some(current) = &self.screen.model.current else {
            self.screen.complain("whom to? /dm NAME begins a talk");
            return false;
        };
        let (id, to) = (current.conversation, current.to);
        let content = Content {
            mentions: self.mentions(&text),
            text: text.trim_end().to_owned(),
            ..Content::default()
        };
        match composing {
            Composing::Message => {
                client.send_message(now, to, content, None);
            }
            Composing::Reply(seq) => {
                client.send_message(now, to, content, Some(seq));
            }
            Composing::Edit(seq) => {
                client.edit(now, id, seq, content);
            }
        }
        client.typing(now, id, false);
        self.screen.selected = None;
        if !matches!(composing, Composing::Edit(_)) {
            self.screen.new_above = None;
            self.go_to_end(client, now);
        }
        true
    }

    /// The members whose names stand in the text after an "@".
    fn mentions(&self, text: &str) -> Vec<UserId> {
        let details = self
            .screen
            .model
            .current
            .as_ref()
            .and_then(|current| current.details.as_ref());
        let Some(details) = details else {
            return Vec::new();
        };
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        let names: BTreeSet<String> = text
            .split('@')
            .skip(1)
            .map(|rest| {
                rest.split(|c| !is_name(c))
                    .next()
                    .unwrap_or_default()
                    .trim_end_matches('.')
                    .to_lowercase()
            })
            .collect();
        let is_meant = |user: &UserId| {
            let profile = self.screen.model.profiles.get(user);
            profile.is_some_and(|profile| names.contains(&profile.username.to_lowercase()))
        };
        details
            .members
            .iter()
            .map(|member| member.user)
            .filter(is_meant)
            .collect()
    }

    /// Puts a conversation on the screen.
    pub(super) fn open(
        &mut self,
        client: &mut Client,
        now: Time,
        id: ConversationId,
        to: Recipient,
    ) {
        if let Some(before) = &self.screen.model.current {
            if before.conversation == id {
                return;
            }
            client.typing(now, before.conversation, false);
            let draft = self.screen.editor.take();
            let before = before.conversation;
            if draft.is_empty() || self.screen.composing != Composing::Message {
                self.screen.drafts.remove(&before);
            } else {
                self.screen.drafts.insert(before, draft);
            }
        }
        self.screen.composing = Composing::Message;
        self.screen.selected = None;
        self.screen.anchor = None;
        if let Some(draft) = self.screen.drafts.remove(&id) {
            self.screen.editor.set(draft);
        }
        client.open(now, id);
        let details = client.conversation(id);
        self.screen.new_above = details
            .filter(|details| details.view.unread > 0)
            .map(|details| details.read);
        self.screen.model.current = Some(Current::new(id, to));
        self.screen.model.refresh(client);
    }

    pub(super) fn open_direct(&mut self, client: &mut Client, now: Time, user: UserId) {
        let id = direct_id(self.screen.model.me, user);
        self.open(client, now, id, Recipient::User(user));
    }

    pub(crate) fn go(&mut self, client: &mut Client, index: usize, now: Time) {
        if let Some(view) = self.screen.model.conversations.get(index) {
            let id = view.conversation;
            self.open(client, now, id, Recipient::Conversation(id));
        }
    }

    fn switch(&mut self, client: &mut Client, up: bool, now: Time) {
        let current = self
            .screen
            .model
            .current
            .as_ref()
            .map(|current| current.conversation);
        let conversations = &self.screen.model.conversations;
        let at = conversations
            .iter()
            .position(|view| Some(view.conversation) == current);
        let index = match (at, up) {
            (None, _) => 0,
            (Some(at), true) => at.saturating_sub(1),
            (Some(at), false) => (at + 1).min(conversations.len().saturating_sub(1)),
        };
        self.go(client, index, now);
    }

    fn go_to_end(&mut self, client: &mut Client, now: Time) {
        self.screen.anchor = None;
        let current = self.screen.model.current.as_ref();
        if let Some(current) = current.filter(|current| current.timeline.newer) {
            client.open(now, current.conversation);
        }
    }

    fn scroll_overlay(&mut self, lines: isize) {
        if let Some(Overlay::Help { scroll } | Overlay::Text { scroll, .. }) =
            &mut self.screen.overlay
        {
            *scroll = scroll.saturating_add_signed(lines);
        }
    }

    fn confirm(&mut self, client: &mut Client, yes: bool, now: Time) {
        let Some(Overlay::Confirm { then, .. }) = self.screen.overlay.take() else {
            return;
        };
        if !yes {
            return;
        }
        match then {
            Confirmed::Delete(id, seq) => {
                client.delete(now, id, seq);
            }
            Confirmed::Leave(id) => {
                client.leave(now, id);
            }
        }
        self.screen.selected = None;
    }

    /// One step back: from the overlay, the chosen message, the reply, the place in the past.
    fn back(&mut self) {
        let screen = &mut self.screen;
        if screen.overlay.take().is_some() || screen.selected.take().is_some() {
            return;
        }
        match screen.composing {
            Composing::Message => {}
            Composing::Reply(_) => return screen.composing = Composing::Message,
            Composing::Edit(_) => {
                screen.editor.take();
                return screen.composing = Composing::Message;
            }
        }
        screen.notice = None;
        screen.anchor = None;
    }

    /// The conversation on the screen.
    pub(super) fn here(&self) -> Option<ConversationId> {
        self.screen
            .model
            .current
            .as_ref()
            .map(|current| current.conversation)
    }
}
