//! Whether the collector of traces takes them.

use std::time::Duration;

use tidings_terminal::{Address, Probe};

use super::report::Report;
use crate::config::TelemetrySettings;

const WITHIN: Duration = Duration::from_secs(5);
/// An `ExportTraceServiceRequest` without a span.
const NOTHING: &[u8] = br#"{"resourceSpans": []}"#;

/// Tells the collector nothing, and sees whether it takes that.
pub(super) async fn examine(settings: &TelemetrySettings, report: &mut Report) {
    let url = &settings.otlp_url;
    let probe = url.parse::<Address>().map_err(|error| error.to_string());
    let probe = probe.and_then(|address| Probe::new(address).map_err(|error| error.to_string()));
    let probe = match probe {
        Ok(probe) => probe,
        Err(why) => {
            let what = format!("telemetry.otlp_url: {why}");
            return report.fault("traces", what, "mend it: the server does not start with it");
        }
    };
    let advice =
        "is it the address of OTLP over HTTP (port 4318, not 4317), and does the collector run?";
    match probe.post("/v1/traces", NOTHING.to_vec(), WITHIN).await {
        Ok(answer) if (200..300).contains(&answer.status) => {
            report.ok("traces", format!("are taken at {url}"));
        }
        Ok(answer) => {
            let what = format!("{url} answers {}", answer.status);
            report.warning("traces", what, advice);
        }
        Err(why) => report.warning("traces", format!("{url}: {why}"), advice),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Verdict;
    use super::*;

    async fn verdict(otlp_url: String) -> Option<Verdict> {
        let mut report = Report::default();
        let settings = TelemetrySettings {
            otlp_url,
            ..TelemetrySettings::default()
        };
        examine(&settings, &mut report).await;
        report.of("traces")
    }

    #[tokio::test]
    async fn a_collector_that_takes_traces_and_what_is_none_are_told_apart() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let take = axum::routing::post(|| async { "{}" });
        let router = axum::Router::new().route("/v1/traces", take);
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        assert_eq!(
            verdict(format!("http://{address}")).await,
            Some(Verdict::Ok)
        );
        assert_eq!(
            verdict(format!("http://{address}/elsewhere")).await,
            Some(Verdict::Warning)
        );
        serving.abort();
        let _ = serving.await;
        assert_eq!(
            verdict(format!("http://{address}")).await,
            Some(Verdict::Warning)
        );
        assert_eq!(verdict("ftp://x".to_owned()).await, Some(Verdict::Fault));
    }
}
