//! The state machine: what came in, what goes out.

use std::collections::VecDeque;

use tidings_core::{ClientId, ConversationId, Time, UserId};
use tidings_protocol::ServerFrame;
use tidings_protocol::entry::{Content, Role, Settings, SettingsChange};
use tidings_protocol::presence::Profile;

use crate::config::Config;
use crate::output::{Output, Status};
use crate::store::{LoadToken, Row, Snapshot, StoreToken};
use crate::view::{ConversationDetails, ConversationView, PresenceView, TimelineView};

/// To whom a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// A conversation.
    Conversation(ConversationId),
    /// The direct conversation with this user, begun if there is none.
    User(UserId),
}

/// Why a message cannot be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelError {
    /// There is none such in the outbox: it was sent.
    NotFound,
    /// It was tried and the answer is not known: it may have been sent.
    MayBeSent,
}

/// A client: one device of one user.
#[derive(Debug)]
pub struct Client {
    config: Config,
    outputs: VecDeque<Output>,
}

/// What happens to the client, and what it asks for.
impl Client {
    /// A client with what its local store holds. It asks to be connected at once.
    #[must_use]
    pub fn new(config: Config, snapshot: Snapshot, now: Time) -> Client {
        let _ = (snapshot, now);
        Client {
            config,
            outputs: VecDeque::from([Output::Connect]),
        }
    }

    /// The connection is open.
    pub fn handle_connected(&mut self, now: Time) {
        let _ = now;
    }

    /// The connection is closed, or could not be opened.
    pub fn handle_disconnected(&mut self, now: Time) {
        let _ = now;
    }

    /// A frame came.
    pub fn handle_frame(&mut self, now: Time, frame: ServerFrame) {
        let _ = (now, frame);
    }

    /// The batch with this token, and all before it, are durable.
    pub fn handle_stored(&mut self, now: Time, token: StoreToken) {
        let _ = (now, token);
    }

    /// What was asked for was read: the rows of each range, in the order of the request.
    pub fn handle_loaded(&mut self, now: Time, token: LoadToken, rows: Vec<Vec<Row>>) {
        let _ = (now, token, rows);
    }

    /// The time of `poll_timeout` has come. Harmless if it has not.
    pub fn handle_timeout(&mut self, now: Time) {
        let _ = now;
    }

