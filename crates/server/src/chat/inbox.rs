//! Conversations as one of their members has them: the inbox, one of them, its members.
//!
//! In: `inbox`, `conversation` and `members` requests. Next: the answer goes back the way it came; the
//! client then asks for the `history` of what it lacks.

use std::collections::HashMap;
use std::sync::Arc;

use tidings_core::conversation::Retention as KeptFor;
use tidings_core::entry::{Content, Entry};
use tidings_core::log::{LogId, Seq};
use tidings_core::mark::{MarkKind, MarkValue, unread};
use tidings_core::{Body, ConversationId, Kind, UserId};
use tidings_protocol::convert::{entry_to_wire, kind_to_wire, role_to_wire, settings_to_wire};
use tidings_protocol::entry::{Entry as WireEntry, Retention, Settings};
use tidings_protocol::mark::MemberMarks;
use tidings_protocol::sync::{
    Conversation as Summary, ConversationFrame, ConversationRequest, InboxPage, InboxRequest,
    Member, MembersPage, MembersRequest, ReadMark,
};
use tidings_protocol::{Code, Problem};
use tidings_store::{Direction, ReadLog, Want};

use super::loaded::Loaded;
use super::{Chat, Conversation, problem_of_store};
use crate::session::Caller;

/// How far back a conversation's last message is looked for: behind that there are only reactions and joins.
const LAST_SEARCHED: usize = 16;
const LAST_BYTES_MAX: usize = 64 * 1024;
/// How much of the last message a list shows …
const LAST_CHARS_MAX: usize = 300;
/// … if it can be shortened; opaque content is given whole or not at all.
const LAST_OPAQUE_BYTES_MAX: usize = 4 * 1024;
/// Entries that are counted one by one where counting starts at the trimmed mark.
const COUNTED_MAX: u64 = 5_000;

/// A conversation as a member has it, without what needs the store: this device's mark and the last message.
/// `None` if the user is not in. `is_shown`: it may see how far others have read.
pub(super) fn summary(
    id: ConversationId,
    loaded: &Loaded,
    user: UserId,
    is_shown: bool,
) -> Option<Summary> {
    let member = loaded.member_in(user)?;
    let state = &loaded.state;
    let marks = loaded.marks_of(user);
    let members = if loaded.tells_marks() {
        loaded
            .present()
            .map(|(member, _)| member_to_wire(loaded, member, is_shown || member == user))
            .collect::<Option<_>>()?
    } else {
        Vec::new()
    };
    let settings = settings_to_wire(&state.settings);
    let may_invite = state.settings.invite.allows(member.role);
    Some(Summary {
        conversation: id,
        kind: kind_to_wire(state.kind),
        generation: state.generation,
        head: state.seq,
        ordinal: state.ordinal,
        at: state.at,
        trimmed: loaded.trimmed,
        from: member.first_visible()?,
        membership_seq: state.membership_seq,
        epoch: state.epoch,
        settings: if may_invite {
            settings
        } else {
            Settings {
                invite_link: None,
                ..settings
            }
        },
        member_count: state.member_count,
        members,
        role: role_to_wire(member.role),
        read: marks.read.into(),
        delivered: marks.delivered,
        device: 0,
        joined: ReadMark::from(member.joined),
        own: member.own,
        unread: unread(
            state.ordinal,
            member.own,
            unread_base(marks.read, member.joined),
        ),
        last: None,
    })
}

/// Unread is counted from the later of the read mark and the last joining.
pub(super) fn unread_base(read: MarkValue, joined: MarkValue) -> MarkValue {
    if read.seq > joined.seq { read } else { joined }
}

fn member_to_wire(loaded: &Loaded, user: UserId, is_shown: bool) -> Option<Member> {
    let member = loaded.member_in(user)?;
    let marks = loaded.marks_of(user);
    // Where marks are told, what was told: a client's digest is made from this.
    let marks = if loaded.tells_marks() {
        marks.told
    } else {
        MemberMarks {
            delivered: marks.delivered,
            shown: marks.shown,
        }
    };
    Some(Member {
        user,
        role: role_to_wire(member.role),
        joined: member.joined.seq,
        marks: MemberMarks {
            delivered: marks.delivered,
            shown: if is_shown { marks.shown } else { 0 },
        },
    })
}

