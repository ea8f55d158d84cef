//! What those who run Tidings are told: a real Prometheus reads a real server; every rule and every query of the
//! dashboard has an answer, and alerts fire.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod alerts;
mod dashboard;
mod doctor;
mod traces;
