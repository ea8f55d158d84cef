//! The HTTP request that becomes a WebSocket (RFC 6455, section 4.2).

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, Method, Response, StatusCode, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use sha1::{Digest, Sha1};
use tidings_protocol::{Code, Encoding, Problem};

use super::extensions;
use super::hello::Offer;
use super::socket::Socket;
use crate::gateway::extract::Anybody;
use crate::gateway::listener::Counted;
use crate::gateway::problem::Answer;
use crate::gateway::{App, credentials};

/// What is appended to the client's key (section 1.3).
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// `GET /v1/connect`.
pub(in crate::gateway) async fn connect(
    State(app): State<Arc<App>>,
    Anybody(address): Anybody,
    mut request: Request,
) -> Answer {
    if app.is_draining() {
        return Err(Code::Draining.into());
    }
    let key = check_request(request.headers())?;
    let encoding = encoding_of(request.headers()).ok_or_else(|| {
        Problem::new(Code::Invalid)
            .detail("ask for the subprotocol tidings.v1.json or tidings.v1.cbor")
    })?;
    let compress_from_bytes = app.settings.sessions.compress_from_bytes;
    let extension = extensions::answer(request.headers())
        .map_err(|_| Problem::new(Code::Invalid).detail("Sec-WebSocket-Extensions is malformed"))?
        .filter(|_| compress_from_bytes > 0);
    let token = credentials::token_of(&app.settings, request.headers(), &Method::GET);
    let offer = Offer {
        token: token.map(|token| token.map(str::to_owned)),
        address,
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let bytes_max = app.settings.limits.frame_bytes_max;
    tokio::spawn(async move {
        match upgrade.await.map(Upgraded::downcast::<TokioIo<Counted>>) {
            Ok(Ok(parts)) => {
                let from_bytes = extension.map_or(0, |_| compress_from_bytes);
                let connection = (parts.io.into_inner(), parts.read_buf);
                let socket = Socket::new(connection, encoding, bytes_max, from_bytes);
                super::begin(app, socket, encoding, offer).await;
            }
            Ok(Err(_)) => tracing::error!("a connection that this server did not accept"),
            Err(error) => tracing::debug!(%error, "a connection did not become a WebSocket"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONNECTION, "upgrade"),
        (header::UPGRADE, "websocket"),
        (header::SEC_WEBSOCKET_PROTOCOL, encoding.subprotocol()),
    ] {
        headers.insert(name, axum::http::HeaderValue::from_static(value));
    }
    if let Some(extension) = extension {
        let value = axum::http::HeaderValue::from_static(extension);
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, value);
    }
    if let Ok(accept) = accept_of(&key).parse() {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(response)
}

/// The client's key, if it asks for a WebSocket as it should.
fn check_request(headers: &HeaderMap) -> Result<Vec<u8>, Problem> {
    let has = |name: &HeaderName, wanted: &str| {
        tokens(headers, name).any(|token| token.eq_ignore_ascii_case(wanted))
    };
    if !has(&header::CONNECTION, "upgrade") || !has(&header::UPGRADE, "websocket") {
        return Err(Problem::new(Code::Invalid).detail("a WebSocket connects here"));
    }
    if !has(&header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(Problem::new(Code::Invalid).detail("the version of WebSocket is 13"));
    }
    headers
        .get(header::SEC_WEBSOCKET_KEY)
        .map(|key| key.as_bytes().to_vec())
        .ok_or_else(|| Problem::new(Code::Invalid).detail("Sec-WebSocket-Key is missing"))
}

/// The first subprotocol of the client's list that we speak.
fn encoding_of(headers: &HeaderMap) -> Option<Encoding> {
    tokens(headers, &header::SEC_WEBSOCKET_PROTOCOL).find_map(Encoding::from_subprotocol)
}

/// The items of a header that is a list.
fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

/// The proof that the key was understood.
fn accept_of(key: &[u8]) -> String {
    let hash = Sha1::new().chain_update(key).chain_update(KEY_SUFFIX);
    STANDARD.encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_the_rfc_is_accepted_as_it_says() {
        let accept = accept_of(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
