//! The frames of RFC 6455, section 5, as a server reads and writes them: bytes in, messages out, no I/O. Next, for
//! messages that are compressed: [`deflate`].

use bytes::{Buf, Bytes, BytesMut};

use super::deflate;

/// What is wrong with what a client sends: nothing after it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It is not WebSocket.
    Protocol,
    /// A text message is not UTF-8.
    NotUtf8,
    /// A message is longer than the limit.
    TooLong,
    /// A compressed message is not what the agreed compression makes.
    NotDeflate,
}

/// A message, whole and unmasked.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Text(Bytes),
    Binary(Bytes),
    /// To be answered with [`Kind::Pong`] and the same bytes.
    Ping(Bytes),
    Pong,
    /// To be answered with the same code (section 5.5.1).
    Close(u16),
}

/// The kinds of frames, by opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// The longest payload of a control frame (section 5.5).
pub(super) const CONTROL_BYTES_MAX: usize = 125;
/// The close code of who has no other (section 7.4.1).
const CLOSE_NORMAL: u16 = 1000;
/// The longest header that is written: masks are the client's.
const HEADER_BYTES_MAX: usize = 10;
/// The bits of a header's first byte: the last frame of a message; a compressed one (RFC 7692, section 6); the rest
/// has no meaning here.
const FINAL: u8 = 0x80;
const COMPRESSED: u8 = 0x40;
const RESERVED: u8 = 0x30;

/// The message that these bytes are, if they are one in a single frame, and nothing else: as most of what comes.
/// Otherwise they are as they were, and for a [`Reader`].
pub(super) fn whole(bytes: &mut [u8], message_bytes_max: usize) -> Option<Message> {
    let header = Header::read(bytes).ok()??;
    let is_plain = header.is_final && !header.is_compressed;
    let payload = bytes.get_mut(header.bytes..)?;
    if !is_plain || payload.len() as u64 != header.length || payload.len() > message_bytes_max {
        return None;
    }
    let take: fn(Bytes) -> Message = match header.kind {
        Kind::Binary => Message::Binary,
        Kind::Text => Message::Text,
        _ => return None,
    };
    unmask(payload, header.mask);
    if header.kind == Kind::Text && std::str::from_utf8(payload).is_err() {
        // Once more, and it is as it came.
        unmask(payload, header.mask);
        return None;
    }
    Some(take(Bytes::copy_from_slice(payload)))
}

/// Puts messages together. Holds no memory between messages.
#[derive(Debug)]
pub(super) struct Reader {
    message_bytes_max: usize,
    /// Whether the client may compress.
    inflates: bool,
    /// What came and is not read yet.
    waiting: BytesMut,
    /// The message that comes in parts.
    parts: Option<Parts>,
}

#[derive(Debug)]
struct Parts {
    kind: Kind,
    is_compressed: bool,
    bytes: BytesMut,
}

impl Reader {
    pub(super) fn new(message_bytes_max: usize, inflates: bool) -> Reader {
        Reader {
            message_bytes_max,
            inflates,
            waiting: BytesMut::new(),
            parts: None,
        }
    }

    /// Takes bytes as they came.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
    }

    /// Whether nothing of a message is there.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.parts.is_none()
    }

    /// The next message, if it is there as a whole.
    ///
    /// # Errors
    /// [`Broken`]: do not read on.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Broken> {
        loop {
            let Some(header) = Header::read(&self.waiting)? else {
                return Ok(None);
            };
            let so_far = match (&self.parts, header.kind) {
                (Some(parts), Kind::Continuation) => parts.bytes.len(),
                _ => 0,
            };
            let room = self.message_bytes_max.saturating_sub(so_far);
            let length = usize::try_from(header.length)
                .ok()
                .filter(|length| *length <= room)
                .ok_or(Broken::TooLong)?;
            if self.waiting.len() - header.bytes < length {
                return Ok(None);
            }
            self.waiting.advance(header.bytes);
            let mut payload = self.waiting.split_to(length);
            if self.waiting.is_empty() {
                self.waiting = BytesMut::new();
            }
            unmask(&mut payload, header.mask);
            if let Some(message) = self.take(&header, payload)? {
                return Ok(Some(message));
            }
        }
    }

    /// Takes one frame; answers the message that it completes.
    fn take(&mut self, header: &Header, payload: BytesMut) -> Result<Option<Message>, Broken> {
        if header.is_compressed && !self.inflates {
            return Err(Broken::Protocol);
        }
        let message = match (header.kind, self.parts.take()) {
            (Kind::Ping, parts) => {
                self.parts = parts;
                return Ok(Some(Message::Ping(payload.freeze())));
            }
            (Kind::Pong, parts) => {
                self.parts = parts;
                return Ok(Some(Message::Pong));
            }
            (Kind::Close, _) => return close_of(&payload).map(Some),
            (Kind::Continuation, Some(mut parts)) => {
                parts.bytes.extend_from_slice(&payload);
                parts
            }
            (kind @ (Kind::Text | Kind::Binary), None) => Parts {
                kind,
                is_compressed: header.is_compressed,
                bytes: payload,
            },
            _ => return Err(Broken::Protocol),
        };
        if !header.is_final {
            self.parts = Some(message);
            return Ok(None);
        }
        let whole = match message.is_compressed {
            true => deflate::inflate(&message.bytes, self.message_bytes_max)?.into(),
            false => message.bytes.freeze(),
        };
        match message.kind {
            Kind::Text if std::str::from_utf8(&whole).is_err() => Err(Broken::NotUtf8),
            Kind::Text => Ok(Some(Message::Text(whole))),
            _ => Ok(Some(Message::Binary(whole))),
        }
    }
}

