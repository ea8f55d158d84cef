//! One log in memory, with what is kept beside it: client ids, alterations, steps, state, members.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use tidings_core::codec::{encode_body, encode_envelope};
use tidings_core::entry::{Body, Entry, Kind};
use tidings_core::log::{Generation, LogId, SEQ_MAX, Seq};
use tidings_core::mark::MarkKind;
use tidings_core::{ClientId, Time, UserId};

use crate::{
    Alterations, Append, AppendError, Beginning, ClientIdSearch, Direction, LogHead, MemberQuery,
    Page, ReadLog, StateSnapshot, Step, StoreError, StoredMember, Want,
};

#[derive(Debug, Default)]
pub(super) struct Log {
    head: Option<LogHead>,
    /// Those whose envelope is kept; the bodies of trimmed ones are erased.
    entries: BTreeMap<Seq, Entry>,
    client_ids: BTreeSet<(UserId, ClientId, Seq)>,
    altered: BTreeMap<Seq, Altered>,
    state: Option<StateSnapshot>,
    members: BTreeMap<UserId, Vec<u8>>,
    steps: BTreeMap<([u8; 16], MarkKind, Seq), Time>,
}

/// What alters one entry.
#[derive(Debug, Default)]
struct Altered {
    edits: Vec<Seq>,
    deleted: Option<Seq>,
    reactions: BTreeMap<(String, UserId), Seq>,
}

impl Log {
    pub(super) fn head(&self) -> Option<LogHead> {
        self.head
    }

    fn trimmed(&self) -> Seq {
        self.head.map_or(0, |head| head.trimmed)
    }

    /// Whether the append may happen; nothing has changed when it may not.
    pub(super) fn check_append(&self, append: &Append) -> Result<(), AppendError> {
        let misuse = |what: &str| AppendError::Store(StoreError::Misuse(what.to_owned()));
        let Some(last) = append.entries.last() else {
            return Err(misuse("an append without entries"));
        };
        let mut before = Some(append.expected_head);
        let mut follows = |entry: &Entry| {
            before = before.and_then(|before| before.checked_add(1));
            before == Some(entry.seq())
        };
        if !append.entries.iter().all(&mut follows) || last.seq() > SEQ_MAX {
            return Err(misuse(
                "entries that do not follow on each other from the expected head",
            ));
        }
        if append
            .state
            .as_ref()
            .is_some_and(|state| state.seq != last.envelope.seq)
        {
            return Err(misuse("a state that is not the one after the last entry"));
        }
        let head = self.head.map_or(0, |head| head.seq);
        let generation = self.head.map_or(append.generation, |head| head.generation);
        if append.expected_head != head || append.generation != generation {
            return Err(AppendError::Conflict { head });
        }
        let mut before = self
            .head
            .map_or((0, Time(0)), |head| (head.ordinal, head.at));
        for entry in &append.entries {
            let (ordinal, at) = (entry.envelope.ordinal, entry.envelope.at);
            if ordinal < before.0 || at < before.1 {
                return Err(misuse(
                    "an ordinal or a time below that of the entry before",
                ));
            }
            before = (ordinal, at);
        }
        Ok(())
    }

    /// Puts the next entry in, which was checked.
    pub(super) fn push(&mut self, generation: Generation, entry: Entry) {
        let envelope = &entry.envelope;
        self.head = Some(LogHead {
            generation,
            seq: envelope.seq,
            ordinal: envelope.ordinal,
            at: envelope.at,
            trimmed: self.trimmed(),
        });
        self.client_ids
            .insert((envelope.author, envelope.client_id, envelope.seq));
        self.index_by_target(&entry);
        self.entries.insert(entry.envelope.seq, entry);
    }

