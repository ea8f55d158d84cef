use std::time::Duration;

use serde_json::{Value, json};
use tidings_protocol::Encoding;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::world::{World, client_id, message};

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::Cbor];

fn code_of(frame: &Value) -> &str {
    let code = frame["error"]["problem"]["type"].as_str();
    code.unwrap_or_else(|| panic!("{frame}"))
        .trim_start_matches("tidings:")
}

#[tokio::test]
async fn a_message_goes_from_one_to_the_other_in_either_encoding() {
    let world = World::new().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    for (number, encoding) in (1..).zip(BOTH) {
        let mut of_ada = world.connect(&ada, encoding).await;
        let mut of_bob = world.connect(&bob, encoding).await;
        of_ada.send(&message(number, bob.user, "hello")).await;
        let sent = of_ada.until("sent").await;
        assert_eq!(sent["id"], number);
        assert_eq!(sent["client_id"], client_id(number));
        let conversation = sent["conversation"].clone();
        loop {
            let frame = of_bob.next().await;
            let last = match (&frame["entries"], &frame["conversation"]) {
                (Value::Object(entries), _) => entries["entries"][0].clone(),
                (_, Value::Object(frame)) => frame["conversation"]["last"].clone(),
                _ => continue,
            };
            if last["content"]["text"] == "hello" {
                break;
            }
        }
        of_bob
            .send(&json!({ "mark": { "id": 9, "marks": [
                { "conversation": conversation, "delivered": sent["seq"] } ] } }))
            .await;
        assert_eq!(of_bob.until("done").await["id"], 9);
        loop {
            let marks = of_ada.until("marks").await;
            if marks["marks"][0]["delivered"] == sent["seq"]
                && marks["marks"][0]["user"] == json!(bob.user)
            {
                break;
            }
        }
        of_bob.send(&json!({ "ping": { "id": 10 } })).await;
        assert_eq!(of_bob.until("pong").await["id"], 10);
    }
}

#[tokio::test]
async fn requests_are_answered_in_order_and_sends_keep_theirs() {
    let world = World::new().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let mut client = world.connect(&ada, Encoding::Json).await;
    let frames: Vec<Value> = (2..=200)
        .map(|id| match id % 10 {
            0 => json!({ "inbox": { "id": id } }),
            5 => json!({ "ping": { "id": id } }),
            _ => message(id, bob.user, &id.to_string()),
        })
        .collect();
    client.send_all(&frames).await;
    let (mut sent, mut others) = (Vec::new(), Vec::new());
    while sent.len() + others.len() < frames.len() {
        let frame = client.next().await;
        if let Some(frame) = frame.get("sent") {
            sent.push((
                frame["seq"].as_u64().unwrap(),
                frame["id"].as_u64().unwrap(),
            ));
        } else if let Some(frame) = frame.get("inbox").or(frame.get("pong")) {
            others.push(frame["id"].as_u64().unwrap());
        } else {
            assert!(frame.get("error").is_none(), "{frame}");
        }
    }
    assert!(others.is_sorted());
    let mut by_seq = sent.clone();
    by_seq.sort_unstable();
    assert!(by_seq.iter().map(|(_, id)| id).is_sorted(), "{by_seq:?}");
}

#[tokio::test]
async fn the_handshake_needs_a_subprotocol() {
    let world = World::new().await;
    for protocol in [None, Some("tidings.v9.xml")] {
        let Err(Error::Http(response)) = world.handshake(protocol, &[]).await else {
            panic!("taken");
        };
        assert_eq!(response.status(), 422);
        let body = String::from_utf8(response.body().clone().unwrap()).unwrap();
        assert!(body.contains("tidings.v1.json"), "{body}");
    }
    let several = Some("x, tidings.v1.cbor, tidings.v1.json");
    let client = world.handshake(several, &[]).await;
    // The client's order decides; the library refuses an answer that it did not ask for.
    assert!(client.is_ok(), "{:?}", client.err());
}

