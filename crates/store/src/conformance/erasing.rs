//! Erasing bodies, and the list of those whose time has come.

use tidings_core::Time;
use tidings_core::conversation::Retention;
use tidings_core::log::{LogId, Seq};

use super::support::*;
use super::{Fixture, wait};
use crate::{Append, Direction, Store, Want};

pub fn an_erased_body_is_gone_from_every_read(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(
        store,
        log(1),
        vec![message(1), large_message(2, 5_000), message(3), message(4)],
    );
    wait(store.erase(log(1), vec![4, 2])).unwrap();
    let expected = [
        message(1),
        message(2).erased(),
        message(3),
        message(4).erased(),
    ];
    assert_eq!(
        read_all(store, log(1)),
        expected,
        "the envelopes stay as they were"
    );
    let envelopes = read(store, log(1), 1, Direction::Forwards, Want::Envelopes);
    assert_eq!(seqs(&envelopes.entries), [1, 2, 3, 4]);
    assert_eq!(head(store, log(1)).unwrap().seq, 4);
}

pub fn erasing_twice_is_erasing_once(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), vec![message(1), message(2)]);
    wait(store.erase(log(1), vec![1, 1])).unwrap();
    wait(store.erase(log(1), vec![1])).unwrap();
    wait(store.append(Append {
        erase: vec![1],
        ..append_of(log(1), vec![message(3)])
    }))
    .unwrap();
    assert_eq!(
        read_all(store, log(1)),
        [message(1).erased(), message(2), message(3)]
    );
}

pub fn erasing_what_is_not_there_does_nothing(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    wait(store.erase(log(1), vec![1])).unwrap();
    assert_eq!(head(store, log(1)), None);
    fill(store, log(1), 3);
    wait(store.erase(log(1), vec![])).unwrap();
    wait(store.erase(log(1), vec![0, 4, 99, Seq::MAX])).unwrap();
    put(store, log(1), vec![message(4)]);
    assert_eq!(
        read_all(store, log(1)),
        (1..=4).map(message).collect::<Vec<_>>()
    );
    wait(store.trim(log(1), 2)).unwrap();
    wait(store.erase(log(1), vec![1, 2])).unwrap();
    assert_eq!(read_all(store, log(1)), [message(3), message(4)]);
}

pub fn bodies_of_every_retention_are_erased(fixture: &mut dyn Fixture) {
    let classes = [
        Retention::Forever,
        Retention::UntilDelivered,
        Retention::Days(1),
        Retention::Days(30),
    ];
    for (number, retention) in (1..).zip(classes) {
        let append = append_of(log(number), vec![message(1), message(2), message(3)]);
        wait(fixture.store().append(Append {
            retention,
            ..append
        }))
        .unwrap();
        wait(fixture.store().erase(log(number), vec![2])).unwrap();
    }
    let check = |store: &dyn Store| {
        for number in 1..=4 {
            assert_eq!(
                read_all(store, log(number)),
                [message(1), message(2).erased(), message(3)]
            );
        }
    };
    check(fixture.store());
    if fixture.reopen() {
        check(fixture.store());
    }
}

pub fn expired_entries_are_listed_earliest_first(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    assert_eq!(expired(store, Time::MAX, 10), []);
    let times = [300, 100, 500];
    put(
        store,
        log(2),
        (1..)
            .zip(times)
            .map(|(seq, time)| vanishing(seq, Time(time)))
            .collect(),
    );
    put(
        store,
        log(1),
        vec![message(1), vanishing(2, Time(200)), vanishing(3, Time(400))],
    );
    let expected = [
        (log(2), 2),
        (log(1), 2),
        (log(2), 1),
        (log(1), 3),
        (log(2), 3),
    ];
    assert_eq!(expired(store, Time(1_000), 10), expected);
    assert_eq!(expired(store, Time(350), 10), expected[..3]);
    assert_eq!(expired(store, Time(99), 10), []);
}

pub fn an_entry_expires_at_its_time(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(
        store,
        log(1),
        vec![vanishing(1, Time(100)), vanishing(2, Time::MAX)],
    );
    assert_eq!(expired(store, Time(99), 10), []);
    assert_eq!(expired(store, Time(100), 10), [(log(1), 1)]);
    assert_eq!(expired(store, Time::MAX, 10), [(log(1), 1), (log(1), 2)]);
}

pub fn expired_entries_are_listed_up_to_the_limit(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(
        store,
        log(1),
        (1..=30)
            .map(|seq| vanishing(seq, Time(100 + seq)))
            .collect(),
    );
    let mut listed = Vec::new();
    loop {
        let page = expired(store, Time(1_000), 7);
        assert!(page.len() <= 7);
        if page.is_empty() {
            break;
        }
        assert_eq!(
            expired(store, Time(1_000), 7),
            page,
            "listing changes nothing"
        );
        let seqs: Vec<Seq> = page.iter().map(|(_, seq)| *seq).collect();
        wait(store.erase(log(1), seqs.clone())).unwrap();
        listed.extend(seqs);
    }
    assert_eq!(
        listed,
        (1..=30).collect::<Vec<_>>(),
        "what is erased makes room for the rest"
    );
}

pub fn erased_and_trimmed_entries_do_not_expire(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(
        store,
        log(1),
        (1..=5).map(|seq| vanishing(seq, Time(100 + seq))).collect(),
    );
    wait(store.write_state(log(1), snapshot(5, &[]))).unwrap();
    wait(store.erase(log(1), vec![3])).unwrap();
    wait(store.trim(log(1), 2)).unwrap();
    let append = append_of(log(1), vec![vanishing(6, Time(50))]);
    wait(store.append(Append {
        erase: vec![4, 6],
        ..append
    }))
    .unwrap();
    assert_eq!(expired(store, Time(1_000), 10), [(log(1), 5)]);
}

pub fn an_erasure_survives_reopening(fixture: &mut dyn Fixture) {
    put(
        fixture.store(),
        log(1),
        (1..=4).map(|seq| vanishing(seq, Time(100 + seq))).collect(),
    );
    wait(fixture.store().erase(log(1), vec![2])).unwrap();
    if fixture.reopen() {
        let store = fixture.store();
        let kept = |seq| vanishing(seq, Time(100 + seq));
        assert_eq!(
            read_all(store, log(1)),
            [kept(1), kept(2).erased(), kept(3), kept(4)]
        );
        assert_eq!(
            expired(store, Time(1_000), 10),
            [(log(1), 1), (log(1), 3), (log(1), 4)]
        );
    }
}

fn expired(store: &dyn Store, now: Time, limit: usize) -> Vec<(LogId, Seq)> {
    wait(store.expired(now, limit)).unwrap()
}
