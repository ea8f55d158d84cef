//! Making the tables, and opening what is not ours.

use tidings_store::{Store, StoreError};
use tidings_store_cql::{CqlStore, FORMAT, Settings};
use tidings_testing::chance::Chance;

use crate::entries::{append_of, entries_of, messages, new_log};
use crate::support::{Keyspace, run};

fn refusal(settings: Settings) -> String {
    match run(CqlStore::open(settings)) {
        Err(StoreError::Misuse(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn making_the_tables_once_more_changes_nothing() {
    let keyspace = Keyspace::take();
    let store = keyspace.open();
    let mut chance = Chance::new(1);
    let log = new_log(&mut chance);
    run(store.append(append_of(log, messages(&mut chance, 0, 3)))).expect("they are in");
    keyspace.migrate().expect("it may be repeated");
    // Also for a store that is open.
    run(store.append(append_of(log, messages(&mut chance, 3, 1)))).expect("it is in");
    assert_eq!(run(entries_of(&keyspace.open(), log)).len(), 4);
}

#[test]
fn no_table_forgets_its_graves_early_or_waits_long_for_a_dead_node() {
    let keyspace = Keyspace::take();
    let options: Vec<(String, i32, String)> = keyspace.rows(
        "SELECT table_name, gc_grace_seconds, speculative_retry FROM system_schema.tables WHERE keyspace_name = ?",
        (keyspace.name(),),
    );
    assert!(options.len() > 10);
    for (table, graves_kept, ask_another) in options {
        // A node that was away for longer brings back what was deleted. Repairs are once a week.
        assert_eq!(graves_kept, 10 * 24 * 3_600, "{table}");
        assert!(
            table == "meta" || ask_another == "30ms",
            "{table}: {ask_another}"
        );
    }
}

#[test]
fn a_keyspace_of_a_newer_format_is_left_alone() {
    let keyspace = Keyspace::take();
    let set = "UPDATE KS.meta SET value = ? WHERE name = 'format'";
    keyspace.execute(set, (99,));
    let why = refusal(keyspace.settings());
    assert!(why.contains("format 99") && why.contains("newer"), "{why}");
    let why = keyspace.migrate().expect_err("it is not ours").to_string();
    assert!(why.contains("format 99") && why.contains("newer"), "{why}");
    let format: Vec<(i32,)> = keyspace.rows("SELECT value FROM KS.meta", ());
    assert_eq!(format, [(99,)]);
    keyspace.execute(set, (FORMAT,));
}

#[test]
fn a_keyspace_that_is_not_there_is_to_be_made_first() {
    let keyspace = Keyspace::take();
    let settings = Settings {
        keyspace: "nobody_made_this".to_owned(),
        ..keyspace.settings()
    };
    let why = refusal(settings);
    assert!(why.contains("tidings migrate"), "{why}");
    keyspace.execute("DROP TABLE KS.meta", ());
    let why = refusal(keyspace.settings());
    assert!(why.contains("tidings migrate"), "{why}");
    keyspace.migrate().expect("it is made");
    keyspace.open();
}

#[test]
fn a_cluster_that_is_not_there_is_no_reason_to_make_tables() {
    let settings = Settings::new(vec!["127.0.0.1:1".to_owned()], "tidings");
    let why = run(CqlStore::open(settings)).expect_err("nobody answers");
    assert!(matches!(why, StoreError::Unavailable(_)), "{why}");
}
