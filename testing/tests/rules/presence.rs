//! Online, last seen, typing; and who may see them.

use serde_json::json;
use tidings_core::UserId;
use tidings_protocol::presence::{Presence, Typing, Watch};
use tidings_protocol::{ClientFrame, ServerFrame};
use tidings_testing::wire::{Connection, Way};
use tidings_testing::world::World;

async fn watch(connection: &mut Connection, users: &[UserId]) {
    let watch = Watch {
        id: None,
        users: users.to_vec(),
        conversation: None,
    };
    connection.ask(ClientFrame::Watch(watch)).await.unwrap();
}

async fn told(
    connection: &mut Connection,
    user: UserId,
    is_so: impl Fn(&Presence) -> bool,
) -> Presence {
    connection
        .event(|frame| match frame {
            ServerFrame::Presence(presence) if presence.user == user && is_so(presence) => {
                Some(*presence)
            }
            _ => None,
        })
        .await
        .unwrap()
}

const SHORT: [(&str, &str); 3] = [
    ("presence.offline_after_ms", "1000"),
    ("presence.drop_grace_ms", "300"),
    ("presence.look_ms", "50"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn online_offline_last_seen() {
    let world = World::start_with("online_offline_last_seen", &SHORT).await;
    let ada = world.sign_up("ada").await;
    for (number, way) in Way::ALL.into_iter().enumerate() {
        let ben = world.sign_up(&format!("ben-{number}")).await;
        let mut watching = world.connect(way, &ada.token).await;
        watch(&mut watching, &[ben.user]).await;
        told(&mut watching, ben.user, |presence| !presence.online).await;
        let here = world.connect(way, &ben.token).await;
        told(&mut watching, ben.user, |presence| presence.online).await;
        drop(here);
        let gone = told(&mut watching, ben.user, |presence| !presence.online).await;
        let seen = gone.last_seen.unwrap();
        assert!(watching.welcome.at.millis_since(seen) < 60_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn privacy_of_presence_is_reciprocal() {
    let world = World::start_with("privacy_of_presence_is_reciprocal", &SHORT).await;
    let ada = world.sign_up("ada").await;
    let ben = world.sign_up("ben").await;
    let hide = json!({"privacy": {"last_seen": "nobody", "read_receipts": true}});
    let _: tidings_protocol::account::Me = world
        .http(&ben.token)
        .json("PATCH", "/v1/me", &hide)
        .await
        .unwrap();
    let _here = world.connect(Way::Json, &ben.token).await;
    let _there = world.connect(Way::Json, &ada.token).await;
    let presence_of = async |reader: &str, user: UserId| {
        let path = format!("/v1/presence?users={user}");
        let answer: serde_json::Value = world.http(reader).get(&path).await.unwrap();
        let first = answer["presence"][0].clone();
        (first["online"] == json!(true), first["last_seen"].clone())
    };
    let hidden = (false, serde_json::Value::Null);
    assert_eq!(presence_of(&ada.token, ben.user).await, hidden);
    assert_eq!(
        presence_of(&ben.token, ada.user).await,
        hidden,
        "who hides does not see"
    );
    let show = json!({"privacy": {"last_seen": "everyone", "read_receipts": true}});
    let _: tidings_protocol::account::Me = world
        .http(&ben.token)
        .json("PATCH", "/v1/me", &show)
        .await
        .unwrap();
    assert!(presence_of(&ada.token, ben.user).await.0);
    assert!(presence_of(&ben.token, ada.user).await.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_receipts_switched_off_and_on_reveal_nothing_of_the_past() {
    use tidings_core::id::direct_id;
    use tidings_testing::wire::memory::Place;
    let world = World::start("read_receipts").await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Cbor).await;
    let talk = direct_id(ada.user, ben.user);
    let receipts = async |on: bool| {
        let change = json!({"privacy": {"last_seen": "everyone", "read_receipts": on}});
        let _: tidings_protocol::account::Me = world
            .http(&ben.token)
            .json("PATCH", "/v1/me", &change)
            .await
            .unwrap();
    };
    receipts(false).await;
    let first = ada.sent(ada.say(Place::To(ben.user), "one")).await;
    ben.hears(talk, "one").await;
    ben.read(talk, first);
    ben.wait("its mark", |memory| memory.log(talk).read.seq == first)
        .await;
    ada.sees_delivered(talk, ben.user, first).await;
    receipts(true).await;
    ben.level().await;
    ada.level().await;
    assert_eq!(
        ada.memory().ticks(talk, ben.user).1,
        0,
        "read while it was off"
    );
    let second = ada.sent(ada.say(Place::To(ben.user), "two")).await;
    ben.hears(talk, "two").await;
    ben.read(talk, second);
    ada.sees_shown(talk, ben.user, second).await;
}

pub(crate) async fn read_receipts_are_mutual(way: Way) {
    use tidings_core::id::direct_id;
    use tidings_testing::wire::memory::Place;
    let world = World::start("read_receipts_are_mutual").await;
    let ada = world.person("ada", way).await;
    let ben = world.person("ben", way).await;
    let talk = direct_id(ada.user, ben.user);
    let receipts = async |on: bool| {
        let change = json!({"privacy": {"last_seen": "everyone", "read_receipts": on}});
        let _: tidings_protocol::account::Me = world
            .http(&ada.token)
            .json("PATCH", "/v1/me", &change)
            .await
            .unwrap();
    };
    let first = ada.sent(ada.say(Place::To(ben.user), "one")).await;
    ben.hears(talk, "one").await;
    receipts(false).await;
    ben.read(talk, first);
    ben.wait("its mark", |memory| memory.log(talk).read.seq == first)
        .await;
    let second = ada.sent(ada.say(Place::To(ben.user), "two")).await;
    ada.sees_delivered(talk, ben.user, second).await;
    ada.level().await;
    assert_eq!(
        ada.memory().ticks(talk, ben.user).1,
        0,
        "not while it hides"
    );
    // Changed while the session lives: the next digest tells, and the inbox what.
    receipts(true).await;
    ada.sees_shown(talk, ben.user, first).await;
    receipts(false).await;
    ada.wait("what it is told no longer", |memory| {
        memory.log(talk).told[&ben.user].shown == 0
    })
    .await;
    ada.level().await;
    ben.level().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typing() {
    use tidings_core::id::direct_id;
    use tidings_testing::wire::memory::Place;
    let world = World::start("typing").await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Json).await;
    let talk = direct_id(ada.user, ben.user);
    ada.say(Place::To(ben.user), "hello");
    ben.hears(talk, "hello").await;
    for way in Way::ALL {
        let mut of_ada = world.connect(way, &ada.token).await;
        let mut of_ben = world.connect(way, &ben.token).await;
        for on in [true, false] {
            let typing = Typing {
                conversation: talk,
                on,
            };
            of_ben.post(ClientFrame::Typing(typing)).await.unwrap();
            let heard = of_ada
                .event(|frame| match frame {
                    ServerFrame::Typing(typing) => Some(*typing),
                    _ => None,
                })
                .await
                .unwrap();
            assert_eq!(
                (heard.conversation, heard.user, heard.on),
                (talk, ben.user, on)
            );
        }
    }
}
