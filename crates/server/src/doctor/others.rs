//! NATS, and the other servers that are heard through it.

use std::collections::BTreeSet;

use super::cassandra::judge_clock;
use super::report::Report;
use crate::cluster::{Overheard, Server, overhear};
use crate::config::Settings;

/// A message to NATS and back takes no longer than this within a data centre.
const ROUND_TRIP_MAX_MS: u128 = 100;

/// Looks at NATS and the other servers.
pub(super) async fn examine(settings: &Settings, report: &mut Report) {
    let urls = &settings.nats.urls;
    if urls.is_empty() {
        return report.warning(
            "nats",
            "nats.urls is empty: the servers look at Cassandra all the time, which is slower and costs more",
            "run NATS, and name it there",
        );
    }
    match overhear(&settings.nats, &settings.cluster).await {
        Ok(heard) => judge(&heard, report),
        Err(why) => report.fault(
            "nats",
            format!("{urls}: {why}"),
            "does it run, is the network between open, does the login fit (nats.*)?",
        ),
    }
}

fn judge(heard: &Overheard, report: &mut Report) {
    let millis = heard.round_trip.as_millis();
    if millis > ROUND_TRIP_MAX_MS {
        report.warning(
            "nats",
            format!("a message takes {millis} ms there and back"),
            "what is slow: NATS, or the network between?",
        );
    } else {
        report.ok(
            "nats",
            format!("a message takes {:.1?} there and back", heard.round_trip),
        );
    }
    let servers = &heard.servers;
    if servers.is_empty() {
        return report.warning(
            "servers",
            "none is heard of",
            "tidings serve; if some run: is cluster.name the same everywhere?",
        );
    }
    let version_of = |server: &Server| match server.version.as_str() {
        "" => "too old to say".to_owned(),
        version => version.to_owned(),
    };
    let versions: BTreeSet<String> = servers.iter().map(version_of).collect();
    let shown = versions.iter().cloned().collect::<Vec<_>>().join(", ");
    if versions.len() > 1 {
        report.warning(
            "servers",
            format!("{} with several versions: {shown}", servers.len()),
            "finish the upgrade; side by side they do what both can",
        );
    } else {
        report.ok("servers", format!("{}, version {shown}", servers.len()));
    }
    let furthest = servers
        .iter()
        .max_by_key(|server| server.ahead_ms.unsigned_abs());
    if let Some(server) = furthest {
        let name = match server.address.as_str() {
            "" => &server.id,
            address => address,
        };
        judge_clock(&format!("server {name}"), server.ahead_ms, report);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::report::Verdict;
    use super::*;

    fn server(version: &str, ahead_ms: i64) -> Server {
        Server {
            version: version.to_owned(),
            ahead_ms,
            ..Server::default()
        }
    }

    fn judged(servers: Vec<Server>, round_trip: Duration) -> Report {
        let mut report = Report::default();
        judge(
            &Overheard {
                round_trip,
                servers,
            },
            &mut report,
        );
        report
    }

    #[test]
    fn servers_of_several_versions_and_with_other_clocks_are_told() {
        let quick = Duration::from_millis(1);
        let well = judged(vec![server("0.1.0", 2), server("0.1.0", -3)], quick);
        assert_eq!(well.verdict(), Verdict::Ok, "{well:?}");
        let mixed = judged(vec![server("0.1.0", 0), server("", 0)], quick);
        assert_eq!(mixed.of("servers"), Some(Verdict::Warning));
        let apart = judged(vec![server("0.1.0", 0), server("0.1.0", -61_000)], quick);
        assert_eq!(apart.of("clock"), Some(Verdict::Fault));
        let alone = judged(Vec::new(), quick);
        assert_eq!(alone.of("servers"), Some(Verdict::Warning));
        let slow = judged(vec![server("0.1.0", 0)], Duration::from_secs(1));
        assert_eq!(slow.of("nats"), Some(Verdict::Warning));
    }

    #[tokio::test]
    async fn nats_that_is_not_there_is_a_fault_and_none_at_all_a_warning() {
        let mut settings = Settings::default();
        let mut report = Report::default();
        examine(&settings, &mut report).await;
        assert_eq!(report.of("nats"), Some(Verdict::Warning));
        // A port of which nobody listens: it was just given back.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        settings.nats.urls = format!("nats://{}", listener.local_addr().unwrap());
        drop(listener);
        let mut report = Report::default();
        examine(&settings, &mut report).await;
        assert_eq!(report.of("nats"), Some(Verdict::Fault), "{report:?}");
    }
}
