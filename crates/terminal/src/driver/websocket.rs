//! Frames over a WebSocket.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderValue, StatusCode};
use tidings_protocol::{ClientFrame, Encoding};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Bytes, Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::connection::{Closed, ConnectionEvent, Events};
use super::stream::{ConnectError, Io, Network};

/// How long the handshake may take after the connection is open.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// How long one write may take: a connection that takes nothing for so long is dead.
const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// How long a closing connection waits for what is still on its way.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

pub(crate) type Socket = WebSocketStream<Box<dyn Io>>;

/// No WebSocket came about.
pub(crate) enum OpenError {
    /// There is no connection at all.
    Connect(ConnectError),
    /// Something answers, but does not open a WebSocket.
    Refused(String),
    /// The server will not have us now.
    Unavailable,
}

pub(crate) async fn open(network: &Network, encoding: Encoding) -> Result<Socket, OpenError> {
    let stream = network.connect().await.map_err(OpenError::Connect)?;
    let refused = |error: tungstenite::Error| match error {
        tungstenite::Error::Http(response)
            if response.status() == StatusCode::SERVICE_UNAVAILABLE =>
        {
            OpenError::Unavailable
        }
        error => OpenError::Refused(error.to_string()),
    };
    let mut request = network
        .address
        .websocket_url()
        .into_client_request()
        .map_err(refused)?;
    let protocol = HeaderValue::from_static(encoding.subprotocol());
    request
        .headers_mut()
        .insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    match tokio::time::timeout(HANDSHAKE_WITHIN, client_async(request, stream)).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(refused(error)),
        Err(_) => Err(OpenError::Refused("no answer to the handshake".into())),
    }
}

/// Carries frames both ways until one side has had enough.
pub(crate) async fn run(
    mut socket: Socket,
    encoding: Encoding,
    frames: &mut mpsc::Receiver<ClientFrame>,
    events: &Events,
) -> Closed {
    loop {
        tokio::select! {
            frame = frames.recv() => {
                let Some(frame) = frame else {
                    // Whether the server still hears it or not: this side is done.
                    let _ = tokio::time::timeout(CLOSE_WITHIN, socket.close(None)).await;
                    return Closed::ByUs;
                };
                let writing = write(&mut socket, encoding, frame, frames);
                match tokio::time::timeout(WRITE_WITHIN, writing).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Closed::Because(error.to_string()),
                    Err(_) => return Closed::Because("the connection takes nothing any more".into()),
                }
            }
            message = socket.next() => {
                let bytes: Bytes = match message {
                    Some(Ok(Message::Text(text))) => text.into(),
                    Some(Ok(Message::Binary(bytes))) => bytes,
                    Some(Ok(Message::Close(_))) | None => return Closed::Because("the server closed the connection".into()),
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => return Closed::Because(error.to_string()),
                };
                // A frame of a kind that this version does not know is passed over (additive changes only).
                if let Ok(frame) = encoding.decode(&bytes)
                    && !events.send(ConnectionEvent::Frame(frame)).await
                {
                    return Closed::ByUs;
                }
            }
        }
    }
}

/// Writes a frame and all that wait behind it in one go.
async fn write(
    socket: &mut Socket,
    encoding: Encoding,
    first: ClientFrame,
    frames: &mut mpsc::Receiver<ClientFrame>,
) -> Result<(), tungstenite::Error> {
    let mut next = Some(first);
    while let Some(frame) = next {
        if let Some(message) = encode(encoding, &frame) {
            socket.feed(message).await?;
        }
        next = frames.try_recv().ok();
    }
    socket.flush().await
}

fn encode(encoding: Encoding, frame: &ClientFrame) -> Option<Message> {
    let bytes = Bytes::from(encoding.encode(frame).ok()?);
    match encoding {
        Encoding::Json => Utf8Bytes::try_from(bytes).ok().map(Message::Text),
        Encoding::Cbor => Some(Message::Binary(bytes)),
    }
}
