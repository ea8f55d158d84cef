//! What this device knows of one conversation: what the server said of it, and how far this device is.

use std::collections::BTreeMap;

use tidings_core::log::Seq;
use tidings_core::mark::{MarkValue, unread};
use tidings_core::{ConversationId, Generation, Time, UserId};
use tidings_protocol::entry::{ConversationKind, Entry, Role, Settings};
use tidings_protocol::mark::MemberMarks;
use tidings_protocol::sync::{Member, ReadMark};

use crate::clock::Tick;
use crate::ranges::Ranges;
use crate::rows::{ConversationRow, LastRow, MemberRow, PositionRow};

/// Up to how many members everybody is told everybody's marks.
pub(crate) const TOLD_MEMBERS_MAX: u32 = 32;

/// A request for history that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fetch {
    /// The newest page, where nothing is here yet.
    Newest,
    /// What follows the position (or only whether it is still a place of this log).
    After(Seq),
    /// What comes before the range that the position is in: it is still owed to this user.
    Owed(Seq),
    /// For a timeline: before this seq.
    Before(Seq),
    /// For a timeline: after this seq.
    Later(Seq),
    /// For a timeline: around this seq.
    Around(Seq),
}

#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    pub(crate) id: ConversationId,
    pub(crate) kind: ConversationKind,
    /// All zeroes as long as the server has said nothing of it.
    pub(crate) generation: Generation,
    pub(crate) is_in: bool,

    // As of the head that the server told, by a summary or by entries that followed on it.
    pub(crate) head: Seq,
    pub(crate) ordinal: u64,
    pub(crate) at: Time,
    pub(crate) membership_seq: Seq,
    pub(crate) epoch: u64,
    pub(crate) settings: Settings,
    pub(crate) member_count: u32,
    pub(crate) members: BTreeMap<UserId, MemberRow>,
    pub(crate) role: Role,
    pub(crate) joined: ReadMark,
    pub(crate) own: u64,
    pub(crate) trimmed: Seq,
    pub(crate) from: Seq,
    pub(crate) last: Option<LastRow>,
    /// The other of a direct conversation.
    pub(crate) other: Option<UserId>,

    // Marks.
    /// My read mark as the server said last, and the highest known.
    pub(crate) read_told: ReadMark,
    pub(crate) read_best: ReadMark,
    /// This device's mark as far as the server has confirmed it.
    pub(crate) device_told: Seq,
    /// Summed ticks of a large group.
    pub(crate) ticks: MemberMarks,
    /// As far as the user has read here.
    pub(crate) read_wanted: Seq,
    /// What was sent over this connection and not confirmed yet: delivered, read.
    pub(crate) sent_marks: (Seq, Seq),
    pub(crate) raised: Time,

    // How far this device is.
    pub(crate) ranges: Ranges,
    pub(crate) position: Seq,
    pub(crate) hash: Option<u32>,
    /// The position that is durable here, and where its range begins.
    pub(crate) stored: Seq,
    pub(crate) stored_from: Seq,
    /// Everything above this is owed to this device: acknowledged only once it is here without a gap.
    pub(crate) owed_above: Seq,
    /// Some entries up to here were trimmed before this device saw them.
    pub(crate) blind_to: Seq,
    /// The user came in (again) above the position.
    pub(crate) comes_back: Option<ComesBack>,

    // Requests.
    pub(crate) fetching: Option<Fetch>,
    /// Not before this tick.
    pub(crate) fetch_at: Tick,
    /// The position must be shown to be one of this log although the head says nothing new.
    pub(crate) verify: bool,
    pub(crate) summary_wanted: bool,
    pub(crate) summary_asked: bool,
    /// In which pass over the inbox it was seen last.
    pub(crate) seen_in_pass: u64,
}

/// By which entry the user came in, and the first that it may see since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ComesBack {
    pub(crate) seq: Seq,
    pub(crate) from: Seq,
}

impl Conversation {
    pub(crate) fn unknown(id: ConversationId) -> Conversation {
        Conversation {
            id,
            kind: ConversationKind::Direct,
            generation: Generation([0; 16]),
            is_in: false,
            head: 0,
            ordinal: 0,
            at: Time(0),
            membership_seq: 0,
            epoch: 0,
            settings: Settings::default(),
            member_count: 0,
            members: BTreeMap::new(),
            role: Role::Member,
            joined: ReadMark::default(),
            own: 0,
            trimmed: 0,
            from: 0,
            last: None,
            other: None,
            read_told: ReadMark::default(),
            read_best: ReadMark::default(),
            device_told: 0,
            ticks: MemberMarks::default(),
            read_wanted: 0,
            sent_marks: (0, 0),
            raised: Time(0),
            ranges: Ranges::default(),
            position: 0,
            hash: None,
            stored: 0,
            stored_from: 0,
            owed_above: 0,
            blind_to: 0,
            comes_back: None,
            fetching: None,
            fetch_at: 0,
            verify: false,
            summary_wanted: false,
            summary_asked: false,
            seen_in_pass: 0,
        }
    }

    /// Whether the server has ever said anything of it.
    pub(crate) fn is_known(&self) -> bool {
        self.generation.0 != [0; 16]
    }

    pub(crate) fn tells_marks(&self) -> bool {
        self.member_count <= TOLD_MEMBERS_MAX
    }

    /// Messages by others that the user has not read.
    pub(crate) fn unread(&self) -> u64 {
        if self.read_best.seq >= self.head {
            return 0;
        }
        let base = if self.read_best.seq > self.joined.seq {
            self.read_best
        } else {
            self.joined
        };
        let base = MarkValue {
            seq: base.seq,
            ordinal: base.ordinal,
            own: base.own,
            at: Time(0),
        };
        unread(self.ordinal, self.own, base)
    }

