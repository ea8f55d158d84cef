//! The four flows with the two people at different servers.

use tidings_testing::cluster::{Cluster, Ground};
use tidings_testing::flows::{self, At};
use tidings_testing::wire::Way;

/// Fewer than at one server: here it is the store that sets the pace.
const PAIRS: u64 = 10;

async fn two(test: &str) -> Cluster {
    Cluster::start(test, 2, &Ground::shared(), &[]).await
}

fn apart(cluster: &Cluster) -> At<'_> {
    At {
        ada: cluster.at(0),
        ben: cluster.at(1),
    }
}

pub(crate) async fn both_online(way: Way) {
    let cluster = two("both_online").await;
    flows::both_online(apart(&cluster), way).await;
}

pub(crate) async fn recipient_offline(way: Way) {
    let cluster = two("recipient_offline").await;
    flows::recipient_offline(apart(&cluster), way).await;
}

pub(crate) async fn sender_offline_for_receipt(way: Way) {
    let cluster = two("sender_offline_for_receipt").await;
    flows::sender_offline_for_receipt(apart(&cluster), way).await;
}

pub(crate) async fn both_flapping(way: Way) {
    let cluster = two("both_flapping").await;
    flows::both_flapping(apart(&cluster), way, PAIRS).await;
}
