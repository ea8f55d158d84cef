//! Appends that died between their batch and what belongs to it: the next who asks for the head does the rest.

use tidings_core::UserId;
use tidings_core::conversation::Retention;
use tidings_core::entry::{Body, Entry, Kind};
use tidings_core::log::{LogId, Seq};
use tidings_core::mark::{Mark, MarkKind, MarkValue};
use tidings_store::{Append, AppendError, Store};
use tidings_testing::chance::Chance;

use crate::entries::{
    append_of, at, entries_of, entry, head_of, id, message, messages, new_client_id, new_log, said,
    state_at,
};
use crate::support::{Keyspace, run};

/// What an append owes stands in these tables: without them it dies before it has settled anything.
const OWED_TO: [&str; 3] = ["marks", "inbox", "targets"];

/// No mark, neither in the log nor in the inbox.
const NOWHERE: [Vec<Seq>; 2] = [Vec::new(), Vec::new()];

fn joined(log: LogId, owner: [u8; 16], seq: Seq) -> Mark {
    Mark {
        log,
        owner,
        kind: MarkKind::Joined,
        lane: 0,
        value: MarkValue {
            seq,
            at: at(seq),
            ..MarkValue::default()
        },
    }
}

/// Entries 1 to 4 of a log: a message, its edit, a reaction on it, another message.
fn beginning(chance: &mut Chance) -> Vec<Entry> {
    let mut ids = std::iter::repeat_with(|| new_client_id(chance));
    let mut next = || ids.next().expect("there is no end of them");
    let emoji = Body::Reaction {
        emoji: "+".to_owned(),
        on: true,
    };
    vec![
        message(1, next()),
        entry(2, next(), Kind::Edit, Some(1), said("edited")),
        entry(3, next(), Kind::Reaction, Some(4), emoji),
        message(4, next()),
    ]
}

fn owed_rows(keyspace: &Keyspace) -> usize {
    let rows: Vec<(Option<i8>,)> = keyspace.rows("SELECT kind FROM KS.log_rows", ());
    rows.iter().filter(|(kind,)| *kind == Some(2)).count()
}

async fn mark_seqs(store: &dyn Store, log: LogId, owner: [u8; 16]) -> [Vec<Seq>; 2] {
    let marks = store.marks(log, owner).await.expect("they are read");
    let inbox = store.memberships(UserId(owner), None, 10).await;
    [marks, inbox.expect("it is read")]
        .map(|marks| marks.iter().map(|mark| mark.value.seq).collect())
}

#[test]
fn whoever_next_asks_for_the_head_settles_what_an_append_left() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(1);
    let (log, owner) = (new_log(&mut chance), id(&mut chance));
    run(store.append(append_of(log, beginning(&mut chance)))).expect("they are in");
    assert_eq!(
        owed_rows(&keyspace),
        0,
        "nothing is left of what was settled"
    );
    let delete = entry(
        5,
        new_client_id(&mut chance),
        Kind::Delete,
        Some(1),
        Body::Delete,
    );
    let edit = entry(
        6,
        new_client_id(&mut chance),
        Kind::Edit,
        Some(4),
        said("edited"),
    );
    let append = Append {
        erase: vec![1, 2, 3],
        marks: vec![joined(log, owner, 6)],
        ..append_of(log, vec![delete, edit])
    };
    for table in OWED_TO {
        keyspace.execute(&format!("DROP TABLE KS.{table}"), ());
    }
    let unsettled = run(store.append(append));
    assert!(
        matches!(unsettled, Err(AppendError::Unknown(_))),
        "{unsettled:?}"
    );
    keyspace.migrate().expect("the tables are made again");
    let other = keyspace.open();
    assert_eq!(run(mark_seqs(&other, log, owner)), NOWHERE);
    assert_eq!(owed_rows(&keyspace), 1);

    assert_eq!(run(head_of(&other, log)), Ok(6));
    assert_eq!(run(mark_seqs(&other, log, owner)), [vec![6], vec![6]]);
    let entries = run(entries_of(&other, log));
    let erased: Vec<Seq> = entries
        .iter()
        .filter(|entry| entry.body == Body::Erased)
        .map(Entry::seq)
        .collect();
    assert_eq!(erased, [1, 2, 3]);
    let altered = run(other.alterations(log, vec![1, 4])).expect("they are read");
    let altered: Vec<_> = altered
        .iter()
        .map(|altered| (altered.target, altered.edits.clone(), altered.deleted))
        .collect();
    assert_eq!(altered, [(1, vec![], Some(5)), (4, vec![6], None)]);
    assert_eq!(owed_rows(&keyspace), 0);
    // Once more changes nothing.
    assert_eq!(run(head_of(&keyspace.open(), log)), Ok(6));
    assert_eq!(run(entries_of(&other, log)), entries);
}

#[test]
fn of_an_append_that_was_stopped_between_two_buckets_the_first_part_is_whole() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(1);
    let (log, first, second) = (new_log(&mut chance), id(&mut chance), id(&mut chance));
    let mut entries = beginning(&mut chance);
    entries.extend(messages(&mut chance, 4, 1_018));
    run(store.append(append_of(log, entries))).expect("they are in");
    // Somebody else was first in the next bucket.
    let other = keyspace.open();
    let mut between = messages(&mut chance, 1_022, 3);
    between[0] = entry(
        1_023,
        new_client_id(&mut chance),
        Kind::Delete,
        Some(1),
        Body::Delete,
    );
    let append = Append {
        erase: vec![1, 2],
        marks: vec![joined(log, first, 1_024), joined(log, second, 1_025)],
        ..append_of(log, between)
    };
    keyspace.execute(
        "INSERT INTO KS.log_rows (log, bucket, head, generation, ordinal, at) VALUES (?, 1, 1025, ?, 1025, ?)",
        (log.to_bytes(), [7_u8; 16], at(1_025).0 as i64),
    );
    let refused = run(store.append(append));
    assert_eq!(refused, Err(AppendError::Conflict { head: 1_025 }));

    assert_eq!(run(head_of(&other, log)), Ok(1_025));
    assert_eq!(
        run(mark_seqs(&other, log, first)),
        [vec![1_024], vec![1_024]]
    );
    assert_eq!(run(mark_seqs(&other, log, second)), NOWHERE);
    let entries = run(entries_of(&other, log));
    assert_eq!(entries[0].body, Body::Erased, "deleted in the first part");
    assert_eq!(entries[1].body, Body::Erased, "and its edit");
    assert_ne!(entries[2].body, Body::Erased);
    assert_eq!(owed_rows(&keyspace), 0);
}

#[test]
fn whoever_next_asks_for_the_head_finishes_a_trimming() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(1);
    let log = new_log(&mut chance);
    let append = Append {
        retention: Retention::UntilDelivered,
        state: Some(state_at(5)),
        ..append_of(log, messages(&mut chance, 0, 5))
    };
    run(store.append(append)).expect("they are in");
    // Somebody dies between the mark and the bodies.
    keyspace.execute(
        "UPDATE KS.logs USING TIMESTAMP 3 SET value = 3 WHERE log = ? AND kind = 1",
        (log.to_bytes(),),
    );
    let other = keyspace.open();
    assert_eq!(run(entries_of(&other, log)).len(), 2);
    let bodies = || -> Vec<(i64,)> { keyspace.rows("SELECT seq FROM KS.bodies_bounded", ()) };
    assert_eq!(bodies().len(), 5);
    run(other.head(log)).expect("it is read");
    let mut left = bodies();
    left.sort_unstable();
    assert_eq!(left, [(4,), (5,)]);
}
