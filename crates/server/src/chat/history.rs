//! Pages of entries. Every page says which range of seqs it covers, and is right by itself: with its
//! entries comes what alters them, also from outside the page.
//!
//! In: `history` requests from the gateway. Next: the answer goes back the way it came.

use std::sync::Arc;

use tidings_core::conversation::Member;
use tidings_core::entry::{Entry, Kind};
use tidings_core::log::Seq;
use tidings_core::{Body, UserId};
use tidings_protocol::convert::{entry_from_wire, entry_to_wire};
use tidings_protocol::sync::{Alteration, HistoryPage, HistoryRequest, ReactionSum};
use tidings_protocol::{Code, Problem};
use tidings_store::{Alterations, Direction, ReadLog, Want};

use super::loaded::{Loaded, content_bytes};
use super::{Chat, Conversation, problem_of_store};
use crate::session::Caller;

/// How often a page is read again because entries came in between.
const TRIES_MAX: usize = 5;

/// Which entries a request asks for.
#[derive(Clone, Copy)]
enum Asked {
    After(Seq),
    Before(Seq),
    Around(Seq),
}

/// Entries in the order of the log, and the range that they are all of.
struct Range {
    from: Seq,
    to: Seq,
    entries: Vec<Entry>,
    more: bool,
}

impl Chat {
    /// A page of entries after, before or around a seq.
    ///
    /// # Errors
    /// `not_found` when the caller is not in the conversation; `reset` when the position that it names is
    /// not one of this log.
    pub async fn history(
        self: &Arc<Self>,
        caller: Caller,
        request: HistoryRequest,
    ) -> Result<HistoryPage, Problem> {
        let asked = match (request.after, request.before, request.around) {
            (Some(after), None, None) => Asked::After(after),
            (None, Some(before), None) => Asked::Before(before),
            (None, None, Some(around)) => Asked::Around(around),
            _ => {
                return Err(
                    Problem::new(Code::Invalid).detail("exactly one of after, before and around")
                );
            }
        };
        let conversation = self.open_for(caller.user, request.conversation).await?;
        self.check_position(&conversation, caller, &request).await?;
        let max = self.settings.history_page_max;
        let limit = request
            .limit
            .map_or(max, |limit| limit as usize)
            .clamp(1, max);
        let mut limit = limit;
        let mut tries = 0;
        loop {
            tries += 1;
            let (page, bytes) = self
                .try_page(&conversation, caller, &request, asked, limit)
                .await?;
            // Edits can be much larger than what they alter: then fewer entries at a time.
            if bytes > 2 * self.settings.history_page_bytes_max && page.entries.len() > 1 {
                limit = (page.entries.len() / 4).max(1);
                continue;
            }
            // What alters the entries must be as of the head that the page names: a client adds up what
            // comes after it.
            // Where entries come in all the time, a sum of reactions may be ahead of the page by one or two.
            let level = |loaded: &Loaded| loaded.state.seq == page.head;
            let is_level = conversation
                .try_loaded()
                .is_none_or(|loaded| level(&loaded));
            if is_level || tries >= TRIES_MAX {
                return Ok(page);
            }
        }
    }

    /// Refuses a position that is not one of this log: of another generation, below what is kept, above
    /// the head, or with another entry at its place.
    async fn check_position(
        &self,
        conversation: &Conversation,
        caller: Caller,
        request: &HistoryRequest,
    ) -> Result<(), Problem> {
        let head = {
            let Some(loaded) = conversation.try_loaded() else {
                return Err(Problem::new(Code::Internal));
            };
            loaded
                .member_in(caller.user)
                .ok_or_else(|| Problem::new(Code::NotFound))?;
            let reset = |why: &str| Err(Problem::new(Code::Reset).detail(why));
            if request
                .generation
                .is_some_and(|generation| generation != loaded.state.generation)
            {
                return reset("another generation");
            }
            let Some(after) = request.after.filter(|after| *after > 0) else {
                return Ok(());
            };
            if request.generation.is_some() && after < loaded.trimmed {
                return reset("below what is kept");
            }
            if after > loaded.state.seq {
                return reset("above the head");
            }
            after
        };
        let Some(hash) = request.hash else {
            return Ok(());
        };
        match self.read_one(conversation, head, Want::Envelopes).await? {
            Some(entry) if entry.envelope.short_hash() != hash => {
                Err(Problem::new(Code::Reset).detail("another entry at that place"))
            }
            _ => Ok(()),
        }
    }

