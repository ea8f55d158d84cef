//! What is set, and what of it is risky. Looks at nothing but the settings.

use std::net::{IpAddr, SocketAddr};

use super::report::Report;
use crate::config::{Settings, StoreKind, UsersSettings};

/// What OWASP asks of Argon2id, in KiB and passes: more of one allows less of the other.
const PASSWORD_KIB_PASSES_MIN: u64 = 7_168 * 5;

/// Looks at the settings.
pub(super) fn examine(settings: &Settings, report: &mut Report) {
    examine_listening(settings, report);
    examine_proxies(settings, report);
    examine_users(&settings.users, report);
    examine_limits(settings, report);
    if settings.store.kind == StoreKind::Cassandra {
        examine_cluster(settings, report);
    }
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&settings.log.filter) {
        report.warning(
            "log",
            format!("log.filter cannot be read: {error}"),
            "the server logs at the level info until that is mended",
        );
    }
}

/// Who can reach an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    ThisMachine,
    Network,
}

fn reach(address: &str) -> Reach {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let ip = address
        .parse::<SocketAddr>()
        .map(|address| address.ip())
        .or_else(|_| host.trim_matches(['[', ']']).parse::<IpAddr>());
    match ip {
        Ok(ip) if ip.is_loopback() => Reach::ThisMachine,
        Err(_) if host.eq_ignore_ascii_case("localhost") => Reach::ThisMachine,
        _ => Reach::Network,
    }
}

fn examine_listening(settings: &Settings, report: &mut Report) {
    let server = &settings.server;
    let is_cluster = settings.store.kind == StoreKind::Cassandra;
    if server.metrics_listen.is_empty() {
        report.warning(
            "metrics",
            "server.metrics_listen is empty: nobody can see how the server is",
            "set it, for Prometheus and for this command",
        );
    } else if reach(&server.metrics_listen) == Reach::Network && !is_cluster {
        report.warning(
            "metrics",
            format!(
                "server.metrics_listen = {} can be reached from elsewhere, and asks for no password",
                server.metrics_listen
            ),
            "listen at 127.0.0.1, or let a firewall admit Prometheus alone",
        );
    } else {
        report.ok("metrics", format!("listen at {}", server.metrics_listen));
    }
    let is_encrypted = server.public_url.starts_with("https://");
    let is_trial = ["http://localhost", "http://127.", "http://[::1]"]
        .iter()
        .any(|begin| server.public_url.starts_with(begin));
    if !server.public_url.is_empty() && !is_encrypted && !is_trial {
        report.fault(
            "tls",
            format!(
                "server.public_url = {} is not encrypted: passwords and messages go in the clear",
                server.public_url
            ),
            "put a proxy with a certificate in front (docs/operations/README.md, TLS) and use https",
        );
    } else if server.public_url.is_empty() && reach(&server.listen) == Reach::Network {
        report.warning(
            "tls",
            format!(
                "server.listen = {} can be reached from elsewhere, and no server.public_url is set",
                server.listen
            ),
            "put a proxy with a certificate in front, listen at 127.0.0.1 and set server.public_url to \
             its https address",
        );
    } else if is_encrypted {
        report.ok("tls", format!("clients use {}", server.public_url));
    } else {
        report.ok("tls", "none, for clients on this machine");
    }
}

fn examine_proxies(settings: &Settings, report: &mut Report) {
    let server = &settings.server;
    let is_behind = server.public_url.starts_with("https://");
    let is_cluster = settings.store.kind == StoreKind::Cassandra;
    if is_behind && server.proxies_in_front == 0 {
        report.warning(
            "proxies",
            "clients come over https, so through a proxy, but server.proxies_in_front is 0: all of them count as \
             one address, whose limits they share",
            "set it to the number of proxies that each append to X-Forwarded-For",
        );
    } else if server.proxies_in_front > 0 && reach(&server.listen) == Reach::Network && !is_cluster
    {
        report.warning(
            "proxies",
            format!(
                "server.listen = {} can be reached past the proxy: who does so can claim any address in \
                 X-Forwarded-For",
                server.listen
            ),
            "listen at 127.0.0.1, or let a firewall admit the proxy alone",
        );
    } else {
        report.ok("proxies", format!("{} in front", server.proxies_in_front));
    }
    if is_behind || (server.public_url.is_empty() && server.proxies_in_front == 0) {
        report.ok("cookies", "are sent over https alone, but for this machine");
    } else if server.public_url.is_empty() {
        report.warning(
            "cookies",
            "server.public_url is empty behind a proxy: cookies are taken from pages of whatever host a request names",
            "set it to the address under which clients reach the server",
        );
    }
}

