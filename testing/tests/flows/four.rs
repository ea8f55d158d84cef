//! The four flows at one server.

use tidings_testing::flows::{self, At};
use tidings_testing::wire::Way;
use tidings_testing::world::World;

const PAIRS: u64 = 50;

pub(crate) async fn both_online(way: Way) {
    let world = World::start("both_online").await;
    flows::both_online(At::one(&world), way).await;
}

pub(crate) async fn recipient_offline(way: Way) {
    let world = World::start("recipient_offline").await;
    flows::recipient_offline(At::one(&world), way).await;
}

pub(crate) async fn sender_offline_for_receipt(way: Way) {
    let world = World::start("sender_offline_for_receipt").await;
    flows::sender_offline_for_receipt(At::one(&world), way).await;
}

pub(crate) async fn both_flapping(way: Way) {
    let world = World::start("both_flapping").await;
    flows::both_flapping(At::one(&world), way, PAIRS).await;
}
