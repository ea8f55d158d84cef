//! A WebSocket as the sessions see it: whole frames in, batches of frames out. Between frames it holds no
//! buffers: what comes is read into one that all connections of a thread share, and is put together and written
//! in what lives as long as a frame is read or written.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt;
use tidings_protocol::{Code, Encoding};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};

use super::deflate;
use super::framing::{self, Broken, Kind, Message, Reader};
use crate::gateway::listener::Counted;

/// Bytes that are read at a time.
const READ_BYTES: usize = 16 * 1024;
/// A buffer for writing that has grown past this is not kept.
const WRITTEN_BYTES_KEPT: usize = 128 * 1024;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
    /// What is put together to be written. Between two uses it is empty.
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The connection.
pub(super) struct Socket {
    io: Box<Counted>,
    encoding: Encoding,
    message_bytes_max: usize,
    /// Messages of at least so many bytes are compressed. 0: nobody compresses, for it was not agreed on.
    compress_from_bytes: u32,
    /// While part of something has come.
    reader: Option<Box<Reader>>,
    /// While something is being written: a write that is broken off is finished by the next, so that no frame is
    /// ever sent by half.
    output: Option<Box<Output>>,
    /// What the client's last ping wants to hear; an older one need not be answered (section 5.5.3).
    pong: Option<Box<[u8]>>,
    /// The code with which the client closed (RFC 6455, section 7.4).
    closed_by_client: Option<u16>,
}

/// What is being written, and how much of it is.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    written: usize,
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
            Broken::Protocol | Broken::NotUtf8 | Broken::NotDeflate => Code::MalformedFrame,
            Broken::TooLong => Code::FrameTooLarge,
        }
    }

    /// The WebSocket's close code (section 7.4.1).
    pub(super) fn close_code(self) -> u16 {
        match self {
            Broken::Protocol => 1002,
            Broken::NotUtf8 | Broken::NotDeflate => 1007,
            Broken::TooLong => 1009,
        }
    }
}

impl Socket {
    /// A WebSocket on a connection of which the first bytes may have been read already.
    pub(super) fn new(
        (io, read): (Counted, Bytes),
        encoding: Encoding,
        message_bytes_max: usize,
        compress_from_bytes: u32,
    ) -> Socket {
        let mut socket = Socket {
            io: Box::new(io),
            encoding,
            message_bytes_max,
            compress_from_bytes,
            reader: None,
            output: None,
            pong: None,
            closed_by_client: None,
        };
        if !read.is_empty() {
            socket.reader().push(&read);
        }
        socket
    }

    fn reader(&mut self) -> &mut Reader {
        self.reader.get_or_insert_with(|| {
            let inflates = self.compress_from_bytes > 0;
            Box::new(Reader::new(self.message_bytes_max, inflates))
        })
    }

    /// Waits for what comes next. Cancel-safe.
    pub(super) async fn read(&mut self) -> Read {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    /// What has come already, if anything.
    pub(super) fn read_ready(&mut self) -> Option<Read> {
        self.read().now_or_never()
    }

    /// As [`Socket::read`].
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        loop {
            match self.reader.as_mut().map(|reader| reader.next()) {
                Some(Ok(Some(message))) => return Poll::Ready(self.take(message)),
                Some(Err(broken)) => return Poll::Ready(Read::Broken(broken)),
                Some(Ok(None)) | None => {}
            }
            self.reader.take_if(|reader| reader.is_empty());
            if let Some(read) = ready!(self.poll_fill(cx)) {
                return Poll::Ready(read);
            }
        }
    }

