//! Compare and set by several servers.

use tidings_store::{DocumentKind, PutDocument, PutError, Store};
use tidings_testing::chance::{Chance, seed};
use tokio::task::JoinSet;

use crate::entries::id;
use crate::support::{Keyspace, RUNTIME, run};

pub(crate) fn put(key: &[u8], expected: Option<u64>, value: Option<Vec<u8>>) -> PutDocument {
    PutDocument {
        kind: DocumentKind::Private,
        key: key.to_vec(),
        expected,
        value,
    }
}

/// What a server was told of the changes that it made, each with a name of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) changed: Vec<u64>,
    pub(crate) refused: Vec<u64>,
    pub(crate) unknown: Vec<u64>,
}

/// Adds the name of one more change to a document, if nobody else changes it in between.
pub(crate) async fn add_name(store: &dyn Store, key: &[u8], name: u64, told: &mut Told) {
    let Ok(before) = store.document(DocumentKind::Private, key.to_vec()).await else {
        return;
    };
    let version = before.as_ref().map_or(0, |before| before.version);
    let mut value = before.map_or(Vec::new(), |before| before.value);
    value.extend(name.to_be_bytes());
    match store
        .put_document(put(key, Some(version), Some(value)))
        .await
    {
        Ok(now) => {
            assert!(now > version, "versions only grow");
            told.changed.push(name);
        }
        Err(PutError::Conflict { .. }) => told.refused.push(name),
        Err(PutError::Store(_)) => told.unknown.push(name),
    }
}

/// Checks that the document is what those who changed it were told, and answers how many changes it has seen.
pub(crate) async fn check_names(store: &dyn Store, key: &[u8], told: &[Told]) -> usize {
    let document = store.document(DocumentKind::Private, key.to_vec()).await;
    let value = document.expect("it is read").expect("it is there").value;
    let names: Vec<u64> = value
        .chunks(8)
        .map(|name| u64::from_be_bytes(name.try_into().expect("8 bytes")))
        .collect();
    for told in told {
        for name in &told.changed {
            let times = names.iter().filter(|one| *one == name).count();
            assert_eq!(times, 1, "{name} was acknowledged");
        }
        for name in &told.refused {
            assert!(!names.contains(name), "{name} was refused");
        }
        for name in &told.unknown {
            let times = names.iter().filter(|one| *one == name).count();
            assert!(times <= 1, "{name} is there twice");
        }
    }
    names.len()
}

#[test]
fn no_change_of_a_document_is_lost_between_servers() {
    let keyspace = Keyspace::take();
    let mut chance = Chance::new(seed("no_change_of_a_document_is_lost"));
    let key = id(&mut chance);
    let mut servers = JoinSet::new();
    for server in 0..4_u64 {
        let store = keyspace.open();
        let changes = async move {
            let mut told = Told::default();
            for change in 0..25 {
                add_name(&store, &key, server * 1_000 + change, &mut told).await;
            }
            told
        };
        servers.spawn_on(changes, RUNTIME.handle());
    }
    let told = run(servers.join_all());
    let changes = run(check_names(&keyspace.open(), &key, &told));
    assert!(changes > 0);
    println!("{changes} changes of 100 came through");
}

#[test]
fn a_document_made_anew_is_another() {
    let keyspace = Keyspace::take();
    let stores = [keyspace.open(), keyspace.open()];
    let mut chance = Chance::new(1);
    let key = id(&mut chance);
    let mut versions = Vec::new();
    for round in 0..5_usize {
        let store = &stores[round % 2];
        let value = vec![round as u8];
        let made = run(store.put_document(put(&key, Some(0), Some(value.clone()))));
        versions.push(made.expect("it is made"));
        let found = run(stores[1].document(DocumentKind::Private, key.to_vec()));
        assert_eq!(
            found.expect("it is read").expect("it is there").value,
            value
        );
        for version in versions.iter().rev().skip(1) {
            let stale = run(store.put_document(put(&key, Some(*version), Some(vec![]))));
            assert!(matches!(stale, Err(PutError::Conflict { .. })));
        }
        let gone = run(stores[0].put_document(put(&key, None, None)));
        assert_eq!(gone, Ok(0));
        let found = run(stores[1].document(DocumentKind::Private, key.to_vec()));
        assert_eq!(found, Ok(None));
        let again = run(stores[1].put_document(put(&key, Some(0), None)));
        assert_eq!(again, Ok(0), "to delete it once more is no harm");
    }
    assert!(
        versions.is_sorted_by(|one, next| one < next),
        "{versions:?}"
    );
}

#[test]
fn a_scan_passes_over_documents_that_are_gone() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(1);
    let user = id(&mut chance);
    let keys: Vec<Vec<u8>> = (0..20_u8)
        .map(|number| [&user[..], &[number]].concat())
        .collect();
    for key in &keys {
        run(store.put_document(put(key, Some(0), Some(vec![1])))).expect("it is made");
    }
    for key in &keys[3..15] {
        run(store.put_document(put(key, None, None))).expect("it is deleted");
    }
    let left: Vec<Vec<u8>> = [&keys[..3], &keys[15..]].concat();
    for prefix in [&user[..], &[]] {
        for limit in [1, 3, 4, 100] {
            let scan = store.scan_documents(DocumentKind::Private, prefix.to_vec(), None, limit);
            let found = run(scan).expect("they are read");
            let found: Vec<Vec<u8>> = found.into_iter().map(|document| document.key).collect();
            assert_eq!(found, left[..limit.min(left.len())]);
        }
    }
}

/// A request to make a document that slept in a node, and lands when the document was deleted long since: here
/// by hand, as the store sends it.
#[test]
fn a_request_to_make_a_document_that_was_deleted_since_does_nothing() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(1);
    let key = id(&mut chance);
    run(store.put_document(put(&key, Some(0), Some(vec![1])))).expect("it is made");
    run(store.put_document(put(&key, None, None))).expect("it is deleted");
    let landed: Vec<(bool, Option<i64>)> = keyspace.rows(
        "UPDATE KS.documents SET version = 1, nonce = 1, value = 0x01 WHERE kind = ? AND front = ? AND key = ? IF version = null",
        (DocumentKind::Private as i8, &key, &key),
    );
    assert!(!landed[0].0);
    let found = run(store.document(DocumentKind::Private, key.to_vec()));
    assert_eq!(found, Ok(None));
    let graves: Vec<(i64, Option<i32>)> =
        keyspace.rows("SELECT version, TTL(version) FROM KS.documents", ());
    assert!(graves[0].1.is_some(), "it goes by itself one day");
}
