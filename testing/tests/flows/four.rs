//! The flows in which connections behave.

use tidings_core::id::direct_id;
use tidings_testing::wire::Way;
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::memory::Place;
use tidings_testing::world::World;

pub(crate) async fn both_online(way: Way) {
    let world = World::start("both_online").await;
    let ada = world.person("ada", way).await;
    let ben = world.person("ben", way).await;
    let talk = direct_id(ada.user, ben.user);

    for round in 0..10 {
        let (ask, answer) = (format!("question {round}"), format!("answer {round}"));
        let said = ada.say(Place::To(ben.user), &ask);
        let seq = ada.sent(said).await;
        assert_eq!(ben.hears(talk, &ask).await, seq);
        ada.sees_delivered(talk, ben.user, seq).await;
        assert!(
            ada.memory().ticks(talk, ben.user).1 < seq,
            "not read before it is read"
        );
        ben.read(talk, seq);
        ada.sees_shown(talk, ben.user, seq).await;
        let said = ben.say(Place::In(talk), &answer);
        let seq = ben.sent(said).await;
        assert_eq!(ada.hears(talk, &answer).await, seq);
        ben.sees_delivered(talk, ada.user, seq).await;
    }
    all_level(world.port(), &[&ada, &ben]).await;
    for device in [&ada, &ben] {
        assert_eq!(device.memory().said(talk).len(), 20);
        assert_eq!(device.memory().connections, 1, "{}", device.name);
    }
}

pub(crate) async fn recipient_offline(way: Way) {
    let world = World::start("recipient_offline").await;
    let ada = world.person("ada", way).await;
    let ben = world.person("ben", way).await;
    let talk = direct_id(ada.user, ben.user);
    let said = ada.say(Place::To(ben.user), "are you there?");
    let first = ada.sent(said).await;
    ada.sees_delivered(talk, ben.user, first).await;

    ben.set_online(false);
    let texts: Vec<String> = (0..120).map(|number| format!("waiting {number}")).collect();
    let mut last = first;
    for text in &texts {
        last = ada.sent(ada.say(Place::To(ben.user), text)).await;
    }
    assert_eq!(last, first + 120, "one tick each");
    let (delivered, shown) = ada.memory().ticks(talk, ben.user);
    assert!(
        delivered <= first + 1,
        "no second tick before it has it: {delivered}"
    );
    assert_eq!(shown, 0);

    ben.set_online(true);
    // The last may come first, as a live event: the pages follow.
    ben.hears(talk, "waiting 119").await;
    ben.wait("all of them", |memory| {
        memory.said(talk).len() > texts.len()
    })
    .await;
    assert_eq!(ben.memory().said(talk)[1..], texts, "all, in order");
    ada.sees_delivered(talk, ben.user, last).await;
    ben.read(talk, last);
    ada.sees_shown(talk, ben.user, last).await;
    all_level(world.port(), &[&ada, &ben]).await;
}

pub(crate) async fn sender_offline_for_receipt(way: Way) {
    let world = World::start("sender_offline_for_receipt").await;
    let ada = world.person("ada", way).await;
    let ben = world.person("ben", way).await;
    let talk = direct_id(ada.user, ben.user);
    ben.set_online(false);
    let first = ada.sent(ada.say(Place::To(ben.user), "one")).await;
    let last = ada.sent(ada.say(Place::To(ben.user), "two")).await;
    ada.set_online(false);
    ada.wait("offline", |memory| !memory.digest_agrees).await;

    ben.set_online(true);
    ben.hears(talk, "two").await;
    ben.read(talk, first);
    ben.level().await;
    assert_eq!(
        ada.memory().ticks(talk, ben.user),
        (0, 0),
        "the receipts wait"
    );

    ada.set_online(true);
    ada.sees_delivered(talk, ben.user, last).await;
    ada.sees_shown(talk, ben.user, first).await;
    assert!(ada.memory().ticks(talk, ben.user).1 < last);
    ben.read(talk, last);
    ada.sees_shown(talk, ben.user, last).await;
    all_level(world.port(), &[&ada, &ben]).await;
}
