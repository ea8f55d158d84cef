//! Reading a log, forwards and backwards, in bounded pages.

use tidings_core::Time;
use tidings_core::conversation::{
    ConversationKind, Encryption, Policy, Retention, Role, Settings, SettingsChange,
};
use tidings_core::entry::{Attachment, Body, Content, Entry, Kind, Opaque, TextContent};
use tidings_core::log::{LogId, LogPart, SEQ_MAX, Seq};

use super::support::*;
use super::{Fixture, wait};
use crate::{Append, Direction, Page, ReadLog, Want};

const NO_BOUND: ReadLog = ReadLog {
    from: 1,
    direction: Direction::Forwards,
    limit: 1_000,
    bytes_max: usize::MAX,
    want: Want::Entries,
};

pub fn entries_are_read_in_order_from_the_first_wanted(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    fill(store, log(1), 9);
    for (from, expected) in [(0, 1..=9), (1, 1..=9), (4, 4..=9), (9, 9..=9)] {
        let page = read(store, log(1), from, Direction::Forwards, Want::Entries);
        assert_eq!(
            page.entries,
            expected.map(message).collect::<Vec<_>>(),
            "from {from}"
        );
    }
}

pub fn entries_are_read_backwards_from_the_highest_wanted(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    fill(store, log(1), 9);
    for (from, expected) in [
        (Seq::MAX, 1..=9),
        (SEQ_MAX, 1..=9),
        (9, 1..=9),
        (4, 1..=4),
        (1, 1..=1),
    ] {
        let page = read(store, log(1), from, Direction::Backwards, Want::Entries);
        assert_eq!(
            page.entries,
            expected.rev().map(message).collect::<Vec<_>>(),
            "from {from}"
        );
    }
}

pub fn pages_join_into_the_whole_log(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    fill(store, log(1), 20);
    for limit in [1, 2, 3, 7, 19, 20, 21] {
        let mut forwards = Vec::new();
        loop {
            let from = forwards.len() as Seq + 1;
            let page = read_page(
                store,
                log(1),
                ReadLog {
                    from,
                    limit,
                    ..NO_BOUND
                },
            );
            assert!(page.entries.len() <= limit);
            forwards.extend(seqs(&page.entries));
            if page.complete {
                break;
            }
            assert_eq!(page.entries.len(), limit);
        }
        assert_eq!(forwards, (1..=20).collect::<Vec<_>>(), "pages of {limit}");
        let mut backwards: Vec<Seq> = Vec::new();
        loop {
            let from = 20 - backwards.len() as Seq;
            let read = ReadLog {
                from,
                limit,
                direction: Direction::Backwards,
                ..NO_BOUND
            };
            let page = read_page(store, log(1), read);
            assert!(page.entries.len() <= limit);
            backwards.extend(seqs(&page.entries));
            if page.complete {
                break;
            }
            assert_eq!(page.entries.len(), limit);
        }
        assert_eq!(
            backwards,
            (1..=20).rev().collect::<Vec<_>>(),
            "pages of {limit}, backwards"
        );
    }
}

pub fn a_page_that_comes_to_the_end_is_complete(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    fill(store, log(1), 5);
    let forwards = |from, limit| {
        read_page(
            store,
            log(1),
            ReadLog {
                from,
                limit,
                ..NO_BOUND
            },
        )
        .complete
    };
    assert!(!forwards(1, 4));
    assert!(
        forwards(1, 5),
        "a page that holds the head has come to the end"
    );
    assert!(forwards(5, 1));
    assert!(!forwards(4, 1));
    let backwards = |from, limit| {
        let read = ReadLog {
            from,
            limit,
            direction: Direction::Backwards,
            ..NO_BOUND
        };
        read_page(store, log(1), read).complete
    };
    assert!(!backwards(5, 4));
    assert!(
        backwards(5, 5),
        "a page that holds the first entry has come to the end"
    );
    assert!(backwards(1, 1));
    assert!(!backwards(2, 1));
    wait(store.trim(log(1), 2)).unwrap();
    assert!(backwards(5, 3), "the first entry that is served is the end");
    assert!(!backwards(5, 2));
}

