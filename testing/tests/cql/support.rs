//! Keyspaces of their own for tests, on one Cassandra that all of them share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::serialize::row::SerializeRow;
use tidings_store::StoreError;
use tidings_store_cql::{CqlStore, Replication, Settings, migrate};
use tidings_testing::cassandra::Cassandra;
use tokio::runtime::Runtime;

/// Tests are threads without a runtime of their own.
pub(crate) static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime"));

/// Waits for a future.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}

/// Keyspaces that are empty and nobody's: making the tables takes longer than emptying them.
static FREE: Mutex<Vec<Keyspace>> = Mutex::new(Vec::new());

static NAMED: AtomicU32 = AtomicU32::new(0);

/// For statements that go around the store. First asked for outside the runtime: it waits for that.
static SESSION: LazyLock<Session> = LazyLock::new(|| session(Cassandra::shared().contact_points()));

pub(crate) fn session(contact_points: Vec<String>) -> Session {
    let builder = SessionBuilder::new().known_nodes(contact_points);
    run(builder.build()).expect("a session")
}

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
        keyspace.migrate().expect("the tables are made");
        keyspace
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::new(Cassandra::shared().contact_points(), &self.name)
    }

    pub(crate) fn open(&self) -> CqlStore {
        run(CqlStore::open(self.settings())).expect("the store opens")
    }

    /// The rows of a statement that goes around the store; `KS` in it is this keyspace.
    pub(crate) fn rows<R>(&self, statement: &str, values: impl SerializeRow) -> Vec<R>
    where
        R: for<'frame> DeserializeRow<'frame, 'frame>,
    {
        let statement = statement.replace("KS", &self.name);
        let answer = run(SESSION.query_unpaged(statement.as_str(), values));
        let rows = answer.expect(&statement).into_rows_result();
        let rows = rows.expect("rows");
        let rows = rows.rows::<R>().expect("of these types");
        rows.map(|row| row.expect("a row")).collect()
    }

    /// Does a statement that goes around the store; `KS` in it is this keyspace.
    pub(crate) fn execute(&self, statement: &str, values: impl SerializeRow) {
        let statement = statement.replace("KS", &self.name);
        run(SESSION.query_unpaged(statement.as_str(), values)).expect(&statement);
    }

    /// Makes the tables that are not there.
    pub(crate) fn migrate(&self) -> Result<(), StoreError> {
        run(migrate(&self.settings(), &Replication::Simple(1)))
    }

    /// Checks that every mark was written with its value as timestamp, and is there for ever. Answers how many.
    pub(crate) fn check_timestamps(&self) -> usize {
        let mut count = 0;
        for table in ["marks", "inbox", "logs"] {
            // The bytes of a mark begin with its seq.
            let value = match table {
                "logs" => "bigintasblob(value)",
                _ => "value",
            };
            let query = format!("SELECT {value}, WRITETIME(value), TTL(value) FROM KS.{table}");
            let cells: Vec<(Vec<u8>, i64, Option<i32>)> = self.rows(&query, ());
            for (value, written, expires) in &cells {
                let value = value.first_chunk().map(|bytes| i64::from_be_bytes(*bytes));
                assert_eq!(Some(*written), value, "a timestamp in {table}");
                assert_eq!(*expires, None, "a time to live in {table}");
            }
            count += cells.len();
        }
        let touched: Vec<(Option<i64>, Option<i64>)> =
            self.rows("SELECT touched, WRITETIME(touched) FROM KS.inbox", ());
        for (at, written) in &touched {
            assert_eq!(at, written, "a timestamp in inbox");
        }
        let steps: Vec<(i64, i64)> = self.rows("SELECT at, WRITETIME(at) FROM KS.steps", ());
        for (at, written) in &steps {
            assert_eq!(*written, -at, "a timestamp in steps");
        }
        for table in ["bodies_kept", "bodies_bounded"] {
            let query = format!("SELECT WRITETIME(body) FROM KS.{table}");
            let bodies: Vec<(i64,)> = self.rows(&query, ());
            let is_right = bodies.iter().all(|(written,)| *written == 1);
            assert!(is_right, "a timestamp in {table}");
        }
        count
    }

    fn empty(&self) {
        let tables = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?";
        let tables: Vec<(String,)> = self.rows(tables, (&self.name,));
        let truncations = tables
            .iter()
            .filter(|(table,)| table != "meta")
            .map(|(table,)| SESSION.query_unpaged(format!("TRUNCATE {}.{table}", self.name), &[]));
        for done in run(futures_util::future::join_all(truncations)) {
            done.expect("a table is emptied");
        }
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check_timestamps();
            self.empty();
            let name = std::mem::take(&mut self.name);
            FREE.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Keyspace { name });
        }
    }
}
