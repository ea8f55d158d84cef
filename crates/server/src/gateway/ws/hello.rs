//! The first frame: who is it?

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tidings_protocol::{ClientFrame, Code, Encoding, Problem};

use super::framing::Broken;
use super::socket::{Read, Socket};
use super::{unreadable, wrong_type};
use crate::gateway::App;
use crate::gateway::live::Live;
use crate::metrics::Transport;

/// What the handshake knows of the client.
pub(super) struct Offer {
    /// The token of its headers, or why its cookie is not taken.
    pub(super) token: Result<Option<String>, Problem>,
    pub(super) address: IpAddr,
}

/// Why there is no session.
pub(super) enum Refused {
    /// The client went.
    Gone,
    /// The client breaks the rules of WebSocket.
    Broken(Broken),
    /// The request's id, and what to tell the client.
    Told(Option<u64>, Problem),
}

/// Waits for `hello` and opens the session.
pub(super) async fn receive(
    app: &Arc<App>,
    socket: &mut Socket,
    encoding: Encoding,
    offer: Offer,
) -> Result<Live, Refused> {
    let within = Duration::from_millis(app.settings.sessions.hello_within_ms);
    let first = async {
        loop {
            match socket.read().await {
                Read::Control => {}
                read => return read,
            }
        }
    };
    let late = || {
        let detail = format!("no hello within {} ms", within.as_millis());
        Refused::Told(None, Problem::new(Code::HelloExpected).detail(detail))
    };
    let bytes = match tokio::time::timeout(within, first).await {
        Err(_) => return Err(late()),
        Ok(Read::Frame(bytes)) => bytes,
        Ok(Read::OtherType | Read::Control) => {
            return Err(Refused::Told(None, wrong_type(encoding)));
        }
        Ok(Read::Broken(broken)) => return Err(Refused::Broken(broken)),
        Ok(Read::Gone) => return Err(Refused::Gone),
    };
    let frame = match encoding.decode_request(&bytes) {
        Ok(frame) => frame,
        Err(error) => return Err(Refused::Told(error.id, unreadable(error))),
    };
    let ClientFrame::Hello(mut hello) = frame else {
        return Err(Refused::Told(frame.id(), Problem::new(Code::HelloExpected)));
    };
    let id = hello.id;
    let token = match hello.token.take() {
        Some(token) => Ok(Some(token)),
        None => offer.token,
    };
    let opened = async {
        let token = token?;
        Live::open(app, token.as_deref(), hello, encoding, Transport::WebSocket).await
    };
    opened
        .await
        .map_err(|problem| Refused::Told(Some(id), problem))
}
