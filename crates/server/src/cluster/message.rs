//! What servers say to each other, and its bytes: the stored forms of `tidings_core::codec`, with a kind in
//! front. A kind that a server does not know is skipped, so that versions can run side by side.

#[cfg(test)]
mod tests;

use tidings_core::codec::{
    DecodeError, Reader, Writer, decode_body, decode_envelope, encode_body, encode_envelope,
};
use tidings_core::entry::Entry;
use tidings_core::log::{Generation, Seq};
use tidings_core::mark::MarkValue;
use tidings_core::{ConversationId, DeviceId, Time, UserId};

use crate::chat::MarksNews;
use crate::trace::Context;

/// A server, new at each start.
pub type NodeId = [u8; 16];

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Message {
    /// A server is there.
    Beat(Beat),
    /// Users have their first session at a server, or lost their last.
    Moved {
        node: NodeId,
        came: Vec<UserId>,
        went: Vec<UserId>,
    },
    /// Asks a server for a whole list.
    Ask { node: NodeId, list: List },
    /// Part of a list of a server's users; the first part begins anew.
    Users {
        node: NodeId,
        list: List,
        is_first: bool,
        users: Vec<UserId>,
    },
    /// Entries were committed.
    Entries {
        conversation: ConversationId,
        generation: Generation,
        entries: Vec<Entry>,
        /// Those of them that are traced. Last, and only if there are any: others stop reading before it.
        traces: Vec<(Seq, Context)>,
    },
    /// Something was committed that is too large for a message.
    Look { conversation: ConversationId },
    /// Marks rose.
    Marks(MarksNews),
    /// Somebody is typing, or no longer.
    Typing {
        conversation: ConversationId,
        user: UserId,
        on: bool,
    },
    /// A user came online at a server or went offline there.
    Online {
        node: NodeId,
        user: UserId,
        on: bool,
        last_seen: Time,
    },
    /// Something that every server must hear of was written down: look now.
    Notice,
    /// A key of a user's private map changed.
    Private {
        user: UserId,
        key: String,
        except: DeviceId,
    },
    /// Sends of one conversation, in their order, for the server that has it in memory.
    Forward(Forward),
    /// How they were answered, in the same order.
    Answers { request: u64, answers: Vec<u8> },
}

/// Lists of users that every server keeps of every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum List {
    /// Those with sessions there.
    Connected,
    /// Those who are online by a session there.
    Online,
}

/// What is told of a list with each heartbeat: whoever missed a change sees that it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// How many users.
    pub(crate) count: u64,
    /// The sum of their hashes.
    pub(crate) sum: u64,
}

/// A server's heartbeat.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Beat {
    pub(super) node: NodeId,
    /// Its clock.
    pub(super) at: Time,
    /// The rules that it knows.
    pub(super) rules: u8,
    /// Where clients reach it; empty if they need not know.
    pub(super) address: String,
    pub(super) region: String,
    pub(super) sessions: u64,
    pub(super) sessions_max: u64,
    /// Not if it is about to end, its clock is wrong, or it was not started for that.
    pub(super) takes_conversations: bool,
    /// As above.
    pub(super) takes_clients: bool,
    /// Of those with sessions there.
    pub(super) connected: Summary,
    /// Of those who are online there.
    pub(super) online: Summary,
    /// Of the program; empty if it is too old to say. Last: others stop reading before it.
    pub(super) version: String,
}

/// Sends that are handed to another server.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Forward {
    pub(super) from: NodeId,
    pub(super) request: u64,
    /// Who, with which device, and the frame in CBOR.
    pub(super) sends: Vec<(UserId, DeviceId, Vec<u8>)>,
    /// Those of them, by their place, that are traced. As with entries.
    pub(super) traces: Vec<(u64, Context)>,
}

