//! The search for the entry that a client id became.

use tidings_core::log::Seq;

use super::support::*;
use super::{Fixture, wait};
use crate::ClientIdSearch::{Absent, Found, Incomplete};

pub fn a_client_id_is_found_with_its_seq_and_time(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    assert_eq!(
        find(store, log(1), user(1), client_id(1), 0),
        Absent,
        "a log never written to"
    );
    fill(store, log(1), 9);
    for seq in 1..=9 {
        assert_eq!(
            find(store, log(1), user(1), client_id(seq), 0),
            Found { seq, at: at(seq) }
        );
    }
    assert_eq!(find(store, log(1), user(1), client_id(10), 0), Absent);
}

pub fn a_client_id_is_looked_for_by_its_author_and_log(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let mut by_another = message(2);
    by_another.envelope.author = user(2);
    by_another.envelope.client_id = client_id(1);
    put(store, log(1), vec![message(1), by_another]);
    put(store, log(2), vec![message(1)]);
    assert_eq!(
        find(store, log(1), user(1), client_id(1), 0),
        Found { seq: 1, at: at(1) }
    );
    assert_eq!(
        find(store, log(1), user(2), client_id(1), 0),
        Found { seq: 2, at: at(2) }
    );
    assert_eq!(find(store, log(1), user(3), client_id(1), 0), Absent);
    assert_eq!(find(store, log(3), user(1), client_id(1), 0), Absent);
    put(store, log(2), vec![message(2)]);
    assert_eq!(
        find(store, log(1), user(1), client_id(2), 0),
        Absent,
        "it is in another log"
    );
}

pub fn a_client_id_is_looked_for_only_above(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    fill(store, log(1), 9);
    assert_eq!(
        find(store, log(1), user(1), client_id(5), 4),
        Found { seq: 5, at: at(5) }
    );
    for above in [5, 6, 9, 10, Seq::MAX] {
        assert_eq!(
            find(store, log(1), user(1), client_id(5), above),
            Absent,
            "above {above}"
        );
    }
}

pub fn a_client_id_outlives_its_body(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    fill(store, log(1), 9);
    wait(store.erase(log(1), vec![7])).unwrap();
    wait(store.trim(log(1), 5)).unwrap();
    for seq in [2, 5, 7] {
        assert_eq!(
            find(store, log(1), user(1), client_id(seq), 0),
            Found { seq, at: at(seq) }
        );
    }
    assert_eq!(
        find(store, log(1), user(1), client_id(99), 0),
        Absent,
        "all envelopes are kept"
    );
}

pub fn a_search_below_what_is_kept_is_incomplete(fixture: &mut dyn Fixture) {
    fill(fixture.store(), log(1), 9);
    wait(fixture.store().trim(log(1), 5)).unwrap();
    if !fixture.forget_envelopes(log(1), 5) {
        return;
    }
    let store = fixture.store();
    assert_eq!(find(store, log(1), user(1), client_id(3), 0), Incomplete);
    assert_eq!(find(store, log(1), user(1), client_id(3), 4), Incomplete);
    assert_eq!(
        find(store, log(1), user(1), client_id(3), 5),
        Absent,
        "all above 5 is kept"
    );
    assert_eq!(
        find(store, log(1), user(1), client_id(6), 0),
        Found { seq: 6, at: at(6) }
    );
    assert_eq!(find(store, log(1), user(1), client_id(6), 6), Absent);
    wait(store.trim(log(1), 9)).unwrap();
    if fixture.forget_envelopes(log(1), 9) {
        let store = fixture.store();
        assert_eq!(find(store, log(1), user(1), client_id(6), 0), Incomplete);
        assert_eq!(find(store, log(1), user(1), client_id(6), 8), Incomplete);
        assert_eq!(
            find(store, log(1), user(1), client_id(6), 9),
            Absent,
            "nothing is above 9"
        );
        assert_eq!(head(store, log(1)).unwrap().seq, 9);
        put(store, log(1), vec![message(10)]);
        assert_eq!(
            find(store, log(1), user(1), client_id(10), 0),
            Found {
                seq: 10,
                at: at(10)
            }
        );
    }
}

pub fn client_ids_survive_reopening(fixture: &mut dyn Fixture) {
    fill(fixture.store(), log(1), 9);
    wait(fixture.store().trim(log(1), 4)).unwrap();
    if fixture.reopen() {
        for seq in 1..=9 {
            let found = find(fixture.store(), log(1), user(1), client_id(seq), 0);
            assert_eq!(found, Found { seq, at: at(seq) });
        }
    }
}
