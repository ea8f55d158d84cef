//! The first frame: who is it?

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tidings_protocol::{ClientFrame, Code, Encoding, Problem};

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

/// Waits for `hello` and opens the session.
///
/// # Errors
/// What to tell the client, and the request's id; nothing if it is gone.
pub(super) async fn receive(
    app: &Arc<App>,
    socket: &mut Socket,
    encoding: Encoding,
    offer: Offer,
) -> Result<Live, Option<(Option<u64>, Problem)>> {
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
        Some((None, Problem::new(Code::HelloExpected).detail(detail)))
    };
    let bytes = match tokio::time::timeout(within, first).await {
        Err(_) => return Err(late()),
        Ok(Read::Frame(bytes)) => bytes,
        Ok(Read::OtherType | Read::Control) => return Err(Some((None, wrong_type(encoding)))),
        Ok(Read::Broken(code)) => return Err(Some((None, Problem::new(code)))),
        Ok(Read::Gone) => return Err(None),
    };
    let frame = match encoding.decode(&bytes) {
        Ok(frame) => frame,
        Err(error) => return Err(Some((error.id, unreadable(error)))),
    };
    let ClientFrame::Hello(mut hello) = frame else {
        return Err(Some((frame.id(), Problem::new(Code::HelloExpected))));
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
    opened.await.map_err(|problem| Some((Some(id), problem)))
}
