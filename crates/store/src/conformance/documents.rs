//! Small documents with compare and set.

use std::sync::atomic::{AtomicU32, Ordering};

use super::{Fixture, wait};
use crate::{Document, DocumentKind, PutDocument, PutError, Store};

const KINDS: [DocumentKind; 8] = [
    DocumentKind::User,
    DocumentKind::Username,
    DocumentKind::Device,
    DocumentKind::Token,
    DocumentKind::Block,
    DocumentKind::Private,
    DocumentKind::Server,
    DocumentKind::InviteLink,
];

pub fn a_document_that_was_never_put_is_not_there(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    assert_eq!(get(store, b"a"), None);
    assert_eq!(scan(store, b"", None, 10), Vec::<Vec<u8>>::new());
}

pub fn a_document_is_made_once(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let version = put(store, b"a", Some(0), Some(b"one")).unwrap();
    let expected = Document {
        key: b"a".to_vec(),
        version,
        value: b"one".to_vec(),
    };
    assert_eq!(get(store, b"a"), Some(expected.clone()));
    assert_eq!(
        put(store, b"a", Some(0), Some(b"two")),
        Err(PutError::Conflict { version })
    );
    assert_eq!(get(store, b"a"), Some(expected));
}

pub fn a_document_is_changed_only_at_its_version(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    for expected in [1, 7] {
        let refused = put(store, b"a", Some(expected), Some(b"x"));
        assert_eq!(
            refused,
            Err(PutError::Conflict { version: 0 }),
            "it is not there"
        );
        assert_eq!(
            put(store, b"a", Some(expected), None),
            Err(PutError::Conflict { version: 0 })
        );
    }
    let first = put(store, b"a", Some(0), Some(b"one")).unwrap();
    let second = put(store, b"a", Some(first), Some(b"two")).unwrap();
    for expected in [0, first, second + 1] {
        let conflict = Err(PutError::Conflict { version: second });
        assert_eq!(put(store, b"a", Some(expected), Some(b"x")), conflict);
        assert_eq!(
            put(store, b"a", Some(expected), None),
            conflict,
            "nor deleted"
        );
    }
    assert_eq!(value(store, b"a"), Some(b"two".to_vec()));
}

pub fn a_put_without_expectation_always_succeeds(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, b"a", None, None).unwrap();
    assert_eq!(get(store, b"a"), None);
    put(store, b"a", None, Some(b"one")).unwrap();
    assert_eq!(value(store, b"a"), Some(b"one".to_vec()));
    put(store, b"a", None, Some(b"two")).unwrap();
    assert_eq!(value(store, b"a"), Some(b"two".to_vec()));
    put(store, b"a", None, None).unwrap();
    assert_eq!(get(store, b"a"), None);
}

pub fn versions_grow_and_are_never_zero(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let mut before = 0;
    for round in 0..20 {
        let expected = (round % 2 == 0).then_some(before);
        let version = put(store, b"a", expected, Some(b"same")).unwrap();
        assert!(version > before);
        assert_eq!(
            get(store, b"a").unwrap().version,
            version,
            "what the put answered"
        );
        before = version;
    }
}

pub fn a_deleted_document_is_not_there(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let version = put(store, b"a", Some(0), Some(b"one")).unwrap();
    put(store, b"b", Some(0), Some(b"other")).unwrap();
    put(store, b"a", Some(version), None).unwrap();
    assert_eq!(get(store, b"a"), None);
    assert_eq!(scan(store, b"", None, 10), [b"b"]);
    let gone = Err(PutError::Conflict { version: 0 });
    assert_eq!(put(store, b"a", Some(u64::MAX), Some(b"x")), gone);
    let version = put(store, b"a", Some(0), Some(b"two")).unwrap();
    assert_ne!(version, 0);
    assert_eq!(
        value(store, b"a"),
        Some(b"two".to_vec()),
        "it can be claimed anew"
    );
}

pub fn an_empty_value_is_a_value(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let version = put(store, b"a", Some(0), Some(b"")).unwrap();
    assert_eq!(value(store, b"a"), Some(vec![]));
    assert_eq!(
        put(store, b"a", Some(0), Some(b"x")),
        Err(PutError::Conflict { version })
    );
    assert_eq!(scan(store, b"", None, 10), [b"a"]);
}

