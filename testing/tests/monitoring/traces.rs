//! What became of one message, as a collector of OpenTelemetry is told it.

use serde_json::json;
use tidings_testing::collector::Collector;
use tidings_testing::http::Http;
use tidings_testing::wire::Way;
use tidings_testing::world::World;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const ASKED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_client_asks_is_traced_from_arrival_to_the_queues_of_its_readers() {
    let collector = Collector::start().await;
    let url = collector.url();
    let settings = [("telemetry.otlp_url", url.as_str())];
    let world = World::start_with("a_message_whose_client_asks_is_traced", &settings).await;
    let ada = world.sign_up("ada").await;
    let ben = world.person("ben", Way::Cbor).await;
    let mut http = Http::with_token(world.port(), &ada.token);
    let path = format!("/v1/direct/{}/entries", ben.user);
    let say = |text: &str| serde_json::to_vec(&json!({ "text": text })).unwrap();
    // One that nobody asks for: the ratio is 0.
    let plain = http
        .try_request("POST", &path, &[], &say("a plain word"))
        .await;
    assert_eq!(plain.unwrap().status, 201);
    let asked = [("traceparent", ASKED)];
    let sent = http
        .try_request("POST", &path, &asked, &say("a secret word"))
        .await;
    assert_eq!(sent.unwrap().status, 201);

    let spans = collector.trace(TRACE, |spans| spans.len() >= 4).await;
    let named = |name: &str| {
        let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
        assert_eq!(found.len(), 1, "{name}: {spans:#?}");
        found[0]
    };
    let send = named("send");
    assert_eq!(
        send.parent, "00f067aa0ba902b7",
        "it belongs to what the client did"
    );
    let mut before = send.times.0;
    for name in ["decide", "commit", "tell"] {
        let step = named(name);
        assert_eq!(step.parent, send.id, "{name}");
        assert!(
            before <= step.times.0 && step.times.0 <= step.times.1,
            "{name}: {spans:#?}"
        );
        before = step.times.0;
        let attributes = step.json["attributes"].as_array().unwrap();
        assert!(
            attributes.iter().any(|of| of["key"] == "tidings.seq"),
            "{name}"
        );
    }
    let told = format!("{:?}", collector.told());
    for secret in ["secret", "plain", "ada", &ada.token, &ada.user.to_string()] {
        assert!(!told.contains(secret), "{secret} is in a span: {told}");
    }
    assert!(
        collector.told().iter().all(|span| span.trace == TRACE),
        "nobody asked for more"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_ratio_of_1_every_message_is_traced_and_what_waits_is_told_at_the_end() {
    let collector = Collector::start().await;
    let url = collector.url();
    let settings = [
        ("telemetry.otlp_url", url.as_str()),
        ("telemetry.sample_ratio", "1.0"),
    ];
    let mut world = World::start_with("with_a_ratio_of_1_every_message_is_traced", &settings).await;
    let ada = world.person("ada", Way::Cbor).await;
    let ben = world.person("ben", Way::Json).await;
    for number in 0..3 {
        let place = tidings_testing::wire::memory::Place::To(ben.user);
        ada.sent(ada.say(place, &format!("message {number}"))).await;
    }
    world.server.stop().await;
    let told = collector.told();
    let traces: std::collections::BTreeSet<&str> =
        told.iter().map(|span| span.trace.as_str()).collect();
    assert_eq!(traces.len(), 3, "{told:#?}");
    let begun: Vec<_> = told.iter().filter(|span| span.name == "send").collect();
    assert!(begun.len() == 3 && begun.iter().all(|span| span.parent.is_empty()));
}
