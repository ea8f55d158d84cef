//! The alert rules: that they fire, that each is tested and explained.

use std::path::Path;

use tidings_testing::prometheus::{Prometheus, promtool, rules_path};
use tidings_testing::wire::Way;
use tidings_testing::world::World;

fn file(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_full_restarts_and_is_gone_is_told_of() {
    let settings = [("cluster.sessions_max", "2")];
    let mut world = World::start_with("a_server_that_is_gone_is_told_of", &settings).await;
    let prometheus = Prometheus::start(&[world.server.metrics_port]).await;
    let _ada = world.person("ada", Way::Cbor).await;
    let _ben = world.person("ben", Way::Cbor).await;
    prometheus.alert("TidingsSessionsMany", "firing").await;
    let started = "changes(process_start_time_seconds[30m])";
    for starts in 1..=3 {
        world.server.kill();
        world.server.start_again().await;
        prometheus.gives(&format!("{started} >= {starts}")).await;
    }
    prometheus.alert("TidingsRestarts", "firing").await;
    world.server.kill();
    prometheus.alert("TidingsServerGone", "pending").await;
    prometheus.alert("TidingsServerGone", "firing").await;
}

#[test]
fn rules_and_settings_are_what_prometheus_takes() {
    let check = |what: &str, path: &Path| {
        let _ = promtool(&["check".as_ref(), what.as_ref(), path]);
    };
    check("rules", &rules_path());
    check("config", &file("deploy/prometheus/prometheus.yml"));
}

#[test]
fn every_alert_fires_where_it_should_and_nowhere_else() {
    let tests = file("testing/prometheus/alerts.yaml");
    let _ = promtool(&["test".as_ref(), "rules".as_ref(), &tests]);
    let tests = std::fs::read_to_string(&tests).unwrap();
    for alert in alerts() {
        assert!(
            tests.contains(&format!("alertname=\"{alert}\", alertstate=\"firing\"")),
            "{alert} is not tested"
        );
    }
}

#[test]
fn every_alert_says_where_it_is_explained() {
    let rules = std::fs::read_to_string(rules_path()).unwrap();
    let page = std::fs::read_to_string(file("docs/operations/alerts.md")).unwrap();
    let rules: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    assert_eq!(rules.len(), alerts().len());
    for (alert, rule) in alerts().iter().zip(rules) {
        for part in ["severity: ", "summary: ", "description: "] {
            assert!(rule.contains(part), "{alert} has no {part}");
        }
        let anchor = alert.to_lowercase();
        assert!(
            rule.contains(&format!("runbook: docs/operations/alerts.md#{anchor}\n")),
            "{alert} does not say where it is explained"
        );
        let headings = page.lines().filter(|line| *line == format!("### {alert}"));
        assert_eq!(headings.count(), 1, "{alert} in docs/operations/alerts.md");
    }
    let explained = page.lines().filter(|line| line.starts_with("### "));
    assert_eq!(explained.count(), alerts().len(), "of what is no alert");
}

/// The alerts' names, in their order.
fn alerts() -> Vec<String> {
    let rules = std::fs::read_to_string(rules_path()).unwrap();
    let names = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}