    /// What to do next. Call until `None` after everything that happens.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call `handle_timeout` at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        None
    }
}

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
        let _ = (now, to, content, reply_to, &self.config);
        ClientId([0; 16])
    }

    /// Changes an own message.
    pub fn edit(
        &mut self,
        now: Time,
        conversation: ConversationId,
        target: u64,
        content: Content,
    ) -> ClientId {
        let _ = (now, conversation, target, content);
        ClientId([0; 16])
    }

    /// Deletes a message for everyone.
    pub fn delete(&mut self, now: Time, conversation: ConversationId, target: u64) -> ClientId {
        let _ = (now, conversation, target);
        ClientId([0; 16])
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
        let _ = (now, conversation, target, emoji, on);
        ClientId([0; 16])
    }

    /// Begins a group. Its id comes with [`crate::Change::Sent`].
    pub fn create_group(&mut self, now: Time, users: Vec<UserId>, settings: Settings) -> ClientId {
        let _ = (now, users, settings);
        ClientId([0; 16])
    }

    /// Brings people in.
    pub fn invite(
        &mut self,
        now: Time,
        conversation: ConversationId,
        users: Vec<UserId>,
    ) -> ClientId {
        let _ = (now, conversation, users);
        ClientId([0; 16])
    }

    /// Comes in by an invite link.
    pub fn join(&mut self, now: Time, conversation: ConversationId, link: [u8; 16]) -> ClientId {
        let _ = (now, conversation, link);
        ClientId([0; 16])
    }

    /// Goes.
    pub fn leave(&mut self, now: Time, conversation: ConversationId) -> ClientId {
        let _ = (now, conversation);
        ClientId([0; 16])
    }

    /// Makes a member go.
    pub fn remove(&mut self, now: Time, conversation: ConversationId, user: UserId) -> ClientId {
        let _ = (now, conversation, user);
        ClientId([0; 16])
    }

    /// Gives a member another role.
    pub fn set_role(
        &mut self,
        now: Time,
        conversation: ConversationId,
        user: UserId,
        role: Role,
    ) -> ClientId {
        let _ = (now, conversation, user, role);
        ClientId([0; 16])
    }

    /// Changes settings.
    pub fn configure(
        &mut self,
        now: Time,
        conversation: ConversationId,
        change: SettingsChange,
    ) -> ClientId {
        let _ = (now, conversation, change);
        ClientId([0; 16])
    }

    /// Takes a message that waits or failed out of the outbox.
    ///
    /// # Errors
    /// When it was sent, or may have been.
    pub fn cancel(&mut self, now: Time, client_id: ClientId) -> Result<(), CancelError> {
        let _ = (now, client_id);
        Err(CancelError::NotFound)
    }

    /// Sends a message that failed once more, as a new one. Answers its new client id.
    pub fn resend(&mut self, now: Time, client_id: ClientId) -> Option<ClientId> {
        let _ = (now, client_id);
        None
    }

    /// The user has seen everything up to this entry.
    pub fn mark_read(&mut self, now: Time, conversation: ConversationId, seq: u64) {
        let _ = (now, conversation, seq);
    }

    /// The user is typing (call it at every key), or has stopped.
    pub fn typing(&mut self, now: Time, conversation: ConversationId, on: bool) {
        let _ = (now, conversation, on);
    }

    /// Opens the timeline of a conversation at its newest items and has it on the screen: its typing and
    /// ticks are told.
    pub fn open(&mut self, now: Time, conversation: ConversationId) {
        let _ = (now, conversation);
    }

    /// Opens the timeline around an entry.
    pub fn open_around(&mut self, now: Time, conversation: ConversationId, seq: u64) {
        let _ = (now, conversation, seq);
    }

    /// Lets go of the items of a timeline.
    pub fn close(&mut self, now: Time, conversation: ConversationId) {
        let _ = (now, conversation);
    }

    /// More items before the first.
    pub fn load_older(&mut self, now: Time, conversation: ConversationId) {
        let _ = (now, conversation);
    }

    /// More items after the last.
    pub fn load_newer(&mut self, now: Time, conversation: ConversationId) {
        let _ = (now, conversation);
    }

    /// Whose presence is on the screen; replaces who was before.
    pub fn watch(&mut self, now: Time, users: Vec<UserId>) {
        let _ = (now, users);
    }

    /// Asks who has this username; the answer is [`crate::Change::LookedUp`].
    pub fn look_up(&mut self, now: Time, username: &str) {
        let _ = (now, username);
    }

    /// The network has come back, or the program to the front: connects now rather than after the wait.
    pub fn reconnect_now(&mut self, now: Time) {
        let _ = now;
    }

    /// Stays without a connection until `reconnect_now`.
    pub fn go_offline(&mut self, now: Time) {
        let _ = now;
    }
}

/// What there is to be shown.
impl Client {
    /// How the client stands to the server.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::Offline
    }

    /// The list of conversations, newest first.
    #[must_use]
    pub fn conversations(&self) -> &[ConversationView] {
        &[]
    }

    /// One conversation.
    #[must_use]
    pub fn conversation(&self, conversation: ConversationId) -> Option<ConversationDetails> {
        let _ = conversation;
        None
    }

    /// An open timeline, as of the last `Change` that was polled.
    #[must_use]
    pub fn timeline(&self, conversation: ConversationId) -> Option<&TimelineView> {
        let _ = conversation;
        None
    }

    /// Somebody's profile, if it is known.
    #[must_use]
    pub fn profile(&self, user: UserId) -> Option<&Profile> {
        let _ = user;
        None
    }

    /// Somebody's presence, if it is watched and known.
    #[must_use]
    pub fn presence(&self, user: UserId) -> Option<PresenceView> {
        let _ = user;
        None
    }

    /// How many wishes wait to be sent.
    #[must_use]
    pub fn outbox_len(&self) -> usize {
        0
    }
}