pub fn kinds_of_documents_are_apart(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    for kind in KINDS {
        for key in [b"".as_slice(), b"a", &[0xff; 40]] {
            let value = Some(vec![kind as u8]);
            let put = PutDocument {
                kind,
                key: key.to_vec(),
                expected: Some(0),
                value,
            };
            wait(store.put_document(put)).unwrap();
        }
    }
    for kind in KINDS {
        let found = wait(store.document(kind, b"a".to_vec())).unwrap().unwrap();
        assert_eq!(found.value, [kind as u8]);
        let found = wait(store.scan_documents(kind, vec![], None, 100)).unwrap();
        let keys: Vec<Vec<u8>> = found.iter().map(|document| document.key.clone()).collect();
        assert_eq!(keys, [b"".to_vec(), b"a".to_vec(), vec![0xff; 40]]);
        assert!(found.iter().all(|document| document.value == [kind as u8]));
    }
}

pub fn keys_that_are_prefixes_of_each_other_are_apart(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    for (number, key) in hostile_keys().iter().enumerate() {
        put(store, key, Some(0), Some(&number.to_be_bytes())).unwrap();
    }
    for (number, key) in hostile_keys().iter().enumerate() {
        assert_eq!(
            value(store, key),
            Some(number.to_be_bytes().to_vec()),
            "{key:?}"
        );
    }
    put(store, b"a", None, None).unwrap();
    put(store, b"", None, None).unwrap();
    let kept: Vec<Vec<u8>> = hostile_keys()
        .into_iter()
        .filter(|key| !key.is_empty() && key != b"a")
        .collect();
    assert_eq!(scan(store, b"", None, 100), kept, "only these went");
}

pub fn long_keys_and_values_come_back(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let keys = [vec![b'k'; 10_000], [vec![b'k'; 9_999], vec![b'l']].concat()];
    let values = [vec![1; 1_000_000], vec![2; 100_000]];
    for (key, value) in keys.iter().zip(&values) {
        put(store, key, Some(0), Some(value)).unwrap();
    }
    for (key, expected) in keys.iter().zip(&values) {
        assert!(value(store, key).as_ref() == Some(expected));
    }
    assert!(scan(store, &keys[0][..9_999], None, 10) == keys);
}

pub fn a_scan_gives_the_keys_with_its_prefix_in_order(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    for key in hostile_keys().iter().rev() {
        put(store, key, Some(0), Some(b"x")).unwrap();
    }
    let mut prefixes = hostile_keys();
    prefixes.extend([b"ab\0x".to_vec(), b"zz".to_vec()]);
    for prefix in prefixes {
        let expected: Vec<Vec<u8>> = hostile_keys()
            .into_iter()
            .filter(|key| key.starts_with(&prefix))
            .collect();
        assert_eq!(scan(store, &prefix, None, 100), expected, "{prefix:?}");
        for limit in 1..=expected.len() {
            assert_eq!(
                scan(store, &prefix, None, limit),
                expected[..limit],
                "{prefix:?}, {limit}"
            );
        }
    }
}

pub fn a_scan_goes_on_after_a_key(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    for key in hostile_keys() {
        put(store, &key, Some(0), Some(b"x")).unwrap();
    }
    for prefix in [b"".as_slice(), b"a", b"\xff"] {
        for after in hostile_keys()
            .into_iter()
            .chain([b"aaa".to_vec(), b"zz".to_vec()])
        {
            let expected: Vec<Vec<u8>> = hostile_keys()
                .into_iter()
                .filter(|key| key.starts_with(prefix) && *key > after)
                .collect();
            let found = scan(store, prefix, Some(&after), 100);
            assert_eq!(found, expected, "{prefix:?} after {after:?}");
            let found = scan(store, prefix, Some(&after), 2);
            assert_eq!(
                found,
                expected[..expected.len().min(2)],
                "{prefix:?} after {after:?}, 2"
            );
        }
    }
}

