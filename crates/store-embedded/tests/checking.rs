//! The check finds what is wrong, and says what.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod common;

use std::os::unix::fs::FileExt;
use std::path::Path;

use common::{append, log, message, open, put, wait};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use tidings_core::Time;
use tidings_core::conversation::Retention;
use tidings_core::entry::{Body, Kind};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_store::{Append, DocumentKind, PutDocument, Store};
use tidings_store_embedded::verify;

/// A store with something in every table.
fn fill(folder: &Path) {
    let store = open(folder);
    let mut edit = message(5, "edited");
    edit.envelope.kind = Kind::Edit;
    edit.envelope.target = Some(2);
    let Body::Message(content) = edit.body else {
        panic!("a message")
    };
    edit.body = Body::Edit(content);
    let mut vanishing = message(6, "vanishes");
    vanishing.envelope.expires = Some(Time(1_900_000_000_000));
    let texts: Vec<String> = (1..=4).map(|seq| format!("text {seq}")).collect();
    put(&store, log(1), Retention::Forever, 1, &texts);
    let value = MarkValue {
        seq: 6,
        ordinal: 6,
        own: 0,
        at: Time(1),
    };
    let marks = vec![Mark {
        log: log(1),
        owner: [2; 16],
        kind: MarkKind::Joined,
        lane: 0,
        value,
    }];
    wait(store.append(Append {
        marks,
        ..append(log(1), Retention::Forever, vec![edit, vanishing])
    }))
    .unwrap();
    let user = PutDocument {
        kind: DocumentKind::User,
        key: vec![1],
        expected: None,
        value: Some(vec![1]),
    };
    wait(store.put_document(user)).unwrap();
    wait(store.trim(log(1), 1)).unwrap();
    store.run_upkeep(Time(1_800_000_000_000)).unwrap();
    drop(store);
    assert_eq!(verify(folder).unwrap(), Vec::<String>::new());
}

/// What the check says after somebody meddled with a table.
fn after(table: &str, meddle: impl FnOnce(&Keyspace)) -> String {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let database = Database::builder(folder.path().join("rows"))
        .open()
        .unwrap();
    let table = database
        .keyspace(table, KeyspaceCreateOptions::default)
        .unwrap();
    meddle(&table);
    drop(table);
    drop(database);
    verify(folder.path()).unwrap().join("\n")
}

fn remove_last(table: &Keyspace) {
    let key = table.last_key_value().unwrap().key().unwrap();
    table.remove(key).unwrap();
}

fn put_beside_last(table: &Keyspace) {
    let (key, value) = table.last_key_value().unwrap().into_inner().unwrap();
    let mut key = key.to_vec();
    *key.last_mut().unwrap() += 1;
    table.insert(key, value).unwrap();
}

#[track_caller]
fn says(findings: &str, what: &str) {
    assert!(findings.contains(what), "it said: {findings}");
}

#[test]
fn missing_and_surplus_rows_are_found() {
    says(
        &after("entries", remove_last),
        "ends with entry 5, its head is 6",
    );
    says(&after("entries", put_beside_last), "entry 7 of log");
    says(
        &after("targets", remove_last),
        "the index by target does not say so",
    );
    says(
        &after("targets", put_beside_last),
        "says that 6 alters 2, and it does not",
    );
    says(&after("inbox", remove_last), "is not the same in the inbox");
    says(
        &after("marks", remove_last),
        "an inbox has a mark that is not there",
    );
    says(
        &after("marks", put_beside_last),
        "is not the same in the inbox",
    );
    says(
        &after("expiry", remove_last),
        "expires, and nobody will notice",
    );
    says(
        &after("expiry", put_beside_last),
        "is listed to expire, and does not",
    );
    says(&after("states", remove_last), "names a state as of");
    says(&after("logs", remove_last), "has entries but is not there");
}

#[test]
fn a_gap_in_a_log_is_found() {
    let findings = after("entries", |table| {
        let key = table.range([0, 0]..).nth(2).unwrap().key().unwrap();
        table.remove(key).unwrap();
    });
    says(&findings, "has entry 4 where 3 is next");
}

#[test]
fn a_changed_or_missing_body_is_found() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    // What vanishes lies in a file of its own.
    let files = folder.path().join("bodies").read_dir().unwrap();
    let holds = |bytes: &[u8]| bytes.windows(6).any(|bytes| bytes == b"text 3");
    let (path, bytes) = files
        .map(|file| file.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .find(|(_, bytes)| holds(bytes))
        .unwrap();
    let at = bytes
        .windows(6)
        .position(|bytes| bytes == b"text 3")
        .unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"T", at as u64).unwrap();
    let findings = verify(folder.path()).unwrap();
    assert_eq!(findings.len(), 1);
    says(&findings[0], "the body of entry 3");
    drop(file);
    std::fs::remove_file(&path).unwrap();
    says(&verify(folder.path()).unwrap().join("\n"), "is missing");
}
