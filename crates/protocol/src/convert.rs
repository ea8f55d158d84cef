//! The one place where wire types and the core's types meet.

use std::borrow::Cow;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use tidings_core::conversation::{self as core, Reject};
use tidings_core::entry as log;
use tidings_core::{Body, ClientId, DeviceId, Envelope};

use crate::blob::Blob;
use crate::entry::{
    Attachment, Content, ConversationKind, Create, CreateMember, Encryption, Entry, Join, Kind,
    OpaqueContent, Policy, Reaction, Retention, Role, Settings, SettingsChange,
};
use crate::problem::{Code, Problem};
use crate::send::{Action, Position};
use crate::sync::ReadMark;

/// An entry as it goes to devices of its author (`with_client_id`) or of others.
#[must_use]
pub fn entry_to_wire(entry: &log::Entry, with_client_id: bool) -> Entry {
    let envelope = &entry.envelope;
    let mut wire = Entry {
        device: Some(envelope.device),
        ordinal: envelope.ordinal,
        counts: envelope.counts,
        client_id: with_client_id.then_some(envelope.client_id),
        target: envelope.target,
        lane: envelope.lane,
        expires: envelope.expires,
        epoch: envelope.epoch,
        rules: envelope.rules,
        ..Entry::bare(envelope.seq, envelope.kind, envelope.author, envelope.at)
    };
    match &entry.body {
        Body::Message(content) | Body::Edit(content) => {
            wire.content = Some(content_to_wire(content))
        }
        Body::Reaction { emoji, on } => {
            wire.reaction = Some(Reaction {
                emoji: emoji.clone(),
                on: *on,
            })
        }
        Body::Create {
            kind,
            members,
            settings,
        } => {
            let members = members
                .iter()
                .map(|&(user, role)| CreateMember {
                    user,
                    role: role_to_wire(role),
                })
                .collect();
            let settings = Settings {
                invite_link: None,
                ..settings_to_wire(settings)
            };
            wire.create = Some(Box::new(Create {
                kind: kind_to_wire(*kind),
                members,
                settings,
            }));
        }
        Body::Join { users, from } => {
            wire.join = Some(Join {
                users: users.clone(),
                from: *from,
            })
        }
        Body::Remove { user } => wire.user = Some(*user),
        Body::Role { user, role } => {
            wire.user = Some(*user);
            wire.role = Some(role_to_wire(*role));
        }
        Body::Settings(change) => wire.settings = Some(Box::new(change_to_wire(change))),
        Body::Commit(opaque) => wire.commit = Some(Box::new(opaque_to_wire(opaque))),
        Body::Delete | Body::Leave | Body::Erased | Body::Unknown(_) => {}
    }
    wire
}

/// The core's entry of one that came over the wire. A client id that was not told is all zeroes.
#[must_use]
pub fn entry_from_wire(wire: &Entry) -> log::Entry {
    let envelope = Envelope {
        seq: wire.seq,
        kind: wire.kind.0,
        rules: wire.rules,
        author: wire.author,
        device: wire.device.unwrap_or(DeviceId([0; 16])),
        at: wire.at,
        client_id: wire.client_id.unwrap_or(ClientId([0; 16])),
        target: wire.target,
        lane: wire.lane,
        expires: wire.expires,
        epoch: wire.epoch,
        counts: wire.counts,
        ordinal: wire.ordinal,
    };
    log::Entry {
        body: body_from_wire(wire).unwrap_or(Body::Erased),
        envelope,
    }
}

fn body_from_wire(wire: &Entry) -> Option<Body> {
    Some(match wire.kind.0 {
        log::Kind::Create => {
            let create = wire.create.as_ref()?;
            Body::Create {
                kind: kind_from_wire(create.kind),
                members: create
                    .members
                    .iter()
                    .map(|first| (first.user, role_from_wire(first.role)))
                    .collect(),
                settings: settings_from_wire(&create.settings),
            }
        }
        log::Kind::Message => Body::Message(content_from_wire(wire.content.as_ref()?)),
        log::Kind::Edit => Body::Edit(content_from_wire(wire.content.as_ref()?)),
        log::Kind::Delete => Body::Delete,
        log::Kind::Reaction => {
            let reaction = wire.reaction.as_ref()?;
            Body::Reaction {
                emoji: reaction.emoji.clone(),
                on: reaction.on,
            }
        }
        log::Kind::Join => {
            let join = wire.join.as_ref()?;
            Body::Join {
                users: join.users.clone(),
                from: join.from,
            }
        }
        log::Kind::Leave => Body::Leave,
        log::Kind::Remove => Body::Remove { user: wire.user? },
        log::Kind::Role => Body::Role {
            user: wire.user?,
            role: role_from_wire(wire.role?),
        },
        // A link's secret does not travel in entries: who may have it asks for the conversation.
        log::Kind::Settings => {
            let change = wire.settings.as_ref()?;
            Body::Settings(change_from_wire(change, [0; 16]))
        }
        log::Kind::Commit => Body::Commit(opaque_from_wire(wire.commit.as_ref()?)),
        log::Kind::Unknown(_) => return None,
    })
}

