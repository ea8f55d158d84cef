//! A WebSocket as the sessions see it: whole frames in, batches of frames out. Between frames it holds no
//! buffers: what comes is read into one that all connections of a thread share, what goes is written from
//! one that lives as long as the write.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tidings_protocol::{Code, Encoding};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::framing::{self, Broken, Kind, Message, Reader};

/// Bytes that are read at a time.
const READ_BYTES: usize = 16 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// The connection.
pub(super) struct Socket {
    io: TokioIo<Upgraded>,
    encoding: Encoding,
    reader: Reader,
    /// What is being written, and how much of it is: a write that is broken off is finished by the next, so
    /// that no frame is ever sent by half.
    output: Vec<u8>,
    written: usize,
    /// What the client's last ping wants to hear; an older one need not be answered (section 5.5.3).
    pong: Option<Bytes>,
    is_closed_by_client: bool,
}

/// What was read.
#[derive(Debug)]
pub(super) enum Read {
    /// A frame of the protocol.
    Frame(Bytes),
    /// A message of the type that this encoding does not use.
    OtherType,
    /// A ping (to be answered with the next write) or pong.
    Control,
    /// The client breaks the rules of WebSocket, or sends too much at once.
    Broken(Broken),
    /// The client closed, or the connection is lost.
    Gone,
}

impl Broken {
    /// What the client is told.
    pub(super) fn code(self) -> Code {
        match self {
            Broken::Protocol | Broken::NotUtf8 => Code::MalformedFrame,
            Broken::TooLong => Code::FrameTooLarge,
        }
    }

    /// The WebSocket's close code (section 7.4.1).
    pub(super) fn close_code(self) -> u16 {
        match self {
            Broken::Protocol => 1002,
            Broken::NotUtf8 => 1007,
            Broken::TooLong => 1009,
        }
    }
}

impl Socket {
    pub(super) fn new(upgraded: Upgraded, encoding: Encoding, message_bytes_max: usize) -> Socket {
        Socket {
            io: TokioIo::new(upgraded),
            encoding,
            reader: Reader::new(message_bytes_max),
            output: Vec::new(),
            written: 0,
            pong: None,
            is_closed_by_client: false,
        }
    }

    /// Waits for what comes next. Cancel-safe.
    pub(super) async fn read(&mut self) -> Read {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    /// What has come already, if anything.
    pub(super) fn read_ready(&mut self) -> Option<Read> {
        self.read().now_or_never()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        loop {
            match self.reader.next() {
                Ok(Some(message)) => return Poll::Ready(self.take(message)),
                Ok(None) => {}
                Err(broken) => return Poll::Ready(Read::Broken(broken)),
            }
            if !ready!(self.poll_fill(cx)) {
                return Poll::Ready(Read::Gone);
            }
        }
    }

    /// Reads what is there. `false` at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    self.reader.push(buffer.filled());
                    Poll::Ready(true)
                }
                Ok(()) | Err(_) => Poll::Ready(false),
            }
        })
    }

    fn take(&mut self, message: Message) -> Read {
        match (message, self.encoding) {
            (Message::Text(bytes), Encoding::Json) | (Message::Binary(bytes), Encoding::Cbor) => {
                Read::Frame(bytes)
            }
            (Message::Text(_) | Message::Binary(_), _) => Read::OtherType,
            (Message::Ping(bytes), _) => {
                self.pong = Some(bytes);
                Read::Control
            }
            (Message::Pong, _) => Read::Control,
            (Message::Close, _) => {
                self.is_closed_by_client = true;
                Read::Gone
            }
        }
    }

    /// Whether a ping waits to be answered: then write, and be it nothing.
    pub(super) fn owes_pong(&self) -> bool {
        self.pong.is_some()
    }

    /// Writes frames together. Broken off, it goes on with the next write.
    pub(super) async fn write(&mut self, frames: Vec<Bytes>) -> std::io::Result<()> {
        let kind = match self.encoding {
            Encoding::Json => Kind::Text,
            Encoding::Cbor => Kind::Binary,
        };
        let pong = self.pong.take();
        let all = frames.iter().chain(&pong);
        self.output
            .reserve_exact(all.map(|bytes| framing::written_bytes_max(bytes)).sum());
        if let Some(pong) = pong {
            framing::write(&mut self.output, Kind::Pong, &pong);
        }
        for frame in frames {
            framing::write(&mut self.output, kind, &frame);
        }
        self.flush().await
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        while let Some(rest) = self.output.get(self.written..)
            && !rest.is_empty()
        {
            match self.io.write(rest).await? {
                0 => return Err(std::io::ErrorKind::WriteZero.into()),
                count => self.written += count,
            }
        }
        self.output = Vec::new();
        self.written = 0;
        self.io.flush().await
    }

    /// Writes last frames and closes. What the client still sends is read and dropped, for to leave it
    /// unread would break the connection before the client has read why.
    pub(super) async fn close(mut self, frames: Vec<Bytes>, code: u16, reason: &str) {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        payload.truncate(framing::CONTROL_BYTES_MAX);
        if self.write(frames).await.is_err() {
            return;
        }
        framing::write(&mut self.output, Kind::Close, &payload);
        if self.flush().await.is_err() || self.io.shutdown().await.is_err() {
            return;
        }
        let mut rest = vec![0; 1024];
        while matches!(self.io.read(&mut rest).await, Ok(1..)) {}
    }

    /// Answers the client's closing, if it did close.
    pub(super) async fn answer_close(self) {
        if self.is_closed_by_client {
            self.close(Vec::new(), 1000, "").await;
        }
    }
}
