//! Several servers on one Cassandra, with NATS between them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is how a test speaks"
)]

mod across;
mod chaos;
mod cut;
mod faults;
mod flows;
mod moving;
mod watched;

/// The tests themselves, for every way.
mod way {
    pub(crate) use super::flows::{
        both_flapping, both_online, recipient_offline, sender_offline_for_receipt,
    };
}

tidings_testing::each_way! {
    both_online;
    recipient_offline;
    sender_offline_for_receipt;
    both_flapping;
}