impl Message {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::versioned(1, 128);
        match self {
            Message::Beat(beat) => {
                writer.byte(1);
                writer.id(&beat.node);
                writer.number(beat.at.0);
                writer.byte(beat.rules);
                writer.text(&beat.address);
                writer.text(&beat.region);
                writer.number(beat.sessions);
                writer.number(beat.sessions_max);
                writer.flag(beat.takes_conversations);
                writer.flag(beat.takes_clients);
                for list in [beat.connected, beat.online] {
                    writer.number(list.count);
                    writer.number(list.sum);
                }
                writer.text(&beat.version);
            }
            Message::Moved { node, came, went } => {
                writer.byte(2);
                writer.id(node);
                write_users(&mut writer, came);
                write_users(&mut writer, went);
            }
            Message::Ask { node, list } => {
                writer.byte(3);
                writer.id(node);
                write_list(&mut writer, *list);
            }
            Message::Users {
                node,
                list,
                is_first,
                users,
            } => {
                writer.byte(4);
                writer.id(node);
                write_list(&mut writer, *list);
                writer.flag(*is_first);
                write_users(&mut writer, users);
            }
            Message::Entries {
                conversation,
                generation,
                entries,
                traces,
            } => {
                writer.byte(5);
                writer.id(&conversation.0);
                writer.id(&generation.0);
                writer.list(entries.iter(), |writer, entry| {
                    writer.blob(&encode_envelope(&entry.envelope));
                    writer.blob(&encode_body(&entry.body));
                });
                if !traces.is_empty() {
                    writer.list(traces.iter(), |writer, (seq, context)| {
                        writer.number(*seq);
                        write_context(writer, *context);
                    });
                }
            }
            Message::Look { conversation } => {
                writer.byte(6);
                writer.id(&conversation.0);
            }
            Message::Marks(news) => {
                writer.byte(7);
                writer.id(&news.conversation.0);
                writer.id(&news.generation.0);
                writer.id(&news.user.0);
                writer.number(news.delivered);
                writer.number(news.shown);
                writer.option(news.read, |writer, read| {
                    for number in [read.seq, read.ordinal, read.own, read.at.0] {
                        writer.number(number);
                    }
                });
                writer.number(news.at.0);
            }
            Message::Typing {
                conversation,
                user,
                on,
            } => {
                writer.byte(8);
                writer.id(&conversation.0);
                writer.id(&user.0);
                writer.flag(*on);
            }
            Message::Online {
                node,
                user,
                on,
                last_seen,
            } => {
                writer.byte(9);
                writer.id(node);
                writer.id(&user.0);
                writer.flag(*on);
                writer.number(last_seen.0);
            }
            Message::Notice => writer.byte(10),
            Message::Private { user, key, except } => {
                writer.byte(11);
                writer.id(&user.0);
                writer.text(key);
                writer.id(&except.0);
            }
            Message::Forward(forward) => {
                writer.byte(12);
                writer.id(&forward.from);
                writer.number(forward.request);
                writer.list(forward.sends.iter(), |writer, (user, device, frame)| {
                    writer.id(&user.0);
                    writer.id(&device.0);
                    writer.blob(frame);
                });
                if !forward.traces.is_empty() {
                    writer.list(forward.traces.iter(), |writer, (place, context)| {
                        writer.number(*place);
                        write_context(writer, *context);
                    });
                }
            }
            Message::Answers { request, answers } => {
                writer.byte(13);
                writer.number(*request);
                writer.blob(answers);
            }
        }
        writer.finish()
    }

    /// `None`: of a kind that this program does not know.
    pub(super) fn decode(bytes: &[u8]) -> Result<Option<Message>, DecodeError> {
        let mut reader = Reader::versioned(1, bytes)?;
        Ok(Some(match reader.byte()? {
            1 => Message::Beat(Beat {
                node: reader.id()?,
                at: Time(reader.number()?),
                rules: reader.byte()?,
                address: reader.text()?,
                region: reader.text()?,
                sessions: reader.number()?,
                sessions_max: reader.number()?,
                takes_conversations: reader.flag()?,
                takes_clients: reader.flag()?,
                connected: read_summary(&mut reader)?,
                online: read_summary(&mut reader)?,
                version: match reader.is_at_end() {
                    true => String::new(),
                    false => reader.text()?,
                },
            }),
            2 => Message::Moved {
                node: reader.id()?,
                came: read_users(&mut reader)?,
                went: read_users(&mut reader)?,
            },
            3 => Message::Ask {
                node: reader.id()?,
                list: read_list(&mut reader)?,
            },
            4 => Message::Users {
                node: reader.id()?,
                list: read_list(&mut reader)?,
                is_first: reader.flag()?,
                users: read_users(&mut reader)?,
            },
            5 => Message::Entries {
                conversation: ConversationId(reader.id()?),
                generation: Generation(reader.id()?),
                entries: reader.list(|reader| {
                    let envelope = decode_envelope(reader.blob()?)?;
                    let body = decode_body(envelope.kind, reader.blob()?)?;
                    Ok(Entry { envelope, body })
                })?,
                traces: match reader.is_at_end() {
                    true => Vec::new(),
                    false => reader.list(|reader| Ok((reader.number()?, read_context(reader)?)))?,
                },
            },
            6 => Message::Look {
                conversation: ConversationId(reader.id()?),
            },
            7 => Message::Marks(MarksNews {
                conversation: ConversationId(reader.id()?),
                generation: Generation(reader.id()?),
                user: UserId(reader.id()?),
                delivered: reader.number()?,
                shown: reader.number()?,
                read: reader.option(|reader| {
                    Ok(MarkValue {
                        seq: reader.number()?,
                        ordinal: reader.number()?,
                        own: reader.number()?,
                        at: Time(reader.number()?),
                    })
                })?,
                at: Time(reader.number()?),
            }),
            8 => Message::Typing {
                conversation: ConversationId(reader.id()?),
                user: UserId(reader.id()?),
                on: reader.flag()?,
            },
            9 => Message::Online {
                node: reader.id()?,
                user: UserId(reader.id()?),
                on: reader.flag()?,
                last_seen: Time(reader.number()?),
            },
            10 => Message::Notice,
            11 => Message::Private {
                user: UserId(reader.id()?),
                key: reader.text()?,
                except: DeviceId(reader.id()?),
            },
            12 => Message::Forward(Forward {
                from: reader.id()?,
                request: reader.number()?,
                sends: reader.list(|reader| {
                    let (user, device) = (UserId(reader.id()?), DeviceId(reader.id()?));
                    Ok((user, device, reader.blob()?.to_vec()))
                })?,
                traces: match reader.is_at_end() {
                    true => Vec::new(),
                    false => reader.list(|reader| Ok((reader.number()?, read_context(reader)?)))?,
                },
            }),
            13 => Message::Answers {
                request: reader.number()?,
                answers: reader.blob()?.to_vec(),
            },
            _ => return Ok(None),
        }))
    }
}

fn write_context(writer: &mut Writer, context: Context) {
    writer.id(&context.trace);
    writer.blob(&context.span);
}

fn read_context(reader: &mut Reader<'_>) -> Result<Context, DecodeError> {
    let trace = reader.id()?;
    let span = reader.blob()?.try_into();
    Ok(Context::new(
        trace,
        span.map_err(|_| DecodeError::Malformed)?,
    ))
}

fn write_users(writer: &mut Writer, users: &[UserId]) {
    writer.list(users.iter(), |writer, user| writer.id(&user.0));
}

fn write_list(writer: &mut Writer, list: List) {
    writer.flag(list == List::Online);
}

fn read_list(reader: &mut Reader<'_>) -> Result<List, DecodeError> {
    Ok(match reader.flag()? {
        true => List::Online,
        false => List::Connected,
    })
}

fn read_summary(reader: &mut Reader<'_>) -> Result<Summary, DecodeError> {
    Ok(Summary {
        count: reader.number()?,
        sum: reader.number()?,
    })
}

fn read_users(reader: &mut Reader<'_>) -> Result<Vec<UserId>, DecodeError> {
    reader.list(|reader| reader.id().map(UserId))
}
