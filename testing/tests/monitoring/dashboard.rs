//! The queries of rules and dashboard against a server that people use.

use tidings_core::id::direct_id;
use tidings_testing::prometheus::Prometheus;
use tidings_testing::queries::{self, Kind};
use tidings_testing::wire::Way;
use tidings_testing::wire::memory::Place;
use tidings_testing::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_and_every_panel_has_an_answer_of_a_server_that_is_used() {
    let world = World::start("every_rule_and_every_panel_has_an_answer").await;
    let prometheus = Prometheus::start(&[world.server.metrics_port]).await;
    // Rates need two readings: what is counted rises between them.
    prometheus.gives("count_over_time(up[1m]) > 1").await;
    let ada = world.person("ada", Way::Cbor).await;
    let ben = world.person("ben", Way::Json).await;
    for number in 0..5 {
        let text = format!("message {number}");
        ada.sent(ada.say(Place::To(ben.user), &text)).await;
        ben.hears(direct_id(ada.user, ben.user), &text).await;
    }
    prometheus
        .gives("tidings_messages_accepted_total >= 5")
        .await;
    prometheus.gives("tidings_deliveries_total > 0").await;
    prometheus.gives("rate(tidings_logins_total[1m])").await;

    queries::check_all(&prometheus, Kind::Alone).await;
    for rule in prometheus.rules().await {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}

#[test]
fn the_names_in_a_query_are_found() {
    let query = queries::Query {
        name: String::new(),
        expression:
            "sum by (job) (rate(tidings_a_total{code=\"x\"}[5m])) / on (job) process_b and up == 1"
                .to_owned(),
    };
    let names: Vec<String> = query.metrics().into_iter().collect();
    assert_eq!(names, ["process_b", "tidings_a_total", "up"]);
    assert!(query.is_for(Kind::Alone) && query.is_for(Kind::Cluster));
}