fn examine_users(users: &UsersSettings, report: &mut Report) {
    let work = u64::from(users.password_memory_kib) * u64::from(users.password_passes);
    if work < PASSWORD_KIB_PASSES_MIN {
        report.warning(
            "passwords",
            format!(
                "password hashes take {} KiB and {} passes: stolen ones are soon guessed",
                users.password_memory_kib, users.password_passes
            ),
            "at least 19456 KiB and 2 passes (the defaults)",
        );
    } else if users.password_chars_min < 8 {
        report.warning(
            "passwords",
            format!(
                "passwords of {} characters are taken",
                users.password_chars_min
            ),
            "users.password_chars_min = 8 or more",
        );
    } else {
        report.ok("passwords", "are hashed as OWASP asks");
    }
    let unslowed = [
        (
            "users.username_failure_interval_ms",
            users.username_failure_interval_ms,
        ),
        (
            "users.address_failure_interval_ms",
            users.address_failure_interval_ms,
        ),
        (
            "users.address_sign_up_interval_ms",
            users.address_sign_up_interval_ms,
        ),
    ];
    let unslowed: Vec<&str> = unslowed
        .iter()
        .filter(|(_, interval)| *interval == 0)
        .map(|(name, _)| *name)
        .collect();
    if !unslowed.is_empty() {
        report.warning(
            "guessing",
            format!("{} is 0: nothing slows down who tries", unslowed.join(", ")),
            "leave the defaults",
        );
    }
    if users.sign_up_open {
        report.ok(
            "sign-up",
            "anybody may make an account (users.sign_up_open)",
        );
    } else {
        report.ok("sign-up", "is closed (users.sign_up_open)");
    }
}

fn examine_limits(settings: &Settings, report: &mut Report) {
    let limits = &settings.limits;
    let before = report.findings.len();
    for (name, value) in [
        ("limits.user_requests_per_s", limits.user_requests_per_s),
        (
            "limits.address_requests_per_s",
            limits.address_requests_per_s,
        ),
    ] {
        if value == 0 {
            report.warning(
                "limits",
                format!("{name} is 0: one client may keep the server busy"),
                "leave the default",
            );
        }
    }
    // A character may take four bytes.
    let text_bytes = (settings.chat.text_chars_max as u64).saturating_mul(4);
    if text_bytes > limits.frame_bytes_max as u64 {
        report.warning(
            "limits",
            format!(
                "chat.text_chars_max allows texts of {text_bytes} bytes, limits.frame_bytes_max only {}",
                limits.frame_bytes_max
            ),
            "raise limits.frame_bytes_max, or lower chat.text_chars_max",
        );
    }
    if settings.sessions.queue_bytes_max < limits.frame_bytes_max {
        report.warning(
            "limits",
            "sessions.queue_bytes_max is below limits.frame_bytes_max: two large messages close a session as slow",
            "raise sessions.queue_bytes_max",
        );
    }
    if report.findings.len() == before {
        report.ok("limits", "fit together");
    }
}

