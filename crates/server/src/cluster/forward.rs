//! Affinity: sends of a conversation go to the server that has it in memory, so that two do not contend for its
//! head. For speed alone: whoever gets no answer works on them itself, and a retry is harmless.
//!
//! A server hands over one batch of a conversation at a time and waits for its answers, so that the order in
//! which a device sent stays.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidings_core::ConversationId;
use tidings_protocol::send::{Send, Sent};
use tidings_protocol::{ClientFrame, Encoding, Problem};
use tokio::sync::oneshot;

use super::message::{Forward, Message, NodeId};
use super::wire::{self, To};
use super::{Cluster, Services};
use crate::chat::{Forwarded, Handed, Reply};
use crate::config::Affinity;
use crate::session::Caller;
use crate::trace;

/// Answers that are waited for, by request.
#[derive(Default)]
pub(super) struct Forwarding {
    waiting: Mutex<BTreeMap<u64, Waiting>>,
}

struct Waiting {
    node: NodeId,
    answers: oneshot::Sender<Vec<Result<Sent, Problem>>>,
}

impl Forwarding {
    /// A server is gone: nobody waits for it any longer.
    pub(super) fn lose(&self, node: NodeId) {
        self.lock().retain(|_, waiting| waiting.node != node);
    }

    fn wait(&self, request: u64, waiting: Waiting) {
        let mut all = self.lock();
        // All wait equally long: those who have given up are the first.
        while let Some(first) = all.first_entry()
            && first.get().answers.is_closed()
        {
            first.remove();
        }
        all.insert(request, waiting);
    }

    pub(super) fn answered(&self, request: u64, answers: &[u8]) {
        let Some(waiting) = self.lock().remove(&request) else {
            return;
        };
        match serde_json::from_slice::<Vec<Answer>>(answers) {
            Ok(answers) => {
                // Whoever waited may have given up.
                let _ = waiting
                    .answers
                    .send(answers.into_iter().map(Answer::into_result).collect());
            }
            Err(error) => tracing::warn!(%error, "another server answered something unreadable"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer on its way between servers.
#[derive(serde::Serialize, serde::Deserialize)]
enum Answer {
    Sent(Sent),
    Problem(Problem),
}

impl Answer {
    fn into_result(self) -> Result<Sent, Problem> {
        match self {
            Answer::Sent(sent) => Ok(sent),
            Answer::Problem(problem) => Err(problem),
        }
    }
}

impl Cluster {
    /// Hands sends to the server that has the conversation. `None`: it is this one.
    pub(super) fn forward(
        &self,
        conversation: ConversationId,
        frames: &dyn Fn() -> Option<Vec<Handed>>,
    ) -> Option<Forwarded> {
        let is_connected = self.is_connected.load(Ordering::Relaxed);
        if self.settings.affinity == Affinity::Everybody || !is_connected {
            return None;
        }
        let node = self
            .peers()
            .holder(self.me, !self.takes_conversations(), &conversation.0)?;
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        let (mut sends, mut traces) = (Vec::new(), Vec::new());
        for (place, (caller, frame, trace)) in (0..).zip(frames()?) {
            sends.push((caller.user, caller.device, frame));
            traces.extend(trace.map(|trace| (place, trace)));
        }
        let forward = Message::Forward(Forward {
            from: self.me,
            request,
            sends,
            traces,
        });
        let bytes = forward.encode();
        if !wire::fits(&bytes) {
            return None;
        }
        let (answers, answered) = oneshot::channel();
        self.forwarding.wait(request, Waiting { node, answers });
        self.say_bytes(To::One(node), bytes.into());
        Some(answered)
    }

    /// Another server hands over sends.
    pub(super) fn heard_forward(self: &Arc<Self>, services: &Services, forward: Forward) {
        let Some(chat) = services.chat.upgrade() else {
            return;
        };
        let sends = forward.sends.iter().map(|(user, device, frame)| {
            let (user, device) = (*user, *device);
            Some((Caller { user, device }, decode(frame)?))
        });
        // All or none of them: the second of a device must not go in before the first. Their own server works on what
        // gets no answers.
        let sends: Vec<(Caller, Send)> = sends.collect::<Option<_>>().unwrap_or_default();
        let mut waiting = Vec::with_capacity(sends.len());
        for (place, (caller, send)) in (0..).zip(sends) {
            let (reply, answer) = oneshot::channel();
            let trace = forward.traces.iter().find(|(of, _)| *of == place);
            // A server that traces nothing itself leaves it alone.
            trace::asked(trace.map(|(_, context)| *context), || {
                chat.send_here(caller, send, Reply::Once(reply));
            });
            waiting.push(answer);
        }
        let cluster = self.clone();
        tokio::spawn(async move {
            let mut answers = Vec::with_capacity(waiting.len());
            for answer in waiting {
                answers.push(match answer.await {
                    Ok(Ok(sent)) => Answer::Sent(sent),
                    Ok(Err(problem)) => Answer::Problem(problem),
                    Err(_) => return,
                });
            }
            let Ok(answers) = serde_json::to_vec(&answers) else {
                return;
            };
            let request = forward.request;
            cluster.say(
                To::One(forward.from),
                &Message::Answers { request, answers },
            );
        });
    }
}

/// A send as it is handed over.
pub(crate) fn encode(send: Send) -> Option<Vec<u8>> {
    Encoding::Cbor.encode_request(&ClientFrame::Send(send)).ok()
}

/// The reverse of [`encode`].
pub(crate) fn decode(bytes: &[u8]) -> Option<Send> {
    match Encoding::Cbor.decode_request(bytes) {
        Ok(ClientFrame::Send(send)) => Some(send),
        _ => None,
    }
}
