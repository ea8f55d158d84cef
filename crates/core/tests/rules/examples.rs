//! Cases that the histories found, or that they are unlikely to.

use std::collections::BTreeSet;

use proptest::prelude::*;
use tidings_core::conversation::{
    Action, ApplyError, Command, ConversationKind, Decision, Facts, MemberMap, Policy, Reject,
    SPANS_MAX, Settings, SettingsChange, State, apply,
};
use tidings_core::entry::{Body, Content, Entry, Kind, TextContent};
use tidings_core::log::Position;
use tidings_core::mark::MarkValue;
use tidings_core::{ClientId, DeviceId, Time};

use crate::commands::Bits;
use crate::world::{World, user};

#[test]
fn the_histories_meet_every_answer() {
    let mut answers = BTreeSet::new();
    World::run_and_tell(&numbers(50_000), |answer| {
        answers.insert(match answer {
            Ok(Decision::Append(entry)) => format!("{:?}", entry.envelope.kind),
            Ok(Decision::Already { .. }) => "Already".to_owned(),
            Err(reject) => format!("{reject:?}").split([' ', '(']).take(1).collect(),
        });
    });
    let expected = "Already Blocked Commit Create Delete Edit EpochMoved Exists Invalid Join LastOwner Leave \
        LinkInvalid Message MustBeEncrypted NoChange NoSuchMember NotAllowed NotFound NotInThisKind Reaction \
        Remove Role Settings Suspended TargetErased TargetNotFound TargetNotMessage TooMuch Unsettled";
    let expected: Vec<&str> = expected.split_whitespace().collect();
    assert_eq!(answers.iter().collect::<Vec<_>>(), expected);
}

/// Whoever begins must not be able to silence the other for ever, nor to let a third in.
#[test]
fn a_direct_conversation_begins_with_plain_settings() {
    for settings in [
        Settings {
            post: Policy::Admins,
            ..Settings::default()
        },
        Settings {
            invite_link: Some([1; 16]),
            ..Settings::default()
        },
        Settings {
            name: "n".to_owned(),
            ..Settings::default()
        },
    ] {
        let create = Action::Create {
            kind: ConversationKind::Direct,
            users: vec![user(1)],
            settings,
        };
        let mut world = World::new(1);
        assert_eq!(act(&mut world, 0, create), Err(Reject::NotInThisKind));
    }
    let settings = Settings {
        vanish_after: Some(5_000),
        ..Settings::default()
    };
    let create = Action::Create {
        kind: ConversationKind::Direct,
        users: vec![user(1)],
        settings,
    };
    assert!(act(&mut World::new(1), 0, create).is_ok());
}

#[test]
fn nobody_joins_a_direct_conversation_by_a_link() {
    let mut world = World::new(1);
    let create = Action::Create {
        kind: ConversationKind::Direct,
        users: vec![user(1)],
        settings: Settings::default(),
    };
    act(&mut world, 0, create).unwrap();
    // As an older program could have written it.
    world.state.settings.invite_link = Some([1; 16]);
    assert_eq!(
        act(&mut world, 2, Action::Join { link: [1; 16] }),
        Err(Reject::LinkInvalid)
    );
}

#[test]
fn nobody_joins_a_group_that_everybody_left() {
    let mut world = group();
    let link = SettingsChange {
        invite_link: Some(Some([1; 16])),
        ..SettingsChange::default()
    };
    act(&mut world, 0, Action::Configure(link)).unwrap();
    act(&mut world, 0, Action::Leave).unwrap();
    assert_eq!(
        act(&mut world, 0, Action::Join { link: [1; 16] }),
        Err(Reject::LinkInvalid)
    );
    assert_eq!(
        act(&mut world, 1, Action::Join { link: [1; 16] }),
        Err(Reject::LinkInvalid)
    );
}

#[test]
fn a_mark_keeps_the_first_value_at_its_seq() {
    let value = |seq, at| MarkValue {
        seq,
        at: Time(at),
        ..MarkValue::default()
    };
    assert_eq!(value(5, 1).max(value(5, 2)), value(5, 1));
    assert_eq!(value(5, 1).max(value(6, 2)), value(6, 2));
    assert_eq!(value(5, 1).max(value(4, 2)), value(5, 1));
}

