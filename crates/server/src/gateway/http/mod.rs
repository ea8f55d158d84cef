//! The addresses under `/v1/`, for scripts, bots and whoever likes HTTP: each makes a frame and lets the
//! dispatch table answer it, or asks the accounts.

pub(super) mod about;
pub(super) mod account;
pub(super) mod call;
pub(super) mod conversation;
pub(super) mod people;
pub(super) mod sending;

use std::sync::Arc;

use axum::response::Response;
use tidings_protocol::{ClientFrame, ServerFrame};

use super::admit::Refusal;
use super::extract::Asker;
use super::problem::{Answer, Failure, created, done, json};
use super::{App, dispatch};

/// Lets the dispatch table answer, and answers with the frame's content.
async fn ask(app: &Arc<App>, asker: Asker, frame: ClientFrame) -> Answer {
    app.admit(asker.caller, asker.address, &frame)
        .map_err(Refusal::into_problem)?;
    match dispatch::handle(app, asker.caller, None, frame).await {
        Some(ServerFrame::Error(error)) => Err(Failure::counted(error.problem)),
        Some(frame) => Ok(content(frame)),
        None => Ok(done()),
    }
}

fn content(frame: ServerFrame) -> Response {
    match frame {
        ServerFrame::Sent(content) => created(content),
        ServerFrame::Done(_) => done(),
        ServerFrame::Inbox(content) => json(content),
        ServerFrame::Conversation(content) => json(content.conversation),
        ServerFrame::History(content) => json(content),
        ServerFrame::Members(content) => json(content),
        ServerFrame::Receipts(content) => json(content),
        ServerFrame::Users(content) => json(content),
        ServerFrame::Private(content) => json(content),
        other => json(other),
    }
}
