//! Short forms, frame by frame.

use serde_json::{Value, json};
use tidings_core::{ConversationId, Generation, UserId, digest};
use tidings_protocol::Encoding;

use super::world::{Client, Person, World, client_id, message};

/// Connects and asks for short forms.
async fn connect(world: &World, person: &Person, encoding: Encoding) -> Client {
    let mut client = world.open(encoding).await;
    client
        .send(&json!({ "hello": { "id": 1, "token": person.token, "short": true } }))
        .await;
    let welcome = client.until("welcome").await;
    let agreed = welcome.get("short").is_some();
    assert_eq!(agreed, encoding == Encoding::Cbor, "{welcome}");
    client
}

fn handle_of(conversation: &Value, generation: &Value) -> u32 {
    let parse = |value: &Value| value.as_str().unwrap().to_owned();
    let id: ConversationId = parse(conversation).parse().unwrap();
    let generation: Generation = parse(generation).parse().unwrap();
    digest::handle(id, generation)
}

fn handle_of_user(user: UserId) -> u32 {
    digest::user_handle(user)
}

fn say(number: u64, conversation: u32, after: u64, text: &str) -> Value {
    json!({ "say": {
        "id": number,
        "conversation": conversation,
        "client_id": client_id(number),
        "after": after,
        "text": text,
    }})
}

/// Two people who have begun to talk, and the handle of their conversation.
struct Pair {
    world: World,
    ada: Person,
    of_ada: Client,
    of_bob: Client,
    handle: u32,
    conversation: Value,
    bob: UserId,
}

async fn pair() -> Pair {
    let world = World::new().await;
    let (ada, bob) = (world.person("ada").await, world.person("bob").await);
    let mut of_ada = connect(&world, &ada, Encoding::Cbor).await;
    let mut of_bob = connect(&world, &bob, Encoding::Cbor).await;
    of_ada.send(&message(2, bob.user, "hello")).await;
    let sent = of_ada.until("sent").await;
    let handle = handle_of(&sent["conversation"], &sent["generation"]);
    of_bob.until("conversation").await;
    Pair {
        world,
        of_ada,
        of_bob,
        handle,
        conversation: sent["conversation"].clone(),
        bob: bob.user,
        ada,
    }
}

/// Everything that was sent to a session until now.
async fn told(client: &mut Client) -> Vec<Value> {
    client.send(&json!({ "ping": { "id": 900 } })).await;
    let mut told = Vec::new();
    loop {
        let frame = client.next().await;
        if frame.get("pong").is_some() {
            return told;
        }
        told.push(frame);
    }
}

#[tokio::test]
async fn a_text_with_its_ticks() {
    let mut pair = pair().await;
    let mut second = connect(&pair.world, &pair.ada, Encoding::Cbor).await;
    let mut third = connect(&pair.world, &pair.ada, Encoding::Json).await;
    told(&mut pair.of_ada).await;
    told(&mut pair.of_bob).await;
    pair.of_ada.send(&say(3, pair.handle, 2, "one")).await;
    let said = pair.of_ada.until("said").await;
    assert_eq!((&said["id"], &said["seq"]), (&json!(3), &json!(3)));
    assert_eq!(said["ordinal"], 2);
    assert_eq!(
        told(&mut pair.of_ada).await,
        Vec::<Value>::new(),
        "no event"
    );

    let told_bob = pair.of_bob.until("messages").await;
    let expected = json!({
        "conversation": pair.handle,
        "from": 3,
        "ordinal": 2,
        "messages": [{
            "author": handle_of_user(pair.ada.user),
            "at": said["at"],
            "text": "one",
        }],
    });
    assert_eq!(told_bob, expected);
    for other in [&mut second, &mut third] {
        // Only her own devices are told the client id, for which there is no short form.
        let entries = other.until("entries").await;
        assert_eq!(entries["entries"][0]["client_id"], client_id(3));
        assert_eq!(entries["conversation"], pair.conversation);
    }

    let seen = |tell: bool, seq: u64| {
        json!({ "seen": {
            "id": 8, "conversation": pair.handle, "delivered": seq, "read": seq, "tell": tell,
        }})
    };
    pair.of_bob.send(&seen(false, 3)).await;
    assert_eq!(pair.of_bob.until("done").await["id"], 8);
    assert_eq!(
        told(&mut pair.of_bob).await,
        Vec::<Value>::new(),
        "he knows"
    );
    let steps = pair.of_ada.until("steps").await;
    let step = &steps["steps"][0];
    assert_eq!(steps["conversation"], pair.handle);
    assert_eq!(step["user"], handle_of_user(pair.bob));
    assert_eq!((&step["delivered"], &step["shown"]), (&json!(3), &json!(3)));
    assert_eq!(third.until("marks").await["marks"][0]["shown"], 3);

    pair.of_ada.send(&say(4, pair.handle, 3, "two")).await;
    pair.of_bob.until("messages").await;
    pair.of_bob.send(&seen(true, 4)).await;
    let marks = pair.of_bob.until("marks").await;
    assert_eq!(marks["marks"][0]["read"]["ordinal"], 3);
}

