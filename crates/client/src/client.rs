//! The state machine: what came in, what goes out.
//!
//! In: [`Client`]'s `handle_…` methods and the user's wishes (`actions`). `dispatch` names who takes which
//! frame. After each, [`Client::settle`] lets every part do what it can do now, and gathers what is to be
//! written into one transaction.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidings_core::log::Seq;
use tidings_core::{ConversationId, Time, UserId};
use tidings_protocol::ServerFrame;
use tidings_protocol::presence::Profile;

use crate::clock::{Clock, Random, Tick};
use crate::config::Config;
use crate::conversation::Conversation;
use crate::link::{Heart, Link};
use crate::list;
use crate::marks::Marks;
use crate::outbox::Outbox;
use crate::output::{Change, ListChange, Output, Status};
use crate::people::People;
use crate::requests::Requests;
use crate::rows::{self, OutboxRow, PositionRow};
use crate::short::Handles;
use crate::storage::Storage;
use crate::store::{LoadToken, Row, Snapshot, StoreToken, Table};
use crate::sync::Inbox;
use crate::timeline::Timeline;
use crate::view::{ConversationDetails, ConversationView, MemberView, PresenceView, TimelineView};

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
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) random: Random,

    pub(crate) link: Link,
    pub(crate) heart: Heart,
    pub(crate) requests: Requests,
    pub(crate) inbox: Inbox,
    pub(crate) handles: Handles,
    /// Conversations of which something may have to be asked for.
    pub(crate) wanted: BTreeSet<ConversationId>,

    pub(crate) conversations: BTreeMap<ConversationId, Conversation>,
    pub(crate) outbox: Outbox,
    pub(crate) marks: Marks,
    pub(crate) people: People,
    /// When messages vanish.
    pub(crate) expiries: BTreeSet<(Time, ConversationId, Seq)>,
    /// Entries whose content is to leave the local store.
    pub(crate) erasures: BTreeSet<(ConversationId, Seq)>,
    pub(crate) erasing: bool,

    pub(crate) storage: Storage,
    pub(crate) last_load: u64,
    /// When the rows of changed conversations are written.
    pub(crate) store_at: Option<Tick>,

    /// The conversation on the screen.
    pub(crate) focus: Option<ConversationId>,
    pub(crate) timelines: Vec<Timeline>,
    pub(crate) list: Vec<ConversationView>,
    /// Under which time each conversation stands in the list.
    pub(crate) listed: BTreeMap<ConversationId, Time>,
    /// Conversations whose views may have changed.
    touched: BTreeSet<ConversationId>,
    status: Status,

    pub(crate) outputs: VecDeque<Output>,
    pub(crate) changes: VecDeque<Change>,
}

/// What happens to the client, and what it asks for.
impl Client {
    /// A client with what its local store holds. It asks to be connected at once.
    #[must_use]
    pub fn new(config: Config, snapshot: Snapshot, now: Time) -> Client {
        let mut client = Client {
            random: Random(config.seed),
            config,
            clock: Clock::new(now),
            link: Link::Stopped(None),
            heart: Heart::new(),
            requests: Requests::default(),
            inbox: Inbox::default(),
            handles: Handles::default(),
            wanted: BTreeSet::new(),
            conversations: BTreeMap::new(),
            outbox: Outbox::default(),
            marks: Marks::default(),
            people: People::default(),
            expiries: BTreeSet::new(),
            erasures: BTreeSet::new(),
            erasing: false,
            storage: Storage::default(),
            last_load: 0,
            store_at: None,
            focus: None,
            timelines: Vec::new(),
            list: Vec::new(),
            listed: BTreeMap::new(),
            touched: BTreeSet::new(),
            status: Status::Offline,
            outputs: VecDeque::new(),
            changes: VecDeque::new(),
        };
        client.restore(snapshot);
        client.open_link();
        client.settle();
        client
    }

