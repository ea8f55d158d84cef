//! How often the store has failed. Counted for the process, which has one store: where a failure becomes a client's
//! problem nobody has the metrics at hand.

use std::sync::atomic::{AtomicU64, Ordering};

use tidings_store::StoreError;

const KINDS: [&str; 4] = ["unavailable", "stopped", "damaged", "misuse"];
static FAILURES: [AtomicU64; KINDS.len()] = [const { AtomicU64::new(0) }; KINDS.len()];

/// The store failed to do something.
pub fn store_failed(error: &StoreError) {
    let kind = match error {
        StoreError::Unavailable(_) => 0,
        StoreError::Stopped(_) => 1,
        StoreError::Damaged(_) => 2,
        StoreError::Misuse(_) => 3,
    };
    FAILURES[kind].fetch_add(1, Ordering::Relaxed);
}

/// How often, by kind.
pub(super) fn store_failures() -> impl Iterator<Item = (&'static str, u64)> {
    let counts = FAILURES.iter().map(|count| count.load(Ordering::Relaxed));
    KINDS.into_iter().zip(counts)
}