/// Content for the wire.
#[must_use]
pub fn content_to_wire(content: &log::Content) -> Content {
    match content {
        log::Content::Text(text) => Content {
            text: text.text.clone(),
            mentions: text.mentions.clone(),
            attachments: text.attachments.iter().map(attachment_to_wire).collect(),
            opaque: None,
        },
        log::Content::Opaque(opaque) => Content {
            opaque: Some(opaque_to_wire(opaque)),
            ..Content::default()
        },
    }
}

/// Content from the wire. Where there is opaque content, the rest is not looked at.
#[must_use]
pub fn content_from_wire(content: &Content) -> log::Content {
    match &content.opaque {
        Some(opaque) => log::Content::Opaque(opaque_from_wire(opaque)),
        None => log::Content::Text(log::TextContent {
            text: content.text.clone(),
            mentions: content.mentions.clone(),
            attachments: content
                .attachments
                .iter()
                .map(attachment_from_wire)
                .collect(),
        }),
    }
}

fn attachment_to_wire(attachment: &log::Attachment) -> Attachment {
    Attachment {
        reference: attachment.reference.clone(),
        name: attachment.name.clone(),
        media_type: attachment.media_type.clone(),
        bytes: attachment.bytes,
    }
}

fn attachment_from_wire(attachment: &Attachment) -> log::Attachment {
    log::Attachment {
        reference: attachment.reference.clone(),
        name: attachment.name.clone(),
        media_type: attachment.media_type.clone(),
        bytes: attachment.bytes,
    }
}

fn opaque_to_wire(opaque: &log::Opaque) -> OpaqueContent {
    OpaqueContent {
        content_type: opaque.content_type.clone(),
        data: Blob(opaque.bytes.clone()),
    }
}

fn opaque_from_wire(opaque: &OpaqueContent) -> log::Opaque {
    log::Opaque {
        content_type: opaque.content_type.clone(),
        bytes: opaque.data.0.clone(),
    }
}

/// An action from the wire. `new_link` is the secret of the link that the action makes, if it makes one.
///
/// # Errors
/// When a field has an impossible value; the text names it.
pub fn action_from_wire(action: Action, new_link: [u8; 16]) -> Result<core::Action, &'static str> {
    Ok(match action {
        Action::Message(message) => core::Action::Message {
            content: content_from_wire(&message.content),
            reply_to: message.reply_to,
            silent: message.silent,
        },
        Action::Edit(edit) => core::Action::Edit {
            target: edit.target,
            content: content_from_wire(&edit.content),
        },
        Action::Delete(delete) => core::Action::Delete {
            target: delete.target,
        },
        Action::React(react) => core::Action::React {
            target: react.target,
            emoji: react.emoji,
            on: react.on,
        },
        Action::Create(create) => {
            if create.settings.invite_link.is_some() {
                return Err("settings.invite_link: ask for a link once the group is there");
            }
            core::Action::Create {
                kind: create
                    .kind
                    .map_or(core::ConversationKind::Group, kind_from_wire),
                users: create.users,
                settings: settings_from_wire(&create.settings),
            }
        }
        Action::Invite(invite) => core::Action::Invite {
            users: invite.users,
        },
        Action::Join(join) => core::Action::Join {
            link: join
                .link
                .0
                .as_slice()
                .try_into()
                .map_err(|_| "link: 16 bytes")?,
        },
        Action::Leave(_) => core::Action::Leave,
        Action::Remove(remove) => core::Action::Remove { user: remove.user },
        Action::SetRole(role) => core::Action::SetRole {
            user: role.user,
            role: role_from_wire(role.role),
        },
        Action::Configure(change) => core::Action::Configure(change_from_wire(&change, new_link)),
        Action::Commit(opaque) => core::Action::Commit(opaque_from_wire(&opaque)),
    })
}