#[tokio::test]
async fn hello_must_come_first_and_in_time() {
    let world = World::with(|settings| settings.sessions.hello_within_ms = 100).await;
    let mut late = world.open(Encoding::Json).await;
    assert_eq!(code_of(&late.next().await), "hello_expected");
    assert_eq!(late.end().await, ("hello_expected".to_owned(), 4400));

    let world = World::new().await;
    let ada = world.person("ada").await;
    for encoding in BOTH {
        let mut other = world.open(encoding).await;
        other.send(&json!({ "ping": { "id": 7 } })).await;
        let error = other.next().await;
        assert_eq!(
            (code_of(&error), &error["error"]["id"]),
            ("hello_expected", &json!(7))
        );
        assert_eq!(other.end().await.1, 4400);

        let mut wrong = world.open(encoding).await;
        wrong
            .send(&json!({ "hello": { "id": 1, "token": "nonsense" } }))
            .await;
        assert_eq!(code_of(&wrong.next().await), "unauthorized");
        assert_eq!(wrong.end().await, ("unauthorized".to_owned(), 4401));

        let mut twice = world.connect(&ada, encoding).await;
        twice
            .send(&json!({ "hello": { "id": 2, "token": ada.token } }))
            .await;
        assert_eq!(code_of(&twice.next().await), "hello_expected");
        twice.send(&json!({ "ping": { "id": 3 } })).await;
        assert_eq!(twice.until("pong").await["id"], 3, "the connection stays");
    }
}

#[tokio::test]
async fn who_is_silent_is_cut_off() {
    let world = World::with(|settings| {
        settings.sessions.heartbeat_ms_min = 50;
        settings.sessions.heartbeat_grace_ms = 50;
    })
    .await;
    let ada = world.person("ada").await;
    let mut client = world.open(Encoding::Json).await;
    client
        .send(&json!({ "hello": { "id": 1, "token": ada.token, "heartbeat_ms": 1 } }))
        .await;
    assert_eq!(client.until("welcome").await["heartbeat_ms"], 50);
    for id in 2..6 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        client.send(&json!({ "ping": { "id": id } })).await;
        assert_eq!(client.until("pong").await["id"], id);
    }
    assert_eq!(client.end().await, ("heartbeat_missed".to_owned(), 4408));
}

