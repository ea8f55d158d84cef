//! Short forms, as a device speaks them that agreed on them: what goes out is shortened where it can be, and what
//! comes in is taken as the long form that it stands for. What a device cannot make sense of it passes over: the
//! digest and the ranges must tell it.

use std::time::{SystemTime, UNIX_EPOCH};

use tidings_core::{ClientId, ConversationId, Kind, Time, UserId, digest};
use tidings_protocol::entry::Entry;
use tidings_protocol::mark::{MarkStep, MarkUpdate, Marks};
use tidings_protocol::send::{Action, Send, Sent};
use tidings_protocol::short::{Handle, Messages, Said, Say, Seen, Steps};
use tidings_protocol::sync::Entries;
use tidings_protocol::{ClientFrame, ServerFrame};

use super::log::Log;
use super::memory::Memory;

/// The server's time, near enough.
fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    Time(u64::try_from(millis).unwrap_or(u64::MAX))
}

fn handle_of(id: ConversationId, log: &Log) -> Option<Handle> {
    let generation = log.generation.filter(|_| !log.out)?;
    Some(Handle(digest::handle(id, generation)))
}

/// The conversation that a handle means, if it is one alone.
fn conversation_of(memory: &Memory, handle: Handle) -> Option<ConversationId> {
    let mut meant = memory
        .logs
        .iter()
        .filter(|(id, log)| handle_of(**id, log) == Some(handle));
    let (&id, _) = meant.next()?;
    meant.next().is_none().then_some(id)
}

fn member_of(log: &Log, handle: Handle) -> Option<UserId> {
    let mut meant = log
        .told
        .keys()
        .filter(|user| digest::user_handle(**user) == handle.0);
    let user = meant.next().copied()?;
    meant.next().is_none().then_some(user)
}

/// The short form of a first try, if it has one.
pub(super) fn say(memory: &Memory, send: &Send) -> Option<ClientFrame> {
    let id = send.conversation?;
    let log = memory.logs.get(&id)?;
    send.after
        .filter(|after| log.generation == Some(after.generation))?;
    Say::of(send, handle_of(id, log)?).map(ClientFrame::Say)
}

/// The short form of a mark, if it has one. Every other time the device wants to be told where its read mark is then;
/// otherwise it knows.
pub(super) fn seen(memory: &mut Memory, mark: &MarkUpdate) -> Option<ClientFrame> {
    let id = mark.conversation;
    let log = memory.logs.get_mut(&id)?;
    let conversation = handle_of(id, log).filter(|_| log.generation == mark.generation)?;
    let tell = mark.read.is_some_and(|read| read.is_multiple_of(2));
    if !tell {
        log.read.seq = log.read.seq.max(mark.read.unwrap_or(0));
    }
    Some(ClientFrame::Seen(Seen {
        id: None,
        conversation,
        delivered: mark.delivered,
        read: mark.read,
        tell,
    }))
}

/// What `said` stands for: the answer to the send, and the entry's event if it stands for that too.
pub(super) fn said(
    memory: &Memory,
    client_id: ClientId,
    said: &Said,
) -> Option<(Sent, Option<Entries>)> {
    let pending = memory
        .outbox
        .iter()
        .find(|pending| pending.client_id == client_id)?;
    let (id, generation) = (pending.conversation?, pending.after?.generation);
    let Action::Message(message) = &pending.action else {
        return None;
    };
    let at = said.at.near(now());
    let sent = Sent {
        id: said.id,
        client_id,
        conversation: id,
        seq: said.seq,
        at,
        generation,
    };
    let event = said.ordinal.map(|ordinal| {
        let entry = Entry {
            device: Some(memory.device),
            client_id: Some(client_id),
            ordinal,
            counts: true,
            target: message.reply_to,
            content: Some(message.content.clone()),
            ..Entry::bare(said.seq, Kind::Message, memory.user, at)
        };
        event_of(id, said.seq, vec![entry])
    });
    Some((sent, event))
}

/// What an event in the short form stands for.
pub(super) fn long_form(memory: &Memory, frame: ServerFrame) -> Option<ServerFrame> {
    match frame {
        ServerFrame::Messages(event) => entries(memory, &event).map(ServerFrame::Entries),
        ServerFrame::Steps(event) => marks(memory, &event).map(ServerFrame::Marks),
        frame => Some(frame),
    }
}

fn entries(memory: &Memory, event: &Messages) -> Option<Entries> {
    let id = conversation_of(memory, event.conversation)?;
    let log = memory.logs.get(&id)?;
    let entries: Option<Vec<Entry>> = (0..)
        .zip(&event.messages)
        .map(|(place, message)| {
            let author = match message.author {
                Some(handle) => member_of(log, handle)?,
                None => message.user?,
            };
            let (seq, ordinal) = (event.from + place, event.ordinal + place);
            Some(message.clone().long(seq, author, ordinal, now()))
        })
        .collect();
    Some(event_of(id, event.from, entries?))
}

fn marks(memory: &Memory, event: &Steps) -> Option<Marks> {
    let id = conversation_of(memory, event.conversation)?;
    let log = memory.logs.get(&id)?;
    let steps: Option<Vec<MarkStep>> = event
        .steps
        .iter()
        .map(|step| Some(step.long(member_of(log, step.user)?, now())))
        .collect();
    Some(Marks {
        conversation: id,
        marks: steps?,
    })
}

fn event_of(id: ConversationId, from: u64, entries: Vec<Entry>) -> Entries {
    Entries {
        conversation: id,
        from,
        to: from + entries.len() as u64 - 1,
        membership_seq: 0,
        entries,
    }
}
