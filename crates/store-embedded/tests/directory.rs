//! What is refused when a data directory is opened, and what it says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod common;

use common::{log, open, put, read_all};
use tidings_core::conversation::Retention;
use tidings_store_embedded::{EmbeddedStore, FORMAT, OpenError, Settings, verify};

fn refusal(path: &std::path::Path) -> OpenError {
    EmbeddedStore::open(path, Settings::default())
        .map(drop)
        .unwrap_err()
}

#[test]
fn a_directory_in_use_is_refused_and_the_process_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let message = refusal(folder.path()).to_string();
    assert!(message.contains("in use by process"), "{message}");
    assert!(matches!(
        verify(folder.path()),
        Err(OpenError::Locked { .. })
    ));
    drop(store);
    drop(open(folder.path()));
}

#[test]
fn a_newer_format_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let newer = format!("tidings-embedded {}\n", FORMAT + 1);
    std::fs::write(folder.path().join("FORMAT"), newer).unwrap();
    let message = refusal(folder.path()).to_string();
    let newer = FORMAT + 1;
    let says =
        format!("has format {newer}, this program knows formats up to {FORMAT}; use a newer");
    assert!(message.contains(&says), "{message}");
    std::fs::write(folder.path().join("FORMAT"), "tidings-embedded 1\n").unwrap();
    drop(open(folder.path()));
}

#[test]
fn a_directory_whose_journal_is_missing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    std::fs::remove_dir_all(folder.path().join("journal")).unwrap();
    let refused = refusal(folder.path());
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    assert!(refused.to_string().contains("journal is missing"));
}

#[test]
fn foreign_directories_are_refused_and_left_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("holiday.jpg"), "a picture").unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::Foreign { .. }));
    let names: Vec<_> = folder
        .path()
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["holiday.jpg"]);

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("FORMAT"), "something else 7\n").unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::Foreign { .. }));
    assert!(matches!(
        verify(&folder.path().join("nowhere")),
        Err(OpenError::Foreign { .. })
    ));
}

#[test]
fn a_directory_that_lost_its_format_or_parts_is_not_taken_for_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    put(&store, log(1), Retention::Forever, 1, &["kept".to_owned()]);
    drop(store);
    std::fs::rename(
        folder.path().join("FORMAT"),
        folder.path().join("FORMAT.new"),
    )
    .unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::Damaged { .. }));
    std::fs::rename(
        folder.path().join("FORMAT.new"),
        folder.path().join("FORMAT"),
    )
    .unwrap();
    std::fs::rename(folder.path().join("rows"), folder.path().join("rows.away")).unwrap();
    assert!(matches!(refusal(folder.path()), OpenError::Damaged { .. }));
    std::fs::rename(folder.path().join("rows.away"), folder.path().join("rows")).unwrap();
    assert_eq!(read_all(&open(folder.path()), log(1)).len(), 1);
}

#[test]
fn a_directory_whose_making_was_interrupted_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    std::fs::remove_file(folder.path().join("FORMAT")).unwrap();
    let store = open(folder.path());
    put(&store, log(1), Retention::Forever, 1, &["kept".to_owned()]);
    drop(store);
    assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
}
