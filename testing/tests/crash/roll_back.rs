//! The data directory is put back to an older copy: devices are told, and no difference stays silent.

use tidings_core::id::direct_id;
use tidings_testing::wire::Way;
use tidings_testing::wire::device::Device;
use tidings_testing::wire::memory::Place;
use tidings_testing::world::World;

/// Two people, a copy of the data after three messages, and three more since, which both have.
async fn with_a_lost_future(test: &str) -> (World, Device, Device, tempfile::TempDir) {
    let mut world = World::start(test).await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Cbor).await;
    for text in ["one", "two", "three"] {
        ada.sent(ada.say(Place::To(ben.user), text)).await;
    }
    for device in [&ada, &ben] {
        device.level().await;
    }
    world.server.stop().await;
    let copy = world.server.copy_data();
    world.server.start_again().await;
    for text in ["four", "five", "six"] {
        ada.sent(ada.say(Place::To(ben.user), text)).await;
    }
    for device in [&ada, &ben] {
        device.level().await;
        device.set_online(false);
    }
    world.server.stop().await;
    world.server.roll_back(&copy);
    (world, ada, ben, copy)
}

async fn check_same(devices: [&Device; 2], expected: &[&str]) {
    let talk = direct_id(devices[0].user, devices[1].user);
    for device in devices {
        device
            .wait("what the server has", |memory| {
                memory.said(talk) == expected
            })
            .await;
        device.level().await;
        assert_eq!(device.memory().said(talk), expected, "{}", device.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolled_back_below_what_devices_have() {
    let (mut world, ada, ben, _copy) = with_a_lost_future("rolled_back").await;
    world.server.verify().await;
    world.server.start_again().await;
    ada.set_online(true);
    ben.set_online(true);
    check_same([&ada, &ben], &["one", "two", "three"]).await;
    let talk = direct_id(ada.user, ben.user);
    for device in [&ada, &ben] {
        assert!(device.memory().log(talk).resets > 0, "told so");
    }
    ada.sent(ada.say(Place::To(ben.user), "seven")).await;
    check_same([&ada, &ben], &["one", "two", "three", "seven"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolled_back_and_grown_beyond_what_a_device_has() {
    let (mut world, ada, ben, _copy) = with_a_lost_future("rolled_back_and_grown").await;
    world.server.start_again().await;
    ada.set_online(true);
    let talk = direct_id(ada.user, ben.user);
    ada.wait("a reset", |memory| memory.log(talk).resets > 0)
        .await;
    let others = ["uno", "due", "tre", "quattro", "cinque"];
    for text in others {
        ada.sent(ada.say(Place::To(ben.user), text)).await;
    }
    ben.set_online(true);
    let expected = [
        "one", "two", "three", "uno", "due", "tre", "quattro", "cinque",
    ];
    check_same([&ada, &ben], &expected).await;
    assert!(ben.memory().log(talk).resets > 0, "told so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolled_back_and_grown_to_the_same_head() {
    let (mut world, ada, ben, _copy) = with_a_lost_future("rolled_back_to_the_same_head").await;
    // By the number of the head alone nobody could tell: restoring makes a new generation.
    world.server.restore().await;
    world.server.verify().await;
    world.server.start_again().await;
    ada.set_online(true);
    let talk = direct_id(ada.user, ben.user);
    ada.wait("a reset", |memory| memory.log(talk).resets > 0)
        .await;
    for text in ["uno", "due", "tre"] {
        ada.sent(ada.say(Place::To(ben.user), text)).await;
    }
    ada.level().await;
    ben.set_online(true);
    check_same([&ada, &ben], &["one", "two", "three", "uno", "due", "tre"]).await;
}