impl Chat {
    /// A page of the caller's conversations, newest first.
    ///
    /// # Errors
    /// When the cursor is not one of ours, or the store fails.
    pub async fn inbox(
        self: &Arc<Self>,
        caller: Caller,
        request: InboxRequest,
    ) -> Result<InboxPage, Problem> {
        let below = match request.cursor.as_deref() {
            Some(text) => Some(
                parse_cursor(text).ok_or_else(|| Problem::new(Code::Invalid).detail("cursor"))?,
            ),
            None => None,
        };
        let max = self.settings.inbox_page_max;
        let limit = request
            .limit
            .map_or(max, |limit| limit as usize)
            .clamp(1, max);
        let mut heads = Vec::new();
        let mut in_rows = HashMap::new();
        for row in self.rows_of(caller.user).await? {
            let at = match row.head {
                Some(head) => {
                    in_rows.insert(row.id, head.seq);
                    Some(head.at)
                }
                None => self
                    .store
                    .head(LogId::conversation(row.id))
                    .await
                    .map_err(problem_of_store)?
                    .map(|head| head.at),
            };
            heads.extend(at.map(|at| (at.0, row.id)));
        }
        heads.sort_unstable_by(|a, b| b.cmp(a));
        let first = below.map_or(0, |below| heads.partition_point(|head| *head >= below));
        let page = heads.get(first..).unwrap_or_default();
        let next = (page.len() > limit)
            .then(|| page.get(limit - 1).map(write_cursor))
            .flatten();
        let mut conversations = Vec::with_capacity(page.len().min(limit));
        for (_, id) in page.iter().take(limit) {
            // Who was removed between the two reads is not told of it here.
            if let Some(summary) = self
                .full_summary(caller, *id, in_rows.get(id).copied())
                .await?
            {
                conversations.push(summary);
            }
        }
        Ok(InboxPage {
            id: request.id,
            conversations,
            next,
        })
    }

    /// One conversation of the caller's.
    ///
    /// # Errors
    /// `not_found` when there is none or the caller is not in it.
    pub async fn conversation(
        self: &Arc<Self>,
        caller: Caller,
        request: ConversationRequest,
    ) -> Result<ConversationFrame, Problem> {
        let summary = self
            .full_summary(caller, request.conversation, None)
            .await?;
        let conversation = summary.ok_or_else(|| Problem::new(Code::NotFound))?;
        Ok(ConversationFrame {
            id: Some(request.id),
            conversation,
        })
    }

    async fn full_summary(
        self: &Arc<Self>,
        caller: Caller,
        id: ConversationId,
        head_in_row: Option<Seq>,
    ) -> Result<Option<Summary>, Problem> {
        let opened = self.open_hot_for(caller.user, id).await;
        let conversation = match opened {
            Ok(conversation) => conversation,
            Err(problem) if problem.code == Code::NotFound => return Ok(None),
            Err(problem) => return Err(problem),
        };
        // Nobody trims what is kept for ever, so there the head in the row says all.
        let is_level = conversation.try_loaded().is_some_and(|loaded| {
            head_in_row.is_some_and(|head| head <= loaded.state.seq)
                && loaded.state.settings.retention == KeptFor::Forever
        });
        if !is_level {
            self.level(&conversation).await?;
        }
        let device = self
            .store
            .marks(conversation.log(), caller.device.0)
            .await
            .map_err(problem_of_store)?;
        let is_shown = self.users.is_shown(caller.user).await?;
        let Some(mut summary) = conversation
            .try_loaded()
            .and_then(|loaded| summary(id, &loaded, caller.user, is_shown))
        else {
            return Ok(None);
        };
        summary.device = device
            .iter()
            .find(|mark| mark.kind == MarkKind::Device)
            .map_or(0, |mark| mark.value.seq);
        self.count_from_trimmed(&conversation, caller.user, &mut summary)
            .await?;
        self.add_last(&conversation, caller.user, &mut summary)
            .await?;
        Ok(Some(summary))
    }

    /// Where messages are kept for some days only, counting starts at the trimmed mark: the place that the
    /// summary gives as that of joining moves there.
    async fn count_from_trimmed(
        &self,
        conversation: &Conversation,
        user: UserId,
        summary: &mut Summary,
    ) -> Result<(), Problem> {
        let trimmed = summary.trimmed;
        let base = summary.read.seq.max(summary.joined.seq);
        let days = matches!(summary.settings.retention, Retention::Days(_));
        // Beyond this a badge says 999+ either way.
        if !days || base >= trimmed || summary.head - trimmed > COUNTED_MAX {
            return Ok(());
        }
        let counted = self
            .count(conversation, user, trimmed + 1, summary.head)
            .await?;
        summary.joined = ReadMark {
            seq: trimmed,
            ordinal: summary.ordinal.saturating_sub(counted.all),
            own: summary.own.saturating_sub(counted.own),
        };
        summary.unread = counted.all.saturating_sub(counted.own);
        Ok(())
    }

