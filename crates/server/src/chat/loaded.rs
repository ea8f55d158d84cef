//! A conversation in memory: the committed state, its members and their marks.
//!
//! Only what is durable is in here. Everything that reads or publishes does so under its lock.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};
use tidings_core::codec::{decode_member, decode_state, encode_member, encode_state};
use tidings_core::conversation::{ConversationKind, Member, MemberMap, State, apply};
use tidings_core::entry::Entry;
use tidings_core::log::{Generation, LogId, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{ConversationId, Time, UserId};
use tidings_protocol::mark::{MemberMarks, Ticks};
use tidings_store::{Direction, MemberQuery, ReadLog, StateSnapshot, Store, StoreError, Want};

use super::diffusion::Diffusion;
use crate::clock::{Clock, random};
use crate::hub::Part;
use crate::session::Session;

/// Up to how many members everybody is told everybody's marks.
pub(super) const TELL_MARKS_MEMBERS_MAX: u32 = 32;
/// Up to how many members the times of steps are kept.
pub(super) const KEEP_STEPS_MEMBERS_MAX: u32 = 256;
/// How many of the newest envelopes are remembered for counting.
const TAIL_MAX: usize = 128;
const READ_PAGE: usize = 1_000;

/// The committed state of a conversation and what goes with it.
pub(super) struct Loaded {
    pub state: State,
    /// All that ever were in.
    pub members: MemberMap,
    pub marks: HashMap<UserId, UserMarks>,
    /// Entries up to here are no longer served.
    pub trimmed: Seq,
    /// The seq that the stored state is of.
    pub written: Seq,
    /// Members that changed since.
    pub changed: BTreeSet<UserId>,
    /// The newest entries, in brief.
    pub tail: VecDeque<Brief>,
    /// Sessions that have it on their screen.
    pub lookers: HashMap<u64, Arc<Session>>,
    /// How heads reach the members' inboxes.
    pub diffusion: Diffusion,
    /// Another server may have switched since it was read.
    pub diffusion_is_old: bool,
    /// Members whose marks moved and were not told yet.
    pub untold: BTreeSet<UserId>,
    /// As far as what belongs to the entries, besides them, is known to be durable: the rows of inboxes.
    pub settled: Seq,
    /// As far as entries went to the sessions here as they came.
    pub pushed: Seq,
    /// Members of a large group whose marks moved at another server and were not told here yet.
    pub heard: BTreeSet<UserId>,
    /// Steps whose time is to be kept once their second is over: the last of that second.
    pub steps_due: BTreeMap<(UserId, MarkKind), (Seq, Time)>,
    /// Whether a task is waiting to tell marks, to keep steps, to reconsider trimming.
    pub telling: bool,
    pub stepping: bool,
    pub trimming: bool,
    /// The handle by which sessions name it, in which generation.
    pub handle: Cell<Option<(Generation, u32)>>,
    /// The head that was last looked at, and what it contributes to digests.
    pub(super) head_part: Cell<(Seq, u64)>,
    /// The sum of what the told marks of all who are in contribute to digests.
    pub(super) told_sum: Part,
}

/// What counting needs of an entry.
#[derive(Clone, Copy)]
pub(super) struct Brief {
    pub seq: Seq,
    pub author: UserId,
    pub counts: bool,
    pub ordinal: u64,
}

/// The marks of one user in one conversation.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct UserMarks {
    pub delivered: Seq,
    pub read: MarkValue,
    /// The place of the read mark that was last reckoned, and what it contributes to the user's digest.
    pub reckoned_read: (Seq, u64),
    pub shown: Seq,
    /// As far as the others were told.
    pub told: MemberMarks,
    /// What that contributes to their digests, where everybody is told.
    pub told_part: Part,
    /// When the last step was kept: at most one a second.
    pub delivered_step_at: Time,
    pub shown_step_at: Time,
}

/// How far the joined, left and head marks of members are in their inboxes, by owner and kind.
pub(super) type Rows = HashMap<([u8; 16], MarkKind), Seq>;

impl UserMarks {
    /// Takes what a stored mark says.
    pub(super) fn take(&mut self, mark: &Mark) {
        match mark.kind {
            MarkKind::Delivered => self.delivered = mark.value.seq,
            MarkKind::Read => self.read = mark.value,
            MarkKind::Shown => self.shown = mark.value.seq,
            _ => {}
        }
    }
}