fn examine_cluster(settings: &Settings, report: &mut Report) {
    let cluster = &settings.cluster;
    if cluster.node == "tidings" {
        report.warning(
            "node",
            "cluster.node is the default: the servers have one name in logs",
            "give each its own",
        );
    }
    let needed_ms = 100_000 / cluster.drain_percent_per_s;
    let has_ms = settings.server.drain_ms_max * 7 / 10;
    if needed_ms > has_ms {
        report.warning(
            "draining",
            format!(
                "handing over all sessions takes {needed_ms} ms (cluster.drain_percent_per_s), and seven tenths of \
                 server.drain_ms_max are {has_ms}: they go faster than that"
            ),
            "server.drain_ms_max = 30000 or more, and the time that the service has to stop above that",
        );
    }
    if cluster.address.starts_with("http://") {
        report.fault(
            "tls",
            format!("cluster.address = {} is not encrypted", cluster.address),
            "TLS in front of each server, and https",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Verdict;

    fn examined(change: impl FnOnce(&mut Settings)) -> Report {
        let mut settings = Settings::default();
        change(&mut settings);
        let mut report = Report::default();
        examine(&settings, &mut report);
        report
    }

    #[test]
    fn the_defaults_are_well_and_so_is_what_the_documentation_shows() {
        assert_eq!(
            examined(|_| ()).verdict(),
            Verdict::Ok,
            "{:?}",
            examined(|_| ())
        );
        let documented = examined(|settings| {
            settings.server.public_url = "https://chat.example.org".to_owned();
            settings.server.proxies_in_front = 1;
        });
        assert_eq!(documented.verdict(), Verdict::Ok, "{documented:?}");
        let cluster = examined(|settings| {
            settings.store.kind = StoreKind::Cassandra;
            settings.cluster.node = "north-1".to_owned();
            settings.server.listen = "0.0.0.0:8080".to_owned();
            settings.server.metrics_listen = "0.0.0.0:9464".to_owned();
            settings.server.public_url = "https://chat.example.org".to_owned();
            settings.server.proxies_in_front = 1;
            settings.server.drain_ms_max = 30_000;
        });
        assert_eq!(cluster.verdict(), Verdict::Ok, "{cluster:?}");
    }

    #[test]
    fn what_can_be_reached_from_elsewhere_is_told() {
        for address in [
            "0.0.0.0:9464",
            "[::]:9464",
            "10.0.0.7:9464",
            "chat.example.org:9464",
        ] {
            let report = examined(|settings| settings.server.metrics_listen = address.to_owned());
            assert_eq!(report.of("metrics"), Some(Verdict::Warning), "{address}");
        }
        for address in ["127.0.0.1:9464", "[::1]:9464", "localhost:9464"] {
            let report = examined(|settings| settings.server.metrics_listen = address.to_owned());
            assert_eq!(report.of("metrics"), Some(Verdict::Ok), "{address}");
        }
        let open = examined(|settings| settings.server.listen = "0.0.0.0:80".to_owned());
        assert_eq!(open.of("tls"), Some(Verdict::Warning));
    }

    #[test]
    fn what_goes_in_the_clear_is_a_fault() {
        let url =
            |url: &str| examined(|settings| settings.server.public_url = url.to_owned()).of("tls");
        assert_eq!(url("http://chat.example.org"), Some(Verdict::Fault));
        assert_eq!(url("http://localhost:8080"), Some(Verdict::Ok));
        let address = examined(|settings| {
            settings.store.kind = StoreKind::Cassandra;
            settings.cluster.address = "http://north-1.example.org".to_owned();
        });
        assert_eq!(address.of("tls"), Some(Verdict::Fault));
    }

    #[test]
    fn proxies_that_are_not_told_of_and_those_that_can_be_passed_by_are_told() {
        let untold =
            examined(|settings| settings.server.public_url = "https://a.example".to_owned());
        assert_eq!(untold.of("proxies"), Some(Verdict::Warning));
        let passed_by = examined(|settings| {
            settings.server.public_url = "https://a.example".to_owned();
            settings.server.proxies_in_front = 1;
            settings.server.listen = "0.0.0.0:8080".to_owned();
        });
        assert_eq!(passed_by.of("proxies"), Some(Verdict::Warning));
        let nameless = examined(|settings| settings.server.proxies_in_front = 1);
        assert_eq!(nameless.of("cookies"), Some(Verdict::Warning));
    }

    #[test]
    fn weak_passwords_and_what_slows_nobody_down_are_told() {
        let hashes = examined(|settings| settings.users.password_memory_kib = 8);
        assert_eq!(hashes.of("passwords"), Some(Verdict::Warning));
        let short = examined(|settings| settings.users.password_chars_min = 4);
        assert_eq!(short.of("passwords"), Some(Verdict::Warning));
        let guesses = examined(|settings| settings.users.address_failure_interval_ms = 0);
        assert_eq!(guesses.of("guessing"), Some(Verdict::Warning));
    }

    #[test]
    fn limits_that_are_off_or_do_not_fit_are_told() {
        let off = examined(|settings| settings.limits.user_requests_per_s = 0);
        assert_eq!(off.of("limits"), Some(Verdict::Warning));
        let texts = examined(|settings| settings.chat.text_chars_max = 1_000_000);
        assert_eq!(texts.of("limits"), Some(Verdict::Warning));
        let queue = examined(|settings| settings.sessions.queue_bytes_max = 1_024);
        assert_eq!(queue.of("limits"), Some(Verdict::Warning));
        let filter = examined(|settings| settings.log.filter = "a=b=c".to_owned());
        assert_eq!(filter.of("log"), Some(Verdict::Warning));
    }

    #[test]
    fn a_node_without_a_name_or_without_time_to_hand_over_is_told() {
        let report = examined(|settings| settings.store.kind = StoreKind::Cassandra);
        assert_eq!(report.of("node"), Some(Verdict::Warning));
        assert_eq!(report.of("draining"), Some(Verdict::Warning));
    }
}
