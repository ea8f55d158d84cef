//! What those who run a cluster see of it: metrics, alerts, the doctor.

use serde_json::Value;
use tidings_core::id::direct_id;
use tidings_testing::cluster::{Cluster, Ground};
use tidings_testing::prometheus::Prometheus;
use tidings_testing::queries::{self, Kind};
use tidings_testing::wire::Way;
use tidings_testing::wire::memory::Place;

fn finding<'a>(found: &'a Value, check: &str) -> &'a Value {
    let findings = found["findings"].as_array().unwrap().iter();
    let mut of_check = findings.filter(|finding| finding["check"] == check);
    of_check.next().unwrap_or(&Value::Null)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_measured_and_the_loss_of_nats_is_told() {
    let test = "a_cluster_is_measured_and_the_loss_of_nats_is_told";
    let mut cluster = Cluster::start(test, 2, &Ground::shared(), &[]).await;
    let ports = [0, 1].map(|number| cluster.at(number).server.metrics_port);
    let prometheus = Prometheus::start(&ports).await;
    prometheus.gives("min(count_over_time(up[1m])) > 1").await;
    prometheus
        .gives("count(tidings_cluster_peers == 1) == 2")
        .await;
    let ada = cluster.at(0).person("ada", Way::Cbor).await;
    let ben = cluster.at(1).person("ben", Way::Cbor).await;
    for number in 0..5 {
        let text = format!("message {number}");
        ada.sent(ada.say(Place::To(ben.user), &text)).await;
        ben.hears(direct_id(ada.user, ben.user), &text).await;
    }
    prometheus
        .gives("sum(tidings_messages_accepted_total) >= 5 and on () sum(tidings_cluster_messages_total) > 5")
        .await;
    queries::check_all(&prometheus, Kind::Cluster).await;

    let (_, found) = cluster.at(0).server.doctor(&[]).await;
    for check in [
        "cassandra",
        "tables",
        "durability",
        "nats",
        "servers",
        "server",
        "version",
    ] {
        assert_eq!(
            finding(&found, check)["verdict"],
            "ok",
            "{check}: {found:#}"
        );
    }
    let said = finding(&found, "servers")["what"].as_str().unwrap();
    assert!(said.starts_with("2, version "), "{said}");
    // One node, one copy: enough for a test alone.
    assert_eq!(finding(&found, "copies")["verdict"], "warning", "{found:#}");

    cluster.nats.as_mut().unwrap().kill(0);
    prometheus.alert("TidingsNatsLost", "firing").await;
    let (code, found) = cluster.at(0).server.doctor(&[]).await;
    assert_eq!(finding(&found, "nats")["verdict"], "fault", "{found:#}");
    assert_eq!(code, 2);
}
