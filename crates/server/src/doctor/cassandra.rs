//! The cluster's store: versions, the settings that messages depend on, copies, tables, clocks.

use std::collections::BTreeSet;

use tidings_store_cql::{Examined, ExaminedNode, FORMAT};

use super::report::Report;
use crate::config::Settings;
use crate::serve::cql_settings;

/// The oldest version that the tests were run on.
const VERSION_LEAST: (u32, u32) = (5, 0);
/// How far clocks may be apart before it is told, and before servers step aside.
const APART_TOLD_MS: u64 = 1_000;
const APART_MAX_MS: u64 = crate::cluster::CLOCK_APART_MS;

/// Looks at the store.
pub(super) async fn examine(settings: &Settings, report: &mut Report) {
    let points = &settings.cassandra.contact_points;
    let cql = match cql_settings(settings) {
        Ok(cql) => cql,
        Err(error) => return report.fault("cassandra", error.to_string(), "mend the setting"),
    };
    match tidings_store_cql::examine(&cql).await {
        Ok(found) => judge(&found, settings, report),
        Err(error) => report.fault(
            "cassandra",
            format!("cannot be reached at {points}: {error}"),
            "do its nodes run, is the network between open, does the login fit (cassandra.*)?",
        ),
    }
}

fn judge(found: &Examined, settings: &Settings, report: &mut Report) {
    judge_nodes(&found.nodes, report);
    if found.nodes.iter().all(|node| node.settings.is_empty()) {
        report.warning(
            "durability",
            "the nodes do not tell their settings (ScyllaDB does not)",
            "make sure of commitlog_sync: batch",
        );
    } else {
        judge_durability(&found.nodes, report);
    }
    judge_keyspace(found, settings, report);
    judge_clocks(&found.nodes, report);
    if !found.agrees {
        report.warning(
            "schema",
            "the nodes do not agree about the tables",
            "wait; if it stays: nodetool describecluster",
        );
    }
}

fn judge_nodes(nodes: &[ExaminedNode], report: &mut Report) {
    for node in nodes.iter().filter(|node| node.version.is_none()) {
        report.fault(
            "cassandra",
            format!("{} does not answer", node.address),
            "one of three may be away for a while: bring it back before another goes",
        );
    }
    let versions: BTreeSet<&str> = nodes
        .iter()
        .filter_map(|node| node.version.as_deref())
        .collect();
    let shown = versions.iter().copied().collect::<Vec<_>>().join(", ");
    if versions.len() > 1 {
        report.warning(
            "cassandra",
            format!("several versions: {shown}"),
            "finish the upgrade; change no tables until then",
        );
    } else if versions.iter().any(|version| is_old(version)) {
        report.warning(
            "cassandra",
            format!("version {shown}: Tidings is tested on 5.0"),
            "upgrade Cassandra",
        );
    } else if !versions.is_empty() {
        let answer = nodes.iter().filter(|node| node.version.is_some()).count();
        report.ok(
            "cassandra",
            format!("{answer} of {} nodes answer, version {shown}", nodes.len()),
        );
    }
}

fn is_old(version: &str) -> bool {
    let mut numbers = version
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version < VERSION_LEAST
}

fn judge_durability(nodes: &[ExaminedNode], report: &mut Report) {
    let before = report.findings.len();
    for node in nodes {
        let value = |name: &str| node.settings.get(name).map_or("", String::as_str);
        if value("commitlog_sync") == "periodic" {
            report.fault(
                "durability",
                format!(
                    "{}: commitlog_sync is periodic: a power cut at a majority loses acknowledged messages",
                    node.address
                ),
                "commitlog_sync: batch in cassandra.yaml, and restart the node",
            );
        }
        if !value("paxos_variant").is_empty() && !value("paxos_variant").starts_with("v2") {
            report.warning(
                "paxos",
                format!(
                    "{}: paxos_variant is {}: twice the round trips for each message",
                    node.address,
                    value("paxos_variant")
                ),
                "paxos_variant: v2 in cassandra.yaml, and restart the node",
            );
        }
        for policy in ["disk_failure_policy", "commit_failure_policy"] {
            if !matches!(value(policy), "" | "die" | "stop" | "stop_paranoid") {
                report.warning(
                    "durability",
                    format!(
                        "{}: {policy} is {}: a node goes on without its disk",
                        node.address,
                        value(policy)
                    ),
                    format!("{policy}: die in cassandra.yaml"),
                );
            }
        }
    }
    if report.findings.len() == before {
        report.ok(
            "durability",
            "writes are on disk before they are answered; paxos_variant is v2",
        );
    }
}

