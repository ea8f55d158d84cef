//! A user's inbox begins with the logs that the user is or was in.

use tidings_core::log::{LogId, LogPart};
use tidings_core::mark::{Mark, MarkKind};
use tidings_core::{Time, UserId};

use super::support::*;
use super::{Fixture, wait};
use crate::{Append, Durability, Store};

pub fn memberships_are_joined_left_and_head_marks(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    assert_eq!(memberships(store, user(1), None, 10), []);
    let joined = mark(log(1), user(1).0, MarkKind::Joined, 1);
    let left = mark(log(1), user(1).0, MarkKind::Left, 5);
    let head = mark(log(2), user(1).0, MarkKind::Head, 9);
    raise(
        store,
        vec![
            joined,
            left,
            head,
            mark(log(1), user(1).0, MarkKind::Read, 3),
            mark(log(1), user(1).0, MarkKind::Shown, 3),
            mark(log(3), user(1).0, MarkKind::Delivered, 3),
            mark(log(4), user(1).0, MarkKind::Device, 3),
        ],
    );
    assert_eq!(memberships(store, user(1), None, 10), [joined, left, head]);
    let again = mark(log(1), user(1).0, MarkKind::Joined, 7);
    let append = Append {
        marks: vec![again],
        ..append_of(log(1), vec![message(1)])
    };
    wait(store.append(append)).unwrap();
    assert_eq!(memberships(store, user(1), None, 10), [again, left, head]);
}

pub fn memberships_come_in_whole_logs_in_their_order(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let mut all = Vec::new();
    for number in 1..=12 {
        for part in [LogPart::Conversation, LogPart::Membership] {
            let place = LogId {
                part,
                ..log(number)
            };
            all.push(mark(place, user(1).0, MarkKind::Joined, 1));
            if number % 3 == 0 {
                all.push(mark(place, user(1).0, MarkKind::Left, 2));
            }
            if number % 2 == 0 {
                all.push(mark(place, user(1).0, MarkKind::Head, 3));
            }
        }
    }
    raise(store, all.iter().rev().copied().collect());
    for limit in [1, 2, 3, 7, 1_000] {
        let mut read: Vec<Mark> = Vec::new();
        loop {
            let after = read.last().map(|mark| mark.log);
            let page = memberships(store, user(1), after, limit);
            if page.is_empty() {
                break;
            }
            assert!(
                page.len() < limit + 3,
                "about {limit}, and {} came",
                page.len()
            );
            read.extend(page);
        }
        assert!(
            read.is_sorted_by_key(|mark| mark.log),
            "in the order of logs"
        );
        sort_marks(&mut read);
        assert_eq!(read, all, "pages of {limit}");
    }
    let between = LogId {
        part: LogPart::Device,
        ..log(3)
    };
    assert_eq!(
        memberships(store, user(1), Some(between), 1)[0].log,
        LogId {
            part: LogPart::Membership,
            ..log(3)
        }
    );
    assert_eq!(memberships(store, user(1), Some(log(200)), 10), []);
}

pub fn memberships_are_not_those_of_neighbouring_users(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let mut next = [0; 16];
    next[15] = 1;
    let owners = [[0; 16], next, [0xff; 16]];
    for owner in owners {
        for place in [log(0), log(255)] {
            raise(
                store,
                vec![mark(
                    place,
                    owner,
                    MarkKind::Joined,
                    u64::from(owner[15]) + 1,
                )],
            );
        }
    }
    for owner in owners {
        let expected = [log(0), log(255)]
            .map(|place| mark(place, owner, MarkKind::Joined, u64::from(owner[15]) + 1));
        assert_eq!(memberships(store, UserId(owner), None, 100), expected);
    }
}

pub fn an_inbox_says_when_it_was_last_touched(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let touched = |store: &dyn Store, by| wait(store.touched(user(by))).unwrap();
    assert_eq!(touched(store, 1), Time(0));
    raise(store, vec![mark(log(1), user(1).0, MarkKind::Joined, 4)]);
    raise(store, vec![mark(log(2), user(1).0, MarkKind::Head, 3)]);
    raise(store, vec![mark(log(2), user(2).0, MarkKind::Head, 9)]);
    raise(store, vec![mark(log(2), user(1).0, MarkKind::Read, 99)]);
    assert_eq!(
        touched(store, 1),
        at(4),
        "not by what others touched, nor by other marks"
    );
    let append = Append {
        marks: vec![mark(log(3), user(1).0, MarkKind::Head, 7)],
        ..append_of(log(3), vec![message(1)])
    };
    wait(store.append(append)).unwrap();
    assert_eq!(touched(store, 1), at(7));
    let late = vec![mark(log(1), user(1).0, MarkKind::Head, 8)];
    wait(store.raise_marks(late, Durability::Late)).unwrap();
    assert_eq!(touched(store, 1), at(8), "at once");
    wait(store.flush()).unwrap();
    if fixture.reopen() {
        assert_eq!(touched(fixture.store(), 1), at(8));
    }
}

pub fn memberships_survive_reopening(fixture: &mut dyn Fixture) {
    let joined = mark(log(1), user(1).0, MarkKind::Joined, 1);
    let append = Append {
        marks: vec![joined],
        ..append_of(log(1), vec![message(1)])
    };
    wait(fixture.store().append(append)).unwrap();
    let left = mark(log(2), user(1).0, MarkKind::Left, 4);
    raise(fixture.store(), vec![left]);
    if fixture.reopen() {
        assert_eq!(
            memberships(fixture.store(), user(1), None, 10),
            [joined, left]
        );
    }
}

/// With the marks of one log in the order of their kinds.
fn memberships(store: &dyn Store, user: UserId, after: Option<LogId>, limit: usize) -> Vec<Mark> {
    let mut marks = wait(store.memberships(user, after, limit)).unwrap();
    marks.sort_by_key(|mark| (mark.log, mark.kind));
    marks
}

fn raise(store: &dyn Store, marks: Vec<Mark>) {
    wait(store.raise_marks(marks, Durability::Now)).unwrap();
}
