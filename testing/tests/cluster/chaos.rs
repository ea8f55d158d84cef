//! Everything at once, at three servers: people come and go, messages are edited and deleted, lines are cut,
//! servers are killed. At rest every device has what the servers serve, whichever is asked.

use std::time::{Duration, Instant};

use tidings_core::UserId;
use tidings_protocol::entry::Settings;
use tidings_testing::actors::{act, check_refusals};
use tidings_testing::chance::{Chance, rounds};
use tidings_testing::cluster::{Cluster, Ground};
use tidings_testing::proxy::{Faults, Proxy};
use tidings_testing::wire::Way;
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::device::Device;
use tidings_testing::world::{group, named, until_delivered};

const SERVERS: usize = 3;
const PEOPLE: usize = 6;
/// With more the outboxes only grow: here it is the store that sets the pace.
const OUTBOX_MAX: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chaos_across_servers() {
    let mut cluster = Cluster::start("chaos_across_servers", SERVERS, &Ground::shared(), &[]).await;
    let seed = cluster.at(0).seed;
    let mut chance = Chance::new(seed);
    let mut proxies = Vec::new();
    for world in &cluster.worlds {
        proxies.push(Proxy::start(world.port()).await);
    }
    let mut devices = Vec::new();
    for person in 0..PEOPLE {
        let name = format!("person-{person}");
        let login = cluster.at(person % SERVERS).sign_up(&name).await;
        let way = Way::ALL[person % Way::ALL.len()];
        let port = proxies[person % SERVERS].port;
        devices.push(Device::start(&name, way, port, &login, chance.number()));
        if person < 3 {
            let login = cluster.at(person % SERVERS).log_in(&name).await;
            let name = format!("{name}'s second");
            let port = proxies[(person + 1) % SERVERS].port;
            devices.push(Device::start(
                &name,
                Way::Cbor,
                port,
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

    for proxy in &proxies {
        proxy.misbehave(Some(Faults {
            seed,
            lasts_ms_max: 2_500,
        }));
    }
    for _ in 0..rounds(4).min(100) {
        let until = Instant::now() + Duration::from_millis(chance.between(500, 2_000));
        while Instant::now() < until {
            let device = devices[chance.below(devices.len() as u64) as usize];
            let talk = talks[chance.below(3) as usize];
            if device.memory().outbox.len() < OUTBOX_MAX {
                act(device, talk, &users, &mut chance);
            }
            tokio::time::sleep(Duration::from_millis(chance.below(20))).await;
        }
        let killed = chance.below(SERVERS as u64) as usize;
        cluster.worlds[killed].server.kill();
        tokio::time::sleep(Duration::from_millis(chance.below(1_000))).await;
        cluster.worlds[killed].server.start_again().await;
    }
    for proxy in &proxies {
        proxy.misbehave(None);
        proxy.cut();
    }
    for world in &cluster.worlds {
        all_level(world.port(), &devices).await;
    }
    for device in &devices {
        check_refusals(&device.memory());
    }
}
