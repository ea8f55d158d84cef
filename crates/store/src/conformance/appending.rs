//! Appending: the one step that needs agreement.

use std::collections::BTreeSet;

use tidings_core::entry::Entry;
use tidings_core::log::Generation;
use tidings_core::mark::MarkKind;
use tidings_core::{ClientId, Time};

use super::support::*;
use super::{Fixture, wait};
use crate::{Append, AppendError, ClientIdSearch, LogHead, Store, StoreError};

pub fn a_log_never_written_to_has_no_head(fixture: &mut dyn Fixture) {
    assert_eq!(head(fixture.store(), log(1)), None);
}

pub fn an_append_makes_a_log_of_its_generation(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), vec![message(1)]);
    let expected = LogHead {
        generation: GENERATION,
        seq: 1,
        ordinal: 1,
        at: at(1),
        trimmed: 0,
    };
    assert_eq!(head(store, log(1)), Some(expected));
    assert_eq!(read_all(store, log(1)), [message(1)]);
    assert_eq!(head(store, log(2)), None, "no other log");
}

pub fn an_append_carries_on_from_the_head(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), vec![message(1)]);
    // The same ordinal and the same time do not fall.
    let mut second = message(2);
    second.envelope.ordinal = 1;
    second.envelope.at = at(1);
    second.envelope.counts = false;
    put(store, log(1), vec![second.clone()]);
    put(store, log(1), vec![message(3), message(4)]);
    let expected = LogHead {
        generation: GENERATION,
        seq: 4,
        ordinal: 4,
        at: at(4),
        trimmed: 0,
    };
    assert_eq!(head(store, log(1)), Some(expected));
    assert_eq!(
        read_all(store, log(1)),
        [message(1), second, message(3), message(4)]
    );
}

pub fn many_entries_of_one_append_all_arrive(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let messages: Vec<Entry> = (1..=1_000).map(message).collect();
    put(store, log(1), messages.clone());
    assert_eq!(read_all(store, log(1)), messages);
}

pub fn an_append_at_another_head_conflicts_and_names_the_head(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    assert_eq!(
        try_append(store, vec![message(2)]),
        Err(AppendError::Conflict { head: 0 })
    );
    put(store, log(1), vec![message(1), message(2), message(3)]);
    for first in [1, 2, 3, 5, 1_000] {
        let refused = try_append(store, vec![message(first)]);
        assert_eq!(
            refused,
            Err(AppendError::Conflict { head: 3 }),
            "an entry {first} at head 3"
        );
    }
    assert_eq!(seqs(&read_all(store, log(1))), [1, 2, 3]);
}

pub fn an_append_of_another_generation_conflicts(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), vec![message(1)]);
    let other = Append {
        generation: Generation([8; 16]),
        ..append_of(log(1), vec![message(2)])
    };
    assert_eq!(
        wait(store.append(other)),
        Err(AppendError::Conflict { head: 1 })
    );
    assert_eq!(
        head(store, log(1)).map(|head| (head.generation, head.seq)),
        Some((GENERATION, 1))
    );
    assert_eq!(seqs(&read_all(store, log(1))), [1]);
}

pub fn a_refused_append_changes_nothing(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    fill(store, log(1), 3);
    let mut fallen = message(4);
    fallen.envelope.at = Time(1);
    let appends = [
        append_of(log(1), vec![message(3), message(4)]),
        Append {
            generation: Generation([8; 16]),
            ..append_of(log(1), vec![message(4)])
        },
        append_of(log(1), vec![fallen]),
        append_of(log(1), vec![message(4), message(6)]),
    ];
    for append in appends {
        let last = append.entries.last().unwrap().seq();
        let append = Append {
            erase: vec![1],
            marks: vec![mark(log(1), user(2).0, MarkKind::Joined, 3)],
            state: Some(snapshot(last, &[5])),
            ..append
        };
        let refused = wait(store.append(append));
        assert!(refused.is_err());
        assert_eq!(head(store, log(1)).unwrap().seq, 3, "{refused:?}");
        assert_eq!(
            read_all(store, log(1)),
            [message(1), message(2), message(3)]
        );
        assert_eq!(marks(store, log(1), user(2).0), []);
        assert_eq!(wait(store.memberships(user(2), None, 10)), Ok(vec![]));
        assert_eq!(wait(store.read_state(log(1))), Ok(Some(snapshot(3, &[]))));
        assert_eq!(
            find(store, log(1), user(1), client_id(4), 0),
            ClientIdSearch::Absent
        );
    }
    let never = append_of(log(2), vec![message(2)]);
    assert_eq!(
        wait(store.append(never)),
        Err(AppendError::Conflict { head: 0 })
    );
    assert_eq!(head(store, log(2)), None, "a refused append makes no log");
}