    async fn try_page(
        &self,
        conversation: &Conversation,
        caller: Caller,
        request: &HistoryRequest,
        asked: Asked,
        limit: usize,
    ) -> Result<(HistoryPage, usize), Problem> {
        let (head, trimmed, generation, member) = {
            let Some(loaded) = conversation.try_loaded() else {
                return Err(Problem::new(Code::Internal));
            };
            let member = loaded
                .member_in(caller.user)
                .ok_or_else(|| Problem::new(Code::NotFound))?
                .clone();
            (
                loaded.state.seq,
                loaded.trimmed,
                loaded.state.generation,
                member,
            )
        };
        let first = member.first_visible().unwrap_or(1).max(trimmed + 1);
        let mut range = match asked {
            Asked::After(after) => {
                self.read_after(conversation, after, head, first, limit)
                    .await?
            }
            Asked::Before(before) => {
                self.read_before(conversation, before, head, first, limit)
                    .await?
            }
            Asked::Around(seq) => {
                let seq = seq.clamp(1, head.max(1));
                let before = self
                    .read_before(conversation, seq, head, first, limit / 2)
                    .await?;
                let after = self
                    .read_after(conversation, seq - 1, head, first, limit - limit / 2)
                    .await?;
                let entries = before.entries.into_iter().chain(after.entries).collect();
                Range {
                    from: before.from,
                    to: after.to,
                    entries,
                    more: before.more || after.more,
                }
            }
        };
        range.entries.retain(|entry| member.may_see(entry.seq()));
        self.hide_expired(&mut range.entries);
        let alterations = self
            .alterations(conversation, &range.entries, caller.user, &member, head)
            .await?;
        // Nobody who was removed while we read is served anything.
        if conversation
            .try_loaded()
            .is_none_or(|loaded| loaded.member_in(caller.user).is_none())
        {
            return Err(Problem::new(Code::NotFound));
        }
        let own = |entry: &Entry| entry.envelope.author == caller.user;
        let page = HistoryPage {
            id: request.id,
            conversation: conversation.id,
            generation,
            from: range.from,
            to: range.to,
            entries: range
                .entries
                .iter()
                .map(|entry| entry_to_wire(entry, own(entry)))
                .collect(),
            alterations,
            head,
            trimmed,
            more: range.more,
        };
        let bytes = range.entries.iter().map(content_bytes).sum::<usize>() + edit_bytes(&page);
        Ok((page, bytes))
    }

    async fn read_after(
        &self,
        conversation: &Conversation,
        after: Seq,
        head: Seq,
        first: Seq,
        limit: usize,
    ) -> Result<Range, Problem> {
        let from = after.saturating_add(1);
        if after >= head {
            return Ok(Range {
                from,
                to: after,
                entries: Vec::new(),
                more: false,
            });
        }
        // What lies before the first that the member may see is covered without being read.
        let page = self
            .read_page(conversation, from.max(first), Direction::Forwards, limit)
            .await?;
        let entries: Vec<Entry> = page
            .into_iter()
            .take_while(|entry| entry.seq() <= head)
            .collect();
        let to = entries.last().map_or(head, Entry::seq);
        Ok(Range {
            from,
            to,
            entries,
            more: to < head,
        })
    }