/// Settings for the wire, the link's secret included: for those who may have it.
#[must_use]
pub fn settings_to_wire(settings: &core::Settings) -> Settings {
    Settings {
        name: settings.name.clone(),
        description: settings.description.clone(),
        avatar: settings.avatar.clone(),
        post: policy_to_wire(settings.post),
        invite: policy_to_wire(settings.invite),
        describe: policy_to_wire(settings.describe),
        share_history: settings.share_history,
        retention: retention_to_wire(settings.retention),
        vanish_after_ms: settings.vanish_after,
        encryption: match settings.encryption {
            core::Encryption::None => Encryption::None,
            core::Encryption::Mls => Encryption::Mls,
        },
        invite_link: settings.invite_link.map(|link| Blob(link.to_vec())),
    }
}

/// Settings from the wire. A link of another length than 16 bytes is none.
#[must_use]
pub fn settings_from_wire(settings: &Settings) -> core::Settings {
    core::Settings {
        name: settings.name.clone(),
        description: settings.description.clone(),
        avatar: settings.avatar.clone(),
        post: policy_from_wire(settings.post),
        invite: policy_from_wire(settings.invite),
        describe: policy_from_wire(settings.describe),
        share_history: settings.share_history,
        retention: retention_from_wire(settings.retention),
        vanish_after: settings.vanish_after_ms.filter(|&millis| millis > 0),
        encryption: match settings.encryption {
            Encryption::None => core::Encryption::None,
            Encryption::Mls => core::Encryption::Mls,
        },
        invite_link: settings
            .invite_link
            .as_ref()
            .and_then(|link| link.0.as_slice().try_into().ok()),
    }
}

fn change_to_wire(change: &core::SettingsChange) -> SettingsChange {
    SettingsChange {
        name: change.name.clone(),
        description: change.description.clone(),
        avatar: change.avatar.clone(),
        post: change.post.map(policy_to_wire),
        invite: change.invite.map(policy_to_wire),
        describe: change.describe.map(policy_to_wire),
        share_history: change.share_history,
        retention: change.retention.map(retention_to_wire),
        vanish_after_ms: change.vanish_after.map(|millis| millis.unwrap_or(0)),
        invite_link: change.invite_link.map(|link| link.is_some()),
    }
}

fn change_from_wire(change: &SettingsChange, new_link: [u8; 16]) -> core::SettingsChange {
    core::SettingsChange {
        name: change.name.clone(),
        description: change.description.clone(),
        avatar: change.avatar.clone(),
        post: change.post.map(policy_from_wire),
        invite: change.invite.map(policy_from_wire),
        describe: change.describe.map(policy_from_wire),
        share_history: change.share_history,
        retention: change.retention.map(retention_from_wire),
        vanish_after: change
            .vanish_after_ms
            .map(|millis| Some(millis).filter(|&millis| millis > 0)),
        invite_link: change.invite_link.map(|on| on.then_some(new_link)),
    }
}

/// Direct or group, for the wire.
#[must_use]
pub fn kind_to_wire(kind: core::ConversationKind) -> ConversationKind {
    match kind {
        core::ConversationKind::Direct => ConversationKind::Direct,
        core::ConversationKind::Group => ConversationKind::Group,
    }
}

/// Direct or group, from the wire.
#[must_use]
pub fn kind_from_wire(kind: ConversationKind) -> core::ConversationKind {
    match kind {
        ConversationKind::Direct => core::ConversationKind::Direct,
        ConversationKind::Group => core::ConversationKind::Group,
    }
}

/// A role for the wire.
#[must_use]
pub fn role_to_wire(role: core::Role) -> Role {
    match role {
        core::Role::Member => Role::Member,
        core::Role::Admin => Role::Admin,
        core::Role::Owner => Role::Owner,
    }
}

/// A role from the wire.
#[must_use]
pub fn role_from_wire(role: Role) -> core::Role {
    match role {
        Role::Member => core::Role::Member,
        Role::Admin => core::Role::Admin,
        Role::Owner => core::Role::Owner,
    }
}

fn policy_to_wire(policy: core::Policy) -> Policy {
    match policy {
        core::Policy::Members => Policy::Members,
        core::Policy::Admins => Policy::Admins,
    }
}

