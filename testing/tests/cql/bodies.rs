//! Bodies: whose they are, and that they go.

use std::path::Path;

use tidings_core::Time;
use tidings_core::conversation::Retention;
use tidings_core::entry::{Body, Entry, Kind};
use tidings_core::log::{LogId, Seq};
use tidings_store::{Append, AppendError, Store};
use tidings_testing::cassandra::Cassandra;
use tidings_testing::chance::{Chance, seed};

use crate::entries::{
    append_of, entries_of, entry, head_of, id, messages, new_client_id, new_log, said, state_at,
};
use crate::support::{Keyspace, run};

const PUT_KEPT: &str = "INSERT INTO KS.bodies_kept (log, bucket, seq, nonce, body) VALUES (?, 0, ?, ?, ?) USING TIMESTAMP 1";

/// Seq, nonce and body of all that are kept for ever.
fn kept(keyspace: &Keyspace) -> Vec<(i64, i64, Vec<u8>)> {
    let mut bodies: Vec<(i64, i64, Vec<u8>)> =
        keyspace.rows("SELECT seq, nonce, body FROM KS.bodies_kept", ());
    bodies.sort_unstable();
    bodies
}

/// Hour, shard, time, log, seq and nonce of all that expire.
type Expiry = (i64, i8, i64, Vec<u8>, i64, i64);

fn expiries(keyspace: &Keyspace) -> Vec<Expiry> {
    keyspace.rows("SELECT hour, shard, at, log, seq, nonce FROM KS.expiry", ())
}

fn vanishing(mut entry: Entry) -> Entry {
    entry.envelope.expires = Some(Time(1_000_000));
    entry
}

#[test]
fn the_body_of_an_append_that_never_happened_is_nobodys() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(1);
    let log = new_log(&mut chance);
    let mut entries = messages(&mut chance, 0, 3);
    entries[1] = vanishing(entries[1].clone());
    run(store.append(append_of(log, entries.clone()))).expect("they are in");
    // Others died before their batch, at entries that are there by now and at one that is not.
    let (_, _, body) = kept(&keyspace).remove(0);
    let (hour, shard, at, name, ..) = expiries(&keyspace).remove(0);
    for (seq, nonce) in [(1_i64, i64::MIN), (2, 1), (4, i64::MAX)] {
        keyspace.execute(PUT_KEPT, (&name, seq, nonce, &body));
        keyspace.execute(
            "INSERT INTO KS.expiry (hour, shard, at, log, seq, nonce) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP 1",
            (hour, shard, at, &name, seq, nonce),
        );
    }
    let other = keyspace.open();
    assert_eq!(run(entries_of(&other, log)), entries);
    let due = |now| run(other.expired(Time(now), 10)).expect("they are read");
    assert_eq!(due(2_000_000), [(log, 2)]);
    assert_eq!(expiries(&keyspace).len(), 2, "one may be under way");
    let next = messages(&mut chance, 3, 1);
    run(other.append(append_of(log, next.clone()))).expect("it is in");
    assert_eq!(due(2_000_000), [(log, 2)]);
    assert_eq!(expiries(&keyspace).len(), 1, "and now it never was");
    entries.extend(next);
    assert_eq!(run(entries_of(&keyspace.open(), log)), entries);
    run(other.erase(log, vec![2])).expect("it is erased");
    let is_left = kept(&keyspace).iter().any(|(seq, ..)| *seq == 2);
    assert!(!is_left, "its copies go with it");
}

#[test]
fn an_append_that_is_refused_leaves_nothing() {
    let keyspace = Keyspace::take();
    let (one, other) = (keyspace.open(), keyspace.open());
    let mut chance = Chance::new(1);
    let log = new_log(&mut chance);
    let entries = messages(&mut chance, 0, 2);
    run(one.append(append_of(log, entries[..1].to_vec()))).expect("it is in");
    assert_eq!(run(head_of(&other, log)), Ok(1));
    run(one.append(append_of(log, entries[1..].to_vec()))).expect("it is in");
    // It does not know yet, and finds out by its batch.
    let late = messages(&mut chance, 1, 5).into_iter().map(vanishing);
    let refused = run(other.append(append_of(log, late.collect())));
    assert_eq!(refused, Err(AppendError::Conflict { head: 2 }));
    assert_eq!(kept(&keyspace).len(), 2);
    assert_eq!(expiries(&keyspace), []);
    assert_eq!(run(entries_of(&other, log)), entries);
}

#[test]
fn an_hour_that_is_over_leaves_the_list_of_hours() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(1);
    let log = new_log(&mut chance);
    let entries = messages(&mut chance, 0, 2).into_iter().map(vanishing);
    run(store.append(append_of(log, entries.collect()))).expect("they are in");
    // More than are read at once, listed long ago.
    let listed: Vec<(Vec<u8>, Vec<u8>)> = keyspace.rows(
        "SELECT item, data FROM KS.listed WHERE list = 2 AND part = 0",
        (),
    );
    for hours in [1_000..1_550, 1_550..2_100] {
        let inserts: String = hours
            .map(|hour: i64| format!("INSERT INTO KS.listed (list, part, item, data) VALUES (2, 0, bigintasblob({hour}), 0x01) USING TIMESTAMP 1; "))
            .collect();
        keyspace.execute(&format!("BEGIN UNLOGGED BATCH {inserts} APPLY BATCH"), ());
    }
    let now = Time(5_000 * 3_600_000);
    let other = keyspace.open();
    let due = run(other.expired(now, 10)).expect("they are read");
    assert_eq!(due, [(log, 1), (log, 2)]);
    run(other.erase(log, vec![1, 2])).expect("they are erased");
    assert_eq!(run(other.expired(now, 10)), Ok(vec![]));
    let left: Vec<(Vec<u8>, Vec<u8>)> = keyspace.rows(
        "SELECT item, data FROM KS.listed WHERE list = 2 AND part = 0",
        (),
    );
    assert_eq!(
        left, listed,
        "what was listed within the last day may be of an append under way"
    );
}

