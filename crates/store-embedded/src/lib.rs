//! The embedded store: everything in one data directory, nothing else to install.
//!
//! Rows (envelopes, indexes, marks, states, documents) lie in one LSM tree (fjall), bodies in files of
//! their own (`bodies`), so that erasing one is overwriting it. One thread commits (`commit`), many
//! requests at a time; one looks after the disk (`upkeep`); reads go straight to the tables (`read`).
//!
//! A write passes through `queue` → `commit` → `group` → `bodies` and `tables`, and only then is
//! it answered. Beside that there are `check`, which verifies every invariant on the disk, and
//! `backup`, which copies a store that is running.

mod apply;
mod at;
mod backup;
mod bodies;
mod check;
mod commit;
mod directory;
mod group;
mod journal;
mod keys;
mod late;
mod layers;
mod priority;
mod queue;
mod read;
mod readers;
mod rows;
mod settings;
mod stop;
mod store;
mod tables;
mod upkeep;

pub use backup::{BackupError, BackupReport, new_generation};
pub use check::verify;
pub use directory::{FORMAT, OpenError};
pub use settings::{OnFatal, Settings};
pub use store::EmbeddedStore;

use tidings_core::codec::DecodeError;
use tidings_store::StoreError;

/// What was read is not what it should be.
fn damaged(what: impl Into<String>) -> StoreError {
    StoreError::Damaged(what.into())
}

/// A row that cannot be understood.
fn damaged_row(error: DecodeError) -> StoreError {
    StoreError::Damaged(error.to_string())
}

/// The caller asks for what makes no sense.
fn misuse(what: &str) -> StoreError {
    StoreError::Misuse(what.to_owned())
}
