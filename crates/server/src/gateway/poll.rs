//! `GET /v1/events`: long polling. The first poll opens a session; each further one names it, confirms what
//! came with the one before, and waits for more. Polling raises no marks: that is said in so many words
//! (`POST /v1/marks`).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use tidings_protocol::session::Hello;
use tidings_protocol::{Code, Encoding, Problem};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::extract::{Json, Query, Signed};
use super::live::Live;
use super::polled::{Batch, Polled};
use super::problem::Answer;
use super::{App, credentials};
use crate::metrics::Transport;

/// How to wait for events.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct PollQuery {
    /// The session, as the first answer named it; absent in the first poll.
    session: Option<String>,
    /// The number of the last event that you have: it and those before are not sent again. Repeat a poll
    /// whose answer was lost with the same number.
    after: u64,
    /// How many seconds to wait if there is nothing yet.
    wait: u64,
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    signed: Signed,
    headers: HeaderMap,
    Query(query): Query<PollQuery>,
) -> Answer {
    let settings = &app.settings.sessions;
    let Some(name) = query.session else {
        return begin(&app, &headers, &Method::GET, plain_hello()).await;
    };
    let polled = app.polled.find(&name, signed.caller)?;
    let wait = Duration::from_secs(query.wait.min(settings.poll_wait_s_max));
    let until = Instant::now() + wait;
    let turn = polled.begin_poll().await;
    polled.confirm(query.after)?;
    // What waits already is not held up by it.
    let mut looking = app.look(signed.caller.user);
    loop {
        let batch = polled.take(&app, query.after, settings.poll_answer_bytes_max);
        if batch.ended {
            app.polled.end(polled.name());
        }
        let now = Instant::now();
        if !batch.events.is_empty() || (looking.is_none() && now >= until) {
            return Ok(answer(&polled, &batch));
        }
        // Who waits is there.
        let heartbeat = now + polled.live().heartbeat;
        let until = if looking.is_some() {
            heartbeat
        } else {
            until.min(heartbeat)
        };
        let is_ours = tokio::select! {
            is_ours = turn.wait(until) => is_ours,
            () = looked(&mut looking) => {
                looking = None;
                true
            }
        };
        if !is_ours {
            return Err(Problem::new(Code::Replaced)
                .detail("a newer poll of this session has taken over")
                .into());
        }
        if Instant::now() >= heartbeat {
            polled.live().heartbeat();
        }
    }
}

/// Until the inbox has been looked at; never, if it was.
async fn looked(looking: &mut Option<JoinHandle<()>>) {
    match looking {
        // One that panicked looked as far as it could.
        Some(looking) => drop(looking.await),
        None => std::future::pending().await,
    }
}

pub(super) async fn post(
    State(app): State<Arc<App>>,
    _signed: Signed,
    headers: HeaderMap,
    Json(hello): Json<Hello>,
) -> Answer {
    begin(&app, &headers, &Method::POST, hello).await
}

async fn begin(app: &Arc<App>, headers: &HeaderMap, method: &Method, hello: Hello) -> Answer {
    let polled = open(app, headers, method, hello, Transport::LongPolling).await?;
    let batch = polled.take(app, 0, app.settings.sessions.poll_answer_bytes_max);
    Ok(answer(&polled, &batch))
}

/// Opens a session that is polled or streamed.
pub(super) async fn open(
    app: &Arc<App>,
    headers: &HeaderMap,
    method: &Method,
    hello: Hello,
    transport: Transport,
) -> Result<Arc<Polled>, Problem> {
    let token = credentials::token_of(&app.settings, headers, method)?;
    let live = Live::open(app, token, hello, Encoding::Json, transport).await?;
    Ok(app.polled.begin(app, live))
}

/// The hello of who says none.
pub(super) fn plain_hello() -> Hello {
    Hello {
        id: 0,
        token: None,
        client: String::new(),
        rules: 0,
        marks: Vec::new(),
        heartbeat_ms: None,
        short: false,
    }
}

/// [`super::polled::PollAnswer`], from events that are JSON already.
fn answer(polled: &Polled, batch: &Batch) -> Response {
    let events: usize = batch.events.iter().map(|event| event.len() + 1).sum();
    let mut body = String::with_capacity(events + 128).into_bytes();
    let last = batch.first - 1 + batch.events.len() as u64;
    body.extend_from_slice(
        format!(
            r#"{{"session":"{}","first":{},"events":["#,
            polled.name(),
            batch.first
        )
        .as_bytes(),
    );
    for (index, event) in batch.events.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(event);
    }
    body.extend_from_slice(format!(r#"],"last":{last}"#).as_bytes());
    if let Some(digest) = batch.digest {
        body.extend_from_slice(format!(r#","digest":{digest}"#).as_bytes());
    }
    body.push(b'}');
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
