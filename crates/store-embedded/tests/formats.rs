//! Data directories of every released format still open and hold what they held.
//!
//! `fixtures/v1` was made by [`make_the_fixture_of_this_format`] when format 1 was the newest, and so on. The
//! fixture of a released format is never made anew: a new format gets one of its own.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod common;

use std::path::{Path, PathBuf};

use common::{append, log, message, open, put, read_all, text_of, wait};
use tidings_core::conversation::{Retention, State};
use tidings_core::entry::{Body, Kind};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{Time, UserId, codec};
use tidings_store::{
    Append, ClientIdSearch, Direction, Document, DocumentKind, Durability, MemberQuery,
    PutDocument, ReadLog, StateSnapshot, Step, Store, Want,
};
use tidings_store_embedded::{EmbeddedStore, Settings, verify};

const USER: UserId = UserId([2; 16]);

fn fixture(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/v{version}"))
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn mark(kind: MarkKind, seq: u64) -> Mark {
    let value = MarkValue {
        seq,
        ordinal: seq,
        own: 1,
        at: Time(9),
    };
    Mark {
        log: log(1),
        owner: USER.0,
        kind,
        lane: 0,
        value,
    }
}

#[test]
#[ignore = "makes the fixture of a new format, once"]
fn make_the_fixture_of_this_format() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = open(&data);
    let mut reaction = message(8, "");
    reaction.envelope.kind = Kind::Reaction;
    reaction.envelope.target = Some(6);
    reaction.body = Body::Reaction {
        emoji: "👍".to_owned(),
        on: true,
    };
    let mut vanishing = message(9, "vanishes");
    vanishing.envelope.expires = Some(Time(1_700_000_100_000));
    let mut entries: Vec<_> = (1..=7)
        .map(|seq| message(seq, &format!("text {seq}")))
        .collect();
    entries.extend([reaction, vanishing]);
    let state = State {
        generation: common::GENERATION,
        seq: 9,
        ..State::empty(common::GENERATION)
    };
    let state = StateSnapshot {
        seq: 9,
        state: codec::encode_state(&state),
        members: Vec::new(),
    };
    let marks = vec![mark(MarkKind::Joined, 1)];
    wait(store.append(Append {
        marks,
        state: Some(state),
        ..append(log(1), Retention::Forever, entries)
    }))
    .unwrap();
    put(
        &store,
        log(2),
        Retention::Days(30),
        1,
        &["for thirty days".to_owned()],
    );
    put(
        &store,
        log(3),
        Retention::UntilDelivered,
        1,
        &["until delivered".to_owned()],
    );
    wait(store.erase(log(1), vec![3])).unwrap();
    wait(store.trim(log(1), 2)).unwrap();
    let step = Step {
        log: log(1),
        owner: USER.0,
        kind: MarkKind::Shown,
        seq: 7,
        at: Time(11),
    };
    wait(store.keep_steps(vec![step])).unwrap();
    let put_user = PutDocument {
        kind: DocumentKind::User,
        key: vec![1],
        expected: Some(0),
        value: Some(vec![5]),
    };
    wait(store.put_document(put_user)).unwrap();
    drop(store);
    // Some of it in tables, some in the journal.
    let flushing = Settings {
        journal_rows_max: 0,
        ..common::quiet()
    };
    let store = EmbeddedStore::open(&data, flushing).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));
    drop(store);
    let store = open(&data);
    wait(store.raise_marks(vec![mark(MarkKind::Read, 7)], Durability::Now)).unwrap();
    drop(store);
    // Opening it again cuts the files down to what is in them.
    drop(open(&data));
    std::fs::remove_file(data.join("lock")).unwrap();
    let to = fixture(tidings_store_embedded::FORMAT);
    assert!(!to.exists(), "a fixture is never made anew");
    copy(&data, &to);
    // And some of it in our own journal, as a crash leaves it.
    let store = open(&data);
    put(
        &store,
        log(4),
        Retention::Forever,
        1,
        &["in the journal".to_owned()],
    );
    std::fs::remove_dir_all(to.join("journal")).unwrap();
    copy(&data.join("journal"), &to.join("journal"));
    drop(store);
}

