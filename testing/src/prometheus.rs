//! A real Prometheus for tests: it reads the metrics of servers, and answers queries and how its rules are.
//! `scripts/prometheus` fetches the program.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::http::Http;
use crate::process::{Process, free_port, last_lines, scratch_folder, tool};

/// How long something may take that takes a second or two.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How often metrics are read and rules are looked at: often, so that a test need not wait.
const INTERVAL: &str = "250ms";

/// Prometheus with the rules of this repository. Dropped, it is killed.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    folder: TempDir,
    process: Process,
}

/// The rules as they are shipped.
#[must_use]
pub fn rules_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus/tidings-alerts.yaml")
}

/// The rules as they are shipped, but that nothing need last: `for` is a second everywhere.
fn quick_rules() -> String {
    let rules = std::fs::read_to_string(rules_path()).unwrap();
    let lines = rules.lines().map(|line| match line.split_once("for: ") {
        Some((indent, _)) if indent.trim().is_empty() => format!("{indent}for: 1s\n"),
        _ => format!("{line}\n"),
    });
    lines.collect()
}

impl Prometheus {
    /// Starts it on servers whose metrics are at these ports, and waits until it has read each.
    pub async fn start(metrics_ports: &[u16]) -> Prometheus {
        let folder = scratch_folder("prometheus");
        std::fs::write(folder.path().join("rules.yaml"), quick_rules()).unwrap();
        let targets = metrics_ports
            .iter()
            .map(|port| format!("\"127.0.0.1:{port}\""));
        let targets = targets.collect::<Vec<_>>().join(", ");
        let config = format!(
            "global: {{scrape_interval: {INTERVAL}, scrape_timeout: {INTERVAL}, evaluation_interval: {INTERVAL}}}\n\
             rule_files: [rules.yaml]\n\
             scrape_configs:\n  - job_name: anything\n    static_configs: [{{targets: [{targets}]}}]\n"
        );
        let config_path = folder.path().join("prometheus.yml");
        std::fs::write(&config_path, config).unwrap();
        let port = free_port();
        let flag = |name: &str, value: &Path| -> OsString {
            [OsString::from(format!("--{name}=")), value.into()]
                .into_iter()
                .collect()
        };
        let arguments = [
            flag("config.file", &config_path),
            flag("storage.tsdb.path", &folder.path().join("data")),
            format!("--web.listen-address=127.0.0.1:{port}").into(),
            "--log.level=warn".into(),
        ];
        let output = folder.path().join("log");
        let process = Process::start(
            &[],
            &tool("prometheus").join("prometheus"),
            &arguments,
            &output,
        );
        let prometheus = Prometheus {
            port,
            folder,
            process,
        };
        let servers = metrics_ports.len();
        let all_up = format!("count(up == 1) == {servers}");
        prometheus
            .wait("every server to be read", async || {
                !prometheus
                    .try_query(&all_up)
                    .await
                    .unwrap_or_default()
                    .is_empty()
            })
            .await;
        prometheus
    }

    /// Its answer to a path of the API, with a form if there is one.
    async fn ask(&self, path: &str, form: &[(&str, &str)]) -> Result<Value, String> {
        let mut http = Http::new(self.port);
        let body: Vec<String> = form
            .iter()
            .map(|(name, value)| format!("{name}={}", percent(value)))
            .collect();
        let method = if form.is_empty() { "GET" } else { "POST" };
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let body = body.join("&");
        let asked = http.try_request(method, path, &headers, body.as_bytes());
        let response = asked.await.map_err(|error| error.to_string())?;
        let answer: Value = serde_json::from_slice(&response.body)
            .map_err(|error| format!("{error}: {}", response.text()))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].clone()),
            _ => Err(answer.to_string()),
        }
    }

    /// The series that an expression gives now, or what is wrong with it.
    ///
    /// # Errors
    /// What Prometheus says.
    pub async fn try_query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let data = self.ask("/api/v1/query", &[("query", expression)]).await?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// The names of all series that there are.
    pub async fn names(&self) -> Vec<String> {
        let data = self
            .ask("/api/v1/label/__name__/values", &[])
            .await
            .unwrap();
        let names = data.as_array().unwrap().iter();
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    }

    /// Every rule as Prometheus sees it: `name`, `query`, `health`, `state`, `lastError`.
    pub async fn rules(&self) -> Vec<Value> {
        let data = self.ask("/api/v1/rules", &[]).await.unwrap();
        let groups = data["groups"].as_array().unwrap().iter();
        groups
            .flat_map(|group| group["rules"].as_array().unwrap().clone())
            .collect()
    }

    /// Waits until an alert is `pending` or `firing`.
    pub async fn alert(&self, name: &str, state: &str) {
        self.wait(&format!("{name} to be {state}"), async || {
            let rules = self.rules().await;
            rules
                .iter()
                .any(|rule| rule["name"] == name && rule["state"] == state)
        })
        .await;
    }

    /// Waits until an expression gives something.
    pub async fn gives(&self, expression: &str) {
        self.wait(expression, async || {
            !self.try_query(expression).await.unwrap().is_empty()
        })
        .await;
    }

    async fn wait(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let until = Instant::now() + WAIT_MAX;
        while !is_so().await {
            if Instant::now() > until {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                let rules = self.rules().await;
                panic!(
                    "waited in vain for {what}\n{}\n{rules:#?}",
                    last_lines(&log.unwrap_or_default(), 20)
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The process's id.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.process.id()
    }
}

/// Runs `promtool` with these arguments: what it says.
///
/// # Panics
/// When it finds something.
#[must_use]
pub fn promtool(arguments: &[&Path]) -> String {
    let output = Command::new(tool("prometheus").join("promtool"))
        .args(arguments)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

/// A value as it stands in a form.
fn percent(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
