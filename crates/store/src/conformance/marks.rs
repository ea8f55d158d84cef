//! Watermarks: raised, never lowered.

use tidings_core::Time;
use tidings_core::log::{LogId, LogPart, SEQ_MAX};
use tidings_core::mark::{Mark, MarkKind, MarkValue};

use super::support::*;
use super::{Fixture, wait};
use crate::{Append, Durability, Store};

const KINDS: [MarkKind; 7] = [
    MarkKind::Delivered,
    MarkKind::Read,
    MarkKind::Shown,
    MarkKind::Device,
    MarkKind::Joined,
    MarkKind::Left,
    MarkKind::Head,
];

pub fn a_mark_is_raised_and_read(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    assert_eq!(marks(store, log(1), user(1).0), []);
    let read = mark(log(1), user(1).0, MarkKind::Read, 5);
    raise(store, vec![read]);
    assert_eq!(marks(store, log(1), user(1).0), [read]);
    let higher = mark(log(1), user(1).0, MarkKind::Read, 6);
    raise(store, vec![higher]);
    assert_eq!(marks(store, log(1), user(1).0), [higher]);
    raise(store, vec![]);
    assert_eq!(marks(store, log(1), user(1).0), [higher]);
}

pub fn a_mark_never_goes_down(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let read = |seq| mark(log(1), user(1).0, MarkKind::Read, seq);
    for durability in [Durability::Now, Durability::Late] {
        for seq in [9, 8, 1, 0] {
            wait(store.raise_marks(vec![read(seq)], durability)).unwrap();
            assert_eq!(marks(store, log(1), user(1).0), [read(9)]);
        }
    }
}

pub fn a_mark_at_the_same_seq_keeps_the_time_of_its_first_step(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let first = mark(log(1), user(1).0, MarkKind::Shown, 5);
    let again = Mark {
        value: MarkValue {
            seq: 5,
            ordinal: 9,
            own: 9,
            at: Time(first.value.at.0 + 1),
        },
        ..first
    };
    for durability in [Durability::Late, Durability::Now] {
        wait(store.raise_marks(vec![first, again], durability)).unwrap();
        wait(store.raise_marks(vec![again], durability)).unwrap();
        assert_eq!(marks(store, log(1), user(1).0), [first]);
    }
    // Whoever heard of it first: of two programs the one with the later news may write first.
    let owner = user(2).0;
    for value in [again.value, first.value] {
        let mark = Mark {
            owner,
            value,
            ..first
        };
        wait(store.raise_marks(vec![mark], Durability::Now)).unwrap();
    }
    assert_eq!(marks(store, log(1), owner), [Mark { owner, ..first }]);
}

pub fn kinds_lanes_owners_and_logs_are_apart(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let membership = LogId {
        part: LogPart::Membership,
        ..log(1)
    };
    let mut all = Vec::new();
    for (number, place) in [log(1), membership, log(2)].into_iter().enumerate() {
        for owner in [user(1).0, user(2).0] {
            for kind in KINDS {
                for lane in [0, 1, 255, 256, u32::MAX] {
                    let seq = 1 + all.len() as u64 * 7 % 1_000 + number as u64;
                    all.push(Mark {
                        lane,
                        ..mark(place, owner, kind, seq)
                    });
                }
            }
        }
    }
    raise(store, all.clone());
    sort_marks(&mut all);
    for place in [log(1), membership, log(2)] {
        for owner in [user(1).0, user(2).0] {
            let own = all
                .iter()
                .filter(|mark| (mark.log, mark.owner) == (place, owner));
            assert_eq!(marks(store, place, owner), own.copied().collect::<Vec<_>>());
        }
    }
    assert_eq!(marks(store, log(1), user(3).0), []);
    assert_eq!(marks(store, log(3), user(1).0), []);
}

pub fn a_late_mark_is_read_at_once(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let delivered = mark(log(1), user(1).0, MarkKind::Delivered, 5);
    let joined = mark(log(1), user(1).0, MarkKind::Joined, 1);
    wait(store.raise_marks(vec![delivered, joined], Durability::Late)).unwrap();
    assert_eq!(marks(store, log(1), user(1).0), [delivered, joined]);
    assert_eq!(wait(store.marks_of_log(log(1), None, 10)).unwrap().len(), 2);
    assert_eq!(wait(store.memberships(user(1), None, 10)), Ok(vec![joined]));
    wait(store.flush()).unwrap();
    assert_eq!(marks(store, log(1), user(1).0), [delivered, joined]);
}

pub fn of_marks_raised_together_the_highest_counts(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let read = |seq| mark(log(1), user(1).0, MarkKind::Read, seq);
    raise(store, vec![read(3), read(7), read(5)]);
    assert_eq!(marks(store, log(1), user(1).0), [read(7)]);
}

pub fn concurrent_raises_end_at_the_highest(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let read = |seq| mark(log(1), user(1).0, MarkKind::Read, seq);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for step in 0..50 {
                    let durability = if step == 25 {
                        Durability::Now
                    } else {
                        Durability::Late
                    };
                    let seq = (step * 37 + thread * 11) % 200 + 1;
                    wait(store.raise_marks(vec![read(seq)], durability)).unwrap();
                    assert!(marks(store, log(1), user(1).0)[0].value.seq >= seq);
                }
            });
        }
    });
    let highest = (0..8)
        .flat_map(|thread| (0..50).map(move |step| (step * 37 + thread * 11) % 200 + 1))
        .max();
    assert_eq!(marks(store, log(1), user(1).0), [read(highest.unwrap())]);
}

