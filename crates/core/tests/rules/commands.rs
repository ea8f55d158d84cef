//! Random commands: most of them sensible, some of them not.

use tidings_core::conversation::{
    Action, Command, ConversationKind, Encryption, Facts, Policy, Retention, Role, Settings,
    SettingsChange,
};
use tidings_core::entry::{Attachment, Content, Opaque, TextContent};
use tidings_core::log::{Generation, Position, Seq};
use tidings_core::{ClientId, DeviceId, UserId};

use crate::world::{USERS, World, user};

/// A random number, taken apart choice by choice.
pub(crate) struct Bits(pub(crate) u64);

impl Bits {
    /// A number below `choices`.
    pub(crate) fn take(&mut self, choices: u64) -> u64 {
        let taken = self.0 % choices;
        // Mixed again, so that it does not run out.
        self.0 = (self.0 / choices)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29)
            ^ taken;
        taken
    }

    fn one_in(&mut self, choices: u64) -> bool {
        self.take(choices) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.take(choices.len() as u64) as usize]
    }
}

pub(crate) fn next_command(world: &mut World, bits: &mut Bits) -> (Command, Facts) {
    let facts = Facts {
        blocked: bits.one_in(12),
        suspended: bits.one_in(40),
    };
    if !world.accepted.is_empty() && bits.one_in(5) {
        return (retry(world, bits), facts);
    }
    let author = author(world, bits);
    world.next_client_id += 1;
    // Now and then another's id: they are not secret. An own one is used again by `retry` alone, for
    // a device that claims to have seen its earlier try would get a second entry by its own doing.
    let anothers = client_id(bits.take(world.next_client_id));
    let is_anothers = bits.one_in(20) && !world.has_used(author, anothers);
    let own = client_id(world.next_client_id);
    let command = Command {
        author,
        device: DeviceId([bits.take(3) as u8; 16]),
        client_id: if is_anothers { anothers } else { own },
        after: after(world, bits),
        if_epoch: match bits.take(8) {
            0 => Some(bits.take(3)),
            1 | 2 => Some(world.state.epoch),
            _ => None,
        },
        action: action(world, author, bits),
    };
    (command, facts)
}

fn client_id(number: u64) -> ClientId {
    ClientId(u128::from(number).to_be_bytes())
}

/// An accepted command again, or what a careless device makes of it.
fn retry(world: &World, bits: &mut Bits) -> Command {
    let first = &world.accepted[bits.take(world.accepted.len() as u64) as usize];
    let mut again = first.clone();
    if bits.one_in(2) {
        again.action = action(world, first.author, bits);
    }
    if bits.one_in(4) {
        again.device = DeviceId([99; 16]);
        again.if_epoch = Some(bits.take(9));
    }
    if bits.one_in(8) {
        again.after = None;
    }
    again
}

/// Mostly somebody who is in.
fn author(world: &World, bits: &mut Bits) -> UserId {
    let inside: Vec<UserId> = world
        .people
        .iter()
        .filter(|(_, person)| person.inside)
        .map(|(user, _)| *user)
        .collect();
    if inside.is_empty() || bits.one_in(6) {
        user(bits.take(USERS))
    } else {
        bits.of(&inside)
    }
}

/// As far as an honest device had seen it, or nothing, or nonsense.
fn after(world: &World, bits: &mut Bits) -> Option<Position> {
    let generation = world.state.generation;
    match bits.take(32) {
        0 => Some(Position {
            generation: Generation([0; 16]),
            seq: world.state.seq,
        }),
        1 => Some(Position {
            generation,
            seq: world.state.seq + 1 + bits.take(3),
        }),
        2..=6 => None,
        7..=12 => Some(Position {
            generation,
            seq: bits.take(world.state.seq + 1),
        }),
        _ => Some(Position {
            generation,
            seq: world.state.seq,
        }),
    }
}

fn action(world: &World, author: UserId, bits: &mut Bits) -> Action {
    if world.state.seq == 0 && !bits.one_in(8) {
        return create(bits);
    }
    match bits.take(40) {
        0 => create(bits),
        1..=11 => Action::Message {
            content: content(world, bits),
            reply_to: bits.one_in(3).then(|| target(world, bits)),
            silent: bits.one_in(8),
        },
        12..=15 => Action::Edit {
            target: message_of(world, author, bits),
            content: content(world, bits),
        },
        16..=17 => Action::Delete {
            target: message_of(world, author, bits),
        },
        18..=23 => Action::React {
            target: target(world, bits),
            emoji: bits
                .of(&["a", "b", "👍", "", " ", "\n", "tooth"])
                .to_owned(),
            on: !bits.one_in(3),
        },
        24..=26 => Action::Invite { users: users(bits) },
        27..=28 => Action::Join { link: link(bits) },
        29 => Action::Leave,
        30..=31 => Action::Remove {
            user: user(bits.take(USERS)),
        },
        32..=35 => Action::SetRole {
            user: user(bits.take(USERS)),
            role: bits.of(&[Role::Member, Role::Admin, Role::Owner]),
        },
        36..=38 => Action::Configure(change(bits)),
        _ => Action::Commit(opaque(bits)),
    }
}

