//! Heartbeats where several servers share a store: the look at it that they are answered by may take its time, and
//! holds up nothing else.

use serde_json::json;
use tidings_protocol::Encoding;
use tokio::sync::oneshot;

use super::world::{Person, World, message, next_poll};
use crate::chat::tests::shared::share_with_nobody;

async fn shared() -> World {
    let world = World::new().await;
    share_with_nobody(&world.app.chat);
    world
}

/// Looking at a user's inbox takes until the answer is dropped.
async fn hold(world: &World, person: &Person) -> oneshot::Sender<()> {
    let hub = world.app.hub.user(person.user).unwrap();
    let (release, released) = oneshot::channel::<()>();
    let (begin, begun) = oneshot::channel();
    tokio::spawn(async move {
        let work = async {
            begin.send(()).unwrap();
            released.await
        };
        hub.looking().run(work).await
    });
    begun.await.unwrap();
    release
}

#[tokio::test]
async fn a_heartbeat_that_waits_for_the_store_holds_up_no_send() {
    let world = shared().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let mut client = world.connect(&ada, Encoding::Cbor).await;
    let release = hold(&world, &ada).await;
    for id in [1, 2, 3] {
        client.send(&json!({ "ping": { "id": id } })).await;
    }
    client.send(&message(4, bob.user, "hello")).await;
    client.send(&json!({ "inbox": { "id": 5 } })).await;
    let (mut is_sent, mut is_listed) = (false, false);
    while !(is_sent && is_listed) {
        let frame = client.next().await;
        assert!(frame.get("pong").is_none(), "{frame}");
        is_sent |= frame.get("sent").is_some();
        is_listed |= frame.get("inbox").is_some();
    }
    drop(release);
    for id in [1, 2, 3] {
        assert_eq!(client.until("pong").await["id"], id);
    }
}

#[tokio::test]
async fn a_poll_answers_what_waits_before_the_store_was_looked_at() {
    let world = shared().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let first = world.http(ada.get("/v1/events")).await.json();
    let release = hold(&world, &ada).await;
    let session = first["session"].as_str().unwrap();
    let call = format!("/v1/call?session={session}");
    let ping = json!({ "ping": { "id": 7 } });
    let answer = world.http(ada.post(&call, &ping)).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    let path = format!("/v1/direct/{}/entries", ada.user);
    let answer = world
        .http(bob.post(&path, &json!({ "text": "hello" })))
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let second = world.http(ada.get(&next_poll(&first, 30))).await.json();
    let events = second["events"].as_array().unwrap();
    assert!(
        !events.is_empty() && events.iter().all(|event| event.get("pong").is_none()),
        "{second}"
    );
    drop(release);
    let mut poll = second;
    let pong = loop {
        poll = world.http(ada.get(&next_poll(&poll, 30))).await.json();
        let events = poll["events"].as_array().unwrap();
        if let Some(pong) = events.iter().find_map(|event| event.get("pong")) {
            break pong.clone();
        }
    };
    assert_eq!(pong["id"], 7);
}
