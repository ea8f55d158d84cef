//! The running server: whether it answers here and under its public address, and what it says of itself.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tidings_terminal::{Address, Probe};

use super::report::Report;
use crate::config::Settings;

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(5);
/// A poll waits so long for events, as clients' do …
const POLL_WAIT_S: u64 = 60;
/// … and its answer comes a little later.
const POLL_WITHIN: Duration = Duration::from_secs(POLL_WAIT_S + 10);

/// What the running server's metrics say.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Said {
    /// Its version.
    pub(super) version: Option<String>,
    /// Files that it may open.
    pub(super) files_max: Option<u64>,
    /// How often a task panicked.
    pub(super) panics: u64,
    /// How far its clock is ahead of the others', in seconds.
    pub(super) clock_ahead_s: Option<f64>,
}

/// What the metrics in OpenMetrics' text say.
pub(super) fn read(metrics: &str) -> Said {
    let value = |name: &str| {
        let line = metrics.lines().find(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with([' ', '{']))
        })?;
        Some((line, line.rsplit_once(' ')?.1.parse::<f64>().ok()?))
    };
    let version = value("tidings_build_info").and_then(|(line, _)| {
        let (_, rest) = line.split_once("version=\"")?;
        Some(rest.split_once('"')?.0.to_owned())
    });
    Said {
        version,
        files_max: value("process_max_fds").map(|(_, max)| max as u64),
        panics: value("tidings_panics_total").map_or(0, |(_, count)| count as u64),
        clock_ahead_s: value("tidings_cluster_clock_ahead_seconds").map(|(_, ahead)| ahead),
    }
}

/// Asks the server on this machine; says what its metrics said, if one runs.
pub(super) async fn examine(settings: &Settings, report: &mut Report) -> Option<Said> {
    let listen = &settings.server.listen;
    let holds_data = holds(Path::new(&settings.server.data));
    let Some(probe) = probe_of(listen) else {
        report.fault(
            "server",
            format!("server.listen = {listen} is no address"),
            "address and port: 127.0.0.1:8080",
        );
        return None;
    };
    match probe.get("/readyz", None, WITHIN).await {
        Err(why) if holds_data => report.fault(
            "server",
            format!("a server has the data directory open and does not answer at {listen}: {why}"),
            "is that its address? Look at its log; restart it if it hangs",
        ),
        Err(_) => {
            report.warning(
                "server",
                format!("none runs here (nothing answers at {listen})"),
                "tidings serve",
            );
            return None;
        }
        Ok(answer) if answer.status == 200 && answer.body.starts_with("ready") => {
            let lacks = answer.body.trim_start_matches("ready").trim();
            if lacks.is_empty() {
                report.ok("server", format!("is ready at {listen}"));
            } else {
                report.warning(
                    "server",
                    format!("is ready, but: {lacks}"),
                    "see what it lacks",
                );
            }
        }
        Ok(answer) if answer.body.contains("draining") => report.fault(
            "server",
            format!("takes no new sessions: {}", detail_of(&answer.body)),
            "if it says why, mend that; otherwise it is shutting down",
        ),
        Ok(answer) => report.fault(
            "server",
            format!(
                "something else answers at {listen} (status {})",
                answer.status
            ),
            "stop that, or choose another port (server.listen)",
        ),
    }
    let said = ask_metrics(settings, report).await?;
    judge(&said, report);
    Some(said)
}

async fn ask_metrics(settings: &Settings, report: &mut Report) -> Option<Said> {
    let listen = &settings.server.metrics_listen;
    if listen.is_empty() {
        return None;
    }
    match probe_of(listen)?.get("/metrics", None, WITHIN).await {
        Ok(answer) if answer.status == 200 => Some(read(&answer.body)),
        Ok(answer) => {
            report.warning(
                "metrics",
                format!("{listen} answers {}", answer.status),
                "is that the server's (server.metrics_listen)?",
            );
            None
        }
        Err(why) => {
            report.warning(
                "metrics",
                format!("{listen}: {why}"),
                "is it the server's setting, too?",
            );
            None
        }
    }
}

