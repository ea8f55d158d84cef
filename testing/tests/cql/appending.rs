//! Servers that append to the same log at the same time, and the borders between buckets.

use tidings_core::entry::Entry;
use tidings_core::log::{LogId, Seq};
use tidings_store::{AppendError, Store};
use tidings_testing::chance::{Chance, seed};

use crate::entries::{
    Answer, GENERATION, Tried, append_of, check_log, head_of, message, messages, new_client_id,
    new_log, state_at,
};
use crate::support::{Keyspace, RUNTIME, run};

/// Entries in a bucket, as the store has it for ever.
const BUCKET: Seq = 1024;

#[test]
fn of_two_appends_with_one_client_id_one_is_in_and_the_other_is_told_which() {
    let keyspace = Keyspace::take();
    let (one, other) = (keyspace.open(), keyspace.open());
    let mut chance = Chance::new(seed("of_two_appends_with_one_client_id"));
    let log = new_log(&mut chance);
    let mut repeated = 0;
    for head in 0..60 {
        let client_id = new_client_id(&mut chance);
        let append = append_of(log, vec![message(head + 1, client_id)]);
        // Both know where the log ends, so that they meet in the database.
        for store in [&one, &other] {
            assert_eq!(run(head_of(store, log)), Ok(head));
        }
        let (first, second) =
            run(async { tokio::join!(one.append(append.clone()), other.append(append.clone())) });
        let answers = [&first, &second];
        let winners = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(winners, 1, "{answers:?}");
        for answer in answers {
            match answer {
                Ok(()) => {}
                Err(AppendError::Repeated { seq }) => {
                    assert_eq!(*seq, head + 1);
                    repeated += 1;
                }
                Err(AppendError::Conflict { head: at }) => assert_eq!(*at, head + 1),
                Err(error) => panic!("{error}"),
            }
        }
        // Somebody who has decided anew and did not look for the client id is told as well.
        let again = append_of(log, vec![message(head + 2, client_id)]);
        let again = run(other.append(again));
        assert_eq!(again, Err(AppendError::Repeated { seq: head + 1 }));
    }
    println!("{repeated} of 60 were told by their client id");
    assert!(repeated > 0, "they never met");
}

#[test]
fn a_client_id_among_many_new_ones_keeps_all_of_them_out() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(1);
    let log = new_log(&mut chance);
    let first = messages(&mut chance, 0, 3);
    run(store.append(append_of(log, first.clone()))).expect("they are in");
    let mut second = messages(&mut chance, 3, 250);
    second[240].envelope.client_id = first[1].envelope.client_id;
    let refused = run(store.append(append_of(log, second)));
    assert_eq!(refused, Err(AppendError::Repeated { seq: 2 }));
    let tried: Vec<Tried> = first.iter().map(was_in).collect();
    assert_eq!(run(check_log(&store, log, &tried)), 3);
    let bodies: Vec<(i64,)> = keyspace.rows("SELECT seq FROM KS.bodies_kept", ());
    assert_eq!(bodies.len(), 3, "those of the refused are gone");
}

fn was_in(entry: &Entry) -> Tried {
    Tried {
        client_id: entry.envelope.client_id,
        answer: Answer::In(entry.seq()),
    }
}

/// Appends a few messages at a time until the log is so long.
async fn append_until(
    store: &dyn Store,
    log: LogId,
    length: Seq,
    mut chance: Chance,
) -> Vec<Tried> {
    let mut tried = Vec::new();
    let mut head = head_of(store, log).await.expect("the head is read");
    while head < length {
        let count = chance.between(1, 5);
        let entries = messages(&mut chance, head, count);
        match store.append(append_of(log, entries.clone())).await {
            Ok(()) => {
                tried.extend(entries.iter().map(was_in));
                head += count;
            }
            Err(AppendError::Conflict { .. }) => {
                head = head_of(store, log).await.expect("the head is read");
                // Of a batch that spans two buckets the first part may be in, and each entry is a send of its own.
                let is_spanning = entries.iter().any(|entry| entry.seq() == BUCKET + 1)
                    && entries[0].seq() <= BUCKET;
                tried.extend(entries.iter().map(|entry| Tried {
                    client_id: entry.envelope.client_id,
                    answer: match is_spanning {
                        true => Answer::Unknown,
                        false => Answer::Not,
                    },
                }));
            }
            Err(error) => panic!("{error}"),
        }
    }
    tried
}