#[tokio::test]
async fn bad_frames_are_answered_and_a_few_are_forgiven() {
    let world = World::with(|settings| settings.limits.bad_frames_per_minute_max = 9).await;
    let ada = world.person("ada").await;
    let mut client = world.connect(&ada, Encoding::Json).await;
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    let deep_history = format!(r#"{{"history":{{"id":5,"conversation":{deep}}}}}"#);
    let client_id = tidings_core::ClientId([7; 16]);
    let dance = json!({ "send": { "id": 4, "client_id": client_id, "action": { "dance": {} } } });
    let dance = dance.to_string();
    for (text, code, id) in [
        ("{", "malformed_frame", None),
        ("\"ping\"", "malformed_frame", None),
        (r#"{"ping":{"id":-1}}"#, "malformed_frame", None),
        (r#"{"fly":{"id":4}}"#, "unknown_frame", Some(4)),
        (dance.as_str(), "malformed_frame", Some(4)),
        (deep.as_str(), "malformed_frame", None),
        (deep_history.as_str(), "malformed_frame", None),
    ] {
        client.send_raw(Message::text(text)).await;
        let error = client.next().await;
        assert_eq!(code_of(&error), code);
        assert_eq!(error["error"].get("id"), id.map(|id| json!(id)).as_ref());
    }
    client.send_raw(Message::binary(vec![0xff; 10])).await;
    assert_eq!(code_of(&client.next().await), "malformed_frame");
    client
        .send(&json!({ "history": { "id": 6, "conversation": "nonsense", "after": 0 } }))
        .await;
    let error = client.next().await;
    assert_eq!(
        (code_of(&error), &error["error"]["id"]),
        ("malformed_frame", &json!(6))
    );
    client.send(&json!({ "ping": { "id": 7 } })).await;
    assert_eq!(client.until("pong").await["id"], 7);
    client.send_raw(Message::text("{")).await;
    assert_eq!(client.end().await.0, "malformed_frame");

    let mut client = world.connect(&ada, Encoding::Cbor).await;
    // Lengths that no frame has, nesting without end, and text where bytes belong.
    for bytes in [
        vec![0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        vec![0x81; 100_000],
        vec![
            0xa1, 0x01, 0xa1, 0x00, 0x5b, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff,
        ],
        Vec::new(),
    ] {
        client.send_raw(Message::binary(bytes)).await;
        assert_eq!(code_of(&client.next().await), "malformed_frame");
    }
    client.send_raw(Message::text("{}")).await;
    assert_eq!(code_of(&client.next().await), "malformed_frame");
    // {99: {0: 7}}
    let fly = vec![0xa1, 0x18, 0x63, 0xa1, 0x00, 0x07];
    client.send_raw(Message::binary(fly)).await;
    let error = client.next().await;
    assert_eq!(code_of(&error), "unknown_frame");
    assert_eq!(error["error"]["id"], 7);
    client.send(&json!({ "ping": { "id": 8 } })).await;
    assert_eq!(client.until("pong").await["id"], 8);
}

#[tokio::test]
async fn a_frame_that_is_too_large_ends_the_connection() {
    let world = World::with(|settings| settings.limits.frame_bytes_max = 10_000).await;
    let ada = world.person("ada").await;
    for encoding in BOTH {
        let mut client = world.connect(&ada, encoding).await;
        client.send_raw(Message::Ping(vec![1, 2, 3].into())).await;
        let large = match encoding {
            Encoding::Json => Message::text("x".repeat(10_001)),
            Encoding::Cbor => Message::binary(vec![0; 10_001]),
        };
        let pong = futures_util::StreamExt::next(&mut client.socket).await;
        assert!(matches!(pong, Some(Ok(Message::Pong(bytes))) if bytes[..] == [1, 2, 3]));
        client.send_raw(large).await;
        assert_eq!(client.end().await, ("frame_too_large".to_owned(), 1009));
    }
}

/// Frames as no library would write them.
#[tokio::test]
async fn whoever_breaks_the_rules_of_websocket_is_closed() {
    let world = World::new().await;
    let ada = world.person("ada").await;
    let cases: [(&[u8], u16); 8] = [
        (&[0x81, 0x02, b'{', b'}'], 1002),             // not masked
        (&[0x81, 0x82, 0, 0, 0, 0, 0xc3, 0x28], 1007), // not UTF-8
        (&[0xf1, 0x80, 0, 0, 0, 0], 1002),             // reserved bits
        (&[0x83, 0x80, 0, 0, 0, 0], 1002),             // reserved opcode
        (&[0x80, 0x80, 0, 0, 0, 0], 1002),             // continues nothing
        (&[0x89, 0xfe, 0x00, 0x7e, 0, 0, 0, 0], 1002), // a ping of 126 bytes
        (&[0x09, 0x80, 0, 0, 0, 0], 1002),             // a ping in parts
        (
            &[
                0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
            ],
            1009,
        ), // 2^63 - 1 bytes
    ];
    for (bytes, expected) in cases {
        let mut client = world.connect(&ada, Encoding::Json).await;
        client.socket.get_mut().write_all(bytes).await.unwrap();
        let (reason, code) = client.end().await;
        assert!(!reason.is_empty(), "{bytes:x?}");
        assert_eq!(code, expected, "{bytes:x?}");
    }
}

#[tokio::test]
async fn garbage_before_the_handshake_harms_nobody() {
    let world = World::new().await;
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
    }
    let request = super::world::Request::new("GET", "/v1/connect");
    let answer = world.http(request).await;
    assert_eq!((answer.status, answer.problem().as_str()), (422, "invalid"));
}

#[tokio::test]
async fn a_slow_consumer_is_closed_and_resumes() {
    let world = World::with(|settings| {
        settings.sessions.queue_bytes_max = 100_000;
        settings.limits.user_requests_burst_max = 100_000;
    })
    .await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let mut slow = world.connect(&bob, Encoding::Json).await;
    let mut of_ada = world.connect(&ada, Encoding::Json).await;
    let text = "x".repeat(50_000);
    let mut last = Value::Null;
    for id in 2..300 {
        of_ada.send(&message(id, bob.user, &text)).await;
        last = of_ada.until("sent").await;
        let user = world.app.hub.user(bob.user);
        if user.is_none_or(|user| {
            user.sessions()
                .iter()
                .all(|session| session.closed().is_some())
        }) {
            break;
        }
    }
    assert_eq!(slow.end().await.0, "slow_consumer");
    let mut again = world.connect(&bob, Encoding::Json).await;
    again
        .send(&json!({ "history": { "id": 2, "conversation": last["conversation"], "before": 1_000_000, "limit": 1 } }))
        .await;
    let history = again.until("history").await;
    assert_eq!(history["entries"][0]["seq"], last["seq"]);
}

#[tokio::test]
async fn too_many_frames_are_refused_and_sends_behind_them_too() {
    let world = World::with(|settings| {
        settings.limits.user_requests_per_s = 2;
        settings.limits.user_requests_burst_max = 3;
    })
    .await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let mut client = world.connect(&ada, Encoding::Json).await;
    let frames: Vec<Value> = (2..=6).map(|id| message(id, bob.user, "x")).collect();
    client.send_all(&frames).await;
    let (mut sent, mut refused) = (Vec::new(), Vec::new());
    while sent.len() + refused.len() < 5 {
        let frame = client.next().await;
        if let Some(sent_frame) = frame.get("sent") {
            sent.push(sent_frame["id"].as_u64().unwrap());
        } else if frame.get("error").is_some() {
            let id = frame["error"]["id"].as_u64().unwrap();
            if code_of(&frame) == "rate_limited" {
                let problem = &frame["error"]["problem"];
                assert_eq!(problem["limit"], "user_requests_per_s");
                assert!(problem["retry_after_ms"].as_u64().unwrap() > 0);
            }
            refused.push((id, code_of(&frame).to_owned()));
        }
    }
    assert_eq!(sent, [2, 3, 4]);
    // The second waited until it might have passed, but must not overtake.
    assert_eq!(refused[0], (5, "rate_limited".to_owned()));
    assert_eq!(refused[1], (6, "behind".to_owned()));
    for id in [5, 6] {
        tokio::time::sleep(Duration::from_millis(600)).await;
        client.send(&message(id, bob.user, "x")).await;
        assert_eq!(client.until("sent").await["id"], id);
    }
}

#[tokio::test]
async fn a_revoked_device_is_cut_off() {
    let world = World::new().await;
    let ada = world.person("ada").await;
    let mut client = world.connect(&ada, Encoding::Json).await;
    let path = format!("/v1/devices/{}", ada.device);
    assert_eq!(world.http(ada.ask("DELETE", &path)).await.status, 204);
    assert_eq!(client.end().await, ("revoked".to_owned(), 4401));
    let mut again = world.open(Encoding::Json).await;
    again
        .send(&json!({ "hello": { "id": 1, "token": ada.token } }))
        .await;
    assert_eq!(code_of(&again.next().await), "unauthorized");
}

#[tokio::test]
async fn draining_tells_everybody_and_takes_nobody() {
    let world = World::new().await;
    let ada = world.person("ada").await;
    let mut client = world.connect(&ada, Encoding::Json).await;
    world.app.begin_drain();
    assert!(matches!(
        world.handshake(Some("tidings.v1.json"), &[]).await,
        Err(Error::Http(response)) if response.status() == 503
    ));
    let ready = world
        .http(super::world::Request::new("GET", "/readyz"))
        .await;
    assert_eq!((ready.status, ready.problem().as_str()), (503, "draining"));
    world.app.close_sessions();
    assert_eq!(client.end().await, ("draining".to_owned(), 1012));
}

#[tokio::test]
async fn a_cookie_connects_from_our_own_pages_only() {
    let world = World::new().await;
    let ada = world.person("ada").await;
    let own = format!("http://{}", world.address);
    let cookie = format!("tidings_session={}", ada.token);
    for (origin, expected) in [(own.as_str(), "welcome"), ("http://evil.example", "error")] {
        let headers = [("cookie", cookie.as_str()), ("origin", origin)];
        let mut client = world
            .handshake(Some("tidings.v1.json"), &headers)
            .await
            .unwrap();
        client.send(&json!({ "hello": { "id": 1 } })).await;
        let answer = client.next().await;
        assert!(answer.get(expected).is_some(), "{answer}");
        if expected == "error" {
            assert_eq!(code_of(&answer), "origin_refused");
        }
    }
    // Who brings the token itself may come from anywhere.
    let headers = [
        ("cookie", cookie.as_str()),
        ("origin", "http://other.example"),
    ];
    let mut client = world
        .handshake(Some("tidings.v1.json"), &headers)
        .await
        .unwrap();
    client.hello(&ada.token).await;
}

#[tokio::test]
async fn nothing_of_a_closed_session_is_kept() {
    let world = World::new().await;
    let ada = world.person("ada").await;
    let client = world.connect(&ada, Encoding::Json).await;
    assert!(world.app.hub.user(ada.user).is_some());
    drop(client);
    for _ in 0..200 {
        if world.app.hub.user(ada.user).is_none() {
            let text = world.app.metrics.encode();
            assert!(
                text.contains(r#"tidings_sessions{transport="websocket"} 0"#),
                "{text}"
            );
            assert!(
                text.contains(r#"tidings_sessions_closed_total{reason="client"} 1"#),
                "{text}"
            );
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("still there");
}
