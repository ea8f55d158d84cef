//! Everything at once: people come and go, messages are edited and deleted, lines are cut, the server is
//! killed. At rest every device has what the server serves.

use std::time::{Duration, Instant};

use tidings_core::UserId;
use tidings_protocol::entry::Settings;
use tidings_testing::actors::{act, check_refusals};
use tidings_testing::chance::{Chance, rounds};
use tidings_testing::proxy::{Faults, Proxy};
use tidings_testing::wire::Way;
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::device::Device;
use tidings_testing::world::{World, group, named, until_delivered};

const PEOPLE: u64 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos() {
    // Now and then everything is quickly erased and trimmed, too.
    let settings = [("store.erase_within_s", "2")];
    let mut world = World::start_with("chaos", &settings).await;
    let proxy = Proxy::start(world.port()).await;
    let mut chance = Chance::new(world.seed);
    let mut devices = Vec::new();
    for person in 0..PEOPLE {
        let name = format!("person-{person}");
        let login = world.sign_up(&name).await;
        let way = Way::ALL[(person % 4) as usize];
        devices.push(Device::start(
            &name,
            way,
            proxy.port,
            &login,
            chance.number(),
        ));
        if person < 2 {
            let login = world.log_in(&name).await;
            let name = format!("{name}'s second");
            devices.push(Device::start(
                &name,
                Way::Cbor,
                proxy.port,
                &login,
                chance.number(),
            ));
        }
    }
    let devices: Vec<&Device> = devices.iter().collect();
    let mut users: Vec<UserId> = devices.iter().map(|device| device.user).collect();
    users.dedup();
    let some: Vec<UserId> = users[1..4].to_vec();
    let shared = Settings {
        share_history: true,
        ..named("shared")
    };
    let mut talks = Vec::new();
    for settings in [named("plain"), shared, until_delivered()] {
        talks.push(group(devices[0], &some, settings).await);
    }

    proxy.misbehave(Some(Faults {
        seed: world.seed,
        lasts_ms_max: 1_500,
    }));
    for _ in 0..rounds(6) {
        let until = Instant::now() + Duration::from_millis(chance.between(200, 1_500));
        while Instant::now() < until {
            let device = devices[chance.below(devices.len() as u64) as usize];
            let talk = talks[chance.below(3) as usize];
            if device.memory().outbox.len() < 40 {
                act(device, talk, &users, &mut chance);
            }
            tokio::time::sleep(Duration::from_millis(chance.below(4))).await;
        }
        world.server.kill();
        world.server.verify().await;
        world.server.start_again().await;
    }
    proxy.misbehave(None);
    proxy.cut();
    all_level(world.port(), &devices).await;
    for device in &devices {
        check_refusals(&device.memory());
    }
    world.server.stop().await;
    world.server.verify().await;
    world.server.start_again().await;
    all_level(world.port(), &devices).await;
}
