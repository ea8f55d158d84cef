use std::time::Duration;

use serde_json::{Value, json};
use tidings_protocol::{ClientFrame, Encoding, ServerFrame};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;

use super::world::{Person, World, message, next_poll};

fn texts(poll: &Value) -> Vec<String> {
    let events = poll["events"].as_array().unwrap();
    events
        .iter()
        .flat_map(|event| {
            event["entries"]["entries"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        })
        .filter_map(|entry| Some(entry["content"]["text"].as_str()?.to_owned()))
        .collect()
}

/// A conversation of the two, known to both.
async fn acquaint(world: &World, ada: &Person, bob: &Person) {
    let path = format!("/v1/direct/{}/entries", bob.user);
    let answer = world
        .http(ada.post(&path, &json!({ "text": "first" })))
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

#[tokio::test]
async fn polls_lose_nothing_when_an_answer_is_lost() {
    let world = World::new().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    acquaint(&world, &ada, &bob).await;
    let first = world.http(bob.get("/v1/events")).await.json();
    assert_eq!(first["first"], 1);
    assert_eq!(first["events"][0]["welcome"]["user"], json!(bob.user));
    assert_eq!(first["digest"], first["events"][0]["welcome"]["digest"]);

    let waits = {
        let request = next_poll(&first, 30);
        let (world_address, token) = (world.address, bob.token.clone());
        let _ = (world_address, token);
        world.start(bob.get(&request)).await
    };
    let path = format!("/v1/direct/{}/entries", bob.user);
    world.http(ada.post(&path, &json!({ "text": "two" }))).await;
    let mut bytes = Vec::new();
    let mut waits = waits;
    tokio::io::AsyncReadExt::read_to_end(&mut waits, &mut bytes)
        .await
        .unwrap();
    let second = super::world::Answer::read(&bytes).json();
    assert_eq!(texts(&second), ["two"]);
    assert_ne!(second["digest"], first["digest"]);

    // The same poll again: the same events, and what came since.
    world
        .http(ada.post(&path, &json!({ "text": "three" })))
        .await;
    let repeated = world.http(bob.get(&next_poll(&first, 0))).await.json();
    assert_eq!(repeated["first"], second["first"]);
    assert_eq!(texts(&repeated), ["two", "three"]);
    let later = world.http(bob.get(&next_poll(&repeated, 0))).await.json();
    assert_eq!(later["events"], json!([]));
    assert_eq!(later["last"], repeated["last"]);
    assert_eq!(later["digest"], repeated["digest"]);

    // Polling is no acknowledgement.
    let me = world.http(bob.get("/v1/conversations")).await.json();
    assert_eq!(me["conversations"][0]["device"], 0);
    assert_eq!(me["conversations"][0]["unread"], 3);

    let too_far = format!(
        "/v1/events?session={}&after=999",
        first["session"].as_str().unwrap()
    );
    assert_eq!(world.http(bob.get(&too_far)).await.problem(), "invalid");
    let of_others = world.http(ada.get(&next_poll(&later, 0))).await;
    assert_eq!(
        (of_others.status, of_others.problem().as_str()),
        (410, "session_gone")
    );
}

#[tokio::test]
async fn a_newer_poll_takes_over_from_one_that_hangs() {
    let world = World::new().await;
    let ada = world.person("ada").await;
    let first = world.http(ada.get("/v1/events")).await.json();
    let path = next_poll(&first, 30);
    let mut hangs = world.start(ada.get(&path)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let newer = world.http(ada.get(&next_poll(&first, 0))).await;
    assert_eq!(newer.status, 200);
    let mut bytes = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut hangs, &mut bytes)
        .await
        .unwrap();
    assert_eq!(super::world::Answer::read(&bytes).problem(), "replaced");
}

#[tokio::test]
async fn a_polling_session_ends_when_nobody_polls() {
    let world = World::with(|settings| settings.sessions.poll_idle_ms_max = 100).await;
    let ada = world.person("ada").await;
    let first = world.http(ada.get("/v1/events")).await.json();
    let waited = world.http(ada.get(&next_poll(&first, 1))).await;
    assert_eq!(waited.status, 200, "a poll that waits is not idle");
    tokio::time::sleep(Duration::from_millis(500)).await;
    let gone = world.http(ada.get(&next_poll(&first, 1))).await;
    assert_eq!(gone.problem(), "session_gone");
    assert!(world.app.hub.user(ada.user).is_none());
}

#[tokio::test]
async fn a_poller_that_falls_behind_is_told_and_begins_anew() {
    let world = World::with(|settings| settings.sessions.queue_bytes_max = 20_000).await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    acquaint(&world, &ada, &bob).await;
    let first = world.http(bob.get("/v1/events")).await.json();
    let mut of_ada = world.connect(&ada, Encoding::Json).await;
    for id in 2..6 {
        of_ada
            .send(&message(id, bob.user, &"x".repeat(8_000)))
            .await;
        of_ada.until("sent").await;
    }
    let told = world.http(bob.get(&next_poll(&first, 5))).await.json();
    let events = told["events"].as_array().unwrap();
    assert_eq!(
        events.last().unwrap()["bye"]["reason"],
        "tidings:slow_consumer"
    );
    let gone = world.http(bob.get(&next_poll(&told, 0))).await;
    assert_eq!(gone.problem(), "session_gone");
}

#[tokio::test]
async fn a_polling_session_is_revoked_too() {
    let world = World::new().await;
    let ada = world.person("ada").await;
    let first = world.http(ada.get("/v1/events")).await.json();
    let mut waits = world.start(ada.get(&next_poll(&first, 30))).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.http(ada.ask("POST", "/v1/logout")).await.status, 204);
    let mut bytes = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut waits, &mut bytes)
        .await
        .unwrap();
    let last = super::world::Answer::read(&bytes).json();
    assert_eq!(last["events"][0]["bye"]["reason"], "tidings:revoked");
    assert_eq!(world.http(ada.get(&next_poll(&first, 0))).await.status, 401);
}

