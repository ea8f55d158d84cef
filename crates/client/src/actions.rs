//! What the user wishes.
//!
//! Next: the outbox, for everything that changes a conversation.

use tidings_core::id::direct_id;
use tidings_core::{ClientId, ConversationId, Time, UserId};
use tidings_protocol::blob::Blob;
use tidings_protocol::entry::{Content, Role, Settings, SettingsChange};
use tidings_protocol::send::{
    Action, CreateAction, EditAction, InviteAction, JoinAction, MemberAction, MessageAction,
    NoDetail, ReactAction, RoleAction, TargetAction,
};

use crate::client::{CancelError, Client, Recipient};
use crate::conversation::Conversation;
use crate::link::Link;

/// What the user wishes. Everything that changes a conversation goes through the outbox, also without a
/// connection; the client id names it in later changes.
impl Client {
    /// Says something.
    pub fn send_message(
        &mut self,
        now: Time,
        to: Recipient,
        content: Content,
        reply_to: Option<u64>,
    ) -> ClientId {
        self.clock.advance(now);
        let (id, to) = match to {
            Recipient::Conversation(id) => (id, self.begun_here_with(id)),
            Recipient::User(user) => {
                let id = direct_id(self.config.user, user);
                let conversation = self
                    .conversations
                    .entry(id)
                    .or_insert_with(|| Conversation::unknown(id));
                conversation.other = Some(user);
                self.need_profile(user);
                (id, Some(user))
            }
        };
        self.tell_typing(id, false);
        let action = Action::Message(MessageAction {
            content,
            reply_to,
            silent: false,
        });
        let client_id = self.wish(Some(id), to, action);
        self.settle();
        client_id
    }

    /// The other of a direct conversation that the server does not know of yet.
    fn begun_here_with(&self, id: ConversationId) -> Option<UserId> {
        self.conversations
            .get(&id)
            .filter(|known| !known.is_known())
            .and_then(|known| known.other)
    }

    fn wish_in(&mut self, now: Time, id: ConversationId, action: Action) -> ClientId {
        self.clock.advance(now);
        let client_id = self.wish(Some(id), None, action);
        self.settle();
        client_id
    }

    /// Changes an own message.
    pub fn edit(
        &mut self,
        now: Time,
        conversation: ConversationId,
        target: u64,
        content: Content,
    ) -> ClientId {
        self.wish_in(
            now,
            conversation,
            Action::Edit(EditAction { target, content }),
        )
    }

    /// Deletes a message for everyone.
    pub fn delete(&mut self, now: Time, conversation: ConversationId, target: u64) -> ClientId {
        self.wish_in(now, conversation, Action::Delete(TargetAction { target }))
    }

    /// Puts a reaction on a message or takes it back.
    pub fn react(
        &mut self,
        now: Time,
        conversation: ConversationId,
        target: u64,
        emoji: &str,
        on: bool,
    ) -> ClientId {
        self.wish_in(
            now,
            conversation,
            Action::React(ReactAction {
                target,
                emoji: emoji.to_owned(),
                on,
            }),
        )
    }

    /// Begins a group. Its id comes with [`crate::Change::Sent`].
    pub fn create_group(&mut self, now: Time, users: Vec<UserId>, settings: Settings) -> ClientId {
        self.clock.advance(now);
        let client_id = self.wish(
            None,
            None,
            Action::Create(CreateAction {
                users,
                settings,
                kind: None,
            }),
        );
        self.settle();
        client_id
    }

    /// Brings people in.
    pub fn invite(
        &mut self,
        now: Time,
        conversation: ConversationId,
        users: Vec<UserId>,
    ) -> ClientId {
        self.wish_in(now, conversation, Action::Invite(InviteAction { users }))
    }

    /// Comes in by an invite link.
    pub fn join(&mut self, now: Time, conversation: ConversationId, link: [u8; 16]) -> ClientId {
        self.wish_in(
            now,
            conversation,
            Action::Join(JoinAction {
                link: Blob(link.to_vec()),
            }),
        )
    }

    /// Goes.
    pub fn leave(&mut self, now: Time, conversation: ConversationId) -> ClientId {
        self.wish_in(now, conversation, Action::Leave(NoDetail {}))
    }

    /// Makes a member go.
    pub fn remove(&mut self, now: Time, conversation: ConversationId, user: UserId) -> ClientId {
        self.wish_in(now, conversation, Action::Remove(MemberAction { user }))
    }

