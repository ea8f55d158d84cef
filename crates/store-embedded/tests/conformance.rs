//! The suite that every store passes, for this one.

use tidings_core::Time;
use tidings_core::log::{LogId, Seq};
use tidings_core::time::DAY_MILLIS;
use tidings_store::conformance::Fixture;
use tidings_store::{Store, conformance_tests};
use tidings_store_embedded::{EmbeddedStore, Settings, verify};

struct Opened {
    /// `None` only while it is opened again, and in the end.
    store: Option<EmbeddedStore>,
    folder: tempfile::TempDir,
}

impl Opened {
    fn new() -> Opened {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path(), Settings::default()).unwrap();
        Opened {
            store: Some(store),
            folder,
        }
    }
}

impl Fixture for Opened {
    fn store(&self) -> &dyn Store {
        self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) -> bool {
        self.store = None;
        self.store = Some(EmbeddedStore::open(self.folder.path(), Settings::default()).unwrap());
        true
    }

    fn forget_envelopes(&mut self, _log: LogId, _up_to: Seq) -> bool {
        let store = self.store.as_ref().unwrap();
        let now = Time(1 << 45);
        store.run_upkeep(now).unwrap();
        store.run_upkeep(now.plus_millis(31 * DAY_MILLIS)).unwrap();
        true
    }
}

/// Whatever a test did, what it left on the disk holds every invariant.
impl Drop for Opened {
    fn drop(&mut self) {
        self.store = None;
        if !std::thread::panicking() {
            assert_eq!(verify(self.folder.path()).unwrap(), Vec::<String>::new());
        }
    }
}

conformance_tests!(Opened::new);