#[tokio::test]
async fn calls_are_frames_in_either_encoding() {
    let world = World::new().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let sent = world
        .http(ada.post("/v1/call", &message(3, bob.user, "hi")))
        .await;
    assert_eq!((sent.status, &sent.json()["sent"]["id"]), (200, &json!(3)));

    let frame: ClientFrame = serde_json::from_value(message(3, bob.user, "other bytes")).unwrap();
    let request = ada
        .ask("POST", "/v1/call")
        .header("content-type", "application/cbor")
        .bytes(Encoding::Cbor.encode(&frame).unwrap());
    let again = world.http(request).await;
    assert_eq!(again.header("content-type"), Some("application/cbor"));
    let ServerFrame::Sent(again) = Encoding::Cbor.decode(&again.body).unwrap() else {
        panic!("{again:?}");
    };
    assert_eq!(
        json!(again.seq),
        sent.json()["sent"]["seq"],
        "the same entry"
    );

    for (body, status, code) in [
        (json!({ "fly": { "id": 5 } }), 400, "tidings:unknown_frame"),
        (
            json!({ "hello": { "id": 5 } }),
            400,
            "tidings:hello_expected",
        ),
        (json!({ "ping": { "id": 5 } }), 422, "tidings:invalid"),
    ] {
        let answer = world.http(ada.post("/v1/call", &body)).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status, &error["id"]), (status, &json!(5)));
        assert_eq!(error["problem"]["type"], code);
    }

    let poll = world.http(bob.get("/v1/events")).await.json();
    let call = format!("/v1/call?session={}", poll["session"].as_str().unwrap());
    let ping = world
        .http(bob.post(&call, &json!({ "ping": { "id": 6 } })))
        .await;
    assert_eq!(ping.status, 204);
    let watch = json!({ "watch": { "id": 7, "users": [ada.user] } });
    let done = world.http(bob.post(&call, &watch)).await;
    assert_eq!(done.json()["done"]["id"], 7);
    let events = world.http(bob.get(&next_poll(&poll, 5))).await.json();
    assert_eq!(events["events"][0]["pong"]["id"], 6);
}

struct Stream(tokio::io::Lines<BufReader<TcpStream>>);

impl Stream {
    async fn open(world: &World, person: &Person, last_id: Option<&str>) -> Stream {
        let mut request = person.get("/v1/events/stream");
        if let Some(last_id) = last_id {
            request = request.header("last-event-id", last_id);
        }
        Stream(BufReader::new(world.start(request).await).lines())
    }

    /// The next event: its id and content.
    async fn next(&mut self) -> (String, Value) {
        let mut id = None;
        loop {
            let line = tokio::time::timeout(Duration::from_secs(10), self.0.next_line());
            let line = line.await.unwrap().unwrap().expect("the stream ended");
            if let Some(found) = line.strip_prefix("id: ") {
                id = Some(found.to_owned());
            } else if let Some(data) = line.strip_prefix("data: ") {
                return (id.unwrap(), serde_json::from_str(data).unwrap());
            }
        }
    }
}

#[tokio::test]
async fn a_stream_resumes_where_it_was_cut() {
    let world = World::new().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    acquaint(&world, &ada, &bob).await;
    let mut stream = Stream::open(&world, &bob, None).await;
    let (first_id, welcome) = stream.next().await;
    assert_eq!(welcome["welcome"]["user"], json!(bob.user));
    let path = format!("/v1/direct/{}/entries", bob.user);
    for text in ["two", "three"] {
        world.http(ada.post(&path, &json!({ "text": text }))).await;
    }
    let (second_id, second) = stream.next().await;
    assert_eq!(second["entries"]["entries"][0]["content"]["text"], "two");
    let (_, third) = stream.next().await;
    drop(stream);

    world
        .http(ada.post(&path, &json!({ "text": "four" })))
        .await;
    let mut resumed = Stream::open(&world, &bob, Some(&second_id)).await;
    assert_eq!(
        resumed.next().await.1,
        third,
        "what followed the last that it had"
    );
    let (_, fourth) = resumed.next().await;
    assert_eq!(fourth["entries"]["entries"][0]["content"]["text"], "four");

    // A second stream of the same session takes over, from the beginning if it must.
    let mut from_start = Stream::open(&world, &bob, Some(&first_id)).await;
    assert_eq!(from_start.next().await.1, second);

    let mut unknown = Stream::open(&world, &bob, Some("s_nonsense:4")).await;
    let (new_id, welcome) = unknown.next().await;
    assert!(welcome.get("welcome").is_some());
    assert_ne!(new_id, first_id);
}
