//! Three nodes for the tests that freeze and kill them: started once, and for one test at a time.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use scylla::client::session::Session;
use tidings_core::log::LogId;
use tidings_store_cql::{CqlStore, Replication, Settings, migrate};
use tidings_testing::cassandra::Cassandra;
use tidings_testing::chance::Chance;

use crate::entries::new_log;
use crate::support::{run, session};

static RING: LazyLock<Mutex<Cassandra>> = LazyLock::new(|| Mutex::new(Cassandra::start(3)));

/// Making the tables takes seconds: the tests have one keyspace, and logs of their own.
const KEYSPACE: &str = "tidings_ring";

/// How often a store is opened before it is a failure.
const OPENED_MAX: usize = 5;

/// Three nodes with a copy of everything on each, all at work.
pub(crate) struct Ring {
    nodes: MutexGuard<'static, Cassandra>,
    /// Tells where a log lies.
    session: Session,
}

impl Ring {
    pub(crate) fn take() -> Ring {
        let mut nodes = RING.lock().unwrap_or_else(PoisonError::into_inner);
        // A test that failed may have left them as they were then.
        nodes.heal();
        let points = nodes.contact_points();
        let settings = Settings::new(points.clone(), KEYSPACE);
        run(migrate(&settings, &Replication::Simple(3))).expect("the tables are made");
        let session = session(points);
        Ring { nodes, session }
    }

    /// A store as one server has it.
    pub(crate) fn open(&self) -> Arc<CqlStore> {
        self.open_with(|_| {})
    }

    /// A store with other settings.
    pub(crate) fn open_with(&self, change: impl Fn(&mut Settings)) -> Arc<CqlStore> {
        // A node may still be busy with what was done to it last: a server asks again too.
        let open = || {
            let mut settings = Settings::new(self.contact_points(), KEYSPACE);
            change(&mut settings);
            run(CqlStore::open(settings))
        };
        let store = (1..OPENED_MAX).find_map(|_| open().ok());
        Arc::new(store.unwrap_or_else(|| open().expect("the store opens")))
    }

    /// The node that coordinates the appends to the first bucket of a log: its first replica on the ring.
    pub(crate) fn coordinator(&self, log: LogId) -> usize {
        let key = (log.to_bytes().to_vec(), 0_i64);
        self.first_replica("log_rows", &key)
    }

    /// The first replica of a partition.
    pub(crate) fn first_replica(
        &self,
        table: &str,
        key: &impl scylla::serialize::row::SerializeRow,
    ) -> usize {
        let cluster = self.session.get_cluster_state();
        let replicas = cluster
            .get_endpoints(KEYSPACE, table, key)
            .expect("the table is known");
        let (first, _) = replicas.first().expect("somebody has it");
        let address = format!("{}:{}", first.address.ip(), first.address.port());
        self.contact_points()
            .iter()
            .position(|point| *point == address)
            .expect("it is one of the three")
    }

    /// A new log whose coordinator is this node.
    pub(crate) fn log_at(&self, node: usize, chance: &mut Chance) -> LogId {
        std::iter::repeat_with(|| new_log(chance))
            .find(|log| self.coordinator(*log) == node)
            .expect("one of some")
    }
}

impl Deref for Ring {
    type Target = Cassandra;

    fn deref(&self) -> &Cassandra {
        &self.nodes
    }
}

impl DerefMut for Ring {
    fn deref_mut(&mut self) -> &mut Cassandra {
        &mut self.nodes
    }
}
