//! The index by target: edits, deletions and reactions.

use tidings_core::UserId;
use tidings_core::entry::{Body, Content, Entry, Kind, TextContent};
use tidings_core::log::Seq;

use super::support::*;
use super::{Fixture, wait};
use crate::Alterations;

pub fn edits_are_listed_oldest_first(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(
        store,
        log(1),
        vec![message(1), message(2), edit(3, 2), edit(4, 1), edit(5, 2)],
    );
    put(store, log(1), vec![edit(6, 2)]);
    let expected = [
        Alterations {
            target: 1,
            edits: vec![4],
            ..Alterations::default()
        },
        Alterations {
            target: 2,
            edits: vec![3, 5, 6],
            ..Alterations::default()
        },
    ];
    assert_eq!(alterations(store, log(1), &[2, 1]), expected);
    assert_eq!(alterations(store, log(1), &[2]), expected[1..]);
}

pub fn a_deletion_is_listed(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let delete = entry(4, Kind::Delete, Some(1), Body::Delete);
    put(
        store,
        log(1),
        vec![message(1), message(2), edit(3, 1), delete],
    );
    let expected = Alterations {
        target: 1,
        edits: vec![3],
        deleted: Some(4),
        ..Alterations::default()
    };
    assert_eq!(alterations(store, log(1), &[1, 2]), [expected]);
}

pub fn reactions_that_stand_are_listed_by_emoji_and_user(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(
        store,
        log(1),
        vec![
            message(1),
            message(2),
            reaction(3, user(3), 1, "b", true),
            reaction(4, user(2), 1, "b", true),
            reaction(5, user(2), 1, "a", true),
            reaction(6, user(2), 2, "b", true),
            reaction(7, user(1), 1, "👍", true),
        ],
    );
    let expected = standing(
        1,
        &[
            ("a", user(2), 5),
            ("b", user(2), 4),
            ("b", user(3), 3),
            ("👍", user(1), 7),
        ],
    );
    assert_eq!(alterations(store, log(1), &[1]), [expected]);
}

pub fn a_reaction_taken_back_is_listed_no_more(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(
        store,
        log(1),
        vec![
            message(1),
            reaction(2, user(1), 1, "a", true),
            reaction(3, user(2), 1, "a", true),
            reaction(4, user(1), 1, "b", true),
            reaction(5, user(1), 1, "a", false),
        ],
    );
    let expected = standing(1, &[("a", user(2), 3), ("b", user(1), 4)]);
    assert_eq!(alterations(store, log(1), &[1]), [expected]);
    put(store, log(1), vec![reaction(6, user(1), 1, "a", true)]);
    let expected = standing(
        1,
        &[("a", user(1), 6), ("a", user(2), 3), ("b", user(1), 4)],
    );
    assert_eq!(alterations(store, log(1), &[1]), [expected]);
    put(
        store,
        log(1),
        vec![
            reaction(7, user(1), 1, "b", false),
            reaction(8, user(2), 1, "a", false),
            reaction(9, user(1), 1, "a", false),
        ],
    );
    assert_eq!(alterations(store, log(1), &[1]), [], "nothing stands");
}

pub fn emojis_that_are_prefixes_of_each_other_are_apart(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let long = "x".repeat(64);
    // In the order of their bytes; a thumb with and without a skin tone share a beginning.
    let emojis = [
        "\0",
        "\0\0",
        "a",
        "a\0",
        "a\0b",
        "aa",
        long.as_str(),
        "é",
        "👍",
        "👍🏽",
    ];
    let mut entries = vec![message(1)];
    for (seq, emoji) in (2..).zip(emojis.iter().rev()) {
        entries.push(reaction(seq, user(1), 1, emoji, true));
    }
    put(store, log(1), entries);
    let expected: Vec<(&str, UserId, Seq)> = emojis
        .iter()
        .zip((2..12).rev())
        .map(|(emoji, seq)| (*emoji, user(1), seq))
        .collect();
    assert_eq!(alterations(store, log(1), &[1]), [standing(1, &expected)]);
    put(
        store,
        log(1),
        vec![
            reaction(12, user(1), 1, "a", false),
            reaction(13, user(1), 1, "👍", false),
        ],
    );
    let expected: Vec<_> = expected
        .into_iter()
        .filter(|(emoji, ..)| !["a", "👍"].contains(emoji))
        .collect();
    assert_eq!(alterations(store, log(1), &[1]), [standing(1, &expected)]);
}

