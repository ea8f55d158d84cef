//! Entries and settings on their way to the wire and back: nothing is lost but what must not travel.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidings_core::conversation::{
    self as core, ConversationKind, Encryption, Policy, Retention, Role, Settings, SettingsChange,
};
use tidings_core::entry::{Attachment, Body, Content, Entry, Envelope, Kind, Opaque, TextContent};
use tidings_core::{ClientId, DeviceId, Time, UserId};
use tidings_protocol::convert::{
    action_from_wire, content_from_wire, content_to_wire, entry_from_wire, entry_to_wire,
    settings_from_wire, settings_to_wire,
};
use tidings_protocol::entry::Entry as WireEntry;
use tidings_protocol::send::{Action, CreateAction};
use tidings_protocol::{Encoding, Problem};

/// Numbers on the wire fit in 53 bits.
fn number() -> impl Strategy<Value = u64> {
    0..(1_u64 << 53)
}

/// Times that RFC 3339 can name, up to the year 9999.
fn time() -> impl Strategy<Value = Time> {
    (0..253_402_207_200_000_u64).prop_map(Time)
}

fn user() -> impl Strategy<Value = UserId> {
    any::<[u8; 16]>().prop_map(UserId)
}

fn opaque() -> impl Strategy<Value = Opaque> {
    ("[a-z/]{1,20}", vec(any::<u8>(), 0..100)).prop_map(|(content_type, bytes)| Opaque {
        content_type,
        bytes,
    })
}

fn content() -> impl Strategy<Value = Content> {
    let attachment = (".{0,20}", ".{0,20}", ".{0,20}", number()).prop_map(
        |(reference, name, media_type, bytes)| Attachment {
            reference,
            name,
            media_type,
            bytes,
        },
    );
    let text = (".{0,200}", vec(user(), 0..4), vec(attachment, 0..4)).prop_map(
        |(text, mentions, attachments)| {
            Content::Text(TextContent {
                text,
                mentions,
                attachments,
            })
        },
    );
    prop_oneof![text, opaque().prop_map(Content::Opaque)]
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Member), Just(Role::Admin), Just(Role::Owner)]
}

fn policy() -> impl Strategy<Value = Policy> {
    prop_oneof![Just(Policy::Members), Just(Policy::Admins)]
}

fn retention() -> impl Strategy<Value = Retention> {
    prop_oneof![
        Just(Retention::Forever),
        any::<u16>().prop_map(Retention::Days),
        Just(Retention::UntilDelivered)
    ]
}

fn settings() -> impl Strategy<Value = Settings> {
    (
        (".{0,20}", ".{0,20}", ".{0,20}", any::<bool>()),
        (policy(), policy(), policy(), retention()),
        option::of(1..(1_u64 << 53)),
        any::<bool>(),
        option::of(any::<[u8; 16]>()),
    )
        .prop_map(
            |(texts, policies, vanish_after, encrypted, invite_link)| Settings {
                name: texts.0,
                description: texts.1,
                avatar: texts.2,
                post: policies.0,
                invite: policies.1,
                describe: policies.2,
                share_history: texts.3,
                retention: policies.3,
                vanish_after,
                encryption: if encrypted {
                    Encryption::Mls
                } else {
                    Encryption::None
                },
                invite_link,
            },
        )
}

/// A change whose link, if it makes one, has the secret that stands for all secrets.
fn change() -> impl Strategy<Value = SettingsChange> {
    (
        (
            option::of(".{0,20}"),
            option::of(".{0,20}"),
            option::of(".{0,20}"),
        ),
        (
            option::of(policy()),
            option::of(policy()),
            option::of(policy()),
        ),
        (option::of(any::<bool>()), option::of(retention())),
        option::of(option::of(1..(1_u64 << 53))),
        option::of(option::of(Just([0; 16]))),
    )
        .prop_map(
            |(texts, policies, others, vanish_after, invite_link)| SettingsChange {
                name: texts.0,
                description: texts.1,
                avatar: texts.2,
                post: policies.0,
                invite: policies.1,
                describe: policies.2,
                share_history: others.0,
                retention: others.1,
                vanish_after,
                invite_link,
            },
        )
}