#[test]
fn format_1_opens_and_holds_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture(1), folder.path());
    holds_what_it_held(folder.path());
    let format = std::fs::read_to_string(folder.path().join("FORMAT")).unwrap();
    assert_eq!(format, "tidings-embedded 3\n", "it is brought up to date");
}

#[test]
fn format_2_opens_and_holds_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture(2), folder.path());
    holds_its_journal(folder.path());
    holds_what_it_held(folder.path());
}

#[test]
fn format_2_is_brought_up_to_date_before_it_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture(2), folder.path());
    assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
    holds_what_it_held(folder.path());
}

#[test]
fn format_3_opens_and_holds_what_it_held() {
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture(3), folder.path());
    holds_its_journal(folder.path());
    holds_what_it_held(folder.path());
}

fn holds_its_journal(folder: &Path) {
    let store = open(folder);
    let entries = read_all(&store, log(4));
    assert_eq!(text_of(&entries[0]), "in the journal");
}

fn holds_what_it_held(folder: &Path) {
    let store = open(folder);

    let entries = read_all(&store, log(1));
    assert_eq!(
        entries.iter().map(|entry| entry.seq()).collect::<Vec<_>>(),
        (3..=9).collect::<Vec<_>>()
    );
    assert_eq!(entries[0].body, Body::Erased);
    assert_eq!(text_of(&entries[1]), "text 4");
    assert_eq!(
        entries[5].body,
        Body::Reaction {
            emoji: "👍".to_owned(),
            on: true
        }
    );
    assert_eq!(text_of(&read_all(&store, log(2))[0]), "for thirty days");
    assert_eq!(text_of(&read_all(&store, log(3))[0]), "until delivered");
    let envelopes = ReadLog {
        from: 1,
        direction: Direction::Forwards,
        limit: 2,
        bytes_max: 1_000,
        want: Want::Envelopes,
    };
    assert_eq!(
        wait(store.read(log(1), envelopes)).unwrap().entries[0].envelope,
        message(1, "").envelope
    );

    let head = wait(store.head(log(1))).unwrap().unwrap();
    assert_eq!(
        (head.seq, head.trimmed, head.generation),
        (9, 2, common::GENERATION)
    );
    let alterations = wait(store.alterations(log(1), vec![6])).unwrap();
    assert_eq!(alterations[0].reactions, [("👍".to_owned(), USER, 8)]);
    let client = message(1, "").envelope;
    let found = wait(store.find_client_id(log(1), USER, client.client_id, 0)).unwrap();
    assert_eq!(
        found,
        ClientIdSearch::Found {
            seq: 1,
            at: client.at
        }
    );
    assert_eq!(
        wait(store.expired(Time(1_700_000_100_000), 9)).unwrap(),
        [(log(1), 9)]
    );
    let marks = [mark(MarkKind::Read, 7), mark(MarkKind::Joined, 1)];
    assert_eq!(wait(store.marks(log(1), USER.0)).unwrap(), marks);
    assert_eq!(wait(store.memberships(USER, None, 9)).unwrap(), marks[1..]);
    assert_eq!(wait(store.steps_past(log(1), 5)).unwrap()[0].at, Time(11));
    assert_eq!(wait(store.read_state(log(1))).unwrap().unwrap().seq, 9);
    let members = wait(store.read_members(
        log(1),
        MemberQuery::From {
            after: None,
            limit: 9,
        },
    ))
    .unwrap();
    assert_eq!(members, []);
    let user = wait(store.document(DocumentKind::User, vec![1])).unwrap();
    assert_eq!(
        user,
        Some(Document {
            key: vec![1],
            version: 1,
            value: vec![5]
        })
    );

    // It goes on being used.
    wait(store.append(append(
        log(1),
        Retention::Forever,
        vec![message(10, "next")],
    )))
    .unwrap();
    store.run_upkeep(Time(1_800_000_000_000)).unwrap();
    assert_eq!(text_of(&read_all(&store, log(1))[7]), "next");
    drop(store);
    assert_eq!(verify(folder).unwrap(), Vec::<String>::new());
}
