//! A collector of traces: takes OTLP over HTTP in JSON, as OpenTelemetry's do, and keeps what it was told.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Spans come half a second after they were done.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Takes spans for as long as it is there.
#[derive(Debug)]
pub struct Collector {
    port: u16,
    told: Arc<Mutex<Vec<Span>>>,
    listening: tokio::task::JoinHandle<()>,
}

/// A span as it was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Which server told it.
    pub node: String,
    /// The trace, in hexadecimal digits.
    pub trace: String,
    /// Itself.
    pub id: String,
    /// Of what it is a step; may be empty.
    pub parent: String,
    /// What was done.
    pub name: String,
    /// When it began and ended, in nanoseconds.
    pub times: (u64, u64),
    /// The whole of it.
    pub json: Value,
}

impl Collector {
    /// A collector on a free port.
    pub async fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let told = Arc::<Mutex<Vec<Span>>>::default();
        let keeps = told.clone();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let keeps = keeps.clone();
                tokio::spawn(async move {
                    if let Some(request) = take(stream).await {
                        keeps.lock().unwrap().extend(spans_of(&request));
                    }
                });
            }
        });
        Collector {
            port,
            told,
            listening,
        }
    }

    /// Its address, as a TOML value.
    #[must_use]
    pub fn url(&self) -> String {
        format!("\"http://127.0.0.1:{}\"", self.port)
    }

    /// Everything that was told.
    #[must_use]
    pub fn told(&self) -> Vec<Span> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until the spans of a trace are as wanted.
    pub async fn trace(&self, trace: &str, is_whole: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let until = Instant::now() + WAIT_MAX;
        loop {
            let mut spans = self.told();
            spans.retain(|span| span.trace == trace);
            if is_whole(&spans) {
                return spans;
            }
            assert!(Instant::now() < until, "waited in vain: {spans:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Takes one request, which must be as OTLP has them, and answers it.
async fn take(stream: TcpStream) -> Option<Value> {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    assert_eq!(head.first()?, "post /v1/traces http/1.1");
    assert!(
        head.contains(&"content-type: application/json".to_owned()),
        "{head:?}"
    );
    let length = head
        .iter()
        .find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    stream.read_exact(&mut body).await.ok()?;
    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
    stream.get_mut().write_all(answer).await.ok()?;
    Some(serde_json::from_slice(&body).unwrap())
}

fn spans_of(request: &Value) -> Vec<Span> {
    let mut spans = Vec::new();
    for resource in request["resourceSpans"].as_array().unwrap() {
        let node = resource["resource"]["attributes"]
            .as_array()
            .unwrap()
            .iter()
            .find(|attribute| attribute["key"] == "service.instance.id");
        let node = node.unwrap()["value"]["stringValue"].as_str().unwrap();
        for scope in resource["scopeSpans"].as_array().unwrap() {
            for span in scope["spans"].as_array().unwrap() {
                let text = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
                let time = |name: &str| text(name).parse().unwrap();
                spans.push(Span {
                    node: node.to_owned(),
                    trace: text("traceId"),
                    id: text("spanId"),
                    parent: text("parentSpanId"),
                    name: text("name"),
                    times: (time("startTimeUnixNano"), time("endTimeUnixNano")),
                    json: span.clone(),
                });
            }
        }
    }
    spans
}
