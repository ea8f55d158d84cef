//! Rule 6: no input crashes the server. What is malformed, oversized, unknown or not allowed gets a typed
//! error, and everything is as before.

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tidings_core::ConversationId;
use tidings_protocol::mark::{MarkUpdate, RaiseMarks};
use tidings_protocol::{ClientFrame, Code, Encoding, ServerFrame};
use tidings_testing::chance::Chance;
use tidings_testing::http::Http;
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::device::message;
use tidings_testing::wire::memory::Place;
use tidings_testing::wire::{Way, bare_socket};
use tidings_testing::world::{World, delete, group, named, react};
use tokio_tungstenite::tungstenite::Message;

use super::{refused, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_frames() {
    let world = World::start_with(
        "malformed_frames",
        &[("limits.bad_frames_per_minute_max", "1000000")],
    )
    .await;
    let ada = world.sign_up("ada").await;
    let hello = format!(r#"{{"hello":{{"id":1,"token":"{}"}}}}"#, ada.token);
    let nested = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
    let text = |text: &str| Message::Text(text.to_owned().into());
    let client_id = tidings_core::ClientId([7; 16]);
    let dance =
        json!({"send": {"id": 7, "client_id": client_id, "action": {"dance": {}}}}).to_string();
    let cases = [
        (text(""), Code::MalformedFrame),
        (text("nonsense"), Code::MalformedFrame),
        (text("{}"), Code::MalformedFrame),
        (text("[1]"), Code::MalformedFrame),
        (text(&nested), Code::MalformedFrame),
        (text(r#"{"fly":{"id":7}}"#), Code::UnknownFrame),
        (text(r#"{"ping":{"id":"seven"}}"#), Code::MalformedFrame),
        (text(r#"{"ping":{"id":-1}}"#), Code::MalformedFrame),
        (text(r#"{"ping":{}}"#), Code::MalformedFrame),
        (text(r#"{"send":{"id":7}}"#), Code::MalformedFrame),
        (text(&dance), Code::MalformedFrame),
        (
            text(r#"{"history":{"id":7,"conversation":"c_nonsense","after":0}}"#),
            Code::MalformedFrame,
        ),
        (text(&hello), Code::HelloExpected),
        (Message::Binary(vec![1, 2, 3].into()), Code::MalformedFrame),
    ];
    let mut socket = bare_socket(world.port(), Encoding::Json).await;
    socket.send(text(&hello)).await.unwrap();
    welcome(&mut socket, Encoding::Json).await;
    for (message, code) in cases {
        let what = format!("{message:?}").chars().take(80).collect::<String>();
        socket.send(message).await.unwrap();
        assert_eq!(error(&mut socket, Encoding::Json).await, code, "{what}");
    }
    // Fields that are not known are passed over.
    socket
        .send(text(r#"{"ping":{"id":7,"mood":{"a":[1,2,{}]}}}"#))
        .await
        .unwrap();
    let answer = socket.next().await.unwrap().unwrap();
    assert!(matches!(
        Encoding::Json.decode(&answer.into_data()),
        Ok(ServerFrame::Pong(pong)) if pong.id == 7
    ));

    // A kind that is not known is told from what cannot be read, in CBOR too: {99: {0: 7}}.
    let mut chance = Chance::new(world.seed);
    let mut socket = bare_socket(world.port(), Encoding::Cbor).await;
    let hello: ClientFrame = Encoding::Json.decode(hello.as_bytes()).unwrap();
    let hello = Encoding::Cbor.encode(&hello).unwrap();
    socket.send(Message::Binary(hello.into())).await.unwrap();
    welcome(&mut socket, Encoding::Cbor).await;
    let fly = vec![0xa1, 0x18, 0x63, 0xa1, 0x00, 0x07];
    socket.send(Message::Binary(fly.into())).await.unwrap();
    assert_eq!(error(&mut socket, Encoding::Cbor).await, Code::UnknownFrame);
    // Random bytes, and frames with a few bytes changed.
    let good = send(
        ConversationId([7; 16]),
        tidings_core::ClientId([7; 16]),
        message("hello"),
    );
    let good = Encoding::Cbor.encode(&good).unwrap();
    for _ in 0..2_000 {
        let mut bytes = good.clone();
        for _ in 0..chance.between(1, 4) {
            let place = chance.below(bytes.len() as u64) as usize;
            bytes[place] = chance.number() as u8;
        }
        if chance.percent(30) {
            bytes.truncate(chance.below(bytes.len() as u64) as usize);
        }
        socket.send(Message::Binary(bytes.into())).await.unwrap();
    }
    // Still there, and so is everybody else.
    let ping = ClientFrame::Ping(tidings_protocol::session::Ping { id: 999_999 });
    let ping = Encoding::Cbor.encode(&ping).unwrap();
    socket.send(Message::Binary(ping.into())).await.unwrap();
    loop {
        let answer = socket.next().await.unwrap().unwrap();
        let frame: ServerFrame = Encoding::Cbor.decode(&answer.into_data()).unwrap();
        if matches!(frame, ServerFrame::Pong(pong) if pong.id == 999_999) {
            break;
        }
    }
    // The first frame must be hello.
    let mut socket = bare_socket(world.port(), Encoding::Json).await;
    socket.send(text(r#"{"ping":{"id":1}}"#)).await.unwrap();
    assert_eq!(
        error(&mut socket, Encoding::Json).await,
        Code::HelloExpected
    );
}

type Socket = tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>;

async fn welcome(socket: &mut Socket, encoding: Encoding) {
    let answer = socket.next().await.unwrap().unwrap();
    let frame: ServerFrame = encoding.decode(&answer.into_data()).unwrap();
    assert!(matches!(frame, ServerFrame::Welcome(_)), "{frame:?}");
}

async fn error(socket: &mut Socket, encoding: Encoding) -> Code {
    let answer = socket.next().await.unwrap().unwrap();
    match encoding.decode(&answer.into_data()) {
        Ok(ServerFrame::Error(error)) => error.problem.code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_input() {
    let world = World::start("oversized_input").await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Cbor).await;
    let talk = group(&ada, &[ben.user], named("two")).await;
    // 100,000 characters are a message, one more is not; whatever they take in bytes.
    let longest = "\u{10ffff}".repeat(100_000);
    ada.sent(ada.say(Place::In(talk), &longest)).await;
    ben.hears(talk, &longest).await;
    let too_long = "x".repeat(100_001);
    assert_eq!(
        ada.refused(ada.say(Place::In(talk), &too_long)).await,
        Code::TooMuch
    );
    assert_eq!(
        ada.refused(ada.say(Place::In(talk), "")).await,
        Code::Invalid
    );

    // A frame beyond the limit ends the connection, with the reason.
    for encoding in [Encoding::Json, Encoding::Cbor] {
        let mut socket = bare_socket(world.port(), encoding).await;
        let huge = "x".repeat(2_000_000);
        let _ = socket.send(Message::Text(huge.into())).await;
        let mut codes = Vec::new();
        while let Some(Ok(message)) = socket.next().await {
            match encoding.decode(&message.into_data()) {
                Ok(ServerFrame::Error(error)) => codes.push(error.problem.code),
                Ok(ServerFrame::Bye(bye)) => codes.push(bye.reason),
                _ => {}
            }
        }
        // The connection may be reset before the reason is read.
        assert!(
            codes.iter().all(|code| *code == Code::FrameTooLarge),
            "{codes:?}"
        );
    }
    let mut http = world.http(&ada.token);
    let body = json!({"text": "x".repeat(1_000_000)}).to_string();
    let path = format!("/v1/conversations/{talk}/entries");
    let answer = http.try_request("POST", &path, &[], body.as_bytes()).await;
    if let Ok(response) = answer {
        assert_eq!(response.problem().unwrap().code, Code::FrameTooLarge);
    }
    all_level(world.port(), &[&ada, &ben]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_or_not_allowed() {
    let world = World::start("what_is_not_there_or_not_allowed").await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Cbor).await;
    let stranger = world.sign_up("stranger").await;
    let talk = group(&ada, &[ben.user], named("two")).await;
    let of_ada = ada.sent(ada.say(Place::In(talk), "mine")).await;
    let head = of_ada;
    let id = || ada.new_client_id();
    let mark = |conversation, delivered| {
        let mark = MarkUpdate {
            conversation,
            delivered: Some(delivered),
            read: None,
            generation: None,
        };
        ClientFrame::Mark(RaiseMarks {
            id: None,
            marks: vec![mark],
        })
    };
    for way in Way::ALL {
        let mut connection = world.connect(way, &stranger.token).await;
        let nowhere = ConversationId([9; 16]);
        for place in [talk, nowhere] {
            let say = send(place, id(), message("hello"));
            assert_eq!(refused(&mut connection, say).await, Code::NotFound);
            assert_eq!(
                refused(&mut connection, mark(place, 1)).await,
                Code::NotFound
            );
        }
        let mut connection = world.connect(way, &ben.token).await;
        for (wish, code) in [
            (react(head + 7, "x"), Code::TargetNotFound),
            (react(1, "x"), Code::TargetNotMessage),
            (delete(of_ada), Code::NotAllowed),
            (react(of_ada, &"x".repeat(65)), Code::TooMuch),
            (
                tidings_testing::world::invite(&[stranger.user, stranger.user]),
                Code::Invalid,
            ),
            (
                tidings_testing::world::invite(&[tidings_core::UserId([1; 16])]),
                Code::NotFound,
            ),
        ] {
            let what = format!("{wish:?}");
            assert_eq!(
                refused(&mut connection, send(talk, id(), wish)).await,
                code,
                "{what}"
            );
        }
        assert_eq!(
            refused(&mut connection, mark(talk, 1_000)).await,
            Code::AboveHead
        );
    }
    let mut http = Http::new(world.port());
    for (method, path, body, status) in [
        ("GET", "/v1/nothing", "", 404),
        ("PUT", "/v1/login", "", 405),
        ("POST", "/v1/login", "{", 400),
        ("POST", "/v1/login", "{}", 400),
        ("GET", "/v1/me", "", 401),
        ("GET", "/v1/connect", "", 422),
        (
            "POST",
            "/v1/accounts",
            r#"{"username":"x","password":"long enough"}"#,
            422,
        ),
        (
            "POST",
            "/v1/accounts",
            r#"{"username":"fine","password":"short"}"#,
            422,
        ),
    ] {
        let response = http.request(method, path, body.as_bytes()).await;
        assert_eq!(
            response.status,
            status,
            "{method} {path}: {}",
            response.text()
        );
        assert!(
            response.problem().is_some(),
            "{method} {path}: {}",
            response.text()
        );
    }
    assert_eq!(
        ben.memory().log(talk).head.max(head),
        head,
        "nothing changed"
    );
    all_level(world.port(), &[&ada, &ben]).await;
    assert_eq!(ada.memory().log(talk).head, head);
}
