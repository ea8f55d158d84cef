//! States and members: kept beside the log, written only upwards.

use tidings_core::UserId;
use tidings_core::log::{LogId, LogPart};

use super::support::*;
use super::{Fixture, wait};
use crate::{Append, MemberQuery, StateSnapshot, Store, StoredMember};

pub fn a_log_has_no_state_at_first(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    assert_eq!(state(store, log(1)), None);
    assert_eq!(everybody(store, log(1)), []);
    put(store, log(1), vec![message(1)]);
    assert_eq!(state(store, log(1)), None);
    assert_eq!(named(store, log(1), &[1, 2]), []);
}

pub fn a_newer_state_takes_the_place_of_an_older_one(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), (1..=9).map(message).collect());
    write(store, log(1), snapshot(3, &[1, 2]));
    assert_eq!(
        state(store, log(1)),
        Some(snapshot(3, &[])),
        "without members"
    );
    write(store, log(1), snapshot(9, &[2]));
    assert_eq!(state(store, log(1)), Some(snapshot(9, &[])));
    assert_eq!(everybody(store, log(1)), [member(1, 3), member(2, 9)]);
}

pub fn an_older_or_equal_state_is_ignored_whole(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), (1..=9).map(message).collect());
    write(store, log(1), snapshot(5, &[1]));
    write(store, log(1), snapshot(4, &[1, 2]));
    let equal = StateSnapshot {
        state: b"another".to_vec(),
        ..snapshot(5, &[1, 3])
    };
    write(
        store,
        log(1),
        StateSnapshot {
            members: vec![(user(1), b"x".to_vec())],
            ..equal.clone()
        },
    );
    write(store, log(1), equal);
    assert_eq!(state(store, log(1)), Some(snapshot(5, &[])));
    assert_eq!(
        everybody(store, log(1)),
        [member(1, 5)],
        "their members too"
    );
}

pub fn members_of_earlier_states_stay(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), (1..=9).map(message).collect());
    write(store, log(1), snapshot(1, &[1, 2, 3]));
    write(store, log(1), snapshot(2, &[]));
    write(store, log(1), snapshot(3, &[3, 4]));
    let expected = [member(1, 1), member(2, 1), member(3, 3), member(4, 3)];
    assert_eq!(everybody(store, log(1)), expected);
}

pub fn named_members_come_in_the_order_of_their_ids(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), vec![message(1)]);
    write(store, log(1), snapshot(1, &[0, 9, 5, 255]));
    assert_eq!(
        named(store, log(1), &[9, 7, 0, 5]),
        [member(0, 1), member(5, 1), member(9, 1)]
    );
    assert_eq!(named(store, log(1), &[5, 5]), [member(5, 1)], "each once");
    assert_eq!(named(store, log(1), &[7]), []);
    assert_eq!(named(store, log(1), &[]), []);
}

pub fn members_are_paged_in_the_order_of_their_ids(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), vec![message(1)]);
    let numbers: Vec<u8> = (0..=255).collect();
    write(store, log(1), snapshot(1, &numbers));
    let expected: Vec<StoredMember> = numbers.iter().map(|&number| member(number, 1)).collect();
    for limit in [1, 7, 100, 256, 1_000] {
        let mut read: Vec<StoredMember> = Vec::new();
        loop {
            let after = read.last().map(|(user, _)| *user);
            let page = members(store, log(1), MemberQuery::From { after, limit });
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            read.extend(page);
        }
        assert_eq!(read, expected, "pages of {limit}");
    }
    let mut between = user(3);
    between.0[15] = 99;
    let page = members(
        store,
        log(1),
        MemberQuery::From {
            after: Some(between),
            limit: 1,
        },
    );
    assert_eq!(page, [member(4, 1)], "after somebody who is not there");
}