fn judge_keyspace(found: &Examined, settings: &Settings, report: &mut Report) {
    let keyspace = &settings.cassandra.keyspace;
    let Some(replication) = &found.replication else {
        return report.fault(
            "keyspace",
            format!("{keyspace} is not there"),
            "tidings migrate",
        );
    };
    match found.format {
        Some(FORMAT) => report.ok("tables", format!("of {keyspace} have format {FORMAT}")),
        Some(newer) if newer > FORMAT => report.fault(
            "tables",
            format!("of {keyspace} have format {newer}, this program knows formats up to {FORMAT}"),
            "use the newer program that made them",
        ),
        _ => report.fault(
            "tables",
            format!("of {keyspace} were not made, or are older"),
            "tidings migrate",
        ),
    }
    let class = replication.get("class").map_or("", String::as_str);
    let copies = |text: &String| {
        text.split('/')
            .next()
            .and_then(|copies| copies.parse::<u32>().ok())
    };
    let least = replication
        .iter()
        .filter(|(name, _)| *name != "class")
        .filter_map(|(_, text)| copies(text))
        .min()
        .unwrap_or(0);
    let is_simple = class.ends_with("SimpleStrategy");
    if least < 3 {
        report.warning(
            "copies",
            format!("{keyspace} has {least}: the loss of a node stops it, or loses messages"),
            "three nodes, and ALTER KEYSPACE … WITH replication, then nodetool repair --full",
        );
    } else if is_simple {
        report.warning(
            "copies",
            format!("{keyspace} has {least} by SimpleStrategy, which knows neither data centres nor racks"),
            "ALTER KEYSPACE … WITH replication = {'class': 'NetworkTopologyStrategy', 'dc1': 3}, then repair",
        );
    } else {
        report.ok("copies", format!("{keyspace} has {least}"));
    }
    let centre = &settings.cassandra.data_centre;
    let is_known = found.nodes.iter().any(|node| node.data_centre == *centre);
    if !centre.is_empty() && !is_known {
        report.fault(
            "data centre",
            format!("cassandra.data_centre = {centre}, and no node is in it"),
            "use Cassandra's name for it (nodetool status)",
        );
    }
}

fn judge_clocks(nodes: &[ExaminedNode], report: &mut Report) {
    let aheads: Vec<(&str, i64)> = nodes
        .iter()
        .filter_map(|node| Some((node.address.as_str(), node.ahead_ms?)))
        .collect();
    let Some((address, ahead)) = aheads.iter().max_by_key(|(_, ahead)| ahead.unsigned_abs()) else {
        return;
    };
    judge_clock(&format!("Cassandra at {address}"), *ahead, report);
}

