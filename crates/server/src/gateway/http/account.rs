//! Accounts, devices, blocks.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use tidings_core::{DeviceId, UserId};
use tidings_protocol::account::{LogIn, LoggedIn, PasswordChange, ProfileChange, SignUp};

use crate::gateway::extract::{Anybody, Json, Path, Query, Signed};
use crate::gateway::problem::{Answer, created, done, json};
use crate::gateway::{App, credentials};
use crate::users::cookie;

/// How a new account is handed over.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub(in crate::gateway) struct SignUpQuery {
    /// A browser: the token comes as an HttpOnly cookie, not in the answer.
    #[serde(default)]
    cookie: bool,
}

/// A device's new name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(in crate::gateway) struct DeviceChange {
    /// What to call it.
    name: String,
}

pub(in crate::gateway) async fn sign_up(
    State(app): State<Arc<App>>,
    Anybody(address): Anybody,
    headers: HeaderMap,
    Query(query): Query<SignUpQuery>,
    Json(sign_up): Json<SignUp>,
) -> Answer {
    if query.cookie {
        credentials::check_own_page(&app.settings, &headers, &Method::POST)?;
    }
    let logged_in = app.users.sign_up(sign_up, address).await?;
    Ok(hand_over(&app, &headers, logged_in, query.cookie, created))
}

pub(in crate::gateway) async fn log_in(
    State(app): State<Arc<App>>,
    Anybody(address): Anybody,
    headers: HeaderMap,
    Json(log_in): Json<LogIn>,
) -> Answer {
    let wants_cookie = log_in.cookie;
    if wants_cookie {
        credentials::check_own_page(&app.settings, &headers, &Method::POST)?;
    }
    let logged_in = app.users.log_in(log_in, address).await?;
    Ok(hand_over(&app, &headers, logged_in, wants_cookie, json))
}

/// The token goes into the answer or, out of reach of scripts, into a cookie.
fn hand_over(
    app: &App,
    headers: &HeaderMap,
    mut logged_in: LoggedIn,
    as_cookie: bool,
    answer: fn(LoggedIn) -> Response,
) -> Response {
    let token = if as_cookie {
        logged_in.token.take()
    } else {
        None
    };
    let mut response = answer(logged_in);
    if let Some(token) = token {
        let secure = credentials::cookies_are_secure(&app.settings, headers);
        let days = app.settings.users.cookie_days;
        set_cookie(&mut response, &cookie::set(&token, secure, days));
    }
    response
}

fn set_cookie(response: &mut Response, cookie: &str) {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

pub(in crate::gateway) async fn log_out(
    State(app): State<Arc<App>>,
    signed: Signed,
    headers: HeaderMap,
) -> Answer {
    app.users.log_out(signed.caller).await?;
    let mut response = done();
    let secure = credentials::cookies_are_secure(&app.settings, &headers);
    set_cookie(&mut response, &cookie::clear(secure));
    Ok(response)
}

pub(in crate::gateway) async fn me(State(app): State<Arc<App>>, signed: Signed) -> Answer {
    Ok(json(app.users.me(signed.caller).await?))
}

pub(in crate::gateway) async fn change_me(
    State(app): State<Arc<App>>,
    signed: Signed,
    Json(change): Json<ProfileChange>,
) -> Answer {
    Ok(json(app.users.change_profile(signed.caller, change).await?))
}

pub(in crate::gateway) async fn change_password(
    State(app): State<Arc<App>>,
    signed: Signed,
    Json(change): Json<PasswordChange>,
) -> Answer {
    app.users.change_password(signed.caller, change).await?;
    Ok(done())
}

pub(in crate::gateway) async fn devices(State(app): State<Arc<App>>, signed: Signed) -> Answer {
    Ok(json(app.users.devices(signed.caller).await?))
}

pub(in crate::gateway) async fn rename_device(
    State(app): State<Arc<App>>,
    signed: Signed,
    Path(device): Path<DeviceId>,
    Json(change): Json<DeviceChange>,
) -> Answer {
    app.users
        .rename_device(signed.caller, device, change.name)
        .await?;
    Ok(done())
}

pub(in crate::gateway) async fn revoke_device(
    State(app): State<Arc<App>>,
    signed: Signed,
    Path(device): Path<DeviceId>,
) -> Answer {
    app.users.revoke_device(signed.caller, device).await?;
    Ok(done())
}

pub(in crate::gateway) async fn blocks(State(app): State<Arc<App>>, signed: Signed) -> Answer {
    Ok(json(app.users.blocks(signed.caller).await?))
}

pub(in crate::gateway) async fn block(
    State(app): State<Arc<App>>,
    signed: Signed,
    Path(user): Path<UserId>,
) -> Answer {
    app.users.block(signed.caller, user).await?;
    Ok(done())
}

pub(in crate::gateway) async fn unblock(
    State(app): State<Arc<App>>,
    signed: Signed,
    Path(user): Path<UserId>,
) -> Answer {
    app.users.unblock(signed.caller, user).await?;
    Ok(done())
}
