//! `permessage-deflate`, with a client that reads frames bit by bit.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use serde_json::{Value, json};
use tidings_protocol::{ClientFrame, Encoding, ServerFrame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::{Person, World, message};

const OFFER: &str = "sec-websocket-extensions: permessage-deflate; client_max_window_bits\r\n";
const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

struct Client {
    stream: TcpStream,
    encoding: Encoding,
    /// The answer to the handshake.
    head: String,
}

impl Client {
    async fn connect(world: &World, encoding: Encoding, headers: &str) -> Client {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let request = format!(
            "GET /v1/connect HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: {}\r\n{headers}\r\n",
            world.address,
            encoding.subprotocol(),
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        Client {
            stream,
            encoding,
            head: String::from_utf8(head).unwrap().to_lowercase(),
        }
    }

    fn agreed(&self) -> Option<&str> {
        let mut lines = self.head.lines();
        lines.find_map(|line| line.strip_prefix("sec-websocket-extensions: "))
    }

    /// Sends a frame with this first byte.
    async fn send_raw(&mut self, first: u8, payload: &[u8]) {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        // With a mask of zeros.
        let header = [first, 0x80 | 126, length[0], length[1], 0, 0, 0, 0];
        self.stream.write_all(&header).await.unwrap();
        self.stream.write_all(payload).await.unwrap();
    }

    async fn send(&mut self, frame: &Value, is_compressed: bool) {
        let frame: ClientFrame = serde_json::from_value(frame.clone()).unwrap();
        let bytes = self.encoding.encode(&frame).unwrap();
        let first = match self.encoding {
            Encoding::Json => 0x81,
            Encoding::Cbor => 0x82,
        };
        match is_compressed {
            true => self.send_raw(first | 0x40, &deflate(&bytes)).await,
            false => self.send_raw(first, &bytes).await,
        }
    }

    /// The next frame's first byte and payload.
    async fn next_raw(&mut self) -> (u8, Vec<u8>) {
        let [first, short] = self.stream.read_u16().await.unwrap().to_be_bytes();
        let length = match short {
            126 => u64::from(self.stream.read_u16().await.unwrap()),
            127 => self.stream.read_u64().await.unwrap(),
            short => u64::from(short),
        };
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.unwrap();
        (first, payload)
    }

    /// The next frame of the protocol, and whether it was compressed.
    async fn next(&mut self) -> (Value, bool) {
        let (first, payload) = self.next_raw().await;
        let is_compressed = first & 0x40 != 0;
        let bytes = match is_compressed {
            true => inflate(&payload),
            false => payload,
        };
        let frame: ServerFrame = self.encoding.decode(&bytes).unwrap();
        (serde_json::to_value(frame).unwrap(), is_compressed)
    }

    async fn until(&mut self, name: &str) -> (Value, bool) {
        loop {
            let (frame, is_compressed) = self.next().await;
            if let Some(content) = frame.get(name) {
                return (content.clone(), is_compressed);
            }
        }
    }

    async fn hello(&mut self, person: &Person, is_compressed: bool) {
        let hello =
            json!({ "hello": { "id": 1, "token": person.token, "client": "x", "rules": 1 } });
        self.send(&hello, is_compressed).await;
        self.until("welcome").await;
    }

    /// The reason of `bye`, and the close code.
    async fn end(&mut self) -> (String, u16) {
        let bye = self.until("bye").await.0;
        let (first, payload) = self.next_raw().await;
        assert_eq!(first, 0x88);
        let reason = bye["reason"].as_str().unwrap().replace("tidings:", "");
        (reason, u16::from_be_bytes([payload[0], payload[1]]))
    }
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut output = Vec::with_capacity(bytes.len() + 100);
    Compress::new(Compression::best(), false)
        .compress_vec(bytes, &mut output, FlushCompress::Sync)
        .unwrap();
    output.strip_suffix(&TAIL).unwrap().to_vec()
}

fn inflate(payload: &[u8]) -> Vec<u8> {
    let mut output = Vec::with_capacity(1_000_000);
    Decompress::new(false)
        .decompress_vec(
            &[payload, &TAIL].concat(),
            &mut output,
            FlushDecompress::None,
        )
        .unwrap();
    output
}

/// A conversation of 50 messages.
async fn conversation(world: &World, of: &Person, with: &Person) -> Value {
    let mut client = world.connect(of, Encoding::Json).await;
    let mut conversation = Value::Null;
    for id in 2..52 {
        let text = format!("message {id}, as one writes when one has something to say");
        client.send(&message(id, with.user, &text)).await;
        conversation = client.until("sent").await["conversation"].clone();
    }
    conversation
}

/// A server that compresses.
async fn compressing() -> World {
    World::with(|settings| settings.sessions.compress_from_bytes = 1_024).await
}

fn history(conversation: &Value) -> Value {
    json!({ "history": { "id": 5, "conversation": conversation, "after": 0, "limit": 100 } })
}

#[tokio::test]
async fn pages_come_compressed_to_who_offers_it() {
    let world = compressing().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let conversation = conversation(&world, &ada, &bob).await;
    for encoding in [Encoding::Json, Encoding::Cbor] {
        for is_compressed in [true, false] {
            let mut client = Client::connect(&world, encoding, OFFER).await;
            assert_eq!(client.agreed(), Some(ANSWER), "{}", client.head);
            client.hello(&bob, is_compressed).await;
            client.send(&history(&conversation), is_compressed).await;
            let (page, came_compressed) = client.until("history").await;
            assert!(came_compressed);
            assert!(page["entries"].as_array().unwrap().len() >= 50, "{page}");
            client.send(&json!({ "ping": { "id": 6 } }), true).await;
            let (pong, came_compressed) = client.until("pong").await;
            assert_eq!((&pong["id"], came_compressed), (&json!(6), false));
        }
    }
}

#[tokio::test]
async fn who_does_not_offer_it_never_sees_it() {
    let world = compressing().await;
    let off = World::new().await;
    let unfit =
        "sec-websocket-extensions: permessage-deflate; server_max_window_bits=9, x-other\r\n";
    for (number, (world, headers)) in [(&world, ""), (&world, unfit), (&off, OFFER)]
        .into_iter()
        .enumerate()
    {
        let ada = world.person(&format!("ada{number}")).await;
        let bob = world.person(&format!("bob{number}")).await;
        let conversation = conversation(world, &ada, &bob).await;
        for encoding in [Encoding::Json, Encoding::Cbor] {
            let mut client = Client::connect(world, encoding, headers).await;
            assert_eq!(client.agreed(), None, "{}", client.head);
            client.hello(&bob, false).await;
            client.send(&history(&conversation), false).await;
            loop {
                let (frame, is_compressed) = client.next().await;
                assert!(!is_compressed, "{frame}");
                if frame.get("history").is_some() {
                    break;
                }
            }
            client.send(&json!({ "ping": { "id": 6 } }), true).await;
            assert_eq!(client.end().await, ("malformed_frame".to_owned(), 1002));
        }
    }
}

#[tokio::test]
async fn compressed_messages_that_break_the_rules_end_the_connection() {
    let world = compressing().await;
    let bob = world.person("bob").await;
    let whole = deflate(&[b' '; 5_000]);
    let half = &whole[..whole.len() / 2];
    let bomb = deflate(&vec![b' '; 5_000_000]);
    for (first, payload, reason, code) in [
        (0xc1, &bomb[..], "frame_too_large", 1009),
        (0xc1, &[0xff; 200], "malformed_frame", 1007),
        (0xc1, half, "malformed_frame", 1007),
        (0xc1, &deflate(&[0xff; 200]), "malformed_frame", 1007),
        (0xe1, &whole, "malformed_frame", 1002),
        (0xc0, &whole, "malformed_frame", 1002),
        (0xc9, &[], "malformed_frame", 1002),
    ] {
        for says_hello in [true, false] {
            let mut client = Client::connect(&world, Encoding::Json, OFFER).await;
            if says_hello {
                client.hello(&bob, true).await;
            }
            client.send_raw(first, payload).await;
            let end = client.end().await;
            assert_eq!(end, (reason.to_owned(), code), "{first:x}");
        }
    }
}

#[tokio::test]
async fn a_malformed_offer_is_refused() {
    let world = World::new().await;
    let headers = "sec-websocket-extensions: permessage-deflate; =\r\n";
    let client = Client::connect(&world, Encoding::Json, headers).await;
    assert!(client.head.starts_with("http/1.1 422 "), "{}", client.head);
}
