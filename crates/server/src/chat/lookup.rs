//! What a command names: an earlier try of it, its target, the facts from outside the log.
//!
//! In: a command that `drive` has taken from the queue. Next: `decide` in the core, which sees no more than
//! this.

use std::collections::BTreeMap;

use tidings_core::conversation::{
    Action, Command, ConversationKind, Earlier, Facts, MemberMap, Search, State, Target,
    search_for_earlier,
};
use tidings_core::entry::{Body, Entry, Kind};
use tidings_core::log::Seq;
use tidings_core::{ClientId, Time, UserId};
use tidings_protocol::{Code, Problem};
use tidings_store::{Alterations, ClientIdSearch, Direction, ReadLog, Want};

use super::queue::Queued;
use super::{Chat, Conversation, problem_of_store};

/// Without `after`, an earlier try is looked for in so many of the newest entries.
const NEWEST_SEARCHED: u64 = 10_000;

/// What the entries that were decided but are not committed yet change of the targets in the store.
#[derive(Default)]
pub(super) struct Overlay {
    /// One after the other, by their seqs.
    entries: Vec<Noted>,
    altered: BTreeMap<Seq, Altered>,
}

struct Noted {
    seq: Seq,
    at: Time,
    kind: Kind,
    author: UserId,
    client_id: ClientId,
    expires: Option<Time>,
}

#[derive(Default)]
struct Altered {
    erased: bool,
    edits: Vec<Seq>,
    /// In the order in which they were put on or taken back.
    reactions: Vec<(UserId, String, bool)>,
}

impl Overlay {
    /// Takes note of an entry that was decided.
    pub(super) fn note(&mut self, entry: &Entry) {
        let envelope = &entry.envelope;
        self.entries.push(Noted {
            seq: envelope.seq,
            at: envelope.at,
            kind: envelope.kind,
            author: envelope.author,
            client_id: envelope.client_id,
            expires: envelope.expires,
        });
        let Some(target) = envelope.target else {
            return;
        };
        match &entry.body {
            Body::Delete => self.altered.entry(target).or_default().erased = true,
            Body::Edit(_) => self
                .altered
                .entry(target)
                .or_default()
                .edits
                .push(envelope.seq),
            Body::Reaction { emoji, on } => {
                self.altered.entry(target).or_default().reactions.push((
                    envelope.author,
                    emoji.clone(),
                    *on,
                ));
            }
            _ => {}
        }
    }

    /// The entry that this client id has become. (A batch may be longer than the state's memory of client ids.)
    fn find(&self, author: UserId, client_id: ClientId) -> Option<&Noted> {
        let is_wanted = |noted: &&Noted| noted.client_id == client_id && noted.author == author;
        self.entries.iter().rev().find(is_wanted)
    }

    fn entry(&self, seq: Seq) -> Option<&Noted> {
        let place = self.entries.binary_search_by_key(&seq, |noted| noted.seq);
        self.entries.get(place.ok()?)
    }
}

impl Chat {
    /// What became of an earlier try of the command.
    pub(super) async fn earlier(
        &self,
        conversation: &Conversation,
        state: &State,
        command: &Command,
        overlay: &Overlay,
    ) -> Result<Earlier, Problem> {
        if let Some(noted) = overlay.find(command.author, command.client_id) {
            let (seq, at) = (noted.seq, noted.at);
            return Ok(Earlier::Found { seq, at });
        }
        let above = match search_for_earlier(state, command) {
            Search::NotNeeded => return Ok(Earlier::NotSearched),
            Search::Impossible => return Ok(Earlier::Incomplete),
            Search::Above(seq) => seq,
            Search::Newest => state.seq.saturating_sub(NEWEST_SEARCHED),
        };
        let found = self
            .store
            .find_client_id(conversation.log(), command.author, command.client_id, above)
            .await
            .map_err(problem_of_store)?;
        Ok(match found {
            ClientIdSearch::Found { seq, at } => Earlier::Found { seq, at },
            ClientIdSearch::Absent => Earlier::Absent,
            // Without `after` nobody claims that everything was looked through.
            ClientIdSearch::Incomplete if command.after.is_none() => Earlier::Absent,
            ClientIdSearch::Incomplete => Earlier::Incomplete,
        })
    }

    /// Blocks and suspensions. A block matters between the two of a direct conversation.
    pub(super) async fn facts(
        &self,
        state: &State,
        members: &MemberMap,
        queued: &Queued,
    ) -> Result<Facts, Problem> {
        let author = queued.command.author;
        let other = match (state.seq, state.kind) {
            (0, _) => queued.direct_with,
            (_, ConversationKind::Direct) => members.keys().copied().find(|user| *user != author),
            (_, ConversationKind::Group) => None,
        };
        self.users.facts(author, other).await
    }

