//! The commands that wait in a conversation.
//!
//! In: [`Chat::send`] with a frame. Next: a `lane` takes them out in the order in which they came.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tidings_core::conversation::{Action, Command, ConversationKind};
use tidings_core::entry::{Content, Entry};
use tidings_core::id::direct_id;
use tidings_core::{ClientId, ConversationId, UserId};
use tidings_protocol::convert::action_from_wire;
use tidings_protocol::problem::ErrorFrame;
use tidings_protocol::send::{Action as WireAction, Send, Sent};
use tidings_protocol::short::Said;
use tidings_protocol::{Code, Problem, ServerFrame};
use tokio::sync::oneshot;

use super::Chat;
use super::refused::Refused;
use super::turns::Turns;
use crate::clock::random;
use crate::session::{Caller, Session};
use crate::trace::Trace;

/// Where the answer to a command goes.
pub enum Reply {
    /// To a session, under the request's id.
    Session(Arc<Session>, u64),
    /// The same, to one that asked in the short form.
    Short(Arc<Session>, u64),
    /// To whoever waits.
    Once(oneshot::Sender<Result<Sent, Problem>>),
}

/// A text that was said in the short form and is an entry now: its answer stands for the entry's event, and goes
/// where that would.
pub(super) struct Saying {
    pub session: Arc<Session>,
    /// The request's id.
    pub id: u64,
    pub sent: Sent,
    pub is_answered: bool,
}

impl Saying {
    /// The answer that stands for the entry's event.
    pub(super) fn answer(&self, entry: &Entry) -> ServerFrame {
        ServerFrame::Said(Said {
            id: self.id,
            seq: entry.envelope.seq,
            at: entry.envelope.at.into(),
            ordinal: Some(entry.envelope.ordinal),
        })
    }
}

/// A command that waits.
pub(super) struct Queued {
    pub command: Command,
    /// The direct conversation with this user is made if it is not there.
    pub direct_with: Option<UserId>,
    pub reply: Reply,
    pub received: Instant,
    /// Its device wants to send nothing before it.
    pub first: bool,
    /// Its number among all that came to the conversation.
    pub arrival: u64,
    /// About how much memory it takes.
    pub bytes: usize,
    /// As it came, if another server may have the conversation.
    pub frame: Option<Box<Send>>,
    /// If it is traced: until it is answered, when this is dropped.
    pub trace: Option<Box<Trace>>,
}

/// What waits in a conversation, and who must come again first.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Queued>,
    /// The sum of what waits.
    bytes: usize,
    /// Whether it is being worked on, or stands in its lane's line.
    pub working: bool,
    /// When the first of what was last taken came.
    taken: Option<Instant>,
    /// How many have come.
    arrivals: u64,
    pub refused: Refused,
    /// Whether another server appends too.
    pub turns: Turns,
}

impl Queue {
    /// Takes from the front what is decided and committed together: at least one command, if any waits.
    pub(super) fn take_batch(&mut self, commands_max: usize, bytes_max: usize) -> Vec<Queued> {
        let all = self.waiting.len() <= commands_max && self.bytes <= bytes_max;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        if all {
            // As they lie there; a quiet conversation keeps no buffer.
            batch = Vec::from(std::mem::take(&mut self.waiting));
            bytes = self.bytes;
        }
        while batch.len() < commands_max
            && bytes < bytes_max
            && let Some(queued) = self.waiting.pop_front()
        {
            bytes += queued.bytes;
            batch.push(queued);
        }
        self.bytes -= bytes;
        self.taken = batch.first().map(|queued| queued.received);
        batch
    }

    /// Whether commands wait.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When the oldest came of what is not answered yet. Between two batches the first of the one before still
    /// counts.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let waiting = self.waiting.front().map(|queued| queued.received);
        self.taken.filter(|_| self.working).or(waiting)
    }

    /// Whether nothing waits and nobody must come again first: then nothing is lost with it.
    pub(super) fn is_idle(&self) -> bool {
        !self.working && self.waiting.is_empty() && !self.refused.holds_up()
    }
}

impl Chat {
    /// Takes a command. Never waits: the answer goes to `reply` when the entry is durable, or at once if
    /// it is refused. Calls in one order are decided in that order.
    pub fn send(self: &Arc<Self>, caller: Caller, frame: Send, reply: Reply) {
        // A group that is begun is nobody's yet.
        let may_go = self.is_shared() && !matches!(frame.action, WireAction::Create(_));
        let kept = may_go.then(|| Box::new(frame.clone()));
        self.put(caller, frame, kept, reply);
    }

    /// As [`Chat::send`], for what another server handed to this one.
    pub fn send_here(self: &Arc<Self>, caller: Caller, frame: Send, reply: Reply) {
        self.put(caller, frame, None, reply);
    }

    fn put(self: &Arc<Self>, caller: Caller, frame: Send, kept: Option<Box<Send>>, reply: Reply) {
        self.outstanding.fetch_add(1, Ordering::SeqCst);
        let client_id = frame.client_id;
        let (id, mut queued) = match self.take(caller, frame, reply) {
            Ok(taken) => taken,
            Err((reply, problem)) => return self.answer(reply, client_id, Err(problem)),
        };
        let conversation = self.hot(id);
        let mut queue = conversation.queue();
        queue.arrivals += 1;
        queued.arrival = queue.arrivals;
        queued.frame = kept;
        let full = queue.waiting.len() >= self.settings.queue_commands_max
            || queue.bytes + queued.bytes > self.settings.queue_bytes_max;
        if full {
            let problem = Problem::new(Code::Busy).detail("too much waits in this conversation");
            queue.refused.settled(&queued, Err(&problem));
            drop(queue);
            return self.answer(queued.reply, client_id, Err(problem));
        }
        queue.bytes += queued.bytes;
        if queue.waiting.capacity() == 0 {
            // Most of the time it is the only one.
            queue.waiting.reserve_exact(1);
        }
        queue.waiting.push_back(queued);
        if !queue.working {
            queue.working = true;
            drop(queue);
            self.ready(conversation);
        }
    }

