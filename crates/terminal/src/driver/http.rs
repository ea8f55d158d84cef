//! A small HTTP client over one kept connection: accounts, single calls, long polling.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidings_protocol::{Code, Problem};

use super::stream::{ConnectError, Network};

/// A larger answer is not taken, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

pub(crate) struct Http {
    network: Arc<Network>,
    token: Option<String>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// What the server answered.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// A request without the answer that was hoped for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the connection to {0} broke")]
    Broken(String),
    #[error("{0} does not answer")]
    TimedOut(String),
    #[error("{0} is not a Tidings server, or something stands between")]
    NotTidings(String),
    #[error("{}", explain(.0))]
    Refused(Problem),
}

/// A problem in words for people.
pub(crate) fn explain(problem: &Problem) -> String {
    let mut text = problem.title.to_string();
    if let Some(detail) = &problem.detail {
        text = format!("{} ({detail})", text.trim_end_matches('.'));
    }
    if let (Some(limit), Some(max)) = (&problem.limit, problem.max) {
        text = format!("{} ({limit}: {max})", text.trim_end_matches('.'));
    }
    text
}

impl Http {
    pub(crate) fn new(network: Arc<Network>, token: Option<String>) -> Http {
        Http {
            network,
            token,
            sender: None,
        }
    }

    /// One request and its answer, whatever its status.
    pub(crate) async fn request(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<HttpAnswer, HttpError> {
        let name = self.network.address.authority();
        match tokio::time::timeout(within, self.exchange(method, path, body)).await {
            Ok(answer) => answer,
            Err(_) => {
                // Half an exchange is on this connection.
                self.sender = None;
                Err(HttpError::TimedOut(name))
            }
        }
    }

    /// A request in JSON and its answer in JSON; a problem document is an error.
    pub(crate) async fn json<A: DeserializeOwned>(
        &mut self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
        within: Duration,
    ) -> Result<A, HttpError> {
        let not_tidings = || HttpError::NotTidings(self.network.address.authority());
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(|_| not_tidings())?,
            None => Vec::new(),
        };
        let answer = self.request(method, path, body, within).await?;
        if let Some(problem) = answer.problem() {
            return Err(HttpError::Refused(problem));
        }
        // Nothing to say is the JSON `null`.
        let body = if answer.body.is_empty() {
            b"null"
        } else {
            &answer.body[..]
        };
        serde_json::from_slice(body)
            .map_err(|_| HttpError::NotTidings(self.network.address.authority()))
    }

    async fn exchange(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<HttpAnswer, HttpError> {
        let address = &self.network.address;
        let broken = || HttpError::Broken(address.authority());
        let mut request = Request::builder()
            .method(method)
            .uri(address.path(path))
            .header(header::HOST, address.authority())
            .header(header::ACCEPT, "application/json");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| broken())?;
        let kept = match self.sender.take() {
            Some(mut sender) => sender.ready().await.ok().map(|()| sender),
            None => None,
        };
        let mut sender = match kept {
            Some(sender) => sender,
            None => {
                let stream = self.network.connect().await?;
                let (sender, connection) = http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(|_| broken())?;
                // Ends with the sender.
                tokio::spawn(connection);
                sender
            }
        };
        let response = sender.send_request(request).await.map_err(|_| broken())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|_| broken())?;
        self.sender = Some(sender);
        Ok(HttpAnswer {
            status,
            body: body.to_bytes(),
        })
    }
}

impl HttpAnswer {
    /// The problem, if that is what the answer is.
    pub(crate) fn problem(&self) -> Option<Problem> {
        if self.status.is_success() {
            return None;
        }
        let unreadable = || {
            let code = if self.status == StatusCode::UNAUTHORIZED {
                Code::Unauthorized
            } else {
                Code::Unknown
            };
            Problem {
                status: self.status.as_u16(),
                ..Problem::new(code)
            }
            .detail(self.status.to_string())
        };
        Some(serde_json::from_slice(&self.body).unwrap_or_else(|_| unreadable()))
    }
}
