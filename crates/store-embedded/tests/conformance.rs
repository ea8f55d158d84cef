//! The suite that every store passes, for this one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

use tidings_core::log::{LogId, Seq};
use tidings_store::Store;
use tidings_store::conformance::Fixture;
use tidings_store_embedded::{EmbeddedStore, Settings, verify};

struct Opened {
    /// `None` only while it is opened again, and in the end.
    store: Option<EmbeddedStore>,
    settings: Settings,
    folder: tempfile::TempDir,
}

impl Opened {
    /// One that gathers what comes into its tables in memtables, which is what few rows do.
    fn gathering() -> Opened {
        Opened::with(Settings::default())
    }

    /// One that writes them into sorted files at once.
    fn direct() -> Opened {
        Opened::with(Settings {
            direct_bytes_min: 0,
            ..Settings::default()
        })
    }

    fn with(settings: Settings) -> Opened {
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path(), settings.clone()).unwrap();
        Opened {
            store: Some(store),
            settings,
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
        let store = EmbeddedStore::open(self.folder.path(), self.settings.clone());
        self.store = Some(store.unwrap());
        true
    }

    fn forget_envelopes(&mut self, log: LogId, up_to: Seq) -> bool {
        self.store
            .as_ref()
            .unwrap()
            .forget_envelopes(log, up_to)
            .unwrap();
        true
    }
}

/// Whatever a test did, what it left on the disk holds every invariant, but for those of marks, steps
/// and states, which the suite makes up.
impl Drop for Opened {
    fn drop(&mut self) {
        self.store = None;
        if !std::thread::panicking() {
            let is_made_up = |finding: &String| {
                ["a mark", "a step", "state"]
                    .iter()
                    .any(|of| finding.contains(of))
            };
            let mut findings = verify(self.folder.path()).unwrap();
            findings.retain(|finding| !is_made_up(finding));
            assert_eq!(findings, Vec::<String>::new());
        }
    }
}

mod gathering {
    tidings_store::conformance_tests!(crate::Opened::gathering);
}

mod direct {
    tidings_store::conformance_tests!(crate::Opened::direct);
}
