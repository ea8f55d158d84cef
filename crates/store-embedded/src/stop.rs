//! Whether the store has stopped, and why.

use std::sync::{Arc, OnceLock};

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

    /// Stops the store should the thread that holds the answer panic: it would commit nothing more.
    pub(crate) fn on_panic(self: &Arc<Stop>) -> OnPanic {
        OnPanic(Arc::clone(self))
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

/// See [`Stop::on_panic`].
pub(crate) struct OnPanic(Arc<Stop>);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fatal("a thread of the store panicked");
        }
    }
}