    /// Refuses to bring in users that do not exist.
    pub(super) async fn check_users_exist(
        &self,
        action: &Action,
        direct_with: Option<UserId>,
    ) -> Result<(), Problem> {
        let named: &[UserId] = match (action, &direct_with) {
            (Action::Create { users, .. } | Action::Invite { users }, _) => users,
            (_, Some(other)) => std::slice::from_ref(other),
            _ => return Ok(()),
        };
        // More than could ever be let in are not even looked for.
        let max = self.limits.group_members_max;
        if named.len() as u64 > u64::from(max) {
            return Err(Problem::too_much("group_members_max", u64::from(max)));
        }
        if self.users.all_exist(named).await? {
            Ok(())
        } else {
            Err(Problem::new(Code::NotFound).detail("there is no such user"))
        }
    }

    /// What the rules must know of the entry that the command refers to.
    pub(super) async fn target(
        &self,
        conversation: &Conversation,
        state: &State,
        command: &Command,
        overlay: &Overlay,
    ) -> Result<Option<Target>, Problem> {
        let (seq, alters) = match &command.action {
            Action::Message {
                reply_to: Some(seq),
                ..
            } => (*seq, false),
            Action::Edit { target, .. }
            | Action::Delete { target }
            | Action::React { target, .. } => (*target, true),
            _ => return Ok(None),
        };
        if seq == 0 || seq > state.seq {
            return Ok(None);
        }
        let mut target = match overlay.entry(seq) {
            Some(noted) => Target {
                kind: noted.kind,
                author: noted.author,
                expires: noted.expires,
                erased: false,
                edits: 0,
                reactions: Vec::new(),
            },
            None => match self
                .stored_target(conversation, seq, alters, command.author)
                .await?
            {
                Some(target) => target,
                None => return Ok(None),
            },
        };
        if let Some(altered) = overlay.altered.get(&seq) {
            target.erased |= altered.erased;
            target.edits += altered.edits.len();
            for (_, emoji, on) in altered
                .reactions
                .iter()
                .filter(|(user, ..)| *user == command.author)
            {
                target.reactions.retain(|other| other != emoji);
                if *on {
                    target.reactions.push(emoji.clone());
                }
            }
        }
        target.erased |= target
            .expires
            .is_some_and(|expires| expires <= self.clock.now());
        Ok(Some(target))
    }

    async fn stored_target(
        &self,
        conversation: &Conversation,
        seq: Seq,
        alters: bool,
        reader: UserId,
    ) -> Result<Option<Target>, Problem> {
        let read = ReadLog {
            from: seq,
            direction: Direction::Forwards,
            limit: 1,
            bytes_max: 1,
            want: if alters {
                Want::Entries
            } else {
                Want::Envelopes
            },
        };
        let page = self
            .store
            .read(conversation.log(), read)
            .await
            .map_err(problem_of_store)?;
        let Some(entry) = page
            .entries
            .into_iter()
            .next()
            .filter(|entry| entry.seq() == seq)
        else {
            return Ok(None);
        };
        let envelope = entry.envelope;
        let mut target = Target {
            kind: envelope.kind,
            author: envelope.author,
            expires: envelope.expires,
            erased: entry.body == Body::Erased,
            edits: 0,
            reactions: Vec::new(),
        };
        if alters {
            let altered = self.alterations_of(conversation, seq).await?;
            target.edits = altered.edits.len();
            target.reactions = altered
                .reactions
                .into_iter()
                .filter(|(_, user, _)| *user == reader)
                .map(|(emoji, ..)| emoji)
                .collect();
        }
        Ok(Some(target))
    }

    /// The edits of a message, the ones just decided included: they are erased with it.
    pub(super) async fn edits_of(
        &self,
        conversation: &Conversation,
        target: Seq,
        overlay: &Overlay,
    ) -> Result<Vec<Seq>, Problem> {
        let mut edits = self.alterations_of(conversation, target).await?.edits;
        edits.extend(
            overlay
                .altered
                .get(&target)
                .into_iter()
                .flat_map(|altered| &altered.edits),
        );
        Ok(edits)
    }

    async fn alterations_of(
        &self,
        conversation: &Conversation,
        target: Seq,
    ) -> Result<Alterations, Problem> {
        let found = self
            .store
            .alterations(conversation.log(), vec![target])
            .await
            .map_err(problem_of_store)?;
        Ok(found.into_iter().next().unwrap_or_default())
    }
}
