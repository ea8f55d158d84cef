use std::process::{Command, Stdio};

use tidings_client::Table;

use super::*;

fn put(table: Table, key: &[u8], value: &[u8]) -> StoreOp {
    StoreOp::Put {
        table,
        key: key.into(),
        value: value.into(),
    }
}

fn read(table: Table, from: &[u8], to: &[u8], limit: usize) -> Read {
    Read {
        table,
        from: from.into(),
        to: to.into(),
        limit,
    }
}

fn keys(rows: &[Row]) -> Vec<&[u8]> {
    rows.iter().map(|row| row.key.as_slice()).collect()
}

async fn stored(store: &mut Store, token: u64) {
    match store.next_answer().await {
        StoreAnswer::Stored(stored) => assert_eq!(stored, StoreToken(token)),
        answer => panic!("{answer:?}"),
    }
}

async fn loaded(store: &mut Store, reads: Vec<Read>) -> Vec<Vec<Row>> {
    store.load(reads, LoadToken(7));
    match store.next_answer().await {
        StoreAnswer::Loaded(LoadToken(7), rows) => rows,
        answer => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn ranges_are_read_in_the_order_of_their_keys() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("a.sqlite")).unwrap();
    let ops = [b"b", b"a", b"d", b"c"]
        .map(|key| put(Table::Entries, key, b"v"))
        .to_vec();
    store.write(ops, StoreToken(1));
    stored(&mut store, 1).await;
    let reads = vec![
        read(Table::Entries, b"a", b"d", 10),
        read(Table::Entries, b"b", b"z", 2),
        read(Table::Entries, b"", b"", 10),
        read(Table::Alterations, b"a", b"z", 10),
    ];
    let rows = loaded(&mut store, reads).await;
    assert_eq!(keys(&rows[0]), [b"a", b"b", b"c"]);
    assert_eq!(keys(&rows[1]), [b"b", b"c"]);
    assert!(rows[2].is_empty() && rows[3].is_empty());
    store.finish().await.unwrap();
}

#[tokio::test]
async fn a_reading_sees_the_writes_before_it_and_none_after() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("a.sqlite")).unwrap();
    for number in 0..200_u64 {
        store.write(
            vec![put(Table::Entries, b"n", &number.to_be_bytes())],
            StoreToken(number + 1),
        );
        store.load(vec![read(Table::Entries, b"n", b"o", 1)], LoadToken(number));
    }
    for number in 0..200_u64 {
        stored(&mut store, number + 1).await;
        match store.next_answer().await {
            StoreAnswer::Loaded(token, rows) => {
                assert_eq!(
                    (token, rows[0][0].value.as_slice()),
                    (LoadToken(number), &number.to_be_bytes()[..])
                );
            }
            answer => panic!("{answer:?}"),
        }
    }
    store.finish().await.unwrap();
}

#[tokio::test]
async fn prefixes_are_deleted_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("a.sqlite")).unwrap();
    let all: [&[u8]; 7] = [
        b"a",
        b"b",
        b"ba",
        b"b\xff\xff",
        b"c",
        b"\xff",
        b"\xff\xff\x01",
    ];
    let ops = all.map(|key| put(Table::Alterations, key, b"v")).to_vec();
    store.write(ops, StoreToken(1));
    store.write(
        vec![StoreOp::DeletePrefix {
            table: Table::Alterations,
            prefix: b"b".into(),
        }],
        StoreToken(2),
    );
    stored(&mut store, 1).await;
    stored(&mut store, 2).await;
    let rows = loaded(
        &mut store,
        vec![read(Table::Alterations, b"", b"\xff\xff\xff", 10)],
    )
    .await;
    assert_eq!(keys(&rows[0]), [&b"a"[..], b"c", b"\xff", b"\xff\xff\x01"]);
    store.write(
        vec![
            StoreOp::DeletePrefix {
                table: Table::Alterations,
                prefix: b"\xff\xff".into(),
            },
            StoreOp::Delete {
                table: Table::Alterations,
                key: b"a".into(),
            },
            StoreOp::Delete {
                table: Table::Alterations,
                key: b"none".into(),
            },
        ],
        StoreToken(3),
    );
    stored(&mut store, 3).await;
    let rows = loaded(
        &mut store,
        vec![read(Table::Alterations, b"", b"\xff\xff\xff", 10)],
    )
    .await;
    assert_eq!(keys(&rows[0]), [&b"c"[..], b"\xff"]);
    store.finish().await.unwrap();
}

