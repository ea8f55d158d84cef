//! Finding out whom a name on the command line means, with single calls over HTTP.

use std::time::Duration;

use http::Method;
use tidings_core::{ConversationId, UserId};
use tidings_protocol::presence::{Users, UsersRequest};
use tidings_protocol::sync::{InboxPage, InboxRequest};
use tidings_protocol::{ClientFrame, Code, Problem, ServerFrame};

use crate::driver::http::{Http, HttpError};

const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Whom a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    User(UserId),
    Conversation(ConversationId),
}

/// One frame and its answer.
pub(crate) async fn call(http: &mut Http, frame: &ClientFrame) -> Result<ServerFrame, HttpError> {
    match http
        .json(Method::POST, "/v1/call", Some(frame), ANSWER_WITHIN)
        .await?
    {
        ServerFrame::Error(error) => Err(HttpError::Refused(error.problem)),
        answer => Ok(answer),
    }
}

/// A username (with or without "@"), a user's or conversation's id, or "#" and a group's name.
pub(crate) async fn find(http: &mut Http, name: &str) -> Result<Named, HttpError> {
    if let Ok(conversation) = name.parse() {
        return Ok(Named::Conversation(conversation));
    }
    if let Ok(user) = name.parse() {
        return Ok(Named::User(user));
    }
    if let Some(group) = name.strip_prefix('#') {
        return find_group(http, group).await;
    }
    let username = name.trim_start_matches('@');
    let wanted = UsersRequest {
        id: 1,
        users: Vec::new(),
        usernames: vec![username.to_owned()],
    };
    if let ServerFrame::Users(Users { users, .. }) = call(http, &ClientFrame::Users(wanted)).await?
        && let Some(profile) = users.first()
    {
        return Ok(Named::User(profile.user));
    }
    Err(not_found(format!("there is no user {username}")))
}

async fn find_group(http: &mut Http, name: &str) -> Result<Named, HttpError> {
    let mut cursor = None;
    let mut found = None;
    loop {
        let page = inbox(http, cursor).await?;
        for conversation in page
            .conversations
            .iter()
            .filter(|one| one.settings.name == name)
        {
            if found
                .replace(conversation.conversation)
                .is_some_and(|other| other != conversation.conversation)
            {
                return Err(not_found(format!(
                    "there are several groups called {name}: give its id (c_…)"
                )));
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            return found
                .map(Named::Conversation)
                .ok_or_else(|| not_found(format!("you are in no group called {name}")));
        }
    }
}

async fn inbox(http: &mut Http, cursor: Option<String>) -> Result<InboxPage, HttpError> {
    match call(
        http,
        &ClientFrame::Inbox(InboxRequest {
            id: 1,
            cursor,
            limit: None,
        }),
    )
    .await?
    {
        ServerFrame::Inbox(page) => Ok(page),
        _ => Err(not_found(
            "the server did not answer with conversations".to_owned(),
        )),
    }
}

fn not_found(detail: String) -> HttpError {
    HttpError::Refused(Problem::new(Code::NotFound).detail(detail))
}
