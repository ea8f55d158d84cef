//! What those who run a cluster see of it: metrics, alerts, the doctor.

use serde_json::Value;
use tidings_core::ConversationId;
use tidings_core::id::direct_id;
use tidings_testing::cluster::{Cluster, Ground};
use tidings_testing::collector::Collector;
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
    // One node, one copy, and one that goes on whatever its disk says: enough for a test alone.
    for check in ["copies", "durability"] {
        assert_eq!(finding(&found, check)["verdict"], "warning", "{found:#}");
    }

    cluster.nats.as_mut().unwrap().kill(0);
    prometheus.alert("TidingsNatsLost", "firing").await;
    let (code, found) = cluster.at(0).server.doctor(&[]).await;
    assert_eq!(finding(&found, "nats")["verdict"], "fault", "{found:#}");
    assert_eq!(code, 2);
}

/// What the client did, as it says.
const CLIENT: &str = "00f067aa0ba902b7";

/// One of the two servers has the conversation: sends at the other are handed over to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_traced_across_servers() {
    let collector = Collector::start().await;
    let url = collector.url();
    let settings = [("telemetry.otlp_url", url.as_str())];
    let cluster = Cluster::start(
        "a_message_is_traced_across_servers",
        2,
        &Ground::shared(),
        &settings,
    )
    .await;
    let ada = cluster.at(0).person("ada", Way::Cbor).await;
    let ben = cluster.at(1).person("ben", Way::Cbor).await;
    let talk = direct_id(ada.user, ben.user);
    // From now on both servers know it, and each other.
    ada.sent(ada.say(Place::To(ben.user), "first")).await;
    ben.hears(talk, "first").await;

    // After a start it takes a moment until each knows that the other takes conversations.
    for round in 0.. {
        let (here, there) = (
            traced_send(&cluster, &collector, (round, 0, "ada"), talk).await,
            traced_send(&cluster, &collector, (round, 1, "ben"), talk).await,
        );
        if here != there {
            break;
        }
        assert!(!here, "both hand over to each other");
        assert!(round < 20, "nobody hands over");
    }
    assert!(!format!("{:?}", collector.told()).contains("secret"));
}

/// Somebody says something at a server, and asks for its trace, which must be whole. Whether it was handed over to the
/// other server.
async fn traced_send(
    cluster: &Cluster,
    collector: &Collector,
    (round, number, name): (usize, usize, &str),
    talk: ConversationId,
) -> bool {
    let trace = format!("{round:015}a{number:016}");
    let asked = format!("00-{trace}-{CLIENT}-01");
    let login = cluster.at(number).log_in(name).await;
    let mut http = cluster.at(number).http(&login.token);
    let path = format!("/v1/conversations/{talk}/entries");
    let body = format!("{{\"text\": \"a secret word by {name}\"}}");
    let headers = [("traceparent", asked.as_str())];
    let sent = http
        .try_request("POST", &path, &headers, body.as_bytes())
        .await;
    assert_eq!(sent.unwrap().status, 201);
    let spans = collector
        .trace(&trace, |spans| {
            let has = |name: &str| spans.iter().any(|span| span.name == name);
            // Each server tells its own in its own time.
            let is_known =
                |parent: &str| parent == CLIENT || spans.iter().any(|span| span.id == parent);
            ["decide", "commit", "tell", "hear"].into_iter().all(has)
                && spans.iter().all(|span| is_known(&span.parent))
        })
        .await;
    let of = |name: &str| spans.iter().find(|span| span.name == name);
    let (commit, hear) = (of("commit").unwrap(), of("hear").unwrap());
    assert_ne!(commit.node, hear.node, "{spans:#?}");
    let deciding = spans.iter().find(|span| span.id == commit.parent).unwrap();
    assert_eq!(
        (deciding.name.as_str(), &deciding.node),
        ("send", &commit.node)
    );
    assert_eq!(hear.parent, deciding.id);
    let Some(forward) = of("forward") else {
        assert_eq!(deciding.parent, CLIENT);
        return false;
    };
    assert_ne!(forward.node, commit.node);
    assert_eq!(
        deciding.parent, forward.parent,
        "both are of the first server's send"
    );
    true
}