fn kind_and_body() -> impl Strategy<Value = (Kind, Body)> {
    let kind = prop_oneof![
        Just(ConversationKind::Direct),
        Just(ConversationKind::Group)
    ];
    prop_oneof![
        (kind, vec((user(), role()), 0..5), settings()).prop_map(|(kind, members, settings)| {
            let settings = Settings {
                invite_link: None,
                ..settings
            };
            (
                Kind::Create,
                Body::Create {
                    kind,
                    members,
                    settings,
                },
            )
        }),
        content().prop_map(|content| (Kind::Message, Body::Message(content))),
        content().prop_map(|content| (Kind::Edit, Body::Edit(content))),
        Just((Kind::Delete, Body::Delete)),
        (".{1,8}", any::<bool>())
            .prop_map(|(emoji, on)| (Kind::Reaction, Body::Reaction { emoji, on })),
        (vec(user(), 0..5), number())
            .prop_map(|(users, from)| (Kind::Join, Body::Join { users, from })),
        Just((Kind::Leave, Body::Leave)),
        user().prop_map(|user| (Kind::Remove, Body::Remove { user })),
        (user(), role()).prop_map(|(user, role)| (Kind::Role, Body::Role { user, role })),
        change().prop_map(|change| (Kind::Settings, Body::Settings(change))),
        opaque().prop_map(|opaque| (Kind::Commit, Body::Commit(opaque))),
        // Erased. (A deletion and a leave have nothing to erase.)
        prop_oneof![
            Just(Kind::Create),
            Just(Kind::Message),
            Just(Kind::Edit),
            Just(Kind::Settings)
        ]
        .prop_map(|kind| (kind, Body::Erased)),
        // A kind of tomorrow: its envelope is kept.
        (12..=u8::MAX).prop_map(|number| (Kind::Unknown(number), Body::Erased)),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (
        kind_and_body(),
        (
            number(),
            any::<u8>(),
            user(),
            any::<[u8; 16]>(),
            time(),
            any::<[u8; 16]>(),
        ),
        (option::of(number()), any::<u32>(), option::of(time())),
        (number(), any::<bool>(), number()),
    )
        .prop_map(|((kind, body), ids, others, counts)| Entry {
            envelope: Envelope {
                seq: ids.0,
                kind,
                rules: ids.1,
                author: ids.2,
                device: DeviceId(ids.3),
                at: ids.4,
                client_id: ClientId(ids.5),
                target: others.0,
                lane: others.1,
                expires: others.2,
                epoch: counts.0,
                counts: counts.1,
                ordinal: counts.2,
            },
            body,
        })
}

#[allow(
    clippy::unwrap_used,
    reason = "a failed expectation is how a test speaks"
)]
fn over_the_wire(entry: &WireEntry, encoding: Encoding) -> WireEntry {
    encoding.decode(&encoding.encode(entry).unwrap()).unwrap()
}

