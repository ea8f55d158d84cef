//! Backups: complete, consistent, and without what must not be in them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod common;

use common::{append, grep, log, message, open, put, read_all, text_of, wait};
use tidings_core::conversation::Retention;
use tidings_core::entry::Body;
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{ClientId, Time, UserId};
use tidings_store::{
    Append, AppendError, ClientIdSearch, DocumentKind, Durability, PutDocument, Store,
};
use tidings_store_embedded::{BackupError, new_generation, verify};

fn texts(what: &str, count: u32) -> Vec<String> {
    (1..=count)
        .map(|number| format!("{what} {number}."))
        .collect()
}

#[test]
fn a_backup_of_a_running_store_opens_with_everything_and_a_new_generation() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("data"));
    put(
        &store,
        log(1),
        Retention::Forever,
        1,
        &texts("forever", 2_000),
    );
    put(&store, log(2), Retention::Days(30), 1, &texts("days", 300));
    put(
        &store,
        log(3),
        Retention::UntilDelivered,
        1,
        &texts("owed", 300),
    );
    // Said while the log still kept everything, and now under another rule.
    put(&store, log(4), Retention::Forever, 1, &texts("before", 10));
    put(
        &store,
        log(4),
        Retention::UntilDelivered,
        11,
        &texts("after", 10),
    );
    wait(store.erase(log(1), vec![7])).unwrap();
    wait(store.trim(log(2), 100)).unwrap();
    let value = MarkValue {
        seq: 1_500,
        ordinal: 1_500,
        own: 0,
        at: Time(5),
    };
    let mark = Mark {
        log: log(1),
        owner: [2; 16],
        kind: MarkKind::Read,
        lane: 0,
        value,
    };
    wait(store.raise_marks(vec![mark], Durability::Late)).unwrap();
    let put_user = PutDocument {
        kind: DocumentKind::User,
        key: vec![9],
        expected: None,
        value: Some(vec![1, 2]),
    };
    let version = wait(store.put_document(put_user)).unwrap();

    // Somebody goes on writing all the while.
    let backup = folder.path().join("backup");
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            for seq in 2_001..2_200 {
                wait(store.append(append(
                    log(1),
                    Retention::Forever,
                    vec![message(seq, "meanwhile")],
                )))
                .unwrap();
            }
        });
        store.backup(&backup).unwrap()
    });
    assert_eq!((report.logs, report.bodies_left_out), (4, 320));
    assert!(matches!(store.backup(&backup), Err(BackupError::Exists(_))));
    drop(store);

    for gone in ["owed", "before", "after", "forever 7.", "days 100."] {
        assert_eq!(grep(&backup, gone), Vec::<String>::new(), "{gone}");
    }
    assert_eq!(verify(&backup).unwrap(), Vec::<String>::new());
    assert_eq!(
        verify(&folder.path().join("data")).unwrap(),
        Vec::<String>::new()
    );

    let generation = new_generation(&backup).unwrap();
    assert_ne!(generation, common::GENERATION);
    let restored = open(&backup);
    for number in 1..=4 {
        assert_eq!(
            wait(restored.head(log(number)))
                .unwrap()
                .unwrap()
                .generation,
            generation
        );
    }
    let forever = read_all(&restored, log(1));
    assert!(forever.len() >= 2_000);
    assert_eq!(text_of(&forever[1_999]), "forever 2000.");
    assert_eq!(forever[6].body, Body::Erased);
    assert_eq!(text_of(&read_all(&restored, log(2))[0]), "days 101.");
    for number in 3..=4 {
        assert!(
            read_all(&restored, log(number))
                .iter()
                .all(|entry| entry.body == Body::Erased)
        );
    }
    assert_eq!(wait(restored.marks(log(1), [2; 16])).unwrap(), vec![mark]);
    let user = wait(restored.document(DocumentKind::User, vec![9]))
        .unwrap()
        .unwrap();
    assert_eq!((user.version, user.value), (version, vec![1, 2]));
    let client = ClientId((0x7000_u128 + 1_999).to_be_bytes());
    let found = wait(restored.find_client_id(log(1), UserId([2; 16]), client, 0)).unwrap();
    assert!(matches!(found, ClientIdSearch::Found { seq: 1_999, .. }));

    // What was written against the old generation is refused, and the log goes on in the new one.
    let head = forever.len() as u64;
    let next = append(log(1), Retention::Forever, vec![message(head + 1, "next")]);
    assert_eq!(
        wait(restored.append(next.clone())),
        Err(AppendError::Conflict { head })
    );
    wait(restored.append(Append { generation, ..next })).unwrap();
    drop(restored);
    assert_eq!(verify(&backup).unwrap(), Vec::<String>::new());
}
