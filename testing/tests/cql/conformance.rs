//! The suite that every store passes, for this one.

use tidings_core::log::{LogId, Seq};
use tidings_store::conformance::{Fixture, wait};
use tidings_store::{Store, conformance_tests};
use tidings_store_cql::CqlStore;

use crate::support::Keyspace;

struct Opened {
    store: CqlStore,
    keyspace: Keyspace,
}

impl Opened {
    fn new() -> Opened {
        let keyspace = Keyspace::take();
        Opened {
            store: keyspace.open(),
            keyspace,
        }
    }
}

impl Fixture for Opened {
    fn store(&self) -> &dyn Store {
        &self.store
    }

    /// Another program on the same keyspace: it has nothing of what the first had in memory.
    fn reopen(&mut self) -> bool {
        self.store = self.keyspace.open();
        true
    }

    fn forget_envelopes(&mut self, log: LogId, up_to: Seq) -> bool {
        wait(self.store.forget_envelopes(log, up_to)).expect("envelopes are forgotten");
        true
    }
}

conformance_tests!(Opened::new);
