use proptest::prelude::*;

use super::*;

const MAX: usize = 1_000;

/// A frame as a client writes it.
fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, Kind::Text, payload);
    bytes[0] = first;
    bytes[1] |= 0x80;
    let header = bytes.len() - payload.len();
    bytes.truncate(header);
    bytes.extend_from_slice(&mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
    bytes
}

/// All messages of what comes in pieces of this size.
fn read(bytes: &[u8], piece: usize) -> Result<Vec<Message>, Broken> {
    read_by(Reader::new(MAX, false), bytes, piece)
}

/// The same, where compression was agreed on.
fn inflate(bytes: &[u8], piece: usize) -> Result<Vec<Message>, Broken> {
    read_by(Reader::new(MAX, true), bytes, piece)
}

fn read_by(mut reader: Reader, bytes: &[u8], piece: usize) -> Result<Vec<Message>, Broken> {
    let mut messages = Vec::new();
    for piece in bytes.chunks(piece.max(1)) {
        reader.push(piece);
        while let Some(message) = reader.next()? {
            messages.push(message);
        }
    }
    Ok(messages)
}

#[test]
fn messages_come_whole_in_parts_and_with_pings_between() {
    let bytes = [
        frame(0x81, b"one", [1, 2, 3, 4]),
        frame(0x02, b"tw", [5; 4]),
        frame(0x89, b"?", [6; 4]),
        frame(0x00, b"", [7; 4]),
        frame(0x80, b"o", [8; 4]),
        frame(0x8a, b"", [9; 4]),
        frame(0x88, &[0x03, 0xe8], [0; 4]),
    ]
    .concat();
    let expected = || {
        vec![
            Message::Text("one".into()),
            Message::Ping("?".into()),
            Message::Binary("two".into()),
            Message::Pong,
            Message::Close(1000),
        ]
    };
    for piece in 1..bytes.len() {
        assert_eq!(read(&bytes, piece), Ok(expected()), "{piece}");
    }
}

#[test]
fn what_breaks_the_rules_is_broken() {
    let mask = [0; 4];
    let long = [b'x'; MAX + 1];
    let ping = [0; 126];
    for (bytes, broken) in [
        (vec![0x81, 0x01, b'x'], Broken::Protocol),
        (frame(0xc1, b"", mask), Broken::Protocol),
        (frame(0x83, b"", mask), Broken::Protocol),
        (frame(0x80, b"", mask), Broken::Protocol),
        (frame(0x89, &ping, mask), Broken::Protocol),
        (frame(0x09, b"", mask), Broken::Protocol),
        (frame(0x88, b"x", mask), Broken::Protocol),
        (
            [frame(0x01, b"", mask), frame(0x81, b"", mask)].concat(),
            Broken::Protocol,
        ),
        (frame(0x81, &[0xc3, 0x28], mask), Broken::NotUtf8),
        (frame(0x82, &long, mask), Broken::TooLong),
        (
            [
                frame(0x02, &long[..600], mask),
                frame(0x80, &long[..600], mask),
            ]
            .concat(),
            Broken::TooLong,
        ),
        (
            vec![
                0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
            ],
            Broken::TooLong,
        ),
    ] {
        for piece in [1, bytes.len()] {
            assert_eq!(read(&bytes, piece), Err(broken), "{bytes:x?}");
        }
    }
    let split = [frame(0x01, &[0xc3], mask), frame(0x80, &[0xa9], mask)].concat();
    assert_eq!(read(&split, 99), Ok(vec![Message::Text("é".into())]));
}

#[test]
fn compressed_messages_come_whole_in_parts_and_among_others() {
    let text = "again and ".repeat(50);
    let payload = deflate::compress(text.as_bytes()).unwrap();
    let (first, rest) = payload.split_at(9);
    let bytes = [
        frame(0xc1, &payload, [1, 2, 3, 4]),
        frame(0x81, b"plain", [5; 4]),
        frame(0x42, first, [6; 4]),
        frame(0x89, b"?", [7; 4]),
        frame(0x00, b"", [8; 4]),
        frame(0x80, rest, [9; 4]),
    ]
    .concat();
    for piece in 1..bytes.len() {
        let expected = vec![
            Message::Text(text.clone().into()),
            Message::Text("plain".into()),
            Message::Ping("?".into()),
            Message::Binary(text.clone().into()),
        ];
        assert_eq!(inflate(&bytes, piece), Ok(expected), "{piece}");
    }
    assert_eq!(read(&bytes, 99), Err(Broken::Protocol), "not agreed on");
}

