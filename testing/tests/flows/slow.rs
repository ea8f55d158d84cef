//! A client that does not read what it is sent.

use tidings_testing::proxy::Proxy;
use tidings_testing::wire::Way;
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::memory::Place;
use tidings_testing::world::{World, group, named};

pub(crate) async fn slow_consumer_costs_only_itself(way: Way) {
    let settings = [
        ("sessions.queue_frames_max", "64"),
        ("sessions.queue_bytes_max", "1000000"),
    ];
    let world = World::start_with("slow_consumer_costs_only_itself", &settings).await;
    let ada = world.person("ada", way).await;
    let ben = world.person("ben", way).await;
    let slow = world.person("slow", way).await;
    let proxy = Proxy::start(world.port()).await;
    let talk = group(&ada, &[ben.user, slow.user], named("three")).await;
    for device in [&ben, &slow] {
        device
            .wait("the group", |memory| memory.logs.contains_key(&talk))
            .await;
    }
    slow.set_online(false);
    slow.set_port(proxy.port);
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    slow.set_online(true);
    slow.level().await;
    let before = slow.memory().connections;

    // 20 MB that it does not read, more than the kernel takes for it.
    proxy.hold();
    let text = "x".repeat(99_000);
    let mut last = 0;
    for number in 0..200 {
        last = ada
            .sent(ada.say(Place::In(talk), &format!("{number} {text}")))
            .await;
    }
    ben.hears(talk, &format!("199 {text}")).await;
    ada.sees_delivered(talk, ben.user, last).await;
    assert!(
        ada.memory().ticks(talk, slow.user).0 < last,
        "it has not read everything"
    );
    assert_eq!(ben.memory().connections, 1, "the others noticed nothing");
    assert_eq!(ada.memory().connections, 1, "the others noticed nothing");

    // It resumes by its marks and lacks nothing.
    proxy.release();
    slow.hears(talk, &format!("199 {text}")).await;
    ada.sees_delivered(talk, slow.user, last).await;
    assert!(slow.memory().connections > before, "it was cut off");
    all_level(world.port(), &[&ada, &ben, &slow]).await;
}
