//! A WebSocket as the sessions see it: whole frames in, batches of frames out.

use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket};
use futures_util::{FutureExt, SinkExt, StreamExt};
use tidings_protocol::{Code, Encoding};

/// The connection.
pub(super) struct Socket {
    inner: WebSocket,
    encoding: Encoding,
}

/// What was read.
pub(super) enum Read {
    /// A frame of the protocol.
    Frame(Bytes),
    /// A message of the type that this encoding does not use.
    OtherType,
    /// A ping (answered already) or pong.
    Control,
    /// The client breaks the rules of WebSocket, or sends too much at once.
    Broken(Code),
    /// The client closed, or the connection is lost.
    Gone,
}

impl Socket {
    pub(super) fn new(inner: WebSocket, encoding: Encoding) -> Socket {
        Socket { inner, encoding }
    }

    /// Waits for what comes next. Cancel-safe.
    pub(super) async fn read(&mut self) -> Read {
        match self.inner.next().await {
            Some(Ok(Message::Text(text))) if self.encoding == Encoding::Json => {
                Read::Frame(text.into())
            }
            Some(Ok(Message::Binary(bytes))) if self.encoding == Encoding::Cbor => {
                Read::Frame(bytes)
            }
            Some(Ok(Message::Text(_) | Message::Binary(_))) => Read::OtherType,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Read::Control,
            Some(Err(error)) => {
                let text = error.to_string();
                if text.contains("too long") || text.contains("too large") {
                    Read::Broken(Code::FrameTooLarge)
                } else if text.contains("UTF-8") || text.contains("protocol") {
                    Read::Broken(Code::MalformedFrame)
                } else {
                    Read::Gone
                }
            }
            Some(Ok(Message::Close(_))) | None => Read::Gone,
        }
    }

    /// What has come already, if anything.
    pub(super) fn read_ready(&mut self) -> Option<Read> {
        self.read().now_or_never()
    }

    /// Writes frames together.
    pub(super) async fn write(&mut self, frames: Vec<Bytes>) -> Result<(), axum::Error> {
        for frame in frames {
            let message = match self.encoding {
                Encoding::Json => Message::Text(frame.try_into().unwrap_or_default()),
                Encoding::Cbor => Message::Binary(frame),
            };
            self.inner.feed(message).await?;
        }
        self.inner.flush().await
    }

    /// Says good-bye and waits for the client's.
    pub(super) async fn close(&mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame {
            code,
            reason: reason.into(),
        };
        if self.inner.send(Message::Close(Some(frame))).await.is_ok() {
            while let Some(Ok(_)) = self.inner.next().await {}
        }
    }
}