pub fn a_page_stops_after_the_entry_that_reaches_its_bytes(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(
        store,
        log(1),
        (1..=8).map(|seq| large_message(seq, 10_000)).collect(),
    );
    for (bytes_max, expected) in [
        (9_000, 1),
        (11_000, 2),
        (25_000, 3),
        (35_000, 4),
        (1_000_000, 8),
    ] {
        let page = read_page(
            store,
            log(1),
            ReadLog {
                bytes_max,
                ..NO_BOUND
            },
        );
        assert_eq!(page.entries.len(), expected, "{bytes_max} bytes");
        assert_eq!(page.complete, expected == 8);
        let read = ReadLog {
            from: 8,
            direction: Direction::Backwards,
            bytes_max,
            ..NO_BOUND
        };
        let page = read_page(store, log(1), read);
        assert_eq!(page.entries.len(), expected, "{bytes_max} bytes, backwards");
        assert_eq!(page.complete, expected == 8);
    }
    let page = read_page(
        store,
        log(1),
        ReadLog {
            bytes_max: 35_000,
            limit: 2,
            ..NO_BOUND
        },
    );
    assert_eq!(page.entries.len(), 2, "whichever bound is met first");
}

pub fn at_least_one_entry_is_read_whatever_its_bytes(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(
        store,
        log(1),
        (1..=3).map(|seq| large_message(seq, 100_000)).collect(),
    );
    for bytes_max in [0, 1] {
        let page = read_page(
            store,
            log(1),
            ReadLog {
                from: 2,
                bytes_max,
                ..NO_BOUND
            },
        );
        assert_eq!(
            page,
            Page {
                entries: vec![large_message(2, 100_000)],
                complete: false
            }
        );
        let read = ReadLog {
            from: 1,
            direction: Direction::Backwards,
            bytes_max,
            ..NO_BOUND
        };
        assert_eq!(seqs(&read_page(store, log(1), read).entries), [1]);
    }
}

pub fn beyond_the_ends_there_is_nothing_to_read(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let nothing = Page {
        entries: vec![],
        complete: true,
    };
    for direction in [Direction::Forwards, Direction::Backwards] {
        for from in [0, 1, Seq::MAX] {
            assert_eq!(
                read(store, log(1), from, direction, Want::Entries),
                nothing,
                "a log never written to"
            );
        }
    }
    fill(store, log(1), 3);
    fill(store, log(2), 3);
    for from in [4, SEQ_MAX, Seq::MAX] {
        assert_eq!(
            read(store, log(1), from, Direction::Forwards, Want::Entries),
            nothing
        );
    }
    assert_eq!(
        read(store, log(1), 0, Direction::Backwards, Want::Entries),
        nothing
    );
}

pub fn envelopes_alone_come_with_erased_bodies(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let messages: Vec<Entry> = (1..=3).map(|seq| large_message(seq, 10_000)).collect();
    put(store, log(1), messages.clone());
    let expected: Vec<Entry> = messages.into_iter().map(Entry::erased).collect();
    let page = read(store, log(1), 1, Direction::Forwards, Want::Envelopes);
    assert_eq!(
        page,
        Page {
            entries: expected.clone(),
            complete: true
        }
    );
    let mut page = read(store, log(1), 3, Direction::Backwards, Want::Envelopes);
    page.entries.reverse();
    assert_eq!(
        page,
        Page {
            entries: expected,
            complete: true
        }
    );
}

pub fn every_kind_of_entry_comes_back_as_it_was(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let entries = one_of_each_kind();
    put(store, log(1), entries.clone());
    assert_eq!(read_all(store, log(1)), entries);
    if fixture.reopen() {
        assert_eq!(read_all(fixture.store(), log(1)), entries);
    }
}

pub fn large_bodies_come_back_as_they_were(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let sizes = [
        0, 1, 1_023, 1_024, 1_025, 4_096, 65_535, 65_536, 400_000, 2_000_000,
    ];
    let entries: Vec<Entry> = (1..)
        .zip(sizes)
        .map(|(seq, bytes)| large_message(seq, bytes))
        .collect();
    for entry in &entries {
        put(store, log(1), vec![entry.clone()]);
    }
    assert!(read_all(store, log(1)) == entries);
    if fixture.reopen() {
        assert!(read_all(fixture.store(), log(1)) == entries);
    }
}

pub fn entries_of_different_retention_are_read_as_one_log(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let classes = [
        Retention::Forever,
        Retention::UntilDelivered,
        Retention::Days(1),
        Retention::Days(30),
        Retention::Forever,
        Retention::Days(u16::MAX),
    ];
    for (seq, retention) in (1..).zip(classes) {
        let append = append_of(log(1), vec![message(seq)]);
        wait(store.append(Append {
            retention,
            ..append
        }))
        .unwrap();
    }
    assert_eq!(
        read_all(store, log(1)),
        (1..=6).map(message).collect::<Vec<_>>()
    );
    if fixture.reopen() {
        assert_eq!(
            read_all(fixture.store(), log(1)),
            (1..=6).map(message).collect::<Vec<_>>()
        );
    }
}

