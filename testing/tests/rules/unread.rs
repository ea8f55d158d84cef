//! Unread counts are the same, counted by the server from ordinals and by a device one by one.

use tidings_testing::wire::Way;
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::device::Device;
use tidings_testing::wire::memory::Place;
use tidings_testing::world::{World, delete, group, invite, leave, named, react};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_counts() {
    let mut world = World::start("unread_counts").await;
    let ada = world.person("ada", Way::Json).await;
    let ben = world.person("ben", Way::Cbor).await;
    let cyd = world.person("cyd", Way::Polling).await;
    let talk = group(&ada, &[ben.user, cyd.user], named("three")).await;
    let devices = [&ada, &ben, &cyd];
    agree(&world, talk, &devices, [0, 0, 0]).await;
    let one = ada.sent(ada.say(Place::In(talk), "one")).await;
    ada.sent(ada.say(Place::In(talk), "two")).await;
    agree(&world, talk, &devices, [0, 2, 2]).await;
    // Reactions, joins and deletions do not count; a deleted message does, until it is passed.
    ben.hears(talk, "two").await;
    ben.sent(ben.send(Place::In(talk), react(one, "+"))).await;
    ada.sent(ada.send(Place::In(talk), delete(one))).await;
    agree(&world, talk, &devices, [0, 2, 2]).await;
    // Saying something does not raise the read mark, and is not unread for me.
    ben.sent(ben.say(Place::In(talk), "three")).await;
    agree(&world, talk, &devices, [1, 2, 3]).await;
    ben.read(talk, one);
    ben.wait("its mark", |memory| memory.log(talk).read.seq == one)
        .await;
    agree(&world, talk, &devices, [1, 1, 3]).await;
    // Away and back: counted from the joining.
    cyd.sent(cyd.send(Place::In(talk), leave())).await;
    ada.sent(ada.say(Place::In(talk), "four")).await;
    ada.sent(ada.send(Place::In(talk), invite(&[cyd.user])))
        .await;
    agree(&world, talk, &devices, [1, 2, 0]).await;
    ben.sent(ben.say(Place::In(talk), "five")).await;
    cyd.hears(talk, "five").await;
    cyd.sent(cyd.say(Place::In(talk), "six")).await;
    agree(&world, talk, &devices, [3, 3, 1]).await;
    // The same after a restart, from the disk alone.
    all_level(world.port(), &devices).await;
    world.server.stop().await;
    world.server.start_again().await;
    agree(&world, talk, &devices, [3, 3, 1]).await;
    let head = ada.memory().log(talk).head;
    for device in devices {
        device.read(talk, head);
    }
    agree(&world, talk, &devices, [0, 0, 0]).await;
    all_level(world.port(), &devices).await;
}

async fn agree(
    world: &World,
    talk: tidings_core::ConversationId,
    devices: &[&Device; 3],
    expected: [u64; 3],
) {
    for (device, expected) in devices.iter().zip(expected) {
        device
            .wait(&format!("{expected} unread"), |memory| {
                memory.log(talk).unread(memory.user) == expected
            })
            .await;
        device.level().await;
        let told = world.conversation(&device.token, talk).await;
        assert_eq!(told.unread, expected, "{}: {told:?}", device.name);
    }
}