    /// The last message that can be shown in a list, with its last edit, shortened: not for keeping.
    async fn add_last(
        &self,
        conversation: &Conversation,
        user: UserId,
        summary: &mut Summary,
    ) -> Result<(), Problem> {
        // Most often it is the last entry.
        for limit in [1, LAST_SEARCHED] {
            let read = ReadLog {
                from: summary.head,
                direction: Direction::Backwards,
                limit,
                bytes_max: LAST_BYTES_MAX,
                want: Want::Entries,
            };
            let page = self
                .store
                .read(conversation.log(), read)
                .await
                .map_err(problem_of_store)?;
            summary.last = self.last_to_show(conversation, user, &page.entries);
            if summary.last.is_some() || page.complete {
                break;
            }
        }
        Ok(())
    }

    /// The first message of these, newest first, that can be shown.
    fn last_to_show(
        &self,
        conversation: &Conversation,
        user: UserId,
        newest: &[Entry],
    ) -> Option<WireEntry> {
        let now = self.clock.now();
        let mut last = {
            let loaded = conversation.try_loaded()?;
            let member = loaded.member_in(user)?;
            let shows = |entry: &&Entry| {
                entry.envelope.kind == Kind::Message
                    && entry.body != Body::Erased
                    && entry.envelope.expires.is_none_or(|expires| expires > now)
                    && member.may_see(entry.seq())
            };
            newest.iter().find(shows)?.clone()
        };
        // Its edits are newer, so the last one is most often on the page too.
        let edit = newest.iter().find(|entry| {
            entry.envelope.kind == Kind::Edit && entry.envelope.target == Some(last.seq())
        });
        if let Some(Body::Edit(content)) = edit.map(|edit| &edit.body) {
            last.body = Body::Message(content.clone());
        }
        shorten(&mut last);
        Some(entry_to_wire(&last, last.envelope.author == user))
    }

    /// A page of a conversation's members.
    ///
    /// # Errors
    /// `not_found` when the caller is not in it.
    pub async fn members(
        self: &Arc<Self>,
        caller: Caller,
        request: MembersRequest,
    ) -> Result<MembersPage, Problem> {
        let conversation = self.open_for(caller.user, request.conversation).await?;
        let is_shown = self.users.is_shown(caller.user).await?;
        let Some(loaded) = conversation.try_loaded() else {
            return Err(Problem::new(Code::Internal));
        };
        loaded
            .member_in(caller.user)
            .ok_or_else(|| Problem::new(Code::NotFound))?;
        let max = self.settings.members_page_max;
        let limit = request
            .limit
            .map_or(max, |limit| limit as usize)
            .clamp(1, max);
        let mut rest = loaded
            .present()
            .map(|(user, _)| user)
            .filter(|user| request.after.is_none_or(|after| *user > after));
        let members = rest
            .by_ref()
            .take(limit)
            .filter_map(|user| member_to_wire(&loaded, user, is_shown || user == caller.user))
            .collect();
        let more = rest.next().is_some();
        Ok(MembersPage {
            id: request.id,
            conversation: request.conversation,
            members,
            more,
        })
    }
}

/// What a list of conversations shows of a message.
fn shorten(entry: &mut Entry) {
    match &mut entry.body {
        Body::Message(Content::Text(text)) => {
            if let Some((end, _)) = text.text.char_indices().nth(LAST_CHARS_MAX) {
                text.text.truncate(end);
            }
            text.mentions.truncate(1);
            text.attachments.truncate(1);
        }
        Body::Message(Content::Opaque(opaque)) if opaque.bytes.len() > LAST_OPAQUE_BYTES_MAX => {
            entry.body = Body::Erased;
        }
        _ => {}
    }
}

/// A cursor says where the page before ended: the time of that conversation's head, and its id.
fn write_cursor(head: &(u64, ConversationId)) -> String {
    format!("{}.{}", head.0, head.1)
}

fn parse_cursor(text: &str) -> Option<(u64, ConversationId)> {
    let (at, id) = text.split_once('.')?;
    Some((at.parse().ok()?, id.parse().ok()?))
}