    fn restore(&mut self, snapshot: Snapshot) {
        let mut summaries = Vec::new();
        let mut positions: BTreeMap<ConversationId, PositionRow> = BTreeMap::new();
        let mut outbox: Vec<(u64, OutboxRow)> = Vec::new();
        for (table, Row { key, value }) in snapshot.rows {
            let id = rows::read_id(&key);
            match table {
                Table::Conversations => {
                    summaries.extend(id.map(ConversationId).zip(rows::decode(&value)))
                }
                Table::Positions => {
                    positions.extend(id.map(ConversationId).zip(rows::decode(&value)))
                }
                Table::Outbox => {
                    let number = key.try_into().ok().map(u64::from_be_bytes);
                    outbox.extend(number.zip(rows::decode(&value)));
                }
                Table::Profiles => self
                    .people
                    .profiles
                    .extend(id.map(UserId).zip(rows::decode(&value))),
                Table::Expiries => self.expiries.extend(rows::read_expiry_key(&key)),
                Table::Entries | Table::Alterations => {}
            }
        }
        for (id, row) in summaries {
            let conversation = Conversation::from_rows(id, row, positions.remove(&id));
            self.conversations.insert(id, conversation);
            self.note_handle(id);
        }
        for (_, row) in &outbox {
            if let Some(id) = row.conversation {
                let conversation = self
                    .conversations
                    .entry(id)
                    .or_insert_with(|| Conversation::unknown(id));
                conversation.other = conversation.other.or(row.to);
            }
        }
        self.outbox = Outbox::restore(outbox);
        for id in self.outbox.conversations() {
            self.forget_covered(id);
        }
        self.remember_raised();
        for id in self.conversations.keys().copied().collect::<Vec<_>>() {
            self.touch(id);
        }
    }

    /// The connection is open.
    pub fn handle_connected(&mut self, now: Time) {
        self.clock.advance(now);
        if !matches!(self.link, Link::Stopped(_)) {
            self.greet();
        }
        self.settle();
    }

    /// The connection is closed, or could not be opened.
    pub fn handle_disconnected(&mut self, now: Time) {
        self.clock.advance(now);
        self.lose_link();
        self.settle();
    }

    /// A frame came over the connection that was opened last.
    pub fn handle_frame(&mut self, now: Time, frame: ServerFrame) {
        self.clock.advance(now);
        if matches!(self.link, Link::Greeting | Link::Up) {
            self.dispatch(frame);
        }
        self.settle();
    }

    /// The batch with this token, and all before it, are durable.
    pub fn handle_stored(&mut self, now: Time, token: StoreToken) {
        self.clock.advance(now);
        self.stored(token);
        self.settle();
    }

    /// What was asked for was read: the rows of each range, in the order of the request.
    pub fn handle_loaded(&mut self, now: Time, token: LoadToken, rows: Vec<Vec<Row>>) {
        self.clock.advance(now);
        self.loaded(token, rows);
        self.settle();
    }

    /// The time of `poll_timeout` has come. Harmless if it has not.
    pub fn handle_timeout(&mut self, now: Time) {
        self.clock.advance(now);
        self.settle();
    }

