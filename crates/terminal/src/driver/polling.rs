//! Frames over plain HTTP, where a network lets no WebSocket through: requests by `POST /v1/call`, events by
//! long polling of `GET /v1/events`.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use serde::Deserialize;
use tidings_protocol::problem::ErrorFrame;
use tidings_protocol::session::Hello;
use tidings_protocol::{ClientFrame, Encoding, ServerFrame};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::connection::{Closed, ConnectionEvent, Events};
use super::http::{Http, HttpAnswer};
use super::stream::Network;

/// How long the server is asked to wait for events.
const WAIT_S: u64 = 30;
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A poll whose answer was lost is repeated so often.
const POLL_TRIES_MAX: u32 = 3;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The answer to a poll. Its events are read one by one: one of a kind that this version does not know is
/// passed over.
#[derive(Deserialize)]
struct PollAnswer {
    session: String,
    events: Vec<serde_json::Value>,
    last: u64,
}

/// Whether the server can be reached by HTTP.
pub(crate) async fn is_reachable(network: &Arc<Network>) -> Result<(), String> {
    let mut http = Http::new(network.clone(), None);
    match http
        .request(Method::GET, "/readyz", Vec::new(), ANSWER_WITHIN)
        .await
    {
        Ok(answer) if answer.status.is_success() => Ok(()),
        Ok(answer) => Err(format!("the server says {}", answer.status)),
        Err(error) => Err(error.to_string()),
    }
}

/// Ends the polling with the connection it belongs to.
struct Poller(JoinHandle<Closed>);

impl Drop for Poller {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Carries frames both ways until one side has had enough. Requests go one after the other, in order.
pub(crate) async fn run(
    network: Arc<Network>,
    token: Option<String>,
    frames: &mut mpsc::Receiver<ClientFrame>,
    events: &Events,
) -> Closed {
    let mut http = Http::new(network.clone(), token.clone());
    let mut poller: Option<(String, Poller)> = None;
    loop {
        let frame = tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => frame,
                None => return Closed::ByUs,
            },
            closed = ended(&mut poller) => return closed,
        };
        let done = match (&poller, frame) {
            (None, ClientFrame::Hello(hello)) => match begin(&mut http, hello, events).await {
                Ok(Some((session, last))) => {
                    let http = Http::new(network.clone(), token.clone());
                    let polling = tokio::spawn(poll(http, session.clone(), last, events.clone()));
                    poller = Some((session, Poller(polling)));
                    Ok(())
                }
                Ok(None) => Ok(()),
                Err(closed) => Err(closed),
            },
            (Some((session, _)), frame) => call(&mut http, session, &frame, events).await,
            // Nothing goes before `hello`.
            (None, _) => Ok(()),
        };
        if let Err(closed) = done {
            return closed;
        }
    }
}

async fn ended(poller: &mut Option<(String, Poller)>) -> Closed {
    match poller {
        Some((_, Poller(task))) => task.await.unwrap_or(Closed::ByUs),
        None => std::future::pending().await,
    }
}

/// `hello`: answered by a session, or by a problem that the client is told.
async fn begin(
    http: &mut Http,
    mut hello: Hello,
    events: &Events,
) -> Result<Option<(String, u64)>, Closed> {
    // It stands in the header.
    hello.token = None;
    let body = serde_json::to_vec(&hello).map_err(|error| Closed::Because(error.to_string()))?;
    let answer = request(http, Method::POST, "/v1/events", body).await?;
    if let Some(problem) = answer.problem() {
        let error = ServerFrame::Error(ErrorFrame {
            id: Some(hello.id),
            problem,
        });
        return pass(events, error).await.map(|()| None);
    }
    let answer = read(&answer)?;
    let (session, last) = (answer.session.clone(), answer.last);
    pass_all(events, answer).await?;
    Ok(Some((session, last)))
}

async fn call(
    http: &mut Http,
    session: &str,
    frame: &ClientFrame,
    events: &Events,
) -> Result<(), Closed> {
    let path = format!("/v1/call?session={session}");
    let body = Encoding::Json
        .encode(frame)
        .map_err(|error| Closed::Because(error.to_string()))?;
    let answer = request(http, Method::POST, &path, body).await?;
    if answer.body.is_empty() {
        return Ok(());
    }
    match (serde_json::from_slice(&answer.body), answer.problem()) {
        (Ok(frame), _) => pass(events, frame).await,
        (Err(_), Some(problem)) => {
            pass(
                events,
                ServerFrame::Error(ErrorFrame {
                    id: frame.id(),
                    problem,
                }),
            )
            .await
        }
        // An answer of a kind that this version does not know.
        (Err(_), None) => Ok(()),
    }
}

async fn poll(mut http: Http, session: String, mut last: u64, events: Events) -> Closed {
    let mut tries = 0;
    loop {
        let path = format!("/v1/events?session={session}&after={last}&wait={WAIT_S}");
        let within = ANSWER_WITHIN + Duration::from_secs(WAIT_S);
        match http.request(Method::GET, &path, Vec::new(), within).await {
            Ok(answer) => {
                if let Some(problem) = answer.problem() {
                    return Closed::Because(problem.title.into_owned());
                }
                let answer = match read(&answer) {
                    Ok(answer) => answer,
                    Err(closed) => return closed,
                };
                tries = 0;
                last = answer.last;
                if let Err(closed) = pass_all(&events, answer).await {
                    return closed;
                }
            }
            Err(error) => {
                tries += 1;
                if tries == POLL_TRIES_MAX {
                    return Closed::Because(error.to_string());
                }
                tokio::time::sleep(TRY_AGAIN_AFTER).await;
            }
        }
    }
}

async fn request(
    http: &mut Http,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<HttpAnswer, Closed> {
    http.request(method, path, body, ANSWER_WITHIN)
        .await
        .map_err(|error| Closed::Because(error.to_string()))
}

fn read(answer: &HttpAnswer) -> Result<PollAnswer, Closed> {
    serde_json::from_slice(&answer.body)
        .map_err(|error| Closed::Because(format!("not an answer to a poll: {error}")))
}

async fn pass_all(events: &Events, answer: PollAnswer) -> Result<(), Closed> {
    for event in answer.events {
        if let Ok(frame) = serde_json::from_value(event) {
            pass(events, frame).await?;
        }
    }
    Ok(())
}

async fn pass(events: &Events, frame: ServerFrame) -> Result<(), Closed> {
    if events.send(ConnectionEvent::Frame(frame)).await {
        Ok(())
    } else {
        Err(Closed::ByUs)
    }
}