pub fn logs_of_one_owner_with_different_parts_are_apart(fixture: &mut dyn Fixture) {
    let parts = [LogPart::Conversation, LogPart::Device, LogPart::Membership];
    check_apart(
        fixture,
        &parts.map(|part| LogId {
            owner: [5; 16],
            part,
        }),
    );
}

pub fn logs_with_neighbouring_ids_are_apart(fixture: &mut dyn Fixture) {
    let lowest = [0; 16];
    let mut next = lowest;
    next[15] = 1;
    let mut carried = [0xff; 16];
    carried[0] = 0;
    let mut after = lowest;
    after[0] = 1;
    let owners = [lowest, next, carried, after, [0xff; 16]];
    check_apart(
        fixture,
        &owners.map(|owner| LogId {
            owner,
            part: LogPart::Conversation,
        }),
    );
}

/// Gives each log another number of entries and looks whether each keeps its own.
fn check_apart(fixture: &mut dyn Fixture, logs: &[LogId]) {
    let store = fixture.store();
    for (head, log) in (1..).zip(logs) {
        fill(store, *log, head * 2);
    }
    wait(store.trim(logs[0], 1)).unwrap();
    wait(store.erase(logs[0], vec![2])).unwrap();
    for (expected, log) in (1..).zip(logs).skip(1) {
        assert_eq!(head(store, *log).unwrap().seq, expected * 2);
        assert_eq!(
            read_all(store, *log),
            (1..=expected * 2).map(message).collect::<Vec<_>>()
        );
    }
    assert_eq!(read_all(store, logs[0]), [message(2).erased()]);
}

fn one_of_each_kind() -> Vec<Entry> {
    let settings = Settings {
        name: "Ünïcode 🕊".to_owned(),
        description: "d".repeat(2_000),
        avatar: "m_1".to_owned(),
        post: Policy::Admins,
        share_history: true,
        retention: Retention::Days(9),
        vanish_after: Some(60_000),
        encryption: Encryption::Mls,
        invite_link: Some([3; 16]),
        ..Settings::default()
    };
    let text = TextContent {
        text: "hello\0\n\u{10ffff}".to_owned(),
        mentions: vec![user(2), user(255)],
        attachments: vec![Attachment {
            reference: "m_2".to_owned(),
            name: String::new(),
            media_type: "image/png".to_owned(),
            bytes: u64::MAX,
        }],
    };
    let opaque = Opaque {
        content_type: "message/mls".to_owned(),
        bytes: vec![0; 100],
    };
    let members = vec![
        (user(1), Role::Owner),
        (user(2), Role::Admin),
        (user(3), Role::Member),
    ];
    let change = SettingsChange {
        vanish_after: Some(None),
        invite_link: Some(None),
        ..SettingsChange::default()
    };
    let bodies = [
        (
            Kind::Create,
            Body::Create {
                kind: ConversationKind::Group,
                members,
                settings,
            },
        ),
        (Kind::Message, Body::Message(Content::Text(text.clone()))),
        (
            Kind::Message,
            Body::Message(Content::Opaque(opaque.clone())),
        ),
        (Kind::Edit, Body::Edit(Content::Text(text))),
        (
            Kind::Reaction,
            Body::Reaction {
                emoji: "👍🏽".to_owned(),
                on: true,
            },
        ),
        (Kind::Delete, Body::Delete),
        (
            Kind::Join,
            Body::Join {
                users: vec![user(4), user(5)],
                from: 3,
            },
        ),
        (Kind::Leave, Body::Leave),
        (Kind::Remove, Body::Remove { user: user(4) }),
        (
            Kind::Role,
            Body::Role {
                user: user(5),
                role: Role::Admin,
            },
        ),
        (Kind::Settings, Body::Settings(change)),
        (Kind::Commit, Body::Commit(opaque)),
        (Kind::Unknown(200), Body::Unknown(vec![1, 2, 3])),
        (Kind::Unknown(0), Body::Unknown(vec![])),
        (Kind::Message, Body::Erased),
    ];
    let mut entries: Vec<Entry> = (1..)
        .zip(bodies)
        .map(|(seq, (kind, body))| entry(seq, kind, None, body))
        .collect();
    for (index, target) in [(2, 2), (3, 2), (4, 2), (5, 3)] {
        entries[index].envelope.target = Some(target);
    }
    if let Some(last) = entries.last_mut() {
        let envelope = &mut last.envelope;
        envelope.expires = Some(Time::MAX);
        envelope.at = Time::MAX;
        envelope.epoch = u64::MAX;
        envelope.counts = true;
        envelope.ordinal = SEQ_MAX;
        envelope.rules = 255;
        envelope.author = user(255);
    }
    entries
}