#[tokio::test]
async fn a_retry_has_its_answer_in_either_form() {
    let mut pair = pair().await;
    told(&mut pair.of_bob).await;
    pair.of_ada.send(&say(3, pair.handle, 2, "once")).await;
    let first = pair.of_ada.until("said").await;
    pair.of_ada.send(&say(3, pair.handle, 2, "once")).await;
    let again = pair.of_ada.until("said").await;
    assert_eq!((&again["seq"], &again["at"]), (&first["seq"], &first["at"]));
    assert_eq!(again.get("ordinal"), None, "it stands for no event");
    let retry = json!({ "send": {
        "id": 3,
        "conversation": pair.conversation,
        "client_id": client_id(3),
        "action": { "message": { "content": { "text": "once" } } },
    }});
    pair.of_ada.send(&retry).await;
    assert_eq!(pair.of_ada.until("sent").await["seq"], first["seq"]);
    let texts: Vec<Value> = told(&mut pair.of_bob).await;
    let messages = texts.iter().filter(|frame| frame.get("messages").is_some());
    assert_eq!(messages.count(), 1, "{texts:?}");
}

#[tokio::test]
async fn an_answer_stands_for_what_it_made_alone() {
    let mut pair = pair().await;
    let mut second = connect(&pair.world, &pair.ada, Encoding::Cbor).await;
    told(&mut pair.of_ada).await;
    told(&mut pair.of_bob).await;
    for number in 3..40 {
        // The same client id with another text, over two connections: at times in one batch.
        let (one, other) = (
            say(number, pair.handle, 2, "one"),
            say(number, pair.handle, 2, "other"),
        );
        pair.of_ada.send(&one).await;
        second.send(&other).await;
        let (by_first, by_second) = (pair.of_ada.until("said").await, second.until("said").await);
        assert_eq!(by_first["seq"], by_second["seq"]);
        let both = [&by_first, &by_second].map(|said| said.get("ordinal").is_some());
        assert_eq!(both.iter().filter(|stands| **stands).count(), 1, "{both:?}");
        let made = pair.of_bob.until("messages").await["messages"][0]["text"].clone();
        assert!(
            made == "one" && both[0] || made == "other" && both[1],
            "{made} {both:?}"
        );
    }
}