    /// Reads what is there. Answers what it is, if it is one message or the end; otherwise it is in the reader.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Option<Read>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match ready!(Pin::new(&mut *self.io).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    let filled = buffer.filled_mut();
                    if self.reader.is_none()
                        && let Some(message) = framing::whole(filled, self.message_bytes_max)
                    {
                        return Poll::Ready(Some(self.take(message)));
                    }
                    self.reader().push(filled);
                    Poll::Ready(None)
                }
                Ok(()) | Err(_) => Poll::Ready(Some(Read::Gone)),
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
                self.pong = Some(Box::from(&*bytes));
                Read::Control
            }
            (Message::Pong, _) => Read::Control,
            (Message::Close(code), _) => {
                self.closed_by_client = Some(code);
                Read::Gone
            }
        }
    }

    /// Whether a ping waits to be answered: then write, and be it nothing.
    pub(super) fn owes_pong(&self) -> bool {
        self.pong.is_some()
    }

    /// Takes frames to be written together, and writes them if that need not wait. `None` if it must: then
    /// [`Socket::write_more`] writes what is left.
    pub(super) fn write_now(&mut self, frames: VecDeque<Bytes>) -> Option<std::io::Result<()>> {
        if self.output.is_some() {
            self.put(frames);
            return self.flush().now_or_never();
        }
        let mut bytes = WRITTEN.take();
        self.put_into(&mut bytes, frames);
        let written = match self.io.try_write(&bytes) {
            Ok(0) if !bytes.is_empty() => return Some(Err(ErrorKind::WriteZero.into())),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Some(Err(error)),
        };
        let rest = bytes.get(written..).filter(|rest| !rest.is_empty());
        self.output = rest.map(|rest| {
            Box::new(Output {
                bytes: rest.to_vec(),
                written: 0,
            })
        });
        if bytes.capacity() <= WRITTEN_BYTES_KEPT {
            bytes.clear();
            WRITTEN.set(bytes);
        }
        self.output.is_none().then_some(Ok(()))
    }

    /// Takes frames to be written together by [`Socket::flush`].
    fn put(&mut self, frames: VecDeque<Bytes>) {
        let mut output = self.output.take().unwrap_or_default();
        self.put_into(&mut output.bytes, frames);
        self.output = Some(output);
    }

    fn put_into(&mut self, output: &mut Vec<u8>, frames: VecDeque<Bytes>) {
        let kind = match self.encoding {
            Encoding::Json => Kind::Text,
            Encoding::Cbor => Kind::Binary,
        };
        let pong = self.pong.take();
        let all = frames.iter().map(|frame| &**frame).chain(pong.as_deref());
        output.reserve(all.map(framing::written_bytes_max).sum());
        if let Some(pong) = pong {
            framing::write(output, Kind::Pong, &pong);
        }
        let from_bytes = match self.compress_from_bytes {
            0 => usize::MAX,
            bytes => bytes as usize,
        };
        for frame in frames {
            match (frame.len() >= from_bytes).then(|| deflate::compress(&frame)) {
                Some(Some(smaller)) => framing::write_compressed(output, kind, &smaller),
                _ => framing::write(output, kind, &frame),
            }
        }
    }

    /// Writes what was taken. Broken off, it goes on with the next.
    async fn flush(&mut self) -> std::io::Result<()> {
        while !self.write_more().await? {}
        Ok(())
    }

    /// Writes some of what was taken. Answers whether nothing is left. Cancel-safe.
    pub(super) async fn write_more(&mut self) -> std::io::Result<bool> {
        if let Some(output) = &mut self.output {
            match output.bytes.get(output.written..) {
                Some(rest) if !rest.is_empty() => match self.io.write(rest).await? {
                    0 => return Err(ErrorKind::WriteZero.into()),
                    count => output.written += count,
                },
                _ => self.output = None,
            }
            return Ok(false);
        }
        self.io.flush().await?;
        Ok(true)
    }

    /// Writes last frames and closes. What the client still sends is read and dropped, for to leave it
    /// unread would break the connection before the client has read why.
    pub(super) async fn close(mut self, frames: VecDeque<Bytes>, code: u16, reason: &str) {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        payload.truncate(framing::CONTROL_BYTES_MAX);
        self.put(frames);
        framing::write(
            &mut self.output.get_or_insert_default().bytes,
            Kind::Close,
            &payload,
        );
        if self.flush().await.is_err() || self.io.shutdown().await.is_err() {
            return;
        }
        let mut rest = vec![0; 1024];
        while matches!(self.io.read(&mut rest).await, Ok(1..)) {}
    }

    /// Answers the client's closing, if it did close.
    pub(super) async fn answer_close(self) {
        if let Some(code) = self.closed_by_client {
            self.close(VecDeque::new(), code, "").await;
        }
    }
}
