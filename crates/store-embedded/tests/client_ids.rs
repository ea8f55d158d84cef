//! An entry is found by its client id, wherever in its log it lies.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod common;

use std::path::Path;

use common::{append, log, message, open, wait};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use tempfile::TempDir;
use tidings_core::conversation::Retention;
use tidings_core::log::Seq;
use tidings_core::{ClientId, Time, UserId};
use tidings_store::{ClientIdSearch, Store};
use tidings_store_embedded::{EmbeddedStore, verify};

/// Two whole blocks and a part of one.
const COUNT: Seq = 2_500;
const NOW: Time = Time(1_700_000_100_000);

fn fill(store: &EmbeddedStore, from: Seq, to: Seq) {
    let seqs: Vec<Seq> = (from..=to).collect();
    for seqs in seqs.chunks(100) {
        let entries = seqs.iter().map(|seq| message(*seq, "text")).collect();
        wait(store.append(append(log(1), Retention::Forever, entries))).unwrap();
    }
}

/// A directory with a log whose whole blocks are indexed.
fn indexed() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(&store, 1, COUNT);
    store.run_upkeep(NOW).unwrap();
    folder
}

fn find(store: &EmbeddedStore, seq: Seq, above: Seq) -> Option<Seq> {
    let envelope = message(seq, "").envelope;
    let search = store.find_client_id(log(1), envelope.author, envelope.client_id, above);
    match wait(search).unwrap() {
        ClientIdSearch::Found { seq, at } => {
            assert_eq!(at, message(seq, "").envelope.at);
            Some(seq)
        }
        ClientIdSearch::Absent => None,
        ClientIdSearch::Incomplete => panic!("nothing was forgotten"),
    }
}

fn finds_all(store: &EmbeddedStore, head: Seq) {
    for seq in [1, 2, 1_023, 1_024, 1_025, 2_047, 2_048, 2_049, head] {
        assert_eq!(find(store, seq, 0), Some(seq));
        assert_eq!(find(store, seq, seq - 1), Some(seq));
        assert_eq!(find(store, seq, seq), None, "above {seq}");
    }
    assert_eq!(find(store, head + 1, 0), None);
    let other = UserId([9; 16]);
    let client_id = message(5, "").envelope.client_id;
    let found = wait(store.find_client_id(log(1), other, client_id, 0)).unwrap();
    assert_eq!(found, ClientIdSearch::Absent, "of another author");
    let nobodys =
        store.find_client_id(log(1), message(5, "").envelope.author, ClientId([1; 16]), 0);
    assert_eq!(wait(nobodys).unwrap(), ClientIdSearch::Absent);
}

fn is_sound(path: &Path) {
    assert_eq!(verify(path).unwrap(), Vec::<String>::new());
}

#[test]
fn an_entry_is_found_before_and_after_its_block_is_indexed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fill(&store, 1, 2_100);
    finds_all(&store, 2_100);
    fill(&store, 2_101, COUNT);
    finds_all(&store, COUNT);
    drop(store);
    is_sound(folder.path());
    let store = open(folder.path());
    store.run_upkeep(NOW).unwrap();
    finds_all(&store, COUNT);
    drop(store);
    is_sound(folder.path());
    let store = open(folder.path());
    finds_all(&store, COUNT);
    fill(&store, COUNT + 1, 3_100);
    finds_all(&store, 3_100);
}

#[test]
fn what_was_forgotten_is_told_as_incomplete_and_leaves_no_index() {
    let folder = indexed();
    let store = open(folder.path());
    let state = tidings_store::StateSnapshot {
        seq: COUNT,
        ..tidings_store::StateSnapshot::default()
    };
    wait(store.write_state(log(1), state)).unwrap();
    wait(store.trim(log(1), 1_500)).unwrap();
    store.run_upkeep(NOW).unwrap();
    store
        .run_upkeep(NOW.plus_millis(40 * 24 * 3_600_000))
        .unwrap();
    let envelope = message(1_400, "").envelope;
    let search = store.find_client_id(log(1), envelope.author, envelope.client_id, 0);
    assert_eq!(wait(search).unwrap(), ClientIdSearch::Incomplete);
    assert_eq!(find(&store, 1_501, 1_500), Some(1_501));
    assert_eq!(find(&store, COUNT, 2_000), Some(COUNT));
    drop(store);
    is_sound(folder.path());
    let keys = table(folder.path(), "clients", |table| {
        let keys = table.iter().map(|row| row.key().unwrap().to_vec());
        keys.filter(|key| key.len() == 25).collect::<Vec<_>>()
    });
    assert_eq!(keys.len(), 1, "of the block that is gone nothing is left");
}

#[test]
fn an_index_that_says_something_else_is_found() {
    let folder = indexed();
    table(folder.path(), "clients", |table| {
        let (key, value) = table.last_key_value().unwrap().into_inner().unwrap();
        let mut value = value.to_vec();
        value[100] ^= 1;
        table.insert(key, value).unwrap();
    });
    let findings = verify(folder.path()).unwrap().join("\n");
    assert!(
        findings.contains("are not those of its entries"),
        "{findings}"
    );
    table(folder.path(), "clients", |table| {
        let key = table.last_key_value().unwrap().key().unwrap();
        table.remove(key).unwrap();
    });
    let findings = verify(folder.path()).unwrap().join("\n");
    assert!(findings.contains("nobody will do it"), "{findings}");
}

#[test]
fn the_blocks_of_an_older_format_are_indexed() {
    let folder = indexed();
    // As format 2 had it: a row of each client id, and no index.
    table(folder.path(), "clients", |table| {
        table.clear().unwrap();
        table.insert([7; 57], [1, 1]).unwrap();
    });
    std::fs::write(folder.path().join("FORMAT"), "tidings-embedded 2\n").unwrap();
    let store = open(folder.path());
    finds_all(&store, COUNT);
    store.run_upkeep(NOW).unwrap();
    finds_all(&store, COUNT);
    drop(store);
    is_sound(folder.path());
    let indexed = table(folder.path(), "clients", |table| table.iter().count());
    assert!(indexed >= 2, "{indexed}");
}

fn table<T>(folder: &Path, name: &str, work: impl FnOnce(&Keyspace) -> T) -> T {
    let database = Database::builder(folder.join("rows")).open().unwrap();
    let table = database
        .keyspace(name, KeyspaceCreateOptions::default)
        .unwrap();
    work(&table)
}
