//! Retention that days decide, over the real program: its wall clock is moved while it runs.

use tidings_protocol::entry::{Retention, Settings};
use tidings_testing::wire::Way;
use tidings_testing::wire::check::{all_level, entries_of};
use tidings_testing::wire::memory::Place;
use tidings_testing::world::{World, group, named, until_delivered};

use super::erasing::{SOON, found_nowhere};

const SECRET: &str = "owed until everybody has it";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn device_that_never_returns() {
    let mut world = World::start_with("device_that_never_returns", &SOON).await;
    world.server.start_with_clock().await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Cbor).await;
    let silent = world.second_device("ben", Way::Json).await;
    let talk = group(&ada, &[ben.user], until_delivered()).await;
    ada.say(Place::In(talk), "hello");
    ben.hears(talk, "hello").await;
    silent.hears(talk, "hello").await;
    silent.level().await;
    silent.set_online(false);
    let seq = ada.sent(ada.say(Place::In(talk), SECRET)).await;
    ada.sees_delivered(talk, ben.user, seq).await;
    // One day before its time is over the silent device is owed it still.
    world.server.advance_days(29);
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let kept = world.server.files_with(SECRET);
    assert!(!kept.is_empty(), "it may still return");

    world.server.advance_days(31);
    found_nowhere(&world.server, SECRET).await;
    let told = world.conversation(&ada.token, talk).await;
    assert!(told.trimmed >= seq, "{told:?}");
    // If it does come back, it begins anew with what is there, and is owed again what comes from now on.
    silent.set_online(true);
    silent.level().await;
    ada.say(Place::In(talk), "anybody there?");
    silent.hears(talk, "anybody there?").await;
    let said = silent.memory().said(talk);
    assert!(!said.contains(&SECRET.to_owned()), "{said:?}");
    assert!(silent.memory().log(talk).resets > 0);
    all_level(world.port(), &[&ada, &ben, &silent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_retention() {
    let mut world = World::start_with("days_retention", &SOON).await;
    world.server.start_with_clock().await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.sign_up("ben").await;
    let settings = Settings {
        retention: Retention::Days(2),
        ..named("two days")
    };
    let talk = group(&ada, &[ben.user], settings).await;
    let mut old = 0;
    for number in 0..3 {
        let text = format!("an old message, number {number}");
        old = ada.sent(ada.say(Place::In(talk), &text)).await;
    }
    world.server.advance_days(1);
    let kept = ada
        .sent(ada.say(Place::In(talk), "a message of the day between"))
        .await;
    let told = world.conversation(&ben.token, talk).await;
    assert_eq!((told.unread, told.trimmed), (4, 0));

    // Two days after the old ones, one day after the other.
    world.server.advance_days(2);
    found_nowhere(&world.server, "an old message").await;
    assert!(
        !world
            .server
            .files_with("a message of the day between")
            .is_empty()
    );
    ada.sent(ada.say(Place::In(talk), "a new message")).await;
    let told = world.conversation(&ben.token, talk).await;
    assert!((old..kept).contains(&told.trimmed), "{told:?}");
    assert_eq!(told.unread, 2, "counted from the trimmed mark");
    let served = entries_of(&mut world.http(&ben.token), talk).await;
    assert!(served.iter().all(|entry| entry.seq > old), "{served:?}");
    // Who comes only now gets what is kept; who was there keeps what it has.
    let ben = world.device("ben", Way::Polling, &ben);
    ben.hears(talk, "a new message").await;
    let expected = ["a message of the day between", "a new message"];
    assert_eq!(ben.memory().said(talk), expected);
    assert_eq!(ada.memory().said(talk).len(), 5);
    // The same from the disk alone.
    world.server.stop().await;
    world.server.start_again().await;
    let told = world.conversation(&ben.token, talk).await;
    assert_eq!(told.unread, 2);
    all_level(world.port(), &[&ada, &ben]).await;
}
