//! A connection by WebSocket (RFC 6455), in JSON or CBOR.

use futures_util::{SinkExt, StreamExt};
use tidings_protocol::session::Hello;
use tidings_protocol::{ClientFrame, Encoding, ServerFrame};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Request};

use super::{Ends, Lost, read_strictly};

fn cut(error: impl std::fmt::Display) -> Lost {
    Lost::Cut(error.to_string())
}

/// Carries frames until the connection ends.
pub(super) async fn run(port: u16, token: String, hello: Hello, encoding: Encoding, ends: Ends) {
    let incoming = ends.incoming.clone();
    if let Err(lost) = carry(port, token, hello, encoding, ends).await {
        let _ = incoming.send(Err(lost)).await;
    }
}

async fn carry(
    port: u16,
    token: String,
    mut hello: Hello,
    encoding: Encoding,
    mut ends: Ends,
) -> Result<(), Lost> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(cut)?;
    stream.set_nodelay(true).map_err(cut)?;
    let (mut socket, _) = tokio_tungstenite::client_async(request(port, encoding)?, stream)
        .await
        .map_err(cut)?;
    hello.token = Some(token);
    let first = message(encoding, &ClientFrame::Hello(hello))?;
    socket.send(first).await.map_err(cut)?;
    loop {
        tokio::select! {
            frame = ends.out.recv() => match frame {
                Some(frame) => {
                    socket.feed(message(encoding, &frame)?).await.map_err(cut)?;
                    while let Ok(frame) = ends.out.try_recv() {
                        socket.feed(message(encoding, &frame)?).await.map_err(cut)?;
                    }
                    socket.flush().await.map_err(cut)?;
                }
                None => return Ok(()),
            },
            read = socket.next() => {
                let frame = match read {
                    Some(Ok(Message::Text(text))) if encoding == Encoding::Json => {
                        read_strictly(encoding, text.as_bytes())?
                    }
                    Some(Ok(Message::Binary(bytes))) if encoding == Encoding::Cbor => {
                        read_strictly(encoding, &bytes)?
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
                    Some(Ok(Message::Close(frame))) => return Err(cut(format!("closed: {frame:?}"))),
                    Some(Ok(other)) => return Err(cut(format!("of the wrong type: {other:?}"))),
                    Some(Err(error)) => return Err(cut(error)),
                    None => return Err(cut("ended")),
                };
                let last = matches!(frame, ServerFrame::Bye(_));
                if ends.incoming.send(Ok(frame)).await.is_err() || last {
                    return Ok(());
                }
            }
        }
    }
}

fn request(port: u16, encoding: Encoding) -> Result<Request<()>, Lost> {
    let mut request = format!("ws://127.0.0.1:{port}/v1/connect")
        .into_client_request()
        .map_err(cut)?;
    request.headers_mut().insert(
        "sec-websocket-protocol",
        HeaderValue::from_static(encoding.subprotocol()),
    );
    Ok(request)
}

fn message(encoding: Encoding, frame: &ClientFrame) -> Result<Message, Lost> {
    let bytes = encoding.encode(frame).map_err(cut)?;
    Ok(match encoding {
        Encoding::Json => Message::Text(String::from_utf8(bytes).map_err(cut)?.into()),
        Encoding::Cbor => Message::Binary(bytes.into()),
    })
}

/// A WebSocket on which nothing was said yet: for tests that say what no client should.
#[allow(
    clippy::unwrap_used,
    reason = "a failed expectation is how a test speaks"
)]
pub async fn bare_socket(
    port: u16,
    encoding: Encoding,
) -> tokio_tungstenite::WebSocketStream<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (socket, _) = tokio_tungstenite::client_async(request(port, encoding).unwrap(), stream)
        .await
        .unwrap();
    socket
}