#[tokio::test]
async fn the_snapshot_is_what_belongs_into_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sqlite");
    let mut store = Store::open(&path).unwrap();
    assert!(store.take_snapshot().rows.is_empty());
    let ops = Table::ALL
        .map(|table| put(table, b"", table.name().as_bytes()))
        .to_vec();
    store.write(ops, StoreToken(1));
    store.finish().await.unwrap();
    let mut store = Store::open(&path).unwrap();
    let tables: Vec<Table> = store
        .take_snapshot()
        .rows
        .into_iter()
        .map(|(table, _)| table)
        .collect();
    assert_eq!(
        tables,
        Table::ALL
            .into_iter()
            .filter(|table| table.is_in_snapshot())
            .collect::<Vec<_>>()
    );
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_else_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(&folder.path().join("a.sqlite")).unwrap();
    store.write(vec![put(Table::Outbox, b"k", b"v")], StoreToken(1));
    stored(&mut store, 1).await;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            file.path()
        );
    }
}

#[test]
fn one_program_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sqlite");
    let store = Store::open(&path).unwrap();
    let refusal = Store::open(&path).err().unwrap().to_string();
    assert!(
        refusal.contains(&format!("(process {})", std::process::id())),
        "{refusal}"
    );
    drop(store);
}

#[test]
fn newer_and_foreign_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("newer.sqlite");
    drop(file::File::open(&path).unwrap());
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("PRAGMA user_version = 2")
        .unwrap();
    assert!(matches!(
        Store::open(&path),
        Err(StoreError::TooNew(_, 2, 1))
    ));

    let path = folder.path().join("other.sqlite");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE t (x)")
        .unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Foreign(_))));

    let path = folder.path().join("text.sqlite");
    std::fs::write(&path, "something else ".repeat(100)).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Foreign(_))));
}

/// The other half of the next test: writes until it is killed, and says what is durable.
#[tokio::test]
#[ignore = "is started by acknowledged_writes_outlive_a_kill"]
async fn write_until_killed() {
    let Some(path) = std::env::var_os("TIDINGS_TEST_STORE") else {
        return;
    };
    let mut store = Store::open(Path::new(&path)).unwrap();
    for number in 1.. {
        let ops = vec![
            put(Table::Outbox, format!("{number:08}").as_bytes(), b"one"),
            put(
                Table::Entries,
                format!("{number:08}").as_bytes(),
                &[7; 3000],
            ),
        ];
        store.write(ops, StoreToken(number));
        stored(&mut store, number).await;
        println!("durable {number}");
    }
}

#[test]
fn acknowledged_writes_outlive_a_kill() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.sqlite");
    let mut before = 0;
    for wanted in [1, 17, 60] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--ignored",
                "--exact",
                "store::tests::write_until_killed",
                "--nocapture",
            ])
            .env("TIDINGS_TEST_STORE", &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let durable = lines
            .map_while(Result::ok)
            .filter_map(|line| line.strip_prefix("durable ")?.parse::<u64>().ok());
        let last = durable
            .take_while(|number| *number <= wanted)
            .last()
            .unwrap();
        child.kill().unwrap();
        child.wait().unwrap();

        let file = file::File::open(&path).unwrap();
        let rows = file
            .load(&[
                read(Table::Outbox, b"", b"z", 1000),
                read(Table::Entries, b"", b"z", 1000),
            ])
            .unwrap();
        assert!(
            rows[0].len() as u64 >= last.max(before),
            "{} of {last}",
            rows[0].len()
        );
        assert_eq!(
            keys(&rows[0]),
            keys(&rows[1]),
            "both rows of a batch or none"
        );
        before = rows[0].len() as u64;
    }
}