    async fn read_before(
        &self,
        conversation: &Conversation,
        before: Seq,
        head: Seq,
        first: Seq,
        limit: usize,
    ) -> Result<Range, Problem> {
        let to = before.saturating_sub(1).min(head);
        if to < first || limit == 0 {
            let from = if limit == 0 { to + 1 } else { 1 };
            return Ok(Range {
                from,
                to,
                entries: Vec::new(),
                more: limit == 0 && to >= first,
            });
        }
        let page = self
            .read_page(conversation, to, Direction::Backwards, limit)
            .await?;
        let mut entries: Vec<Entry> = page
            .into_iter()
            .take_while(|entry| entry.seq() >= first)
            .collect();
        entries.reverse();
        let lowest = entries.first().map_or(first, Entry::seq);
        let more = lowest > first;
        Ok(Range {
            from: if more { lowest } else { 1 },
            to,
            entries,
            more,
        })
    }

    async fn read_page(
        &self,
        conversation: &Conversation,
        from: Seq,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<Entry>, Problem> {
        let bytes_max = self.settings.history_page_bytes_max;
        let read = ReadLog {
            from,
            direction,
            limit,
            bytes_max,
            want: Want::Entries,
        };
        Ok(self
            .store
            .read(conversation.log(), read)
            .await
            .map_err(problem_of_store)?
            .entries)
    }

    pub(super) async fn read_one(
        &self,
        conversation: &Conversation,
        seq: Seq,
        want: Want,
    ) -> Result<Option<Entry>, Problem> {
        let read = ReadLog {
            from: seq,
            direction: Direction::Forwards,
            limit: 1,
            bytes_max: 1,
            want,
        };
        let page = self
            .store
            .read(conversation.log(), read)
            .await
            .map_err(problem_of_store)?;
        Ok(page
            .entries
            .into_iter()
            .next()
            .filter(|entry| entry.seq() == seq))
    }

    /// A message that has vanished is not served, also when its body still waits to be erased.
    fn hide_expired(&self, entries: &mut [Entry]) {
        let now = self.clock.now();
        for entry in entries {
            if entry.envelope.expires.is_some_and(|expires| expires <= now) {
                entry.body = Body::Erased;
            }
        }
    }

    /// What has become of the page's messages, as of `head`.
    async fn alterations(
        &self,
        conversation: &Conversation,
        entries: &[Entry],
        reader: UserId,
        member: &Member,
        head: Seq,
    ) -> Result<Vec<Alteration>, Problem> {
        let messages = entries
            .iter()
            .filter(|entry| entry.envelope.kind == Kind::Message);
        let targets: Vec<Seq> = messages.map(Entry::seq).collect();
        if targets.is_empty() {
            return Ok(Vec::new());
        }
        let found = self
            .store
            .alterations(conversation.log(), targets)
            .await
            .map_err(problem_of_store)?;
        let mut alterations = Vec::with_capacity(found.len());
        for one in found {
            let deleted = one.deleted.filter(|seq| *seq <= head);
            // An edit from a time in which the reader was out is not for the reader.
            let last_edit = one
                .edits
                .iter()
                .rev()
                .find(|seq| **seq <= head && member.may_see(**seq));
            let edit = match (deleted, last_edit) {
                (None, Some(seq)) => {
                    let mut entry = self.read_one(conversation, *seq, Want::Entries).await?;
                    if let Some(entry) = &mut entry {
                        self.hide_expired(std::slice::from_mut(entry));
                    }
                    entry.map(|entry| {
                        Box::new(entry_to_wire(&entry, entry.envelope.author == reader))
                    })
                }
                _ => None,
            };
            let reactions = sum_reactions(&one, reader, head);
            if edit.is_some() || deleted.is_some() || !reactions.is_empty() {
                alterations.push(Alteration {
                    target: one.target,
                    edit,
                    deleted,
                    reactions,
                });
            }
        }
        Ok(alterations)
    }
}

/// About how many bytes the edits of a page have.
fn edit_bytes(page: &HistoryPage) -> usize {
    let edits = page
        .alterations
        .iter()
        .filter_map(|one| one.edit.as_deref());
    edits
        .map(|edit| content_bytes(&entry_from_wire(edit)))
        .sum()
}

fn sum_reactions(alterations: &Alterations, reader: UserId, head: Seq) -> Vec<ReactionSum> {
    let mut sums: Vec<ReactionSum> = Vec::new();
    for (emoji, user, seq) in &alterations.reactions {
        if *seq > head {
            continue;
        }
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
