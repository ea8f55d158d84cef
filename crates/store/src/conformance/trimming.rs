//! Trimming: entries up to a mark are served no more.

use tidings_core::log::{SEQ_MAX, Seq};

use super::support::*;
use super::{Fixture, wait};
use crate::{Append, Direction, Page, Store, Want};

pub fn a_log_without_a_state_is_not_trimmed(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), vec![message(1), message(2)]);
    assert_eq!(trim(store, 2), 0);
    assert_eq!(head(store, log(1)).unwrap().trimmed, 0);
    assert_eq!(seqs(&read_all(store, log(1))), [1, 2]);
}

pub fn trimming_stops_at_the_durable_state(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), (1..=9).map(message).collect());
    wait(store.write_state(log(1), snapshot(4, &[]))).unwrap();
    assert_eq!(trim(store, 3), 3);
    assert_eq!(trim(store, 7), 4);
    assert_eq!(seqs(&read_all(store, log(1))), [5, 6, 7, 8, 9]);
    let append = append_of(log(1), vec![message(10)]);
    wait(store.append(Append {
        state: Some(snapshot(10, &[])),
        ..append
    }))
    .unwrap();
    put(store, log(1), vec![message(11)]);
    assert_eq!(trim(store, Seq::MAX), 10);
    assert_eq!(seqs(&read_all(store, log(1))), [11]);
}

pub fn trimming_never_goes_back(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    fill(store, log(1), 9);
    for (up_to, expected) in [(0, 0), (4, 4), (4, 4), (2, 4), (0, 4), (5, 5)] {
        assert_eq!(trim(store, up_to), expected, "up to {up_to}");
        assert_eq!(head(store, log(1)).unwrap().trimmed, expected);
    }
    assert_eq!(seqs(&read_all(store, log(1))), [6, 7, 8, 9]);
}

pub fn trimmed_entries_are_read_no_more(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    fill(store, log(1), 9);
    trim(store, 5);
    let nothing = Page {
        entries: vec![],
        complete: true,
    };
    for from in [0, 1, 3, 5, 6] {
        let page = read(store, log(1), from, Direction::Forwards, Want::Entries);
        assert_eq!(seqs(&page.entries), [6, 7, 8, 9], "from {from}");
    }
    for from in [0, 1, 5] {
        assert_eq!(
            read(store, log(1), from, Direction::Backwards, Want::Entries),
            nothing
        );
    }
    let page = read(store, log(1), 7, Direction::Backwards, Want::Entries);
    assert_eq!(
        page,
        Page {
            entries: vec![message(7), message(6)],
            complete: true
        }
    );
    assert_eq!(head(store, log(1)).unwrap().seq, 9);
}

pub fn envelopes_of_trimmed_entries_are_still_read(fixture: &mut dyn Fixture) {
    fill(fixture.store(), log(1), 6);
    trim(fixture.store(), 4);
    let expected: Vec<_> = (1..=6).map(|seq| message(seq).erased()).collect();
    let mut page = read(
        fixture.store(),
        log(1),
        SEQ_MAX,
        Direction::Backwards,
        Want::Envelopes,
    );
    page.entries.reverse();
    assert_eq!(
        page,
        Page {
            entries: expected.clone(),
            complete: true
        }
    );
    let page = read(
        fixture.store(),
        log(1),
        1,
        Direction::Forwards,
        Want::Envelopes,
    );
    assert_eq!(
        page,
        Page {
            entries: expected,
            complete: true
        }
    );
    if fixture.forget_envelopes(log(1), 3) {
        let page = read(
            fixture.store(),
            log(1),
            1,
            Direction::Forwards,
            Want::Envelopes,
        );
        assert_eq!((seqs(&page.entries), page.complete), (vec![4, 5, 6], true));
        let page = read(
            fixture.store(),
            log(1),
            6,
            Direction::Backwards,
            Want::Envelopes,
        );
        assert_eq!((seqs(&page.entries), page.complete), (vec![6, 5, 4], true));
    }
}

pub fn a_log_trimmed_whole_goes_on(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    fill(store, log(1), 3);
    assert_eq!(trim(store, 3), 3);
    assert_eq!(read_all(store, log(1)), []);
    put(store, log(1), vec![message(4)]);
    let head = head(store, log(1)).unwrap();
    assert_eq!((head.seq, head.trimmed, head.ordinal), (4, 3, 4));
    assert_eq!(read_all(store, log(1)), [message(4)]);
}

pub fn a_log_never_written_to_cannot_be_trimmed(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    assert_eq!(trim(store, 9), 0);
    assert_eq!(head(store, log(1)), None);
    put(store, log(1), vec![message(1)]);
    assert_eq!(seqs(&read_all(store, log(1))), [1]);
}

pub fn reactions_to_trimmed_entries_are_served_no_more(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(
        store,
        log(1),
        vec![
            message(1),
            message(2),
            reaction(3, user(1), 1, "a", true),
            reaction(4, user(1), 2, "a", true),
        ],
    );
    wait(store.write_state(log(1), snapshot(4, &[]))).unwrap();
    assert_eq!(trim(store, 3), 3);
    let kept = alterations(store, log(1), &[1, 2]);
    assert!(
        kept.iter()
            .all(|alterations| alterations.reactions.is_empty()),
        "{kept:?}"
    );
}

pub fn a_trim_survives_reopening(fixture: &mut dyn Fixture) {
    fill(fixture.store(), log(1), 9);
    trim(fixture.store(), 4);
    if fixture.reopen() {
        let store = fixture.store();
        assert_eq!(head(store, log(1)).unwrap().trimmed, 4);
        assert_eq!(seqs(&read_all(store, log(1))), [5, 6, 7, 8, 9]);
        assert_eq!(trim(store, 2), 4);
        put(store, log(1), vec![message(10)]);
        assert_eq!(head(store, log(1)).unwrap().trimmed, 4);
    }
}

fn trim(store: &dyn Store, up_to: Seq) -> Seq {
    wait(store.trim(log(1), up_to)).unwrap()
}
