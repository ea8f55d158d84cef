//! What handlers take from a request: who asks, from where, and values; each with problems for errors.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;
use tidings_protocol::{Code, Problem};

use super::problem::Failure;
use super::{App, credentials, rates};
use crate::session::Caller;

/// The address that asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address(pub IpAddr);

impl FromRequestParts<Arc<App>> for Address {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Address, Infallible> {
        Ok(address_of(parts, app))
    }
}

fn address_of(parts: &Parts, app: &App) -> Address {
    let peer = parts
        .extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map_or(SocketAddr::from(([0, 0, 0, 0], 0)), |info| info.0);
    Address(credentials::address_of(&app.settings, &parts.headers, peer))
}

/// Nobody in particular: counted by its address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anybody(pub IpAddr);

impl FromRequestParts<Arc<App>> for Anybody {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Anybody, Failure> {
        let Address(address) = address_of(parts, app);
        app.address_rates.charge(&rates::customer(address))?;
        Ok(Anybody(address))
    }
}

/// A device that is logged in. For what goes by the dispatch table, which counts requests itself: a send
/// that is one too many must be known by its client id.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker {
    pub caller: Caller,
    pub address: IpAddr,
}

impl FromRequestParts<Arc<App>> for Asker {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Asker, Failure> {
        let Address(address) = address_of(parts, app);
        let found = match credentials::token_of(&app.settings, &parts.headers, &parts.method) {
            Ok(Some(token)) => app.users.authenticate(token).await,
            Ok(None) => Err(Problem::new(Code::Unauthorized)),
            Err(problem) => Err(problem),
        };
        match found {
            Ok(caller) => {
                app.users.touch(caller);
                Ok(Asker { caller, address })
            }
            Err(problem) => {
                app.address_rates.charge(&rates::customer(address))?;
                Err(problem.into())
            }
        }
    }
}

/// A device that is logged in, for everything else: counted here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed {
    pub caller: Caller,
}

impl FromRequestParts<Arc<App>> for Signed {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Signed, Failure> {
        let Asker { caller, address } = Asker::from_request_parts(parts, app).await?;
        app.charge(caller.user, address)?;
        Ok(Signed { caller })
    }
}

/// The query, read into a value.
#[derive(Clone, Debug)]
pub(super) struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Query<T>, Failure> {
        match axum::extract::Query::<T>::from_request_parts(parts, app).await {
            Ok(axum::extract::Query(value)) => Ok(Query(value)),
            Err(rejection) => Err(Problem::new(Code::Invalid)
                .detail(rejection.body_text())
                .into()),
        }
    }
}

/// The variable parts of the path, read into a value.
#[derive(Clone, Debug)]
pub(super) struct Path<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<Arc<App>> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Path<T>, Failure> {
        match axum::extract::Path::<T>::from_request_parts(parts, app).await {
            Ok(axum::extract::Path(value)) => Ok(Path(value)),
            Err(rejection) => Err(Problem::new(Code::NotFound)
                .detail(rejection.body_text())
                .into()),
        }
    }
}

/// The body as bytes: bounded in size and in time.
#[derive(Clone, Debug)]
pub(super) struct Raw(pub Bytes);

impl FromRequest<Arc<App>> for Raw {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Raw, Failure> {
        let within = Duration::from_millis(app.settings.sessions.hello_within_ms);
        match tokio::time::timeout(within, Bytes::from_request(request, app)).await {
            Ok(Ok(bytes)) => Ok(Raw(bytes)),
            Ok(Err(rejection)) => Err(body_problem(app, rejection).into()),
            Err(_) => Err(Problem::new(Code::MalformedFrame)
                .detail("the body did not come in time")
                .into()),
        }
    }
}

fn body_problem(app: &App, rejection: BytesRejection) -> Problem {
    let text = rejection.body_text();
    if rejection.into_response().status() == StatusCode::PAYLOAD_TOO_LARGE {
        return too_large(app);
    }
    Problem::new(Code::MalformedFrame).detail(text)
}

/// The problem of a frame or body that is too large.
pub(super) fn too_large(app: &App) -> Problem {
    let max = u64::try_from(app.settings.limits.frame_bytes_max).unwrap_or(u64::MAX);
    Problem {
        limit: Some("frame_bytes_max".into()),
        max: Some(max),
        ..Problem::new(Code::FrameTooLarge)
    }
}

/// What the body is said to be, in small letters and without parameters; empty if nothing is said.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let value = value.and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next());
    essence.unwrap_or_default().trim().to_ascii_lowercase()
}

/// The body, which must say that it is JSON: a form of another site's page cannot. An empty body is an
/// empty object, and needs to say nothing.
#[derive(Clone, Debug)]
pub(super) struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Json<T>, Failure> {
        let is_json = media_type(request.headers()) == "application/json";
        let Raw(bytes) = Raw::from_request(request, app).await?;
        let bytes = match bytes.as_ref() {
            b"" => b"{}",
            bytes if is_json => bytes,
            _ => {
                return Err(Problem::new(Code::MalformedFrame)
                    .detail("the body must be application/json, and Content-Type say so")
                    .into());
            }
        };
        match serde_json::from_slice(bytes) {
            Ok(value) => Ok(Json(value)),
            Err(error) => Err(Problem::new(Code::MalformedFrame)
                .detail(error.to_string())
                .into()),
        }
    }
}
