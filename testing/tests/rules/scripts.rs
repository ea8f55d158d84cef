//! A script with nothing but HTTP holds a conversation with ticks.

use serde_json::{Value, json};
use tidings_core::id::direct_id;
use tidings_testing::wire::Way;
use tidings_testing::wire::memory::Place;
use tidings_testing::world::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn script_with_nothing_but_http() {
    let world = World::start("script_with_nothing_but_http").await;
    let ada = world.person("ada", Way::Json).await;
    let script = world.sign_up("script").await;
    let talk = direct_id(ada.user, script.user);
    let mut http = world.http(&script.token);
    // Says something, twice for safety.
    let mut said = Vec::new();
    for _ in 0..2 {
        let headers = [("idempotency-key", "order-4711")];
        let body = br#"{"text": "hello from a script"}"#;
        let answer = http
            .try_request("POST", "/v1/direct/@ada/entries", &headers, body)
            .await
            .unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        said.push(answer.json::<Value>().unwrap());
    }
    assert_eq!(said[0]["seq"], said[1]["seq"], "a retry is harmless");
    assert_eq!(said[0]["conversation"], json!(talk.to_string()));
    let seq = said[0]["seq"].as_u64().unwrap();
    assert_eq!(ada.hears(talk, "hello from a script").await, seq);

    // Its ticks.
    let receipts = format!("/v1/conversations/{talk}/entries/{seq}/receipts");
    ada.level().await;
    let receipt: Value = http.get(&receipts).await.unwrap();
    assert_eq!(
        receipt["recipients"][0]["delivered"],
        json!(true),
        "{receipt}"
    );
    assert_eq!(receipt["recipients"][0]["shown"], json!(false), "{receipt}");
    ada.read(talk, seq);
    ada.wait("its mark", |memory| memory.log(talk).read.seq == seq)
        .await;
    let receipt: Value = http.get(&receipts).await.unwrap();
    assert_eq!(receipt["recipients"][0]["shown"], json!(true), "{receipt}");

    // Waits for an answer.
    let opened: Value = http.get("/v1/events").await.unwrap();
    let session = opened["session"].as_str().unwrap().to_owned();
    let mut after = opened["last"].as_u64().unwrap();
    ada.say(Place::In(talk), "hello script");
    let answer = 'answer: loop {
        let path = format!("/v1/events?session={session}&after={after}&wait=30");
        let events: Value = http.get(&path).await.unwrap();
        after = events["last"].as_u64().unwrap();
        for event in events["events"].as_array().unwrap() {
            for entry in event["entries"]["entries"].as_array().into_iter().flatten() {
                if entry["content"]["text"] == json!("hello script") {
                    break 'answer entry["seq"].as_u64().unwrap();
                }
            }
        }
    };
    let marks =
        json!({"marks": [{"conversation": talk.to_string(), "delivered": answer, "read": answer}]});
    http.done("POST", "/v1/marks", &marks).await.unwrap();
    ada.sees_shown(talk, script.user, answer).await;

    // What it said is in its list.
    let list: Value = http.get("/v1/conversations").await.unwrap();
    assert_eq!(
        list["conversations"][0]["last"]["content"]["text"],
        json!("hello script")
    );
    assert_eq!(list["conversations"][0]["unread"], json!(0));
    let page = format!("/v1/conversations/{talk}/entries?limit=10");
    let page: Value = http.get(&page).await.unwrap();
    assert_eq!(page["entries"].as_array().unwrap().len(), 3, "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_sent_events_resume() {
    let world = World::start("server_sent_events_resume").await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.sign_up("ben").await;
    let (mut last_id, mut heard) = (String::new(), Vec::new());
    for round in 0..4 {
        // The stream is cut after each message, and the next said while it is away.
        ada.sent(ada.say(Place::To(ben.user), &format!("{round}")))
            .await;
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", world.port()))
            .await
            .unwrap();
        let request = format!(
            "GET /v1/events/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n{last_id}\r\n",
            ben.token
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        let wanted = format!("\"text\":\"{round}\"");
        let first = round == 0;
        while !(text.contains(&wanted) || first && text.contains("\"welcome\"")) {
            let mut buffer = [0; 4096];
            let length = stream.read(&mut buffer).await.unwrap();
            assert!(length > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        heard.extend((0..4).filter(|number| text.contains(&format!("\"text\":\"{number}\""))));
        let id = text.rsplit("id: ").next().unwrap().lines().next().unwrap();
        last_id = format!("last-event-id: {id}\r\n");
    }
    assert_eq!(
        heard,
        [1, 2, 3],
        "each once; what was before the stream is in the history"
    );
}
