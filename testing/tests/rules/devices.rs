//! Several devices of one user.

use std::time::{Duration, Instant};

use tidings_core::id::direct_id;
use tidings_protocol::session::{Private, PrivateItem, PrivateRequest, PutPrivate};
use tidings_protocol::{ClientFrame, Code, ServerFrame};
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::memory::Place;
use tidings_testing::wire::{Connection, Lost, Way};
use tidings_testing::world::World;

pub(crate) async fn read_on_one_clears_the_badge_on_the_others(way: Way) {
    let world = World::start("read_on_one_clears_the_badge_on_the_others").await;
    let ada = world.person("ada", way).await;
    let ben = world.person("ben", way).await;
    let other = world.second_device("ben", way).await;
    let talk = direct_id(ada.user, ben.user);
    for number in 0..5 {
        ada.say(Place::To(ben.user), &format!("{number}"));
    }
    let last = ben.hears(talk, "4").await;
    other.hears(talk, "4").await;
    let badge = |device: &tidings_testing::wire::device::Device| {
        device.memory().log(talk).unread(device.user)
    };
    assert_eq!((badge(&ben), badge(&other)), (5, 5));

    ben.read(talk, last - 2);
    other
        .wait("a smaller badge", |memory| {
            memory.log(talk).unread(memory.user) == 2
        })
        .await;
    other.read(talk, last);
    ben.wait("no badge", |memory| {
        memory.log(talk).unread(memory.user) == 0
    })
    .await;
    let told = world.conversation(&ben.token, talk).await;
    assert_eq!(told.unread, 0);
    // What one device of mine says is on my others too, and counts nowhere.
    ben.say(Place::In(talk), "from the first");
    other.hears(talk, "from the first").await;
    assert_eq!(badge(&other), 0);
    all_level(world.port(), &[&ada, &ben, &other]).await;
}

pub(crate) async fn new_device_gets_conversations_and_pages_history(way: Way) {
    let world = World::start("new_device_gets_conversations_and_pages_history").await;
    let ada = world.person("ada", way).await;
    let mut talks = Vec::new();
    // More conversations than one page of the inbox, and in one more entries than one page.
    for number in 0..12 {
        let name = format!("friend-{number}");
        let friend = world.sign_up(&name).await;
        ada.say(Place::To(friend.user), &format!("hello {name}"));
        talks.push((friend.user, direct_id(ada.user, friend.user)));
    }
    let (first, talk) = talks[0];
    for number in 0..150 {
        ada.say(Place::To(first), &format!("{number}"));
    }
    ada.level().await;

    let new = world.second_device("ada", way).await;
    new.hears(talk, "149").await;
    for (number, (_, talk)) in talks.iter().enumerate() {
        new.hears(*talk, &format!("hello friend-{number}")).await;
    }
    assert_eq!(new.memory().said(talk), ada.memory().said(talk));
    all_level(world.port(), &[&ada, &new]).await;
}

pub(crate) async fn private_map_is_pushed_to_the_other_devices(way: Way) {
    let world = World::start("private_map_is_pushed_to_the_other_devices").await;
    let ada = world.sign_up("ada").await;
    let other = world.log_in("ada").await;
    let ben = world.sign_up("ben").await;
    let mut mine = world.connect(way, &ada.token).await;
    let mut another = world.connect(way, &other.token).await;
    let mut bens = world.connect(way, &ben.token).await;
    for value in [Some("see you at"), Some("see you at ten"), None] {
        let value = value.map(str::to_owned);
        let put = PutPrivate {
            id: 0,
            key: "draft".to_owned(),
            value: value.clone(),
        };
        let answer = mine.ask(ClientFrame::PutPrivate(put)).await.unwrap();
        assert!(matches!(answer, ServerFrame::Done(_)), "{answer:?}");
        let told = another.event(private).await.unwrap();
        let expected = PrivateItem {
            key: "draft".to_owned(),
            value,
        };
        assert_eq!(
            (told.id, told.items, told.more),
            (None, vec![expected], false)
        );
    }
    // What another device is told it finds when it asks; who changed it, and everybody else, is told nothing.
    let put = |key: &str| {
        ClientFrame::PutPrivate(PutPrivate {
            id: 0,
            key: key.to_owned(),
            value: Some("muted".to_owned()),
        })
    };
    another.ask(put("from the other")).await.unwrap();
    let told = mine.event(private).await.unwrap();
    assert_eq!(told.items[0].key, "from the other");
    bens.ask(put("ben's own")).await.unwrap();
    let ask = ClientFrame::Private(PrivateRequest { id: 0, after: None });
    for (connection, key) in [(&mut mine, "from the other"), (&mut bens, "ben's own")] {
        let ServerFrame::Private(page) = connection.ask(ask.clone()).await.unwrap() else {
            panic!("no page of the map");
        };
        let keys: Vec<&str> = page.items.iter().map(|item| item.key.as_str()).collect();
        assert_eq!(keys, [key]);
        let more = tokio::time::timeout(Duration::from_millis(300), connection.event(private));
        assert!(!matches!(more.await, Ok(Ok(_))), "nothing else is told");
    }
}

fn private(frame: &ServerFrame) -> Option<Private> {
    match frame {
        ServerFrame::Private(private) => Some(private.clone()),
        _ => None,
    }
}

pub(crate) async fn revoked_device_is_cut_off_within_a_second(way: Way) {
    let world = World::start("revoked_device_is_cut_off_within_a_second").await;
    let ada = world.sign_up("ada").await;
    let lost = world.log_in("ada").await;
    let mut connection = world.connect(way, &lost.token).await;

    let began = Instant::now();
    world.revoke(&ada.token, lost.device).await;
    let end = connection.ended().await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    match end {
        Lost::Bye(code) => assert_eq!(code, Code::Revoked),
        // A poll or call that came just after.
        Lost::Refused(problem) => {
            assert!(
                matches!(problem.code, Code::Unauthorized | Code::Revoked),
                "{problem:?}"
            );
        }
        cut @ Lost::Cut(_) => panic!("{cut:?}"),
    }
    for way in Way::ALL {
        match Connection::open_plain(way, world.port(), &lost.token).await {
            Err(Lost::Refused(problem)) => assert_eq!(problem.code, Code::Unauthorized),
            other => panic!("{other:?}"),
        }
    }
    let mut http = world.http(&lost.token);
    let me: Result<tidings_protocol::account::Me, _> = http.get("/v1/me").await;
    assert_eq!(me.unwrap_err().code, Code::Unauthorized);
    let devices: tidings_protocol::account::Devices =
        world.http(&ada.token).get("/v1/devices").await.unwrap();
    assert_eq!(devices.devices.len(), 1);
    // The one that revoked goes on.
    world.connect(way, &ada.token).await;
}
