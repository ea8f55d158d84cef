//! The index of reactions holds those that stand, however often they were put on and taken back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod common;

use std::path::Path;

use common::{append, log, message, open, read_all, wait};
use fjall::{Database, KeyspaceCreateOptions};
use tidings_core::conversation::Retention;
use tidings_core::entry::{Body, Entry, Kind};
use tidings_core::time::DAY_MILLIS;
use tidings_core::{Seq, Time, UserId};
use tidings_store::{Append, StateSnapshot, Store};
use tidings_store_embedded::{EmbeddedStore, verify};

const NOW: Time = Time(1_800_000_000_000);
const USER: UserId = UserId([2; 16]);

fn reaction(seq: Seq, target: Seq, emoji: &str, on: bool) -> Entry {
    let mut entry = message(seq, "");
    entry.envelope.kind = Kind::Reaction;
    entry.envelope.target = Some(target);
    entry.body = Body::Reaction {
        emoji: emoji.to_owned(),
        on,
    };
    entry
}

fn put(store: &EmbeddedStore, retention: Retention, entries: Vec<Entry>) {
    wait(store.append(append(log(1), retention, entries))).unwrap();
}

fn standing(store: &EmbeddedStore, target: Seq) -> Vec<(String, UserId, Seq)> {
    let found = wait(store.alterations(log(1), vec![target])).unwrap();
    found
        .into_iter()
        .flat_map(|found| found.reactions)
        .collect()
}

/// Rows of the index by target, of a store that is closed.
fn rows(folder: &Path) -> usize {
    let database = Database::builder(folder.join("rows")).open().unwrap();
    let targets = database
        .keyspace("targets", KeyspaceCreateOptions::default)
        .unwrap();
    targets.range([0, 0]..).count()
}

#[test]
fn toggling_leaves_a_row_for_what_stands_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, Retention::Forever, vec![message(1, "much liked")]);
    let toggles = |from: Seq, to: Seq| -> Vec<Entry> {
        (from..=to)
            .map(|seq| reaction(seq, 1, ["a", "b"][seq as usize / 2 % 2], seq % 2 == 0))
            .collect()
    };
    // Many in one append, and others one by one.
    put(&store, Retention::Forever, toggles(2, 3_001));
    for seq in 3_002..=3_101 {
        put(&store, Retention::Forever, toggles(seq, seq));
    }
    assert_eq!(standing(&store, 1), []);
    put(
        &store,
        Retention::Forever,
        vec![reaction(3_102, 1, "a", true)],
    );
    put(
        &store,
        Retention::Forever,
        vec![reaction(3_103, 1, "a", true)],
    );
    assert_eq!(standing(&store, 1), [("a".to_owned(), USER, 3_103)]);
    drop(store);
    assert_eq!(rows(folder.path()), 1);
    assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
}

#[test]
fn an_erased_reaction_is_indexed_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let entries = vec![
        message(1, "liked"),
        reaction(2, 1, "a", true),
        reaction(3, 1, "b", true),
        reaction(4, 1, "b", true),
        reaction(5, 1, "c", true),
    ];
    // Two of them in the very step that puts them on; 3 stands no more anyway.
    wait(store.append(Append {
        erase: vec![2, 3],
        ..append(log(1), Retention::Forever, entries)
    }))
    .unwrap();
    let expected = [("b".to_owned(), USER, 4), ("c".to_owned(), USER, 5)];
    assert_eq!(standing(&store, 1), expected);
    wait(store.erase(log(1), vec![4, 1])).unwrap();
    assert_eq!(standing(&store, 1), expected[1..]);
    drop(store);
    assert_eq!(rows(folder.path()), 1);
    assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
}

