//! The cluster store against a real Cassandra.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod appending;
mod bodies;
mod conformance;
mod documents;
mod entries;
mod keyspaces;
mod marks;
mod owing;
mod support;
