//! Just enough WebSocket (RFC 6455) for a client: frames in and out of byte buffers, no sockets.

/// What a server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole text or binary message.
    Data(&'a [u8]),
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

/// The longest frame that is taken.
const FRAME_BYTES_MAX: u64 = 64 * 1024 * 1024;

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
        0x88 => Frame::Close,
        0x89 => Frame::Ping(payload),
        0x8a => Frame::Pong,
        _ => return Err(FrameError("is split, compressed or of an unknown kind")),
    };
    Ok(Some((frame, end)))
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
pub fn upgrade_request(host: &str, subprotocol: &str) -> String {
    // The key guards against caches between browser and server; a constant does here.
    format!(
        "GET /v1/connect HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
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
    fn what_no_server_sends_is_refused() {
        for bytes in [
            &[0x81, 0x80][..],
            &[0x01, 0x00],
            &[0xc1, 0x00],
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
    }
}