    fn index_by_target(&mut self, entry: &Entry) {
        let envelope = &entry.envelope;
        let Some(target) = envelope.target.filter(|_| envelope.alters_target()) else {
            return;
        };
        let altered = self.altered.entry(target).or_default();
        match (envelope.kind, &entry.body) {
            (Kind::Edit, _) => altered.edits.push(envelope.seq),
            (Kind::Delete, _) => altered.deleted = altered.deleted.or(Some(envelope.seq)),
            (_, Body::Reaction { emoji, on }) => {
                let key = (emoji.clone(), envelope.author);
                if *on {
                    altered.reactions.insert(key, envelope.seq);
                } else {
                    altered.reactions.remove(&key);
                }
            }
            _ => {}
        }
    }

    pub(super) fn read(&self, read: &ReadLog) -> Page {
        let first = match read.want {
            Want::Entries => self.trimmed() + 1,
            Want::Envelopes => 1,
        };
        let entries: Box<dyn Iterator<Item = &Entry>> = match read.direction {
            Direction::Forwards => Box::new(self.entries.range(first.max(read.from)..).map(second)),
            Direction::Backwards if read.from < first => Box::new(std::iter::empty()),
            Direction::Backwards => {
                Box::new(self.entries.range(first..=read.from).rev().map(second))
            }
        };
        let mut entries = entries.peekable();
        let mut page = Page::default();
        let mut bytes = 0;
        while page.entries.len() < read.limit && (bytes < read.bytes_max || page.entries.is_empty())
        {
            let Some(entry) = entries.next() else { break };
            let entry = match read.want {
                Want::Entries => entry.clone(),
                Want::Envelopes => Entry {
                    envelope: entry.envelope.clone(),
                    body: Body::Erased,
                },
            };
            bytes += encode_envelope(&entry.envelope).len() + encode_body(&entry.body).len();
            page.entries.push(entry);
        }
        page.complete = entries.peek().is_none();
        page
    }

    pub(super) fn alterations(&self, targets: &[Seq]) -> Vec<Alterations> {
        let altered = targets
            .iter()
            .filter_map(|target| Some((*target, self.altered.get(target)?)));
        let all = altered.map(|(target, altered)| Alterations {
            target,
            edits: altered.edits.clone(),
            deleted: altered.deleted,
            reactions: altered
                .reactions
                .iter()
                .map(|((emoji, user), &seq)| (emoji.clone(), *user, seq))
                .collect(),
        });
        all.filter(|all| {
            *all != Alterations {
                target: all.target,
                ..Alterations::default()
            }
        })
        .collect()
    }

    pub(super) fn find_client_id(
        &self,
        author: UserId,
        client_id: ClientId,
        above: Seq,
    ) -> ClientIdSearch {
        let from = Bound::Excluded((author, client_id, above));
        let found = self.client_ids.range((from, Bound::Unbounded)).next();
        if let Some(&(by, id, seq)) = found
            && (by, id) == (author, client_id)
            && let Some(entry) = self.entries.get(&seq)
        {
            return ClientIdSearch::Found {
                seq,
                at: entry.envelope.at,
            };
        }
        let head = self.head.map_or(0, |head| head.seq);
        let kept_above = self.entries.keys().next().map_or(head, |first| first - 1);
        if above < kept_above {
            ClientIdSearch::Incomplete
        } else {
            ClientIdSearch::Absent
        }
    }

    pub(super) fn has_body(&self, seq: Seq) -> bool {
        self.entries
            .get(&seq)
            .is_some_and(|entry| entry.body != Body::Erased)
    }

    /// Answers where the trimmed mark stands then.
    pub(super) fn trim(&mut self, up_to: Seq) -> Seq {
        let durable = self.state.as_ref().map_or(0, |state| state.seq);
        let Some(head) = &mut self.head else { return 0 };
        let before = head.trimmed;
        let after = up_to.min(durable).min(head.seq).max(before);
        head.trimmed = after;
        for seq in before + 1..=after {
            self.erase(seq);
            self.altered.remove(&seq);
        }
        self.steps.retain(|(_, _, seq), _| *seq > after);
        after
    }

