//! Marks are maxima, in whatever order and by whomever they are written.

use std::time::Duration;

use tidings_core::conversation::Retention;
use tidings_core::log::{LogId, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_core::{Time, UserId};
use tidings_store::{Append, Durability, Step, Store};
use tidings_testing::chance::{Chance, seed};

use crate::entries::{append_of, at, id, messages, new_log, state_at};
use crate::support::{Keyspace, RUNTIME, run};

fn mark(log: LogId, owner: [u8; 16], kind: MarkKind, seq: Seq, at: Time) -> Mark {
    Mark {
        log,
        owner,
        kind,
        lane: 0,
        value: MarkValue {
            seq,
            ordinal: seq,
            own: 0,
            at,
        },
    }
}

fn read_mark(log: LogId, owner: [u8; 16], seq: Seq) -> Mark {
    mark(log, owner, MarkKind::Read, seq, at(seq))
}

fn seqs(marks: &[Mark]) -> Vec<Seq> {
    marks.iter().map(|mark| mark.value.seq).collect()
}

#[test]
fn a_lower_mark_that_is_written_later_never_wins() {
    let keyspace = Keyspace::take();
    let (one, other) = (keyspace.open(), keyspace.open());
    let mut chance = Chance::new(1);
    let (log, owner) = (new_log(&mut chance), id(&mut chance));
    for (store, seq) in [(&one, 40), (&other, 30), (&one, 5), (&other, 39)] {
        let marks =
            [MarkKind::Read, MarkKind::Joined].map(|kind| mark(log, owner, kind, seq, at(seq)));
        run(store.raise_marks(marks.to_vec(), Durability::Now)).expect("they are raised");
        let late = run(keyspace.open().marks(log, owner)).expect("they are read");
        assert_eq!(seqs(&late), [40, 40], "after {seq}");
        let inbox = run(keyspace.open().memberships(UserId(owner), None, 10));
        assert_eq!(seqs(&inbox.expect("it is read")), [40], "after {seq}");
    }
}

#[test]
fn two_servers_that_raise_marks_in_different_orders_agree() {
    let keyspace = Keyspace::take();
    let stores = [keyspace.open(), keyspace.open()];
    let mut chance = Chance::new(seed("two_servers_that_raise_marks"));
    let log = new_log(&mut chance);
    let owners: Vec<[u8; 16]> = (0..5).map(|_| id(&mut chance)).collect();
    // Several of one seq, of which the earliest counts.
    let marks: Vec<Mark> = (0..200)
        .map(|_| {
            let owner = owners[chance.below(5) as usize];
            let time = Time(1_000 + chance.below(50));
            mark(log, owner, MarkKind::Delivered, chance.between(1, 30), time)
        })
        .collect();
    let orders = [
        marks.clone(),
        marks.iter().rev().copied().collect::<Vec<_>>(),
    ];
    let raise = async |store: &dyn Store, marks: Vec<Mark>| {
        for (index, some) in marks.chunks(7).enumerate() {
            let durability = match index % 2 {
                0 => Durability::Now,
                _ => Durability::Late,
            };
            let raised = store.raise_marks(some.to_vec(), durability).await;
            raised.expect("they are raised");
        }
        store.flush().await.expect("they are written");
    };
    let [forwards, backwards] = orders;
    run(async { tokio::join!(raise(&stores[0], forwards), raise(&stores[1], backwards)) });
    for store in stores.iter().chain([&keyspace.open()]) {
        for owner in &owners {
            let of_owner = marks.iter().filter(|mark| mark.owner == *owner);
            let highest = of_owner.map(|mark| mark.value).reduce(MarkValue::max);
            let found = run(store.marks(log, *owner)).expect("they are read");
            let found = found.first().map(|mark| mark.value);
            assert_eq!(found, highest);
        }
    }
}

#[test]
fn what_was_raised_late_is_seen_at_once_and_never_unseen() {
    let keyspace = Keyspace::take();
    let store = std::sync::Arc::new(keyspace.open());
    let mut chance = Chance::new(1);
    let (log, owner) = (new_log(&mut chance), id(&mut chance));
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..4 {
        let (store, mut highest) = (store.clone(), 0);
        let read = async move {
            let until = std::time::Instant::now() + Duration::from_secs(4);
            while std::time::Instant::now() < until {
                highest += 1;
                let own = LogId {
                    owner: [reader; 16],
                    ..log
                };
                let marks =
                    [log, own].map(|log| mark(log, owner, MarkKind::Joined, highest, at(1)));
                let raised = store.raise_marks(marks.to_vec(), Durability::Late).await;
                raised.expect("it is accepted");
                let of_owner = store.marks(own, owner).await.expect("they are read");
                let of_log = store
                    .marks_of_log(own, None, 10)
                    .await
                    .expect("they are read");
                let inbox = store.memberships(UserId(owner), None, 10).await;
                let mut inbox = inbox.expect("it is read");
                inbox.retain(|mark| mark.log == own);
                for marks in [of_owner, of_log, inbox] {
                    assert_eq!(seqs(&marks), [highest]);
                }
            }
            highest
        };
        readers.spawn_on(read, RUNTIME.handle());
    }
    let reads: u64 = run(readers.join_all()).into_iter().sum();
    println!("{reads} marks were raised and read");
}

#[test]
fn a_server_that_dies_forgets_late_marks_and_nothing_else() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(1);
    let (log, owner) = (new_log(&mut chance), id(&mut chance));
    run(store.append(append_of(log, messages(&mut chance, 0, 3)))).expect("they are in");
    run(store.raise_marks(vec![read_mark(log, owner, 1)], Durability::Now)).expect("raised");
    run(store.raise_marks(vec![read_mark(log, owner, 2)], Durability::Late)).expect("raised");
    run(store.flush()).expect("it is written");
    run(store.raise_marks(vec![read_mark(log, owner, 3)], Durability::Late)).expect("raised");
    drop(store);
    let store = keyspace.open();
    let found = seqs(&run(store.marks(log, owner)).expect("they are read"));
    // By a hair it may have been written before the store was gone.
    assert!(found == [2] || found == [3], "{found:?}");
    assert_eq!(run(crate::entries::entries_of(&store, log)).len(), 3);
    run(store.raise_marks(vec![read_mark(log, owner, 3)], Durability::Now)).expect("raised again");
    assert_eq!(
        seqs(&run(store.marks(log, owner)).expect("they are read")),
        [3]
    );
}

