//! Marks rise on the simulated server, and are told.

use tidings_core::log::{LogId, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{ConversationId, Time, UserId};
use tidings_protocol::mark::{MarkStep, MarkUpdate, Marks, MemberMarks};
use tidings_protocol::{Code, Problem, ServerFrame};
use tidings_store::{Durability, Store};

use super::server::{Caller, Server, UserMarks, ready};

pub(super) fn raise(
    server: &mut Server,
    caller: Caller,
    update: MarkUpdate,
) -> Result<(), Problem> {
    let (id, user, now) = (update.conversation, caller.user, server.now);
    let delivered = update.delivered.max(update.read).unwrap_or(0);
    let hot = server.hot(id);
    hot.member_in(user)
        .ok_or_else(|| Problem::new(Code::NotFound))?;
    if update
        .generation
        .is_some_and(|generation| generation != hot.state.generation)
    {
        return Ok(());
    }
    if delivered > hot.state.seq {
        return Err(Problem::new(Code::AboveHead));
    }
    let read = update.read.map(|seq| counts_at(server, id, user, seq, now));
    let hot = server.hot(id);
    let mut marks = hot.marks_of(user);
    let log = LogId::conversation(id);
    let plain = |seq| MarkValue {
        seq,
        at: now,
        ..MarkValue::default()
    };
    let mark = |owner, kind, value| Mark {
        log,
        owner,
        kind,
        lane: 0,
        value,
    };
    let mut raised = vec![mark(caller.device.0, MarkKind::Device, plain(delivered))];
    let moved = delivered > marks.delivered || read.is_some_and(|read| read.seq > marks.shown);
    marks.delivered = marks.delivered.max(delivered);
    raised.push(mark(user.0, MarkKind::Delivered, plain(marks.delivered)));
    let mut read_moved = None;
    if let Some(read) = read {
        if read.seq > marks.read.seq {
            marks.read = read;
            read_moved = Some(read);
        }
        marks.shown = marks.shown.max(read.seq);
        raised.push(mark(user.0, MarkKind::Read, marks.read));
        raised.push(mark(user.0, MarkKind::Shown, plain(marks.shown)));
    }
    hot.marks.insert(user, marks);
    let at_once = hot.tells_at_once();
    ready(server.store.raise_marks(raised, Durability::Late))
        .map_err(|_| Problem::new(Code::Internal))?;
    if moved && at_once {
        server.tell_marks(id, &[user], Some(user));
    } else if moved {
        server.tell_soon(id, user);
    }
    if let Some(read) = read_moved {
        let step = MarkStep {
            read: Some(read.into()),
            ..step_of(user, &marks, now)
        };
        server.push_user(
            user,
            &ServerFrame::Marks(Marks {
                conversation: id,
                marks: vec![step],
            }),
        );
    }
    server.trim(id);
    Ok(())
}

fn counts_at(server: &Server, id: ConversationId, user: UserId, seq: Seq, now: Time) -> MarkValue {
    let entries = server
        .committed
        .get(&id)
        .into_iter()
        .flatten()
        .take_while(|entry| entry.seq() <= seq);
    let (mut ordinal, mut own) = (0, 0);
    for entry in entries.filter(|entry| entry.envelope.counts) {
        ordinal += 1;
        own += u64::from(entry.envelope.author == user);
    }
    MarkValue {
        seq,
        ordinal,
        own,
        at: now,
    }
}

impl Server {
    /// Tells all who are in but one of these users' marks.
    pub(super) fn tell_marks(
        &mut self,
        id: ConversationId,
        users: &[UserId],
        except: Option<UserId>,
    ) {
        let now = self.now;
        let hot = self.hot(id);
        for user in users {
            if let Some(marks) = hot.marks.get_mut(user) {
                marks.told = MemberMarks {
                    delivered: marks.delivered,
                    shown: marks.shown,
                };
            }
        }
        let marks = users
            .iter()
            .map(|user| step_of(*user, &hot.marks_of(*user), now))
            .collect();
        let event = ServerFrame::Marks(Marks {
            conversation: id,
            marks,
        });
        for user in self.present(id) {
            if Some(user) != except {
                self.push_user(user, &event);
            }
        }
    }
}

fn step_of(user: UserId, marks: &UserMarks, at: Time) -> MarkStep {
    let some = |seq: Seq| Some(seq).filter(|seq| *seq > 0);
    MarkStep {
        user,
        at,
        delivered: some(marks.delivered),
        shown: some(marks.shown),
        read: None,
    }
}