    /// Gives a member another role.
    pub fn set_role(
        &mut self,
        now: Time,
        conversation: ConversationId,
        user: UserId,
        role: Role,
    ) -> ClientId {
        self.wish_in(
            now,
            conversation,
            Action::SetRole(RoleAction { user, role }),
        )
    }

    /// Changes settings.
    pub fn configure(
        &mut self,
        now: Time,
        conversation: ConversationId,
        change: SettingsChange,
    ) -> ClientId {
        self.wish_in(now, conversation, Action::Configure(change))
    }

    /// Takes a message that waits or failed out of the outbox.
    ///
    /// # Errors
    /// When it was sent, or may have been.
    pub fn cancel(&mut self, now: Time, client_id: ClientId) -> Result<(), CancelError> {
        self.clock.advance(now);
        let cancelled = self.cancel_wish(client_id);
        self.settle();
        cancelled
    }

    /// Sends a message that failed once more, as a new one. Answers its new client id.
    pub fn resend(&mut self, now: Time, client_id: ClientId) -> Option<ClientId> {
        self.clock.advance(now);
        let failed = self
            .outbox
            .get(client_id)
            .filter(|wish| wish.row.failed.is_some())?
            .row
            .clone();
        self.cancel_wish(client_id).ok()?;
        let anew = self.wish(failed.conversation, failed.to, failed.action);
        self.settle();
        Some(anew)
    }

    /// The user has seen everything up to this entry.
    pub fn mark_read(&mut self, now: Time, conversation: ConversationId, seq: u64) {
        self.clock.advance(now);
        self.raise_read(conversation, seq);
        self.settle();
    }

    /// The user is typing (call it at every key), or has stopped.
    pub fn typing(&mut self, now: Time, conversation: ConversationId, on: bool) {
        self.clock.advance(now);
        self.tell_typing(conversation, on);
        self.settle();
    }

    /// Opens the timeline of a conversation at its newest items and has it on the screen: its typing and
    /// ticks are told.
    pub fn open(&mut self, now: Time, conversation: ConversationId) {
        self.clock.advance(now);
        self.look_at(conversation);
        self.open_timeline(conversation, None);
        self.settle();
    }

    /// Opens the timeline around an entry.
    pub fn open_around(&mut self, now: Time, conversation: ConversationId, seq: u64) {
        self.clock.advance(now);
        self.look_at(conversation);
        self.open_timeline(conversation, Some(seq));
        self.settle();
    }

    fn look_at(&mut self, id: ConversationId) {
        if self.focus != Some(id) {
            self.focus = Some(id);
            self.send_watch();
        }
        let members = self
            .conversations
            .get(&id)
            .map(|known| known.members.keys().copied().collect::<Vec<_>>());
        for user in members.into_iter().flatten() {
            self.need_profile(user);
        }
    }

    /// Lets go of the items of a timeline.
    pub fn close(&mut self, now: Time, conversation: ConversationId) {
        self.clock.advance(now);
        self.timelines
            .retain(|timeline| timeline.id != conversation);
        if self.focus == Some(conversation) {
            self.focus = None;
            self.send_watch();
        }
        self.settle();
    }

    /// More items before the first.
    pub fn load_older(&mut self, now: Time, conversation: ConversationId) {
        self.clock.advance(now);
        self.extend_timeline(conversation, true);
        self.settle();
    }

    /// More items after the last.
    pub fn load_newer(&mut self, now: Time, conversation: ConversationId) {
        self.clock.advance(now);
        self.extend_timeline(conversation, false);
        self.settle();
    }

    /// Whose presence is on the screen; replaces who was before.
    pub fn watch(&mut self, now: Time, users: Vec<UserId>) {
        self.clock.advance(now);
        if self.people.watched != users {
            self.people.presences.retain(|user, _| users.contains(user));
            self.people.watched = users;
            self.send_watch();
        }
        self.settle();
    }

    /// Asks who has this username; the answer is [`crate::Change::LookedUp`].
    pub fn look_up(&mut self, now: Time, username: &str) {
        self.clock.advance(now);
        self.people.lookups.push_back(username.to_owned());
        self.settle();
    }

    /// The network has come back, or the program to the front: connects now rather than after the wait.
    pub fn reconnect_now(&mut self, now: Time) {
        self.clock.advance(now);
        if matches!(self.link, Link::Stopped(_) | Link::Waiting(_)) {
            self.heart.failures = 0;
            self.open_link();
        }
        self.settle();
    }

    /// Stays without a connection until `reconnect_now`.
    pub fn go_offline(&mut self, now: Time) {
        self.clock.advance(now);
        self.stop(None);
        self.settle();
    }
}