/// The test against the careless statement: whoever writes a mark with any other timestamp than its value, or
/// deletes one, or lets one expire, is found out here.
#[test]
fn the_timestamp_of_every_mark_is_its_value() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(1);
    let (log, owner) = (new_log(&mut chance), id(&mut chance));
    // Everything that writes marks does so: appends, late and other marks, steps, buckets, trimming, forgetting.
    let append = Append {
        marks: vec![
            mark(log, owner, MarkKind::Joined, 1, at(1)),
            mark(log, owner, MarkKind::Head, 2_000, at(2_000)),
        ],
        retention: Retention::UntilDelivered,
        state: Some(state_at(2_000)),
        ..append_of(log, messages(&mut chance, 0, 2_000))
    };
    run(store.append(append)).expect("they are in");
    run(store.raise_marks(vec![read_mark(log, owner, 7)], Durability::Now)).expect("raised");
    run(store.raise_marks(vec![read_mark(log, owner, 1_500)], Durability::Late)).expect("raised");
    let step = Step {
        log,
        owner,
        kind: MarkKind::Shown,
        seq: 1_500,
        at: at(1_500),
    };
    run(store.keep_steps(vec![step])).expect("it is kept");
    run(store.flush()).expect("they are written");
    run(store.trim(log, 1_100)).expect("they are trimmed");
    run(store.forget_envelopes(log, 1_030)).expect("they are forgotten");
    run(store.head(log)).expect("it is read");
    let kinds: Vec<(i8,)> = keyspace.rows("SELECT kind FROM KS.logs", ());
    assert_eq!(kinds.len(), 5, "every kind of mark of the log itself");
    // Timestamps are looked at by the keyspace itself, after this and every other test.
    assert!(keyspace.check_timestamps() >= 5 + 3 + 2);
}
