//! The journal: what was committed is there after a crash, whatever else had reached the disk by then, and
//! nothing that was erased comes back with it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{crashed, grep, log, open, put, read_all, text_of, wait};
use tidings_core::conversation::Retention;
use tidings_core::{Body, Time};
use tidings_store::Store;
use tidings_store_embedded::verify;

const NOW: Time = Time(1_800_000_000_000);

fn texts(from: u32, to: u32) -> Vec<String> {
    (from..=to).map(|number| format!("text {number}")).collect()
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = folder.read_dir().unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(ending));
    paths.sort();
    paths
}

#[test]
fn bodies_that_never_reached_their_file_come_from_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, log(1), Retention::Forever, 1, &texts(1, 300));
    // A power cut: of the body file only what was synced is there, and that is its beginning.
    let (_copy, data) = crashed(folder.path());
    let bodies = files(&data.join("bodies"), ".bodies");
    assert_eq!(bodies.len(), 1);
    let file = std::fs::File::options()
        .write(true)
        .open(&bodies[0])
        .unwrap();
    file.set_len(32).unwrap();
    drop(file);
    assert_eq!(verify(&data).unwrap(), Vec::<String>::new());
    let store = open(&data);
    let entries = read_all(&store, log(1));
    assert_eq!(entries.len(), 300);
    assert_eq!(text_of(&entries[299]), "text 300");
}

#[test]
fn a_commit_that_was_not_written_whole_never_happened() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, log(1), Retention::Forever, 1, &texts(1, 5));
    put(
        &store,
        log(1),
        Retention::Forever,
        6,
        &["LAST one".to_owned()],
    );
    let (_copy, data) = crashed(folder.path());
    // The end of the last record did not arrive.
    let segments = files(&data.join("journal"), ".journal");
    let (path, mut bytes) = segments
        .iter()
        .map(|path| (path, std::fs::read(path).unwrap()))
        .find(|(_, bytes)| bytes.windows(4).any(|bytes| bytes == b"LAST"))
        .unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end - 3..].fill(0);
    std::fs::write(path, &bytes).unwrap();
    assert_eq!(verify(&data).unwrap(), Vec::<String>::new());
    let store = open(&data);
    assert_eq!(wait(store.head(log(1))).unwrap().unwrap().seq, 5);
    assert_eq!(read_all(&store, log(1)).len(), 5);
    put(
        &store,
        log(1),
        Retention::Forever,
        6,
        &["another".to_owned()],
    );
    drop(store);
    assert_eq!(verify(&data).unwrap(), Vec::<String>::new());
}

#[test]
fn replaying_again_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, log(1), Retention::Forever, 1, &texts(1, 50));
    wait(store.erase(log(1), vec![7])).unwrap();
    let (_copy, data) = crashed(folder.path());
    // A crash in the middle of the replay: its segments are still there when all is applied.
    let (_again, again) = crashed(&data);
    assert_eq!(verify(&data).unwrap(), Vec::<String>::new());
    for segment in files(&again.join("journal"), ".journal") {
        let to = data.join("journal").join(segment.file_name().unwrap());
        std::fs::copy(&segment, to).unwrap();
    }
    let store = open(&data);
    put(&store, log(1), Retention::Forever, 51, &texts(51, 60));
    let entries = read_all(&store, log(1));
    assert_eq!(entries.len(), 60);
    assert_eq!(entries[6].body, Body::Erased);
    drop(store);
    assert_eq!(verify(&data).unwrap(), Vec::<String>::new());
}

#[test]
fn a_crash_brings_no_overwritten_body_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(
        &store,
        log(1),
        Retention::Forever,
        1,
        &["SECRET".to_owned()],
    );
    put(
        &store,
        log(2),
        Retention::UntilDelivered,
        1,
        &["SECRET too".to_owned()],
    );
    wait(store.erase(log(1), vec![1])).unwrap();
    let state = tidings_store::StateSnapshot {
        seq: 1,
        state: Vec::new(),
        members: Vec::new(),
    };
    wait(store.write_state(log(2), state)).unwrap();
    assert_eq!(wait(store.trim(log(2), 1)).unwrap(), 1);
    store.run_upkeep(NOW).unwrap();
    let (_copy, data) = crashed(folder.path());
    assert_eq!(grep(&data, "SECRET"), Vec::<String>::new());
    let store = open(&data);
    assert_eq!(read_all(&store, log(1))[0].body, Body::Erased);
    assert_eq!(grep(&data, "SECRET"), Vec::<String>::new());
}

#[test]
fn a_quiet_store_empties_its_journal() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, log(1), Retention::Forever, 1, &["WORDS".to_owned()]);
    assert_eq!(grep(&folder.path().join("journal"), "WORDS").len(), 1);
    let begun = Instant::now();
    while !grep(&folder.path().join("journal"), "WORDS").is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it stays");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(text_of(&read_all(&store, log(1))[0]), "WORDS");
}