pub fn an_append_without_entries_is_misuse(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    check_misuse(try_append(store, vec![]));
    assert_eq!(head(store, log(1)), None);
}

pub fn entries_that_do_not_follow_on_each_other_are_misuse(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), vec![message(1)]);
    check_misuse(try_append(store, vec![message(2), message(4)]));
    check_misuse(try_append(store, vec![message(2), message(2)]));
    check_misuse(try_append(store, vec![message(3), message(2)]));
    for first in [0, 1, 3] {
        let append = Append {
            expected_head: 1,
            ..append_of(log(1), vec![large_message(1, 1)])
        };
        let mut entries = append.entries.clone();
        entries[0].envelope.seq = first;
        check_misuse(wait(store.append(Append { entries, ..append })));
    }
    assert_eq!(seqs(&read_all(store, log(1))), [1]);
}

pub fn entries_whose_time_falls_are_misuse(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), vec![message(1)]);
    let mut fallen = message(2);
    fallen.envelope.at = Time(at(1).0 - 1);
    check_misuse(try_append(store, vec![fallen]));
    let mut fallen = message(3);
    fallen.envelope.at = Time(at(2).0 - 1);
    check_misuse(try_append(store, vec![message(2), fallen]));
    assert_eq!(seqs(&read_all(store, log(1))), [1]);
}

pub fn entries_whose_ordinal_falls_are_misuse(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), vec![message(1), message(2)]);
    let mut fallen = message(3);
    fallen.envelope.ordinal = 1;
    check_misuse(try_append(store, vec![fallen]));
    let mut fallen = message(4);
    fallen.envelope.ordinal = 2;
    check_misuse(try_append(store, vec![message(3), fallen]));
    assert_eq!(seqs(&read_all(store, log(1))), [1, 2]);
}

pub fn what_belongs_to_an_append_happens_with_it(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    fill(store, log(1), 3);
    let joined = mark(log(1), user(2).0, MarkKind::Joined, 4);
    let append = Append {
        erase: vec![1, 3],
        marks: vec![joined],
        state: Some(snapshot(4, &[2])),
        ..append_of(log(1), vec![message(4)])
    };
    wait(store.append(append)).unwrap();
    let check = |store: &dyn Store| {
        let expected = [
            message(1).erased(),
            message(2),
            message(3).erased(),
            message(4),
        ];
        assert_eq!(read_all(store, log(1)), expected);
        assert_eq!(marks(store, log(1), user(2).0), [joined]);
        assert_eq!(wait(store.read_state(log(1))), Ok(Some(snapshot(4, &[]))));
    };
    check(store);
    if fixture.reopen() {
        check(fixture.store());
    }
}

pub fn an_append_may_erase_what_it_appends(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let entries = vec![message(1), message(2)];
    wait(store.append(Append {
        erase: vec![1],
        ..append_of(log(1), entries)
    }))
    .unwrap();
    assert_eq!(read_all(store, log(1)), [message(1).erased(), message(2)]);
}

pub fn a_repeated_append_conflicts_and_is_found_by_its_client_id(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), vec![message(1)]);
    assert_eq!(
        try_append(store, vec![message(1)]),
        Err(AppendError::Conflict { head: 1 })
    );
    let found = find(store, log(1), user(1), client_id(1), 0);
    assert_eq!(found, ClientIdSearch::Found { seq: 1, at: at(1) });
    assert_eq!(read_all(store, log(1)), [message(1)]);
}

