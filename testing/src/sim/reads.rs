//! What the simulated server answers: summaries, the inbox, pages of history.

use tidings_core::conversation::Member;
use tidings_core::log::{LogId, Seq};
use tidings_core::mark::{MarkKind, MarkValue, unread};
use tidings_core::{Body, ConversationId, Entry, Kind, UserId};
use tidings_protocol::convert::{entry_to_wire, kind_to_wire, role_to_wire, settings_to_wire};
use tidings_protocol::sync::{
    Alteration, Conversation as Summary, ConversationFrame, ConversationRequest, HistoryPage,
    HistoryRequest, InboxPage, InboxRequest, Member as WireMember, ReactionSum, ReadMark,
};
use tidings_protocol::{Code, Problem};
use tidings_store::{Alterations, Direction, Store, Want};

use super::server::{Caller, Server, ready};

/// Small pages, so that paging happens.
const INBOX_PAGE: usize = 2;
const HISTORY_PAGE: usize = 7;

impl Server {
    pub(super) fn summary(
        &mut self,
        id: ConversationId,
        user: UserId,
        caller: Option<Caller>,
    ) -> Option<Summary> {
        let log = LogId::conversation(id);
        let device = caller.map_or(0, |caller| {
            let marks = ready(self.store.marks(log, caller.device.0)).expect("marks are read");
            marks
                .iter()
                .find(|mark| mark.kind == MarkKind::Device)
                .map_or(0, |mark| mark.value.seq)
        });
        let last = self.last_message(id, user);
        let hot = self.hot(id);
        let member = hot.member_in(user)?;
        let (state, marks) = (&hot.state, hot.marks_of(user));
        let members =
            hot.members
                .iter()
                .filter(|(_, member)| member.is_in())
                .map(|(user, member)| WireMember {
                    user: *user,
                    role: role_to_wire(member.role),
                    joined: member.joined.seq,
                    marks: hot.marks_of(*user).told,
                });
        Some(Summary {
            conversation: id,
            kind: kind_to_wire(state.kind),
            generation: state.generation,
            head: state.seq,
            ordinal: state.ordinal,
            at: state.at,
            trimmed: hot.trimmed,
            from: member.first_visible()?,
            membership_seq: state.membership_seq,
            epoch: state.epoch,
            settings: settings_to_wire(&state.settings),
            member_count: state.member_count,
            members: members.collect(),
            role: role_to_wire(member.role),
            read: marks.read.into(),
            delivered: marks.delivered,
            device,
            joined: ReadMark::from(member.joined),
            own: member.own,
            unread: unread(state.ordinal, member.own, base(marks.read, member.joined)),
            last,
        })
    }

    fn last_message(
        &mut self,
        id: ConversationId,
        user: UserId,
    ) -> Option<tidings_protocol::entry::Entry> {
        let head = self.hot(id).state.seq;
        let newest = self.read(id, head, Direction::Backwards, 16, Want::Entries);
        let now = self.now;
        let member = self.hot(id).member_in(user)?;
        let shown = |entry: &&Entry| {
            entry.envelope.kind == Kind::Message
                && entry.body != Body::Erased
                && entry.envelope.expires.is_none_or(|expires| expires > now)
                && member.may_see(entry.seq())
        };
        newest
            .iter()
            .find(shown)
            .map(|entry| entry_to_wire(entry, entry.envelope.author == user))
    }

    pub(super) fn inbox(
        &mut self,
        caller: Caller,
        request: &InboxRequest,
    ) -> Result<InboxPage, Problem> {
        let mut heads: Vec<(u64, ConversationId)> = self
            .conversations_of(caller.user)
            .into_iter()
            .map(|id| (self.hot(id).state.at.0, id))
            .collect();
        heads.sort_unstable_by(|a, b| b.cmp(a));
        if let Some((at, id)) = request
            .cursor
            .as_deref()
            .and_then(|cursor| cursor.split_once('.'))
        {
            let below = (
                at.parse().unwrap_or(0),
                id.parse().map_err(|_| Problem::new(Code::Invalid))?,
            );
            heads.retain(|head| *head < below);
        }
        let next = (heads.len() > INBOX_PAGE).then(|| heads[INBOX_PAGE - 1]);
        heads.truncate(INBOX_PAGE);
        let conversations = heads
            .into_iter()
            .filter_map(|(_, id)| self.summary(id, caller.user, Some(caller)))
            .collect();
        let next = next.map(|(at, id)| format!("{at}.{id}"));
        Ok(InboxPage {
            id: request.id,
            conversations,
            next,
        })
    }

    pub(super) fn conversation(
        &mut self,
        caller: Caller,
        request: &ConversationRequest,
    ) -> Result<ConversationFrame, Problem> {
        let summary = self.summary(request.conversation, caller.user, Some(caller));
        let conversation = summary.ok_or_else(|| Problem::new(Code::NotFound))?;
        Ok(ConversationFrame {
            id: Some(request.id),
            conversation,
        })
    }

