//! What moving a deployment from one store to another needs besides [`Store`].

use tidings_core::Time;
use tidings_core::conversation::Retention;
use tidings_core::log::{Generation, LogId, Seq};

use crate::{Step, Store, StoreError, StoreFuture};

/// A store that a deployment can be moved out of and into.
///
/// Not for serving: what is here looks at everything there is.
pub trait Movable: Store {
    /// Every log that has a head. It may lack logs that are made while it is read.
    fn all_logs(&self) -> StoreFuture<'_, Result<Vec<LogId>, StoreError>>;

    /// Every kept step of a log.
    fn all_steps(&self, log: LogId) -> StoreFuture<'_, Result<Vec<Step>, StoreError>>;

    /// Has a log go on behind an entry of which nothing is kept any more, and neither of those before it: they
    /// count as trimmed and forgotten. What the log holds below is forgotten; a log that is as far already
    /// stays as it is. Call it when a state at least as new is written, for no log is trimmed past its state.
    ///
    /// # Errors
    /// When the log is of another generation, or the store fails.
    fn begin_at(&self, log: LogId, beginning: Beginning)
    -> StoreFuture<'_, Result<(), StoreError>>;
}

/// The entry behind which a log goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// The log's generation.
    pub generation: Generation,
    /// The entry's number.
    pub seq: Seq,
    /// Entries that count, up to it.
    pub ordinal: u64,
    /// Its time, or one that the next entry's is not below.
    pub at: Time,
    /// How long the log keeps bodies.
    pub retention: Retention,
}