proptest! {
    #[test]
    fn entries_come_back(entry in entry()) {
        for encoding in [Encoding::Json, Encoding::Cbor] {
            let wire = entry_to_wire(&entry, true);
            prop_assert_eq!(&over_the_wire(&wire, encoding), &wire);
            prop_assert_eq!(entry_from_wire(&over_the_wire(&wire, encoding)), entry.clone());
        }
    }

    #[test]
    fn others_are_not_told_the_client_id(entry in entry()) {
        let wire = entry_to_wire(&entry, false);
        prop_assert_eq!(wire.client_id, None);
        let json = serde_json::to_string(&wire).unwrap();
        prop_assert!(!json.contains(&entry.envelope.client_id.to_string()));
        let mut expected = entry;
        expected.envelope.client_id = ClientId([0; 16]);
        prop_assert_eq!(entry_from_wire(&wire), expected);
    }

    #[test]
    fn a_links_secret_does_not_travel_in_entries(
        settings in settings(), link in any::<[u8; 16]>(), entry in entry()
    ) {
        let secret = serde_json::to_value(tidings_protocol::blob::Blob(link.to_vec())).unwrap();
        let with_link = Settings { invite_link: Some(link), ..settings };
        let create = Body::Create {
            kind: ConversationKind::Group,
            members: Vec::new(),
            settings: with_link,
        };
        let change = Body::Settings(SettingsChange {
            invite_link: Some(Some(link)),
            ..SettingsChange::default()
        });
        for body in [create, change] {
            let wire = entry_to_wire(&Entry { envelope: entry.envelope.clone(), body }, true);
            let json = serde_json::to_string(&wire).unwrap();
            prop_assert!(!json.contains(secret.as_str().unwrap()));
        }
    }

    #[test]
    fn settings_come_back(settings in settings()) {
        prop_assert_eq!(settings_from_wire(&settings_to_wire(&settings)), settings);
    }

    #[test]
    fn contents_come_back(content in content()) {
        prop_assert_eq!(content_from_wire(&content_to_wire(&content)), content);
    }
}

#[test]
fn an_empty_create_has_the_default_settings() {
    let action: Action = serde_json::from_str(r#"{"create": {}}"#).unwrap();
    assert_eq!(action, Action::Create(CreateAction::default()));
    let core::Action::Create { settings, .. } = action_from_wire(action, [0; 16]).unwrap() else {
        panic!("another action");
    };
    assert_eq!(settings, Settings::default());
}

#[test]
fn a_new_link_has_the_secret_that_the_server_made() {
    let action: Action = serde_json::from_str(r#"{"configure": {"invite_link": true}}"#).unwrap();
    let core::Action::Configure(change) = action_from_wire(action, [7; 16]).unwrap() else {
        panic!("another action");
    };
    assert_eq!(change.invite_link, Some(Some([7; 16])));
    let action: Action = serde_json::from_str(r#"{"configure": {"invite_link": false}}"#).unwrap();
    let core::Action::Configure(change) = action_from_wire(action, [7; 16]).unwrap() else {
        panic!("another action");
    };
    assert_eq!(change.invite_link, Some(None));
}

#[test]
fn a_link_of_another_length_is_refused() {
    let action: Action = serde_json::from_str(r#"{"join": {"link": "AAAA"}}"#).unwrap();
    assert_eq!(action_from_wire(action, [0; 16]), Err("link: 16 bytes"));
}

/// Every refusal has a code of its own name, and none is `unknown`.
#[test]
fn refusals_are_told_by_their_codes() {
    use core::Reject;
    for (reject, name) in [
        (Reject::Unsettled, "unsettled"),
        (Reject::NotFound, "not_found"),
        (Reject::LastOwner, "last_owner"),
        (Reject::TargetErased, "target_erased"),
        (Reject::Invalid("emoji"), "invalid"),
    ] {
        assert_eq!(Problem::from(reject).code.name(), name);
    }
    let problem = Problem::from(Reject::EpochMoved { epoch: 4 });
    assert_eq!(
        (problem.code.name(), problem.epoch),
        ("epoch_moved", Some(4))
    );
    let problem = Problem::from(Reject::TooMuch {
        limit: "edits_max",
        max: 100,
    });
    assert_eq!(
        (problem.limit.as_deref(), problem.max),
        (Some("edits_max"), Some(100))
    );
}

/// What a newer server or client says besides is passed over, in both encodings.
#[test]
fn unknown_fields_and_kinds_are_no_fault() {
    let json = r#"{"seq": 3, "kind": "poll", "author": "u_01M7YZMHG0ADAADAADAADAADAA",
        "device": "d_01M7YZMHG0DESKDESKDESKDESK", "at": "2026-11-21T12:00:00.000Z", "ordinal": 1,
        "poll": {"question": "?"}}"#;
    let entry: WireEntry = serde_json::from_str(json).unwrap();
    assert_eq!(entry.kind.0, Kind::Unknown(u8::MAX));
    let back = over_the_wire(&entry, Encoding::Cbor);
    assert_eq!(back, entry);
}
