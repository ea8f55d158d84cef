//! Just enough WebSocket (RFC 6455) for a client: frames in and out of byte buffers, no sockets. Messages may come
//! compressed (RFC 7692), each for itself.

use flate2::{Decompress, FlushDecompress};

/// What a server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole text or binary message.
    Data(&'a [u8]),
    /// A whole message, compressed: [`Inflater`] reads it.
    Compressed(&'a [u8]),
    /// To be answered with the same bytes.
    Ping(&'a [u8]),
    /// An answer to a ping.
    Pong,
    /// The end.
    Close,
}

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// Text.
    Text = 1,
    /// Bytes.
    Binary = 2,
    /// The end.
    Close = 8,
    /// The answer to a ping.
    Pong = 10,
}

/// Bytes that are no frame of a server, or one that this client does not expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a WebSocket frame {0}")]
pub struct FrameError(&'static str);

/// Inflates compressed messages.
#[derive(Debug)]
pub struct Inflater {
    inflate: Decompress,
    output: Vec<u8>,
}

/// The longest frame that is taken, and the longest message.
const FRAME_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What every compressed message ends with, and is left away (RFC 7692, section 7.2.1).
const COMPRESSED_TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;

/// The first frame in `input` and how many bytes it took; `None` if it is not whole yet.
///
/// # Errors
/// When the bytes are no frame that a server of this protocol sends (it never splits messages).
pub fn parse(input: &[u8]) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((&[first, second], rest)) = input.split_first_chunk::<2>() else {
        return Ok(None);
    };
    if second & MASKED != 0 {
        return Err(FrameError("is masked, which a server must not do"));
    }
    let (length, header) = match second {
        0..126 => (u64::from(second), 2),
        126 => match rest.first_chunk() {
            Some(&bytes) => (u64::from(u16::from_be_bytes(bytes)), 4),
            None => return Ok(None),
        },
        _ => match rest.first_chunk() {
            Some(&bytes) => (u64::from_be_bytes(bytes), 10),
            None => return Ok(None),
        },
    };
    if length > FRAME_BYTES_MAX {
        return Err(FrameError("is too long"));
    }
    let end = header + length as usize;
    let Some(payload) = input.get(header..end) else {
        return Ok(None);
    };
    let frame = match first {
        0x81 | 0x82 => Frame::Data(payload),
        0xc1 | 0xc2 => Frame::Compressed(payload),
        0x88 => Frame::Close,
        0x89 => Frame::Ping(payload),
        0x8a => Frame::Pong,
        _ => return Err(FrameError("is split or of an unknown kind")),
    };
    Ok(Some((frame, end)))
}

impl Default for Inflater {
    fn default() -> Inflater {
        Inflater {
            inflate: Decompress::new(false),
            output: Vec::new(),
        }
    }
}

impl Inflater {
    /// The message of this payload.
    ///
    /// # Errors
    /// When it cannot be inflated, or not within the bound of all frames.
    pub fn inflate(&mut self, payload: &[u8]) -> Result<&[u8], FrameError> {
        self.inflate.reset(false);
        self.output.clear();
        for mut input in [payload, &COMPRESSED_TAIL] {
            loop {
                if self.output.len() == self.output.capacity() {
                    self.output.reserve(4 * payload.len() + 64);
                }
                let before = (self.inflate.total_in(), self.output.len());
                self.inflate
                    .decompress_vec(input, &mut self.output, FlushDecompress::None)
                    .map_err(|_| FrameError("is not compressed as it says"))?;
                if self.output.len() as u64 > FRAME_BYTES_MAX {
                    return Err(FrameError("is too long"));
                }
                // What was taken in may still come out with the next call.
                if before == (self.inflate.total_in(), self.output.len()) {
                    break;
                }
                let taken = (self.inflate.total_in() - before.0) as usize;
                input = input.get(taken..).unwrap_or_default();
            }
            if !input.is_empty() {
                return Err(FrameError("goes on after its end"));
            }
        }
        Ok(&self.output)
    }
}

/// Appends a frame, masked with `mask` as a client must.
pub fn put(output: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: [u8; 4]) {
    output.push(FINAL | opcode as u8);
    match payload.len() {
        length @ 0..126 => output.push(MASKED | length as u8),
        length @ 126..=0xffff => {
            output.push(MASKED | 126);
            output.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            output.push(MASKED | 127);
            output.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    output.extend_from_slice(&mask);
    let (chunks, rest) = payload.as_chunks::<4>();
    for chunk in chunks {
        let masked = u32::from_ne_bytes(*chunk) ^ u32::from_ne_bytes(mask);
        output.extend_from_slice(&masked.to_ne_bytes());
    }
    output.extend(rest.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
}

/// The request that opens a connection.
#[must_use]
pub fn upgrade_request(host: &str, subprotocol: &str, compresses: bool) -> String {
    let offer = match compresses {
        true => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        false => "",
    };
    // The key guards against caches between browser and server; a constant does here.
    format!(
        "GET /v1/connect HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n{offer}\r\n"
    )
}

/// How long the answer to [`upgrade_request`] is; `None` if it is not whole yet.
///
/// # Errors
/// The answer's first line, if the server refused.
pub fn parse_upgrade(input: &[u8]) -> Result<Option<usize>, String> {
    const END: &[u8] = b"\r\n\r\n";
    let Some(end) = input.windows(END.len()).position(|bytes| bytes == END) else {
        return Ok(None);
    };
    if input.starts_with(b"HTTP/1.1 101") {
        return Ok(Some(end + END.len()));
    }
    let text = String::from_utf8_lossy(input);
    Err(text.lines().next().unwrap_or_default().to_owned())
}

/// Whether the answer to [`upgrade_request`] agrees to compress.
#[must_use]
pub fn agrees_to_compress(head: &[u8]) -> bool {
    String::from_utf8_lossy(head).lines().any(|line| {
        line.split_once(':').is_some_and(|(name, value)| {
            name.eq_ignore_ascii_case("sec-websocket-extensions")
                && value.trim_ascii_start().starts_with("permessage-deflate")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_when_they_are_whole() {
        // RFC 6455, section 5.7: an unmasked text frame, and 256 bytes of binary.
        let hello = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];
        assert_eq!(parse(&hello), Ok(Some((Frame::Data(b"Hello"), 7))));
        let mut long = vec![0x82, 0x7e, 0x01, 0x00];
        long.extend([7; 256]);
        long.extend(hello);
        assert_eq!(parse(&long), Ok(Some((Frame::Data(&[7; 256]), 260))));
        for end in 0..260 {
            assert_eq!(parse(&long[..end]), Ok(None), "{end}");
        }
        let mut longer = vec![0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0];
        longer.extend(vec![1; 65_536]);
        assert_eq!(parse(&longer).unwrap().unwrap().1, 65_546);
        assert_eq!(parse(&[0x89, 1, 9]), Ok(Some((Frame::Ping(&[9]), 3))));
        assert_eq!(parse(&[0x88, 2, 3, 232]), Ok(Some((Frame::Close, 4))));
    }

    #[test]
    fn compressed_messages_are_inflated() {
        // RFC 7692, section 7.2.3: "Hello", in a compressed block and in one without compression.
        let frame = [0xc1, 0x07, 0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
        assert_eq!(parse(&frame), Ok(Some((Frame::Compressed(&frame[2..]), 9))));
        let mut inflater = Inflater::default();
        let stored = [0, 5, 0, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0];
        for payload in [&frame[2..], &stored] {
            assert_eq!(inflater.inflate(payload), Ok(&b"Hello"[..]));
        }
        // Longer than the window, of few bytes.
        let mut long = Vec::with_capacity(1_000);
        flate2::Compress::new(flate2::Compression::fast(), false)
            .compress_vec(&[b'x'; 100_000], &mut long, flate2::FlushCompress::Sync)
            .unwrap();
        let payload = long.strip_suffix(&COMPRESSED_TAIL).unwrap();
        assert_eq!(inflater.inflate(payload), Ok(&[b'x'; 100_000][..]));
        assert!(inflater.inflate(&[0xff; 9]).is_err());
        assert_eq!(inflater.inflate(&frame[2..]), Ok(&b"Hello"[..]));
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        for bytes in [
            &[0x81, 0x80][..],
            &[0x01, 0x00],
            &[0xe1, 0x00],
            &[0xc9, 0x00],
            &[0x83, 0x00],
        ] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
        assert!(parse(&[0x82, 0x7f, 255, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn frames_are_masked() {
        // RFC 6455, section 5.7: a masked text frame.
        let mut output = Vec::new();
        put(
            &mut output,
            Opcode::Text,
            b"Hello",
            [0x37, 0xfa, 0x21, 0x3d],
        );
        assert_eq!(
            output,
            [
                0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58
            ]
        );
        for (length, header) in [(125, 6), (126, 8), (65_535, 8), (65_536, 14)] {
            let mut output = Vec::new();
            put(&mut output, Opcode::Binary, &vec![0; length], [1, 2, 3, 4]);
            assert_eq!(output.len(), header + length);
        }
    }

    #[test]
    fn upgrades_are_accepted_or_say_why_not() {
        assert_eq!(parse_upgrade(b"HTTP/1.1 101 Switching"), Ok(None));
        assert_eq!(
            parse_upgrade(b"HTTP/1.1 101 S\r\nA: b\r\n\r\nrest"),
            Ok(Some(24))
        );
        assert_eq!(
            parse_upgrade(b"HTTP/1.1 403 Forbidden\r\n\r\n"),
            Err("HTTP/1.1 403 Forbidden".to_owned())
        );
        let agrees = b"HTTP/1.1 101 S\r\nsec-websocket-extensions: permessage-deflate; x\r\n\r\n";
        assert!(agrees_to_compress(agrees));
        assert!(!agrees_to_compress(b"HTTP/1.1 101 S\r\nA: b\r\n\r\n"));
    }
}