/// The client's last word: nothing, or a code (section 7.4) and perhaps a reason.
fn close_of(payload: &[u8]) -> Result<Message, Broken> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(Message::Close(CLOSE_NORMAL)),
            _ => Err(Broken::Protocol),
        };
    };
    let code = u16::from_be_bytes(*code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Broken::Protocol);
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Broken::NotUtf8);
    }
    Ok(Message::Close(code))
}

#[derive(Debug)]
struct Header {
    is_final: bool,
    is_compressed: bool,
    kind: Kind,
    length: u64,
    mask: [u8; 4],
    /// How long the header itself is.
    bytes: usize,
}

impl Header {
    /// The header at the beginning, if it is there as a whole.
    fn read(bytes: &[u8]) -> Result<Option<Header>, Broken> {
        let &[first, second, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        let is_final = first & FINAL != 0;
        let is_compressed = first & COMPRESSED != 0;
        let kind = Kind::of(first & 0x0f).ok_or(Broken::Protocol)?;
        let is_control = matches!(kind, Kind::Close | Kind::Ping | Kind::Pong);
        let short = second & 0x7f;
        let is_masked = second & 0x80 != 0;
        // Only the first frame of a message says that it is compressed (RFC 7692, section 6.1).
        let may_be_compressed = matches!(kind, Kind::Text | Kind::Binary);
        if first & RESERVED != 0
            || (is_compressed && !may_be_compressed)
            || !is_masked
            || (is_control && (!is_final || usize::from(short) > CONTROL_BYTES_MAX))
        {
            return Err(Broken::Protocol);
        }
        let (length, rest) = match short {
            126 => match rest.split_first_chunk::<2>() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk::<8>() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };
        let Some((mask, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        Ok(Some(Header {
            is_final,
            is_compressed,
            kind,
            length,
            mask: *mask,
            bytes: bytes.len() - rest.len(),
        }))
    }
}

impl Kind {
    fn of(opcode: u8) -> Option<Kind> {
        Some(match opcode {
            0 => Kind::Continuation,
            1 => Kind::Text,
            2 => Kind::Binary,
            8 => Kind::Close,
            9 => Kind::Ping,
            10 => Kind::Pong,
            _ => return None,
        })
    }
}

/// Section 5.3. By eights, which the compiler makes wide.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (eights, rest) = payload.as_chunks_mut::<8>();
    for eight in eights {
        *eight = (u64::from_ne_bytes(*eight) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Appends one whole frame.
pub(super) fn write(output: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    write_with(output, FINAL | kind as u8, payload);
}

/// Appends a message that is compressed: what [`deflate::compress`] made of it.
pub(super) fn write_compressed(output: &mut Vec<u8>, kind: Kind, payload: &[u8]) {
    write_with(output, FINAL | COMPRESSED | kind as u8, payload);
}

fn write_with(output: &mut Vec<u8>, first: u8, payload: &[u8]) {
    output.reserve(HEADER_BYTES_MAX + payload.len());
    output.push(first);
    match payload.len() {
        // The guards say that it fits.
        length @ 0..=125 => output.push(length as u8),
        length @ 126..=0xffff => {
            output.push(126);
            output.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            output.push(127);
            output.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    output.extend_from_slice(payload);
}

/// How long [`write()`] makes it, at most.
pub(super) fn written_bytes_max(payload: &[u8]) -> usize {
    HEADER_BYTES_MAX + payload.len()
}

#[cfg(test)]
mod tests;