impl Loaded {
    /// Reads a conversation: the stored state, then the entries since, then members and marks. Also how far the
    /// rows of its members' inboxes are.
    pub(super) async fn read(
        store: &dyn Store,
        id: ConversationId,
        clock: &Clock,
    ) -> Result<(Loaded, Rows), StoreError> {
        let log = LogId::conversation(id);
        let Some(head) = store.head(log).await? else {
            let state = State::empty(Generation::new(clock.now(), random()));
            return Ok((Loaded::of(state, MemberMap::new()), Rows::new()));
        };
        let mut members = MemberMap::new();
        let mut state = State::empty(head.generation);
        if let Some(snapshot) = store.read_state(log).await? {
            state = decode_state(&snapshot.state).map_err(|error| damaged(id, &error))?;
            state.generation = head.generation;
            read_members(store, log, id, &mut members).await?;
            // Where others write too: members are those of this state only if there is no newer one.
            let after = store.read_state(log).await?.map(|after| after.seq);
            if after != Some(snapshot.seq) {
                return Err(StoreError::Damaged(format!(
                    "{id}: its state changed while it was read"
                )));
            }
        }
        let written = state.seq;
        let mut loaded = Loaded::of(state, members);
        loaded.written = written;
        loaded.trimmed = head.trimmed;
        while loaded.state.seq < head.seq {
            let page = store
                .read(
                    log,
                    ReadLog {
                        from: loaded.state.seq + 1,
                        direction: Direction::Forwards,
                        limit: READ_PAGE,
                        bytes_max: usize::MAX,
                        want: Want::Entries,
                    },
                )
                .await?;
            if page.entries.is_empty() {
                return Err(StoreError::Damaged(format!(
                    "{id}: no entry after {}",
                    loaded.state.seq
                )));
            }
            for entry in &page.entries {
                loaded.apply(entry).map_err(|error| damaged(id, &error))?;
            }
        }
        let rows = loaded.read_marks(store, log).await?;
        loaded.sum_told(id);
        Ok((loaded, rows))
    }

    fn of(state: State, members: MemberMap) -> Loaded {
        Loaded {
            state,
            members,
            marks: HashMap::new(),
            trimmed: 0,
            written: 0,
            changed: BTreeSet::new(),
            tail: VecDeque::new(),
            lookers: HashMap::new(),
            diffusion: Diffusion::default(),
            diffusion_is_old: false,
            untold: BTreeSet::new(),
            heard: BTreeSet::new(),
            settled: 0,
            pushed: 0,
            steps_due: BTreeMap::new(),
            telling: false,
            stepping: false,
            trimming: false,
            handle: Cell::default(),
            head_part: Cell::default(),
            told_sum: Part::default(),
        }
    }

    async fn read_marks(&mut self, store: &dyn Store, log: LogId) -> Result<Rows, StoreError> {
        let mut rows = Rows::new();
        let mut after = None;
        loop {
            let page = store.marks_of_log(log, after, READ_PAGE).await?;
            let Some(last) = page.last() else {
                return Ok(rows);
            };
            after = Some(last.owner);
            for mark in &page {
                if mark.kind == MarkKind::Head {
                    self.diffusion.note(mark);
                }
                if mark.lane != 0 {
                    continue;
                }
                let user = UserId(mark.owner);
                // Devices have marks in the same log: they are no members.
                if !self.members.contains_key(&user) {
                    continue;
                }
                if matches!(
                    mark.kind,
                    MarkKind::Joined | MarkKind::Left | MarkKind::Head
                ) {
                    rows.insert((mark.owner, mark.kind), mark.value.seq);
                }
                let marks = self.marks.entry(user).or_default();
                marks.take(mark);
                marks.told = MemberMarks {
                    delivered: marks.delivered,
                    shown: marks.shown,
                };
            }
        }
    }

    /// Applies the next committed entry.
    pub(super) fn apply(
        &mut self,
        entry: &Entry,
    ) -> Result<(), tidings_core::conversation::ApplyError> {
        apply(&mut self.state, &mut self.members, entry)?;
        let envelope = &entry.envelope;
        if envelope.counts {
            self.changed.insert(envelope.author);
        }
        if envelope.kind.changes_members() {
            self.changed.extend(subjects(entry));
        }
        if self.tail.len() == TAIL_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(Brief {
            seq: envelope.seq,
            author: envelope.author,
            counts: envelope.counts,
            ordinal: envelope.ordinal,
        });
        Ok(())
    }

    /// The stored form of the state with the members that changed since the last one.
    pub(super) fn snapshot(&self) -> StateSnapshot {
        let members = self
            .changed
            .iter()
            .filter_map(|user| {
                self.members
                    .get(user)
                    .map(|member| (*user, encode_member(member)))
            })
            .collect();
        StateSnapshot {
            seq: self.state.seq,
            state: encode_state(&self.state),
            members,
        }
    }