pub fn members_are_those_of_the_log_asked_for(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let membership = LogId {
        part: LogPart::Membership,
        ..log(1)
    };
    for (seq, place) in [(1, log(0)), (2, log(1)), (3, membership), (4, log(2))] {
        put(store, place, (1..=4).map(message).collect());
        write(store, place, snapshot(seq, &[0, 255]));
    }
    for (seq, place) in [(1, log(0)), (2, log(1)), (3, membership), (4, log(2))] {
        assert_eq!(state(store, place), Some(snapshot(seq, &[])));
        assert_eq!(everybody(store, place), [member(0, seq), member(255, seq)]);
        assert_eq!(named(store, place, &[255]), [member(255, seq)]);
    }
    assert_eq!(everybody(store, log(3)), []);
}

pub fn large_states_with_many_members_come_back(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), vec![message(1)]);
    let members: Vec<StoredMember> = (0..2_000_u128)
        .map(|number| {
            (
                UserId((number << 64).to_be_bytes()),
                vec![number as u8; 100],
            )
        })
        .collect();
    let large = StateSnapshot {
        seq: 1,
        state: vec![9; 200_000],
        members: members.clone(),
    };
    write(store, log(1), large.clone());
    let check = |store: &dyn Store| {
        assert!(
            state(store, log(1))
                == Some(StateSnapshot {
                    members: vec![],
                    ..large.clone()
                })
        );
        assert!(everybody(store, log(1)) == members);
    };
    check(store);
    if fixture.reopen() {
        check(fixture.store());
    }
}

pub fn an_append_writes_its_state(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let append = append_of(log(1), vec![message(1), message(2)]);
    wait(store.append(Append {
        state: Some(snapshot(2, &[1, 2])),
        ..append
    }))
    .unwrap();
    assert_eq!(state(store, log(1)), Some(snapshot(2, &[])));
    assert_eq!(everybody(store, log(1)), [member(1, 2), member(2, 2)]);
    write(store, log(1), snapshot(1, &[1]));
    assert_eq!(state(store, log(1)), Some(snapshot(2, &[])));
    let append = append_of(log(1), vec![message(3)]);
    wait(store.append(Append {
        state: Some(snapshot(3, &[2])),
        ..append
    }))
    .unwrap();
    assert_eq!(state(store, log(1)), Some(snapshot(3, &[])));
    assert_eq!(everybody(store, log(1)), [member(1, 2), member(2, 3)]);
}

pub fn states_survive_reopening(fixture: &mut dyn Fixture) {
    put(fixture.store(), log(1), (1..=9).map(message).collect());
    write(fixture.store(), log(1), snapshot(3, &[1, 2]));
    write(fixture.store(), log(1), snapshot(4, &[2]));
    if fixture.reopen() {
        let store = fixture.store();
        assert_eq!(state(store, log(1)), Some(snapshot(4, &[])));
        assert_eq!(everybody(store, log(1)), [member(1, 3), member(2, 4)]);
        write(store, log(1), snapshot(2, &[7]));
        assert_eq!(
            state(store, log(1)),
            Some(snapshot(4, &[])),
            "still only upwards"
        );
    }
}

fn member(number: u8, seq: u64) -> StoredMember {
    (user(number), member_bytes(number, seq))
}

fn write(store: &dyn Store, log: LogId, state: StateSnapshot) {
    wait(store.write_state(log, state)).unwrap();
}

fn state(store: &dyn Store, log: LogId) -> Option<StateSnapshot> {
    wait(store.read_state(log)).unwrap()
}

fn members(store: &dyn Store, log: LogId, query: MemberQuery) -> Vec<StoredMember> {
    wait(store.read_members(log, query)).unwrap()
}

fn named(store: &dyn Store, log: LogId, numbers: &[u8]) -> Vec<StoredMember> {
    members(
        store,
        log,
        MemberQuery::Named(numbers.iter().copied().map(user).collect()),
    )
}

fn everybody(store: &dyn Store, log: LogId) -> Vec<StoredMember> {
    members(
        store,
        log,
        MemberQuery::From {
            after: None,
            limit: 10_000,
        },
    )
}
