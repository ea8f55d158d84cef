//! The HTTP request that becomes a WebSocket (RFC 6455, section 4).

use std::sync::Arc;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::http::{HeaderMap, HeaderValue, Method};
use tidings_protocol::{Code, Encoding, Problem};

use super::hello::Offer;
use super::socket::Socket;
use crate::gateway::extract::Anybody;
use crate::gateway::problem::Answer;
use crate::gateway::{App, credentials};

/// What one connection keeps for reading; a longer frame gets room while it comes in.
const READ_BUFFER_BYTES: usize = 1024;

/// `GET /v1/connect`.
pub(in crate::gateway) async fn connect(
    State(app): State<Arc<App>>,
    Anybody(address): Anybody,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Answer {
    if app.is_draining() {
        return Err(Code::Draining.into());
    }
    let mut upgrade = upgrade.map_err(|rejection| {
        Problem::new(Code::Invalid).detail(format!(
            "a WebSocket connects here: {}",
            rejection.body_text()
        ))
    })?;
    let encoding = upgrade
        .requested_protocols()
        .filter_map(|protocol| protocol.to_str().ok())
        .find_map(Encoding::from_subprotocol)
        .ok_or_else(|| {
            Problem::new(Code::Invalid)
                .detail("ask for the subprotocol tidings.v1.json or tidings.v1.cbor")
        })?;
    upgrade.set_selected_protocol(HeaderValue::from_static(encoding.subprotocol()));
    let token = credentials::token_of(&app.settings, &headers, &Method::GET);
    let offer = Offer {
        token: token.map(|token| token.map(str::to_owned)),
        address,
    };
    let bytes_max = app.settings.limits.frame_bytes_max;
    Ok(upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(4096)
        .max_message_size(bytes_max)
        .max_frame_size(bytes_max)
        .on_upgrade(move |socket| super::run(app, Socket::new(socket, encoding), encoding, offer)))
}