pub fn of_concurrent_appends_one_wins_at_each_head(fixture: &mut dyn Fixture) {
    const THREADS: u8 = 8;
    const EACH: u64 = 25;
    let store = fixture.store();
    std::thread::scope(|scope| {
        for thread in 1..=THREADS {
            scope.spawn(move || {
                for number in 0..EACH {
                    let mut seen = 0;
                    while let Err(error) =
                        try_append(store, vec![by_thread(thread, number, seen + 1)])
                    {
                        let AppendError::Conflict { head } = error else {
                            panic!("{error}")
                        };
                        assert!(head > seen, "a conflict at {head}, which was expected");
                        seen = head;
                    }
                }
            });
        }
    });
    let entries = read_all(store, log(1));
    let total = u64::from(THREADS) * EACH;
    assert_eq!(seqs(&entries), (1..=total).collect::<Vec<_>>());
    let client_ids: BTreeSet<ClientId> = entries
        .iter()
        .map(|entry| entry.envelope.client_id)
        .collect();
    assert_eq!(client_ids.len() as u64, total, "each once");
    assert_eq!(head(store, log(1)).unwrap().seq, total);
}

pub fn concurrent_appends_to_different_logs_all_arrive(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    std::thread::scope(|scope| {
        for number in 1..=8 {
            scope.spawn(move || {
                for seq in 1..=25 {
                    put(store, log(number), vec![message(seq)]);
                    assert_eq!(
                        head(store, log(number)).unwrap().seq,
                        seq,
                        "what is appended is read"
                    );
                }
            });
        }
    });
    for number in 1..=8 {
        assert_eq!(
            read_all(store, log(number)),
            (1..=25).map(message).collect::<Vec<_>>()
        );
    }
}

pub fn appends_together_end_each_by_itself(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(2), vec![message(1)]);
    let together = vec![
        append_of(log(1), vec![message(1)]),
        append_of(log(2), vec![message(1)]),
        append_of(log(3), Vec::new()),
        append_of(log(1), vec![message(2), message(3)]),
        append_of(log(2), vec![message(2)]),
    ];
    let answers = wait(store.append_all(together));
    assert_eq!(answers.len(), 5);
    assert_eq!(answers[0], Ok(()));
    assert_eq!(answers[1], Err(AppendError::Conflict { head: 1 }));
    assert!(matches!(
        answers[2],
        Err(AppendError::Store(StoreError::Misuse(_)))
    ));
    assert_eq!(answers[3], Ok(()), "after the one before it");
    assert_eq!(answers[4], Ok(()));
    assert_eq!(
        read_all(store, log(1)),
        [message(1), message(2), message(3)]
    );
    assert_eq!(read_all(store, log(2)), [message(1), message(2)]);
    assert_eq!(wait(store.append_all(Vec::new())), []);
}

pub fn appended_entries_survive_reopening(fixture: &mut dyn Fixture) {
    for seq in 1..=5 {
        put(fixture.store(), log(1), vec![message(seq)]);
        put(fixture.store(), log(2), vec![large_message(seq, 5_000)]);
        if !fixture.reopen() {
            return;
        }
    }
    let store = fixture.store();
    assert_eq!(
        read_all(store, log(1)),
        (1..=5).map(message).collect::<Vec<_>>()
    );
    let large: Vec<Entry> = (1..=5).map(|seq| large_message(seq, 5_000)).collect();
    assert_eq!(read_all(store, log(2)), large);
    assert_eq!(
        try_append(store, vec![message(5)]),
        Err(AppendError::Conflict { head: 5 })
    );
    put(store, log(1), vec![message(6)]);
}

fn by_thread(thread: u8, number: u64, seq: u64) -> Entry {
    let mut message = message(seq);
    message.envelope.client_id = client_id(u64::from(thread) * 1_000 + number);
    message
}

fn try_append(store: &dyn Store, entries: Vec<Entry>) -> Result<(), AppendError> {
    wait(store.append(append_of(log(1), entries)))
}

fn check_misuse(answer: Result<(), AppendError>) {
    assert!(
        matches!(answer, Err(AppendError::Store(StoreError::Misuse(_)))),
        "{answer:?}"
    );
}
