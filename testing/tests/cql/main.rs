//! The cluster store against a real Cassandra.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod conformance;
mod moving;
mod support;