    /// The state up to `seq` is on the disk.
    pub(super) fn was_written(&mut self, seq: Seq) {
        self.written = self.written.max(seq);
        if seq == self.state.seq {
            self.changed.clear();
        }
    }

    /// Entries are committed with all that belongs to them.
    pub(super) fn was_settled(&mut self, entries: &[Entry]) {
        if let (Some(first), Some(last)) = (entries.first(), entries.last())
            && first.seq() <= self.settled + 1
        {
            self.settled = self.settled.max(last.seq());
        }
    }

    /// The member, if it is in.
    pub(super) fn member_in(&self, user: UserId) -> Option<&Member> {
        self.members.get(&user).filter(|member| member.is_in())
    }

    /// Those who are in.
    pub(super) fn present(&self) -> impl Iterator<Item = (UserId, &Member)> {
        self.members
            .iter()
            .filter(|(_, member)| member.is_in())
            .map(|(user, member)| (*user, member))
    }

    /// Whether everybody is told everybody's marks.
    pub(super) fn tells_marks(&self) -> bool {
        self.state.member_count <= TELL_MARKS_MEMBERS_MAX
    }

    /// Whether marks are told at once rather than gathered.
    pub(super) fn tells_at_once(&self) -> bool {
        self.state.kind == ConversationKind::Direct
    }

    pub(super) fn marks_of(&self, user: UserId) -> UserMarks {
        self.marks.get(&user).copied().unwrap_or_default()
    }

    /// How far everybody else is, as seen by one member of a large group, who may be shown how far they have
    /// read or not.
    pub(super) fn ticks_for(
        &self,
        conversation: ConversationId,
        user: UserId,
        is_shown: bool,
    ) -> Option<Ticks> {
        if self.tells_marks() {
            return None;
        }
        let others = self
            .present()
            .filter(|(other, _)| *other != user)
            .map(|(other, _)| self.marks_of(other));
        let (mut delivered, mut shown) = (Seq::MAX, Seq::MAX);
        for marks in others {
            delivered = delivered.min(marks.delivered);
            shown = shown.min(marks.shown);
        }
        (delivered < Seq::MAX).then_some(Ticks {
            conversation,
            delivered,
            shown: if is_shown { shown } else { 0 },
        })
    }

    /// Whether something of it is nowhere but here: it cannot be forgotten now.
    pub(super) fn has_unfinished(&self) -> bool {
        !self.untold.is_empty() || !self.steps_due.is_empty() || self.trimming || self.telling
    }
}

/// Whom a membership entry is about.
pub(super) fn subjects(entry: &Entry) -> Vec<UserId> {
    use tidings_core::Body;
    match &entry.body {
        Body::Create { members, .. } => members.iter().map(|(user, _)| *user).collect(),
        Body::Join { users, .. } => users.clone(),
        Body::Leave => vec![entry.envelope.author],
        Body::Remove { user } | Body::Role { user, .. } => vec![*user],
        _ => Vec::new(),
    }
}

/// About how many bytes an entry's content has on the wire.
pub(super) fn content_bytes(entry: &Entry) -> usize {
    use tidings_core::Body;
    use tidings_core::entry::Content;
    match &entry.body {
        Body::Message(content) | Body::Edit(content) => match content {
            Content::Text(text) => {
                let attachments = text.attachments.iter().map(|attachment| {
                    attachment.reference.len()
                        + attachment.name.len()
                        + attachment.media_type.len()
                        + 64
                });
                text.text.len() + text.mentions.len() * 30 + attachments.sum::<usize>()
            }
            Content::Opaque(opaque) => opaque.bytes.len() * 4 / 3 + opaque.content_type.len(),
        },
        Body::Create { members, .. } => members.len() * 60,
        Body::Join { users, .. } => users.len() * 30,
        Body::Commit(opaque) => opaque.bytes.len() * 4 / 3,
        _ => 0,
    }
}

async fn read_members(
    store: &dyn Store,
    log: LogId,
    id: ConversationId,
    members: &mut MemberMap,
) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let page = store
            .read_members(
                log,
                MemberQuery::From {
                    after,
                    limit: READ_PAGE,
                },
            )
            .await?;
        let Some((last, _)) = page.last() else {
            return Ok(());
        };
        after = Some(*last);
        for (user, bytes) in page {
            members.insert(
                user,
                decode_member(&bytes).map_err(|error| damaged(id, &error))?,
            );
        }
    }
}

fn damaged(id: ConversationId, error: &dyn std::error::Error) -> StoreError {
    StoreError::Damaged(format!("{id}: {error}"))
}