pub fn what_nothing_alters_is_left_out(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    assert_eq!(
        alterations(store, log(1), &[1, 2]),
        [],
        "a log never written to"
    );
    let mut reply = message(3);
    reply.envelope.target = Some(1);
    put(
        store,
        log(1),
        vec![message(1), message(2), reply, edit(4, 2)],
    );
    let expected = Alterations {
        target: 2,
        edits: vec![4],
        ..Alterations::default()
    };
    assert_eq!(
        alterations(store, log(1), &[0, 1, 2, 3, 4, 99, Seq::MAX]),
        [expected],
        "a reply alters nothing"
    );
    assert_eq!(alterations(store, log(1), &[]), []);
}

pub fn alterations_are_those_of_the_log_asked_for(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(store, log(1), vec![message(1), edit(2, 1)]);
    put(
        store,
        log(2),
        vec![message(1), reaction(2, user(1), 1, "a", true)],
    );
    put(store, log(3), vec![message(1)]);
    let edited = Alterations {
        target: 1,
        edits: vec![2],
        ..Alterations::default()
    };
    assert_eq!(alterations(store, log(1), &[1]), [edited]);
    assert_eq!(
        alterations(store, log(2), &[1]),
        [standing(1, &[("a", user(1), 2)])]
    );
    assert_eq!(alterations(store, log(3), &[1]), []);
}

/// Its emoji was in its body.
pub fn an_erased_reaction_is_listed_no_more(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(
        store,
        log(1),
        vec![
            message(1),
            reaction(2, user(1), 1, "a", true),
            reaction(3, user(2), 1, "a", true),
        ],
    );
    wait(store.erase(log(1), vec![2])).unwrap();
    assert_eq!(
        alterations(store, log(1), &[1]),
        [standing(1, &[("a", user(2), 3)])]
    );
    // That the taking back of a reaction is erased does not put it on again.
    put(store, log(1), vec![reaction(4, user(2), 1, "a", false)]);
    wait(store.erase(log(1), vec![4])).unwrap();
    assert_eq!(alterations(store, log(1), &[1]), []);
}

pub fn a_reaction_put_on_again_takes_the_place_of_the_first(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    put(
        store,
        log(1),
        vec![
            message(1),
            reaction(2, user(1), 1, "a", true),
            reaction(3, user(1), 1, "a", true),
        ],
    );
    put(store, log(1), vec![reaction(4, user(1), 1, "a", true)]);
    assert_eq!(
        alterations(store, log(1), &[1]),
        [standing(1, &[("a", user(1), 4)])]
    );
    // The earlier ones were replaced, so they do not come back.
    wait(store.erase(log(1), vec![4])).unwrap();
    assert_eq!(alterations(store, log(1), &[1]), []);
}

pub fn alterations_survive_reopening(fixture: &mut dyn Fixture) {
    put(
        fixture.store(),
        log(1),
        vec![
            message(1),
            edit(2, 1),
            reaction(3, user(1), 1, "a", true),
            reaction(4, user(2), 1, "a", true),
            reaction(5, user(1), 1, "a", false),
            entry(6, Kind::Delete, Some(1), Body::Delete),
        ],
    );
    if fixture.reopen() {
        let expected = Alterations {
            edits: vec![2],
            deleted: Some(6),
            ..standing(1, &[("a", user(2), 4)])
        };
        assert_eq!(alterations(fixture.store(), log(1), &[1]), [expected]);
    }
}

fn edit(seq: Seq, target: Seq) -> Entry {
    let content = TextContent {
        text: format!("edit {seq}"),
        ..TextContent::default()
    };
    entry(
        seq,
        Kind::Edit,
        Some(target),
        Body::Edit(Content::Text(content)),
    )
}

fn standing(target: Seq, reactions: &[(&str, UserId, Seq)]) -> Alterations {
    let reactions = reactions
        .iter()
        .map(|&(emoji, user, seq)| (emoji.to_owned(), user, seq))
        .collect();
    Alterations {
        target,
        reactions,
        ..Alterations::default()
    }
}