fn judge(said: &Said, report: &mut Report) {
    let ours = env!("CARGO_PKG_VERSION");
    match &said.version {
        Some(version) if version == ours => {
            report.ok("version", format!("{ours}, as this program"))
        }
        Some(version) => report.warning(
            "version",
            format!("the server is {version}, this program {ours}"),
            "restart the server to have what is installed run",
        ),
        None => report.warning(
            "version",
            "the server does not say its version",
            "restart it",
        ),
    }
    if said.panics > 0 {
        report.warning(
            "panics",
            format!("{} tasks panicked since its start", said.panics),
            "a bug: please report what the log says under `a bug: panic`",
        );
    }
}

/// Asks under the address that clients use: through the proxy, if there is one. `token`: of a session, for what only
/// somebody who is logged in can try. `is_patient`: takes a minute more.
pub(super) async fn examine_public(
    url: &str,
    token: Option<&str>,
    is_patient: bool,
    report: &mut Report,
) {
    let probe = url.parse::<Address>().map_err(|error| error.to_string());
    let probe = probe.and_then(|address| Probe::new(address).map_err(|error| error.to_string()));
    let probe = match probe {
        Ok(probe) => probe,
        Err(why) => {
            return report.fault(
                "public",
                format!("server.public_url: {why}"),
                "mend the setting",
            );
        }
    };
    match probe.get("/readyz", None, WITHIN).await {
        Ok(answer) if answer.body.starts_with("ready") || answer.body.contains("draining") => {
            report.ok("public", format!("{url} reaches a server"));
        }
        Ok(answer) => {
            return report.fault(
                "public",
                format!("{url} does not reach a server (status {})", answer.status),
                "let the proxy pass every path to server.listen",
            );
        }
        Err(why) => {
            return report.fault(
                "public",
                format!("{url}: {why}"),
                "does the name lead to the proxy, is its certificate valid, does it run?",
            );
        }
    }
    match probe.websocket().await {
        Ok(()) => report.ok("websocket", "opens through the public address"),
        Err(why) => report.fault(
            "websocket",
            format!("does not open through the public address: {why}"),
            "let the proxy pass on the headers Upgrade and Connection (docs/operations/README.md, TLS)",
        ),
    }
    if let Some(token) = token {
        examine_waiting(&probe, token, is_patient, report).await;
    }
}

/// Event streams and polls: what a proxy must not keep back or cut off.
async fn examine_waiting(probe: &Probe, token: &str, is_patient: bool, report: &mut Report) {
    match probe.stream(token, WITHIN).await {
        Ok(()) => report.ok("streams", "events come at once"),
        Err(why) => report.fault(
            "streams",
            format!("events do not come through the public address: {why}"),
            "let the proxy keep no answers back (nginx: proxy_buffering off); is the token valid?",
        ),
    }
    if !is_patient {
        return;
    }
    match poll(probe, token).await {
        Ok(200) => report.ok("polls", format!("may wait {POLL_WAIT_S} s")),
        Ok(status) => report.fault(
            "polls",
            format!("one that waits {POLL_WAIT_S} s is answered {status}"),
            "let the proxy wait 75 s for an answer (nginx: proxy_read_timeout)",
        ),
        Err(why) => report.fault(
            "polls",
            format!("one that waits {POLL_WAIT_S} s is cut off: {why}"),
            "let the proxy wait 75 s for an answer (nginx: proxy_read_timeout)",
        ),
    }
}

/// Begins a polling session and waits in it: the status of the answer.
async fn poll(probe: &Probe, token: &str) -> Result<u16, String> {
    let begun = probe.get("/v1/events", Some(token), WITHIN).await?;
    let first: serde_json::Value = serde_json::from_str(&begun.body).unwrap_or_default();
    let (Some(session), Some(last)) = (first["session"].as_str(), first["last"].as_u64()) else {
        return Ok(begun.status);
    };
    let path = format!("/v1/events?session={session}&after={last}&wait={POLL_WAIT_S}");
    let answer = probe.get(&path, Some(token), POLL_WITHIN).await?;
    Ok(answer.status)
}

/// What a problem document says of it.
fn detail_of(body: &str) -> String {
    let problem = serde_json::from_str::<serde_json::Value>(body).unwrap_or_default();
    let detail = problem["detail"].as_str().or(problem["title"].as_str());
    detail.unwrap_or("it is shutting down").to_owned()
}

