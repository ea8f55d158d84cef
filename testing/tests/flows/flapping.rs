//! Connections of both sides cut at random during a conversation: nothing lost, doubled or out of order.

use std::time::Duration;

use tidings_core::id::direct_id;
use tidings_testing::chance::Chance;
use tidings_testing::proxy::{Faults, Proxy};
use tidings_testing::wire::Way;
use tidings_testing::wire::check::all_level;
use tidings_testing::wire::device::Device;
use tidings_testing::wire::memory::Place;
use tidings_testing::world::World;

const PAIRS: u64 = 50;
/// Messages that each side says.
const MESSAGES: u64 = 25;
/// A connection lasts so long at most.
const LASTS_MS_MAX: u64 = 700;

pub(crate) async fn both_flapping(way: Way) {
    let world = World::start("both_flapping").await;
    let proxy = Proxy::start(world.port()).await;
    proxy.misbehave(Some(Faults {
        seed: world.seed,
        lasts_ms_max: LASTS_MS_MAX,
    }));
    let mut pairs = Vec::new();
    for pair in 0..PAIRS {
        let mut devices = Vec::new();
        for side in ["ada", "ben"] {
            let name = format!("{side}-{pair}");
            let login = world.sign_up(&name).await;
            let seed = Chance::part(world.seed, pair).number();
            let device = Device::offline(&name, way, proxy.port, &login, seed);
            device.read_all();
            devices.push(device);
        }
        pairs.push(devices);
    }

    let talks = pairs.iter().enumerate().map(|(number, pair)| {
        let mut chance = Chance::part(world.seed, number as u64);
        async move {
            let (ada, ben) = (&pair[0], &pair[1]);
            ada.set_online(true);
            ben.set_online(true);
            for message in 0..MESSAGES {
                ada.say(Place::To(ben.user), &format!("ada {message}"));
                ben.say(Place::To(ada.user), &format!("ben {message}"));
                tokio::time::sleep(Duration::from_millis(chance.below(200))).await;
            }
        }
    });
    futures_util::future::join_all(talks).await;
    // In the end the lines behave, and what is still under way on bad ones is cut.
    let made = proxy.connections();
    proxy.misbehave(None);
    proxy.cut();
    assert!(made > PAIRS * 4, "they did flap: {made} connections");

    let devices: Vec<&Device> = pairs.iter().flatten().collect();
    all_level(world.port(), &devices).await;
    for pair in &pairs {
        let (ada, ben) = (&pair[0], &pair[1]);
        let talk = direct_id(ada.user, ben.user);
        let said = ada.memory().said(talk);
        assert_eq!(said, ben.memory().said(talk), "the same on both");
        for side in ["ada", "ben"] {
            let of_side: Vec<&String> = said.iter().filter(|text| text.starts_with(side)).collect();
            let expected: Vec<String> = (0..MESSAGES)
                .map(|number| format!("{side} {number}"))
                .collect();
            assert!(of_side.into_iter().eq(&expected), "{side}: {said:?}");
        }
        let head = ada.memory().log(talk).head;
        ada.sees_delivered(talk, ben.user, head).await;
        ada.sees_shown(talk, ben.user, head).await;
        ben.sees_delivered(talk, ada.user, head).await;
        ben.sees_shown(talk, ada.user, head).await;
    }
}
