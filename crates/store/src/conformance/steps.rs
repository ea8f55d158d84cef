//! The times at which marks made their steps: when it was delivered, when it was read.

use tidings_core::log::{LogId, LogPart, Seq};
use tidings_core::mark::MarkKind;

use super::support::*;
use super::{Fixture, wait};
use crate::{Step, Store};

pub fn the_first_step_past_a_seq_is_found_for_each_owner_and_kind(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    assert_eq!(steps_past(store, log(1), 1), []);
    keep(
        store,
        vec![
            step(1, MarkKind::Delivered, 8),
            step(1, MarkKind::Delivered, 3),
            step(1, MarkKind::Delivered, 5),
            step(1, MarkKind::Shown, 5),
            step(2, MarkKind::Delivered, 2),
        ],
    );
    keep(
        store,
        vec![
            step(2, MarkKind::Shown, 300),
            step(2, MarkKind::Delivered, 4),
        ],
    );
    let expected = [
        step(1, MarkKind::Delivered, 5),
        step(1, MarkKind::Shown, 5),
        step(2, MarkKind::Delivered, 4),
        step(2, MarkKind::Shown, 300),
    ];
    assert_eq!(steps_past(store, log(1), 4), expected);
    assert_eq!(
        steps_past(store, log(1), 6),
        [
            step(1, MarkKind::Delivered, 8),
            step(2, MarkKind::Shown, 300)
        ]
    );
    assert_eq!(
        steps_past(store, log(1), 9),
        [step(2, MarkKind::Shown, 300)]
    );
    assert_eq!(steps_past(store, log(1), 301), []);
    assert_eq!(steps_past(store, log(1), Seq::MAX), []);
}

pub fn a_step_at_the_seq_is_past_it(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    keep(store, vec![step(1, MarkKind::Shown, 5)]);
    for seq in [0, 1, 4, 5] {
        assert_eq!(
            steps_past(store, log(1), seq),
            [step(1, MarkKind::Shown, 5)]
        );
    }
    assert_eq!(steps_past(store, log(1), 6), []);
}

pub fn steps_are_those_of_the_log_asked_for(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let membership = LogId {
        part: LogPart::Membership,
        ..log(1)
    };
    let elsewhere = [membership, log(2), log(0)];
    for place in elsewhere {
        keep(
            store,
            vec![Step {
                log: place,
                ..step(1, MarkKind::Shown, 7)
            }],
        );
    }
    assert_eq!(steps_past(store, log(1), 1), []);
    for place in elsewhere {
        assert_eq!(
            steps_past(store, place, 1),
            [Step {
                log: place,
                ..step(1, MarkKind::Shown, 7)
            }]
        );
    }
}

pub fn flushed_steps_survive_reopening(fixture: &mut dyn Fixture) {
    keep(
        fixture.store(),
        vec![
            step(1, MarkKind::Shown, 5),
            step(255, MarkKind::Delivered, 6),
        ],
    );
    wait(fixture.store().flush()).unwrap();
    keep(fixture.store(), vec![step(1, MarkKind::Shown, 7)]);
    if fixture.reopen() {
        let expected = [
            step(1, MarkKind::Shown, 5),
            step(255, MarkKind::Delivered, 6),
        ];
        assert_eq!(steps_past(fixture.store(), log(1), 1), expected);
        keep(fixture.store(), vec![step(1, MarkKind::Shown, 7)]);
        assert_eq!(
            steps_past(fixture.store(), log(1), 7),
            [step(1, MarkKind::Shown, 7)]
        );
    }
}

fn step(owner: u8, kind: MarkKind, seq: Seq) -> Step {
    Step {
        log: log(1),
        owner: user(owner).0,
        kind,
        seq,
        at: at(seq),
    }
}

fn keep(store: &dyn Store, steps: Vec<Step>) {
    wait(store.keep_steps(steps)).unwrap();
}

/// In the order of owner and kind.
fn steps_past(store: &dyn Store, log: LogId, seq: Seq) -> Vec<Step> {
    let mut steps = wait(store.steps_past(log, seq)).unwrap();
    steps.sort_by_key(|step| (step.owner, step.kind));
    steps
}