#[test]
fn of_many_stays_the_last_are_remembered() {
    let mut world = group();
    for _ in 0..SPANS_MAX + 5 {
        act(
            &mut world,
            0,
            Action::Invite {
                users: vec![user(1)],
            },
        )
        .unwrap();
        act(&mut world, 1, say("in")).unwrap();
        act(&mut world, 1, Action::Leave).unwrap();
        act(&mut world, 0, say("out")).unwrap();
    }
    assert!(
        (1..=world.state.seq).all(|seq| !world.members[&user(1)].may_see(seq)),
        "who is out sees nothing"
    );
    act(
        &mut world,
        0,
        Action::Invite {
            users: vec![user(1)],
        },
    )
    .unwrap();
    let member = &world.members[&user(1)];
    assert_eq!(member.spans.len(), SPANS_MAX);
    for seq in 0..=world.state.seq + 1 {
        assert_eq!(member.may_see(seq), world.may_see(user(1), seq), "{seq}");
    }
    world.check_person(user(1), &mut Bits(7));
}

proptest! {
    /// Clients apply what they are given, not knowing everybody, some bodies gone, some entries twice.
    #[test]
    fn what_cannot_be_applied_changes_nothing(
        steps in prop::collection::vec(any::<u64>(), 0..300),
        spoil in prop::collection::vec(0_u8..8, 300),
    ) {
        let world = World::run(&steps);
        let mut state = State::empty(world.state.generation);
        let mut members = MemberMap::new();
        for (entry, spoil) in world.log.iter().zip(spoil) {
            let mut spoilt = entry.clone();
            let expected = match spoil {
                0 => {
                    spoilt.body = Body::Erased;
                    needs_body(entry).then_some(ApplyError::BodyMissing { seq: entry.seq() })
                }
                1 => {
                    spoilt.envelope.rules = 200;
                    Some(ApplyError::UpdateNeeded { rules: 200 })
                }
                2 => {
                    spoilt.envelope.seq += 1;
                    let (expected, found) = (entry.seq(), entry.seq() + 1);
                    Some(ApplyError::OutOfOrder { expected, found })
                }
                _ => None,
            };
            let before = (state.clone(), members.clone());
            if let Some(error) = expected {
                prop_assert_eq!(apply(&mut state, &mut members, &spoilt), Err(error));
                prop_assert_eq!(&before, &(state.clone(), members.clone()));
                prop_assert_eq!(apply(&mut state, &mut members, entry), Ok(()));
            } else {
                prop_assert_eq!(apply(&mut state, &mut members, &spoilt), Ok(()));
            }
            let expected = entry.seq() + 1;
            let again = ApplyError::OutOfOrder { expected, found: entry.seq() };
            prop_assert_eq!(apply(&mut state, &mut members, entry), Err(again));
        }
        prop_assert_eq!(&state, &world.state);
        prop_assert_eq!(&members, &world.members);
        // Without the members, what is not about them is still known.
        let mut state = State::empty(world.state.generation);
        for entry in &world.log {
            prop_assert_eq!(apply(&mut state, &mut MemberMap::new(), entry), Ok(()));
        }
        let whole = &world.state;
        prop_assert_eq!(&state.settings, &whole.settings);
        prop_assert_eq!((state.seq, state.ordinal, state.epoch), (whole.seq, whole.ordinal, whole.epoch));
        prop_assert_eq!(&state.recent, &whole.recent);
    }
}

fn needs_body(entry: &Entry) -> bool {
    use Kind::{Create, Join, Remove, Role, Settings};
    matches!(
        entry.envelope.kind,
        Create | Join | Remove | Role | Settings
    )
}

/// Numbers for a history that is always the same (the generator of Knuth's MMIX).
fn numbers(count: usize) -> Vec<u64> {
    let mut number = 1_u64;
    let next = || {
        number = number
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        number ^ (number >> 29)
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// A group of user 0 alone.
fn group() -> World {
    let mut world = World::new(1);
    let (kind, settings) = (ConversationKind::Group, Settings::default());
    act(
        &mut world,
        0,
        Action::Create {
            kind,
            users: vec![],
            settings,
        },
    )
    .unwrap();
    world
}

fn say(text: &str) -> Action {
    let text = TextContent {
        text: text.to_owned(),
        ..TextContent::default()
    };
    Action::Message {
        content: Content::Text(text),
        reply_to: None,
        silent: false,
    }
}

fn act(world: &mut World, author: u64, action: Action) -> Result<Decision, Reject> {
    world.next_client_id += 1;
    let command = Command {
        author: user(author),
        device: DeviceId([1; 16]),
        client_id: ClientId(u128::from(world.next_client_id).to_be_bytes()),
        after: Some(Position {
            generation: world.state.generation,
            seq: world.state.seq,
        }),
        if_epoch: None,
        action,
    };
    world.obey(command, Facts::default())
}