    /// What to do next. Call until `None` after everything that happens.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        self.refresh_views();
        self.changes.pop_front().map(Output::Changed)
    }

    /// When to call `handle_timeout` at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        let now = self.clock.tick();
        let sending = if self.link.is_up() {
            self.outbox.timeout(now)
        } else {
            None
        };
        let timeouts = [
            self.link_timeout(),
            sending,
            self.marks_timeout(),
            self.sync_timeout(),
            self.people_timeout(),
            self.erase_timeout(),
            self.store_at,
        ];
        timeouts
            .into_iter()
            .flatten()
            .min()
            .map(|tick| self.clock.wall_at(tick))
    }

    /// Who takes which frame.
    fn dispatch(&mut self, frame: ServerFrame) {
        match frame {
            ServerFrame::Welcome(frame) => self.handle_welcome(&frame),
            ServerFrame::Pong(frame) => self.handle_pong(&frame),
            ServerFrame::Sent(frame) => self.handle_answered_send(&frame),
            ServerFrame::Done(frame) => self.handle_done(frame.id),
            ServerFrame::Inbox(frame) => self.handle_inbox(frame),
            ServerFrame::Conversation(frame) => self.handle_conversation(*frame),
            ServerFrame::History(frame) => self.handle_history(frame),
            ServerFrame::Users(frame) => self.handle_users(frame),
            ServerFrame::Error(frame) => self.handle_error(frame),
            ServerFrame::Entries(frame) => self.handle_entries(frame),
            ServerFrame::Marks(frame) => self.handle_marks(&frame),
            ServerFrame::Ticks(frame) => self.handle_ticks(&frame),
            ServerFrame::Gone(frame) => self.leave_conversation(frame.conversation),
            ServerFrame::Presence(frame) => self.handle_presence(&frame),
            ServerFrame::Typing(frame) => self.handle_typing(&frame),
            ServerFrame::Bye(frame) => self.handle_bye(&frame),
            ServerFrame::Said(frame) => self.handle_said(&frame),
            ServerFrame::Messages(frame) => self.handle_messages(frame),
            ServerFrame::Steps(frame) => self.handle_steps(&frame),
            // Nothing here asks for these yet.
            ServerFrame::Members(_) | ServerFrame::Receipts(_) | ServerFrame::Private(_) => {}
        }
    }

    /// Lets every part do what it can do now.
    pub(crate) fn settle(&mut self) {
        self.pump_link();
        self.pump_outbox();
        self.pump_sync();
        self.pump_marks();
        self.pump_people();
        self.pump_erasing();
        if self.store_at.is_some_and(|at| at <= self.clock.tick()) {
            self.write_dirty();
        }
        self.flush_batch();
    }

    /// The views of a conversation may have changed.
    pub(crate) fn touch(&mut self, id: ConversationId) {
        self.touched.insert(id);
    }

    fn refresh_views(&mut self) {
        let status = self.status_now();
        if status != self.status {
            self.status = status;
            self.changes.push_back(Change::Status(status));
        }
        let touched = std::mem::take(&mut self.touched);
        for id in &touched {
            self.refresh_listed(*id);
            if self.conversations.contains_key(id) {
                self.changes.push_back(Change::Conversation(*id));
            }
        }
        for index in 0..self.timelines.len() {
            let Some(timeline) = self.timelines.get(index) else {
                continue;
            };
            let id = timeline.id;
            if timeline.dirty || touched.contains(&id) {
                let items = self.items_of(timeline);
                let steps = list::steps(&timeline.view.items, &items);
                let changes = steps.into_iter().map(|change| Change::Timeline {
                    conversation: id,
                    change,
                });
                self.changes.extend(changes);
                if let Some(timeline) = self.timelines.get_mut(index) {
                    timeline.view.items = items;
                    timeline.dirty = false;
                }
            }
            self.refresh_ends(index);
        }
    }
}

/// What there is to be shown.
impl Client {
    /// How the client stands to the server.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status_now()
    }

    /// The list of conversations, newest first, as of the last `poll_output` that answered `None`.
    #[must_use]
    pub fn conversations(&self) -> &[ConversationView] {
        &self.list
    }

    /// One conversation.
    #[must_use]
    pub fn conversation(&self, conversation: ConversationId) -> Option<ConversationDetails> {
        let known = self.conversations.get(&conversation)?;
        let member = |row: &rows::MemberRow| MemberView {
            user: row.user,
            role: row.role,
            delivered: row.best.delivered,
            shown: row.best.shown,
        };
        Some(ConversationDetails {
            view: self.view_of(known)?,
            settings: known.settings.clone(),
            role: known.role,
            member_count: known.member_count,
            members: known.members.values().map(member).collect(),
            head: known.head,
            position: known.position,
            read: known.read_best.seq.max(known.read_wanted),
        })
    }

    /// An open timeline, as of the last `poll_output` that answered `None`.
    #[must_use]
    pub fn timeline(&self, conversation: ConversationId) -> Option<&TimelineView> {
        self.timelines
            .iter()
            .find(|timeline| timeline.id == conversation)
            .map(|timeline| &timeline.view)
    }

    /// Somebody's profile, if it is known.
    #[must_use]
    pub fn profile(&self, user: UserId) -> Option<&Profile> {
        self.people.profiles.get(&user).map(|row| &row.profile)
    }

    /// Somebody's presence, if it is watched and known.
    #[must_use]
    pub fn presence(&self, user: UserId) -> Option<PresenceView> {
        self.people.presences.get(&user).copied()
    }

    /// How many wishes wait to be sent.
    #[must_use]
    pub fn outbox_len(&self) -> usize {
        self.outbox.waiting()
    }

    /// The whole list, as one change: for a screen that is made anew.
    #[must_use]
    pub fn all_conversations(&self) -> ListChange<ConversationView> {
        ListChange::Reset(self.list.clone())
    }
}
