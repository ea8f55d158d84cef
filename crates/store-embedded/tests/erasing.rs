//! What is erased or trimmed is gone from every file.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod common;

use common::{grep, log, open, put, read_all, text_of, wait};
use tidings_core::Time;
use tidings_core::conversation::Retention;
use tidings_core::entry::Body;
use tidings_core::time::DAY_MILLIS;
use tidings_store::{ClientIdSearch, Store};
use tidings_store_embedded::verify;

const NOW: Time = Time(1_800_000_000_000);

fn texts(from: u32, to: u32) -> Vec<String> {
    (from..=to)
        .map(|number| format!("text number {number} of the log, and some more words"))
        .collect()
}

#[test]
fn an_erased_body_is_gone_from_every_file_and_its_neighbours_are_not() {
    for retention in [
        Retention::Forever,
        Retention::Days(30),
        Retention::UntilDelivered,
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        put(&store, log(1), retention, 1, &texts(1, 500));
        put(&store, log(1), retention, 501, &["SECRET one".to_owned()]);
        put(&store, log(1), retention, 502, &texts(502, 1_000));
        // The journal, which has it too, is empty of it within a second or so; a check does not wait.
        assert_eq!(store.check().unwrap(), Vec::<String>::new());
        assert_eq!(
            grep(folder.path(), "SECRET").len(),
            1,
            "a body lies in one place"
        );

        wait(store.erase(log(1), vec![501])).unwrap();
        store.run_upkeep(NOW).unwrap();
        assert_eq!(grep(folder.path(), "SECRET"), Vec::<String>::new());

        let entries = read_all(&store, log(1));
        assert_eq!(entries.len(), 1_000);
        assert_eq!(entries[500].body, Body::Erased);
        assert!(text_of(&entries[499]).starts_with("text number 500"));
        assert!(text_of(&entries[501]).starts_with("text number 502"));
        drop(store);
        assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
    }
}

#[test]
fn erasing_is_finished_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(
        &store,
        log(1),
        Retention::Forever,
        1,
        &["SECRET one".to_owned()],
    );
    wait(store.erase(log(1), vec![1])).unwrap();
    drop(store);
    assert_eq!(
        grep(folder.path(), "SECRET").len(),
        1,
        "not overwritten yet"
    );
    let store = open(folder.path());
    store.run_upkeep(NOW).unwrap();
    assert_eq!(grep(folder.path(), "SECRET"), Vec::<String>::new());
}

#[test]
fn of_trimmed_entries_the_envelopes_stay_for_thirty_days_and_then_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(
        &store,
        log(1),
        Retention::UntilDelivered,
        1,
        &texts(1, 9_000),
    );
    put(&store, log(2), Retention::Forever, 1, &["kept".to_owned()]);
    assert_eq!(wait(store.trim(log(1), 8_990)).unwrap(), 8_990);
    assert_eq!(read_all(&store, log(1)).len(), 10);
    store.run_upkeep(NOW).unwrap();
    assert_eq!(
        grep(folder.path(), "text number 8990 "),
        Vec::<String>::new()
    );
    assert_eq!(grep(folder.path(), "text number 8991 ").len(), 1);
    let client = common::message(8_990, "").envelope;
    let search =
        |above| wait(store.find_client_id(log(1), client.author, client.client_id, above)).unwrap();
    assert_eq!(
        search(0),
        ClientIdSearch::Found {
            seq: 8_990,
            at: client.at
        }
    );

    store.run_upkeep(NOW.plus_millis(29 * DAY_MILLIS)).unwrap();
    assert_eq!(
        search(0),
        ClientIdSearch::Found {
            seq: 8_990,
            at: client.at
        }
    );
    store.run_upkeep(NOW.plus_millis(30 * DAY_MILLIS)).unwrap();
    assert_eq!(search(0), ClientIdSearch::Incomplete);
    assert_eq!(search(8_990), ClientIdSearch::Absent);
    assert_eq!(read_all(&store, log(1)).len(), 10);
    assert_eq!(read_all(&store, log(2)).len(), 1);
    drop(store);
    assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
}

#[test]
fn a_file_in_which_nothing_lives_is_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, log(1), Retention::UntilDelivered, 1, &texts(1, 100));
    put(&store, log(2), Retention::Days(7), 1, &texts(1, 100));
    put(&store, log(3), Retention::Forever, 1, &texts(1, 100));
    let files = || {
        std::fs::read_dir(folder.path().join("bodies"))
            .unwrap()
            .count()
    };
    assert_eq!(files(), 3);
    for number in 1..=3 {
        wait(store.trim(log(number), 100)).unwrap();
    }
    store.run_upkeep(NOW).unwrap();
    assert_eq!(
        files(),
        1,
        "what is kept for ever has no span of time that ends"
    );
    drop(store);
    let store = open(folder.path());
    put(
        &store,
        log(1),
        Retention::UntilDelivered,
        101,
        &texts(101, 200),
    );
    assert_eq!(read_all(&store, log(1)).len(), 100);
    drop(store);
    assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
}

#[test]
fn the_background_does_it_within_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let settings = tidings_store_embedded::Settings {
        erase_within: std::time::Duration::from_millis(400),
        ..tidings_store_embedded::Settings::default()
    };
    let store = tidings_store_embedded::EmbeddedStore::open(folder.path(), settings).unwrap();
    put(
        &store,
        log(1),
        Retention::Forever,
        1,
        &["SECRET one".to_owned(), "other".to_owned()],
    );
    wait(store.erase(log(1), vec![1])).unwrap();
    let mut tries = 0;
    while !grep(folder.path(), "SECRET").is_empty() {
        tries += 1;
        assert!(tries < 500, "still there");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