#[test]
fn reactions_to_what_is_forgotten_are_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let entries = vec![
        message(1, "old"),
        message(2, "newer"),
        reaction(3, 1, "a", true),
        reaction(4, 1, "b", true),
        reaction(5, 2, "a", true),
        reaction(6, 1, "b", true),
    ];
    let state = StateSnapshot {
        seq: 6,
        ..StateSnapshot::default()
    };
    wait(store.append(Append {
        state: Some(state),
        ..append(log(1), Retention::UntilDelivered, entries)
    }))
    .unwrap();
    wait(store.trim(log(1), 4)).unwrap();
    assert_eq!(standing(&store, 1), []);
    assert_eq!(standing(&store, 2), [], "its target is served no more");
    store.run_upkeep(NOW).unwrap();
    store.run_upkeep(NOW.plus_millis(31 * DAY_MILLIS)).unwrap();
    drop(store);
    assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
    assert_eq!(rows(folder.path()), 2, "those of 5 and 6");
    let store = open(folder.path());
    wait(store.trim(log(1), 6)).unwrap();
    store.run_upkeep(NOW.plus_millis(40 * DAY_MILLIS)).unwrap();
    store.run_upkeep(NOW.plus_millis(71 * DAY_MILLIS)).unwrap();
    drop(store);
    assert_eq!(rows(folder.path()), 0);
    assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
}

#[test]
fn a_backup_without_a_reaction_does_not_index_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("data"));
    put(
        &store,
        Retention::UntilDelivered,
        vec![message(1, "owed"), reaction(2, 1, "a", true)],
    );
    let kept = vec![message(1, "kept"), reaction(2, 1, "a", true)];
    wait(store.append(append(log(2), Retention::Forever, kept))).unwrap();
    let backup = folder.path().join("backup");
    store.backup(&backup).unwrap();
    assert_eq!(standing(&store, 1).len(), 1);
    drop(store);
    assert_eq!(verify(&backup).unwrap(), Vec::<String>::new());
    let store = open(&backup);
    assert_eq!(read_all(&store, log(1))[1].body, Body::Erased);
    assert_eq!(standing(&store, 1), []);
    assert_eq!(
        wait(store.alterations(log(2), vec![1])).unwrap()[0].reactions,
        [("a".to_owned(), USER, 2)]
    );
    drop(store);
    assert_eq!(rows(&backup), 1);
}

/// What the check says of three toggles of which the last stands, after somebody meddled with its row.
fn after(meddle: impl FnOnce(&fjall::Keyspace, &[u8], &[u8])) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let entries = vec![
        message(1, "liked"),
        reaction(2, 1, "a", true),
        reaction(3, 1, "a", false),
        reaction(4, 1, "a", true),
    ];
    put(&store, Retention::Forever, entries);
    drop(store);
    let database = Database::builder(folder.path().join("rows"))
        .open()
        .unwrap();
    let targets = database
        .keyspace("targets", KeyspaceCreateOptions::default)
        .unwrap();
    let (key, value) = targets.last_key_value().unwrap().into_inner().unwrap();
    meddle(&targets, &key, &value);
    drop(targets);
    drop(database);
    verify(folder.path()).unwrap()
}

#[test]
fn the_check_holds_the_index_against_the_log() {
    assert_eq!(after(|_, _, _| {}), Vec::<String>::new());
    let findings = after(|targets, key, _| targets.remove(key).unwrap()).join("\n");
    assert!(
        findings.contains("reaction 4") && findings.contains("does not say so"),
        "{findings}"
    );
    let findings = after(|targets, key, value| {
        let mut key = key.to_vec();
        *key.last_mut().unwrap() ^= 1;
        targets.insert(key, value).unwrap();
    });
    assert!(
        findings
            .join("\n")
            .contains("that reaction 4 stands, and it does not"),
        "{findings:?}"
    );
    // By an entry that was taken back, and by one that is no reaction.
    for seq in [2, 1] {
        let findings = after(|targets, key, value| {
            let mut value = value.to_vec();
            *value.last_mut().unwrap() = seq;
            targets.insert(key, value).unwrap();
        });
        assert!(
            findings.join("\n").contains("stands, and it does not"),
            "{findings:?}"
        );
    }
}
