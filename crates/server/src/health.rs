//! How the server is, in words: what it can do without, and what makes it unfit to serve.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is wrong, by part.
#[derive(Debug, Default)]
pub struct Health {
    parts: Mutex<BTreeMap<&'static str, Ill>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Ill {
    is_unfit: bool,
    why: String,
}

impl Health {
    /// Nothing is wrong with this part.
    pub fn well(&self, part: &'static str) {
        if self.lock().remove(part).is_some() {
            tracing::info!(part, "well again");
        }
    }

    /// Something is wrong with this part, and the server goes on.
    pub fn degraded(&self, part: &'static str, why: &str) {
        self.set(part, false, why);
    }

    /// Something is so wrong with this part that the server should be sent nobody.
    pub fn unfit(&self, part: &'static str, why: &str) {
        self.set(part, true, why);
    }

    fn set(&self, part: &'static str, is_unfit: bool, why: &str) {
        let ill = Ill {
            is_unfit,
            why: why.to_owned(),
        };
        if self.lock().insert(part, ill.clone()).as_ref() != Some(&ill) {
            tracing::warn!(part, is_unfit, why, "not well");
        }
    }

    /// Whether the server may be sent somebody.
    #[must_use]
    pub fn is_fit(&self) -> bool {
        !self.lock().values().any(|ill| ill.is_unfit)
    }

    /// What is wrong, a line for each part; empty if nothing is.
    #[must_use]
    pub fn report(&self) -> String {
        let parts = self.lock();
        let lines = parts
            .iter()
            .map(|(part, ill)| format!("{part}: {}\n", ill.why));
        lines.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Ill>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn degraded_parts_are_told_and_unfit_ones_keep_people_away() {
        let health = Health::default();
        health.degraded("nats", "not connected");
        assert!(health.is_fit());
        health.unfit("clock", "61 s ahead");
        assert!(!health.is_fit());
        assert_eq!(health.report(), "clock: 61 s ahead\nnats: not connected\n");
        health.well("clock");
        health.well("nats");
        assert!(health.is_fit() && health.report().is_empty());
    }
}
