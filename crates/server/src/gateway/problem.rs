//! Problems as HTTP answers: RFC 9457 documents, always.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tidings_protocol::{Code, Problem};

/// A problem on its way to the client. `?` makes one of any [`Problem`].
#[derive(Debug)]
pub(super) struct Failure {
    problem: Problem,
    /// Whether the metrics know of it already.
    counted: bool,
}

impl Failure {
    /// A problem that the metrics know of.
    pub(super) fn counted(problem: Problem) -> Failure {
        Failure {
            problem,
            counted: true,
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure {
            problem,
            counted: false,
        }
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Failure {
        Problem::new(code).into()
    }
}

/// Left on the answer for the metrics, where answers leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told(pub Code);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let Failure { problem, counted } = self;
        let status =
            StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = match serde_json::to_vec(&problem) {
            Ok(bytes) => Response::new(Body::from(bytes)),
            Err(_) => Response::new(Body::empty()),
        };
        *response.status_mut() = status;
        if !counted {
            response.extensions_mut().insert(Told(problem.code));
        }
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(wait_ms) = problem.retry_after_ms {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(wait_ms.div_ceil(1_000)),
            );
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"tidings\""),
            );
        }
        response
    }
}

/// What a handler answers.
pub(super) type Answer<T = Response> = Result<T, Failure>;

/// A JSON answer.
pub(super) fn json<T: serde::Serialize>(value: T) -> Response {
    Json(value).into_response()
}

/// An answer that something was made.
pub(super) fn created<T: serde::Serialize>(value: T) -> Response {
    (StatusCode::CREATED, Json(value)).into_response()
}

/// Done, nothing more to say.
pub(super) fn done() -> Response {
    StatusCode::NO_CONTENT.into_response()
}
