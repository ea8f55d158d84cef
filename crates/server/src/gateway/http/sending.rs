//! Sending over HTTP. The same `client_id` (or `Idempotency-Key`) in a retry never makes a second entry;
//! without one the server makes an id, and a script that tries again after a lost answer may say it twice.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;
use tidings_core::{ClientId, ConversationId, UserId};
use tidings_protocol::blob::Blob;
use tidings_protocol::entry::{Content, Settings};
use tidings_protocol::send::{
    Action, CreateAction, JoinAction, MessageAction, NoDetail, Position, Send,
};
use tidings_protocol::{ClientFrame, Code, Problem};

use super::ask;
use crate::clock::random;
use crate::gateway::App;
use crate::gateway::extract::{Asker, Json, Path};
use crate::gateway::problem::Answer;

/// What to send: `{"text": "hello"}`, or any action.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(in crate::gateway) struct SendBody {
    /// A message that is only text.
    text: Option<String>,
    /// Instead of `text`: any action.
    action: Option<Action>,
    /// The sender's own id for it, a UUIDv7, the same in every retry: then a retry never makes a second
    /// entry, whatever became of the answer to the first. Without it (and without an `Idempotency-Key`)
    /// the server makes one, and only the first try is safe.
    client_id: Option<ClientId>,
    /// As far as this device had seen the conversation when it first tried.
    after: Option<Position>,
    /// Only in this encryption epoch.
    if_epoch: Option<u64>,
    /// Nothing that this device still wants to send in this conversation comes before this one.
    first: bool,
}

/// A new group.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(in crate::gateway) struct GroupBody {
    /// The others that are in it from the start.
    users: Vec<UserId>,
    /// Name, policies, retention.
    settings: Settings,
    /// As for a message: with it a retry never makes a second group.
    client_id: Option<ClientId>,
}

/// The invite link.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(in crate::gateway) struct JoinBody {
    /// The link's secret, 16 bytes.
    link: Blob,
    /// As for a message.
    client_id: Option<ClientId>,
}

/// Going.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(in crate::gateway) struct LeaveBody {
    /// As for a message.
    client_id: Option<ClientId>,
}

pub(in crate::gateway) async fn to_conversation(
    State(app): State<Arc<App>>,
    asker: Asker,
    Path(conversation): Path<ConversationId>,
    headers: HeaderMap,
    Json(body): Json<SendBody>,
) -> Answer {
    let send = wish(&app, &headers, body, |send| Send {
        conversation: Some(conversation),
        ..send
    })?;
    ask(&app, asker, ClientFrame::Send(send)).await
}

pub(in crate::gateway) async fn to_user(
    State(app): State<Arc<App>>,
    asker: Asker,
    Path(user): Path<String>,
    headers: HeaderMap,
    Json(body): Json<SendBody>,
) -> Answer {
    let user = match user.strip_prefix('@') {
        Some(username) => app.users.user_called(username).await?,
        None => user.parse().ok(),
    };
    let user = user.ok_or_else(|| Problem::new(Code::NotFound).detail("no such user"))?;
    let send = wish(&app, &headers, body, |send| Send {
        to: Some(user),
        ..send
    })?;
    ask(&app, asker, ClientFrame::Send(send)).await
}

pub(in crate::gateway) async fn create_group(
    State(app): State<Arc<App>>,
    asker: Asker,
    headers: HeaderMap,
    Json(body): Json<GroupBody>,
) -> Answer {
    let action = Action::Create(CreateAction {
        users: body.users,
        settings: body.settings,
        kind: None,
    });
    let client_id = client_id(&app, &headers, body.client_id);
    ask(&app, asker, ClientFrame::Send(plain(client_id, action))).await
}

pub(in crate::gateway) async fn join(
    State(app): State<Arc<App>>,
    asker: Asker,
    Path(conversation): Path<ConversationId>,
    headers: HeaderMap,
    Json(body): Json<JoinBody>,
) -> Answer {
    let action = Action::Join(JoinAction { link: body.link });
    let client_id = client_id(&app, &headers, body.client_id);
    let send = Send {
        conversation: Some(conversation),
        ..plain(client_id, action)
    };
    ask(&app, asker, ClientFrame::Send(send)).await
}

pub(in crate::gateway) async fn leave(
    State(app): State<Arc<App>>,
    asker: Asker,
    Path(conversation): Path<ConversationId>,
    headers: HeaderMap,
    Json(body): Json<LeaveBody>,
) -> Answer {
    let client_id = client_id(&app, &headers, body.client_id);
    let send = Send {
        conversation: Some(conversation),
        ..plain(client_id, Action::Leave(NoDetail {}))
    };
    ask(&app, asker, ClientFrame::Send(send)).await
}

fn wish(
    app: &App,
    headers: &HeaderMap,
    body: SendBody,
    place: impl FnOnce(Send) -> Send,
) -> Result<Send, Problem> {
    let action = match (body.text, body.action) {
        (Some(text), None) => Action::Message(MessageAction {
            content: Content {
                text,
                ..Content::default()
            },
            ..MessageAction::default()
        }),
        (None, Some(action)) => action,
        _ => return Err(Problem::new(Code::Invalid).detail("exactly one of text and action")),
    };
    let client_id = client_id(app, headers, body.client_id);
    Ok(place(Send {
        after: body.after,
        if_epoch: body.if_epoch,
        first: body.first,
        ..plain(client_id, action)
    }))
}

fn plain(client_id: ClientId, action: Action) -> Send {
    Send {
        id: 0,
        conversation: None,
        to: None,
        client_id,
        after: None,
        if_epoch: None,
        action,
        first: false,
    }
}

/// The client id of the body, else of the header, else a new one. A header that is no UUID stands for the
/// id that its hash makes.
fn client_id(app: &App, headers: &HeaderMap, of_body: Option<ClientId>) -> ClientId {
    if let Some(client_id) = of_body {
        return client_id;
    }
    let Some(key) = headers.get("idempotency-key") else {
        return ClientId::new(app.clock.now(), random());
    };
    // The draft standard has it as a quoted string.
    let key = key.as_bytes();
    let key = key
        .strip_prefix(b"\"")
        .and_then(|key| key.strip_suffix(b"\""))
        .unwrap_or(key);
    if let Some(client_id) = std::str::from_utf8(key)
        .ok()
        .and_then(|key| key.parse().ok())
    {
        return client_id;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"tidings idempotency key").update(key);
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    ClientId(id)
}
