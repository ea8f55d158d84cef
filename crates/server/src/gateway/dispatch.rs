//! The one table of requests. WebSocket, `POST /v1/call` and the addresses under `/v1/` all come here.

use std::sync::Arc;

use futures_util::FutureExt as _;
use tidings_protocol::mark::RaiseMarks;
use tidings_protocol::presence::{Users, UsersRequest, Watch};
use tidings_protocol::problem::ErrorFrame;
use tidings_protocol::send::{Send, Sent};
use tidings_protocol::session::{Done, Ping, Pong, PutPrivate};
use tidings_protocol::{ClientFrame, Code, Problem, ServerFrame};
use tokio::sync::oneshot;

use super::App;
use crate::chat::Reply;
use crate::session::{Caller, Session};

/// What a handler answers: a frame, nothing (to a notice, or because the answer goes through the session's
/// queue), or a problem.
type Answer = Result<Option<ServerFrame>, Problem>;

/// Handles one request that was let through (`App::admit`) and answers it. `session` is the asker's, if it
/// has one.
pub(super) async fn handle(
    app: &Arc<App>,
    caller: Caller,
    session: Option<&Arc<Session>>,
    frame: ClientFrame,
) -> Option<ServerFrame> {
    use ClientFrame as C;
    use ServerFrame as S;
    let id = frame.id();
    let is_send = matches!(frame, C::Send(_));
    let answer: Answer = match frame {
        C::Hello(_) => Err(Problem::new(Code::HelloExpected)),
        C::Ping(ask) => ping(app, session, ask),
        C::Send(ask) => send(app, caller, ask).await,
        C::Mark(ask) => mark(app, caller, None, &ask).await,
        C::Inbox(ask) => app.chat.inbox(caller, ask).await.map(S::Inbox).map(Some),
        C::Conversation(ask) => {
            let answer = app.chat.conversation(caller, ask).await;
            answer.map(Box::new).map(S::Conversation).map(Some)
        }
        C::History(ask) => app
            .chat
            .history(caller, ask)
            .await
            .map(S::History)
            .map(Some),
        C::Members(ask) => app
            .chat
            .members(caller, ask)
            .await
            .map(S::Members)
            .map(Some),
        C::Receipts(ask) => app
            .chat
            .receipts(caller, ask)
            .await
            .map(S::Receipts)
            .map(Some),
        C::Users(ask) => users(app, ask).await,
        C::Watch(ask) => watch(app, session, ask).await,
        C::Typing(ask) => app.chat.typing(caller, ask).await.map(|()| None),
        C::PutPrivate(ask) => put_private(app, caller, ask).await,
        C::Private(ask) => app
            .users
            .private(caller, ask)
            .await
            .map(S::Private)
            .map(Some),
        // What the sessions that may send these send is in the long form by now.
        C::Say(_) | C::Seen(_) => Err(Problem::new(Code::UnknownHandle)),
    };
    answer.unwrap_or_else(|problem| {
        // Those of sends are counted where they are decided.
        if !is_send {
            app.metrics.problem(problem.code);
        }
        Some(S::Error(ErrorFrame { id, problem }))
    })
}

/// Which frame answers which: for the descriptions that are served (`None`: no answer).
pub(super) const ANSWERS: &[(&str, Option<&str>)] = &[
    ("hello", Some("welcome")),
    ("ping", Some("pong")),
    ("send", Some("sent")),
    ("mark", Some("done")),
    ("inbox", Some("inbox")),
    ("conversation", Some("conversation")),
    ("history", Some("history")),
    ("members", Some("members")),
    ("receipts", Some("receipts")),
    ("users", Some("users")),
    ("watch", Some("done")),
    ("typing", None),
    ("put_private", Some("done")),
    ("private", Some("private")),
    ("say", Some("said")),
    ("seen", Some("done")),
];

/// Hands a send that was let through to its conversation, now; the answer will come through the session's
/// queue, in the short form if it was asked in that. Calls in one order are decided in that order.
pub(super) fn hand_over(app: &Arc<App>, session: &Arc<Session>, send: Send, is_short: bool) {
    session.send_taken();
    let id = send.id;
    let reply = match is_short {
        true => Reply::Short(session.clone(), id),
        false => Reply::Session(session.clone(), id),
    };
    app.chat.send(session.caller, send, reply);
}

