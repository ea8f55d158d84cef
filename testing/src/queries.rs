//! What is asked of Prometheus: by the alert rules and by the dashboard.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::prometheus::Prometheus;

/// What only servers of a cluster have, by how the name begins …
const OF_CLUSTER: &str = "tidings_cluster_";
/// … and what only a server alone has, which keeps its data on a disk of its own.
const OF_DATA_DIRECTORY: &str = "tidings_disk_";

/// What kind of servers are asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One, with a data directory.
    Alone,
    /// Several that share a store.
    Cluster,
}

/// A query and where it stands.
#[derive(Clone, Debug)]
pub struct Query {
    /// The rule's or the panel's name.
    pub name: String,
    /// What it asks.
    pub expression: String,
}

impl Query {
    /// The metrics that it names.
    #[must_use]
    pub fn metrics(&self) -> BTreeSet<String> {
        let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        let words = self.expression.split(|letter| !is_name(letter));
        words
            .filter(|word| {
                *word == "up" || word.starts_with("tidings_") || word.starts_with("process_")
            })
            .map(str::to_owned)
            .collect()
    }

    /// Whether servers of this kind have what it asks for.
    #[must_use]
    pub fn is_for(&self, kind: Kind) -> bool {
        let foreign = match kind {
            Kind::Alone => OF_CLUSTER,
            Kind::Cluster => OF_DATA_DIRECTORY,
        };
        let metrics = self.metrics();
        !metrics.iter().any(|name| name.starts_with(foreign))
    }
}

/// Every query of the dashboard, as Grafana would send it.
#[must_use]
pub fn of_dashboard() -> Vec<Query> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/grafana/tidings.json");
    let dashboard: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            queries.push(Query {
                name: panel["title"].as_str().unwrap().to_owned(),
                expression: expression
                    .replace("$__rate_interval", "1m")
                    .replace("$__range", "1h")
                    .replace("$instance", ".*"),
            });
        }
    }
    queries
}

/// The query of every rule that Prometheus has loaded.
pub async fn of_rules(prometheus: &Prometheus) -> Vec<Query> {
    let rules = prometheus.rules().await;
    let query = |rule: &Value| Query {
        name: rule["name"].as_str().unwrap().to_owned(),
        expression: rule["query"].as_str().unwrap().to_owned(),
    };
    rules.iter().map(query).collect()
}

/// Every query of rules and dashboard is answered without an error, and names metrics that there are; and those of the
/// dashboard show something.
pub async fn check_all(prometheus: &Prometheus, kind: Kind) {
    let names = prometheus.names().await;
    let rules = of_rules(prometheus).await;
    let dashboard = of_dashboard();
    assert!(rules.len() > 10 && dashboard.len() > 30);
    for query in rules.iter().chain(&dashboard) {
        let Query { name, expression } = query;
        let answer = prometheus.try_query(expression).await;
        answer.unwrap_or_else(|error| panic!("{name}: {expression}: {error}"));
        for metric in query.metrics() {
            assert!(
                names.contains(&metric) || !query.is_for(kind),
                "{name}: nobody has {metric}"
            );
        }
    }
    for Query { name, expression } in dashboard.iter().filter(|query| query.is_for(kind)) {
        let answer = prometheus.try_query(expression).await.unwrap();
        assert!(!answer.is_empty(), "{name} shows nothing: {expression}");
    }
}