#[test]
fn two_servers_cross_from_one_bucket_to_the_next_without_a_gap() {
    let keyspace = Keyspace::take();
    let stores = [keyspace.open(), keyspace.open()];
    let mut chance = Chance::new(seed("two_servers_cross"));
    for _ in 0..4 {
        let log = new_log(&mut chance);
        let first = messages(&mut chance, 0, BUCKET - 8);
        run(stores[0].append(append_of(log, first.clone()))).expect("they are in");
        let parts = [chance.number(), chance.number()].map(Chance::new);
        let [one, other] = parts;
        let (one, other) = run(async {
            tokio::join!(
                append_until(&stores[0], log, BUCKET + 8, one),
                append_until(&stores[1], log, BUCKET + 8, other),
            )
        });
        let mut tried: Vec<Tried> = first.iter().map(was_in).collect();
        tried.extend(one.into_iter().chain(other));
        let length = run(check_log(&keyspace.open(), log, &tried));
        assert!(length as u64 >= BUCKET + 8);
    }
}

#[test]
fn one_append_may_fill_several_buckets() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(1);
    let log = new_log(&mut chance);
    let mut tried = Vec::new();
    for (head, count) in [(0, 1_000), (1_000, 48), (1_048, 2_500)] {
        let entries = messages(&mut chance, head, count);
        run(store.append(append_of(log, entries.clone()))).expect("they are in");
        tried.extend(entries.iter().map(was_in));
    }
    assert_eq!(run(check_log(&keyspace.open(), log, &tried)), 3_548);
}

#[test]
fn the_head_is_found_from_a_hint_that_fell_behind() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(1);
    let log = new_log(&mut chance);
    let first = messages(&mut chance, 0, 1_000);
    run(store.append(append_of(log, first.clone()))).expect("they are in");
    // Whoever opens a bucket notes it in this table afterwards: here it dies before it does.
    keyspace.execute("DROP TABLE KS.logs", ());
    let second = messages(&mut chance, 1_000, 1_500);
    let unsettled = run(store.append(append_of(log, second.clone())));
    assert!(matches!(unsettled, Err(AppendError::Unknown(_))));
    keyspace.migrate().expect("the table is made again");
    let tried: Vec<Tried> = first.iter().chain(&second).map(was_in).collect();
    let other = keyspace.open();
    assert_eq!(run(check_log(&other, log, &tried)), 2_500);
    let stale = append_of(log, messages(&mut chance, BUCKET, 1));
    let refused = run(other.append(stale));
    assert_eq!(refused, Err(AppendError::Conflict { head: 2_500 }));
}

#[test]
fn a_bucket_is_never_opened_twice_whatever_was_forgotten_of_it() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(1);
    let log = new_log(&mut chance);
    let entries = messages(&mut chance, 0, 2 * BUCKET + 5);
    run(store.append(append_of(log, entries))).expect("they are in");
    run(store.write_state(log, state_at(2 * BUCKET + 5))).expect("a state");
    run(store.trim(log, 2 * BUCKET)).expect("they are trimmed");
    run(store.forget_envelopes(log, 2 * BUCKET)).expect("they are forgotten");
    let key = log.to_bytes().to_vec();
    for bucket in [0_i64, 1] {
        let left: Vec<(Option<i64>, Option<i8>)> = keyspace.rows(
            "SELECT head, kind FROM KS.log_rows WHERE log = ? AND bucket = ?",
            (&key, bucket),
        );
        let head = (bucket + 1) * BUCKET as i64;
        assert_eq!(left, [(Some(head), None)], "nothing but the head");
        // An append that has slept since before the bucket was opened.
        let first = bucket * BUCKET as i64 + 1;
        let opened: Vec<(bool, Option<i64>)> = keyspace.rows(
            "UPDATE KS.log_rows SET head = ?, generation = ?, ordinal = 1, at = 1 WHERE log = ? AND bucket = ? IF head = null",
            (first, GENERATION.0, &key, bucket),
        );
        assert_eq!(opened, [(false, Some(head))]);
    }
    assert_eq!(run(head_of(&keyspace.open(), log)), Ok(2 * BUCKET + 5));
    let more = messages(&mut chance, 2 * BUCKET + 5, 1);
    run(store.append(append_of(log, more))).expect("the log goes on");
}

/// Many servers would rather append to one log than to many.
#[test]
fn six_servers_on_one_log_all_come_through() {
    let keyspace = Keyspace::take();
    let mut chance = Chance::new(seed("six_servers_on_one_log"));
    let log = new_log(&mut chance);
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let (store, chance) = (keyspace.open(), Chance::new(chance.number()));
        let writer = async move { append_until(&store, log, 150, chance).await };
        writers.spawn_on(writer, RUNTIME.handle());
    }
    let tried: Vec<Tried> = run(writers.join_all()).into_iter().flatten().collect();
    run(check_log(&keyspace.open(), log, &tried));
}
