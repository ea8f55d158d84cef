//! A connection by long polling: `POST /v1/events` opens a session, `GET /v1/events` waits for its events,
//! `POST /v1/call` carries requests, one after the other. A poll whose answer was lost is repeated with the
//! same number; a call whose answer was lost ends the connection, for nobody knows what became of it.

use std::time::Duration;

use serde::Deserialize;
use tidings_protocol::session::{Hello, Pong};
use tidings_protocol::{ClientFrame, Encoding, ServerFrame};
use tokio::sync::mpsc;

use super::{Ends, Lost, answers, read_strictly};
use crate::http::{Http, Response};

/// How often a poll is repeated before the connection counts as lost.
const TRIES_MAX: u32 = 5;
/// How long a poll may take beyond the time that it asked the server to wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
struct PollAnswer {
    session: String,
    first: u64,
    events: Vec<serde_json::Value>,
    last: u64,
    digest: Option<u64>,
}

fn cut(error: impl std::fmt::Display) -> Lost {
    Lost::Cut(error.to_string())
}

/// Carries frames until the connection ends.
pub(super) async fn run(port: u16, token: String, hello: Hello, ends: Ends) {
    let incoming = ends.incoming.clone();
    if let Err(lost) = carry(port, &token, hello, ends).await {
        let _ = incoming.send(Err(lost)).await;
    }
}

async fn carry(port: u16, token: &str, hello: Hello, ends: Ends) -> Result<(), Lost> {
    let Ends { out, incoming } = ends;
    let mut events = Http::with_token(port, token);
    let body = Encoding::Json.encode(&hello).map_err(cut)?;
    let opened = events.try_request("POST", "/v1/events", &[], &body);
    let opened = tokio::time::timeout(ANSWER_WITHIN, opened)
        .await
        .map_err(cut)?
        .map_err(cut)?;
    let answer = read(&opened)?;
    let session = answer.session.clone();
    let after = pass_on(&answer, 0, &incoming).await?;
    let calls = Http::with_token(port, token);
    tokio::select! {
        ended = poll(events, &session, after, &incoming) => ended,
        ended = call(calls, &session, out, &incoming) => ended,
    }
}

fn read(response: &Response) -> Result<PollAnswer, Lost> {
    response.json().map_err(Lost::Refused)
}

/// Hands the events on, each once. Answers the number of the last.
async fn pass_on(
    answer: &PollAnswer,
    after: u64,
    incoming: &mpsc::Sender<Result<ServerFrame, Lost>>,
) -> Result<u64, Lost> {
    let count = answer.events.len() as u64;
    if answer.first != after + 1 || answer.last != after + count {
        return Err(cut(format!(
            "asked for events after {after}, got {} of {} to {}",
            count, answer.first, answer.last
        )));
    }
    for event in &answer.events {
        let bytes = serde_json::to_vec(event).map_err(cut)?;
        let frame = read_strictly(Encoding::Json, &bytes)?;
        incoming.send(Ok(frame)).await.map_err(cut)?;
    }
    if let Some(digest) = answer.digest {
        // The same as the answer to a heartbeat, though nobody asked.
        let pong = ServerFrame::Pong(Pong { id: 0, digest });
        incoming.send(Ok(pong)).await.map_err(cut)?;
    }
    Ok(answer.last)
}

async fn poll(
    mut events: Http,
    session: &str,
    mut after: u64,
    incoming: &mpsc::Sender<Result<ServerFrame, Lost>>,
) -> Result<(), Lost> {
    let mut tries = 0;
    loop {
        let path = format!("/v1/events?session={session}&after={after}&wait=2");
        let asked = events.try_request("GET", &path, &[], b"");
        let within = Duration::from_secs(2) + ANSWER_WITHIN;
        match tokio::time::timeout(within, asked).await {
            Ok(Ok(response)) => {
                if let Some(wait_ms) = response.problem().and_then(|one| one.retry_after_ms) {
                    tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                    continue;
                }
                tries = 0;
                after = pass_on(&read(&response)?, after, incoming).await?;
            }
            lost => {
                tries += 1;
                if tries >= TRIES_MAX {
                    return Err(cut(format!("polling fails: {lost:?}")));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

async fn call(
    mut calls: Http,
    session: &str,
    mut out: mpsc::Receiver<ClientFrame>,
    incoming: &mpsc::Sender<Result<ServerFrame, Lost>>,
) -> Result<(), Lost> {
    let path = format!("/v1/call?session={session}");
    while let Some(frame) = out.recv().await {
        let body = Encoding::Json.encode(&frame).map_err(cut)?;
        let asked = calls.try_request("POST", &path, &[], &body);
        let response = tokio::time::timeout(super::PATIENCE, asked)
            .await
            .map_err(cut)?
            .map_err(cut)?;
        if response.status == 204 {
            continue;
        }
        if let Some(problem) = response.problem() {
            return Err(Lost::Refused(problem));
        }
        let answer = read_strictly(Encoding::Json, &response.body)?;
        if answers(&answer).is_some() && answers(&answer) != frame.id() {
            return Err(cut(format!("{frame:?} was answered by {answer:?}")));
        }
        incoming.send(Ok(answer)).await.map_err(cut)?;
    }
    Ok(())
}
