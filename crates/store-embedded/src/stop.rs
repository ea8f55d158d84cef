//! Whether the store has stopped, and why.

use std::sync::OnceLock;

use tidings_store::StoreError;

use crate::settings::OnFatal;

/// Set once, never taken back: a store whose write failed cannot know what the disk holds.
pub(crate) struct Stop {
    reason: OnceLock<String>,
    on_fatal: OnFatal,
}

impl Stop {
    pub(crate) fn new(on_fatal: OnFatal) -> Stop {
        Stop {
            reason: OnceLock::new(),
            on_fatal,
        }
    }

    /// Why the store has stopped, if it has.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// The store closes in an orderly way.
    pub(crate) fn close(&self) {
        let _ = self.reason.set("it was closed".to_owned());
    }

    /// A write failed: nothing more is taken, and the hook decides about the process.
    pub(crate) fn fatal(&self, reason: &str) {
        if self.reason.set(reason.to_owned()).is_ok() {
            (self.on_fatal)(reason);
        }
    }

    /// Refuses when the store has stopped.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.reason() {
            Some(reason) => Err(StoreError::Stopped(reason.to_owned())),
            None => Ok(()),
        }
    }

    /// The error for an answer that never came.
    pub(crate) fn unanswered(&self) -> StoreError {
        StoreError::Stopped(self.reason().unwrap_or("the committer is gone").to_owned())
    }
}