#[tokio::test]
async fn what_says_more_goes_in_the_long_form() {
    let mut pair = pair().await;
    told(&mut pair.of_ada).await;
    told(&mut pair.of_bob).await;
    let frames = [
        json!({ "edit": { "target": 2, "content": { "text": "hallo" } } }),
        json!({ "react": { "target": 2, "emoji": "x" } }),
        json!({ "message": { "content": { "text": "you", "mentions": [pair.bob] } } }),
    ];
    for (number, action) in (3..).zip(frames) {
        let send = json!({ "send": {
            "id": number,
            "conversation": pair.conversation,
            "client_id": client_id(number),
            "action": action,
        }});
        pair.of_ada.send(&send).await;
        let entries = pair.of_bob.until("entries").await;
        assert_eq!(entries["entries"][0]["seq"], number);
        let own = pair.of_ada.until("entries").await;
        assert_eq!(own["entries"][0]["client_id"], client_id(number));
    }
    // All in one write: they may share a batch, and each session is told what it did not say.
    let pipelined: Vec<Value> = (10..30)
        .map(|number| say(number, pair.handle, 5, &number.to_string()))
        .collect();
    pair.of_ada.send_all(&pipelined).await;
    for number in 10..30 {
        let said = pair.of_ada.until("said").await;
        assert_eq!(
            (&said["id"], &said["seq"]),
            (&json!(number), &json!(number - 4))
        );
    }
    let mut texts = Vec::new();
    while texts.len() < 20 {
        let event = pair.of_bob.until("messages").await;
        assert_eq!(event["from"], 6 + texts.len());
        for message in event["messages"].as_array().unwrap() {
            texts.push(message["text"].as_str().unwrap().to_owned());
        }
    }
    let expected: Vec<String> = (10..30).map(|number| number.to_string()).collect();
    assert_eq!(texts, expected);
}

#[tokio::test]
async fn members_of_a_large_group_are_named_in_full() {
    let world = World::new().await;
    let ada = world.person("ada").await;
    let mut others = Vec::new();
    for number in 0..32 {
        others.push(world.person(&format!("member-{number}")).await);
    }
    let mut of_ada = connect(&world, &ada, Encoding::Cbor).await;
    let mut of_other = connect(&world, &others[0], Encoding::Cbor).await;
    let users: Vec<UserId> = others.iter().map(|person| person.user).collect();
    let create = json!({ "send": {
        "id": 2,
        "client_id": client_id(2),
        "action": { "create": { "users": users } },
    }});
    of_ada.send(&create).await;
    let sent = of_ada.until("sent").await;
    let handle = handle_of(&sent["conversation"], &sent["generation"]);
    of_other.until("conversation").await;
    of_ada.send(&say(3, handle, 1, "all")).await;
    let messages = of_other.until("messages").await;
    assert_eq!(messages["messages"][0]["user"], json!(ada.user));
    assert_eq!(messages["messages"][0].get("author"), None);
}

#[tokio::test]
async fn a_handle_that_means_nothing_is_refused() {
    let mut pair = pair().await;
    let seen = json!({ "seen": { "conversation": pair.handle ^ 1, "delivered": 1 } });
    pair.of_bob.send(&seen).await;
    let error = pair.of_bob.until("error").await;
    assert_eq!(error["problem"]["type"], "tidings:unknown_handle");
    pair.of_bob
        .send(&say(3, pair.handle, 2, "still here"))
        .await;
    pair.of_bob.until("said").await;

    // Nothing may overtake a text: it and what comes behind it come again on another connection.
    let frames = [
        say(4, pair.handle ^ 1, 2, "lost"),
        say(5, pair.handle, 2, "behind"),
    ];
    pair.of_bob.send_all(&frames).await;
    assert_eq!(pair.of_bob.end().await.0, "unknown_handle");
    let heard = told(&mut pair.of_ada).await;
    let heard = serde_json::to_string(&heard).unwrap();
    assert!(
        heard.contains("still here") && !heard.contains("behind"),
        "{heard}"
    );

    // Who did not agree on short forms has no handles.
    let mut long = connect(&pair.world, &pair.ada, Encoding::Json).await;
    long.send(&say(6, pair.handle, 2, "short")).await;
    assert_eq!(long.end().await.0, "unknown_handle");
}
