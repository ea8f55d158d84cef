//! `POST /v1/call`: one client frame in, its answer frame out, in JSON or CBOR. The way of requests beside
//! long polling and server-sent events.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use tidings_protocol::problem::ErrorFrame;
use tidings_protocol::{ClientFrame, Code, Encoding, Problem, ServerFrame};

use crate::gateway::extract::{Asker, Query, Raw, media_type};
use crate::gateway::problem::{Answer, Told, done};
use crate::gateway::{App, dispatch};
use crate::session::encode;

/// In whose name.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub(in crate::gateway) struct CallQuery {
    /// The polling session that asks: for `ping` and `watch`, which belong to a session.
    session: Option<String>,
}

pub(in crate::gateway) async fn call(
    State(app): State<Arc<App>>,
    asker: Asker,
    Query(query): Query<CallQuery>,
    headers: HeaderMap,
    Raw(body): Raw,
) -> Answer {
    let encoding = encoding_of(&headers)?;
    let frame: ClientFrame = match encoding.decode(&body) {
        Ok(frame) => frame,
        Err(error) => {
            let code = if error.unknown_frame {
                Code::UnknownFrame
            } else {
                Code::MalformedFrame
            };
            let problem = Problem::new(code).detail(error.message);
            return Ok(refused(encoding, error.id, problem));
        }
    };
    let id = frame.id();
    if let Err(refusal) = app.admit(asker.caller, asker.address, &frame) {
        return Ok(refused(encoding, id, refusal.into_problem()));
    }
    let session = match query.session {
        Some(name) => Some(app.polled.find(&name, asker.caller)?),
        None => None,
    };
    let session = session.as_ref().map(|polled| polled.session());
    match dispatch::handle(&app, asker.caller, session, frame).await {
        Some(frame) => Ok(answer(encoding, &frame)),
        // A notice, or the answer comes among the session's events.
        None => Ok(done()),
    }
}

fn encoding_of(headers: &HeaderMap) -> Result<Encoding, Problem> {
    match media_type(headers).as_str() {
        "application/cbor" => Ok(Encoding::Cbor),
        "application/json" => Ok(Encoding::Json),
        _ => Err(Problem::new(Code::MalformedFrame).detail(
            "the body must be application/json or application/cbor, and Content-Type say so",
        )),
    }
}

fn refused(encoding: Encoding, id: Option<u64>, problem: Problem) -> Response {
    let code = problem.code;
    let mut response = answer(encoding, &ServerFrame::Error(ErrorFrame { id, problem }));
    response.extensions_mut().insert(Told(code));
    response
}

fn answer(encoding: Encoding, frame: &ServerFrame) -> Response {
    let status = match frame {
        ServerFrame::Error(error) => {
            StatusCode::from_u16(error.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
        }
        _ => StatusCode::OK,
    };
    let media_type = match encoding {
        Encoding::Json => "application/json",
        Encoding::Cbor => "application/cbor",
    };
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(media_type))];
    let body: Bytes = encode(frame, encoding);
    (status, headers, body).into_response()
}