fn policy_from_wire(policy: Policy) -> core::Policy {
    match policy {
        Policy::Members => core::Policy::Members,
        Policy::Admins => core::Policy::Admins,
    }
}

fn retention_to_wire(retention: core::Retention) -> Retention {
    match retention {
        core::Retention::Forever => Retention::Forever,
        core::Retention::Days(days) => Retention::Days(days),
        core::Retention::UntilDelivered => Retention::UntilDelivered,
    }
}

/// A retention from the wire.
#[must_use]
pub fn retention_from_wire(retention: Retention) -> core::Retention {
    match retention {
        Retention::Forever => core::Retention::Forever,
        Retention::Days(days) => core::Retention::Days(days),
        Retention::UntilDelivered => core::Retention::UntilDelivered,
    }
}

impl From<tidings_core::Position> for Position {
    fn from(position: tidings_core::Position) -> Self {
        Position {
            generation: position.generation,
            seq: position.seq,
        }
    }
}

impl From<Position> for tidings_core::Position {
    fn from(position: Position) -> Self {
        tidings_core::Position {
            generation: position.generation,
            seq: position.seq,
        }
    }
}

impl From<tidings_core::MarkValue> for ReadMark {
    fn from(value: tidings_core::MarkValue) -> Self {
        ReadMark {
            seq: value.seq,
            ordinal: value.ordinal,
            own: value.own,
        }
    }
}

impl From<Reject> for Problem {
    fn from(reject: Reject) -> Self {
        let code = match reject {
            Reject::Unsettled => Code::Unsettled,
            Reject::NotFound => Code::NotFound,
            Reject::Exists => Code::Exists,
            Reject::NotAllowed => Code::NotAllowed,
            Reject::Blocked => Code::Blocked,
            Reject::Suspended => Code::Suspended,
            Reject::UpdateNeeded => Code::UpdateNeeded,
            Reject::EpochMoved { epoch } => {
                return Problem {
                    epoch: Some(epoch),
                    ..Problem::new(Code::EpochMoved)
                };
            }
            Reject::MustBeEncrypted => Code::MustBeEncrypted,
            Reject::TargetNotFound => Code::TargetNotFound,
            Reject::TargetNotMessage => Code::TargetNotMessage,
            Reject::TargetErased => Code::TargetErased,
            Reject::NoChange => Code::NoChange,
            Reject::LinkInvalid => Code::LinkInvalid,
            Reject::NoSuchMember => Code::NoSuchMember,
            Reject::LastOwner => Code::LastOwner,
            Reject::NotInThisKind => Code::NotInThisKind,
            Reject::Invalid(what) => return Problem::new(Code::Invalid).detail(what),
            Reject::TooMuch { limit, max } => return Problem::too_much(limit, max),
        };
        Problem::new(code)
    }
}

/// Names of the kinds in JSON, by number.
const KIND_NAMES: [(&str, u8); 11] = [
    ("create", 1),
    ("message", 2),
    ("edit", 3),
    ("delete", 4),
    ("reaction", 5),
    ("join", 6),
    ("leave", 7),
    ("remove", 8),
    ("role", 9),
    ("settings", 10),
    ("commit", 11),
];

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = self.0.number();
        match KIND_NAMES.iter().find(|(_, known)| *known == number) {
            Some((name, _)) if serializer.is_human_readable() => serializer.serialize_str(name),
            _ => serializer.serialize_u8(number),
        }
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KindVisitor;

        impl Visitor<'_> for KindVisitor {
            type Value = Kind;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name or number of a kind of entry")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Kind, E> {
                // A name that this program does not know is some kind that it does not know.
                let number = KIND_NAMES
                    .iter()
                    .find(|(name, _)| *name == text)
                    .map_or(u8::MAX, |(_, number)| *number);
                Ok(Kind(log::Kind::from_number(number)))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Kind, E> {
                Ok(Kind(log::Kind::from_number(
                    u8::try_from(number).unwrap_or(u8::MAX),
                )))
            }
        }

        deserializer.deserialize_any(KindVisitor)
    }
}

impl schemars::JsonSchema for Kind {
    fn schema_name() -> Cow<'static, str> {
        "Kind".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let names: Vec<&str> = KIND_NAMES.iter().map(|(name, _)| *name).collect();
        schemars::json_schema!({
            "type": ["string", "integer"],
            "examples": names,
            "description": "the kind's name; the number of one that the server has no name for"
        })
    }
}