    pub(super) fn history(
        &mut self,
        caller: Caller,
        request: &HistoryRequest,
    ) -> Result<HistoryPage, Problem> {
        let id = request.conversation;
        self.check_position(caller, request)?;
        let hot = self.hot(id);
        let (head, trimmed, generation) = (hot.state.seq, hot.trimmed, hot.state.generation);
        let member = hot
            .member_in(caller.user)
            .ok_or_else(|| Problem::new(Code::NotFound))?
            .clone();
        let first = member.first_visible().unwrap_or(1).max(trimmed + 1);
        let (from, to, mut entries, more) = match (request.after, request.before, request.around) {
            (Some(after), ..) => self.page_after(id, after, head, first, HISTORY_PAGE),
            (_, Some(before), _) => self.page_before(id, before, head, first, HISTORY_PAGE),
            (.., Some(around)) => {
                let around = around.clamp(1, head.max(1));
                let (from, _, mut entries, older) =
                    self.page_before(id, around, head, first, HISTORY_PAGE / 2);
                let (_, to, after, newer) =
                    self.page_after(id, around - 1, head, first, HISTORY_PAGE - HISTORY_PAGE / 2);
                entries.extend(after);
                (from, to, entries, older || newer)
            }
            _ => return Err(Problem::new(Code::Invalid)),
        };
        entries.retain(|entry| member.may_see(entry.seq()));
        let now = self.now;
        for entry in &mut entries {
            if entry.envelope.expires.is_some_and(|expires| expires <= now) {
                entry.body = Body::Erased;
            }
        }
        let alterations = self.alterations(id, &entries, caller.user, &member, head);
        let entries = entries
            .iter()
            .map(|entry| entry_to_wire(entry, entry.envelope.author == caller.user))
            .collect();
        Ok(HistoryPage {
            id: request.id,
            conversation: id,
            generation,
            from,
            to,
            entries,
            alterations,
            head,
            trimmed,
            more,
        })
    }

    fn check_position(&mut self, caller: Caller, request: &HistoryRequest) -> Result<(), Problem> {
        let id = request.conversation;
        let hot = self.hot(id);
        hot.member_in(caller.user)
            .ok_or_else(|| Problem::new(Code::NotFound))?;
        if request
            .generation
            .is_some_and(|generation| generation != hot.state.generation)
        {
            return Err(Problem::new(Code::Reset));
        }
        let Some(after) = request.after.filter(|after| *after > 0) else {
            return Ok(());
        };
        if request.generation.is_some() && after < hot.trimmed || after > hot.state.seq {
            return Err(Problem::new(Code::Reset));
        }
        let entry = self
            .read(id, after, Direction::Forwards, 1, Want::Envelopes)
            .pop();
        match (request.hash, entry) {
            (Some(hash), Some(entry))
                if entry.seq() == after && entry.envelope.short_hash() != hash =>
            {
                Err(Problem::new(Code::Reset))
            }
            _ => Ok(()),
        }
    }

    fn page_after(
        &self,
        id: ConversationId,
        after: Seq,
        head: Seq,
        first: Seq,
        limit: usize,
    ) -> (Seq, Seq, Vec<Entry>, bool) {
        let from = after + 1;
        if after >= head {
            return (from, after, Vec::new(), false);
        }
        let entries = self.read(
            id,
            from.max(first),
            Direction::Forwards,
            limit,
            Want::Entries,
        );
        let to = if entries.len() < limit {
            head
        } else {
            entries.last().map_or(head, Entry::seq)
        };
        (from, to, entries, to < head)
    }

    fn page_before(
        &self,
        id: ConversationId,
        before: Seq,
        head: Seq,
        first: Seq,
        limit: usize,
    ) -> (Seq, Seq, Vec<Entry>, bool) {
        let to = before.saturating_sub(1).min(head);
        if to < first || limit == 0 {
            let from = if limit == 0 { to + 1 } else { 1 };
            return (from, to, Vec::new(), false);
        }
        let mut entries = self.read(id, to, Direction::Backwards, limit, Want::Entries);
        entries.retain(|entry| entry.seq() >= first);
        entries.reverse();
        let lowest = entries.first().map_or(first, Entry::seq);
        let more = lowest > first;
        (if more { lowest } else { 1 }, to, entries, more)
    }

    fn alterations(
        &mut self,
        id: ConversationId,
        entries: &[Entry],
        reader: UserId,
        member: &Member,
        head: Seq,
    ) -> Vec<Alteration> {
        let targets = entries
            .iter()
            .filter(|entry| entry.envelope.kind == Kind::Message)
            .map(Entry::seq)
            .collect();
        let found = ready(self.store.alterations(LogId::conversation(id), targets))
            .expect("alterations are read");
        let mut alterations = Vec::new();
        for one in found {
            let deleted = one.deleted.filter(|seq| *seq <= head);
            let edit = one
                .edits
                .iter()
                .rev()
                .find(|seq| member.may_see(**seq))
                .filter(|_| deleted.is_none());
            let edit = edit.and_then(|seq| {
                self.read(id, *seq, Direction::Forwards, 1, Want::Entries)
                    .pop()
            });
            let edit =
                edit.map(|entry| Box::new(entry_to_wire(&entry, entry.envelope.author == reader)));
            alterations.push(Alteration {
                target: one.target,
                edit,
                deleted,
                reactions: sums(&one, reader),
            });
        }
        alterations
    }
}

/// Unread is counted from the later of the read mark and the last joining.
pub(super) fn base(read: MarkValue, joined: MarkValue) -> MarkValue {
    if read.seq > joined.seq { read } else { joined }
}

fn sums(alterations: &Alterations, reader: UserId) -> Vec<ReactionSum> {
    let mut sums: Vec<ReactionSum> = Vec::new();
    for (emoji, user, _) in &alterations.reactions {
        match sums.last_mut().filter(|sum| sum.emoji == *emoji) {
            Some(sum) => {
                sum.count += 1;
                sum.mine |= *user == reader;
            }
            None => sums.push(ReactionSum {
                emoji: emoji.clone(),
                count: 1,
                mine: *user == reader,
            }),
        }
    }
    sums
}