fn create(bits: &mut Bits) -> Action {
    let kind = if bits.one_in(4) {
        ConversationKind::Direct
    } else {
        ConversationKind::Group
    };
    let mut settings = Settings::default();
    if bits.one_in(3) {
        change(bits).apply_to(&mut settings);
    }
    if bits.one_in(3) {
        settings.encryption = Encryption::Mls;
    }
    let users = if kind == ConversationKind::Direct && !bits.one_in(4) {
        vec![user(bits.take(USERS))]
    } else {
        users(bits)
    };
    Action::Create {
        kind,
        users,
        settings,
    }
}

fn users(bits: &mut Bits) -> Vec<UserId> {
    (0..bits.of(&[1, 1, 1, 2, 2, 3, 0, 5]))
        .map(|_| user(bits.take(USERS)))
        .collect()
}

fn link(bits: &mut Bits) -> [u8; 16] {
    [bits.of(&[1, 1, 1, 2]); 16]
}

fn change(bits: &mut Bits) -> SettingsChange {
    let mut change = SettingsChange::default();
    for _ in 0..bits.of(&[1, 1, 2, 0]) {
        match bits.take(10) {
            0 => change.name = Some(bits.of(&["", "n", "näme", "namen"]).to_owned()),
            1 => change.description = Some(bits.of(&["", "d", "sixsix", "seveneven"]).to_owned()),
            2 => change.avatar = Some(bits.of(&["", "m_1", "ninebytes"]).to_owned()),
            3 => change.post = Some(bits.of(&[Policy::Members, Policy::Members, Policy::Admins])),
            4 => change.invite = Some(bits.of(&[Policy::Members, Policy::Admins])),
            5 => change.describe = Some(bits.of(&[Policy::Members, Policy::Admins])),
            6 => change.share_history = Some(bits.one_in(2)),
            7 => {
                let days = bits.take(3) as u16;
                let choices = [
                    Retention::Forever,
                    Retention::Days(days),
                    Retention::UntilDelivered,
                ];
                change.retention = Some(bits.of(&choices));
            }
            8 => {
                let millis = [999, 1_000, 5_000, 366 * 86_400_000, 366 * 86_400_000 + 1];
                change.vanish_after = Some((!bits.one_in(3)).then(|| bits.of(&millis)));
            }
            _ => change.invite_link = Some((!bits.one_in(4)).then(|| link(bits))),
        }
    }
    change
}

fn content(world: &World, bits: &mut Bits) -> Content {
    let encrypted = world.state.settings.encryption == Encryption::Mls;
    if encrypted != bits.one_in(10) {
        return Content::Opaque(opaque(bits));
    }
    let text = match bits.take(12) {
        0 => String::new(),
        1 => " \n".to_owned(),
        2 => "é".repeat(20),
        3 => "é".repeat(21),
        4 => "x".repeat(21),
        _ => "hello".to_owned(),
    };
    let reference = bits.of(&["m_1", "m_1", "", "ninebytes"]);
    let attachment = Attachment {
        reference: reference.to_owned(),
        name: bits.of(&["", "f", "ninebytes"]).to_owned(),
        media_type: "i/p".to_owned(),
        bytes: bits.of(&[0, 9, (1 << 53) - 1, 1 << 53, u64::MAX]),
    };
    Content::Text(TextContent {
        text,
        mentions: vec![user(1); bits.of(&[0, 0, 0, 0, 1, 2, 3])],
        attachments: vec![attachment; bits.of(&[0, 0, 0, 0, 1, 1, 2])],
    })
}

fn opaque(bits: &mut Bits) -> Opaque {
    Opaque {
        content_type: bits
            .of(&["m/mls", "m/mls", "m/mls", "m/mls", "", "ninebytes"])
            .to_owned(),
        bytes: vec![7; bits.of(&[0, 5, 5, 5, 30, 31])],
    }
}

/// Mostly one of the last entries.
fn target(world: &World, bits: &mut Bits) -> Seq {
    let head = world.state.seq;
    if bits.one_in(4) {
        bits.take(head + 2)
    } else {
        head - bits.take(head.min(6) + 1)
    }
}

/// Mostly a message by this author, or by anybody.
fn message_of(world: &World, author: UserId, bits: &mut Bits) -> Seq {
    let others = bits.one_in(4);
    let skipped = bits.take(3) as usize;
    let by = |entry: &&tidings_core::Entry| {
        crate::world::is_message(entry) && (others || entry.envelope.author == author)
    };
    let found = world.log.iter().rev().take(60).filter(by).nth(skipped);
    found.map_or_else(|| target(world, bits), tidings_core::Entry::seq)
}