pub fn a_scan_of_the_highest_prefix_ends(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let key = [0xff; 20].to_vec();
    put(store, &key, Some(0), Some(b"x")).unwrap();
    put(store, &[0xfe; 20], Some(0), Some(b"x")).unwrap();
    let next = PutDocument {
        kind: DocumentKind::Device,
        key: vec![],
        expected: Some(0),
        value: Some(vec![]),
    };
    wait(store.put_document(next)).unwrap();
    assert_eq!(scan(store, &[0xff; 16], None, 10), [key.as_slice()]);
    assert_eq!(scan(store, &[0xff; 20], None, 10), [key.as_slice()]);
    assert_eq!(scan(store, &[0xff; 21], None, 10), Vec::<Vec<u8>>::new());
    assert_eq!(
        scan(store, &[0xff; 16], Some(&key), 10),
        Vec::<Vec<u8>>::new()
    );
}

pub fn of_concurrent_claims_one_wins(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    for round in 0..10_u8 {
        let wins = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..8_u8 {
                let wins = &wins;
                scope.spawn(
                    move || match put(store, &[round], Some(0), Some(&[thread])) {
                        Ok(_) => {
                            wins.fetch_add(1, Ordering::Relaxed);
                            assert_eq!(
                                value(store, &[round]),
                                Some(vec![thread]),
                                "the winner's stays"
                            );
                        }
                        Err(PutError::Conflict { version }) => assert_ne!(version, 0),
                        Err(error) => panic!("{error}"),
                    },
                );
            }
        });
        assert_eq!(wins.into_inner(), 1);
    }
}

pub fn concurrent_changes_lose_nothing(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, b"count", Some(0), Some(&0_u32.to_be_bytes())).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    while !add_one(store) {}
                }
            });
        }
    });
    assert_eq!(value(store, b"count"), Some(160_u32.to_be_bytes().to_vec()));
}

pub fn documents_survive_reopening(fixture: &mut dyn Fixture) {
    let first = put(fixture.store(), b"a", Some(0), Some(b"one")).unwrap();
    let second = put(fixture.store(), b"a", Some(first), Some(b"two")).unwrap();
    let gone = put(fixture.store(), b"b", Some(0), Some(b"gone")).unwrap();
    put(fixture.store(), b"b", Some(gone), None).unwrap();
    if fixture.reopen() {
        let store = fixture.store();
        let expected = Document {
            key: b"a".to_vec(),
            version: second,
            value: b"two".to_vec(),
        };
        assert_eq!(get(store, b"a"), Some(expected));
        assert_eq!(get(store, b"b"), None);
        assert!(put(store, b"a", Some(second), Some(b"three")).unwrap() > second);
    }
}

/// Keys that a careless encoding would confuse, in order.
fn hostile_keys() -> Vec<Vec<u8>> {
    let keys: [&[u8]; 12] = [
        b"",
        b"\0",
        b"\0\0",
        b"\0\x01",
        b"a",
        b"a\0",
        b"a\0b",
        b"ab",
        b"a\xff",
        b"a\xff\xff",
        b"\xff",
        b"\xff\xff",
    ];
    keys.map(<[u8]>::to_vec).to_vec()
}

fn add_one(store: &dyn Store) -> bool {
    let document = get(store, b"count").unwrap();
    let count = u32::from_be_bytes(document.value.try_into().unwrap());
    put(
        store,
        b"count",
        Some(document.version),
        Some(&(count + 1).to_be_bytes()),
    )
    .is_ok()
}

fn get(store: &dyn Store, key: &[u8]) -> Option<Document> {
    wait(store.document(DocumentKind::Username, key.to_vec())).unwrap()
}

fn value(store: &dyn Store, key: &[u8]) -> Option<Vec<u8>> {
    get(store, key).map(|document| document.value)
}

fn put(
    store: &dyn Store,
    key: &[u8],
    expected: Option<u64>,
    value: Option<&[u8]>,
) -> Result<u64, PutError> {
    let put = PutDocument {
        kind: DocumentKind::Username,
        key: key.to_vec(),
        expected,
        value: value.map(<[u8]>::to_vec),
    };
    wait(store.put_document(put))
}

/// The keys that a scan finds.
fn scan(store: &dyn Store, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Vec<Vec<u8>> {
    let after = after.map(<[u8]>::to_vec);
    let found =
        wait(store.scan_documents(DocumentKind::Username, prefix.to_vec(), after, limit)).unwrap();
    found.into_iter().map(|document| document.key).collect()
}
