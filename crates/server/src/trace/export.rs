//! Spans on their way to a collector: OTLP over HTTP, in JSON. What cannot be told in time is dropped.

use std::time::Duration;

use tidings_terminal::{Address, InvalidAddress, Probe, TlsError};
use tokio::sync::mpsc;

use super::span::request;
use super::{Span, Told};

/// Spans that are told together …
const TOGETHER_MAX: usize = 512;
/// … and how long the first waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// How long the collector may take.
const WITHIN: Duration = Duration::from_secs(5);

/// The collector cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The address.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// This machine.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Tells spans to a collector.
#[derive(Debug)]
pub struct Exporter {
    collector: Probe,
    node: String,
    waiting: mpsc::Receiver<Told>,
    /// Whether the last try went well, so that a change is logged once.
    is_well: bool,
}

impl Exporter {
    pub(super) fn new(
        url: &str,
        node: &str,
        waiting: mpsc::Receiver<Told>,
    ) -> Result<Exporter, ExportError> {
        Ok(Exporter {
            collector: Probe::new(url.parse::<Address>()?)?,
            node: node.to_owned(),
            waiting,
            is_well: true,
        })
    }

    /// Runs for as long as there is a tracer.
    pub async fn run(mut self) {
        while let Some(first) = self.waiting.recv().await {
            let (mut spans, mut done) = (Vec::new(), None);
            let gathered = tokio::time::sleep(GATHER);
            tokio::pin!(gathered);
            let mut next = Some(first);
            loop {
                match next.take() {
                    Some(Told::Span(span)) => spans.push(span),
                    Some(Told::Flush(flushed)) => {
                        done = Some(flushed);
                        break;
                    }
                    None => break,
                }
                if spans.len() >= TOGETHER_MAX {
                    break;
                }
                tokio::select! {
                    told = self.waiting.recv() => next = told,
                    () = &mut gathered => {}
                }
            }
            if !spans.is_empty() {
                self.export(&spans).await;
            }
            if let Some(done) = done {
                // Whoever waited may have given up.
                let _ = done.send(());
            }
        }
    }

    async fn export(&mut self, spans: &[Span]) {
        let body = request(&self.node, spans).to_string().into_bytes();
        let why = match self.collector.post("/v1/traces", body, WITHIN).await {
            Ok(answer) if (200..300).contains(&answer.status) => None,
            Ok(answer) => Some(format!("status {}", answer.status)),
            Err(why) => Some(why),
        };
        let is_well = why.is_none();
        if std::mem::replace(&mut self.is_well, is_well) != is_well {
            match why {
                Some(why) => tracing::warn!(why, "traces are not taken (telemetry.otlp_url)"),
                None => tracing::info!("traces are taken again"),
            }
        }
    }
}
