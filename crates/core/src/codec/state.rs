//! The stored form of a conversation's state and of its members.

use super::primitive::{DecodeError, Reader, Writer};
use crate::conversation::{
    ConversationKind, Encryption, Member, Policy, Recent, Retention, Role, Settings,
    SettingsChange, Span, State,
};
use crate::id::{ClientId, UserId};
use crate::log::Generation;
use crate::mark::MarkValue;
use crate::time::Time;

const VERSION: u8 = 1;

/// The stored form of a state.
#[must_use]
pub fn encode_state(state: &State) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION, 256 + state.recent.len() * 48);
    writer.byte(state.rules);
    writer.id(&state.generation.0);
    writer.byte(state.kind as u8);
    writer.number(state.seq);
    writer.number(state.at.0);
    writer.number(state.ordinal);
    writer.number(state.membership_seq);
    writer.number(u64::from(state.member_count));
    writer.number(u64::from(state.owner_count));
    writer.number(state.epoch);
    write_settings(&mut writer, &state.settings);
    let recent: Vec<&Recent> = state.recent.iter().collect();
    writer.list(recent.into_iter(), |writer, recent| {
        writer.id(&recent.author.0);
        writer.id(&recent.client_id.0);
        writer.number(recent.seq);
        writer.number(recent.at.0);
    });
    writer.number(state.recent_above);
    writer.finish()
}

/// The state of its stored form.
///
/// # Errors
/// When the bytes are not one.
pub fn decode_state(bytes: &[u8]) -> Result<State, DecodeError> {
    let mut reader = Reader::versioned(VERSION, bytes)?;
    let state = State {
        rules: reader.byte()?,
        generation: Generation(reader.id()?),
        kind: read_kind(&mut reader)?,
        seq: reader.number()?,
        at: Time(reader.number()?),
        ordinal: reader.number()?,
        membership_seq: reader.number()?,
        member_count: reader.number32()?,
        owner_count: reader.number32()?,
        epoch: reader.number()?,
        settings: read_settings(&mut reader)?,
        recent: reader
            .list(|reader| {
                Ok(Recent {
                    author: UserId(reader.id()?),
                    client_id: ClientId(reader.id()?),
                    seq: reader.number()?,
                    at: Time(reader.number()?),
                })
            })?
            .into_iter()
            .collect(),
        recent_above: reader.number()?,
    };
    reader.finish()?;
    Ok(state)
}

/// The stored form of a member.
#[must_use]
pub fn encode_member(member: &Member) -> Vec<u8> {
    let mut writer = Writer::versioned(VERSION, 48);
    writer.byte(member.role as u8);
    writer.list(member.spans.iter(), |writer, span| {
        writer.number(span.joined);
        writer.number(span.from);
        writer.option(span.left, Writer::number);
    });
    writer.number(member.own);
    writer.number(member.joined.seq);
    writer.number(member.joined.ordinal);
    writer.number(member.joined.own);
    writer.number(member.joined.at.0);
    writer.finish()
}

/// The member of its stored form.
///
/// # Errors
/// When the bytes are not one.
pub fn decode_member(bytes: &[u8]) -> Result<Member, DecodeError> {
    let mut reader = Reader::versioned(VERSION, bytes)?;
    let member = Member {
        role: read_role(&mut reader)?,
        spans: reader.list(|reader| {
            Ok(Span {
                joined: reader.number()?,
                from: reader.number()?,
                left: reader.option(Reader::number)?,
            })
        })?,
        own: reader.number()?,
        joined: MarkValue {
            seq: reader.number()?,
            ordinal: reader.number()?,
            own: reader.number()?,
            at: Time(reader.number()?),
        },
    };
    reader.finish()?;
    Ok(member)
}

