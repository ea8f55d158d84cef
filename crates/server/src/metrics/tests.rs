//! What is served, and that the documentation says the same.

use std::time::Duration;

use super::*;

#[test]
fn what_happened_is_counted() {
    let metrics = Metrics::default();
    metrics.session_opened(Transport::WebSocket);
    metrics.session_opened(Transport::LongPolling);
    metrics.session_is_back(Transport::WebSocket);
    metrics.session_closed(Transport::LongPolling, Some(Code::SlowConsumer));
    metrics.message_accepted();
    metrics.delivered_to(3);
    metrics.commit_took(Duration::from_millis(2));
    metrics.queue_depth("commit", 7);
    metrics.problem(Code::NotFound);
    let text = metrics.encode();
    for line in [
        r#"tidings_sessions{transport="websocket"} 1"#,
        r#"tidings_sessions{transport="long_polling"} 0"#,
        r#"tidings_sessions_reconnected_total{transport="websocket"} 1"#,
        r#"tidings_sessions_reconnected_total{transport="long_polling"} 0"#,
        r#"tidings_sessions_closed_total{reason="slow_consumer"} 1"#,
        "tidings_messages_accepted_total 1",
        "tidings_deliveries_total 3",
        r#"tidings_commit_seconds_bucket{le="0.0025"} 1"#,
        r#"tidings_commit_seconds_bucket{le="0.001"} 0"#,
        r#"tidings_queue_depth{queue="commit"} 7"#,
        r#"tidings_problems_total{code="not_found"} 1"#,
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn what_only_has_a_state_is_looked_at_when_somebody_asks() {
    let metrics = Metrics::default();
    let asked = Arc::new(AtomicU64::new(0));
    let times = asked.clone();
    metrics.set_looks(vec![Box::new(move |metrics| {
        let asked = times.fetch_add(1, Ordering::Relaxed) + 1;
        metrics.queue_age("commit", Duration::from_secs(asked));
    })]);
    assert_eq!(asked.load(Ordering::Relaxed), 0);
    assert!(served(&metrics).contains(r#"tidings_queue_age_seconds{queue="commit"} 1.0"#));
    assert!(served(&metrics).contains(r#"tidings_queue_age_seconds{queue="commit"} 2.0"#));
}

#[test]
fn what_alerts_ask_for_is_there_before_it_first_happens() {
    let text = served(&Metrics::default());
    for line in [
        r#"tidings_problems_total{code="internal"} 0"#,
        r#"tidings_sessions_closed_total{reason="slow_consumer"} 0"#,
        r#"tidings_store_errors_total{kind="damaged"} 0"#,
        "tidings_panics_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn a_server_alone_says_nothing_of_a_cluster() {
    let metrics = Metrics::default();
    assert!(!served(&metrics).contains("tidings_cluster"));
    metrics.is_in_cluster();
    metrics.wire_connected(true);
    metrics.wire_connected(false);
    metrics.wire_connected(false);
    metrics.forwarded(Forwarded::Unanswered, 3);
    metrics.caught_up(5);
    let text = served(&metrics);
    for line in [
        "tidings_cluster_wire_connected 0",
        "tidings_cluster_wire_losses_total 1",
        r#"tidings_cluster_forwarded_total{outcome="unanswered"} 3"#,
        "tidings_cluster_catch_ups_total 1",
        "tidings_cluster_caught_up_entries_total 5",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

/// What is served under a name that no fact has would be in no table, no alert and no dashboard.
#[test]
fn everything_that_is_served_is_a_fact() {
    let metrics = Metrics::default();
    metrics.is_in_cluster();
    let names: Vec<&str> = metrics.facts().map(|fact| fact.name.as_str()).collect();
    let text = served(&metrics);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let base = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .filter(|base| names.contains(base));
        assert!(names.contains(&base.unwrap_or(name)), "{name}");
    }
}

fn served(metrics: &Metrics) -> String {
    metrics.encode()
}

#[test]
fn the_reference_shows_the_metrics_as_they_are() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/operations/metrics.md"
    );
    let page = std::fs::read_to_string(path).unwrap();
    let (opening, closing) = ("<!-- generated metrics -->\n", "<!-- end -->");
    let (before, rest) = page.split_once(opening).unwrap();
    let (shown, after) = rest.split_once(closing).unwrap();
    let table = table();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, format!("{before}{opening}{table}{closing}{after}")).unwrap();
        return;
    }
    assert!(
        shown == table,
        "docs/operations/metrics.md shows other metrics; UPDATE_EXPECT=1 brings it up to date"
    );
}

fn table() -> String {
    let metrics = Metrics::default();
    let rows = metrics
        .facts()
        .map(|Fact { name, kind, help }| format!("| `{name}` | {kind} | {help} |\n"));
    let head = "| metric | kind | what it says |\n|---|---|---|\n".to_owned();
    head + &rows.collect::<String>()
}