    pub(super) fn erase(&mut self, seq: Seq) {
        let Some(entry) = self.entries.get_mut(&seq) else {
            return;
        };
        entry.body = Body::Erased;
        // The emoji was in the body: it goes from the index too.
        if entry.envelope.kind == Kind::Reaction
            && let Some(altered) = entry
                .envelope
                .target
                .and_then(|target| self.altered.get_mut(&target))
        {
            altered.reactions.retain(|_, by| *by != seq);
        }
    }

    pub(super) fn forget_envelopes(&mut self, up_to: Seq) {
        let first_kept = up_to.min(self.trimmed()) + 1;
        self.entries = self.entries.split_off(&first_kept);
        self.client_ids.retain(|(_, _, seq)| *seq >= first_kept);
    }

    /// Goes on behind an entry that is not kept, and neither is any before it.
    pub(super) fn begin_at(&mut self, beginning: &Beginning) -> Result<(), StoreError> {
        if let Some(head) = self.head {
            if head.generation != beginning.generation {
                return Err(StoreError::Misuse("another generation".to_owned()));
            }
            if head.seq >= beginning.seq {
                return Ok(());
            }
        }
        self.entries.clear();
        self.client_ids.clear();
        self.altered.clear();
        self.steps.clear();
        self.head = Some(LogHead {
            generation: beginning.generation,
            seq: beginning.seq,
            ordinal: beginning.ordinal,
            at: beginning.at,
            trimmed: beginning.seq,
        });
        Ok(())
    }

    pub(super) fn all_steps(&self, log: LogId) -> Vec<Step> {
        let step = |(&(owner, kind, seq), &at): (&([u8; 16], MarkKind, Seq), &Time)| Step {
            log,
            owner,
            kind,
            seq,
            at,
        };
        self.steps.iter().map(step).collect()
    }

    /// Whether it was not there yet.
    pub(super) fn keep_step(&mut self, step: &Step) -> bool {
        let key = (step.owner, step.kind, step.seq);
        let is_new = step.seq > self.trimmed() && !self.steps.contains_key(&key);
        if is_new {
            self.steps.insert(key, step.at);
        }
        is_new
    }

    pub(super) fn forget_step(&mut self, step: &Step) {
        self.steps.remove(&(step.owner, step.kind, step.seq));
    }

    pub(super) fn steps_past(&self, log: LogId, seq: Seq) -> Vec<Step> {
        let mut past: Vec<Step> = Vec::new();
        for (&(owner, kind, at_seq), &at) in &self.steps {
            let has_one = past
                .last()
                .is_some_and(|last| (last.owner, last.kind) == (owner, kind));
            if at_seq >= seq && !has_one {
                past.push(Step {
                    log,
                    owner,
                    kind,
                    seq: at_seq,
                    at,
                });
            }
        }
        past
    }

    pub(super) fn write_state(&mut self, state: StateSnapshot) {
        if self
            .state
            .as_ref()
            .is_some_and(|kept| kept.seq >= state.seq)
        {
            return;
        }
        self.members.extend(state.members);
        self.state = Some(StateSnapshot {
            members: Vec::new(),
            ..state
        });
    }

    pub(super) fn state(&self) -> Option<StateSnapshot> {
        self.state.clone()
    }

    pub(super) fn members(&self, query: MemberQuery) -> Vec<StoredMember> {
        match query {
            MemberQuery::Named(users) => {
                let users: BTreeSet<UserId> = users.into_iter().collect();
                users
                    .into_iter()
                    .filter_map(|user| Some((user, self.members.get(&user)?.clone())))
                    .collect()
            }
            MemberQuery::From { after, limit } => {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let members = self.members.range((from, Bound::Unbounded));
                members
                    .take(limit)
                    .map(|(user, member)| (*user, member.clone()))
                    .collect()
            }
        }
    }
}

fn second<'a>((_, entry): (&'a Seq, &'a Entry)) -> &'a Entry {
    entry
}
