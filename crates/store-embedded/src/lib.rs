//! The embedded store: everything in one data directory, nothing else to install.
//!
//! Rows (envelopes, indexes, marks, states, documents) lie in one LSM tree (fjall), bodies in files of
//! their own (`bodies`), so that erasing one is overwriting it. In front of both is a journal (`journal`;
//! what fjall calls its journals is always called fjall's). One thread commits (`commit`), many requests
//! at a time; one brings what is committed into the tables (`apply`); one looks after the disk (`upkeep`).
//! Reads see the tables through what is not in them yet (`read`, `layers`, `late`).
//!
//! A write passes through `queue` → `commit` → `group` → `journal` and is answered; then through
//! `layers` → `apply` → `tables`. Beside that there are `check`, which verifies every invariant on the
//! disk, and `backup`, which copies a store that is running.

mod apply;
mod at;
mod backup;
mod bodies;
mod changes;
mod check;
mod client_ids;
mod commit;
mod directory;
mod group;
mod journal;
mod keys;
mod late;
mod layers;
mod moving;
mod owner_marks;
mod pace;
mod priority;
mod queue;
mod read;
mod readers;
mod recent;
mod rows;
mod settings;
mod stop;
mod store;
mod tables;
mod upgrade;
mod upkeep;
mod write_behind;

pub use backup::{BackupError, BackupReport, new_generation};
pub use check::verify;
pub use directory::{FORMAT, OpenError, format_of};
pub use settings::{OnFatal, Settings};
pub use store::{Backlog, EmbeddedStore};

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
