//! A store whose write failed takes nothing more and says so.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod common;

use std::sync::{Arc, Mutex};

use common::{append, log, message, put, quiet, wait};
use tidings_core::Time;
use tidings_core::conversation::Retention;
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_store::{AppendError, Durability, Store, StoreError};
use tidings_store_embedded::{EmbeddedStore, Settings};

#[test]
fn a_failed_write_stops_the_store_and_calls_the_hook_once() {
    let folder = tempfile::tempdir().unwrap();
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&reasons);
    let settings = Settings {
        on_fatal: Arc::new(move |reason| told.lock().unwrap().push(reason.to_owned())),
        ..quiet()
    };
    let store = EmbeddedStore::open(folder.path(), settings).unwrap();
    put(&store, log(1), Retention::Forever, 1, &["kept".to_owned()]);

    // The next retention class needs a file of its own, and there is no folder to put it in.
    let bodies = folder.path().join("bodies");
    std::fs::rename(&bodies, folder.path().join("away")).unwrap();
    let failing = append(log(2), Retention::UntilDelivered, vec![message(1, "lost")]);
    let is_stopped = |result| matches!(result, Err(AppendError::Store(StoreError::Stopped(_))));
    assert!(is_stopped(wait(store.append(failing.clone()))));
    std::fs::rename(folder.path().join("away"), &bodies).unwrap();

    assert!(
        is_stopped(wait(store.append(failing))),
        "it does not carry on once the cause is gone"
    );
    let value = MarkValue {
        seq: 1,
        ordinal: 1,
        own: 0,
        at: Time(1),
    };
    let mark = Mark {
        log: log(1),
        owner: [1; 16],
        kind: MarkKind::Read,
        lane: 0,
        value,
    };
    for durability in [Durability::Now, Durability::Late] {
        assert!(matches!(
            wait(store.raise_marks(vec![mark], durability)),
            Err(StoreError::Stopped(_))
        ));
    }
    assert!(matches!(wait(store.flush()), Err(StoreError::Stopped(_))));
    assert_eq!(reasons.lock().unwrap().len(), 1);
    assert!(store.stopped().unwrap().contains("a write failed"));
    drop(store);

    let store = common::open(folder.path());
    assert_eq!(wait(store.head(log(1))).unwrap().unwrap().seq, 1);
    assert_eq!(wait(store.head(log(2))).unwrap(), None);
}

#[test]
fn late_marks_reach_the_disk_without_anything_else_happening() {
    let folder = tempfile::tempdir().unwrap();
    let store = common::open(folder.path());
    put(&store, log(1), Retention::Forever, 1, &["one".to_owned()]);
    let value = MarkValue {
        seq: 1,
        ordinal: 1,
        own: 0,
        at: Time(1),
    };
    let mark = Mark {
        log: log(1),
        owner: [1; 16],
        kind: MarkKind::Read,
        lane: 0,
        value,
    };
    wait(store.raise_marks(vec![mark], Durability::Late)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let (_copy, data) = common::crashed(folder.path());
    let store = common::open(&data);
    assert_eq!(wait(store.marks(log(1), [1; 16])).unwrap(), vec![mark]);
}
