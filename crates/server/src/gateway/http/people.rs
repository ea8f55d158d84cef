//! Who there is and who is there; the private map.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidings_core::UserId;
use tidings_protocol::presence::{Presence, UsersRequest};
use tidings_protocol::session::{PrivateRequest, PutPrivate};
use tidings_protocol::{ClientFrame, Code, Problem};

use super::ask;
use crate::gateway::App;
use crate::gateway::extract::{Asker, Json, Path, Query, Signed};
use crate::gateway::problem::{Answer, json};

/// Whose profiles.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(in crate::gateway) struct UsersQuery {
    /// Ids, separated by commas.
    users: String,
    /// Usernames, separated by commas.
    usernames: String,
}

/// Whose presence.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(in crate::gateway) struct PresenceQuery {
    /// Ids, separated by commas.
    users: String,
}

/// Who is there.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(in crate::gateway) struct PresenceAnswer {
    /// Of each user that was asked for.
    presence: Vec<Presence>,
}

/// Which page of the private map.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(in crate::gateway) struct PrivateQuery {
    /// From the first key above this; absent for the beginning.
    after: Option<String>,
}

/// A value of the private map.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(in crate::gateway) struct PrivateBody {
    /// The value.
    value: String,
}

pub(in crate::gateway) async fn users(
    State(app): State<Arc<App>>,
    asker: Asker,
    Query(query): Query<UsersQuery>,
) -> Answer {
    let request = UsersRequest {
        id: 0,
        users: list(&query.users)?,
        usernames: list(&query.usernames)?,
    };
    ask(&app, asker, ClientFrame::Users(request)).await
}

pub(in crate::gateway) async fn presence(
    State(app): State<Arc<App>>,
    signed: Signed,
    Query(query): Query<PresenceQuery>,
) -> Answer {
    let users: Vec<UserId> = list(&query.users)?;
    let max = app.settings.presence.watched_users_max;
    if users.len() > max {
        return Err(Problem::too_much("watched_users_max", max as u64).into());
    }
    let presence = app.presence.of(signed.caller.user, &users).await?;
    Ok(json(PresenceAnswer { presence }))
}

pub(in crate::gateway) async fn private(
    State(app): State<Arc<App>>,
    asker: Asker,
    Query(query): Query<PrivateQuery>,
) -> Answer {
    let request = PrivateRequest {
        id: 0,
        after: query.after,
    };
    ask(&app, asker, ClientFrame::Private(request)).await
}

pub(in crate::gateway) async fn put_private(
    State(app): State<Arc<App>>,
    asker: Asker,
    Path(key): Path<String>,
    Json(body): Json<PrivateBody>,
) -> Answer {
    let value = Some(body.value);
    let request = PutPrivate { id: 0, key, value };
    ask(&app, asker, ClientFrame::PutPrivate(request)).await
}

pub(in crate::gateway) async fn remove_private(
    State(app): State<Arc<App>>,
    asker: Asker,
    Path(key): Path<String>,
) -> Answer {
    let value = None;
    let request = PutPrivate { id: 0, key, value };
    ask(&app, asker, ClientFrame::PutPrivate(request)).await
}

fn list<T: FromStr>(text: &str) -> Result<Vec<T>, Problem> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(|item| {
            item.parse()
                .map_err(|_| Problem::new(Code::Invalid).detail("a list has an item that is none"))
        })
        .collect()
}