pub(super) fn write_settings(writer: &mut Writer, settings: &Settings) {
    writer.text(&settings.name);
    writer.text(&settings.description);
    writer.text(&settings.avatar);
    writer.byte(settings.post as u8);
    writer.byte(settings.invite as u8);
    writer.byte(settings.describe as u8);
    writer.flag(settings.share_history);
    write_retention(writer, settings.retention);
    writer.option(settings.vanish_after, Writer::number);
    writer.byte(settings.encryption as u8);
    writer.option(settings.invite_link, |writer, link| writer.id(&link));
}

pub(super) fn read_settings(reader: &mut Reader<'_>) -> Result<Settings, DecodeError> {
    Ok(Settings {
        name: reader.text()?,
        description: reader.text()?,
        avatar: reader.text()?,
        post: read_policy(reader)?,
        invite: read_policy(reader)?,
        describe: read_policy(reader)?,
        share_history: reader.flag()?,
        retention: read_retention(reader)?,
        vanish_after: reader.option(Reader::number)?,
        encryption: match reader.byte()? {
            1 => Encryption::None,
            2 => Encryption::Mls,
            _ => return Err(DecodeError::Malformed),
        },
        invite_link: reader.option(Reader::id)?,
    })
}

pub(super) fn write_change(writer: &mut Writer, change: &SettingsChange) {
    let policy = |writer: &mut Writer, policy: Policy| writer.byte(policy as u8);
    writer.option(change.name.as_deref(), Writer::text);
    writer.option(change.description.as_deref(), Writer::text);
    writer.option(change.avatar.as_deref(), Writer::text);
    writer.option(change.post, policy);
    writer.option(change.invite, policy);
    writer.option(change.describe, policy);
    writer.option(change.share_history, Writer::flag);
    writer.option(change.retention, write_retention);
    writer.option(change.vanish_after, |writer, millis| {
        writer.option(millis, Writer::number)
    });
    writer.option(change.invite_link, |writer, link| {
        writer.option(link, |writer, link| writer.id(&link))
    });
}

pub(super) fn read_change(reader: &mut Reader<'_>) -> Result<SettingsChange, DecodeError> {
    Ok(SettingsChange {
        name: reader.option(Reader::text)?,
        description: reader.option(Reader::text)?,
        avatar: reader.option(Reader::text)?,
        post: reader.option(read_policy)?,
        invite: reader.option(read_policy)?,
        describe: reader.option(read_policy)?,
        share_history: reader.option(Reader::flag)?,
        retention: reader.option(read_retention)?,
        vanish_after: reader.option(|reader| reader.option(Reader::number))?,
        invite_link: reader.option(|reader| reader.option(Reader::id))?,
    })
}

fn write_retention(writer: &mut Writer, retention: Retention) {
    match retention {
        Retention::Forever => writer.byte(1),
        Retention::Days(days) => {
            writer.byte(2);
            writer.number(u64::from(days));
        }
        Retention::UntilDelivered => writer.byte(3),
    }
}

fn read_retention(reader: &mut Reader<'_>) -> Result<Retention, DecodeError> {
    match reader.byte()? {
        1 => Ok(Retention::Forever),
        2 => u16::try_from(reader.number()?)
            .map(Retention::Days)
            .map_err(|_| DecodeError::Malformed),
        3 => Ok(Retention::UntilDelivered),
        _ => Err(DecodeError::Malformed),
    }
}

fn read_policy(reader: &mut Reader<'_>) -> Result<Policy, DecodeError> {
    match reader.byte()? {
        1 => Ok(Policy::Members),
        2 => Ok(Policy::Admins),
        _ => Err(DecodeError::Malformed),
    }
}

pub(super) fn read_role(reader: &mut Reader<'_>) -> Result<Role, DecodeError> {
    match reader.byte()? {
        1 => Ok(Role::Member),
        2 => Ok(Role::Admin),
        3 => Ok(Role::Owner),
        _ => Err(DecodeError::Malformed),
    }
}

pub(super) fn read_kind(reader: &mut Reader<'_>) -> Result<ConversationKind, DecodeError> {
    match reader.byte()? {
        1 => Ok(ConversationKind::Direct),
        2 => Ok(ConversationKind::Group),
        _ => Err(DecodeError::Malformed),
    }
}
