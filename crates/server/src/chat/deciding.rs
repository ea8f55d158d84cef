//! Deciding a batch: each command against the state as the ones before leave it.
//!
//! In: a batch from `lane` or `drive`. Next: what was accepted is appended (`drive`).

use std::sync::Arc;

use tidings_core::conversation::{
    Action, Command, ConversationKind, Decision, Earlier, Facts, MemberMap, Named, Settings, apply,
    decide,
};
use tidings_core::entry::Entry;
use tidings_core::log::Seq;
use tidings_core::{ClientId, Time, UserId};
use tidings_protocol::convert::retention_from_wire;
use tidings_protocol::{Code, Problem};

use super::drive::{Accepted, Decided};
use super::loaded::Loaded;
use super::lookup::Overlay;
use super::queue::Queued;
use super::{Chat, Conversation};

impl Chat {
    /// Decides the commands of a batch, one after the other.
    pub(super) async fn decide_batch(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        batch: &[Queued],
    ) -> Result<Box<Decided>, Problem> {
        self.load(conversation).await?;
        let mut decided = {
            let Some(loaded) = conversation.try_loaded() else {
                return Err(Problem::new(Code::Internal));
            };
            let queue = conversation.queue();
            Box::new(Decided {
                behind: queue.refused.clone(),
                entries: Vec::with_capacity(batch.len()),
                erase: Vec::new(),
                accepted: Vec::with_capacity(batch.len()),
                refused: Vec::new(),
                settled: loaded.settled,
                state: loaded.state.clone(),
                members: named_members(&loaded, batch),
            })
        };
        let mut overlay = Overlay::default();
        for (index, queued) in batch.iter().enumerate() {
            let before = decided.entries.len();
            match self
                .decide_one(conversation, queued, &mut decided, &mut overlay)
                .await
            {
                Ok((seq, at)) => {
                    decided.behind.settled(queued, Ok(()));
                    // Nothing is appended for what was an entry before.
                    let is_new = decided.entries.len() > before;
                    decided.accepted.push(Accepted {
                        index,
                        seq,
                        at,
                        is_new,
                    });
                }
                Err(problem) => {
                    decided.behind.settled(queued, Err(&problem));
                    // A direct conversation is not begun for a message that is refused.
                    if decided.entries.len() > before {
                        return self.without(conversation, batch, index, problem).await;
                    }
                    decided.refused.push((index, problem));
                }
            }
        }
        Ok(decided)
    }

    /// The batch decided again without a first message that was refused after its conversation was begun.
    async fn without(
        self: &Arc<Self>,
        conversation: &Arc<Conversation>,
        batch: &[Queued],
        refused: usize,
        problem: Problem,
    ) -> Result<Box<Decided>, Problem> {
        let before = batch.get(..refused).unwrap_or_default();
        let mut decided = Box::pin(self.decide_batch(conversation, before)).await?;
        decided.refused.push((refused, problem));
        // Those behind it are rare enough here to be refused for now: their devices try again.
        let busy = Problem::new(Code::Busy);
        for index in refused + 1..batch.len() {
            decided.refused.push((index, busy.clone()));
        }
        Ok(decided)
    }

    async fn decide_one(
        &self,
        conversation: &Conversation,
        queued: &Queued,
        decided: &mut Decided,
        overlay: &mut Overlay,
    ) -> Result<(Seq, Time), Problem> {
        let command = &queued.command;
        let now = self.clock.now();
        let earlier = self
            .earlier(conversation, &decided.state, command, overlay)
            .await?;
        let behind = decided.behind.is_behind(queued);
        let is_retry = |decided: &Decided| {
            let recent = || decided.state.find_recent(command.author, command.client_id);
            matches!(earlier, Earlier::Found { .. }) || recent().is_some()
        };
        if behind && !is_retry(decided) {
            return Err(Problem::new(Code::Behind));
        }
        let facts = self.facts(&decided.state, &decided.members, queued).await?;
        let names_users = queued.direct_with.is_some()
            || matches!(
                command.action,
                Action::Create { .. } | Action::Invite { .. }
            );
        if names_users && !is_retry(decided) {
            self.check_users_exist(&command.action, queued.direct_with)
                .await?;
            if let (0, Some(other)) = (decided.state.seq, queued.direct_with) {
                self.begin_direct(command, other, facts, decided, now)?;
            }
        }
        let target = self
            .target(conversation, &decided.state, command, overlay)
            .await?;
        let named = Named {
            members: &decided.members,
            target,
            earlier,
        };
        let decision = decide(&decided.state, command, &named, &facts, &self.limits, now);
        match decision {
            Ok(Decision::Already { seq, at }) => Ok((seq, at)),
            Ok(Decision::Append(entry)) => {
                let mut erase = Vec::new();
                if let Action::Delete { target } = command.action {
                    erase = self.edits_of(conversation, target, overlay).await?;
                    erase.push(target);
                }
                let answer = (entry.envelope.seq, entry.envelope.at);
                take_entry(decided, overlay, entry)?;
                decided.erase.extend(erase);
                Ok(answer)
            }
            Err(reject) => Err(Problem::from(reject)),
        }
    }

    /// The first entry of a direct conversation, ahead of its first message.
    fn begin_direct(
        &self,
        command: &Command,
        other: UserId,
        facts: Facts,
        decided: &mut Decided,
        now: Time,
    ) -> Result<(), Problem> {
        let create = Command {
            // Made by the server: no client's id, and there is only one.
            client_id: ClientId([0; 16]),
            after: None,
            if_epoch: None,
            action: Action::Create {
                kind: ConversationKind::Direct,
                users: vec![other],
                settings: Settings {
                    retention: retention_from_wire(self.settings.direct_retention),
                    ..Settings::default()
                },
            },
            ..command.clone()
        };
        let named = Named {
            members: &decided.members,
            target: None,
            earlier: Earlier::Absent,
        };
        match decide(&decided.state, &create, &named, &facts, &self.limits, now)? {
            Decision::Append(entry) => take_entry(decided, &mut Overlay::default(), entry),
            Decision::Already { .. } => Ok(()),
        }
    }
}

/// Applies an accepted entry to the state that the rest of the batch is decided against.
fn take_entry(decided: &mut Decided, overlay: &mut Overlay, entry: Entry) -> Result<(), Problem> {
    apply(&mut decided.state, &mut decided.members, &entry).map_err(|error| {
        tracing::error!(%error, "an entry that was decided does not apply");
        Problem::new(Code::Internal)
    })?;
    overlay.note(&entry);
    decided.entries.push(entry);
    Ok(())
}

/// Copies of the members that the batch names.
fn named_members(loaded: &Loaded, batch: &[Queued]) -> MemberMap {
    let mut named = MemberMap::new();
    let mut take = |user: &UserId| {
        if let Some(member) = loaded.members.get(user) {
            named.insert(*user, member.clone());
        }
    };
    for queued in batch {
        take(&queued.command.author);
        match &queued.command.action {
            Action::Invite { users } => users.iter().for_each(&mut take),
            Action::Remove { user } | Action::SetRole { user, .. } => take(user),
            _ => {}
        }
    }
    if loaded.state.kind == ConversationKind::Direct {
        loaded.members.keys().for_each(&mut take);
    }
    named
}
