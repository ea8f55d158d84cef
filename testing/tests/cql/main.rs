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
mod examining;
mod frozen;
mod keyspaces;
mod killed;
mod marks;
mod moving;
mod owing;
mod ring;
mod support;
