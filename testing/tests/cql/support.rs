//! Keyspaces of their own for tests, on one Cassandra that all of them share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use tidings_store_cql::{CqlStore, Replication, Settings, migrate};
use tidings_testing::cassandra::Cassandra;
use tokio::runtime::Runtime;

/// Tests are threads without a runtime of their own.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// Keyspaces that are empty and nobody's: making the tables takes longer than emptying them.
static FREE: Mutex<Vec<Keyspace>> = Mutex::new(Vec::new());

static NAMED: AtomicU32 = AtomicU32::new(0);

/// Opens statements of tests that go around the store.
static SESSION: LazyLock<Session> = LazyLock::new(|| {
    RUNTIME.block_on(async {
        let points = Cassandra::shared().contact_points();
        SessionBuilder::new()
            .known_nodes(points)
            .build()
            .await
            .expect("a session")
    })
});

/// An empty keyspace with its tables, given back when it is dropped.
pub(crate) struct Keyspace {
    name: String,
}

impl Keyspace {
    pub(crate) fn take() -> Keyspace {
        let free = FREE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(free) = free {
            return free;
        }
        let number = NAMED.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidings_{}_{number}", std::process::id());
        let keyspace = Keyspace { name };
        RUNTIME
            .block_on(migrate(&keyspace.settings(), &Replication::Simple(1)))
            .expect("the tables are made");
        keyspace
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::new(Cassandra::shared().contact_points(), &self.name)
    }

    pub(crate) fn open(&self) -> CqlStore {
        RUNTIME
            .block_on(CqlStore::open(self.settings()))
            .expect("the store opens")
    }

    fn empty(&self) {
        // Opened here: what opens it waits for the runtime, and may not do so within it.
        LazyLock::force(&SESSION);
        RUNTIME.block_on(async {
            let tables = SESSION
                .query_unpaged(
                    "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?",
                    (&self.name,),
                )
                .await
                .expect("the tables are listed")
                .into_rows_result()
                .expect("as rows");
            let tables: Vec<(String,)> = tables.rows().expect("of texts").flatten().collect();
            let truncations = tables
                .iter()
                .filter(|(table,)| table != "meta")
                .map(|(table,)| {
                    SESSION.query_unpaged(format!("TRUNCATE {}.{table}", self.name), &[])
                });
            for done in futures_util::future::join_all(truncations).await {
                done.expect("a table is emptied");
            }
        });
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.empty();
            let name = std::mem::take(&mut self.name);
            FREE.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Keyspace { name });
        }
    }
}
