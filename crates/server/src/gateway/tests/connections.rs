//! The connections themselves: what comes with the first bytes of one, those on which nothing is asked, and their ends.

use std::time::Duration;

use serde_json::json;
use tidings_protocol::Encoding;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::world::World;

/// How long anything may take here before it is taken for lost.
const PATIENCE: Duration = Duration::from_secs(20);

async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    // A connection that is reset has ended too.
    let _ = tokio::time::timeout(PATIENCE, reading).await.unwrap();
    bytes
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed_and_a_websocket_is_not() {
    let world = World::with(|settings| settings.limits.request_within_ms = 200).await;
    let ada = world.person("ada").await;
    let mut client = world.connect(&ada, Encoding::Json).await;
    for begun in ["", "GET /v1/co", "GET /v1/me HTTP/1.1\r\nhost: here\r\n"] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        read_to_end(&mut stream).await;
    }
    // Kept open after an answer, and closed when nothing more is asked.
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let asked = format!("GET /v1/me HTTP/1.1\r\nhost: {}\r\n\r\n", world.address);
    stream.write_all(asked.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut stream).await;
    assert!(answer.starts_with(b"HTTP/1.1 401 "));
    client.send(&json!({ "ping": { "id": 7 } })).await;
    assert_eq!(client.until("pong").await["id"], 7);
}

#[tokio::test]
async fn frames_that_come_with_the_handshake_are_read() {
    let world = World::new().await;
    let ada = world.person("ada").await;
    let frame = |value: serde_json::Value| {
        // Masked with zeros (RFC 6455, section 5.2).
        let text = value.to_string().into_bytes();
        let length = u16::try_from(text.len()).unwrap().to_be_bytes();
        [&[0x81, 0x80 | 126], &length[..], &[0; 4], &text].concat()
    };
    let head = format!(
        "GET /v1/connect HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: tidings.v1.json\r\n\r\n",
        world.address
    );
    let all = [
        head.into_bytes(),
        frame(json!({ "hello": { "id": 1, "token": ada.token } })),
        frame(json!({ "ping": { "id": 2, "padding": "x".repeat(150) } })),
    ]
    .concat();
    // In one piece, and with a cut in the middle of a frame.
    for cut in [all.len(), all.len() - 20] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (first, rest) = all.split_at(cut);
        stream.write_all(first).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        stream.write_all(rest).await.unwrap();
        let mut told = String::new();
        while !told.contains(r#""pong":{"id":2"#) {
            let mut bytes = [0; 4_096];
            let reading = stream.read(&mut bytes);
            let count = tokio::time::timeout(PATIENCE, reading)
                .await
                .unwrap()
                .unwrap();
            assert!(count > 0, "{told}");
            told += &String::from_utf8_lossy(&bytes[..count]);
        }
        assert!(told.contains(r#""welcome":{"id":1"#), "{told}");
    }
}

#[tokio::test]
async fn what_was_answered_is_told_before_the_end() {
    let world = World::with(|settings| settings.limits.frame_bytes_max = 16_384).await;
    let ada = world.person("ada").await;
    let mut client = world.connect(&ada, Encoding::Json).await;
    let ping = json!({ "ping": { "id": 2 } });
    let too_long = json!({ "ping": { "id": 3, "padding": "x".repeat(20_000) } });
    client.send_all(&[ping, too_long]).await;
    assert_eq!(client.until("pong").await["id"], 2);
    assert_eq!(client.end().await, ("frame_too_large".to_owned(), 1009));
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let world = World::new().await;
    let ada = world.person("ada").await;
    let mut client = world.connect(&ada, Encoding::Json).await;
    let close = CloseFrame {
        code: 4_321.into(),
        reason: "enough".into(),
    };
    client.send_raw(Message::Close(Some(close))).await;
    assert_eq!(client.end().await, (String::new(), 4_321));
}