/// Judges how far a clock is from this machine's.
pub(super) fn judge_clock(whose: &str, ahead_ms: i64, report: &mut Report) {
    let what = format!(
        "{whose}: {:+.3} s from this machine's",
        ahead_ms as f64 / 1_000.0
    );
    let advice = "run chrony on every machine, Cassandra's too";
    match ahead_ms.unsigned_abs() {
        apart if apart > APART_MAX_MS => report.fault("clock", what, advice),
        apart if apart > APART_TOLD_MS => report.warning("clock", what, advice),
        _ => report.ok("clock", what),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    fn node(address: &str) -> ExaminedNode {
        let settings = [
            ("commitlog_sync", "batch"),
            ("paxos_variant", "v2"),
            ("disk_failure_policy", "die"),
        ];
        ExaminedNode {
            address: address.to_owned(),
            data_centre: "dc1".to_owned(),
            version: Some("5.0.9".to_owned()),
            settings: settings
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ahead_ms: Some(3),
        }
    }

    fn well() -> Examined {
        let replication = [
            (
                "class",
                "org.apache.cassandra.locator.NetworkTopologyStrategy",
            ),
            ("dc1", "3"),
        ];
        Examined {
            nodes: vec![
                node("10.0.0.1:9042"),
                node("10.0.0.2:9042"),
                node("10.0.0.3:9042"),
            ],
            replication: Some(
                replication
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
            ),
            format: Some(FORMAT),
            agrees: true,
        }
    }

    fn judged(change: impl FnOnce(&mut Examined)) -> Report {
        let mut found = well();
        change(&mut found);
        let mut report = Report::default();
        let mut settings = Settings::default();
        settings.cassandra.data_centre = "dc1".to_owned();
        judge(&found, &settings, &mut report);
        report
    }

    #[test]
    fn a_cluster_as_the_documentation_wants_it_is_well() {
        let report = judged(|_| ());
        assert_eq!(report.verdict(), Verdict::Ok, "{report:?}");
    }

    #[test]
    fn nodes_that_are_away_old_or_mixed_are_told() {
        let away = judged(|found| found.nodes[1].version = None);
        assert_eq!(away.of("cassandra"), Some(Verdict::Fault));
        let mixed = judged(|found| found.nodes[1].version = Some("5.0.2".to_owned()));
        assert_eq!(mixed.of("cassandra"), Some(Verdict::Warning));
        let old = judged(|found| {
            for node in &mut found.nodes {
                node.version = Some("4.1.3".to_owned());
            }
        });
        assert_eq!(old.of("cassandra"), Some(Verdict::Warning));
    }

    #[test]
    fn settings_by_which_messages_are_lost_are_a_fault() {
        let set = |name: &str, value: &str| {
            judged(|found| {
                let settings = &mut found.nodes[2].settings;
                settings.insert(name.to_owned(), value.to_owned());
            })
        };
        assert_eq!(
            set("commitlog_sync", "periodic").of("durability"),
            Some(Verdict::Fault)
        );
        assert_eq!(
            set("disk_failure_policy", "ignore").of("durability"),
            Some(Verdict::Warning)
        );
        assert_eq!(
            set("paxos_variant", "v1").of("paxos"),
            Some(Verdict::Warning)
        );
        let silent = judged(|found| {
            found
                .nodes
                .iter_mut()
                .for_each(|node| node.settings.clear())
        });
        assert_eq!(silent.of("durability"), Some(Verdict::Warning));
    }

    #[test]
    fn tables_copies_and_data_centres_that_do_not_fit_are_told() {
        assert_eq!(
            judged(|found| found.replication = None).of("keyspace"),
            Some(Verdict::Fault)
        );
        assert_eq!(
            judged(|found| found.format = None).of("tables"),
            Some(Verdict::Fault)
        );
        assert_eq!(
            judged(|found| found.format = Some(FORMAT + 1)).of("tables"),
            Some(Verdict::Fault)
        );
        let replicated = |class: &str, copies: &str| {
            judged(|found| {
                let options = [("class", class), ("dc1", copies)];
                let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
                found.replication = Some(options.into());
            })
            .of("copies")
        };
        assert_eq!(
            replicated("NetworkTopologyStrategy", "1"),
            Some(Verdict::Warning)
        );
        assert_eq!(replicated("SimpleStrategy", "3"), Some(Verdict::Warning));
        let elsewhere = judged(|found| {
            found
                .nodes
                .iter_mut()
                .for_each(|node| node.data_centre = "dc2".to_owned())
        });
        assert_eq!(elsewhere.of("data centre"), Some(Verdict::Fault));
        assert_eq!(
            judged(|found| found.agrees = false).of("schema"),
            Some(Verdict::Warning)
        );
    }

    #[test]
    fn clocks_that_are_apart_are_told() {
        let ahead = |ms| judged(|found| found.nodes[0].ahead_ms = Some(ms)).of("clock");
        assert_eq!(ahead(-2_000), Some(Verdict::Warning));
        assert_eq!(ahead(-60_000), Some(Verdict::Fault));
        assert_eq!(ahead(900), Some(Verdict::Ok));
    }
}
