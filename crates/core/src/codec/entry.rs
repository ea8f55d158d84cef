//! The stored form of entries: envelope and body apart, since the body can be erased.

use super::primitive::{DecodeError, Reader, Writer};
use super::state::{
    read_change, read_kind, read_role, read_settings, write_change, write_settings,
};
use crate::entry::{Attachment, Body, Content, Envelope, Kind, Opaque, TextContent};
use crate::id::{ClientId, DeviceId, UserId};
use crate::time::Time;

const VERSION: u8 = 1;

/// The stored form of an envelope.
#[must_use]
pub fn encode_envelope(envelope: &Envelope) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION, 80);
    writer.number(envelope.seq);
    writer.byte(envelope.kind.number());
    writer.byte(envelope.rules);
    writer.id(&envelope.author.0);
    writer.id(&envelope.device.0);
    writer.number(envelope.at.0);
    writer.id(&envelope.client_id.0);
    writer.option(envelope.target, Writer::number);
    writer.number(u64::from(envelope.lane));
    writer.option(envelope.expires, |writer, time| writer.number(time.0));
    writer.number(envelope.epoch);
    writer.flag(envelope.counts);
    writer.number(envelope.ordinal);
    writer.finish()
}

/// The envelope of its stored form.
///
/// # Errors
/// When the bytes are not one.
pub fn decode_envelope(bytes: &[u8]) -> Result<Envelope, DecodeError> {
    let mut reader = Reader::versioned(VERSION, bytes)?;
    let envelope = Envelope {
        seq: reader.number()?,
        kind: Kind::from_number(reader.byte()?),
        rules: reader.byte()?,
        author: UserId(reader.id()?),
        device: DeviceId(reader.id()?),
        at: Time(reader.number()?),
        client_id: ClientId(reader.id()?),
        target: reader.option(Reader::number)?,
        lane: reader.number32()?,
        expires: reader.option(|reader| reader.number().map(Time))?,
        epoch: reader.number()?,
        counts: reader.flag()?,
        ordinal: reader.number()?,
    };
    reader.finish()?;
    Ok(envelope)
}

/// The stored form of a body; an erased one is its version alone.
#[must_use]
pub fn encode_body(body: &Body) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION, 64);
    match body {
        Body::Erased | Body::Delete | Body::Leave => {}
        Body::Create {
            kind,
            members,
            settings,
        } => {
            writer.byte(*kind as u8);
            writer.list(members.iter(), |writer, (user, role)| {
                writer.id(&user.0);
                writer.byte(*role as u8);
            });
            write_settings(&mut writer, settings);
        }
        Body::Message(content) | Body::Edit(content) => write_content(&mut writer, content),
        Body::Reaction { emoji, on } => {
            writer.text(emoji);
            writer.flag(*on);
        }
        Body::Join { users, from } => {
            writer.list(users.iter(), |writer, user| writer.id(&user.0));
            writer.number(*from);
        }
        Body::Remove { user } => writer.id(&user.0),
        Body::Role { user, role } => {
            writer.id(&user.0);
            writer.byte(*role as u8);
        }
        Body::Settings(change) => write_change(&mut writer, change),
        Body::Commit(opaque) => write_opaque(&mut writer, opaque),
        Body::Unknown(bytes) => writer.blob(bytes),
    }
    writer.finish()
}

/// The body of its stored form, given the kind in its envelope.
///
/// # Errors
/// When the bytes are not a body of that kind.
pub fn decode_body(kind: Kind, bytes: &[u8]) -> Result<Body, DecodeError> {
    let mut reader = Reader::versioned(VERSION, bytes)?;
    // Two kinds say everything in the envelope; for all others nothing after the version means erased.
    match kind {
        Kind::Delete => return reader.finish().map(|()| Body::Delete),
        Kind::Leave => return reader.finish().map(|()| Body::Leave),
        _ if bytes.len() == 1 => return Ok(Body::Erased),
        _ => {}
    }
    let body = match kind {
        Kind::Create => Body::Create {
            kind: read_kind(&mut reader)?,
            members: reader.list(|reader| Ok((UserId(reader.id()?), read_role(reader)?)))?,
            settings: read_settings(&mut reader)?,
        },
        Kind::Message => Body::Message(read_content(&mut reader)?),
        Kind::Edit => Body::Edit(read_content(&mut reader)?),
        Kind::Reaction => Body::Reaction {
            emoji: reader.text()?,
            on: reader.flag()?,
        },
        Kind::Join => Body::Join {
            users: reader.list(|reader| reader.id().map(UserId))?,
            from: reader.number()?,
        },
        Kind::Remove => Body::Remove {
            user: UserId(reader.id()?),
        },
        Kind::Role => Body::Role {
            user: UserId(reader.id()?),
            role: read_role(&mut reader)?,
        },
        Kind::Settings => Body::Settings(read_change(&mut reader)?),
        Kind::Commit => Body::Commit(read_opaque(&mut reader)?),
        Kind::Unknown(_) => Body::Unknown(reader.blob()?.to_vec()),
        Kind::Delete | Kind::Leave => return Err(DecodeError::Malformed),
    };
    reader.finish()?;
    Ok(body)
}

fn write_content(writer: &mut Writer, content: &Content) {
    match content {
        Content::Text(text) => {
            writer.byte(1);
            writer.text(&text.text);
            writer.list(text.mentions.iter(), |writer, user| writer.id(&user.0));
            writer.list(text.attachments.iter(), |writer, attachment| {
                writer.text(&attachment.reference);
                writer.text(&attachment.name);
                writer.text(&attachment.media_type);
                writer.number(attachment.bytes);
            });
        }
        Content::Opaque(opaque) => {
            writer.byte(2);
            write_opaque(writer, opaque);
        }
    }
}

fn read_content(reader: &mut Reader<'_>) -> Result<Content, DecodeError> {
    match reader.byte()? {
        1 => Ok(Content::Text(TextContent {
            text: reader.text()?,
            mentions: reader.list(|reader| reader.id().map(UserId))?,
            attachments: reader.list(|reader| {
                Ok(Attachment {
                    reference: reader.text()?,
                    name: reader.text()?,
                    media_type: reader.text()?,
                    bytes: reader.number()?,
                })
            })?,
        })),
        2 => read_opaque(reader).map(Content::Opaque),
        _ => Err(DecodeError::Malformed),
    }
}

fn write_opaque(writer: &mut Writer, opaque: &Opaque) {
    writer.text(&opaque.content_type);
    writer.blob(&opaque.bytes);
}

fn read_opaque(reader: &mut Reader<'_>) -> Result<Opaque, DecodeError> {
    Ok(Opaque {
        content_type: reader.text()?,
        bytes: reader.blob()?.to_vec(),
    })
}
