//! What the doctor is told of a cluster.

use tidings_store_cql::{FORMAT, Settings, examine};
use tidings_testing::cassandra::Cassandra;

use crate::support::{Keyspace, run};

#[test]
fn nodes_copies_and_tables_are_told_as_they_are() {
    let keyspace = Keyspace::take();
    let found = run(examine(&keyspace.settings())).expect("it is there");
    let points = Cassandra::shared().contact_points();
    assert_eq!(found.nodes.len(), points.len(), "{found:?}");
    let node = &found.nodes[0];
    assert_eq!(node.address, points[0]);
    assert!(
        node.version
            .as_ref()
            .is_some_and(|version| version.starts_with("5.")),
        "{node:?}"
    );
    assert_eq!(node.settings["commitlog_sync"], "batch", "{node:?}");
    assert_eq!(node.settings["paxos_variant"], "v2", "{node:?}");
    assert!(
        node.ahead_ms.is_some_and(|ahead| ahead.abs() < 5_000),
        "the same clock: {node:?}"
    );
    assert_eq!(found.format, Some(FORMAT));
    assert!(found.agrees);
    let replication = found.replication.expect("it is laid over the nodes");
    assert_eq!(replication["replication_factor"], "1", "{replication:?}");
}

#[test]
fn a_keyspace_that_was_never_made_is_told() {
    let settings = Settings::new(Cassandra::shared().contact_points(), "never_made");
    let found = run(examine(&settings)).expect("the nodes are there");
    assert_eq!((found.replication, found.format), (None, None));
}
