//! Sends become entries: an earlier try is looked for, the rules decide, the store commits, everybody is told.

use std::collections::BTreeSet;

use tidings_core::conversation::{
    Action, Command, ConversationKind, Decision, Earlier, Facts, Limits, MemberMap, Named, Search,
    Settings, State, Target, decide, search_for_earlier,
};
use tidings_core::id::direct_id;
use tidings_core::log::{LogId, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{Body, ClientId, ConversationId, Entry, Kind, Time, UserId, apply};
use tidings_protocol::convert::{action_from_wire, entry_to_wire};
use tidings_protocol::problem::ErrorFrame;
use tidings_protocol::send::{Send, Sent};
use tidings_protocol::short::Said;
use tidings_protocol::sync::{ConversationFrame, Entries, Gone};
use tidings_protocol::{Code, Problem, Retry, ServerFrame};
use tidings_store::memory::AppendFailure;
use tidings_store::{Append, AppendError, ClientIdSearch, Direction, StateSnapshot, Store, Want};

use super::server::{Caller, Server, ready};
use super::short::Saying;

/// A send that was refused for now holds up those behind it for so long.
const BEHIND_MS: u64 = 30_000;
/// Without `after`, an earlier try is looked for in so many of the newest entries.
const NEWEST_SEARCHED: u64 = 10_000;

impl Server {
    /// `is_short`: it is said in the short form, and answered so.
    pub(super) fn send(&mut self, connection: u64, caller: Caller, send: Send, is_short: bool) {
        let (request, client_id, first) = (send.id, send.client_id, send.first);
        let (id, command, direct_with) = match take(caller, send, self.chance.bytes()) {
            Ok(taken) => taken,
            Err(problem) => return self.refuse(connection, request, problem),
        };
        if first {
            self.hot(id).refused.remove(&caller.device);
        }
        let answer = self.decide_and_commit(id, &command, direct_with);
        self.settled(id, caller, client_id, answer.as_ref().map(|_| ()));
        match answer {
            Ok((seq, at, entries)) => {
                let generation = self.hot(id).state.generation;
                let sent = Sent {
                    id: request,
                    client_id,
                    conversation: id,
                    seq,
                    at,
                    generation,
                };
                if !is_short {
                    self.push(connection, ServerFrame::Sent(sent));
                    return self.publish(id, &entries);
                }
                self.saying = Some(Saying {
                    connection,
                    request,
                    client_id,
                    is_answered: false,
                });
                self.publish(id, &entries);
                if self.saying.take().is_some_and(|saying| !saying.is_answered) {
                    let said = Said {
                        id: request,
                        seq,
                        at: at.into(),
                        ordinal: None,
                    };
                    self.push(connection, ServerFrame::Said(said));
                }
            }
            Err(problem) => self.refuse(connection, request, problem),
        }
    }

    fn refuse(&mut self, connection: u64, request: u64, problem: Problem) {
        self.push(
            connection,
            ServerFrame::Error(ErrorFrame {
                id: Some(request),
                problem,
            }),
        );
    }

    fn settled(
        &mut self,
        id: ConversationId,
        caller: Caller,
        client_id: ClientId,
        answer: Result<(), &Problem>,
    ) {
        let now = self.steady;
        let for_now =
            answer.is_err_and(|problem| matches!(problem.retry, Retry::Later | Retry::CatchUp));
        let blocked_by_other = self.is_behind(id, caller, client_id);
        let refused = &mut self.hot(id).refused;
        if for_now && !blocked_by_other {
            refused.insert(caller.device, (client_id, now));
        } else if !blocked_by_other {
            refused.remove(&caller.device);
        }
    }

    /// Whether an earlier send of the device was refused for now, not long ago, and has not become an entry
    /// since.
    fn is_behind(&mut self, id: ConversationId, caller: Caller, client_id: ClientId) -> bool {
        let now = self.steady;
        let hot = self.hot(id);
        hot.refused
            .get(&caller.device)
            .is_some_and(|&(refused, at)| {
                refused != client_id
                    && now - at < BEHIND_MS
                    && hot.state.find_recent(caller.user, refused).is_none()
            })
    }

    /// Answers the entry's seq and time, and the entries that were committed.
    fn decide_and_commit(
        &mut self,
        id: ConversationId,
        command: &Command,
        direct_with: Option<UserId>,
    ) -> Result<(Seq, Time, Vec<Entry>), Problem> {
        let now = self.now;
        if self.trouble && self.chance.percent(4) {
            let wait = self.chance.below(1_000);
            return Err(match self.chance.below(2) {
                0 => Problem::rate_limited("sends_per_second_max", wait),
                _ => Problem::new(Code::Busy),
            });
        }
        let earlier = self.earlier(id, command);
        let target = self.target(id, command);
        let hot = self.hot(id);
        let is_retry = matches!(earlier, Earlier::Found { .. })
            || hot
                .state
                .find_recent(command.author, command.client_id)
                .is_some();
        let caller = Caller {
            user: command.author,
            device: command.device,
        };
        let behind = self.is_behind(id, caller, command.client_id);
        if behind && !is_retry {
            return Err(Problem::new(Code::Behind));
        }
        let hot = self.hot(id);
        let (mut state, mut members) = (hot.state.clone(), hot.members.clone());
        let before = state.seq;
        let mut entries = Vec::new();
        if let (0, Some(other), false) = (state.seq, direct_with, is_retry) {
            let create = Command {
                client_id: ClientId([0; 16]),
                after: None,
                action: Action::Create {
                    kind: ConversationKind::Direct,
                    users: vec![other],
                    settings: Settings::default(),
                },
                ..command.clone()
            };
            let named = Named {
                members: &members,
                target: None,
                earlier: Earlier::Absent,
            };
            if let Decision::Append(entry) = decide(
                &state,
                &create,
                &named,
                &Facts::default(),
                &Limits::default(),
                now,
            )? {
                apply(&mut state, &mut members, &entry).expect("what was decided applies");
                entries.push(entry);
            }
        }
        let named = Named {
            members: &members,
            target,
            earlier,
        };
        match decide(
            &state,
            command,
            &named,
            &Facts::default(),
            &Limits::default(),
            now,
        )? {
            Decision::Already { seq, at } => Ok((seq, at, Vec::new())),
            Decision::Append(entry) => {
                apply(&mut state, &mut members, &entry).expect("what was decided applies");
                let (seq, at) = (entry.seq(), entry.envelope.at);
                entries.push(entry);
                self.commit(id, before, &entries, &state, &members)?;
                Ok((seq, at, entries))
            }
        }
    }

    fn earlier(&mut self, id: ConversationId, command: &Command) -> Earlier {
        let state = &self.hot(id).state;
        let above = match search_for_earlier(state, command) {
            Search::NotNeeded => return Earlier::NotSearched,
            Search::Impossible => return Earlier::Incomplete,
            Search::Above(seq) => seq,
            Search::Newest => state.seq.saturating_sub(NEWEST_SEARCHED),
        };
        let search = self.store.find_client_id(
            LogId::conversation(id),
            command.author,
            command.client_id,
            above,
        );
        match ready(search).expect("client ids are read") {
            ClientIdSearch::Found { seq, at } => Earlier::Found { seq, at },
            ClientIdSearch::Incomplete if command.after.is_some() => Earlier::Incomplete,
            ClientIdSearch::Absent | ClientIdSearch::Incomplete => Earlier::Absent,
        }
    }

    fn target(&mut self, id: ConversationId, command: &Command) -> Option<Target> {
        let seq = match &command.action {
            Action::Message { reply_to, .. } => (*reply_to)?,
            Action::Edit { target, .. }
            | Action::Delete { target }
            | Action::React { target, .. } => *target,
            _ => return None,
        };
        let entry = self
            .read(id, seq, Direction::Forwards, 1, Want::Entries)
            .pop()
            .filter(|entry| entry.seq() == seq)?;
        let altered = ready(self.store.alterations(LogId::conversation(id), vec![seq]))
            .expect("alterations are read");
        let altered = altered.into_iter().next().unwrap_or_default();
        let envelope = entry.envelope;
        let expired = envelope.expires.is_some_and(|expires| expires <= self.now);
        let own = altered
            .reactions
            .into_iter()
            .filter(|(_, user, _)| *user == command.author);
        Some(Target {
            kind: envelope.kind,
            author: envelope.author,
            expires: envelope.expires,
            erased: entry.body == Body::Erased || expired,
            edits: altered.edits.len(),
            reactions: own.map(|(emoji, ..)| emoji).collect(),
        })
    }

    fn commit(
        &mut self,
        id: ConversationId,
        before: Seq,
        entries: &[Entry],
        state: &State,
        members: &MemberMap,
    ) -> Result<(), Problem> {
        let mut failure = None;
        if self.trouble && self.chance.percent(3) {
            let chosen = if self.chance.percent(50) {
                AppendFailure::NotDone
            } else {
                AppendFailure::AnswerLost
            };
            self.store.fail_next(chosen);
            failure = Some(chosen);
        }
        let mut erase = Vec::new();
        for entry in entries
            .iter()
            .filter(|entry| entry.envelope.kind == Kind::Delete)
        {
            let Some(target) = entry.envelope.target else {
                continue;
            };
            let altered = ready(
                self.store
                    .alterations(LogId::conversation(id), vec![target]),
            )
            .expect("alterations");
            erase.push(target);
            erase.extend(altered.into_iter().flat_map(|altered| altered.edits));
        }
        let mut append = self.append_of(id, state, members, before, entries[0].clone(), erase);
        append.entries = entries.to_vec();
        let result = ready(self.store.append(append));
        let happened = result.is_ok() || failure == Some(AppendFailure::AnswerLost);
        if happened {
            self.committed
                .entry(id)
                .or_default()
                .extend(entries.iter().cloned());
        }
        match result {
            Ok(()) => Ok(()),
            Err(error @ (AppendError::Conflict { .. } | AppendError::Repeated { .. })) => {
                panic!("nobody else appends, but {error}")
            }
            Err(AppendError::Store(_) | AppendError::Unknown(_)) => {
                // Whether it happened is not known here: what is in memory may be behind.
                self.drop_hot(id);
                if happened {
                    let entries = entries.to_vec();
                    self.publish_after_doubt(id, &entries);
                }
                Err(Problem::new(Code::Internal))
            }
        }
    }

    /// An append as the server makes it. The state goes with each: the logs here are short.
    pub(super) fn append_of(
        &self,
        id: ConversationId,
        state: &State,
        members: &MemberMap,
        before: Seq,
        entry: Entry,
        erase: Vec<Seq>,
    ) -> Append {
        use tidings_core::codec::{encode_member, encode_state};
        let log = LogId::conversation(id);
        let members_bytes = members
            .iter()
            .map(|(user, member)| (*user, encode_member(member)))
            .collect();
        let mut marks = Vec::new();
        for (user, member) in members {
            let mark = |kind, value| Mark {
                log,
                owner: user.0,
                kind,
                lane: 0,
                value,
            };
            marks.push(mark(MarkKind::Joined, member.joined));
            if let Some(left) = member.spans.last().and_then(|span| span.left) {
                marks.push(mark(
                    MarkKind::Left,
                    MarkValue {
                        seq: left,
                        at: state.at,
                        ..MarkValue::default()
                    },
                ));
            }
        }
        Append {
            log,
            expected_head: before,
            generation: state.generation,
            entries: vec![entry],
            retention: state.settings.retention,
            erase,
            marks,
            state: Some(StateSnapshot {
                seq: state.seq,
                state: encode_state(state),
                members: members_bytes,
            }),
        }
    }

    /// Moves the state on over committed entries and tells everybody concerned.
    fn publish(&mut self, id: ConversationId, entries: &[Entry]) {
        for entry in entries {
            let before: BTreeSet<UserId> = self.present(id).into_iter().collect();
            let hot = self.hot(id);
            if entry.seq() > hot.state.seq {
                apply(&mut hot.state, &mut hot.members, entry).expect("a committed entry applies");
            }
            let after: BTreeSet<UserId> = self.present(id).into_iter().collect();
            self.tell_entry(id, entry, &before, &after);
        }
    }

    /// The entry was committed although its answer was lost; the state was read again and includes it. Those
    /// concerned are told or not: a live push is only a hint.
    fn publish_after_doubt(&mut self, id: ConversationId, entries: &[Entry]) {
        if self.chance.percent(50) {
            let now: BTreeSet<UserId> = self.present(id).into_iter().collect();
            for entry in entries {
                self.tell_entry(id, entry, &now, &now);
            }
        }
    }

    fn tell_entry(
        &mut self,
        id: ConversationId,
        entry: &Entry,
        before: &BTreeSet<UserId>,
        after: &BTreeSet<UserId>,
    ) {
        let membership_seq = self.hot(id).state.membership_seq;
        for user in before.intersection(after) {
            let entries = vec![entry_to_wire(entry, *user == entry.envelope.author)];
            let (from, to) = (entry.seq(), entry.seq());
            let event = Entries {
                conversation: id,
                from,
                to,
                membership_seq,
                entries,
            };
            self.push_user(*user, &ServerFrame::Entries(event));
        }
        for user in after.difference(before) {
            if let Some(conversation) = self.summary(id, *user, None) {
                self.push_user(
                    *user,
                    &ServerFrame::Conversation(Box::new(ConversationFrame {
                        id: None,
                        conversation,
                    })),
                );
            }
        }
        for user in before.difference(after) {
            self.push_user(
                *user,
                &ServerFrame::Gone(Gone {
                    conversation: id,
                    seq: entry.seq(),
                }),
            );
        }
    }
}

/// The command of a frame and the conversation that it is for.
fn take(
    caller: Caller,
    send: Send,
    link: [u8; 10],
) -> Result<(ConversationId, Command, Option<UserId>), Problem> {
    let mut secret = [0; 16];
    secret[..10].copy_from_slice(&link);
    let action = action_from_wire(send.action, secret)
        .map_err(|what| Problem::new(Code::Invalid).detail(what))?;
    let id = match (&action, send.conversation, send.to) {
        (Action::Create { .. }, None, None) => group_id(caller.user, send.client_id),
        (_, Some(id), None) => id,
        (Action::Message { .. }, None, Some(other)) => direct_id(caller.user, other),
        _ => return Err(Problem::new(Code::Invalid)),
    };
    let command = Command {
        author: caller.user,
        device: caller.device,
        client_id: send.client_id,
        after: send.after.map(Into::into),
        if_epoch: send.if_epoch,
        action,
    };
    Ok((id, command, send.to))
}

fn group_id(author: UserId, client_id: ClientId) -> ConversationId {
    direct_id(author, UserId(client_id.0))
}