pub fn an_append_raises_marks_by_the_same_rule(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let head = |seq| mark(log(1), user(1).0, MarkKind::Head, seq);
    raise(store, vec![head(5)]);
    let lower = vec![head(1), mark(log(1), user(2).0, MarkKind::Head, 1)];
    wait(store.append(Append {
        marks: lower,
        ..append_of(log(1), vec![message(1)])
    }))
    .unwrap();
    assert_eq!(marks(store, log(1), user(1).0), [head(5)]);
    assert_eq!(marks(store, log(1), user(2).0).len(), 1);
    wait(store.append(Append {
        marks: vec![head(6)],
        ..append_of(log(1), vec![message(2)])
    }))
    .unwrap();
    assert_eq!(marks(store, log(1), user(1).0), [head(6)]);
}

pub fn marks_of_a_log_come_in_whole_owners(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let mut all = Vec::new();
    for number in 1..=20 {
        for kind in &KINDS[..usize::from(number % 5) + 1] {
            all.push(mark(log(1), user(number).0, *kind, u64::from(number)));
        }
    }
    raise(store, all.iter().rev().copied().collect());
    for limit in [1, 2, 5, 10, 1_000] {
        let mut read: Vec<Mark> = Vec::new();
        loop {
            let after = read.last().map(|mark| mark.owner);
            let page = wait(store.marks_of_log(log(1), after, limit)).unwrap();
            if page.is_empty() {
                break;
            }
            assert!(
                page.len() < limit + KINDS.len(),
                "about {limit}, and {} came",
                page.len()
            );
            read.extend(page);
        }
        let owners: Vec<_> = read.iter().map(|mark| mark.owner).collect();
        assert!(owners.is_sorted(), "in the order of owners");
        sort_marks(&mut read);
        assert_eq!(read, all, "pages of {limit}");
    }
    assert_eq!(
        wait(store.marks_of_log(log(1), Some([0xff; 16]), 10)),
        Ok(vec![])
    );
    let after_two = wait(store.marks_of_log(log(1), Some(user(2).0), 1)).unwrap();
    assert!(
        after_two.iter().all(|mark| mark.owner == user(3).0),
        "after is exclusive"
    );
}

pub fn marks_of_a_log_are_not_those_of_its_neighbours(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let parts = [LogPart::Conversation, LogPart::Device, LogPart::Membership];
    for part in parts {
        for owner in [[0; 16], [5; 16], [0xff; 16]] {
            raise(
                store,
                vec![mark(LogId { owner, part }, [0; 16], MarkKind::Read, 1)],
            );
            raise(
                store,
                vec![mark(LogId { owner, part }, [0xff; 16], MarkKind::Head, 1)],
            );
        }
    }
    for part in parts {
        for owner in [[0; 16], [5; 16], [0xff; 16]] {
            let place = LogId { owner, part };
            let found = wait(store.marks_of_log(place, None, 100)).unwrap();
            let read = mark(place, [0; 16], MarkKind::Read, 1);
            assert_eq!(found, [read, mark(place, [0xff; 16], MarkKind::Head, 1)]);
        }
    }
    assert_eq!(wait(store.marks_of_log(log(9), None, 100)), Ok(vec![]));
}

pub fn marks_at_the_largest_values_come_back(fixture: &mut dyn Fixture) {
    let value = MarkValue {
        seq: SEQ_MAX,
        ordinal: SEQ_MAX,
        own: SEQ_MAX,
        at: Time::MAX,
    };
    let largest = Mark {
        value,
        lane: u32::MAX,
        ..mark(log(255), [0xff; 16], MarkKind::Head, 1)
    };
    raise(fixture.store(), vec![largest]);
    assert_eq!(marks(fixture.store(), log(255), [0xff; 16]), [largest]);
    if fixture.reopen() {
        assert_eq!(marks(fixture.store(), log(255), [0xff; 16]), [largest]);
    }
}

pub fn durable_and_flushed_marks_survive_reopening(fixture: &mut dyn Fixture) {
    let read = |seq| mark(log(1), user(1).0, MarkKind::Read, seq);
    let shown = mark(log(1), user(1).0, MarkKind::Shown, 3);
    raise(fixture.store(), vec![read(5)]);
    wait(fixture.store().raise_marks(vec![shown], Durability::Late)).unwrap();
    wait(fixture.store().flush()).unwrap();
    wait(fixture.store().raise_marks(vec![read(9)], Durability::Late)).unwrap();
    if !fixture.reopen() {
        return;
    }
    let found = marks(fixture.store(), log(1), user(1).0);
    assert!(
        found == [read(5), shown] || found == [read(9), shown],
        "the late one may be lost: {found:?}"
    );
    raise(fixture.store(), vec![read(4)]);
    assert_eq!(marks(fixture.store(), log(1), user(1).0), found);
    wait(fixture.store().raise_marks(vec![read(9)], Durability::Late)).unwrap();
    assert_eq!(
        marks(fixture.store(), log(1), user(1).0),
        [read(9), shown],
        "a device repeats its marks"
    );
    raise(fixture.store(), vec![read(9)]);
    if fixture.reopen() {
        // Raised late before and then asked for durably: it must not be taken for done.
        assert_eq!(marks(fixture.store(), log(1), user(1).0), [read(9), shown]);
    }
}

fn raise(store: &dyn Store, marks: Vec<Mark>) {
    wait(store.raise_marks(marks, Durability::Now)).unwrap();
}