    /// As far as this device may acknowledge: what is durable here, without a gap down to where others of
    /// the user's devices have acknowledged.
    pub(crate) fn acknowledgeable(&self) -> Seq {
        if self.stored_from <= self.owed_above.saturating_add(1) {
            self.stored
        } else {
            0
        }
    }

    /// Notes by which of these entries, above the position, the user came in.
    pub(crate) fn note_coming_back(&mut self, entries: &[Entry], me: UserId) {
        for entry in entries.iter().filter(|entry| entry.seq > self.position) {
            if let Some(join) = entry.join.as_ref().filter(|join| join.users.contains(&me)) {
                let known = self.comes_back.map_or(join.from, |back| back.from);
                self.comes_back = Some(ComesBack {
                    seq: entry.seq,
                    from: join.from.min(known),
                });
            }
        }
    }

    /// The range that the position is in begins here.
    pub(crate) fn range_from(&self) -> Seq {
        self.ranges
            .around(self.position)
            .map_or(self.position.saturating_add(1), |range| range.0)
    }

    /// How far everyone else is, for the ticks of an own message: `None` without recipients.
    pub(crate) fn ticks_at(&self, me: UserId, seq: Seq) -> Option<MemberMarks> {
        if !self.tells_marks() {
            return Some(self.ticks);
        }
        let recipients = self
            .members
            .values()
            .filter(|member| member.user != me && member.joined <= seq);
        recipients
            .map(|member| member.best)
            .reduce(|a, b| MemberMarks {
                delivered: a.delivered.min(b.delivered),
                shown: a.shown.min(b.shown),
            })
    }

    /// Takes a member as the server says it is, keeping the highest marks that it ever told.
    pub(crate) fn set_members(&mut self, members: &[Member]) {
        let before = std::mem::take(&mut self.members);
        for member in members.iter().take(TOLD_MEMBERS_MAX as usize) {
            let known = before
                .get(&member.user)
                .map_or(MemberMarks::default(), |known| known.best);
            let best = MemberMarks {
                delivered: known.delivered.max(member.marks.delivered),
                shown: known.shown.max(member.marks.shown),
            };
            let row = MemberRow {
                user: member.user,
                role: member.role,
                joined: member.joined,
                told: member.marks,
                best,
            };
            self.members.insert(member.user, row);
        }
    }

    /// Forgets what this device has of the log: it is another log now.
    pub(crate) fn reset(&mut self) {
        let forgotten = Conversation::unknown(self.id);
        *self = Conversation {
            kind: self.kind,
            is_in: self.is_in,
            settings: self.settings.clone(),
            member_count: self.member_count,
            role: self.role,
            other: self.other,
            at: self.at,
            fetch_at: self.fetch_at,
            summary_wanted: self.summary_wanted,
            summary_asked: self.summary_asked,
            seen_in_pass: self.seen_in_pass,
            ..forgotten
        };
    }

    pub(crate) fn to_row(&self) -> ConversationRow {
        ConversationRow {
            kind: self.kind,
            generation: self.generation,
            is_in: self.is_in,
            head: self.head,
            ordinal: self.ordinal,
            at: self.at,
            trimmed: self.trimmed,
            from: self.from,
            membership_seq: self.membership_seq,
            epoch: self.epoch,
            settings: self.settings.clone(),
            member_count: self.member_count,
            members: self.members.values().copied().collect(),
            role: self.role,
            read_told: self.read_told,
            read_best: self.read_best,
            device_told: self.device_told,
            joined: self.joined,
            own: self.own,
            last: self.last.clone(),
            other: self.other,
        }
    }

    pub(crate) fn to_position_row(&self) -> PositionRow {
        PositionRow {
            generation: self.generation,
            position: self.position,
            hash: self.hash,
            ranges: self.ranges.clone(),
            owed_above: self.owed_above,
            blind_to: self.blind_to,
            read_wanted: self.read_wanted,
            raised: self.raised,
        }
    }

    /// From what was stored. Where the two rows do not fit, the log is fetched anew.
    pub(crate) fn from_rows(
        id: ConversationId,
        row: ConversationRow,
        place: Option<PositionRow>,
    ) -> Conversation {
        let mut conversation = Conversation {
            kind: row.kind,
            generation: row.generation,
            is_in: row.is_in,
            head: row.head,
            ordinal: row.ordinal,
            at: row.at,
            trimmed: row.trimmed,
            from: row.from,
            membership_seq: row.membership_seq,
            epoch: row.epoch,
            settings: row.settings,
            member_count: row.member_count,
            members: row
                .members
                .into_iter()
                .map(|member| (member.user, member))
                .collect(),
            role: row.role,
            read_told: row.read_told,
            read_best: row.read_best,
            device_told: row.device_told,
            joined: row.joined,
            own: row.own,
            last: row.last,
            other: row.other,
            ..Conversation::unknown(id)
        };
        if let Some(place) =
            place.filter(|place| place.generation == row.generation && place.ranges.is_sound())
        {
            conversation.position = place.position;
            conversation.stored = place.position;
            conversation.hash = place.hash;
            conversation.ranges = place.ranges;
            conversation.stored_from = conversation.range_from();
            conversation.owed_above = place.owed_above;
            conversation.blind_to = place.blind_to;
            conversation.read_wanted = place.read_wanted;
            conversation.raised = place.raised;
        }
        conversation
    }
}