/// A send without a session, which waits for its answer here.
async fn send(app: &Arc<App>, caller: Caller, send: Send) -> Answer {
    let id = send.id;
    let (reply, answer) = oneshot::channel();
    app.chat.send(caller, send, Reply::Once(reply));
    match answer.await {
        Ok(Ok(sent)) => Ok(Some(ServerFrame::Sent(Sent { id, ..sent }))),
        Ok(Err(problem)) => Err(problem),
        // It was dropped unanswered: whether it was done is not known, and a retry finds out.
        Err(_) => Err(Problem::new(Code::Internal)),
    }
}

/// The answer comes through the queue of events: who asks with a call has its next call not held up by it.
fn ping(app: &Arc<App>, session: Option<&Arc<Session>>, ping: Ping) -> Answer {
    let session = session.ok_or_else(needs_session)?;
    let (app, session) = (app.clone(), session.clone());
    tokio::spawn(async move { answer_pings(&app, &session, &[ping]).await });
    Ok(None)
}

/// Answers heartbeats. The digest belongs to what was queued before it, so the answers go through the queue too.
pub(super) async fn answer_pings(app: &App, session: &Arc<Session>, pings: &[Ping]) {
    // Whoever says so is there, whatever the store says.
    app.presence.heartbeat(session);
    app.refresh(session.caller.user).await;
    if let Some(user) = app.hub.user(session.caller.user) {
        for ping in pings {
            let id = ping.id;
            user.push_digest(session, |digest| ServerFrame::Pong(Pong { id, digest }));
        }
    }
}

/// Raises marks if that can be done without waiting for anything, as it mostly can. `None` if it cannot:
/// then the request is handled like any other, and what was raised already does no harm. (It does not wait
/// between raising a mark in memory and handing it to the store, as long as the store takes late marks without
/// waiting: otherwise the store would miss those of an attempt that was given up.)
pub(super) fn mark_at_once(
    app: &Arc<App>,
    caller: Caller,
    knows: Option<u64>,
    ask: &RaiseMarks,
) -> Option<Option<ServerFrame>> {
    let marking = std::pin::pin!(mark(app, caller, knows, ask));
    let answer = marking.now_or_never()?;
    Some(answer.unwrap_or_else(|problem| {
        app.metrics.problem(problem.code);
        let id = ask.id;
        Some(ServerFrame::Error(ErrorFrame { id, problem }))
    }))
}

async fn mark(app: &Arc<App>, caller: Caller, knows: Option<u64>, ask: &RaiseMarks) -> Answer {
    let max = app.settings.chat.marks_per_frame_max;
    if ask.marks.len() > max {
        return Err(Problem::too_much("marks_per_frame_max", max as u64));
    }
    app.chat.mark(caller, knows, &ask.marks).await?;
    Ok(done(ask.id))
}

async fn users(app: &App, ask: UsersRequest) -> Answer {
    let max = app.settings.limits.profiles_per_request_max;
    if ask.users.len() + ask.usernames.len() > max {
        return Err(Problem::too_much("profiles_per_request_max", max as u64));
    }
    let users = app.users.profiles(&ask.users, &ask.usernames).await?;
    Ok(Some(ServerFrame::Users(Users { id: ask.id, users })))
}

async fn watch(app: &Arc<App>, session: Option<&Arc<Session>>, ask: Watch) -> Answer {
    let session = session.ok_or_else(needs_session)?;
    app.chat
        .watch_conversation(session, ask.conversation)
        .await?;
    app.presence.watch(session, ask.users).await?;
    Ok(done(ask.id))
}

async fn put_private(app: &App, caller: Caller, ask: PutPrivate) -> Answer {
    let id = ask.id;
    app.users.put_private(caller, ask).await?;
    Ok(done(Some(id)))
}

fn done(id: Option<u64>) -> Option<ServerFrame> {
    id.map(|id| ServerFrame::Done(Done { id }))
}

fn needs_session() -> Problem {
    Problem::new(Code::Invalid).detail("this request belongs to a session")
}
