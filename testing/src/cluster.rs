//! Several servers over one keyspace of a real Cassandra, with real NATS between them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use std::sync::atomic::{AtomicU32, Ordering};

use crate::cassandra::Cassandra;
use crate::chance;
use crate::nats::Nats;
use crate::server::Server;
use crate::world::World;

static NAMED: AtomicU32 = AtomicU32::new(0);

/// Servers that share a store. Each is a [`World`] of its own to those who are connected there.
#[derive(Debug)]
pub struct Cluster {
    /// The servers.
    pub worlds: Vec<World>,
    /// What connects them; none if they are to do without.
    pub nats: Option<Nats>,
}

/// What a cluster stands on.
#[derive(Debug)]
pub struct Ground {
    /// `host:port` of Cassandra's nodes.
    pub contact_points: Vec<String>,
    /// How many copies.
    pub replication: u8,
    /// How many NATS servers; 0: none.
    pub nats: usize,
}

impl Ground {
    /// The one Cassandra node of this test program, and one NATS server.
    #[must_use]
    pub fn shared() -> Ground {
        Ground {
            contact_points: Cassandra::shared().contact_points(),
            replication: 1,
            nats: 1,
        }
    }
}

impl Cluster {
    /// So many servers on an empty keyspace, with these settings besides those for tests.
    pub async fn start(
        test: &str,
        servers: usize,
        ground: &Ground,
        settings: &[(&str, &str)],
    ) -> Cluster {
        let nats = (ground.nats > 0).then(|| Nats::start(ground.nats));
        let urls = nats
            .as_ref()
            .map_or(String::new(), |nats| nats.urls().join(","));
        let number = NAMED.fetch_add(1, Ordering::Relaxed);
        let keyspace = format!("cluster_{}_{number}", std::process::id());
        let quoted = |text: &str| format!("{text:?}");
        let seed = chance::seed(test);
        let mut worlds: Vec<World> = (0..servers)
            .map(|number| {
                let own = [
                    ("store.kind", quoted("cassandra")),
                    (
                        "cassandra.contact_points",
                        quoted(&ground.contact_points.join(",")),
                    ),
                    ("cassandra.keyspace", quoted(&keyspace)),
                    (
                        "cassandra.replication",
                        quoted(&ground.replication.to_string()),
                    ),
                    ("nats.urls", quoted(&urls)),
                    ("cluster.name", quoted(&keyspace)),
                    ("cluster.node", quoted(&format!("node-{number}"))),
                ];
                let mut all: Vec<(&str, &str)> = own
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                all.extend_from_slice(settings);
                World {
                    server: Server::prepare(&all),
                    seed,
                }
            })
            .collect();
        worlds[0].server.migrate().await;
        // Side by side, as a supervisor would.
        let starts = worlds.iter_mut().map(|world| world.server.start_again());
        futures_util::future::join_all(starts).await;
        Cluster { worlds, nats }
    }

    /// A server.
    #[must_use]
    pub fn at(&self, number: usize) -> &World {
        &self.worlds[number]
    }
}