/// Whether somebody answers at the control socket of a data directory.
fn holds(data: &Path) -> bool {
    #[cfg(unix)]
    return std::os::unix::net::UnixStream::connect(data.join("control.sock")).is_ok();
    #[cfg(not(unix))]
    {
        let _ = data;
        false
    }
}

/// The server that listens at an address, asked from this machine.
fn probe_of(listen: &str) -> Option<Probe> {
    let address = match listen.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => {
            let here: IpAddr = match address.ip() {
                IpAddr::V4(_) => [127, 0, 0, 1].into(),
                IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            };
            SocketAddr::new(here, address.port()).to_string()
        }
        _ => listen.to_owned(),
    };
    Probe::new(format!("http://{address}").parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    #[test]
    fn what_the_metrics_say_is_read() {
        let metrics = crate::metrics::Metrics::default();
        metrics.is_in_cluster();
        metrics.clock_ahead_ms(-1_500);
        metrics.panicked();
        let said = read(&metrics.encode());
        assert_eq!(said.version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(said.clock_ahead_s, Some(-1.5));
        assert_eq!(said.panics, 1);
        #[cfg(target_os = "linux")]
        assert!(said.files_max.is_some_and(|max| max > 10), "{said:?}");
        assert_eq!(read("nothing"), Said::default());
    }

    #[test]
    fn another_version_and_panics_are_told() {
        let mut report = Report::default();
        let said = Said {
            version: Some("0.0.1".to_owned()),
            panics: 2,
            ..Said::default()
        };
        judge(&said, &mut report);
        assert_eq!(report.of("version"), Some(Verdict::Warning));
        assert_eq!(report.of("panics"), Some(Verdict::Warning));
    }

    #[tokio::test]
    async fn nobody_there_and_somebody_else_there_are_told_apart() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut settings = Settings::default();
        settings.server.listen = address.to_string();
        settings.server.data = "/nowhere".to_owned();
        let other = axum::Router::new().fallback(|| async { "something else" });
        let serving = tokio::spawn(async move { axum::serve(listener, other).await });
        let mut report = Report::default();
        examine(&settings, &mut report).await;
        assert_eq!(report.of("server"), Some(Verdict::Fault), "{report:?}");
        let mut report = Report::default();
        examine_public(&format!("http://{address}"), None, false, &mut report).await;
        assert_eq!(report.of("public"), Some(Verdict::Fault), "{report:?}");
        serving.abort();
        let _ = serving.await;
        let mut report = Report::default();
        assert_eq!(examine(&settings, &mut report).await, None);
        assert_eq!(report.of("server"), Some(Verdict::Warning), "{report:?}");
    }

    #[tokio::test]
    async fn a_server_that_takes_nobody_or_lacks_something_is_told() {
        use axum::http::StatusCode;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut settings = Settings::default();
        settings.server.listen = listener.local_addr().unwrap().to_string();
        settings.server.metrics_listen = String::new();
        settings.server.data = "/nowhere".to_owned();
        let unfit = r#"{"code": "draining", "title": "x", "detail": "clock: 9 s ahead"}"#;
        let answers = [
            (StatusCode::SERVICE_UNAVAILABLE, unfit),
            (StatusCode::OK, "ready\nnats: not connected\n"),
        ];
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let ready = move || {
            let time = asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::future::ready(answers[time.min(1)])
        };
        let router = axum::Router::new().route("/readyz", axum::routing::get(ready));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        for (verdict, why) in [
            (Verdict::Fault, "9 s ahead"),
            (Verdict::Warning, "not connected"),
        ] {
            let mut report = Report::default();
            examine(&settings, &mut report).await;
            assert_eq!(report.of("server"), Some(verdict), "{report:?}");
            assert!(report.text().contains(why), "{report:?}");
        }
        serving.abort();
    }

    /// As a proxy that was not told to: it passes on everything but the upgrade.
    #[tokio::test]
    async fn a_proxy_that_passes_on_no_upgrade_is_a_fault() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router =
            axum::Router::new().route("/readyz", axum::routing::get(|| async { "ready\n" }));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let mut report = Report::default();
        examine_public(&url, None, false, &mut report).await;
        assert_eq!(report.of("public"), Some(Verdict::Ok), "{report:?}");
        assert_eq!(report.of("websocket"), Some(Verdict::Fault), "{report:?}");
        serving.abort();
    }
}
