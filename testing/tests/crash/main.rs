//! The server is killed, stopped, started, rolled back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod chaos;
mod drain;
mod kill;
mod roll_back;

/// The tests that run on every way to the server.
mod way {
    pub(crate) use super::drain::sigterm_drains;
}

tidings_testing::each_way! {
    sigterm_drains;
}