#[test]
fn a_body_that_is_written_after_its_deletion_stays_deleted() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(1);
    let log = new_log(&mut chance);
    let append = Append {
        state: Some(state_at(3)),
        ..append_of(log, messages(&mut chance, 0, 3))
    };
    run(store.append(append)).expect("they are in");
    let written = kept(&keyspace);
    let again = |(seq, nonce, body): &(i64, i64, Vec<u8>)| {
        // It was sent before the deletion, and slept on its way.
        keyspace.execute(PUT_KEPT, (log.to_bytes(), seq, nonce, body));
    };
    run(store.erase(log, vec![3])).expect("it is erased");
    again(&written[2]);
    let entries = run(entries_of(&store, log));
    let erased: Vec<Seq> = entries
        .iter()
        .filter(|entry| entry.body == Body::Erased)
        .map(Entry::seq)
        .collect();
    assert_eq!(erased, [3]);
    run(store.trim(log, 1)).expect("it is trimmed");
    again(&written[0]);
    assert_eq!(kept(&keyspace), written[1..2]);
}

/// Rolls the commit log of every node, and writes what it held to the tables: Cassandra does so when it drops one.
fn roll_commit_log(keyspace: &Keyspace) {
    keyspace.execute("CREATE TABLE KS.scratch (key int PRIMARY KEY)", ());
    keyspace.execute("DROP TABLE KS.scratch", ());
}

/// What was proposed, and what was committed last.
type Proposal = (Option<Vec<u8>>, Option<Vec<u8>>);

/// What paxos remembers of the conditional batches of a log's first bucket.
fn proposals(keyspace: &Keyspace, log: LogId) -> Vec<u8> {
    // A partition's key is its columns, each between its length and a zero.
    let columns = [&log.to_bytes()[..], &0_i64.to_be_bytes()];
    let key: Vec<u8> = columns
        .into_iter()
        .flat_map(|column| [&[0, column.len() as u8], column, &[0]].concat())
        .collect();
    let rows: Vec<Proposal> = keyspace.rows(
        "SELECT proposal, most_recent_commit FROM system.paxos WHERE row_key = ?",
        (key,),
    );
    let values = rows.into_iter().flat_map(|(one, other)| [one, other]);
    values.flatten().flatten().collect()
}

#[test]
fn a_trimmed_message_of_bounded_retention_is_in_no_file() {
    let Some(folder) = Cassandra::shared().data_folder(0) else {
        println!("the node's files are out of reach");
        return;
    };
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(seed("a_trimmed_message"));
    let log = new_log(&mut chance);
    // Nothing that compression could make shorter.
    let [text, emoji] = [(); 2].map(|()| format!("{:032x}", u128::from_be_bytes(id(&mut chance))));
    let ids = [(); 2].map(|()| new_client_id(&mut chance));
    let reaction = Body::Reaction {
        emoji: emoji.clone(),
        on: true,
    };
    let append = Append {
        retention: Retention::UntilDelivered,
        state: Some(state_at(2)),
        ..append_of(
            log,
            vec![
                entry(1, ids[0], Kind::Message, None, said(&text)),
                entry(2, ids[1], Kind::Reaction, Some(1), reaction),
            ],
        )
    };
    run(store.append(append)).expect("they are in");
    let texts = [text.as_str(), emoji.as_str()];
    let proposed = proposals(&keyspace, log);
    assert!(has_bytes(&proposed, &ids[0].0), "the envelope was proposed");
    for text in texts {
        assert!(!has_bytes(&proposed, text.as_bytes()), "and no body");
    }
    roll_commit_log(&keyspace);
    // Elsewhere they never are: neither in another table, nor in the hints or what paxos keeps.
    let stored = files_with(&folder, &texts);
    let is_expected = |file: &String| {
        let tables = ["bodies_bounded", "targets"];
        let mut folders = tables
            .map(|table| format!("data/{}/{table}-", keyspace.name()))
            .into_iter();
        folders.any(|folder| file.starts_with(&folder))
    };
    assert!(
        stored.len() >= 2 && stored.iter().all(is_expected),
        "{stored:?}"
    );

    run(store.trim(log, 2)).expect("they are trimmed");
    roll_commit_log(&keyspace);
    let tables = [
        "garbagecollect",
        keyspace.name(),
        "bodies_bounded",
        "targets",
    ];
    let _nothing = Cassandra::shared().nodetool(0, &tables);
    assert_eq!(files_with(&folder, &texts), [""; 0]);
}

/// The files below a folder in which one of these texts stands.
fn files_with(folder: &Path, texts: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(below) = folders.pop() {
        // What was there a moment ago may be gone.
        for file in std::fs::read_dir(below).into_iter().flatten().flatten() {
            let path = file.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).unwrap_or_default();
            let has = |text: &&str| has_bytes(&bytes, text.as_bytes());
            if texts.iter().any(has) {
                let name = path.strip_prefix(folder).expect("below it");
                found.push(name.display().to_string());
            }
        }
    }
    found.sort_unstable();
    found
}

fn has_bytes(all: &[u8], wanted: &[u8]) -> bool {
    all.windows(wanted.len()).any(|part| part == wanted)
}