    fn take(
        &self,
        caller: Caller,
        frame: Send,
        reply: Reply,
    ) -> Result<(ConversationId, Queued), (Reply, Problem)> {
        let is_aside = self
            .others
            .get()
            .is_some_and(|others| !others.takes_sends());
        if is_aside || self.draining.load(Ordering::SeqCst) {
            return Err((reply, Problem::new(Code::Draining)));
        }
        let (client_id, direct_with) = (frame.client_id, frame.to);
        if client_id == ClientId([0; 16]) {
            // The server's own entries have it.
            let detail = "client_id: the nil UUID is nobody's";
            return Err((reply, Problem::new(Code::Invalid).detail(detail)));
        }
        let makes_link = matches!(&frame.action, WireAction::Configure(change) if change.invite_link == Some(true));
        let new_link = if makes_link { random() } else { [0; 16] };
        let action = match action_from_wire(frame.action, new_link) {
            Ok(action) => action,
            Err(what) => return Err((reply, Problem::new(Code::Invalid).detail(what))),
        };
        let id = match (&action, frame.conversation, direct_with) {
            (
                Action::Create {
                    kind: ConversationKind::Group,
                    ..
                },
                None,
                None,
            ) => group_id(caller.user, client_id),
            (Action::Create { .. }, ..) => {
                let detail = "create: a group, without `conversation` and `to`; a direct conversation begins with its first message";
                return Err((reply, Problem::new(Code::Invalid).detail(detail)));
            }
            (_, Some(id), None) => id,
            (Action::Message { .. }, None, Some(other)) => direct_id(caller.user, other),
            _ => {
                let detail = "exactly one of `conversation` and, for a message, `to`";
                return Err((reply, Problem::new(Code::Invalid).detail(detail)));
            }
        };
        let command = Command {
            author: caller.user,
            device: caller.device,
            client_id,
            after: frame.after.map(Into::into),
            if_epoch: frame.if_epoch,
            action,
        };
        let bytes = bytes_of(&command.action);
        Ok((
            id,
            Queued {
                command,
                direct_with,
                reply,
                received: Instant::now(),
                first: frame.first,
                arrival: 0,
                bytes,
                frame: None,
                trace: self.tracer().and_then(|tracer| tracer.begin(client_id)),
            },
        ))
    }

    /// Gives a command its one answer.
    pub(super) fn answer(&self, reply: Reply, client_id: ClientId, answer: Result<Sent, Problem>) {
        if let Err(problem) = &answer {
            self.metrics.problem(problem.code);
            tracing::debug!(%client_id, code = problem.code.name(), "a send was refused");
        }
        match reply {
            Reply::Once(reply) => {
                // Whoever asked may have gone; what was done is done.
                let _ = reply.send(answer);
            }
            Reply::Session(session, id) => {
                let sent = |sent| ServerFrame::Sent(Sent { id, ..sent });
                session.push(&answer.map_or_else(|problem| refused(id, problem), sent));
                session.send_settled();
            }
            Reply::Short(session, id) => {
                let said = |sent: Sent| {
                    ServerFrame::Said(Said {
                        id,
                        seq: sent.seq,
                        at: sent.at.into(),
                        ordinal: None,
                    })
                };
                session.push(&answer.map_or_else(|problem| refused(id, problem), said));
                session.send_settled();
            }
        }
        self.outstanding.fetch_sub(1, Ordering::SeqCst);
    }

    /// Gives a text its answer, if it has not had it in the place of its entry's event.
    pub(super) fn answer_saying(&self, saying: Saying) {
        if !saying.is_answered {
            let client_id = saying.sent.client_id;
            let reply = Reply::Short(saying.session, saying.id);
            return self.answer(reply, client_id, Ok(saying.sent));
        }
        saying.session.send_settled();
        self.outstanding.fetch_sub(1, Ordering::SeqCst);
    }
}

fn refused(id: u64, problem: Problem) -> ServerFrame {
    let id = Some(id);
    ServerFrame::Error(ErrorFrame { id, problem })
}

/// About how much memory a waiting command takes: its texts and lists, and a little for itself.
fn bytes_of(action: &Action) -> usize {
    let content = match action {
        Action::Message { content, .. } | Action::Edit { content, .. } => match content {
            Content::Text(text) => {
                let attachments = text.attachments.iter().map(|attachment| {
                    attachment.reference.len()
                        + attachment.name.len()
                        + attachment.media_type.len()
                        + 64
                });
                text.text.len() + text.mentions.len() * 16 + attachments.sum::<usize>()
            }
            Content::Opaque(opaque) => opaque.bytes.len() + opaque.content_type.len(),
        },
        Action::Commit(opaque) => opaque.bytes.len() + opaque.content_type.len(),
        Action::Create { users, .. } | Action::Invite { users } => users.len() * 16,
        _ => 0,
    };
    content + std::mem::size_of::<Queued>()
}

/// The id of the group that this author's client id makes: a retry makes no second one. A cryptographic
/// hash, for both parts are the client's to choose: nobody can aim at the id of another conversation.
fn group_id(author: UserId, client_id: ClientId) -> ConversationId {
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(b"tidings group")
        .update(&author.0)
        .update(&client_id.0);
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    ConversationId(id)
}
