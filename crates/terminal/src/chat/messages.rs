//! What can be done with the chosen message, or the last that fits.

use tidings_client::{CancelError, Client, ItemBody, ItemKey};
use tidings_core::{ClientId, Time};

use super::app::App;
use super::screen::{Composing, Confirmed, Overlay, is_message};
use crate::plain;

impl App {
    pub(super) fn begin_reply(&mut self) {
        let seq = self.screen.target(is_message).and_then(|item| item.seq);
        match seq {
            Some(seq) => {
                self.screen.composing = Composing::Reply(seq);
                self.screen.selected = None;
            }
            None => self
                .screen
                .complain("what is not sent yet cannot be answered"),
        }
    }

    pub(super) fn begin_edit(&mut self) {
        let screen = &self.screen;
        let target = screen.target(|item| screen.is_own_message(item) && item.seq.is_some());
        let found = target.and_then(|item| match &item.body {
            ItemBody::Message(content) => Some((item.seq?, content.text.clone())),
            _ => None,
        });
        match found {
            Some((seq, text)) => {
                self.screen.editor.set(text);
                self.screen.composing = Composing::Edit(seq);
                self.screen.selected = None;
            }
            None => self
                .screen
                .complain("only own messages that were sent can be changed"),
        }
    }

    pub(super) fn ask_delete(&mut self) {
        let screen = &self.screen;
        let own = screen.target(|item| {
            is_message(item) && (screen.selected.is_some() || item.author == screen.model.me)
        });
        let target = own.and_then(|item| Some((item.seq?, text_of(&item.body))));
        match (target, self.here()) {
            (Some((seq, text)), Some(id)) => {
                let question = format!("Delete “{}” for everyone?", plain::cut(&text, 30));
                self.screen.overlay = Some(Overlay::Confirm {
                    question,
                    then: Confirmed::Delete(id, seq),
                });
            }
            _ => self.screen.complain("there is nothing that can be deleted"),
        }
    }

    pub(super) fn react(&mut self, client: &mut Client, emoji: &str, now: Time) {
        let screen = &self.screen;
        let me = screen.model.me;
        let target = screen
            .target(|item| is_message(item) && (screen.selected.is_some() || item.author != me));
        let found = target.and_then(|item| {
            let mine = item
                .reactions
                .iter()
                .any(|reaction| reaction.mine && reaction.emoji == emoji);
            Some((item.seq?, !mine))
        });
        match (found, self.here()) {
            (Some((seq, on)), Some(id)) => {
                client.react(now, id, seq, emoji, on);
            }
            _ => self.screen.complain("there is no message to react to"),
        }
    }

    pub(super) fn read_all(&mut self) {
        let Some(item) = self.screen.selected_item() else {
            return;
        };
        if let ItemBody::Message(content) = &item.body {
            let mut text = content.text.clone();
            for attachment in &content.attachments {
                text = format!("{text}\n📎 {} {}", attachment.name, attachment.reference);
            }
            let title = format!(
                "{}, {}",
                self.screen.model.name(item.author),
                self.screen.clock.time(item.at)
            );
            self.screen.overlay = Some(Overlay::Text {
                title,
                text,
                scroll: 0,
            });
        }
    }

    pub(super) fn retry(&mut self, client: &mut Client, now: Time) {
        match self.failed() {
            Some(client_id) => {
                client.resend(now, client_id);
            }
            None => self.screen.complain("nothing here has failed"),
        }
        self.screen.selected = None;
    }

    pub(super) fn cancel(&mut self, client: &mut Client, now: Time) {
        let Some(client_id) = self.failed() else {
            return self.screen.complain("nothing here waits or has failed");
        };
        match client.cancel(now, client_id) {
            Ok(()) => self.screen.selected = None,
            Err(CancelError::NotFound) => self.screen.complain("it was sent already"),
            Err(CancelError::MayBeSent) => self
                .screen
                .complain("it may have been sent already: delete it once that is known"),
        }
    }

    /// The chosen message of the outbox, or the last of them.
    fn failed(&self) -> Option<ClientId> {
        let waits = |item: &tidings_client::Item| {
            matches!(item.key, ItemKey::Outgoing(_)) && item.seq.is_none()
        };
        match self.screen.target(waits)?.key {
            ItemKey::Outgoing(client_id) => Some(client_id),
            ItemKey::Entry(_) => None,
        }
    }
}

fn text_of(body: &ItemBody) -> String {
    match body {
        ItemBody::Message(content) => plain::line(&content.text),
        _ => String::new(),
    }
}