#[test]
fn what_breaks_the_rules_of_compression_is_broken() {
    let mask = [3; 4];
    let compress = |message: &[u8]| deflate::compress(message).unwrap();
    let most = compress(&[b'x'; MAX]);
    let bomb = compress(&[b'x'; MAX + 1]);
    let not_utf8 = compress(&[0xff; 100]);
    for (bytes, broken) in [
        (frame(0xe2, &most, mask), Broken::Protocol),
        (frame(0xd2, &most, mask), Broken::Protocol),
        (frame(0xc9, b"", mask), Broken::Protocol),
        (frame(0xca, b"", mask), Broken::Protocol),
        (frame(0xc8, b"", mask), Broken::Protocol),
        (
            [frame(0x42, &most[..4], mask), frame(0xc0, &most[4..], mask)].concat(),
            Broken::Protocol,
        ),
        (frame(0xc2, &bomb, mask), Broken::TooLong),
        (frame(0xc2, &[b'x'; MAX + 1], mask), Broken::TooLong),
        (frame(0xc1, &not_utf8, mask), Broken::NotUtf8),
        (frame(0xc2, &most[..4], mask), Broken::NotDeflate),
        (frame(0xc2, b"", mask), Broken::NotDeflate),
        (frame(0xc2, &[0xff; 9], mask), Broken::NotDeflate),
    ] {
        for piece in [1, bytes.len()] {
            assert_eq!(inflate(&bytes, piece), Err(broken), "{bytes:x?}");
        }
    }
    let expected = vec![Message::Binary(vec![b'x'; MAX].into())];
    assert_eq!(inflate(&frame(0xc2, &most, mask), 99), Ok(expected));
}

#[test]
fn nothing_is_kept_between_messages() {
    let mut reader = Reader::new(1 << 20, false);
    reader.push(&frame(0x82, &vec![0; 1 << 20], [1; 4]));
    assert!(reader.next().unwrap().is_some());
    assert_eq!(reader.waiting.capacity(), 0);
    assert!(reader.parts.is_none());
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1_usize..50) {
        let whole = read(&bytes, bytes.len());
        let pieces = read(&bytes, piece);
        prop_assert_eq!(whole, pieces);
        prop_assert_eq!(inflate(&bytes, bytes.len()), inflate(&bytes, piece));
    }

    #[test]
    fn what_is_written_is_read(payload in prop::collection::vec(any::<u8>(), 0..MAX), mask: [u8; 4]) {
        let messages = read(&frame(0x82, &payload, mask), 7).unwrap();
        prop_assert_eq!(messages, vec![Message::Binary(payload.into())]);
    }
}

#[test]
fn a_close_says_a_code_that_clients_may_use() {
    let mask = [7; 4];
    let close = |payload: &[u8]| read(&frame(0x88, payload, mask), 99);
    let said = |code| Ok(vec![Message::Close(code)]);
    assert_eq!(close(b""), said(1000));
    for code in [1000_u16, 1001, 1003, 1011, 3000, 4999] {
        let payload = [&code.to_be_bytes(), "é".as_bytes()].concat();
        assert_eq!(close(&payload), said(code));
    }
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
        assert_eq!(close(&code.to_be_bytes()), Err(Broken::Protocol), "{code}");
    }
    assert_eq!(close(&[3]), Err(Broken::Protocol));
    assert_eq!(close(&[3, 0xe8, 0xff]), Err(Broken::NotUtf8));
}

proptest! {
    #[test]
    fn a_message_alone_is_what_a_reader_reads(
        first: u8,
        payload in prop::collection::vec(any::<u8>(), 0..MAX + 9),
        mask: [u8; 4],
        more in prop::collection::vec(any::<u8>(), 0..3),
        lacking in 0_usize..3,
    ) {
        // Mostly a text or a binary one.
        let first = if first < 128 { 0x81 + first % 2 } else { first };
        let mut bytes = [frame(first, &payload, mask), more].concat();
        bytes.truncate(bytes.len() - lacking);
        let before = bytes.clone();
        match whole(&mut bytes, MAX) {
            Some(message) => prop_assert_eq!(read(&before, before.len()), Ok(vec![message])),
            None => prop_assert_eq!(bytes, before),
        }
    }

    #[test]
    fn a_text_alone_is_found(text in ".{0,40}", mask: [u8; 4]) {
        let mut bytes = frame(0x81, text.as_bytes(), mask);
        prop_assert_eq!(whole(&mut bytes, MAX), Some(Message::Text(text.into())));
    }
}
