//! What this server tells the others.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use tidings_core::entry::Entry;
use tidings_core::log::{Generation, Seq};
use tidings_core::{ConversationId, DeviceId, Time, UserId};

use super::Cluster;
use super::message::Message;
use super::wire::{self, To};
use crate::chat::{Forwarded, Handed, MarksNews, Others};
use crate::trace::Context;

impl Cluster {
    /// Sends a message, or drops it if too many wait.
    pub(super) fn say(&self, to: To, message: &Message) {
        self.say_bytes(to, Bytes::from(message.encode()));
    }

    pub(super) fn say_bytes(&self, to: To, bytes: Bytes) {
        if self.is_connected.load(Ordering::Relaxed) && self.outgoing.try_send((to, bytes)).is_err()
        {
            self.metrics.message_dropped();
            tracing::debug!("news were dropped: too many wait");
        }
    }

    pub(super) fn say_to_users(
        &self,
        users: &mut dyn Iterator<Item = UserId>,
        encoded: impl FnOnce() -> Vec<u8>,
    ) {
        let nodes = self.routes().nodes_of(users);
        if nodes.is_empty() {
            return;
        }
        let bytes = Bytes::from(encoded());
        for node in nodes {
            self.say_bytes(To::One(node), bytes.clone());
        }
    }

    /// Which of these entries are traced.
    fn traces_of(&self, conversation: ConversationId, entries: &[Entry]) -> Vec<(Seq, Context)> {
        match self.tracer.get() {
            Some(tracer) => tracer.take_noted(conversation, entries.iter().map(Entry::seq)),
            None => Vec::new(),
        }
    }

    /// A user came online here or went offline.
    pub fn tell_online(&self, user: UserId, on: bool, last_seen: Time) {
        let mut online = self.online();
        match on {
            true => online.insert(user),
            false => online.remove(user),
        };
        // Under the lock: what is told is in the order in which it was.
        let node = self.me;
        self.say(
            To::All,
            &Message::Online {
                node,
                user,
                on,
                last_seen,
            },
        );
    }

    /// A key of a user's private map changed here.
    pub fn tell_private(&self, user: UserId, key: &str, except: DeviceId) {
        self.say_to_users(&mut std::iter::once(user), || {
            let key = key.to_owned();
            Message::Private { user, key, except }.encode()
        });
    }
}

impl Others for Cluster {
    fn tell_entries(
        &self,
        conversation: ConversationId,
        generation: Generation,
        entries: &[Entry],
        users: &mut dyn Iterator<Item = UserId>,
    ) {
        let traces = self.traces_of(conversation, entries);
        self.say_to_users(users, || {
            let entries = Message::Entries {
                conversation,
                generation,
                entries: entries.to_vec(),
                traces,
            };
            let encoded = entries.encode();
            match wire::fits(&encoded) {
                true => encoded,
                false => Message::Look { conversation }.encode(),
            }
        });
    }

    fn tell_look(&self, conversation: ConversationId, users: &mut dyn Iterator<Item = UserId>) {
        self.say_to_users(users, || Message::Look { conversation }.encode());
    }

    fn tell_marks(&self, news: MarksNews, users: &mut dyn Iterator<Item = UserId>) {
        self.say_to_users(users, || Message::Marks(news).encode());
    }

    fn tell_typing(
        &self,
        conversation: ConversationId,
        user: UserId,
        on: bool,
        users: &mut dyn Iterator<Item = UserId>,
    ) {
        let typing = Message::Typing {
            conversation,
            user,
            on,
        };
        self.say_to_users(users, || typing.encode());
    }

    fn is_mine(&self, key: &[u8]) -> bool {
        self.peers()
            .holder(self.me, !self.takes_conversations(), key)
            .is_none()
    }

    fn takes_sends(&self) -> bool {
        Cluster::takes_sends(self)
    }

    fn cannot_agree(&self) -> bool {
        self.is_wired.load(Ordering::Relaxed) && !self.is_connected.load(Ordering::Relaxed)
    }

    fn forward(
        &self,
        conversation: ConversationId,
        frames: &dyn Fn() -> Option<Vec<Handed>>,
    ) -> Option<Forwarded> {
        Cluster::forward(self, conversation, frames)
    }
}
