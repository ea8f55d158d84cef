//! Several servers over one keyspace of a real Cassandra, with real NATS between them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use std::sync::atomic::{AtomicU32, Ordering};

use scylla::client::session_builder::SessionBuilder;

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
    /// What they share. After the servers: it goes last.
    pub keyspace: Keyspace,
}

/// A keyspace of a test's own, which goes with it: many tables are much for a small Cassandra.
#[derive(Debug)]
pub struct Keyspace {
    /// Its name.
    pub name: String,
    contact_points: Vec<String>,
}

impl Keyspace {
    /// A name that nobody has, on these nodes.
    #[must_use]
    pub fn new(contact_points: Vec<String>) -> Keyspace {
        let number = NAMED.fetch_add(1, Ordering::Relaxed);
        Keyspace {
            name: format!("cluster_{}_{number}", std::process::id()),
            contact_points,
        }
    }

    /// The settings of a server on it.
    #[must_use]
    pub fn settings(&self, replication: u8) -> Vec<(&'static str, String)> {
        let quoted = |text: &str| format!("{text:?}");
        vec![
            ("store.kind", quoted("cassandra")),
            (
                "cassandra.contact_points",
                quoted(&self.contact_points.join(",")),
            ),
            ("cassandra.keyspace", quoted(&self.name)),
            ("cassandra.replication", quoted(&replication.to_string())),
            ("cluster.name", quoted(&self.name)),
        ]
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        let (points, statement) = (
            std::mem::take(&mut self.contact_points),
            format!("DROP KEYSPACE IF EXISTS {}", self.name),
        );
        // A thread of its own: this one may be in a runtime already.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let session = SessionBuilder::new().known_nodes(points).build().await;
                if let Ok(session) = session {
                    // What stays is gone with the node.
                    let _ = session.query_unpaged(statement, &[]).await;
                }
            });
            std::io::Result::Ok(())
        });
        let _ = dropping.join();
    }
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
        let mut cluster = Cluster::prepare(test, servers, ground, settings).await;
        cluster.start_all().await;
        cluster
    }

    /// So many servers that are not started yet, on a keyspace with empty tables.
    pub async fn prepare(
        test: &str,
        servers: usize,
        ground: &Ground,
        settings: &[(&str, &str)],
    ) -> Cluster {
        let nats = (ground.nats > 0).then(|| Nats::start(ground.nats));
        let urls = nats
            .as_ref()
            .map_or(String::new(), |nats| nats.urls().join(","));
        let keyspace = Keyspace::new(ground.contact_points.clone());
        let seed = chance::seed(test);
        let worlds: Vec<World> = (0..servers)
            .map(|number| {
                let mut own = keyspace.settings(ground.replication);
                own.push(("nats.urls", format!("{urls:?}")));
                own.push(("cluster.node", format!("\"node-{number}\"")));
                let mut all: Vec<(&str, &str)> = own
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .collect();
                all.extend_from_slice(settings);
                World {
                    server: Server::prepare(&all),
                    seed,
                    keyspace: None,
                }
            })
            .collect();
        worlds[0].server.migrate().await;
        Cluster {
            worlds,
            nats,
            keyspace,
        }
    }

    /// Starts the servers that were prepared, side by side, as a supervisor would.
    pub async fn start_all(&mut self) {
        let starts = self
            .worlds
            .iter_mut()
            .map(|world| world.server.start_again());
        futures_util::future::join_all(starts).await;
    }

    /// A server.
    #[must_use]
    pub fn at(&self, number: usize) -> &World {
        &self.worlds[number]
    }
}
