//! `GET /v1/events/stream`: server-sent events (WHATWG HTML, section 9.2). An event's id is
//! `session:number`; `Last-Event-ID` resumes while the events after it are still kept, and otherwise a new
//! session begins, which its `welcome` tells.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tidings_protocol::session::Ping;
use tokio::time::Instant;

use super::App;
use super::dispatch::answer_pings;
use super::extract::Signed;
use super::poll::{open, plain_hello};
use super::polled::{Polled, Turn};
use super::problem::Answer;
use crate::metrics::Transport;
use crate::session::Caller;

/// Bytes of events that are kept for a stream that may be cut.
const KEPT_BYTES: usize = 256 * 1024;
/// Bytes that are taken from the queue at a time, about.
const CHUNK_BYTES: usize = 64 * 1024;
/// A comment is sent after so long without events, so that proxies keep the connection.
const COMMENT_EVERY: Duration = Duration::from_secs(15);

pub(super) async fn stream(
    State(app): State<Arc<App>>,
    signed: Signed,
    headers: HeaderMap,
) -> Answer {
    let last_id = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok());
    let resumed = last_id.and_then(|id| resume(&app, signed.caller, id));
    let (polled, sent) = match resumed {
        Some(resumed) => resumed,
        None => {
            let transport = Transport::ServerSentEvents;
            let hello = plain_hello();
            (
                open(&app, &headers, &Method::GET, hello, transport).await?,
                0,
            )
        }
    };
    Ok(respond(app, polled, sent))
}

fn resume(app: &App, caller: Caller, last_id: &str) -> Option<(Arc<Polled>, u64)> {
    let (name, number) = last_id.rsplit_once(':')?;
    let number = number.parse().ok()?;
    let polled = app.polled.find(name, caller).ok()?;
    polled.can_resume(number).then_some((polled, number))
}

fn respond(app: Arc<App>, polled: Arc<Polled>, sent: u64) -> Response {
    let stream_max = Duration::from_secs(app.settings.sessions.stream_s_max);
    let (chunks, receiver) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let writer = Writer {
            app,
            polled,
            sent,
            ends: Instant::now() + stream_max,
            chunks,
        };
        writer.run().await;
    });
    let body = Body::from_stream(stream::unfold(receiver, |mut receiver| async {
        let chunk: Bytes = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(chunk), receiver))
    }));
    let headers = [
        (header::CONTENT_TYPE.as_str(), "text/event-stream"),
        // Tells nginx not to gather the stream.
        ("x-accel-buffering", "no"),
    ];
    (headers, body).into_response()
}

/// Writes one stream until it ends.
struct Writer {
    app: Arc<App>,
    polled: Arc<Polled>,
    sent: u64,
    ends: Instant,
    chunks: tokio::sync::mpsc::Sender<Bytes>,
}

impl Writer {
    async fn run(mut self) {
        let polled = self.polled.clone();
        let turn = polled.begin_poll().await;
        let every = polled.live().heartbeat;
        let mut heartbeat = Instant::now() + every;
        if !self
            .send(&turn, Bytes::from_static(b"retry: 1000\n\n"))
            .await
        {
            return;
        }
        loop {
            let batch = polled.take(&self.app, self.sent, KEPT_BYTES + CHUNK_BYTES);
            if !batch.events.is_empty() {
                let chunk = self.format(batch.first, &batch.events);
                if !self.send(&turn, chunk).await {
                    return;
                }
                self.sent = batch.first - 1 + batch.events.len() as u64;
                polled.forget_beyond(self.sent, KEPT_BYTES);
                if batch.ended {
                    self.app.polled.end(polled.name());
                    return;
                }
                continue;
            }
            let now = Instant::now();
            if now >= self.ends {
                return;
            }
            if now >= heartbeat {
                heartbeat = now + every;
                // Nobody asked for the answer: by it the client notices what it lacks. What happens meanwhile is not held up.
                let (app, session) = (self.app.clone(), polled.session().clone());
                let unasked = [Ping { id: 0 }];
                tokio::spawn(async move { answer_pings(&app, &session, &unasked).await });
                continue;
            }
            let comment = now + COMMENT_EVERY;
            tokio::select! {
                ours = turn.wait(comment.min(heartbeat).min(self.ends)) => if !ours { return },
                () = self.chunks.closed() => return,
            }
            let comes = Instant::now() >= comment;
            if comes && !self.send(&turn, Bytes::from_static(b":\n\n")).await {
                return;
            }
        }
    }

    fn format(&self, first: u64, events: &[Bytes]) -> Bytes {
        let name = self.polled.name();
        let mut chunk = Vec::new();
        for (number, event) in (first..).zip(events) {
            chunk.extend_from_slice(format!("id: {name}:{number}\ndata: ").as_bytes());
            // JSON as we write it has no line breaks.
            chunk.extend_from_slice(event);
            chunk.extend_from_slice(b"\n\n");
        }
        chunk.into()
    }

    /// Waits until the client takes it, but not for ever: a stream that is stuck must not keep its
    /// successor waiting.
    async fn send(&self, turn: &Turn<'_>, chunk: Bytes) -> bool {
        tokio::select! {
            sent = self.chunks.send(chunk) => sent.is_ok(),
            () = turn.superseded() => false,
            () = tokio::time::sleep_until(self.ends) => false,
        }
    }
}
