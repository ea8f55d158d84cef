//! Drivers against a real server, over every transport.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tidings_client::{Config, ItemState, Limits, Recipient, Status};
use tidings_core::ConversationId;
use tidings_core::id::direct_id;
use tidings_protocol::Encoding;
use tidings_protocol::entry::Content;
use tidings_testing::server::Server;

use super::connection::{Dialling, Transport};
use super::*;
use crate::account;
use crate::args::ServerArgs;

const WITHIN: Duration = Duration::from_secs(30);
const ALL: [(Transport, Encoding); 3] = [
    (Transport::Ws, Encoding::Cbor),
    (Transport::Auto, Encoding::Json),
    (Transport::Poll, Encoding::Cbor),
];

struct Person {
    driver: Driver,
    user: tidings_core::UserId,
}

async fn person(
    server: &Server,
    home: &Path,
    name: &str,
    (transport, encoding): (Transport, Encoding),
) -> Person {
    let password = home.join("password");
    std::fs::write(&password, "correct-horse\n").unwrap();
    let args = ServerArgs {
        server: format!("http://127.0.0.1:{}", server.port).parse().unwrap(),
        user: Some(name.to_owned()),
        password_file: Some(password),
        sign_up: true,
        profile: None,
        data_dir: Some(home.to_owned()),
    };
    let (account, files, network) = account::open(&args).await.unwrap();
    let store = Store::open(&files.history()).unwrap();
    let config = Config {
        user: account.user,
        device: account.device,
        token: Some(account.token.clone()),
        client: "test".to_owned(),
        seed: getrandom::u64().unwrap(),
        limits: Limits::default(),
    };
    let dialling = Dialling {
        network: Arc::clone(&network),
        token: account.token,
        encoding,
        transport,
    };
    Person {
        driver: Driver::new(config, store, dialling),
        user: account.user,
    }
}

/// Drives both until it is so.
async fn until(ana: &mut Driver, ben: &mut Driver, so: impl Fn(&mut Driver, &mut Driver) -> bool) {
    let driving = async {
        loop {
            while ana.poll_change().is_some() {}
            while ben.poll_change().is_some() {}
            if so(ana, ben) {
                return;
            }
            tokio::select! {
                event = ana.next_event() => ana.handle(event).unwrap(),
                event = ben.next_event() => ben.handle(event).unwrap(),
            }
        }
    };
    tokio::time::timeout(WITHIN, driving).await.unwrap();
}

fn states(driver: &mut Driver, id: ConversationId) -> Vec<ItemState> {
    let timeline = driver.client().timeline(id);
    let items = timeline
        .map(|timeline| timeline.items.clone())
        .unwrap_or_default();
    items
        .into_iter()
        .filter(|item| item.state != ItemState::Plain)
        .map(|item| item.state)
        .collect()
}

fn texts(driver: &mut Driver, id: ConversationId) -> Vec<String> {
    let items = driver
        .client()
        .timeline(id)
        .map(|timeline| timeline.items.clone())
        .unwrap_or_default();
    let text = |body| match body {
        tidings_client::ItemBody::Message(content) => Some(content.text),
        _ => None,
    };
    items
        .into_iter()
        .filter_map(|item| text(item.body))
        .collect()
}

fn content(text: &str) -> Content {
    Content {
        text: text.to_owned(),
        ..Content::default()
    }
}

#[tokio::test]
async fn messages_and_ticks_over_every_transport() {
    let server = Server::start().await;
    for (number, way) in ALL.into_iter().enumerate() {
        let homes = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let mut ana = person(&server, homes[0].path(), &format!("ana{number}"), way).await;
        let mut ben = person(&server, homes[1].path(), &format!("ben{number}"), way).await;
        let id = direct_id(ana.user, ben.user);
        ana.driver.client().open(now(), id);
        ana.driver
            .client()
            .send_message(now(), Recipient::User(ben.user), content("one"), None);
        until(&mut ana.driver, &mut ben.driver, |ana, _| {
            states(ana, id) == [ItemState::Delivered]
        })
        .await;
        ben.driver.client().open(now(), id);
        until(&mut ana.driver, &mut ben.driver, |_, ben| {
            texts(ben, id) == ["one"]
        })
        .await;
        let head = ben.driver.client().conversation(id).unwrap().head;
        ben.driver.client().mark_read(now(), id, head);
        until(&mut ana.driver, &mut ben.driver, |ana, _| {
            states(ana, id) == [ItemState::Read]
        })
        .await;
        ana.driver.finish().await.unwrap();
        ben.driver.finish().await.unwrap();
    }
}

#[tokio::test]
async fn what_was_written_without_a_server_is_sent_by_the_next_run() {
    let mut server = Server::start().await;
    let homes = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let way = ALL[0];
    let mut ana = person(&server, homes[0].path(), "ana", way).await;
    let mut ben = person(&server, homes[1].path(), "ben", way).await;
    let online = |ana: &mut Driver, ben: &mut Driver| {
        ana.client().status() == Status::Online && ben.client().status() == Status::Online
    };
    until(&mut ana.driver, &mut ben.driver, online).await;
    server.kill();
    let id = direct_id(ana.user, ben.user);
    ana.driver.client().open(now(), id);
    for text in ["one", "two", "three"] {
        ana.driver
            .client()
            .send_message(now(), Recipient::User(ben.user), content(text), None);
    }
    until(&mut ana.driver, &mut ben.driver, |ana, _| {
        ana.why_offline().is_some()
    })
    .await;
    ana.driver.finish().await.unwrap();

    let mut ana = person(&server, homes[0].path(), "ana", way).await;
    assert_eq!(ana.driver.client().outbox_len(), 3);
    ana.driver.client().open(now(), id);
    ben.driver.client().open(now(), id);
    server.start_again().await;
    until(&mut ana.driver, &mut ben.driver, |ana, ben| {
        states(ana, id)
            == [
                ItemState::Delivered,
                ItemState::Delivered,
                ItemState::Delivered,
            ]
            && texts(ben, id).len() == 3
    })
    .await;
    assert_eq!(texts(&mut ben.driver, id), ["one", "two", "three"]);
    assert_eq!(texts(&mut ana.driver, id), ["one", "two", "three"]);
}
