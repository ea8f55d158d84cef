//! How the server is, in words: what it can do without, and what makes it unfit to serve.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Nothing is wrong.
    Well,
    /// Something is wrong, and the server goes on.
    Degraded,
    /// So wrong that the server should be sent nobody.
    Unfit,
}

/// How every part is of which something was said.
#[derive(Debug, Default)]
pub struct Health {
    parts: Mutex<BTreeMap<&'static str, Part>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    condition: Condition,
    why: String,
}

impl Health {
    /// Nothing is wrong with this part.
    pub fn well(&self, part: &'static str) {
        let now = Part {
            condition: Condition::Well,
            why: String::new(),
        };
        let before = self.lock().insert(part, now);
        if before.is_some_and(|before| before.condition != Condition::Well) {
            tracing::info!(part, "well again");
        }
    }

    /// Something is wrong with this part, and the server goes on.
    pub fn degraded(&self, part: &'static str, why: &str) {
        self.set(part, Condition::Degraded, why);
    }

    /// Something is so wrong with this part that the server should be sent nobody.
    pub fn unfit(&self, part: &'static str, why: &str) {
        self.set(part, Condition::Unfit, why);
    }

    fn set(&self, part: &'static str, condition: Condition, why: &str) {
        let now = Part {
            condition,
            why: why.to_owned(),
        };
        if self.lock().insert(part, now.clone()).as_ref() != Some(&now) {
            let is_unfit = condition == Condition::Unfit;
            tracing::warn!(part, is_unfit, why, "not well");
        }
    }

    /// Whether the server may be sent somebody.
    #[must_use]
    pub fn is_fit(&self) -> bool {
        let parts = self.lock();
        parts.values().all(|part| part.condition < Condition::Unfit)
    }

    /// Every part of which something was said, and how it is.
    #[must_use]
    pub fn parts(&self) -> Vec<(&'static str, Condition)> {
        let parts = self.lock();
        parts
            .iter()
            .map(|(name, part)| (*name, part.condition))
            .collect()
    }

    /// What is wrong, a line for each part; empty if nothing is.
    #[must_use]
    pub fn report(&self) -> String {
        let parts = self.lock();
        let lines = parts
            .iter()
            .filter(|(_, part)| part.condition != Condition::Well)
            .map(|(name, part)| format!("{name}: {}\n", part.why));
        lines.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Part>> {
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
        assert_eq!(
            health.parts(),
            [("clock", Condition::Well), ("nats", Condition::Well)],
            "what was told of once is known"
        );
    }
}
